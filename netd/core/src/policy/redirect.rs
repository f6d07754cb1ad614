//! Exits that the relay on this machine carries: which connections are redirected to it, and where it may connect to itself.
//!
//! A connection is translated to a port of the relay on the hidden service address. The flow remembers the mark of the exit
//! that it was opened for, and its packets are let in only while peer, port and mark belong together: so it dies when its
//! peer's exit changes, even where another exit has got the port. What the relay cannot carry never leaves by another way.

use super::compile::{Compiler, base, drop, goto, plain, when};
use super::element::{Element, SetId};
use super::ruleset::{Action, Chain, ChainName, Counter, CtDirection, CtState, HookPoint};
use super::ruleset::{MarkOf, Match, Rule, Side, Test};
use crate::model::{Family, Protocol};

/// After the translations of others (-100): what they turn inside is not redirected. The first translation of a flow counts.
const AFTER_OTHERS: i32 = -95;
/// After the flow is known (-200) and before others' translations (-100): what is listed is what the relay asks for.
const BEFORE_DNAT: i32 = -150;

impl Compiler<'_> {
    fn flow_mask(&self) -> u32 {
        self.ceiling.exits.mask()
    }

    /// The mark of the relay's own flows by exits' interfaces: some bit of the mask, for no packet is routed or let through by it.
    fn own_flow(&self) -> u32 {
        let mask = self.flow_mask();
        mask & mask.wrapping_neg()
    }

    /// Where the relay may connect to, for any exit and for the cell itself.
    pub(super) fn servers(&self) -> impl Iterator<Item = (SetId, Element)> {
        let exits = self.desired.redirects().values();
        let servers = exits.flat_map(|exit| &exit.servers);
        servers.chain(self.desired.relay_servers()).map(|server| {
            let family = Family::of(server.ip());
            (SetId::RelayServers(family), Element::Server(*server))
        })
    }

    /// Which resolvers the relay may ask by the machine's own way.
    pub(super) fn resolvers(&self) -> impl Iterator<Item = (SetId, Element)> {
        self.desired.resolvers().iter().map(|resolver| {
            let family = Family::of(resolver.ip());
            (SetId::RelayResolvers(family), Element::Server(*resolver))
        })
    }

    /// Turns new connections of bound peers to the internet, as [`Compiler::leaving`] understands it, to the relay.
    pub(super) fn redirect(&self) -> Chain {
        let mut rules = self.leave_to_others();
        rules.extend(self.public_unmarked());
        for (address, hidden) in self.own_addresses() {
            let family = Family::of(address);
            rules.push(when(
                [
                    Match::Address(family, Side::Source, Test::In(SetId::Internet(family))),
                    Match::Address(family, Side::Destination, Test::NotIn(SetId::Special(family))),
                    Match::Address(family, Side::Destination, Test::NotIn(SetId::Local(family))),
                    Match::L4(Protocol::Tcp.number()),
                ],
                vec![
                    Action::FlowMarkBySource(family),
                    Action::DnatBySource(family, hidden),
                ],
            ));
        }
        base(
            ChainName::Redirect,
            true,
            HookPoint::Prerouting,
            AFTER_OTHERS,
            rules,
        )
    }

    /// What of a peer reaches the relay: its own connections, and those of the exit that it has now.
    pub(super) fn to_relay(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (address, hidden) in self.own_addresses() {
            let family = Family::of(address);
            let hidden = Match::Address(family, Side::Destination, Test::Is(hidden));
            rules.push(when(
                [
                    hidden.clone(),
                    Match::Translated,
                    Match::L4(Protocol::Tcp.number()),
                    Match::Address(family, Side::Source, Test::In(SetId::Internet(family))),
                    Match::RelayRequest(family, self.flow_mask()),
                ],
                vec![Action::Accept],
            ));
            rules.push(when(
                [
                    hidden,
                    Match::Translated,
                    Match::Marked(MarkOf::Flow, self.flow_mask()),
                ],
                drop(Counter::ExitMoved),
            ));
        }
        rules
    }

    /// What a peer that is bound to the relay sends to the internet and is not redirected: connections that were opened before
    /// it was bound, and what is not TCP.
    pub(super) fn not_relayed(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        for family in Family::BOTH {
            let bound = Match::Address(family, Side::Source, Test::In(SetId::Relayed(family)));
            rules.push(when(
                [bound.clone(), Match::L4(Protocol::Tcp.number())],
                drop(Counter::ExitMoved),
            ));
            rules.push(when(
                [bound],
                vec![Action::Count(Counter::ExitRefused), Action::Refuse],
            ));
        }
        rules
    }

    /// What the relay itself may send: to servers of exits, to the resolvers of peers without an exit, out of exits' interfaces, and to peers what answers them. In a flow
    /// of an exit that is only while the exit is the peer's.
    pub(super) fn relay(&self) -> Chain {
        let mut rules = Vec::new();
        // Remembered, so that what the kernel says about the flow by itself is known to be the exit's. First: a resolver of peers
        // without an exit may be that of an exit too.
        rules.push(when(
            [Match::InterfaceIn(Side::Destination, SetId::ExitLinks)],
            vec![Action::SetFlowMark(self.own_flow()), Action::Accept],
        ));
        // A question that was to go by an exit's mark (ADR 0042), and the routing led it elsewhere.
        rules.push(when(
            [Match::Marked(MarkOf::Packet, self.flow_mask())],
            drop(Counter::EgressStranger),
        ));
        for family in Family::BOTH {
            let tcp = Match::L4(Protocol::Tcp.number());
            rules.push(when(
                [tcp.clone(), Match::RelayServer(family)],
                vec![Action::Accept],
            ));
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                rules.push(when(
                    [Match::L4(protocol.number()), Match::RelayResolver(family)],
                    vec![Action::Accept],
                ));
            }
            rules.push(when(
                [
                    self.outgoing(true),
                    tcp,
                    Match::RelayAnswer(family, self.flow_mask()),
                ],
                vec![Action::Accept],
            ));
        }
        rules.extend(self.relay_answers_bridged());
        rules.push(when(
            [Match::Marked(MarkOf::Flow, self.flow_mask())],
            drop(Counter::EgressStranger),
        ));
        rules.extend(self.calls_of_relay());
        rules.extend(self.relay_tells_bridged());
        rules.push(when(
            [
                self.outgoing(true),
                Match::Direction(CtDirection::Reply),
                Match::State(CtState::EstablishedOrRelated),
            ],
            vec![Action::Accept],
        ));
        rules.push(when([], drop(Counter::EgressStranger)));
        plain(ChainName::Relay, rules)
    }

    /// What the machine itself sends: the relay's is held to its list, and what belongs to exits to their interfaces.
    ///
    /// The cell's addresses in the VPN speak by `wg0` and the machine itself alone, as [`Compiler::raw`] has it of what arrives: while
    /// the interface is away, routes lead what answers peers to the uplink. Sockets that are closed and have something to send
    /// are nobody's, so no look at a user finds them. Of the hidden addresses it is so without a specification too: a netd that
    /// finds no policy takes the interface down before it knows of any. What is for a container goes by its bridge or nowhere. Then a look at whose a packet is:
    /// the relay's, or the tunnels'; and what others send to containers is judged by whose it is.
    pub(super) fn output(&self) -> Chain {
        let mut rules = Vec::new();
        for address in self.addresses_for_peers() {
            let from = Match::Address(Family::of(address), Side::Source, Test::Is(address));
            rules.push(when(
                self.weak_ways().into_iter().chain([from]),
                drop(Counter::WeakHost),
            ));
        }
        rules.extend(self.calls_away());
        let relay = self.ceiling.exits.relay();
        rules.extend(relay.map(|relay| when([Match::SocketUser(relay.user())], goto(ChainName::Relay))));
        rules.extend(self.to_carrier());
        rules.extend(self.calls());
        rules.push(self.of_exits());
        base(ChainName::Output, false, HookPoint::Output, BEFORE_DNAT, rules)
    }
}
