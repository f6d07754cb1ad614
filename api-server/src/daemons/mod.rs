//! The daemons that the API calls. Here alone protobuf meets the domain.

pub mod accounts;
pub mod activity;
pub mod broker;
pub mod check;
pub mod confirm;
pub mod deployments;
pub mod egress;
pub mod explain;
pub mod key;
pub mod netd;
pub mod openvpn;
pub mod secrets;
pub mod vault;
pub mod watch;

use std::time::Duration;

use tonic::{Request, Status};

use crate::service::ServiceError;

/// How long a read may take before the daemon counts as away. A page must come even when a daemon hangs.
const READ_DEADLINE: Duration = Duration::from_secs(2);

/// A read with its deadline.
fn read<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(READ_DEADLINE);
    request
}

/// Awaits an answer no longer than the deadline, also when the daemon accepts and says nothing.
async fn answer<T>(
    daemon: &'static str,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, ServiceError> {
    match tokio::time::timeout(READ_DEADLINE, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => {
            tracing::debug!(daemon, code = ?status.code(), message = status.message(), "a call failed");
            Err(ServiceError::Unreachable(daemon))
        }
        Err(_) => Err(ServiceError::Unreachable(daemon)),
    }
}
