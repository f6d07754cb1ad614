//! `cell-egress`: exits and DNS out, their counters in.

mod connect;
mod dns;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use cell_api_core::connection::id::ConnectionId;
use cell_api_core::connection::judge::{Marked, Probe, Proof, Relayed};
use cell_api_core::connection::names::Answer;
use cell_api_core::derive::dns::{DnsSpec, Ways};
use cell_api_core::derive::exits::{RelayKind, RelaySpec};
use cell_proto::common::v1::Endpoint;
use cell_proto::egress::v1::egress_service_client::EgressServiceClient;
use cell_proto::egress::v1::exit::Kind;
use cell_proto::egress::v1::{
    ApplyDnsRequest, ApplyExitsRequest, DnsStatus, Exit, ExitStatus, GetDnsStatusRequest, GetStatusRequest,
    HttpConnectExit, LeadPeersRequest, ResolveRequest, Socks5Exit, SshExit, TorExit,
};
use cell_proto::fault::{self, Violation};
use cell_proto::ipc::serve::MAX_MESSAGE_BYTES;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::{READ_DEADLINE, read};

/// How long it may take until it has all of DNS, of the largest cell: netd waits for it, so that nobody's questions go another way than
/// his packets.
const DNS_DEADLINE: Duration = Duration::from_secs(4);

/// What it saw of each exit.
pub type Seen = BTreeMap<ConnectionId, Relayed>;

/// What it says of its DNS relay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsSeen {
    /// What it goes by; 0: nothing.
    pub revision: u64,
    /// What became of its own questions, by exit.
    pub proofs: BTreeMap<ConnectionId, Proof>,
}

/// A client of `cell-egress`.
#[derive(Debug, Clone)]
pub struct EgressClient(EgressServiceClient<Channel>);

/// Why it did not do what it was asked.
#[derive(Debug)]
pub enum EgressError {
    /// It is away, or does not answer in time.
    Away,
    /// It has no DNS relay.
    NoDns,
    /// Its DNS relay goes by something else than what was to be changed.
    OtherDns,
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

    /// Gives its DNS relay all that it goes by. Answers the revision.
    ///
    /// # Errors
    /// [`EgressError`]; nothing is changed when it refuses.
    pub async fn apply_dns(&self, spec: &DnsSpec) -> Result<u64, EgressError> {
        let mut request = Request::new(ApplyDnsRequest {
            dns: Some(dns::spec(spec)),
        });
        request.set_timeout(DNS_DEADLINE);
        let mut client = self.0.clone().max_encoding_message_size(MAX_MESSAGE_BYTES);
        let answer = within_time(DNS_DEADLINE, client.apply_dns(request)).await?;
        Ok(answer.status.unwrap_or_default().revision)
    }

    /// Leads questions of peers that its DNS relay knows another way, and changes nothing else of `revision`. Answers the next one.
    ///
    /// # Errors
    /// [`EgressError`]; nothing is changed when it refuses.
    pub async fn lead_peers(&self, revision: u64, ways: &Ways) -> Result<u64, EgressError> {
        let request = read(LeadPeersRequest {
            revision,
            peers: ways.values().map(dns::peer).collect(),
        });
        let mut client = self.0.clone();
        let answer = within(client.lead_peers(request)).await?;
        Ok(answer.revision)
    }

    /// Where a name leads to.
    pub async fn resolve(&self, name: &str) -> Answer {
        self.resolve_by(name, None).await
    }

    /// Where a name leads to, as the resolvers of an exit know it that are asked through it; none: the default ones.
    pub async fn resolve_by(&self, name: &str, by: Option<ConnectionId>) -> Answer {
        let request = read(ResolveRequest {
            names: vec![name.to_owned()],
            exit_id: by.map(|id| id.to_string()).unwrap_or_default(),
        });
        let mut client = self.0.clone();
        let answered = match within(client.resolve(request)).await {
            Ok(answered) => answered.names.into_iter().next().unwrap_or_default(),
            Err(EgressError::Away) => return Answer::Failure("cell-egress does not answer".to_owned()),
            Err(EgressError::NoDns | EgressError::OtherDns) => {
                return Answer::Failure("cell-egress has no DNS relay".to_owned());
            }
            Err(EgressError::Refuses(_)) => {
                return Answer::Failure("cell-egress takes it for no name of a host".to_owned());
            }
        };
        if !answered.failure.is_empty() {
            return Answer::Failure(answered.failure);
        }
        let addresses = answered
            .addresses
            .iter()
            .filter_map(|ip| IpAddr::try_from(ip).ok());
        Answer::Addresses {
            addresses: addresses.collect(),
            ttl_seconds: answered.ttl_seconds,
        }
    }

    /// What its DNS relay saw.
    ///
    /// # Errors
    /// [`EgressError::Away`].
    pub async fn dns_status(&self) -> Result<DnsSeen, EgressError> {
        let mut client = self.0.clone();
        let answer = within(client.get_dns_status(read(GetDnsStatusRequest {}))).await?;
        Ok(dns_seen(answer.status.unwrap_or_default()))
    }
}

async fn within<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, EgressError> {
    within_time(READ_DEADLINE, call).await
}

async fn within_time<T>(
    most: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, EgressError> {
    match tokio::time::timeout(most, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => {
            let violations = fault::violations(&status);
            tracing::debug!(code = ?status.code(), message = status.message(), "cell-egress did not do it");
            Err(match fault::reason(&status).as_deref() {
                Some("NO_DNS") => EgressError::NoDns,
                Some("OTHER_DNS") => EgressError::OtherDns,
                _ if violations.is_empty() => EgressError::Away,
                _ => EgressError::Refuses(violations),
            })
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
        secret_revision: spec.secret_revision,
    }
}

fn seen(exits: Vec<ExitStatus>) -> Seen {
    let one = |exit: ExitStatus| {
        let relayed = Relayed {
            listening: exit.listening,
            success_unix_ms: time(exit.last_success_unix_ms),
            failure_unix_ms: time(exit.last_failure_unix_ms),
            failure_reason: exit.last_failure_reason,
            failure_detail: exit.last_failure_detail,
            probe: exit.probe.map(|probe| Probe {
                at_unix_ms: probe.unix_ms,
                failure_reason: probe.failure_reason,
                failure_detail: probe.failure_detail,
            }),
        };
        ConnectionId::parse(&exit.id).ok().map(|id| (id, relayed))
    };
    exits.into_iter().filter_map(one).collect()
}

fn dns_seen(status: DnsStatus) -> DnsSeen {
    let ways = status.ways.into_iter().filter_map(|way| {
        let by_mark = Marked {
            success_unix_ms: time(way.last_marked_proven_unix_ms),
            failure_unix_ms: time(way.last_marked_failure_unix_ms),
            failure_detail: way.last_marked_failure,
            lost: way.lost_marked_proofs,
        };
        let marked = by_mark.success_unix_ms.is_some() || by_mark.failure_unix_ms.is_some();
        let proof = Proof {
            success_unix_ms: time(way.last_proven_unix_ms),
            failure_unix_ms: time(way.last_proof_failure_unix_ms),
            failure_detail: way.last_proof_failure,
            lost: way.lost_proofs,
            marked: marked.then_some(by_mark),
        };
        Some((ConnectionId::parse(&way.exit_id).ok()?, proof))
    });
    DnsSeen {
        revision: status.revision,
        proofs: ways.collect(),
    }
}

fn time(at: i64) -> Option<i64> {
    Some(at).filter(|at| *at > 0)
}
