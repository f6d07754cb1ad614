//! A netd that keeps specifications in memory and is strict about etags.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cell_proto::fault::{Fault, Violation};
use cell_proto::ipc::serve::MAX_MESSAGE_BYTES;
use cell_proto::netd::v1::network_service_server::{NetworkService, NetworkServiceServer};
use cell_proto::netd::v1::network_status_service_server::{NetworkStatusService, NetworkStatusServiceServer};
use cell_proto::netd::v1::*;
use futures_util::{Stream, StreamExt};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

/// What is said of a port to the internet that the ceiling does not have.
pub const CLOSED: &str = "the internet may reach nothing of this machine: write public_http in netd.toml";

/// What is called with the peers of a difference.
pub type OnApply = Box<dyn Fn(&[PeerSpec]) + Send>;

pub struct State {
    pub exits: Vec<ExitStatus>,
    /// Whether it refuses ports that are led to the DNS relay, as one whose ceiling is older.
    pub refuses_dns: bool,
    /// Whether it refuses a port of their own for whoever is bound, as one whose ceiling is from before ADR 0048.
    pub refuses_bound_port: bool,
    /// Called before a difference is taken.
    pub on_apply: Option<OnApply>,
    pub generation: u64,
    pub etag: String,
    pub spec: Option<NetworkSpec>,
    pub statuses: BTreeMap<String, PeerStatus>,
    pub full_applies: u32,
    pub deltas: u32,
    /// As the real one's ceiling.
    pub max_peers: Option<usize>,
    /// Whether it refuses the network itself, as one whose ceiling was narrowed.
    pub refuses_network: bool,
    /// Networks of services of these names are refused, as one whose ceiling was narrowed does it.
    pub refused_networks: Vec<String>,
    /// Servers that the relay may not connect to, as those inside the VPN.
    pub refused_servers: Vec<std::net::SocketAddr>,
    /// Whether the internet may be let to a container, as the real one's ceiling has it. Nothing said: not.
    pub opens_http: bool,
    /// Entries at this port are refused.
    pub refused_entry: Option<u32>,
    /// As the real one's ceiling.
    pub max_entries: Option<usize>,
    /// A network with this port is refused: another program has it.
    pub refused_listen_port: Option<u32>,
    /// Services at this address are refused, as the real one refuses those at link-local addresses.
    pub refused_address: Option<IpAddr>,
    /// Whether it refuses exits of this kind, as one whose ceiling does not have them.
    pub refuses_redirects: bool,
    /// What is asked only to be judged is taken: it learns of its limits later.
    pub validates: bool,
    /// How long a whole takes that is put in force.
    pub slow: Duration,
    /// The change that waits, and the state before it.
    pub pending: Option<(PendingChange, NetworkSpec)>,
    /// Whether a whole that is to wait is refused.
    pub refuses_waiting: bool,
    pub last_rollback: Option<NetworkRollback>,
    /// Nobody has sent the etag of the state that came back.
    pub unnoted: bool,
    /// The window of the last change that waited.
    pub window: u32,
}

impl Default for State {
    fn default() -> Self {
        State {
            exits: Vec::new(),
            refuses_dns: false,
            refuses_bound_port: false,
            on_apply: None,
            generation: 0,
            etag: String::new(),
            spec: None,
            statuses: BTreeMap::new(),
            full_applies: 0,
            deltas: 0,
            max_peers: None,
            refuses_network: false,
            refused_networks: Vec::new(),
            opens_http: false,
            refused_servers: Vec::new(),
            refused_entry: None,
            max_entries: None,
            refused_listen_port: None,
            refused_address: None,
            refuses_redirects: false,
            validates: true,
            slow: Duration::ZERO,
            pending: None,
            refuses_waiting: false,
            last_rollback: None,
            unnoted: false,
            window: 0,
        }
    }
}

