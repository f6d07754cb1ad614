//! `cell.broker.v1.DeploymentService` on the listener `api`: the wire to checked values, refusals back.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use cell_broker_core::Fault as CoreFault;
use cell_broker_core::deploy::{Bundle, ImageSignature, Place, Unverified};
use cell_broker_core::model::ServiceName;
use cell_manifest::{Digest, Faults};
use cell_proto::broker::v1 as wire;
use cell_proto::broker::v1::deployment_service_server::DeploymentService;
use cell_proto::fault::{Fault, Violation};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Status};

use super::store::Record;
use super::{DeployRefusal, Deployments, Snapshot};
use crate::engine::Progress;
use crate::service::{DOMAIN, open, refusal_status, state};

/// Words about a pull that wait for their reader.
const PROGRESS_WAITING: usize = 64;

/// The service. Without a ceiling it refuses everything.
pub struct Deploying(pub Option<Arc<Deployments>>);

type WatchStream = Pin<Box<dyn Stream<Item = Result<wire::WatchDeploymentsResponse, Status>> + Send>>;
type PullStream = Pin<Box<dyn Stream<Item = Result<wire::PullImagesResponse, Status>> + Send>>;

impl Deploying {
    fn all(&self) -> Result<Arc<Deployments>, Status> {
        self.0.clone().ok_or_else(|| status(DeployRefusal::NoCeiling))
    }
}

#[tonic::async_trait]
impl DeploymentService for Deploying {
    async fn list_manifest_keys(
        &self,
        request: Request<wire::ListManifestKeysRequest>,
    ) -> Result<Response<wire::ListManifestKeysResponse>, Status> {
        open(request)?;
        let pem = self.all()?.manifest_keys();
        Ok(Response::new(wire::ListManifestKeysResponse { pem }))
    }

    async fn put_manifest(
        &self,
        request: Request<wire::PutManifestRequest>,
    ) -> Result<Response<wire::PutManifestResponse>, Status> {
        let (caller, request) = open(request)?;
        let all = self.all()?;
        let bundle = bundle(request)?;
        let digest = all.put(&caller, bundle).await.map_err(status)?;
        Ok(Response::new(wire::PutManifestResponse {
            digest: digest.to_string(),
        }))
    }

    async fn deploy(
        &self,
        request: Request<wire::DeployRequest>,
    ) -> Result<Response<wire::DeployResponse>, Status> {
        let (caller, request) = open(request)?;
        let all = self.all()?;
        let checked = (
            digest(&request.manifest_digest),
            parameters(request.parameters),
            place(request.place),
        );
        let (digest, parameters, place) = match checked {
            (Ok(digest), Ok(parameters), Ok(place)) => (digest, parameters, place),
            (digest, parameters, place) => {
                let violations = digest
                    .err()
                    .into_iter()
                    .chain(parameters.err())
                    .chain(place.err());
                return Err(invalid(violations.collect()));
            }
        };
        let outcome = all
            .deploy(&caller, digest, request.instance, parameters, place)
            .await
            .map_err(status)?;
        Ok(Response::new(wire::DeployResponse {
            deployment: Some(shown(&outcome.record)),
            changed: outcome.changed,
            warnings: outcome.warnings,
        }))
    }

    async fn remove_deployment(
        &self,
        request: Request<wire::RemoveDeploymentRequest>,
    ) -> Result<Response<wire::RemoveDeploymentResponse>, Status> {
        let (caller, request) = open(request)?;
        let all = self.all()?;
        let service = ServiceName::try_from(request.service.as_str())
            .map_err(|fault| invalid(vec![Violation::new("service", fault.to_string())]))?;
        all.remove(&caller, service, request.delete_volumes)
            .await
            .map_err(status)?;
        Ok(Response::new(wire::RemoveDeploymentResponse {}))
    }

    type PullImagesStream = PullStream;

