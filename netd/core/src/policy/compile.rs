//! A desired state becomes a ruleset. Read top down: this is what the cell lets through.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::element::{Element, Elements, SetId};
use super::entry;
use super::ruleset::{
    Action, Chain, ChainName, Counter, CtDirection, CtState, Hook, HookPoint, Match, Rule, Ruleset, Side,
    Test,
};
use super::service;
use super::skeleton::shut;
use super::special;
use crate::ceiling::Ceiling;
use crate::desired::{CellTarget, Desired, ExitWay, Peer, Wireguard};
use crate::model::{Family, InterfaceName, Port};
use crate::redirect::{Carrier, RelayWay};

/// The port of resolvers, over UDP and TCP (RFC 1035, section 4.2).
pub(crate) const DNS: u16 = 53;
/// ICMP and ICMPv6 in the IP header.
pub(super) const ICMP: [(Family, u8); 2] = [(Family::V4, 1), (Family::V6, 58)];

/// The ruleset of a desired state; where there is no interface, the one that is [`shut`], or none. `on_link` are the prefixes of the machine's other links:
/// neighbours are not the internet, whatever addresses they have.
pub fn compile(desired: &Desired, ceiling: &Ceiling, on_link: &BTreeSet<IpNet>) -> Option<Ruleset> {
    let Some(wireguard) = desired.wireguard() else {
        return shut(ceiling, on_link);
    };
    let compiler = Compiler {
        desired,
        ceiling,
        wireguard,
        on_link,
    };
    let mut elements = compiler.fixed_elements();
    // No set holds both what is fixed and what comes from peers.
    elements.extend(of_peers(desired.peers().values().map(Arc::as_ref)));
    let services = desired.services().values();
    insert(&mut elements, services.flat_map(service::elements));
    insert(&mut elements, desired.entries().iter().flat_map(entry::elements));
    Some(Ruleset {
        table: ceiling.table.clone(),
        chains: compiler.chains(),
        elements,
        relays: desired
            .redirects()
            .values()
            .map(|exit| (exit.way.mark, exit.way.port))
            .collect(),
    })
}

/// The elements that exist because of one peer.
pub fn peer_elements(peer: &Peer) -> Vec<(SetId, Element)> {
    let Peer {
        key: _,
        v4,
        v6,
        endpoint: _,
        keepalive: _,
        access,
        exit,
    } = peer;
    let mut elements = Vec::new();
    for address in peer.addresses() {
        let family = Family::of(address);
        elements.push((SetId::Peers(family), Element::Address(address)));
        if access.internet {
            elements.push((SetId::Internet(family), Element::Address(address)));
        }
        if access.peer_to_peer {
            elements.push((SetId::PeerToPeer(family), Element::Address(address)));
        }
        elements.extend(exit.iter().flat_map(|exit| of_carrier(exit, address)));
    }
    for service in &access.services {
        match (service.address, v4, v6) {
            (IpAddr::V4(to), Some(from), _) => elements.push((
                SetId::Services(Family::V4),
                Element::Service4(*from, to, service.protocol, service.port),
            )),
            (IpAddr::V6(to), _, Some(from)) => elements.push((
                SetId::Services(Family::V6),
                Element::Service6(*from, to, service.protocol, service.port),
            )),
            // A peer without an address of the family has no way there.
            (IpAddr::V4(_), None, _) | (IpAddr::V6(_), _, None) => {}
        }
    }
    elements
}

/// The elements that bind one address to what carries it.
pub(super) fn of_carrier(exit: &Carrier, address: IpAddr) -> Vec<(SetId, Element)> {
    match exit {
        Carrier::Interface(exit) => of_exit(exit, address).into(),
        Carrier::Relay(exit) => of_relay(exit, address).into(),
    }
}

/// The elements that bind one address of a peer to an exit, whether or not the exit carries its family.
fn of_exit(exit: &ExitWay, peer: IpAddr) -> [(SetId, Element); 3] {
    let ExitWay {
        id: _,
        mark,
        interface,
    } = exit;
    let family = Family::of(peer);
    [
        (SetId::Exited(family), Element::Address(peer)),
        (SetId::ExitMarks(family), Element::ExitMark(peer, *mark)),
        (SetId::ExitWays(family), Element::ExitWay(peer, *interface, *mark)),
    ]
}

