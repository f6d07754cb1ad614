//! Why a packet passes or not: the compiled policy, worked through as the kernel works through it.
//!
//! It reads the same [`Ruleset`] that goes into the kernel, not the spec, so that it cannot tell another story than the
//! rules; a test sends random packets through both.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use super::element::{Element, SetId};
use super::ruleset::{
    Action, Chain, ChainName, Counter, CtDirection, CtState, HookPoint, MarkOf, Match, Rule, Ruleset, Side,
    Test,
};
use super::text::render_rule;
use crate::model::{ExitMark, Family, InterfaceName, Port, Protocol};

/// Which way a packet takes through the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// To the machine itself.
    Local,
    /// Out again by this interface.
    Forwarded(InterfaceName),
    /// Nowhere: the routing refuses it.
    Unreachable,
}

/// What a packet is to its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It opens one.
    New,
    /// It belongs to one that its sender opened.
    Original,
    /// It answers in one that its receiver opened.
    Reply,
    /// It tells its receiver of an error in a flow that the receiver opened (ICMP).
    Error,
    /// It fits no flow.
    Invalid,
}

/// A packet, as the policy sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Where it came in.
    pub interface: InterfaceName,
    /// Its source address.
    pub source: IpAddr,
    /// Its destination address, of the same family.
    pub destination: IpAddr,
    /// What it carries.
    pub payload: Payload,
    /// What it is to its flow.
    pub flow: Flow,
}

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// TCP or UDP with source and destination port.
    Ports(Protocol, u16, u16),
    /// An ICMP or ICMPv6 echo request.
    EchoRequest,
    /// Something else of ICMP or ICMPv6.
    OtherIcmp,
    /// Another protocol of this number.
    Other(u8),
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Passes,
    /// It is dropped, and counted here.
    Dropped(Counter),
    /// It is not let through, its sender is told, and it is counted here.
    Refused(Counter),
    /// The routing refuses it, and its sender is told.
    Unreachable,
    /// It is dropped by a rule without a counter; the compiler makes none.
    DroppedUncounted,
}

/// One rule that the packet met and matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The chain.
    pub chain: ChainName,
    /// Its place in the chain, from 1.
    pub rule: usize,
    /// The rule as nft(8) writes it.
    pub text: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule {}: {}", self.chain.as_str(), self.rule, self.text)
    }
}

/// Why, rule by rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What becomes of the packet.
    pub verdict: Verdict,
    /// The rules that matched, in the order in which they were met.
    pub steps: Vec<Step>,
    /// Where its destination is translated to, if it is.
    pub translated: Option<(IpAddr, u16)>,
    /// Whether its source becomes the machine's own on the way out.
    pub masqueraded: bool,
    /// The mark by which it is routed; 0: as the machine's own.
    pub mark: u32,
}

/// Works through the policy. `way` says where routing sends a packet of this destination (after translation) and mark. Of a
/// flow that is open already it is taken that it was opened through the exit that its peer has now.
pub fn explain(ruleset: &Ruleset, packet: &Packet, way: impl Fn(IpAddr, u32) -> Way) -> Explanation {
    let mut walk = Walk {
        ruleset,
        packet,
        destination: packet.destination,
        port: packet.payload.destination_port(),
        outgoing: None,
        packet_mark: 0,
        flow_mark: 0,
        translated: None,
        masqueraded: false,
        steps: Vec::new(),
    };
    let verdict = walk.through(way);
    Explanation {
        verdict,
        steps: walk.steps,
        translated: walk.translated,
        masqueraded: walk.masqueraded,
        mark: walk.packet_mark,
    }
}

/// How a chain ends.
enum End {
    /// Its last rule is past.
    Through,
    /// The hook is done with the packet.
    Accepted,
    /// The packet is gone.
    Dropped(Verdict),
}

/// A map that the rule looks its source up in does not have it.
struct Unmapped;

