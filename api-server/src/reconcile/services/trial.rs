//! The step of an update in which its new containers show that they work. What that means is the core's to say
//! (`cell_api_core::services::trial`); here they are looked at, and time passes.

use std::time::Instant;

use cell_api_core::services::health::Seen;
use cell_api_core::services::phase::Outcome;
use cell_api_core::services::trial::{self, Verdict};

use super::step::{Done, Not, fault_at, kept, whole};
use crate::app::App;
use crate::daemons::deployments::BrokerFault;
use crate::http::dto::convert::state_name;
use crate::service::ServiceError;
use crate::services::Waiting;
use crate::store::services::{Fault, StoredService};

/// What a step says that waits for it.
const HEALTH: &str = "HEALTH";

/// What the broker says where Docker refused what it asked.
const DOCKER_REFUSED: &str = "DOCKER_REFUSED";
/// And where it has no such container.
const NOT_OWNED: &str = "NOT_OWNED";
/// And where it, or Docker, has too much to do: whatever runs goes on.
const TOO_MUCH: [&str; 2] = ["BUSY", "DOCKER_SLOW"];

/// New containers that are looked at, and since when.
pub(super) struct Trial {
    seen: trial::Trial,
    began: Instant,
}

/// Why nobody can say how they are.
enum Unseen {
    /// The broker or Docker has too much to do; of which container, by its name in the manifest.
    Busy(String, Waiting),
    /// One of them is away, or may have been.
    Away(Waiting),
    /// The broker refuses to tell of one, and would again.
    Refused(Fault),
}

/// Looks at them once. Without memory - after a start, and whenever the broker or Docker was away - they are asked for again and
/// their time begins anew: nobody looked meanwhile, and after a boot nobody has started them.
pub(super) async fn look(
    app: &App,
    service: &StoredService,
    memory: &mut Option<Trial>,
) -> Result<Result<Done, Not>, ServiceError> {
    // What was gone back to is taken as it is.
    if service.former.is_none() {
        return Ok(Ok(Done::Plain));
    }
    let mut trial = match memory.take() {
        Some(trial) => trial,
        None => match whole(app, service, &service.make).await? {
            Ok(made) if made != service.containers => return Ok(Ok(Done::Elsewhere(made))),
            Ok(_) => Trial {
                seen: trial::Trial::default(),
                began: Instant::now(),
            },
            Err(not) => return Ok(Err(not)),
        },
    };
    let (seen, after) = (seen(app, service).await, trial.began.elapsed());
    let manifest = kept(app, &service.make)?.manifest;
    let verdict = match seen {
        Ok(seen) => trial.seen.see(&manifest, &seen, after),
        Err(Unseen::Busy(container, waiting)) => match trial::unseen(&manifest, &container, after) {
            Some(failure) => Verdict::Fails(failure),
            None => {
                *memory = Some(trial);
                return Ok(Ok(Done::Watches(waiting)));
            }
        },
        Err(Unseen::Away(waiting)) => return Ok(Err(Not::Later(waiting))),
        Err(Unseen::Refused(fault)) => return Ok(Err(Not::Ended(Outcome::Refused, Some(fault)))),
    };
    *memory = Some(trial);
    Ok(match verdict {
        Verdict::Works => Ok(Done::Plain),
        Verdict::Waits(message) => Ok(Done::Watches(Waiting {
            code: HEALTH.to_owned(),
            message,
        })),
        Verdict::Fails(failure) => {
            let fault = fault_at(app, failure.code(), failure.message());
            Err(Not::Ended(Outcome::Refused, Some(fault)))
        }
    })
}

/// The containers as the broker has them now; what it does not have is left out. By their handles, and not from what it told last:
/// that may still be of those before.
async fn seen(app: &App, service: &StoredService) -> Result<Vec<Seen>, Unseen> {
    let mut all = Vec::new();
    for made in &service.containers {
        let name = &made.name;
        match app.deployments.container(&made.handle).await {
            Ok(now) => all.push(Seen {
                name: name.clone(),
                state: state_name(now.state()).to_owned(),
                exit_code: now.exit_code,
                started_unix_ms: now.started_unix_ms,
                health: now.health,
            }),
            Err(BrokerFault::Later { code, message }) if TOO_MUCH.contains(&code.as_str()) => {
                return Err(Unseen::Busy(name.clone(), Waiting { code, message }));
            }
            Err(BrokerFault::Later { code, message }) => return Err(Unseen::Away(Waiting { code, message })),
            // Docker could not say; what is so for good the next Deploy is told too.
            Err(BrokerFault::Refused { code, message }) if code == DOCKER_REFUSED => {
                return Err(Unseen::Away(Waiting { code, message }));
            }
            Err(BrokerFault::Refused { code, .. }) if code == NOT_OWNED => {}
            Err(BrokerFault::Refused { code, message }) => {
                let why = format!(
                    "the new container {name} cannot be looked at: {message}. Fix: see what the broker's policy says of it, \
                     and update again"
                );
                return Err(Unseen::Refused(fault_at(app, &code, why)));
            }
        }
    }
    Ok(all)
}
