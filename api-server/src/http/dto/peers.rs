//! Peers.

use cell_api_core::access::{AccessInput, AccessPolicy, Service, ServiceInput};
use cell_api_core::connection::choice::ExitInput;
use cell_api_core::fault::Faults;
use cell_api_core::fields::Fields;
use cell_api_core::peer::{PeerInput, PeerUpdateInput};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{exit, rfc3339};
use crate::http::input::FromFields;
use crate::service::peers::{Activity, PeerView};

/// What a peer may reach beyond the cell itself.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PeerAccess {
    /// Public addresses through the cell.
    #[serde(default)]
    pub internet: bool,
    /// Other peers that have it too.
    #[serde(default)]
    pub peer_to_peer: bool,
    /// Single services, at most 256.
    #[serde(default)]
    pub services: Vec<ServiceAccess>,
}

/// A service that a peer, or a service's container, may reach.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceAccess {
    /// IPv4 or IPv6 address.
    #[schema(example = "10.0.5.7")]
    pub address: String,
    /// `tcp` or `udp`.
    #[schema(example = "tcp")]
    pub protocol: String,
    /// 1-65535.
    #[schema(minimum = 1, maximum = 65535)]
    pub port: u64,
}

/// A new peer.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PeerCreate {
    /// 1-64 characters of A-Z, a-z, 0-9, _, . and -, starting with a letter or digit.
    #[schema(example = "annas-laptop")]
    pub name: String,
    /// Base64 of the device's WireGuard public key. Absent only with `server_makes_key`.
    pub public_key: Option<String>,
    /// Lets the server make the key pair; the answer's configuration holds the private key, this once.
    #[serde(default)]
    pub server_makes_key: bool,
    /// Absent: nothing beyond the cell itself.
    pub access: Option<PeerAccess>,
    /// `full` or `split`; absent: `full` with internet access, else `split`.
    pub tunnel: Option<String>,
    /// The connection that carries what it sends to the internet: its id, its name, or its type where one connection alone
    /// has it. Null or `default`: the cell's own way.
    pub exit_connection_id: Option<String>,
    /// The same, by its old name.
    #[schema(deprecated)]
    pub route_via: Option<String>,
    /// The same, by another old name.
    #[schema(deprecated)]
    pub exit_via: Option<String>,
    /// What happens while that connection does not work: true, it goes out directly; false, it goes nowhere; null, as the connection's
    /// type says.
    #[schema(value_type = Option<bool>)]
    pub fail_open: Option<Option<bool>>,
    /// What stands in for it meanwhile, each named as it is, the first first; at most 8.
    pub fallback_connection_ids: Option<Vec<String>>,
}

/// A change of a peer; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PeerUpdate {
    /// A new WireGuard public key of the same peer.
    pub public_key: Option<String>,
    /// Replaces the whole policy.
    pub access: Option<PeerAccess>,
    /// `full` or `split`.
    pub tunnel: Option<String>,
    /// As for a new peer; null binds it to none.
    pub exit_connection_id: Option<String>,
    /// The same, by its old name.
    #[schema(deprecated)]
    pub route_via: Option<String>,
    /// The same, by another old name.
    #[schema(deprecated)]
    pub exit_via: Option<String>,
    /// What happens while that connection does not work: true, it goes out directly; false, it goes nowhere; null, as the connection's
    /// type says.
    #[schema(value_type = Option<bool>)]
    pub fail_open: Option<Option<bool>>,
    /// What stands in for it meanwhile, each named as it is, the first first; at most 8.
    pub fallback_connection_ids: Option<Vec<String>>,
}

/// What moves about a peer.
#[derive(Debug, Serialize, ToSchema)]
pub struct PeerActivity {
    /// Whether the last handshake is younger than 180 seconds.
    pub connected: bool,
    /// RFC 3339; null: never.
    #[schema(required)]
    pub latest_handshake_at: Option<String>,
    /// Bytes that the cell received from it.
    pub received_bytes: u64,
    /// Bytes that the cell sent to it.
    pub sent_bytes: u64,
    /// Where it connects from, `address:port`; null before the first handshake.
    #[schema(required)]
    pub endpoint: Option<String>,
}

