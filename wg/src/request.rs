//! Requests from the wire to the core, which checks them, and answers back.

use std::time::{SystemTime, UNIX_EPOCH};

use cell_proto::common::v1::{Endpoint, IpPrefix};
use cell_proto::fault::Violation;
use cell_proto::wg::v1;
use cell_wg_core::request as checked;
use cell_wg_core::request::AskedPeer;
use x25519_dalek::StaticSecret;
use zeroize::Zeroize;

use crate::device::{Asked, Observed, PeerState};
use crate::handover::InterfaceName;
use crate::peers::{Peer, PublicKey};

/// `SetDeviceRequest`, checked. The key is wiped from the request.
///
/// # Errors
/// Every fault of the request.
pub fn set_device(
    mut request: v1::SetDeviceRequest,
) -> Result<(InterfaceName, StaticSecret, Vec<Peer>), Vec<Violation>> {
    let set = checked::set_device(&request.private_key, &asked(&request.peers));
    request.private_key.zeroize();
    forget(&mut request.peers);
    let (key, peers) = set.map_err(told)?;
    Ok((interface(&request.interface)?, StaticSecret::from(*key), peers))
}

/// `UpdatePeersRequest`, checked: what to upsert, what to remove.
///
/// # Errors
/// Every fault of the request.
pub fn update_peers(
    mut request: v1::UpdatePeersRequest,
) -> Result<(InterfaceName, Vec<Peer>, Vec<PublicKey>), Vec<Violation>> {
    let updated = checked::update_peers(&asked(&request.upserted), &request.removed_public_keys);
    forget(&mut request.upserted);
    let (upserted, removed) = updated.map_err(told)?;
    Ok((interface(&request.interface)?, upserted, removed))
}

/// Wipes what is secret of the peers of a request.
fn forget(peers: &mut [v1::Peer]) {
    for peer in peers {
        peer.preshared_key.zeroize();
    }
}

fn interface(name: &str) -> Result<InterfaceName, Vec<Violation>> {
    InterfaceName::parse(name.as_bytes()).ok_or_else(|| {
        vec![Violation::new(
            "interface",
            "is the name of a TUN that was handed over",
        )]
    })
}

/// What `GetDeviceRequest` asks for.
///
/// # Errors
/// Every fault of the request.
pub fn get_device(request: &v1::GetDeviceRequest) -> Result<(InterfaceName, Asked), Vec<Violation>> {
    let v1::GetDeviceRequest {
        public_key,
        configuration_only,
        interface: name,
    } = request;
    let only = checked::asked_for(public_key).map_err(told)?;
    let asked = Asked {
        only,
        configuration_only: *configuration_only,
    };
    Ok((interface(name)?, asked))
}

fn asked(peers: &[v1::Peer]) -> Vec<AskedPeer<'_, Endpoint, IpPrefix>> {
    peers.iter().map(asked_peer).collect()
}

fn asked_peer(peer: &v1::Peer) -> AskedPeer<'_, Endpoint, IpPrefix> {
    AskedPeer {
        public_key: &peer.public_key,
        endpoint: peer.endpoint.as_ref(),
        keepalive: peer.persistent_keepalive_seconds,
        allowed_ips: &peer.allowed_ips,
        preshared_key: &peer.preshared_key,
    }
}

fn told(faults: Vec<checked::Violation>) -> Vec<Violation> {
    faults
        .into_iter()
        .map(|fault| Violation::new(fault.field, fault.description))
        .collect()
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
        public_key: key.to_vec(),
        endpoint: state.endpoint.map(Into::into),
        persistent_keepalive_seconds: state.keepalive.into(),
        allowed_ips: state.allowed_ips.into_iter().map(Into::into).collect(),
        latest_handshake_unix_ms: state.latest_handshake.map_or(0, unix_ms),
        received_bytes: state.received_bytes,
        sent_bytes: state.sent_bytes,
        has_preshared_key: state.preshared,
    }
}

fn unix_ms(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use ipnet::IpNet;

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
            interface: "wg0".to_owned(),
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
    fn no_key_asks_for_all_peers() {
        let ask = |public_key, configuration_only| {
            get_device(&v1::GetDeviceRequest {
                public_key,
                configuration_only,
                interface: "wg0".to_owned(),
            })
            .map(|(_, asked)| asked)
        };
        let asked = |only, configuration_only| Asked {
            only,
            configuration_only,
        };
        assert_eq!(ask(vec![], false), Ok(asked(None, false)));
        assert_eq!(ask(vec![7; 32], true), Ok(asked(Some([7; 32]), true)));
        assert!(ask(vec![7; 33], false).is_err());
        let nameless = v1::GetDeviceRequest::default();
        assert_eq!(fields(get_device(&nameless).unwrap_err()), ["interface"]);
    }
}