impl State {
    /// The real one's faults, with its paths.
    fn judge(&self, path: &str, peers: &[PeerSpec], kept: usize) -> Result<(), Status> {
        let most = self.max_peers.unwrap_or(usize::MAX);
        if kept + peers.len() > most {
            return Err(above(vec![Violation::new(
                path,
                format!("at most {most} peers are allowed"),
            )]));
        }
        let is_refused = |peer: &PeerSpec| {
            let services = peer.access.iter().flat_map(|access| &access.services);
            let mut addresses = services.filter_map(|service| service.address.as_ref());
            addresses.any(|address| IpAddr::try_from(address).ok() == self.refused_address)
        };
        let refused = peers.iter().enumerate().filter(|(_, peer)| is_refused(peer));
        let violations: Vec<_> = refused
            .map(|(index, _)| {
                let field = format!("{path}[{index}].access.services[0].address");
                Violation::new(field, "a service is not at a link-local address")
            })
            .collect();
        if violations.is_empty() {
            return Ok(());
        }
        let text = "the specification has faults";
        let fault = Fault::new(Code::InvalidArgument, "netd.cell", "INVALID_SPEC", text);
        Err(fault.violations(violations).into())
    }

    /// As the real one: exits first, and of the peers none may be bound to an exit that is not there.
    fn judge_exits(&self, path: &str, exits: &[ExitSpec], peers: &[PeerSpec]) -> Result<(), Status> {
        let is_refused =
            |exit: &ExitSpec| self.refuses_redirects && matches!(exit.way, Some(exit_spec::Way::Redirect(_)));
        let exits_refused = exits.iter().enumerate().filter(|(_, exit)| is_refused(exit));
        let mut violations: Vec<_> = exits_refused
            .map(|(index, _)| Violation::new(format!("spec.exits[{index}].way"), "no redirects here"))
            .collect();
        let is_known = |id: &str| id.is_empty() || exits.iter().any(|exit| exit.id == id);
        let lost = peers.iter().enumerate().filter(|(_, peer)| !is_known(&peer.exit));
        let lost =
            lost.map(|(index, _)| Violation::new(format!("{path}[{index}].exit"), "there is no such exit"));
        violations.extend(lost);
        if violations.is_empty() {
            return Ok(());
        }
        Err(above(violations))
    }

    fn judge_ports(&self, ports: &[CellPort]) -> Result<(), Status> {
        let refused = |field, words| Err(above(vec![Violation::new(field, words)]));
        if self.refuses_dns && ports.len() > 1 {
            return refused("spec.cell_ports[1].target_port", "is not allowed");
        }
        if self.refuses_bound_port && ports.iter().any(|port| port.bound_target_port != 0) {
            let words = "udp/9054 is not a service target";
            return refused("spec.cell_ports[1].bound_target_port", words);
        }
        Ok(())
    }

    /// As the real one: while a network has faults, entries are not looked at.
    fn judge_services(&self, spec: &NetworkSpec) -> Result<(), Status> {
        let networks = spec.service_networks.iter().enumerate();
        let refused = networks.filter(|(_, one)| self.refused_networks.contains(&one.name));
        let mut violations: Vec<_> = refused
            .map(|(index, _)| {
                let field = format!("spec.service_networks[{index}].subnet");
                Violation::new(field, "no network of services may lie there")
            })
            .collect();
        let servers = spec.relay_servers.iter().enumerate();
        let refused = servers.filter(|(_, one)| {
            std::net::SocketAddr::try_from(*one).is_ok_and(|at| self.refused_servers.contains(&at))
        });
        violations.extend(refused.map(|(index, _)| {
            Violation::new(
                format!("spec.relay_servers[{index}]"),
                "a server is not inside the VPN",
            )
        }));
        if spec.public_http.is_some() && !self.opens_http {
            violations.push(Violation::new("spec.public_http", CLOSED));
        }
        if violations.is_empty() {
            let port = |one: &ServiceEntry| one.at.as_ref().map(|at| at.port);
            let refused = spec.entries.iter().enumerate();
            let refused =
                refused.filter(|(_, one)| self.refused_entry.is_some() && port(one) == self.refused_entry);
            violations.extend(refused.map(|(index, _)| {
                Violation::new(
                    format!("spec.entries[{index}].at"),
                    "is a port of the cell itself",
                )
            }));
        }
        let most = self.max_entries.unwrap_or(usize::MAX);
        if violations.is_empty() && spec.entries.len() > most {
            violations.push(Violation::new(
                "spec.entries",
                format!("at most {most} entries are allowed"),
            ));
        }
        if violations.is_empty() {
            return Ok(());
        }
        Err(above(violations))
    }

