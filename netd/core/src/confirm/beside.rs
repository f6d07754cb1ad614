//! What is taken away while a change waits is taken from the state before it too, so that no rollback gives it back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::desired::{Access, Delta, Desired, Peer, PeerChange};
use crate::model::{PeerName, PublicKey};

/// Whether a change does nothing but take away: peers, or parts of their access.
pub fn takes_away(delta: &Delta) -> bool {
    delta
        .changes()
        .values()
        .all(|change| match (&change.before, &change.after) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(before), Some(after)) => {
                let bare = |peer: &Peer| Peer {
                    access: Access::default(),
                    ..peer.clone()
                };
                let (had, has) = (&before.access, &after.access);
                bare(before) == bare(after) && *has == common(had, has)
            }
        })
}

/// The peers that a request names, as it leaves them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    left: BTreeMap<PeerName, Option<Arc<Peer>>>,
    /// Keys that these peers had or have, with their names: in the state before, a peer may have another name.
    keys: BTreeMap<PublicKey, PeerName>,
}

impl Beside {
    /// Of the names in a request: `delta` is what it changes in `pending`. Named peers that it does not change there count
    /// too, for the state before may have more of them.
    pub fn of(names: impl IntoIterator<Item = PeerName>, delta: &Delta, pending: &Desired) -> Self {
        let mut beside = Beside {
            left: BTreeMap::new(),
            keys: BTreeMap::new(),
        };
        for name in names {
            let now = pending.peers().get(&name);
            let after = match delta.changes().get(&name) {
                Some(change) => change.after.as_ref(),
                None => now,
            };
            let keys = now.into_iter().chain(after).map(|peer| (peer.key, name.clone()));
            beside.keys.extend(keys);
            beside.left.insert(name, after.cloned());
        }
        beside
    }

    /// What it takes from the state before: a peer of that name or key has no more than the request leaves it.
    pub fn from_last_good(&self, last_good: &Desired) -> Delta {
        let by_key = self.keys.iter().filter_map(|(key, name)| {
            let before = last_good.name_of_key(key)?;
            Some((before.clone(), name))
        });
        let by_name = self.left.keys().map(|name| (name.clone(), name));
        let named: BTreeSet<(PeerName, &PeerName)> = by_key.chain(by_name).collect();
        let mut changes: BTreeMap<PeerName, PeerChange> = BTreeMap::new();
        for (before_name, name) in named {
            let Some(before) = last_good.peers().get(&before_name) else {
                continue;
            };
            let change = changes.entry(before_name).or_insert_with(|| PeerChange {
                before: Some(Arc::clone(before)),
                after: Some(Arc::clone(before)),
            });
            let left = self.left.get(name).and_then(Option::as_ref);
            change.after = match (change.after.take(), left) {
                (Some(peer), Some(left)) => Some(Arc::new(Peer {
                    access: common(&peer.access, &left.access),
                    ..(*peer).clone()
                })),
                (None, _) | (_, None) => None,
            };
        }
        changes.retain(|_, change| change.before != change.after);
        Delta(changes)
    }
}

/// What both allow.
fn common(one: &Access, other: &Access) -> Access {
    Access {
        internet: one.internet && other.internet,
        peer_to_peer: one.peer_to_peer && other.peer_to_peer,
        services: one.services.intersection(&other.services).copied().collect(),
    }
}
