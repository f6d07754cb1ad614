//! The tunnel of one exit: what there is, what is wanted, and the steps from the one to the other. Each exit is by
//! itself, so that what fails with one touches no other.
//!
//! Keys are secrets of vaultd. A device bears a record of the secrets that it was given, their revision and the public key that
//! belongs to them, so that a netd that was started anew knows without asking whether they are the ones that are wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;

use crate::desired::{Exit, FarEnd, Tunnel, WireguardExit};
use crate::model::{ExitId, Mtu, PublicKey};
use crate::observed::{Device, DevicePeer};
use crate::plan::PeerUpdate;

/// Which secrets a device was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRecord {
    /// Whose they are.
    pub exit: ExitId,
    /// [`WireguardExit::secret_revision`] at that time.
    pub revision: u64,
    /// Of the private key.
    pub public_key: PublicKey,
}

/// Not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record is \"secrets REVISION of EXIT with PUBLIC-KEY\"")]
pub struct InvalidRecord;

impl fmt::Display for SecretRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SecretRecord {
            exit,
            revision,
            public_key,
        } = self;
        write!(f, "secrets {revision} of {exit} with {public_key}")
    }
}

impl FromStr for SecretRecord {
    type Err = InvalidRecord;

    fn from_str(text: &str) -> Result<Self, InvalidRecord> {
        let text = text.strip_prefix("secrets ").ok_or(InvalidRecord)?;
        let (revision, text) = text.split_once(" of ").ok_or(InvalidRecord)?;
        let (exit, key) = text.split_once(" with ").ok_or(InvalidRecord)?;
        let key = STANDARD.decode(key).map_err(|_| InvalidRecord)?;
        Ok(SecretRecord {
            exit: exit.parse().map_err(|_| InvalidRecord)?,
            revision: revision.parse().map_err(|_| InvalidRecord)?,
            public_key: PublicKey::try_from(key.as_slice()).map_err(|_| InvalidRecord)?,
        })
    }
}

/// An interface with an exit's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelSeen {
    /// Whether netd made it.
    pub ours: bool,
    /// The secrets that it was given last; none: none yet.
    pub record: Option<SecretRecord>,
    /// Whether it is up.
    pub up: bool,
    /// Largest packet; none: out of our range.
    pub mtu: Option<Mtu>,
    /// Global addresses with their prefix lengths.
    pub addresses: BTreeSet<IpNet>,
    /// Whether return paths are checked loosely on it (rp_filter 2).
    pub loose: bool,
    /// The user (numeric id) that alone may read and write it; none: it is no TUN that was made for one.
    pub user: Option<u32>,
    /// The device behind it; none: it has no key, or its process is gone. Of one that is not ours it is not looked at.
    pub device: Option<Device>,
}

/// One thing to do to the tunnel of an exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelStep {
    /// Takes the interface away, its device with it.
    Remove,
    /// Makes the interface, down, and a device without a key.
    Create,
    /// Makes a persistent TUN for the user (numeric id), down.
    CreateFor(u32),
    /// Gives the device its keys and all far ends, and records that.
    Secrets,
    /// Changes far ends; preshared keys stay.
    FarEnds(PeerUpdate),
    /// Sets the largest packet.
    SetMtu(Mtu),
    /// Takes an address from the interface.
    RemoveAddress(IpNet),
    /// Gives the interface an address, which makes no route.
    AddAddress(IpNet),
    /// Lets return paths be checked loosely.
    Loosen,
    /// Brings the interface up.
    SetUp,
}

/// There is an interface of that name that netd did not make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the interface belongs to another program")]
pub struct Foreign;

/// What leads from what is there to the tunnel of `exit`. `before` is the same exit when it was last put in force, if that is
/// known: a far end that moved since then keeps the place it moved to. `user` (numeric id) is for whom TUNs are made.
///
/// # Errors
/// [`Foreign`].
pub fn steps(
    exit: &Exit,
    before: Option<&Exit>,
    seen: Option<&TunnelSeen>,
    user: Option<u32>,
) -> Result<Vec<TunnelStep>, Foreign> {
    match (&exit.tunnel, user) {
        (Tunnel::Wireguard(tunnel), _) => of_wireguard(exit, tunnel, before, seen),
        (Tunnel::User(_), Some(user)) => of_user(&exit.tunnel, seen, user),
        // The ceiling has none, and what it does not have is not accepted.
        (Tunnel::User(_), None) => Ok(Vec::new()),
    }
}

/// The network on the machine's links that an address of a program's tunnel would be taken from. Its far end gives the addresses
/// while it runs, and could take a neighbour's: the machine would speak to itself instead. What is on a link alone, as the
/// tunnel's own, is no network.
pub fn neighbourhood(tunnel: &Tunnel, on_link: &BTreeSet<IpNet>) -> Option<(IpNet, IpNet)> {
    match tunnel {
        Tunnel::Wireguard(_) => None,
        Tunnel::User(_) => tunnel.addresses().into_iter().find_map(|address| {
            let around = on_link
                .iter()
                .find(|net| net.contains(&address.addr()) && net.prefix_len() < net.max_prefix_len());
            around.map(|net| (address, *net))
        }),
    }
}