/// The elements that bind one address of a peer to an exit of the relay.
fn of_relay(exit: &RelayWay, peer: IpAddr) -> [(SetId, Element); 5] {
    let RelayWay { id: _, mark, port } = exit;
    let family = Family::of(peer);
    [
        (SetId::Exited(family), Element::Address(peer)),
        (SetId::Relayed(family), Element::Address(peer)),
        (SetId::RelayPorts(family), Element::RelayPort(peer, *port)),
        (SetId::RelayMarks(family), Element::ExitMark(peer, *mark)),
        (SetId::RelayWays(family), Element::RelayWay(peer, *port, *mark)),
    ]
}

/// The elements of all peers. Each set is collected, not inserted into one by one: it is built at one go from what was
/// sorted.
fn of_peers<'a>(peers: impl Iterator<Item = &'a Peer>) -> Elements {
    let mut found: BTreeMap<SetId, Vec<Element>> = BTreeMap::new();
    for (set, element) in peers.flat_map(peer_elements) {
        found.entry(set).or_default().push(element);
    }
    let collected = |(set, elements): (SetId, Vec<Element>)| (set, elements.into_iter().collect());
    found.into_iter().map(collected).collect()
}

/// What peers may be let to for a port of the cell.
fn of_cell_port((port, target): (&Port, &Option<CellTarget>)) -> Vec<(SetId, Element)> {
    let Some(target) = target else {
        return vec![(SetId::CellPorts, Element::Port(*port))];
    };
    let element = |number| {
        let protocol = port.protocol;
        (SetId::CellTargets, Element::Port(Port { protocol, number }))
    };
    target.ports().map(element).collect()
}

fn insert(into: &mut Elements, elements: impl IntoIterator<Item = (SetId, Element)>) {
    for (set, element) in elements {
        into.entry(set).or_default().insert(element);
    }
}

pub(super) struct Compiler<'a> {
    pub(super) desired: &'a Desired,
    pub(super) ceiling: &'a Ceiling,
    wireguard: &'a Wireguard,
    on_link: &'a BTreeSet<IpNet>,
}

