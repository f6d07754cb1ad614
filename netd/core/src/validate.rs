//! A spec becomes a [`Desired`], or every fault is named. A change is checked against the indexes of the accepted
//! state, so that one peer costs the same at ten and at ten thousand.

mod entries;
mod exits;
mod peers;
mod public;
mod redirects;
mod services;
mod tunnels;
mod wireguard;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::ceiling::Ceiling;
use crate::desired::{Delta, Desired, Peer, PeerChange};
use crate::model::{PeerName, PublicKey};
use crate::spec::{DeltaSpec, NetworkSpec};

pub use peers::service_address_allowed;

/// Most services of one peer.
pub const SERVICES_MAX: usize = 256;
/// Most ports of containers of one network that users of this machine may open (proto).
pub const CALLED_MAX: usize = 256;
/// Most services of all peers together: each is an element of a set, and a spec is one transaction. Below the 2^20
/// of ipset's sets, above what cell-api gives.
pub const GRANTS_MAX: usize = 393_216;
/// Most ports of the cell.
pub const CELL_PORTS_MAX: usize = 64;
/// Most prefixes that one exit carries.
pub const ALLOWED_IPS_MAX: usize = 256;
/// Most servers of one exit of the relay.
pub const SERVERS_MAX: usize = 16;
/// Most servers of one tunnel that a program carries (proto).
pub const TUNNEL_SERVERS_MAX: usize = 64;
/// Most resolvers of peers without an exit (proto).
pub const RESOLVERS_MAX: usize = 8;
/// Most peers that one change adds, and removes.
pub const DELTA_MAX: usize = 1000;

/// One fault of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path to the field from the request's root, e.g. `spec.peers[2].addresses[0]`.
    pub field: String,
    /// What would be right, one sentence.
    pub description: String,
}

/// Why a request is refused. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Something is malformed; what is above the ceiling besides is named too.
    #[error("the specification has {} fault(s)", .0.len())]
    InvalidSpec(Vec<Violation>),
    /// All is well formed, but the root-owned ceiling forbids some of it.
    #[error("the ceiling forbids {} field(s)", .0.len())]
    AboveCeiling(Vec<Violation>),
}

impl Rejection {
    /// The faults of either class.
    pub fn violations(&self) -> &[Violation] {
        match self {
            Rejection::InvalidSpec(faults) | Rejection::AboveCeiling(faults) => faults,
        }
    }
}

/// Checks a whole spec. Field paths start with `spec`. `own_key` is the cell's public key, if it is known: no peer can have
/// it, and the device must.
///
/// # Errors
/// [`Rejection`] with every fault.
pub fn validate(
    spec: &NetworkSpec,
    ceiling: &Ceiling,
    own_key: Option<PublicKey>,
) -> Result<Desired, Rejection> {
    let NetworkSpec {
        wireguard,
        peers,
        cell_ports,
        exits,
        dns_upstreams,
        service_networks: _,
        entries: _,
        relay_servers,
        public_http: _,
    } = spec;
    let mut faults = Faults::default();
    let interface = wireguard
        .as_ref()
        .and_then(|spec| wireguard::interface(spec, ceiling, &mut faults));
    let cell_ports = wireguard::cell_ports(cell_ports, ceiling, &mut faults);
    let context = exits::Context {
        ceiling: &ceiling.exits,
        hidden: [ceiling.service_v4.into(), ceiling.service_v6.into()],
        vpn: interface.as_ref(),
        own_key,
    };
    let exits = exits::check(&context, exits, &mut faults);
    let resolvers = redirects::resolvers(&context, dns_upstreams, &mut faults);
    let own_servers = redirects::own_servers(&context, relay_servers, &mut faults);
    // A fault of an exit is named once, not again at every peer that is bound to it.
    let exits_known = exits.is_some();
    let (exits, redirects) = exits.unwrap_or_default();
    let mut desired = Desired::new(interface, own_key, cell_ports, exits, redirects, resolvers);
    desired.set_relay_servers(own_servers);
    add_services(&mut desired, spec, ceiling, exits_known, &mut faults);
    if wireguard.is_none() && !peers.is_empty() {
        faults.invalid("spec.peers", "peers need an interface; set spec.wireguard");
    }
    if peers.len() > ceiling.max_peers {
        let most = ceiling.max_peers;
        faults.above(
            "spec.peers",
            format!("at most {most} peers are allowed, not {}", peers.len()),
        );
        return Err(faults.into_rejection());
    }
    let context = peers::Context {
        ceiling,
        base: &desired,
        replaced: &BTreeSet::new(),
        // A fault of the interface is named once, not again at every peer.
        interface_known: desired.wireguard().is_some(),
        exits_known,
    };
    let checked = context.check(peers, "spec.peers", &mut faults);
    if faults.any() {
        return Err(faults.into_rejection());
    }
    desired.fill(checked);
    Ok(desired)
}

