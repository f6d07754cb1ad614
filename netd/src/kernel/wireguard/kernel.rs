//! WireGuard in the kernel, by generic netlink (Documentation/netlink/specs/wireguard.yaml).

mod decode;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use cell_netd_core::desired::Wireguard;
use cell_netd_core::model::{InterfaceName, PublicKey, TableName};
use cell_netd_core::observed::{Device, DevicePeer, Identity};
use cell_netd_core::plan::PeerUpdate;
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute,
    WireguardDeviceFlags, WireguardPeer, WireguardPeerAttribute, WireguardPeerFlags,
};

use super::{
    Backend, BackendError, DeviceState, PeerStatistics, PresharedKey, PrivateKey, TunnelSecrets, limited,
};
use crate::kernel::link::Links;
use wire::Wire;

/// Peers of one message. A peer of ours has at most two allowed IPs, some 200 bytes; the list of them is an attribute of
/// at most 64 KiB.
const CHUNK: usize = 200;

/// The kernel's WireGuard.
#[derive(Debug)]
pub struct InKernel {
    links: Links,
}

impl InKernel {
    pub(in crate::kernel) fn with_links(links: Links) -> Self {
        InKernel { links }
    }

    /// The kernel's WireGuard in this network namespace. Needs a tokio runtime.
    ///
    /// # Errors
    /// Of the rtnetlink socket.
    pub fn new(table: &TableName) -> io::Result<Self> {
        Ok(InKernel::with_links(Links::open(table)?))
    }

    async fn make_interface(&self, name: &InterfaceName) -> Result<(), BackendError> {
        let error = |error: crate::kernel::KernelError| BackendError::Io(io::Error::other(error));
        if !self.links.add_wireguard(name).await.map_err(error)? {
            return Err(BackendError::Io(io::Error::from_raw_os_error(libc::EOPNOTSUPP)));
        }
        self.links.tag(name).await.map_err(error)
    }
}

impl Backend for InKernel {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn create<'a>(
        &'a mut self,
        wireguard: &'a Wireguard,
        key: &'a PrivateKey,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        let name = &wireguard.interface;
        let attributes = creation(wireguard);
        let key = key.duplicate();
        Box::pin(async move {
            self.make_interface(name).await?;
            blocking(move || Wire::open()?.set(attributes, Some(&key))).await
        })
    }

    fn create_tunnel<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(self.make_interface(interface))
    }

    fn set_tunnel<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
        secrets: &'a TunnelSecrets,
        peers: &'a BTreeMap<PublicKey, DevicePeer>,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        let TunnelSecrets { key, preshared } = secrets;
        let (key, whole) = (key.duplicate(), tunnel(interface));
        let peers: Vec<_> = peers
            .iter()
            .map(|(key, peer)| {
                let preshared = preshared.get(key).map(PresharedKey::duplicate);
                (one_peer(interface, key, peer, preshared.is_some()), preshared)
            })
            .collect();
        Box::pin(blocking(move || {
            let mut wire = Wire::open()?;
            wire.set(whole, Some(&key))?;
            peers
                .into_iter()
                .try_for_each(|(attributes, preshared)| wire.set_peer(attributes, preshared.as_ref()))
        }))
    }

    fn update<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
        update: &'a PeerUpdate,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        let messages = changes(interface, update);
        Box::pin(blocking(move || {
            let mut wire = Wire::open()?;
            messages
                .into_iter()
                .try_for_each(|attributes| wire.set(attributes, None))
        }))
    }

    fn device<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
    ) -> BoxFuture<'a, Result<Option<DeviceState>, BackendError>> {
        let interface = interface.to_string();
        Box::pin(blocking(move || Wire::open()?.get(&interface, false)))
    }

    fn identity<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
    ) -> BoxFuture<'a, Result<Option<Identity>, BackendError>> {
        let interface = interface.to_string();
        // The first part of the dump names the device; the rest of it goes with the socket.
        Box::pin(blocking(move || {
            let state = Wire::open()?.get(&interface, true)?;
            Ok(state.map(|state| state.device.identity()))
        }))
    }

    /// The kernel dumps a device whole.
    fn reads_single_peers(&self) -> bool {
        false
    }

    fn some_peers<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
        keys: &'a BTreeSet<PublicKey>,
    ) -> BoxFuture<'a, Result<Option<Device>, BackendError>> {
        Box::pin(async move {
            let state = self.device(interface).await?;
            Ok(state.map(|state| limited(state.device, keys)))
        })
    }

    fn statistics_of<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
        key: &'a PublicKey,
    ) -> BoxFuture<'a, Result<Option<PeerStatistics>, BackendError>> {
        Box::pin(async move {
            let state = self.device(interface).await?;
            Ok(state.and_then(|state| state.statistics.get(key).copied()))
        })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackendError> + Send + 'static,
) -> Result<T, BackendError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

