//! A cell that is not there: the services of `cell.api.v1` on a socket, behind a recorder of every byte.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "tests; not every file uses all of it"
)]

pub mod accounts;
mod managers;
mod networks;
pub mod store;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use cell_proto::api::v1::account_service_server::AccountServiceServer;
use cell_proto::api::v1::cell_service_server::{CellService, CellServiceServer};
use cell_proto::api::v1::connection_service_server::{ConnectionService, ConnectionServiceServer};
use cell_proto::api::v1::manager_service_server::ManagerServiceServer;
use cell_proto::api::v1::network_change_service_server::{NetworkChangeService, NetworkChangeServiceServer};
use cell_proto::api::v1::peer_service_server::{PeerService, PeerServiceServer};
use cell_proto::api::v1::service_network_service_server::ServiceNetworkServiceServer;
use cell_proto::api::v1::setup_service_server::{SetupService, SetupServiceServer};
use cell_proto::api::v1::store_service_server::StoreServiceServer;
use cell_proto::api::v1::user_service_server::{UserService, UserServiceServer};
use cell_proto::api::v1::*;
use cell_proto::common::v1::{Condition, ConditionStatus};
use cell_proto::fault::{Fault, Violation};
use cell_proto::ipc::{CallerPolicy, serve};
use setup_step::Step;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::iter;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

pub const TOKEN: &str = "7KQF-92MX-A1B2";

/// What the stand-in knows and was told.
#[derive(Default)]
pub struct State {
    pub peers: Vec<Peer>,
    pub steps: Vec<Step>,
    pub complete: bool,
    pub broken_audit: bool,
    /// What somebody else makes of the first peer between our reading and our writing.
    pub changed_meanwhile: Option<PeerAccess>,
    /// Of the last change of a peer.
    pub confirm_within: u32,
    /// What a change that is only asked about would do.
    pub plan: ChangePlan,
    pub waiting: Option<WaitingChange>,
    pub last_rollback_unix_ms: i64,
    /// What the configuration was changed by, last.
    pub configured: Option<UpdateCellConfigRequest>,
    /// The domain of services, as it was set last.
    pub domain: Option<SetDomainRequest>,
    /// What was done to changes that waited.
    pub settled: Vec<&'static str>,
    pub delivered: Vec<String>,
    pub passwords: Vec<(String, String)>,
    pub connections: Vec<Connection>,
    /// What connections were made of, in the order in which it came.
    pub imports: Vec<ConnectionImport>,
    /// What was imported of the first version.
    pub first_versions: Vec<ImportFirstVersionRequest>,
    pub store: store::Store,
    pub networks: Vec<ServiceNetwork>,
    /// Accounts, with the device of each.
    pub accounts: std::collections::BTreeMap<String, String>,
}

pub struct FakeCell {
    pub dir: TempDir,
    pub state: Arc<Mutex<State>>,
    pub recorded: Arc<Mutex<Vec<u8>>>,
    _runtime: tokio::runtime::Runtime,
}

impl FakeCell {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (state, recorded) = (Arc::<Mutex<State>>::default(), Arc::<Mutex<Vec<u8>>>::default());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let inner = dir.path().join("inner.sock");
            let listener = UnixListener::bind(&inner).unwrap();
            let cell = Service(Arc::clone(&state));
            let routes = Routes::new(PeerServiceServer::new(cell.clone()))
                .add_service(SetupServiceServer::new(cell.clone()))
                .add_service(UserServiceServer::new(cell.clone()))
                .add_service(ConnectionServiceServer::new(cell.clone()))
                .add_service(NetworkChangeServiceServer::new(cell.clone()))
                .add_service(StoreServiceServer::new(cell.clone()))
                .add_service(AccountServiceServer::new(cell.clone()))
                .add_service(ManagerServiceServer::new(cell.clone()))
                .add_service(ServiceNetworkServiceServer::new(cell.clone()))
                .add_service(CellServiceServer::new(cell));
            let callers = CallerPolicy {
                uids: vec![nix::unistd::geteuid().as_raw()],
                unit: None,
            };
            tokio::spawn(serve(listener, callers, routes, std::future::pending()));
            let outer = UnixListener::bind(dir.path().join("api.sock")).unwrap();
            tokio::spawn(record(outer, inner, Arc::clone(&recorded)));
        });
        FakeCell {
            dir,
            state,
            recorded,
            _runtime: runtime,
        }
    }

    /// Runs the program against this cell. Its standard input holds `input`.
    pub fn run_with(&self, args: &[&str], input: &str) -> Output {
        self.run_by(args, input, "")
    }

    /// In a shell with this `SSH_CONNECTION`.
    pub fn run_by(&self, args: &[&str], input: &str, ssh_connection: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cellctl"))
            .args(args)
            .env("CELL_SOCKET", self.dir.path().join("api.sock"))
            .env("CELL_HOME", self.dir.path())
            .env("SSH_CONNECTION", ssh_connection)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may have ended without reading.
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes());
        child.wait_with_output().unwrap()
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, "")
    }

    /// Runs it; it must succeed. What it printed.
    pub fn say(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn was_sent(&self, bytes: &[u8]) -> bool {
        self.recorded
            .lock()
            .unwrap()
            .windows(bytes.len())
            .any(|window| window == bytes)
    }
}

