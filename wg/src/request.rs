//! Requests from the wire into checked values, every fault named at once, and answers back.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use cell_proto::fault::Violation;
use cell_proto::wg::v1;
use ipnet::IpNet;
use x25519_dalek::StaticSecret;
use zeroize::{Zeroize, Zeroizing};

use crate::device::{Asked, Observed, PeerState};
use crate::peers::{Peer, PublicKey};

/// Allowed IPs of one peer.
const ALLOWED_IPS_MAX: usize = 256;
const KEY_BYTES: usize = 32;

/// `SetDeviceRequest`, checked. The key is wiped from the request.
///
/// # Errors
/// Every fault of the request.
pub fn set_device(mut request: v1::SetDeviceRequest) -> Result<(StaticSecret, Vec<Peer>), Vec<Violation>> {
    let mut faults = Faults::default();
    let bytes = <[u8; KEY_BYTES]>::try_from(request.private_key.as_slice()).map(Zeroizing::new);
    request.private_key.zeroize();
    let peers = peers(&mut faults, "peers", &request.peers);
    match bytes {
        Ok(bytes) if *bytes != [0; KEY_BYTES] => faults.or((StaticSecret::from(*bytes), peers)),
        _ => {
            faults.add("private_key", "is 32 bytes, not all zero");
            Err(faults.0)
        }
    }
}

/// `UpdatePeersRequest`, checked: what to upsert, what to remove.
///
/// # Errors
/// Every fault of the request.
pub fn update_peers(request: &v1::UpdatePeersRequest) -> Result<(Vec<Peer>, Vec<PublicKey>), Vec<Violation>> {
    let mut faults = Faults::default();
    let upserted = peers(&mut faults, "upserted", &request.upserted);
    let upserted_keys: BTreeSet<_> = upserted.iter().map(|peer| peer.key).collect();
    let mut removed = Vec::with_capacity(request.removed_public_keys.len());
    for (index, wire) in request.removed_public_keys.iter().enumerate() {
        let field = format!("removed_public_keys[{index}]");
        let Some(key) = key(&mut faults, &field, wire) else {
            continue;
        };
        if upserted_keys.contains(&key) {
            faults.add(&field, "is also among the upserted");
        }
        removed.push(key);
    }
    faults.or((upserted, removed))
}

/// What `GetDeviceRequest` asks for.
///
/// # Errors
/// Every fault of the request.
pub fn get_device(request: &v1::GetDeviceRequest) -> Result<Asked, Vec<Violation>> {
    let v1::GetDeviceRequest {
        public_key,
        configuration_only,
    } = request;
    let mut faults = Faults::default();
    let only = if public_key.is_empty() {
        None
    } else {
        key(&mut faults, "public_key", public_key)
    };
    faults.or(Asked {
        only,
        configuration_only: *configuration_only,
    })
}

/// The answer to `GetDevice`.
pub fn device(observed: Observed) -> v1::GetDeviceResponse {
    v1::GetDeviceResponse {
        interface: observed.interface.to_string(),
        public_key: observed.public_key.map(Vec::from).unwrap_or_default(),
        listen_port: observed.port.into(),
        peers: observed
            .peers
            .into_iter()
            .map(|(key, state)| peer_state(key, state))
            .collect(),
    }
}

fn peer_state(key: PublicKey, state: PeerState) -> v1::PeerState {
    v1::PeerState {
        peer: Some(v1::Peer {
            public_key: key.to_vec(),
            endpoint: state.endpoint.map(Into::into),
            persistent_keepalive_seconds: state.keepalive.into(),
            allowed_ips: state.allowed_ips.into_iter().map(Into::into).collect(),
        }),
        latest_handshake_unix_ms: state.latest_handshake.map_or(0, unix_ms),
        received_bytes: state.received_bytes,
        sent_bytes: state.sent_bytes,
    }
}

fn unix_ms(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}

/// The faults found so far.
#[derive(Default)]
struct Faults(Vec<Violation>);

impl Faults {
    fn add(&mut self, field: impl Into<String>, description: impl ToString) {
        self.0.push(Violation::new(field, description));
    }

    fn or<T>(self, value: T) -> Result<T, Vec<Violation>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }
}

/// Peers with unique keys and allowed IPs; those with a fault are left out, and the fault is noted.
fn peers(faults: &mut Faults, field: &str, wire: &[v1::Peer]) -> Vec<Peer> {
    let mut keys = BTreeSet::new();
    let mut prefixes = BTreeSet::new();
    let mut peers = Vec::with_capacity(wire.len());
    for (index, wire) in wire.iter().enumerate() {
        let path = format!("{field}[{index}]");
        let Some(peer) = peer(faults, &path, wire) else {
            continue;
        };
        if !keys.insert(peer.key) {
            faults.add(
                format!("{path}.public_key"),
                "is already that of another peer in this request",
            );
        }
        for prefix in &peer.allowed_ips {
            if !prefixes.insert(*prefix) {
                faults.add(
                    format!("{path}.allowed_ips"),
                    format!("{prefix} already belongs to another peer in this request"),
                );
            }
        }
        peers.push(peer);
    }
    peers
}

