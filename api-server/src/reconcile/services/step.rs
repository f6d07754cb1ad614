//! One step of one service. What becomes of it is the state machine's to say (`cell_api_core::services::phase`).

use std::time::{Duration, Instant};

use cell_api_core::services::phase::{Doing, Install, Next, Outcome, Phase, Remove, Update};
use cell_api_core::services::plan;
use cell_proto::broker::v1::Deployment;

use super::project;
use super::trial::{self, Trial};
use crate::app::App;
use crate::daemons::deployments::BrokerFault;
use crate::events::Topic;
use crate::service::store::secrets;
use crate::service::{Actor, ServiceError, cell};
use crate::services::{Live, Progress, Waiting};
use crate::store::services::{self as table, Container, Fault, KeptManifest, Make, StoredService};
use crate::store::transaction::{Origin, Tx};

/// How long a step waits for netd before it says so.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often browsers hear of bytes, at most.
const TELL: Duration = Duration::from_millis(250);
/// How often a manifest or an image may be gone again before that is taken for a refusal.
const RETURNS: u32 = 3;

/// What came of a step.
pub(super) enum Stepped {
    /// Nothing is left to do.
    Idle,
    /// The next.
    Moved,
    /// An earlier one, since something was gone again.
    Returned,
    /// The same again, later.
    Later(Waiting),
    /// The same again soon, or when the broker tells something: nothing is wrong, and it takes its time.
    Watches(Waiting),
}

/// What whoever works on a service knows of steps that are not done yet. A start begins with nothing.
#[derive(Default)]
pub(super) struct Tries {
    /// How often something that the broker had was gone again.
    pub(super) returns: u32,
    /// How often the containers ended at once.
    pub(super) ends: u32,
    /// What was seen of the new containers.
    trial: Option<Trial>,
}

/// What was done.
pub(super) enum Done {
    /// What the step is for, with what is to be written down.
    Deployed(Vec<Container>),
    Plain,
    /// Not yet what the step is for: the containers are others than was written down, and it is begun again.
    Elsewhere(Vec<Container>),
    /// Not yet: nobody can say.
    Watches(Waiting),
}

/// Why it was not.
pub(super) enum Not {
    Later(Waiting),
    Ended(Outcome, Option<Fault>),
}

/// What the broker says where a secret that a container needs is not set.
const SECRET_MISSING: &str = "SECRET_MISSING";
/// What is told of an update after which what ran before runs again.
const TAKEN_BACK: &str = "UPDATE_TAKEN_BACK";
/// What the broker says of containers that ended as soon as they were started.
pub(super) const NOT_RUNNING: &str = "NOT_RUNNING";
/// How often they may, before an installation or a way back has failed: Docker may have been killed under them.
const ENDS: u32 = 3;

/// Does the step that a service is at.
pub(super) async fn step(app: &App, name: &str, tries: &mut Tries) -> Result<Stepped, ServiceError> {
    let service = app.store.read(|connection| table::get(connection, name))?;
    if service.phase == Phase::Installed {
        return look_after(app, service).await;
    }
    if service.phase == Phase::Failed(Doing::Updating) {
        return keep_up(app, service).await;
    }
    if !service.phase.is_under_way() {
        return Ok(Stepped::Idle);
    }
    if service.phase != Phase::Updating(Update::Health) {
        tries.trial = None;
    }
    let done = act(app, &service, tries).await?;
    let (outcome, fault, containers) = match done {
        Ok(Done::Plain) => (Outcome::Done, None, None),
        Ok(Done::Deployed(containers)) => (Outcome::Done, None, Some(containers)),
        Ok(Done::Watches(waiting)) => return Ok(Stepped::Watches(waiting)),
        Ok(Done::Elsewhere(containers)) => {
            commit(app, service, Some(containers)).await?;
            return Ok(Stepped::Moved);
        }
        Err(Not::Later(waiting)) => return Ok(Stepped::Later(waiting)),
        Err(Not::Ended(Outcome::Refused, Some(fault)))
            if may_end(service.phase) && fault.code == NOT_RUNNING && tries.ends < ENDS =>
        {
            return Ok(Stepped::Later(Waiting {
                code: fault.code,
                message: fault.message,
            }));
        }
        Err(Not::Ended(outcome, fault)) if tries.returns >= RETURNS => {
            (refused_at_last(outcome), fault, None)
        }
        Err(Not::Ended(outcome, fault)) => (outcome, fault, None),
    };
    write_down(app, service, outcome, fault, containers).await?;
    Ok(match outcome {
        Outcome::Done | Outcome::Refused => Stepped::Moved,
        Outcome::NoManifest | Outcome::NoImage => Stepped::Returned,
    })
}

