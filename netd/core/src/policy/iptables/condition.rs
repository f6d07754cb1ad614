//! Conditions of a rule, in iptables' words.

use super::rules::{At, ICMP, ICMPV6, Writer, plain};
use super::{mark_module, sets};
use crate::model::{Family, Protocol};
use crate::policy::element::{Element, SetId};
use crate::policy::ruleset::{ChainName, CtDirection, CtState, MarkOf, Match, Side, Test};

impl Writer<'_> {
    pub(super) fn in_set(&self, set: SetId, directions: &str) -> String {
        format!("-m set --match-set {} {directions}", sets::name(set, self.family))
    }

    /// Writes it down; none: it cannot be said.
    #[expect(
        clippy::too_many_lines,
        reason = "a closed list, a few lines for each condition"
    )]
    pub(super) fn condition(&mut self, at: &mut At, of: ChainName, condition: &Match) -> Option<()> {
        let family = self.family;
        match condition {
            Match::Interface { side, name, is } => {
                let flag = match side {
                    Side::Source => 'i',
                    Side::Destination => 'o',
                };
                self.head(
                    at,
                    flag,
                    format!("{}{}", if *is { "" } else { "!" }, plain(name)?),
                );
            }
            Match::InterfaceLike { side, prefix, is } => {
                let flag = match side {
                    Side::Source => 'i',
                    Side::Destination => 'o',
                };
                // What begins so, in iptables' words.
                let like = format!("{}{}+", if *is { "" } else { "!" }, plain(prefix)?);
                self.head(at, flag, like);
            }
            Match::Host {
                family: _,
                address,
                interface,
                is,
            } => {
                let name = sets::name(SetId::ServiceHosts(family), family);
                let ends = [*address, *interface].map(|side| match side {
                    Side::Source => "src",
                    Side::Destination => "dst",
                });
                let not = if *is { "" } else { "! " };
                at.modules
                    .push(format!("-m set {not}--match-set {name} {}", ends.join(",")));
            }
            Match::Address(_, side, test) => {
                let (flag, direction) = match side {
                    Side::Source => ('s', "src"),
                    Side::Destination => ('d', "dst"),
                };
                match test {
                    Test::Is(address) => {
                        let length = if address.is_ipv4() { 32 } else { 128 };
                        self.head(at, flag, format!("{address}/{length}"));
                    }
                    Test::In(set) => at.modules.push(self.in_set(*set, direction)),
                    Test::NotIn(set) => {
                        let name = sets::name(*set, family);
                        at.modules
                            .push(format!("-m set ! --match-set {name} {direction}"));
                    }
                }
            }
            Match::L4(number) => {
                let name = match (*number, family) {
                    (ICMP, Family::V4) => "icmp".to_owned(),
                    (ICMPV6, Family::V6) => "ipv6-icmp".to_owned(),
                    (number, _) => {
                        at.protocol = Protocol::from_number(number);
                        at.protocol?.to_string()
                    }
                };
                self.head(at, 'p', name);
            }
            Match::DestinationPort(port) => {
                let protocol = at.protocol?;
                at.modules.push(format!("-m {protocol} --dport {port}"));
            }
            Match::SourcePort(port) => {
                let protocol = at.protocol?;
                at.modules.push(format!("-m {protocol} --sport {port}"));
            }
            Match::ToMachine => at.modules.push("-m addrtype --dst-type LOCAL".to_owned()),
            Match::PortIn(set) => at.modules.push(self.in_set(*set, "dst,dst")),
            Match::EchoRequest(Family::V4) => {
                self.head(at, 'p', "icmp".to_owned());
                at.modules.push("-m icmp --icmp-type 8".to_owned());
            }
            Match::EchoRequest(Family::V6) => {
                self.head(at, 'p', "ipv6-icmp".to_owned());
                at.modules.push("-m icmp6 --icmpv6-type 128".to_owned());
            }
            Match::TcpSyn => {
                at.protocol.filter(|protocol| *protocol == Protocol::Tcp)?;
                at.modules.push("-m tcp --tcp-flags SYN,RST SYN".to_owned());
            }
            Match::State(state) => {
                let state = match state {
                    CtState::Invalid => "INVALID",
                    CtState::Related => "RELATED",
                    CtState::EstablishedOrRelated => "RELATED,ESTABLISHED",
                };
                at.modules.push(format!("-m conntrack --ctstate {state}"));
            }
            Match::Direction(CtDirection::Original) => {
                at.modules.push("-m conntrack --ctdir ORIGINAL".to_owned());
            }
            Match::Direction(CtDirection::Reply) => at.modules.push("-m conntrack --ctdir REPLY".to_owned()),
            Match::Translated => at.modules.push("-m conntrack --ctstate DNAT".to_owned()),
            Match::ServiceRequest(_) => at
                .modules
                .push(self.in_set(SetId::Services(family), "src,dst,dst")),
            Match::ServiceAnswer(_) => at
                .modules
                .push(self.in_set(SetId::Services(family), "dst,src,src")),
            // No set is asked about a flow's addresses. In an answer, errors about the flow included, who opened it is whom the
            // packet goes to: translations of sources are undone before it is routed.
            Match::FlowPeer(_, set) => {
                answers(of).then_some(())?;
                at.modules.push(self.in_set(*set, "dst"));
            }
            Match::FlowTargetNot(_, set) => self.target_not(at, *set),
            Match::InterfaceIn(side, set) => at.modules.push(self.in_set(
                *set,
                match side {
                    Side::Source => "src,src",
                    Side::Destination => "dst,dst",
                },
            )),
            Match::Marked(of, mask) => {
                let module = mark_module(*of);
                at.modules.push(format!("-m {module} ! --mark 0x0/{mask:#x}"));
            }
            Match::WayOut(_, MarkOf::Packet, mask) => {
                // The packet's mark is that of its source: nobody else gives one (`marking.rs`).
                at.modules.push(self.in_set(SetId::ExitWays(family), "src,dst"));
                at.modules.push(format!("-m mark ! --mark 0x0/{mask:#x}"));
            }
            Match::WayOut(_, MarkOf::Flow, mask) => {
                at.modules.push(self.in_set(SetId::ExitWays(family), "src,dst"));
                self.flow_of_marked(at, *mask);
            }
            Match::WayIn(_, mask) => {
                at.modules.push(self.in_set(SetId::ExitWays(family), "dst,src"));
                self.flow_of(at, SetId::ExitMarks(family), "dst", *mask);
            }
            Match::FirstOfFlow => at.modules.push("-m conntrack ! --ctstatus CONFIRMED".to_owned()),
            Match::RelayRequest(_, mask) => {
                at.modules.push(self.in_set(SetId::RelayWays(family), "src,dst"));
                self.flow_of(at, SetId::RelayMarks(family), "src", *mask);
            }
            Match::RelayAnswer(_, mask) => {
                at.modules.push(self.in_set(SetId::RelayWays(family), "dst,src"));
                self.flow_of(at, SetId::RelayMarks(family), "dst", *mask);
            }
            Match::RelayServer(_) => at
                .modules
                .push(self.in_set(SetId::RelayServers(family), "dst,dst")),
            Match::TunnelServer(_, protocol) => at
                .modules
                .push(self.in_set(SetId::TunnelServers(family, *protocol), "dst,dst")),
            Match::RelayResolver(_) => at
                .modules
                .push(self.in_set(SetId::RelayResolvers(family), "dst,dst")),
            Match::Called => at.modules.push(self.in_set(SetId::Called, "dst,dst")),
            Match::EntryTo(set) => at.modules.push(self.in_set(*set, "dst,dst")),
            Match::FlowEntry(_) => self.flow_of_entry(at, of)?,
            // Judged before (`entries.rs`); elsewhere they cannot be said.
            Match::FlowGranted(_) | Match::EntryWay(_) => return None,
            Match::SocketUser(id) => at.modules.push(format!("-m owner --uid-owner {id}")),
        }
        Some(())
    }

    /// Who answers the flow is in none of the set's ranges, which are few and no peer's: a rule for each.
    fn target_not(&mut self, at: &mut At, set: SetId) {
        if at.chain == at.top || !at.spec().is_empty() {
            self.split(at);
        }
        let elements = self.ruleset.elements.get(&set);
        let ranges = elements.into_iter().flatten().flat_map(|element| match element {
            Element::Range(first, last) => sets::prefixes(*first, *last),
            _ => vec![],
        });
        let lines: Vec<String> = ranges
            .map(|net| format!("-m conntrack --ctreplsrc {} -j RETURN", sets::written(net)))
            .collect();
        for line in lines {
            self.push(at.table, &at.chain, line);
        }
    }

    /// The flow's mark is that of the peer, which the packet bears. There is no such comparison, so the one is added to the other
    /// without carry (`--restore-mark` with no bits cleared, xt_connmark.c) and is 0 where they are equal, and is added again.
    fn flow_of_marked(&mut self, at: &mut At, mask: u32) {
        self.split(at);
        let add = format!("-j CONNMARK --restore-mark --nfmask 0x0 --ctmask {mask:#x}");
        self.push(
            at.table,
            &at.chain,
            format!("-m mark --mark 0x0/{mask:#x} -j RETURN"),
        );
        self.push(at.table, &at.chain, add.clone());
        let asking = self.descend(at);
        let equal = format!("-m mark --mark 0x0/{mask:#x} -j {}", at.chain);
        self.push(at.table, &asking, equal);
        self.push(at.table, &asking, add.clone());
        self.push(at.table, &at.chain, add);
    }

    /// The flow's mark is what the map has for the peer that the packet comes from or goes to. The packet bears none of its own,
    /// and none afterwards.
    fn flow_of(&mut self, at: &mut At, map: SetId, direction: &str, mask: u32) {
        self.split(at);
        let clear = format!("-j MARK --set-xmark 0x0/{mask:#x}");
        let map = sets::name(map, self.family);
        for line in [
            format!("-m mark ! --mark 0x0/{mask:#x} -j RETURN"),
            format!("-j SET --map-set {map} {direction} --map-mark"),
            format!("-m mark --mark 0x0/{mask:#x} -j RETURN"),
            format!("-j CONNMARK --restore-mark --nfmask 0x0 --ctmask {mask:#x}"),
        ] {
            self.push(at.table, &at.chain, line);
        }
        let asking = self.descend(at);
        let equal = format!("-m mark --mark 0x0/{mask:#x} -j {}", at.chain);
        self.push(at.table, &asking, equal);
        self.push(at.table, &asking, clear);
    }
}

/// Whether only packets in reply direction come to the chain.
fn answers(name: ChainName) -> bool {
    matches!(name, ChainName::Answer | ChainName::InternetAnswer)
}
