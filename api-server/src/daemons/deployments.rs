//! The broker: services made of manifests, their containers and logs.

use std::collections::BTreeMap;
use std::time::Duration;

use cell_api_core::service_network::Place;
use cell_api_core::services::images;
use cell_proto::broker::v1::container_service_client::ContainerServiceClient;
use cell_proto::broker::v1::container_status_service_client::ContainerStatusServiceClient;
use cell_proto::broker::v1::deployment_service_client::DeploymentServiceClient;
use cell_proto::broker::v1::{
    Container, DeployRequest, Deployment, GetContainerLogsRequest, GetContainerLogsResponse,
    GetContainerRequest, ImageSignature, ListDeploymentsRequest, ListManifestKeysRequest, Parameter,
    PullImagesRequest, PullImagesResponse, PutManifestRequest, RemoveDeploymentRequest,
    RestartContainerRequest, ServicePlace, StartContainerRequest, StopContainerRequest,
};
use cell_proto::fault;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::read;
use crate::store::services::{KeptManifest, Make};

/// How long one call may take: a container is given up to a minute to end, and there may be several.
const DEADLINE: Duration = Duration::from_secs(300);
/// How long the broker may say nothing of images that it fetches.
const SILENCE: Duration = Duration::from_secs(120);
/// How long reads may take.
const READ: Duration = Duration::from_secs(5);
/// How long the broker may take to say how one container is: longer than it waits for Docker itself (`docker_deadline_seconds`), so that
/// one that is slow says so, and is not taken for one that is away.
const LOOK: Duration = Duration::from_secs(27);

/// What the broker said, or that it said nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerFault {
    /// It is away, or Docker is, or it has too much to do: the same call may go through later.
    #[error("the broker cannot do it now: {message}")]
    Later {
        /// The broker's code, or `UNREACHABLE`.
        code: String,
        /// For people.
        message: String,
    },
    /// It refuses, and will again.
    #[error("{message} ({code})")]
    Refused {
        /// The broker's code.
        code: String,
        /// For people.
        message: String,
    },
}

impl BrokerFault {
    /// The broker's code.
    pub fn code(&self) -> &str {
        match self {
            BrokerFault::Later { code, .. } | BrokerFault::Refused { code, .. } => code,
        }
    }

    /// Its words.
    pub fn message(&self) -> &str {
        match self {
            BrokerFault::Later { message, .. } | BrokerFault::Refused { message, .. } => message,
        }
    }
}

impl From<Status> for BrokerFault {
    fn from(status: Status) -> Self {
        let named = fault::violations(&status)
            .into_iter()
            .take(20)
            .map(|v| format!("; {}: {}", v.field, v.description));
        let message = status.message().to_owned() + &named.collect::<String>();
        let Some(code) = fault::reason(&status) else {
            let code = "UNREACHABLE".to_owned();
            return BrokerFault::Later { code, message };
        };
        let later = match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Cancelled => true,
            // Its store or Docker's answer; the next look may be another.
            Code::Internal | Code::Unknown => true,
            Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::DataLoss
            | Code::Unauthenticated => false,
        };
        // As many manifests as the ceiling allows are in use, and will be.
        match later && code != "QUOTA" {
            true => BrokerFault::Later { code, message },
            false => BrokerFault::Refused { code, message },
        }
    }
}

/// A client of the broker's verbs.
#[derive(Debug, Clone)]
pub struct Deployments {
    deploys: DeploymentServiceClient<Channel>,
    acts: ContainerServiceClient<Channel>,
    reads: ContainerStatusServiceClient<Channel>,
}

impl Deployments {
    /// A client over a channel.
    pub fn new(channel: Channel) -> Self {
        Deployments {
            deploys: DeploymentServiceClient::new(channel.clone()),
            acts: ContainerServiceClient::new(channel.clone()),
            reads: ContainerStatusServiceClient::new(channel),
        }
    }

    /// Whose signatures of manifests the broker takes, as PEM.
    ///
    /// # Errors
    /// [`BrokerFault`].
    pub async fn manifest_keys(&self) -> Result<Vec<String>, BrokerFault> {
        let mut deploys = self.deploys.clone();
        let answer = within(READ, deploys.list_manifest_keys(ListManifestKeysRequest {})).await?;
        Ok(answer.pem)
    }

    /// Hands a manifest in.
    ///
    /// # Errors
    /// [`BrokerFault`].
    pub async fn put(&self, kept: &KeptManifest) -> Result<(), BrokerFault> {
        let request = PutManifestRequest {
            manifest: kept.bytes.clone(),
            signature: kept.signature.clone(),
            images: kept.images.iter().map(image_signature).collect(),
        };
        within(DEADLINE, self.deploys.clone().put_manifest(request))
            .await
            .map(drop)
    }

