//! A broker behind a real socket with its caller check, and clients for it.

use std::path::PathBuf;
use std::sync::Arc;

use cell_broker::broker::Broker;
use cell_broker::engine::Engine;
use cell_broker::service::routes;
use cell_proto::broker::v1::container_service_client::ContainerServiceClient;
use cell_proto::broker::v1::container_status_service_client::ContainerStatusServiceClient;
use cell_proto::broker::v1::{Container, GetContainerRequest, StartContainerRequest, StopContainerRequest};
use cell_proto::ipc::{CallerPolicy, connect, serve};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tonic::Status;
use tonic::transport::Channel;

pub struct Served {
    _dir: TempDir,
    pub path: PathBuf,
    pub acts: ContainerServiceClient<Channel>,
    pub reads: ContainerStatusServiceClient<Channel>,
}

impl Served {
    /// A broker over `engine` for callers of `uid`.
    pub fn start(engine: impl Engine, max_concurrent: usize, uid: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let broker = Arc::new(Broker::new(engine, super::policy(), max_concurrent));
        let callers = CallerPolicy {
            uids: vec![uid],
            unit: None,
        };
        tokio::spawn(serve(
            listener,
            callers,
            routes(broker, None),
            std::future::pending(),
        ));
        let channel = connect(path.clone());
        let acts = ContainerServiceClient::new(channel.clone());
        Served {
            _dir: dir,
            path,
            acts,
            reads: ContainerStatusServiceClient::new(channel),
        }
    }

    /// For this process.
    pub fn to_us(engine: impl Engine) -> Self {
        Self::start(engine, 16, nix::unistd::geteuid().as_raw())
    }

    pub async fn get(&self, service: &str) -> Result<Container, Status> {
        let request = GetContainerRequest {
            service: service.to_owned(),
        };
        self.reads
            .clone()
            .get_container(request)
            .await
            .map(|answer| answer.into_inner().container.unwrap())
    }

    pub async fn start_container(&self, service: &str) -> Result<Container, Status> {
        let request = StartContainerRequest {
            service: service.to_owned(),
        };
        self.acts
            .clone()
            .start_container(request)
            .await
            .map(|answer| answer.into_inner().container.unwrap())
    }

    pub async fn stop(&self, service: &str, timeout_seconds: u32) -> Result<Container, Status> {
        let request = StopContainerRequest {
            service: service.to_owned(),
            timeout_seconds,
        };
        self.acts
            .clone()
            .stop_container(request)
            .await
            .map(|answer| answer.into_inner().container.unwrap())
    }
}
