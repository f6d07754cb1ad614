//! Single expressions, with their attributes.

use std::net::IpAddr;

use cell_netd_core::model::{Family, InterfaceName};
use cell_netd_core::policy::{ChainName, SetId};
use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, Expressions, Immediate, Lookup, Meta, MetaKey, Operator, Payload, Register,
    Verdict, VerdictAttribute,
};

use Register::Reg1;

/// NFPROTO_IPV4, NFPROTO_IPV6.
const NFPROTO: [u8; 2] = [2, 10];

pub(in super::super) fn nfproto(family: Family) -> u8 {
    NFPROTO[usize::from(family == Family::V6)]
}

pub(in super::super) fn meta(key: MetaKey, register: Register) -> Expressions {
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(register)])
}

pub(in super::super) fn payload(base: u32, offset: u32, length: u32, register: Register) -> Expressions {
    Expressions::Payload(vec![
        Payload::DestinationRegister(register),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
}

pub(in super::super) fn equal(value: &[u8]) -> Expressions {
    compare(Operator::Equal, value)
}

pub(in super::super) fn compare(operator: Operator, value: &[u8]) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Reg1),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(value.to_vec())),
    ])
}

/// `reg1 = (reg1 & mask) ^ xor`.
pub(in super::super) fn bitwise(mask: &[u8], xor: &[u8]) -> Expressions {
    bitwise_at(Reg1, mask, xor)
}

/// `register = (register & mask) ^ xor`.
pub(in super::super) fn bitwise_at(register: Register, mask: &[u8], xor: &[u8]) -> Expressions {
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(register),
        Bitwise::DestinationRegister(register),
        Bitwise::Length(mask.len() as u32),
        Bitwise::Mask(DataAttribute::Value(mask.to_vec())),
        Bitwise::Xor(DataAttribute::Value(xor.to_vec())),
    ])
}

pub(in super::super) fn lookup(set: SetId, inverted: bool) -> Expressions {
    let mut attributes = vec![Lookup::Set(set.name().to_owned()), Lookup::SourceRegister(Reg1)];
    // NFT_LOOKUP_F_INV. Written in both cases, so that a rule turned round by hand is seen as a difference.
    attributes.push(Lookup::Flags(u32::from(inverted)));
    Expressions::Lookup(attributes)
}

/// `reg1 = MAP[reg1]`; a key that is not there ends the rule.
pub(in super::super) fn translate(map: SetId) -> Expressions {
    translate_at(Reg1, map)
}

/// `register = MAP[register]`; a key that is not there ends the rule.
pub(in super::super) fn translate_at(register: Register, map: SetId) -> Expressions {
    Expressions::Lookup(vec![
        Lookup::Set(map.name().to_owned()),
        Lookup::SourceRegister(register),
        Lookup::DestinationRegister(register),
    ])
}

pub(in super::super) fn immediate(register: Register, value: &[u8]) -> Expressions {
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(register),
        Immediate::Data(DataAttribute::Value(value.to_vec())),
    ])
}

pub(in super::super) fn verdict(code: Verdict, chain: Option<ChainName>) -> Expressions {
    let mut attributes = vec![VerdictAttribute::Code(code)];
    attributes.extend(chain.map(|chain| VerdictAttribute::Chain(chain.as_str().to_owned())));
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(attributes)),
    ])
}

pub(in super::super) fn other(name: &str, attributes: Vec<DefaultNla>) -> Expressions {
    Expressions::Other {
        expression_type: name.to_owned(),
        attributes,
    }
}

pub(in super::super) fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}

pub(in super::super) fn byte(kind: u16, value: u8) -> DefaultNla {
    DefaultNla::new(kind, vec![value])
}

pub(in super::super) fn bytes64(kind: u16, value: u64) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}

/// IFNAMSIZ bytes, as the kernel compares interface names.
pub(in super::super) fn padded(name: &InterfaceName) -> [u8; 16] {
    let mut padded = [0; 16];
    padded[..name.as_str().len()].copy_from_slice(name.as_str().as_bytes());
    padded
}

pub(in super::super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