    /// Whether peers are as they are, less some of their access.
    fn takes_away(&self, upserted: &[PeerSpec]) -> bool {
        let peers = self.spec.iter().flat_map(|spec| &spec.peers);
        let peers: Vec<&PeerSpec> = peers.collect();
        upserted.iter().all(|after| {
            let before = peers.iter().find(|peer| peer.name == after.name);
            before.is_some_and(|before| {
                let as_before = PeerSpec {
                    access: before.access.clone(),
                    ..after.clone()
                };
                as_before == **before && after.access == Some(common(before, after))
            })
        })
    }

    /// What was taken away while a change waits is taken from the state before, too.
    fn go_beside(&mut self, request: &ApplyNetworkDeltaRequest) {
        let Some((pending, last_good)) = &mut self.pending else {
            return;
        };
        pending.etag.clone_from(&self.etag);
        let peers = &mut last_good.peers;
        peers.retain(|peer| !request.removed_peers.contains(&peer.name));
        for left in &request.upserted_peers {
            if let Some(before) = peers.iter_mut().find(|peer| peer.name == left.name) {
                before.access = Some(common(before, left));
            }
        }
    }

    /// The exit that a peer has at netd; `None`: netd does not have the peer.
    pub fn exit_of(&self, name: &str) -> Option<String> {
        let mut peers = self.spec.iter().flat_map(|spec| &spec.peers);
        peers.find(|peer| peer.name == name).map(|peer| peer.exit.clone())
    }

    fn accept(&mut self) {
        self.generation += 1;
        self.etag = format!("etag-{}-{}", self.generation, self.full_applies + self.deltas);
    }

    fn status(&self) -> NetworkStatus {
        NetworkStatus {
            generation: self.generation,
            observed_generation: self.generation,
            etag: self.etag.clone(),
            wireguard_backend: "kernel".to_owned(),
            pending: self.pending.as_ref().map(|(pending, _)| pending.clone()),
            last_rollback: self.last_rollback.clone(),
            exits: self.exits.clone(),
            ..NetworkStatus::default()
        }
    }

    /// As the real one does it, for `reason`.
    pub fn roll_back(&mut self, reason: RollbackReason) {
        let (pending, last_good) = self.pending.take().unwrap();
        self.spec = Some(last_good);
        self.accept();
        self.etag.push_str("-back");
        self.unnoted = true;
        self.last_rollback = Some(NetworkRollback {
            rejected_etag: pending.etag,
            restored_etag: self.etag.clone(),
            at_unix_ms: super::START_MS,
            reason: reason.into(),
        });
    }

    /// What the etag of a request says to a netd with which something waits or was taken back.
    fn admit(&mut self, etag: &str) -> Result<(), Status> {
        let fits = etag == self.etag;
        let refusal = |reason| Fault::new(Code::FailedPrecondition, "netd.cell", reason, "not now");
        if self.pending.is_some() && !fits {
            return Err(refusal("CHANGE_PENDING").into());
        }
        if self.unnoted && !fits {
            return Err(refusal("ROLLED_BACK").into());
        }
        self.unnoted = false;
        Ok(())
    }

    fn waits(&self, etag: &str) -> Result<(), Status> {
        match &self.pending {
            Some((pending, _)) if pending.etag == etag => Ok(()),
            Some(_) => Err(Fault::new(Code::Aborted, "netd.cell", "ETAG_MISMATCH", "another").into()),
            None => Err(Fault::new(Code::Aborted, "netd.cell", "NOT_PENDING", "none").into()),
        }
    }

    pub fn peer_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .spec
            .iter()
            .flat_map(|s| &s.peers)
            .map(|p| p.name.clone())
            .collect();
        names.sort();
        names
    }
}

pub struct FakeNetd {
    path: PathBuf,
    pub state: Arc<Mutex<State>>,
    status: watch::Sender<NetworkStatus>,
    serving: CancellationToken,
}

impl FakeNetd {
    pub async fn start(path: PathBuf) -> FakeNetd {
        let mut netd = FakeNetd {
            path,
            state: Arc::default(),
            status: watch::Sender::new(NetworkStatus::default()),
            serving: CancellationToken::new(),
        };
        netd.resume();
        netd
    }

