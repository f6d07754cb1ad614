//! A `cell-egress` that keeps its exits in memory and carries nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cell_proto::egress::v1::egress_service_server::{EgressService, EgressServiceServer};
use cell_proto::egress::v1::*;
use cell_proto::fault::{Fault, Violation};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};

#[derive(Default)]
pub struct State {
    pub exits: Vec<Exit>,
    pub statuses: Vec<ExitStatus>,
    pub applies: u32,
    pub dns: Option<DnsSpec>,
    pub dns_applies: u32,
    /// What it goes by; no two fakes ever go by the same.
    pub revision: u64,
    /// Peers that were led another way, by request.
    pub led: Vec<Vec<DnsPeer>>,
    /// What names lead to; all others are unknown.
    pub hosts: BTreeMap<String, Vec<std::net::IpAddr>>,
    /// What became of its own questions, by exit.
    pub ways: Vec<DnsWayStatus>,
    /// Exits of this port are refused, as those whose server is above the ceiling.
    pub refused_port: Option<u32>,
    /// Fields of DNS that are refused while there is something in them, as `upstreams[0]` or `peers`.
    pub refused_dns: Vec<&'static str>,
    /// Where it was asked to connect to.
    pub connected: Vec<SocketAddr>,
    /// Where servers of catalogs really listen, by where they are said to be; there are no others.
    pub catalogs: BTreeMap<SocketAddr, SocketAddr>,
    /// Which it was asked to connect to, each with the exit.
    pub asked_catalogs: Vec<(SocketAddr, String)>,
    /// Names that were asked for, each with the exit.
    pub resolved: Vec<(String, String)>,
}

pub struct FakeEgress {
    path: PathBuf,
    pub state: Arc<Mutex<State>>,
    serving: CancellationToken,
}

impl FakeEgress {
    pub fn start(path: PathBuf) -> FakeEgress {
        let mut egress = FakeEgress {
            path,
            state: Arc::default(),
            serving: CancellationToken::new(),
        };
        egress.resume();
        egress
    }

    /// Ends it as kill -9 would; it has forgotten everything when it is there again.
    pub fn kill(&mut self) {
        self.serving.cancel();
        std::fs::remove_file(&self.path).unwrap();
        *self.state.lock().unwrap() = State::default();
    }

    pub fn resume(&mut self) {
        let service = EgressServiceServer::new(Service(Arc::clone(&self.state)));
        self.serving = super::serve(&self.path, Routes::new(service));
    }

    /// Forgets everything, as one that was started anew between two looks.
    pub fn forget(&self) {
        let mut state = self.state.lock().unwrap();
        (state.exits, state.statuses) = (Vec::new(), Vec::new());
        (state.dns, state.ways, state.revision) = (None, Vec::new(), 0);
    }

    /// Its own questions through an exit were answered last, or not, at this time.
    pub fn prove(&self, id: &str, success_unix_ms: i64, failure_unix_ms: i64) {
        let mut state = self.state.lock().unwrap();
        state.ways.retain(|way| way.exit_id != id);
        state.ways.push(DnsWayStatus {
            exit_id: id.to_owned(),
            last_proven_unix_ms: success_unix_ms,
            last_proof_failure_unix_ms: failure_unix_ms,
            last_proof_failure: "nobody answered in time".to_owned(),
            // More than one, which alone says nothing.
            lost_proofs: if failure_unix_ms > success_unix_ms { 3 } else { 0 },
            ..DnsWayStatus::default()
        });
    }

    /// Those by the exit's mark were, or were not; after [`FakeEgress::prove`].
    pub fn prove_by_mark(&self, id: &str, success_unix_ms: i64, failure_unix_ms: i64) {
        let mut state = self.state.lock().unwrap();
        let way = state.ways.iter_mut().find(|way| way.exit_id == id).unwrap();
        way.last_marked_proven_unix_ms = success_unix_ms;
        way.last_marked_failure_unix_ms = failure_unix_ms;
        way.lost_marked_proofs = if failure_unix_ms > success_unix_ms { 3 } else { 0 };
        way.last_marked_failure = "192.0.2.53:53: it cannot be reached: no route to host".to_owned();
    }

    pub fn dns(&self) -> DnsSpec {
        self.state.lock().unwrap().dns.clone().unwrap_or_default()
    }

    pub fn ids(&self) -> Vec<String> {
        self.state
            .lock()
            .unwrap()
            .exits
            .iter()
            .map(|exit| exit.id.clone())
            .collect()
    }

