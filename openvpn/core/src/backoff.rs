//! How long to wait until a program that ended is started anew.

use std::time::Duration;

/// After the first end.
const FIRST: Duration = Duration::from_secs(1);
/// At the most.
const LONGEST: Duration = Duration::from_secs(60);
/// A session of this length was a good one: what ends it counts as the first.
pub const GOOD: Duration = Duration::from_secs(60);

/// Counts ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff(u32);

impl Backoff {
    /// After another end, of a program that had a session for `connected`; how long to wait.
    pub fn ended(&mut self, connected: Duration) -> Duration {
        if connected >= GOOD {
            self.0 = 0;
        }
        let pause = FIRST.saturating_mul(1 << self.0.min(16)).min(LONGEST);
        self.0 = self.0.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_begin_anew_after_a_good_session() {
        let mut backoff = Backoff::default();
        let seconds: Vec<u64> = (0..9).map(|_| backoff.ended(Duration::ZERO).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(backoff.ended(GOOD), FIRST);
        assert_eq!(backoff.ended(Duration::ZERO), 2 * FIRST);
        for _ in 0..100 {
            assert!(backoff.ended(Duration::ZERO) <= LONGEST);
        }
    }
}
