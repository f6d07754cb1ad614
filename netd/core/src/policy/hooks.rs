//! The base chains: where packets are taken from the kernel's way, and handed to the chains of [`super::compile`].

use std::net::IpAddr;

use super::compile::{Compiler, DNS, base, drop, interface, when};
use super::element::SetId;
use super::ruleset::{Action, Chain, ChainName, Counter, HookPoint, Match, Rule, Side, Test};
use crate::desired::CellTarget;
use crate::model::{Family, InterfaceName, Protocol};

impl Compiler<'_> {
    /// Linux answers on any interface for any of its addresses (the weak host model, RFC 1122 section 3.3.4.2), and
    /// routes any source. The VPN's addresses are spoken to, and from, by `wg0` and the machine itself alone.
    pub(super) fn raw(&self) -> Chain {
        let elsewhere = || {
            [
                self.incoming(false),
                interface(Side::Source, &InterfaceName::loopback(), false),
            ]
        };
        let mut rules = self.bridged_sources();
        for (own, hidden) in self.own_addresses() {
            for address in [own, hidden] {
                let to = Match::Address(Family::of(address), Side::Destination, Test::Is(address));
                rules.push(when(elsewhere().into_iter().chain([to]), drop(Counter::WeakHost)));
            }
        }
        for family in Family::BOTH {
            let from = Match::Address(family, Side::Source, Test::In(SetId::Peers(family)));
            rules.push(when(
                elsewhere().into_iter().chain([from]),
                drop(Counter::SpoofedSource),
            ));
        }
        base(ChainName::Raw, false, HookPoint::Prerouting, -300, rules)
    }

    pub(super) fn prerouting(&self) -> Chain {
        let mut rules = Vec::new();
        for (own, hidden) in self.own_addresses() {
            for (port, target) in self.desired.cell_ports() {
                let Some(target) = target else { continue };
                let asked = [
                    self.incoming(true),
                    Match::Address(Family::of(own), Side::Destination, Test::Is(own)),
                    Match::L4(port.protocol.number()),
                    Match::DestinationPort(port.number),
                ];
                rules.extend(turned(asked, hidden, *target));
            }
        }
        rules.extend(self.to_public());
        rules.extend(self.to_entries());
        rules.extend(self.steered_questions());
        rules.extend(self.bridged_questions());
        base(ChainName::Prerouting, true, HookPoint::Prerouting, -100, rules)
    }

    /// What a peer of an exit asks of any resolver is asked of the cell's own, where that has a process behind it: only there is
    /// it known which exit carries the question. Not so of a resolver that it was granted by address and port. The cost grows with
    /// no peer.
    fn steered_questions(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (own, hidden) in self.own_addresses() {
            let family = Family::of(own);
            let of = |side, test| Match::Address(family, side, test);
            for (protocol, target) in self.desired.resolver() {
                let question = [
                    self.incoming(true),
                    of(Side::Source, Test::In(SetId::Exited(family))),
                    of(Side::Source, Test::In(SetId::Internet(family))),
                    Match::L4(protocol.number()),
                    Match::DestinationPort(DNS),
                ];
                let granted = question
                    .clone()
                    .into_iter()
                    .chain([Match::ServiceRequest(family)]);
                rules.push(when(granted, vec![Action::Accept]));
                let to = target.of_bound.unwrap_or(target.port);
                rules.push(when(question, vec![Action::Dnat(hidden, to)]));
            }
        }
        rules
    }

    /// Whoever was bound to an exit since goes on asking at the port of those that are not, while the flow lasts: a flow's translation is its
    /// first packet's. The other way round the process itself tells: it asks by no way but the exit that it knows of.
    pub(super) fn asked_before_bound(&self, hidden: IpAddr) -> Vec<Rule> {
        let family = Family::of(hidden);
        let of_bound = self
            .desired
            .resolver()
            .filter(|(_, target)| target.of_bound.is_some());
        let moved = of_bound.map(|(protocol, target)| {
            when(
                [
                    Match::Address(family, Side::Destination, Test::Is(hidden)),
                    Match::L4(protocol.number()),
                    Match::DestinationPort(target.port),
                    Match::Address(family, Side::Source, Test::In(SetId::Exited(family))),
                ],
                drop(Counter::ExitMoved),
            )
        });
        moved.collect()
    }

    pub(super) fn forward(&self) -> Chain {
        let clamp = |way: Match| {
            when(
                [way, Match::L4(Protocol::Tcp.number()), Match::TcpSyn],
                vec![Action::ClampMss],
            )
        };
        let bridged = [Side::Source, Side::Destination].map(|side| self.bridged(side, true));
        let ways = [self.incoming(true), self.outgoing(true)];
        let mut rules: Vec<Rule> = ways
            .into_iter()
            .chain(bridged.into_iter().flatten())
            .map(clamp)
            .collect();
        rules.extend([
            when([self.incoming(true)], vec![Action::Jump(ChainName::FromPeer)]),
            when([self.outgoing(true)], vec![Action::Jump(ChainName::ToPeer)]),
        ]);
        rules.extend(self.bridged_in_forward());
        rules.extend(self.strangers_in_forward());
        base(ChainName::Forward, false, HookPoint::Forward, -10, rules)
    }

    pub(super) fn input(&self) -> Chain {
        let mut rules = vec![when([self.incoming(true)], vec![Action::Jump(ChainName::Cell)])];
        rules.extend(self.bridged_in_input());
        rules.extend(self.strangers_in_input());
        base(ChainName::Input, false, HookPoint::Input, -10, rules)
    }

    pub(super) fn postrouting(&self) -> Chain {
        let masquerade = |family| {
            let from = Match::Address(family, Side::Source, Test::In(SetId::Peers(family)));
            // Containers see the devices' own addresses, and answer by their bridge.
            let out = [self.outgoing(false)].into_iter();
            let out = out.chain(self.bridged(Side::Destination, false));
            when(out.chain([from]), vec![Action::Masquerade])
        };
        let mut rules: Vec<Rule> = Family::BOTH.into_iter().map(masquerade).collect();
        rules.extend(self.masquerade_bridged());
        base(ChainName::Postrouting, true, HookPoint::Postrouting, 100, rules)
    }
}

/// Turns what is asked of the cell to the process on the hidden address: what comes from whoever is bound to an exit to its port for those.
pub(super) fn turned<const N: usize>(asked: [Match; N], hidden: IpAddr, target: CellTarget) -> Vec<Rule> {
    let family = Family::of(hidden);
    let bound = Match::Address(family, Side::Source, Test::In(SetId::Exited(family)));
    let of_bound = target.of_bound.map(|port| {
        let asked = asked.clone().into_iter().chain([bound]);
        when(asked, vec![Action::Dnat(hidden, port)])
    });
    let of_others = when(asked, vec![Action::Dnat(hidden, target.port)]);
    of_bound.into_iter().chain([of_others]).collect()
}
