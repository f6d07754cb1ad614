//! The peers as they were asked for, and what must change in a device to get there. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use ipnet::IpNet;
use zeroize::Zeroizing;

/// X25519 public key of a peer, its identity.
pub type PublicKey = [u8; 32];

/// A preshared key. Never shown, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct PresharedKey(Zeroizing<[u8; 32]>);

impl PresharedKey {
    /// `None` if it does not have 32 bytes, or all of them are zero, which is how the protocol says that there is none.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let key = <[u8; 32]>::try_from(bytes).map(Zeroizing::new).ok()?;
        (*key != [0; 32]).then_some(PresharedKey(key))
    }

    /// The bytes, for the device alone.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey")
    }
}

/// A peer as the device is to have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its identity.
    pub key: PublicKey,
    /// Where to find it; `None` leaves what was learned from its packets.
    pub endpoint: Option<SocketAddr>,
    /// Seconds; 0 is off.
    pub keepalive: u16,
    /// Without host bits.
    pub allowed_ips: BTreeSet<IpNet>,
    /// Mixed into its handshakes.
    pub preshared: Option<PresharedKey>,
}

/// What to do to a device, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Peers that go, with their sessions. One that is among the added too begins anew.
    pub removed: Vec<PublicKey>,
    /// Peers that stay, with their sessions, but differ.
    pub modified: Vec<Peer>,
    /// Peers that come.
    pub added: Vec<Peer>,
}

impl Changes {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }
}

/// The peers of one device.
///
/// Each allowed IP belongs to one peer; asking for it with another peer moves it, as in the kernel (wg(8)). Kept here,
/// because the library's table moves it and its list of the former owner does not.
#[derive(Debug, Default)]
pub struct Peers {
    by_key: BTreeMap<PublicKey, Peer>,
    owner: BTreeMap<IpNet, PublicKey>,
}

impl Peers {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// The peer of that key.
    pub fn get(&self, key: &PublicKey) -> Option<&Peer> {
        self.by_key.get(key)
    }

    /// All of them, by key.
    pub fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.by_key.values()
    }

    /// Makes `all` the whole set. Keys and allowed IPs are unique within it.
    pub fn replace(&mut self, all: Vec<Peer>) -> Changes {
        let kept: BTreeSet<PublicKey> = all.iter().map(|peer| peer.key).collect();
        let removed: Vec<_> = self
            .by_key
            .keys()
            .filter(|key| !kept.contains(*key))
            .copied()
            .collect();
        self.change(all, &removed)
    }

    /// Adds or replaces `upserted` and removes `removed`, ignoring the absent. Keys and allowed IPs are unique within
    /// the request. Costs what the request costs, however many peers there are.
    /// A peer without a preshared key keeps the one that it has.
    pub fn update(&mut self, mut upserted: Vec<Peer>, removed: &[PublicKey]) -> Changes {
        for peer in upserted.iter_mut().filter(|peer| peer.preshared.is_none()) {
            let present = self.by_key.get(&peer.key);
            peer.preshared = present.and_then(|present| present.preshared.clone());
        }
        self.change(upserted, removed)
    }

    fn change(&mut self, upserted: Vec<Peer>, removed: &[PublicKey]) -> Changes {
        let mut removed: Vec<_> = removed.iter().filter(|key| self.remove(key)).copied().collect();
        let mut modified = BTreeSet::new();
        let mut added = BTreeSet::new();
        for peer in upserted {
            let key = peer.key;
            match self.by_key.get(&key) {
                Some(present) if same(present, &peer) => continue,
                // A session that was agreed on with another key is not one of this peer.
                Some(present) if present.preshared != peer.preshared => {
                    removed.push(key);
                    added.insert(key)
                }
                Some(_) => modified.insert(key),
                None => added.insert(key),
            };
            modified.extend(
                self.insert(peer)
                    .into_iter()
                    .filter(|loser| !added.contains(loser)),
            );
        }
        modified.retain(|key| !added.contains(key));
        let take = |keys: BTreeSet<PublicKey>| {
            keys.iter()
                .filter_map(|key| self.by_key.get(key).cloned())
                .collect()
        };
        Changes {
            removed,
            modified: take(modified),
            added: take(added),
        }
    }

    fn remove(&mut self, key: &PublicKey) -> bool {
        let Some(peer) = self.by_key.remove(key) else {
            return false;
        };
        for prefix in &peer.allowed_ips {
            self.owner.remove(prefix);
        }
        true
    }

    /// Puts a peer in and answers who lost an allowed IP to it.
    fn insert(&mut self, mut peer: Peer) -> Vec<PublicKey> {
        if let Some(before) = self.by_key.remove(&peer.key) {
            for prefix in before.allowed_ips.difference(&peer.allowed_ips) {
                self.owner.remove(prefix);
            }
            peer.endpoint = peer.endpoint.or(before.endpoint);
        }
        let mut losers = Vec::new();
        for prefix in &peer.allowed_ips {
            let Some(before) = self
                .owner
                .insert(*prefix, peer.key)
                .filter(|owner| *owner != peer.key)
            else {
                continue;
            };
            if let Some(loser) = self.by_key.get_mut(&before) {
                loser.allowed_ips.remove(prefix);
                losers.push(before);
            }
        }
        self.by_key.insert(peer.key, peer);
        losers
    }
}

