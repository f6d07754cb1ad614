//! Containers, through the broker.

use cell_proto::broker::v1::Container;

use super::ServiceError;
use crate::app::App;

/// Containers that the broker owns.
#[derive(Debug)]
pub struct ContainersView {
    /// Why Docker cannot be used, UPPER_SNAKE; `None` when it can.
    pub docker_fault: Option<String>,
    /// In the order of services.
    pub containers: Vec<Container>,
}

/// Lists them. A broker that is away, and a Docker that is not there, are states and not failures.
///
/// # Errors
/// [`ServiceError::Busy`].
pub async fn list(app: &App) -> Result<ContainersView, ServiceError> {
    let docker_fault = match app.broker.docker_fault().await {
        Ok(fault) => fault,
        Err(ServiceError::Unreachable(_)) => Some("NO_BROKER".to_owned()),
        Err(error) => return Err(error),
    };
    if docker_fault.is_some() {
        return Ok(ContainersView {
            docker_fault,
            containers: Vec::new(),
        });
    }
    Ok(ContainersView {
        docker_fault,
        containers: app.broker.containers().await?,
    })
}
