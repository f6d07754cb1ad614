//! What the root-owned policy file allows at most.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use cell_manifest::{BelowRoot, Capability, Name, Published};
use ipnet::Ipv4Net;

use super::signature::Key;
use crate::model::Ownership;

/// The ceiling of deployments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceiling {
    /// What marks containers as this cell's.
    pub ownership: Ownership,
    /// Who may sign manifests. Without one, none is accepted.
    pub manifest_keys: Vec<Key>,
    /// Who may sign images.
    pub image_keys: Vec<Key>,
    /// What an image without a signature means.
    pub image_policy: ImagePolicy,
    /// Where images may come from: hosts, or hosts and first folders.
    pub registries: Vec<String>,
    /// Folders of the machine that services may be given, by id.
    pub bind_roots: BTreeMap<Name, BindRoot>,
    /// What may be given back at all.
    pub capabilities: BTreeSet<Capability>,
    /// Ids of manifests whose containers may make a TUN and configure their own network.
    pub gateways: BTreeSet<Name>,
    /// Ids of the cell's own containers, with their addresses on the cell's network.
    pub core: BTreeMap<Name, Ipv4Addr>,
    /// Where ports may be published.
    pub published: Vec<PublishedRange>,
    /// Most of each resource.
    pub limits: CeilingLimits,
    /// The resolver of all containers.
    pub resolver: Ipv4Addr,
    /// The cell's network, with the proxy, DNS and time.
    pub cell_network: Ipv4Net,
    /// Networks of services are cut out of this, sixteen addresses each.
    pub service_networks: Ipv4Net,
    /// How names of bridges of services begin; a number follows. At most 10 characters.
    pub bridge_prefix: String,
}

/// What an image without a signature of the ceiling's keys means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImagePolicy {
    /// It is refused.
    Enforce,
    /// It is told.
    Warn,
    /// Nothing.
    Off,
}

/// A folder of the machine that services may be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindRoot {
    /// Its path: absolute, without a link.
    pub path: String,
    /// Whether services may write to it.
    pub writable: bool,
}

impl BindRoot {
    /// The path of what lies below it.
    pub fn join(&self, below: &BelowRoot) -> String {
        match below.as_str() {
            "" => self.path.clone(),
            below => format!("{}/{below}", self.path),
        }
    }

    /// Whether `path` is the root, or spells a clean path below it.
    pub fn holds(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix(self.path.as_str()) else {
            return false;
        };
        match rest.strip_prefix('/') {
            Some(below) => !below.is_empty() && BelowRoot::new(below).is_ok(),
            None => rest.is_empty(),
        }
    }
}

/// Ports of one address that may be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedRange {
    /// The address.
    pub address: IpAddr,
    /// The first, at least 1,024.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl PublishedRange {
    /// Whether it has this one.
    pub fn holds(&self, published: Published) -> bool {
        self.address == published.address && (self.first..=self.last).contains(&published.port)
    }
}

/// Most of each resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CeilingLimits {
    /// Of one container, MiB.
    pub memory_mib: u32,
    /// Of one container, thousandths of a processor.
    pub cpu_milli: u32,
    /// Of one container.
    pub pids: u32,
    /// Services at once, at most 256.
    pub services: u16,
    /// Memory of all containers together, MiB.
    pub total_memory_mib: u32,
    /// Manifests that are kept.
    pub manifests: u16,
}

/// Which of the networks of services: 0 and up, below [`CeilingLimits::services`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(pub u16);

impl Ceiling {
    /// Addresses of a service's network: sixteen each.
    const PREFIX: u8 = 28;

    /// The network of a slot; none beyond the end.
    pub fn network(&self, slot: Slot) -> Option<Ipv4Net> {
        let base = u32::from(self.service_networks.network());
        let net = Ipv4Net::new(
            Ipv4Addr::from(base.checked_add(u32::from(slot.0) * 16)?),
            Self::PREFIX,
        )
        .ok()?;
        self.service_networks.contains(&net).then_some(net)
    }

    /// The name of a slot's bridge.
    pub fn bridge(&self, slot: Slot) -> String {
        format!("{}{}", self.bridge_prefix, slot.0)
    }
}

/// The address `n` of a network; the first is 0.
pub(super) fn nth(net: Ipv4Net, n: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()).saturating_add(u32::from(n)))
}
