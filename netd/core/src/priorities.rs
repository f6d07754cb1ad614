//! Where the rules of exits stand in ip-rule(8)'s list, which the kernel walks from its beginning for every packet.
//!
//! So that a packet pays for few rules however many exits there are, it is led past those that are not for it (`goto`): what has
//! no mark skips all marks, and what has one begins among the sixteen whose marks are next to its own.
//!
//! ```text
//! 10000         own packets without a mark            goto 10600
//! 10001         others without one                    goto 10900
//! 10002-10018   marks 0-15, 16-31, ... of the range   goto the anchor of the sixteen
//! 10032         the first sixteen: an anchor (nop), and at 10033-10048 a rule for each mark
//! 10064 ...     the next, 32 after these
//! 10600         an anchor, and from 10601 on a rule for each interface, in the order of tables
//! 10900         an anchor
//! ```
//! After the table `local`, and after VPNs that want to be asked first (Tailscale: 5210-5270); before the table `main`. A
//! `goto` whose anchor is missing is passed over, so that all rules are walked as if it were not there.

use std::ops::RangeInclusive;

use crate::ceiling::ExitCeiling;
use crate::model::{ExitMark, TableId};

/// Ours.
const ALL: RangeInclusive<u32> = 10_000..=10_900;
/// Own packets without a mark.
pub const OWN: u32 = 10_000;
/// Other packets without a mark.
pub const UNMARKED: u32 = 10_001;
const FIRST_GROUP: u32 = 10_002;
const FIRST_ANCHOR: u32 = 10_032;
const BETWEEN_ANCHORS: u32 = 32;
/// Before the rules for interfaces.
pub const INTERFACES: u32 = 10_600;
/// After all of ours.
pub const END: u32 = 10_900;
/// Marks of a group: their lowest bits differ alone.
const GROUP_BITS: u32 = 4;

/// Sixteen marks whose higher bits are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Where it is led from.
    pub priority: u32,
    /// The bits that its marks have in common.
    pub mark: u32,
    /// Which bits these are.
    pub mask: u32,
    /// Where its rules begin.
    pub anchor: u32,
}

impl ExitCeiling {
    /// Which group the mark is of.
    pub fn group(&self, mark: ExitMark) -> Group {
        let (number, _) = self.place(mark);
        let mask = self.mask() & !(((1 << GROUP_BITS) - 1) << self.mask().trailing_zeros());
        Group {
            priority: FIRST_GROUP + number,
            mark: mark.value() & mask,
            mask,
            anchor: FIRST_ANCHOR + BETWEEN_ANCHORS * number,
        }
    }

    /// Where the rule of the mark stands.
    pub fn priority(&self, mark: ExitMark) -> u32 {
        let (group, place) = self.place(mark);
        FIRST_ANCHOR + BETWEEN_ANCHORS * group + 1 + place
    }

    /// Where the rule stands by which sockets that are bound to the exit's interface find the table.
    pub fn priority_out(&self, table: TableId) -> u32 {
        INTERFACES + 1 + table.number().saturating_sub(self.first_table())
    }

    /// Whether rules of this priority are ours.
    pub fn is_priority(&self, priority: u32) -> bool {
        ALL.contains(&priority)
    }

    /// The group's number, 0-16, and the place in it, 0-15: a ceiling's marks are at most 256 steps apart, and may begin in
    /// the middle of a group.
    fn place(&self, mark: ExitMark) -> (u32, u32) {
        let step = |mark: u32| (mark & self.mask()) >> self.mask().trailing_zeros();
        let (first, this) = (step(self.first_mark()) >> GROUP_BITS, step(mark.value()));
        (
            (this >> GROUP_BITS).saturating_sub(first),
            this & ((1 << GROUP_BITS) - 1),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeSet;

    use super::*;

    fn ceiling(marks: RangeInclusive<u32>, mask: u32) -> ExitCeiling {
        let accept = "0x20000/0x20000".parse().unwrap();
        ExitCeiling::try_new(marks, mask, 1000..=1255, "wgext_", 256, accept).unwrap()
    }

    #[test]
    fn every_mark_and_every_table_has_a_place_of_its_own_in_its_region() {
        for (marks, mask) in [
            (0x1000..=0x1ff0, 0x1ff0),
            (0x0078..=0x0868, 0x0ff8),
            (1..=256, 0x1ff),
        ] {
            let ceiling = ceiling(marks.clone(), mask);
            let mut seen = BTreeSet::from([OWN, UNMARKED, INTERFACES, END]);
            let mut groups = BTreeSet::new();
            let all: Vec<_> = marks.filter_map(|mark| ceiling.mark(mark)).collect();
            assert_eq!(all.len(), if mask == 0x0ff8 { 255 } else { 256 });
            for mark in all {
                let (group, priority) = (ceiling.group(mark), ceiling.priority(mark));
                assert_eq!(mark.value() & group.mask, group.mark, "the group's rule leads it");
                assert!(
                    priority > group.anchor && priority <= group.anchor + 16,
                    "to its own"
                );
                assert!(seen.insert(priority), "{priority}");
                groups.insert(group);
            }
            for group in groups {
                assert!(
                    seen.insert(group.priority) && seen.insert(group.anchor),
                    "{group:?}"
                );
            }
            for number in 1000..=1255 {
                let priority = ceiling.priority_out(ceiling.table(number).unwrap());
                assert!(seen.insert(priority), "{priority}");
                assert!((INTERFACES..END).contains(&priority));
            }
            let marks_end = seen.range(..INTERFACES).next_back();
            assert!(marks_end.is_some_and(|last| *last < INTERFACES));
            assert!(seen.iter().all(|priority| ceiling.is_priority(*priority)));
        }
    }
}
