//! Networks of services: bridges that Docker makes, whose names the ceiling knows. What comes from one passes if something allows
//! it, whether or not a specification knows the bridge.
//!
//! Containers are bound to exits by the same sets and chains as peers. That is safe because no address is of both, and what has a
//! container's address comes from its own bridge or is dropped before anything else looks at it ([`Compiler::bridged_sources`]).
//! Their questions of DNS are all turned to the relay, whomever they ask: nothing else knows which exit carries them, and the
//! resolver of the house is none that they may reach.

use super::compile::{Compiler, DNS, ICMP, drop, goto, granted, interface, plain, when};
use super::element::{Element, SetId};
use super::hooks::turned;
use super::ruleset::{Action, Chain, ChainName, Counter, CtDirection, CtState, Match, Rule, Side, Test};
use crate::model::{Family, InterfaceName, Protocol};
use crate::service::ServiceNetwork;

/// The elements that exist because of one network of a service.
pub(super) fn elements(network: &ServiceNetwork) -> Vec<(SetId, Element)> {
    let called = network.called.iter();
    let mut elements: Vec<_> = called
        .map(|at| (SetId::Called, Element::Server((*at).into())))
        .collect();
    for host in network.hosts() {
        let address = host.into();
        elements.push((SetId::ServiceAddresses(Family::V4), Element::Address(address)));
        let on_bridge = Element::Host(address, network.bridge);
        elements.push((SetId::ServiceHosts(Family::V4), on_bridge));
        if network.internet {
            elements.push((SetId::Internet(Family::V4), Element::Address(address)));
        }
        elements.extend(
            network
                .exit
                .iter()
                .flat_map(|exit| super::compile::of_carrier(exit, address)),
        );
        for service in &network.reach {
            if let std::net::IpAddr::V4(to) = service.address {
                let way = Element::Service4(host, to, service.protocol, service.port);
                elements.push((SetId::Services(Family::V4), way));
            }
        }
    }
    elements
}

/// (address, interface) of the packet is a container and its bridge, or (`is == false`) is not.
pub(super) fn host(family: Family, address: Side, interface: Side, is: bool) -> Match {
    Match::Host {
        family,
        address,
        interface,
        is,
    }
}

