//! A broker that keeps services in memory, refuses as the real one does (`deployment_service.proto`), and outlives its process as
//! that one's store does. `broker_contract.rs` says what both hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use cell_manifest::{Digest, Key, Manifest};
use cell_proto::broker::v1::backup_service_server::{BackupService, BackupServiceServer};
use cell_proto::broker::v1::container_service_server::{ContainerService, ContainerServiceServer};
use cell_proto::broker::v1::container_status_service_server::{
    ContainerStatusService, ContainerStatusServiceServer,
};
use cell_proto::broker::v1::deployment_service_server::{DeploymentService, DeploymentServiceServer};
use cell_proto::broker::v1::*;
use cell_proto::fault::Fault;
use futures_util::{Stream, StreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

/// A service as it was made.
#[derive(Debug, Clone)]
pub struct Made {
    pub deployment: Deployment,
    pub parameters: BTreeMap<String, String>,
    pub running: bool,
    /// What its check says of all of its containers.
    pub health: String,
    /// How often it was started.
    pub starts: i64,
    /// What its containers were given last, by name in the vault.
    pub secrets: BTreeMap<String, Vec<u8>>,
}

impl Made {
    /// As the real one tells it by itself.
    fn told(&self) -> Deployment {
        let mut told = self.deployment.clone();
        for container in &mut told.containers {
            container.state = state(self).into();
            container.health = self.health.clone();
            container.started_unix_ms = self.starts;
            container.exit_code = if self.running { 0 } else { 137 };
        }
        told
    }
}

#[derive(Default)]
pub struct State {
    pub manifests: BTreeMap<String, Manifest>,
    /// What came with them.
    pub image_signatures: BTreeMap<String, Vec<ImageSignature>>,
    /// Digests of manifests whose images are there.
    pub images: BTreeSet<String>,
    pub made: BTreeMap<String, Made>,
    pub volumes: BTreeSet<String>,
    /// What it was asked for, in order.
    pub calls: Vec<String>,
    /// Manifests that cannot be deployed, each with the code.
    pub refuses: BTreeMap<String, &'static str>,
    /// How often somebody began to watch.
    pub watches: u32,
    /// What is said of each container that somebody looks at.
    pub refuses_looks: Option<(Code, &'static str)>,
    /// How many removals Docker refuses yet.
    pub refuses_removals: u32,
    /// Docker is away.
    pub no_docker: bool,
    /// The policy file has no table of deployments.
    pub no_ceiling: bool,
    /// What health checks say, by handle.
    pub health: BTreeMap<String, String>,
    /// What the check of what is made of a manifest says, by digest; else that it works, where there is one.
    pub checks: BTreeMap<String, &'static str>,
    /// Images that root built on the machine.
    pub built: BTreeSet<String>,
    /// The bridge that the next deployment is on, instead of the one that was asked for.
    pub other_bridge: Option<String>,
    /// Dies after so many calls, with the last one done and not answered.
    pub dies_after: Option<u32>,
    /// Where all containers are, instead of on their networks: somebody answers there.
    pub address: Option<std::net::Ipv4Addr>,
    /// What is followed of each log, after its last lines.
    pub log: Option<tokio::sync::broadcast::Sender<String>>,
    /// How many follow a log now.
    pub followers: Arc<std::sync::atomic::AtomicUsize>,
    /// Where secrets are looked up; none: none is.
    pub vault: Option<Arc<Mutex<super::vault::Secrets>>>,
    /// Whose signatures of manifests are taken, PEM. What has no signature is taken as shipped.
    pub manifest_keys: Vec<String>,
    /// What a backup of any service is, and why it ends early; none: there is no recipient.
    pub backup: Option<Vec<Result<Vec<u8>, &'static str>>>,
    /// Told when a backup that ends early does.
    pub backup_breaks: Arc<tokio::sync::Notify>,
    /// The last octet of the next container.
    pub next: u8,
}

impl State {
    fn deploy(&mut self, request: DeployRequest) -> Result<(Deployment, bool), Status> {
        let DeployRequest {
            manifest_digest: digest,
            instance,
            parameters,
            place,
        } = request;
        let parameters: BTreeMap<_, _> = parameters.into_iter().map(|p| (p.name, p.text)).collect();
        let Some(manifest) = self.manifests.get(&digest).cloned() else {
            return Err(refusal(Code::NotFound, "NO_MANIFEST"));
        };
        if manifest.values(&parameters).is_err() {
            return Err(refusal(Code::InvalidArgument, "INVALID_REQUEST"));
        }
        let is_here = |image: &cell_manifest::ImageSource| match image.registry() {
            Some(_) => self.images.contains(&digest),
            None => self.built.contains(&image.to_string()),
        };
        if !manifest.containers.iter().all(|one| is_here(&one.image)) {
            return Err(refusal(Code::FailedPrecondition, "IMAGE_ABSENT"));
        }
        if let Some(code) = self.refuses.get(&digest) {
            return Err(refusal(Code::Aborted, code));
        }
        let name = manifest.service_name(&instance).unwrap();
        let secrets = self.secrets(&manifest, &name)?;
        let service = name.to_string();
        if let Some(made) = self.made.get_mut(&service)
            && made.deployment.manifest_digest == digest
            && made.parameters == parameters
        {
            let is_other = made.secrets != secrets;
            made.starts += i64::from(is_other);
            (made.running, made.secrets) = (true, secrets);
            return Ok((made.deployment.clone(), is_other));
        }
        let has_check = manifest.containers.iter().any(|one| one.health.is_some());
        let works = if has_check { "healthy" } else { "" };
        let health = (*self.checks.get(&digest).unwrap_or(&works)).to_owned();
        let deployment = self.make(&manifest, &service, digest, place.unwrap_or_default());
        let made = Made {
            deployment: deployment.clone(),
            parameters,
            running: true,
            health,
            starts: 1,
            secrets,
        };
        self.volumes.insert(service.clone());
        self.made.insert(service, made);
        Ok((deployment, true))
    }

    /// What vaultd has for a service.
    fn secrets(
        &self,
        manifest: &Manifest,
        service: &cell_manifest::Name,
    ) -> Result<BTreeMap<String, Vec<u8>>, Status> {
        let Some(vault) = &self.vault else {
            return Ok(BTreeMap::new());
        };
        let vault = vault.lock().unwrap();
        let mut found = BTreeMap::new();
        for (name, secret) in manifest.secrets() {
            let stored = name.in_vault(service);
            match vault.kept.get(&stored) {
                Some((_, value)) => {
                    found.insert(stored, value.clone());
                }
                None if secret.is_optional => {}
                None => return Err(refusal(Code::FailedPrecondition, "SECRET_MISSING")),
            }
        }
        Ok(found)
    }

    /// Containers at other addresses than those before.
    fn make(
        &mut self,
        manifest: &Manifest,
        service: &str,
        digest: String,
        place: ServicePlace,
    ) -> Deployment {
        let base = place.subnet.trim_end_matches("/28").rsplit_once('.');
        let base = base.map(|(net, last)| (net.to_owned(), last.parse::<u8>().unwrap()));
        let (net, first) = base.unwrap_or(("172.20.0".to_owned(), 0));
        self.next = self.next % 10 + 2;
        let containers = manifest
            .containers
            .iter()
            .zip(0u8..)
            .map(|(container, n)| DeployedContainer {
                handle: if n == 0 {
                    service.to_owned()
                } else {
                    format!("{service}-{}", container.name)
                },
                name: container.name.to_string(),
                id: "0".repeat(64),
                address: match self.address {
                    Some(address) => address.to_string(),
                    None => format!("{net}.{}", first + (self.next + n) % 12 + 2),
                },
                ..DeployedContainer::default()
            });
        let containers = containers.collect();
        Deployment {
            service: service.to_owned(),
            manifest_digest: digest,
            subnet: place.subnet.clone(),
            bridge: self
                .other_bridge
                .take()
                .unwrap_or(format!("cellsvc{}", place.number)),
            containers,
        }
    }
}

#[derive(Clone)]
struct Broker(Arc<Mutex<State>>, CancellationToken);

pub struct FakeBroker {
    pub state: Arc<Mutex<State>>,
    path: PathBuf,
    alive: CancellationToken,
}

impl FakeBroker {
    pub fn start(path: PathBuf) -> FakeBroker {
        let state = Arc::<Mutex<State>>::default();
        let alive = serve(&path, &state);
        FakeBroker { state, path, alive }
    }

    /// As kill -9 does: what it has made stays.
    pub fn kill(&self) {
        self.alive.cancel();
        let _ = std::fs::remove_file(&self.path);
    }

    pub fn revive(&mut self) {
        self.state.lock().unwrap().dies_after = None;
        self.alive = serve(&self.path, &self.state);
    }

    /// Looks at its state, or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    pub fn is_dead(&self) -> bool {
        self.alive.is_cancelled()
    }

    pub fn calls(&self) -> Vec<String> {
        self.state.lock().unwrap().calls.clone()
    }
}

fn serve(path: &Path, state: &Arc<Mutex<State>>) -> CancellationToken {
    let alive = CancellationToken::new();
    let broker = Broker(Arc::clone(state), alive.clone());
    let routes = Routes::new(DeploymentServiceServer::new(broker.clone()))
        .add_service(ContainerServiceServer::new(broker.clone()))
        .add_service(BackupServiceServer::new(broker.clone()))
        .add_service(ContainerStatusServiceServer::new(broker));
    let serving = super::serve(path, routes);
    let ended = alive.clone();
    tokio::spawn(async move {
        ended.cancelled().await;
        serving.cancel();
    });
    alive
}

fn refusal(code: Code, reason: &'static str) -> Status {
    Fault::new(code, "broker.cell", reason, "the broker refuses").into()
}

fn digest_of(bytes: &[u8]) -> String {
    Digest::of_sha256(Sha256::digest(bytes).into()).to_string()
}

impl Broker {
    /// Does a call; the answer of the last one that it does is lost.
    fn call<T>(&self, what: String, work: impl FnOnce(&mut State) -> Result<T, Status>) -> Result<T, Status> {
        let mut state = self.0.lock().unwrap();
        if self.1.is_cancelled() {
            return Err(Status::unavailable("it is dead"));
        }
        if state.no_ceiling {
            state.calls.push(what);
            return Err(refusal(Code::FailedPrecondition, "NO_CEILING"));
        }
        if state.no_docker && !what.starts_with("put") {
            return Err(refusal(Code::Unavailable, "NO_DOCKER"));
        }
        state.calls.push(what);
        let done = work(&mut state);
        if let Some(left) = &mut state.dies_after {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.1.cancel();
                return Err(Status::unavailable("it died"));
            }
        }
        done
    }
}