async fn record(listener: UnixListener, inner: PathBuf, recorded: Arc<Mutex<Vec<u8>>>) {
    while let Ok((client, _)) = listener.accept().await {
        let (inner, recorded) = (inner.clone(), Arc::clone(&recorded));
        tokio::spawn(async move {
            let (mut from_server, mut to_server) = UnixStream::connect(inner).await.unwrap().into_split();
            let (mut from_client, mut to_client) = client.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = from_client.read(&mut piece).await {
                recorded.lock().unwrap().extend(&piece[..n]);
                if to_server.write_all(&piece[..n]).await.is_err() {
                    break;
                }
            }
        });
    }
}

#[derive(Clone)]
struct Service(Arc<Mutex<State>>);

fn fault(code: Code, reason: &'static str, message: &str) -> Status {
    Fault::new(code, "api.cell", reason, message).into()
}

impl Service {
    fn setup(&self) -> SetupState {
        let state = self.0.lock().unwrap();
        let names = ["claim", "identity", "network", "admin"];
        let answered = state.steps.len().min(4);
        SetupState {
            complete: state.complete,
            claimed: answered > 0,
            answered_steps: names[..answered].iter().map(|name| (*name).to_owned()).collect(),
            next_step: names
                .get(answered)
                .map(|name| (*name).to_owned())
                .unwrap_or_default(),
        }
    }

    fn status(&self) -> CellStatus {
        let condition = Condition {
            r#type: "DockerReachable".to_owned(),
            status: ConditionStatus::False.into(),
            reason: "NO_SOCKET".to_owned(),
            message: "Docker is not running".to_owned(),
            last_transition_unix_ms: 1,
        };
        CellStatus {
            cell_name: "home".to_owned(),
            domain_mode: "lan".to_owned(),
            domain: "home.cell".to_owned(),
            uptime_seconds: 3700,
            version: "0.1.0".to_owned(),
            generation: 3,
            observed_generation: 3,
            peer_count: 2,
            connected_peer_count: 1,
            daemons: vec![
                DaemonStatus {
                    name: "broker".to_owned(),
                    reachable: true,
                    conditions: vec![condition],
                },
                DaemonStatus {
                    name: "netd".to_owned(),
                    reachable: false,
                    conditions: vec![],
                },
            ],
        }
    }
}

#[tonic::async_trait]
impl SetupService for Service {
    async fn get_setup(&self, _: Request<GetSetupRequest>) -> Result<Response<GetSetupResponse>, Status> {
        Ok(Response::new(GetSetupResponse {
            state: Some(self.setup()),
        }))
    }

    async fn submit_setup_step(
        &self,
        request: Request<SubmitSetupStepRequest>,
    ) -> Result<Response<SubmitSetupStepResponse>, Status> {
        let SubmitSetupStepRequest { step, claim_token } = request.into_inner();
        if claim_token != TOKEN {
            return Err(fault(
                Code::PermissionDenied,
                "CLAIM_TOKEN",
                "that is not the claim token",
            ));
        }
        let step = step.unwrap().step.unwrap();
        if let Step::Network(network) = &step
            && !network.vpn_range_ipv4.starts_with("10.")
        {
            let faults = vec![
                Violation::new("vpn_range_ipv4", "is not a private range"),
                Violation::new("endpoint_host", "is not a host name"),
            ];
            let fault = Fault::new(
                Code::InvalidArgument,
                "api.cell",
                "INVALID",
                "the step has faults",
            );
            return Err(fault.violations(faults).into());
        }
        self.0.lock().unwrap().steps.push(step);
        Ok(Response::new(SubmitSetupStepResponse {
            state: Some(self.setup()),
        }))
    }

