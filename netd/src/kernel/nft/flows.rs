//! Ends flows in the kernel's table of them (nf_conntrack, include/uapi/linux/netfilter/nfnetlink_conntrack.h).
//!
//! The kernel's own filter (CTA_FILTER) is not used: it is not there before Linux 6.8, and Linux 6.18 finds no flow by its IPv6
//! address (ADR 0049).

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_packet_core::{DecodeError, NLM_F_ACK, NLM_F_DUMP, NetlinkMessage, NetlinkPayload, Nla};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple,
};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};

use super::socket::{NftError, NftSocket};

/// CTA_ID, by which a flow is told from one that takes its place.
const ID: u16 = 12;
/// CTA_ZONE.
const ZONE: u16 = 18;
/// Flows that are ended at once; whoever keeps more open has the rest of them cut until they are idle.
const AT_MOST: usize = 4096;

/// What names a flow.
struct Flow {
    family: NetfilterProtoFamily,
    name: Vec<ConntrackAttribute>,
}

/// Ends flows without connections (UDP, ICMP) that began at these addresses. Reads all flows that there are.
pub(in crate::kernel) fn end_datagrams(
    socket: &mut NftSocket,
    from: &BTreeSet<IpAddr>,
) -> Result<(), NftError> {
    let read = |message: &[u8], found: &mut Vec<Flow>| -> Result<(), DecodeError> {
        if found.len() < AT_MOST {
            found.extend(datagrams(message, from));
        }
        Ok(())
    };
    let all = ConntrackMessage::Get(Vec::new());
    for flow in socket.exchange_with(NetfilterProtoFamily::Unspec, all, NLM_F_DUMP, read)? {
        let end = ConntrackMessage::Delete(flow.name);
        match socket.exchange_with(flow.family, end, NLM_F_ACK, |_, _: &mut Vec<()>| Ok(())) {
            // It has ended by itself.
            Err(error) if error.errno() == Some(libc::ENOENT) => {}
            outcome => drop(outcome?),
        }
    }
    Ok(())
}

/// The flow of a message, if it is one of these.
fn datagrams(message: &[u8], from: &BTreeSet<IpAddr>) -> Option<Flow> {
    let message = NetlinkMessage::<NetfilterMessage>::deserialize(message).ok()?;
    let NetlinkPayload::InnerMessage(NetfilterMessage {
        inner: NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)),
        ..
    }) = message.payload
    else {
        return None;
    };
    let original = attributes.iter().find_map(|attribute| match attribute {
        ConntrackAttribute::CtaTupleOrig(tuple) => Some(tuple),
        _ => None,
    })?;
    let source = source(original).filter(|source| from.contains(source))?;
    is_of_datagrams(original).then(|| Flow {
        family: match source {
            IpAddr::V4(_) => NetfilterProtoFamily::IPv4,
            IpAddr::V6(_) => NetfilterProtoFamily::IPv6,
        },
        name: attributes.into_iter().filter(is_name).collect(),
    })
}

fn source(tuple: &[Tuple]) -> Option<IpAddr> {
    tuple.iter().find_map(|part| match part {
        Tuple::Ip(ip) => ip.iter().find_map(|one| match one {
            IPTuple::SourceAddress(address) => Some(*address),
            _ => None,
        }),
        _ => None,
    })
}

fn is_of_datagrams(tuple: &[Tuple]) -> bool {
    use Protocol::{Icmp, Ipv6Icmp, Udp};
    tuple.iter().any(|part| {
        let Tuple::Proto(of) = part else { return false };
        let is = |protocol| of.contains(&ProtoTuple::Protocol(protocol));
        is(Udp) || is(Icmp) || is(Ipv6Icmp)
    })
}

fn is_name(attribute: &ConntrackAttribute) -> bool {
    match attribute {
        ConntrackAttribute::CtaTupleOrig(_) => true,
        other => [ID, ZONE].contains(&other.kind()),
    }
}
