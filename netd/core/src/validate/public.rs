//! What the internet may reach.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};

use super::Faults;
use super::services::Unsound;
use crate::ceiling::{Ceiling, PublicHttp};
use crate::model::ServiceName;
use crate::service::ServiceNetwork;
use crate::spec::Parsed;

const PATH: &str = "spec.public_http";

/// Networks of services.
pub(super) struct Networks<'a> {
    pub sound: &'a BTreeMap<ServiceName, ServiceNetwork>,
    /// Those that are not sound.
    pub others: &'a [Unsound],
    /// Otherwise the list of networks is refused as a whole, and nothing can be said of where it leads.
    pub all_known: bool,
}

/// The container, if it is one that the ceiling lets the internet to.
pub(super) fn check(
    ceiling: &Ceiling,
    networks: &Networks<'_>,
    spec: Parsed<SocketAddr>,
    faults: &mut Faults,
) -> Option<SocketAddrV4> {
    let to = faults.parsed(spec, PATH)?;
    let IpAddr::V4(address) = to.ip() else {
        faults.invalid(PATH, "is IPv4: containers of services have no IPv6");
        return None;
    };
    let to = SocketAddrV4::new(address, to.port());
    let services = ceiling.services.as_ref();
    let Some(allowed) = services.and_then(|services| services.public_http()) else {
        faults.above(
            PATH,
            "the internet may reach nothing of this machine: as root, write public_http (a network of containers, and a port) under \
             [services] in netd.toml, and restart cell-netd",
        );
        return None;
    };
    if !allowed.allows(to) {
        let PublicHttp { within, port } = allowed;
        faults.above(
            PATH,
            format!("TCP 80 may lead into {within} alone, to port {port} (services.public_http of netd.toml), not to {to}"),
        );
        return None;
    }
    if !networks.all_known {
        return None;
    }
    if networks
        .sound
        .values()
        .any(|network| network.is_container(address))
    {
        return Some(to);
    }
    match networks
        .others
        .iter()
        .find(|other| other.subnet.contains(&address))
    {
        Some(Unsound {
            refused: Some(place), ..
        }) => faults.invalid(
            PATH,
            format!("lies in spec.service_networks[{place}], which is refused"),
        ),
        // The fault is an exit's.
        Some(Unsound { refused: None, .. }) => {}
        None => faults.invalid(PATH, "is no container's address in one of spec.service_networks"),
    }
    None
}
