//! Installs, updates, configures and removes services: what is asked for is judged whole and written down in one transaction.

use std::sync::Arc;

use cell_api_core::fault::Faults;
use cell_api_core::service_network::{Egress, Pool, ServiceName};
use cell_api_core::services::access::Access;
use cell_api_core::services::catalog::Offer;
use cell_api_core::services::exits::WayOut;
use cell_api_core::services::phase::{Doing, Phase, Wish};
use cell_api_core::services::plan::{self, Around, Way};
use cell_api_core::services::{self, form, guard, own};
use cell_manifest::{Manifest, Purpose};

use super::room::{are_known, fits, names_are_free};
use super::{View, get};
use crate::app::App;
use crate::service::cell::CellIdentity;
use crate::service::service_networks::{self as choice, ExitInput};
use crate::service::{Actor, ServiceError, catalog, cell, way_out};
use crate::store::connections;
use crate::store::service_networks;
use crate::store::services::{self as table, Make, Parameters, StoredService};
use crate::store::transaction::{Origin, Tx};

/// What is asked for with an installation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstallInput {
    /// Where the manifest has instances: this one's name.
    pub instance: String,
    /// Fields of the configuration.
    pub parameters: Parameters,
    /// Whether every device may reach it.
    pub everyone: bool,
    /// Else these.
    pub allowed_peers: Vec<String>,
    /// What carries its containers: a connection's id, name or lone type, `direct` or [`NOWHERE`]; `None`: what its manifest has for it.
    pub exit: Option<String>,
}

/// The word with an installation for no way to the internet.
pub const NOWHERE: &str = "none";

/// What it would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanView {
    /// What the service would be called.
    pub service: String,
    /// A sentence each.
    pub sentences: Vec<String>,
}

/// How a service is to become another.
#[derive(Debug, Clone)]
pub enum Change {
    /// Of the catalog's manifest of today.
    Update,
    /// With these parameters.
    Configure(Parameters),
}

/// Writes down that a service is to be installed. One whose installation failed is tried again.
///
/// # Errors
/// [`ServiceError::Invalid`] with every fault at once; what the catalog lacks; [`ServiceError::ServiceInstalled`],
/// [`ServiceError::ServiceRequires`], [`ServiceError::ServiceNameTaken`], and those of networks and addresses.
pub async fn install(
    app: &Arc<App>,
    actor: &Actor,
    id: &str,
    input: InstallInput,
) -> Result<View, ServiceError> {
    let wanted = Wanted::of(app, id, input).await?;
    let name = wanted.name.clone();
    app.store
        .mutate(Origin::new(actor, app.now()), move |tx| wanted.write(tx))
        .await?;
    app.services.wished();
    get(app, &name).await
}

/// What [`install`] would do. It is done and taken back, so that what would be refused is refused.
///
/// # Errors
/// As it.
pub async fn plan_install(
    app: &Arc<App>,
    actor: &Actor,
    id: &str,
    input: InstallInput,
) -> Result<PlanView, ServiceError> {
    let wanted = Wanted::of(app, id, input).await?;
    let (offer, instance, name) = (wanted.offer.clone(), wanted.instance.clone(), wanted.name.clone());
    let identity = cell::identity(app)?;
    let made = app
        .store
        .try_out(Origin::new(actor, app.now()), move |tx| {
            let made = wanted.write(tx)?;
            let way = way_of(tx, &made, &wanted)?;
            Ok::<_, ServiceError>((made, way))
        })
        .await?;
    let (made, way) = made;
    let around = Around {
        service: &name,
        instance: &instance,
        subnet: made.network.as_ref().map(|place| place.subnet.to_string()),
        address: made.host.map(|host| identity.range.v4_of(host).to_string()),
        domain: &identity.service_domains()[0],
        access: &made.access,
        way: way.as_ref(),
    };
    Ok(PlanView {
        sentences: plan::install(&offer.manifest, &around),
        service: name,
    })
}