/// Whether what ends as soon as it was started is started again: there is nothing to go back to.
fn may_end(phase: Phase) -> bool {
    matches!(
        phase,
        Phase::Installing(Install::Deploy) | Phase::Updating(Update::RollBack | Update::Revert)
    )
}

fn refused_at_last(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Done => Outcome::Done,
        Outcome::NoManifest | Outcome::NoImage | Outcome::Refused => Outcome::Refused,
    }
}

async fn act(
    app: &App,
    service: &StoredService,
    tries: &mut Tries,
) -> Result<Result<Done, Not>, ServiceError> {
    let plain = |done: Result<(), Not>| done.map(|()| Done::Plain);
    Ok(match service.phase {
        Phase::Installing(Install::Network) => {
            let kept = kept(app, &service.make)?;
            project::write(app, service, &kept).await;
            plain(netd_has(app, service).await)
        }
        Phase::Installing(Install::Manifest) | Phase::Updating(Update::Manifest) => {
            plain(put(app, &kept(app, &service.make)?).await)
        }
        Phase::Installing(Install::Images) | Phase::Updating(Update::Images) => {
            plain(pull(app, service, &service.make, &kept(app, &service.make)?).await)
        }
        Phase::Installing(Install::Deploy) | Phase::Updating(Update::Deploy) => {
            deploy(app, service, &service.make).await.map(Done::Deployed)
        }
        Phase::Updating(Update::Health) => trial::look(app, service, &mut tries.trial).await?,
        Phase::Updating(Update::RollBack | Update::Revert) => {
            let Some(back) = service.way_back() else {
                return Ok(Err(Not::Ended(Outcome::Refused, None)));
            };
            whole(app, service, back).await?.map(Done::Deployed)
        }
        Phase::Installing(Install::Publish) | Phase::Updating(Update::Publish) => {
            plain(netd_has(app, service).await)
        }
        Phase::Removing(Remove::Withdraw) => {
            if service.published {
                withdraw(app, service).await?;
            }
            let service = app
                .store
                .read(|connection| table::get(connection, service.name.as_str()))?;
            plain(netd_has_heard(app, &service).await)
        }
        Phase::Removing(Remove::Undeploy) => {
            let removing = app
                .deployments
                .remove(service.name.as_str(), service.delete_volumes);
            plain(removing.await.map_err(|fault| still(not(app, fault))))
        }
        Phase::Removing(Remove::Free) => {
            // An error is waited for: its row goes when nothing of it is anywhere.
            secrets::forget(app, service).await?;
            project::remove(app, service.name.as_str()).await;
            Ok(Done::Plain)
        }
        Phase::Installed | Phase::Failed(_) => Ok(Done::Plain),
    })
}

/// Writes down what follows, unless the service was asked for something else meanwhile: then that is what is done next.
async fn write_down(
    app: &App,
    mut service: StoredService,
    outcome: Outcome,
    fault: Option<Fault>,
    containers: Option<Vec<Container>>,
) -> Result<(), ServiceError> {
    let from = service.phase;
    let next = match from.after(outcome) {
        Next::Gone => return free(app, service).await,
        Next::Phase(next) => next,
    };
    if let Some(fault) = fault {
        service.fault = Some(told(fault, service.fault.take(), next));
    }
    match (from, outcome) {
        (Phase::Updating(Update::RollBack | Update::Revert), Outcome::Done) => {
            let former = service.former.take();
            service.make = service.good.take().or(former).unwrap_or(service.make);
        }
        // There is no way back now: what it is made of runs, though it does not work. The next update may find one.
        (Phase::Updating(Update::Revert), _) => {
            let former = service.former.take();
            service.good = service.good.take().or(former);
        }
        (Phase::Updating(Update::Health), Outcome::Done) => {
            (service.former, service.good) = (None, None);
        }
        (Phase::Updating(Update::Deploy) | Phase::Installing(Install::Publish), Outcome::Done) => {
            service.fault = None;
        }
        _ => {}
    }
    service.phase = next;
    let tells = containers.is_some() || !next.is_under_way();
    let name = service.name.to_string();
    if tells {
        commit(app, service, containers).await?;
    } else {
        let now = app.now();
        app.store
            .jot(move |connection| table::update(connection, &service, now))
            .await?;
        app.events.publish([Topic::Services]);
    }
    if next.is_kept_up() {
        app.services.saw(&name);
    }
    Ok(())
}

