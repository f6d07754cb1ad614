//! Matches as expressions.

use cell_netd_core::model::Family;
use cell_netd_core::policy::{CtDirection, CtState, MarkOf, Match, SetId, Side, Test};
use netlink_packet_netfilter::nftables::{Expressions, MetaKey, Operator, Register};

use super::parts::{
    bitwise, bitwise_at, byte, compare, equal, lookup, meta, nfproto, number, octets, other, padded, payload,
};

use Register::{Reg1, Reg2, Reg3, Reg32_01, Reg32_02, Reg32_03, Reg32_05, Reg32_09};

/// NFT_PAYLOAD_NETWORK_HEADER.
const NETWORK: u32 = 1;
/// NFT_PAYLOAD_TRANSPORT_HEADER.
const TRANSPORT: u32 = 2;
/// enum nft_ct_keys.
const CT_STATE: u32 = 0;
const CT_DIRECTION: u32 = 1;
const CT_STATUS: u32 = 2;
pub(super) const CT_MARK: u32 = 3;
const CT_PROTO_DST: u32 = 12;
const CT_SRC_IP: u32 = 19;
const CT_DST_IP: u32 = 20;
const CT_SRC_IP6: u32 = 21;
/// NF_CT_STATE_INVALID_BIT, NF_CT_STATE_BIT(IP_CT_ESTABLISHED), NF_CT_STATE_BIT(IP_CT_RELATED).
const STATE_INVALID: u32 = 1;
const STATE_ESTABLISHED: u32 = 2;
const STATE_RELATED: u32 = 4;
/// IPS_DST_NAT (include/uapi/linux/netfilter/nf_conntrack_common.h).
const STATUS_DNAT: u32 = 1 << 5;
/// IPS_CONFIRMED.
const STATUS_CONFIRMED: u32 = 1 << 3;

/// One match.
pub(super) fn matching(condition: &Match) -> Vec<Expressions> {
    match condition {
        Match::Interface { side, name, is } => named(*side, &padded(name), *is),
        // A shorter value is held against the name's first bytes, as nft(8) has it of `iifname "cellsvc*"`.
        Match::InterfaceLike { side, prefix, is } => named(*side, prefix.as_str().as_bytes(), *is),
        Match::Host {
            family,
            address,
            interface,
            is,
        } => on_bridge(*family, *address, *interface, *is),
        Match::Address(family, side, test) => header(*family, *side, *test),
        Match::L4(number) => vec![meta(MetaKey::L4Proto, Reg1), equal(&[*number])],
        Match::DestinationPort(port) => vec![payload(TRANSPORT, 2, 2, Reg1), equal(&port.to_be_bytes())],
        Match::SourcePort(port) => vec![payload(TRANSPORT, 0, 2, Reg1), equal(&port.to_be_bytes())],
        Match::ToMachine => to_machine(),
        Match::PortIn(set) => port_in(*set),
        Match::EchoRequest(family) => echo_request(*family),
        // Byte 13 of the TCP header: SYN is bit 1, RST bit 2.
        Match::TcpSyn => vec![
            payload(TRANSPORT, 13, 1, Reg1),
            bitwise(&[0x06], &[0]),
            equal(&[0x02]),
        ],
        Match::ServiceRequest(family) => service(*family, Side::Source, Side::Destination, 2),
        Match::ServiceAnswer(family) => service(*family, Side::Destination, Side::Source, 0),
        Match::State(state) => conntrack_bits(CT_STATE, state_bits(*state)),
        Match::Direction(direction) => {
            vec![conntrack(CT_DIRECTION, None), equal(&[ct_direction(*direction)])]
        }
        Match::Translated => conntrack_bits(CT_STATUS, STATUS_DNAT),
        Match::FlowPeer(family, set) => {
            vec![
                conntrack_source(*family, CtDirection::Original),
                lookup(*set, false),
            ]
        }
        Match::FlowTargetNot(family, set) => {
            vec![conntrack_source(*family, CtDirection::Reply), lookup(*set, true)]
        }
        Match::InterfaceIn(side, set) => vec![meta(name_key(*side), Reg1), lookup(*set, false)],
        Match::Marked(of, mask) => vec![
            mark_of(*of, Reg1),
            bitwise(&mask.to_ne_bytes(), &[0; 4]),
            compare(Operator::NotEqual, &[0; 4]),
        ],
        Match::WayOut(family, of, mask) => way_out(*family, *of, *mask),
        Match::WayIn(family, mask) => way_in(*family, *mask),
        Match::FirstOfFlow => first_of_flow(),
        Match::RelayRequest(family, mask) => relay_way(*family, Side::Source, 2, *mask),
        Match::RelayAnswer(family, mask) => relay_way(*family, Side::Destination, 0, *mask),
        Match::RelayServer(family) => relay_end(*family, SetId::RelayServers(*family)),
        Match::RelayResolver(family) => relay_end(*family, SetId::RelayResolvers(*family)),
        Match::TunnelServer(family, protocol) => relay_end(*family, SetId::TunnelServers(*family, *protocol)),
        Match::Called => relay_end(Family::V4, SetId::Called),
        Match::EntryTo(set) => entry_to(*set),
        Match::FlowEntry(set) => flow_entry(*set),
        Match::FlowGranted(side) => flow_granted(*side),
        Match::EntryWay(side) => entry_way(*side),
        Match::SocketUser(id) => vec![meta(MetaKey::SocketUserId, Reg1), equal(&id.to_ne_bytes())],
    }
}

