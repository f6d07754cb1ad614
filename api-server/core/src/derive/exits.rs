//! From connections to what netd and `cell-egress` are asked for.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::connection::allocation::{Allocation, Device};
use crate::connection::config::Config;
use crate::connection::driven::Pushed;
use crate::connection::id::ConnectionId;
use crate::connection::import::proxy::Protocol;
use crate::connection::import::wireguard::{ExitPeer, WireguardExit};
use crate::connection::names::Names;
use crate::key::PublicKey;
use crate::name::EndpointHost;

use super::openvpn::{UserTunnel, user_tunnel};

/// A connection, as far as the daemons must know it.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its identity.
    pub id: ConnectionId,
    /// What it was given.
    pub allocation: &'a Allocation,
    /// What it was made of.
    pub config: &'a Config,
    /// Whether vaultd has all its secrets. Where they are missing, or are those of another import, its servers are not told,
    /// so that nothing of one import is sent to the servers of the other.
    pub secrets_whole: bool,
    /// Counts with each change.
    pub revision: u64,
    /// Of which import vaultd has its secrets; 0: of none that vaultd knows.
    pub secret_revision: u64,
    /// Where Tor's SOCKS port is on the cell.
    pub tor: SocketAddr,
    /// What names of servers lead to.
    pub names: &'a Names,
    /// What its server gave, where one gives anything.
    pub pushed: Option<&'a Pushed>,
}

/// A way out, as netd has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitSpec {
    /// The connection.
    pub id: ConnectionId,
    /// Its packets' mark.
    pub mark: u32,
    /// How it takes traffic over.
    pub way: ExitWay,
}

/// See [`ExitSpec`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitWay {
    /// By a WireGuard interface.
    Wireguard(Tunnel),
    /// By an interface that `cell-openvpn` reads and writes.
    Tunnel(UserTunnel),
    /// By a port of `cell-egress`.
    Redirect {
        /// The port.
        port: u16,
        /// Where `cell-egress` may connect to for it.
        servers: Vec<SocketAddr>,
    },
}

/// A WireGuard tunnel whose client the cell is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// Its routing table.
    pub table: u32,
    /// Its interface.
    pub interface: String,
    /// The cell's addresses in it, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// Bytes; `None`: netd's default.
    pub mtu_bytes: Option<u16>,
    /// Its servers.
    pub far_ends: Vec<FarEnd>,
    /// Resolvers that it came with: `cell-egress` asks them through it, and netd does not hear of them.
    pub resolvers: Vec<IpAddr>,
    /// Another number than before: netd must read its keys again.
    pub secret_revision: u64,
}

/// A server of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarEnd {
    /// Its key.
    pub public_key: PublicKey,
    /// Where it is; `None` while that is not known.
    pub endpoint: Option<SocketAddr>,
    /// Seconds; 0: none.
    pub keepalive_seconds: u16,
    /// What it carries.
    pub allowed_ips: Vec<IpNet>,
    /// Whether the vault has a preshared key for it.
    pub has_preshared_key: bool,
}

/// An exit, as `cell-egress` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelaySpec {
    /// The connection.
    pub id: ConnectionId,
    /// Its port.
    pub port: u16,
    /// Where it connects to.
    pub server: SocketAddr,
    /// How.
    pub kind: RelayKind,
    /// Of which import its secret is: `cell-egress` uses no other with this server. 0: of none, and where it has no secret.
    pub secret_revision: u64,
}

/// See [`RelaySpec`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayKind {
    /// RFC 1928, with a user's name if it has one.
    Socks5(Option<String>),
    /// RFC 9110, section 9.3.6.
    HttpConnect(Option<String>),
    /// Tor's SOCKS port.
    Tor,
    /// SSH.
    Ssh {
        /// Whom to sign in as.
        username: String,
        /// The server's keys.
        host_keys: Vec<String>,
    },
}

impl RelayKind {
    /// Whether it needs a secret.
    fn logs_in(&self) -> bool {
        match self {
            RelayKind::Socks5(username) | RelayKind::HttpConnect(username) => username.is_some(),
            RelayKind::Tor => false,
            RelayKind::Ssh { .. } => true,
        }
    }
}

/// The DNS names of a connection's servers.
pub fn server_names(config: &Config) -> Vec<&str> {
    match config {
        Config::WireguardExt(exit) => exit.peers.iter().filter_map(|peer| name_of(&peer.host)).collect(),
        Config::Sshuttle(exit) => name_of(&exit.host).into_iter().collect(),
        Config::Proxy(exit) => name_of(&exit.host).into_iter().collect(),
        Config::Openvpn(exit) => exit
            .remotes
            .iter()
            .filter_map(|remote| name_of(&remote.host))
            .collect(),
        Config::Tor | Config::CellRelay => Vec::new(),
    }
}

