//! Keeps peers from being sent to and fro: a connection that failed is gone by again when it has worked for a while.

use super::health::Health;

/// How long a connection must have worked without a break before peers come back to it, milliseconds. So one that comes
/// and goes moves its peers at most once in that time.
pub const HOLD_MS: i64 = 30_000;

/// How far a connection is relied on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Trust {
    /// It has not worked yet: the first time counts at once.
    #[default]
    Untried,
    /// It works.
    Full,
    /// It worked, and does not now.
    Failed,
    /// It works again since this time, milliseconds since 1970-01-01T00:00:00Z.
    Recovering(i64),
}

impl Trust {
    /// After another look at the connection, at `now` (milliseconds since 1970-01-01T00:00:00Z).
    #[must_use]
    pub fn after(self, health: Health, now: i64) -> Self {
        let works = match health {
            Health::Working => true,
            Health::Down | Health::Unknown => false,
        };
        match self {
            Trust::Untried | Trust::Full if works => Trust::Full,
            Trust::Untried => Trust::Untried,
            Trust::Full => Trust::Failed,
            Trust::Failed | Trust::Recovering(_) if !works => Trust::Failed,
            Trust::Failed => Trust::Recovering(now),
            Trust::Recovering(since) if now.saturating_sub(since) >= HOLD_MS => Trust::Full,
            // A clock that was set back begins anew.
            Trust::Recovering(since) => Trust::Recovering(since.min(now)),
        }
    }

    /// What the way of peers goes by. What works again, and not for long enough, counts as down.
    pub fn health(self, seen: Health) -> Health {
        match (self, seen) {
            (Trust::Full, seen) => seen,
            (Trust::Untried | Trust::Failed | Trust::Recovering(_), Health::Working) => Health::Down,
            (Trust::Untried | Trust::Failed | Trust::Recovering(_), seen) => seen,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn looks() -> impl Strategy<Value = Vec<(Health, i64)>> {
        let health = select(vec![Health::Working, Health::Down, Health::Unknown]);
        proptest::collection::vec((health, 0i64..20_000), 0..200)
    }

    proptest! {
        #[test]
        fn peers_come_back_only_after_a_whole_hold(looks in looks()) {
            let (mut trust, mut now, mut works_since) = (Trust::default(), 0, None);
            let mut has_failed = false;
            for (health, step) in looks {
                now += step;
                let before = trust;
                trust = trust.after(health, now);
                works_since = (health == Health::Working).then(|| works_since.unwrap_or(now));
                let used = trust.health(health) == Health::Working;
                prop_assert!(!used || health == Health::Working, "what does not work is never gone by");
                if used && before != Trust::Full && has_failed {
                    prop_assert!(now - works_since.unwrap() >= HOLD_MS);
                }
                has_failed |= before == Trust::Full && health != Health::Working;
                if !has_failed && health == Health::Working {
                    prop_assert!(used, "the first time counts at once");
                }
            }
        }

        #[test]
        fn what_goes_on_working_is_gone_by_in_the_end(looks in looks(), back in 0i64..1_000_000) {
            let (mut trust, mut now) = (Trust::default(), 1_000_000);
            for (health, step) in looks {
                now += step;
                trust = trust.after(health, now);
            }
            // Whatever becomes of the clock before.
            now -= back;
            trust = trust.after(Health::Working, now).after(Health::Working, now + 1);
            let last = now + 1 + HOLD_MS;
            trust = trust.after(Health::Working, last);
            prop_assert_eq!(trust.health(Health::Working), Health::Working);
        }
    }
}
