//! The table `[deploy]` of the policy file: the ceiling of deployments.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use cell_broker_core::deploy::{
    BindRoot, Ceiling, CeilingLimits, ImagePolicy, Key, Place, PublishedRange, SecretsPlace,
};
use cell_broker_core::model::Ownership;
use cell_manifest::{AbsolutePath, Capability, Name};
use ipnet::Ipv4Net;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    manifest_keys: Vec<String>,
    #[serde(default)]
    image_keys: Vec<String>,
    image_policy: String,
    registries: Vec<String>,
    #[serde(default)]
    capabilities: Vec<String>,
    #[serde(default)]
    gateways: Vec<String>,
    #[serde(default)]
    core: BTreeMap<String, Ipv4Addr>,
    local_images: Option<String>,
    shipped: Option<String>,
    #[serde(default)]
    bind_roots: BTreeMap<String, Root>,
    #[serde(default)]
    published: Vec<Range>,
    cell_network: Ipv4Net,
    service_networks: Ipv4Net,
    bridge_prefix: String,
    limits: Limits,
    secrets: Option<Secrets>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Secrets {
    vault_socket: String,
    folder: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Root {
    path: String,
    #[serde(default)]
    writable: bool,
    owner: Option<String>,
    #[serde(default)]
    core: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    address: IpAddr,
    first: u16,
    last: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    memory_mib: u32,
    cpu_milli: u32,
    pids: u32,
    services: u16,
    total_memory_mib: u32,
    manifests: u16,
}

/// Folders that are never given, nor anything that they lie in or that lies in them: the cell's own, Docker's, the machine's.
const NEVER: [&str; 10] = [
    "/etc",
    "/run",
    "/var/run",
    "/var/lib/cell",
    "/var/lib/docker",
    "/boot",
    "/usr",
    "/root",
    "/bin",
    "/lib",
];

/// What the cell keeps for its own containers, although it is the cell's: for roots with `core = true`.
const CORE: [&str; 2] = ["/var/lib/cell/core", "/run/cell/caddy"];

impl Table {
    /// The ceiling, or none and faults.
    pub(super) fn ceiling(
        self,
        ownership: Ownership,
        uid_of: &impl Fn(&str) -> Option<u32>,
        faults: &mut Vec<String>,
    ) -> Option<Ceiling> {
        let before = faults.len();
        self.ranges(faults);
        self.networks(faults);
        let nets = (self.cell_network.trunc(), self.service_networks.trunc());
        let roots = roots(self.bind_roots, uid_of, faults);
        let secrets = secrets(self.secrets, &roots, faults);
        let ceiling = Ceiling {
            ownership,
            manifest_keys: each(&self.manifest_keys, "manifest_keys", faults, |pem| {
                Key::from_pem(pem)
            }),
            image_keys: each(&self.image_keys, "image_keys", faults, Key::from_pem),
            image_policy: policy(&self.image_policy, faults)?,
            registries: self.registries,
            local_images: clean(self.local_images, "local_images", faults),
            shipped: clean(self.shipped, "shipped", faults),
            bind_roots: roots,
            capabilities: each(&self.capabilities, "capabilities", faults, |word| {
                Capability::from_word(word).ok_or("is one that manifests know")
            })
            .into_iter()
            .collect(),
            gateways: names(&self.gateways, "gateways", faults),
            core: core(self.core, faults),
            published: self.published.into_iter().map(range).collect(),
            limits: limits(&self.limits),
            cell_network: nets.0,
            service_networks: nets.1,
            bridge_prefix: self.bridge_prefix,
            secrets,
        };
        (faults.len() == before).then_some(ceiling)
    }

    /// Where networks and addresses do not fit.
    fn networks(&self, faults: &mut Vec<String>) {
        let mut must = |holds: bool, words: &str| {
            if !holds {
                faults.push(format!("deploy.{words}"));
            }
        };
        let nets = (self.cell_network.trunc(), self.service_networks.trunc());
        let apart = !nets.0.contains(&nets.1) && !nets.1.contains(&nets.0);
        must(apart, "service_networks: are apart from cell_network");
        // netd takes networks of 24 to 29 bits.
        must(
            (24..=Place::PREFIX).contains(&nets.0.prefix_len()),
            "cell_network: has 24-28 bits",
        );
        let networks = 1_u32.checked_shl(u32::from(Place::PREFIX.saturating_sub(nets.1.prefix_len())));
        let enough = nets.1.prefix_len() <= Place::PREFIX
            && networks.is_some_and(|networks| u32::from(self.limits.services) <= networks);
        must(
            enough,
            "service_networks: have sixteen addresses for each of limits.services",
        );
        // The first is the bridge's; the last is everybody's.
        let ends = [nets.0.network(), nets.0.broadcast(), nth(nets.0)];
        let in_net = |address: &Ipv4Addr| nets.0.contains(address) && !ends.contains(address);
        let own: BTreeSet<&Ipv4Addr> = self.core.values().collect();
        must(
            self.core.values().all(in_net) && own.len() == self.core.len(),
            "core: addresses are in cell_network, none twice, and not the bridge's (the first)",
        );
    }

    /// What is out of range.
    fn ranges(&self, faults: &mut Vec<String>) {
        let mut must = |holds: bool, words: &str| {
            if !holds {
                faults.push(format!("deploy.{words}"));
            }
        };
        let prefix = self.bridge_prefix.as_bytes();
        let known = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        let good_prefix =
            (2..=10).contains(&prefix.len()) && prefix.iter().all(known) && prefix[0].is_ascii_lowercase();
        must(
            good_prefix,
            "bridge_prefix: is 2-10 characters of a-z, 0-9 and hyphens",
        );
        must(
            (1..=256).contains(&self.limits.services),
            "limits.services: is 1-256",
        );
        must(
            (1..=4096).contains(&self.limits.manifests),
            "limits.manifests: is 1-4096",
        );
        must(
            (6..=1_048_576).contains(&self.limits.memory_mib),
            "limits.memory_mib: is at least 6",
        );
        must(
            (10..=1_024_000).contains(&self.limits.cpu_milli),
            "limits.cpu_milli: is at least 10",
        );
        must((1..=4096).contains(&self.limits.pids), "limits.pids: is 1-4096");
        let ranges = self
            .published
            .iter()
            .all(|range| range.first >= 1024 && range.first <= range.last && !range.address.is_unspecified());
        must(
            ranges,
            "published: are ranges of ports from 1024 on, of one address each",
        );
        let registries = self.registries.iter().all(|registry| registry_is_good(registry));
        must(
            registries,
            "registries: are hosts, or hosts and folders, in lower case",
        );
    }
}

fn nth(net: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()).saturating_add(1))
}

