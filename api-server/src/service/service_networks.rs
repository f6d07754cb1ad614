//! Networks of services as others see them, and what carries them to the internet.

use std::sync::Arc;
use std::time::Duration;

use cell_api_core::connection::choice::Route;
use cell_api_core::connection::health::Health;
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::fault::Faults;
use cell_api_core::service_network::{Egress, ServiceName, ServiceNetwork};
use rusqlite::Connection;

use super::peers::find_exit;
use super::plan::Facts;
use super::{Actor, ServiceError, cell};
use crate::app::App;
use crate::store::connections;
use crate::store::service_networks as table;
use crate::store::transaction::{Origin, Tx};

/// How long an answer waits for netd.
const PATIENCE: Duration = Duration::from_secs(2);
/// What the text of a choice is that means the cell's own way.
pub const DIRECT: &str = "direct";

/// A service's network as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkView {
    /// As stored.
    pub network: ServiceNetwork,
    /// Name of the connection that carries it, if one does.
    pub connection: Option<String>,
    /// Which way it has at this moment.
    pub route: Option<Route>,
}

/// What a change of a service's exit would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitPlan {
    /// The network after it.
    pub view: NetworkView,
    /// For people, a sentence each; none: nothing changes.
    pub sentences: Vec<String>,
}

/// A choice of what carries a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitInput {
    /// A connection's id, name or lone type; `direct`: the cell's own way; empty: no way at all.
    pub connection: String,
    /// What happens while the connection does not work; `None`: as its type says.
    pub fail_open: Option<bool>,
}

/// All of them, in the order of names.
///
/// # Errors
/// [`ServiceError::SetupRequired`], [`ServiceError::Storage`].
pub async fn list(app: &Arc<App>) -> Result<Vec<NetworkView>, ServiceError> {
    cell::identity(app)?;
    let facts = Facts::now(app)?;
    let all = app.store.read(table::list)?;
    Ok(all.into_iter().map(|network| view(&facts, network)).collect())
}

/// Says what carries a service's containers to the internet.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoServiceNetwork`], [`ServiceError::ExitNotCarried`],
/// [`ServiceError::SetupRequired`].
pub async fn set_exit(
    app: &Arc<App>,
    actor: &Actor,
    service: &str,
    input: ExitInput,
) -> Result<NetworkView, ServiceError> {
    let service = parse(service)?;
    cell::identity(app)?;
    let ((_, network), generation) = app
        .store
        .commit(Origin::new(actor, app.now()), move |tx| {
            make(tx, &service, &input)
        })
        .await?;
    app.network.wait_for(generation, PATIENCE).await;
    Ok(view(&Facts::now(app)?, network))
}

/// What [`set_exit`] would do. The change is made and taken back, so that what would be refused is refused.
///
/// # Errors
/// As it.
pub async fn plan_exit(
    app: &Arc<App>,
    actor: &Actor,
    service: &str,
    input: ExitInput,
) -> Result<ExitPlan, ServiceError> {
    let service = parse(service)?;
    cell::identity(app)?;
    let trying = app.store.try_out(Origin::new(actor, app.now()), move |tx| {
        make(tx, &service, &input)
    });
    let (before, after) = trying.await?;
    let facts = Facts::now(app)?;
    let (before, after) = (view(&facts, before), view(&facts, after));
    let sentences = sentences(&facts, &before, &after);
    Ok(ExitPlan {
        view: after,
        sentences,
    })
}

/// Whether there is a network of this service.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoServiceNetwork`].
pub fn known(app: &App, service: &str) -> Result<ServiceName, ServiceError> {
    let service = parse(service)?;
    app.store.read(|connection| table::get(connection, &service))?;
    Ok(service)
}

fn parse(service: &str) -> Result<ServiceName, ServiceError> {
    Ok(ServiceName::parse(service).map_err(|error| Faults::one("service", error))?)
}

fn make(
    tx: &mut Tx<'_>,
    service: &ServiceName,
    input: &ExitInput,
) -> Result<(ServiceNetwork, ServiceNetwork), ServiceError> {
    let before = table::get(tx, service)?;
    let egress = chosen(tx, input)?;
    table::set_egress(tx, service, &egress)?;
    let names = connections::names(tx)?;
    let named = egress.bound().and_then(|id| {
        let found = names.iter().find(|(one, _, _)| *one == id)?;
        Some(format!("through {} ({id})", found.1))
    });
    let detail = match &egress {
        Egress::Nowhere => "no way to the internet".to_owned(),
        Egress::Direct => "by the cell's own way".to_owned(),
        Egress::Exit(_) => named.unwrap_or_default(),
    };
    tx.audit("service.exit", service, detail);
    let after = ServiceNetwork {
        egress,
        ..before.clone()
    };
    Ok((before, after))
}

fn chosen(connection: &Connection, input: &ExitInput) -> Result<Egress, ServiceError> {
    let ExitInput {
        connection: text,
        fail_open,
    } = input;
    let unbound = match text.as_str() {
        "" => Some(Egress::Nowhere),
        DIRECT => Some(Egress::Direct),
        _ => None,
    };
    if let Some(egress) = unbound {
        return match fail_open {
            None => Ok(egress),
            Some(_) => {
                Err(Faults::one("fail_open", "is of a connection: it must be null without one").into())
            }
        };
    }
    match find_exit(connection, "connection_id", text)? {
        Some(id) => Ok(Egress::through(id, *fail_open)),
        None => Ok(Egress::Direct),
    }
}

fn view(facts: &Facts, network: ServiceNetwork) -> NetworkView {
    let route = match &network.egress {
        Egress::Nowhere => None,
        Egress::Direct => Some(Route::Own),
        Egress::Exit(choice) => Some(facts.route(choice)),
    };
    let connection = network.egress.bound().and_then(|id| facts.name(&id));
    NetworkView {
        network,
        connection,
        route,
    }
}

fn sentences(facts: &Facts, before: &NetworkView, after: &NetworkView) -> Vec<String> {
    let service = &after.network.service;
    let mut sentences = Vec::new();
    if before.network.egress == after.network.egress {
        return sentences;
    }
    let (had, will) = (way(before), way(after));
    sentences.push(format!(
        "Containers of {service} go out {will}; until now they go out {had}."
    ));
    if before.route.is_some() && before.route != after.route {
        sentences.push("Connections to the internet that they have open now end.".to_owned());
    }
    if let Egress::Exit(choice) = &after.network.egress {
        sentences.push("Their DNS goes by the same way, whichever resolver they ask.".to_owned());
        let works = choice.bound().map(|id| facts.health(&id)) == Some(Health::Working);
        sentences.push(match after.route {
            Some(Route::Exit(_)) if works => "The connection works.".to_owned(),
            Some(Route::Own) => {
                "The connection does not work now, and the service fails open: it goes out directly until it does."
                    .to_owned()
            }
            Some(Route::Exit(_) | Route::Nowhere) | None => {
                "The connection does not work now: the service reaches nothing on the internet until it does."
                    .to_owned()
            }
        });
    }
    sentences
}

fn way(view: &NetworkView) -> String {
    match &view.network.egress {
        Egress::Nowhere => "nowhere".to_owned(),
        Egress::Direct => "by the cell's own way".to_owned(),
        Egress::Exit(choice) => {
            let id = choice.bound().as_ref().map(ConnectionId::to_string);
            let name = view.connection.clone().or(id).unwrap_or_default();
            format!("through {name} alone")
        }
    }
}
