//! Services of the store: what is installed, and what is asked for. Here it is written down; the reconciler does it.

mod backup;
mod install;
mod room;
mod run;
pub mod secrets;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use cell_api_core::services::labels;
use cell_api_core::services::phase::Phase;
use cell_manifest::{Manifest, Purpose};

pub use backup::{BackupStream, backup, could_back_up};
pub use install::{
    Change, InstallInput, PlanView, configure, install, plan_install, plan_remove, remove, set_access, update,
};
pub use room::hand_over;
pub(in crate::service) use run::container_of;
pub(crate) use run::refused;
pub use run::{ContainerState, LogsView, Run, StatusView, logs, run, status};

use super::{ServiceError, catalog, cell};
use crate::app::App;
use crate::services::Live;
use crate::store::services::{self as table, Fault, StoredService};

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
    /// What is wrong with it, though it was made as it was asked for.
    pub notice: Option<Fault>,
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
    let whole = app.store.read_much(table::list_manifests).await?;
    let shadows = room::shadows(app);
    whole
        .into_iter()
        .map(|(service, manifests)| view(app, service, manifests, &offers, &shadows))
        .collect()
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
    service: StoredService,
    mut manifests: Vec<Manifest>,
    offers: &catalog::Catalog,
    shadows: &BTreeMap<String, String>,
) -> Result<View, ServiceError> {
    let identity = cell::identity(app)?;
    let domains = identity.service_domains();
    // Devices find what runs.
    let in_force = service.in_force_of(&manifests);
    let in_force = in_force.ok_or(ServiceError::Storage("a service of no manifest"))?;
    let labels = labels(in_force, &service.instance);
    let notice = notice(app, &service, labels.keys(), shadows);
    let below = |domain: &String| {
        labels
            .keys()
            .map(|label| format!("{label}.{domain}"))
            .collect::<Vec<_>>()
    };
    let mut names: Vec<String> = domains.iter().flat_map(below).collect();
    // The service's own name first.
    let own = in_force
        .routing
        .as_ref()
        .map(|routing| routing.subdomain.to_string());
    names.sort_by_key(|name| own.as_ref().is_none_or(|own| !name.starts_with(own.as_str())));
    let manifest = manifests.swap_remove(0);
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
        notice,
        manifest,
        service,
    })
}

/// What netd or a device's name has against it.
fn notice<'a>(
    app: &App,
    service: &StoredService,
    mut labels: impl Iterator<Item = &'a String>,
    shadows: &BTreeMap<String, String>,
) -> Option<Fault> {
    let fault = |code: &str, message| Fault {
        code: code.to_owned(),
        message,
        at: app.now(),
    };
    if let Some(why) = app.services.netd_refuses(service.name.as_str()) {
        return Some(fault("NETWORK_REFUSED", format!("netd refuses of it: {why}")));
    }
    let (label, device) = labels.find_map(|label| Some((label, shadows.get(label)?)))?;
    let message = format!(
        "the device {device} has the name {label} of this service, so it is found instead: remove the device and add it \
         under another name"
    );
    Some(fault("NAME_SHADOWED", message))
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
