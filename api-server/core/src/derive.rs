//! From the cell's state to what netd is asked for. The same state always gives the same specification.

pub mod caddy;
pub mod corefile;
pub mod dns;
pub mod exits;
pub mod openvpn;
pub mod services;
pub mod zones;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::access::{AccessPolicy, Protocol};
use crate::connection::choice::Route;
use crate::connection::id::ConnectionId;
use crate::connection::names::Names;
use crate::key::PublicKey;
use crate::peer::Peer;
use crate::range::{HostIndex, VpnRange};
use crate::services::entry::Entry;
use crate::services::remote::CatalogUrl;
use dns::Upstreams;
use exits::ExitSpec;
use services::ServiceSpec;

/// MTU of the tunnel, bytes: 1,500 less IPv6, UDP and WireGuard's own headers.
pub const MTU_BYTES: u32 = 1420;

/// Everything that netd is to own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkSpec {
    /// `None`: no WireGuard interface.
    pub wireguard: Option<WireguardSpec>,
    /// In the order of names.
    pub peers: Vec<PeerSpec>,
    /// Ports of the cell that every peer may reach.
    pub cell_ports: Vec<CellPort>,
    /// Ways out that peers may be bound to.
    pub exits: Vec<ExitSpec>,
    /// Resolvers that `cell-egress` may ask by the machine's own way.
    pub dns_upstreams: Vec<SocketAddr>,
    /// Networks of services, in the order of names.
    pub services: Vec<ServiceSpec>,
    /// Where devices find services.
    pub entries: Vec<Entry>,
    /// Servers that `cell-egress` connects to for the cell itself.
    pub relay_servers: Vec<SocketAddr>,
    /// The container that the internet reaches by TCP 80 of the machine.
    pub public_http: Option<SocketAddrV4>,
}

/// The cell's WireGuard interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireguardSpec {
    /// Its name.
    pub interface: String,
    /// Its UDP port.
    pub listen_port: u16,
    /// The cell's own addresses with the ranges' prefix lengths.
    pub addresses: [IpNet; 2],
    /// Bytes.
    pub mtu_bytes: u32,
}

/// One device, as netd sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSpec {
    /// Its name.
    pub name: String,
    /// Its key.
    pub public_key: PublicKey,
    /// Its addresses.
    pub addresses: [IpAddr; 2],
    /// What it may reach.
    pub access: AccessPolicy,
    /// Which exit carries what it sends to the internet; `None`: the machine's own way.
    pub exit: Option<ConnectionId>,
    /// Which one carries its questions of DNS: the same, or one that DNS does not know where nothing carries it.
    pub asks: Option<ConnectionId>,
}

/// A port of the cell and where the process behind it really listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellPort {
    /// Transport protocol.
    pub protocol: Protocol,
    /// What peers connect to.
    pub port: u16,
    /// The port on the hidden service addresses.
    pub target_port: u16,
    /// The same for whoever is bound to an exit, where it is another.
    pub bound_target_port: Option<u16>,
}

/// What the policy file says of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSettings {
    /// Name of the WireGuard interface.
    pub interface: String,
    /// Its UDP port.
    pub listen_port: u16,
    /// What peers connect to for the API.
    pub https_port: u16,
    /// Where the API listens for it.
    pub https_target_port: u16,
}

impl NetworkSpec {
    /// For a netd that refuses the port of whoever is bound: all ask the relay at one, and it knows the bound by its table alone.
    pub fn ask_at_one_port(&mut self) {
        for port in &mut self.cell_ports {
            port.bound_target_port = None;
        }
    }
}

/// The specification of a cell; `range` is `None` until setup is complete, and then there is nothing to own. Each peer
/// comes with its way ([`crate::connection::choice::route`]). `dns` is `None` where no relay answers DNS.
pub fn network_spec<'a>(
    settings: &NetworkSettings,
    range: Option<&VpnRange>,
    peers: impl IntoIterator<Item = (&'a Peer, Route)>,
    exits: Vec<ExitSpec>,
    dns: Option<&Upstreams>,
) -> NetworkSpec {
    let Some(range) = range else {
        return NetworkSpec::default();
    };
    let mut peers: Vec<PeerSpec> = peers
        .into_iter()
        .map(|(peer, route)| peer_spec(range, peer, route))
        .collect();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    let https = CellPort {
        protocol: Protocol::Tcp,
        port: settings.https_port,
        target_port: settings.https_target_port,
        bound_target_port: None,
    };
    NetworkSpec {
        wireguard: Some(WireguardSpec {
            interface: settings.interface.clone(),
            listen_port: settings.listen_port,
            addresses: cell_addresses(range),
            mtu_bytes: MTU_BYTES,
        }),
        peers,
        cell_ports: std::iter::once(https)
            .chain(dns.into_iter().flat_map(|_| dns::PORTS))
            .collect(),
        exits,
        dns_upstreams: dns
            .map(|upstreams| upstreams.as_slice().to_vec())
            .unwrap_or_default(),
        services: Vec::new(),
        entries: Vec::new(),
        relay_servers: Vec::new(),
        public_http: None,
    }
}

/// Where the servers of catalogs are that go by the cell's own way, as far as their names are known; each once.
pub fn relay_servers(urls: &[CatalogUrl], names: &Names) -> Vec<SocketAddr> {
    let address = |url: &CatalogUrl| url.address().or_else(|| names.address(url.host()));
    let servers = urls.iter().filter_map(|url| {
        let at = SocketAddr::new(address(url)?.to_canonical(), url.port());
        // Of this machine or link there is none, whatever a name leads to.
        is_beyond(at.ip()).then_some(at)
    });
    servers.collect::<BTreeSet<_>>().into_iter().collect()
}

fn is_beyond(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(link_local || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
}

/// One peer of the specification: what a change of that peer sends. One that nothing carries stays on the network, where it reaches the
/// cell and what lies inside: what becomes of its exit is no reason to lock it out, and nothing of it leaves by another way.
pub fn peer_spec(range: &VpnRange, peer: &Peer, route: Route) -> PeerSpec {
    let by = |exit| PeerSpec {
        name: peer.name.to_string(),
        public_key: peer.public_key,
        addresses: range.addresses_of(peer.host),
        access: peer.access.clone(),
        exit,
        asks: exit,
    };
    match route {
        Route::Own => by(None),
        Route::Exit(id) => by(Some(id)),
        Route::Nowhere => by(None).without_exit(),
    }
}

impl PeerSpec {
    /// Whether it is bound to what does not carry it, and fails closed.
    pub fn is_nowhere(&self) -> bool {
        self.exit.is_none() && self.asks.is_some()
    }

    /// The same where its exit cannot be had.
    #[must_use]
    pub fn without_exit(self) -> Self {
        PeerSpec {
            access: self.access.inside(),
            exit: None,
            asks: Some(dns::no_exit()),
            ..self
        }
    }
}

fn cell_addresses(range: &VpnRange) -> [IpNet; 2] {
    [
        IpNet::V4(Ipv4Net::new_assert(
            range.v4_of(HostIndex::CELL),
            range.v4().prefix_len(),
        )),
        IpNet::V6(Ipv6Net::new_assert(
            range.v6_of(HostIndex::CELL),
            range.v6().prefix_len(),
        )),
    ]
}
