//! The policy's matches and actions as nftables expressions (include/uapi/linux/netfilter/nf_tables.h).
//!
//! Registers are written as the kernel dumps them (NFT_REG_1 is NFT_REG32_00), so that a rule that was read back can
//! be compared attribute by attribute.

mod matching;
mod parts;

use cell_netd_core::model::{Family, Mark};
use cell_netd_core::policy::{Action, Counter, Rule, SetId, Side};
use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{Expressions, Meta, MetaKey, Operator, Register, Verdict};

use matching::{CT_MARK, end_to, header_address, matching};
use parts::{
    bitwise, byte, bytes64, compare, equal, immediate, meta, nfproto, number, other, translate, translate_at,
};
pub(super) use parts::{octets, verdict};

use Register::{Reg1, Reg2};

/// NF_DROP, NF_ACCEPT.
pub(super) const DROP: u32 = 0;
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
            set_mark(),
        ],
        Action::MarkBySource(family) => vec![
            meta(MetaKey::Nfproto, Reg1),
            equal(&[nfproto(*family)]),
            header_address(*family, Side::Source, Reg1),
            translate(SetId::ExitMarks(*family)),
            set_mark(),
        ],
        Action::SetFlowMark(mark) => vec![immediate(Reg1, &mark.to_ne_bytes()), set_flow_mark()],
        Action::SaveMark(mask) => vec![
            meta(MetaKey::Mark, Reg1),
            bitwise(&mask.to_ne_bytes(), &[0; 4]),
            set_flow_mark(),
        ],
        Action::FlowMarkBySource(family) => vec![
            meta(MetaKey::Nfproto, Reg1),
            equal(&[nfproto(*family)]),
            header_address(*family, Side::Source, Reg1),
            translate(SetId::RelayMarks(*family)),
            set_flow_mark(),
        ],
        Action::Dnat(address, port) => vec![
            immediate(Reg1, &octets(*address)),
            immediate(Reg2, &port.to_be_bytes()),
            destination_nat(Family::of(*address)),
        ],
        // The rule matched the family, as nft(8) relies on too.
        Action::DnatBySource(family, address) => vec![
            immediate(Reg1, &octets(*address)),
            header_address(*family, Side::Source, Reg2),
            translate_at(Reg2, SetId::RelayPorts(*family)),
            destination_nat(*family),
        ],
        Action::DnatToEntry => {
            let lead = [
                translate(SetId::EntryTargets),
                destination_nat_at(Family::V4, Register::Reg32_01),
            ];
            end_to().into_iter().chain(lead).collect()
        }
        // NFTA_REJECT_TYPE = NFT_REJECT_ICMPX_UNREACH, NFTA_REJECT_ICMP_CODE = NFT_REJECT_ICMPX_ADMIN_PROHIBITED.
        Action::Refuse => vec![other("reject", vec![number(1, 2), byte(2, 3)])],
        Action::Masquerade => vec![other("masq", vec![])],
        Action::ClampMss => clamp_mss(),
    }
}

/// To the address in the first register and the port in the second.
fn destination_nat(family: Family) -> Expressions {
    destination_nat_at(family, Reg2)
}

/// To the address in the first register and the port in that one.
fn destination_nat_at(family: Family, port: Register) -> Expressions {
    // NFTA_NAT_TYPE = NFT_NAT_DNAT, FAMILY, REG_ADDR_MIN, REG_PROTO_MIN.
    other(
        "nat",
        vec![
            number(1, 1),
            number(2, nfproto(family).into()),
            number(3, 1),
            number(5, port.into()),
        ],
    )
}

/// The flow's mark becomes what is in the first register.
fn set_flow_mark() -> Expressions {
    // NFTA_CT_KEY, NFTA_CT_SREG.
    other("ct", vec![number(2, CT_MARK), number(4, 1)])
}

/// The packet's mark becomes what is in the first register.
fn set_mark() -> Expressions {
    Expressions::Meta(vec![Meta::Key(MetaKey::Mark), Meta::SourceRegister(Reg1)])
}

/// rt mtu (NFT_RT_TCPMSS), to network byte order, into TCP option 2 at offset 2.
fn clamp_mss() -> Vec<Expressions> {
    vec![
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
    ]
}

fn counted(counter: Counter) -> Expressions {
    let mut name = counter.name().as_bytes().to_vec();
    name.push(0);
    // NFTA_OBJREF_IMM_TYPE = NFT_OBJECT_COUNTER, NFTA_OBJREF_IMM_NAME.
    other("objref", vec![number(1, 1), DefaultNla::new(2, name)])
}
