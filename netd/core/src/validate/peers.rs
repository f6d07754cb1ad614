//! Peers: each by itself, and against the others.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::wireguard::port;
use super::{Faults, GRANTS_MAX, SERVICES_MAX};
use crate::ceiling::Ceiling;
use crate::desired::{Access, Desired, Peer, Service};
use crate::model::{PeerName, PublicKey};
use crate::spec::{AccessSpec, Parsed, PeerSpec, ServiceSpec};

/// What peers are checked against.
pub(super) struct Context<'a> {
    pub ceiling: &'a Ceiling,
    /// The peers that there are, and the interface.
    pub base: &'a Desired,
    /// Those of them whose keys and addresses become free.
    pub replaced: &'a BTreeSet<PeerName>,
    pub interface_known: bool,
    pub exits_known: bool,
}

/// What the request itself has taken so far, and where.
struct Taken {
    names: HashMap<PeerName, usize>,
    keys: HashMap<PublicKey, usize>,
    addresses: HashMap<IpAddr, usize>,
}

impl Taken {
    /// For about so many peers: nothing is moved while it grows.
    fn with_room(peers: usize) -> Self {
        Taken {
            names: HashMap::with_capacity(peers),
            keys: HashMap::with_capacity(peers),
            addresses: HashMap::with_capacity(2 * peers),
        }
    }
}

impl Context<'_> {
    /// The sound ones, as they come; of two with one name, which is a fault, both.
    pub(super) fn check(
        &self,
        specs: &[PeerSpec],
        path: &str,
        faults: &mut Faults,
    ) -> Vec<(PeerName, Arc<Peer>)> {
        let mut taken = Taken::with_room(specs.len());
        let mut peers = Vec::with_capacity(specs.len());
        let mut granted = self.granted_to_others();
        for (index, spec) in specs.iter().enumerate() {
            if let Some((name, peer)) = self.peer(spec, index, path, &mut taken, faults) {
                let together = granted + peer.access.services.len();
                if together > GRANTS_MAX && together > granted {
                    let field = format_args!("{path}[{index}].access.services");
                    let why = format!("all peers together are granted at most {GRANTS_MAX} services");
                    faults.invalid(field, why);
                    continue;
                }
                granted = together;
                peers.push((name, Arc::new(peer)));
            }
        }
        peers
    }

    /// Services of the peers that stay as they are.
    fn granted_to_others(&self) -> usize {
        let peers = self.base.peers();
        let replaced = self.replaced.iter().filter_map(|name| peers.get(name));
        let theirs: usize = replaced.map(|peer| peer.access.services.len()).sum();
        self.base.grants().saturating_sub(theirs)
    }

    fn peer(
        &self,
        spec: &PeerSpec,
        index: usize,
        path: &str,
        taken: &mut Taken,
        faults: &mut Faults,
    ) -> Option<(PeerName, Peer)> {
        let PeerSpec {
            name,
            public_key,
            addresses,
            endpoint,
            persistent_keepalive_seconds,
            access,
            exit,
        } = spec;
        let at = |field: &'static str| fmt::from_fn(move |f| write!(f, "{path}[{index}].{field}"));
        let name: Option<PeerName> = faults.parsed(name.parse(), at("name"));
        if let Some(first) = name
            .as_ref()
            .and_then(|name| taken.names.insert(name.clone(), index))
        {
            faults.invalid(at("name"), format!("the name is that of {path}[{first}] too"));
        }
        let key = faults.parsed(PublicKey::try_from(public_key.as_slice()), at("public_key"));
        if let Some(key) = key {
            // The device would ignore such a peer without a word (drivers/net/wireguard/netlink.c, set_peer).
            if self.base.own_key() == Some(key) {
                faults.invalid(at("public_key"), "the key is the cell's own");
            }
            if let Some(first) = taken.keys.insert(key, index) {
                faults.invalid(
                    at("public_key"),
                    format!("the key is that of {path}[{first}] too"),
                );
            } else if let Some(owner) = self.base.name_of_key(&key).filter(|owner| self.stays(owner)) {
                faults.invalid(at("public_key"), format!("the key is that of peer {owner}"));
            }
        }
        let (v4, v6) = self.addresses(addresses, index, path, taken, faults);
        let endpoint = endpoint
            .as_ref()
            .and_then(|spec| self.endpoint(spec, at("endpoint"), faults));
        let keepalive = u16::try_from(*persistent_keepalive_seconds);
        let keepalive = faults.parsed(
            keepalive.map_err(|_| "a keepalive is 0-65535 seconds"),
            at("persistent_keepalive_seconds"),
        );
        let access = access_of(access.as_ref(), at("access"), faults);
        let exit = super::exits::way_out(self.base, self.exits_known, exit, at("exit"), faults);
        Some((
            name?,
            Peer {
                key: key?,
                v4,
                v6,
                endpoint,
                keepalive: keepalive?,
                access: access?,
                exit: exit?,
            },
        ))
    }

    fn stays(&self, owner: &PeerName) -> bool {
        !self.replaced.contains(owner)
    }

    fn addresses(
        &self,
        addresses: &[Parsed<IpAddr>],
        index: usize,
        path: &str,
        taken: &mut Taken,
        faults: &mut Faults,
    ) -> (Option<std::net::Ipv4Addr>, Option<std::net::Ipv6Addr>) {
        let (mut v4, mut v6) = (None, None);
        let at = |number: usize| fmt::from_fn(move |f| write!(f, "{path}[{index}].addresses[{number}]"));
        if addresses.is_empty() || addresses.len() > 2 {
            faults.invalid(
                format_args!("{path}[{index}].addresses"),
                "a peer has 1-2 addresses, at most one per family",
            );
        }
        for (number, address) in addresses.iter().take(2).enumerate() {
            let Some(address) = faults.parsed(address.clone(), at(number)) else {
                continue;
            };
            let second = match address {
                IpAddr::V4(address) => v4.replace(address).is_some(),
                IpAddr::V6(address) => v6.replace(address).is_some(),
            };
            if second {
                faults.invalid(at(number), "at most one address per family");
            } else if let Some(why) = self.unusable(address) {
                faults.invalid(at(number), why);
            } else if let Some(first) = taken.addresses.insert(address, index) {
                faults.invalid(at(number), format!("the address is that of {path}[{first}] too"));
            } else if let Some(owner) = self
                .base
                .name_of_address(address)
                .filter(|owner| self.stays(owner))
            {
                faults.invalid(at(number), format!("the address is that of peer {owner}"));
            }
        }
        (v4, v6)
    }

    /// Why a peer cannot have this address, if it cannot.
    fn unusable(&self, address: IpAddr) -> Option<&'static str> {
        if [
            IpAddr::V4(self.ceiling.service_v4),
            IpAddr::V6(self.ceiling.service_v6),
        ]
        .contains(&address)
        {
            return Some("is a hidden service address of the cell");
        }
        let wireguard = self.base.wireguard().filter(|_| self.interface_known)?;
        let Some(prefix) = wireguard.prefix_of(address) else {
            return Some("lies outside the VPN's prefixes");
        };
        if prefix.addr() == address {
            Some("is the cell's own")
        } else if matches!(address, IpAddr::V4(address) if self.base.has_entry_at(address)) {
            Some("is where a service is found (spec.entries)")
        } else if prefix.network() == address || address.is_ipv4() && prefix.broadcast() == address {
            Some("is not the address of a host in the VPN's prefix")
        } else {
            None
        }
    }

    fn endpoint(
        &self,
        spec: &Parsed<SocketAddr>,
        field: impl fmt::Display,
        faults: &mut Faults,
    ) -> Option<SocketAddr> {
        let endpoint = faults.parsed(spec.clone(), &field)?;
        let inside = self
            .base
            .wireguard()
            .is_some_and(|vpn| vpn.prefix_of(endpoint.ip()).is_some());
        if let Some(kind) = unreachable_kind(endpoint.ip()) {
            faults.invalid(field, format!("an endpoint is not {kind}"));
        } else if inside {
            faults.invalid(field, "an endpoint is not inside the VPN");
        }
        Some(endpoint)
    }
}

