//! What is asked for, unchecked. The wire's messages are turned into this without a decision; a value that the wire
//! carried wrongly travels as the sentence that says so, so that [`crate::validate`] names all faults at once.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::model::Protocol;

/// A value, or what is wrong with it.
pub type Parsed<T> = Result<T, String>;

/// Everything that netd should own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkSpec {
    /// None: no interface.
    pub wireguard: Option<WireguardSpec>,
    /// Devices.
    pub peers: Vec<PeerSpec>,
    /// Ports of the cell that every peer may reach.
    pub cell_ports: Vec<CellPortSpec>,
    /// Ways out that peers may be bound to.
    pub exits: Vec<ExitSpec>,
    /// Resolvers that the relay asks for peers without an exit.
    pub dns_upstreams: Vec<Parsed<SocketAddr>>,
    /// Servers that `cell-egress` connects to for the cell itself.
    pub relay_servers: Vec<Parsed<SocketAddr>>,
    /// Bridges that containers of services hang on.
    pub service_networks: Vec<ServiceNetworkSpec>,
    /// Services at addresses in the VPN.
    pub entries: Vec<ServiceEntrySpec>,
    /// The container that the internet reaches by TCP 80 of the machine.
    pub public_http: Option<Parsed<SocketAddr>>,
}

/// A service that devices find at an address in the VPN and that a container answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEntrySpec {
    /// Where they find it; none: the request did not say.
    pub at: Option<ServiceSpec>,
    /// Who answers; none: the request did not say.
    pub to: Option<ServiceSpec>,
    /// Every peer may.
    pub everyone: bool,
}

/// The network of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceNetworkSpec {
    /// The service's name.
    pub name: String,
    /// Name of the bridge.
    pub bridge: String,
    /// Where its containers lie.
    pub subnet: Parsed<IpNet>,
    /// Public addresses.
    pub internet: bool,
    /// Id of its exit; empty: the machine's own way out.
    pub exit: String,
    /// Single services that its containers may reach.
    pub reach: Vec<ServiceSpec>,
    /// TCP ports of its containers that users of this machine may open.
    pub called: Vec<Parsed<SocketAddr>>,
}

/// A way to the internet that is not the machine's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitSpec {
    /// Its id.
    pub id: String,
    /// Of its packets.
    pub mark: u32,
    /// Its routing table; 0 where it has none.
    pub table: u32,
    /// Its interface; empty where it has none.
    pub interface: String,
    /// What it is; none: the request did not say.
    pub way: Option<WaySpec>,
}

/// Kinds of exits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaySpec {
    /// A tunnel to somebody else's WireGuard server.
    Wireguard(WireguardExitSpec),
    /// The relay on this machine.
    Redirect(RedirectSpec),
    /// A tunnel that a program on this machine carries.
    Tunnel(UserTunnelSpec),
}

/// A TUN that is made for one user, and where that user may send what it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserTunnelSpec {
    /// Of the near end; none: not known.
    pub addresses: Vec<Parsed<IpAddr>>,
    /// Bytes; 0 is the default.
    pub mtu_bytes: u32,
    /// Its servers.
    pub servers: Vec<TunnelServerSpec>,
}

/// A server of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelServerSpec {
    /// Where it is.
    pub endpoint: Parsed<SocketAddr>,
    /// How it is spoken to.
    pub protocol: Parsed<Protocol>,
}

/// The relay that an exit's TCP is redirected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectSpec {
    /// Its TCP port.
    pub port: u32,
    /// Where it may connect to.
    pub servers: Vec<Parsed<SocketAddr>>,
}

/// A WireGuard tunnel that the cell is the client of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireguardExitSpec {
    /// Of the near end.
    pub addresses: Vec<Parsed<IpAddr>>,
    /// Bytes; 0 is the default.
    pub mtu_bytes: u32,
    /// Its servers.
    pub far_ends: Vec<FarEndSpec>,
    /// Another one than before: vaultd has other keys.
    pub secret_revision: u64,
}

/// A server at the other end of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarEndSpec {
    /// Its public key.
    pub public_key: Vec<u8>,
    /// Where it is; none: not known.
    pub endpoint: Option<Parsed<SocketAddr>>,
    /// Seconds; 0 is off.
    pub persistent_keepalive_seconds: u32,
    /// What it carries.
    pub allowed_ips: Vec<Parsed<IpNet>>,
    /// Whether vaultd has one for it.
    pub has_preshared_key: bool,
}

/// The WireGuard interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireguardSpec {
    /// Its name.
    pub interface: String,
    /// UDP port.
    pub listen_port: u32,
    /// The cell's own addresses with the VPN's prefix lengths.
    pub addresses: Vec<Parsed<IpNet>>,
    /// Bytes; 0 is the default.
    pub mtu_bytes: u32,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSpec {
    /// Its name.
    pub name: String,
    /// Its public key.
    pub public_key: Vec<u8>,
    /// Its addresses.
    pub addresses: Vec<Parsed<IpAddr>>,
    /// Where to send the first handshake.
    pub endpoint: Option<Parsed<SocketAddr>>,
    /// Seconds; 0 is off.
    pub persistent_keepalive_seconds: u32,
    /// What it may reach.
    pub access: Option<AccessSpec>,
    /// Id of its exit; empty: the machine's own way out.
    pub exit: String,
}

/// What a peer may reach.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessSpec {
    /// Public addresses.
    pub internet: bool,
    /// Other peers that have it too.
    pub peer_to_peer: bool,
    /// Single services.
    pub services: Vec<ServiceSpec>,
}

/// Where a service listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its address.
    pub address: Parsed<IpAddr>,
    /// Its protocol.
    pub protocol: Parsed<Protocol>,
    /// Its port.
    pub port: u32,
}

/// A port of the cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellPortSpec {
    /// Its protocol.
    pub protocol: Parsed<Protocol>,
    /// What peers connect to.
    pub port: u32,
    /// A port on the hidden service addresses; 0: no translation.
    pub target_port: u32,
    /// The same, for whoever is bound to an exit; 0: as for everybody.
    pub bound_target_port: u32,
}

/// A change of some peers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeltaSpec {
    /// To add or replace, by name.
    pub upserted_peers: Vec<PeerSpec>,
    /// To remove, by name; the absent are ignored.
    pub removed_peers: Vec<String>,
}
