//! What is known of connections at this moment: whether each works, since when, and why that is thought. It is kept
//! nowhere else: after a start nothing is known, and so nothing is taken for working.

mod watch;

pub use watch::{now, watch};

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use cell_api_core::connection::health::Health;
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::connection::judge::{Judged, Relayed};
use tokio::sync::{Notify, watch as watch_channel};

/// How long the first look at connections is waited for, at the most.
const FIRST_LOOK: Duration = Duration::from_secs(3);

/// What is known of all connections.
#[derive(Debug, Default)]
pub struct Exits {
    state: RwLock<State>,
    /// Whether they were looked at since the start.
    looked: watch_channel::Sender<bool>,
    /// Told when they must be judged anew.
    pub(crate) look: Notify,
}

#[derive(Debug, Default)]
struct State {
    judged: BTreeMap<ConnectionId, Judged>,
    /// By id, with netd's words.
    refused_by_netd: BTreeMap<String, String>,
    egress: Egress,
}

/// What `cell-egress` was told and says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Egress {
    /// Whether it answers.
    pub reachable: bool,
    /// Exits that it does not take, with its words.
    pub refused: BTreeMap<ConnectionId, String>,
    /// What it saw of the others.
    pub seen: BTreeMap<ConnectionId, Relayed>,
}

impl Exits {
    /// Whether a connection works.
    pub fn health(&self, id: &ConnectionId) -> Health {
        self.read()
            .judged
            .get(id)
            .map_or(Health::Unknown, |judged| judged.health)
    }

    /// What is thought of a connection; `None` before it was judged.
    pub fn judged(&self, id: &ConnectionId) -> Option<Judged> {
        self.read().judged.get(id).cloned()
    }

    /// Takes new judgements in the place of all before; the connections whose health is another now, each with what it was.
    pub(crate) fn judge(&self, new: BTreeMap<ConnectionId, Judged>) -> Vec<(ConnectionId, Health)> {
        let mut state = self.write();
        let before = std::mem::replace(&mut state.judged, new);
        let health_of = |id| before.get(id).map_or(Health::Unknown, |judged| judged.health);
        let all = state.judged.iter();
        all.map(|(id, judged)| (*id, health_of(id), judged.health))
            .filter(|(_, was, is)| was != is)
            .map(|(id, was, _)| (id, was))
            .collect()
    }

    /// Waits until connections were looked at once, so that a start does not send those who fail open another way while
    /// their exits work; not for ever, since a revocation may wait behind it.
    pub(crate) async fn looked_at(&self) {
        let mut looked = self.looked.subscribe();
        let _ = tokio::time::timeout(FIRST_LOOK, looked.wait_for(|looked| *looked)).await;
    }

    /// They were looked at.
    pub(crate) fn note_look(&self) {
        self.looked.send_replace(true);
    }

    /// What netd does not take.
    pub(crate) fn refused_by_netd(&self, refused: &BTreeMap<String, String>) {
        let mut state = self.write();
        if state.refused_by_netd != *refused {
            state.refused_by_netd.clone_from(refused);
            self.look.notify_one();
        }
    }

    /// Why netd does not take a connection, if it does not.
    pub(crate) fn netd_refuses(&self, id: &ConnectionId) -> Option<String> {
        self.read().refused_by_netd.get(&id.to_string()).cloned()
    }

    /// What `cell-egress` says.
    pub(crate) fn see_egress(&self, egress: Egress) {
        self.write().egress = egress;
    }

    /// What `cell-egress` said last.
    pub(crate) fn egress(&self) -> Egress {
        self.read().egress.clone()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