/// A fault of a step as it is told of the whole update.
fn told(fault: Fault, before: Option<Fault>, next: Phase) -> Fault {
    let Fault { code, message, at } = fault;
    match (next, before) {
        (Phase::Updating(Update::RollBack | Update::Revert), _) => Fault {
            message: format!("the update was taken back: {message} ({code})"),
            code: TAKEN_BACK.to_owned(),
            at,
        },
        (Phase::Failed(Doing::Updating), Some(before)) if before.code == TAKEN_BACK => Fault {
            message: format!("{message}; that was to run again, since {}", before.message),
            code,
            at,
        },
        (_, _) => Fault { code, message, at },
    }
}

async fn commit(
    app: &App,
    service: StoredService,
    containers: Option<Vec<Container>>,
) -> Result<(), ServiceError> {
    let kept = kept(app, &service.make)?;
    project::write(app, &service, &kept).await;
    let origin = Origin::new(&Actor::cell(), app.now());
    app.store
        .mutate(origin, move |tx| {
            let is_current = table::update(tx, &service, tx.now())?;
            audit(tx, &service, is_current);
            if let Some(containers) = containers {
                // They are there, whatever was asked for meanwhile; a removal takes them away.
                table::set_containers(tx, &service, &containers)?;
                if is_current {
                    table::publish(tx, service.name.as_str(), true)?;
                }
            }
            table::forget_unused_manifests(tx)?;
            tx.effects.topics.insert(Topic::Services);
            Ok(())
        })
        .await
}

fn audit(tx: &mut Tx<'_>, service: &StoredService, is_current: bool) {
    let detail = match &service.fault {
        _ if !is_current => "done, and something else was asked for meanwhile".to_owned(),
        Some(fault) => format!("{}: {}", service.phase, fault.code),
        None => service.phase.to_string(),
    };
    tx.audit("service.phase", &service.name, detail);
}

async fn free(app: &App, service: StoredService) -> Result<(), ServiceError> {
    let (name, range) = (service.name.to_string(), cell::identity(app)?.range);
    app.store
        .mutate(Origin::new(&Actor::cell(), app.now()), move |tx| {
            let data = if service.delete_volumes {
                "with its data"
            } else {
                "its data is kept"
            };
            tx.audit("service.gone", &service.name, data);
            table::release(tx, &range, &service)
        })
        .await?;
    app.services.lost(&name);
    Ok(())
}

async fn withdraw(app: &App, service: &StoredService) -> Result<(), ServiceError> {
    let name = service.name.clone();
    app.store
        .mutate(Origin::new(&Actor::cell(), app.now()), move |tx| {
            tx.audit("service.withdraw", &name, "no device reaches it any more");
            table::publish(tx, name.as_str(), false)
        })
        .await
}

/// Whether the broker is known to have it as it is to be: it was seen there, or it is to stay stopped.
fn is_looked_after(app: &App, service: &StoredService) -> bool {
    let name = service.name.as_str();
    if service.stopped {
        app.services.saw(name);
    }
    app.services.is_seen(name)
}

/// What is installed is there as it is to be: asked for again, which changes nothing where it is.
async fn look_after(app: &App, mut service: StoredService) -> Result<Stepped, ServiceError> {
    let name = service.name.to_string();
    if is_looked_after(app, &service) {
        return Ok(Stepped::Idle);
    }
    let made = match whole(app, &service, &service.make).await? {
        Ok(made) => made,
        Err(Not::Later(waiting)) => return Ok(Stepped::Later(waiting)),
        Err(Not::Ended(_, fault)) => {
            // It stays installed, and is asked for again when the broker is back.
            tracing::warn!(
                service = name,
                ?fault,
                "it is installed, and the broker refuses it"
            );
            service.fault = fault;
            app.services.saw(&name);
            commit(app, service, None).await?;
            return Ok(Stepped::Idle);
        }
    };
    let keeps = |fault: &Fault| fault.code == TAKEN_BACK;
    let is_mended = service.fault.as_ref().is_some_and(|fault| !keeps(fault));
    app.services.saw(&name);
    if made != service.containers || is_mended {
        service.fault = service.fault.filter(keeps);
        commit(app, service, Some(made)).await?;
    }
    Ok(Stepped::Idle)
}