struct Walk<'a> {
    ruleset: &'a Ruleset,
    packet: &'a Packet,
    destination: IpAddr,
    port: Option<u16>,
    outgoing: Option<InterfaceName>,
    packet_mark: u32,
    flow_mark: u32,
    translated: Option<(IpAddr, u16)>,
    masqueraded: bool,
    steps: Vec<Step>,
}

impl Walk<'_> {
    fn through(&mut self, way: impl Fn(IpAddr, u32) -> Way) -> Verdict {
        if self.packet.flow != Flow::New {
            let opener = self.opener();
            let family = Family::of(opener);
            let mark = self.exit_mark(family, opener);
            self.flow_mark = mark.or_else(|| self.relay_mark(family, opener)).unwrap_or(0);
        }
        if let Some(dropped) = self.hook(HookPoint::Prerouting) {
            return dropped;
        }
        let hooks = match way(self.destination, self.packet_mark) {
            Way::Local => vec![HookPoint::Input],
            Way::Unreachable => return Verdict::Unreachable,
            Way::Forwarded(interface) => {
                self.outgoing = Some(interface);
                vec![HookPoint::Forward, HookPoint::Postrouting]
            }
        };
        hooks
            .into_iter()
            .find_map(|hook| self.hook(hook))
            .unwrap_or(Verdict::Passes)
    }

    /// All base chains of a hook, the earliest first. What one accepts, the next still judges.
    fn hook(&mut self, point: HookPoint) -> Option<Verdict> {
        let ruleset = self.ruleset;
        let mut chains: Vec<&Chain> = ruleset.chains.iter().filter(|chain| of(chain, point)).collect();
        chains.sort_by_key(|chain| chain.hook.map(|hook| hook.priority));
        chains.into_iter().find_map(|chain| {
            // Chains of type nat see the packets that open a flow, and no other, and only until one has translated it.
            let is_nat = chain.hook.is_some_and(|hook| hook.nat);
            if is_nat
                && (self.packet.flow != Flow::New
                    || self.translated.is_some() && point == HookPoint::Prerouting)
            {
                return None;
            }
            match self.chain(chain) {
                End::Through | End::Accepted => None,
                End::Dropped(verdict) => Some(verdict),
            }
        })
    }

    fn chain(&mut self, chain: &Chain) -> End {
        for (index, rule) in chain.rules.iter().enumerate() {
            if !rule.matches.iter().all(|condition| self.holds(condition)) {
                continue;
            }
            self.steps.push(Step {
                chain: chain.name,
                rule: index + 1,
                text: render_rule(rule),
            });
            match self.act(rule) {
                Ok(Some(end)) => return end,
                Ok(None) => {}
                // The kernel counts it as one that does not match.
                Err(Unmapped) => drop(self.steps.pop()),
            }
        }
        End::Through
    }

    /// None: the next rule is looked at.
    fn act(&mut self, rule: &Rule) -> Result<Option<End>, Unmapped> {
        let mut counted = None;
        for action in &rule.actions {
            match action {
                Action::Count(counter) => counted = Some(*counter),
                Action::Drop => {
                    let verdict = counted.map_or(Verdict::DroppedUncounted, Verdict::Dropped);
                    return Ok(Some(End::Dropped(verdict)));
                }
                Action::Accept => return Ok(Some(End::Accepted)),
                Action::Jump(name) => match self.named(*name) {
                    End::Through => {}
                    end => return Ok(Some(end)),
                },
                Action::Goto(name) => return Ok(Some(self.named(*name))),
                Action::SetMark(_) | Action::ClampMss => {}
                Action::MarkBySource(family) => {
                    self.packet_mark = self.exit_mark(*family, self.packet.source).ok_or(Unmapped)?;
                }
                Action::SetFlowMark(mark) => self.flow_mark = *mark,
                Action::SaveMark(mask) => {
                    self.flow_mark = self.flow_mark & !mask | self.packet_mark & mask;
                }
                Action::Refuse => {
                    let verdict = counted.map_or(Verdict::DroppedUncounted, Verdict::Refused);
                    return Ok(Some(End::Dropped(verdict)));
                }
                Action::FlowMarkBySource(family) => {
                    self.flow_mark = self.relay_mark(*family, self.packet.source).ok_or(Unmapped)?;
                }
                Action::DnatBySource(family, address) => {
                    let port = self.relay_port(*family, self.packet.source).ok_or(Unmapped)?;
                    return Ok(Some(self.translate(*address, port)));
                }
                Action::DnatToEntry => {
                    let to = self.entry_target().ok_or(Unmapped)?;
                    return Ok(Some(self.translate((*to.ip()).into(), to.port())));
                }
                Action::Dnat(address, port) => return Ok(Some(self.translate(*address, *port))),
                Action::Masquerade => {
                    self.masqueraded = true;
                    return Ok(Some(End::Accepted));
                }
            }
        }
        Ok(None)
    }

    fn translate(&mut self, address: IpAddr, port: u16) -> End {
        (self.destination, self.port) = (address, Some(port));
        self.translated = Some((address, port));
        End::Accepted
    }

    fn named(&mut self, name: ChainName) -> End {
        let ruleset = self.ruleset;
        match ruleset.chains.iter().find(|chain| chain.name == name) {
            Some(chain) => self.chain(chain),
            None => End::Through,
        }
    }

    fn holds(&self, condition: &Match) -> bool {
        let packet = self.packet;
        match condition {
            Match::Interface { side, name, is } => (self.interface(*side) == Some(name)) == *is,
            Match::InterfaceLike { side, prefix, is } => self.begins(*side, prefix) == *is,
            Match::Host {
                family,
                address,
                interface,
                is,
            } => self.is_host(*family, *address, *interface) == Some(*is),
            Match::InterfaceIn(side, set) => self.is_link(*side, *set),
            Match::Address(family, side, test) => self.address_is(*family, *side, test),
            Match::L4(number) => packet.payload.protocol(packet.source) == *number,
            Match::DestinationPort(port) => self.port == Some(*port),
            Match::SourcePort(port) => self.comes_from(*port),
            Match::PortIn(set) => self.port_in(*set),
            Match::EchoRequest(family) => {
                packet.payload == Payload::EchoRequest && Family::of(packet.source) == *family
            }
            Match::TcpSyn => {
                matches!(packet.payload, Payload::Ports(Protocol::Tcp, ..)) && packet.flow == Flow::New
            }
            Match::State(state) => self.is_in_state(*state),
            Match::Direction(CtDirection::Reply) => matches!(packet.flow, Flow::Reply | Flow::Error),
            Match::Direction(CtDirection::Original) => matches!(packet.flow, Flow::New | Flow::Original),
            Match::FirstOfFlow => packet.flow == Flow::New,
            Match::Translated => self.translated.is_some(),
            Match::ServiceRequest(family) => {
                self.is_service(*family, packet.source, self.destination, self.port)
            }
            Match::ServiceAnswer(family) => {
                let port = packet.payload.ports().map(|(_, source, _)| source);
                self.is_service(*family, self.destination, packet.source, port)
            }
            Match::Marked(of, mask) => self.mark(*of) & mask != 0,
            Match::WayOut(family, of, mask) => self.is_way_out(*family, self.mark(*of) & mask),
            Match::WayIn(family, mask) => self.is_way_in(*family, self.flow_mark & mask),
            Match::RelayRequest(family, mask) => {
                let mark = self.flow_mark & mask;
                self.is_relay_way(*family, packet.source, self.port, mark)
            }
            Match::RelayAnswer(family, mask) => {
                let port = packet.payload.ports().map(|(_, source, _)| source);
                self.is_relay_way(*family, self.destination, port, self.flow_mark & mask)
            }
            Match::RelayServer(family) => self.is_end_of_relay(*family, SetId::RelayServers(*family)),
            Match::RelayResolver(family) => self.is_end_of_relay(*family, SetId::RelayResolvers(*family)),
            Match::TunnelServer(family, protocol) => {
                self.is_end_of_relay(*family, SetId::TunnelServers(*family, *protocol))
            }
            Match::Called => self.is_end_of_relay(Family::V4, SetId::Called),
            Match::EntryTo(set) => self.is_entry_to(*set),
            Match::FlowEntry(set) => self.is_flow_entry(*set),
            Match::FlowGranted(side) => self.is_granted(self.address(*side)),
            Match::EntryWay(side) => self.is_entry_way(*side),
            // Explained is what comes in, and from peers and containers: by their interfaces nothing asks where it is to.
            Match::SocketUser(_) | Match::ToMachine => false,
            Match::FlowPeer(family, set) => self.is_in(*family, *set, self.opener()) == Some(true),
            Match::FlowTargetNot(family, set) => self.is_in(*family, *set, self.target()) == Some(false),
        }
    }

    fn comes_from(&self, port: u16) -> bool {
        let ports = self.packet.payload.ports();
        ports.is_some_and(|(_, source, _)| source == port)
    }

    fn is_entry_to(&self, set: SetId) -> bool {
        self.entry_to().is_some_and(|entry| self.has(set, &entry))
    }

    fn is_flow_entry(&self, set: SetId) -> bool {
        let found = self.flow_entry();
        found.is_some_and(|(at, protocol)| self.has(set, &Element::Entry(at, protocol)))
    }

    /// Where the packet goes now, as entries are named.
    fn entry_to(&self) -> Option<Element> {
        let (protocol, ..) = self.packet.payload.ports()?;
        match self.destination {
            IpAddr::V4(address) => {
                let at = SocketAddrV4::new(address, self.port?);
                Some(Element::Entry(at, protocol))
            }
            IpAddr::V6(_) => None,
        }
    }

    /// What the flow was opened to. Of an answer that is not known.
    fn flow_entry(&self) -> Option<(SocketAddrV4, Protocol)> {
        let (protocol, _, port) = self.packet.payload.ports()?;
        match (self.packet.flow, self.packet.destination) {
            (Flow::New | Flow::Original, IpAddr::V4(address)) => {
                Some((SocketAddrV4::new(address, port), protocol))
            }
            (Flow::New | Flow::Original, IpAddr::V6(_)) | (Flow::Reply | Flow::Error | Flow::Invalid, _) => {
                None
            }
        }
    }

    fn entry_target(&self) -> Option<SocketAddrV4> {
        let (at, protocol) = self.flow_entry()?;
        let lowest = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let targets = self.ruleset.elements.get(&SetId::EntryTargets)?;
        match targets.range(Element::EntryTarget(at, protocol, lowest)..).next() {
            Some(Element::EntryTarget(of, by, to)) if (*of, *by) == (at, protocol) => Some(*to),
            _ => None,
        }
    }

    fn is_granted(&self, peer: IpAddr) -> bool {
        let Some((at, _)) = self.flow_entry() else {
            return false;
        };
        self.is_service(Family::V4, peer, (*at.ip()).into(), Some(at.port()))
    }

    fn is_entry_way(&self, container: Side) -> bool {
        let port = match container {
            Side::Source => self.packet.payload.ports().map(|(_, source, _)| source),
            Side::Destination => self.port,
        };
        let (Some((at, protocol)), IpAddr::V4(to), Some(port)) =
            (self.flow_entry(), self.address(container), port)
        else {
            return false;
        };
        let way = Element::EntryWay(at, protocol, SocketAddrV4::new(to, port));
        self.has(SetId::EntryWays, &way)
    }

    /// Whether (destination, destination port) is in that set of the family.
    fn is_end_of_relay(&self, family: Family, set: SetId) -> bool {
        let known = |port| self.has(set, &Element::Server((self.destination, port).into()));
        Family::of(self.destination) == family && self.port.is_some_and(known)
    }

    fn interface(&self, side: Side) -> Option<&InterfaceName> {
        match side {
            Side::Source => Some(&self.packet.interface),
            Side::Destination => self.outgoing.as_ref(),
        }
    }

    fn begins(&self, side: Side, prefix: &InterfaceName) -> bool {
        let name = self.interface(side);
        name.is_some_and(|name| name.as_str().starts_with(prefix.as_str()))
    }

    fn is_link(&self, side: Side, set: SetId) -> bool {
        self.interface(side)
            .is_some_and(|name| self.has(set, &Element::Link(name.into())))
    }

    /// None: it is of the other family.
    fn is_host(&self, family: Family, address: Side, interface: Side) -> Option<bool> {
        let address = self.address(address);
        let known = |by: &InterfaceName| {
            let host = Element::Host(address, by.into());
            self.has(SetId::ServiceHosts(family), &host)
        };
        (Family::of(address) == family).then(|| self.interface(interface).is_some_and(known))
    }

    fn address(&self, side: Side) -> IpAddr {
        match side {
            Side::Source => self.packet.source,
            Side::Destination => self.destination,
        }
    }

    fn address_is(&self, family: Family, side: Side, test: &Test) -> bool {
        let address = self.address(side);
        match test {
            Test::Is(other) => address == *other,
            Test::In(set) => self.is_in(family, *set, address) == Some(true),
            Test::NotIn(set) => self.is_in(family, *set, address) == Some(false),
        }
    }

    /// None: it is of the other family, of which the kernel's rule says nothing.
    fn is_in(&self, family: Family, set: SetId, address: IpAddr) -> Option<bool> {
        (Family::of(address) == family).then(|| self.has_address(set, address))
    }

    fn port_in(&self, set: SetId) -> bool {
        let found = self.packet.payload.ports().zip(self.port);
        found.is_some_and(|((protocol, ..), number)| self.has(set, &Element::Port(Port { protocol, number })))
    }

    fn is_in_state(&self, state: CtState) -> bool {
        match (state, self.packet.flow) {
            (CtState::Invalid, flow) => flow == Flow::Invalid,
            (CtState::Related, flow) => flow == Flow::Error,
            (CtState::EstablishedOrRelated, flow) => {
                matches!(flow, Flow::Original | Flow::Reply | Flow::Error)
            }
        }
    }

    /// Who opened the flow.
    fn opener(&self) -> IpAddr {
        match self.packet.flow {
            Flow::Reply | Flow::Error => self.destination,
            Flow::New | Flow::Original | Flow::Invalid => self.packet.source,
        }
    }

    /// Who answers in it.
    fn target(&self) -> IpAddr {
        match self.packet.flow {
            Flow::Reply | Flow::Error => self.packet.source,
            Flow::New | Flow::Original | Flow::Invalid => self.destination,
        }
    }

    fn mark(&self, of: MarkOf) -> u32 {
        match of {
            MarkOf::Packet => self.packet_mark,
            MarkOf::Flow => self.flow_mark,
        }
    }

    fn exit_mark(&self, family: Family, peer: IpAddr) -> Option<u32> {
        self.mark_in(SetId::ExitMarks(family), peer)
    }

    fn relay_mark(&self, family: Family, peer: IpAddr) -> Option<u32> {
        self.mark_in(SetId::RelayMarks(family), peer)
    }

    fn relay_port(&self, family: Family, peer: IpAddr) -> Option<u16> {
        let ports = self.ruleset.elements.get(&SetId::RelayPorts(family))?;
        match ports.range(Element::RelayPort(peer, 0)..).next() {
            Some(Element::RelayPort(of, port)) if *of == peer => Some(*port),
            _ => None,
        }
    }

    fn is_relay_way(&self, family: Family, peer: IpAddr, port: Option<u16>, mark: u32) -> bool {
        let (Some(port), Some(mark)) = (port, ExitMark::try_new(mark)) else {
            return false;
        };
        Family::of(peer) == family && self.has(SetId::RelayWays(family), &Element::RelayWay(peer, port, mark))
    }

    fn mark_in(&self, map: SetId, peer: IpAddr) -> Option<u32> {
        let marks = self.ruleset.elements.get(&map)?;
        // In the order of peers: the first that is not before the peer's with the lowest mark.
        let lowest = Element::ExitMark(peer, ExitMark::try_new(1)?);
        match marks.range(lowest..).next() {
            Some(Element::ExitMark(of, mark)) if *of == peer => Some(mark.value()),
            _ => None,
        }
    }

    fn is_way_out(&self, family: Family, mark: u32) -> bool {
        self.is_way(family, self.packet.source, self.outgoing.as_ref(), mark)
    }

    fn is_way_in(&self, family: Family, mark: u32) -> bool {
        self.is_way(family, self.opener(), Some(&self.packet.interface), mark)
    }

    fn is_way(&self, family: Family, peer: IpAddr, by: Option<&InterfaceName>, mark: u32) -> bool {
        let (Some(by), Some(mark)) = (by, ExitMark::try_new(mark)) else {
            return false;
        };
        Family::of(peer) == family
            && self.has(SetId::ExitWays(family), &Element::ExitWay(peer, by.into(), mark))
    }

    fn is_service(&self, family: Family, peer: IpAddr, address: IpAddr, port: Option<u16>) -> bool {
        let Some(((protocol, ..), port)) = self.packet.payload.ports().zip(port) else {
            return false;
        };
        let element = match (peer, address) {
            (IpAddr::V4(peer), IpAddr::V4(address)) => Element::Service4(peer, address, protocol, port),
            (IpAddr::V6(peer), IpAddr::V6(address)) => Element::Service6(peer, address, protocol, port),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        Family::of(peer) == family && self.has(SetId::Services(family), &element)
    }

    fn has(&self, set: SetId, element: &Element) -> bool {
        let elements = self.ruleset.elements.get(&set);
        elements.is_some_and(|elements| elements.contains(element))
    }

    fn has_address(&self, set: SetId, address: IpAddr) -> bool {
        if self.has(set, &Element::Address(address)) {
            return true;
        }
        let elements = self.ruleset.elements.get(&set).into_iter().flatten();
        let mut ranges = elements.filter_map(|element| match element {
            Element::Range(first, last) => Some(*first..=*last),
            Element::Address(_)
            | Element::Service4(..)
            | Element::Service6(..)
            | Element::Port(_)
            | Element::ExitMark(..)
            | Element::ExitWay(..)
            | Element::Link(_)
            | Element::RelayPort(..)
            | Element::RelayWay(..)
            | Element::Host(..)
            | Element::Entry(..)
            | Element::EntryTarget(..)
            | Element::EntryWay(..)
            | Element::Server(_) => None,
        });
        // Sets of peers have no ranges and the others are short.
        !matches!(
            set,
            SetId::Peers(_)
                | SetId::Internet(_)
                | SetId::PeerToPeer(_)
                | SetId::Exited(_)
                | SetId::Relayed(_)
                | SetId::ServiceAddresses(_)
        ) && ranges.any(|range| range.contains(&address))
    }
}

fn of(chain: &Chain, point: HookPoint) -> bool {
    chain.hook.is_some_and(|hook| hook.point == point)
}

impl Payload {
    fn ports(self) -> Option<(Protocol, u16, u16)> {
        match self {
            Payload::Ports(protocol, source, destination) => Some((protocol, source, destination)),
            Payload::EchoRequest | Payload::OtherIcmp | Payload::Other(_) => None,
        }
    }

    fn destination_port(self) -> Option<u16> {
        self.ports().map(|(_, _, destination)| destination)
    }

    /// The number in the IP header of a packet of the address's family.
    fn protocol(self, address: IpAddr) -> u8 {
        match (self, Family::of(address)) {
            (Payload::Ports(protocol, ..), _) => protocol.number(),
            (Payload::EchoRequest | Payload::OtherIcmp, Family::V4) => 1,
            (Payload::EchoRequest | Payload::OtherIcmp, Family::V6) => 58,
            (Payload::Other(number), _) => number,
        }
    }
}
