//! A broker with a ceiling behind a real socket, before a Docker of the tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cell_broker::backup::BackupPolicy;
use cell_broker::broker::Broker;
use cell_broker::deploy::{BootId, Deployments};
use cell_broker::engine::{DockerEngine, Maker};
use cell_broker::service::routes;
use cell_broker_core::deploy::{Bundle, Ceiling};
use cell_proto::broker::v1::backup_service_client::BackupServiceClient;
use cell_proto::broker::v1::container_service_client::ContainerServiceClient;
use cell_proto::broker::v1::container_status_service_client::ContainerStatusServiceClient;
use cell_proto::broker::v1::deployment_service_client::DeploymentServiceClient;
use cell_proto::broker::v1::{
    DeployRequest, DeployResponse, Deployment, ImageSignature, ListDeploymentsRequest, Parameter,
    PullImagesRequest, PullImagesResponse, PutManifestRequest, RemoveDeploymentRequest, ServicePlace,
};
use cell_proto::ipc::{CallerPolicy, connect, serve};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tonic::Status;
use tonic::transport::Channel;

pub struct Deployed {
    dir: TempDir,
    pub deployments: Arc<Deployments>,
    pub all: DeploymentServiceClient<Channel>,
    pub acts: ContainerServiceClient<Channel>,
    pub reads: ContainerStatusServiceClient<Channel>,
    pub backups: BackupServiceClient<Channel>,
}

impl Deployed {
    /// Docker at `docker`; the store in `state`, which outlives this.
    pub fn start(docker: &Path, state: &Path, ceiling: Ceiling) -> Self {
        Self::start_in(docker, state, ceiling, "this-boot")
    }

    /// The same in another boot of the machine.
    pub fn start_in(docker: &Path, state: &Path, ceiling: Ceiling, boot: &str) -> Self {
        Self::start_with(docker, state, ceiling, boot, None)
    }

    /// The same with backups.
    pub fn start_with(
        docker: &Path,
        state: &Path,
        ceiling: Ceiling,
        boot: &str,
        backup: Option<BackupPolicy>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let deadline = Duration::from_secs(25);
        let maker = Maker::new(docker.to_owned(), deadline, ceiling);
        let deployments = Arc::new(Deployments::open(state, maker, BootId::new(boot)).unwrap());
        let engine = DockerEngine::new(docker.to_owned(), deadline).unwrap();
        let broker = Broker::new(engine, super::policy(), 16)
            .with_deployments(Some(Arc::clone(&deployments)))
            .with_backups(backup);
        let callers = CallerPolicy {
            uids: vec![nix::unistd::geteuid().as_raw()],
            unit: None,
        };
        let routes = routes(Arc::new(broker), Some(Arc::clone(&deployments)));
        tokio::spawn(serve(listener, callers, routes, std::future::pending()));
        let channel = connect(path);
        Deployed {
            dir,
            deployments,
            all: DeploymentServiceClient::new(channel.clone()),
            acts: ContainerServiceClient::new(channel.clone()),
            reads: ContainerStatusServiceClient::new(channel.clone()),
            backups: BackupServiceClient::new(channel),
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("broker.sock")
    }

    pub async fn put(&self, bundle: Bundle) -> Result<String, Status> {
        let request = put_request(bundle);
        let answer = self.all.clone().put_manifest(request).await?;
        Ok(answer.into_inner().digest)
    }

    /// At the first place.
    pub async fn deploy(&self, digest: &str, parameters: &[(&str, &str)]) -> Result<DeployResponse, Status> {
        self.deploy_at(digest, parameters, 1).await
    }

    /// At the n-th place; 0: at none, as the cell's own.
    pub async fn deploy_at(
        &self,
        digest: &str,
        parameters: &[(&str, &str)],
        n: u16,
    ) -> Result<DeployResponse, Status> {
        let mut request = deploy_request(digest, parameters);
        request.place = (n > 0).then(|| placed(n));
        Ok(self.all.clone().deploy(request).await?.into_inner())
    }

    pub async fn remove(&self, service: &str, delete_volumes: bool) -> Result<(), Status> {
        let request = RemoveDeploymentRequest {
            service: service.to_owned(),
            delete_volumes,
        };
        self.all.clone().remove_deployment(request).await.map(drop)
    }

    pub async fn pull(&self, digest: &str) -> Result<Vec<PullImagesResponse>, Status> {
        let request = PullImagesRequest {
            manifest_digest: digest.to_owned(),
        };
        let mut answers = self.all.clone().pull_images(request).await?.into_inner();
        let mut told = Vec::new();
        while let Some(answer) = answers.message().await? {
            told.push(answer);
        }
        Ok(told)
    }

    pub async fn list(&self) -> Vec<Deployment> {
        let answer = self
            .all
            .clone()
            .list_deployments(ListDeploymentsRequest {})
            .await
            .unwrap();
        answer.into_inner().deployments
    }
}

pub fn put_request(bundle: Bundle) -> PutManifestRequest {
    PutManifestRequest {
        manifest: bundle.manifest,
        signature: bundle.signature,
        images: bundle
            .images
            .into_iter()
            .map(|image| ImageSignature {
                payload: image.payload,
                signature: image.signature,
            })
            .collect(),
    }
}

/// The n-th place on the wire.
pub fn placed(n: u16) -> ServicePlace {
    let place = super::signed::place(n);
    ServicePlace {
        number: place.number.into(),
        subnet: place.subnet.to_string(),
    }
}

/// At the first place.
pub fn deploy_request(digest: &str, parameters: &[(&str, &str)]) -> DeployRequest {
    DeployRequest {
        manifest_digest: digest.to_owned(),
        instance: String::new(),
        parameters: parameters
            .iter()
            .map(|(name, text)| Parameter {
                name: (*name).to_owned(),
                text: (*text).to_owned(),
            })
            .collect(),
        place: Some(placed(1)),
    }
}
