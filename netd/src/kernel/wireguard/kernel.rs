//! WireGuard in the kernel, by generic netlink (Documentation/netlink/specs/wireguard.yaml).

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use cell_netd_core::desired::Wireguard;
use cell_netd_core::model::{InterfaceName, PublicKey, TableName};
use cell_netd_core::observed::{Device, DevicePeer};
use cell_netd_core::plan::PeerUpdate;
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute, WireguardCmd,
    WireguardDeviceFlags, WireguardMessage, WireguardPeer, WireguardPeerAttribute, WireguardPeerFlags,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::{Backend, BackendError, DeviceState, PeerStatistics, PrivateKey};
use crate::kernel::link::Links;

/// Peers of one message. A peer of ours has at most two allowed IPs, some 200 bytes; the list of them is an attribute of
/// at most 64 KiB.
const CHUNK: usize = 200;
const ANSWER: Duration = Duration::from_secs(20);

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
        let attributes = vec![
            WireguardAttribute::IfName(name.to_string()),
            WireguardAttribute::PrivateKey(*key.expose()),
            WireguardAttribute::ListenPort(wireguard.listen_port),
            WireguardAttribute::Flags(WireguardDeviceFlags::ReplacePeers),
        ];
        Box::pin(async move {
            let error = |error: crate::kernel::KernelError| BackendError::Io(io::Error::other(error));
            if !self.links.add_wireguard(name).await.map_err(error)? {
                return Err(BackendError::Io(io::Error::from_raw_os_error(libc::EOPNOTSUPP)));
            }
            self.links.tag(name).await.map_err(error)?;
            blocking(move || Wire::open()?.set(attributes)).await
        })
    }

    fn update<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
        update: &'a PeerUpdate,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        let removed = update.removed.iter().map(removal);
        let peers: Vec<WireguardPeer> = removed
            .chain(update.upserted.iter().map(|(key, peer)| upsert(key, peer)))
            .collect();
        let interface = interface.to_string();
        Box::pin(blocking(move || {
            let mut wire = Wire::open()?;
            for chunk in peers.chunks(CHUNK) {
                let name = WireguardAttribute::IfName(interface.clone());
                wire.set(vec![name, WireguardAttribute::Peers(chunk.to_vec())])?;
            }
            Ok(())
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
    ) -> BoxFuture<'a, Result<Option<(PublicKey, u16)>, BackendError>> {
        let interface = interface.to_string();
        // The first part of the dump names the device; the rest of it goes with the socket.
        Box::pin(blocking(move || {
            let state = Wire::open()?.get(&interface, true)?;
            Ok(state.map(|state| (state.device.public_key, state.device.listen_port)))
        }))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackendError> + Send + 'static,
) -> Result<T, BackendError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
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

/// A generic netlink socket and the family's number.
struct Wire {
    socket: Socket,
    family: u16,
}

impl Wire {
    fn open() -> Result<Self, BackendError> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let patience = TimeVal::new(ANSWER.as_secs() as i64, 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience).map_err(io::Error::from)?;
        let mut wire = Wire { socket, family: 0 };
        wire.family = wire.resolve()?;
        Ok(wire)
    }

    fn resolve(&mut self) -> Result<u16, BackendError> {
        let payload = GenlCtrl {
            cmd: GenlCtrlCmd::GetFamily,
            nlas: vec![GenlCtrlAttrs::FamilyName("wireguard".to_owned())],
        };
        let answers: Vec<GenlMessage<GenlCtrl>> =
            self.exchange(GenlMessage::from_payload(payload), NLM_F_ACK, false)?;
        let id =
            answers
                .iter()
                .flat_map(|answer| &answer.payload.nlas)
                .find_map(|attribute| match attribute {
                    GenlCtrlAttrs::FamilyId(id) => Some(*id),
                    _ => None,
                });
        id.ok_or_else(|| BackendError::Io(io::Error::from_raw_os_error(libc::EOPNOTSUPP)))
    }

    fn set(&mut self, attributes: Vec<WireguardAttribute>) -> Result<(), BackendError> {
        let mut message = GenlMessage::from_payload(WireguardMessage {
            cmd: WireguardCmd::SetDevice,
            attributes,
        });
        message.set_resolved_family_id(self.family);
        self.exchange(message, NLM_F_ACK, false).map(drop)
    }

    fn get(&mut self, interface: &str, first_part: bool) -> Result<Option<DeviceState>, BackendError> {
        let attributes = vec![WireguardAttribute::IfName(interface.to_owned())];
        let mut message = GenlMessage::from_payload(WireguardMessage {
            cmd: WireguardCmd::GetDevice,
            attributes,
        });
        message.set_resolved_family_id(self.family);
        match self.exchange(message, NLM_F_DUMP, first_part) {
            Ok(answers) => state(answers.into_iter().map(|answer| answer.payload)),
            // No such interface, or not a WireGuard one.
            Err(BackendError::Io(error))
                if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EOPNOTSUPP)) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn exchange<P>(
        &mut self,
        message: GenlMessage<P>,
        flags: u16,
        first_part: bool,
    ) -> Result<Vec<GenlMessage<P>>, BackendError>
    where
        GenlMessage<P>: NetlinkSerializable + NetlinkDeserializable,
        P: std::fmt::Debug,
    {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = 1;
        request.finalize();
        // Wiped when dropped: it may hold the private key.
        let mut bytes = zeroize::Zeroizing::new(vec![0; request.buffer_len()]);
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answers = Vec::new();
        let mut buffer = Vec::with_capacity(1 << 17);
        loop {
            buffer.clear();
            self.socket.recv(&mut buffer, 0)?;
            let mut rest = buffer.as_slice();
            while !rest.is_empty() {
                let answer = NetlinkMessage::<GenlMessage<P>>::deserialize(rest)
                    .map_err(|error| BackendError::Answer(error.to_string()))?;
                let length = (answer.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                match answer.payload {
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            Some(code) => Err(io::Error::from_raw_os_error(-code.get()).into()),
                            None => Ok(answers),
                        };
                    }
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    _ => {}
                }
            }
            if first_part && !answers.is_empty() {
                return Ok(answers);
            }
        }
    }
}

