//! Whether a manifest with these values may be deployed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

use cell_manifest::{
    BelowRoot, Capability, Container, Digest, Faults, ImageSource, Key, Mount, Name, Purpose, Rule, Source,
    Values,
};
use ipnet::Ipv4Net;

use super::bundle::{Signer, Verified};
use super::ceiling::{Ceiling, ImagePolicy, Place, nth};
use crate::verb::{Role, Verb};

/// What a caller asks for, and where the broker would put it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order<'a> {
    /// Name of the instance; empty where the manifest has none.
    pub instance: &'a str,
    /// Values of fields.
    pub parameters: &'a BTreeMap<String, String>,
    /// Where its network is to lie; none for one of the cell's own.
    pub place: Option<Place>,
    /// Where those of the other services lie.
    pub places: &'a BTreeSet<Place>,
    /// Images that root built on the machine, by name.
    pub local: &'a BTreeMap<Name, Digest>,
    /// How many other services there are.
    pub others: u16,
    /// What they may use of memory together, MiB.
    pub others_memory_mib: u32,
    /// Handles of their containers: no two may be one.
    pub taken: &'a BTreeSet<String>,
    /// Whose the service of this name is, where there is one and it is known.
    pub owner: Option<&'a Owner>,
}

/// Whose a service is: its volumes, secrets and accounts are found by its name alone, so nobody else's manifest may come by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its manifest's id: `a-b` is a name of `a-b`, and of `a` with the instance `b`.
    pub id: Name,
    /// Who vouched for what was made last.
    pub signer: Signer,
}

impl Owner {
    /// Whether `verified` may be the next of this service: of the same id, by the same signer, by root, or by one whom root has put in
    /// the place of a key that the ceiling does not have any more.
    pub fn is_followed_by(&self, verified: &Verified, keys: &[Key]) -> bool {
        let is_gone = |pem: &String| !keys.iter().any(|key| key.to_pem() == *pem);
        let signer = verified.signer();
        let signs = match &self.signer {
            former if former == signer => true,
            Signer::Root => false,
            Signer::Key(pem) => *signer == Signer::Root || is_gone(pem),
        };
        self.id == verified.manifest().id && signs
    }
}

/// Leave to deploy. Only [`judge`] makes one.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approved {
    pub(super) service: Name,
    pub(super) owner: Owner,
    pub(super) digest: Digest,
    pub(super) core: bool,
    pub(super) network: NetworkPlan,
    pub(super) containers: Vec<ApprovedContainer>,
    pub(super) values: Values,
    warnings: Vec<String>,
}

/// A container as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovedContainer {
    /// As the manifest has it.
    pub container: Container,
    /// The id of its image, where root built it on the machine.
    pub image_id: Option<Digest>,
    /// What other verbs know it by: the service's name for the first, with the container's after a hyphen for the others.
    pub handle: String,
    /// Its address.
    pub address: Ipv4Addr,
}

/// A network as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPlan {
    /// Docker's name for it.
    pub name: String,
    /// Its bridge's name.
    pub bridge: String,
    /// Its addresses.
    pub subnet: Ipv4Net,
    /// The machine's own address there.
    pub gateway: Ipv4Addr,
    /// The proxy's address there; none: the proxy is at home in it.
    pub proxy: Option<Ipv4Addr>,
    /// Whether Docker gives it no way out. Where it has one (a published port, one that devices reach at the service itself, an
    /// exit), Docker translates nothing: netd decides what leaves, and by which way.
    pub internal: bool,
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Stable code: the rule, and what of it.
    pub code: &'static str,
    /// The rule.
    pub rule: Rule,
    /// Where in the manifest or request.
    pub path: String,
    /// What is wrong and what would be right.
    pub description: String,
}

/// At least one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied(Vec<Reason>);

impl Denied {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Reason> {
        self.0.iter()
    }

