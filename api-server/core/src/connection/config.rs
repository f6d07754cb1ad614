//! What a connection is besides its name and its allocation: all that is stored of an import, and none of it secret.

use serde::{Deserialize, Serialize};

use super::import::openvpn::OpenvpnExit;
use super::import::proxy::{Protocol, ProxyExit};
use super::import::ssh::SshExit;
use super::import::wireguard::WireguardExit;
use super::kind::Kind;

/// The configuration of a connection, by type. Its stored form is JSON that names the type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Config {
    /// A WireGuard tunnel.
    WireguardExt(WireguardExit),
    /// An OpenVPN tunnel.
    Openvpn(OpenvpnExit),
    /// Tor needs to be told nothing.
    Tor,
    /// A SSH server.
    Sshuttle(SshExit),
    /// A proxy.
    Proxy(ProxyExit),
    /// The link to the other cell says all.
    CellRelay,
}

/// Stored text that is no [`Config`]. Never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the configuration of a connection")]
pub struct InvalidConfig;

/// What is shown of a configuration, whatever its type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// Where it connects to, in the order in which it is tried.
    pub servers: Vec<Server>,
    /// Whom it signs in as, where that is no secret.
    pub username: Option<String>,
    /// The cell's addresses in the tunnel.
    pub addresses: Vec<String>,
    /// Resolvers to ask through the tunnel.
    pub resolvers: Vec<String>,
    /// The server's keys that are pinned, each as `algorithm base64`.
    pub host_public_keys: Vec<String>,
}

/// A server as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `wireguard`, `openvpn/udp`, `openvpn/tcp`, `ssh`, `socks5` or `http`.
    pub protocol: &'static str,
    /// An address or a DNS name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its key, where it has one of WireGuard's.
    pub public_key: Option<String>,
}

impl Config {
    /// The type of the connection that has it.
    pub fn kind(&self) -> Kind {
        match self {
            Config::WireguardExt(_) => Kind::WireguardExt,
            Config::Openvpn(_) => Kind::Openvpn,
            Config::Tor => Kind::Tor,
            Config::Sshuttle(_) => Kind::Sshuttle,
            Config::Proxy(_) => Kind::Proxy,
            Config::CellRelay => Kind::CellRelay,
        }
    }

    /// Its stored form.
    ///
    /// # Errors
    /// None that can happen: it is plain data.
    pub fn to_json(&self) -> Result<String, InvalidConfig> {
        serde_json::to_string(self).map_err(|_| InvalidConfig)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`InvalidConfig`].
    pub fn from_json(text: &str) -> Result<Self, InvalidConfig> {
        serde_json::from_str(text).map_err(|_| InvalidConfig)
    }

    /// What is shown of it.
    pub fn shown(&self) -> Shown {
        match self {
            Config::WireguardExt(exit) => of_wireguard(exit),
            Config::Openvpn(exit) => of_openvpn(exit),
            Config::Sshuttle(exit) => Shown {
                servers: vec![server("ssh", &exit.host, exit.port)],
                username: Some(exit.user.clone()),
                host_public_keys: exit.host_keys.clone(),
                ..Shown::default()
            },
            Config::Proxy(exit) => {
                let protocol = match exit.protocol {
                    Protocol::Socks5 => "socks5",
                    Protocol::HttpConnect => "http",
                };
                Shown {
                    servers: vec![server(protocol, &exit.host, exit.port)],
                    username: exit.username.clone(),
                    ..Shown::default()
                }
            }
            Config::Tor | Config::CellRelay => Shown::default(),
        }
    }
}

fn of_wireguard(exit: &WireguardExit) -> Shown {
    let servers = exit.peers.iter().map(|peer| Server {
        public_key: Some(peer.public_key.to_string()),
        ..server("wireguard", &peer.host, peer.port)
    });
    Shown {
        servers: servers.collect(),
        addresses: exit.addresses.iter().map(ToString::to_string).collect(),
        resolvers: exit.resolvers.iter().map(ToString::to_string).collect(),
        ..Shown::default()
    }
}

fn of_openvpn(exit: &OpenvpnExit) -> Shown {
    let servers = exit.remotes.iter().map(|remote| {
        let protocol = if remote.tcp { "openvpn/tcp" } else { "openvpn/udp" };
        server(protocol, &remote.host, remote.port)
    });
    Shown {
        servers: servers.collect(),
        ..Shown::default()
    }
}

fn server(protocol: &'static str, host: &crate::name::EndpointHost, port: u16) -> Server {
    Server {
        protocol,
        host: host.to_string(),
        port,
        public_key: None,
    }
}