struct Wanted {
    offer: Offer,
    name: String,
    instance: String,
    parameters: Parameters,
    access: Access,
    exit: Option<String>,
    identity: Arc<CellIdentity>,
    pool: Pool,
}

impl Wanted {
    async fn of(app: &App, id: &str, input: InstallInput) -> Result<Self, ServiceError> {
        let identity = cell::identity(app)?;
        let offer = catalog::find(app, id).await?;
        let InstallInput {
            instance,
            parameters,
            everyone,
            allowed_peers,
            exit,
        } = input;
        let mut faults = Faults::default();
        let name = form::check(&offer.manifest, &instance, &parameters);
        let access = Access::check(everyone, &allowed_peers);
        let (name, access) = match (name, access) {
            (Ok(name), Ok(access)) => (name, access),
            (name, access) => {
                [name.err(), access.err()]
                    .into_iter()
                    .flatten()
                    .for_each(|found| faults.merge(found));
                return Err(faults.into());
            }
        };
        Ok(Wanted {
            name,
            instance,
            parameters,
            access,
            exit,
            identity,
            pool: app.config.service_pool,
            offer,
        })
    }

    fn make(&self) -> Make {
        Make {
            digest: self.offer.digest.to_string(),
            parameters: self.parameters.clone(),
        }
    }

    fn write(&self, tx: &mut Tx<'_>) -> Result<StoredService, ServiceError> {
        let manifest = &self.offer.manifest;
        let (known, standings) = (table::find(tx, &self.name)?, table::standings(tx)?);
        needs_are_there(manifest, &standings)?;
        are_known(tx, &self.access)?;
        fits(
            tx,
            &self.identity,
            &self.name,
            std::slice::from_ref(manifest),
            &self.access,
        )?;
        names_are_free(tx, &self.name, manifest, &self.instance)?;
        keep(tx, &self.offer)?;
        let detail = format!("{} {}", manifest.title, manifest.version);
        tx.audit("service.install", &self.name, detail);
        match known {
            Some(known) => self.again(tx, known),
            None if standings.len() >= services::MOST => Err(ServiceError::TooManyInstalled),
            None => self.anew(tx),
        }
    }

    fn again(&self, tx: &mut Tx<'_>, known: StoredService) -> Result<StoredService, ServiceError> {
        if known.phase != Phase::Failed(Doing::Installing) {
            return Err(match known.phase {
                Phase::Installed => ServiceError::ServiceInstalled,
                phase => phase
                    .wished(Wish::InstallAgain)
                    .err()
                    .map_or(ServiceError::ServiceInstalled, Into::into),
            });
        }
        let (phase, make) = (known.phase.wished(Wish::InstallAgain)?, self.make());
        let access = self.access.clone();
        let again = StoredService {
            phase,
            make,
            access,
            fault: None,
            ..known.clone()
        };
        written(table::update(tx, &again, tx.now())?)?;
        let access = table::AccessChange {
            before: &known.access,
            after: &again.access,
        };
        table::set_access(tx, &again.name, &access)?;
        self.carry(tx, &again)?;
        Ok(again)
    }

    fn anew(&self, tx: &mut Tx<'_>) -> Result<StoredService, ServiceError> {
        let name = ServiceName::parse(&self.name).map_err(|error| Faults::one("instance", error))?;
        let (network, host) = match self.offer.manifest.purpose {
            Purpose::Core => (None, None),
            Purpose::Store => {
                let range = &self.identity.range;
                let network = service_networks::register_service_network(tx, self.pool, range.v4(), &name)?;
                let host = table::allocate_host(tx, range)?;
                // Whoever was granted the address was not granted this service.
                table::purge_grants(tx, range, host)?;
                (Some(network.place), Some(host))
            }
        };
        let service = StoredService {
            name,
            instance: self.instance.clone(),
            make: self.make(),
            former: None,
            good: None,
            phase: Phase::FIRST,
            delete_volumes: false,
            stopped: false,
            published: false,
            network,
            host,
            access: self.access.clone(),
            fault: None,
            generation: 0,
            revision: 1,
            containers: Vec::new(),
            created_unix_ms: tx.now(),
            updated_unix_ms: tx.now(),
        };
        table::insert(tx, &service)?;
        self.carry(tx, &service)?;
        Ok(service)
    }

