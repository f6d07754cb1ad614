//! Sets and what is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

use crate::model::{ExitInterface, ExitMark, Family, Port, Protocol};

/// The sets of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetId {
    /// Addresses of peers.
    Peers(Family),
    /// Addresses of peers that may reach each other.
    PeerToPeer(Family),
    /// Addresses of peers that may reach public addresses.
    Internet(Family),
    /// (peer, address, protocol, port): single services.
    Services(Family),
    /// Special-purpose address ranges (RFC 6890).
    Special(Family),
    /// What lies on the machine's own links: the house, whatever its addresses are.
    Local(Family),
    /// Ports of the cell that are reached as they are.
    CellPorts,
    /// Ports on the hidden service addresses that are reached by DNAT.
    CellTargets,
    /// Addresses of peers that are bound to an exit.
    Exited(Family),
    /// The exit's mark by the address of a peer that is bound to it.
    ExitMarks(Family),
    /// (peer, interface, mark): by which interface a peer's packets leave and its answers come, in flows of which mark.
    ExitWays(Family),
    /// Interfaces of exits.
    ExitLinks,
    /// Addresses of peers that are bound to an exit of the relay.
    Relayed(Family),
    /// The relay's port for the exit, by the address of a peer that is bound to it.
    RelayPorts(Family),
    /// The exit's mark by the address of a peer that is bound to it.
    RelayMarks(Family),
    /// (peer, relay's port, mark): to which port of the relay a peer's packets go, in flows of which mark.
    RelayWays(Family),
    /// (address, port): where the relay may connect to.
    RelayServers(Family),
    /// (address, port): which resolvers the relay may ask by the machine's own way.
    RelayResolvers(Family),
    /// (address, port): where the user of tunnels may send by that protocol.
    TunnelServers(Family, Protocol),
    /// Addresses that containers of services may have.
    ServiceAddresses(Family),
    /// (container, bridge): by which bridge such an address comes.
    ServiceHosts(Family),
    /// (address, protocol, port): where services are found in the VPN.
    Entries,
    /// Those of them that every peer may reach.
    OpenEntries,
    /// The container's address and port, by where its service is found.
    EntryTargets,
    /// (address, protocol, port, container's address, its port): which flows lead where they should.
    EntryWays,
    /// (container, TCP port): what users of the machine that the ceiling lists may open.
    Called,
}

/// What kind of elements a set has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetKind {
    /// Addresses.
    Address(Family),
    /// Address ranges.
    Range(Family),
    /// Concatenation of peer, address, protocol, port.
    Service(Family),
    /// Concatenation of protocol, port.
    Port,
    /// A map from addresses to marks.
    Mark(Family),
    /// Concatenation of peer, interface, mark.
    Way(Family),
    /// Interfaces.
    Link,
    /// A map from addresses to ports.
    RelayPort(Family),
    /// Concatenation of peer, port, mark.
    RelayWay(Family),
    /// Concatenation of address, port.
    Server(Family),
    /// Concatenation of address, interface.
    Host(Family),
    /// Concatenation of an IPv4 address, protocol, port.
    Entry,
    /// A map from those to an IPv4 address and a port.
    EntryTarget,
    /// Concatenation of all five.
    EntryWay,
}