/// Networks of services, and where services are found: those stand on these, and on all that there is before them but exits.
fn add_services(
    desired: &mut Desired,
    spec: &NetworkSpec,
    ceiling: &Ceiling,
    exits_known: bool,
    faults: &mut Faults,
) {
    let context = services::Context {
        ceiling,
        base: desired,
        exits_known,
    };
    let services::Checked {
        sound,
        others,
        none_known,
    } = services::check(&context, &spec.service_networks, faults);
    desired.set_services(sound);
    let context = entries::Context {
        ceiling,
        base: desired,
        interface_known: desired.wireguard().is_some(),
        others: &others,
        networks_known: !none_known,
    };
    let entries = entries::check(&context, &spec.entries, faults);
    desired.set_entries(entries);
    let networks = public::Networks {
        sound: desired.services(),
        others: &others,
        all_known: !none_known,
    };
    let public = spec.public_http.as_ref();
    let public = public.and_then(|to| public::check(ceiling, &networks, to.clone(), faults));
    desired.set_public_http(public);
    if spec.wireguard.is_none() && !spec.entries.is_empty() {
        faults.invalid("spec.entries", "entries need an interface; set spec.wireguard");
    }
}

/// Checks a change of some peers of `base`.
///
/// # Errors
/// [`Rejection`] with every fault.
pub fn validate_delta(spec: &DeltaSpec, base: &Desired, ceiling: &Ceiling) -> Result<Delta, Rejection> {
    let DeltaSpec {
        upserted_peers,
        removed_peers,
    } = spec;
    let mut faults = Faults::default();
    for (field, count) in [
        ("upserted_peers", upserted_peers.len()),
        ("removed_peers", removed_peers.len()),
    ] {
        if count > DELTA_MAX {
            faults.invalid(
                field,
                format!("one change has at most {DELTA_MAX}, not {count}; apply the whole spec"),
            );
        }
    }
    if faults.any() {
        return Err(faults.into_rejection());
    }
    if base.wireguard().is_none() && !upserted_peers.is_empty() {
        faults.invalid(
            "upserted_peers",
            "peers need an interface; apply a spec with one first",
        );
    }
    let upserted: BTreeSet<PeerName> = upserted_peers
        .iter()
        .filter_map(|peer| peer.name.parse().ok())
        .collect();
    let removed = removed_names(removed_peers, &upserted, &mut faults);
    let replaced: BTreeSet<PeerName> = removed.union(&upserted).cloned().collect();
    let interface_known = base.wireguard().is_some();
    let context = peers::Context {
        ceiling,
        base,
        replaced: &replaced,
        interface_known,
        exits_known: true,
    };
    let checked: BTreeMap<PeerName, Arc<Peer>> = context
        .check(upserted_peers, "upserted_peers", &mut faults)
        .into_iter()
        .collect();
    let kept = base.peers().len()
        - replaced
            .iter()
            .filter(|name| base.peers().contains_key(name))
            .count();
    if kept + checked.len() > ceiling.max_peers {
        faults.above(
            "upserted_peers",
            format!("at most {} peers are allowed", ceiling.max_peers),
        );
    }
    if faults.any() {
        Err(faults.into_rejection())
    } else {
        Ok(difference(base, removed, checked))
    }
}

/// What really changes.
fn difference(base: &Desired, removed: BTreeSet<PeerName>, checked: BTreeMap<PeerName, Arc<Peer>>) -> Delta {
    let gone = removed.into_iter().map(|name| (name, None));
    let come = checked.into_iter().map(|(name, peer)| (name, Some(peer)));
    let changes = gone.chain(come).map(|(name, after)| {
        let before = base.peers().get(&name).map(Arc::clone);
        (name, PeerChange { before, after })
    });
    Delta(
        changes
            .filter(|(_, change)| change.before != change.after)
            .collect(),
    )
}

fn removed_names(names: &[String], upserted: &BTreeSet<PeerName>, faults: &mut Faults) -> BTreeSet<PeerName> {
    let mut removed = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        let field = format!("removed_peers[{index}]");
        let Some(name) = faults.parsed(name.parse::<PeerName>(), field.as_str()) else {
            continue;
        };
        if upserted.contains(&name) {
            faults.invalid(field, "the peer is in upserted_peers too");
        }
        removed.insert(name);
    }
    removed
}

/// Collects faults of both classes. Paths are written out for faults alone: nearly all fields have none.
#[derive(Default)]
struct Faults {
    invalid: Vec<Violation>,
    above: Vec<Violation>,
}

impl Faults {
    fn invalid(&mut self, field: impl fmt::Display, description: impl ToString) {
        self.invalid.push(Violation {
            field: field.to_string(),
            description: description.to_string(),
        });
    }

    fn above(&mut self, field: impl fmt::Display, description: impl ToString) {
        self.above.push(Violation {
            field: field.to_string(),
            description: description.to_string(),
        });
    }

    fn any(&self) -> bool {
        self.count() > 0
    }

    fn count(&self) -> usize {
        self.invalid.len() + self.above.len()
    }

    /// The value, or its fault under `field`.
    fn parsed<T>(&mut self, value: Result<T, impl ToString>, field: impl fmt::Display) -> Option<T> {
        value.map_err(|error| self.invalid(field, error)).ok()
    }

    fn into_rejection(self) -> Rejection {
        let Faults { mut invalid, above } = self;
        if invalid.is_empty() {
            return Rejection::AboveCeiling(above);
        }
        invalid.extend(above);
        Rejection::InvalidSpec(invalid)
    }
}
