//! Networks of services: each by itself, and against the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{SocketAddr, SocketAddrV4};

use ipnet::{IpNet, Ipv4Net};

use super::peers::service_of;
use super::{CALLED_MAX, Faults, SERVICES_MAX};
use crate::ceiling::{Ceiling, ServiceCeiling};
use crate::desired::{Desired, Service};
use crate::model::{ExitInterface, ServiceName};
use crate::service::{PREFIX_LENGTHS, ServiceNetwork};
use crate::spec::{Parsed, ServiceNetworkSpec, ServiceSpec};

/// What networks of services are checked against.
pub(super) struct Context<'a> {
    pub ceiling: &'a Ceiling,
    /// The interface and the exits.
    pub base: &'a Desired,
    pub exits_known: bool,
}

/// What the networks before had taken, and where.
#[derive(Default)]
struct Taken {
    names: BTreeMap<ServiceName, usize>,
    bridges: BTreeMap<ExitInterface, usize>,
    /// By first address.
    subnets: BTreeMap<u32, (Ipv4Net, usize)>,
}

/// What became of the networks.
#[derive(Default)]
pub(super) struct Checked {
    /// The sound ones, by name.
    pub sound: BTreeMap<ServiceName, ServiceNetwork>,
    /// Subnets of the others, where they are subnets.
    pub others: Vec<Unsound>,
    /// Whether the list itself is what is wrong.
    pub none_known: bool,
}

/// A network that is not sound.
pub(super) struct Unsound {
    pub subnet: Ipv4Net,
    /// Its place in the list, if it has a fault. None: it stands on an exit of which nothing is known.
    pub refused: Option<usize>,
}

/// Each by itself, and against those before.
pub(super) fn check(context: &Context<'_>, specs: &[ServiceNetworkSpec], faults: &mut Faults) -> Checked {
    let mut checked = Checked::default();
    if let Some(ceiling) = may_be(context, specs.len(), faults) {
        let mut taken = Taken::default();
        for (index, spec) in specs.iter().enumerate() {
            let before = faults.count();
            let network = context.one(ceiling, spec, index, &mut taken, faults);
            let refused = (faults.count() > before).then_some(index);
            match (network, &spec.subnet) {
                (Some((name, network)), _) if refused.is_none() => {
                    checked.sound.insert(name, network);
                }
                (_, Ok(IpNet::V4(subnet))) => checked.others.push(Unsound {
                    subnet: *subnet,
                    refused,
                }),
                (_, Ok(IpNet::V6(_)) | Err(_)) => {}
            }
        }
    } else {
        checked.none_known = !specs.is_empty();
    }
    checked
}

/// Below what so many networks may be, if they may.
fn may_be<'a>(context: &Context<'a>, count: usize, faults: &mut Faults) -> Option<&'a ServiceCeiling> {
    let path = "spec.service_networks";
    if count == 0 {
        return None;
    }
    if context.base.wireguard().is_none() {
        faults.invalid(path, "networks of services need an interface; set spec.wireguard");
        return None;
    }
    let Some(ceiling) = &context.ceiling.services else {
        faults.above(path, "there may be no networks of services here");
        return None;
    };
    let most = ceiling.most();
    if count > most {
        faults.above(path, format!("at most {most} networks are allowed, not {count}"));
        return None;
    }
    Some(ceiling)
}