/// IPv4, and the routing table `local` has the destination.
fn to_machine() -> Vec<Expressions> {
    // NFTA_FIB_DREG, RESULT = NFT_FIB_RESULT_ADDRTYPE, FLAGS = NFTA_FIB_F_DADDR; RTN_LOCAL.
    let kind = other("fib", vec![number(1, 1), number(2, 3), number(3, 2)]);
    is_ipv4()
        .into_iter()
        .chain([kind, equal(&2_u32.to_ne_bytes())])
        .collect()
}

/// (destination, protocol, destination port), looked up in the set.
fn entry_to(set: SetId) -> Vec<Expressions> {
    let found = lookup(set, false);
    is_ipv4().into_iter().chain(end_to()).chain([found]).collect()
}

/// The packet's destination, protocol and destination port, in consecutive registers from the first.
pub(super) fn end_to() -> [Expressions; 3] {
    [
        header_address(Family::V4, Side::Destination, Reg1),
        meta(MetaKey::L4Proto, Reg32_01),
        payload(TRANSPORT, 2, 2, Reg32_02),
    ]
}

/// What the flow was opened to: address, protocol, port.
fn flow_to([first, second, third]: [Register; 3]) -> [Expressions; 3] {
    let original = |key, register: Register| {
        let direction = byte(3, ct_direction(CtDirection::Original));
        other("ct", vec![number(1, register.into()), number(2, key), direction])
    };
    [
        original(CT_DST_IP, first),
        meta(MetaKey::L4Proto, second),
        original(CT_PROTO_DST, third),
    ]
}

/// What the flow was opened to, looked up in the set.
fn flow_entry(set: SetId) -> Vec<Expressions> {
    let found = lookup(set, false);
    let flow = flow_to([Reg1, Reg32_01, Reg32_02]);
    flow.into_iter().chain([found]).collect()
}

/// (that address, what the flow was opened to), looked up in the services.
fn flow_granted(peer: Side) -> Vec<Expressions> {
    let address = header_address(Family::V4, peer, Reg1);
    let flow = flow_to([Reg32_01, Reg32_02, Reg32_03]);
    let found = lookup(SetId::Services(Family::V4), false);
    let key = [address].into_iter().chain(flow);
    is_ipv4().into_iter().chain(key).chain([found]).collect()
}

