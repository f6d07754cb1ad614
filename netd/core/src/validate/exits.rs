//! Exits: each by itself, and against the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::peers::unreachable_kind;
use super::{ALLOWED_IPS_MAX, Faults, redirects, tunnels};
use crate::ceiling::ExitCeiling;
use crate::desired::{Desired, Exit, ExitWay, FarEnd, Tunnel, Wireguard, WireguardExit};
use crate::model::{ExitId, ExitInterface, ExitMark, Mtu, PublicKey, TableId};
use crate::redirect::{Carrier, Redirect};
use crate::spec::{ExitSpec, FarEndSpec, Parsed, WaySpec, WireguardExitSpec};

/// Most far ends of a tunnel (proto).
const FAR_ENDS_MAX: usize = 8;

/// What carries a peer or a service to the internet: an exit, or none for the machine's own way; nothing at all where that is a
/// fault. Where `exits_known` is not set, the exits of `base` have faults of their own, which are told.
pub(super) fn way_out(
    base: &Desired,
    exits_known: bool,
    id: &str,
    field: impl fmt::Display,
    faults: &mut Faults,
) -> Option<Option<Carrier>> {
    if id.is_empty() {
        return Some(None);
    }
    let id: ExitId = faults.parsed(id.parse(), &field)?;
    let exit = base.carrier(&id);
    if exit.is_none() && exits_known {
        faults.invalid(field, format!("there is no exit {id}"));
    }
    exit.map(Some)
}

/// What exits are checked against.
pub(super) struct Context<'a> {
    pub ceiling: &'a ExitCeiling,
    /// The hidden service addresses.
    pub hidden: [IpAddr; 2],
    /// The cell's own interface, as far as it is sound.
    pub vpn: Option<&'a Wireguard>,
    pub own_key: Option<PublicKey>,
}

/// What the exits before had taken, and where.
#[derive(Default)]
pub(super) struct Taken {
    ids: BTreeMap<ExitId, usize>,
    marks: BTreeMap<ExitMark, usize>,
    tables: BTreeMap<TableId, usize>,
    interfaces: BTreeMap<ExitInterface, usize>,
    pub(super) ports: BTreeMap<u16, usize>,
}

impl Context<'_> {
    pub(super) fn is_inside(&self, address: IpAddr) -> bool {
        self.vpn.is_some_and(|vpn| vpn.prefix_of(address).is_some())
    }
}

/// Exits by interfaces, and those of the relay.
type Checked = (BTreeMap<ExitId, Exit>, BTreeMap<ExitId, Redirect>);

/// The exits; none if one of them is not sound.
pub(super) fn check(context: &Context<'_>, specs: &[ExitSpec], faults: &mut Faults) -> Option<Checked> {
    let most = context.ceiling.most();
    if specs.len() > most {
        let count = specs.len();
        faults.above(
            "spec.exits",
            format!("at most {most} exits are allowed, not {count}"),
        );
        return None;
    }
    let mut taken = Taken::default();
    let (mut exits, mut redirects) = (BTreeMap::new(), BTreeMap::new());
    for (index, spec) in specs.iter().enumerate() {
        match &spec.way {
            Some(WaySpec::Redirect(redirect)) => {
                let exit = redirects::one(context, spec, redirect, index, &mut taken, faults);
                redirects.extend(exit.map(|exit| (exit.way.id.clone(), exit)));
            }
            Some(WaySpec::Wireguard(_) | WaySpec::Tunnel(_)) | None => {
                let exit = one(context, spec, index, &mut taken, faults);
                exits.extend(exit.map(|exit| (exit.way.id.clone(), exit)));
            }
        }
    }
    (exits.len() + redirects.len() == specs.len()).then_some((exits, redirects))
}

/// What every exit has, and has alone.
pub(super) fn id_and_mark(
    context: &Context<'_>,
    spec: &ExitSpec,
    index: usize,
    taken: &mut Taken,
    faults: &mut Faults,
) -> (Option<ExitId>, Option<ExitMark>) {
    let at = |field: &'static str| fmt::from_fn(move |f| write!(f, "spec.exits[{index}].{field}"));
    let id: Option<ExitId> = faults.parsed(spec.id.parse(), at("id"));
    unique(&mut taken.ids, id.clone(), index, at("id"), faults);
    let mark = allowed(
        context.ceiling.mark(spec.mark),
        at("mark"),
        "no exit may have this mark",
        faults,
    );
    unique(&mut taken.marks, mark, index, at("mark"), faults);
    (id, mark)
}