/// A peer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its WireGuard public key, base64.
    pub public_key: String,
    /// Its IPv4 address in the VPN.
    pub ipv4: String,
    /// Its IPv6 address in the VPN.
    pub ipv6: String,
    /// What it may reach.
    pub access: PeerAccess,
    /// `full` or `split`.
    pub tunnel: String,
    /// Id of the connection that carries what it sends to the internet; null: the cell's own way.
    #[schema(required)]
    pub exit_connection_id: Option<String>,
    /// The same, by its old name.
    #[schema(required, deprecated)]
    pub route_via: Option<String>,
    /// Its own word on what happens while that connection does not work: true, it goes out directly; false, it goes
    /// nowhere; null: as the connection's type says (tor goes out directly, all others nowhere).
    #[schema(required)]
    pub fail_open: Option<bool>,
    /// Ids of what stands in for that connection while it does not work, the first first.
    pub fallback_connection_ids: Vec<String>,
    /// Which way what it sends to the internet has now, where it may send there: `direct`, by the cell's own way; `exit`;
    /// `nowhere`, while its connection does not work.
    #[schema(example = "exit")]
    pub way: String,
    /// With `exit`: id of the connection that carries it now, its own or one that stands in; else null.
    #[schema(required)]
    pub way_connection_id: Option<String>,
    /// Whether the device's configuration is older than the cell's.
    pub config_needs_reinstall: bool,
    /// Names this state of the peer; the same as the answer's `ETag`. Sent back as `If-Match` with a change.
    pub version: String,
    /// RFC 3339.
    pub created_at: String,
    /// What moves; null while netd is not reachable: unknown is not "off".
    #[schema(required)]
    pub activity: Option<PeerActivity>,
}

/// All peers.
#[derive(Debug, Serialize, ToSchema)]
pub struct PeerList {
    /// In the order of names.
    pub peers: Vec<Peer>,
}

/// A peer that was added. Accepted and converged are two facts: the device can connect when `observed_generation` is
/// at least `generation`, here or later in the status.
#[derive(Serialize, ToSchema)]
pub struct PeerCreated {
    /// As stored.
    pub peer: Peer,
    /// wg-quick text for the device, shown this once if the server made the key.
    pub config: String,
    /// The generation of the network that has the peer.
    pub generation: u64,
    /// The generation that netd had confirmed when this was answered.
    pub observed_generation: u64,
}

/// A device's configuration.
#[derive(Serialize, ToSchema)]
pub struct PeerConfig {
    /// wg-quick text with an empty `PrivateKey = `: nobody but the device has it.
    pub config: String,
}

impl From<PeerView> for Peer {
    fn from(view: PeerView) -> Self {
        let (way, way_connection_id) = view.way();
        Peer {
            way: way.to_owned(),
            way_connection_id,
            name: view.peer.name.to_string(),
            public_key: view.peer.public_key.to_string(),
            ipv4: view.ipv4.to_string(),
            ipv6: view.ipv6.to_string(),
            access: (&view.peer.access).into(),
            tunnel: view.peer.tunnel.as_str().to_owned(),
            exit_connection_id: view.peer.exit.bound().map(|id| id.to_string()),
            route_via: view.peer.exit.bound().map(|id| id.to_string()),
            fail_open: view.peer.exit.fail_open(),
            fallback_connection_ids: view
                .peer
                .exit
                .fallbacks()
                .iter()
                .map(ToString::to_string)
                .collect(),
            config_needs_reinstall: view.config_needs_reinstall,
            version: view.version,
            created_at: rfc3339(view.created_unix_ms),
            activity: view.activity.map(PeerActivity::from),
        }
    }
}