    /// Whether one of them has this code.
    pub fn has(&self, code: &str) -> bool {
        self.0.iter().any(|reason| reason.code == code)
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, reason) in self.0.iter().enumerate() {
            let comma = if n > 0 { "," } else { "" };
            write!(f, "{comma}{}", reason.code)?;
        }
        Ok(())
    }
}

impl From<Faults> for Denied {
    fn from(faults: Faults) -> Self {
        let reason = |fault: &cell_manifest::Fault| Reason {
            code: match fault.rule {
                Rule::S3 => "S3_PARAMETER",
                _ => "S2_INSTANCE",
            },
            rule: fault.rule,
            path: fault.path.clone(),
            description: fault.description.clone(),
        };
        Denied(faults.iter().map(reason).collect())
    }
}

impl Approved {
    /// The service's name.
    pub fn service(&self) -> &Name {
        &self.service
    }

    /// Whose it is from now on.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The manifest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its network.
    pub fn network(&self) -> &NetworkPlan {
        &self.network
    }

    /// Whether it is one of the cell's own containers, at home in the cell's network.
    pub fn is_core(&self) -> bool {
        self.core
    }

    /// Its containers, the first first.
    pub fn containers(&self) -> &[ApprovedContainer] {
        &self.containers
    }

    /// Names of its volumes at Docker, each once, with the name in the manifest.
    pub fn volumes(&self) -> BTreeMap<String, Name> {
        self.all_mounts()
            .filter_map(|mount| match &mount.source {
                Source::Volume(name) => Some((volume(&self.service, name), name.clone())),
                Source::Bind { .. } | Source::Tmpfs { .. } => None,
            })
            .collect()
    }

    /// Folders of the machine that it is given.
    pub fn binds(&self) -> BTreeSet<(Name, BelowRoot)> {
        self.all_mounts()
            .filter_map(|mount| match &mount.source {
                Source::Bind { root, below } => Some((root.clone(), below.clone())),
                Source::Volume(_) | Source::Tmpfs { .. } => None,
            })
            .collect()
    }

    /// Ids of those of its images that root built on the machine.
    pub fn local_images(&self) -> BTreeSet<Digest> {
        self.containers
            .iter()
            .filter_map(|approved| approved.image_id.clone())
            .collect()
    }

    /// What was let through with a word.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn all_mounts(&self) -> impl Iterator<Item = &Mount> {
        self.containers
            .iter()
            .flat_map(|approved| &approved.container.mounts)
    }
}

/// Docker's name for a volume.
pub(super) fn volume(service: &Name, name: &Name) -> String {
    format!("cell-{service}.{name}")
}

/// Docker's name for the network of the cell's own containers.
const CELL_NETWORK: &str = "cell-network";
/// What its names for those of services begin with. Of a container's networks that are not internal, Docker gives the default
/// route to the first by name, whatever its version: the proxy's is to be the cell's, whichever services it has legs in.
const SERVICE_NETWORK: &str = "cell-service-";
const _: () = assert!(CELL_NETWORK.as_bytes()[5] < SERVICE_NETWORK.as_bytes()[5]);

struct Bench<'a> {
    ceiling: &'a Ceiling,
    reasons: Vec<Reason>,
    warnings: Vec<String>,
    local: &'a BTreeMap<Name, Digest>,
}