/// What a new device is given. The private key goes into the bytes of the message alone, which are wiped; what is here
/// holds its place.
fn creation(wireguard: &Wireguard) -> Vec<WireguardAttribute> {
    vec![
        WireguardAttribute::IfName(wireguard.interface.to_string()),
        WireguardAttribute::PrivateKey([0; 32]),
        WireguardAttribute::ListenPort(wireguard.listen_port),
        WireguardAttribute::Flags(WireguardDeviceFlags::ReplacePeers),
    ]
}

/// What the device of an exit is given before its peers, each of which comes in a message of its own. The port is the kernel's
/// choice.
fn tunnel(interface: &InterfaceName) -> Vec<WireguardAttribute> {
    vec![
        WireguardAttribute::IfName(interface.to_string()),
        WireguardAttribute::PrivateKey([0; 32]),
        WireguardAttribute::Flags(WireguardDeviceFlags::ReplacePeers),
    ]
}

/// A peer of a new device; zeros hold the place of its preshared key.
fn one_peer(
    interface: &InterfaceName,
    key: &PublicKey,
    peer: &DevicePeer,
    preshared: bool,
) -> Vec<WireguardAttribute> {
    let WireguardPeer(mut attributes) = upsert(key, peer);
    if preshared {
        attributes.insert(1, WireguardPeerAttribute::PresharedKey([0; 32]));
    }
    vec![
        WireguardAttribute::IfName(interface.to_string()),
        WireguardAttribute::Peers(vec![WireguardPeer(attributes)]),
    ]
}

/// The attributes of each message of an update. All removals go first, so that an address is free before its next owner
/// has it.
fn changes(interface: &InterfaceName, update: &PeerUpdate) -> Vec<Vec<WireguardAttribute>> {
    let removed = update.removed.iter().map(removal);
    let peers: Vec<WireguardPeer> = removed
        .chain(update.upserted.iter().map(|(key, peer)| upsert(key, peer)))
        .collect();
    let message = |chunk: &[WireguardPeer]| {
        vec![
            WireguardAttribute::IfName(interface.to_string()),
            WireguardAttribute::Peers(chunk.to_vec()),
        ]
    };
    peers.chunks(CHUNK).map(message).collect()
}

fn removal(key: &PublicKey) -> WireguardPeer {
    WireguardPeer(vec![
        WireguardPeerAttribute::PublicKey(*key.as_bytes()),
        WireguardPeerAttribute::Flags(WireguardPeerFlags::RemoveMe),
    ])
}

fn upsert(key: &PublicKey, peer: &DevicePeer) -> WireguardPeer {
    let DevicePeer {
        endpoint,
        keepalive,
        allowed_ips,
    } = peer;
    let mut attributes = vec![
        WireguardPeerAttribute::PublicKey(*key.as_bytes()),
        WireguardPeerAttribute::Flags(WireguardPeerFlags::ReplaceAllowedIps),
        WireguardPeerAttribute::PersistentKeepalive(*keepalive),
    ];
    attributes.extend(endpoint.map(WireguardPeerAttribute::Endpoint));
    attributes.push(WireguardPeerAttribute::AllowedIps(
        allowed_ips.iter().map(allowed_ip).collect(),
    ));
    WireguardPeer(attributes)
}

