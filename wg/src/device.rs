//! The WireGuard devices: each put together from a hand-over, then changed by differences.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use gotatun::device;
use ipnet::IpNet;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::door;
use crate::handover::{HandOver, InterfaceName};
use crate::peers::{self, Peer};
use crate::running::Running;
use crate::tun::{Lost, LostSender, Tun};
use crate::udp::Sockets;

/// Most devices: the cell's own, and those of 256 exits.
pub const DEVICES_MAX: usize = 257;
/// How long the parts of a stopped device may take to let go of the TUN.
const LET_GO: Duration = Duration::from_secs(2);

/// Why a call cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// netd has not handed over a TUN and sockets yet.
    #[error("no TUN and sockets were handed over yet")]
    NoDevice,
    /// As many devices as there may be.
    #[error("there are {DEVICES_MAX} devices already")]
    TooMany,
    /// No private key yet.
    #[error("the device has no private key yet; set it as a whole first")]
    NoKey,
    /// The library failed; the device is shut down, and setting it as a whole builds it anew.
    #[error("the device failed and was shut down: {0}")]
    Failed(#[from] device::Error),
    /// The library did not take a change; the device is shut down, and setting it as a whole builds it anew.
    #[error("the device did not take a change of its peers and was shut down")]
    NotTaken,
    /// A descriptor could not be duplicated.
    #[error("the handed-over descriptors cannot be used: {0}")]
    Io(#[from] std::io::Error),
}

/// A peer as the device has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerState {
    /// Keepalive in seconds, 0 is off.
    pub keepalive: u16,
    /// Where its last authentic packet came from, or where it was said to be.
    pub endpoint: Option<SocketAddr>,
    /// Source addresses accepted from it.
    pub allowed_ips: Vec<IpNet>,
    /// When the last handshake was completed.
    pub latest_handshake: Option<SystemTime>,
    /// Bytes received from it.
    pub received_bytes: u64,
    /// Bytes sent to it.
    pub sent_bytes: u64,
    /// Whether it has a preshared key.
    pub preshared: bool,
}

/// The device as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Name of the TUN.
    pub interface: InterfaceName,
    /// UDP port.
    pub port: u16,
    /// Before the first key: `None`.
    pub public_key: Option<peers::PublicKey>,
    /// By public key.
    pub peers: BTreeMap<peers::PublicKey, PeerState>,
}

/// What is asked of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// One peer; none: all.
    pub only: Option<peers::PublicKey>,
    /// Without what moves.
    pub configuration_only: bool,
}

/// Holds the devices; every call waits for the one before it.
pub struct Engine {
    slots: Mutex<Slots>,
    lost: mpsc::UnboundedSender<(u64, Lost)>,
}

#[derive(Default)]
struct Slots {
    by_name: BTreeMap<InterfaceName, Slot>,
    /// How many there have been.
    made: u64,
}

/// What was handed over, and the device that runs on it once it has a key.
struct Slot {
    number: u64,
    port: u16,
    tun: Tun,
    sockets: Sockets,
    watchman: JoinHandle<()>,
    running: Option<Running>,
}

impl Engine {
    /// An engine without a device. The loss of a descriptor is told to `lost`, with the number of the device.
    pub fn new(lost: mpsc::UnboundedSender<(u64, Lost)>) -> Self {
        Engine {
            slots: Mutex::default(),
            lost,
        }
    }

    /// Takes over descriptors. A device of that name that is there is shut down and its descriptors are closed first; others
    /// are left alone.
    ///
    /// # Errors
    /// [`DeviceError::TooMany`]; [`DeviceError::Io`] when the descriptors cannot be polled, then there is no device of that
    /// name.
    pub async fn take(&self, handed: HandOver) -> Result<(), DeviceError> {
        let HandOver {
            interface,
            tun,
            udp_v4,
            udp_v6,
            port,
        } = handed;
        let mut slots = self.slots.lock().await;
        if let Some(before) = slots.by_name.remove(&interface) {
            before.shut_down().await;
        }
        if slots.by_name.len() >= DEVICES_MAX {
            return Err(DeviceError::TooMany);
        }
        slots.made += 1;
        let number = slots.made;
        let lost = LostSender::new(number, self.lost.clone());
        let tun = Tun::new(tun, lost.clone())?;
        let slot = Slot {
            number,
            port,
            watchman: tokio::spawn(tun.clone().deleted()),
            tun,
            sockets: Sockets::new(udp_v4, udp_v6, lost)?,
            running: None,
        };
        slots.by_name.insert(interface, slot);
        Ok(())
    }

