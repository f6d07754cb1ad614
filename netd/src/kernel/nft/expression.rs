//! The policy's matches and actions as nftables expressions (include/uapi/linux/netfilter/nf_tables.h).
//!
//! Registers are written as the kernel dumps them (NFT_REG_1 is NFT_REG32_00), so that a rule that was read back can
//! be compared attribute by attribute.

use std::net::IpAddr;

use cell_netd_core::model::{Family, InterfaceName, Mark};
use cell_netd_core::policy::{
    Action, ChainName, Counter, CtDirection, CtState, Match, Rule, SetId, Side, Test,
};
use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, Expressions, Immediate, Lookup, Meta, MetaKey, Operator, Payload, Register,
    Verdict, VerdictAttribute,
};

use Register::{Reg1, Reg2, Reg3, Reg32_01, Reg32_02, Reg32_03, Reg32_09};

/// NFPROTO_IPV4, NFPROTO_IPV6.
const NFPROTO: [u8; 2] = [2, 10];
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
/// NF_DROP, NF_ACCEPT.
const DROP: u32 = 0;
const ACCEPT: u32 = 1;

/// A whole rule.
pub(super) fn rule(rule: &Rule) -> Vec<Expressions> {
    rule.matches
        .iter()
        .flat_map(matching)
        .chain(rule.actions.iter().flat_map(acting))
        .collect()
}

/// `meta mark & MASK == VALUE counter accept`: the one rule in Docker's world. iptables-nft can show this form; it
/// would show a set lookup as "accept all" and refuse to work beside `ct state`.
pub(super) fn passage(mark: Mark) -> Vec<Expressions> {
    vec![
        meta(MetaKey::Mark, Reg1),
        bitwise(&mark.mask().to_ne_bytes(), &[0; 4]),
        compare(Operator::Equal, &mark.value().to_ne_bytes()),
        other("counter", vec![bytes64(1, 0), bytes64(2, 0)]),
        verdict(Verdict::Other(ACCEPT), None),
    ]
}

