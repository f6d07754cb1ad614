//! The interface and the cell's ports.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;

use super::{CELL_PORTS_MAX, Faults};
use crate::ceiling::Ceiling;
use crate::desired::{CellTarget, Wireguard};
use crate::model::{InterfaceName, Mtu, Port};
use crate::policy::DNS;
use crate::spec::{CellPortSpec, Parsed, WireguardSpec};

pub(super) fn interface(spec: &WireguardSpec, ceiling: &Ceiling, faults: &mut Faults) -> Option<Wireguard> {
    let WireguardSpec {
        interface,
        listen_port,
        addresses,
        mtu_bytes,
    } = spec;
    let interface: Option<InterfaceName> = faults.parsed(interface.parse(), "spec.wireguard.interface");
    if interface
        .as_ref()
        .is_some_and(|name| !ceiling.interfaces.contains(name))
    {
        faults.above(
            "spec.wireguard.interface",
            "netd may not own an interface of this name",
        );
    }
    let listen_port = port(*listen_port, "spec.wireguard.listen_port", faults);
    if listen_port.is_some_and(|port| !ceiling.allows_listen_port(port)) {
        faults.above(
            "spec.wireguard.listen_port",
            "WireGuard may not listen on this port",
        );
    }
    let mtu = match mtu_bytes {
        0 => Some(Mtu::DEFAULT),
        bytes => Mtu::try_new(*bytes),
    };
    if mtu.is_none() {
        faults.invalid(
            "spec.wireguard.mtu_bytes",
            "an MTU is 1280-9000 bytes, or 0 for 1420",
        );
    }
    let (v4, v6) = addresses_by_family(addresses, ceiling, faults);
    Some(Wireguard {
        interface: interface?,
        listen_port: listen_port?,
        v4,
        v6,
        mtu: mtu?,
    })
}

fn addresses_by_family(
    addresses: &[Parsed<IpNet>],
    ceiling: &Ceiling,
    faults: &mut Faults,
) -> (Option<ipnet::Ipv4Net>, Option<ipnet::Ipv6Net>) {
    let (mut v4, mut v6) = (None, None);
    if addresses.is_empty() {
        faults.invalid("spec.wireguard.addresses", "at least one address is needed");
    }
    for (index, address) in addresses.iter().enumerate().take(3) {
        let field = format_args!("spec.wireguard.addresses[{index}]");
        let Some(prefix) = faults.parsed(address.clone(), field) else {
            continue;
        };
        if !is_host(prefix) {
            faults.invalid(
                field,
                "is not the address of a host in a prefix of at least 4 addresses",
            );
        } else if !ceiling.allows_vpn(prefix) {
            faults.above(field, "the VPN may not lie there");
        }
        let taken = match prefix {
            IpNet::V4(prefix) => v4.replace(prefix).is_some(),
            IpNet::V6(prefix) => v6.replace(prefix).is_some(),
        };
        if taken {
            faults.invalid(field, "at most one address per family");
        }
    }
    if addresses.len() > 3 {
        faults.invalid(
            "spec.wireguard.addresses",
            "at most two addresses, one per family",
        );
    }
    (v4, v6)
}

/// Whether the address is that of a host: neither the prefix itself nor its IPv4 broadcast address.
fn is_host(prefix: IpNet) -> bool {
    let room = prefix.max_prefix_len() - prefix.prefix_len() >= 2;
    let broadcast = prefix.addr().is_ipv4() && prefix.addr() == prefix.broadcast();
    room && prefix.addr() != prefix.network() && !broadcast
}

pub(super) fn cell_ports(
    specs: &[CellPortSpec],
    ceiling: &Ceiling,
    faults: &mut Faults,
) -> BTreeMap<Port, Option<CellTarget>> {
    let mut ports = BTreeMap::new();
    if specs.len() > CELL_PORTS_MAX {
        faults.invalid(
            "spec.cell_ports",
            format!("at most {CELL_PORTS_MAX} ports, not {}", specs.len()),
        );
        return ports;
    }
    for (index, spec) in specs.iter().enumerate() {
        let field = format_args!("spec.cell_ports[{index}]");
        let CellPortSpec {
            protocol,
            port: number,
            target_port,
            bound_target_port,
        } = spec;
        let protocol = faults.parsed(protocol.clone(), format_args!("{field}.protocol"));
        let number = port(*number, format_args!("{field}.port"), faults);
        let target = named(*target_port, format_args!("{field}.target_port"), faults);
        let of_bound = format!("{field}.bound_target_port");
        let bound = named(*bound_target_port, &of_bound, faults);
        let (Some(protocol), Some(number), Some(target), Some(bound)) = (protocol, number, target, bound)
        else {
            continue;
        };
        let port = Port { protocol, number };
        if !ceiling.cell_ports.contains(&port) {
            faults.above(
                format_args!("{field}.port"),
                format!("peers may not be let to {port}"),
            );
        }
        for (number, field) in [
            (target, format!("{field}.target_port")),
            (bound, of_bound.clone()),
        ] {
            if let Some(number) = number
                && !ceiling.service_targets.contains(&Port { protocol, number })
            {
                faults.above(field, format!("{protocol}/{number} is not a service target"));
            }
        }
        if bound.is_some() && (port.number != DNS || target.is_none() || bound == target) {
            faults.invalid(
                of_bound,
                format!("is for port {DNS} alone, with another target_port beside it"),
            );
        }
        let target = target.map(|port| CellTarget {
            port,
            of_bound: bound,
        });
        if ports.insert(port, target).is_some() {
            faults.invalid(field, format!("{port} is named twice"));
        }
    }
    shared_targets(&ports, faults);
    ports
}

/// What comes to the target of a port that turns the bound aside is told by that target alone: it is nobody else's.
fn shared_targets(ports: &BTreeMap<Port, Option<CellTarget>>, faults: &mut Faults) {
    let led = || ports.iter().filter_map(|(port, target)| Some((port, (*target)?)));
    for (port, apart) in led().filter(|(_, target)| target.of_bound.is_some()) {
        let others = led().filter(|(other, _)| other.protocol == port.protocol && *other != port);
        for (other, _) in others.filter(|(_, to)| to.ports().any(|to| apart.ports().any(|own| own == to))) {
            faults.invalid(
                "spec.cell_ports",
                format!("{port} and {other} have one target, and {port} turns the bound aside"),
            );
        }
    }
}

/// A port, or none where it is 0; None: it is neither.
fn named(number: u32, field: impl fmt::Display, faults: &mut Faults) -> Option<Option<u16>> {
    match number {
        0 => Some(None),
        number => port(number, field, faults).map(Some),
    }
}

pub(super) fn port(number: u32, field: impl fmt::Display, faults: &mut Faults) -> Option<u16> {
    let port = u16::try_from(number).ok().filter(|port| *port != 0);
    if port.is_none() {
        faults.invalid(field, format!("a port is 1-65535, not {number}"));
    }
    port
}