type PullStream = Pin<Box<dyn Stream<Item = Result<PullImagesResponse, Status>> + Send>>;

#[tonic::async_trait]
impl DeploymentService for Broker {
    async fn list_manifest_keys(
        &self,
        _: Request<ListManifestKeysRequest>,
    ) -> Result<Response<ListManifestKeysResponse>, Status> {
        let pem = self.0.lock().unwrap().manifest_keys.clone();
        Ok(Response::new(ListManifestKeysResponse { pem }))
    }

    async fn put_manifest(
        &self,
        request: Request<PutManifestRequest>,
    ) -> Result<Response<PutManifestResponse>, Status> {
        let PutManifestRequest {
            manifest: bytes,
            signature,
            images,
        } = request.into_inner();
        let digest = digest_of(&bytes);
        self.call(format!("put {digest}"), |state| {
            let signs = |pem: &String| Key::from_pem(pem).unwrap().verifies(&bytes, &signature);
            if !signature.is_empty() && !state.manifest_keys.iter().any(signs) {
                return Err(refusal(Code::PermissionDenied, "MANIFEST_UNSIGNED"));
            }
            let manifest =
                Manifest::parse(&bytes).map_err(|_| refusal(Code::InvalidArgument, "MANIFEST_INVALID"))?;
            state.manifests.insert(digest.clone(), manifest);
            state.image_signatures.insert(digest.clone(), images);
            Ok(())
        })?;
        Ok(Response::new(PutManifestResponse { digest }))
    }