    /// Looks at its state, or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    /// Ends it as kill -9 would.
    pub fn kill(&mut self) {
        self.serving.cancel();
        std::fs::remove_file(&self.path).unwrap();
    }

    /// Starts it again with what `state` holds.
    pub fn resume(&mut self) {
        let service = Service {
            state: Arc::clone(&self.state),
            status: self.status.clone(),
        };
        let apply = NetworkServiceServer::new(service.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let routes = Routes::new(apply).add_service(NetworkStatusServiceServer::new(service));
        self.serving = super::serve(&self.path, routes);
    }

    /// Somebody else applies a specification.
    pub fn foreign_change(&self) {
        let mut state = self.state.lock().unwrap();
        state.spec = Some(NetworkSpec::default());
        state.accept();
        state.etag = "foreign".to_owned();
        self.status.send_replace(state.status());
    }

    /// Looks again and tells its status: nothing but dropped packets moved.
    pub fn look(&self, packets: u64) {
        let mut status = self.state.lock().unwrap().status();
        status.drops = vec![DropCounter {
            reason: "from_peer_default".to_owned(),
            packets,
            bytes: 60 * packets,
        }];
        self.status.send_replace(status);
    }

    /// Takes the change that waits back by itself.
    pub fn take_back(&self, reason: RollbackReason) {
        let mut state = self.state.lock().unwrap();
        state.roll_back(reason);
        self.status.send_replace(state.status());
    }

    /// The tunnel of an exit is as this says.
    pub fn see_exit(&self, exit: ExitStatus) {
        let mut state = self.state.lock().unwrap();
        state.exits.retain(|other| other.id != exit.id);
        state.exits.push(exit);
        self.status.send_replace(state.status());
    }

    /// The etag changes and nobody is told.
    pub fn silent_change(&self) {
        self.state.lock().unwrap().etag = "silent".to_owned();
    }

    pub fn peer_names(&self) -> Vec<String> {
        self.state.lock().unwrap().peer_names()
    }
}

/// What both may reach.
fn common(one: &PeerSpec, other: &PeerSpec) -> AccessPolicy {
    let (one, other) = (one.access.clone().unwrap(), other.access.clone().unwrap());
    AccessPolicy {
        internet: one.internet && other.internet,
        peer_to_peer: one.peer_to_peer && other.peer_to_peer,
        services: one
            .services
            .into_iter()
            .filter(|service| other.services.contains(service))
            .collect(),
    }
}

/// What a difference would change, as far as the tests look.
fn would_change(request: &ApplyNetworkDeltaRequest) -> ApplyNetworkDeltaResponse {
    let names = request.upserted_peers.iter().map(|peer| &peer.name);
    let change = |name: &String| Change {
        action: ChangeAction::Update.into(),
        subject: format!("peer {name}"),
        detail: "of the test".to_owned(),
    };
    ApplyNetworkDeltaResponse {
        changes: names.chain(&request.removed_peers).map(change).collect(),
        ..Default::default()
    }
}

fn above(violations: Vec<Violation>) -> Status {
    let text = "the ceiling forbids it";
    let fault = Fault::new(Code::PermissionDenied, "netd.cell", "ABOVE_CEILING", text);
    fault.violations(violations).into()
}

#[derive(Clone)]
struct Service {
    state: Arc<Mutex<State>>,
    status: watch::Sender<NetworkStatus>,
}

#[tonic::async_trait]
impl NetworkService for Service {
    async fn apply_network(
        &self,
        request: Request<ApplyNetworkRequest>,
    ) -> Result<Response<ApplyNetworkResponse>, Status> {
        let request = request.into_inner();
        if !request.validate_only {
            let slow = self.state.lock().unwrap().slow;
            tokio::time::sleep(slow).await;
        }
        let mut state = self.state.lock().unwrap();
        let spec = request.spec.unwrap();
        if request.validate_only && !state.validates {
            return Ok(Response::new(Default::default()));
        }
        if state.refuses_network && spec.wireguard.is_some() {
            let field = "spec.wireguard.addresses[0]";
            return Err(above(vec![Violation::new(field, "the VPN may not lie there")]));
        }
        let port = spec.wireguard.as_ref().map(|one| one.listen_port);
        if state.refused_listen_port.is_some() && port == state.refused_listen_port {
            let field = "spec.wireguard.listen_port";
            return Err(above(vec![Violation::new(field, "is taken by another program")]));
        }
        state.judge_ports(&spec.cell_ports)?;
        state.judge("spec.peers", &spec.peers, 0)?;
        state.judge_exits("spec.peers", &spec.exits, &spec.peers)?;
        state.judge_services(&spec)?;
        if request.validate_only {
            return Ok(Response::new(Default::default()));
        }
        state.admit(&request.etag)?;
        let is_news = state.spec.as_ref() != Some(&spec);
        if request.confirm_within_seconds > 0 && is_news && state.refuses_waiting {
            return Err(above(vec![Violation::new(
                "spec.service_networks[0].exit",
                "not this one",
            )]));
        }
        state.full_applies += 1;
        let (before, previous_etag) = (state.spec.replace(spec), state.etag.clone());
        state.accept();
        // As the real one: what changes nothing has nothing to wait for.
        if let Some(before) = before.filter(|_| request.confirm_within_seconds > 0 && is_news) {
            state.window = request.confirm_within_seconds;
            let pending = PendingChange {
                etag: state.etag.clone(),
                previous_etag,
                deadline_unix_ms: super::START_MS + 1000 * i64::from(request.confirm_within_seconds),
            };
            state.pending = Some((pending, before));
        }
        self.status.send_replace(state.status());
        Ok(Response::new(ApplyNetworkResponse {
            generation: state.generation,
            etag: state.etag.clone(),
            pending: state.pending.as_ref().map(|(pending, _)| pending.clone()),
            ..Default::default()
        }))
    }

