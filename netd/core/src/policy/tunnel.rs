//! Exits that a program on this machine carries through a TUN that netd made for its user: where that user may send.
//!
//! The program parses what strangers send, and dials by itself. Whoever takes it over is still held to the servers of the exits:
//! by the kernel, not by the program ([0014](../../../../docs/adr/0014-redirects.md) has the same for the relay).

use super::compile::{Compiler, drop, goto, plain, when};
use super::element::{Element, SetId};
use super::ruleset::{Action, Chain, ChainName, Counter, Match, Rule};
use crate::desired::Tunnel;
use crate::model::{Family, Protocol};

impl Compiler<'_> {
    /// Where the user of tunnels may send, for any exit.
    pub(super) fn tunnel_servers(&self) -> impl Iterator<Item = (SetId, Element)> {
        let exits = self.desired.exits().values();
        let tunnels = exits.filter_map(|exit| match &exit.tunnel {
            Tunnel::User(tunnel) => Some(tunnel),
            Tunnel::Wireguard(_) => None,
        });
        tunnels
            .flat_map(|tunnel| &tunnel.servers)
            .map(|(protocol, server)| {
                let set = SetId::TunnelServers(Family::of(server.ip()), *protocol);
                (set, Element::Server(*server))
            })
    }

    /// Packets of the user of tunnels.
    pub(super) fn to_carrier(&self) -> Option<Rule> {
        let tunnel = self.ceiling.exits.tunnel()?;
        Some(when([Match::SocketUser(tunnel.user())], goto(ChainName::Carrier)))
    }

    /// What carries tunnels may send: to their servers, each by its protocol. Not out of an exit's interface either: what goes
    /// in there, peers send.
    pub(super) fn carrier(&self) -> Chain {
        let mut rules = Vec::new();
        for family in Family::BOTH {
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                rules.push(when(
                    [
                        Match::L4(protocol.number()),
                        Match::TunnelServer(family, protocol),
                    ],
                    vec![Action::Accept],
                ));
            }
        }
        rules.push(when([], drop(Counter::TunnelStranger)));
        plain(ChainName::Carrier, rules)
    }
}