impl SetId {
    /// All of them, in the order in which they are made.
    pub const ALL: [SetId; 46] = [
        SetId::Peers(Family::V4),
        SetId::Peers(Family::V6),
        SetId::PeerToPeer(Family::V4),
        SetId::PeerToPeer(Family::V6),
        SetId::Internet(Family::V4),
        SetId::Internet(Family::V6),
        SetId::Services(Family::V4),
        SetId::Services(Family::V6),
        SetId::Special(Family::V4),
        SetId::Special(Family::V6),
        SetId::Local(Family::V4),
        SetId::Local(Family::V6),
        SetId::CellPorts,
        SetId::CellTargets,
        SetId::Exited(Family::V4),
        SetId::Exited(Family::V6),
        SetId::ExitMarks(Family::V4),
        SetId::ExitMarks(Family::V6),
        SetId::ExitWays(Family::V4),
        SetId::ExitWays(Family::V6),
        SetId::ExitLinks,
        SetId::Relayed(Family::V4),
        SetId::Relayed(Family::V6),
        SetId::RelayPorts(Family::V4),
        SetId::RelayPorts(Family::V6),
        SetId::RelayMarks(Family::V4),
        SetId::RelayMarks(Family::V6),
        SetId::RelayWays(Family::V4),
        SetId::RelayWays(Family::V6),
        SetId::RelayServers(Family::V4),
        SetId::RelayServers(Family::V6),
        SetId::RelayResolvers(Family::V4),
        SetId::RelayResolvers(Family::V6),
        SetId::TunnelServers(Family::V4, Protocol::Udp),
        SetId::TunnelServers(Family::V4, Protocol::Tcp),
        SetId::TunnelServers(Family::V6, Protocol::Udp),
        SetId::TunnelServers(Family::V6, Protocol::Tcp),
        SetId::ServiceAddresses(Family::V4),
        SetId::ServiceAddresses(Family::V6),
        SetId::ServiceHosts(Family::V4),
        SetId::ServiceHosts(Family::V6),
        SetId::Entries,
        SetId::OpenEntries,
        SetId::EntryTargets,
        SetId::EntryWays,
        SetId::Called,
    ];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            SetId::Peers(Family::V4) => "peers4",
            SetId::Peers(Family::V6) => "peers6",
            SetId::PeerToPeer(Family::V4) => "p2p4",
            SetId::PeerToPeer(Family::V6) => "p2p6",
            SetId::Internet(Family::V4) => "internet4",
            SetId::Internet(Family::V6) => "internet6",
            SetId::Services(Family::V4) => "svc4",
            SetId::Services(Family::V6) => "svc6",
            SetId::Special(Family::V4) => "special4",
            SetId::Special(Family::V6) => "special6",
            SetId::Local(Family::V4) => "local4",
            SetId::Local(Family::V6) => "local6",
            SetId::CellPorts => "cell_ports",
            SetId::CellTargets => "cell_targets",
            SetId::Exited(Family::V4) => "exited4",
            SetId::Exited(Family::V6) => "exited6",
            SetId::ExitMarks(Family::V4) => "exit_marks4",
            SetId::ExitMarks(Family::V6) => "exit_marks6",
            SetId::ExitWays(Family::V4) => "exit_ways4",
            SetId::ExitWays(Family::V6) => "exit_ways6",
            SetId::ExitLinks => "exit_links",
            SetId::Relayed(Family::V4) => "relayed4",
            SetId::Relayed(Family::V6) => "relayed6",
            SetId::RelayPorts(Family::V4) => "relay_ports4",
            SetId::RelayPorts(Family::V6) => "relay_ports6",
            SetId::RelayMarks(Family::V4) => "relay_marks4",
            SetId::RelayMarks(Family::V6) => "relay_marks6",
            SetId::RelayWays(Family::V4) => "relay_ways4",
            SetId::RelayWays(Family::V6) => "relay_ways6",
            SetId::RelayServers(Family::V4) => "relay_servers4",
            SetId::RelayServers(Family::V6) => "relay_servers6",
            SetId::RelayResolvers(Family::V4) => "relay_resolvers4",
            SetId::RelayResolvers(Family::V6) => "relay_resolvers6",
            SetId::TunnelServers(Family::V4, Protocol::Udp) => "tunnel_udp4",
            SetId::TunnelServers(Family::V4, Protocol::Tcp) => "tunnel_tcp4",
            SetId::TunnelServers(Family::V6, Protocol::Udp) => "tunnel_udp6",
            SetId::TunnelServers(Family::V6, Protocol::Tcp) => "tunnel_tcp6",
            SetId::ServiceAddresses(Family::V4) => "svc_addresses4",
            SetId::ServiceAddresses(Family::V6) => "svc_addresses6",
            SetId::ServiceHosts(Family::V4) => "svc_hosts4",
            SetId::ServiceHosts(Family::V6) => "svc_hosts6",
            SetId::Entries => "entries4",
            SetId::OpenEntries => "entries_open4",
            SetId::EntryTargets => "entry_targets4",
            SetId::EntryWays => "entry_ways4",
            SetId::Called => "called4",
        }
    }

    /// What it holds.
    pub fn kind(self) -> SetKind {
        match self {
            SetId::Peers(family)
            | SetId::PeerToPeer(family)
            | SetId::Internet(family)
            | SetId::Exited(family)
            | SetId::Relayed(family)
            | SetId::ServiceAddresses(family) => SetKind::Address(family),
            SetId::Services(family) => SetKind::Service(family),
            SetId::Special(family) | SetId::Local(family) => SetKind::Range(family),
            SetId::CellPorts | SetId::CellTargets => SetKind::Port,
            SetId::ExitMarks(family) | SetId::RelayMarks(family) => SetKind::Mark(family),
            SetId::RelayPorts(family) => SetKind::RelayPort(family),
            SetId::RelayWays(family) => SetKind::RelayWay(family),
            SetId::RelayServers(family) | SetId::RelayResolvers(family) | SetId::TunnelServers(family, _) => {
                SetKind::Server(family)
            }
            SetId::Called => SetKind::Server(Family::V4),
            SetId::ExitWays(family) => SetKind::Way(family),
            SetId::ServiceHosts(family) => SetKind::Host(family),
            SetId::ExitLinks => SetKind::Link,
            SetId::Entries | SetId::OpenEntries => SetKind::Entry,
            SetId::EntryTargets => SetKind::EntryTarget,
            SetId::EntryWays => SetKind::EntryWay,
        }
    }
}

