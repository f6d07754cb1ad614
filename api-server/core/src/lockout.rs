//! How failed logins lock an account: 5 in a row lock it for 15 minutes.
//!
//! Times are milliseconds since 1970-01-01T00:00:00Z.

/// Failures in a row that lock an account.
pub const MAX_FAILURES: u32 = 5;
/// How long it stays locked, milliseconds.
pub const LOCKED_MS: i64 = 15 * 60 * 1000;

/// The failed logins of one account name, whether or not there is such an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Failures since the last success or lock.
    pub failures: u32,
    /// When the lock ends; `None` when not locked.
    pub locked_until: Option<i64>,
}

impl Attempts {
    /// How long the account is still locked, milliseconds; `None` when a login may be tried.
    pub fn locked_for(&self, now: i64) -> Option<i64> {
        self.locked_until
            .map(|until| until.saturating_sub(now))
            .filter(|left| *left > 0)
    }

    /// The state after one more failure.
    pub fn after_failure(&self, now: i64) -> Attempts {
        // A lock that has ended wipes the slate.
        let failures = if self.locked_until.is_some() {
            1
        } else {
            self.failures.saturating_add(1)
        };
        let locked_until = (failures >= MAX_FAILURES).then(|| now.saturating_add(LOCKED_MS));
        Attempts {
            failures,
            locked_until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fifth_failure_locks_for_a_quarter_of_an_hour() {
        let mut attempts = Attempts::default();
        for n in 1..=4 {
            attempts = attempts.after_failure(1_000);
            assert_eq!(
                attempts,
                Attempts {
                    failures: n,
                    locked_until: None
                }
            );
        }
        attempts = attempts.after_failure(1_000);
        assert_eq!(attempts.locked_for(1_000), Some(LOCKED_MS));
        assert_eq!(attempts.locked_for(1_000 + LOCKED_MS - 1), Some(1));
        assert_eq!(attempts.locked_for(1_000 + LOCKED_MS), None);
        assert_eq!(
            attempts.after_failure(1_000 + LOCKED_MS),
            Attempts {
                failures: 1,
                locked_until: None
            }
        );
    }

    #[test]
    fn times_at_the_edge_do_not_overflow() {
        let locked = Attempts {
            failures: 4,
            locked_until: None,
        }
        .after_failure(i64::MAX);
        assert_eq!(locked.locked_until, Some(i64::MAX));
        assert_eq!(locked.locked_for(i64::MIN), Some(i64::MAX));
    }
}
