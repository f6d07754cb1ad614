//! Chains and rules, translated one by one.
//!
//! The policy stands in the table `mangle`, whose chains come before those of `filter`: what others accept in `filter` does not
//! pass before it was judged, and what is accepted here is still theirs to drop, as with nftables. A rule whose conditions
//! iptables cannot hold in one is a row of chains, each with some of them (`CHAIN.1`, `CHAIN.2`).

use std::collections::BTreeMap;

use super::{Jump, Marks, PREFIX, Place, Rules, Table, Unsupported, entries};
use crate::model::{Family, InterfaceName, Protocol};
use crate::policy::element::SetId;
use crate::policy::ruleset::{Action, Chain, ChainName, Counter, Match, Rule, Ruleset};
use crate::policy::text;

/// Where a base chain of nftables stands here, and whether before the rules of others.
fn place(name: ChainName) -> Option<(Table, &'static str, Place)> {
    match name {
        ChainName::Raw => Some((Table::Raw, "PREROUTING", Place::First)),
        ChainName::Prerouting => Some((Table::Nat, "PREROUTING", Place::First)),
        // After the translations of others, as the priority of nftables' chain has it.
        ChainName::Redirect => Some((Table::Nat, "PREROUTING", Place::Last)),
        ChainName::Mark => Some((Table::Mangle, "PREROUTING", Place::First)),
        ChainName::Forward => Some((Table::Mangle, "FORWARD", Place::First)),
        ChainName::Input => Some((Table::Mangle, "INPUT", Place::First)),
        ChainName::Output => Some((Table::Mangle, "OUTPUT", Place::First)),
        ChainName::Postrouting => Some((Table::Nat, "POSTROUTING", Place::First)),
        ChainName::Accept
        | ChainName::Answer
        | ChainName::PeerToPeer
        | ChainName::FromPeer
        | ChainName::ToPeer
        | ChainName::Cell
        | ChainName::Internet
        | ChainName::InternetAnswer
        | ChainName::Relay
        | ChainName::OfExit
        | ChainName::FromService
        | ChainName::ToService
        | ChainName::ServiceCell
        | ChainName::Entry
        | ChainName::EntryAnswer
        | ChainName::Caller
        | ChainName::Carrier => None,
    }
}

/// The name of a chain: `c_forward` is `CELL-forward`.
pub(super) fn chain_name(name: ChainName) -> String {
    let name = name.as_str();
    format!("{PREFIX}{}", name.strip_prefix("c_").unwrap_or(name))
}

/// The chain by which drops of a reason are counted.
pub(super) fn counter_chain(counter: Counter) -> String {
    format!("{PREFIX}n-{}", counter.name())
}

/// What refuses, with an answer, what the policy did not accept and did not drop.
pub(super) const REFUSE: &str = "CELL-refuse";
/// What lets no packet of a peer out that the policy did not accept.
pub(super) const GUARD: &str = "CELL-guard";

/// The rules of one family.
///
/// # Errors
/// What iptables cannot say.
pub fn rules(ruleset: &Ruleset, family: Family) -> Result<Rules, Unsupported> {
    let marks = Marks::of(ruleset)?;
    let mut writer = Writer {
        family,
        ruleset,
        marks,
        chains: Table::ALL.map(|table| (table, BTreeMap::new())).into(),
    };
    for chain in &ruleset.chains {
        let top = chain_name(chain.name);
        let table = match (chain.hook, place(chain.name)) {
            (Some(_), Some((table, ..))) => table,
            (None, None) => Table::Mangle,
            (Some(_), None) | (None, Some(_)) => {
                return Err(Unsupported::new(format!("chain {}", chain.name.as_str())));
            }
        };
        writer.make(table, &top);
        match chain.name {
            ChainName::Mark => writer.mark(chain)?,
            ChainName::Redirect => writer.redirect(chain)?,
            name if entries::judges(name) => {
                for rule in writer.judged_entries(&chain.rules) {
                    writer.rule(table, &top, name, &rule)?;
                }
            }
            _ => writer.chain(table, &top, chain)?,
        }
    }
    writer.supplements();
    Ok(Rules {
        family,
        chains: writer.chains,
        jumps: jumps(&ruleset.chains),
    })
}