/// One element. Its variant fits its set's [`SetKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// An address.
    Address(IpAddr),
    /// First and last address of a range, of one family.
    Range(IpAddr, IpAddr),
    /// A peer's IPv4 way to a service.
    Service4(Ipv4Addr, Ipv4Addr, Protocol, u16),
    /// A peer's IPv6 way to a service.
    Service6(Ipv6Addr, Ipv6Addr, Protocol, u16),
    /// A port.
    Port(Port),
    /// A peer's address and the mark of its exit.
    ExitMark(IpAddr, ExitMark),
    /// A peer's address, the interface of its exit, the mark of its flows.
    ExitWay(IpAddr, ExitInterface, ExitMark),
    /// An interface.
    Link(ExitInterface),
    /// A peer's address and the relay's port for its exit.
    RelayPort(IpAddr, u16),
    /// A peer's address, the relay's port for its exit, the mark of its flows.
    RelayWay(IpAddr, u16, ExitMark),
    /// Where the relay, the user of tunnels, or who speaks to containers, may send.
    Server(SocketAddr),
    /// A container's address and its bridge.
    Host(IpAddr, ExitInterface),
    /// Where a service is found.
    Entry(SocketAddrV4, Protocol),
    /// The same, and the container's address and port that a map has for it.
    EntryTarget(SocketAddrV4, Protocol, SocketAddrV4),
    /// The same as one key.
    EntryWay(SocketAddrV4, Protocol, SocketAddrV4),
}

impl fmt::Display for Element {
    /// As nft(8) reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Address(address) => write!(f, "{address}"),
            Element::Range(first, last) => write!(f, "{first}-{last}"),
            Element::Service4(peer, address, protocol, port) => {
                write!(f, "{peer} . {address} . {protocol} . {port}")
            }
            Element::Service6(peer, address, protocol, port) => {
                write!(f, "{peer} . {address} . {protocol} . {port}")
            }
            Element::Port(Port { protocol, number }) => write!(f, "{protocol} . {number}"),
            Element::ExitMark(peer, mark) => write!(f, "{peer} : {mark}"),
            Element::ExitWay(peer, interface, mark) => write!(f, "{peer} . \"{interface}\" . {mark}"),
            Element::Link(interface) => write!(f, "\"{interface}\""),
            Element::RelayPort(peer, port) => write!(f, "{peer} : {port}"),
            Element::RelayWay(peer, port, mark) => write!(f, "{peer} . {port} . {mark}"),
            Element::Host(address, bridge) => write!(f, "{address} . \"{bridge}\""),
            Element::Entry(at, protocol) => write!(f, "{} . {protocol} . {}", at.ip(), at.port()),
            Element::EntryTarget(at, protocol, to) => {
                let (at, port) = (at.ip(), at.port());
                write!(f, "{at} . {protocol} . {port} : {} . {}", to.ip(), to.port())
            }
            Element::EntryWay(at, protocol, to) => {
                let (at, port) = (at.ip(), at.port());
                write!(f, "{at} . {protocol} . {port} . {} . {}", to.ip(), to.port())
            }
            Element::Server(server) => write!(f, "{} . {}", server.ip(), server.port()),
        }
    }
}

/// The contents of sets. A set that is not there is empty.
pub type Elements = BTreeMap<SetId, BTreeSet<Element>>;

/// What is added to sets and taken from them, in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ElementDelta {
    /// Elements that come.
    pub added: Elements,
    /// Elements that go.
    pub removed: Elements,
}

impl ElementDelta {
    /// What leads from `before` to `after`.
    pub fn between(before: &Elements, after: &Elements) -> Self {
        let missing = |from: &Elements, of: &Elements| {
            let absent = |(id, elements): (&SetId, &BTreeSet<Element>)| {
                let absent: BTreeSet<Element> = match from.get(id) {
                    Some(present) => elements.difference(present).copied().collect(),
                    None => elements.clone(),
                };
                (!absent.is_empty()).then_some((*id, absent))
            };
            of.iter().filter_map(absent).collect()
        };
        ElementDelta {
            added: missing(before, after),
            removed: missing(after, before),
        }
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    /// How many elements change.
    pub fn len(&self) -> usize {
        self.added
            .values()
            .chain(self.removed.values())
            .map(BTreeSet::len)
            .sum()
    }

    /// The sets that change, in order.
    pub fn sets(&self) -> BTreeSet<SetId> {
        self.added.keys().chain(self.removed.keys()).copied().collect()
    }
}
