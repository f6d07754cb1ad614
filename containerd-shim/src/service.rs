//! `cell.broker.v1` on the listener `api`: the wire to checked requests, answers and refusals back.

use std::pin::Pin;
use std::sync::Arc;

use cell_broker_core::model::{Container, ContainerState};
use cell_broker_core::{Request as Checked, Verb, logs, model};
use cell_proto::broker::v1 as wire;
use cell_proto::broker::v1::backup_service_server::{BackupService, BackupServiceServer};
use cell_proto::broker::v1::container_service_server::{ContainerService, ContainerServiceServer};
use cell_proto::broker::v1::container_status_service_server::{
    ContainerStatusService, ContainerStatusServiceServer,
};
use cell_proto::broker::v1::deployment_service_server::DeploymentServiceServer;
use cell_proto::fault::{Fault, Violation};
use cell_proto::ipc::Caller;
use futures_util::stream::unfold;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

use crate::audit::Subject;
use crate::backup::BackupFault;
use crate::broker::{Broker, Refusal};
use crate::deploy::{Deploying, Deployments};
use crate::engine::Engine;

/// Largest request, bytes: a manifest of 64 KiB and sixteen signatures of images.
const REQUEST_MAX_BYTES: usize = 256 * 1024;
/// The domain of refusals.
pub(crate) const DOMAIN: &str = "broker.cell";

/// What is registered on the listener `api`, all of it. Without `deployments` nothing is deployed, and the service says so.
pub fn routes<E: Engine>(broker: Arc<Broker<E>>, deployments: Option<Arc<Deployments>>) -> Routes {
    let deploying = DeploymentServiceServer::new(Deploying(deployments));
    Routes::new(ContainerServiceServer::new(Api(Arc::clone(&broker))))
        .add_service(ContainerStatusServiceServer::new(Api(Arc::clone(&broker))))
        .add_service(BackupServiceServer::new(Api(broker)))
        .add_service(deploying.max_decoding_message_size(REQUEST_MAX_BYTES))
}

struct Api<E>(Arc<Broker<E>>);

impl<E: Engine> Api<E> {
    /// How long a container has to end by itself: as asked, or as its manifest says.
    fn seconds(&self, service: &str, asked: u32) -> u32 {
        let said = || self.0.deployments()?.stop_seconds(service);
        if asked == 0 { said().unwrap_or(0) } else { asked }
    }
}

type BackupStream = Pin<Box<dyn Stream<Item = Result<wire::ReadBackupResponse, Status>> + Send>>;
type FollowStream = Pin<Box<dyn Stream<Item = Result<wire::FollowContainerLogsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl<E: Engine> ContainerService for Api<E> {
    async fn start_container(
        &self,
        request: Request<wire::StartContainerRequest>,
    ) -> Result<Response<wire::StartContainerResponse>, Status> {
        let (caller, wire::StartContainerRequest { service }) = open(request)?;
        let request = checked(&caller, Verb::Start, Checked::start(&service))?;
        let container = self.0.start(&caller, &request).await.map_err(refusal_status)?;
        Ok(Response::new(wire::StartContainerResponse {
            container: Some(shown(container)),
        }))
    }

    async fn stop_container(
        &self,
        request: Request<wire::StopContainerRequest>,
    ) -> Result<Response<wire::StopContainerResponse>, Status> {
        let (
            caller,
            wire::StopContainerRequest {
                service,
                timeout_seconds,
            },
        ) = open(request)?;
        let seconds = self.seconds(&service, timeout_seconds);
        let request = checked(&caller, Verb::Stop, Checked::stop(&service, seconds))?;
        let container = self.0.stop(&caller, &request).await.map_err(refusal_status)?;
        Ok(Response::new(wire::StopContainerResponse {
            container: Some(shown(container)),
        }))
    }

    async fn restart_container(
        &self,
        request: Request<wire::RestartContainerRequest>,
    ) -> Result<Response<wire::RestartContainerResponse>, Status> {
        let (
            caller,
            wire::RestartContainerRequest {
                service,
                timeout_seconds,
            },
        ) = open(request)?;
        let request = checked(
            &caller,
            Verb::Restart,
            Checked::restart(&service, self.seconds(&service, timeout_seconds)),
        )?;
        let container = self.0.restart(&caller, &request).await.map_err(refusal_status)?;
        Ok(Response::new(wire::RestartContainerResponse {
            container: Some(shown(container)),
        }))
    }

    async fn reload_container(
        &self,
        request: Request<wire::ReloadContainerRequest>,
    ) -> Result<Response<wire::ReloadContainerResponse>, Status> {
        let (caller, wire::ReloadContainerRequest { service }) = open(request)?;
        let request = checked(&caller, Verb::Reload, Checked::reload(&service))?;
        let container = self.0.reload(&caller, &request).await.map_err(refusal_status)?;
        Ok(Response::new(wire::ReloadContainerResponse {
            container: Some(shown(container)),
        }))
    }
}