    /// Sets key and peers as a whole. With the key that the device has, only what differs is touched; with another one
    /// the device is built anew on the same descriptors, since no session survives that.
    ///
    /// # Errors
    /// [`DeviceError`]; after `Failed` the device has no key.
    pub async fn set(
        &self,
        interface: &InterfaceName,
        private_key: StaticSecret,
        all: Vec<Peer>,
    ) -> Result<(), DeviceError> {
        let mut slots = self.slots.lock().await;
        let slot = slots.by_name.get_mut(interface).ok_or(DeviceError::NoDevice)?;
        let public_key = PublicKey::from(&private_key);
        let running = match slot.running.take() {
            Some(running) if running.public_key == public_key => running,
            before => {
                if let Some(before) = before {
                    before.stop().await;
                }
                slot.start(private_key, public_key).await?
            }
        };
        running.change(|peers| peers.replace(all)).await?;
        slot.running = Some(running);
        Ok(())
    }

    /// Adds, replaces and removes some peers.
    ///
    /// # Errors
    /// [`DeviceError`]; after `Failed` the device has no key.
    pub async fn update(
        &self,
        interface: &InterfaceName,
        upserted: Vec<Peer>,
        removed: &[peers::PublicKey],
    ) -> Result<(), DeviceError> {
        let mut slots = self.slots.lock().await;
        let slot = slots.by_name.get_mut(interface).ok_or(DeviceError::NoDevice)?;
        let running = slot.running.take().ok_or(DeviceError::NoKey)?;
        running.change(|peers| peers.update(upserted, removed)).await?;
        slot.running = Some(running);
        Ok(())
    }

    /// The device as it is, with all peers or only the one asked for; of `configuration_only`, as it was set.
    ///
    /// # Errors
    /// [`DeviceError::NoDevice`].
    pub async fn get(&self, interface: &InterfaceName, asked: Asked) -> Result<Observed, DeviceError> {
        let slots = self.slots.lock().await;
        let slot = slots.by_name.get(interface).ok_or(DeviceError::NoDevice)?;
        let (public_key, peers) = match &slot.running {
            Some(running) => (Some(running.public_key.to_bytes()), running.get(asked).await),
            None => (None, BTreeMap::new()),
        };
        Ok(Observed {
            interface: interface.clone(),
            port: slot.port,
            public_key,
            peers,
        })
    }

    /// Shuts the device of that number down, whose descriptors no longer work. One that was replaced is gone already.
    pub async fn lose(&self, number: u64, lost: Lost) {
        let mut slots = self.slots.lock().await;
        let found = slots.by_name.iter().find(|(_, slot)| slot.number == number);
        let Some(interface) = found.map(|(interface, _)| interface.clone()) else {
            return;
        };
        tracing::warn!(%interface, "{lost}");
        if let Some(slot) = slots.by_name.remove(&interface) {
            slot.shut_down().await;
        }
    }

    /// Shuts all devices down and closes their descriptors.
    pub async fn shut_down(&self) {
        let slots = std::mem::take(&mut self.slots.lock().await.by_name);
        for slot in slots.into_values() {
            slot.shut_down().await;
        }
    }
}

impl Slot {
    async fn start(&self, private_key: StaticSecret, public_key: PublicKey) -> Result<Running, DeviceError> {
        let (door, staff) = door::open(private_key.clone());
        let device = device::build()
            .with_udp(self.sockets.try_clone()?.behind(door))
            .with_ip(self.tun.clone())
            .with_listen_port(self.port)
            .with_private_key(private_key)
            .build()
            .await?;
        // A device that is built without peers never starts to carry packets when peers are added (gotatun 0.10.2,
        // `DeviceBuilder::build`); clearing its peers does start it.
        device.clear_peers().await?;
        Ok(Running::new(device, public_key, staff))
    }

    async fn shut_down(self) {
        self.watchman.abort();
        let tun = self.tun.watch();
        if let Some(running) = self.running {
            running.stop().await;
        }
        drop((self.tun, self.sockets));
        let _ = self.watchman.await;
        // The library's buffer tasks end on their own a moment later.
        let let_go = async {
            while tun.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(LET_GO, let_go).await.is_err() {
            tracing::warn!("the former TUN is still held by a task of the former device");
        }
    }
}
