//! A device of the library that runs, and its peers: those that it has, and those that it does without ([`crate::dormant`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use gotatun::device;
use ipnet::IpNet;
use ipnetwork::IpNetwork;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use x25519_dalek::PublicKey;

use crate::device::{Asked, DeviceError, PeerState};
use crate::door::{Shared, Staff};
use crate::peers::{self, Changes, Peer, Peers};
use crate::tun::Tun;
use crate::udp::Sockets;

/// Removals and modifications per turn of the device's lock, each of which walks the table of allowed IPs: traffic goes
/// on between the turns.
const COSTLY_PER_TURN: usize = 8;
/// Additions per turn, each of which costs one X25519.
const ADDED_PER_TURN: usize = 256;

/// The library's, on our sockets and TUN.
pub type Device = device::Device<(Sockets, Tun, Tun)>;

/// It, with its peers.
pub struct Running {
    device: Arc<Device>,
    pub(crate) public_key: PublicKey,
    table: Arc<Mutex<Table>>,
    /// They end with it.
    staff: JoinSet<()>,
}

/// All peers, and which of them the device does without. Whoever changes the device's peers holds it.
pub struct Table {
    peers: Peers,
    shared: Arc<Shared>,
}

impl Running {
    /// One without peers.
    pub fn new(device: Device, public_key: PublicKey, staff: Staff) -> Self {
        let device = Arc::new(device);
        let table = Arc::new(Mutex::new(Table {
            peers: Peers::default(),
            shared: staff.shared(),
        }));
        let staff = staff.work(Arc::downgrade(&device), Arc::clone(&table));
        Running {
            device,
            public_key,
            table,
            staff,
        }
    }

    /// Changes the peers, and then the device.
    ///
    /// # Errors
    /// [`DeviceError`]; then it has to be dropped.
    pub async fn change(&self, change: impl FnOnce(&mut Peers) -> Changes) -> Result<(), DeviceError> {
        let mut table = self.table.lock().await;
        let changes = change(&mut table.peers);
        let changes = table.shared.dormant().admit(changes, &table.peers);
        apply(&self.device, changes, table.peers.is_empty()).await
    }

    /// The peers as they are.
    pub async fn get(&self, asked: Asked) -> BTreeMap<peers::PublicKey, PeerState> {
        let Asked {
            only,
            configuration_only,
        } = asked;
        let table = self.table.lock().await;
        let wanted: Vec<_> = match only {
            Some(key) => table.peers.get(&key).into_iter().collect(),
            None => table.peers.iter().collect(),
        };
        // As it was set: of who is dormant nothing moves.
        let (still, moving): (Vec<_>, Vec<_>) = {
            let dormant = table.shared.dormant();
            let is_still = |peer: &&Peer| configuration_only || dormant.contains(&peer.key);
            wanted.into_iter().partition(is_still)
        };
        let mut all: BTreeMap<_, _> = still.into_iter().map(configured).collect();
        if !moving.is_empty() {
            // The library reads all peers or none.
            let awake = observe(&self.device).await;
            all.extend(awake.filter(|(key, _)| only.is_none_or(|only| only == *key)));
        }
        all
    }

    /// Ends it, and waits until it has ended.
    pub async fn stop(mut self) {
        // None of them holds the device any longer.
        self.staff.shutdown().await;
        if let Some(device) = Arc::into_inner(self.device) {
            device.stop().await;
        }
    }
}

impl Table {
    /// The device has those of these peers from now on that are dormant.
    ///
    /// # Errors
    /// [`DeviceError`]; then they are dormant as before.
    pub async fn wake(
        &mut self,
        device: &Device,
        keys: impl Iterator<Item = peers::PublicKey>,
    ) -> Result<(), DeviceError> {
        let keys: BTreeSet<_> = {
            let dormant = self.shared.dormant();
            keys.filter(|key| dormant.contains(key)).collect()
        };
        match keys.is_empty() {
            true => Ok(()),
            false => self.add(device, &keys.into_iter().collect::<Vec<_>>()).await,
        }
    }

    /// The device has all peers from now on, whatever comes.
    ///
    /// # Errors
    /// [`DeviceError`]; then those that it does not have are dormant as before.
    pub async fn wake_all(&mut self, device: &Device) -> Result<(), DeviceError> {
        let keys: Vec<_> = self.shared.dormant().iter().copied().collect();
        for turn in keys.chunks(ADDED_PER_TURN) {
            self.add(device, turn).await?;
        }
        self.shared.dormant().end();
        if !keys.is_empty() {
            tracing::info!(
                peers = keys.len(),
                "too many handshakes begin to ask who calls: no peer is left out"
            );
        }
        Ok(())
    }