    async fn pull_images(
        &self,
        request: Request<wire::PullImagesRequest>,
    ) -> Result<Response<PullStream>, Status> {
        let (caller, request) = open(request)?;
        let all = self.all()?;
        let digest = digest(&request.manifest_digest).map_err(|violation| invalid(vec![violation]))?;
        let (answers, answered) = mpsc::channel(PROGRESS_WAITING);
        tokio::spawn(async move {
            let outcome = all
                .pull(&caller, &digest, |image| told(&answers, image.to_string()))
                .await;
            if let Err(refusal) = outcome {
                let _ = answers.send(Err(status(refusal))).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answered))))
    }

    type WatchDeploymentsStream = WatchStream;

    async fn watch_deployments(
        &self,
        request: Request<wire::WatchDeploymentsRequest>,
    ) -> Result<Response<WatchStream>, Status> {
        let (caller, wire::WatchDeploymentsRequest {}) = open(request)?;
        let told = self.all()?.watch(&caller).map_err(status)?;
        let answers = ReceiverStream::new(told).map(|all| Ok(watched(&all)));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn list_deployments(
        &self,
        request: Request<wire::ListDeploymentsRequest>,
    ) -> Result<Response<wire::ListDeploymentsResponse>, Status> {
        let (_, wire::ListDeploymentsRequest {}) = open(request)?;
        let deployments = self.all()?.list().iter().map(shown).collect();
        Ok(Response::new(wire::ListDeploymentsResponse { deployments }))
    }
}

fn watched(all: &[Snapshot]) -> wire::WatchDeploymentsResponse {
    let one = |snapshot: &Snapshot| {
        let mut deployment = shown(&snapshot.record);
        for (container, seen) in deployment.containers.iter_mut().zip(&snapshot.seen) {
            let Some(seen) = seen else {
                continue;
            };
            container.set_state(state(seen.state));
            container.exit_code = seen.exit_code;
            container.health = seen.health.as_str().to_owned();
            container.started_unix_ms = seen.started_unix_ms.unwrap_or(0);
        }
        deployment
    };
    wire::WatchDeploymentsResponse {
        deployments: all.iter().map(one).collect(),
    }
}

/// Where words about one image go.
fn told(
    answers: &mpsc::Sender<Result<wire::PullImagesResponse, Status>>,
    image: String,
) -> mpsc::Sender<Progress> {
    let (sender, receiver) = mpsc::channel::<Progress>(PROGRESS_WAITING);
    let answers = answers.clone();
    tokio::spawn(async move {
        let mut words = ReceiverStream::new(receiver);
        while let Some(progress) = words.next().await {
            let answer = wire::PullImagesResponse {
                image: image.clone(),
                status: progress.status,
                current_bytes: progress.current,
                total_bytes: progress.total,
            };
            if answers.send(Ok(answer)).await.is_err() {
                return;
            }
        }
    });
    sender
}

fn bundle(request: wire::PutManifestRequest) -> Result<Bundle, Status> {
    let image = |image: wire::ImageSignature| ImageSignature {
        payload: image.payload,
        signature: image.signature,
    };
    let images = request.images.into_iter().map(image).collect();
    Bundle::handed_in(request.manifest, request.signature, images)
        .map_err(|faults| invalid(faults.into_iter().map(told_fault).collect()))
}

fn told_fault(fault: CoreFault) -> Violation {
    Violation::new(fault.field, fault.description)
}

fn digest(text: &str) -> Result<Digest, Violation> {
    Digest::try_from(text).map_err(|words| Violation::new("manifest_digest", words))
}

fn parameters(given: Vec<wire::Parameter>) -> Result<BTreeMap<String, String>, Violation> {
    let given = given.into_iter().map(|p| (p.name, p.text));
    cell_broker_core::deploy::parameters(given).map_err(told_fault)
}

fn place(given: Option<wire::ServicePlace>) -> Result<Option<Place>, Violation> {
    let place = given.map(|wire::ServicePlace { number, subnet }| Place::asked_for(number, &subnet));
    place.transpose().map_err(told_fault)
}