/// A dump may be split over messages, and a peer's allowed IPs over two of them.
fn state(messages: impl Iterator<Item = WireguardMessage>) -> Result<Option<DeviceState>, BackendError> {
    let (mut public_key, mut listen_port) = (None, 0);
    let (mut peers, mut statistics) = (BTreeMap::new(), BTreeMap::new());
    for attribute in messages.flat_map(|message| message.attributes) {
        match attribute {
            WireguardAttribute::PublicKey(key) => public_key = PublicKey::try_from(key.as_slice()).ok(),
            WireguardAttribute::ListenPort(port) => listen_port = port,
            WireguardAttribute::Peers(list) => {
                list.into_iter()
                    .try_for_each(|peer| add_peer(peer, &mut peers, &mut statistics))?;
            }
            _ => {}
        }
    }
    let device = public_key.map(|public_key| Device {
        public_key,
        listen_port,
        peers,
    });
    Ok(device.map(|device| DeviceState { device, statistics }))
}

fn add_peer(
    WireguardPeer(attributes): WireguardPeer,
    peers: &mut BTreeMap<PublicKey, DevicePeer>,
    statistics: &mut BTreeMap<PublicKey, PeerStatistics>,
) -> Result<(), BackendError> {
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
    let (peer, moving) = (
        peers.entry(key).or_insert(empty),
        statistics.entry(key).or_default(),
    );
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
            WireguardPeerAttribute::AllowedIps(list) => peer.allowed_ips.extend(list.iter().filter_map(net)),
            _ => {}
        }
    }
    Ok(())
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
