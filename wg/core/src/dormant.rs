//! Which peers a device need not have yet. Pure.
//!
//! The library walks all its peers four times a second, and holds 30 kB for each. A peer without an endpoint cannot be spoken to
//! before it speaks: until then the device does without it.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::peers::{Changes, Peer, Peers, PublicKey};

/// The peers that have not been heard of since the device began.
#[derive(Debug, Default)]
pub struct Dormant {
    keys: BTreeSet<PublicKey>,
    /// Nobody is left out any more.
    is_over: bool,
}

impl Dormant {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.keys.iter()
    }

    /// Whether the peer is one.
    pub fn contains(&self, key: &PublicKey) -> bool {
        self.keys.contains(key)
    }

    /// What of changes is to be done to the device, which led to `peers`: who comes without an endpoint becomes dormant, who is given
    /// one is added.
    ///
    /// Where prefixes may lie in one another nobody is dormant: what is for a peer that the device does not have would go to the one
    /// with the wider prefix (WireGuard, section 2).
    pub fn admit(&mut self, changes: Changes, peers: &Peers) -> Changes {
        let Changes {
            removed,
            modified,
            added,
        } = changes;
        let removed = removed.into_iter().filter(|key| !self.keys.remove(key)).collect();
        let is_nested = added.iter().chain(&modified).any(has_wide);
        let (dormant, modified): (Vec<_>, Vec<_>) =
            modified.into_iter().partition(|peer| self.keys.remove(&peer.key));
        let comes = dormant.into_iter().chain(added);
        let mut added: Vec<Peer> = Vec::new();
        if is_nested {
            self.is_over = true;
            let woken = std::mem::take(&mut self.keys);
            added.extend(woken.iter().filter_map(|key| peers.get(key)).cloned());
        }
        added.extend(comes.filter(|peer| !self.keep(peer)));
        Changes {
            removed,
            modified,
            added,
        }
    }

    /// The device has this peer now.
    pub fn wake(&mut self, key: &PublicKey) {
        self.keys.remove(key);
    }

    /// Nobody becomes dormant from now on.
    pub fn end(&mut self) {
        self.is_over = true;
    }

    fn keep(&mut self, peer: &Peer) -> bool {
        let is_dormant = !self.is_over && peer.endpoint.is_none();
        if is_dormant {
            self.keys.insert(peer.key);
        }
        is_dormant
    }
}

fn has_wide(peer: &Peer) -> bool {
    let is_host = |prefix: &IpNet| prefix.prefix_len() == prefix.max_prefix_len();
    !peer.allowed_ips.iter().all(is_host)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn peer(id: u8, endpoint: Option<&str>) -> Peer {
        Peer {
            key: [id; 32],
            endpoint: endpoint.map(|at| at.parse().unwrap()),
            keepalive: 25,
            allowed_ips: BTreeSet::new(),
            preshared: None,
        }
    }

    fn added(peers: &[Peer]) -> Changes {
        Changes {
            added: peers.to_vec(),
            ..Changes::default()
        }
    }

    fn known(all: &[Peer]) -> Peers {
        let mut peers = Peers::default();
        peers.replace(all.to_vec());
        peers
    }

    const AT: Option<&str> = Some("192.0.2.1:51820");

    #[test]
    fn who_has_no_endpoint_is_left_out_until_it_speaks() {
        let mut dormant = Dormant::default();
        let all = [peer(1, None), peer(2, AT), peer(3, None)];
        assert_eq!(dormant.admit(added(&all), &known(&all)), added(&[peer(2, AT)]));
        assert_eq!(dormant.iter().collect::<Vec<_>>(), [&[1; 32], &[3; 32]]);
        dormant.wake(&[3; 32]);
        assert!(dormant.contains(&[1; 32]) && !dormant.contains(&[3; 32]));
        assert_eq!(dormant.len(), 1);
    }

    #[test]
    fn changes_of_who_is_left_out_do_not_reach_the_device() {
        let mut dormant = Dormant::default();
        let all = [peer(1, None), peer(2, None), peer(3, None)];
        dormant.admit(added(&all), &known(&all));
        dormant.wake(&[3; 32]);
        let changes = Changes {
            removed: vec![[2; 32], [3; 32]],
            modified: vec![peer(1, None), peer(4, AT)],
            // Its preshared key is another one: it begins anew.
            added: vec![peer(2, None)],
        };
        let told = Changes {
            removed: vec![[3; 32]],
            modified: vec![peer(4, AT)],
            added: vec![],
        };
        let all = [peer(1, None), peer(2, None), peer(4, AT)];
        assert_eq!(dormant.admit(changes, &known(&all)), told);
        assert_eq!(dormant.len(), 2);
    }

    #[test]
    fn who_is_given_an_endpoint_is_added_and_not_modified() {
        let mut dormant = Dormant::default();
        dormant.admit(added(&[peer(1, None)]), &known(&[peer(1, None)]));
        let changes = Changes {
            modified: vec![peer(1, AT)],
            ..Changes::default()
        };
        assert_eq!(
            dormant.admit(changes, &known(&[peer(1, AT)])),
            added(&[peer(1, AT)])
        );
        assert!(dormant.is_empty());
    }

    #[test]
    fn where_a_prefix_may_lie_in_another_nobody_is_left_out() {
        let of = |id, prefix: &str| Peer {
            allowed_ips: [prefix.parse().unwrap()].into(),
            ..peer(id, None)
        };
        let mut dormant = Dormant::default();
        let hosts = [of(1, "10.0.0.1/32"), of(2, "fd00::2/128")];
        assert_eq!(dormant.admit(added(&hosts), &known(&hosts)), added(&[]));
        let all = [&hosts[..], &[of(3, "10.0.0.0/8"), of(4, "10.0.0.4/32")]].concat();
        assert_eq!(
            dormant.admit(added(&all[2..]), &known(&all)),
            added(&all),
            "what is for 10.0.0.1 must not go to the third"
        );
        assert!(dormant.is_empty());
        let late = [of(5, "10.0.0.5/32")];
        assert_eq!(dormant.admit(added(&late), &known(&late)), added(&late));
    }
}
