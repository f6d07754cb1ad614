//! Services at addresses in the VPN.
//!
//! No set of ipset is asked about what a flow was opened to, and no map leads to an address. So packets are judged in `mangle`
//! before they are translated, each of them: what may is marked as accepted, and its flow too, by which answers are known;
//! what may not is dropped, and its flow loses the mark, so answers end with the device's next packet, as do those of an entry that is gone. The chains that judge
//! after the translation see by the marks that it was done. Translated is by a rule for each entry, which the first packet of
//! a flow to an entry meets, and no other. A flow that may keeps to the container that it was translated to until it ends.

use super::rules::{At, Writer, counter_chain};
use super::{PREFIX, Table};
use crate::model::Family;
use crate::policy::element::{Element, SetId};
use crate::policy::ruleset::{Action, ChainName, Counter, Match, Rule};

/// Judges what devices send to entries, before it is translated.
const ASKED: &str = "entry_asked";
/// Lets it go on.
const LET: &str = "entry_let";
/// Translates it.
const LEADS: &str = "entry_leads";

fn named(name: &str) -> String {
    format!("{PREFIX}{name}")
}

impl Writer<'_> {
    /// In `mangle`, where nothing is translated yet: who may. Before what exits are chosen by, for it stays in the cell.
    pub(super) fn judge_entries(&mut self, top: &str) {
        if self.family == Family::V6 || self.marks.bridges.is_none() {
            return;
        }
        let table = Table::Mangle;
        let (asked, let_go, denied) = (named(ASKED), named(LET), counter_chain(Counter::EntryDenied));
        let interface = self.marks.interface.clone();
        let (entries, open) = (SetId::Entries, SetId::OpenEntries);
        let to_entry = self.in_set(entries, "dst,dst");
        self.push(table, top, format!("-i {interface} {to_entry} -g {asked}"));
        // Of an entry that is gone.
        let (value, mask) = (self.marks.accept.value(), self.marks.accept.mask());
        let forget = format!("-j CONNMARK --set-xmark 0x0/{mask:#x}");
        let remembered = format!("-i {interface} -m connmark --mark {value:#x}/{mask:#x} {forget}");
        self.push(table, top, remembered);
        let granted = self.in_set(SetId::Services(Family::V4), "src,dst,dst");
        let open = self.in_set(open, "dst,dst");
        self.make(table, &asked);
        self.push(table, &asked, format!("{granted} -g {let_go}"));
        self.push(table, &asked, format!("{open} -g {let_go}"));
        self.push(table, &asked, forget);
        self.push(table, &asked, format!("-j {denied}"));
        self.counting(table, Counter::EntryDenied);
        for target in ["MARK", "CONNMARK"] {
            let marked = format!("-j {target} --set-xmark {value:#x}/{mask:#x}");
            self.push(table, &let_go, marked);
        }
    }

    /// In `nat`: where each entry leads. None is led to twice, so the order does not matter.
    pub(super) fn lead_entries(&mut self) -> String {
        let (table, chain) = (Table::Nat, named(LEADS));
        self.make(table, &chain);
        let elements = self.ruleset.elements.get(&SetId::EntryTargets);
        let lines: Vec<String> = elements
            .into_iter()
            .flatten()
            .filter_map(|element| match element {
                Element::EntryTarget(at, protocol, to) => Some(format!(
                    "-d {}/32 -p {protocol} -m {protocol} --dport {} -j DNAT --to-destination {to}",
                    at.ip(),
                    at.port()
                )),
                _ => None,
            })
            .collect();
        let standing = self
            .chains
            .get_mut(&table)
            .and_then(|chains| chains.get_mut(&chain));
        if let Some(standing) = standing {
            *standing = lines;
        }
        chain
    }

    /// That the flow was opened to an entry, and may have been, as the marks say.
    pub(super) fn flow_of_entry(&self, at: &mut At, of: ChainName) -> Option<()> {
        let module = match of {
            ChainName::FromPeer => "mark",
            ChainName::Answer => "connmark",
            _ => return None,
        };
        let (value, mask) = (self.marks.accept.value(), self.marks.accept.mask());
        at.modules
            .push(format!("-m {module} --mark {value:#x}/{mask:#x}"));
        Some(())
    }

    /// The rules of [`ChainName::Entry`] and [`ChainName::EntryAnswer`]: what was judged already goes on, if its container is there.
    pub(super) fn judged_entries<'a>(&self, rules: &'a [Rule]) -> Vec<Rule> {
        let judged = |condition: &Match| {
            matches!(
                condition,
                Match::L4(_) | Match::FlowGranted(_) | Match::FlowEntry(_) | Match::EntryWay(_)
            )
        };
        let bare = |rule: &'a Rule| Rule {
            matches: rule
                .matches
                .iter()
                .filter(|condition| !judged(condition))
                .cloned()
                .collect(),
            actions: rule.actions.clone(),
        };
        let passes = |rule: &&Rule| matches!(rule.actions.as_slice(), [Action::Goto(_)]);
        let first = rules.iter().find(passes).map(bare);
        let others = rules
            .iter()
            .filter(|rule| !passes(rule) && !rule.matches.iter().any(judged));
        first.into_iter().chain(others.cloned()).collect()
    }

    /// The chain of the table that counts drops of that reason.
    fn counting(&mut self, table: Table, counter: Counter) {
        let chain = counter_chain(counter);
        self.make(table, &chain);
        if let Some(rules) = self
            .chains
            .get_mut(&table)
            .and_then(|chains| chains.get_mut(&chain))
        {
            *rules = vec!["-j DROP".to_owned()];
        }
    }
}

/// Whether it is one of the chains that judge flows to entries.
pub(super) fn judges(name: ChainName) -> bool {
    matches!(name, ChainName::Entry | ChainName::EntryAnswer)
}