#[tonic::async_trait]
impl<E: Engine> BackupService for Api<E> {
    type ReadBackupStream = BackupStream;

    async fn read_backup(
        &self,
        request: Request<wire::ReadBackupRequest>,
    ) -> Result<Response<BackupStream>, Status> {
        let (
            caller,
            wire::ReadBackupRequest {
                service,
                validate_only,
            },
        ) = open(request)?;
        let service = checked(&caller, Verb::Backup, Checked::show(&service))?;
        if validate_only {
            let could = self.0.could_back_up(&caller, service.service());
            could.map_err(refusal_status)?;
            return Ok(Response::new(Box::pin(tokio_stream::empty())));
        }
        let backup = self.0.backup(&caller, service.service()).await;
        let backup = backup.map_err(refusal_status)?;
        let answers = unfold(backup, |mut backup| async {
            let next = backup.next().await?;
            let answer = next
                .map(|chunk| wire::ReadBackupResponse { chunk: chunk.into() })
                .map_err(refusal_status);
            Some((answer, backup))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

#[tonic::async_trait]
impl<E: Engine> ContainerStatusService for Api<E> {
    async fn get_broker_status(
        &self,
        request: Request<wire::GetBrokerStatusRequest>,
    ) -> Result<Response<wire::GetBrokerStatusResponse>, Status> {
        let (caller, wire::GetBrokerStatusRequest {}) = open(request)?;
        let status = self.0.status(&caller).await;
        Ok(Response::new(wire::GetBrokerStatusResponse {
            status: Some(status),
        }))
    }

    async fn list_containers(
        &self,
        request: Request<wire::ListContainersRequest>,
    ) -> Result<Response<wire::ListContainersResponse>, Status> {
        let (caller, wire::ListContainersRequest {}) = open(request)?;
        let own = self.0.list(&caller).await.map_err(refusal_status)?;
        Ok(Response::new(wire::ListContainersResponse {
            containers: own.containers.into_iter().map(shown).collect(),
            incomplete: own.incomplete,
        }))
    }

    async fn get_container(
        &self,
        request: Request<wire::GetContainerRequest>,
    ) -> Result<Response<wire::GetContainerResponse>, Status> {
        let (caller, wire::GetContainerRequest { service }) = open(request)?;
        let request = checked(&caller, Verb::Show, Checked::show(&service))?;
        let container = self.0.show(&caller, &request).await.map_err(refusal_status)?;
        Ok(Response::new(wire::GetContainerResponse {
            container: Some(shown(container)),
        }))
    }

    async fn get_container_logs(
        &self,
        request: Request<wire::GetContainerLogsRequest>,
    ) -> Result<Response<wire::GetContainerLogsResponse>, Status> {
        let (caller, wire::GetContainerLogsRequest { service, lines }) = open(request)?;
        let request = checked(&caller, Verb::Logs, Checked::logs(&service, lines))?;
        let logs::LogTail { lines, truncated } =
            self.0.logs(&caller, &request).await.map_err(refusal_status)?;
        Ok(Response::new(wire::GetContainerLogsResponse { lines, truncated }))
    }

    type FollowContainerLogsStream = FollowStream;

    async fn follow_container_logs(
        &self,
        request: Request<wire::FollowContainerLogsRequest>,
    ) -> Result<Response<FollowStream>, Status> {
        let (caller, wire::FollowContainerLogsRequest { service, lines }) = open(request)?;
        let request = checked(&caller, Verb::Logs, Checked::logs(&service, lines))?;
        let told = self.0.follow(&caller, &request).await.map_err(refusal_status)?;
        let answers = ReceiverStream::new(told).map(|told| {
            let logs::LogTail { lines, truncated } = told.map_err(refusal_status)?;
            Ok(wire::FollowContainerLogsResponse {
                lines,
                skipped: truncated,
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn get_container_stats(
        &self,
        request: Request<wire::GetContainerStatsRequest>,
    ) -> Result<Response<wire::GetContainerStatsResponse>, Status> {
        let (caller, wire::GetContainerStatsRequest { service }) = open(request)?;
        let request = checked(&caller, Verb::Stats, Checked::stats(&service))?;
        let stats = self.0.stats(&caller, &request).await.map_err(refusal_status)?;
        Ok(Response::new(wire::GetContainerStatsResponse {
            stats: Some(reading(stats)),
        }))
    }
}

/// The caller that the gate put beside the message, and the message. Without a caller there is no answer.
pub(crate) fn open<T>(request: Request<T>) -> Result<(Caller, T), Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    let caller = caller.ok_or_else(|| {
        Fault::new(
            Code::PermissionDenied,
            "ipc.cell",
            "CALLER_NO_CREDENTIALS",
            "the caller is not known",
        )
    })?;
    Ok((caller, request.into_inner()))
}

fn checked<A>(
    caller: &Caller,
    verb: Verb,
    parsed: Result<Checked<A>, Vec<cell_broker_core::Fault>>,
) -> Result<Checked<A>, Status> {
    parsed.map_err(|faults| {
        Subject::new(caller, verb, "").refused("INVALID_REQUEST");
        let violations = faults
            .into_iter()
            .map(|f| Violation::new(f.field, f.description))
            .collect();
        Fault::new(
            Code::InvalidArgument,
            DOMAIN,
            "INVALID_REQUEST",
            "the request has faults",
        )
        .violations(violations)
        .into()
    })
}

/// The one place where a refusal becomes a status.
pub(crate) fn refusal_status(refusal: Refusal) -> Status {
    let code = match &refusal {
        Refusal::NotOwned => Code::NotFound,
        Refusal::Ambiguous
        | Refusal::WrongState { .. }
        | Refusal::DockerRefused { .. }
        | Refusal::NoReload
        | Refusal::SecretMissing { .. } => Code::FailedPrecondition,
        Refusal::Backup(fault) => backup_code(fault),
        Refusal::Busy => Code::ResourceExhausted,
        Refusal::NoDocker(_) | Refusal::SecretsAway(_) => Code::Unavailable,
        Refusal::Slow => Code::DeadlineExceeded,
        Refusal::DockerAnswer(_) | Refusal::Store => Code::Internal,
    };
    let fault = Fault::new(code, DOMAIN, refusal.code(), refusal.to_string());
    match refusal {
        Refusal::WrongState { state, .. } => fault.with("state", state),
        Refusal::NoDocker(why) => fault.with("why", why.code()),
        Refusal::DockerRefused { status } => fault.with("status", status),
        Refusal::SecretMissing { service, secret } => fault.with("service", service).with("secrets", secret),
        Refusal::SecretsAway(why) => fault.with("why", why),
        Refusal::NotOwned
        | Refusal::Ambiguous
        | Refusal::Busy
        | Refusal::Slow
        | Refusal::DockerAnswer(_)
        | Refusal::NoReload
        | Refusal::Store
        | Refusal::Backup(_) => fault,
    }
    .into()
}

fn backup_code(fault: &BackupFault) -> Code {
    match fault {
        BackupFault::NoRecipient
        | BackupFault::Nothing
        | BackupFault::NoFolder(_)
        | BackupFault::Unreadable(_)
        | BackupFault::TooLarge => Code::FailedPrecondition,
        BackupFault::Changed | BackupFault::Cut | BackupFault::Outside => Code::Aborted,
        BackupFault::ReaderSlow | BackupFault::Long => Code::DeadlineExceeded,
        BackupFault::Unread => Code::Cancelled,
        BackupFault::Failed => Code::Internal,
    }
}

/// A state on the wire.
pub(crate) fn state(state: ContainerState) -> wire::ContainerState {
    match state {
        ContainerState::Created => wire::ContainerState::Created,
        ContainerState::Running => wire::ContainerState::Running,
        ContainerState::Paused => wire::ContainerState::Paused,
        ContainerState::Restarting => wire::ContainerState::Restarting,
        ContainerState::Removing => wire::ContainerState::Removing,
        ContainerState::Exited => wire::ContainerState::Exited,
        ContainerState::Dead => wire::ContainerState::Dead,
    }
}

fn shown(container: Container) -> wire::Container {
    let state = state(container.state);
    wire::Container {
        service: container.service.to_string(),
        id: container.id.to_string(),
        image: container.image,
        state: state.into(),
        started_unix_ms: container.started_unix_ms.unwrap_or(0),
        exit_code: container.exit_code,
        health: container.health.as_str().to_owned(),
        restart_count: container.restart_count,
    }
}

fn reading(stats: model::Stats) -> wire::ContainerStats {
    wire::ContainerStats {
        cpu_usage_ns: stats.cpu_usage_ns,
        memory_usage_bytes: stats.memory_usage_bytes,
        memory_limit_bytes: stats.memory_limit_bytes,
        network_received_bytes: stats.network_received_bytes,
        network_sent_bytes: stats.network_sent_bytes,
        pids: stats.pids,
    }
}
