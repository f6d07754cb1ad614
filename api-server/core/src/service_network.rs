//! Networks of services: a subnet and a bridge for the containers of each, and what carries them to the internet.

pub mod reach;

use std::collections::BTreeSet;
use std::fmt;

use ipnet::{IpNet, Ipv4Net};

use crate::access::Service;
use crate::connection::choice::{ExitChoice, InvalidFallbacks};
use crate::connection::id::ConnectionId;
use crate::services::core_network::CoreNetwork;

/// What the names of bridges begin with (`services.bridge_prefix` of netd.toml).
pub const BRIDGE_PREFIX: &str = "cellsvc";
/// Bits of a subnet's prefix: the bridge and 13 containers.
pub const SUBNET_BITS: u8 = 28;
/// Most networks (`services.max` of netd.toml).
pub const MOST: u16 = 1024;

/// A service's name, as the broker has it: a DNS label that starts with a letter, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceName(String);

/// Text that is no [`ServiceName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a service's name: 1-63 characters of a-z, 0-9 and hyphens, a letter first")]
pub struct InvalidServiceName;

impl ServiceName {
    /// Reads a name.
    ///
    /// # Errors
    /// [`InvalidServiceName`].
    pub fn parse(text: &str) -> Result<Self, InvalidServiceName> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let valid = (1..=63).contains(&text.len())
            && text.bytes().all(plain)
            && text.starts_with(|first: char| first.is_ascii_lowercase());
        valid
            .then(|| ServiceName(text.to_owned()))
            .ok_or(InvalidServiceName)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How containers of a service get to the internet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Egress {
    /// Not at all.
    #[default]
    Nowhere,
    /// By the cell's own way.
    Direct,
    /// By a connection; while it does not work, as its choice says.
    Exit(ExitChoice),
}

impl Egress {
    /// By this connection. `fail_open` is the service's own word; without it the connection's type decides.
    pub fn through(id: ConnectionId, fail_open: Option<bool>) -> Self {
        let unbound = ExitChoice::default().failing_open(fail_open);
        Egress::Exit(unbound.bound_to(Some(id)))
    }

    /// The connection that carries it.
    pub fn bound(&self) -> Option<ConnectionId> {
        match self {
            Egress::Nowhere | Egress::Direct => None,
            Egress::Exit(choice) => choice.bound(),
        }
    }

    /// The service's own word on failing open, if it has one.
    pub fn fail_open(&self) -> Option<bool> {
        match self {
            Egress::Nowhere | Egress::Direct => None,
            Egress::Exit(choice) => choice.fail_open(),
        }
    }

    /// What stands in for the connection that carries it, the first first.
    pub fn fallbacks(&self) -> &[ConnectionId] {
        match self {
            Egress::Nowhere | Egress::Direct => &[],
            Egress::Exit(choice) => choice.fallbacks(),
        }
    }

    /// With other connections that stand in. Without a connection there is nothing to stand in for.
    ///
    /// # Errors
    /// [`InvalidFallbacks`].
    pub fn falling_back_to(self, fallbacks: Vec<ConnectionId>) -> Result<Self, InvalidFallbacks> {
        match self {
            Egress::Exit(choice) => choice.falling_back_to(fallbacks).map(Egress::Exit),
            unbound @ (Egress::Nowhere | Egress::Direct) if fallbacks.is_empty() => Ok(unbound),
            Egress::Nowhere | Egress::Direct => Err(InvalidFallbacks::Unbound),
        }
    }
}

/// What one network was given. Chosen once, stored, and never given to two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// 1 to [`MOST`].
    pub number: u16,
    /// Where its containers lie.
    pub subnet: Ipv4Net,
}

impl Place {
    /// The bridge's name: `cellsvc7`.
    pub fn bridge(&self) -> String {
        format!("{BRIDGE_PREFIX}{}", self.number)
    }

    /// The bridge's own address.
    pub fn gateway(&self) -> std::net::Ipv4Addr {
        std::net::Ipv4Addr::from_bits(self.subnet.network().to_bits().saturating_add(1))
    }

    /// Addresses that containers may have, lowest first.
    pub fn hosts(&self) -> impl Iterator<Item = std::net::Ipv4Addr> + use<> {
        let gateway = self.gateway();
        self.subnet.hosts().filter(move |host| *host != gateway)
    }
}

/// The network of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceNetwork {
    /// Whose.
    pub service: ServiceName,
    /// Where.
    pub place: Place,
    /// How its containers get to the internet.
    pub egress: Egress,
    /// What else they may reach.
    pub reach: Vec<Service>,
}

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no network for a service is free: {MOST} of them are in use, or the VPN covers the pool; remove a service first"
)]
pub struct NoRoom;