    async fn deploy(&self, request: Request<DeployRequest>) -> Result<Response<DeployResponse>, Status> {
        let request = request.into_inner();
        let what = format!("deploy {}", request.manifest_digest);
        let (deployment, changed) = self.call(what, |state| state.deploy(request))?;
        Ok(Response::new(DeployResponse {
            deployment: Some(deployment),
            changed,
            warnings: Vec::new(),
        }))
    }

    async fn remove_deployment(
        &self,
        request: Request<RemoveDeploymentRequest>,
    ) -> Result<Response<RemoveDeploymentResponse>, Status> {
        let RemoveDeploymentRequest {
            service,
            delete_volumes,
        } = request.into_inner();
        self.call(format!("remove {service}"), |state| {
            if let Some(left) = state.refuses_removals.checked_sub(1) {
                state.refuses_removals = left;
                return Err(refusal(Code::FailedPrecondition, "DOCKER_REFUSED"));
            }
            let removed = state.made.remove(&service);
            if delete_volumes {
                state.volumes.remove(&service);
            }
            removed
                .map(drop)
                .ok_or_else(|| refusal(Code::NotFound, "NOT_OWNED"))
        })?;
        Ok(Response::new(RemoveDeploymentResponse {}))
    }

    type PullImagesStream = PullStream;