fn one(
    context: &Context<'_>,
    spec: &ExitSpec,
    index: usize,
    taken: &mut Taken,
    faults: &mut Faults,
) -> Option<Exit> {
    let ExitSpec { table, interface, .. } = spec;
    let ceiling = context.ceiling;
    let at = |field: &'static str| fmt::from_fn(move |f| write!(f, "spec.exits[{index}].{field}"));
    let (id, mark) = id_and_mark(context, spec, index, taken, faults);
    let table = allowed(
        ceiling.table(*table),
        at("table"),
        "no exit may have this table",
        faults,
    );
    unique(&mut taken.tables, table, index, at("table"), faults);
    let interface: Option<ExitInterface> = faults.parsed(interface.parse(), at("interface"));
    unique(&mut taken.interfaces, interface, index, at("interface"), faults);
    let allows = |interface: &ExitInterface| match (&spec.way, ceiling.tunnel()) {
        (Some(WaySpec::Tunnel(_)), Some(tunnel)) => tunnel.allows(interface),
        // Said once, at the way.
        (Some(WaySpec::Tunnel(_)), None) => true,
        (Some(WaySpec::Wireguard(_) | WaySpec::Redirect(_)) | None, _) => ceiling.allows_wireguard(interface),
    };
    if interface.is_some_and(|interface| !allows(&interface)) {
        faults.above(at("interface"), "no exit may have an interface of this name");
    }
    let tunnel = tunnel(context, spec, index, faults);
    let way = ExitWay {
        id: id?,
        mark: mark?,
        interface: interface?,
    };
    Some(Exit {
        way: Arc::new(way),
        table: table?,
        tunnel: tunnel?,
    })
}

fn tunnel(context: &Context<'_>, spec: &ExitSpec, index: usize, faults: &mut Faults) -> Option<Tunnel> {
    match &spec.way {
        Some(WaySpec::Wireguard(spec)) => wireguard(context, spec, index, faults).map(Tunnel::Wireguard),
        Some(WaySpec::Tunnel(spec)) => {
            let allowed = context.ceiling.tunnel();
            if allowed.is_none() {
                faults.above(
                    format_args!("spec.exits[{index}].tunnel"),
                    "no exit may be a tunnel that a program carries",
                );
            }
            let tunnel = tunnels::one(context, spec, index, faults);
            allowed.and(tunnel).map(Tunnel::User)
        }
        // Those of the relay are looked at elsewhere.
        Some(WaySpec::Redirect(_)) | None => {
            faults.invalid(
                format_args!("spec.exits[{index}].way"),
                "is required: an exit is a WireGuard tunnel, a tunnel that a program carries, or redirected to the relay",
            );
            None
        }
    }
}

fn allowed<T>(value: Option<T>, field: impl fmt::Display, why: &str, faults: &mut Faults) -> Option<T> {
    if value.is_none() {
        faults.above(field, why);
    }
    value
}

pub(super) fn unique<T: Ord>(
    taken: &mut BTreeMap<T, usize>,
    value: Option<T>,
    index: usize,
    field: impl fmt::Display,
    faults: &mut Faults,
) {
    if let Some(first) = value.and_then(|value| taken.insert(value, index)) {
        faults.invalid(field, format!("is that of spec.exits[{first}] too"));
    }
}

fn wireguard(
    context: &Context<'_>,
    spec: &WireguardExitSpec,
    index: usize,
    faults: &mut Faults,
) -> Option<WireguardExit> {
    let WireguardExitSpec {
        addresses,
        mtu_bytes,
        far_ends,
        secret_revision,
    } = spec;
    let at = |field: &'static str| fmt::from_fn(move |f| write!(f, "spec.exits[{index}].wireguard.{field}"));
    let (v4, v6) = by_family(context, addresses, at("addresses"), faults);
    let mtu = match mtu_bytes {
        0 => Some(Mtu::DEFAULT),
        bytes => Mtu::try_new(*bytes),
    };
    if mtu.is_none() {
        faults.invalid(at("mtu_bytes"), "an MTU is 1280-9000 bytes, or 0 for 1420");
    }
    Some(WireguardExit {
        v4,
        v6,
        mtu: mtu?,
        far_ends: all_far_ends(context, far_ends, at("far_ends"), faults)?,
        secret_revision: *secret_revision,
    })
}

