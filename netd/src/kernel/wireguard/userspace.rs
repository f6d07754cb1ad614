//! WireGuard in the process cell-wg, for kernels without it: netd makes the interface and the sockets, hands them over,
//! and drives the device by `cell.wg.v1`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cell_netd_core::desired::Wireguard;
use cell_netd_core::model::{InterfaceName, PublicKey, TableName};
use cell_netd_core::observed::{Device, DevicePeer, Identity};
use cell_netd_core::plan::PeerUpdate;
use cell_proto::wg::v1::wireguard_service_client::WireguardServiceClient;
use cell_proto::wg::v1::{
    GetDeviceRequest, GetDeviceResponse, Peer, PeerState, SetDeviceRequest, UpdatePeersRequest,
};
use cell_proto::{fault, ipc};
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use tonic::transport::Channel;

use super::handover::{Descriptors, hand_over};
use super::{Backend, BackendError, DeviceState, PeerStatistics, PrivateKey, TunnelSecrets, limited};
use crate::kernel::link::Links;

/// 20,000 peers with statistics fit.
const MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// Peers in one call.
const CHUNK: usize = 4000;
/// A key that no peer has: what is asked for it is the device alone.
const NOBODY: [u8; 32] = [0xff; 32];
/// More peers than this are cheaper to read with all others.
const SINGLY: usize = 32;
/// How often, and how far apart, a process that is just being started anew is asked again.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);

/// cell-wg's two sockets.
#[derive(Debug)]
pub struct Userspace {
    client: WireguardServiceClient<Channel>,
    device_socket: PathBuf,
    links: Links,
}

impl Userspace {
    pub(in crate::kernel) fn with_links(wg_socket: PathBuf, device_socket: PathBuf, links: Links) -> Self {
        let client =
            WireguardServiceClient::new(ipc::connect(wg_socket)).max_decoding_message_size(MESSAGE_BYTES);
        Userspace {
            client,
            device_socket,
            links,
        }
    }

    /// Over the sockets of a cell-wg. Needs a tokio runtime.
    ///
    /// # Errors
    /// Of the rtnetlink socket.
    pub fn new(wg_socket: PathBuf, device_socket: PathBuf, table: &TableName) -> std::io::Result<Self> {
        Ok(Userspace::with_links(
            wg_socket,
            device_socket,
            Links::open(table)?,
        ))
    }

    async fn make(&mut self, wireguard: &Wireguard, key: &PrivateKey) -> Result<(), BackendError> {
        self.make_interface(&wireguard.interface, wireguard.listen_port)
            .await?;
        self.set_whole(&wireguard.interface, key, Vec::new).await
    }

    /// Port 0: of the system's choice.
    async fn make_interface(&mut self, name: &InterfaceName, port: u16) -> Result<(), BackendError> {
        let name = name.clone();
        let descriptors = Descriptors::make(&name, port)?;
        // Tagged while netd alone holds it: if netd dies now, the interface goes too.
        self.links
            .tag(&name)
            .await
            .map_err(|error| BackendError::Process(error.to_string()))?;
        let path = self.device_socket.clone();
        tokio::task::spawn_blocking(move || patiently_hand_over(&path, &name, &descriptors))
            .await
            .map_err(std::io::Error::other)?
    }