    /// Says what carries its containers: what was asked for, else what its manifest has for it, if it was not chosen before.
    fn carry(&self, tx: &mut Tx<'_>, service: &StoredService) -> Result<(), ServiceError> {
        let manifest = &self.offer.manifest;
        if service.network.is_none() {
            return match &self.exit {
                Some(_) => Err(Faults::one("connection_id", "is for services of the store").into()),
                None => Ok(()),
            };
        }
        let now = service_networks::get(tx, &service.name)?.egress;
        let egress = match &self.exit {
            Some(text) => way_named(tx, text)?,
            None if now == Egress::Nowhere => way_out::first(tx, manifest)?.egress,
            None => now.clone(),
        };
        let way_out = WayOut::of([manifest]);
        way_out::judge(tx, service.name.as_str(), "its manifest", &way_out, &egress)?;
        if egress == now {
            return Ok(());
        }
        choice::write(tx, &service.name, &egress)
    }
}

fn way_named(tx: &Tx<'_>, text: &str) -> Result<Egress, ServiceError> {
    if text.is_empty() {
        let why = "must be a connection, \"direct\" or \"none\"; left out: as its manifest says";
        return Err(Faults::one("connection_id", why).into());
    }
    let connection = if text == NOWHERE { "" } else { text };
    let input = ExitInput {
        connection: connection.to_owned(),
        fail_open: None,
        fallbacks: Vec::new(),
    };
    choice::chosen(tx, &input)
}

/// What carries a service that is being installed, for people.
fn way_of(tx: &Tx<'_>, made: &StoredService, wanted: &Wanted) -> Result<Option<Way>, ServiceError> {
    if made.network.is_none() {
        return Ok(None);
    }
    let egress = service_networks::get(tx, &made.name)?.egress;
    Ok(Some(match egress.bound() {
        Some(id) => {
            let names = connections::names(tx)?;
            let found = names.into_iter().find(|(one, _, _)| *one == id);
            Way::Exit(found.map_or_else(|| id.to_string(), |(_, name, _)| name))
        }
        None if egress == Egress::Direct => Way::Direct,
        None => Way::Nowhere {
            lacks: match wanted.exit {
                Some(_) => None,
                None => way_out::first(tx, &wanted.offer.manifest)?.lacks,
            },
        },
    }))
}

/// Writes down that a service is to be of the catalog's manifest of today.
///
/// # Errors
/// What the catalog lacks, [`ServiceError::NoService`], [`ServiceError::ServiceNotNow`], [`ServiceError::Invalid`]: the
/// parameters do not fit the new manifest any more.
pub async fn update(app: &Arc<App>, actor: &Actor, name: &str) -> Result<View, ServiceError> {
    change(app, actor, name, Change::Update).await
}

/// Writes down that a service is to have these parameters; those that are not named have their defaults.
///
/// # Errors
/// [`ServiceError::Invalid`] with every fault at once, [`ServiceError::NoService`], [`ServiceError::ServiceNotNow`].
pub async fn configure(
    app: &Arc<App>,
    actor: &Actor,
    name: &str,
    parameters: Parameters,
) -> Result<View, ServiceError> {
    change(app, actor, name, Change::Configure(parameters)).await
}

