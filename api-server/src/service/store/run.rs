//! Starts and stops what is installed, and looks at it.

use std::sync::Arc;

use cell_api_core::fault::Faults;
use cell_api_core::services::phase::Wish;
use cell_proto::broker::v1::Container as Made;

use super::{View, get, running};
use crate::app::App;
use crate::daemons::deployments::BrokerFault;
use crate::events::Topic;
use crate::service::{Actor, ServiceError};
use crate::store::services::{self as table, Container, StoredService};
use crate::store::transaction::Origin;

/// Most lines of a log.
const LINES_MAX: u32 = 1_000;

/// What is done with its containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// They are started.
    Start,
    /// They are stopped, and stay so.
    Stop,
    /// They are stopped and started.
    Restart,
}

/// The last lines of a container's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogsView {
    /// The container's name.
    pub container: String,
    /// Oldest first.
    pub lines: Vec<String>,
    /// Whether older ones were left out.
    pub truncated: bool,
}

/// How a service's containers are.
#[derive(Debug, Clone)]
pub struct StatusView {
    /// The service.
    pub view: View,
    /// Its containers, the main one first; none: the broker does not say.
    pub containers: Vec<ContainerState>,
    /// Why nothing is known of them.
    pub fault: Option<String>,
}

/// How one container is.
#[derive(Debug, Clone)]
pub struct ContainerState {
    /// As stored.
    pub container: Container,
    /// As the broker has it.
    pub made: Made,
}

/// Starts, stops or restarts a service.
///
/// # Errors
/// [`ServiceError::NoService`], [`ServiceError::ServiceNotNow`], [`ServiceError::Unreachable`],
/// [`ServiceError::BrokerRefuses`].
pub async fn run(app: &Arc<App>, actor: &Actor, name: &str, run: Run) -> Result<View, ServiceError> {
    let sought = name.to_owned();
    // Written down first: what was stopped stays so, whoever is killed in between.
    let service = app
        .store
        .mutate(Origin::new(actor, app.now()), move |tx| {
            let service = table::get(tx, &sought)?;
            let phase = service.phase.wished(Wish::Run)?;
            let (action, stopped) = match run {
                Run::Start => ("service.start", false),
                Run::Stop => ("service.stop", true),
                Run::Restart => ("service.restart", false),
            };
            tx.audit(
                action,
                &sought,
                format!("{} container(s)", service.containers.len()),
            );
            let updated = StoredService {
                phase,
                stopped,
                ..service
            };
            if !table::update(tx, &updated, tx.now())? {
                return Err(ServiceError::Stale);
            }
            tx.effects.topics.insert(Topic::Services);
            Ok(updated)
        })
        .await?;
    app.services.asked(name);
    let handles = service.containers.iter().map(|made| made.handle.as_str());
    match run {
        // What others stand on is started first, as it was made, and stopped last.
        Run::Stop => {
            for handle in handles {
                app.deployments.stop(handle).await.map_err(refused)?;
            }
        }
        Run::Start => {
            for handle in handles.rev() {
                app.deployments.start(handle).await.map_err(refused)?;
            }
        }
        Run::Restart => {
            for handle in handles.rev() {
                app.deployments.restart(handle).await.map_err(refused)?;
            }
        }
    }
    // Again: what it did meanwhile was not by itself either.
    app.services.asked(name);
    app.services.lost(name);
    app.services.wished();
    app.events.publish([Topic::Services]);
    get(app, name).await
}

/// The last lines of a container's log; without a name, of the main one.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoService`], [`ServiceError::ServiceNotNow`],
/// [`ServiceError::Unreachable`], [`ServiceError::BrokerRefuses`].
pub async fn logs(app: &App, name: &str, container: &str, lines: u32) -> Result<LogsView, ServiceError> {
    if lines > LINES_MAX {
        return Err(Faults::one("lines", format!("must be 1-{LINES_MAX}")).into());
    }
    let made = container_of(app, name, container)?;
    let answer = app.deployments.logs(&made.handle, lines).await.map_err(refused)?;
    Ok(LogsView {
        container: made.name,
        lines: answer.lines,
        truncated: answer.truncated,
    })
}

/// One of a service's containers; without a name, the main one.
///
/// # Errors
/// Those of [`logs`] but the broker's.
pub(in crate::service) fn container_of(
    app: &App,
    name: &str,
    container: &str,
) -> Result<Container, ServiceError> {
    let service = app.store.read(|connection| table::get(connection, name))?;
    running(&service)?;
    let is_it = |made: &&Container| container.is_empty() || made.name == container;
    let found = service.containers.iter().find(is_it);
    found.cloned().ok_or_else(|| {
        let names: Vec<&str> = service.containers.iter().map(|made| made.name.as_str()).collect();
        Faults::one("container", format!("must be one of: {}", names.join(", "))).into()
    })
}

/// How a service is, with its containers as the broker has them now.
///
/// # Errors
/// [`ServiceError::NoService`], [`ServiceError::Storage`].
pub async fn status(app: &App, name: &str) -> Result<StatusView, ServiceError> {
    let view = get(app, name).await?;
    let mut status = StatusView {
        containers: Vec::new(),
        fault: None,
        view,
    };
    for container in &status.view.service.containers {
        match app.deployments.container(&container.handle).await {
            Ok(made) => status.containers.push(ContainerState {
                container: container.clone(),
                made,
            }),
            Err(fault) => status.fault = Some(fault.to_string()),
        }
    }
    Ok(status)
}

pub(crate) fn refused(fault: BrokerFault) -> ServiceError {
    match fault {
        BrokerFault::Later { code, .. } if code == "UNREACHABLE" => ServiceError::Unreachable("broker"),
        BrokerFault::Later { message, code } | BrokerFault::Refused { code, message } => {
            ServiceError::BrokerRefuses(format!("{message} ({code})"))
        }
    }
}