    async fn apply_network_delta(
        &self,
        request: Request<ApplyNetworkDeltaRequest>,
    ) -> Result<Response<ApplyNetworkDeltaResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state.lock().unwrap();
        if state.etag != request.base_etag {
            return Err(Fault::new(Code::Aborted, "netd.cell", "ETAG_MISMATCH", "another etag").into());
        }
        if request.validate_only && !state.validates {
            return Ok(Response::new(Default::default()));
        }
        let has_interface = state.spec.as_ref().is_some_and(|spec| spec.wireguard.is_some());
        if !has_interface && !request.upserted_peers.is_empty() {
            let text = "peers need an interface; apply a spec with one first";
            return Err(above(vec![Violation::new("upserted_peers", text)]));
        }
        let named = |peer: &&PeerSpec| request.upserted_peers.iter().any(|new| new.name == peer.name);
        let all = &state.spec.as_ref().unwrap().peers;
        let kept = all.len() - all.iter().filter(named).count();
        state.judge("upserted_peers", &request.upserted_peers, kept)?;
        let exits = &state.spec.as_ref().unwrap().exits;
        state.judge_exits("upserted_peers", exits, &request.upserted_peers)?;
        if request.validate_only {
            return Ok(Response::new(would_change(&request)));
        }
        if state.pending.is_some() && !state.takes_away(&request.upserted_peers) {
            return Err(
                Fault::new(Code::FailedPrecondition, "netd.cell", "CHANGE_PENDING", "not now").into(),
            );
        }
        state.unnoted = false;
        if let Some(tell) = &state.on_apply {
            tell(&request.upserted_peers);
        }
        state.deltas += 1;
        let (before, previous_etag) = (state.spec.clone().unwrap(), state.etag.clone());
        let spec = state.spec.as_mut().unwrap();
        let gone = |name: &str| {
            request.removed_peers.iter().any(|n| n == name)
                || request.upserted_peers.iter().any(|p| p.name == name)
        };
        spec.peers.retain(|peer| !gone(&peer.name));
        spec.peers.extend(request.upserted_peers.clone());
        state.accept();
        let (generation, etag) = (state.generation, state.etag.clone());
        if request.confirm_within_seconds > 0 {
            state.window = request.confirm_within_seconds;
            let pending = PendingChange {
                etag: etag.clone(),
                previous_etag,
                deadline_unix_ms: super::START_MS + 1000 * i64::from(request.confirm_within_seconds),
            };
            state.pending = Some((pending, before));
        } else {
            state.go_beside(&request);
        }
        self.status.send_replace(state.status());
        Ok(Response::new(ApplyNetworkDeltaResponse {
            generation,
            etag,
            pending: state.pending.as_ref().map(|(pending, _)| pending.clone()),
            ..Default::default()
        }))
    }

