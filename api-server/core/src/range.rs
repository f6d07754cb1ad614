//! The VPN's addresses: which ranges a cell may use, and which address belongs to which host.
//!
//! Every host has one index in both families: the cell is 1, peers are 2 and up. `10.86.0.7` and `fd12:…::7` are the
//! same peer.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Where the API listens behind netd's address translation (`docs/runtime.md`); no VPN may contain them.
pub const HIDDEN_SERVICE_V6: Ipv6Addr = Ipv6Addr::new(0xfd43, 0x454c, 0x4c00, 0, 0, 0, 0, 1);

const PRIVATE_V4: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
];

/// A range that the VPN cannot use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRange {
    /// Not a prefix of the family. A bare address is refused: it once shifted every service's address.
    #[error("must be a prefix such as {0}")]
    Syntax(&'static str),
    /// Bits behind the prefix length are set.
    #[error("must be a network address: the bits after the prefix length must be zero")]
    HostBits,
    /// IPv4 outside RFC 1918 and RFC 6598.
    #[error("must be private (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16) or shared (100.64.0.0/10)")]
    NotPrivate,
    /// IPv6 outside RFC 4193.
    #[error("must be unique local (fc00::/7)")]
    NotUniqueLocal,
    /// Too large or too small.
    #[error("must have a prefix length from {0} to {1}")]
    Length(u8, u8),
    /// IPv6 range with fewer hosts than the IPv4 range.
    #[error("must have room for as many hosts as the IPv4 range: a prefix length of at most {0}")]
    TooSmall(u8),
    /// Contains the cell's hidden service address.
    #[error("must not contain fd43:454c:4c00::1, where the cell itself listens")]
    HiddenService,
}

/// The VPN's two ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VpnRange {
    v4: Ipv4Net,
    v6: Ipv6Net,
}

/// Number of a host in both ranges: 1 is the cell, peers are 2 and up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostIndex(u32);

/// No address is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all {capacity} addresses for peers are in use")]
pub struct Exhausted {
    /// How many peers the range holds.
    pub capacity: u32,
}

impl VpnRange {
    /// Joins two checked ranges.
    ///
    /// # Errors
    /// [`InvalidRange::TooSmall`] when not every IPv4 host has its IPv6 twin.
    pub fn new(v4: Ipv4Net, v6: Ipv6Net) -> Result<Self, InvalidRange> {
        let longest = 128 - (32 - v4.prefix_len());
        if v6.prefix_len() > longest {
            Err(InvalidRange::TooSmall(longest))
        } else {
            Ok(VpnRange { v4, v6 })
        }
    }

    /// The IPv4 range.
    pub fn v4(&self) -> Ipv4Net {
        self.v4
    }

    /// The IPv6 range.
    pub fn v6(&self) -> Ipv6Net {
        self.v6
    }

    /// The last index: the IPv4 broadcast address is left out.
    pub fn last(&self) -> HostIndex {
        HostIndex((1u32 << (32 - self.v4.prefix_len())) - 2)
    }

    /// A stored index.
    pub fn host(&self, index: u32) -> Option<HostIndex> {
        (1..=self.last().0).contains(&index).then_some(HostIndex(index))
    }

    /// IPv4 address of a host.
    pub fn v4_of(&self, host: HostIndex) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.v4.network().to_bits() | host.0)
    }

    /// IPv6 address of a host.
    pub fn v6_of(&self, host: HostIndex) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.v6.network().to_bits() | u128::from(host.0))
    }

    /// Both addresses of a host.
    pub fn addresses_of(&self, host: HostIndex) -> [IpAddr; 2] {
        [self.v4_of(host).into(), self.v6_of(host).into()]
    }

    /// The host that has an address; `None` outside of the ranges, and for what is no host's.
    pub fn host_of(&self, address: IpAddr) -> Option<HostIndex> {
        let index = match address {
            IpAddr::V4(v4) => v4.to_bits() ^ self.v4.network().to_bits(),
            IpAddr::V6(v6) => u32::try_from(v6.to_bits() ^ self.v6.network().to_bits()).ok()?,
        };
        self.host(index)
    }

    /// Chooses the address of a new peer: the next never used, else the one that a removed peer left behind first.
    /// `longest_freed` and `highest_used` are what the database knows, and `services` the hosts that are services', or were and rest (few of
    /// them); the choice costs the same with 10 peers and with 10,000.
    ///
    /// # Errors
    /// [`Exhausted`] when the range is full.
    pub fn allocate(
        &self,
        longest_freed: Option<u32>,
        highest_used: u32,
        services: &BTreeSet<u32>,
    ) -> Result<HostIndex, Exhausted> {
        let first = highest_used.max(HostIndex::CELL.0).saturating_add(1);
        let unused = (first..=self.last().0).find(|host| !services.contains(host));
        let unused = unused.and_then(|host| self.host(host));
        let freed = longest_freed.and_then(|host| self.host(host));
        unused
            .or(freed)
            .filter(|host| *host > HostIndex::CELL)
            .ok_or(Exhausted {
                capacity: self.last().0 - HostIndex::CELL.0,
            })
    }
}

