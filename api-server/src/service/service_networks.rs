//! Networks of services as others see them, and what carries them to the internet.

pub mod reach;

use std::sync::Arc;
use std::time::Duration;

use cell_api_core::connection::choice::{MAX_FALLBACKS, Route};
use cell_api_core::connection::health::Health;
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::derive::dns;
use cell_api_core::fault::Faults;
use cell_api_core::service_network::{Egress, ServiceName, ServiceNetwork};
use cell_api_core::services::exits::WayOut;
use rusqlite::Connection;

use super::peers::find_exit;
use super::plan::Facts;
use super::{Actor, ServiceError, cell, waiting, way_out};
use crate::app::App;
use crate::store::connections;
use crate::store::service_networks as table;
use crate::store::transaction::{Origin, Tx};
use crate::store::waiting::{self as waiting_table, Wait};

/// How long an answer waits for netd.
const PATIENCE: Duration = Duration::from_secs(2);
/// The field that names what stands in.
const FALLBACKS: &str = "fallback_connection_ids";
/// What the text of a choice is that means the cell's own way.
pub const DIRECT: &str = "direct";

/// A service's network as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkView {
    /// As stored.
    pub network: ServiceNetwork,
    /// Name of the connection that carries it, if one does.
    pub connection: Option<String>,
    /// Names of those that stand in for it, the first first.
    pub fallbacks: Vec<String>,
    /// Which way it has at this moment.
    pub route: Option<Route>,
    /// Which ways it may have.
    pub way_out: WayOut,
}

/// What a change of a service's network would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPlan {
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
    /// What stands in for the connection meanwhile, the first first: ids, names or lone types. No other connection ever does.
    pub fallbacks: Vec<String>,
}

/// All of them, in the order of names.
///
/// # Errors
/// [`ServiceError::SetupRequired`], [`ServiceError::Storage`].
pub async fn list(app: &Arc<App>) -> Result<Vec<NetworkView>, ServiceError> {
    cell::identity(app)?;
    let facts = Facts::now(app)?;
    // In one transaction: a network of no service would be shown as one that may have any way.
    let (all, ways) = app
        .store
        .read_much(|connection| Ok::<_, ServiceError>((table::list(connection)?, way_out::all(connection)?)))
        .await?;
    let way_out = |network: &ServiceNetwork| {
        let found = ways.get(network.service.as_str());
        found.cloned().unwrap_or_else(WayOut::any)
    };
    Ok(all
        .into_iter()
        .map(|network| view(&facts, way_out(&network), network))
        .collect())
}

