//! What requests and the reconciler share: changes that netd is to hear of, and what became of them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cell_proto::common::v1::{Condition, ConditionStatus};
use cell_proto::netd::v1::{ExitStatus, NetworkStatus};
use tokio::sync::{Notify, watch};

use crate::store::transaction::NetworkChange;

/// Most peers in one difference (`network_service.proto`); beyond it everything is sent.
pub(crate) const MAX_DELTA: usize = 1_000;

/// What requests and the reconciler share.
#[derive(Debug)]
pub struct Network {
    pending: Mutex<Pending>,
    wake: Notify,
    reached: watch::Sender<Reached>,
    status: watch::Sender<Option<NetworkStatus>>,
    accepted: Mutex<Accepted>,
    /// The last generation whose change was to wait and changed nothing for netd; 0: none.
    kept: AtomicU64,
}

/// Committed and not yet confirmed.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// 0: nothing.
    pub generation: u64,
    /// Whether only the whole will do.
    pub all: bool,
    /// Names of peers that were added, altered or removed. What became of one is looked up when netd is told, so that the
    /// last state counts.
    pub peers: BTreeSet<String>,
}

impl Pending {
    /// Everything is read from the database beyond what one difference holds; what is waiting here would only grow while
    /// netd is away.
    fn bound(&mut self) {
        if self.all || self.peers.len() > MAX_DELTA {
            self.all = true;
            self.peers.clear();
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.generation == 0 && !self.all && self.peers.is_empty()
    }
}

/// How far netd has come; 0 before the first.
#[derive(Debug, Clone, Copy, Default)]
struct Reached {
    /// The generation that netd was asked for last, and answered.
    answered: u64,
    /// The generation that it has as a whole.
    observed: u64,
}

/// What netd makes of what it was asked for.
#[derive(Debug, Default)]
struct Accepted {
    etag: Option<String>,
    trouble: Option<Trouble>,
    since_unix_ms: i64,
}

/// Why netd does not have everything that it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// netd's stable code.
    pub reason: String,
    /// For people: what is refused and why.
    pub message: String,
}

impl Default for Network {
    fn default() -> Self {
        Network {
            pending: Mutex::default(),
            wake: Notify::new(),
            reached: watch::Sender::default(),
            status: watch::Sender::new(None),
            accepted: Mutex::default(),
            kept: AtomicU64::new(0),
        }
    }
}