    async fn set_whole(
        &mut self,
        interface: &InterfaceName,
        key: &PrivateKey,
        peers: impl Fn() -> Vec<Peer>,
    ) -> Result<(), BackendError> {
        let mut attempts = ATTEMPTS;
        loop {
            // The message is tonic's from here on: one copy of each key passes through its buffers unwiped, in this process alone.
            let request = SetDeviceRequest {
                private_key: key.expose().to_vec(),
                peers: peers(),
                interface: interface.to_string(),
            };
            match self.client.set_device(request).await {
                Ok(_) => return Ok(()),
                // The channel may still lead to the process that was there before.
                Err(status) if status.code() == tonic::Code::Unavailable && attempts > 0 => attempts -= 1,
                Err(status) if status.code() == tonic::Code::Unavailable => {
                    return Err(BackendError::Away(status.message().to_owned()));
                }
                Err(status) => return Err(process(status)),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn change(&mut self, interface: &InterfaceName, update: &PeerUpdate) -> Result<(), BackendError> {
        let mut upserted: Vec<Peer> = update
            .upserted
            .iter()
            .map(|(key, peer)| wire(key, peer))
            .collect();
        let mut removed: Vec<Vec<u8>> = update.removed.iter().map(|key| key.as_bytes().to_vec()).collect();
        // All removals go first, so that an address is free before its next owner has it.
        while !removed.is_empty() {
            let rest = removed.split_off(removed.len().min(CHUNK));
            let request = UpdatePeersRequest {
                upserted: Vec::new(),
                removed_public_keys: removed,
                interface: interface.to_string(),
            };
            self.client.update_peers(request).await.map_err(process)?;
            removed = rest;
        }
        while !upserted.is_empty() {
            let rest = upserted.split_off(upserted.len().min(CHUNK));
            let request = UpdatePeersRequest {
                upserted,
                removed_public_keys: Vec::new(),
                interface: interface.to_string(),
            };
            self.client.update_peers(request).await.map_err(process)?;
            upserted = rest;
        }
        Ok(())
    }

    /// The answer, if cell-wg has a device of this interface, with all peers or that one.
    async fn get(
        &mut self,
        interface: &InterfaceName,
        only: Option<&[u8; 32]>,
        configuration_only: bool,
    ) -> Result<Option<GetDeviceResponse>, BackendError> {
        let request = || GetDeviceRequest {
            public_key: only.map(|key| key.to_vec()).unwrap_or_default(),
            configuration_only,
            interface: interface.to_string(),
        };
        let mut answer = self.client.get_device(request()).await;
        if answer
            .as_ref()
            .is_err_and(|status| status.code() == tonic::Code::Unavailable)
        {
            // The first call after cell-wg was started anew finds the old connection broken.
            answer = self.client.get_device(request()).await;
        }
        match answer {
            Ok(answer) => Ok(Some(answer.into_inner())),
            Err(status) if fault::reason(&status).as_deref() == Some("NO_DEVICE") => Ok(None),
            // A process that is not there has no device; making one will say why.
            Err(status) if status.code() == tonic::Code::Unavailable => Ok(None),
            Err(status) => Err(process(status)),
        }
    }
}

/// A cell-wg that died is started anew: for a moment there may be nobody, or one who goes.
fn patiently_hand_over(
    path: &Path,
    name: &InterfaceName,
    descriptors: &Descriptors,
) -> Result<(), BackendError> {
    let mut attempts = ATTEMPTS;
    loop {
        match hand_over(path, name, descriptors) {
            Err(BackendError::Io(error)) if attempts > 0 => {
                tracing::warn!(%error, "cell-wg did not take the device; trying again");
                attempts -= 1;
                std::thread::sleep(PAUSE);
            }
            Err(BackendError::Io(error)) => return Err(BackendError::Away(error.to_string())),
            outcome => return outcome,
        }
    }
}

fn process(status: tonic::Status) -> BackendError {
    let reason = fault::reason(&status).unwrap_or_else(|| format!("{:?}", status.code()));
    BackendError::Process(format!("{reason}: {}", status.message()))
}

fn wire(key: &PublicKey, peer: &DevicePeer) -> Peer {
    let DevicePeer {
        endpoint,
        keepalive,
        allowed_ips,
    } = peer;
    Peer {
        public_key: key.as_bytes().to_vec(),
        endpoint: endpoint.map(Into::into),
        persistent_keepalive_seconds: u32::from(*keepalive),
        allowed_ips: allowed_ips.iter().map(|net| (*net).into()).collect(),
        preshared_key: Vec::new(),
    }
}

fn answer_error(error: impl ToString) -> BackendError {
    BackendError::Answer(error.to_string())
}

fn state(response: GetDeviceResponse) -> Result<Option<DeviceState>, BackendError> {
    let GetDeviceResponse {
        interface: _,
        public_key,
        listen_port,
        peers,
    } = response;
    if public_key.is_empty() {
        return Ok(None);
    }
    let (mut configured, mut statistics) = (BTreeMap::new(), BTreeMap::new());
    let mut preshared = BTreeSet::new();
    for peer in peers {
        let has_preshared_key = peer.has_preshared_key;
        let (key, configuration, moving) = peer_state(peer)?;
        if has_preshared_key {
            preshared.insert(key);
        }
        configured.insert(key, configuration);
        statistics.insert(key, moving);
    }
    let device = Device {
        public_key: PublicKey::try_from(public_key.as_slice()).map_err(answer_error)?,
        listen_port: u16::try_from(listen_port).map_err(answer_error)?,
        // cell-wg knows no marks, and takes orders from netd alone.
        fwmark: 0,
        peers: configured,
        preshared,
    };
    Ok(Some(DeviceState { device, statistics }))
}

fn peer_state(state: PeerState) -> Result<(PublicKey, DevicePeer, PeerStatistics), BackendError> {
    let PeerState {
        public_key,
        endpoint,
        persistent_keepalive_seconds,
        allowed_ips,
        has_preshared_key: _,
        latest_handshake_unix_ms,
        received_bytes,
        sent_bytes,
    } = state;
    let key = PublicKey::try_from(public_key.as_slice()).map_err(answer_error)?;
    let endpoint = endpoint
        .as_ref()
        .map(SocketAddr::try_from)
        .transpose()
        .map_err(answer_error)?;
    let configuration = DevicePeer {
        endpoint,
        keepalive: u16::try_from(persistent_keepalive_seconds).map_err(answer_error)?,
        allowed_ips: allowed_ips
            .iter()
            .map(IpNet::try_from)
            .collect::<Result<_, _>>()
            .map_err(answer_error)?,
    };
    let statistics = PeerStatistics {
        endpoint,
        latest_handshake_unix_ms,
        received_bytes,
        sent_bytes,
    };
    Ok((key, configuration, statistics))
}

impl Backend for Userspace {
    fn name(&self) -> &'static str {
        "userspace"
    }

    fn create<'a>(
        &'a mut self,
        wireguard: &'a Wireguard,
        key: &'a PrivateKey,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(self.make(wireguard, key))
    }

    fn create_tunnel<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(self.make_interface(interface, 0))
    }