fn matching(condition: &Match) -> Vec<Expressions> {
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
        Match::Address(family, side, test) => {
            let mut expressions = vec![meta(MetaKey::Nfproto, Reg1), equal(&[nfproto(*family)])];
            expressions.push(header_address(*family, *side, Reg1));
            expressions.push(match test {
                Test::Is(address) => equal(&octets(*address)),
                Test::In(set) => lookup(*set, false),
                Test::NotIn(set) => lookup(*set, true),
            });
            expressions
        }
        Match::L4(number) => vec![meta(MetaKey::L4Proto, Reg1), equal(&[*number])],
        Match::DestinationPort(port) => vec![payload(TRANSPORT, 2, 2, Reg1), equal(&port.to_be_bytes())],
        Match::PortIn(set) => {
            vec![
                meta(MetaKey::L4Proto, Reg1),
                payload(TRANSPORT, 2, 2, Reg32_01),
                lookup(*set, false),
            ]
        }
        Match::EchoRequest(family) => {
            let (protocol, kind) = if *family == Family::V4 { (1, 8) } else { (58, 128) };
            vec![
                meta(MetaKey::L4Proto, Reg1),
                equal(&[protocol]),
                payload(TRANSPORT, 0, 1, Reg1),
                equal(&[kind]),
            ]
        }
        // Byte 13 of the TCP header: SYN is bit 1, RST bit 2.
        Match::TcpSyn => vec![
            payload(TRANSPORT, 13, 1, Reg1),
            bitwise(&[0x06], &[0]),
            equal(&[0x02]),
        ],
        Match::State(state) => {
            let bits = match state {
                CtState::Invalid => STATE_INVALID,
                CtState::Related => STATE_RELATED,
                CtState::EstablishedOrRelated => STATE_ESTABLISHED | STATE_RELATED,
            };
            conntrack_bits(CT_STATE, bits)
        }
        Match::Direction(direction) => {
            vec![conntrack(CT_DIRECTION, None), equal(&[ct_direction(*direction)])]
        }
        Match::Translated => conntrack_bits(CT_STATUS, STATUS_DNAT),
        Match::ServiceRequest(family) => service(*family, Side::Source, Side::Destination, 2),
        Match::ServiceAnswer(family) => service(*family, Side::Destination, Side::Source, 0),
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

fn acting(action: &Action) -> Vec<Expressions> {
    match action {
        Action::Count(counter) => vec![counted(*counter)],
        Action::Drop => vec![verdict(Verdict::Other(DROP), None)],
        Action::Accept => vec![verdict(Verdict::Other(ACCEPT), None)],
        Action::Jump(chain) => vec![verdict(Verdict::Jump, Some(*chain))],
        Action::Goto(chain) => vec![verdict(Verdict::Goto, Some(*chain))],
        Action::SetMark(mark) => vec![
            meta(MetaKey::Mark, Reg1),
            bitwise(&(!mark.mask()).to_ne_bytes(), &mark.value().to_ne_bytes()),
            Expressions::Meta(vec![Meta::Key(MetaKey::Mark), Meta::SourceRegister(Reg1)]),
        ],
        Action::Dnat(address, port) => vec![
            immediate(Reg1, &octets(*address)),
            immediate(Reg2, &port.to_be_bytes()),
            // NFTA_NAT_TYPE = NFT_NAT_DNAT, FAMILY, REG_ADDR_MIN, REG_PROTO_MIN.
            other(
                "nat",
                vec![
                    number(1, 1),
                    number(2, nfproto(Family::of(*address)).into()),
                    number(3, 1),
                    number(5, 2),
                ],
            ),
        ],
        Action::Masquerade => vec![other("masq", vec![])],
        Action::ClampMss => vec![
            // rt mtu (NFT_RT_TCPMSS), to network byte order, into TCP option 2 at offset 2.
            other("rt", vec![number(1, 1), number(2, 3)]),
            other(
                "byteorder",
                vec![
                    number(1, 1),
                    number(2, 1),
                    number(3, 1),
                    number(4, 2),
                    number(5, 2),
                ],
            ),
            other(
                "exthdr",
                vec![number(7, 1), byte(2, 2), number(3, 2), number(4, 2), number(6, 1)],
            ),
        ],
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

fn nfproto(family: Family) -> u8 {
    NFPROTO[usize::from(family == Family::V6)]
}

fn ct_direction(direction: CtDirection) -> u8 {
    u8::from(direction == CtDirection::Reply)
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

fn counted(counter: Counter) -> Expressions {
    let mut name = counter.name().as_bytes().to_vec();
    name.push(0);
    // NFTA_OBJREF_IMM_TYPE = NFT_OBJECT_COUNTER, NFTA_OBJREF_IMM_NAME.
    other("objref", vec![number(1, 1), DefaultNla::new(2, name)])
}

fn meta(key: MetaKey, register: Register) -> Expressions {
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(register)])
}

fn payload(base: u32, offset: u32, length: u32, register: Register) -> Expressions {
    Expressions::Payload(vec![
        Payload::DestinationRegister(register),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
}

fn equal(value: &[u8]) -> Expressions {
    compare(Operator::Equal, value)
}

fn compare(operator: Operator, value: &[u8]) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Reg1),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(value.to_vec())),
    ])
}

/// `reg1 = (reg1 & mask) ^ xor`.
fn bitwise(mask: &[u8], xor: &[u8]) -> Expressions {
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(Reg1),
        Bitwise::DestinationRegister(Reg1),
        Bitwise::Length(mask.len() as u32),
        Bitwise::Mask(DataAttribute::Value(mask.to_vec())),
        Bitwise::Xor(DataAttribute::Value(xor.to_vec())),
    ])
}

fn lookup(set: SetId, inverted: bool) -> Expressions {
    let mut attributes = vec![Lookup::Set(set.name().to_owned()), Lookup::SourceRegister(Reg1)];
    // NFT_LOOKUP_F_INV. Written in both cases, so that a rule turned round by hand is seen as a difference.
    attributes.push(Lookup::Flags(u32::from(inverted)));
    Expressions::Lookup(attributes)
}

fn immediate(register: Register, value: &[u8]) -> Expressions {
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(register),
        Immediate::Data(DataAttribute::Value(value.to_vec())),
    ])
}

fn verdict(code: Verdict, chain: Option<ChainName>) -> Expressions {
    let mut attributes = vec![VerdictAttribute::Code(code)];
    attributes.extend(chain.map(|chain| VerdictAttribute::Chain(chain.as_str().to_owned())));
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(attributes)),
    ])
}

fn other(name: &str, attributes: Vec<DefaultNla>) -> Expressions {
    Expressions::Other {
        expression_type: name.to_owned(),
        attributes,
    }
}

fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}

fn byte(kind: u16, value: u8) -> DefaultNla {
    DefaultNla::new(kind, vec![value])
}

fn bytes64(kind: u16, value: u64) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}

/// IFNAMSIZ bytes, as the kernel compares interface names.
fn padded(name: &InterfaceName) -> [u8; 16] {
    let mut padded = [0; 16];
    padded[..name.as_str().len()].copy_from_slice(name.as_str().as_bytes());
    padded
}

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