/// The lowest number that is free, and the lowest subnet of the pool that overlaps neither the VPN nor the network of the cell's
/// own containers nor one in use (of an earlier pool, perhaps).
///
/// # Errors
/// [`NoRoom`].
pub fn allocate(pool: Pool, vpn: Ipv4Net, used: &[Place]) -> Result<Place, NoRoom> {
    let numbers: BTreeSet<u16> = used.iter().map(|place| place.number).collect();
    let number = (1..=MOST)
        .find(|number| !numbers.contains(number))
        .ok_or(NoRoom)?;
    let overlaps = |one: &Ipv4Net, other: &Ipv4Net| one.contains(other) || other.contains(one);
    // Of one length, two subnets overlap where they are the same.
    let taken = || used.iter().map(|place| place.subnet);
    let is_same = |subnet: &Ipv4Net| subnet.prefix_len() == SUBNET_BITS;
    let same: BTreeSet<Ipv4Net> = taken().filter(is_same).collect();
    let others: Vec<Ipv4Net> = taken()
        .filter(|subnet| !is_same(subnet))
        .chain([vpn.trunc(), pool.core.subnet()])
        .collect();
    let is_free =
        |subnet: &Ipv4Net| !same.contains(subnet) && others.iter().all(|other| !overlaps(other, subnet));
    let mut subnets = pool.net.subnets(SUBNET_BITS).map_err(|_| NoRoom)?;
    let subnet = subnets.find(is_free).ok_or(NoRoom)?;
    Ok(Place { number, subnet })
}

/// Where networks of services lie, clear of the one of the cell's own containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    net: Ipv4Net,
    core: CoreNetwork,
}

/// A pool that cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an IPv4 prefix of 8-{SUBNET_BITS} bits without host bits, and not within core_network")]
pub struct InvalidPool;

/// Reads a pool.
///
/// # Errors
/// [`InvalidPool`].
pub fn pool(text: &str, core: CoreNetwork) -> Result<Pool, InvalidPool> {
    match text.parse() {
        Ok(IpNet::V4(net))
            if net.trunc() == net
                && (8..=SUBNET_BITS).contains(&net.prefix_len())
                && !core.subnet().contains(&net) =>
        {
            Ok(Pool { net, core })
        }
        Ok(IpNet::V4(_) | IpNet::V6(_)) | Err(_) => Err(InvalidPool),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn shipped(text: &str) -> Result<Pool, InvalidPool> {
        pool(text, CoreNetwork::SHIPPED)
    }

    #[test]
    fn gaps_are_filled_and_nothing_overlaps_what_is_there() {
        let (pool, vpn) = (shipped("172.21.0.0/16").unwrap(), net("10.86.0.1/24"));
        let first = allocate(pool, vpn, &[]).unwrap();
        assert_eq!(
            (first.bridge().as_str(), first.subnet),
            ("cellsvc1", net("172.21.0.0/28"))
        );
        assert_eq!(first.gateway().to_string(), "172.21.0.1");
        assert_eq!(first.hosts().count(), 13);
        let mut used = vec![first];
        for _ in 0..3 {
            used.push(allocate(pool, vpn, &used).unwrap());
        }
        let gone = used.remove(1);
        assert_eq!(allocate(pool, vpn, &used), Ok(gone));
        // Another pool: what is there stays.
        let other = allocate(shipped("10.86.0.0/16").unwrap(), vpn, &used).unwrap();
        assert_eq!(other.subnet, net("10.86.1.0/28"), "beside the VPN");
        assert_eq!(allocate(shipped("10.86.0.0/24").unwrap(), vpn, &[]), Err(NoRoom));
        let beyond = allocate(shipped("172.16.0.0/12").unwrap(), net("172.16.0.1/14"), &[]).unwrap();
        assert_eq!(
            beyond.subnet,
            net("172.20.1.0/28"),
            "beside the cell's own containers"
        );
    }

    #[test]
    fn a_pool_lies_clear_of_where_the_cells_own_containers_are() {
        let core = CoreNetwork::parse("172.21.0.0/26").unwrap();
        assert_eq!(pool("172.21.0.0/26", core), Err(InvalidPool));
        let around = pool("172.21.0.0/16", core).unwrap();
        let first = allocate(around, net("10.86.0.1/24"), &[]).unwrap();
        assert_eq!(first.subnet, net("172.21.0.64/28"));
    }

    #[test]
    fn names_and_pools_that_cannot_be_are_not() {
        for name in ["files", "a", "a-1", &"x".repeat(63)] {
            assert_eq!(ServiceName::parse(name).unwrap().as_str(), name);
        }
        for name in ["", "Files", "1a", "-a", "a_b", "a.b", &"x".repeat(64)] {
            assert!(ServiceName::parse(name).is_err(), "{name}");
        }
        assert_eq!(shipped("172.21.0.0/16").unwrap().net, net("172.21.0.0/16"));
        for text in [
            "172.21.0.1/16",
            "172.20.0.0/24",
            "fd00::/16",
            "1.0.0.0/7",
            "172.21.0.0/29",
            "x",
        ] {
            assert_eq!(shipped(text), Err(InvalidPool), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_two_share_a_number_or_an_address(removed in prop::collection::vec(any::<prop::sample::Index>(), 0..30)) {
            let (pool, vpn) = (shipped("172.21.0.0/24").unwrap(), net("10.0.0.1/8"));
            let mut used: Vec<Place> = Vec::new();
            let mut removed = removed.into_iter();
            while let Ok(place) = allocate(pool, vpn, &used) {
                prop_assert!(used.iter().all(|other| other.number != place.number
                    && !other.subnet.contains(&place.subnet)));
                used.push(place);
                if let Some(index) = removed.next() {
                    used.remove(index.index(used.len()));
                }
            }
            prop_assert_eq!(used.len(), 16);
        }
    }
}