/// (what the flow was opened to, that address and its port), looked up in the ways of entries.
fn entry_way(container: Side) -> Vec<Expressions> {
    let offset = match container {
        Side::Source => 0,
        Side::Destination => 2,
    };
    let flow = flow_to([Reg1, Reg32_01, Reg32_02]);
    let end = [
        header_address(Family::V4, container, Reg32_03),
        payload(TRANSPORT, offset, 2, Reg2),
        lookup(SetId::EntryWays, false),
    ];
    is_ipv4().into_iter().chain(flow).chain(end).collect()
}

fn is_ipv4() -> [Expressions; 2] {
    [meta(MetaKey::Nfproto, Reg1), equal(&[nfproto(Family::V4)])]
}

/// (protocol, destination port), looked up in the set.
fn port_in(set: SetId) -> Vec<Expressions> {
    vec![
        meta(MetaKey::L4Proto, Reg1),
        payload(TRANSPORT, 2, 2, Reg32_01),
        lookup(set, false),
    ]
}

/// The interface's name, or as many bytes of it as there are.
fn named(side: Side, name: &[u8], is: bool) -> Vec<Expressions> {
    let operator = if is { Operator::Equal } else { Operator::NotEqual };
    vec![meta(name_key(side), Reg1), compare(operator, name)]
}

/// (address, interface), looked up in the family's containers.
fn on_bridge(family: Family, address: Side, interface: Side, is: bool) -> Vec<Expressions> {
    let second = match family {
        Family::V4 => Reg32_01,
        Family::V6 => Reg2,
    };
    vec![
        meta(MetaKey::Nfproto, Reg1),
        equal(&[nfproto(family)]),
        header_address(family, address, Reg1),
        meta(name_key(interface), second),
        lookup(SetId::ServiceHosts(family), !is),
    ]
}

fn first_of_flow() -> Vec<Expressions> {
    vec![
        conntrack(CT_STATUS, None),
        bitwise(&STATUS_CONFIRMED.to_ne_bytes(), &[0; 4]),
        equal(&[0; 4]),
    ]
}

/// (destination, destination port), looked up in that set of the family.
fn relay_end(family: Family, set: SetId) -> Vec<Expressions> {
    let found = lookup(set, false);
    let end = end(family, Side::Destination, 2);
    end.into_iter().chain([found]).collect()
}

/// An address in the first register and a port of the transport header after it.
fn end(family: Family, side: Side, port_offset: u32) -> [Expressions; 4] {
    let second = match family {
        Family::V4 => Reg32_01,
        Family::V6 => Reg2,
    };
    [
        meta(MetaKey::Nfproto, Reg1),
        equal(&[nfproto(family)]),
        header_address(family, side, Reg1),
        payload(TRANSPORT, port_offset, 2, second),
    ]
}

/// (address, port, those bits of the flow's mark), looked up in the family's ways to the relay.
fn relay_way(family: Family, peer: Side, port_offset: u32, mask: u32) -> Vec<Expressions> {
    let third = match family {
        Family::V4 => Reg32_02,
        Family::V6 => Reg32_05,
    };
    let rest = [
        mark_of(MarkOf::Flow, third),
        bitwise_at(third, &mask.to_ne_bytes(), &[0; 4]),
        lookup(SetId::RelayWays(family), false),
    ];
    end(family, peer, port_offset).into_iter().chain(rest).collect()
}

fn name_key(side: Side) -> MetaKey {
    match side {
        Side::Source => MetaKey::Iifname,
        Side::Destination => MetaKey::Oifname,
    }
}

fn mark_of(of: MarkOf, register: Register) -> Expressions {
    match of {
        MarkOf::Packet => meta(MetaKey::Mark, register),
        MarkOf::Flow => other("ct", vec![number(1, register.into()), number(2, CT_MARK)]),
    }
}

fn way_out(family: Family, of: MarkOf, mask: u32) -> Vec<Expressions> {
    let is_family = [meta(MetaKey::Nfproto, Reg1), equal(&[nfproto(family)])];
    let source = header_address(family, Side::Source, Reg1);
    let rest = way(family, Side::Destination, of, mask);
    is_family.into_iter().chain([source]).chain(rest).collect()
}

