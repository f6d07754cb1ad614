//! Peers: what is asked for, what is stored, and what a change makes of it.

use sha2::{Digest, Sha256};

use crate::access::{AccessInput, AccessPolicy, Tunnel};
use crate::connection::choice::{ExitChoice, ExitInput};
use crate::fault::Faults;
use crate::key::PublicKey;
use crate::name::PeerName;
use crate::range::HostIndex;

/// Most peers of a cell: netd's own limit (`proto/cell/netd/v1/network.proto`), which its ceiling can only lower.
pub const MAX_PEERS: usize = 20_000;

/// A peer as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: PeerName,
    /// Its key.
    pub public_key: PublicKey,
    /// Its number in the VPN's ranges.
    pub host: HostIndex,
    /// What it may reach.
    pub access: AccessPolicy,
    /// What its device sends into the tunnel.
    pub tunnel: Tunnel,
    /// What carries what it sends to the internet.
    pub exit: ExitChoice,
}

impl Peer {
    /// Names this state of the peer: the first half of SHA-256 over all of it, hexadecimal. Who changes a peer by what
    /// was read before sends it along, so that a change in between is not undone unseen.
    pub fn version(&self) -> String {
        let Peer {
            name,
            public_key,
            host,
            access,
            tunnel,
            exit,
        } = self;
        let mut hash = Sha256::new();
        let text = format!(
            "{name}\n{public_key}\n{}\n{access}\n{}\n{exit}",
            host.get(),
            tunnel.as_str()
        );
        hash.update(text);
        let bytes: [u8; 32] = hash.finalize().into();
        hex::encode(&bytes[..16])
    }
}

impl Peer {
    /// Whether `after` is this peer with some of its access taken away, and nothing else.
    pub fn loses_alone(&self, after: &Peer) -> bool {
        let as_before = Peer {
            access: self.access.clone(),
            ..after.clone()
        };
        as_before == *self && after.access != self.access && after.access.is_within(&self.access)
    }
}

/// Where a new peer's key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySource {
    /// The device made the pair and sent the public half.
    Device(PublicKey),
    /// The caller asked, in so many words, for a pair made by the server.
    Server,
}

/// A new peer as received, unchecked.
#[derive(Debug, Clone, Default)]
pub struct PeerInput {
    /// See [`PeerName`].
    pub name: String,
    /// Base64; absent if the server is to make the pair.
    pub public_key: Option<String>,
    /// Must be true exactly when `public_key` is absent.
    pub server_makes_key: bool,
    /// Absent: nothing beyond the cell itself.
    pub access: Option<AccessInput>,
    /// Absent: by [`Tunnel::default_for`].
    pub tunnel: Option<String>,
    /// Absent: the machine's own way.
    pub exit: ExitInput,
}

/// A new peer, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPeer {
    /// Its name.
    pub name: PeerName,
    /// Where its key comes from.
    pub key: KeySource,
    /// What it may reach.
    pub access: AccessPolicy,
    /// What its device sends into the tunnel.
    pub tunnel: Tunnel,
    /// What is to carry it; to be looked up.
    pub exit: ExitInput,
}

/// A change of a peer as received, unchecked. What is absent stays.
#[derive(Debug, Clone, Default)]
pub struct PeerUpdateInput {
    /// Base64.
    pub public_key: Option<String>,
    /// Replaces the whole policy.
    pub access: Option<AccessInput>,
    /// `full` or `split`.
    pub tunnel: Option<String>,
    /// What carries it.
    pub exit: ExitInput,
}

/// A change of a peer, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerUpdate {
    /// A new key for the same peer.
    pub public_key: Option<PublicKey>,
    /// A new policy.
    pub access: Option<AccessPolicy>,
    /// A new tunnel.
    pub tunnel: Option<Tunnel>,
    /// What carries it from now on; to be looked up.
    pub exit: ExitInput,
}

impl PeerInput {
    /// Checks it.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn check(&self) -> Result<NewPeer, Faults> {
        let mut faults = Faults::default();
        let name = faults.keep("name", PeerName::parse(&self.name));
        let key = self.check_key(&mut faults);
        let access = self
            .access
            .as_ref()
            .map(|input| input.check("access", &mut faults))
            .unwrap_or_default();
        let tunnel =
            check_tunnel(self.tunnel.as_deref(), &mut faults).unwrap_or(Tunnel::default_for(&access));
        match (name, key) {
            (Some(name), Some(key)) if faults.is_empty() => Ok(NewPeer {
                name,
                key,
                access,
                tunnel,
                exit: self.exit.clone(),
            }),
            _ => Err(faults),
        }
    }

    fn check_key(&self, faults: &mut Faults) -> Option<KeySource> {
        match (
            self.public_key.as_deref().filter(|key| !key.is_empty()),
            self.server_makes_key,
        ) {
            (Some(key), false) => faults
                .keep("public_key", PublicKey::parse(key))
                .map(KeySource::Device),
            (None, true) => Some(KeySource::Server),
            (Some(_), true) => {
                faults.add("server_makes_key", "must be false when public_key is given");
                None
            }
            (None, false) => {
                faults.add("public_key", "is required, unless server_makes_key is true");
                None
            }
        }
    }
}

impl PeerUpdateInput {
    /// Checks it.
    ///
    /// # Errors
    /// Every fault at once; a change of nothing is one.
    pub fn check(&self) -> Result<PeerUpdate, Faults> {
        let mut faults = Faults::default();
        let update = PeerUpdate {
            public_key: self
                .public_key
                .as_deref()
                .and_then(|k| faults.keep("public_key", PublicKey::parse(k))),
            access: self
                .access
                .as_ref()
                .map(|input| input.check("access", &mut faults)),
            tunnel: check_tunnel(self.tunnel.as_deref(), &mut faults),
            exit: self.exit.clone(),
        };
        if faults.is_empty() && update == PeerUpdate::default() {
            faults.add(
                "",
                "must name at least one of public_key, access, tunnel, exit_connection_id, fail_open, fallback_connection_ids",
            );
        }
        if faults.is_empty() {
            Ok(update)
        } else {
            Err(faults)
        }
    }
}

impl PeerUpdate {
    /// Whether it is of what carries the peer and of nothing else.
    pub fn is_of_exit_alone(&self) -> bool {
        self.public_key.is_none() && self.access.is_none() && self.tunnel.is_none()
    }

    /// Whether netd has to do with it before anything fails: what it does of the peer's own, or the exit itself.
    pub fn is_of_netd(&self) -> bool {
        !self.is_of_exit_alone() || self.exit.exit.is_some()
    }

    /// The peer after the change; `exit` is what [`PeerUpdate::exit`] makes of the one that it has.
    pub fn applied_to(&self, peer: &Peer, exit: ExitChoice) -> Peer {
        Peer {
            name: peer.name.clone(),
            public_key: self.public_key.unwrap_or(peer.public_key),
            host: peer.host,
            access: self.access.clone().unwrap_or_else(|| peer.access.clone()),
            tunnel: self.tunnel.unwrap_or(peer.tunnel),
            exit,
        }
    }
}

fn check_tunnel(text: Option<&str>, faults: &mut Faults) -> Option<Tunnel> {
    let text = text.filter(|text| !text.is_empty())?;
    faults.keep("tunnel", Tunnel::parse(text))
}
