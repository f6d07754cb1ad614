//! The sets as ipset(8) has them, and back.
//!
//! ipset knows no maps but from an address to a mark, and no key of an address, an interface and a mark. So the mark of a way
//! is left to the map of the same peer (`rules.rs` compares it with the flow's), and the relay's port to the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddrV4};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use super::{Marks, PREFIX};
use crate::model::{ExitMark, Family, Port, Protocol};
use crate::policy::element::{Element, Elements, SetId, SetKind};
use crate::policy::special;

/// Entries of each set, in ipset's words, by the set's name. All sets of ours are there, also those that are empty.
pub type Members = BTreeMap<String, BTreeSet<String>>;

/// Which way a set's entries lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Who is in it may do more.
    Grants,
    /// Who is in it may do less.
    Binds,
    /// It gives packets their marks.
    Leads,
}

/// One set of ipset's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) name: String,
    /// Type and options, as `create` takes them.
    pub(super) header: String,
    pub(super) effect: Effect,
}

/// Sets with an entry for each peer and service.
const ENTRIES_MAX: u32 = 1 << 20;

/// The name of a set, as rules of that family have it. `None`: ipset has no such set.
pub(super) fn name(set: SetId, family: Family) -> String {
    match set.kind() {
        // nftables' one set for both families.
        SetKind::Port | SetKind::Link => {
            let digit = match family {
                Family::V4 => 4,
                Family::V6 => 6,
            };
            format!("{PREFIX}{}{digit}", set.name())
        }
        SetKind::Entry | SetKind::EntryTarget | SetKind::EntryWay => format!("{PREFIX}{}", set.name()),
        SetKind::Address(_)
        | SetKind::Range(_)
        | SetKind::Service(_)
        | SetKind::Mark(_)
        | SetKind::Way(_)
        | SetKind::RelayPort(_)
        | SetKind::RelayWay(_)
        | SetKind::Host(_)
        | SetKind::Server(_) => format!("{PREFIX}{}", set.name()),
    }
}

/// The families that a set has a set of ipset's for.
fn families(set: SetId) -> Vec<Family> {
    match set.kind() {
        SetKind::Port | SetKind::Link => Family::BOTH.into(),
        // In the rules, by mark.
        SetKind::RelayPort(_) => vec![],
        // Not asked about; what is in it is what the targets say.
        SetKind::EntryWay => vec![],
        SetKind::Entry | SetKind::EntryTarget => vec![Family::V4],
        SetKind::Address(family)
        | SetKind::Range(family)
        | SetKind::Service(family)
        | SetKind::Mark(family)
        | SetKind::Way(family)
        | SetKind::RelayWay(family)
        | SetKind::Host(family)
        | SetKind::Server(family) => vec![family],
    }
}

/// All sets of ours, in the order in which they are made.
pub(super) fn all() -> Vec<Made> {
    let of = |set: SetId| {
        families(set).into_iter().map(move |family| Made {
            name: name(set, family),
            header: header(set.kind(), family),
            effect: effect(set),
        })
    };
    SetId::ALL.into_iter().flat_map(of).collect()
}

fn header(kind: SetKind, family: Family) -> String {
    let (kind, extension) = match kind {
        SetKind::Address(_) => ("hash:ip", ""),
        SetKind::Range(_) => ("hash:net", ""),
        SetKind::Service(_) => ("hash:ip,port,ip", ""),
        // hash:ip,port would want one address, and bitmap:port knows no protocol.
        SetKind::Port => ("hash:net,port", ""),
        SetKind::Mark(_) => ("hash:ip", " skbinfo"),
        // Remembers alone: the rules have the same.
        SetKind::EntryTarget => ("hash:ip,port,ip", " skbinfo"),
        SetKind::Entry | SetKind::EntryWay => ("hash:ip,port", ""),
        SetKind::Way(_) | SetKind::Link | SetKind::Host(_) => ("hash:net,iface", ""),
        SetKind::RelayPort(_) | SetKind::RelayWay(_) | SetKind::Server(_) => ("hash:ip,port", ""),
    };
    let family = match family {
        Family::V4 => "inet",
        Family::V6 => "inet6",
    };
    format!("{kind} family {family} maxelem {ENTRIES_MAX}{extension}")
}

fn effect(set: SetId) -> Effect {
    match set {
        SetId::Peers(_)
        | SetId::PeerToPeer(_)
        | SetId::Internet(_)
        | SetId::Services(_)
        | SetId::CellPorts
        | SetId::CellTargets
        | SetId::ExitWays(_)
        | SetId::RelayWays(_)
        | SetId::RelayServers(_)
        | SetId::RelayResolvers(_)
        | SetId::TunnelServers(..)
        | SetId::ServiceHosts(_)
        | SetId::OpenEntries
        | SetId::EntryWays
        | SetId::Called => Effect::Grants,
        SetId::Special(_)
        | SetId::Local(_)
        | SetId::Exited(_)
        | SetId::Relayed(_)
        | SetId::ExitLinks
        | SetId::ServiceAddresses(_)
        | SetId::Entries => Effect::Binds,
        SetId::ExitMarks(_) | SetId::RelayMarks(_) | SetId::RelayPorts(_) | SetId::EntryTargets => {
            Effect::Leads
        }
    }
}

