//! When an exit that could not be reached is tried again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
/// Longest pause.
pub const LONGEST: Duration = Duration::from_secs(60);

/// How long to wait after `failures` in a row: half a second, doubled with each, at most [`LONGEST`].
pub fn pause(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => 2u32
            .checked_pow(doublings)
            .and_then(|factor| FIRST.checked_mul(factor))
            .map_or(LONGEST, |pause| pause.min(LONGEST)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_an_end() {
        assert_eq!(pause(0), Duration::ZERO);
        assert_eq!([1, 2, 3].map(pause), [FIRST, FIRST * 2, FIRST * 4]);
        assert_eq!([8, 32, 33, u32::MAX].map(pause), [LONGEST; 4]);
    }
}
