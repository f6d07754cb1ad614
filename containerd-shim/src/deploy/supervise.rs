//! Starts again what ended, as the manifest says, in the boot in which somebody asked for it; and tells what all containers do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cell_broker_core::Verb;
use cell_broker_core::model::{ContainerId, ServiceName};
use cell_broker_core::supervise::{Decision, Seen, Tries, Wanted, decide};
use cell_proto::ipc::Caller;
use tokio::sync::mpsc;

use super::store::{Made, Record};
use super::{DeployRefusal, Deployments};
use crate::audit::Subject;
use crate::broker::Refusal;
use crate::engine::{Condition, EngineError};

/// How often all containers are looked at when nothing is told: events can be lost.
const SLOW_LOOK: Duration = Duration::from_secs(30);
/// What is told within this is looked at once.
const GATHER: Duration = Duration::from_millis(200);
/// Until secrets of a container are asked for again, which could not be had.
const SECRETS_AGAIN: Duration = Duration::from_secs(5);
/// Until Docker is asked for events again, after it ended them.
const EVENTS_AGAIN: Duration = Duration::from_secs(2);
/// How long a verb waits for a deployment that is under way.
const TURN: Duration = Duration::from_secs(20);

/// A service, and what its containers do: in the order of the record's, none where Docker did not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// As it was made.
    pub record: Record,
    /// What Docker says of each container.
    pub seen: Vec<Option<Condition>>,
}

impl Deployments {
    /// Looks whenever something happens, and now and then. Does not end.
    pub async fn supervise(self: Arc<Self>) {
        let this = Arc::clone(&self);
        tokio::spawn(async move {
            loop {
                // Docker that is away is in the status, and in the log of whoever asks for more than this.
                let _ = this.maker.follow(&this.look).await;
                this.look.notify_one();
                tokio::time::sleep(EVENTS_AGAIN).await;
            }
        });
        let (began, mut tries) = (Instant::now(), BTreeMap::new());
        loop {
            let next = self.look_at_all(&mut tries, began).await;
            let told = tokio::time::timeout(next, self.look.notified()).await.is_ok();
            if told {
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    /// Notes for a verb on a deployed container whether it is to run from now on, before anything is done.
    pub(crate) async fn intend(&self, service: &ServiceName, verb: Verb) -> Result<(), DeployRefusal> {
        let stopped = match verb {
            Verb::Start | Verb::Restart => false,
            Verb::Stop => true,
            Verb::List
            | Verb::Show
            | Verb::Logs
            | Verb::Backup
            | Verb::Stats
            | Verb::Reload
            | Verb::PutManifest
            | Verb::Deploy
            | Verb::Remove
            | Verb::Pull => return Ok(()),
        };
        let _turn = tokio::time::timeout(TURN, self.turn.lock())
            .await
            .map_err(|_| Refusal::Busy)?;
        for mut record in self.records().into_values() {
            let live = record.live.iter_mut().flat_map(|live| &mut live.containers);
            let mut found = false;
            for made in live.filter(|made| made.handle == service.as_str()) {
                made.stopped = stopped;
                made.boot = Some(self.boot.as_str().to_owned());
                found = true;
            }
            if found {
                self.write(&record)?;
                if !stopped {
                    let live = record.live.iter().flat_map(|live| &live.containers);
                    let started: Vec<Made> = live
                        .filter(|made| made.handle == service.as_str())
                        .cloned()
                        .collect();
                    self.deliver(&record.service, &started).await?;
                }
                return Ok(());
            }
        }
        Ok(())
    }

    /// What all deployed containers do: the last look, and each that differs from the one before. Slow readers miss those between.
    pub fn watch(&self, caller: &Caller) -> Result<mpsc::Receiver<Arc<Vec<Snapshot>>>, DeployRefusal> {
        let subject = Subject::new(caller, Verb::List, "");
        let watcher = Arc::clone(&self.watchers).try_acquire_owned().map_err(|_| {
            subject.refused(Refusal::Busy.code());
            Refusal::Busy
        })?;
        subject.allowed("");
        let mut told = self.told.subscribe();
        let (answers, answered) = mpsc::channel(1);
        tokio::spawn(async move {
            let _watcher = watcher;
            loop {
                let last = told.borrow_and_update().clone();
                // Before the first look nothing is known: that is not the same as nothing.
                if let Some(last) = last
                    && answers.send(last).await.is_err()
                {
                    return;
                }
                tokio::select! {
                    changed = told.changed() => if changed.is_err() { return },
                    () = answers.closed() => return,
                }
            }
        });
        Ok(answered)
    }

    /// Until the next look.
    async fn look_at_all(&self, tries: &mut BTreeMap<String, Tries>, began: Instant) -> Duration {
        let (mut next, mut snapshots, mut kept) = (SLOW_LOOK, Vec::new(), BTreeMap::new());
        for record in self.list() {
            let mut seen = Vec::new();
            for made in record.live.iter().flat_map(|live| &live.containers) {
                let condition = self.condition(made).await;
                if let (Some(condition), Some(id)) = (&condition, &made.id) {
                    let before = tries.get(id).copied().unwrap_or_default();
                    let now = Seen {
                        state: condition.state,
                        exit_code: condition.exit_code,
                    };
                    let (decision, after) = decide(self.wanted(made), now, before, began.elapsed());
                    kept.insert(id.clone(), after);
                    match decision {
                        Decision::Leave => {}
                        Decision::Wait(wait) => next = next.min(wait),
                        Decision::Start => {
                            if self.start_again(&record.service, made).await {
                                next = next.min(GATHER);
                            } else {
                                // That vaultd is away counts for no try.
                                kept.insert(id.clone(), before);
                                next = next.min(SECRETS_AGAIN);
                            }
                        }
                    }
                }
                seen.push(condition);
            }
            snapshots.push(Snapshot { record, seen });
        }
        *tries = kept;
        self.told.send_if_modified(|told| {
            let changed = told.as_deref() != Some(&snapshots);
            if changed {
                *told = Some(Arc::new(snapshots));
            }
            changed
        });
        next
    }

    async fn condition(&self, made: &Made) -> Option<Condition> {
        let id = ContainerId::try_from(made.id.as_deref()?).ok()?;
        self.maker.condition(&id).await.ok()
    }

    fn wanted(&self, made: &Made) -> Wanted {
        Wanted {
            restart: made.restart.into(),
            this_boot: made.boot.as_deref() == Some(self.boot.as_str()),
            stopped: made.stopped,
        }
    }

    /// In the turn of changes, and only if nothing has changed since it was decided. False: its secrets cannot be had now.
    async fn start_again(&self, service: &str, decided: &Made) -> bool {
        let _turn = self.turn.lock().await;
        let records = self.records();
        let same = records.get(service).is_some_and(|record| {
            let mut live = record.live.iter().flat_map(|live| &live.containers);
            record.next.is_none() && record.removing.is_none() && live.any(|made| made == decided)
        });
        let id = decided
            .id
            .as_deref()
            .and_then(|id| ContainerId::try_from(id).ok());
        let (true, Some(id)) = (same, id) else {
            return true;
        };
        let delivered = self.deliver(service, std::slice::from_ref(decided)).await;
        let outcome = match &delivered {
            Ok(()) => match self.maker.start_container(&id).await {
                Ok(()) => "done",
                Err(EngineError::Gone) => "GONE",
                Err(error) => Refusal::from(error).code(),
            },
            Err(refusal) => refusal.code(),
        };
        let service = decided.handle.as_str();
        tracing::info!(target: "audit", verb = "start-again", service, container = id.as_str(), outcome, "act of the broker's own");
        delivered.is_ok()
    }
}
