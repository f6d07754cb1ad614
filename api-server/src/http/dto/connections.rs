//! Connections.

use cell_api_core::connection::allocation::Device;
use cell_api_core::connection::config::{Server, Shown};
use cell_api_core::connection::input::{ConnectionInput, ConnectionUpdateInput, ImportInput};
use cell_api_core::connection::judge::Judged;
use cell_api_core::fault::Faults;
use cell_api_core::fields::Fields;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::plan::{NetdPlan, PlanStatement};
use super::rfc3339;
use crate::http::input::FromFields;
use crate::service::connections::{ConnectionView, Stored, UpdatePlan};

/// What a connection is made of. Which fields there must be depends on its type: `wireguard_ext` takes `file`; `openvpn`
/// takes `file`, and `username` and `password` where the profile asks for them; `sshuttle` takes `target`,
/// `private_key` and `host_keys`; `proxy` takes `url`; `tor` takes none. What is secret in it goes to the vault and is
/// never answered.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionImport {
    /// A WireGuard configuration file, or an OpenVPN profile with its certificates inline.
    pub file: Option<String>,
    /// For an OpenVPN profile that asks for a user's name.
    pub username: Option<String>,
    /// To it.
    pub password: Option<String>,
    /// `socks5://[user:password@]host[:port]` or `http://[user:password@]host:port`.
    pub url: Option<String>,
    /// `user@host[:port]`.
    pub target: Option<String>,
    /// In OpenSSH's format, without a passphrase.
    pub private_key: Option<String>,
    /// The server's public keys: lines of known_hosts or ssh-keyscan, or keys alone.
    pub host_keys: Option<String>,
}

/// A new connection.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionCreate {
    /// 1-64 characters of A-Z, a-z, 0-9, _, . and -, starting with a letter or digit.
    #[schema(example = "mullvad-se")]
    pub name: String,
    /// `wireguard_ext`, `openvpn`, `tor`, `sshuttle` or `proxy`.
    #[schema(example = "wireguard_ext")]
    pub r#type: String,
    /// What it is made of; absent for `tor`.
    pub import: Option<ConnectionImport>,
}

/// A change of a connection; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionUpdate {
    /// A new name.
    pub name: Option<String>,
    /// Replaces what it is made of, its secrets included; its type stays.
    pub import: Option<ConnectionImport>,
}

/// A server of a connection.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionServer {
    /// `wireguard`, `openvpn/udp`, `openvpn/tcp`, `ssh`, `socks5` or `http`.
    pub protocol: String,
    /// An address or a DNS name.
    pub host: String,
    /// 1-65535.
    pub port: u16,
    /// WireGuard's, base64; null for other protocols.
    #[schema(required)]
    pub public_key: Option<String>,
}

/// What is shown of a connection's import.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionConfig {
    /// Where it connects to, in the order in which it is tried.
    pub servers: Vec<ConnectionServer>,
    /// Whom it signs in as; null where it does not, or where that is a secret.
    #[schema(required)]
    pub username: Option<String>,
    /// The cell's addresses in the tunnel, with their prefixes.
    pub addresses: Vec<String>,
    /// Resolvers to ask through the tunnel.
    pub resolvers: Vec<String>,
    /// The server's keys that are pinned, each as `algorithm base64`.
    pub host_public_keys: Vec<String>,
}

/// Whether a connection works.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionStatus {
    /// `working`, `down` or `unknown`.
    pub health: String,
    /// When that was seen, RFC 3339; null: nothing was seen.
    #[schema(required)]
    pub timestamp: Option<String>,
    /// When something last came back through it: a handshake, a connection, or an answer to one of the cell's own questions,
    /// RFC 3339; null: nothing has.
    #[schema(required)]
    pub proven_at: Option<String>,
    /// Why that is thought, for people.
    pub detail: String,
}

/// An exit that the traffic of peers may take. No field of it holds a secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct Connection {
    /// A UUID in lower case.
    pub id: String,
    /// `wireguard_ext`, `openvpn`, `tor`, `sshuttle`, `proxy` or `cell_relay`.
    pub r#type: String,
    /// Its name.
    pub name: String,
    /// Mark of its packets.
    #[schema(example = "0x1000")]
    pub mark: String,
    /// Its routing table.
    pub table: u32,
    /// Its interface; null for types without one.
    #[schema(required)]
    pub iface: Option<String>,
    /// The port that its traffic is redirected to; null for types without one.
    #[schema(required)]
    pub redirect_port: Option<u16>,
    /// What it was made of.
    pub config: ConnectionConfig,
    /// What its secrets are called at the vault.
    pub vault_names: Vec<String>,
    /// Whether it works.
    pub status: ConnectionStatus,
    /// Names this state of the connection; the same as the answer's `ETag`. Sent back as `If-Match` with a change.
    pub version: String,
    /// RFC 3339.
    pub created_at: String,
}

/// All connections.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionList {
    /// In the order of names.
    pub connections: Vec<Connection>,
}

/// A connection that was made or altered.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionStored {
    /// As stored.
    pub connection: Connection,
    /// What of the import is not used and why, for people.
    pub notes: Vec<String>,
}