impl Compiler<'_> {
    /// Packets by any bridge of services, or (`is == false`) by none. Nothing where the ceiling has no such bridges.
    pub(super) fn bridged(&self, side: Side, is: bool) -> Option<Match> {
        let services = self.ceiling.services.as_ref()?;
        Some(Match::InterfaceLike {
            side,
            prefix: services.prefix().clone(),
            is,
        })
    }

    /// Who is judged by their source: peers and containers; all others leave the chain.
    pub(super) fn leave_to_others(&self) -> Vec<Rule> {
        if self.ceiling.services.is_none() {
            return vec![when([self.incoming(false)], vec![Action::Accept])];
        }
        let others = |family| {
            let set = SetId::ServiceAddresses(family);
            let container = Match::Address(family, Side::Source, Test::NotIn(set));
            when([self.incoming(false), container], vec![Action::Accept])
        };
        Family::BOTH.into_iter().map(others).collect()
    }

    /// By a bridge comes what its containers send, and what they send comes by it. IPv6 is nobody's there. Questions of DNS go on
    /// whatever address of the cell they are sent to: they are turned to the relay.
    pub(super) fn bridged_sources(&self) -> Vec<Rule> {
        let (Some(from), Some(elsewhere)) = (
            self.bridged(Side::Source, true),
            self.bridged(Side::Source, false),
        ) else {
            return vec![];
        };
        let strangers = Family::BOTH.map(|family| {
            let stranger = host(family, Side::Source, Side::Source, false);
            when([from.clone(), stranger], drop(Counter::ServiceSource))
        });
        let claims = Family::BOTH.map(|family| {
            let set = SetId::ServiceAddresses(family);
            let claim = Match::Address(family, Side::Source, Test::In(set));
            when([elsewhere.clone(), claim], drop(Counter::SpoofedSource))
        });
        let questions = [Protocol::Udp, Protocol::Tcp].map(|protocol| {
            let question = [
                from.clone(),
                Match::L4(protocol.number()),
                Match::DestinationPort(DNS),
            ];
            when(question, vec![Action::Accept])
        });
        strangers.into_iter().chain(claims).chain(questions).collect()
    }

    /// What a container asks of any resolver but one on its own bridge is asked of the cell's own. One that it was granted by address
    /// and port is asked itself, as by peers: a name server that takes updates, for which no relay stands.
    pub(super) fn bridged_questions(&self) -> Vec<Rule> {
        let Some(from) = self.bridged(Side::Source, true) else {
            return vec![];
        };
        let mut rules = Vec::new();
        if self.desired.resolver().next().is_some() {
            let is_granted = [from.clone(), Match::ServiceRequest(Family::V4)];
            rules.push(when(is_granted, vec![Action::Accept]));
        }
        for (_, hidden) in self.own_addresses() {
            let family = Family::of(hidden);
            let set = SetId::ServiceAddresses(family);
            for (protocol, target) in self.desired.resolver() {
                let asked = [
                    from.clone(),
                    Match::Address(family, Side::Source, Test::In(set)),
                    host(family, Side::Destination, Side::Source, false),
                    Match::L4(protocol.number()),
                    Match::DestinationPort(DNS),
                ];
                rules.extend(turned(asked, hidden, target));
            }
        }
        rules
    }

    /// From and to bridges, of what neither comes from a peer nor goes to one.
    pub(super) fn bridged_in_forward(&self) -> Vec<Rule> {
        let jump = |side, chain| {
            self.bridged(side, true)
                .map(|by| when([by], vec![Action::Jump(chain)]))
        };
        let from = jump(Side::Source, ChainName::FromService);
        from.into_iter()
            .chain(jump(Side::Destination, ChainName::ToService))
            .collect()
    }

    /// The chains that judge it; none where the ceiling has no such bridges.
    pub(super) fn bridged_chains(&self) -> Vec<Chain> {
        if self.ceiling.services.is_none() {
            return vec![];
        }
        vec![self.of_services(), self.to_services(), self.services_to_cell()]
    }

    fn of_services(&self) -> Chain {
        let mut rules = Vec::new();
        for family in Family::BOTH {
            // Between containers of one network, where the kernel shows bridged packets to these hooks at all (br_netfilter).
            let neighbour = host(family, Side::Source, Side::Destination, true);
            rules.push(when([neighbour], goto(ChainName::Accept)));
        }
        rules.push(when([Match::State(CtState::Invalid)], drop(Counter::Invalid)));
        rules.push(when(answers([]), vec![Action::Jump(ChainName::Answer)]));
        rules.extend(self.public_closed());
        rules.extend(self.away());
        rules.extend(granted());
        rules.push(when([], drop(Counter::FromServiceDefault)));
        plain(ChainName::FromService, rules)
    }

    /// Nothing but another service's grant or a peer's opens a flow towards a container, and those are judged where they come from; and
    /// the internet, to the one that the ceiling has.
    fn to_services(&self) -> Chain {
        let mut rules = vec![
            when([Match::State(CtState::Invalid)], drop(Counter::Invalid)),
            when(answers([]), vec![Action::Jump(ChainName::Answer)]),
        ];
        rules.extend(self.public_asks());
        rules.push(when([], drop(Counter::ToServiceDefault)));
        plain(ChainName::ToService, rules)
    }

    /// What containers may send to the cell itself: questions of DNS, what the relay carries, and answers.
    fn services_to_cell(&self) -> Chain {
        let mut rules = vec![when([Match::State(CtState::Invalid)], drop(Counter::Invalid))];
        rules.push(when(answers([]), vec![Action::Accept]));
        for (_, number) in ICMP {
            rules.push(when(
                [Match::State(CtState::Related), Match::L4(number)],
                vec![Action::Accept],
            ));
        }
        for (_, hidden) in self.own_addresses() {
            let family = Family::of(hidden);
            rules.extend(self.asked_before_bound(hidden));
            for (protocol, target) in self.desired.resolver() {
                for port in target.ports() {
                    rules.push(when(
                        [
                            Match::Address(family, Side::Destination, Test::Is(hidden)),
                            Match::Translated,
                            Match::L4(protocol.number()),
                            Match::DestinationPort(port),
                        ],
                        vec![Action::Accept],
                    ));
                }
            }
        }
        rules.extend(self.to_relay());
        rules.push(when([], drop(Counter::FromServiceDefault)));
        plain(ChainName::ServiceCell, rules)
    }

    /// To the cell itself.
    pub(super) fn bridged_in_input(&self) -> Option<Rule> {
        let from = self.bridged(Side::Source, true)?;
        Some(when([from], vec![Action::Jump(ChainName::ServiceCell)]))
    }

    /// What the relay answers containers by: within the flows of the exit that they have now.
    pub(super) fn relay_answers_bridged(&self) -> Vec<Rule> {
        let answer = |family| {
            let to = self.bridged(Side::Destination, true)?;
            let tcp = Match::L4(Protocol::Tcp.number());
            let way = Match::RelayAnswer(family, self.ceiling.exits.mask());
            Some(when([to, tcp, way], vec![Action::Accept]))
        };
        Family::BOTH.into_iter().filter_map(answer).collect()
    }

    /// What it answers their questions by.
    pub(super) fn relay_tells_bridged(&self) -> Option<Rule> {
        let to = self.bridged(Side::Destination, true)?;
        Some(when(answers([to]), vec![Action::Accept]))
    }

    /// What leaves a bridge leaves with the machine's own address.
    pub(super) fn masquerade_bridged(&self) -> Vec<Rule> {
        let masquerade = |family| {
            let set = SetId::ServiceAddresses(family);
            let out = self.bridged(Side::Destination, false)?;
            let from = Match::Address(family, Side::Source, Test::In(set));
            Some(when([self.outgoing(false), out, from], vec![Action::Masquerade]))
        };
        Family::BOTH.into_iter().filter_map(masquerade).collect()
    }

    /// ICMP errors about what containers sent.
    pub(super) fn errors_to_bridged(&self, family: Family, icmp: u8) -> Option<Rule> {
        self.ceiling.services.as_ref()?;
        let container = Match::FlowPeer(family, SetId::ServiceAddresses(family));
        let error = [Match::State(CtState::Related), Match::L4(icmp), container];
        Some(when(error, goto(ChainName::Accept)))
    }

    /// Where the cell's own addresses in the VPN speak: by `wg0`, the machine itself, and to containers, which asked the relay.
    pub(super) fn weak_ways(&self) -> Vec<Match> {
        let mut elsewhere = vec![
            self.outgoing(false),
            interface(Side::Destination, &InterfaceName::loopback(), false),
        ];
        elsewhere.extend(self.bridged(Side::Destination, false));
        elsewhere
    }
}

/// Answers in a flow that the other side opened.
fn answers(by: impl IntoIterator<Item = Match>) -> Vec<Match> {
    let answers = [
        Match::Direction(CtDirection::Reply),
        Match::State(CtState::EstablishedOrRelated),
    ];
    by.into_iter().chain(answers).collect()
}
