//! How long a dead daemon is left alone before it is started again.

use std::time::Duration;

/// After the first death.
pub const FIRST: Duration = Duration::from_millis(100);
/// At most.
pub const LONGEST: Duration = Duration::from_secs(5);

/// Doubles with each death before the daemon served; starts anew once it served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Backoff(FIRST)
    }
}

impl Backoff {
    /// It serves.
    pub fn served(&mut self) {
        self.0 = FIRST;
    }

    /// It died: how long to wait now.
    pub fn died(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (self.0 * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_start_anew_after_service() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..8).map(|_| backoff.died().as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.served();
        assert_eq!(backoff.died(), FIRST);
    }
}
