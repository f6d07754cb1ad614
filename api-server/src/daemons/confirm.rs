//! Tells netd to keep or to take back the change that waits.

use cell_proto::fault;
use cell_proto::netd::v1::network_service_client::NetworkServiceClient;
use cell_proto::netd::v1::{ConfirmNetworkRequest, RollBackNetworkRequest};
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::service::ServiceError;

/// A rollback applies a state; ten thousand peers take some seconds.
const DEADLINE: Duration = Duration::from_secs(25);

/// Tells netd.
#[derive(Debug, Clone)]
pub struct Confirmer(NetworkServiceClient<Channel>);

impl Confirmer {
    /// Over a channel to netd.
    pub fn new(channel: Channel) -> Self {
        Confirmer(NetworkServiceClient::new(channel))
    }

    /// Keeps the change.
    ///
    /// # Errors
    /// [`ServiceError::NotPending`] when netd has no such change (any more), [`ServiceError::Unreachable`].
    pub async fn confirm(&self, etag: String) -> Result<(), ServiceError> {
        told(self.0.clone().confirm_network(ConfirmNetworkRequest { etag })).await
    }

    /// Takes it back.
    ///
    /// # Errors
    /// As [`Confirmer::confirm`].
    pub async fn roll_back(&self, etag: String) -> Result<(), ServiceError> {
        told(self.0.clone().roll_back_network(RollBackNetworkRequest { etag })).await
    }
}

async fn told<T>(call: impl Future<Output = Result<T, Status>>) -> Result<(), ServiceError> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(status)) if status.code() == Code::Aborted && fault::reason(&status).is_some() => {
            Err(ServiceError::NotPending)
        }
        Ok(Err(status)) => {
            tracing::warn!(code = ?status.code(), message = status.message(), "netd did not settle the change");
            Err(ServiceError::Unreachable("netd"))
        }
        Err(_) => Err(ServiceError::Unreachable("netd")),
    }
}
