//! A netd that keeps specifications in memory and is strict about etags.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use cell_proto::fault::Fault;
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

#[derive(Default)]
pub struct State {
    pub generation: u64,
    pub etag: String,
    pub spec: Option<NetworkSpec>,
    pub statuses: BTreeMap<String, PeerStatus>,
    pub full_applies: u32,
    pub deltas: u32,
}

impl State {
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
            ..NetworkStatus::default()
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

    /// The etag changes and nobody is told.
    pub fn silent_change(&self) {
        self.state.lock().unwrap().etag = "silent".to_owned();
    }

    pub fn peer_names(&self) -> Vec<String> {
        self.state.lock().unwrap().peer_names()
    }
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
        let mut state = self.state.lock().unwrap();
        state.full_applies += 1;
        state.spec = request.into_inner().spec;
        state.accept();
        self.status.send_replace(state.status());
        Ok(Response::new(ApplyNetworkResponse {
            generation: state.generation,
            etag: state.etag.clone(),
            changes: Vec::new(),
            change_count: 0,
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
        state.deltas += 1;
        let spec = state.spec.as_mut().unwrap();
        let gone = |name: &str| {
            request.removed_peers.iter().any(|n| n == name)
                || request.upserted_peers.iter().any(|p| p.name == name)
        };
        spec.peers.retain(|peer| !gone(&peer.name));
        spec.peers.extend(request.upserted_peers.clone());
        state.accept();
        self.status.send_replace(state.status());
        let (generation, etag) = (state.generation, state.etag.clone());
        Ok(Response::new(ApplyNetworkDeltaResponse {
            generation,
            etag,
            changes: Vec::new(),
        }))
    }
}

#[tonic::async_trait]
impl NetworkStatusService for Service {
    async fn get_network(
        &self,
        _: Request<GetNetworkRequest>,
    ) -> Result<Response<GetNetworkResponse>, Status> {
        let status = Some(self.state.lock().unwrap().status());
        Ok(Response::new(GetNetworkResponse { status, spec: None }))
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
