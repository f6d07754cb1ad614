//! Peers in memory: what every reader looks at. The database holds the same and is the truth at a start; what is here
//! follows its commits, in their order and never before them.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use cell_api_core::access::MAX_SERVICES_IN_ALL;
use cell_api_core::peer::MAX_PEERS;

use crate::service::ServiceError;
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
pub struct Peers(RwLock<All>);

#[derive(Debug, Default)]
struct All {
    /// Hashed: one peer is asked for far more often than all.
    by_name: HashMap<String, Arc<StoredPeer>>,
    /// Services of all peers together.
    services: usize,
}

impl Peers {
    /// Takes the changes of one commit, or at the start what the database holds. Readers see all of them or none.
    pub fn apply(&self, changes: impl IntoIterator<Item = PeerChange>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            let gone = match change {
                PeerChange::Put(stored) => {
                    all.services += services(&stored);
                    all.by_name.insert(stored.peer.name.to_string(), stored)
                }
                PeerChange::Removed(name) => all.by_name.remove(&name),
            };
            all.services -= gone.as_deref().map_or(0, services);
        }
    }

    /// Whether there is room for `after` in place of `before`, or beside all others. Exact only on the writer's thread,
    /// where no commit can come between.
    ///
    /// # Errors
    /// [`ServiceError::TooManyPeers`], [`ServiceError::TooManyServices`].
    pub fn room_for(&self, before: Option<&StoredPeer>, after: &StoredPeer) -> Result<(), ServiceError> {
        let all = self.read();
        if before.is_none() && all.by_name.len() >= MAX_PEERS {
            return Err(ServiceError::TooManyPeers);
        }
        let (had, has) = (before.map_or(0, services), services(after));
        // Who gives services back is never refused.
        if has > had && all.services - had + has > MAX_SERVICES_IN_ALL {
            return Err(ServiceError::TooManyServices);
        }
        Ok(())
    }

    /// One peer.
    pub fn get(&self, name: &str) -> Option<Arc<StoredPeer>> {
        self.read().by_name.get(name).cloned()
    }

    /// All peers, in the order of names.
    pub fn list(&self) -> Vec<Arc<StoredPeer>> {
        let mut all: Vec<_> = self.read().by_name.values().cloned().collect();
        all.sort_unstable_by(|one, other| one.peer.name.cmp(&other.peer.name));
        all
    }

    fn read(&self) -> RwLockReadGuard<'_, All> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn services(stored: &StoredPeer) -> usize {
    stored.peer.access.services.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::net::{IpAddr, Ipv6Addr};

    use cell_api_core::access::{AccessPolicy, MAX_SERVICES, Protocol, Service, Tunnel};
    use cell_api_core::connection::choice::{ExitChoice, Route};
    use cell_api_core::connection::id::ConnectionId;
    use cell_api_core::derive::{self, NetworkSettings};
    use cell_api_core::key::PublicKey;
    use cell_api_core::name::PeerName;
    use cell_api_core::peer::Peer;
    use cell_api_core::range::{self, VpnRange};
    use cell_api_core::services::{self, entry::Entry};
    use cell_proto::ipc::serve::MAX_MESSAGE_BYTES;
    use prost::Message;

    use super::*;
    use crate::daemons::netd;

    fn stored(number: u32, services: usize) -> Arc<StoredPeer> {
        let service = |port: usize| Service {
            address: IpAddr::V6(Ipv6Addr::from_bits(u128::MAX >> 8)),
            protocol: Protocol::Udp,
            port: u16::try_from(65_535 - port).unwrap(),
        };
        let mut key = [0xff; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        let peer = Peer {
            name: PeerName::parse(&format!("{number:x<64}")).unwrap(),
            public_key: PublicKey::from_bytes(&key).unwrap(),
            host: range().host(number + 2).unwrap(),
            access: AccessPolicy {
                internet: true,
                peer_to_peer: true,
                services: (0..services).map(service).collect(),
            },
            tunnel: Tunnel::Split,
            exit: ExitChoice::default(),
        };
        Arc::new(StoredPeer {
            peer,
            config_fingerprint: [0; 32],
            created_unix_ms: 0,
            derived: Default::default(),
        })
    }

    fn range() -> VpnRange {
        let (v4, v6) = (range::parse_v4("10.0.0.0/8"), range::parse_v6("fd00::/64"));
        VpnRange::new(v4.unwrap(), v6.unwrap()).unwrap()
    }

    /// As many peers as there may be, with as many services as all may have.
    fn full() -> Vec<Arc<StoredPeer>> {
        let with_services = (MAX_SERVICES_IN_ALL / MAX_SERVICES) as u32;
        (0..MAX_PEERS as u32)
            .map(|n| stored(n, if n < with_services { MAX_SERVICES } else { 0 }))
            .collect()
    }

    #[test]
    fn a_full_cell_refuses_more_and_gives_room_back() {
        let peers = Peers::default();
        peers.apply(full().into_iter().map(PeerChange::Put));
        let one_more = stored(MAX_PEERS as u32, 0);
        assert!(matches!(
            peers.room_for(None, &one_more),
            Err(ServiceError::TooManyPeers)
        ));
        let last = stored(MAX_PEERS as u32 - 1, 0);
        let richer = stored(MAX_PEERS as u32 - 1, MAX_SERVICES);
        assert!(matches!(
            peers.room_for(Some(&last), &richer),
            Err(ServiceError::TooManyServices)
        ));
        let (rich, poorer) = (stored(0, MAX_SERVICES), stored(0, MAX_SERVICES - 1));
        assert!(peers.room_for(Some(&rich), &poorer).is_ok());
        peers.apply([PeerChange::Removed(rich.peer.name.to_string())]);
        assert!(peers.room_for(None, &one_more).is_ok());
        assert!(peers.room_for(Some(&last), &richer).is_ok());
    }

    #[test]
    fn a_full_cell_fits_one_message_to_netd() {
        let settings = NetworkSettings {
            interface: "wg0".to_owned(),
            listen_port: 51820,
            https_port: 443,
            https_target_port: 3443,
        };
        let full = full();
        let exit = ConnectionId::from_random([0xff; 16]);
        let peers = full.iter().map(|stored| (&stored.peer, Route::Exit(exit)));
        let mut spec = derive::network_spec(&settings, Some(&range()), peers, Vec::new(), None);
        // And what services may be granted to them, with as many entries as there may be.
        let at = |n: usize| Service {
            address: IpAddr::V4(std::net::Ipv4Addr::from_bits(u32::MAX >> 1)),
            protocol: Protocol::Udp,
            port: u16::try_from(65_535 - n % 1_000).unwrap(),
        };
        let mut left = services::MOST_GRANTS;
        for peer in spec
            .peers
            .iter_mut()
            .filter(|peer| peer.access.services.is_empty())
        {
            let some = left.min(8);
            left -= some;
            peer.access.services = (0..some).map(at).collect();
        }
        assert_eq!(left, 0);
        let entry = |n| Entry {
            at: at(n),
            to: at(n),
            everyone: true,
        };
        spec.entries = (0..services::MOST_ENTRIES).map(entry).collect();
        let bytes = netd::network_spec(spec).encoded_len();
        assert!(bytes < MAX_MESSAGE_BYTES, "{bytes}");
    }
}