fn way_in(family: Family, mask: u32) -> Vec<Expressions> {
    let source = conntrack_source(family, CtDirection::Original);
    let rest = way(family, Side::Source, MarkOf::Flow, mask);
    std::iter::once(source).chain(rest).collect()
}

/// After an address in the first register: the interface's name and the bits of the mark, looked up in the family's ways.
fn way(family: Family, side: Side, of: MarkOf, mask: u32) -> [Expressions; 4] {
    let (second, third) = match family {
        Family::V4 => (Reg32_01, Reg32_05),
        Family::V6 => (Reg2, Reg3),
    };
    [
        meta(name_key(side), second),
        mark_of(of, third),
        bitwise_at(third, &mask.to_ne_bytes(), &[0; 4]),
        lookup(SetId::ExitWays(family), false),
    ]
}

fn header(family: Family, side: Side, test: Test) -> Vec<Expressions> {
    let held_against = match test {
        Test::Is(address) => equal(&octets(address)),
        Test::In(set) => lookup(set, false),
        Test::NotIn(set) => lookup(set, true),
    };
    let is_family = [meta(MetaKey::Nfproto, Reg1), equal(&[nfproto(family)])];
    is_family
        .into_iter()
        .chain([header_address(family, side, Reg1), held_against])
        .collect()
}

fn echo_request(family: Family) -> Vec<Expressions> {
    // IPPROTO_ICMP and type 8 (RFC 792), IPPROTO_ICMPV6 and type 128 (RFC 4443).
    let (protocol, kind) = if family == Family::V4 { (1, 8) } else { (58, 128) };
    vec![
        meta(MetaKey::L4Proto, Reg1),
        equal(&[protocol]),
        payload(TRANSPORT, 0, 1, Reg1),
        equal(&[kind]),
    ]
}

fn state_bits(state: CtState) -> u32 {
    match state {
        CtState::Invalid => STATE_INVALID,
        CtState::Related => STATE_RELATED,
        CtState::EstablishedOrRelated => STATE_ESTABLISHED | STATE_RELATED,
    }
}

/// (address, address, protocol, port) in consecutive registers, looked up in the family's services.
fn service(family: Family, peer: Side, target: Side, port_offset: u32) -> Vec<Expressions> {
    let (second, third, fourth) = match family {
        Family::V4 => (Reg32_01, Reg32_02, Reg32_03),
        Family::V6 => (Reg2, Reg3, Reg32_09),
    };
    vec![
        meta(MetaKey::Nfproto, Reg1),
        equal(&[nfproto(family)]),
        header_address(family, peer, Reg1),
        header_address(family, target, second),
        meta(MetaKey::L4Proto, third),
        payload(TRANSPORT, port_offset, 2, fourth),
        lookup(SetId::Services(family), false),
    ]
}

pub(super) fn header_address(family: Family, side: Side, register: Register) -> Expressions {
    let (source, length) = if family == Family::V4 { (12, 4) } else { (8, 16) };
    let offset = if side == Side::Source {
        source
    } else {
        source + length
    };
    payload(NETWORK, offset, length, register)
}

fn ct_direction(direction: CtDirection) -> u8 {
    u8::from(direction == CtDirection::Reply)
}

fn conntrack(key: u32, direction: Option<CtDirection>) -> Expressions {
    let mut attributes = vec![number(1, 1), number(2, key)];
    attributes.extend(direction.map(|direction| byte(3, ct_direction(direction))));
    other("ct", attributes)
}

fn conntrack_source(family: Family, direction: CtDirection) -> Expressions {
    let key = if family == Family::V4 {
        CT_SRC_IP
    } else {
        CT_SRC_IP6
    };
    conntrack(key, Some(direction))
}

fn conntrack_bits(key: u32, bits: u32) -> Vec<Expressions> {
    vec![
        conntrack(key, None),
        bitwise(&bits.to_ne_bytes(), &[0; 4]),
        compare(Operator::NotEqual, &[0; 4]),
    ]
}