    async fn add(&mut self, device: &Device, keys: &[peers::PublicKey]) -> Result<(), DeviceError> {
        let peers = keys.iter().filter_map(|key| self.peers.get(key));
        if !device.add_peers(peers.map(new_peer)).await? {
            return Err(DeviceError::NotTaken);
        }
        let mut dormant = self.shared.dormant();
        keys.iter().for_each(|key| dormant.wake(key));
        Ok(())
    }
}

/// Does it to the device; `is_last`: it has no peers then.
async fn apply(device: &Device, changes: Changes, is_last: bool) -> Result<(), DeviceError> {
    let Changes {
        removed,
        modified,
        added,
    } = changes;
    if is_last && !removed.is_empty() {
        device.clear_peers().await?;
        return Ok(());
    }
    // Each is confirmed: what is kept in `peers` is told as what the device has.
    let mut taken = true;
    for turn in removed.chunks(COSTLY_PER_TURN) {
        device
            .write(async |device| {
                for key in turn {
                    taken &= device.remove_peer(&PublicKey::from(*key)).await;
                }
            })
            .await?;
    }
    for turn in modified.chunks(COSTLY_PER_TURN) {
        device
            .write(async |device| {
                for peer in turn {
                    let key = PublicKey::from(peer.key);
                    taken &= device.modify_peer(&key, |present| modify(present, peer)).await;
                }
            })
            .await?;
    }
    for turn in added.chunks(ADDED_PER_TURN) {
        taken &= device.add_peers(turn.iter().map(new_peer)).await?;
    }
    if taken { Ok(()) } else { Err(DeviceError::NotTaken) }
}

async fn observe(device: &Device) -> impl Iterator<Item = (peers::PublicKey, PeerState)> {
    let now = SystemTime::now();
    let peers = device.peers().await.into_iter();
    peers.map(move |device::configure::PeerStats { peer, stats, .. }| {
        let state = PeerState {
            keepalive: peer.keepalive.unwrap_or(0),
            endpoint: peer.endpoint,
            allowed_ips: peer.allowed_ips.iter().filter_map(ip_net).collect(),
            latest_handshake: stats.last_handshake.and_then(|age| now.checked_sub(age)),
            received_bytes: stats.rx_bytes as u64,
            sent_bytes: stats.tx_bytes as u64,
            preshared: peer.preshared_key.is_some(),
        };
        (peer.public_key.to_bytes(), state)
    })
}

fn configured(peer: &Peer) -> (peers::PublicKey, PeerState) {
    let state = PeerState {
        keepalive: peer.keepalive,
        endpoint: peer.endpoint,
        allowed_ips: peer.allowed_ips.iter().copied().collect(),
        latest_handshake: None,
        received_bytes: 0,
        sent_bytes: 0,
        preshared: peer.preshared.is_some(),
    };
    (peer.key, state)
}

fn new_peer(peer: &Peer) -> device::Peer {
    let mut new = device::Peer::new(PublicKey::from(peer.key))
        .with_allowed_ips(peer.allowed_ips.iter().filter_map(ip_network));
    new.endpoint = peer.endpoint;
    new.keepalive = keepalive(peer);
    new.preshared_key = peer.preshared.as_ref().map(|key| *key.expose());
    new
}

fn modify(present: &mut device::configure::PeerMut, peer: &Peer) {
    present.clear_allowed_ips();
    present.add_allowed_ips(peer.allowed_ips.iter().filter_map(ip_network));
    present.set_keepalive(keepalive(peer));
    if peer.endpoint.is_some() {
        present.set_endpoint(peer.endpoint);
    }
}

fn keepalive(peer: &Peer) -> Option<u16> {
    (peer.keepalive != 0).then_some(peer.keepalive)
}

// Both types check the same rule, a prefix length that fits the family, so neither conversion loses anything.
fn ip_network(net: &IpNet) -> Option<IpNetwork> {
    IpNetwork::new(net.addr(), net.prefix_len()).ok()
}

fn ip_net(network: &IpNetwork) -> Option<IpNet> {
    IpNet::new(network.ip(), network.prefix()).ok()
}
