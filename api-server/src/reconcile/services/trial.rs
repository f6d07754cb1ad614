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
use crate::store::services::StoredService;

/// What a step says that waits for it.
const HEALTH: &str = "HEALTH";

/// What the broker says where Docker refused what it asked.
const DOCKER_REFUSED: &str = "DOCKER_REFUSED";

/// New containers that are looked at, and since when.
pub(super) struct Trial {
    seen: trial::Trial,
    began: Instant,
}

/// Looks at them once. Without memory - after a start, and whenever the broker or Docker did not answer - they are asked for again and
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
    let seen = match seen(app, service).await {
        Ok(seen) => seen,
        Err(waiting) => return Ok(Err(Not::Later(waiting))),
    };
    let manifest = kept(app, &service.make)?.manifest;
    let verdict = trial.seen.see(&manifest, &seen, trial.began.elapsed());
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
async fn seen(app: &App, service: &StoredService) -> Result<Vec<Seen>, Waiting> {
    let mut all = Vec::new();
    for made in &service.containers {
        match app.deployments.container(&made.handle).await {
            Ok(now) => all.push(Seen {
                name: made.name.clone(),
                state: state_name(now.state()).to_owned(),
                exit_code: now.exit_code,
                started_unix_ms: now.started_unix_ms,
                health: now.health,
            }),
            Err(BrokerFault::Later { code, message }) => return Err(Waiting { code, message }),
            // Docker could not say; what is so for good the next Deploy is told too.
            Err(BrokerFault::Refused { code, message }) if code == DOCKER_REFUSED => {
                return Err(Waiting { code, message });
            }
            Err(BrokerFault::Refused { .. }) => {}
        }
    }
    Ok(all)
}
