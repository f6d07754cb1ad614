//! The broker: what containers of services do, as it tells it by itself.

use std::collections::BTreeMap;

use cell_api_core::services::health::Seen;
use cell_proto::broker::v1::backup_service_client::BackupServiceClient;
use cell_proto::broker::v1::container_status_service_client::ContainerStatusServiceClient;
use cell_proto::broker::v1::deployment_service_client::DeploymentServiceClient;
use cell_proto::broker::v1::{
    FollowContainerLogsRequest, FollowContainerLogsResponse, ReadBackupRequest, ReadBackupResponse,
    WatchDeploymentsRequest, WatchDeploymentsResponse,
};
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use super::deployments::BrokerFault;
use crate::http::dto::convert::state_name;

/// How long it may take until a backup begins: the broker makes containers to read from, in its turn.
const BEGIN_BACKUP: std::time::Duration = std::time::Duration::from_secs(120);
/// How long it may take until a stream begins.
const BEGIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Streams of the broker's.
#[derive(Debug, Clone)]
pub struct BrokerStreams {
    deployments: DeploymentServiceClient<Channel>,
    logs: ContainerStatusServiceClient<Channel>,
    backups: BackupServiceClient<Channel>,
}

impl BrokerStreams {
    /// Over a channel.
    pub fn new(channel: Channel) -> Self {
        BrokerStreams {
            deployments: DeploymentServiceClient::new(channel.clone()),
            logs: ContainerStatusServiceClient::new(channel.clone()),
            backups: BackupServiceClient::new(channel),
        }
    }

    /// All services with what their containers do, now and whenever it changes.
    ///
    /// # Errors
    /// [`BrokerFault`].
    pub async fn deployments(&self) -> Result<Streaming<WatchDeploymentsResponse>, BrokerFault> {
        let mut deployments = self.deployments.clone();
        begun(BEGIN, deployments.watch_deployments(WatchDeploymentsRequest {})).await
    }

    /// The last lines of a container's log, and what it writes from then on.
    ///
    /// # Errors
    /// [`BrokerFault`].
    pub async fn logs(
        &self,
        handle: &str,
        lines: u32,
    ) -> Result<Streaming<FollowContainerLogsResponse>, BrokerFault> {
        let request = FollowContainerLogsRequest {
            service: handle.to_owned(),
            lines,
        };
        begun(BEGIN, self.logs.clone().follow_container_logs(request)).await
    }

    /// A backup of what a service keeps, encrypted; with `validate_only` nothing, if there could be one.
    ///
    /// # Errors
    /// [`BrokerFault`].
    pub async fn backup(
        &self,
        service: &str,
        validate_only: bool,
    ) -> Result<Streaming<ReadBackupResponse>, BrokerFault> {
        let request = ReadBackupRequest {
            service: service.to_owned(),
            validate_only,
        };
        begun(BEGIN_BACKUP, self.backups.clone().read_backup(request)).await
    }
}

/// What was told, by service.
pub fn seen(told: WatchDeploymentsResponse) -> BTreeMap<String, Vec<Seen>> {
    let all = told.deployments.into_iter().map(|deployment| {
        let containers = deployment.containers.into_iter().map(|one| Seen {
            state: state_name(one.state()).to_owned(),
            name: one.name,
            exit_code: one.exit_code,
            health: one.health,
            started_unix_ms: one.started_unix_ms,
        });
        (deployment.service, containers.collect())
    });
    all.collect()
}

async fn begun<T>(
    patience: std::time::Duration,
    call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
) -> Result<Streaming<T>, BrokerFault> {
    match tokio::time::timeout(patience, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(BrokerFault::Later {
            code: "UNREACHABLE".to_owned(),
            message: "it did not answer in time".to_owned(),
        }),
    }
}