/// What runs of an update that went no further runs on, after a boot too, when nobody else starts it. Nothing else is said of it: it is
/// for people to go on from there.
async fn keep_up(app: &App, service: StoredService) -> Result<Stepped, ServiceError> {
    let name = service.name.to_string();
    if is_looked_after(app, &service) {
        return Ok(Stepped::Idle);
    }
    let made = match whole(app, &service, service.in_force()).await? {
        Ok(made) => Some(made).filter(|made| *made != service.containers),
        Err(Not::Later(waiting)) => return Ok(Stepped::Later(waiting)),
        Err(Not::Ended(_, fault)) => {
            tracing::warn!(
                service = name,
                ?fault,
                "its update failed, and the broker refuses what ran of it"
            );
            None
        }
    };
    app.services.saw(&name);
    if made.is_some() {
        commit(app, service, made).await?;
    }
    Ok(Stepped::Idle)
}

/// What would become of one whose installation went no further.
pub(super) enum Retried {
    /// It is there.
    Goes,
    /// Nobody can say now.
    Unknown,
    /// Still refused, for this reason.
    Refused(Option<Fault>),
}

/// Does all that was refused again, and writes nothing down.
pub(super) async fn retry(app: &App, service: &StoredService) -> Result<Retried, ServiceError> {
    Ok(match whole(app, service, &service.make).await? {
        Ok(_) => Retried::Goes,
        Err(Not::Later(_)) => Retried::Unknown,
        Err(Not::Ended(_, fault)) => Retried::Refused(fault),
    })
}

/// Writes down another reason for the same phase.
pub(super) async fn note_fault(
    app: &App,
    mut service: StoredService,
    fault: Fault,
) -> Result<(), ServiceError> {
    service.fault = Some(fault);
    commit(app, service, None).await
}

/// All steps at the broker at once, for what was there before.
pub(super) async fn whole(
    app: &App,
    service: &StoredService,
    make: &Make,
) -> Result<Result<Vec<Container>, Not>, ServiceError> {
    let kept = kept(app, make)?;
    // Without signatures there is nothing that it could go by instead.
    let mut is_handed_in = kept.signature.is_empty() && kept.images.is_empty();
    for _ in 0..=RETURNS {
        let missing = match deploy(app, service, make).await {
            Err(Not::Ended(outcome @ (Outcome::NoManifest | Outcome::NoImage), _)) => outcome,
            // It goes by the signatures that it was given once, and there may be others since.
            Err(Not::Ended(Outcome::Refused, Some(fault))) if !is_handed_in && fault.code == "DENIED" => {
                is_handed_in = true;
                Outcome::NoManifest
            }
            other => return Ok(other),
        };
        let mended = match missing {
            Outcome::NoManifest => put(app, &kept).await,
            Outcome::NoImage | Outcome::Done | Outcome::Refused => pull(app, service, make, &kept).await,
        };
        if let Err(not) = mended {
            return Ok(Err(not));
        }
    }
    Ok(deploy(app, service, make).await)
}

pub(super) fn kept(app: &App, make: &Make) -> Result<KeptManifest, ServiceError> {
    app.store
        .read(|connection| table::manifest(connection, &make.digest))
}

async fn put(app: &App, kept: &KeptManifest) -> Result<(), Not> {
    app.deployments.put(kept).await.map_err(|fault| not(app, fault))
}

async fn pull(app: &App, service: &StoredService, make: &Make, kept: &KeptManifest) -> Result<(), Not> {
    if !plan::fetches(&kept.manifest) {
        return Ok(());
    }
    let name = service.name.as_str();
    let mut told: Option<Instant> = None;
    let pulling = app.deployments.pull(&make.digest, |answer| {
        let live = Live {
            progress: Some(Progress {
                image: answer.image,
                status: answer.status,
                current_bytes: answer.current_bytes,
                total_bytes: answer.total_bytes,
            }),
            waiting: None,
        };
        let is_news = app.services.note(name, live);
        if is_news && told.is_none_or(|at| at.elapsed() >= TELL) {
            told = Some(Instant::now());
            app.events.publish([Topic::Services]);
        }
    });
    pulling.await.map_err(|fault| not(app, fault))
}