impl Network {
    /// Takes the changes of one commit. Called in commit order.
    pub fn changed(&self, generation: u64, changes: Vec<NetworkChange>) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.generation = generation;
        for change in changes {
            match change {
                NetworkChange::All | NetworkChange::Closed => pending.all = true,
                NetworkChange::Peer(name) | NetworkChange::Reduced(name) | NetworkChange::Removed(name) => {
                    pending.peers.insert(name);
                }
            }
        }
        pending.bound();
        self.wake.notify_one();
    }

    /// These peers may have to go another way, though nothing was committed: what carries them works, or does not any more.
    pub(crate) fn rerouted(&self, peers: impl IntoIterator<Item = String>) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.peers.extend(peers);
        pending.bound();
        self.wake.notify_one();
    }

    /// All is to be told again, though nothing was committed.
    pub(crate) fn again(&self) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).all = true;
        self.wake.notify_one();
    }

    /// Waits for a change.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The generation that netd confirmed last; 0 before the first.
    pub fn observed(&self) -> u64 {
        self.reached.borrow().observed
    }

    /// Waits until netd has answered for a generation, at most `patience`; the generation that is confirmed then.
    pub async fn wait_for(&self, generation: u64, patience: Duration) -> u64 {
        let mut reached = self.reached.subscribe();
        let answered = reached.wait_for(|reached| reached.answered >= generation);
        let _ = tokio::time::timeout(patience, answered).await;
        self.observed()
    }

    /// The change of a generation, which was to wait, is nothing to netd and in force.
    pub(crate) fn keep(&self, generation: u64) {
        self.kept.fetch_max(generation, Ordering::SeqCst);
    }

    /// Whether it is.
    pub(crate) fn was_kept(&self, generation: u64) -> bool {
        self.kept.load(Ordering::SeqCst) >= generation
    }

    /// Whether netd has a generation, perhaps without some peers that it refuses.
    pub(crate) fn holds(&self, generation: u64) -> bool {
        self.etag().is_some() && self.reached.borrow().answered >= generation
    }

    /// netd's last status; `None` while it is not reachable.
    pub fn status(&self) -> Option<NetworkStatus> {
        self.status.borrow().clone()
    }

    /// Whether netd is.
    pub(crate) fn is_reachable(&self) -> bool {
        self.status.borrow().is_some()
    }

    /// What netd says of the tunnel of an exit; `None`: nothing.
    pub(crate) fn exit(&self, id: &str) -> Option<ExitStatus> {
        let status = self.status.borrow();
        let exits = &status.as_ref()?.exits;
        exits.iter().find(|exit| exit.id == id).cloned()
    }

    /// What netd says of itself, and whether it took what it was asked for; `None` while it is not reachable.
    pub fn conditions(&self) -> Option<Vec<Condition>> {
        let mut conditions = self.status()?.conditions;
        let accepted = self.accepted();
        let (status, reason, message) = match &accepted.trouble {
            Some(trouble) => (ConditionStatus::False, &*trouble.reason, &*trouble.message),
            None => (
                ConditionStatus::True,
                "ACCEPTED",
                "netd took all that it was asked for",
            ),
        };
        conditions.push(Condition {
            r#type: "SpecAccepted".to_owned(),
            status: status.into(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_unix_ms: accepted.since_unix_ms,
        });
        Some(conditions)
    }

    /// What a difference can be made against; `None` while netd has nothing of ours.
    pub fn etag(&self) -> Option<String> {
        self.accepted().etag.clone()
    }

    /// What is committed and not yet confirmed; it is the reconciler's from now on.
    pub(crate) fn take(&self) -> Pending {
        std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// netd has something of ours, or nothing that we know.
    pub(crate) fn set_etag(&self, etag: Option<String>) {
        self.accepted().etag = etag;
    }

    /// netd has answered for a generation, and has it as a whole unless there is trouble. Whether that is news.
    pub(crate) fn answered(&self, generation: u64, trouble: Option<Trouble>, now: i64) -> bool {
        let observed = if trouble.is_none() { generation } else { 0 };
        let mut accepted = self.accepted();
        let turned = accepted.trouble.is_some() != trouble.is_some();
        let news = accepted.trouble != trouble;
        if turned || accepted.since_unix_ms == 0 {
            accepted.since_unix_ms = now;
        }
        accepted.trouble = trouble;
        drop(accepted);
        let moved = self.reached.send_if_modified(|reached| {
            let before = *reached;
            reached.answered = reached.answered.max(generation);
            reached.observed = reached.observed.max(observed);
            reached.answered != before.answered || reached.observed != before.observed
        });
        news || moved
    }

    /// netd said something of itself, or is lost. Whether that differs from before in what anybody shows: packets are
    /// dropped all the time, and what moves in tunnels is judged by who watches them.
    pub(crate) fn see(&self, status: Option<NetworkStatus>) -> bool {
        let shown = |status: &Option<NetworkStatus>| {
            let mut status = status.clone();
            if let Some(status) = &mut status {
                status.drops.clear();
                for exit in &mut status.exits {
                    exit.latest_handshake_unix_ms = 0;
                    (exit.received_bytes, exit.sent_bytes) = (0, 0);
                }
            }
            status
        };
        let differs = shown(&status) != shown(&self.status.borrow());
        self.status.send_replace(status);
        differs
    }

    fn accepted(&self) -> std::sync::MutexGuard<'_, Accepted> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
