//! Brings services of the store to what was asked for, one step after the other: netd has the network before the broker makes a
//! bridge, and devices are kept from a service before its containers go. A step can be done twice: whoever is killed, here or at the
//! broker, begins with the step again. After a start, and when the broker is back, all that is installed is asked for again.

pub mod own;
mod project;
mod step;
mod trial;
pub mod watch;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cell_api_core::services::phase::Phase;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::events::Topic;
use crate::service::{ServiceError, store};
use crate::services::{Live, Waiting};
use crate::store::services::{self as table, StoredService};
use step::{Stepped, Tries};

const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(15);
/// How often it is looked whether new containers work, though the broker told nothing.
const TRIAL_LOOK: Duration = Duration::from_secs(1);
/// How often it is compared what the broker has, though it told nothing.
const LOOK: Duration = Duration::from_secs(10);

/// Runs until `shutdown`.
pub async fn run(app: Arc<App>, shutdown: CancellationToken) {
    let mut keeper = Keeper {
        app,
        at_work: Arc::default(),
        tasks: TaskTracker::new(),
        // Whatever was seen was seen by this process.
        broker_was_there: true,
        next_look: Instant::now(),
        is_handed_over: false,
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = keeper.keep(&shutdown) => {}
    }
    keeper.tasks.close();
    keeper.tasks.wait().await;
}

/// Services that somebody works on.
type AtWork = Arc<Mutex<BTreeSet<String>>>;

struct Keeper {
    app: Arc<App>,
    at_work: AtWork,
    tasks: TaskTracker,
    broker_was_there: bool,
    next_look: Instant,
    /// Whether no peer has grants of its own to a service's address.
    is_handed_over: bool,
}

impl Keeper {
    async fn keep(&mut self, shutdown: &CancellationToken) {
        self.app.set_up().await;
        let mut wishes = self.app.services.wishes();
        let mut heard = self.app.services.heard();
        let mut before = *heard.borrow();
        loop {
            wishes.borrow_and_update();
            let now = *heard.borrow_and_update();
            if now.losses != before.losses {
                self.broker_was_there = false;
            }
            if now != before {
                self.next_look = Instant::now();
            }
            before = now;
            let all = match self.app.store.read_much(table::list).await {
                Ok(all) => all,
                Err(error) => {
                    tracing::warn!(%error, "services cannot be read");
                    Vec::new()
                }
            };
            if Instant::now() >= self.next_look {
                self.look(&all).await;
                self.next_look = Instant::now() + LOOK;
            }
            for service in all.iter().filter(|one| self.has_work(one)) {
                self.begin(service.name.as_str(), shutdown);
            }
            tokio::select! {
                _ = wishes.changed() => {}
                _ = heard.changed() => {}
                () = tokio::time::sleep_until(self.next_look) => {}
            }
        }
    }

    fn has_work(&self, service: &StoredService) -> bool {
        let is_to_be_seen = !self.app.services.is_seen(service.name.as_str());
        service.phase.is_under_way() || service.phase.is_kept_up() && is_to_be_seen
    }

    /// What the broker has against what it is to have.
    async fn look(&mut self, all: &[StoredService]) {
        if !self.is_handed_over {
            match store::hand_over(&self.app).await {
                Ok(()) => self.is_handed_over = true,
                Err(error) => {
                    tracing::warn!(%error, "grants of services' addresses are left among peers' own")
                }
            }
        }
        if all.is_empty() {
            return;
        }
        let Ok(deployed) = self.app.deployments.list().await else {
            self.broker_was_there = false;
            return;
        };
        if !std::mem::replace(&mut self.broker_was_there, true) {
            self.app.services.lost_all();
            return;
        }
        for service in all
            .iter()
            .filter(|one| one.phase == Phase::Installed && !one.stopped)
        {
            let name = service.name.as_str();
            let is_as_was_made = deployed.get(name).is_some_and(|one| {
                let made = step::containers(one).unwrap_or_default();
                one.manifest_digest == service.make.digest && made == service.containers
            });
            if !is_as_was_made && self.app.services.is_seen(name) {
                tracing::info!(service = name, "the broker has it otherwise; asking for it again");
                self.app.services.lost(name);
            }
        }
    }

    /// Works on a service until nothing is left to do, unless somebody does.
    fn begin(&self, name: &str, shutdown: &CancellationToken) {
        if !lock(&self.at_work).insert(name.to_owned()) {
            return;
        }
        let worker = Worker {
            app: Arc::clone(&self.app),
            name: name.to_owned(),
        };
        let (at_work, shutdown) = (Arc::clone(&self.at_work), shutdown.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                // What the broker was asked for it goes on with; the step is done again after a start.
                () = shutdown.cancelled() => {}
                () = worker.work() => {}
            }
            lock(&at_work).remove(&worker.name);
            // What was asked for in between is looked at again.
            worker.app.services.wished();
        });
    }
}

struct Worker {
    app: Arc<App>,
    name: String,
}

impl Worker {
    async fn work(&self) {
        let (mut backoff, mut wishes) = (FIRST_BACKOFF, self.app.services.wishes());
        let mut heard = self.app.services.heard();
        let mut tries = Tries::default();
        loop {
            wishes.borrow_and_update();
            heard.borrow_and_update();
            let stepped = match step::step(&self.app, &self.name, &mut tries).await {
                Ok(stepped) => stepped,
                Err(ServiceError::NoService) => return self.tell(Live::default()),
                Err(error) => Stepped::Later(Waiting {
                    code: error.kind().1.to_owned(),
                    message: error.to_string(),
                }),
            };
            match stepped {
                Stepped::Idle => return self.tell(Live::default()),
                Stepped::Moved => {
                    backoff = FIRST_BACKOFF;
                    self.tell(Live::default());
                }
                Stepped::Returned => tries.returns += 1,
                Stepped::Watches(waiting) => {
                    backoff = FIRST_BACKOFF;
                    self.tell_waiting(waiting);
                    tokio::select! {
                        () = tokio::time::sleep(TRIAL_LOOK) => {}
                        _ = heard.changed() => {}
                        _ = wishes.changed() => {}
                    }
                }
                Stepped::Later(waiting) => {
                    tries.ends += u32::from(waiting.code == step::NOT_RUNNING);
                    self.tell_waiting(waiting);
                    tokio::select! {
                        () = tokio::time::sleep(backoff) => backoff = (backoff * 2).min(LONGEST_BACKOFF),
                        _ = wishes.changed() => {}
                    }
                }
            }
        }
    }

    fn tell_waiting(&self, waiting: Waiting) {
        self.tell(Live {
            progress: None,
            waiting: Some(waiting),
        });
    }

    fn tell(&self, live: Live) {
        if self.app.services.note(&self.name, live) {
            self.app.events.publish([Topic::Services]);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