    fn set_tunnel<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
        secrets: &'a TunnelSecrets,
        peers: &'a BTreeMap<PublicKey, DevicePeer>,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        let TunnelSecrets { key, preshared } = secrets;
        let with_key = |(key, peer)| Peer {
            preshared_key: preshared
                .get(key)
                .map(|key| key.expose().to_vec())
                .unwrap_or_default(),
            ..wire(key, peer)
        };
        Box::pin(self.set_whole(interface, key, move || peers.iter().map(with_key).collect()))
    }

    fn update<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
        update: &'a PeerUpdate,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(self.change(interface, update))
    }

    fn device<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
    ) -> BoxFuture<'a, Result<Option<DeviceState>, BackendError>> {
        Box::pin(async move { self.get(interface, None, false).await?.map_or(Ok(None), state) })
    }

    fn identity<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
    ) -> BoxFuture<'a, Result<Option<Identity>, BackendError>> {
        Box::pin(async move {
            let answer = self.get(interface, Some(&NOBODY), true).await?;
            let state = answer.map_or(Ok(None), state)?;
            Ok(state.map(|state| state.device.identity()))
        })
    }

    fn reads_single_peers(&self) -> bool {
        true
    }

    fn some_peers<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
        keys: &'a BTreeSet<PublicKey>,
    ) -> BoxFuture<'a, Result<Option<Device>, BackendError>> {
        Box::pin(async move {
            if keys.len() > SINGLY {
                let answer = self.get(interface, None, true).await?;
                let state = answer.map_or(Ok(None), state)?;
                return Ok(state.map(|state| limited(state.device, keys)));
            }
            let answer = self.get(interface, Some(&NOBODY), true).await?;
            let Some(mut whole) = answer.map_or(Ok(None), state)?.map(|state| state.device) else {
                return Ok(None);
            };
            for key in keys {
                let answer = self.get(interface, Some(key.as_bytes()), true).await?;
                let one = answer.map_or(Ok(None), state)?;
                whole
                    .peers
                    .extend(one.into_iter().flat_map(|state| state.device.peers));
            }
            Ok(Some(whole))
        })
    }

    fn statistics_of<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
        key: &'a PublicKey,
    ) -> BoxFuture<'a, Result<Option<PeerStatistics>, BackendError>> {
        Box::pin(async move {
            let answer = self.get(interface, Some(key.as_bytes()), false).await?;
            let state = answer.map_or(Ok(None), state)?;
            Ok(state.and_then(|state| state.statistics.get(key).copied()))
        })
    }
}