    /// Connections through an exit came through last, or failed, at this time.
    pub fn see(&self, id: &str, success_unix_ms: i64, failure_unix_ms: i64) {
        let mut state = self.state.lock().unwrap();
        let status = state.statuses.iter_mut().find(|status| status.id == id).unwrap();
        status.last_success_unix_ms = success_unix_ms;
        status.last_failure_unix_ms = failure_unix_ms;
        status.last_failure_reason = "CONNECT_FAILED".to_owned();
        status.last_failure_detail = "the exit's server was not reached".to_owned();
    }
}

struct Service(Arc<Mutex<State>>);

static REVISIONS: AtomicU64 = AtomicU64::new(1);

fn invalid(violations: Vec<Violation>) -> Status {
    let text = "the request has faults";
    let fault = Fault::new(Code::InvalidArgument, "egress.cell", "INVALID_REQUEST", text);
    fault.violations(violations).into()
}

#[tonic::async_trait]
impl EgressService for Service {
    async fn apply_exits(
        &self,
        request: Request<ApplyExitsRequest>,
    ) -> Result<Response<ApplyExitsResponse>, Status> {
        let mut state = self.0.lock().unwrap();
        let exits = request.into_inner().exits;
        let refused = exits
            .iter()
            .position(|exit| Some(exit.redirect_port) == state.refused_port);
        if let Some(index) = refused {
            let text = "the request has faults";
            let fault = Fault::new(Code::InvalidArgument, "egress.cell", "INVALID_REQUEST", text);
            let field = format!("exits[{index}].socks5.server");
            let violation = Violation::new(field, "no exit may have its server there");
            return Err(fault.violations(vec![violation]).into());
        }
        state.applies += 1;
        let kept = std::mem::take(&mut state.statuses);
        state.statuses = exits
            .iter()
            .map(|exit| {
                let before = kept.iter().find(|status| status.id == exit.id);
                before.cloned().unwrap_or(ExitStatus {
                    id: exit.id.clone(),
                    redirect_port: exit.redirect_port,
                    listening: true,
                    ..ExitStatus::default()
                })
            })
            .collect();
        state.exits = exits;
        Ok(Response::new(ApplyExitsResponse {
            exits: state.statuses.clone(),
        }))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(GetStatusResponse {
            exits: self.0.lock().unwrap().statuses.clone(),
        }))
    }

    async fn apply_dns(
        &self,
        request: Request<ApplyDnsRequest>,
    ) -> Result<Response<ApplyDnsResponse>, Status> {
        let mut state = self.0.lock().unwrap();
        let dns = request.into_inner().dns;
        let asked = dns.clone().unwrap_or_default();
        let is_there = |field: &&&str| match **field {
            // By its address, as the ceiling does.
            "upstreams[0]" => asked.upstreams.first() == Some(&SocketAddr::from(([9, 9, 9, 9], 53)).into()),
            "peers" => !asked.peers.is_empty(),
            "zones" => !asked.zones.is_empty(),
            other => panic!("the fake does not know {other}"),
        };
        let refused = state.refused_dns.iter().filter(is_there);
        let violations: Vec<Violation> = refused
            .map(|field| Violation::new(format!("dns.{field}"), "is above the ceiling"))
            .collect();
        if !violations.is_empty() {
            return Err(invalid(violations));
        }
        state.dns = dns;
        state.dns_applies += 1;
        state.revision = REVISIONS.fetch_add(1, Ordering::Relaxed);
        let status = DnsStatus {
            revision: state.revision,
            ..DnsStatus::default()
        };
        Ok(Response::new(ApplyDnsResponse { status: Some(status) }))
    }

    async fn lead_peers(
        &self,
        request: Request<LeadPeersRequest>,
    ) -> Result<Response<LeadPeersResponse>, Status> {
        let mut state = self.0.lock().unwrap();
        let LeadPeersRequest { revision, peers } = request.into_inner();
        if revision == 0 || revision != state.revision {
            let text = "it goes by another revision";
            let fault = Fault::new(Code::FailedPrecondition, "egress.cell", "OTHER_DNS", text);
            return Err(fault.into());
        }
        if state.refused_dns.contains(&"peers") {
            return Err(invalid(vec![Violation::new("peers", "are above the ceiling")]));
        }
        let known = &mut state.dns.as_mut().unwrap().peers;
        for peer in &peers {
            let is_it = |one: &&mut DnsPeer| one.addresses == peer.addresses;
            let Some(there) = known.iter_mut().find(is_it) else {
                return Err(invalid(vec![Violation::new("peers[0]", "is no peer's")]));
            };
            *there = peer.clone();
        }
        state.led.push(peers);
        state.revision = REVISIONS.fetch_add(1, Ordering::Relaxed);
        Ok(Response::new(LeadPeersResponse {
            revision: state.revision,
        }))
    }

    async fn get_dns_status(
        &self,
        _: Request<GetDnsStatusRequest>,
    ) -> Result<Response<GetDnsStatusResponse>, Status> {
        let state = self.0.lock().unwrap();
        let status = DnsStatus {
            revision: state.revision,
            ways: state.ways.clone(),
            ..DnsStatus::default()
        };
        Ok(Response::new(GetDnsStatusResponse { status: Some(status) }))
    }

    type ConnectServiceStream = ReceiverStream<Result<ConnectServiceResponse, Status>>;

    /// To wherever it is asked to.
    async fn connect_service(
        &self,
        request: Request<Streaming<ConnectServiceRequest>>,
    ) -> Result<Response<Self::ConnectServiceStream>, Status> {
        let mut asked = request.into_inner();
        let to = asked.message().await?.and_then(|first| first.to).unwrap();
        let at = SocketAddr::try_from(&to).unwrap();
        let stream = TcpStream::connect(at)
            .await
            .map_err(|_| Status::unavailable("nobody"))?;
        self.0.lock().unwrap().connected.push(at);
        let (sender, answers) = tokio::sync::mpsc::channel(4);
        carry(
            stream,
            asked,
            |message| message.data,
            sender,
            |data| ConnectServiceResponse { data },
        );
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    type ConnectCatalogStream = ReceiverStream<Result<ConnectCatalogResponse, Status>>;

    async fn connect_catalog(
        &self,
        request: Request<Streaming<ConnectCatalogRequest>>,
    ) -> Result<Response<Self::ConnectCatalogStream>, Status> {
        let mut asked = request.into_inner();
        let first = asked.message().await?.unwrap();
        let at = SocketAddr::try_from(&first.to.unwrap()).unwrap();
        let real = {
            let mut state = self.0.lock().unwrap();
            state.asked_catalogs.push((at, first.exit_id));
            state.catalogs.get(&at).copied()
        };
        let refusal =
            |code, reason| Status::from(Fault::new(code, "egress.cell", reason, "nobody takes it there"));
        let real = real.ok_or_else(|| refusal(Code::PermissionDenied, "NOT_A_CATALOG"))?;
        let stream = TcpStream::connect(real)
            .await
            .map_err(|_| refusal(Code::Unavailable, "NO_ANSWER"))?;
        let (sender, answers) = tokio::sync::mpsc::channel(4);
        // As the real one: its first message is empty.
        sender.send(Ok(ConnectCatalogResponse::default())).await.unwrap();
        carry(
            stream,
            asked,
            |message| message.data,
            sender,
            |data| ConnectCatalogResponse { data },
        );
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn resolve(&self, request: Request<ResolveRequest>) -> Result<Response<ResolveResponse>, Status> {
        let mut state = self.0.lock().unwrap();
        let ResolveRequest { names, exit_id } = request.get_ref();
        let asked = names.iter().map(|name| (name.clone(), exit_id.clone()));
        state.resolved.extend(asked);
        let resolved = |name: String| match state.hosts.get(&name) {
            Some(all) => ResolvedName {
                addresses: all.iter().copied().map(Into::into).collect(),
                ttl_seconds: 300,
                name,
                ..ResolvedName::default()
            },
            None => ResolvedName {
                name,
                failure: "NO_NAME".to_owned(),
                ..ResolvedName::default()
            },
        };
        let names = request.into_inner().names.into_iter().map(resolved).collect();
        Ok(Response::new(ResolveResponse { names }))
    }
}

/// Bytes both ways, until either ends.
fn carry<Q: Send + 'static, A: Send + 'static>(
    stream: TcpStream,
    mut asked: Streaming<Q>,
    data: fn(Q) -> Vec<u8>,
    sender: tokio::sync::mpsc::Sender<Result<A, Status>>,
    answer: fn(Vec<u8>) -> A,
) {
    let (mut from, mut into) = stream.into_split();
    tokio::spawn(async move {
        while let Ok(Some(message)) = asked.message().await {
            if into.write_all(&data(message)).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            if sender.send(Ok(answer(piece[..count].to_vec()))).await.is_err() {
                return;
            }
        }
    });
}
