//! Services at addresses in the VPN, which containers answer.
//!
//! Who may is judged by where devices look for the service, before its address is translated: so two services behind one proxy are
//! told apart. The first packet of a flow is translated only if its peer may, and every later one is judged again by what its flow
//! was opened to, and by whether that still leads to the container that it was translated to. Source addresses stay: the
//! container sees the device.

use super::compile::{Compiler, drop, goto, plain, when};
use super::element::{Element, SetId};
use super::ruleset::{Action, Chain, ChainName, Counter, Match, Rule, Side, Test};
use super::service::host;
use crate::entry::{Entry, EntryAt};
use crate::model::{Family, Protocol};

/// Those that have ports. A rule that asks for a flow's port says which of them it is of, or nft(8) does not read it.
const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// The elements that exist because of one entry.
pub(super) fn elements((at, entry): (&EntryAt, &Entry)) -> Vec<(SetId, Element)> {
    let EntryAt { at, protocol } = *at;
    let to = entry.to;
    let mut elements = vec![
        (SetId::Entries, Element::Entry(at, protocol)),
        (SetId::EntryTargets, Element::EntryTarget(at, protocol, to)),
        (SetId::EntryWays, Element::EntryWay(at, protocol, to)),
    ];
    if entry.everyone {
        elements.push((SetId::OpenEntries, Element::Entry(at, protocol)));
    }
    elements
}

impl Compiler<'_> {
    fn has_entries(&self) -> bool {
        self.ceiling.services.is_some()
    }

    /// Translates what opens a flow to an entry, if it may.
    pub(super) fn to_entries(&self) -> Vec<Rule> {
        if !self.has_entries() {
            return vec![];
        }
        let granted = [
            self.incoming(true),
            Match::EntryTo(SetId::Entries),
            Match::ServiceRequest(Family::V4),
        ];
        let open = [self.incoming(true), Match::EntryTo(SetId::OpenEntries)];
        vec![
            when(granted, vec![Action::DnatToEntry]),
            when(open, vec![Action::DnatToEntry]),
        ]
    }

    /// What was not translated, for it may not.
    pub(super) fn entry_denied(&self) -> Option<Rule> {
        let to_entry = Match::EntryTo(SetId::Entries);
        self.has_entries()
            .then(|| when([to_entry], drop(Counter::EntryDenied)))
    }

    /// Packets of flows that were opened to an entry.
    pub(super) fn of_entries(&self, chain: ChainName) -> Vec<Rule> {
        let of_entry = |protocol: Protocol| {
            let l4 = Match::L4(protocol.number());
            let flow = Match::FlowEntry(SetId::Entries);
            when([Match::Translated, l4, flow], goto(chain))
        };
        match self.has_entries() {
            true => PROTOCOLS.map(of_entry).into(),
            false => vec![],
        }
    }

    /// The chains that judge those.
    pub(super) fn entry_chains(&self) -> Vec<Chain> {
        if !self.has_entries() {
            return vec![];
        }
        let (asks, answers) = (Side::Source, Side::Destination);
        vec![
            entry(ChainName::Entry, asks, Some(there()), self.away()),
            entry(ChainName::EntryAnswer, answers, None, None),
        ]
    }

    /// To where a container would be, and not by its bridge: that is not there, and routes lead elsewhere.
    pub(super) fn away(&self) -> Option<Rule> {
        self.ceiling.services.as_ref()?;
        let family = Family::V4;
        let container = Match::Address(
            family,
            Side::Destination,
            Test::In(SetId::ServiceAddresses(family)),
        );
        let elsewhere = host(family, Side::Destination, Side::Destination, false);
        Some(when([container, elsewhere], drop(Counter::ServiceAway)))
    }
}

/// The packet goes to a container, and by its bridge.
fn there() -> Match {
    host(Family::V4, Side::Destination, Side::Destination, true)
}

/// One direction: `peer` is where the peer's address stands in the packet.
fn entry(name: ChainName, peer: Side, there: Option<Match>, away: Option<Rule>) -> Chain {
    let container = match peer {
        Side::Source => Side::Destination,
        Side::Destination => Side::Source,
    };
    let way = Match::EntryWay(container);
    let mut rules = Vec::new();
    for protocol in PROTOCOLS {
        let l4 = || Match::L4(protocol.number());
        for may in [Match::FlowGranted(peer), Match::FlowEntry(SetId::OpenEntries)] {
            let all = [l4(), may, way.clone()].into_iter().chain(there.clone());
            rules.push(when(all, goto(ChainName::Accept)));
        }
    }
    rules.extend(away);
    for protocol in PROTOCOLS {
        // The right container, so it is the grant that is missing.
        let right = [Match::L4(protocol.number()), way.clone()];
        rules.push(when(right, drop(Counter::EntryDenied)));
    }
    rules.push(when([], drop(Counter::EntryMoved)));
    plain(name, rules)
}