async fn change(app: &Arc<App>, actor: &Actor, name: &str, change: Change) -> Result<View, ServiceError> {
    let (current, identity) = (get(app, name).await?, cell::identity(app)?);
    let offer = match &change {
        Change::Update => Some(catalog::find(app, current.manifest.id.as_str()).await?),
        Change::Configure(_) => None,
    };
    let sought = name.to_owned();
    app.store
        .mutate(Origin::new(actor, app.now()), move |tx| {
            let service = table::get(tx, &sought)?;
            let (make, manifest) = match (change, offer) {
                (Change::Update, Some(offer)) => {
                    keep(tx, &offer)?;
                    names_are_free(tx, &sought, &offer.manifest, &service.instance)?;
                    needs_are_there(&offer.manifest, &table::standings(tx)?)?;
                    let running = table::manifest(tx, &service.in_force().digest)?.manifest;
                    let mut all = vec![offer.manifest.clone(), running];
                    if let Some(back) = service.way_back() {
                        all.push(table::manifest(tx, &back.digest)?.manifest);
                    }
                    fits(tx, &identity, &sought, &all, &service.access)?;
                    keeps_its_exit(tx, &service, &offer.manifest)?;
                    tx.audit(
                        "service.update",
                        &sought,
                        format!("to {}", offer.manifest.version),
                    );
                    let parameters = service.make.parameters.clone();
                    let digest = offer.digest.to_string();
                    (Make { digest, parameters }, offer.manifest)
                }
                (Change::Configure(parameters), _) => {
                    let digest = service.make.digest.clone();
                    let manifest = table::manifest(tx, &digest)?.manifest;
                    tx.audit(
                        "service.configure",
                        &sought,
                        format!("{} field(s) set", parameters.len()),
                    );
                    (Make { digest, parameters }, manifest)
                }
                (Change::Update, None) => return Err(ServiceError::NotInCatalog),
            };
            form::check(&manifest, &service.instance, &make.parameters)?;
            begin_update(tx, service, make)
        })
        .await?;
    app.services.wished();
    get(app, name).await
}

/// Refuses an update that would take away the way that a service has: its containers would be cut off without a word.
fn keeps_its_exit(tx: &Tx<'_>, service: &StoredService, next: &Manifest) -> Result<(), ServiceError> {
    if service.network.is_none() {
        return Ok(());
    }
    let name = service.name.as_str();
    let egress = service_networks::get(tx, &service.name)?.egress;
    let has = way_out::of(tx, &service.name)?;
    // What leads nowhere already is not lost.
    match way_out::judge(tx, name, "its manifest", &has, &egress) {
        Ok(()) => way_out::judge(
            tx,
            name,
            "the manifest of the update",
            &WayOut::of([next]),
            &egress,
        ),
        Err(_) => Ok(()),
    }
}

fn begin_update(tx: &mut Tx<'_>, service: StoredService, make: Make) -> Result<(), ServiceError> {
    let phase = service.phase.wished(Wish::Update)?;
    if service.make == make && service.fault.is_none() {
        // It is so already.
        return Ok(());
    }
    // After an update that was never deployed and whose way back failed, what ran before is what runs still.
    let former = service.former.clone().or_else(|| Some(service.make.clone()));
    let updated = StoredService {
        phase,
        former,
        make,
        fault: None,
        stopped: false,
        ..service
    };
    tx.effects.topics.insert(crate::events::Topic::Services);
    written(table::update(tx, &updated, tx.now())?)
}

/// Writes down that a service is to go.
///
/// # Errors
/// [`ServiceError::NoService`], [`ServiceError::PartOfCell`], [`ServiceError::ServiceRequired`] with those that need it.
pub async fn remove(
    app: &Arc<App>,
    actor: &Actor,
    name: &str,
    delete_volumes: bool,
) -> Result<View, ServiceError> {
    let (sought, keeps_own) = (name.to_owned(), app.config.core_services);
    app.store
        .mutate(Origin::new(actor, app.now()), move |tx| {
            begin_removal(tx, &sought, delete_volumes, keeps_own)
        })
        .await?;
    let view = get(app, name).await;
    app.services.wished();
    view
}