impl Compiler<'_> {
    fn fixed_elements(&self) -> Elements {
        let mut elements = Elements::new();
        let around = self.neighbours();
        for family in Family::BOTH {
            insert(
                &mut elements,
                special::ranges(family).map(|range| (SetId::Special(family), range)),
            );
            insert(
                &mut elements,
                special::local(family, &around).map(|range| (SetId::Local(family), range)),
            );
        }
        insert(
            &mut elements,
            self.desired.cell_ports().iter().flat_map(of_cell_port),
        );
        let links = self.desired.exits().values();
        insert(
            &mut elements,
            links.map(|exit| (SetId::ExitLinks, Element::Link(exit.way.interface))),
        );
        insert(&mut elements, self.servers());
        insert(&mut elements, self.resolvers());
        insert(&mut elements, self.tunnel_servers());
        elements
    }

    /// What lies on the machine's links, and the VPN where its prefix is a public one.
    fn neighbours(&self) -> BTreeSet<IpNet> {
        let v4 = self.wireguard.v4.map(IpNet::V4);
        let v6 = self.wireguard.v6.map(IpNet::V6);
        let own = v4.into_iter().chain(v6).map(|net| net.trunc());
        let public = own.filter(|net| !special::is(net.network()));
        self.on_link.iter().copied().chain(public).collect()
    }

    fn chains(&self) -> Vec<Chain> {
        let mut chains = vec![self.accept()];
        chains.extend(self.entry_chains());
        chains.extend(self.callers());
        chains.extend([
            self.internet_answer(),
            self.answer(),
            self.peer_to_peer(),
            self.internet(),
            self.leaving(),
            self.arriving(),
            self.cell(),
            self.relay(),
            self.carrier(),
            self.of_exit(),
        ]);
        chains.extend(self.bridged_chains());
        chains.extend([
            self.raw(),
            self.prerouting(),
            self.redirect(),
            self.mark(),
            self.forward(),
            self.input(),
            self.output(),
            self.postrouting(),
        ]);
        chains
    }

    /// The mark is what Docker's FORWARD chain is told to let pass.
    fn accept(&self) -> Chain {
        let actions = vec![Action::SetMark(self.ceiling.accept_mark), Action::Accept];
        plain(
            ChainName::Accept,
            vec![Rule {
                matches: vec![],
                actions,
            }],
        )
    }

    /// Answers: of a service of the peer that opened the flow, of a public address if that peer has internet, and ICMP
    /// errors about what a peer sent.
    fn answer(&self) -> Chain {
        let mut rules = self.of_entries(ChainName::EntryAnswer);
        rules.extend(self.public_answers());
        for (family, icmp) in ICMP {
            let peer = Match::FlowPeer(family, SetId::Peers(family));
            // Before what is granted: an answer of the internet comes by the flow's exit, whatever the flow was granted by.
            let asked = [
                Match::FlowPeer(family, SetId::Internet(family)),
                Match::FlowPeer(family, SetId::Exited(family)),
                Match::ServiceAnswer(family),
            ];
            for asked in asked {
                rules.push(when(
                    [
                        asked,
                        Match::FlowTargetNot(family, SetId::Special(family)),
                        Match::FlowTargetNot(family, SetId::Local(family)),
                    ],
                    goto(ChainName::InternetAnswer),
                ));
            }
            rules.push(when([Match::ServiceAnswer(family)], goto(ChainName::Accept)));
            rules.push(when(
                [Match::State(CtState::Related), Match::L4(icmp), peer],
                goto(ChainName::Accept),
            ));
            rules.extend(self.errors_to_bridged(family, icmp));
        }
        plain(ChainName::Answer, rules)
    }

    fn peer_to_peer(&self) -> Chain {
        let mut rules: Vec<Rule> = self.entry_denied().into_iter().collect();
        for family in Family::BOTH {
            let allowed = Test::In(SetId::PeerToPeer(family));
            rules.push(when(
                [
                    Match::Address(family, Side::Source, allowed),
                    Match::Address(family, Side::Destination, allowed),
                ],
                goto(ChainName::Accept),
            ));
            rules.push(when([Match::ServiceRequest(family)], goto(ChainName::Accept)));
            rules.push(when(
                [Match::Direction(CtDirection::Reply), Match::ServiceAnswer(family)],
                goto(ChainName::Accept),
            ));
        }
        rules.push(when([], drop(Counter::PeerToPeer)));
        plain(ChainName::PeerToPeer, rules)
    }

    fn leaving(&self) -> Chain {
        let mut rules = self.only_peers();
        rules.push(when([Match::State(CtState::Invalid)], drop(Counter::Invalid)));
        rules.extend(self.of_entries(ChainName::Entry));
        rules.push(when([self.outgoing(true)], goto(ChainName::PeerToPeer)));
        rules.extend(self.away());
        rules.extend(granted());
        rules.push(when([], drop(Counter::FromPeerDefault)));
        plain(ChainName::FromPeer, rules)
    }

    /// Nothing opens a flow towards a peer: only answers, and errors about what the peer sent, go back.
    fn arriving(&self) -> Chain {
        plain(
            ChainName::ToPeer,
            vec![
                when([Match::State(CtState::Invalid)], drop(Counter::Invalid)),
                when(
                    [
                        Match::Direction(CtDirection::Reply),
                        Match::State(CtState::EstablishedOrRelated),
                    ],
                    vec![Action::Jump(ChainName::Answer)],
                ),
                when([], drop(Counter::ToPeerDefault)),
            ],
        )
    }

    /// What peers may send to the cell itself.
    fn cell(&self) -> Chain {
        let mut rules = self.only_peers();
        rules.push(when([Match::State(CtState::Invalid)], drop(Counter::Invalid)));
        rules.push(when(
            [
                Match::Direction(CtDirection::Reply),
                Match::State(CtState::EstablishedOrRelated),
            ],
            vec![Action::Accept],
        ));
        for (_, number) in ICMP {
            rules.push(when(
                [Match::State(CtState::Related), Match::L4(number)],
                vec![Action::Accept],
            ));
        }
        rules.extend(self.entry_denied());
        for (address, hidden) in self.own_addresses() {
            let family = Family::of(address);
            let own = Match::Address(family, Side::Destination, Test::Is(address));
            let before = self.asked_before_bound(hidden);
            let hidden = Match::Address(family, Side::Destination, Test::Is(hidden));
            rules.push(when(
                [own.clone(), Match::EchoRequest(family)],
                vec![Action::Accept],
            ));
            rules.push(when([own, Match::PortIn(SetId::CellPorts)], vec![Action::Accept]));
            rules.extend(before);
            // Translated: the hidden address itself is not to be spoken to.
            rules.push(when(
                [hidden, Match::Translated, Match::PortIn(SetId::CellTargets)],
                vec![Action::Accept],
            ));
        }
        rules.extend(self.to_relay());
        rules.push(when([], drop(Counter::CellInput)));
        plain(ChainName::Cell, rules)
    }

    fn only_peers(&self) -> Vec<Rule> {
        let strangers = |family| {
            let source = Match::Address(family, Side::Source, Test::NotIn(SetId::Peers(family)));
            when([source], drop(Counter::SpoofedSource))
        };
        Family::BOTH.into_iter().map(strangers).collect()
    }

    /// The cell's own address and the hidden one beside it, per family that the VPN has.
    pub(super) fn own_addresses(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        let v4 = self
            .wireguard
            .v4
            .map(|net| (net.addr().into(), self.ceiling.service_v4.into()));
        let v6 = self
            .wireguard
            .v6
            .map(|net| (net.addr().into(), self.ceiling.service_v6.into()));
        v4.into_iter().chain(v6)
    }

    /// Where devices find the cell, of each family: its own address, if the VPN has one, and the hidden one, which is known without.
    pub(super) fn addresses_for_peers(&self) -> impl Iterator<Item = IpAddr> {
        let own = [
            self.wireguard.v4.map(|net| net.addr().into()),
            self.wireguard.v6.map(|net| net.addr().into()),
        ];
        let hidden = [self.ceiling.service_v4.into(), self.ceiling.service_v6.into()];
        own.into_iter()
            .zip(hidden)
            .flat_map(|(own, hidden)| own.into_iter().chain([hidden]))
    }

    pub(super) fn incoming(&self, is: bool) -> Match {
        interface(Side::Source, &self.wireguard.interface, is)
    }

    pub(super) fn outgoing(&self, is: bool) -> Match {
        interface(Side::Destination, &self.wireguard.interface, is)
    }
}