fn each<T, E: ToString>(
    texts: &[String],
    key: &str,
    faults: &mut Vec<String>,
    make: impl Fn(&str) -> Result<T, E>,
) -> Vec<T> {
    let mut made = Vec::new();
    for (n, text) in texts.iter().enumerate() {
        match make(text) {
            Ok(one) => made.push(one),
            Err(words) => faults.push(format!("deploy.{key}[{n}]: {}", words.to_string())),
        }
    }
    made
}

fn names(texts: &[String], key: &str, faults: &mut Vec<String>) -> BTreeSet<Name> {
    each(texts, key, faults, |text| Name::try_from(text))
        .into_iter()
        .collect()
}

fn core(written: BTreeMap<String, Ipv4Addr>, faults: &mut Vec<String>) -> BTreeMap<Name, Ipv4Addr> {
    let mut core = BTreeMap::new();
    for (id, address) in written {
        match Name::try_from(id.as_str()) {
            Ok(id) => {
                core.insert(id, address);
            }
            Err(words) => faults.push(format!("deploy.core: {words}")),
        }
    }
    core
}

fn policy(word: &str, faults: &mut Vec<String>) -> Option<ImagePolicy> {
    match word {
        "enforce" => Some(ImagePolicy::Enforce),
        "warn" => Some(ImagePolicy::Warn),
        "off" => Some(ImagePolicy::Off),
        _ => {
            faults.push("deploy.image_policy: is enforce, warn or off".to_owned());
            None
        }
    }
}

