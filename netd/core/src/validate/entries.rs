//! Services at addresses in the VPN: each by itself, and against the others, the cell's ports and the networks of services.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use super::Faults;
use super::peers::service_of;
use super::services::Unsound;
use crate::ceiling::Ceiling;
use crate::desired::{Desired, Service};
use crate::entry::{Entry, EntryAt};
use crate::model::{Port, ServiceName};
use crate::service::ServiceNetwork;
use crate::spec::{ServiceEntrySpec, ServiceSpec};

/// What entries are checked against.
pub(super) struct Context<'a> {
    pub ceiling: &'a Ceiling,
    /// The interface, the cell's ports and the networks of services.
    pub base: &'a Desired,
    pub interface_known: bool,
    /// Networks that are not sound.
    pub others: &'a [Unsound],
    /// Otherwise the list of networks is refused as a whole, and nothing can be said of where an entry leads.
    pub networks_known: bool,
}

/// The sound ones.
pub(super) fn check(
    context: &Context<'_>,
    specs: &[ServiceEntrySpec],
    faults: &mut Faults,
) -> BTreeMap<EntryAt, Entry> {
    let path = "spec.entries";
    let mut entries = BTreeMap::new();
    if specs.is_empty() {
        return entries;
    }
    let Some(ceiling) = &context.ceiling.services else {
        faults.above(
            path,
            "there may be no networks of services here, so none can be found",
        );
        return entries;
    };
    let (most, count) = (ceiling.entries(), specs.len());
    if count > most {
        faults.above(path, format!("at most {most} entries are allowed, not {count}"));
        return entries;
    }
    let networks = context.networks();
    let mut places: BTreeMap<EntryAt, usize> = BTreeMap::new();
    for (index, spec) in specs.iter().enumerate() {
        let ServiceEntrySpec { at, to, everyone } = spec;
        let field = |name: &'static str| fmt::from_fn(move |f| write!(f, "{path}[{index}].{name}"));
        let at = context.at(at.as_ref(), field("at"), faults);
        let to = context.to(to.as_ref(), &networks, field("to"), faults);
        if let Some(first) = at.and_then(|at| places.insert(at, index)) {
            faults.invalid(field("at"), format!("is that of {path}[{first}] too"));
        }
        let (Some(at), Some((to, service))) = (at, to) else {
            continue;
        };
        if at.protocol != to.protocol {
            faults.invalid(field("to"), "has another protocol than `at`");
        }
        let entry = Entry {
            to: to.at,
            service,
            everyone: *everyone,
        };
        entries.insert(at, entry);
    }
    entries
}

/// Networks of services by their first address.
type Networks<'a> = BTreeMap<u32, (&'a ServiceName, &'a ServiceNetwork)>;

impl Context<'_> {
    fn networks(&self) -> Networks<'_> {
        let all = self.base.services().iter();
        all.map(|(name, network)| (network.subnet.network().to_bits(), (name, network)))
            .collect()
    }

    fn at(
        &self,
        spec: Option<&ServiceSpec>,
        field: impl fmt::Display,
        faults: &mut Faults,
    ) -> Option<EntryAt> {
        let (service, address) = required(spec, &field, faults)?;
        let path = format_args!("{field}.address");
        if let Some(vpn) = self.base.wireguard().filter(|_| self.interface_known) {
            let inside = vpn.v4.filter(|net| net.contains(&address));
            match inside {
                None => faults.invalid(path, "lies outside the VPN's IPv4 prefix"),
                Some(net) if net.network() == address || net.broadcast() == address => {
                    faults.invalid(path, "is not the address of a host in the VPN's prefix");
                }
                Some(net) if net.addr() == address => {
                    let port = Port {
                        protocol: service.protocol,
                        number: service.port,
                    };
                    if self.base.cell_ports().contains_key(&port) {
                        faults.invalid(field, format!("{port} is a port of the cell itself"));
                    }
                }
                Some(_) => {}
            }
        }
        EntryAt::of(&service)
    }

    fn to(
        &self,
        spec: Option<&ServiceSpec>,
        networks: &Networks<'_>,
        field: impl fmt::Display,
        faults: &mut Faults,
    ) -> Option<(EntryAt, ServiceName)> {
        let (service, address) = required(spec, &field, faults)?;
        if !self.networks_known {
            return None;
        }
        let before = networks.range(..=address.to_bits()).next_back();
        let found = before.filter(|(_, (_, network))| network.is_container(address));
        let Some((_, (name, _))) = found else {
            let path = format_args!("{field}.address");
            match self.others.iter().find(|other| other.subnet.contains(&address)) {
                // Whoever leaves the network out has to leave out what leads there as well, and is told of both at once.
                Some(Unsound {
                    refused: Some(place), ..
                }) => faults.invalid(
                    path,
                    format!("lies in spec.service_networks[{place}], which is refused"),
                ),
                // The fault is an exit's.
                Some(Unsound { refused: None, .. }) => {}
                None => faults.invalid(path, "is no container's address in one of spec.service_networks"),
            }
            return None;
        };
        let to = EntryAt {
            at: SocketAddrV4::new(address, service.port),
            protocol: service.protocol,
        };
        Some((to, (*name).clone()))
    }
}

fn required(
    spec: Option<&ServiceSpec>,
    field: &impl fmt::Display,
    faults: &mut Faults,
) -> Option<(Service, Ipv4Addr)> {
    let Some(spec) = spec else {
        faults.invalid(field, "is required");
        return None;
    };
    let service = service_of(spec, format_args!("{field}"), faults)?;
    match service.address {
        IpAddr::V4(address) => Some((service, address)),
        IpAddr::V6(_) => {
            faults.invalid(
                format_args!("{field}.address"),
                "is IPv4: containers of services have no IPv6",
            );
            None
        }
    }
}