/// What a change of a connection would do. Nothing is stored, and nothing is done.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionPlan {
    /// What it means, and to whom. At least one; for a change of nothing, that it is one. Kinds: `servers`, `ends`, `bound`,
    /// `secrets`, `renamed` and `nothing`.
    pub statements: Vec<PlanStatement>,
    /// Names of the services that use the connection, where it is made anew.
    pub services: Vec<String>,
    /// `stays`, or `touched`: the author's own device goes by it.
    #[schema(example = "stays")]
    pub own_path: String,
    /// Never: such a change does not wait, since the secrets of now are not kept anywhere.
    pub confirm_advised: bool,
    /// What the author should know.
    #[schema(required)]
    pub warning: Option<String>,
    /// Whether netd takes the exit as it would be; null: it is away, or hears nothing of the change.
    #[schema(required)]
    pub netd: Option<NetdPlan>,
    /// What of the import is not used and why, for people.
    pub notes: Vec<String>,
}

/// The connection after a change; with `validate_only`, what the change would do.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ConnectionOrPlan {
    /// It was made.
    Made(Box<ConnectionStored>),
    /// It would be made.
    Planned(ConnectionPlan),
}

impl From<UpdatePlan> for ConnectionPlan {
    fn from(planned: UpdatePlan) -> Self {
        let UpdatePlan { plan, netd, notes } = planned;
        ConnectionPlan {
            statements: plan.told().into_iter().map(PlanStatement::from).collect(),
            services: plan.services().to_vec(),
            own_path: plan.own_path().to_owned(),
            confirm_advised: false,
            warning: plan.warning().map(str::to_owned),
            netd: netd.map(NetdPlan::from),
            notes,
        }
    }
}

impl From<Stored> for ConnectionStored {
    fn from(stored: Stored) -> Self {
        ConnectionStored {
            connection: stored.view.into(),
            notes: stored.notes,
        }
    }
}

impl From<ConnectionView> for Connection {
    fn from(view: ConnectionView) -> Self {
        let (version, vault_names) = (view.version(), view.vault_names());
        let stored = view.stored;
        let (iface, redirect_port) = match stored.allocation.device {
            Device::Interface(name) => (Some(name), None),
            Device::RedirectPort(port) => (None, Some(port)),
            Device::Link => (None, None),
        };
        Connection {
            id: stored.id.to_string(),
            r#type: stored.config.kind().to_string(),
            name: stored.name.to_string(),
            mark: format!("{:#x}", stored.allocation.mark),
            table: stored.allocation.table,
            iface,
            redirect_port,
            config: stored.config.shown().into(),
            vault_names,
            status: view.judged.into(),
            version,
            created_at: rfc3339(stored.created_unix_ms),
        }
    }
}

impl From<Judged> for ConnectionStatus {
    fn from(judged: Judged) -> Self {
        ConnectionStatus {
            health: judged.health.as_str().to_owned(),
            timestamp: judged.seen_unix_ms.map(rfc3339),
            proven_at: judged.proven_unix_ms.map(rfc3339),
            detail: judged.detail,
        }
    }
}

impl From<Shown> for ConnectionConfig {
    fn from(shown: Shown) -> Self {
        let server = |server: Server| ConnectionServer {
            protocol: server.protocol.to_owned(),
            host: server.host,
            port: server.port,
            public_key: server.public_key,
        };
        ConnectionConfig {
            servers: shown.servers.into_iter().map(server).collect(),
            username: shown.username,
            addresses: shown.addresses,
            resolvers: shown.resolvers,
            host_public_keys: shown.host_public_keys,
        }
    }
}

impl From<ConnectionImport> for ImportInput {
    fn from(import: ConnectionImport) -> Self {
        let ConnectionImport {
            file,
            username,
            password,
            url,
            target,
            private_key,
            host_keys,
        } = import;
        ImportInput {
            file: file.map(Zeroizing::new),
            username: username.map(Zeroizing::new),
            password: password.map(Zeroizing::new),
            url: url.map(Zeroizing::new),
            target: target.map(Zeroizing::new),
            private_key: private_key.map(Zeroizing::new),
            host_keys: host_keys.map(Zeroizing::new),
        }
    }
}

impl From<ConnectionCreate> for ConnectionInput {
    fn from(create: ConnectionCreate) -> Self {
        ConnectionInput {
            name: create.name,
            kind: create.r#type,
            import: create.import.map(ImportInput::from).unwrap_or_default(),
        }
    }
}

impl From<ConnectionUpdate> for ConnectionUpdateInput {
    fn from(update: ConnectionUpdate) -> Self {
        ConnectionUpdateInput {
            name: update.name,
            import: update.import.map(ImportInput::from),
        }
    }
}

impl ConnectionImport {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        ConnectionImport {
            file: fields.optional_string("file", faults),
            username: fields.optional_string("username", faults),
            password: fields.optional_string("password", faults),
            url: fields.optional_string("url", faults),
            target: fields.optional_string("target", faults),
            private_key: fields.optional_string("private_key", faults),
            host_keys: fields.optional_string("host_keys", faults),
        }
    }
}

impl FromFields for ConnectionCreate {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        ConnectionCreate {
            name: fields.string("name", faults),
            r#type: fields.string("type", faults),
            import: fields.optional_object("import", faults, ConnectionImport::read),
        }
    }

    fn check(self) -> Faults {
        ConnectionInput::from(self).check().err().unwrap_or_default()
    }
}

impl FromFields for ConnectionUpdate {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        ConnectionUpdate {
            name: fields.optional_string("name", faults),
            import: fields.optional_object("import", faults, ConnectionImport::read),
        }
    }

    fn check(self) -> Faults {
        ConnectionUpdateInput::from(self).faults()
    }
}