/// A path that means one thing, wherever it lies: what is read there has to be root's.
fn clean(path: Option<String>, key: &str, faults: &mut Vec<String>) -> Option<String> {
    let path = path?;
    let parts = path.strip_prefix('/').map(|below| below.split('/'));
    let good = parts.is_some_and(|mut parts| parts.all(|part| !matches!(part, "" | "." | "..")));
    if !good {
        faults.push(format!("deploy.{key}: is an absolute path without //, . and .."));
    }
    good.then_some(path)
}

/// Where secrets come from and lie: apart from all that containers are given by name.
fn secrets(
    written: Option<Secrets>,
    roots: &BTreeMap<Name, BindRoot>,
    faults: &mut Vec<String>,
) -> Option<SecretsPlace> {
    let Secrets { vault_socket, folder } = written?;
    let vault_socket = clean(Some(vault_socket), "secrets.vault_socket", faults);
    let folder = clean(Some(folder), "secrets.folder", faults);
    let place = SecretsPlace {
        vault_socket: vault_socket?,
        folder: folder?,
    };
    let meets = |root: &BindRoot| {
        place.holds(&root.path) || format!("{}/", place.folder).starts_with(&format!("{}/", root.path))
    };
    if roots.values().any(meets) {
        faults.push("deploy.secrets.folder: is apart from every bind root".to_owned());
    }
    Some(place)
}

/// A user by name or number.
fn owner(
    id: &str,
    root: &Root,
    uid_of: &impl Fn(&str) -> Option<u32>,
    faults: &mut Vec<String>,
) -> Option<u32> {
    let text = root.owner.as_deref()?;
    let uid = text.parse().ok().or_else(|| uid_of(text));
    if uid.is_none() {
        faults.push(format!(
            "deploy.bind_roots.{id}.owner: there is no user {text:?} on this machine"
        ));
    }
    uid
}

fn roots(
    written: BTreeMap<String, Root>,
    uid_of: &impl Fn(&str) -> Option<u32>,
    faults: &mut Vec<String>,
) -> BTreeMap<Name, BindRoot> {
    let mut roots = BTreeMap::new();
    for (id, root) in written {
        let owner = owner(&id, &root, uid_of, faults);
        let in_core = CORE.iter().any(|core| {
            root.path == *core
                || root
                    .path
                    .strip_prefix(core)
                    .is_some_and(|rest| rest.starts_with('/'))
        });
        let path = AbsolutePath::new(&root.path);
        let own = |path: &AbsolutePath| {
            let never = NEVER.iter().filter_map(|never| never.strip_prefix('/'));
            never.into_iter().any(|never| {
                let below = |a: &str, b: &str| a == b || a.starts_with(&format!("{b}/"));
                below(&path.as_str()[1..], never) || below(never, &path.as_str()[1..])
            })
        };
        match (Name::try_from(id.as_str()), path) {
            (Ok(id), Ok(path)) if !own(&path) || (root.core && in_core) => {
                let root = BindRoot {
                    path: path.to_string(),
                    writable: root.writable,
                    owner,
                    core: root.core,
                };
                roots.insert(id, root);
            }
            (Ok(_), Ok(_)) => faults.push(format!(
                "deploy.bind_roots.{id}: is apart from the machine's, Docker's and the cell's own folders"
            )),
            (Err(words), _) => faults.push(format!("deploy.bind_roots: {words}")),
            (Ok(_), Err(words)) => faults.push(format!("deploy.bind_roots.{id}: {words}")),
        }
    }
    roots
}

fn registry_is_good(registry: &str) -> bool {
    let digest = format!("sha256:{}", "0".repeat(64));
    cell_manifest::Image::try_from(&*format!("{registry}/x@{digest}")).is_ok()
}

fn range(range: Range) -> PublishedRange {
    PublishedRange {
        address: range.address,
        first: range.first,
        last: range.last,
    }
}

fn limits(limits: &Limits) -> CeilingLimits {
    CeilingLimits {
        memory_mib: limits.memory_mib,
        cpu_milli: limits.cpu_milli,
        pids: limits.pids,
        services: limits.services,
        total_memory_mib: limits.total_memory_mib,
        manifests: limits.manifests,
    }
}