impl From<Activity> for PeerActivity {
    fn from(activity: Activity) -> Self {
        PeerActivity {
            connected: activity.connected,
            latest_handshake_at: activity.latest_handshake_unix_ms.map(rfc3339),
            received_bytes: activity.received_bytes,
            sent_bytes: activity.sent_bytes,
            endpoint: activity.endpoint.map(|endpoint| endpoint.to_string()),
        }
    }
}

impl From<&AccessPolicy> for PeerAccess {
    fn from(access: &AccessPolicy) -> Self {
        PeerAccess {
            internet: access.internet,
            peer_to_peer: access.peer_to_peer,
            services: access.services.iter().map(ServiceAccess::from).collect(),
        }
    }
}

impl From<&Service> for ServiceAccess {
    fn from(service: &Service) -> Self {
        ServiceAccess {
            address: service.address.to_string(),
            protocol: service.protocol.as_str().to_owned(),
            port: service.port.into(),
        }
    }
}

impl From<ServiceAccess> for ServiceInput {
    fn from(service: ServiceAccess) -> Self {
        ServiceInput {
            address: service.address,
            protocol: service.protocol,
            port: service.port,
        }
    }
}

impl From<PeerAccess> for AccessInput {
    fn from(access: PeerAccess) -> Self {
        AccessInput {
            internet: access.internet,
            peer_to_peer: access.peer_to_peer,
            services: access.services.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<PeerCreate> for PeerInput {
    fn from(create: PeerCreate) -> Self {
        PeerInput {
            name: create.name,
            public_key: create.public_key,
            server_makes_key: create.server_makes_key,
            access: create.access.map(AccessInput::from),
            tunnel: create.tunnel,
            exit: ExitInput {
                exit: create.exit_connection_id.or(create.route_via).or(create.exit_via),
                fail_open: create.fail_open,
                fallbacks: create.fallback_connection_ids,
            },
        }
    }
}

impl From<PeerUpdate> for PeerUpdateInput {
    fn from(update: PeerUpdate) -> Self {
        PeerUpdateInput {
            public_key: update.public_key,
            access: update.access.map(AccessInput::from),
            tunnel: update.tunnel,
            exit: ExitInput {
                exit: update.exit_connection_id.or(update.route_via).or(update.exit_via),
                fail_open: update.fail_open,
                fallbacks: update.fallback_connection_ids,
            },
        }
    }
}

impl PeerAccess {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        PeerAccess {
            internet: fields.flag("internet", faults),
            peer_to_peer: fields.flag("peer_to_peer", faults),
            services: fields.objects("services", faults, ServiceAccess::read),
        }
    }
}

impl ServiceAccess {
    pub(super) fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        ServiceAccess {
            address: fields.string("address", faults),
            protocol: fields.string("protocol", faults),
            port: fields.number("port", faults),
        }
    }
}

impl FromFields for PeerCreate {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        PeerCreate {
            name: fields.string("name", faults),
            public_key: fields.optional_string("public_key", faults),
            server_makes_key: fields.flag("server_makes_key", faults),
            access: fields.optional_object("access", faults, PeerAccess::read),
            tunnel: fields.optional_string("tunnel", faults),
            exit_connection_id: exit::read(fields, faults),
            route_via: None,
            exit_via: None,
            fail_open: fields.nullable_flag_if_there("fail_open", faults),
            fallback_connection_ids: fields.optional_strings("fallback_connection_ids", faults),
        }
    }

    fn check(self) -> Faults {
        PeerInput::from(self).check().err().unwrap_or_default()
    }
}

impl FromFields for PeerUpdate {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        PeerUpdate {
            public_key: fields.optional_string("public_key", faults),
            access: fields.optional_object("access", faults, PeerAccess::read),
            tunnel: fields.optional_string("tunnel", faults),
            exit_connection_id: exit::read(fields, faults),
            route_via: None,
            exit_via: None,
            fail_open: fields.nullable_flag_if_there("fail_open", faults),
            fallback_connection_ids: fields.optional_strings("fallback_connection_ids", faults),
        }
    }

    fn check(self) -> Faults {
        PeerUpdateInput::from(self).check().err().unwrap_or_default()
    }
}