/// The sets of ipset's for these elements.
pub fn encode(elements: &Elements, mask: u32) -> Members {
    let mut members: Members = all()
        .into_iter()
        .map(|made| (made.name, BTreeSet::new()))
        .collect();
    for (set, found) in elements {
        for family in families(*set) {
            let into = members.entry(name(*set, family)).or_default();
            into.extend(
                found
                    .iter()
                    .flat_map(|element| entries(*set, family, element, mask)),
            );
        }
    }
    members
}

/// The prefixes that make up a range.
pub(super) fn prefixes(first: IpAddr, last: IpAddr) -> Vec<IpNet> {
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect(),
        (IpAddr::V6(first), IpAddr::V6(last)) => Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect(),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => vec![],
    }
}

/// A prefix as ipset and iptables write it: a whole address without a length.
pub(super) fn written(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}

fn entries(set: SetId, family: Family, element: &Element, mask: u32) -> Vec<String> {
    let (whole, halves) = match family {
        Family::V4 => ("0.0.0.0/0", ["0.0.0.0/1", "128.0.0.0/1"]),
        Family::V6 => ("::/0", ["::/1", "8000::/1"]),
    };
    match element {
        Element::Address(address) => vec![address.to_string()],
        Element::Range(first, last) => prefixes(*first, *last).into_iter().map(written).collect(),
        Element::Service4(peer, address, protocol, port) => {
            vec![format!("{peer},{protocol}:{port},{address}")]
        }
        Element::Service6(peer, address, protocol, port) => {
            vec![format!("{peer},{protocol}:{port},{address}")]
        }
        // A prefix of length 0 is no entry of hash:net,port.
        Element::Port(Port { protocol, number }) => halves
            .iter()
            .map(|half| format!("{half},{protocol}:{number}"))
            .collect(),
        Element::ExitMark(peer, mark) => vec![format!("{peer} skbmark {:#x}/{mask:#x}", mark.value())],
        Element::Host(address, bridge) => vec![format!("{address},{bridge}")],
        Element::ExitWay(peer, interface, _) => vec![format!("{peer},{interface}")],
        Element::Link(interface) => vec![format!("{whole},{interface}")],
        Element::RelayPort(..) => vec![],
        Element::RelayWay(peer, port, _) => vec![format!("{peer},tcp:{port}")],
        Element::Entry(at, protocol) => vec![format!("{},{protocol}:{}", at.ip(), at.port())],
        // The port as if it were a mark: all that an entry can have beside its key.
        Element::EntryTarget(at, protocol, to) => {
            let (at, port) = (at.ip(), at.port());
            vec![format!(
                "{at},{protocol}:{port},{} skbmark {:#x}/0xffff",
                to.ip(),
                to.port()
            )]
        }
        Element::EntryWay(..) => vec![],
        Element::Server(server) => {
            let protocols: &[&str] = match set {
                SetId::RelayResolvers(_) => &["udp", "tcp"],
                SetId::TunnelServers(_, Protocol::Udp) => &["udp"],
                _ => &["tcp"],
            };
            let entry = |protocol| format!("{},{protocol}:{}", server.ip(), server.port());
            protocols.iter().map(entry).collect()
        }
    }
}

/// The elements that these sets of ipset's were made for; none: no elements have made them.
pub fn decode(members: &Members, mask: u32) -> Option<Elements> {
    let mut elements = Elements::new();
    for set in SetId::ALL {
        let found = match set {
            SetId::RelayPorts(family) => relay_ports(members, family)?,
            SetId::EntryWays => entry_ways(members)?,
            _ => {
                let family = *families(set).first()?;
                set_of(set, family, members)?
            }
        };
        if !found.is_empty() {
            elements.insert(set, found);
        }
    }
    (encode(&elements, mask) == *members).then_some(elements)
}

fn set_of(set: SetId, family: Family, members: &Members) -> Option<BTreeSet<Element>> {
    let found = members.get(&name(set, family))?;
    if let SetKind::Range(family) = set.kind() {
        let nets = found.iter().map(|entry| net(entry)).collect::<Option<Vec<_>>>()?;
        return Some(special::merged(family, nets).collect());
    }
    found.iter().map(|entry| element(set, entry, members)).collect()
}