    async fn complete_setup(
        &self,
        request: Request<CompleteSetupRequest>,
    ) -> Result<Response<CompleteSetupResponse>, Status> {
        assert_eq!(request.into_inner().claim_token, TOKEN);
        self.0.lock().unwrap().complete = true;
        Ok(Response::new(CompleteSetupResponse {
            state: Some(self.setup()),
        }))
    }
}

#[tonic::async_trait]
impl CellService for Service {
    type WatchCellStatusStream =
        tokio_stream::Iter<std::vec::IntoIter<Result<WatchCellStatusResponse, Status>>>;

    async fn get_cell_status(
        &self,
        _: Request<GetCellStatusRequest>,
    ) -> Result<Response<GetCellStatusResponse>, Status> {
        Ok(Response::new(GetCellStatusResponse {
            status: Some(self.status()),
        }))
    }

    async fn watch_cell_status(
        &self,
        _: Request<WatchCellStatusRequest>,
    ) -> Result<Response<Self::WatchCellStatusStream>, Status> {
        let change = |generation| WatchCellStatusResponse {
            status: Some(CellStatus {
                generation,
                ..self.status()
            }),
        };
        Ok(Response::new(iter(vec![Ok(change(3)), Ok(change(4))])))
    }

    async fn get_cell_config(
        &self,
        _: Request<GetCellConfigRequest>,
    ) -> Result<Response<GetCellConfigResponse>, Status> {
        let config = Some(self.config());
        Ok(Response::new(GetCellConfigResponse { config }))
    }

    async fn update_cell_config(
        &self,
        request: Request<UpdateCellConfigRequest>,
    ) -> Result<Response<UpdateCellConfigResponse>, Status> {
        self.0.lock().unwrap().configured = Some(request.into_inner());
        let config = Some(self.config());
        Ok(Response::new(UpdateCellConfigResponse { config }))
    }

    async fn get_domain(&self, _: Request<GetDomainRequest>) -> Result<Response<GetDomainResponse>, Status> {
        let domain = self.0.lock().unwrap().domain.clone().unwrap_or_default();
        Ok(Response::new(GetDomainResponse {
            setting: domain.setting,
            token_is_set: Some(!domain.token.is_empty()),
        }))
    }

    async fn set_domain(
        &self,
        request: Request<SetDomainRequest>,
    ) -> Result<Response<SetDomainResponse>, Status> {
        let domain = request.into_inner();
        self.0.lock().unwrap().domain = Some(domain.clone());
        Ok(Response::new(SetDomainResponse {
            setting: domain.setting,
            token_is_set: Some(!domain.token.is_empty()),
        }))
    }

    async fn verify_audit(
        &self,
        _: Request<VerifyAuditRequest>,
    ) -> Result<Response<VerifyAuditResponse>, Status> {
        Ok(Response::new(if self.0.lock().unwrap().broken_audit {
            let detail = "record 7 does not follow from record 6".to_owned();
            VerifyAuditResponse {
                intact: false,
                record_count: 9,
                anchor_count: 2,
                first_bad_sequence: 7,
                detail,
            }
        } else {
            VerifyAuditResponse {
                intact: true,
                record_count: 9,
                anchor_count: 2,
                ..VerifyAuditResponse::default()
            }
        }))
    }
}

#[tonic::async_trait]
impl UserService for Service {
    async fn list_users(&self, _: Request<ListUsersRequest>) -> Result<Response<ListUsersResponse>, Status> {
        let user = |username: &str, role: &str, locked_until_unix_ms| User {
            username: username.to_owned(),
            role: role.to_owned(),
            must_change_password: role == "peer",
            locked_until_unix_ms,
        };
        let users = vec![user("anna", "admin", 1_700_000_000_000), user("ben", "peer", 0)];
        Ok(Response::new(ListUsersResponse { users }))
    }

