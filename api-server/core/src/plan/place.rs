//! Where an address is, by a name that people know.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::peer::Peer;
use crate::range::{HostIndex, VpnRange};

/// Where something is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The cell itself.
    Cell,
    /// A device, by its name; it has an address of each family.
    Device(String, IpAddr),
    /// A network that is not public: the house, a provider's, or an address of the VPN that no device has.
    Private(IpAddr),
    /// A public address.
    Public(IpAddr),
}

/// Looks addresses up.
pub(super) struct Places<'a> {
    range: &'a VpnRange,
    by_host: BTreeMap<u32, &'a str>,
}

impl<'a> Places<'a> {
    pub(super) fn of(range: &'a VpnRange, peers: impl Iterator<Item = &'a Peer>) -> Self {
        let by_host = peers.map(|peer| (peer.host.get(), peer.name.as_str()));
        Places {
            range,
            by_host: by_host.collect(),
        }
    }

    pub(super) fn find(&self, address: IpAddr) -> Place {
        let host = self.range.host_of(address);
        if host == Some(HostIndex::CELL) {
            return Place::Cell;
        }
        match host.and_then(|host| self.by_host.get(&host.get())) {
            Some(name) => Place::Device((*name).to_owned(), address),
            None if is_public(address) => Place::Public(address),
            None => Place::Private(address),
        }
    }
}

/// Special-purpose ranges (RFC 6890), as netd leaves them out of the internet: `lab/tests/plans.rs` holds the two together.
const SPECIAL4: [([u8; 4], u8); 12] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// The same of IPv6.
const SPECIAL6: [([u16; 4], u8); 10] = [
    ([0, 0, 0, 0], 16),
    ([0x64, 0xff9b, 1, 0], 48),
    ([0x100, 0, 0, 0], 8),
    ([0x2001, 0, 0, 0], 23),
    ([0x2002, 0, 0, 0], 16),
    ([0x5f00, 0, 0, 0], 16),
    ([0xfc00, 0, 0, 0], 7),
    ([0xfe80, 0, 0, 0], 10),
    ([0xfec0, 0, 0, 0], 10),
    ([0xff00, 0, 0, 0], 8),
];

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, e, f, ..] = v6.segments();
            // An IPv4 address under NAT64's prefix (RFC 6052) is what it is without.
            let image = [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0];
            let own = SPECIAL6.iter().any(|([a, b, c, d], length)| {
                Ipv6Net::new_assert(Ipv6Addr::new(*a, *b, *c, *d, 0, 0, 0, 0), *length).contains(&v6)
            });
            let [.., w, x, y, z] = v6.octets();
            !own && (!image || is_public4(Ipv4Addr::new(w, x, y, z)))
        }
    }
}

/// Whether it is an address of the internet.
pub(crate) fn is_public4(address: Ipv4Addr) -> bool {
    let holds = |(octets, length): &([u8; 4], u8)| {
        Ipv4Net::new_assert(Ipv4Addr::from(*octets), *length).contains(&address)
    };
    !SPECIAL4.iter().any(holds)
}
