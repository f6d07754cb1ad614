//! What the kernel dumped, held against what was meant. What cannot be read is a difference, never a match.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

use cell_netd_core::model::{ExitInterface, ExitMark, Family, Port, Protocol};
use cell_netd_core::policy::{Counter, Element, SetId, SetKind};
use netlink_packet_core::{DecodeError, DefaultNla, Nla as _, NlasIterator, parse_string};
use netlink_packet_netfilter::nftables::{
    SetAttribute, SetFlags, SetMessage, TableAttribute, TableFlags, TableMessage,
};

use super::encode::{self, TABLE_TAG};
use super::{Drops, Ownership};

/// Whose the table is, to a process whose socket has the port.
pub(super) fn ownership(table: &TableMessage, port: u32) -> Ownership {
    let tagged = table
        .attributes
        .contains(&TableAttribute::UserData(TABLE_TAG.to_vec()));
    let owner = table.attributes.iter().find_map(|attribute| match attribute {
        TableAttribute::Owner(owner) => Some(*owner),
        _ => None,
    });
    let has = |wanted: TableFlags| {
        table
            .attributes
            .iter()
            .any(|attribute| matches!(attribute, TableAttribute::Flags(flags) if flags.contains(wanted)))
    };
    let owned = has(TableFlags::Owner);
    match owner {
        _ if !tagged => Ownership::Foreign,
        Some(owner) if owned && owner != 0 && owner != port => Ownership::Foreign,
        _ if has(TableFlags::Dormant) => Ownership::Dormant,
        Some(owner) if owned && owner == port => Ownership::Owned,
        _ => Ownership::Unowned,
    }
}