    async fn pull_images(&self, request: Request<PullImagesRequest>) -> Result<Response<PullStream>, Status> {
        let digest = request.into_inner().manifest_digest;
        let images = self.call(format!("pull {digest}"), |state| {
            let Some(manifest) = state.manifests.get(&digest) else {
                return Err(refusal(Code::NotFound, "NO_MANIFEST"));
            };
            let images: Vec<String> = manifest
                .containers
                .iter()
                .map(|one| one.image.to_string())
                .collect();
            state.images.insert(digest.clone());
            Ok(images)
        })?;
        let told = images.into_iter().map(|image| {
            Ok(PullImagesResponse {
                image,
                status: "Downloading".to_owned(),
                current_bytes: 7,
                total_bytes: 10,
            })
        });
        Ok(Response::new(Box::pin(stream::iter(told.collect::<Vec<_>>()))))
    }

    type WatchDeploymentsStream =
        Pin<Box<dyn Stream<Item = Result<WatchDeploymentsResponse, Status>> + Send>>;

    /// As it is, and again whenever it is another.
    async fn watch_deployments(
        &self,
        _: Request<WatchDeploymentsRequest>,
    ) -> Result<Response<Self::WatchDeploymentsStream>, Status> {
        self.0.lock().unwrap().watches += 1;
        let broker = self.clone();
        let told = stream::unfold((broker, None), |(broker, before)| async move {
            // One that is dead says nothing more.
            while !broker.1.is_cancelled() {
                let now = broker.watched();
                if before.as_ref() != Some(&now) {
                    let answer = WatchDeploymentsResponse {
                        deployments: now.clone(),
                    };
                    return Some((Ok(answer), (broker, Some(now))));
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            None
        });
        Ok(Response::new(Box::pin(told)))
    }

    async fn list_deployments(
        &self,
        _: Request<ListDeploymentsRequest>,
    ) -> Result<Response<ListDeploymentsResponse>, Status> {
        let state = self.0.lock().unwrap();
        Ok(Response::new(ListDeploymentsResponse {
            deployments: state.made.values().map(|made| made.deployment.clone()).collect(),
        }))
    }
}

impl Broker {
    fn watched(&self) -> Vec<Deployment> {
        let state = self.0.lock().unwrap();
        let told = |made: &Made| {
            let mut deployment = made.told();
            for container in &mut deployment.containers {
                if let Some(health) = state.health.get(&container.handle) {
                    container.health.clone_from(health);
                }
            }
            deployment
        };
        state.made.values().map(told).collect()
    }

    fn of_handle<T>(
        &self,
        what: &str,
        handle: &str,
        work: impl FnOnce(&mut Made) -> Result<T, Status>,
    ) -> Result<T, Status> {
        self.call(format!("{what} {handle}"), |state| {
            let has = |made: &&mut Made| made.deployment.containers.iter().any(|one| one.handle == handle);
            match state.made.values_mut().find(has) {
                Some(made) => work(made),
                None => Err(refusal(Code::NotFound, "NOT_OWNED")),
            }
        })
    }

    fn set_running(&self, what: &str, handle: &str, running: bool) -> Result<Option<Container>, Status> {
        self.of_handle(what, handle, |made| {
            if what != "restart" && made.running == running {
                return Err(refusal(Code::FailedPrecondition, "WRONG_STATE"));
            }
            made.running = running;
            made.starts += i64::from(running);
            Ok(Some(shown(handle, made)))
        })
    }
}

fn state(made: &Made) -> ContainerState {
    if made.running {
        ContainerState::Running
    } else {
        ContainerState::Exited
    }
}

fn shown(handle: &str, made: &Made) -> Container {
    Container {
        service: handle.to_owned(),
        state: state(made).into(),
        health: made.health.clone(),
        started_unix_ms: made.starts,
        exit_code: if made.running { 0 } else { 137 },
        ..Container::default()
    }
}

#[tonic::async_trait]
impl ContainerService for Broker {
    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Result<Response<StartContainerResponse>, Status> {
        let container = self.set_running("start", &request.into_inner().service, true)?;
        Ok(Response::new(StartContainerResponse { container }))
    }

    async fn stop_container(
        &self,
        request: Request<StopContainerRequest>,
    ) -> Result<Response<StopContainerResponse>, Status> {
        let container = self.set_running("stop", &request.into_inner().service, false)?;
        Ok(Response::new(StopContainerResponse { container }))
    }

    async fn restart_container(
        &self,
        request: Request<RestartContainerRequest>,
    ) -> Result<Response<RestartContainerResponse>, Status> {
        let container = self.set_running("restart", &request.into_inner().service, true)?;
        Ok(Response::new(RestartContainerResponse { container }))
    }

    async fn reload_container(
        &self,
        request: Request<ReloadContainerRequest>,
    ) -> Result<Response<ReloadContainerResponse>, Status> {
        let handle = request.into_inner().service;
        let container = Some(self.of_handle("reload", &handle, |made| Ok(shown(&handle, made)))?);
        Ok(Response::new(ReloadContainerResponse { container }))
    }
}

#[tonic::async_trait]
impl ContainerStatusService for Broker {
    async fn get_broker_status(
        &self,
        _: Request<GetBrokerStatusRequest>,
    ) -> Result<Response<GetBrokerStatusResponse>, Status> {
        Ok(Response::new(GetBrokerStatusResponse::default()))
    }

    async fn list_containers(
        &self,
        _: Request<ListContainersRequest>,
    ) -> Result<Response<ListContainersResponse>, Status> {
        Ok(Response::new(ListContainersResponse::default()))
    }

    async fn get_container(
        &self,
        request: Request<GetContainerRequest>,
    ) -> Result<Response<GetContainerResponse>, Status> {
        let handle = request.into_inner().service;
        if let Some((code, reason)) = self.0.lock().unwrap().refuses_looks {
            return Err(refusal(code, reason));
        }
        let container = Some(self.of_handle("get", &handle, |made| Ok(shown(&handle, made)))?);
        Ok(Response::new(GetContainerResponse { container }))
    }

    async fn get_container_logs(
        &self,
        request: Request<GetContainerLogsRequest>,
    ) -> Result<Response<GetContainerLogsResponse>, Status> {
        let GetContainerLogsRequest { service, lines } = request.into_inner();
        self.of_handle("logs", &service, |_| Ok(()))?;
        Ok(Response::new(GetContainerLogsResponse {
            lines: vec![format!("{service} {lines}")],
            truncated: false,
        }))
    }

    type FollowContainerLogsStream =
        Pin<Box<dyn Stream<Item = Result<FollowContainerLogsResponse, Status>> + Send>>;

    async fn follow_container_logs(
        &self,
        request: Request<FollowContainerLogsRequest>,
    ) -> Result<Response<Self::FollowContainerLogsStream>, Status> {
        let FollowContainerLogsRequest { service, lines } = request.into_inner();
        self.of_handle("follow", &service, |_| Ok(()))?;
        let answer = FollowContainerLogsResponse {
            lines: vec![format!("{service} {lines}")],
            skipped: false,
        };
        let state = self.0.lock().unwrap();
        let (more, followers) = (
            state.log.as_ref().map(|log| log.subscribe()),
            Arc::clone(&state.followers),
        );
        let Some(more) = more else {
            return Ok(Response::new(Box::pin(stream::iter([Ok(answer)]))));
        };
        let follower = Follower::new(followers);
        let rest = stream::unfold((more, follower), |(mut more, follower)| async move {
            let lines = vec![more.recv().await.ok()?];
            let skipped = false;
            Some((
                Ok(FollowContainerLogsResponse { lines, skipped }),
                (more, follower),
            ))
        });
        Ok(Response::new(Box::pin(stream::iter([Ok(answer)]).chain(rest))))
    }

    async fn get_container_stats(
        &self,
        _: Request<GetContainerStatsRequest>,
    ) -> Result<Response<GetContainerStatsResponse>, Status> {
        Ok(Response::new(GetContainerStatsResponse::default()))
    }
}

#[tonic::async_trait]
impl BackupService for Broker {
    type ReadBackupStream = Pin<Box<dyn Stream<Item = Result<ReadBackupResponse, Status>> + Send>>;

    async fn read_backup(
        &self,
        request: Request<ReadBackupRequest>,
    ) -> Result<Response<Self::ReadBackupStream>, Status> {
        let ReadBackupRequest {
            service,
            validate_only,
        } = request.into_inner();
        let pieces = self.call(format!("backup {service} {validate_only}"), |state| {
            Ok(state.backup.clone())
        })?;
        let Some(pieces) = pieces else {
            return Err(refusal(Code::FailedPrecondition, "NO_RECIPIENT"));
        };
        let breaks = Arc::clone(&self.0.lock().unwrap().backup_breaks);
        let pieces = pieces.into_iter().filter(move |_| !validate_only);
        let answers = stream::iter(pieces).then(move |piece| {
            let breaks = Arc::clone(&breaks);
            async move {
                match piece {
                    Ok(chunk) => Ok(ReadBackupResponse { chunk }),
                    Err(reason) => {
                        breaks.notified().await;
                        Err(refusal(Code::Aborted, reason))
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Is counted while somebody follows.
struct Follower(Arc<std::sync::atomic::AtomicUsize>);

impl Follower {
    fn new(count: Arc<std::sync::atomic::AtomicUsize>) -> Self {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Follower(count)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
    }
}