async fn deploy(app: &App, service: &StoredService, make: &Make) -> Result<Vec<Container>, Not> {
    netd_has(app, service).await?;
    has_its_secrets(app, service, make).await?;
    let place = service.network.as_ref();
    let deploying = app.deployments.deploy(make, &service.instance, place);
    let deployed = deploying.await.map_err(|fault| not(app, fault))?;
    let is_there = place
        .is_none_or(|place| deployed.bridge == place.bridge() && deployed.subnet == place.subnet.to_string());
    let elsewhere = || {
        let message = format!("the broker made it on {} ({})", deployed.bridge, deployed.subnet);
        Not::Ended(Outcome::Refused, Some(fault_at(app, "PLACE_DIFFERS", message)))
    };
    if !is_there {
        return Err(elsewhere());
    }
    containers(&deployed).ok_or_else(elsewhere)
}

/// What vaultd makes for it is made. Vaultd that is away is waited for.
async fn has_its_secrets(app: &App, service: &StoredService, make: &Make) -> Result<(), Not> {
    let generated = async {
        let manifest = kept(app, make)?.manifest;
        secrets::generate(app, service, &manifest).await
    };
    generated.await.map_err(|error| {
        Not::Later(Waiting {
            code: error.kind().1.to_owned(),
            message: format!("secrets of the service are not made: {error}"),
        })
    })
}

/// The containers of a deployment; none when an address is none.
pub(super) fn containers(deployed: &Deployment) -> Option<Vec<Container>> {
    let made = deployed.containers.iter().map(|one| {
        Some(Container {
            name: one.name.clone(),
            handle: one.handle.clone(),
            address: one.address.parse().ok()?,
        })
    });
    made.collect()
}

/// netd judges by the network before there is a bridge.
async fn netd_has(app: &App, service: &StoredService) -> Result<(), Not> {
    netd_has_heard(app, service).await?;
    match app.services.netd_refuses(service.name.as_str()) {
        None => Ok(()),
        Some(why) => {
            let fault = fault_at(app, "NETWORK_REFUSED", format!("netd refuses of it: {why}"));
            Err(Not::Ended(Outcome::Refused, Some(fault)))
        }
    }
}

async fn netd_has_heard(app: &App, service: &StoredService) -> Result<(), Not> {
    app.network.wait_for(service.generation, PATIENCE).await;
    if app.network.holds(service.generation) {
        return Ok(());
    }
    Err(Not::Later(Waiting {
        code: "NETD".to_owned(),
        message: "netd, which judges what the service sends, has not heard of the change yet".to_owned(),
    }))
}

fn not(app: &App, fault: BrokerFault) -> Not {
    match fault {
        BrokerFault::Later { code, message } => Not::Later(Waiting { code, message }),
        // Somebody is to set it; until then what runs goes on.
        BrokerFault::Refused { code, message } if code == SECRET_MISSING => {
            Not::Later(Waiting { code, message })
        }
        BrokerFault::Refused { code, message } => {
            let outcome = match code.as_str() {
                "NO_MANIFEST" => Outcome::NoManifest,
                "IMAGE_ABSENT" => Outcome::NoImage,
                _ => Outcome::Refused,
            };
            Not::Ended(outcome, Some(fault_at(app, &code, message)))
        }
    }
}

/// What Docker does not remove now it may a moment later, when what it was at is over: somebody was killed meanwhile. There is
/// nothing else to do with a service that goes.
fn still(not: Not) -> Not {
    match not {
        Not::Ended(Outcome::Refused, Some(Fault { code, message, at: _ })) if code == "DOCKER_REFUSED" => {
            Not::Later(Waiting { code, message })
        }
        not @ (Not::Ended(..) | Not::Later(_)) => not,
    }
}

pub(super) fn fault_at(app: &App, code: &str, message: String) -> Fault {
    Fault {
        code: code.to_owned(),
        message,
        at: app.now(),
    }
}
