//! Keeps peers from being sent to and fro: a connection that failed is gone by again when it has worked for a while, and one of which
//! nothing is known for a moment has not failed.

use super::health::Health;

/// How long a connection must have worked without a break before peers come back to it, milliseconds. So one that comes
/// and goes moves its peers at most once in that time.
pub const HOLD_MS: i64 = 30_000;

/// How long a connection that worked is gone by while nobody knows whether it does, milliseconds: as long as daemons take to start
/// anew and to prove it again, with room. Who fails open would go out directly for each restart else, and for each slow answer.
pub const DOUBT_MS: i64 = 30_000;

/// How far a connection is relied on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Trust {
    /// It has not worked yet: the first time counts at once.
    #[default]
    Untried,
    /// It works.
    Full,
    /// It worked, and nothing is known of it since this time, milliseconds since 1970-01-01T00:00:00Z.
    Doubted(i64),
    /// It worked, and does not now.
    Failed,
    /// It works again since this time, milliseconds since 1970-01-01T00:00:00Z.
    Recovering(i64),
}

impl Trust {
    /// After another look at the connection, at `now` (milliseconds since 1970-01-01T00:00:00Z).
    #[must_use]
    pub fn after(self, health: Health, now: i64) -> Self {
        match (self, health) {
            (Trust::Untried | Trust::Full | Trust::Doubted(_), Health::Working) => Trust::Full,
            (Trust::Untried, Health::Down | Health::Unknown) => Trust::Untried,
            (Trust::Full, Health::Unknown) => Trust::Doubted(now),
            (Trust::Doubted(since), Health::Unknown) if now.saturating_sub(since) < DOUBT_MS => {
                // A clock that was set back begins anew.
                Trust::Doubted(since.min(now))
            }
            (Trust::Full | Trust::Doubted(_), Health::Down | Health::Unknown) => Trust::Failed,
            (Trust::Failed | Trust::Recovering(_), Health::Down | Health::Unknown) => Trust::Failed,
            (Trust::Failed, Health::Working) => Trust::Recovering(now),
            (Trust::Recovering(since), Health::Working) if now.saturating_sub(since) >= HOLD_MS => {
                Trust::Full
            }
            (Trust::Recovering(since), Health::Working) => Trust::Recovering(since.min(now)),
        }
    }

    /// What the way of peers goes by. What works again, and not for long enough, counts as down.
    pub fn health(self, seen: Health) -> Health {
        match (self, seen) {
            (Trust::Full, seen) => seen,
            (Trust::Doubted(_), Health::Unknown) => Health::Working,
            (Trust::Doubted(_), seen) => seen,
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
            let (mut has_failed, mut worked_at) = (false, None);
            for (health, step) in looks {
                now += step;
                let before = trust;
                trust = trust.after(health, now);
                let goes_on = health == Health::Working
                    || (health == Health::Unknown && matches!(trust, Trust::Doubted(_)));
                works_since = goes_on.then(|| works_since.unwrap_or(now));
                let used = trust.health(health) == Health::Working;
                prop_assert!(!used || health != Health::Down, "what does not work is never gone by");
                if health == Health::Working {
                    worked_at = Some(now);
                } else if used {
                    prop_assert!(matches!(before, Trust::Full | Trust::Doubted(_)));
                    // The first look that did not know it came at most 20 s after the last that did.
                    prop_assert!(now - worked_at.unwrap() < DOUBT_MS + 20_000);
                }
                if used && !matches!(before, Trust::Full | Trust::Doubted(_)) && has_failed {
                    prop_assert!(now - works_since.unwrap() >= HOLD_MS);
                }
                has_failed |= trust == Trust::Failed;
                if !has_failed && health == Health::Working {
                    prop_assert!(used, "the first time counts at once");
                }
            }
        }

        #[test]
        fn a_moment_without_news_moves_nobody(silence in 0..DOUBT_MS, step in 1i64..5_000) {
            let mut trust = Trust::default().after(Health::Working, 0);
            for now in (0..=silence).step_by(usize::try_from(step).unwrap()) {
                trust = trust.after(Health::Unknown, now);
                prop_assert_eq!(trust.health(Health::Unknown), Health::Working);
            }
            prop_assert_eq!(trust.after(Health::Down, silence), Trust::Failed, "news move at once");
            prop_assert_eq!(trust.after(Health::Unknown, DOUBT_MS), Trust::Failed);
            prop_assert_eq!(trust.after(Health::Working, DOUBT_MS), Trust::Full);
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