fn name_of(host: &EndpointHost) -> Option<&str> {
    match host {
        EndpointHost::Name(name) => Some(name),
        EndpointHost::Address(_) => None,
    }
}

/// What netd is to have of a connection; `None` for a type that it does not carry.
///
/// Every connection of the other types is told, used or not: its health can be seen before a peer is bound to it, and
/// a peer that is bound to one that cannot work has a way that leads nowhere, and not another way.
pub fn exit_spec(source: &Source<'_>) -> Option<ExitSpec> {
    let Allocation { mark, table, device } = source.allocation;
    let way = match (source.config, device) {
        (Config::WireguardExt(exit), Device::Interface(interface)) => {
            ExitWay::Wireguard(tunnel(source, exit, *table, interface))
        }
        (Config::Openvpn(exit), Device::Interface(interface)) => {
            ExitWay::Tunnel(user_tunnel(source, exit, *table, interface))
        }
        (Config::Tor | Config::Sshuttle(_) | Config::Proxy(_), Device::RedirectPort(port)) => {
            ExitWay::Redirect {
                port: *port,
                servers: relay_spec(source).into_iter().map(|relay| relay.server).collect(),
            }
        }
        (Config::CellRelay, _)
        | (Config::WireguardExt(_) | Config::Openvpn(_), Device::RedirectPort(_) | Device::Link)
        | (Config::Tor | Config::Sshuttle(_) | Config::Proxy(_), Device::Interface(_) | Device::Link) => {
            return None;
        }
    };
    Some(ExitSpec {
        id: source.id,
        mark: *mark,
        way,
    })
}

/// What `cell-egress` is to have of a connection; `None` for one that it does not carry, or whose secrets or server are
/// not known: its port is closed then.
pub fn relay_spec(source: &Source<'_>) -> Option<RelaySpec> {
    let Device::RedirectPort(port) = source.allocation.device else {
        return None;
    };
    let (server, kind) = match source.config {
        Config::Tor => (Some(source.tor), RelayKind::Tor),
        Config::Sshuttle(exit) => {
            let kind = RelayKind::Ssh {
                username: exit.user.clone(),
                host_keys: exit.used_host_keys(),
            };
            (place(&exit.host, exit.port, source.names), kind)
        }
        Config::Proxy(exit) => {
            let kind = match exit.protocol {
                Protocol::Socks5 => RelayKind::Socks5(exit.username.clone()),
                Protocol::HttpConnect => RelayKind::HttpConnect(exit.username.clone()),
            };
            (place(&exit.host, exit.port, source.names), kind)
        }
        Config::WireguardExt(_) | Config::Openvpn(_) | Config::CellRelay => return None,
    };
    // Without a secret it is the same exit after each import that leads to the same server, and keeps its connections.
    let secret_revision = if kind.logs_in() { source.secret_revision } else { 0 };
    Some(RelaySpec {
        id: source.id,
        port,
        server: server.filter(|_| source.secrets_whole)?,
        kind,
        secret_revision,
    })
}

fn tunnel(source: &Source<'_>, exit: &WireguardExit, table: u32, interface: &str) -> Tunnel {
    let first = |is_v4: bool| {
        exit.addresses
            .iter()
            .map(IpNet::addr)
            .find(|a| a.is_ipv4() == is_v4)
    };
    let far_end = |peer: &ExitPeer| FarEnd {
        public_key: peer.public_key,
        endpoint: place(&peer.host, peer.port, source.names).filter(|_| source.secrets_whole),
        keepalive_seconds: peer.keepalive_seconds,
        allowed_ips: peer.allowed_ips.clone(),
        has_preshared_key: peer.preshared_key,
    };
    Tunnel {
        table,
        interface: interface.to_owned(),
        addresses: first(true).into_iter().chain(first(false)).collect(),
        mtu_bytes: exit.mtu,
        far_ends: exit.peers.iter().map(far_end).collect(),
        resolvers: exit.resolvers.clone(),
        secret_revision: source.revision,
    }
}

pub(super) fn place(host: &EndpointHost, port: u16, names: &Names) -> Option<SocketAddr> {
    match host {
        EndpointHost::Address(address) => Some(SocketAddr::new(*address, port)),
        EndpointHost::Name(name) => names.address(name).map(|address| SocketAddr::new(address, port)),
    }
}

#[cfg(test)]
mod tests;
