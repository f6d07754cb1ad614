//! Which certificates of services' names are issued next, and which are in force: one for each service, so that a change of one touches no
//! other's.

use std::collections::{BTreeMap, BTreeSet};

use crate::derive::caddy;
use crate::published::{HostName, Published};

/// Most names of one certificate (`certificate_service.proto`).
pub const NAMES_MAX: usize = 16;
/// Most that are issued at once.
pub const AT_ONCE: usize = 4;
/// Most that are kept beyond those that are wanted: a service that comes back has its own again.
pub const KEPT_MAX: usize = 512;

/// Names of one certificate, in order.
pub type Names = Vec<String>;

/// From when to when. Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// When another is to be there.
    pub renew_at: i64,
    /// When nobody takes it any more.
    pub not_after: i64,
}

/// A certificate without its key, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What it is for.
    pub names: Names,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub not_before: i64,
    /// Likewise.
    pub not_after: i64,
}

impl Kept {
    /// Its life, of which another is wanted after so many parts of all.
    pub fn life(&self, parts: i64, of: i64) -> Life {
        let whole = self.not_after - self.not_before;
        Life {
            renew_at: self.not_before + whole / of * parts,
            not_after: self.not_after,
        }
    }
}

/// The names of each service that has something for browsers, of at most [`NAMES_MAX`] in each part; but those below `public`, for which
/// the cell's authority does not vouch.
pub fn wanted(published: &Published, public: Option<&HostName>) -> BTreeSet<Names> {
    let mut of_service: BTreeMap<&str, BTreeSet<HostName>> = BTreeMap::new();
    for (service, hosts) in caddy::hosts_of_services(published) {
        let is_own = |host: &HostName| public.is_none_or(|public| !host.is_below(public));
        let own = hosts.into_iter().filter(is_own);
        of_service.entry(service).or_default().extend(own);
    }
    let mut all = BTreeSet::new();
    for hosts in of_service.into_values() {
        let names: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        all.extend(names.chunks(NAMES_MAX).map(<[String]>::to_vec));
    }
    all
}

/// What is to be issued at `now`: what is not there, or not for long any more.
pub fn due<'a>(wanted: &'a BTreeSet<Names>, held: &BTreeMap<Names, Life>, now: i64) -> Vec<&'a Names> {
    let is_fresh = |names: &Names| held.get(names).is_some_and(|life| now < life.renew_at);
    wanted.iter().filter(|names| !is_fresh(names)).collect()
}

/// What is in force at `now`: of what is wanted that which is there, and for what is not there yet that which has one of its names.
pub fn in_force<'a>(
    wanted: &BTreeSet<Names>,
    held: &'a BTreeMap<Names, Life>,
    now: i64,
) -> BTreeSet<&'a Names> {
    let valid = |(names, life): (&'a Names, &Life)| (now < life.not_after).then_some(names);
    let valid: Vec<&Names> = held.iter().filter_map(valid).collect();
    let mut all = BTreeSet::new();
    for names in wanted {
        match valid.iter().find(|one| **one == names) {
            Some(one) => {
                all.insert(*one);
            }
            None => all.extend(
                valid
                    .iter()
                    .filter(|one| one.iter().any(|name| names.contains(name))),
            ),
        }
    }
    all
}

/// What is kept: all that is wanted or in force, and of the rest what lives longest.
pub fn kept(wanted: &BTreeSet<Names>, held: &BTreeMap<Names, Life>, now: i64) -> BTreeSet<Names> {
    let in_force = in_force(wanted, held, now);
    let is_used = |names: &Names| wanted.contains(names) || in_force.contains(names);
    let mut rest: Vec<(&Names, &Life)> = held
        .iter()
        .filter(|(names, life)| now < life.not_after && !is_used(names))
        .collect();
    rest.sort_by_key(|(_, life)| std::cmp::Reverse(life.not_after));
    let used = held.keys().filter(|names| is_used(names));
    used.chain(rest.into_iter().take(KEPT_MAX).map(|(names, _)| names))
        .cloned()
        .collect()
}

/// How long after so many failures in a row it is tried again, milliseconds.
pub fn backoff_ms(failures: u32) -> u64 {
    let doubled = 1_000_u64 << failures.saturating_sub(1).min(16);
    doubled.min(300_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Names {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    fn life(renew_at: i64, not_after: i64) -> Life {
        Life { renew_at, not_after }
    }

    #[test]
    fn one_that_comes_or_goes_touches_no_other() {
        let (a, b, c) = (names(&["a"]), names(&["b", "b2"]), names(&["c"]));
        let held = BTreeMap::from([(a.clone(), life(10, 20)), (c.clone(), life(10, 20))]);
        let wanted = BTreeSet::from([a.clone(), b.clone(), c.clone()]);
        assert_eq!(due(&wanted, &held, 5), [&b]);
        assert_eq!(in_force(&wanted, &held, 5), BTreeSet::from([&a, &c]));
        let fewer = BTreeSet::from([a.clone()]);
        assert!(due(&fewer, &held, 5).is_empty());
        assert_eq!(in_force(&fewer, &held, 5), BTreeSet::from([&a]));
        assert!(kept(&fewer, &held, 5).contains(&c), "it may come back");
        assert!(!kept(&fewer, &held, 20).contains(&c), "but not for ever");
    }

    #[test]
    fn what_works_is_in_force_until_it_ends() {
        let (old, new) = (names(&["a"]), names(&["a", "a2"]));
        let held = BTreeMap::from([(old.clone(), life(10, 20))]);
        let wanted = BTreeSet::from([new.clone()]);
        assert_eq!(due(&wanted, &held, 5), [&new]);
        assert_eq!(in_force(&wanted, &held, 5), BTreeSet::from([&old]));
        assert_eq!(in_force(&wanted, &held, 20), BTreeSet::new());
        let same = BTreeSet::from([old.clone()]);
        assert_eq!(due(&same, &held, 10), [&old], "renewed in time");
        assert_eq!(in_force(&same, &held, 10), BTreeSet::from([&old]));
    }

    #[test]
    fn failures_are_tried_again_ever_more_rarely() {
        let all: Vec<u64> = (1..12).map(backoff_ms).collect();
        assert_eq!(all[..3], [1_000, 2_000, 4_000]);
        assert!(all.is_sorted());
        assert_eq!(backoff_ms(u32::MAX), 300_000);
    }

    #[test]
    fn no_more_is_kept_than_the_bound() {
        let held: BTreeMap<Names, Life> = (0..KEPT_MAX as i64 + 9)
            .map(|n| (vec![format!("n{n}")], life(n, 1_000 + n)))
            .collect();
        let left = kept(&BTreeSet::new(), &held, 5);
        assert_eq!(left.len(), KEPT_MAX);
        assert!(!left.contains(&names(&["n0"])), "what ends first goes first");
    }
}
