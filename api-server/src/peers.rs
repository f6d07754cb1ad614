//! Peers in memory: what every reader looks at. The database holds the same and is the truth at a start; what is here
//! follows its commits, in their order and never before them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::store::peers::StoredPeer;

/// What a commit made of a peer.
#[derive(Debug)]
pub enum PeerChange {
    /// It was added or altered.
    Put(Arc<StoredPeer>),
    /// It was removed.
    Removed(String),
}

/// All peers, by name.
#[derive(Debug, Default)]
pub struct Peers(RwLock<BTreeMap<String, Arc<StoredPeer>>>);

impl Peers {
    /// Takes the changes of one commit, or at the start what the database holds. Readers see all of them or none.
    pub fn apply(&self, changes: impl IntoIterator<Item = PeerChange>) {
        let mut peers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                PeerChange::Put(stored) => drop(peers.insert(stored.peer.name.to_string(), stored)),
                PeerChange::Removed(name) => drop(peers.remove(&name)),
            }
        }
    }

    /// One peer.
    pub fn get(&self, name: &str) -> Option<Arc<StoredPeer>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    /// All peers, in the order of names.
    pub fn list(&self) -> Vec<Arc<StoredPeer>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }
}