    async fn confirm_network(
        &self,
        request: Request<ConfirmNetworkRequest>,
    ) -> Result<Response<ConfirmNetworkResponse>, Status> {
        let mut state = self.state.lock().unwrap();
        state.waits(&request.into_inner().etag)?;
        state.pending = None;
        self.status.send_replace(state.status());
        Ok(Response::new(Default::default()))
    }

    async fn roll_back_network(
        &self,
        request: Request<RollBackNetworkRequest>,
    ) -> Result<Response<RollBackNetworkResponse>, Status> {
        let mut state = self.state.lock().unwrap();
        state.waits(&request.into_inner().etag)?;
        state.roll_back(RollbackReason::Requested);
        self.status.send_replace(state.status());
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl NetworkStatusService for Service {
    async fn get_network(
        &self,
        _: Request<GetNetworkRequest>,
    ) -> Result<Response<GetNetworkResponse>, Status> {
        let state = self.state.lock().unwrap();
        Ok(Response::new(GetNetworkResponse {
            status: Some(state.status()),
            spec: state.spec.clone(),
        }))
    }

    type WatchNetworkStream = Pin<Box<dyn Stream<Item = Result<WatchNetworkResponse, Status>> + Send>>;

    async fn watch_network(
        &self,
        _: Request<WatchNetworkRequest>,
    ) -> Result<Response<Self::WatchNetworkStream>, Status> {
        let statuses = WatchStream::new(self.status.subscribe());
        let statuses = statuses.map(|status| Ok(WatchNetworkResponse { status: Some(status) }));
        Ok(Response::new(Box::pin(statuses)))
    }

    /// Lets TCP port 443 pass; the real netd's answers are tested there and in the demo.
    async fn explain_flow(
        &self,
        request: Request<ExplainFlowRequest>,
    ) -> Result<Response<ExplainFlowResponse>, Status> {
        let request = request.into_inner();
        let state = self.state.lock().unwrap();
        let spec = state.spec.clone().unwrap_or_default();
        let peer = spec.peers.iter().find(|peer| peer.name == request.peer);
        let service = spec
            .service_networks
            .iter()
            .find(|network| network.name == request.service);
        let (source, exit) = match (peer, service) {
            (Some(peer), _) => (peer.addresses.first().cloned(), &peer.exit),
            (None, Some(network)) => {
                let subnet = network.subnet.as_ref();
                (subnet.and_then(|subnet| subnet.address.clone()), &network.exit)
            }
            (None, None) => {
                return Err(Fault::new(Code::NotFound, "netd.cell", "NO_PEER", "no such peer").into());
            }
        };
        let exit = spec
            .exits
            .iter()
            .find(|one| one.id == *exit)
            .cloned()
            .unwrap_or_default();
        let redirect_port = match exit.way {
            Some(exit_spec::Way::Redirect(redirect)) => redirect.port,
            Some(exit_spec::Way::Wireguard(_) | exit_spec::Way::Tunnel(_)) | None => 0,
        };
        let passes = request.payload == Some(explain_flow_request::Payload::TcpPort(443));
        Ok(Response::new(ExplainFlowResponse {
            passes,
            reason: "of the test".to_owned(),
            counter: if passes { "" } else { "from_peer_default" }.to_owned(),
            target: "out".to_owned(),
            source,
            translated_to: None,
            masqueraded: passes,
            steps: vec!["c_forward rule 3: jump".to_owned()],
            exit_id: exit.id,
            mark: exit.mark,
            table: exit.table,
            interface: exit.interface,
            redirect_port,
        }))
    }

    async fn list_peer_statuses(
        &self,
        request: Request<ListPeerStatusesRequest>,
    ) -> Result<Response<ListPeerStatusesResponse>, Status> {
        let name = request.into_inner().name;
        let state = self.state.lock().unwrap();
        let peers = state
            .statuses
            .values()
            .filter(|peer| name.is_empty() || peer.name == name)
            .cloned()
            .collect();
        Ok(Response::new(ListPeerStatusesResponse { peers }))
    }
}
