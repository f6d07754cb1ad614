//! The broker: containers.

use cell_proto::broker::v1::container_service_client::ContainerServiceClient;
use cell_proto::broker::v1::container_status_service_client::ContainerStatusServiceClient;
use cell_proto::broker::v1::{
    BrokerStatus, Container, GetBrokerStatusRequest, ListContainersRequest, ReloadContainerRequest,
};
use cell_proto::common::v1::{Condition, ConditionStatus};
use cell_proto::fault;
use tonic::transport::Channel;

use super::{answer, read};
use crate::service::ServiceError;

const NAME: &str = "broker";

/// A client of the broker.
#[derive(Debug, Clone)]
pub struct Broker {
    status: ContainerStatusServiceClient<Channel>,
    containers: ContainerServiceClient<Channel>,
}

impl Broker {
    /// A client over a channel.
    pub fn new(channel: Channel) -> Self {
        Broker {
            status: ContainerStatusServiceClient::new(channel.clone()),
            containers: ContainerServiceClient::new(channel),
        }
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// [`ServiceError::Unreachable`].
    pub async fn conditions(&self) -> Result<Vec<Condition>, ServiceError> {
        Ok(self.status().await?.conditions)
    }

    /// Why Docker cannot be used; `None` when it can. What the broker does not say is not taken for yes.
    ///
    /// # Errors
    /// [`ServiceError::Unreachable`].
    pub async fn docker_fault(&self) -> Result<Option<String>, ServiceError> {
        let status = self.status().await?;
        let condition = status
            .conditions
            .iter()
            .find(|condition| condition.r#type == "DockerReachable");
        Ok(match condition {
            Some(condition) if condition.status() == ConditionStatus::True => None,
            Some(condition) => Some(condition.reason.clone()),
            None => Some("UNKNOWN".to_owned()),
        })
    }

    /// Its own containers.
    ///
    /// # Errors
    /// [`ServiceError::Unreachable`].
    pub async fn containers(&self) -> Result<Vec<Container>, ServiceError> {
        let request = read(ListContainersRequest {});
        Ok(answer(NAME, self.status.clone().list_containers(request))
            .await?
            .containers)
    }

    /// Has a container read its configuration anew.
    ///
    /// # Errors
    /// The broker's reason, or that it does not answer.
    pub async fn reload(&self, service: &str) -> Result<(), String> {
        let request = read(ReloadContainerRequest {
            service: service.to_owned(),
        });
        let mut containers = self.containers.clone();
        let asked = containers.reload_container(request);
        match tokio::time::timeout(super::READ_DEADLINE, asked).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(fault::reason(&status).unwrap_or_else(|| format!("{:?}", status.code()))),
            Err(_) => Err("it does not answer".to_owned()),
        }
    }

    async fn status(&self) -> Result<BrokerStatus, ServiceError> {
        let request = read(GetBrokerStatusRequest {});
        Ok(answer(NAME, self.status.clone().get_broker_status(request))
            .await?
            .status
            .unwrap_or_default())
    }
}
