//! Requests into checked values, every fault named at once. What comes from the wire is read through `TryFrom`, so that no
//! message is known here.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::SocketAddr;

use ipnet::IpNet;
use zeroize::Zeroizing;

use crate::peers::{Peer, PresharedKey, PublicKey};

/// Allowed IPs of one peer.
pub const ALLOWED_IPS_MAX: usize = 256;
const KEY_BYTES: usize = 32;

/// A private key, wiped when it goes.
pub type PrivateKey = Zeroizing<[u8; KEY_BYTES]>;

/// One fault of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path to the field.
    pub field: String,
    /// What is wrong, or what would be right.
    pub description: String,
}

/// A peer as it was asked for: `E` is an endpoint and `P` a prefix on the wire.
#[derive(Debug)]
pub struct AskedPeer<'a, E, P> {
    /// Its public key.
    pub public_key: &'a [u8],
    /// Where to find it.
    pub endpoint: Option<&'a E>,
    /// Seconds.
    pub keepalive: u32,
    /// Its allowed IPs.
    pub allowed_ips: &'a [P],
    /// Its preshared key; empty: none is given.
    pub preshared_key: &'a [u8],
}

/// A whole device: its private key and all of its peers.
///
/// # Errors
/// Every fault of the request.
pub fn set_device<E, P>(
    private_key: &[u8],
    asked: &[AskedPeer<'_, E, P>],
) -> Result<(PrivateKey, Vec<Peer>), Vec<Violation>>
where
    SocketAddr: for<'w> TryFrom<&'w E, Error: Display>,
    IpNet: for<'w> TryFrom<&'w P, Error: Display>,
{
    let mut faults = Faults::default();
    let bytes = <[u8; KEY_BYTES]>::try_from(private_key).map(Zeroizing::new);
    let peers = peers(&mut faults, "peers", asked);
    match bytes {
        Ok(bytes) if *bytes != [0; KEY_BYTES] => faults.or((bytes, peers)),
        _ => {
            faults.add("private_key", "is 32 bytes, not all zero");
            Err(faults.0)
        }
    }
}

/// Some peers: what to upsert, what to remove.
///
/// # Errors
/// Every fault of the request.
pub fn update_peers<E, P>(
    upserted: &[AskedPeer<'_, E, P>],
    removed_public_keys: &[impl AsRef<[u8]>],
) -> Result<(Vec<Peer>, Vec<PublicKey>), Vec<Violation>>
where
    SocketAddr: for<'w> TryFrom<&'w E, Error: Display>,
    IpNet: for<'w> TryFrom<&'w P, Error: Display>,
{
    let mut faults = Faults::default();
    let upserted = peers(&mut faults, "upserted", upserted);
    let upserted_keys: BTreeSet<_> = upserted.iter().map(|peer| peer.key).collect();
    let mut removed = Vec::with_capacity(removed_public_keys.len());
    for (index, wire) in removed_public_keys.iter().enumerate() {
        let field = format!("removed_public_keys[{index}]");
        let Some(key) = key(&mut faults, &field, wire.as_ref()) else {
            continue;
        };
        if upserted_keys.contains(&key) {
            faults.add(&field, "is also among the upserted");
        }
        removed.push(key);
    }
    faults.or((upserted, removed))
}

/// The one peer that is asked for; `None` when the key is empty: all of them.
///
/// # Errors
/// Every fault of the request.
pub fn asked_for(public_key: &[u8]) -> Result<Option<PublicKey>, Vec<Violation>> {
    if public_key.is_empty() {
        return Ok(None);
    }
    let mut faults = Faults::default();
    let key = key(&mut faults, "public_key", public_key);
    faults.or(key)
}

/// The faults found so far.
#[derive(Default)]
struct Faults(Vec<Violation>);

impl Faults {
    fn add(&mut self, field: impl Into<String>, description: impl ToString) {
        self.0.push(Violation {
            field: field.into(),
            description: description.to_string(),
        });
    }

    fn or<T>(self, value: T) -> Result<T, Vec<Violation>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }
}

/// Peers with unique keys and allowed IPs; those with a fault are left out, and the fault is noted.
fn peers<E, P>(faults: &mut Faults, field: &str, asked: &[AskedPeer<'_, E, P>]) -> Vec<Peer>
where
    SocketAddr: for<'w> TryFrom<&'w E, Error: Display>,
    IpNet: for<'w> TryFrom<&'w P, Error: Display>,
{
    let mut keys = BTreeSet::new();
    let mut prefixes = BTreeSet::new();
    let mut peers = Vec::with_capacity(asked.len());
    for (index, asked) in asked.iter().enumerate() {
        let path = format!("{field}[{index}]");
        let Some(peer) = peer(faults, &path, asked) else {
            continue;
        };
        if !keys.insert(peer.key) {
            faults.add(
                format!("{path}.public_key"),
                "is already that of another peer in this request",
            );
        }
        for prefix in &peer.allowed_ips {
            if !prefixes.insert(*prefix) {
                faults.add(
                    format!("{path}.allowed_ips"),
                    format!("{prefix} already belongs to another peer in this request"),
                );
            }
        }
        peers.push(peer);
    }
    peers
}

fn peer<E, P>(faults: &mut Faults, path: &str, asked: &AskedPeer<'_, E, P>) -> Option<Peer>
where
    SocketAddr: for<'w> TryFrom<&'w E, Error: Display>,
    IpNet: for<'w> TryFrom<&'w P, Error: Display>,
{
    let key = key(faults, &format!("{path}.public_key"), asked.public_key);
    let endpoint = asked.endpoint.and_then(|wire| {
        SocketAddr::try_from(wire)
            .map_err(|fault| faults.add(format!("{path}.endpoint"), fault))
            .ok()
    });
    let keepalive = u16::try_from(asked.keepalive)
        .map_err(|_| faults.add(format!("{path}.persistent_keepalive_seconds"), "is 0-65535"))
        .ok();
    let preshared = PresharedKey::from_slice(asked.preshared_key);
    if preshared.is_none() && !asked.preshared_key.is_empty() {
        faults.add(format!("{path}.preshared_key"), "is 32 bytes, not all zero");
    }
    if asked.allowed_ips.len() > ALLOWED_IPS_MAX {
        faults.add(
            format!("{path}.allowed_ips"),
            format!("holds at most {ALLOWED_IPS_MAX} prefixes"),
        );
        return None;
    }
    let mut allowed_ips = BTreeSet::new();
    for (index, wire) in asked.allowed_ips.iter().enumerate() {
        match IpNet::try_from(wire) {
            Ok(prefix) => drop(allowed_ips.insert(prefix.trunc())),
            Err(fault) => faults.add(format!("{path}.allowed_ips[{index}]"), fault),
        }
    }
    Some(Peer {
        key: key?,
        endpoint,
        keepalive: keepalive?,
        allowed_ips,
        preshared,
    })
}

/// A public key. All zero is the X25519 point of low order that a forgotten field gives, and nobody's key.
fn key(faults: &mut Faults, field: &str, wire: &[u8]) -> Option<PublicKey> {
    let key = PublicKey::try_from(wire)
        .ok()
        .filter(|key| *key != [0; KEY_BYTES]);
    if key.is_none() {
        faults.add(field, "is 32 bytes, not all zero");
    }
    key
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// What is on the wire here: text.
    struct Text(&'static str);

    impl TryFrom<&Text> for SocketAddr {
        type Error = std::net::AddrParseError;

        fn try_from(text: &Text) -> Result<Self, Self::Error> {
            text.0.parse()
        }
    }

    impl TryFrom<&Text> for IpNet {
        type Error = ipnet::AddrParseError;

        fn try_from(text: &Text) -> Result<Self, Self::Error> {
            text.0.parse()
        }
    }

    fn asked<'a>(key: &'a [u8], allowed_ips: &'a [Text]) -> AskedPeer<'a, Text, Text> {
        AskedPeer {
            public_key: key,
            endpoint: None,
            keepalive: 0,
            allowed_ips,
            preshared_key: &[],
        }
    }

    fn fields<T>(checked: Result<T, Vec<Violation>>) -> Vec<String> {
        let faults = checked.err().unwrap_or_default();
        faults.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn what_is_well_is_taken_and_host_bits_are_cut() {
        let (endpoint, prefixes) = (Text("192.0.2.1:7"), [Text("10.0.0.1/8")]);
        let peer = AskedPeer {
            endpoint: Some(&endpoint),
            keepalive: 65_535,
            preshared_key: &[8; 32],
            ..asked(&[7; 32], &prefixes)
        };
        let (key, peers) = set_device(&[1; 32], &[peer]).unwrap();
        assert_eq!(*key, [1; 32]);
        let expected = Peer {
            key: [7; 32],
            endpoint: Some("192.0.2.1:7".parse().unwrap()),
            keepalive: 65_535,
            allowed_ips: BTreeSet::from(["10.0.0.0/8".parse().unwrap()]),
            preshared: PresharedKey::from_slice(&[8; 32]),
        };
        assert_eq!(peers, [expected]);
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let (nowhere, good, bad) = (Text("nowhere"), [Text("10.0.0.1/32")], [Text("10.0.0.1/33")]);
        let far = AskedPeer {
            endpoint: Some(&nowhere),
            keepalive: 65_536,
            preshared_key: &[0; 32],
            ..asked(&[3; 32], &bad)
        };
        let peers = [
            asked(&[1; 32], &good),
            asked(&[1; 32], &good),
            asked(&[0; 32], &[]),
            far,
        ];
        assert_eq!(
            fields(set_device(&[0; 32], &peers)),
            [
                "peers[1].public_key",
                "peers[1].allowed_ips",
                "peers[2].public_key",
                "peers[3].endpoint",
                "peers[3].persistent_keepalive_seconds",
                "peers[3].preshared_key",
                "peers[3].allowed_ips[0]",
                "private_key",
            ]
        );
    }

    #[test]
    fn too_many_allowed_ips_are_refused_before_they_are_read() {
        let unreadable = || Text("x");
        let most: Vec<_> = (0..ALLOWED_IPS_MAX).map(|_| unreadable()).collect();
        let many: Vec<_> = (0..=ALLOWED_IPS_MAX).map(|_| unreadable()).collect();
        let none: [[u8; 32]; 0] = [];
        let told = |prefixes: &[Text]| fields(update_peers(&[asked(&[1; 32], prefixes)], &none));
        assert_eq!(told(&most).len(), ALLOWED_IPS_MAX, "control");
        assert_eq!(told(&many), ["upserted[0].allowed_ips"]);
    }

    #[test]
    fn a_key_is_not_upserted_and_removed_at_once() {
        let removed = [vec![2; 32], vec![1; 32], vec![1; 5]];
        let checked = update_peers(&[asked(&[1; 32], &[])], &removed);
        assert_eq!(
            fields(checked),
            ["removed_public_keys[1]", "removed_public_keys[2]"]
        );
        assert!(
            update_peers(&[asked(&[1; 32], &[])], &removed[..1]).is_ok(),
            "control"
        );
    }

    #[test]
    fn no_key_asks_for_all_peers() {
        assert_eq!(asked_for(&[]), Ok(None));
        assert_eq!(asked_for(&[7; 32]), Ok(Some([7; 32])));
        for key in [&[7; 33][..], &[7; 31], &[0; 32]] {
            assert_eq!(fields(asked_for(key)), ["public_key"]);
        }
    }
}