fn net(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn element(set: SetId, entry: &str, members: &Members) -> Option<Element> {
    let mut parts = entry.split([',', ' ']);
    let first = parts.next()?;
    let second = parts.next();
    Some(match set.kind() {
        SetKind::Address(_) => Element::Address(first.parse().ok()?),
        // Not an entry by itself: see `set_of`.
        SetKind::Range(_) | SetKind::RelayPort(_) | SetKind::EntryWay => return None,
        SetKind::Entry => {
            let (protocol, port) = port(second?)?;
            Element::Entry(SocketAddrV4::new(first.parse().ok()?, port), protocol)
        }
        SetKind::EntryTarget => {
            let (protocol, port) = port(second?)?;
            let to = parts.next()?.parse().ok()?;
            let (_, remembered) = entry.split_once(" skbmark 0x")?;
            let (to_port, _) = remembered.split_once('/')?;
            let to = SocketAddrV4::new(to, u16::from_str_radix(to_port, 16).ok()?);
            Element::EntryTarget(SocketAddrV4::new(first.parse().ok()?, port), protocol, to)
        }
        SetKind::Service(_) => {
            let (protocol, port) = port(second?)?;
            match (first.parse().ok()?, parts.next()?.parse().ok()?) {
                (IpAddr::V4(peer), IpAddr::V4(to)) => Element::Service4(peer, to, protocol, port),
                (IpAddr::V6(peer), IpAddr::V6(to)) => Element::Service6(peer, to, protocol, port),
                (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
            }
        }
        SetKind::Port => {
            let (protocol, number) = port(second?)?;
            Element::Port(Port { protocol, number })
        }
        SetKind::Mark(_) => Element::ExitMark(first.parse().ok()?, mark_in(entry)?),
        SetKind::Way(family) => {
            let mark = mark_of(members, SetId::ExitMarks(family), first)?;
            Element::ExitWay(first.parse().ok()?, second?.parse().ok()?, mark)
        }
        SetKind::Link => Element::Link(second?.parse().ok()?),
        SetKind::Host(_) => Element::Host(first.parse().ok()?, second?.parse().ok()?),
        SetKind::RelayWay(family) => {
            let mark = mark_of(members, SetId::RelayMarks(family), first)?;
            Element::RelayWay(first.parse().ok()?, port(second?)?.1, mark)
        }
        SetKind::Server(_) => {
            let address: IpAddr = first.parse().ok()?;
            Element::Server((address, port(second?)?.1).into())
        }
    })
}

fn entry_ways(members: &Members) -> Option<BTreeSet<Element>> {
    let targets = set_of(SetId::EntryTargets, Family::V4, members)?;
    let ways = targets.into_iter().filter_map(|target| match target {
        Element::EntryTarget(at, protocol, to) => Some(Element::EntryWay(at, protocol, to)),
        _ => None,
    });
    Some(ways.collect())
}

fn relay_ports(members: &Members, family: Family) -> Option<BTreeSet<Element>> {
    let ways = members.get(&name(SetId::RelayWays(family), family))?;
    ways.iter()
        .map(|entry| {
            let (peer, at) = entry.split_once(',')?;
            Some(Element::RelayPort(peer.parse().ok()?, port(at)?.1))
        })
        .collect()
}

fn port(text: &str) -> Option<(Protocol, u16)> {
    let (protocol, number) = text.split_once(':')?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    Some((protocol, number.parse().ok()?))
}

/// The mark of the peer in the map of the family. The map is sorted by its entries' text, which begins with the peer.
fn mark_of(members: &Members, map: SetId, peer: &str) -> Option<ExitMark> {
    let family = *families(map).first()?;
    let start = format!("{peer} ");
    let entry = members
        .get(&name(map, family))?
        .range(start.clone()..)
        .next()
        .filter(|entry| entry.starts_with(&start))?;
    mark_in(entry)
}

fn mark_in(entry: &str) -> Option<ExitMark> {
    let (_, mark) = entry.split_once(" skbmark 0x")?;
    let (value, _) = mark.split_once('/')?;
    ExitMark::try_new(u32::from_str_radix(value, 16).ok()?)
}

/// The lines of `ipset restore` that lead from `before` to `after`, in two halves: first what takes reach away, then what gives it.
/// Between any two lines no peer has a reach that it has in neither of the two states.
///
/// A peer that goes from one exit to another, as an instance, loses its way, then its mark; packets of it are then bound
/// and have no way, so they are dropped. It gets the new mark, and last the new way.
pub(super) fn between(before: &Members, after: &Members) -> (Vec<String>, Vec<String>) {
    let none = BTreeSet::new();
    let (mut taking, mut giving) = (Vec::new(), Vec::new());
    let all = all();
    let lines = |effect: Effect, removals: bool, into: &mut Vec<String>| {
        for made in all.iter().filter(|made| made.effect == effect) {
            let old = before.get(&made.name).unwrap_or(&none);
            let new = after.get(&made.name).unwrap_or(&none);
            if removals {
                let key = |entry: &str| entry.split(' ').next().unwrap_or_default().to_owned();
                into.extend(
                    old.difference(new)
                        .map(|entry| format!("del {} {}", made.name, key(entry))),
                );
            } else {
                into.extend(
                    new.difference(old)
                        .map(|entry| format!("add {} {entry}", made.name)),
                );
            }
        }
    };
    lines(Effect::Grants, true, &mut taking);
    lines(Effect::Leads, true, &mut taking);
    lines(Effect::Binds, false, &mut taking);
    lines(Effect::Leads, false, &mut giving);
    lines(Effect::Binds, true, &mut giving);
    lines(Effect::Grants, false, &mut giving);
    (taking, giving)
}

impl Marks {
    /// The sets for these elements.
    pub(super) fn members(&self, elements: &Elements) -> Members {
        encode(elements, self.mask)
    }
}