/// Decides. Every reason at once; the same inputs give the same verdict.
pub fn judge(
    ceiling: &Ceiling,
    role: Role,
    verified: &Verified,
    order: &Order<'_>,
) -> Result<Approved, Denied> {
    let manifest = verified.manifest();
    let mut bench = Bench {
        ceiling,
        reasons: Vec::new(),
        warnings: Vec::new(),
        local: order.local,
    };
    bench.must(
        Verb::Deploy.is_for(role),
        "ROLE",
        Rule::S4,
        "caller",
        "may deploy",
    );
    let service = manifest.service_name(order.instance);
    let values = manifest.values(order.parameters);
    bench.quotas(verified, order);
    bench.owner(verified, order);
    bench.containers(verified);
    let core = manifest.purpose == Purpose::Core;
    let network = bench.network(verified, order, service.as_ref().ok());
    let Bench {
        mut reasons,
        warnings,
        ..
    } = bench;
    for faults in [service.as_ref().err(), values.as_ref().err()]
        .into_iter()
        .flatten()
    {
        reasons.extend(Denied::from(faults.clone()).0);
    }
    let (Ok(service), Ok(values), Some((network, first)), true) =
        (service, values, network, reasons.is_empty())
    else {
        return Err(Denied(reasons));
    };
    let containers = place(&service, &manifest.containers, &network, first, order.local);
    if let Some(container) = containers
        .iter()
        .find(|container| order.taken.contains(&container.handle))
    {
        let words = format!("another service has {} already", container.handle);
        return Err(Denied(vec![reason("N5_NAME_TAKEN", Rule::N5, "service", &words)]));
    }
    Ok(Approved {
        service,
        owner: Owner {
            id: manifest.id.clone(),
            signer: verified.signer().clone(),
        },
        digest: verified.digest().clone(),
        core,
        network,
        containers,
        values,
        warnings,
    })
}

fn reason(code: &'static str, rule: Rule, path: &str, words: &str) -> Reason {
    Reason {
        code,
        rule,
        path: path.to_owned(),
        description: words.to_owned(),
    }
}

fn place(
    service: &Name,
    containers: &[Container],
    network: &NetworkPlan,
    first: Option<Ipv4Addr>,
    local: &BTreeMap<Name, Digest>,
) -> Vec<ApprovedContainer> {
    let numbered = containers.iter().zip(0u8..);
    numbered
        .map(|(container, n)| ApprovedContainer {
            container: container.clone(),
            image_id: container.image.local().and_then(|name| local.get(name).cloned()),
            handle: if n == 0 {
                service.to_string()
            } else {
                format!("{service}-{}", container.name)
            },
            address: first.unwrap_or_else(|| nth(network.subnet, 2 + n)),
        })
        .collect()
}

