//! Where servers are that connections know by a DNS name: what was resolved, until when that counts, and when to ask again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// An answer counts for as long as it says, but at least and at most this long, milliseconds: a name that changes every
/// second would never let a tunnel be, and one that says a week would hide a server that moved.
pub const SHORTEST_MS: i64 = 60_000;
/// See [`SHORTEST_MS`].
pub const LONGEST_MS: i64 = 3_600_000;
/// After a failure it is asked again, later each time, from 5 s to 5 min.
const FIRST_RETRY_MS: i64 = 5_000;
const LONGEST_RETRY_MS: i64 = 300_000;
/// Names that are asked for at once.
pub const MAX_AT_ONCE: usize = 8;

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The name's addresses.
    Addresses {
        /// All of them; perhaps none.
        addresses: Vec<IpAddr>,
        /// For how long, seconds.
        ttl_seconds: u32,
    },
    /// Why nobody knows, for people.
    Failure(String),
}

/// What is known of names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(BTreeMap<String, Known>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    /// The last that was answered: it stays while nothing better is known.
    address: Option<IpAddr>,
    /// When to ask again, milliseconds since 1970-01-01T00:00:00Z.
    due_unix_ms: i64,
    failures: u32,
    why: Option<String>,
}

impl Names {
    /// Nothing is known.
    pub const fn new() -> Self {
        Names(BTreeMap::new())
    }

    /// Where a name leads to, as far as was ever answered.
    pub fn address(&self, name: &str) -> Option<IpAddr> {
        self.0.get(name)?.address
    }

    /// Why the last question for a name was not answered, if it was not.
    pub fn trouble(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.why.as_deref()
    }

    /// The names to ask for at `now`, of all that are `wanted`; the others are forgotten.
    pub fn due(&mut self, wanted: BTreeSet<&str>, now: i64) -> Vec<String> {
        self.0.retain(|name, _| wanted.contains(&**name));
        let mut due: Vec<(i64, &str)> = wanted
            .into_iter()
            .map(|name| (self.0.get(name).map_or(i64::MIN, |known| known.due_unix_ms), name))
            // A clock that was set back must not make a name wait for longer than ever.
            .filter(|(due, _)| *due <= now || due.saturating_sub(now) > LONGEST_MS)
            .collect();
        due.sort_unstable();
        let first = due.into_iter().take(MAX_AT_ONCE);
        first.map(|(_, name)| name.to_owned()).collect()
    }

    /// Takes the answer to a question for a name. Whether its address is another now.
    ///
    /// The address stays the same while it is among those that are answered, so that a name with several does not move a
    /// tunnel each time they come in another order. A new one is of IPv4 where there is one: a cell may lack IPv6.
    pub fn take(&mut self, name: &str, answer: Answer, now: i64) -> bool {
        let known = self.0.entry(name.to_owned()).or_default();
        let (addresses, ttl_seconds) = match answer {
            Answer::Addresses {
                addresses,
                ttl_seconds,
            } if !addresses.is_empty() => (addresses, ttl_seconds),
            Answer::Addresses { .. } => {
                known.fail("it has no address".to_owned(), now);
                return false;
            }
            Answer::Failure(why) => {
                known.fail(why, now);
                return false;
            }
        };
        (known.failures, known.why) = (0, None);
        known.due_unix_ms = now + (i64::from(ttl_seconds) * 1000).clamp(SHORTEST_MS, LONGEST_MS);
        if known.address.is_some_and(|address| addresses.contains(&address)) {
            return false;
        }
        let v4 = addresses.iter().find(|address| address.is_ipv4());
        known.address = v4.or(addresses.first()).copied();
        true
    }
}

impl Known {
    fn fail(&mut self, why: String, now: i64) {
        let wait = FIRST_RETRY_MS << self.failures.min(6);
        self.failures = self.failures.saturating_add(1);
        self.due_unix_ms = now + wait.min(LONGEST_RETRY_MS);
        self.why = Some(why);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "vpn.example.org";

    fn ask(names: &mut Names, now: i64) -> bool {
        !names.due(BTreeSet::from([NAME]), now).is_empty()
    }

    fn answer(addresses: &[&str], ttl_seconds: u32) -> Answer {
        Answer::Addresses {
            addresses: addresses.iter().filter_map(|ip| ip.parse().ok()).collect(),
            ttl_seconds,
        }
    }

    #[test]
    fn the_last_known_address_stays() {
        let mut names = Names::default();
        assert!(ask(&mut names, 0));
        assert!(names.take(NAME, answer(&["2001:db8::1", "192.0.2.1"], 300), 0));
        let first = names.address(NAME);
        assert_eq!(first, "192.0.2.1".parse().ok());
        assert!(!ask(&mut names, 299_999) && ask(&mut names, 300_000));
        assert!(!names.take(NAME, Answer::Failure("nobody answers".to_owned()), 300_000));
        assert_eq!(
            (names.address(NAME), names.trouble(NAME)),
            (first, Some("nobody answers"))
        );
        assert!(!names.take(NAME, answer(&[], 300), 310_000));
        assert_eq!(names.address(NAME), first);
        let others = answer(&["192.0.2.2", "192.0.2.1"], 300);
        assert!(
            !names.take(NAME, others, 320_000),
            "another order is no other server"
        );
        assert_eq!(names.trouble(NAME), None);
        assert!(names.take(NAME, answer(&["192.0.2.2"], 300), 700_000));
        assert_eq!(names.address(NAME), "192.0.2.2".parse().ok());
        assert!(names.due(BTreeSet::new(), 700_000).is_empty());
        assert_eq!(names.address(NAME), None, "nobody asks for it any more");
    }

    #[test]
    fn only_so_many_are_asked_at_once_and_each_has_its_turn() {
        let all: Vec<String> = (0..20).map(|n| format!("n{n}.example.org")).collect();
        let mut names = Names::default();
        let mut asked = BTreeSet::new();
        for _ in 0..3 {
            let due = names.due(all.iter().map(String::as_str).collect(), 0);
            assert!(due.len() <= MAX_AT_ONCE);
            for name in due {
                names.take(&name, Answer::Failure("no".to_owned()), 0);
                asked.insert(name);
            }
        }
        assert_eq!(asked.len(), 20);
    }

    proptest! {
        #[test]
        fn no_name_is_asked_for_all_the_time_or_never_again(ttl: u32, failures in 0usize..100, back in 0i64..1 << 40) {
            let (mut names, mut now) = (Names::default(), 1i64 << 41);
            for _ in 0..failures {
                names.take(NAME, Answer::Failure("no".to_owned()), now);
                prop_assert!(!ask(&mut names, now + FIRST_RETRY_MS - 1));
                now += LONGEST_RETRY_MS;
                prop_assert!(ask(&mut names, now));
            }
            names.take(NAME, answer(&["192.0.2.1"], ttl), now);
            prop_assert!(!ask(&mut names, now + SHORTEST_MS - 1));
            prop_assert!(ask(&mut names, now + LONGEST_MS));
            // The clock was set back.
            let then = now - back;
            prop_assert!(ask(&mut names, then) || ask(&mut names, then + LONGEST_MS));
        }
    }
}
