//! `cell-egress`: exits out, their counters in.

use std::collections::BTreeMap;

use cell_api_core::connection::id::ConnectionId;
use cell_api_core::connection::judge::Relayed;
use cell_api_core::derive::exits::{RelayKind, RelaySpec};
use cell_proto::common::v1::Endpoint;
use cell_proto::egress::v1::egress_service_client::EgressServiceClient;
use cell_proto::egress::v1::exit::Kind;
use cell_proto::egress::v1::{
    ApplyExitsRequest, Exit, ExitStatus, GetStatusRequest, HttpConnectExit, Socks5Exit, SshExit, TorExit,
};
use cell_proto::fault::{self, Violation};
use tonic::Status;
use tonic::transport::Channel;

use super::{READ_DEADLINE, read};

/// What it saw of each exit.
pub type Seen = BTreeMap<ConnectionId, Relayed>;

/// A client of `cell-egress`.
#[derive(Debug, Clone)]
pub struct EgressClient(EgressServiceClient<Channel>);

/// Why it did not do what it was asked.
#[derive(Debug)]
pub enum EgressError {
    /// It is away, or does not answer in time.
    Away,
    /// It finds faults.
    Refuses(Vec<Violation>),
}

impl EgressClient {
    /// A client over a channel.
    pub fn new(channel: Channel) -> Self {
        EgressClient(EgressServiceClient::new(channel))
    }

    /// Gives it the whole set of exits.
    ///
    /// # Errors
    /// [`EgressError`]; nothing is changed when it refuses.
    pub async fn apply(&self, exits: &[RelaySpec]) -> Result<Seen, EgressError> {
        let request = read(ApplyExitsRequest {
            exits: exits.iter().map(exit).collect(),
        });
        let mut client = self.0.clone();
        let answer = within(client.apply_exits(request)).await?;
        Ok(seen(answer.exits))
    }

    /// What it saw.
    ///
    /// # Errors
    /// [`EgressError::Away`].
    pub async fn status(&self) -> Result<Seen, EgressError> {
        let mut client = self.0.clone();
        let answer = within(client.get_status(read(GetStatusRequest {}))).await?;
        Ok(seen(answer.exits))
    }
}

async fn within<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, EgressError> {
    match tokio::time::timeout(READ_DEADLINE, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => {
            let violations = fault::violations(&status);
            tracing::debug!(code = ?status.code(), message = status.message(), "cell-egress did not do it");
            if violations.is_empty() {
                Err(EgressError::Away)
            } else {
                Err(EgressError::Refuses(violations))
            }
        }
        Err(_) => Err(EgressError::Away),
    }
}

fn exit(spec: &RelaySpec) -> Exit {
    let server = Some(Endpoint::from(spec.server));
    let kind = match spec.kind.clone() {
        RelayKind::Socks5(username) => Kind::Socks5(Socks5Exit {
            server,
            username: username.unwrap_or_default(),
        }),
        RelayKind::HttpConnect(username) => Kind::HttpConnect(HttpConnectExit {
            server,
            username: username.unwrap_or_default(),
        }),
        RelayKind::Tor => Kind::Tor(TorExit { server }),
        RelayKind::Ssh { username, host_keys } => Kind::Ssh(SshExit {
            server,
            username,
            host_keys,
        }),
    };
    Exit {
        id: spec.id.to_string(),
        redirect_port: spec.port.into(),
        kind: Some(kind),
    }
}

fn seen(exits: Vec<ExitStatus>) -> Seen {
    let time = |at: i64| Some(at).filter(|at| *at > 0);
    let one = |exit: ExitStatus| {
        let relayed = Relayed {
            listening: exit.listening,
            success_unix_ms: time(exit.last_success_unix_ms),
            failure_unix_ms: time(exit.last_failure_unix_ms),
            failure_reason: exit.last_failure_reason,
            failure_detail: exit.last_failure_detail,
        };
        ConnectionId::parse(&exit.id).ok().map(|id| (id, relayed))
    };
    exits.into_iter().filter_map(one).collect()
}