/// The jumps to base chains, and to those that nftables does not need.
pub(super) fn jumps(chains: &[Chain]) -> Vec<Jump> {
    let supplements = [
        (Table::Filter, "FORWARD", REFUSE.to_owned(), Place::First),
        (Table::Mangle, "POSTROUTING", GUARD.to_owned(), Place::First),
    ];
    let base = chains.iter().filter_map(|chain| {
        let (table, from, at) = place(chain.name)?;
        Some((table, from, chain_name(chain.name), at))
    });
    let jump = |(table, from, to, place)| Jump {
        table,
        from,
        to,
        place,
    };
    base.chain(supplements).map(jump).collect()
}

pub(super) struct Writer<'a> {
    pub(super) family: Family,
    pub(super) ruleset: &'a Ruleset,
    pub(super) marks: Marks,
    pub(super) chains: BTreeMap<Table, BTreeMap<String, Vec<String>>>,
}

/// Where the writing of one rule stands.
pub(super) struct At {
    pub(super) table: Table,
    /// The chain that the rule is of.
    pub(super) top: String,
    /// The one that is written to: that, or one of its row.
    pub(super) chain: String,
    /// Conditions that are not written yet: `-s`, `-d`, `-i`, `-o`, `-p` in iptables-save's order, and modules.
    pub(super) heads: BTreeMap<u8, (char, String)>,
    pub(super) modules: Vec<String>,
    /// The protocol that was matched.
    pub(super) protocol: Option<Protocol>,
}

impl At {
    pub(super) fn spec(&self) -> String {
        let heads = self
            .heads
            .values()
            .map(|(flag, value)| match value.strip_prefix('!') {
                Some(value) => format!("! -{flag} {value}"),
                None => format!("-{flag} {value}"),
            });
        let words: Vec<String> = heads.chain(self.modules.iter().cloned()).collect();
        words.join(" ")
    }

    pub(super) fn with(&self, target: &str) -> String {
        let spec = self.spec();
        if spec.is_empty() {
            target.to_owned()
        } else {
            format!("{spec} {target}")
        }
    }
}

