//! The JSON shapes. They are those of the REST API (docs/rest-api.md), and stable: fields are added, never changed.

use cell_proto::api::v1 as wire;
use cell_proto::common::v1::ConditionStatus;
use serde::Serialize;

/// A peer.
#[derive(Debug, Serialize)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) public_key: String,
    pub(crate) ipv4: String,
    pub(crate) ipv6: String,
    pub(crate) access: Access,
    pub(crate) tunnel: String,
    /// `None`: the cell's own way.
    pub(crate) exit_connection_id: Option<String>,
    /// `None`: as the connection's type says.
    pub(crate) fail_open: Option<bool>,
    pub(crate) fallback_connection_ids: Vec<String>,
    pub(crate) way: String,
    pub(crate) way_connection_id: Option<String>,
    pub(crate) config_needs_reinstall: bool,
    pub(crate) version: String,
    pub(crate) created_at: Option<String>,
    /// `None` while netd is not reachable: unknown is not "off".
    pub(crate) activity: Option<Activity>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Access {
    pub(crate) internet: bool,
    pub(crate) peer_to_peer: bool,
    pub(crate) services: Vec<Service>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Service {
    pub(crate) address: String,
    pub(crate) protocol: String,
    pub(crate) port: u32,
}

#[derive(Debug, Serialize)]
pub(crate) struct Activity {
    pub(crate) connected: bool,
    pub(crate) latest_handshake_at: Option<String>,
    #[serde(skip)]
    pub(crate) latest_handshake_unix_ms: i64,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) endpoint: Option<String>,
}

impl From<wire::Peer> for Peer {
    fn from(peer: wire::Peer) -> Self {
        let access = peer.access.unwrap_or_default();
        Peer {
            name: peer.name,
            public_key: peer.public_key,
            ipv4: peer.ipv4,
            ipv6: peer.ipv6,
            access: Access {
                internet: access.internet,
                peer_to_peer: access.peer_to_peer,
                services: access.services.into_iter().map(Service::from).collect(),
            },
            tunnel: peer.tunnel,
            exit_connection_id: Some(peer.exit_connection_id).filter(|id| !id.is_empty()),
            fail_open: peer.fail_open,
            fallback_connection_ids: peer.fallback_connection_ids,
            way: peer.way,
            way_connection_id: Some(peer.way_connection_id).filter(|id| !id.is_empty()),
            config_needs_reinstall: peer.config_needs_reinstall,
            version: peer.version,
            created_at: rfc3339(peer.created_unix_ms),
            activity: peer.activity.map(Activity::from),
        }
    }
}

impl From<wire::ServiceAccess> for Service {
    fn from(service: wire::ServiceAccess) -> Self {
        Service {
            address: service.address,
            protocol: service.protocol,
            port: service.port,
        }
    }
}

impl From<wire::PeerActivity> for Activity {
    fn from(activity: wire::PeerActivity) -> Self {
        Activity {
            connected: activity.connected,
            latest_handshake_at: rfc3339(activity.latest_handshake_unix_ms),
            latest_handshake_unix_ms: activity.latest_handshake_unix_ms,
            received_bytes: activity.received_bytes,
            sent_bytes: activity.sent_bytes,
            endpoint: Some(activity.endpoint).filter(|endpoint| !endpoint.is_empty()),
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct PeerList {
    pub(crate) peers: Vec<Peer>,
}

/// The answer to `peer add`. `config` holds the private key unless it went to `config_file`.
#[derive(Debug, Serialize)]
pub(crate) struct AddedPeer<'a> {
    pub(crate) peer: &'a Peer,
    pub(crate) config: Option<&'a str>,
    pub(crate) config_file: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct RemovedPeer<'a> {
    pub(crate) removed: &'a str,
}

/// The answer to `connection remove`.
#[derive(Debug, Serialize)]
pub(crate) struct RemovedConnection<'a> {
    pub(crate) removed: &'a str,
}

/// The answer to `peer config`: there is no private key in it.
#[derive(Debug, Serialize)]
pub(crate) struct PeerConfig<'a> {
    pub(crate) config: &'a str,
}

