//! Matches as expressions.

use cell_netd_core::model::Family;
use cell_netd_core::policy::{CtDirection, CtState, Match, SetId, Side, Test};
use netlink_packet_netfilter::nftables::{Expressions, MetaKey, Operator, Register};

use super::parts::{
    bitwise, byte, compare, equal, lookup, meta, nfproto, number, octets, other, padded, payload,
};

use Register::{Reg1, Reg2, Reg3, Reg32_01, Reg32_02, Reg32_03, Reg32_09};

/// NFT_PAYLOAD_NETWORK_HEADER.
const NETWORK: u32 = 1;
/// NFT_PAYLOAD_TRANSPORT_HEADER.
const TRANSPORT: u32 = 2;
/// enum nft_ct_keys.
const CT_STATE: u32 = 0;
const CT_DIRECTION: u32 = 1;
const CT_STATUS: u32 = 2;
const CT_SRC_IP: u32 = 19;
const CT_SRC_IP6: u32 = 21;
/// NF_CT_STATE_INVALID_BIT, NF_CT_STATE_BIT(IP_CT_ESTABLISHED), NF_CT_STATE_BIT(IP_CT_RELATED).
const STATE_INVALID: u32 = 1;
const STATE_ESTABLISHED: u32 = 2;
const STATE_RELATED: u32 = 4;
/// IPS_DST_NAT (include/uapi/linux/netfilter/nf_conntrack_common.h).
const STATUS_DNAT: u32 = 1 << 5;

/// One match.
pub(super) fn matching(condition: &Match) -> Vec<Expressions> {
    match condition {
        Match::Interface { side, name, is } => {
            let key = if *side == Side::Source {
                MetaKey::Iifname
            } else {
                MetaKey::Oifname
            };
            let operator = if *is { Operator::Equal } else { Operator::NotEqual };
            vec![meta(key, Reg1), compare(operator, &padded(name))]
        }
        Match::Address(family, side, test) => header(*family, *side, *test),
        Match::L4(number) => vec![meta(MetaKey::L4Proto, Reg1), equal(&[*number])],
        Match::DestinationPort(port) => vec![payload(TRANSPORT, 2, 2, Reg1), equal(&port.to_be_bytes())],
        Match::PortIn(set) => {
            vec![
                meta(MetaKey::L4Proto, Reg1),
                payload(TRANSPORT, 2, 2, Reg32_01),
                lookup(*set, false),
            ]
        }
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
    }
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

fn header_address(family: Family, side: Side, register: Register) -> Expressions {
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