/// A TUN is what it was made as: one for somebody else is made anew. Who reads it then begins anew too.
fn of_user(tunnel: &Tunnel, seen: Option<&TunnelSeen>, user: u32) -> Result<Vec<TunnelStep>, Foreign> {
    if seen.is_some_and(|seen| !seen.ours) {
        return Err(Foreign);
    }
    let kept = seen.filter(|seen| seen.user == Some(user));
    let mut steps = Vec::new();
    if kept.is_none() {
        steps.extend(seen.map(|_| TunnelStep::Remove));
        steps.push(TunnelStep::CreateFor(user));
    }
    steps.extend(link(tunnel, kept));
    Ok(steps)
}

fn of_wireguard(
    exit: &Exit,
    tunnel: &WireguardExit,
    before: Option<&Exit>,
    seen: Option<&TunnelSeen>,
) -> Result<Vec<TunnelStep>, Foreign> {
    let mut steps = Vec::new();
    // With a mark on it, its own packets could be led into an exit; netd sets none.
    let marked = |seen: &TunnelSeen| seen.device.as_ref().is_some_and(|device| device.fwmark != 0);
    let kept = match seen {
        Some(seen) if !seen.ours => return Err(Foreign),
        Some(seen) if marked(seen) => {
            steps.push(TunnelStep::Remove);
            None
        }
        kept => kept,
    };
    if kept.is_none() {
        steps.push(TunnelStep::Create);
    }
    match kept.and_then(|seen| device_with_secrets(exit, tunnel, seen)) {
        Some(device) => {
            let before = before.and_then(|before| match &before.tunnel {
                Tunnel::Wireguard(before) => Some(before),
                Tunnel::User(_) => None,
            });
            let update = far_ends(tunnel, before, device);
            steps.extend((!update.is_empty()).then_some(TunnelStep::FarEnds(update)));
        }
        None => steps.push(TunnelStep::Secrets),
    }
    steps.extend(link(&exit.tunnel, kept));
    Ok(steps)
}

/// The device, if it has the secrets that are wanted.
fn device_with_secrets<'a>(exit: &Exit, tunnel: &WireguardExit, seen: &'a TunnelSeen) -> Option<&'a Device> {
    let (device, record) = (seen.device.as_ref()?, seen.record.as_ref()?);
    let keyed = |far: &FarEnd| match device.peers.get(&far.key) {
        Some(_) => device.preshared.contains(&far.key) == far.preshared,
        None => !far.preshared,
    };
    let holds = record.exit == exit.way.id
        && record.revision == tunnel.secret_revision
        && record.public_key == device.public_key
        && tunnel.far_ends.iter().all(keyed);
    holds.then_some(device)
}

fn link(tunnel: &Tunnel, seen: Option<&TunnelSeen>) -> Vec<TunnelStep> {
    let mut steps = Vec::new();
    if seen.and_then(|seen| seen.mtu) != Some(tunnel.mtu()) {
        steps.push(TunnelStep::SetMtu(tunnel.mtu()));
    }
    let wanted = tunnel.addresses();
    let present = seen.map(|seen| seen.addresses.clone()).unwrap_or_default();
    steps.extend(
        present
            .difference(&wanted)
            .copied()
            .map(TunnelStep::RemoveAddress),
    );
    steps.extend(wanted.difference(&present).copied().map(TunnelStep::AddAddress));
    if !seen.is_some_and(|seen| seen.loose) {
        steps.push(TunnelStep::Loosen);
    }
    if !seen.is_some_and(|seen| seen.up) {
        steps.push(TunnelStep::SetUp);
    }
    steps
}

/// The far ends as a new device is given them.
pub fn device_peers(tunnel: &WireguardExit) -> BTreeMap<PublicKey, DevicePeer> {
    let peers = tunnel
        .far_ends
        .iter()
        .map(|far| (far.key, device_peer(far, true)));
    peers.collect()
}

fn device_peer(far: &FarEnd, set_endpoint: bool) -> DevicePeer {
    DevicePeer {
        endpoint: far.endpoint.filter(|_| set_endpoint),
        keepalive: far.keepalive,
        allowed_ips: far.allowed_ips.clone(),
    }
}

fn far_ends(tunnel: &WireguardExit, before: Option<&WireguardExit>, device: &Device) -> PeerUpdate {
    let wanted: BTreeSet<PublicKey> = tunnel.far_ends.iter().map(|far| far.key).collect();
    let mut update = PeerUpdate {
        upserted: BTreeMap::new(),
        removed: device
            .peers
            .keys()
            .filter(|key| !wanted.contains(*key))
            .copied()
            .collect(),
    };
    for far in &tunnel.far_ends {
        let present = device.peers.get(&far.key);
        let known = before.and_then(|before| before.far_ends.iter().find(|old| old.key == far.key));
        let moved = match known {
            Some(known) => known.endpoint != far.endpoint,
            None => present.is_none_or(|present| present.endpoint != far.endpoint),
        };
        let set_endpoint = far.endpoint.is_some() && moved;
        let after = device_peer(far, set_endpoint);
        let same = present.is_some_and(|present| {
            present.keepalive == after.keepalive && present.allowed_ips == after.allowed_ips && !set_endpoint
        });
        if !same {
            update.upserted.insert(far.key, after);
        }
    }
    update
}

/// The name at vaultd of a field of the exit's secrets; none: the id is not that of a connection, which is a UUID, so that there
/// are none.
pub fn secret_name(exit: &ExitId, field: &str) -> Option<String> {
    let id = exit.as_str();
    let groups: Vec<usize> = id.split('-').map(str::len).collect();
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte) || byte == b'-';
    if groups != [8, 4, 4, 4, 12] || !id.bytes().all(digit) {
        return None;
    }
    Some(format!("conn_{}_{field}", id.replace('-', "")))
}