    async fn reset_password(
        &self,
        request: Request<ResetPasswordRequest>,
    ) -> Result<Response<ResetPasswordResponse>, Status> {
        let ResetPasswordRequest {
            username,
            new_password,
        } = request.into_inner();
        if username != "anna" {
            return Err(fault(Code::NotFound, "NO_USER", "there is no user of this name"));
        }
        self.0.lock().unwrap().passwords.push((username, new_password));
        Ok(Response::new(ResetPasswordResponse {}))
    }
}

impl Service {
    fn changed(&self, name: &str, change: impl FnOnce(&mut Peer)) -> Option<Peer> {
        let mut state = self.0.lock().unwrap();
        let peer = state.peers.iter_mut().find(|peer| peer.name == name)?;
        change(peer);
        // As the cell has it: its version is of all that was chosen.
        peer.version.push('.');
        Some(peer.clone())
    }
}

#[tonic::async_trait]
impl PeerService for Service {
    async fn list_peers(&self, _: Request<ListPeersRequest>) -> Result<Response<ListPeersResponse>, Status> {
        Ok(Response::new(ListPeersResponse {
            peers: self.0.lock().unwrap().peers.clone(),
        }))
    }

    async fn get_peer(&self, request: Request<GetPeerRequest>) -> Result<Response<GetPeerResponse>, Status> {
        let name = request.into_inner().name;
        let found = self
            .0
            .lock()
            .unwrap()
            .peers
            .iter()
            .find(|peer| peer.name == name)
            .cloned();
        let found = found.ok_or_else(|| fault(Code::NotFound, "NO_PEER", "there is no such peer"))?;
        Ok(Response::new(GetPeerResponse { peer: Some(found) }))
    }

    /// The peer `laptop` reaches port 443 of anything.
    async fn explain_flow(
        &self,
        request: Request<ExplainFlowRequest>,
    ) -> Result<Response<ExplainFlowResponse>, Status> {
        let request = request.into_inner();
        if request.name != "laptop" {
            return Err(fault(Code::NotFound, "NO_PEER", "there is no such peer"));
        }
        let passes = request.port == "443" && request.protocol.is_empty();
        Ok(Response::new(ExplainFlowResponse {
            passes,
            reason: "the service is granted".to_owned(),
            counter: if passes { "" } else { "from_peer_default" }.to_owned(),
            target: "out".to_owned(),
            source: "10.86.0.2".to_owned(),
            translated_to: String::new(),
            masqueraded: passes,
            steps: vec!["c_forward rule 3: jump c_from_peer".to_owned()],
            exit: Some(ExplainedExit {
                connection_id: "6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a5b".to_owned(),
                connection_name: "mullvad".to_owned(),
                mark: "0x1000".to_owned(),
                table: 1000,
                iface: "wgext_6f1d2c3a".to_owned(),
                redirect_port: 0,
            }),
        }))
    }