    /// Fetches images, and tells `progress` how far it is.
    ///
    /// # Errors
    /// [`BrokerFault`].
    pub async fn pull(
        &self,
        digest: &str,
        mut progress: impl FnMut(PullImagesResponse),
    ) -> Result<(), BrokerFault> {
        let request = PullImagesRequest {
            manifest_digest: digest.to_owned(),
        };
        let mut answers = within(READ, self.deploys.clone().pull_images(request)).await?;
        loop {
            let next = tokio::time::timeout(SILENCE, answers.message()).await;
            match next.map_err(|_| silent())?? {
                Some(answer) => progress(answer),
                None => return Ok(()),
            }
        }
    }

    /// Makes a service, or sees to it that it is there.
    ///
    /// # Errors
    /// [`BrokerFault`].
    pub async fn deploy(
        &self,
        make: &Make,
        instance: &str,
        place: Option<&Place>,
    ) -> Result<Deployment, BrokerFault> {
        let parameters = make.parameters.iter().map(|(name, text)| Parameter {
            name: name.clone(),
            text: text.clone(),
        });
        let request = DeployRequest {
            manifest_digest: make.digest.clone(),
            instance: instance.to_owned(),
            parameters: parameters.collect(),
            place: place.map(|place| ServicePlace {
                number: place.number.into(),
                subnet: place.subnet.to_string(),
            }),
        };
        let answer = within(DEADLINE, self.deploys.clone().deploy(request)).await?;
        Ok(answer.deployment.unwrap_or_default())
    }

    /// Takes a service away. One that is not there is gone.
    ///
    /// # Errors
    /// [`BrokerFault`].
    pub async fn remove(&self, service: &str, delete_volumes: bool) -> Result<(), BrokerFault> {
        let request = RemoveDeploymentRequest {
            service: service.to_owned(),
            delete_volumes,
        };
        match within(DEADLINE, self.deploys.clone().remove_deployment(request)).await {
            Ok(_) => Ok(()),
            Err(fault) if fault.code() == "NOT_OWNED" => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// What is deployed.
    ///
    /// # Errors
    /// [`BrokerFault`].
    pub async fn list(&self) -> Result<BTreeMap<String, Deployment>, BrokerFault> {
        let request = read(ListDeploymentsRequest {});
        let answer = within(READ, self.deploys.clone().list_deployments(request)).await?;
        let all = answer.deployments.into_iter();
        Ok(all.map(|one| (one.service.clone(), one)).collect())
    }

    /// Starts a container. One that runs is left alone.
    ///
    /// # Errors
    /// [`BrokerFault`].
    pub async fn start(&self, handle: &str) -> Result<(), BrokerFault> {
        let request = StartContainerRequest {
            service: handle.to_owned(),
        };
        is_so(within(DEADLINE, self.acts.clone().start_container(request)).await)
    }

    /// Stops a container. One that does not run is left alone.
    ///
    /// # Errors
    /// [`BrokerFault`].
    pub async fn stop(&self, handle: &str) -> Result<(), BrokerFault> {
        let request = StopContainerRequest {
            service: handle.to_owned(),
            timeout_seconds: 0,
        };
        is_so(within(DEADLINE, self.acts.clone().stop_container(request)).await)
    }

    /// Stops and starts a container.
    ///
    /// # Errors
    /// [`BrokerFault`].
    pub async fn restart(&self, handle: &str) -> Result<(), BrokerFault> {
        let request = RestartContainerRequest {
            service: handle.to_owned(),
            timeout_seconds: 0,
        };
        within(DEADLINE, self.acts.clone().restart_container(request))
            .await
            .map(drop)
    }

    /// How a container is.
    ///
    /// # Errors
    /// [`BrokerFault`].
    pub async fn container(&self, handle: &str) -> Result<Container, BrokerFault> {
        let request = GetContainerRequest {
            service: handle.to_owned(),
        };
        let answer = within(LOOK, self.reads.clone().get_container(request)).await?;
        Ok(answer.container.unwrap_or_default())
    }

    /// The last lines of a container's log.
    ///
    /// # Errors
    /// [`BrokerFault`].
    pub async fn logs(&self, handle: &str, lines: u32) -> Result<GetContainerLogsResponse, BrokerFault> {
        let request = GetContainerLogsRequest {
            service: handle.to_owned(),
            lines,
        };
        within(READ, self.reads.clone().get_container_logs(request)).await
    }
}

/// It is in the state that was asked for.
fn is_so<T>(outcome: Result<T, BrokerFault>) -> Result<(), BrokerFault> {
    match outcome {
        Ok(_) => Ok(()),
        Err(fault) if fault.code() == "WRONG_STATE" => Ok(()),
        Err(fault) => Err(fault),
    }
}

async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, BrokerFault> {
    match tokio::time::timeout(deadline, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(silent()),
    }
}

fn silent() -> BrokerFault {
    BrokerFault::Later {
        code: "UNREACHABLE".to_owned(),
        message: "it did not answer in time".to_owned(),
    }
}

fn image_signature(one: &images::ImageSignature) -> ImageSignature {
    ImageSignature {
        payload: one.payload.clone().into_bytes(),
        signature: one.signature.clone(),
    }
}
