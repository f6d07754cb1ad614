//! What ended and came back: counted once something is heard through it that was said since then.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::kind::Kind;

/// What of an exit may end and come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Its far end.
    FarEnd,
    /// The link of that.
    Link,
    /// Its interface on the cell, which netd makes anew.
    Interface,
    /// Its openvpn(8), which cell-openvpn starts anew.
    Program,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 4] = [Part::FarEnd, Part::Link, Part::Interface, Part::Program];

    /// The types that have one.
    pub fn types(self) -> &'static [Kind] {
        match self {
            Part::FarEnd | Part::Link => &Kind::ALL,
            Part::Interface => &Kind::TUNNELS,
            Part::Program => &[Kind::Openvpn],
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::FarEnd => "far end",
            Part::Link => "link of a far end",
            Part::Interface => "deleted interface",
            Part::Program => "openvpn(8) itself",
        })
    }
}

/// Of each type.
#[derive(Debug, Clone, Default)]
pub struct Back {
    /// What is back, or on its way: what is said from then on goes by what is new.
    since: BTreeMap<(Part, Kind), Duration>,
    carried: BTreeMap<(Part, Kind), usize>,
}

impl Back {
    /// It has ended, and carries nothing.
    pub fn ended(&mut self, part: Part, kind: Kind) {
        self.since.remove(&(part, kind));
    }

    /// It has ended before, and what is said from this moment on that comes through does so because it is back.
    pub fn may_carry(&mut self, part: Part, kind: Kind, from: Duration) {
        self.since.insert((part, kind), from);
    }

    /// Counts what carries again: whether a far end of this type heard something that was said since a moment.
    pub fn look(&mut self, heard: impl Fn(Kind, Duration) -> bool) {
        let Back { since, carried } = self;
        since.retain(|(part, kind), from| {
            let is_back = heard(*kind, *from);
            if is_back {
                *carried.entry((*part, *kind)).or_default() += 1;
            }
            !is_back
        });
    }

    /// How often that was seen.
    pub fn times(&self, part: Part, kind: Kind) -> usize {
        self.carried.get(&(part, kind)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_counts_once_when_something_is_heard_that_was_said_since_then() {
        let mut back = Back::default();
        let (part, kind) = (Part::FarEnd, Kind::Ssh);
        let [before, from, after] = [1, 2, 3].map(Duration::from_secs);
        back.may_carry(part, kind, from);
        back.look(|_, since| before >= since);
        assert_eq!(back.times(part, kind), 0);
        back.look(|of, since| of != kind && after >= since);
        assert_eq!(back.times(part, kind), 0);
        for _ in 0..2 {
            back.look(|_, since| after >= since);
            assert_eq!(back.times(part, kind), 1);
        }
    }

    #[test]
    fn what_ends_again_before_it_carried_anything_was_not_back() {
        let mut back = Back::default();
        back.may_carry(Part::Link, Kind::Tor, Duration::ZERO);
        back.may_carry(Part::FarEnd, Kind::Tor, Duration::ZERO);
        back.ended(Part::Link, Kind::Tor);
        back.look(|_, _| true);
        assert_eq!(back.times(Part::Link, Kind::Tor), 0);
        assert_eq!(back.times(Part::FarEnd, Kind::Tor), 1);
    }
}