impl Context<'_> {
    fn one(
        &self,
        ceiling: &ServiceCeiling,
        spec: &ServiceNetworkSpec,
        index: usize,
        taken: &mut Taken,
        faults: &mut Faults,
    ) -> Option<(ServiceName, ServiceNetwork)> {
        let ServiceNetworkSpec {
            name,
            bridge,
            subnet,
            internet,
            exit,
            reach,
            called,
        } = spec;
        let at =
            |field: &'static str| fmt::from_fn(move |f| write!(f, "spec.service_networks[{index}].{field}"));
        let name: Option<ServiceName> = faults.parsed(name.parse(), at("name"));
        super::exits::unique(&mut taken.names, name.clone(), index, at("name"), faults);
        let bridge: Option<ExitInterface> = faults.parsed(bridge.parse(), at("bridge"));
        super::exits::unique(&mut taken.bridges, bridge, index, at("bridge"), faults);
        if bridge.is_some_and(|bridge| !ceiling.allows_bridge(&bridge)) {
            faults.above(at("bridge"), "no bridge of services may have this name");
        }
        let subnet = self.subnet(ceiling, subnet, index, taken, faults);
        let exit = super::exits::way_out(self.base, self.exits_known, exit, at("exit"), faults);
        let reach = self.reach(reach, at("reach"), faults);
        let mut network = ServiceNetwork {
            bridge: bridge?,
            subnet: subnet?,
            internet: *internet,
            exit: exit?,
            reach: reach?,
            called: BTreeSet::new(),
        };
        network.called = called_of(&network, called, at("called"), faults)?;
        Some((name?, network))
    }

    fn subnet(
        &self,
        ceiling: &ServiceCeiling,
        spec: &Parsed<IpNet>,
        index: usize,
        taken: &mut Taken,
        faults: &mut Faults,
    ) -> Option<Ipv4Net> {
        let field = format_args!("spec.service_networks[{index}].subnet");
        let subnet = match faults.parsed(spec.clone(), field)? {
            IpNet::V4(subnet) => subnet,
            IpNet::V6(_) => {
                faults.invalid(field, "is IPv4: containers of services have no IPv6");
                return None;
            }
        };
        if subnet.trunc() != subnet || !PREFIX_LENGTHS.contains(&subnet.prefix_len()) {
            let (first, last) = (PREFIX_LENGTHS.start(), PREFIX_LENGTHS.end());
            faults.invalid(
                field,
                format!("is a prefix of {first}-{last} bits without host bits"),
            );
            return None;
        }
        if !ceiling.allows_subnet(subnet) {
            faults.above(field, "no network of services may lie there");
        }
        let overlaps = |other: Ipv4Net| other.contains(&subnet) || subnet.contains(&other);
        let vpn = self.base.wireguard().and_then(|wireguard| wireguard.v4);
        if vpn.is_some_and(overlaps) {
            faults.invalid(field, "overlaps the VPN");
        }
        if subnet.contains(&self.ceiling.service_v4) {
            faults.invalid(field, "holds a hidden service address of the cell");
        }
        // Subnets that were taken do not overlap: the nearest on each side are the only ones that could.
        let (first, last) = (subnet.network().to_bits(), subnet.broadcast().to_bits());
        let mut before = taken.subnets.range(..=last);
        if let Some((_, (other, place))) = before.next_back()
            && other.broadcast().to_bits() >= first
        {
            faults.invalid(field, format!("overlaps that of spec.service_networks[{place}]"));
        }
        taken.subnets.insert(first, (subnet, index));
        Some(subnet)
    }

    fn reach(
        &self,
        specs: &[ServiceSpec],
        path: impl fmt::Display,
        faults: &mut Faults,
    ) -> Option<BTreeSet<Service>> {
        if specs.len() > SERVICES_MAX {
            let count = specs.len();
            faults.invalid(path, format!("at most {SERVICES_MAX} services, not {count}"));
            return None;
        }
        let mut reach = BTreeSet::new();
        for (index, spec) in specs.iter().enumerate() {
            let field = format_args!("{path}[{index}]");
            let Some(service) = service_of(spec, field, faults) else {
                continue;
            };
            let inside = self
                .base
                .wireguard()
                .is_some_and(|vpn| vpn.prefix_of(service.address).is_some());
            let address = format_args!("{field}.address");
            if service.address.is_ipv6() {
                faults.invalid(address, "is IPv4: containers of services have no IPv6");
            } else if inside || service.address == self.ceiling.service_v4 {
                faults.invalid(
                    address,
                    "is in the VPN: containers open no flow to devices, and ask the cell for names alone",
                );
            } else if !reach.insert(service) {
                faults.invalid(field, "the service is named twice");
            }
        }
        Some(reach)
    }
}

/// Ports of a network's own containers; none: a fault is named.
fn called_of(
    network: &ServiceNetwork,
    specs: &[Parsed<SocketAddr>],
    path: impl fmt::Display,
    faults: &mut Faults,
) -> Option<BTreeSet<SocketAddrV4>> {
    if specs.len() > CALLED_MAX {
        let count = specs.len();
        faults.invalid(
            path,
            format!("at most {CALLED_MAX} ports of containers, not {count}"),
        );
        return None;
    }
    let mut called = BTreeSet::new();
    for (index, spec) in specs.iter().enumerate() {
        let field = format_args!("{path}[{index}]");
        match faults.parsed(spec.clone(), field) {
            Some(SocketAddr::V4(at)) if at.port() == 0 => {
                faults.invalid(field, "has port 0; ports are 1-65535")
            }
            Some(SocketAddr::V4(at)) if !network.is_container(*at.ip()) => {
                faults.invalid(field, "is no container's address in this network");
            }
            Some(SocketAddr::V4(at)) if called.contains(&at) => faults.invalid(field, "is named twice"),
            Some(SocketAddr::V4(at)) => drop(called.insert(at)),
            Some(SocketAddr::V6(_)) => faults.invalid(field, "is IPv4: containers of services have no IPv6"),
            None => {}
        }
    }
    Some(called)
}
