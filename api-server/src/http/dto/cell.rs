//! The cell as a whole: status, configuration, WireGuard, containers, services.

use cell_api_core::fault::Faults;
use cell_api_core::fields::Fields;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::peers::PeerActivity;
use crate::http::input::FromFields;
use crate::service::cell::ConfigInput;

/// That the process serves.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: &'static str,
    /// The cell's version.
    pub version: &'static str,
}

/// The cell at a glance.
#[derive(Debug, Serialize, ToSchema)]
pub struct Status {
    /// As chosen at setup.
    pub cell_name: String,
    /// E.g. `lan`.
    pub domain_mode: String,
    /// The cell's DNS domain.
    #[schema(example = "home.cell")]
    pub domain: String,
    /// Seconds since the API started.
    pub uptime_seconds: u64,
    /// The cell's version.
    pub version: String,
    /// Counter of accepted changes of the network.
    pub generation: u64,
    /// The generation that netd confirmed; equal to `generation` when converged.
    pub observed_generation: u64,
    /// Peers that there are.
    pub peer_count: u64,
    /// Peers with a handshake in the last 180 seconds; null while netd is not reachable.
    #[schema(required)]
    pub connected_peer_count: Option<u64>,
    /// `netd`, `broker`, `vault`, and `egress` and `openvpn` where the cell has them.
    pub daemons: Vec<Daemon>,
    /// When this was read, RFC 3339.
    pub timestamp: String,
}

/// One daemon as the API sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Daemon {
    /// `netd`, `broker`, `vault`, `egress` or `openvpn`.
    pub name: String,
    /// Whether it answers.
    pub reachable: bool,
    /// What it says of itself.
    pub conditions: Vec<Condition>,
}

/// One aspect of a daemon's status.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Condition {
    /// What it is about, e.g. `Converged`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds; what is unknown is treated as not holding.
    pub status: ConditionStatus,
    /// Why, UPPER_SNAKE; stable.
    pub reason: String,
    /// Why, for people.
    pub message: String,
}

/// Whether an aspect holds.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody could find out.
    Unknown,
}

/// The cell's configuration.
#[derive(Debug, Serialize, ToSchema)]
pub struct Config {
    /// As chosen at setup.
    pub cell_name: String,
    /// E.g. `lan`.
    pub domain_mode: String,
    /// The cell's DNS domain.
    pub domain: String,
    /// The VPN's IPv4 range.
    pub vpn_range_ipv4: String,
    /// The VPN's IPv6 range.
    pub vpn_range_ipv6: String,
    /// The cell's own IPv4 address in it.
    pub vpn_address_ipv4: String,
    /// The cell's own IPv6 address in it.
    pub vpn_address_ipv6: String,
    /// Where devices connect to; null when not known yet.
    #[schema(required)]
    pub endpoint_host: Option<String>,
    /// The UDP port that devices connect to.
    pub wireguard_port: u16,
    /// Resolvers that are asked for devices without an exit, and through exits that came without any.
    #[schema(example = json!(["9.9.9.9", "149.112.112.112"]))]
    pub dns_upstreams: Vec<String>,
}

/// A change of the configuration. Everything else is set by setup.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigUpdate {
    /// Host name or address that devices connect to.
    pub endpoint_host: Option<String>,
    /// Addresses of resolvers, each with a port where it is not 53; at most 8. An empty list is the default: Quad9.
    pub dns_upstreams: Option<Vec<String>>,
}

impl From<ConfigUpdate> for ConfigInput {
    fn from(update: ConfigUpdate) -> Self {
        let ConfigUpdate {
            endpoint_host,
            dns_upstreams,
        } = update;
        ConfigInput {
            endpoint_host,
            dns_upstreams,
        }
    }
}

/// The WireGuard interface.
#[derive(Debug, Serialize, ToSchema)]
pub struct WireguardStatus {
    /// Its name.
    pub interface: String,
    /// `kernel` or `userspace`; null while netd is not reachable.
    #[schema(required)]
    pub backend: Option<String>,
    /// The cell's public key, base64; null when nobody has told it yet.
    #[schema(required)]
    pub public_key: Option<String>,
    /// Its UDP port.
    pub listen_port: u16,
    /// Whether netd confirmed the latest generation.
    pub converged: bool,
    /// What moves, by peer, in the order of names; null while netd is not reachable.
    #[schema(required)]
    pub peers: Option<Vec<WireguardPeer>>,
}

/// A peer as WireGuard sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct WireguardPeer {
    /// Its name.
    pub name: String,
    /// What moves.
    #[serde(flatten)]
    pub activity: PeerActivity,
}

/// Containers of the cell.
#[derive(Debug, Serialize, ToSchema)]
pub struct ContainerList {
    /// Whether Docker can be used.
    pub docker: Docker,
    /// In the order of services.
    pub containers: Vec<Container>,
}

/// Whether Docker can be used.
#[derive(Debug, Serialize, ToSchema)]
pub struct Docker {
    /// Whether it answers.
    pub reachable: bool,
    /// Why not, UPPER_SNAKE; empty when it does.
    pub reason: String,
}

/// A container that the broker owns.
#[derive(Debug, Serialize, ToSchema)]
pub struct Container {
    /// The service it belongs to.
    pub service: String,
    /// Docker's id.
    pub id: String,
    /// Image reference.
    pub image: String,
    /// Docker's word for its state, e.g. `running`.
    pub state: String,
    /// RFC 3339; null: never.
    #[schema(required)]
    pub started_at: Option<String>,
    /// `healthy`, `unhealthy`, `starting`; null when there is no health check.
    #[schema(required)]
    pub health: Option<String>,
    /// How often Docker restarted it.
    pub restart_count: u32,
}

/// Services that are installed and on.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceList {
    /// In the order of names.
    pub services: Vec<ActiveService>,
}

/// A service that is installed and on.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActiveService {
    /// Its name.
    pub name: String,
    /// For people.
    pub title: String,
    /// Where browsers find it; null: not by a browser.
    #[schema(required)]
    pub url: Option<String>,
}

impl FromFields for ConfigUpdate {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        ConfigUpdate {
            endpoint_host: fields.optional_string("endpoint_host", faults),
            dns_upstreams: fields.optional_strings("dns_upstreams", faults),
        }
    }

    fn check(self) -> Faults {
        ConfigInput::from(self).faults()
    }
}