/// Says what carries a service's containers to the internet. With `wait` the change is taken back unless it is confirmed in time.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoServiceNetwork`], [`ServiceError::ExitNotCarried`], [`ServiceError::NoWayOut`], [`ServiceError::ExitNotAllowed`],
/// [`ServiceError::SetupRequired`], [`ServiceError::ChangePending`]; with `wait` [`ServiceError::NotApplied`],
/// [`ServiceError::Unreachable`].
pub async fn set_exit(
    app: &Arc<App>,
    actor: &Actor,
    service: &str,
    input: ExitInput,
    wait: Option<Wait>,
) -> Result<NetworkView, ServiceError> {
    let service = parse(service)?;
    cell::identity(app)?;
    if wait.is_some() {
        waiting::ready(app)?;
    }
    let waits = wait.clone();
    let (Made { after, way_out, .. }, generation) = app
        .store
        .commit(Origin::new(actor, app.now()), move |tx| {
            make(tx, &service, &input, waits.as_ref())
        })
        .await?;
    app.network.wait_for(generation, PATIENCE).await;
    waiting::applied(app, wait.as_ref(), generation)?;
    Ok(view(&Facts::now(app)?, way_out, after))
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
) -> Result<NetworkPlan, ServiceError> {
    let service = parse(service)?;
    cell::identity(app)?;
    let trying = app.store.try_out(Origin::new(actor, app.now()), move |tx| {
        make(tx, &service, &input, None)
    });
    let Made {
        before,
        after,
        way_out,
    } = trying.await?;
    let facts = Facts::now(app)?;
    let (before, after) = (
        view(&facts, way_out.clone(), before),
        view(&facts, way_out, after),
    );
    let sentences = sentences(&facts, &before, &after);
    Ok(NetworkPlan {
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

/// A change that was made.
struct Made {
    before: ServiceNetwork,
    after: ServiceNetwork,
    way_out: WayOut,
}

fn make(
    tx: &mut Tx<'_>,
    service: &ServiceName,
    input: &ExitInput,
    wait: Option<&Wait>,
) -> Result<Made, ServiceError> {
    let before = table::get(tx, service)?;
    let egress = chosen(tx, input)?;
    let way_out = way_out::of(tx, service)?;
    way_out::judge(tx, service.as_str(), "its manifest", &way_out, &egress)?;
    if let Some(wait) = wait {
        waiting_table::begin_service(tx, service, &before.egress, wait)?;
    }
    write(tx, service, &egress)?;
    let after = ServiceNetwork {
        egress,
        ..before.clone()
    };
    Ok(Made {
        before,
        after,
        way_out,
    })
}

/// Stores a way that was judged, and notes it in the audit.
pub(super) fn write(tx: &mut Tx<'_>, service: &ServiceName, egress: &Egress) -> Result<(), ServiceError> {
    table::set_egress(tx, service, egress)?;
    let names = connections::names(tx)?;
    let name_of = |id: &ConnectionId| {
        let found = names.iter().find(|(one, _, _)| one == id);
        found.map_or_else(|| id.to_string(), |(_, name, _)| name.clone())
    };
    let named = egress.bound().map(|id| {
        let else_through = egress
            .fallbacks()
            .iter()
            .map(|id| format!(", else {}", name_of(id)));
        format!(
            "through {} ({id}){}",
            name_of(&id),
            else_through.collect::<String>()
        )
    });
    let detail = match egress {
        Egress::Nowhere => "no way to the internet".to_owned(),
        Egress::Direct => "by the cell's own way".to_owned(),
        Egress::Exit(_) => named.unwrap_or_default(),
    };
    tx.audit("service.exit", service, detail);
    Ok(())
}

/// What a choice names.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::ExitNotCarried`].
pub(super) fn chosen(connection: &Connection, input: &ExitInput) -> Result<Egress, ServiceError> {
    let ExitInput {
        connection: text,
        fail_open,
        fallbacks,
    } = input;
    let unbound = match text.as_str() {
        "" => Some(Egress::Nowhere),
        DIRECT => Some(Egress::Direct),
        _ => None,
    };
    if let Some(egress) = unbound {
        let mut faults = Faults::default();
        if fail_open.is_some() {
            faults.add("fail_open", "is of a connection: it must be null without one");
        }
        if !fallbacks.is_empty() {
            faults.add(
                FALLBACKS,
                "stand in for a connection: they must be empty without one",
            );
        }
        return match faults.is_empty() {
            true => Ok(egress),
            false => Err(faults.into()),
        };
    }
    let stand_ins = stand_ins(connection, fallbacks)?;
    let egress = match find_exit(connection, "connection_id", text)? {
        Some(id) => Egress::through(id, *fail_open),
        None => Egress::Direct,
    };
    Ok(egress
        .falling_back_to(stand_ins)
        .map_err(|error| Faults::one(FALLBACKS, error))?)
}

fn stand_ins(connection: &Connection, texts: &[String]) -> Result<Vec<ConnectionId>, ServiceError> {
    // Before each is looked up: a list of any length would be so many looks.
    if texts.len() > MAX_FALLBACKS {
        let why = format!("must have at most {MAX_FALLBACKS} connections");
        return Err(Faults::one(FALLBACKS, why).into());
    }
    let each = texts.iter().enumerate().map(|(index, text)| {
        let field = format!("{FALLBACKS}[{index}]");
        let own_way = "must be a connection: to go out directly is for fail_open to say";
        find_exit(connection, &field, text)?.ok_or_else(|| Faults::one(&field, own_way).into())
    });
    each.collect()
}

fn view(facts: &Facts, way_out: WayOut, network: ServiceNetwork) -> NetworkView {
    let route = match &network.egress {
        // What was chosen before manifests were asked: it leads nowhere.
        _ if !way_out.is_open() => None,
        Egress::Nowhere => None,
        Egress::Direct => Some(Route::Own),
        Egress::Exit(choice) => Some(facts.route(choice)),
    };
    let connection = network.egress.bound().and_then(|id| facts.name(&id));
    let name_of = |id: &ConnectionId| facts.name(id).unwrap_or_else(|| id.to_string());
    NetworkView {
        fallbacks: network.egress.fallbacks().iter().map(name_of).collect(),
        network,
        connection,
        route,
        way_out,
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
        let asks_others = after
            .network
            .reach
            .iter()
            .any(|granted| granted.port == dns::PORT);
        sentences.push(match asks_others {
            false => "Their DNS goes by the same way, whichever resolver they ask.".to_owned(),
            true => "Their DNS goes by the same way, but what they ask of the resolvers that were granted to them by address: that is \
                     answered past the connection."
                .to_owned(),
        });
        if !after.fallbacks.is_empty() {
            sentences.push(format!(
                "While it does not work they go through {}.",
                after.fallbacks.join(", else through ")
            ));
        }
        let works = |id: ConnectionId| facts.health(&id) == Health::Working;
        sentences.push(match after.route {
            Some(Route::Exit(id)) if works(id) && choice.bound() == Some(id) => {
                "The connection works.".to_owned()
            }
            Some(Route::Exit(id)) if works(id) => {
                let name = facts.name(&id).unwrap_or_else(|| id.to_string());
                format!("The connection does not work now: {name} stands in for it until it does.")
            }
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
            match view.fallbacks.is_empty() {
                true => format!("through {name} alone"),
                false => format!(
                    "through {name}, else through {}",
                    view.fallbacks.join(", else through ")
                ),
            }
        }
    }
}
