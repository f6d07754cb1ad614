//! Peers of the device: what they lose comes before the policy, what they gain after it.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::desired::{Delta, Desired, Peer};
use crate::model::PublicKey;
use crate::observed::{Device, DevicePeer};

/// A change of some peers of a device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerUpdate {
    /// To add or change, by key. An endpoint of none leaves the peer's as it is.
    pub upserted: BTreeMap<PublicKey, DevicePeer>,
    /// To take away.
    pub removed: BTreeSet<PublicKey>,
}

impl PeerUpdate {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.upserted.is_empty() && self.removed.is_empty()
    }
}

#[derive(Default)]
pub(super) struct Updates {
    /// Peers that go, and addresses that peers lose.
    pub losses: PeerUpdate,
    /// Peers that come, and everything else.
    pub gains: PeerUpdate,
}

impl Updates {
    /// With its session: what it has is not what netd gave it, and cannot be taken back in place.
    fn anew(&mut self, peer: &Peer) {
        self.losses.removed.insert(peer.key);
        self.gains.upserted.insert(peer.key, device_peer(peer, true));
    }

    fn update(&mut self, peer: &Peer, before: Option<&DevicePeer>, mut after: DevicePeer) {
        let key = peer.key;
        if let Some(before) = before
            && !before.allowed_ips.is_subset(&after.allowed_ips)
        {
            let allowed_ips: BTreeSet<IpNet> = &before.allowed_ips & &after.allowed_ips;
            // One that keeps no address has nothing that a live session could be for.
            if allowed_ips.is_empty() {
                self.losses.removed.insert(key);
                after.endpoint = peer.endpoint;
            } else {
                let kept = DevicePeer {
                    endpoint: None,
                    keepalive: after.keepalive,
                    allowed_ips,
                };
                let finished = kept == after;
                self.losses.upserted.insert(key, kept);
                if finished {
                    return;
                }
            }
        }
        self.gains.upserted.insert(key, after);
    }
}

/// From what the device has. Peers that it should not have go.
pub(super) fn between(desired: &Desired, accepted: Option<&Desired>, device: Option<&Device>) -> Updates {
    let mut updates = Updates::default();
    let none = BTreeMap::new();
    let present = device.map_or(&none, |device| &device.peers);
    updates.losses.removed = present
        .keys()
        .filter(|key| desired.name_of_key(key).is_none())
        .copied()
        .collect();
    for peer in desired.peers().values() {
        let before = present.get(&peer.key);
        if device.is_some_and(|device| device.preshared.contains(&peer.key)) {
            updates.anew(peer);
            continue;
        }
        // By its key, as the device knows it: another name is no other peer.
        let previous = accepted.and_then(|state| state.peers().get(state.name_of_key(&peer.key)?));
        let set_endpoint = match before {
            None => true,
            Some(DevicePeer { endpoint: None, .. }) => peer.endpoint.is_some(),
            // The device's endpoint roams; only a new wish overrides what it learned.
            Some(_) => peer.endpoint.is_some() && previous.is_some_and(|old| old.endpoint != peer.endpoint),
        };
        let after = device_peer(peer, set_endpoint);
        let same = before.is_some_and(|before| {
            before.keepalive == after.keepalive && before.allowed_ips == after.allowed_ips && !set_endpoint
        });
        if !same {
            updates.update(peer, before, after);
        }
    }
    updates
}

/// From one accepted state to the next.
pub(super) fn of_delta(delta: &Delta) -> Updates {
    let mut updates = Updates::default();
    for change in delta.changes().values() {
        let (before, after) = (change.before.as_deref(), change.after.as_deref());
        if let Some(before) = before
            && after.is_none_or(|after| after.key != before.key)
        {
            updates.losses.removed.insert(before.key);
        }
        let Some(after) = after else { continue };
        let before = before.filter(|before| before.key == after.key);
        let set_endpoint = before.is_none_or(|before| before.endpoint != after.endpoint);
        let known = before.map(|before| device_peer(before, false));
        let wanted = device_peer(after, set_endpoint);
        let same = known.as_ref().is_some_and(|known| {
            known.keepalive == wanted.keepalive && known.allowed_ips == wanted.allowed_ips && !set_endpoint
        });
        if !same {
            updates.update(after, known.as_ref(), wanted);
        }
    }
    updates
}

/// What the device must have of the peers that a change touches, once it is done; none: the peer must be gone.
pub fn expected_peers(delta: &Delta) -> BTreeMap<PublicKey, Option<DevicePeer>> {
    let changes = || delta.changes().values();
    let gone = changes()
        .filter_map(|change| change.before.as_deref())
        .map(|peer| (peer.key, None));
    // A key that another peer gave up may be this one's.
    let there = changes()
        .filter_map(|change| change.after.as_deref())
        .map(|peer| (peer.key, Some(device_peer(peer, true))));
    gone.chain(there).collect()
}

/// Whether the device, of which `found` is read back, has what was expected. Endpoints roam and are left aside.
pub fn peers_hold(
    expected: &BTreeMap<PublicKey, Option<DevicePeer>>,
    found: &BTreeMap<PublicKey, DevicePeer>,
) -> bool {
    expected
        .iter()
        .all(|(key, wanted)| match (wanted, found.get(key)) {
            (None, None) => true,
            (Some(wanted), Some(found)) => {
                wanted.keepalive == found.keepalive && wanted.allowed_ips == found.allowed_ips
            }
            (None, Some(_)) | (Some(_), None) => false,
        })
}

fn device_peer(peer: &Peer, set_endpoint: bool) -> DevicePeer {
    DevicePeer {
        endpoint: peer.endpoint.filter(|_| set_endpoint),
        keepalive: peer.keepalive,
        allowed_ips: peer.allowed_ips(),
    }
}
