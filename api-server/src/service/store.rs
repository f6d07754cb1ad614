//! Services of the store: what is installed, and what is asked for. Here it is written down; the reconciler does it.

mod install;
mod run;

use std::net::Ipv4Addr;

use cell_api_core::services::labels;
use cell_api_core::services::phase::Phase;
use cell_manifest::{Manifest, Purpose};

pub use install::{
    Change, InstallInput, PlanView, configure, install, plan_install, plan_remove, remove, set_access, update,
};
pub use run::{ContainerState, LogsView, Run, StatusView, logs, run, status};

use super::{ServiceError, catalog, cell};
use crate::app::App;
use crate::services::Live;
use crate::store::services::{self as table, KeptManifest, StoredService};

/// A service as others see it.
#[derive(Debug, Clone)]
pub struct View {
    /// As stored.
    pub service: StoredService,
    /// What it is made of.
    pub manifest: Manifest,
    /// Its address in the VPN.
    pub address: Option<Ipv4Addr>,
    /// The names by which devices find it.
    pub names: Vec<String>,
    /// What moves about it.
    pub live: Live,
    /// What the catalog has instead; none: the same, or nothing.
    pub update: Option<Update>,
}

/// Another manifest of the catalog's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Its version.
    pub version: String,
    /// Its digest.
    pub digest: String,
}

/// A service that devices find, as the navigation shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    /// What it is called.
    pub name: String,
    /// For people.
    pub title: String,
    /// Where browsers find it.
    pub url: Option<String>,
}

/// All services, in the order of names.
///
/// # Errors
/// [`ServiceError::SetupRequired`], [`ServiceError::Storage`].
pub async fn list(app: &App) -> Result<Vec<View>, ServiceError> {
    let offers = catalog::read(app).await.unwrap_or_default();
    let whole = app.store.read_much(table::list_whole).await?;
    whole.into_iter().map(|one| view(app, one, &offers)).collect()
}

/// One service.
///
/// # Errors
/// [`ServiceError::NoService`], [`ServiceError::SetupRequired`], [`ServiceError::Storage`].
pub async fn get(app: &App, name: &str) -> Result<View, ServiceError> {
    let all = list(app).await?;
    all.into_iter()
        .find(|view| view.service.name.as_str() == name)
        .ok_or(ServiceError::NoService)
}

/// Services of the store that are installed and on.
///
/// # Errors
/// [`ServiceError::SetupRequired`], [`ServiceError::Storage`].
pub async fn active(app: &App) -> Result<Vec<Active>, ServiceError> {
    let all = list(app).await?.into_iter();
    let is_on = |view: &View| view.service.phase.is_there() && !view.service.stopped;
    let of_store = |view: &View| view.manifest.purpose == Purpose::Store;
    Ok(all
        .filter(|view| is_on(view) && of_store(view))
        .map(|view| Active {
            name: view.service.name.to_string(),
            title: view.manifest.title.clone(),
            url: view.names.first().map(|name| format!("https://{name}/")),
        })
        .collect())
}

fn view(
    app: &App,
    whole: (StoredService, KeptManifest),
    offers: &catalog::Catalog,
) -> Result<View, ServiceError> {
    let (service, KeptManifest { manifest, .. }) = whole;
    let identity = cell::identity(app)?;
    let domain = identity.cell_name.domain();
    let mut names: Vec<String> = labels(&manifest, &service.instance)
        .keys()
        .map(|label| format!("{label}.{domain}"))
        .collect();
    // The service's own name first.
    let own = manifest
        .routing
        .as_ref()
        .map(|routing| routing.subdomain.to_string());
    names.sort_by_key(|name| own.as_ref().is_none_or(|own| !name.starts_with(own.as_str())));
    let offered = offers.items.iter().find(|item| item.line.id == manifest.id);
    let update = offered
        .and_then(|item| item.offer.as_ref().ok())
        .filter(|offer| offer.digest.as_str() != service.make.digest)
        .map(|offer| Update {
            version: offer.manifest.version.clone(),
            digest: offer.digest.to_string(),
        });
    Ok(View {
        address: service.host.map(|host| identity.range.v4_of(host)),
        live: app.services.live(service.name.as_str()),
        names,
        update,
        manifest,
        service,
    })
}

/// Refuses what cannot be asked of a service that is not there as a whole.
fn running(service: &StoredService) -> Result<(), ServiceError> {
    match service.phase {
        Phase::Installed | Phase::Updating(_) => Ok(()),
        Phase::Installing(_) | Phase::Removing(_) | Phase::Failed(_) if !service.containers.is_empty() => {
            Ok(())
        }
        phase @ (Phase::Installing(_) | Phase::Removing(_) | Phase::Failed(_)) => {
            Err(cell_api_core::services::phase::NotNow(phase).into())
        }
    }
}