pub(super) fn interface(side: Side, name: &InterfaceName, is: bool) -> Match {
    Match::Interface {
        side,
        name: name.clone(),
        is,
    }
}

pub(super) fn when(matches: impl IntoIterator<Item = Match>, actions: Vec<Action>) -> Rule {
    Rule {
        matches: matches.into_iter().collect(),
        actions,
    }
}

pub(super) fn drop(counter: Counter) -> Vec<Action> {
    vec![Action::Count(counter), Action::Drop]
}

pub(super) fn goto(chain: ChainName) -> Vec<Action> {
    vec![Action::Goto(chain)]
}

/// What a peer or a container was granted: the internet, and services. One service of the internet is judged as the internet is: by
/// the sender's exit, and by that of the flow, which the sender may have left since.
pub(super) fn granted() -> impl Iterator<Item = Rule> {
    Family::BOTH.into_iter().flat_map(|family| {
        let internet = |granted: Match| {
            let to = [SetId::Special(family), SetId::Local(family)]
                .map(|set| Match::Address(family, Side::Destination, Test::NotIn(set)));
            [granted].into_iter().chain(to)
        };
        let all = Match::Address(family, Side::Source, Test::In(SetId::Internet(family)));
        let service = Match::ServiceRequest(family);
        [
            when(internet(all), goto(ChainName::Internet)),
            when(internet(service.clone()), goto(ChainName::Internet)),
            when([service], goto(ChainName::Accept)),
        ]
    })
}

pub(super) fn plain(name: ChainName, rules: Vec<Rule>) -> Chain {
    Chain {
        name,
        hook: None,
        rules,
    }
}

pub(super) fn base(name: ChainName, nat: bool, point: HookPoint, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain {
        name,
        hook: Some(Hook { nat, point, priority }),
        rules,
    }
}