    async fn create_peer(
        &self,
        request: Request<CreatePeerRequest>,
    ) -> Result<Response<CreatePeerResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.0.lock().unwrap();
        if state.peers.iter().any(|peer| peer.name == request.name) {
            return Err(fault(
                Code::AlreadyExists,
                "PEER_EXISTS",
                "there is a peer of that name",
            ));
        }
        let (public_key, private) = if request.server_makes_key {
            (
                "c2VydmVy".to_owned(),
                "c2VydmVyLW1hZGUta2V5LW9mLXRoaXJ0eS10d28tYnk=",
            )
        } else {
            (request.public_key, "")
        };
        let peer = Peer {
            name: request.name,
            public_key,
            ipv4: "10.86.0.2".to_owned(),
            ipv6: "fd12:3456:789a::2".to_owned(),
            access: request.access,
            tunnel: "full".to_owned(),
            created_unix_ms: 1_700_000_000_000,
            version: "v1".to_owned(),
            exit_connection_id: request.exit,
            fail_open: request.fail_open,
            fallback_connection_ids: request.fallbacks,
            ..Peer::default()
        };
        state.peers.push(peer.clone());
        let config = format!(
            "[Interface]\nPrivateKey = {private}\nAddress = 10.86.0.2/32, fd12:3456:789a::2/128\nDNS = 10.86.0.1\n\n\
             [Peer]\nPublicKey = RUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUU=\nAllowedIPs = 0.0.0.0/0, ::/0\n\
             Endpoint = home.example:51820\nPersistentKeepalive = 25\n"
        );
        Ok(Response::new(CreatePeerResponse {
            peer: Some(peer),
            config,
        }))
    }

    async fn update_peer(
        &self,
        request: Request<UpdatePeerRequest>,
    ) -> Result<Response<UpdatePeerResponse>, Status> {
        let UpdatePeerRequest {
            name,
            public_key,
            access,
            tunnel,
            if_version,
            exit,
            confirm_within_seconds,
            validate_only,
            fail_open,
            fallbacks,
        } = request.into_inner();
        if validate_only {
            return Ok(Response::new(UpdatePeerResponse {
                peer: None,
                plan: self.planned(),
            }));
        }
        let mut state = self.0.lock().unwrap();
        state.waits(&name, confirm_within_seconds);
        if let Some(access) = state.changed_meanwhile.take() {
            state.peers[0].access = Some(access);
            state.peers[0].version.push('+');
        }
        let is = state
            .peers
            .iter()
            .find(|peer| peer.name == name)
            .unwrap()
            .version
            .clone();
        if if_version.is_some_and(|version| version != is) {
            return Err(fault(
                Code::Aborted,
                "VERSION_MISMATCH",
                "the peer was changed meanwhile",
            ));
        }
        let peer = state.peers.iter_mut().find(|peer| peer.name == name).unwrap();
        peer.access = access.or(peer.access.take());
        peer.tunnel = tunnel.unwrap_or_else(|| peer.tunnel.clone());
        peer.public_key = public_key.unwrap_or_else(|| peer.public_key.clone());
        peer.exit_connection_id = exit.unwrap_or_else(|| peer.exit_connection_id.clone());
        peer.fail_open = fail_open.map_or(peer.fail_open, |word| word.own);
        if let Some(fallbacks) = fallbacks {
            peer.fallback_connection_ids = fallbacks.connections;
        }
        Ok(Response::new(UpdatePeerResponse {
            peer: Some(peer.clone()),
            plan: None,
        }))
    }

    async fn set_peer_exit(
        &self,
        request: Request<SetPeerExitRequest>,
    ) -> Result<Response<SetPeerExitResponse>, Status> {
        let SetPeerExitRequest { name, exit, .. } = request.into_inner();
        let peer = self.changed(&name, |peer| peer.exit_connection_id = exit);
        Ok(Response::new(SetPeerExitResponse { peer, plan: None }))
    }

    async fn set_peer_fail_open(
        &self,
        request: Request<SetPeerFailOpenRequest>,
    ) -> Result<Response<SetPeerFailOpenResponse>, Status> {
        let SetPeerFailOpenRequest {
            name,
            fail_open,
            confirm_within_seconds,
            validate_only,
        } = request.into_inner();
        if validate_only {
            let plan = self.planned();
            return Ok(Response::new(SetPeerFailOpenResponse { peer: None, plan }));
        }
        self.0.lock().unwrap().waits(&name, confirm_within_seconds);
        let peer = self.changed(&name, |peer| peer.fail_open = fail_open);
        Ok(Response::new(SetPeerFailOpenResponse { peer, plan: None }))
    }

    async fn set_peer_fallbacks(
        &self,
        request: Request<SetPeerFallbacksRequest>,
    ) -> Result<Response<SetPeerFallbacksResponse>, Status> {
        let SetPeerFallbacksRequest {
            name,
            connections,
            confirm_within_seconds,
            validate_only,
        } = request.into_inner();
        if validate_only {
            let plan = self.planned();
            return Ok(Response::new(SetPeerFallbacksResponse { peer: None, plan }));
        }
        self.0.lock().unwrap().waits(&name, confirm_within_seconds);
        let peer = self.changed(&name, |peer| peer.fallback_connection_ids = connections);
        Ok(Response::new(SetPeerFallbacksResponse { peer, plan: None }))
    }

    async fn get_peer_config(
        &self,
        request: Request<GetPeerConfigRequest>,
    ) -> Result<Response<GetPeerConfigResponse>, Status> {
        let config = format!("# {}\nPrivateKey = \n", request.into_inner().name);
        Ok(Response::new(GetPeerConfigResponse { config }))
    }

    async fn deliver_peer_config(
        &self,
        request: Request<DeliverPeerConfigRequest>,
    ) -> Result<Response<DeliverPeerConfigResponse>, Status> {
        let name = request.into_inner().name;
        let config = format!("# {name}\nPrivateKey = \n");
        self.0.lock().unwrap().delivered.push(name);
        Ok(Response::new(DeliverPeerConfigResponse { config }))
    }

    async fn delete_peer(
        &self,
        request: Request<DeletePeerRequest>,
    ) -> Result<Response<DeletePeerResponse>, Status> {
        let DeletePeerRequest {
            name,
            confirm_within_seconds,
            validate_only,
            delete_accounts: _,
        } = request.into_inner();
        if validate_only {
            let plan = self.planned();
            return Ok(Response::new(DeletePeerResponse { plan }));
        }
        let mut state = self.0.lock().unwrap();
        state.waits(&name, confirm_within_seconds);
        let before = state.peers.len();
        state.peers.retain(|peer| peer.name != name);
        if state.peers.len() == before {
            return Err(fault(Code::NotFound, "NO_PEER", "there is no such peer"));
        }
        Ok(Response::new(DeletePeerResponse { plan: None }))
    }
}