/// Chooses the address of a new service: the highest of the range that was no peer's yet and is no service's, else the one
/// that was given back first. `longest_freed` is what peers and services gave back first, `highest_used` peers', and `services` are
/// hosts that are services', or were and rest.
///
/// # Errors
/// [`Exhausted`] when the range is full.
pub fn allocate_service(
    range: &VpnRange,
    longest_freed: Option<u32>,
    highest_used: u32,
    services: &BTreeSet<u32>,
) -> Result<HostIndex, Exhausted> {
    let above_peers = highest_used.max(HostIndex::CELL.0).saturating_add(1);
    let unused = (above_peers..=range.last().0)
        .rev()
        .find(|host| !services.contains(host));
    unused
        .or(longest_freed)
        .and_then(|host| range.host(host))
        .filter(|host| *host > HostIndex::CELL)
        .ok_or(Exhausted {
            capacity: range.last().0 - HostIndex::CELL.0,
        })
}

impl HostIndex {
    /// The cell itself: `.1` and `::1`.
    pub const CELL: HostIndex = HostIndex(1);

    /// The number, for the database.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// Reads the IPv4 range: private or shared, length 8-29.
///
/// # Errors
/// [`InvalidRange`].
pub fn parse_v4(text: &str) -> Result<Ipv4Net, InvalidRange> {
    let net: Ipv4Net = text.parse().map_err(|_| InvalidRange::Syntax("10.86.0.0/24"))?;
    if net.addr() != net.network() {
        return Err(InvalidRange::HostBits);
    }
    if !(8..=29).contains(&net.prefix_len()) {
        return Err(InvalidRange::Length(8, 29));
    }
    let private = |(base, length): &(Ipv4Addr, u8)| {
        let shift = 32 - length;
        net.prefix_len() >= *length && net.network().to_bits() >> shift == base.to_bits() >> shift
    };
    if PRIVATE_V4.iter().any(private) {
        Ok(net)
    } else {
        Err(InvalidRange::NotPrivate)
    }
}

/// Reads the IPv6 range: unique local, length 48-120.
///
/// # Errors
/// [`InvalidRange`].
pub fn parse_v6(text: &str) -> Result<Ipv6Net, InvalidRange> {
    let net: Ipv6Net = text
        .parse()
        .map_err(|_| InvalidRange::Syntax("fd12:3456:789a::/64"))?;
    if net.addr() != net.network() {
        return Err(InvalidRange::HostBits);
    }
    if !(48..=120).contains(&net.prefix_len()) {
        return Err(InvalidRange::Length(48, 120));
    }
    if !net.network().is_unique_local() {
        return Err(InvalidRange::NotUniqueLocal);
    }
    if net.contains(&HIDDEN_SERVICE_V6) {
        Err(InvalidRange::HiddenService)
    } else {
        Ok(net)
    }
}

/// A locally assigned range of length 64 from 40 random bits of global id and 16 of subnet id (RFC 4193, section 3.2).
pub fn unique_local(random: [u8; 7]) -> Ipv6Net {
    let mut octets = [0u8; 16];
    octets[0] = 0xfd;
    octets[1..8].copy_from_slice(&random);
    let net = Ipv6Net::new_assert(Ipv6Addr::from(octets), 64);
    if net.contains(&HIDDEN_SERVICE_V6) {
        Ipv6Net::new_assert(Ipv6Addr::new(0xfd43, 0x454c, 0x4c01, 0, 0, 0, 0, 0), 64)
    } else {
        net
    }
}