fn allowed_ip(net: &IpNet) -> WireguardAllowedIp {
    let family = if net.addr().is_ipv4() {
        WireguardAddressFamily::Ipv4
    } else {
        WireguardAddressFamily::Ipv6
    };
    WireguardAllowedIp(vec![
        WireguardAllowedIpAttr::Family(family),
        WireguardAllowedIpAttr::IpAddr(net.addr()),
        WireguardAllowedIpAttr::Cidr(net.prefix_len()),
    ])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// The attributes of a message as hexadecimal text, one attribute's header and value after the other.
    fn golden(attributes: Vec<WireguardAttribute>, key: Option<&PrivateKey>) -> String {
        let bytes = wire::set_request(0x1c, attributes, key);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Attribute by attribute after include/uapi/linux/wireguard.h, on a machine whose bytes are little-endian.
    #[cfg(target_endian = "little")]
    #[test]
    fn a_new_device_is_told_name_key_port_and_to_have_no_peers() {
        let desired = cell_netd_core::desired::Wireguard {
            interface: "wg0".parse().unwrap(),
            listen_port: 51820,
            v4: None,
            v6: None,
            mtu: cell_netd_core::model::Mtu::try_new(1420).unwrap(),
        };
        let key = PrivateKey::from_slice(&[0x40; 32]).unwrap();
        let expected = [
            // struct nlmsghdr: length 80, family 0x1c, NLM_F_REQUEST | NLM_F_ACK, sequence 1, port 0.
            "50000000",
            "1c00",
            "0500",
            "01000000",
            "00000000",
            // struct genlmsghdr: WG_CMD_SET_DEVICE, version 1.
            "01",
            "01",
            "0000",
            // WGDEVICE_A_IFNAME "wg0".
            "0800",
            "0200",
            "77673000",
            // WGDEVICE_A_PRIVATE_KEY.
            "2400",
            "0300",
            &"40".repeat(32),
            // WGDEVICE_A_LISTEN_PORT 51820, two bytes of padding.
            "0600",
            "0600",
            "6cca",
            "0000",
            // WGDEVICE_A_FLAGS WGDEVICE_F_REPLACE_PEERS.
            "0800",
            "0500",
            "01000000",
        ];
        assert_eq!(golden(creation(&desired), Some(&key)), expected.concat());
    }

    fn peer() -> DevicePeer {
        DevicePeer {
            endpoint: Some("[2001:db8::5]:4660".parse().unwrap()),
            keepalive: 25,
            allowed_ips: ["10.86.0.2/32", "fd86::2/128"]
                .map(|net| net.parse().unwrap())
                .into(),
        }
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn peers_go_before_peers_come() {
        let key = |index: u8| PublicKey::try_from([index; 32].as_slice()).unwrap();
        let update = PeerUpdate {
            upserted: [(key(1), peer())].into(),
            removed: [key(9)].into(),
        };
        let mut messages = changes(&"wg0".parse().unwrap(), &update);
        assert_eq!(messages.len(), 1);
        // Headers as above, WGDEVICE_A_IFNAME, WGDEVICE_A_PEERS (nested).
        let head = [
            "f00000001c000500010000000000000001010000",
            "0800020077673000",
            "d4000880",
        ];
        // A peer (nested): its key, WGPEER_F_REMOVE_ME.
        let gone = ["30000080", "24000100", &"09".repeat(32), "0800030001000000"];
        // A peer: its key, WGPEER_F_REPLACE_ALLOWEDIPS, 25 s, its endpoint as struct sockaddr_in6.
        let comes = [
            "a0000080",
            "24000100",
            &"01".repeat(32),
            "0800030002000000",
            "0600050019000000",
            "20000400",
            "0a00123400000000",
            "20010db8000000000000000000000005",
            "00000000",
        ];
        // WGPEER_A_ALLOWEDIPS (nested): family, address, prefix length of each.
        let allowed = [
            "48000980",
            "1c000080060001000200000008000200",
            "0a5600020500030020000000",
            "28000080060001000a00000014000200",
            "fd8600000000000000000000000000020500030080000000",
        ];
        let expected = [head.concat(), gone.concat(), comes.concat(), allowed.concat()].concat();
        assert_eq!(golden(messages.remove(0), None), expected);
    }

    #[test]
    fn many_peers_are_several_messages_and_none_is_too_long_for_its_attribute() {
        let key = |index: u32| {
            PublicKey::try_from([&index.to_be_bytes()[..], &[1; 28]].concat().as_slice()).unwrap()
        };
        let update = PeerUpdate {
            upserted: (1..=1000).map(|index| (key(index), peer())).collect(),
            removed: (1001..=1300).map(key).collect(),
        };
        let messages = changes(&"wg0".parse().unwrap(), &update);
        assert_eq!(messages.len(), 1300_usize.div_ceil(CHUNK));
        for message in messages {
            assert!(golden(message, None).len() / 2 < usize::from(u16::MAX));
        }
    }
}
