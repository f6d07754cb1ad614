//! The WireGuard device, in the kernel or in the process cell-wg, behind one small trait.

pub mod handover;
pub mod kernel;
pub mod memory;
pub(super) mod tun;
pub mod userspace;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use cell_netd_core::desired::Wireguard;
use cell_netd_core::model::{InterfaceName, PublicKey};
use cell_netd_core::observed::{Device, DevicePeer, Identity};
use cell_netd_core::plan::PeerUpdate;
use futures_util::future::BoxFuture;
use zeroize::Zeroizing;

/// An X25519 private key. Never shown, wiped when dropped.
pub struct PrivateKey(Zeroizing<[u8; 32]>);

impl PrivateKey {
    /// Takes the bytes; `None` if they are not 32. The source is the caller's to wipe.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut key = Zeroizing::new([0; 32]);
        if bytes.len() != key.len() {
            return None;
        }
        key.copy_from_slice(bytes);
        Some(PrivateKey(key))
    }

    /// The public key that belongs to it.
    pub fn public(&self) -> Option<PublicKey> {
        // Wiped when dropped.
        let secret = x25519_dalek::StaticSecret::from(*self.0);
        PublicKey::try_from(x25519_dalek::PublicKey::from(&secret).as_bytes().as_slice()).ok()
    }

    /// The same once more, for another thread.
    pub(crate) fn duplicate(&self) -> Self {
        PrivateKey(self.0.clone())
    }

    /// The bytes, for the device alone.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

/// A preshared key. Never shown, wiped when dropped.
pub struct PresharedKey(Zeroizing<[u8; 32]>);

impl PresharedKey {
    /// Takes the bytes; `None` if they are not 32, or all zero. The source is the caller's to wipe.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let key = <[u8; 32]>::try_from(bytes).map(Zeroizing::new).ok()?;
        (*key != [0; 32]).then_some(PresharedKey(key))
    }

    /// The same once more, for another thread.
    pub(crate) fn duplicate(&self) -> Self {
        PresharedKey(self.0.clone())
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

/// What the tunnel of an exit is secured with.
#[derive(Debug)]
pub struct TunnelSecrets {
    /// The near end's.
    pub key: PrivateKey,
    /// By far end, of those that have one.
    pub preshared: BTreeMap<PublicKey, PresharedKey>,
}

/// What moves about a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeerStatistics {
    /// Where the last authentic packet came from.
    pub endpoint: Option<std::net::SocketAddr>,
    /// Milliseconds since 1970; 0: never.
    pub latest_handshake_unix_ms: i64,
    /// Bytes.
    pub received_bytes: u64,
    /// Bytes.
    pub sent_bytes: u64,
}

/// A device with its statistics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceState {
    /// Its configuration.
    pub device: Device,
    /// What moves, by key of the peer.
    pub statistics: BTreeMap<PublicKey, PeerStatistics>,
}

/// What the device would not do.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The kernel or a socket.
    #[error("the WireGuard device failed: {0}")]
    Io(#[from] std::io::Error),
    /// cell-wg is not there, however long one waits.
    #[error("cell-wg does not answer: {0}")]
    Away(String),
    /// cell-wg said no.
    #[error("cell-wg refused: {0}")]
    Process(String),
    /// Answered what cannot be read.
    #[error("the WireGuard device answered what cannot be read: {0}")]
    Answer(String),
    /// It changed again and again while it was read.
    #[error("the WireGuard device changed again and again while it was read")]
    Restless,
    /// The model of it refused (tests).
    #[error("{0}")]
    Refused(String),
}

/// A way to have a WireGuard device. The interface itself is given addresses and brought up elsewhere.
pub trait Backend: Send + Sync {
    /// "kernel" or "userspace".
    fn name(&self) -> &'static str;

    /// Makes the interface, which is not there, and a device without peers behind it.
    fn create<'a>(
        &'a mut self,
        wireguard: &'a Wireguard,
        key: &'a PrivateKey,
    ) -> BoxFuture<'a, Result<(), BackendError>>;

    /// Makes an interface, which is not there, and a device without a key behind it, on a port of the system's choice.
    fn create_tunnel<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
    ) -> BoxFuture<'a, Result<(), BackendError>>;

    /// Gives a device its keys and the whole set of its peers. Sessions may begin anew.
    fn set_tunnel<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
        secrets: &'a TunnelSecrets,
        peers: &'a BTreeMap<PublicKey, DevicePeer>,
    ) -> BoxFuture<'a, Result<(), BackendError>>;

    /// Removes peers, then adds and changes others. Sessions of peers that stay go on, and so do their preshared keys.
    fn update<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
        update: &'a PeerUpdate,
    ) -> BoxFuture<'a, Result<(), BackendError>>;

    /// The device; none: the interface has none, or it has no key.
    fn device<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
    ) -> BoxFuture<'a, Result<Option<DeviceState>, BackendError>>;

    /// The device without its peers, at a cost that does not grow with them.
    fn identity<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
    ) -> BoxFuture<'a, Result<Option<Identity>, BackendError>>;

    /// Whether `some_peers` costs what it reads, however many peers there are.
    fn reads_single_peers(&self) -> bool;

    /// The device with those of the peers that it has, as they were configured: endpoints may not be the learned ones.
    fn some_peers<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
        keys: &'a BTreeSet<PublicKey>,
    ) -> BoxFuture<'a, Result<Option<Device>, BackendError>>;

    /// What moves of one peer; none: the device does not have it.
    fn statistics_of<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
        key: &'a PublicKey,
    ) -> BoxFuture<'a, Result<Option<PeerStatistics>, BackendError>>;
}

/// With those peers alone.
pub(crate) fn limited(mut device: Device, keys: &BTreeSet<PublicKey>) -> Device {
    device.peers.retain(|key, _| keys.contains(key));
    device.preshared.retain(|key| keys.contains(key));
    device
}

pub(crate) fn peer_statistics(peer: &DevicePeer) -> PeerStatistics {
    PeerStatistics {
        endpoint: peer.endpoint,
        ..PeerStatistics::default()
    }
}
