//! What the root-owned policy file allows at most.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use cell_manifest::{BelowRoot, Capability, Name, Published};
use ipnet::Ipv4Net;

use crate::model::Ownership;
use cell_manifest::Key;

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
    /// The file that lists images which root built on the machine; none: there are none.
    pub local_images: Option<String>,
    /// The folder with the manifests that the package shipped: root put them there, and they need no signature.
    pub shipped: Option<String>,
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
    /// The cell's network, with the proxy, DNS and time.
    pub cell_network: Ipv4Net,
    /// Networks of services lie in this, sixteen addresses each.
    pub service_networks: Ipv4Net,
    /// How names of bridges of services begin; a number follows. At most 10 characters.
    pub bridge_prefix: String,
    /// Where secrets of services come from and lie; none: no manifest with secrets is deployed.
    pub secrets: Option<SecretsPlace>,
}

/// Where secrets of services come from, and where containers are given them from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretsPlace {
    /// vaultd's socket for the broker.
    pub vault_socket: String,
    /// A folder of the broker's own that nobody else enters, in memory: absolute, without a link.
    pub folder: String,
}

impl SecretsPlace {
    /// The folder that one container of a service finds at `/run/secrets`.
    pub fn of(&self, service: &Name, container: &Name) -> String {
        format!("{}/{service}/{container}", self.folder)
    }

    /// Whether `path` is the folder or begins as what lies in it does.
    pub fn holds(&self, path: &str) -> bool {
        path.strip_prefix(self.folder.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
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
    /// Whose the folder itself may be beside root's; all above it are root's. Nothing below it is then given by itself.
    pub owner: Option<u32>,
    /// Whether it is for the cell's own containers alone.
    pub core: bool,
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

/// Where a service's network lies: whoever asks for the deployment decides, and netd was told of it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// 1-1,023: the bridge's name is the ceiling's prefix and this. 0 is the cell's own network.
    pub number: u16,
    /// Sixteen addresses of [`Ceiling::service_networks`].
    pub subnet: Ipv4Net,
}

impl Place {
    /// Addresses of a service's network: sixteen.
    pub const PREFIX: u8 = 28;
    /// Highest number.
    pub const LAST: u16 = 1023;

    /// Whether both would have a bridge or an address.
    pub fn meets(&self, other: &Place) -> bool {
        let within = |a: &Ipv4Net, b: &Ipv4Net| a.contains(b);
        self.number == other.number
            || within(&self.subnet, &other.subnet)
            || within(&other.subnet, &self.subnet)
    }
}

impl Ceiling {
    /// The name of the bridge with this number; 0: of the cell's own network.
    pub fn bridge(&self, number: u16) -> String {
        format!("{}{number}", self.bridge_prefix)
    }

    /// What of the machine's files the broker reads: the folder of the list of local images (a file that is replaced is another
    /// one), and that of shipped manifests.
    pub fn owned(&self) -> Vec<&Path> {
        let list = self.local_images.as_deref().map(Path::new);
        let folder = list.and_then(Path::parent);
        folder
            .into_iter()
            .chain(self.shipped.as_deref().map(Path::new))
            .collect()
    }

    /// The resolver of a container at `address`: the machine's own address in its network, where netd turns all questions to the
    /// relay. None: the address is of no network that containers are in.
    pub fn resolver(&self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        if self.cell_network.contains(&address) {
            return Some(nth(self.cell_network, 1));
        }
        let subnet = Ipv4Net::new(address, Place::PREFIX).ok()?.trunc();
        self.service_networks.contains(&subnet).then(|| nth(subnet, 1))
    }
}

/// The address `n` of a network; the first is 0.
pub(super) fn nth(net: Ipv4Net, n: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()).saturating_add(u32::from(n)))
}