fn peer(faults: &mut Faults, path: &str, wire: &v1::Peer) -> Option<Peer> {
    let key = key(faults, &format!("{path}.public_key"), &wire.public_key);
    let endpoint = wire.endpoint.as_ref().and_then(|wire| {
        SocketAddr::try_from(wire)
            .map_err(|fault| faults.add(format!("{path}.endpoint"), fault))
            .ok()
    });
    let keepalive = u16::try_from(wire.persistent_keepalive_seconds)
        .map_err(|_| faults.add(format!("{path}.persistent_keepalive_seconds"), "is 0-65535"))
        .ok();
    if wire.allowed_ips.len() > ALLOWED_IPS_MAX {
        faults.add(
            format!("{path}.allowed_ips"),
            format!("holds at most {ALLOWED_IPS_MAX} prefixes"),
        );
        return None;
    }
    let mut allowed_ips = BTreeSet::new();
    for (index, wire) in wire.allowed_ips.iter().enumerate() {
        match IpNet::try_from(wire) {
            Ok(prefix) => drop(allowed_ips.insert(prefix.trunc())),
            Err(fault) => faults.add(format!("{path}.allowed_ips[{index}]"), fault),
        }
    }
    Some(Peer {
        key: key?,
        endpoint,
        keepalive: keepalive?,
        allowed_ips,
    })
}

/// A public key. All zero is the X25519 point of low order that a forgotten field gives, and nobody's key.
fn key(faults: &mut Faults, field: &str, wire: &[u8]) -> Option<PublicKey> {
    let key = PublicKey::try_from(wire)
        .ok()
        .filter(|key| *key != [0; KEY_BYTES]);
    if key.is_none() {
        faults.add(field, "is 32 bytes, not all zero");
    }
    key
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn wire(id: u8, allowed_ips: &[&str]) -> v1::Peer {
        let allowed_ips = allowed_ips
            .iter()
            .map(|prefix| prefix.parse::<IpNet>().unwrap().into())
            .collect();
        v1::Peer {
            public_key: vec![id; 32],
            allowed_ips,
            ..v1::Peer::default()
        }
    }

    fn fields(faults: Vec<Violation>) -> Vec<String> {
        faults.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let mut far = wire(3, &[]);
        far.endpoint = Some(cell_proto::common::v1::Endpoint {
            address: None,
            port: 1,
        });
        far.persistent_keepalive_seconds = 65_536;
        far.allowed_ips = vec![cell_proto::common::v1::IpPrefix {
            address: None,
            length: 8,
        }];
        let peers = vec![
            wire(1, &["10.0.0.1/32"]),
            wire(1, &["10.0.0.1/32"]),
            wire(0, &[]),
            far,
        ];
        let faults = set_device(v1::SetDeviceRequest {
            private_key: vec![1; 31],
            peers,
        })
        .err()
        .unwrap();
        assert_eq!(
            fields(faults),
            [
                "peers[1].public_key",
                "peers[1].allowed_ips",
                "peers[2].public_key",
                "peers[3].endpoint",
                "peers[3].persistent_keepalive_seconds",
                "peers[3].allowed_ips[0]",
                "private_key",
            ]
        );
    }

    #[test]
    fn host_bits_are_cut_as_the_kernel_does() {
        let request = v1::SetDeviceRequest {
            private_key: vec![1; 32],
            peers: vec![wire(1, &["10.0.0.1/8"])],
        };
        let (_, peers) = set_device(request).ok().unwrap();
        assert_eq!(
            peers[0].allowed_ips,
            BTreeSet::from(["10.0.0.0/8".parse().unwrap()])
        );
    }

    #[test]
    fn too_many_allowed_ips_are_refused_before_they_are_read() {
        let many = v1::Peer {
            allowed_ips: vec![Default::default(); 257],
            ..wire(1, &[])
        };
        let request = v1::UpdatePeersRequest {
            upserted: vec![many],
            removed_public_keys: vec![],
        };
        assert_eq!(
            fields(update_peers(&request).err().unwrap()),
            ["upserted[0].allowed_ips"]
        );
    }

    #[test]
    fn a_key_is_not_upserted_and_removed_at_once() {
        let request = v1::UpdatePeersRequest {
            upserted: vec![wire(1, &[])],
            removed_public_keys: vec![vec![2; 32], vec![1; 32], vec![1; 5]],
        };
        let faults = fields(update_peers(&request).err().unwrap());
        assert_eq!(faults, ["removed_public_keys[1]", "removed_public_keys[2]"]);
    }

    #[test]
    fn no_key_asks_for_all_peers() {
        let ask = |public_key, configuration_only| {
            get_device(&v1::GetDeviceRequest {
                public_key,
                configuration_only,
            })
        };
        let asked = |only, configuration_only| Asked {
            only,
            configuration_only,
        };
        assert_eq!(ask(vec![], false), Ok(asked(None, false)));
        assert_eq!(ask(vec![7; 32], true), Ok(asked(Some([7; 32]), true)));
        assert!(ask(vec![7; 33], false).is_err());
    }
}