impl Writer<'_> {
    pub(super) fn make(&mut self, table: Table, chain: &str) {
        let chains = self.chains.entry(table).or_default();
        chains.entry(chain.to_owned()).or_default();
    }

    pub(super) fn push(&mut self, table: Table, chain: &str, rule: String) {
        let chains = self.chains.entry(table).or_default();
        chains.entry(chain.to_owned()).or_default().push(rule);
    }

    fn chain(&mut self, table: Table, top: &str, chain: &Chain) -> Result<(), Unsupported> {
        for rule in &chain.rules {
            self.rule(table, top, chain.name, rule)?;
        }
        Ok(())
    }

    /// One rule, if it is about this family.
    pub(super) fn rule(
        &mut self,
        table: Table,
        top: &str,
        of: ChainName,
        rule: &Rule,
    ) -> Result<(), Unsupported> {
        if !self.concerns(rule) {
            return Ok(());
        }
        let mut at = At {
            table,
            top: top.to_owned(),
            chain: top.to_owned(),
            heads: BTreeMap::new(),
            modules: Vec::new(),
            protocol: None,
        };
        let unsupported = || Unsupported::new(text::render_rule(rule));
        for condition in &rule.matches {
            self.condition(&mut at, of, condition).ok_or_else(unsupported)?;
        }
        self.actions(at, of, &rule.actions).ok_or_else(unsupported)
    }

    /// Whether packets of this family can meet the rule's conditions.
    fn concerns(&self, rule: &Rule) -> bool {
        let other = |family: &Family| *family != self.family;
        let foreign = |condition: &Match| match condition {
            Match::Host { family, .. }
            | Match::Address(family, ..)
            | Match::EchoRequest(family)
            | Match::ServiceRequest(family)
            | Match::ServiceAnswer(family)
            | Match::FlowPeer(family, _)
            | Match::FlowTargetNot(family, _)
            | Match::WayOut(family, ..)
            | Match::WayIn(family, _)
            | Match::RelayRequest(family, _)
            | Match::RelayAnswer(family, _)
            | Match::RelayServer(family)
            | Match::TunnelServer(family, _)
            | Match::RelayResolver(family) => other(family),
            // Containers and entries are of IPv4.
            Match::Called
            | Match::ToMachine
            | Match::EntryTo(_)
            | Match::FlowEntry(_)
            | Match::FlowGranted(_)
            | Match::EntryWay(_) => other(&Family::V4),
            Match::L4(number) => match self.family {
                Family::V4 => *number == ICMPV6,
                Family::V6 => *number == ICMP,
            },
            Match::Interface { .. }
            | Match::InterfaceLike { .. }
            | Match::DestinationPort(_)
            | Match::SourcePort(_)
            | Match::PortIn(_)
            | Match::TcpSyn
            | Match::State(_)
            | Match::Direction(_)
            | Match::Translated
            | Match::InterfaceIn(..)
            | Match::Marked(..)
            | Match::FirstOfFlow
            | Match::SocketUser(_) => false,
        };
        let elsewhere = |action: &Action| match action {
            Action::MarkBySource(family)
            | Action::FlowMarkBySource(family)
            | Action::DnatBySource(family, _) => other(family),
            Action::DnatToEntry => other(&Family::V4),
            Action::Dnat(address, _) => other(&Family::of(*address)),
            Action::Count(_)
            | Action::Drop
            | Action::Accept
            | Action::Jump(_)
            | Action::Goto(_)
            | Action::SetMark(_)
            | Action::SaveMark(_)
            | Action::SetFlowMark(_)
            | Action::Refuse
            | Action::Masquerade
            | Action::ClampMss => false,
        };
        !rule.matches.iter().any(foreign) && !rule.actions.iter().any(elsewhere)
    }

    /// Goes on in the next chain of the row.
    pub(super) fn descend(&mut self, at: &mut At) -> String {
        let chains = self.chains.entry(at.table).or_default();
        let next = (1..)
            .map(|number| format!("{}.{number}", at.top))
            .find(|name| !chains.contains_key(name))
            .unwrap_or_default();
        self.make(at.table, &next);
        std::mem::replace(&mut at.chain, next)
    }

    /// What was gathered so far decides whether the next chain of the row is asked.
    pub(super) fn split(&mut self, at: &mut At) {
        let spec = at.with("");
        at.heads.clear();
        at.modules.clear();
        let before = self.descend(at);
        let line = format!("{spec}-j {}", at.chain);
        self.push(at.table, &before, line);
    }

    pub(super) fn head(&mut self, at: &mut At, flag: char, value: String) {
        let order = match flag {
            's' => 0,
            'd' => 1,
            'i' => 2,
            'o' => 3,
            _ => 4,
        };
        if at.heads.contains_key(&order) {
            self.split(at);
        }
        at.heads.insert(order, (flag, value));
    }

    /// Two chains that nftables does not need. iptables refuses with an answer in the table `filter` alone, so what is to be refused
    /// goes there, and is known by lacking the mark of what is accepted. Should somebody's rule in `filter` accept it before,
    /// or should ours be gone, the other lets nothing out of a peer that lacks that mark.
    fn supplements(&mut self) {
        let answer = match self.family {
            Family::V4 => "icmp-admin-prohibited",
            Family::V6 => "icmp6-adm-prohibited",
        };
        let interface = self.marks.interface.clone();
        let lacking = format!(
            "-m mark ! --mark {:#x}/{:#x}",
            self.marks.accept.value(),
            self.marks.accept.mask()
        );
        self.push(
            Table::Filter,
            REFUSE,
            format!("-i {interface} {lacking} -j REJECT --reject-with {answer}"),
        );
        let counted = counter_chain(Counter::ExitLeak);
        let peers = self.in_set(SetId::Peers(self.family), "src");
        let guard = format!("! -o {interface} {peers} {lacking} -j {counted}");
        self.push(Table::Mangle, GUARD, guard);
        // The same of containers.
        if let Some(bridges) = self.marks.bridges.clone() {
            let refused = format!("-i {bridges}+ {lacking} -j REJECT --reject-with {answer}");
            self.push(Table::Filter, REFUSE, refused);
            let containers = self.in_set(SetId::ServiceAddresses(self.family), "src");
            self.push(
                Table::Mangle,
                GUARD,
                format!("{containers} {lacking} -j {counted}"),
            );
        }
    }
}

/// Protocol numbers that iptables has names of its own for, each in one family.
pub(super) const ICMP: u8 = 1;
pub(super) const ICMPV6: u8 = 58;

/// A name that iptables and ipset take for nothing else: `+` at its end would mean all that begin so.
pub(super) fn plain(name: &InterfaceName) -> Option<&str> {
    let name = name.as_str();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (name.bytes().all(fits) && !name.starts_with('-')).then_some(name)
}
