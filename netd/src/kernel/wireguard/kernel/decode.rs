//! What the kernel told of a device.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cell_netd_core::model::PublicKey;
use cell_netd_core::observed::{Device, DevicePeer};
use ipnet::IpNet;
use netlink_packet_wireguard::{
    WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute, WireguardMessage, WireguardPeer,
    WireguardPeerAttribute,
};

use super::super::{BackendError, DeviceState, PeerStatistics};

/// A dump may be split over messages, and a peer's allowed IPs over two of them.
pub(super) fn state(
    messages: impl Iterator<Item = WireguardMessage>,
) -> Result<Option<DeviceState>, BackendError> {
    let (mut public_key, mut listen_port, mut fwmark) = (None, 0, 0);
    let mut found = Found::default();
    for attribute in messages.flat_map(|message| message.attributes) {
        match attribute {
            WireguardAttribute::PublicKey(key) => public_key = PublicKey::try_from(key.as_slice()).ok(),
            WireguardAttribute::ListenPort(port) => listen_port = port,
            WireguardAttribute::Fwmark(mark) => fwmark = mark,
            WireguardAttribute::Peers(list) => list.into_iter().try_for_each(|peer| found.add(peer))?,
            _ => {}
        }
    }
    let Found {
        peers,
        preshared,
        statistics,
    } = found;
    let device = public_key.map(|public_key| Device {
        public_key,
        listen_port,
        fwmark,
        peers,
        preshared,
    });
    Ok(device.map(|device| DeviceState { device, statistics }))
}

#[derive(Default)]
struct Found {
    peers: BTreeMap<PublicKey, DevicePeer>,
    preshared: BTreeSet<PublicKey>,
    statistics: BTreeMap<PublicKey, PeerStatistics>,
}

impl Found {
    fn add(&mut self, WireguardPeer(attributes): WireguardPeer) -> Result<(), BackendError> {
        let key = attributes.iter().find_map(|attribute| match attribute {
            WireguardPeerAttribute::PublicKey(key) => PublicKey::try_from(key.as_slice()).ok(),
            _ => None,
        });
        let key = key.ok_or_else(|| BackendError::Answer("a peer without a key".to_owned()))?;
        let empty = DevicePeer {
            endpoint: None,
            keepalive: 0,
            allowed_ips: Default::default(),
        };
        let peer = self.peers.entry(key).or_insert(empty);
        let moving = self.statistics.entry(key).or_default();
        for attribute in attributes {
            match attribute {
                WireguardPeerAttribute::Endpoint(endpoint) => {
                    (peer.endpoint, moving.endpoint) = (Some(endpoint), Some(endpoint));
                }
                WireguardPeerAttribute::PersistentKeepalive(seconds) => peer.keepalive = seconds,
                WireguardPeerAttribute::LastHandshake(time) => {
                    moving.latest_handshake_unix_ms = time.seconds * 1000 + time.nano_seconds / 1_000_000;
                }
                WireguardPeerAttribute::RxBytes(bytes) => moving.received_bytes = bytes,
                WireguardPeerAttribute::TxBytes(bytes) => moving.sent_bytes = bytes,
                WireguardPeerAttribute::AllowedIps(list) => {
                    peer.allowed_ips.extend(list.iter().filter_map(net));
                }
                // Zeros say that there is none; the key itself was taken out (wire.rs).
                WireguardPeerAttribute::PresharedKey(key_or_mark) if key_or_mark != [0; 32] => {
                    self.preshared.insert(key);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn net(WireguardAllowedIp(attributes): &WireguardAllowedIp) -> Option<IpNet> {
    let (mut address, mut length): (Option<IpAddr>, Option<u8>) = (None, None);
    for attribute in attributes {
        match attribute {
            WireguardAllowedIpAttr::IpAddr(found) => address = Some(*found),
            WireguardAllowedIpAttr::Cidr(found) => length = Some(*found),
            _ => {}
        }
    }
    IpNet::new(address?, length?).ok()
}