fn access_of(spec: Option<&AccessSpec>, path: impl fmt::Display, faults: &mut Faults) -> Option<Access> {
    let Some(AccessSpec {
        internet,
        peer_to_peer,
        services,
    }) = spec
    else {
        faults.invalid(path, "is required; an empty message allows nothing");
        return None;
    };
    if services.len() > SERVICES_MAX {
        let count = services.len();
        faults.invalid(
            format_args!("{path}.services"),
            format!("at most {SERVICES_MAX} services, not {count}"),
        );
        return None;
    }
    let mut checked = BTreeSet::new();
    for (index, spec) in services.iter().enumerate() {
        let field = format_args!("{path}.services[{index}]");
        if let Some(service) = service_of(spec, field, faults)
            && !checked.insert(service)
        {
            faults.invalid(field, "the service is named twice");
        }
    }
    Some(Access {
        internet: *internet,
        peer_to_peer: *peer_to_peer,
        services: checked,
    })
}

pub(super) fn service_of(
    spec: &ServiceSpec,
    field: fmt::Arguments<'_>,
    faults: &mut Faults,
) -> Option<Service> {
    let ServiceSpec {
        address,
        protocol,
        port: number,
    } = spec;
    let address = faults.parsed(address.clone(), format_args!("{field}.address"));
    if let Some(kind) = address.and_then(unreachable_kind) {
        faults.invalid(
            format_args!("{field}.address"),
            format!("a service is not at {kind}"),
        );
    }
    let protocol = faults.parsed(protocol.clone(), format_args!("{field}.protocol"));
    let port = port(*number, format_args!("{field}.port"), faults);
    Some(Service {
        address: address?,
        protocol: protocol?,
        port: port?,
    })
}

/// Whether a service can be at that address at all; which of them a peer may be let to is not said here. The API judges by a
/// rule of its own, which `lab/tests/agreement.rs` holds to this one.
pub fn service_address_allowed(address: IpAddr) -> bool {
    unreachable_kind(address).is_none()
}

/// Addresses that are never routed: what is sent there stays on the machine or its links (the cloud's metadata
/// service at 169.254.169.254 among them).
pub(super) fn unreachable_kind(address: IpAddr) -> Option<&'static str> {
    // An IPv4-mapped IPv6 address reaches what the IPv4 address reaches.
    let address = address.to_canonical();
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast() || v4.octets()[0] == 0);
    match address {
        _ if address.is_unspecified() || broadcast => Some("an unspecified or broadcast address"),
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_multicast() => Some("a multicast address"),
        _ if link_local => Some("a link-local address"),
        _ => None,
    }
}