/// Whether asking for `wanted` changes nothing in `present`.
fn same(present: &Peer, wanted: &Peer) -> bool {
    present.keepalive == wanted.keepalive
        && present.allowed_ips == wanted.allowed_ips
        && present.preshared == wanted.preshared
        && (wanted.endpoint.is_none() || wanted.endpoint == present.endpoint)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn peer(id: u8, allowed_ips: &[&str]) -> Peer {
        let allowed_ips = allowed_ips.iter().map(|prefix| prefix.parse().unwrap()).collect();
        Peer {
            key: [id; 32],
            endpoint: None,
            keepalive: 0,
            allowed_ips,
            preshared: None,
        }
    }

    fn peers(all: &[Peer]) -> Peers {
        let mut peers = Peers::default();
        peers.replace(all.to_vec());
        peers
    }

    #[test]
    fn the_same_again_changes_nothing() {
        let all = [peer(1, &["10.0.0.1/32"]), peer(2, &["10.0.0.2/32"])];
        assert!(peers(&all).replace(all.to_vec()).is_empty());
    }

    #[test]
    fn only_what_differs_is_touched() {
        let mut peers = peers(&[peer(1, &["10.0.0.1/32"]), peer(2, &["10.0.0.2/32"]), peer(3, &[])]);
        let wider = peer(2, &["10.0.0.2/32", "fd00::2/128"]);
        let changes = peers.replace(vec![peer(1, &["10.0.0.1/32"]), wider.clone(), peer(4, &[])]);
        assert_eq!(
            changes,
            Changes {
                removed: vec![[3; 32]],
                modified: vec![wider],
                added: vec![peer(4, &[])]
            }
        );
        assert_eq!(peers.len(), 3);
    }

    #[test]
    fn an_unset_endpoint_leaves_the_present_one() {
        let mut at = peer(1, &[]);
        at.endpoint = Some("192.0.2.1:51820".parse().unwrap());
        let mut peers = peers(&[at.clone()]);
        assert!(peers.update(vec![peer(1, &[])], &[]).is_empty());
        at.keepalive = 25;
        let changes = peers.update(
            vec![Peer {
                endpoint: None,
                ..at.clone()
            }],
            &[],
        );
        assert_eq!(changes.modified, [at]);
    }

    #[test]
    fn another_preshared_key_begins_the_session_anew_and_an_update_without_one_keeps_it() {
        let with = |byte| Peer {
            preshared: PresharedKey::from_slice(&[byte; 32]),
            ..peer(1, &["10.0.0.1/32"])
        };
        let mut peers = peers(&[with(5)]);
        assert!(
            peers.update(vec![peer(1, &["10.0.0.1/32"])], &[]).is_empty(),
            "kept"
        );
        assert!(peers.replace(vec![with(5)]).is_empty(), "the control");
        let anew = |peer: Peer| Changes {
            removed: vec![[1; 32]],
            modified: vec![],
            added: vec![peer],
        };
        assert_eq!(peers.update(vec![with(6)], &[]), anew(with(6)));
        let none = peer(1, &["10.0.0.1/32"]);
        assert_eq!(
            peers.replace(vec![none.clone()]),
            anew(none),
            "the whole set says that there is none"
        );
        assert_eq!(PresharedKey::from_slice(&[0; 32]), None);
        assert_eq!(
            format!("{:?}", PresharedKey::from_slice(&[5; 32])),
            "Some(PresharedKey)"
        );
    }

    #[test]
    fn an_allowed_ip_has_one_owner_and_moves_to_the_last_that_asks() {
        let mut peers = peers(&[peer(1, &["10.0.0.1/32", "10.1.0.0/16"])]);
        let taker = peer(2, &["10.1.0.0/16"]);
        let changes = peers.update(vec![taker.clone()], &[]);
        assert_eq!(
            changes,
            Changes {
                removed: vec![],
                modified: vec![peer(1, &["10.0.0.1/32"])],
                added: vec![taker]
            }
        );
        // The former owner going away does not free what it no longer has.
        peers.update(vec![], &[[1; 32]]);
        assert_eq!(peers.owner.len(), 1);
    }

    #[test]
    fn swapped_allowed_ips_end_swapped() {
        let mut peers = peers(&[peer(1, &["10.0.0.1/32"]), peer(2, &["10.0.0.2/32"])]);
        let swapped = vec![peer(1, &["10.0.0.2/32"]), peer(2, &["10.0.0.1/32"])];
        assert_eq!(peers.update(swapped.clone(), &[]).modified, swapped);
        assert!(peers.replace(swapped).is_empty());
    }

    #[test]
    fn a_key_may_come_back_with_another_peers_address() {
        let mut peers = peers(&[peer(1, &["10.0.0.1/32"])]);
        let changes = peers.update(vec![peer(2, &["10.0.0.1/32"])], &[[1; 32], [9; 32]]);
        assert_eq!(changes.removed, [[1; 32]]);
        assert_eq!(changes.added, [peer(2, &["10.0.0.1/32"])]);
        assert!(changes.modified.is_empty());
    }
}