impl State {
    /// A change of a peer that waits for so many seconds, if any.
    fn waits(&mut self, peer: &str, seconds: u32) {
        self.confirm_within = seconds;
        if seconds > 0 {
            self.waiting = Some(WaitingChange {
                peer: peer.to_owned(),
                removal: false,
                author: "local:root".to_owned(),
                deadline_unix_ms: 1_700_000_000_000,
                by_vpn: false,
                action: "update".to_owned(),
                service: String::new(),
            });
        }
    }
}

impl Service {
    fn config(&self) -> CellConfig {
        let changed = self.0.lock().unwrap().configured.clone().unwrap_or_default();
        let by_default = || vec!["9.9.9.9".to_owned()];
        let chosen = changed.dns_upstreams.map(|upstreams| upstreams.addresses);
        CellConfig {
            cell_name: "home".to_owned(),
            domain: "home.cell".to_owned(),
            endpoint_host: changed.endpoint_host.unwrap_or_default(),
            wireguard_port: 51820,
            dns_upstreams: chosen.filter(|all| !all.is_empty()).unwrap_or_else(by_default),
            ..CellConfig::default()
        }
    }

    fn planned(&self) -> Option<ChangePlan> {
        Some(self.0.lock().unwrap().plan.clone())
    }

    fn settle(&self, how: &'static str) -> Result<(), Status> {
        let mut state = self.0.lock().unwrap();
        if state.waiting.take().is_none() {
            return Err(fault(Code::FailedPrecondition, "NOT_PENDING", "no change waits"));
        }
        state.settled.push(how);
        Ok(())
    }
}

#[tonic::async_trait]
impl NetworkChangeService for Service {
    async fn get_network_change(
        &self,
        _: Request<GetNetworkChangeRequest>,
    ) -> Result<Response<GetNetworkChangeResponse>, Status> {
        let state = self.0.lock().unwrap();
        Ok(Response::new(GetNetworkChangeResponse {
            waiting: state.waiting.clone(),
            last_rollback_unix_ms: state.last_rollback_unix_ms,
        }))
    }

    async fn confirm_network_change(
        &self,
        _: Request<ConfirmNetworkChangeRequest>,
    ) -> Result<Response<ConfirmNetworkChangeResponse>, Status> {
        self.settle("confirmed")?;
        Ok(Response::new(ConfirmNetworkChangeResponse {}))
    }

    async fn roll_back_network_change(
        &self,
        _: Request<RollBackNetworkChangeRequest>,
    ) -> Result<Response<RollBackNetworkChangeResponse>, Status> {
        self.settle("taken back")?;
        Ok(Response::new(RollBackNetworkChangeResponse {}))
    }
}

#[tonic::async_trait]
impl ConnectionService for Service {
    async fn list_connections(
        &self,
        _: Request<ListConnectionsRequest>,
    ) -> Result<Response<ListConnectionsResponse>, Status> {
        let connections = self.0.lock().unwrap().connections.clone();
        Ok(Response::new(ListConnectionsResponse { connections }))
    }

    async fn get_connection(
        &self,
        _: Request<GetConnectionRequest>,
    ) -> Result<Response<GetConnectionResponse>, Status> {
        Err(Status::unimplemented("names are looked up in the list"))
    }

