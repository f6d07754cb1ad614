//! What requests and the reconciler share: changes that netd is to hear of, and what it confirmed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cell_api_core::derive::PeerSpec;
use cell_proto::netd::v1::NetworkStatus;
use tokio::sync::{Notify, watch};

use crate::store::transaction::NetworkChange;

/// Most peers in one difference (`network_service.proto`); beyond it everything is sent.
const MAX_DELTA: usize = 1_000;

/// What requests and the reconciler share.
#[derive(Debug)]
pub struct Network {
    pending: Mutex<Pending>,
    wake: Notify,
    observed: watch::Sender<u64>,
    status: watch::Sender<Option<NetworkStatus>>,
}

/// Committed and not yet confirmed.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// 0: nothing.
    pub generation: u64,
    /// Whether only the whole will do.
    pub all: bool,
    /// By name; `None` is a removal. The last change of a name counts.
    pub peers: BTreeMap<String, Option<PeerSpec>>,
}

impl Default for Network {
    fn default() -> Self {
        Network {
            pending: Mutex::default(),
            wake: Notify::new(),
            observed: watch::Sender::new(0),
            status: watch::Sender::new(None),
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
                NetworkChange::All => pending.all = true,
                NetworkChange::Upserted(spec) => drop(pending.peers.insert(spec.name.clone(), Some(spec))),
                NetworkChange::Removed(name) => drop(pending.peers.insert(name, None)),
            }
        }
        if pending.all || pending.peers.len() > MAX_DELTA {
            // Everything is read from the database then; what is waiting here would only grow while netd is away.
            pending.all = true;
            pending.peers.clear();
        }
        self.wake.notify_one();
    }

    /// Waits for a change.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The generation that netd confirmed last; 0 before the first.
    pub fn observed(&self) -> u64 {
        *self.observed.borrow()
    }

    /// Waits for a generation, at most `patience`; the generation that is confirmed then.
    pub async fn wait_for(&self, generation: u64, patience: Duration) -> u64 {
        let mut observed = self.observed.subscribe();
        let _ = tokio::time::timeout(patience, observed.wait_for(|observed| *observed >= generation)).await;
        self.observed()
    }

    /// netd's last status; `None` while it is not reachable.
    pub fn status(&self) -> Option<NetworkStatus> {
        self.status.borrow().clone()
    }

    /// What is committed and not yet confirmed; it is the reconciler's from now on.
    pub(crate) fn take(&self) -> Pending {
        std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// netd has a generation.
    pub(crate) fn confirm(&self, generation: u64) {
        self.observed
            .send_if_modified(|observed| std::mem::replace(observed, generation.max(*observed)) < generation);
    }

    /// netd said something of itself, or is lost.
    pub(crate) fn see(&self, status: Option<NetworkStatus>) {
        self.status.send_replace(status);
    }
}