/// What [`remove`] would do.
///
/// # Errors
/// As it.
pub async fn plan_remove(
    app: &Arc<App>,
    actor: &Actor,
    name: &str,
    delete_volumes: bool,
) -> Result<PlanView, ServiceError> {
    let view = get(app, name).await?;
    let (sought, keeps_own) = (name.to_owned(), app.config.core_services);
    app.store
        .try_out(Origin::new(actor, app.now()), move |tx| {
            begin_removal(tx, &sought, delete_volumes, keeps_own)
        })
        .await?;
    let data = if delete_volumes {
        "All of its data is deleted, for good."
    } else {
        "Its data is kept in its volumes."
    };
    let title = &view.manifest.title;
    Ok(PlanView {
        service: name.to_owned(),
        sentences: vec![
            format!("{title} ({name}) is removed: devices do not reach it any more, and its containers end."),
            data.to_owned(),
        ],
    })
}

fn begin_removal(
    tx: &mut Tx<'_>,
    name: &str,
    delete_volumes: bool,
    keeps_own: bool,
) -> Result<(), ServiceError> {
    let service = table::get(tx, name)?;
    if keeps_own && own::is_own(&table::manifest(tx, &service.make.digest)?.manifest) {
        return Err(ServiceError::PartOfCell);
    }
    let dependants = guard::dependants(name, &table::standings(tx)?);
    if !dependants.is_empty() {
        return Err(ServiceError::ServiceRequired(dependants));
    }
    let phase = service.phase.wished(Wish::Remove)?;
    let data = if delete_volumes {
        "with its data"
    } else {
        "its data is kept"
    };
    tx.audit("service.remove", name, data);
    let was_published = service.published;
    // What its containers are made of goes with them, and nothing else comes back.
    let former = match service.phase.runs_the_new() {
        true => None,
        false => service.former.clone(),
    };
    let removed = StoredService {
        phase,
        former,
        good: None,
        delete_volumes,
        fault: None,
        ..service
    };
    tx.effects.topics.insert(crate::events::Topic::Services);
    written(table::update(tx, &removed, tx.now())?)?;
    // At once, whatever the broker is still busy with.
    if was_published {
        table::publish(tx, name, false)?;
    }
    Ok(())
}

/// Says who may reach a service.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoService`].
pub async fn set_access(
    app: &Arc<App>,
    actor: &Actor,
    name: &str,
    everyone: bool,
    allowed_peers: &[String],
) -> Result<View, ServiceError> {
    let (access, identity) = (Access::check(everyone, allowed_peers)?, cell::identity(app)?);
    let sought = name.to_owned();
    let (_, generation) = app
        .store
        .commit(Origin::new(actor, app.now()), move |tx| {
            let before = table::get(tx, &sought)?;
            are_known(tx, &access)?;
            // Whoever takes away alone is refused nothing.
            if !access.is_within(&before.access) {
                let all = table::manifests_of(tx, &before)?;
                fits(tx, &identity, &sought, &all, &access)?;
            }
            let who: Vec<&str> = access.peers().take(20).collect();
            let detail = match (access.is_everyone(), who.is_empty()) {
                (true, _) => "every device may reach it".to_owned(),
                (false, true) => "no device may reach it".to_owned(),
                (false, false) => format!("these may reach it: {}", who.join(", ")),
            };
            tx.audit("service.access", &sought, detail);
            let change = table::AccessChange {
                before: &before.access,
                after: &access,
            };
            table::set_access(tx, &before.name, &change)
        })
        .await?;
    app.network
        .wait_for(generation, std::time::Duration::from_secs(2))
        .await;
    get(app, name).await
}

fn keep(tx: &Tx<'_>, offer: &Offer) -> rusqlite::Result<()> {
    table::keep_manifest(
        tx,
        offer.digest.as_str(),
        &offer.bytes,
        &offer.signature,
        &offer.images,
    )
}

/// Refuses what lacks services that it needs.
fn needs_are_there(manifest: &Manifest, standings: &[guard::Standing]) -> Result<(), ServiceError> {
    let requires = manifest.requires.iter().map(ToString::to_string).collect();
    let missing = guard::missing(&requires, standings);
    if missing.is_empty() {
        Ok(())
    } else {
        Err(ServiceError::ServiceRequires(missing))
    }
}

fn written(is_current: bool) -> Result<(), ServiceError> {
    if is_current {
        Ok(())
    } else {
        Err(ServiceError::Stale)
    }
}