/// Whether this is the set, of the right kind.
pub(super) fn is_set(message: &SetMessage, set: SetId) -> bool {
    let (key_type, key_length) = encode::key(set.kind());
    let (data_type, data_length) = encode::data(set.kind());
    let wanted = encode::flags(set.kind());
    let has = |attribute| message.attributes.contains(&attribute);
    // The kernel leaves flags of zero out.
    let flags = message.attributes.iter().find_map(|attribute| match attribute {
        SetAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    has(SetAttribute::Name(set.name().to_owned()))
        && has(SetAttribute::KeyType(key_type))
        && has(SetAttribute::KeyLen(key_length))
        && flags.unwrap_or_default() == wanted
        && (!wanted.contains(SetFlags::Map)
            || has(SetAttribute::DataType(data_type)) && has(SetAttribute::DataLen(data_length)))
}

/// What follows struct nlmsghdr and struct nfgenmsg.
fn attributes(message: &[u8]) -> NlasIterator<&[u8]> {
    const HEADERS: usize = 16 + 4;
    NlasIterator::new(message.get(HEADERS..).unwrap_or_default())
}

/// Takes the keys of an NFT_MSG_NEWSETELEM message, and whether each ends a range. What a map has for a key follows it in the
/// same bytes.
pub(super) fn keys(message: &[u8], into: &mut Vec<(Vec<u8>, bool)>) -> Result<(), DecodeError> {
    const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
    for list in attributes(message) {
        let list = list?;
        if list.kind() != NFTA_SET_ELEM_LIST_ELEMENTS {
            continue;
        }
        for element in NlasIterator::new(list.value()) {
            into.push(key_and_end(element?.value())?);
        }
    }
    Ok(())
}

/// Takes the name of the chain from an NFT_MSG_NEWRULE message, and nothing of what the rule says.
pub(super) fn chain_of_rule(message: &[u8], into: &mut Vec<String>) -> Result<(), DecodeError> {
    const NFTA_RULE_CHAIN: u16 = 2;
    for attribute in attributes(message) {
        let attribute = attribute?;
        if attribute.kind() == NFTA_RULE_CHAIN {
            into.push(parse_string(attribute.value())?);
        }
    }
    Ok(())
}

/// An element without a key gets an empty one, which is no element of any set.
fn key_and_end(element: &[u8]) -> Result<(Vec<u8>, bool), DecodeError> {
    const NFTA_SET_ELEM_KEY: u16 = 1;
    const NFTA_SET_ELEM_DATA: u16 = 2;
    const NFTA_SET_ELEM_FLAGS: u16 = 3;
    const NFT_SET_ELEM_INTERVAL_END: u8 = 1;
    let (mut key, mut data, mut end) = (Vec::new(), Vec::new(), false);
    for attribute in NlasIterator::new(element) {
        let attribute = attribute?;
        match attribute.kind() {
            NFTA_SET_ELEM_KEY => key = value(attribute.value())?,
            NFTA_SET_ELEM_DATA => data = value(attribute.value())?,
            NFTA_SET_ELEM_FLAGS => {
                end = attribute
                    .value()
                    .last()
                    .is_some_and(|flags| flags & NFT_SET_ELEM_INTERVAL_END != 0);
            }
            _ => {}
        }
    }
    key.append(&mut data);
    Ok((key, end))
}

/// The bytes of a nested NFTA_DATA_VALUE; none: it is something else, a verdict for one.
fn value(nested: &[u8]) -> Result<Vec<u8>, DecodeError> {
    const NFTA_DATA_VALUE: u16 = 1;
    let mut bytes = Vec::new();
    for data in NlasIterator::new(nested) {
        let data = data?;
        if data.kind() == NFTA_DATA_VALUE {
            bytes = data.value().to_vec();
        }
    }
    Ok(bytes)
}

/// The elements of a set; none if one of them cannot be read.
pub(super) fn elements(set: SetId, keys: Vec<(Vec<u8>, bool)>) -> Option<BTreeSet<Element>> {
    match set.kind() {
        SetKind::Range(family) => ranges(family, keys),
        kind => keys
            .into_iter()
            .map(|(key, end)| if end { None } else { single(kind, &key) })
            .collect(),
    }
}

fn single(kind: SetKind, key: &[u8]) -> Option<Element> {
    match kind {
        SetKind::Address(family) | SetKind::Range(family) => address(family, key).map(Element::Address),
        SetKind::Port => port(key).map(Element::Port),
        SetKind::Service(family) => service(family, key),
        SetKind::Mark(family) => {
            let (peer, data) = split_address(family, key)?;
            Some(Element::ExitMark(peer, mark(data)?))
        }
        SetKind::Way(family) => {
            let (peer, rest) = split_address(family, key)?;
            let (interface, rest) = rest.split_first_chunk::<16>()?;
            let interface = ExitInterface::try_from(interface.as_slice()).ok()?;
            Some(Element::ExitWay(peer, interface, mark(rest)?))
        }
        SetKind::Host(family) => {
            let (address, bridge) = split_address(family, key)?;
            Some(Element::Host(address, ExitInterface::try_from(bridge).ok()?))
        }
        SetKind::Link => ExitInterface::try_from(key).ok().map(Element::Link),
        SetKind::RelayPort(family) => {
            let (peer, data) = split_address(family, key)?;
            Some(Element::RelayPort(
                peer,
                u16::from_be_bytes(data.try_into().ok()?),
            ))
        }
        SetKind::RelayWay(family) => {
            let (peer, rest) = split_address(family, key)?;
            let (port, rest) = split_number(rest)?;
            Some(Element::RelayWay(peer, port, mark(rest)?))
        }
        SetKind::Entry => {
            let (at, protocol, rest) = split_end(key)?;
            rest.is_empty().then_some(Element::Entry(at, protocol))
        }
        SetKind::EntryTarget => {
            let (at, protocol, data) = split_end(key)?;
            Some(Element::EntryTarget(at, protocol, end(data)?))
        }
        SetKind::EntryWay => {
            let (at, protocol, rest) = split_end(key)?;
            Some(Element::EntryWay(at, protocol, end(rest)?))
        }
        SetKind::Server(family) => {
            let (address, rest) = split_address(family, key)?;
            let (port, rest) = split_number(rest)?;
            let server = SocketAddr::new(address, port);
            rest.is_empty().then_some(Element::Server(server))
        }
    }
}

fn service(family: Family, key: &[u8]) -> Option<Element> {
    let (peer, rest) = split_address(family, key)?;
    let (to, rest) = split_address(family, rest)?;
    let Port { protocol, number } = port(rest)?;
    match (peer, to) {
        (IpAddr::V4(peer), IpAddr::V4(to)) => Some(Element::Service4(peer, to, protocol, number)),
        (IpAddr::V6(peer), IpAddr::V6(to)) => Some(Element::Service6(peer, to, protocol, number)),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

fn split_address(family: Family, bytes: &[u8]) -> Option<(IpAddr, &[u8])> {
    let length = match family {
        Family::V4 => 4,
        Family::V6 => 16,
    };
    let (first, rest) = bytes.split_at_checked(length)?;
    Some((address(family, first)?, rest))
}

/// An address, a protocol and a port.
fn split_end(bytes: &[u8]) -> Option<(SocketAddrV4, Protocol, &[u8])> {
    let (address, rest) = bytes.split_first_chunk::<4>()?;
    let (at, rest) = rest.split_first_chunk::<8>()?;
    let Port { protocol, number } = port(at)?;
    Some((
        SocketAddrV4::new(Ipv4Addr::from(*address), number),
        protocol,
        rest,
    ))
}

/// An address and a port, and nothing after them.
fn end(bytes: &[u8]) -> Option<SocketAddrV4> {
    let (address, rest) = bytes.split_first_chunk::<4>()?;
    let (port, rest) = split_number(rest)?;
    rest.is_empty()
        .then(|| SocketAddrV4::new(Ipv4Addr::from(*address), port))
}

/// A port that fills a register.
fn split_number(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let ([high, low, 0, 0], rest) = bytes.split_first_chunk::<4>()? else {
        return None;
    };
    Some((u16::from_be_bytes([*high, *low]), rest))
}

fn mark(bytes: &[u8]) -> Option<ExitMark> {
    ExitMark::try_new(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn address(family: Family, key: &[u8]) -> Option<IpAddr> {
    match family {
        Family::V4 => <[u8; 4]>::try_from(key).ok().map(IpAddr::from),
        Family::V6 => <[u8; 16]>::try_from(key).ok().map(IpAddr::from),
    }
}

fn port(key: &[u8]) -> Option<Port> {
    let [protocol, 0, 0, 0, high, low, 0, 0] = *key else {
        return None;
    };
    Some(Port {
        protocol: Protocol::from_number(protocol)?,
        number: u16::from_be_bytes([high, low]),
    })
}

/// Starts and ends, in any order, become ranges.
fn ranges(family: Family, keys: Vec<(Vec<u8>, bool)>) -> Option<BTreeSet<Element>> {
    let mut bounds = keys
        .into_iter()
        .map(|(key, end)| address(family, &key).map(|address| (address, end)))
        .collect::<Option<Vec<_>>>()?;
    // At one address an end stands before a start.
    bounds.sort_by_key(|(address, end)| (*address, !*end));
    let mut ranges = BTreeSet::new();
    let mut open = None;
    for (bound, end) in bounds {
        match (open, end) {
            (None, false) => open = Some(bound),
            (Some(first), true) => {
                ranges.insert(Element::Range(first, predecessor(bound)?));
                open = None;
            }
            _ => return None,
        }
    }
    if let Some(first) = open {
        let last = match family {
            Family::V4 => IpAddr::from([0xff; 4]),
            Family::V6 => IpAddr::from([0xff; 16]),
        };
        ranges.insert(Element::Range(first, last));
    }
    Some(ranges)
}

fn predecessor(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4
            .to_bits()
            .checked_sub(1)
            .map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6
            .to_bits()
            .checked_sub(1)
            .map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

/// The named counters among dumped objects.
pub(super) fn counters(objects: &[Vec<DefaultNla>]) -> BTreeMap<Counter, Drops> {
    let value = |object: &[DefaultNla], kind: u16| {
        let found = object
            .iter()
            .find(|attribute| attribute.kind() & 0x3fff == kind)?;
        let mut bytes = vec![0; found.value_len()];
        found.emit_value(&mut bytes);
        Some(bytes)
    };
    let counter = |object: &Vec<DefaultNla>| {
        let name = value(object, 2)?;
        let counter = Counter::ALL
            .into_iter()
            .find(|counter| name.strip_suffix(b"\0") == Some(counter.name().as_bytes()))?;
        Some((counter, drops(&value(object, 4)?)))
    };
    objects.iter().filter_map(counter).collect()
}

/// NFTA_COUNTER_BYTES, NFTA_COUNTER_PACKETS.
fn drops(data: &[u8]) -> Drops {
    let mut drops = Drops::default();
    for nla in NlasIterator::new(data).flatten() {
        let Ok(value) = <[u8; 8]>::try_from(nla.value()) else {
            continue;
        };
        match nla.kind() {
            1 => drops.bytes = u64::from_be_bytes(value),
            2 => drops.packets = u64::from_be_bytes(value),
            _ => {}
        }
    }
    drops
}