/// A connection.
#[derive(Debug, Serialize)]
pub(crate) struct Connection {
    pub(crate) id: String,
    pub(crate) r#type: String,
    pub(crate) name: String,
    pub(crate) mark: String,
    pub(crate) table: u32,
    pub(crate) iface: Option<String>,
    pub(crate) redirect_port: Option<u32>,
    pub(crate) config: ConnectionConfig,
    pub(crate) vault_names: Vec<String>,
    pub(crate) status: ConnectionStatus,
    pub(crate) version: String,
    pub(crate) created_at: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ConnectionConfig {
    pub(crate) servers: Vec<ConnectionServer>,
    pub(crate) username: Option<String>,
    pub(crate) addresses: Vec<String>,
    pub(crate) resolvers: Vec<String>,
    pub(crate) host_public_keys: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ConnectionServer {
    pub(crate) protocol: String,
    pub(crate) host: String,
    pub(crate) port: u32,
    pub(crate) public_key: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ConnectionStatus {
    pub(crate) health: String,
    pub(crate) timestamp: Option<String>,
    /// When something last came back through it.
    pub(crate) proven_at: Option<String>,
    #[serde(skip)]
    pub(crate) proven_unix_ms: i64,
    pub(crate) detail: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct ConnectionList {
    pub(crate) connections: Vec<Connection>,
}

/// The answer to `connection add`, `replace` and `rename`.
#[derive(Debug, Serialize)]
pub(crate) struct StoredConnection<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) notes: &'a [String],
}

impl From<wire::Connection> for Connection {
    fn from(connection: wire::Connection) -> Self {
        let config = connection.config.unwrap_or_default();
        let status = connection.status.unwrap_or_default();
        Connection {
            id: connection.id,
            r#type: connection.r#type,
            name: connection.name,
            mark: connection.mark,
            table: connection.table,
            iface: given(connection.iface),
            redirect_port: Some(connection.redirect_port).filter(|port| *port != 0),
            config: ConnectionConfig {
                servers: config.servers.into_iter().map(ConnectionServer::from).collect(),
                username: given(config.username),
                addresses: config.addresses,
                resolvers: config.resolvers,
                host_public_keys: config.host_public_keys,
            },
            vault_names: connection.vault_names,
            status: ConnectionStatus {
                health: status.health,
                timestamp: rfc3339(status.probed_unix_ms),
                proven_at: rfc3339(status.proven_unix_ms),
                proven_unix_ms: status.proven_unix_ms,
                detail: status.detail,
            },
            version: connection.version,
            created_at: rfc3339(connection.created_unix_ms),
        }
    }
}

impl From<wire::ConnectionServer> for ConnectionServer {
    fn from(server: wire::ConnectionServer) -> Self {
        ConnectionServer {
            protocol: server.protocol,
            host: server.host,
            port: server.port,
            public_key: given(server.public_key),
        }
    }
}

fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Somebody who may log in.
#[derive(Debug, Serialize)]
pub(crate) struct User {
    pub(crate) username: String,
    pub(crate) role: String,
    pub(crate) must_change_password: bool,
    pub(crate) locked_until: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct UserList {
    pub(crate) users: Vec<User>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ResetPassword<'a> {
    pub(crate) reset: &'a str,
}

impl From<wire::User> for User {
    fn from(user: wire::User) -> Self {
        User {
            username: user.username,
            role: user.role,
            must_change_password: user.must_change_password,
            locked_until: rfc3339(user.locked_until_unix_ms),
        }
    }
}

/// The cell at a glance.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) cell_name: String,
    pub(crate) domain_mode: String,
    pub(crate) domain: String,
    pub(crate) uptime_seconds: u64,
    pub(crate) version: String,
    pub(crate) generation: u64,
    pub(crate) observed_generation: u64,
    pub(crate) peer_count: u32,
    pub(crate) connected_peer_count: u32,
    pub(crate) daemons: Vec<Daemon>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Daemon {
    pub(crate) name: String,
    pub(crate) reachable: bool,
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Condition {
    pub(crate) r#type: String,
    pub(crate) status: &'static str,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl From<wire::CellStatus> for Status {
    fn from(status: wire::CellStatus) -> Self {
        Status {
            cell_name: status.cell_name,
            domain_mode: status.domain_mode,
            domain: status.domain,
            uptime_seconds: status.uptime_seconds,
            version: status.version,
            generation: status.generation,
            observed_generation: status.observed_generation,
            peer_count: status.peer_count,
            connected_peer_count: status.connected_peer_count,
            daemons: status.daemons.into_iter().map(Daemon::from).collect(),
        }
    }
}

impl From<wire::DaemonStatus> for Daemon {
    fn from(daemon: wire::DaemonStatus) -> Self {
        let condition = |condition: cell_proto::common::v1::Condition| Condition {
            status: match condition.status() {
                ConditionStatus::True => "true",
                ConditionStatus::False => "false",
                ConditionStatus::Unknown | ConditionStatus::Unspecified => "unknown",
            },
            r#type: condition.r#type,
            reason: condition.reason,
            message: condition.message,
        };
        let conditions = daemon.conditions.into_iter().map(condition).collect();
        Daemon {
            name: daemon.name,
            reachable: daemon.reachable,
            conditions,
        }
    }
}

/// How the first run stands.
#[derive(Debug, Serialize)]
pub(crate) struct Setup {
    pub(crate) complete: bool,
    pub(crate) claimed: bool,
    pub(crate) answered_steps: Vec<String>,
    pub(crate) next_step: Option<String>,
}

impl From<wire::SetupState> for Setup {
    fn from(state: wire::SetupState) -> Self {
        Setup {
            complete: state.complete,
            claimed: state.claimed,
            answered_steps: state.answered_steps,
            next_step: Some(state.next_step).filter(|step| !step.is_empty()),
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct ClaimToken<'a> {
    pub(crate) path: String,
    pub(crate) claim_token: &'a str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Verification {
    pub(crate) intact: bool,
    pub(crate) record_count: u64,
    pub(crate) anchor_count: u64,
    pub(crate) first_bad_sequence: Option<u64>,
    pub(crate) detail: Option<String>,
}

impl From<wire::VerifyAuditResponse> for Verification {
    fn from(answer: wire::VerifyAuditResponse) -> Self {
        Verification {
            intact: answer.intact,
            record_count: answer.record_count,
            anchor_count: answer.anchor_count,
            first_bad_sequence: Some(answer.first_bad_sequence).filter(|sequence| *sequence != 0),
            detail: Some(answer.detail).filter(|detail| !detail.is_empty()),
        }
    }
}

/// RFC 3339 in UTC; nothing for 0, which stands for "never".
pub(crate) fn rfc3339(unix_ms: i64) -> Option<String> {
    if unix_ms == 0 {
        return None;
    }
    jiff::Timestamp::from_millisecond(unix_ms)
        .ok()
        .map(|time| time.to_string())
}

/// What becomes of a packet.
#[derive(Debug, Serialize)]
pub(crate) struct Explanation {
    pub(crate) passes: bool,
    pub(crate) reason: String,
    pub(crate) counter: Option<String>,
    pub(crate) target: String,
    pub(crate) source: String,
    pub(crate) translated_to: Option<String>,
    pub(crate) masqueraded: bool,
    pub(crate) steps: Vec<String>,
    pub(crate) exit: Option<ExplainedExit>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ExplainedExit {
    pub(crate) connection_id: String,
    pub(crate) connection_name: Option<String>,
    pub(crate) mark: String,
    pub(crate) table: Option<u32>,
    pub(crate) iface: Option<String>,
    pub(crate) redirect_port: Option<u32>,
}

impl From<wire::ExplainedExit> for ExplainedExit {
    fn from(exit: wire::ExplainedExit) -> Self {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let number = |number: u32| Some(number).filter(|number| *number != 0);
        ExplainedExit {
            connection_id: exit.connection_id,
            connection_name: given(exit.connection_name),
            mark: exit.mark,
            table: number(exit.table),
            iface: given(exit.iface),
            redirect_port: number(exit.redirect_port),
        }
    }
}

impl From<wire::ExplainFlowResponse> for Explanation {
    fn from(answer: wire::ExplainFlowResponse) -> Self {
        let wire::ExplainFlowResponse {
            passes,
            reason,
            counter,
            target,
            source,
            translated_to,
            masqueraded,
            steps,
            exit,
        } = answer;
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        Explanation {
            passes,
            reason,
            counter: given(counter),
            target,
            source,
            translated_to: given(translated_to),
            masqueraded,
            steps,
            exit: exit.map(ExplainedExit::from),
        }
    }
}