    async fn create_connection(
        &self,
        request: Request<CreateConnectionRequest>,
    ) -> Result<Response<CreateConnectionResponse>, Status> {
        let CreateConnectionRequest { name, r#type, import } = request.into_inner();
        let mut state = self.0.lock().unwrap();
        if state.connections.iter().any(|one| one.name == name) {
            let text = "there is a connection of this name";
            return Err(fault(Code::AlreadyExists, "CONNECTION_EXISTS", text));
        }
        let server = ConnectionServer {
            protocol: "wireguard".to_owned(),
            host: "2001:db8::1".to_owned(),
            port: 51820,
            public_key: "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=".to_owned(),
        };
        let connection = Connection {
            id: format!("id-of-{name}"),
            r#type,
            name,
            mark: "0x1000".to_owned(),
            table: 1000,
            iface: "wgext_6f1d2c3a".to_owned(),
            config: Some(ConnectionConfig {
                servers: vec![server],
                ..ConnectionConfig::default()
            }),
            vault_names: vec!["conn_6f1d_private_key".to_owned()],
            status: Some(ConnectionStatus {
                health: "unknown".to_owned(),
                detail: "nothing uses it yet".to_owned(),
                probed_unix_ms: 0,
                proven_unix_ms: 0,
            }),
            version: "1".to_owned(),
            created_unix_ms: 1_700_000_000_000,
            ..Connection::default()
        };
        state.connections.push(connection.clone());
        state.imports.extend(import);
        Ok(Response::new(CreateConnectionResponse {
            connection: Some(connection),
            notes: vec!["Table is not used".to_owned()],
        }))
    }

    async fn update_connection(
        &self,
        request: Request<UpdateConnectionRequest>,
    ) -> Result<Response<UpdateConnectionResponse>, Status> {
        let UpdateConnectionRequest {
            id,
            name,
            import,
            if_version,
            validate_only,
        } = request.into_inner();
        let mut state = self.0.lock().unwrap();
        if validate_only {
            let statement = PlanStatement {
                kind: "ends".to_owned(),
                text: "Open connections of laptop to the internet end.".to_owned(),
                ..PlanStatement::default()
            };
            return Ok(Response::new(UpdateConnectionResponse {
                notes: vec!["Table is not used".to_owned()],
                plan: Some(ChangePlan {
                    statements: vec![statement],
                    ..ChangePlan::default()
                }),
                ..UpdateConnectionResponse::default()
            }));
        }
        state.imports.extend(import);
        let found = state.connections.iter_mut().find(|one| one.id == id);
        let found = found.ok_or_else(|| fault(Code::NotFound, "NO_CONNECTION", "there is no such"))?;
        assert_eq!(if_version.as_ref(), Some(&found.version));
        found.name = name.unwrap_or_else(|| found.name.clone());
        found.version.push('+');
        Ok(Response::new(UpdateConnectionResponse {
            connection: Some(found.clone()),
            ..UpdateConnectionResponse::default()
        }))
    }

    async fn delete_connection(
        &self,
        request: Request<DeleteConnectionRequest>,
    ) -> Result<Response<DeleteConnectionResponse>, Status> {
        let id = request.into_inner().id;
        self.0.lock().unwrap().connections.retain(|one| one.id != id);
        Ok(Response::new(DeleteConnectionResponse {}))
    }

    async fn import_first_version(
        &self,
        request: Request<ImportFirstVersionRequest>,
    ) -> Result<Response<ImportFirstVersionResponse>, Status> {
        let request = request.into_inner();
        let id = if request.validate_only { "" } else { "6f1d" };
        let answer = ImportFirstVersionResponse {
            exits: vec![ImportedExit {
                r#type: "proxy".to_owned(),
                name: "proxy-v1".to_owned(),
                id: id.to_owned(),
                was_there: false,
                vault_names: vec!["password".to_owned()],
            }],
            peers: vec!["tv".to_owned()],
            plan: vec!["tv: bound to proxy-v1.".to_owned()],
            notes: vec!["of config only connectivity is read".to_owned()],
            waits: request.confirm_within_seconds > 0,
        };
        self.0.lock().unwrap().first_versions.push(request);
        Ok(Response::new(answer))
    }
}
