//! Where an address is, by a name that people know.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::peer::Peer;
use crate::public::is_public;
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