/// The far ends; none if one of them is not sound.
fn all_far_ends(
    context: &Context<'_>,
    specs: &[FarEndSpec],
    path: impl fmt::Display,
    faults: &mut Faults,
) -> Option<Vec<FarEnd>> {
    if specs.is_empty() || specs.len() > FAR_ENDS_MAX {
        let count = specs.len();
        faults.invalid(path, format!("1-{FAR_ENDS_MAX} far ends, not {count}"));
        return None;
    }
    let (mut keys, mut owners) = (BTreeMap::new(), BTreeMap::new());
    let mut checked = Vec::with_capacity(specs.len());
    for (number, spec) in specs.iter().enumerate() {
        let path = format!("{path}[{number}]");
        let Some(far) = far_end(context, spec, &path, faults) else {
            continue;
        };
        if let Some(first) = keys.insert(far.key, number) {
            faults.invalid(
                format_args!("{path}.public_key"),
                format!("is that of far_ends[{first}] too"),
            );
        }
        for net in &far.allowed_ips {
            if let Some(first) = owners.insert(*net, number) {
                faults.invalid(
                    format_args!("{path}.allowed_ips"),
                    format!("far_ends[{first}] carries {net} already"),
                );
            }
        }
        checked.push(far);
    }
    (checked.len() == specs.len()).then_some(checked)
}

fn far_end(context: &Context<'_>, spec: &FarEndSpec, path: &str, faults: &mut Faults) -> Option<FarEnd> {
    let FarEndSpec {
        public_key,
        endpoint,
        persistent_keepalive_seconds,
        allowed_ips,
        has_preshared_key,
    } = spec;
    let at = |field: &'static str| fmt::from_fn(move |f| write!(f, "{path}.{field}"));
    let key = faults.parsed(PublicKey::try_from(public_key.as_slice()), at("public_key"));
    if key.is_some() && key == context.own_key {
        faults.invalid(at("public_key"), "the key is the cell's own");
    }
    let endpoint = match endpoint {
        Some(endpoint) => faults.parsed(endpoint.clone(), at("endpoint")).map(Some),
        None => Some(None),
    };
    let address = endpoint.flatten().map(|endpoint| endpoint.ip());
    if let Some(kind) = address.and_then(unreachable_kind) {
        faults.invalid(at("endpoint"), format!("an endpoint is not {kind}"));
    } else if address.is_some_and(|address| context.is_inside(address)) {
        faults.invalid(at("endpoint"), "an endpoint is not inside the VPN");
    }
    let keepalive = u16::try_from(*persistent_keepalive_seconds);
    let keepalive = faults.parsed(
        keepalive.map_err(|_| "a keepalive is 0-65535 seconds"),
        at("persistent_keepalive_seconds"),
    );
    Some(FarEnd {
        allowed_ips: prefixes(allowed_ips, at("allowed_ips"), faults)?,
        key: key?,
        endpoint: endpoint?,
        keepalive: keepalive?,
        preshared: *has_preshared_key,
    })
}

pub(super) fn by_family(
    context: &Context<'_>,
    addresses: &[Parsed<IpAddr>],
    path: impl fmt::Display,
    faults: &mut Faults,
) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    let (mut v4, mut v6) = (None, None);
    if addresses.is_empty() || addresses.len() > 2 {
        faults.invalid(&path, "a tunnel has 1-2 addresses, at most one per family");
    }
    for (number, address) in addresses.iter().take(2).enumerate() {
        let field = format_args!("{path}[{number}]");
        let Some(address) = faults.parsed(address.clone(), field) else {
            continue;
        };
        let second = match address {
            IpAddr::V4(address) => v4.replace(address).is_some(),
            IpAddr::V6(address) => v6.replace(address).is_some(),
        };
        if second {
            faults.invalid(field, "at most one address per family");
        } else if let Some(kind) = unreachable_kind(address) {
            faults.invalid(field, format!("a tunnel's address is not {kind}"));
        } else if context.is_inside(address) {
            faults.invalid(field, "a tunnel's address is not inside the VPN");
        }
    }
    (v4, v6)
}

fn prefixes(
    specs: &[Parsed<IpNet>],
    path: impl fmt::Display,
    faults: &mut Faults,
) -> Option<BTreeSet<IpNet>> {
    if specs.is_empty() || specs.len() > ALLOWED_IPS_MAX {
        let count = specs.len();
        faults.invalid(path, format!("1-{ALLOWED_IPS_MAX} prefixes, not {count}"));
        return None;
    }
    let mut sound = true;
    let mut nets = BTreeSet::new();
    for (number, spec) in specs.iter().enumerate() {
        match faults.parsed(spec.clone(), format_args!("{path}[{number}]")) {
            Some(net) => drop(nets.insert(net.trunc())),
            None => sound = false,
        }
    }
    sound.then_some(nets)
}