fn invalid(violations: Vec<Violation>) -> Status {
    Fault::new(
        Code::InvalidArgument,
        DOMAIN,
        "INVALID_REQUEST",
        "the request has faults",
    )
    .violations(violations)
    .into()
}

/// The one place where a refusal becomes a status.
fn status(refusal: DeployRefusal) -> Status {
    let code = match &refusal {
        DeployRefusal::Other(_) => Code::Unknown,
        DeployRefusal::Unverified(Unverified::Signature) | DeployRefusal::Denied(_) => Code::PermissionDenied,
        DeployRefusal::Unverified(Unverified::Manifest(_)) | DeployRefusal::Invalid(_) => {
            Code::InvalidArgument
        }
        DeployRefusal::NoManifest => Code::NotFound,
        DeployRefusal::NoCeiling
        | DeployRefusal::ImageAbsent(_)
        | DeployRefusal::Bind(_)
        | DeployRefusal::LocalImages(_)
        | DeployRefusal::NetworkDiffers
        | DeployRefusal::Foreign(_) => Code::FailedPrecondition,
        DeployRefusal::Different(_) | DeployRefusal::NotRunning(_) => Code::Aborted,
        DeployRefusal::Quota => Code::ResourceExhausted,
        DeployRefusal::Unfinished(_) | DeployRefusal::Store(_) => Code::Internal,
    };
    let fault = Fault::new(code, DOMAIN, refusal.code(), refusal.to_string());
    match refusal {
        DeployRefusal::Other(refusal) => return refusal_status(refusal),
        DeployRefusal::Denied(denied) => {
            let violations = denied
                .iter()
                .map(|r| Violation::new(&r.path, &r.description))
                .collect();
            fault.with("codes", denied.to_string()).violations(violations)
        }
        DeployRefusal::Unverified(Unverified::Manifest(faults)) | DeployRefusal::Invalid(faults) => {
            fault.with("rules", rules(&faults)).violations(
                faults
                    .iter()
                    .map(|f| Violation::new(&f.path, &f.description))
                    .collect(),
            )
        }
        DeployRefusal::Different(fields) => fault.with("fields", fields),
        DeployRefusal::NotRunning(handle) => fault.with("handle", handle),
        DeployRefusal::Store(error) => {
            tracing::error!(%error, "the store");
            fault
        }
        DeployRefusal::Unfinished(error) => {
            tracing::error!(target: "audit", %error, "a finished request breaks the field policy");
            fault
        }
        DeployRefusal::NoCeiling
        | DeployRefusal::Unverified(Unverified::Signature)
        | DeployRefusal::NoManifest
        | DeployRefusal::ImageAbsent(_)
        | DeployRefusal::Bind(_)
        | DeployRefusal::LocalImages(_)
        | DeployRefusal::NetworkDiffers
        | DeployRefusal::Foreign(_)
        | DeployRefusal::Quota => fault,
    }
    .into()
}

fn rules(faults: &Faults) -> String {
    let codes: Vec<&str> = faults.iter().map(|fault| fault.rule.code()).collect();
    codes.join(",")
}

fn shown(record: &Record) -> wire::Deployment {
    let live = record.live.as_ref();
    let containers = live.into_iter().flat_map(|attempt| &attempt.containers);
    wire::Deployment {
        service: record.service.clone(),
        manifest_digest: live.map(|attempt| attempt.digest.clone()).unwrap_or_default(),
        subnet: record.subnet.clone(),
        bridge: record.bridge.clone(),
        containers: containers
            .map(|made| wire::DeployedContainer {
                handle: made.handle.clone(),
                name: made.name.clone(),
                id: made.id.clone().unwrap_or_default(),
                address: made.address.clone(),
                ..wire::DeployedContainer::default()
            })
            .collect(),
    }
}