impl Bench<'_> {
    fn must(&mut self, holds: bool, code: &'static str, rule: Rule, path: &str, words: &str) {
        if !holds {
            self.reasons.push(reason(code, rule, path, words));
        }
    }

    fn containers(&mut self, verified: &Verified) {
        let manifest = verified.manifest();
        for (n, container) in manifest.containers.iter().enumerate() {
            let at = format!("containers[{n}]");
            self.image(verified, container, &at);
            self.privileges(container, &at, &manifest.id);
            self.mounts(container, &at, manifest.purpose);
            let given = container.secrets.is_empty() || self.ceiling.secrets.is_some();
            let words = "are for a broker that may ask vaultd (deploy.secrets in broker.toml)";
            self.must(given, "M1_SECRETS", Rule::M1, &format!("{at}.secrets"), words);
            self.limits(container, &at);
            self.ports(container, &at);
        }
    }

    fn owner(&mut self, verified: &Verified, order: &Order<'_>) {
        let keys = &self.ceiling.manifest_keys;
        let own = order
            .owner
            .is_none_or(|owner| owner.is_followed_by(verified, keys));
        let words = "is another's: a service is followed by a manifest of its own id and signer alone; remove it first";
        self.must(own, "N5_NAME_TAKEN", Rule::N5, "service", words);
    }

    fn quotas(&mut self, verified: &Verified, order: &Order<'_>) {
        let limits = self.ceiling.limits;
        self.must(
            order.others < limits.services,
            "R1_SERVICES",
            Rule::R1,
            "limits.services",
            "as many services as the ceiling allows are there",
        );
        let memory = verified
            .manifest()
            .containers
            .iter()
            .map(|container| container.limits.memory_mib);
        let total = memory.fold(order.others_memory_mib, u32::saturating_add);
        let fits = total <= limits.total_memory_mib;
        self.must(
            fits,
            "R1_TOTAL_MEMORY",
            Rule::R1,
            "limits.total_memory_mib",
            "all services together would have more memory",
        );
    }

    fn image(&mut self, verified: &Verified, container: &Container, at: &str) {
        let path = format!("{at}.image");
        let image = match &container.image {
            ImageSource::Registry(image) => image,
            ImageSource::Local(name) => {
                // Root listed it: that is as good as a signature.
                let listed = self.local.contains_key(name);
                let words = "is listed among the images that were built on this machine (local_images in broker.toml)";
                return self.must(listed, "I1_LOCAL", Rule::I1, &path, words);
            }
        };
        let listed = self
            .ceiling
            .registries
            .iter()
            .any(|registry| image.is_from(registry));
        self.must(
            listed,
            "I1_REGISTRY",
            Rule::I1,
            &path,
            "comes from a registry of the ceiling",
        );
        let signed = verified.signs(image, &self.ceiling.image_keys);
        match self.ceiling.image_policy {
            ImagePolicy::Enforce => {
                self.must(
                    signed,
                    "I1_UNSIGNED",
                    Rule::I1,
                    &path,
                    "is signed by an image key of the ceiling",
                );
            }
            ImagePolicy::Warn if !signed => self.warnings.push(format!("{path}: {image} is not signed")),
            ImagePolicy::Warn | ImagePolicy::Off => {}
        }
    }

    fn privileges(&mut self, container: &Container, at: &str, id: &Name) {
        let path = format!("{at}.capabilities");
        let over: Vec<&str> = container
            .capabilities
            .iter()
            .filter(|capability| !self.ceiling.capabilities.contains(capability))
            .map(|capability: &Capability| capability.word())
            .collect();
        let words = format!("the ceiling does not give back {}", over.join(", "));
        self.must(over.is_empty(), "P2_CAPABILITY", Rule::P2, &path, &words);
        let gateway = !container.gateway || self.ceiling.gateways.contains(id);
        self.must(
            gateway,
            "P5_GATEWAY",
            Rule::P5,
            &format!("{at}.gateway"),
            "is a gateway of the ceiling",
        );
    }

    fn mounts(&mut self, container: &Container, at: &str, purpose: Purpose) {
        for (n, mount) in container.mounts.iter().enumerate() {
            let path = format!("{at}.mounts[{n}]");
            let Source::Bind { root, .. } = &mount.source else {
                continue;
            };
            match self.ceiling.bind_roots.get(root) {
                None => self.must(
                    false,
                    "M1_BIND_ROOT",
                    Rule::M1,
                    &path,
                    "names a bind root of the ceiling",
                ),
                Some(found) => {
                    self.must(
                        !found.core || purpose == Purpose::Core,
                        "M1_CORE_ROOT",
                        Rule::M1,
                        &path,
                        "names a root that is for services too: this one is for the cell's own containers",
                    );
                    let may = mount.read_only || found.writable;
                    self.must(
                        may,
                        "M2_BIND_READ_ONLY",
                        Rule::M2,
                        &path,
                        "is read-only, as this root is",
                    );
                }
            }
        }
    }

    fn limits(&mut self, container: &Container, at: &str) {
        let (asked, most) = (container.limits, self.ceiling.limits);
        for (key, asked, most) in [
            ("memory_mib", asked.memory_mib, most.memory_mib),
            ("cpu_milli", asked.cpu_milli, most.cpu_milli),
            ("pids", asked.pids, most.pids),
        ] {
            let words = format!("is at most {most} by the ceiling");
            self.must(
                asked <= most,
                "R1_LIMIT",
                Rule::R1,
                &format!("{at}.limits.{key}"),
                &words,
            );
        }
    }

    fn ports(&mut self, container: &Container, at: &str) {
        for (n, port) in container.ports.iter().enumerate() {
            let Some(published) = port.published else {
                continue;
            };
            let listed = self.ceiling.published.iter().any(|range| range.holds(published));
            let path = format!("{at}.ports[{n}].publish");
            self.must(
                listed,
                "N6_PUBLISHED",
                Rule::N6,
                &path,
                "is an address and port of the ceiling",
            );
        }
    }

    /// The network, and for one of the cell's own containers its address.
    fn network(
        &mut self,
        verified: &Verified,
        order: &Order<'_>,
        service: Option<&Name>,
    ) -> Option<(NetworkPlan, Option<Ipv4Addr>)> {
        let (manifest, signer) = (verified.manifest(), verified.signer());
        let id = &manifest.id;
        if manifest.purpose == Purpose::Core {
            // Where root ships them, nobody else's is one: a key for services is none for what sees all of them.
            let vouched = self.ceiling.shipped.is_none() || *signer == Signer::Root;
            let address = self.ceiling.core.get(id).copied().filter(|_| vouched);
            self.must(
                address.is_some(),
                "N2_CORE",
                Rule::N2,
                "kind",
                "is core for ids that the ceiling lists, in manifests that root shipped",
            );
            self.must(
                order.place.is_none(),
                "N2_PLACE",
                Rule::N2,
                "place",
                "is for services of the store: the cell's own containers have the cell's network",
            );
            let subnet = self.ceiling.cell_network;
            let plan = NetworkPlan {
                name: CELL_NETWORK.to_owned(),
                bridge: self.ceiling.bridge(0),
                subnet,
                gateway: nth(subnet, 1),
                proxy: None,
                internal: false,
            };
            return address.map(|address| (plan, Some(address)));
        }
        let place = self.place(order)?;
        let subnet = place.subnet;
        let plan = NetworkPlan {
            name: format!("{SERVICE_NETWORK}{}", service?),
            bridge: self.ceiling.bridge(place.number),
            subnet,
            gateway: nth(subnet, 1),
            proxy: Some(nth(subnet, 14)),
            internal: !manifest.has_way_out(),
        };
        Some((plan, None))
    }

    /// Where a service's network is to lie, if it may.
    fn place(&mut self, order: &Order<'_>) -> Option<Place> {
        let words = "is required: the number and the subnet of the service's network";
        self.must(order.place.is_some(), "N2_PLACE", Rule::N2, "place", words);
        let place = order.place?;
        let words = format!("is 1-{}", Place::LAST);
        let numbered = (1..=Place::LAST).contains(&place.number);
        self.must(numbered, "N2_PLACE", Rule::N2, "place.number", &words);
        let whole = place.subnet.prefix_len() == Place::PREFIX && place.subnet.trunc() == place.subnet;
        let within = whole && self.ceiling.service_networks.contains(&place.subnet);
        let words =
            "is sixteen addresses (28 bits, the first address first) of the ceiling's service_networks";
        self.must(within, "N2_PLACE", Rule::N2, "place.subnet", words);
        let apart = !order.places.iter().any(|other| other.meets(&place));
        let words = "is no other service's, neither its number nor one of its addresses";
        self.must(apart, "N2_PLACE_TAKEN", Rule::N2, "place", words);
        (numbered && within && apart).then_some(place)
    }
}

/// Whether the images of a manifest may be fetched: what may not be deployed is not fetched either.
///
/// # Errors
/// Every reason.
pub fn judge_images(
    ceiling: &Ceiling,
    verified: &Verified,
    local: &BTreeMap<Name, Digest>,
) -> Result<(), Denied> {
    let mut bench = Bench {
        ceiling,
        reasons: Vec::new(),
        warnings: Vec::new(),
        local,
    };
    for (n, container) in verified.manifest().containers.iter().enumerate() {
        bench.image(verified, container, &format!("containers[{n}]"));
    }
    if bench.reasons.is_empty() {
        Ok(())
    } else {
        Err(Denied(bench.reasons))
    }
}
