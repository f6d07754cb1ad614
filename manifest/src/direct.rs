//! Which ports devices reach at the service itself, not through the proxy.

use std::collections::BTreeMap;

use crate::container::Protocol;
use crate::manifest::Manifest;
use crate::name::Name;

/// TCP ports of a service with a name that the proxy answers: HTTP and HTTPS.
const OF_PROXY: [u16; 2] = [80, 443];

impl Manifest {
    /// Ports that devices reach at the service's own address, with the container of each; of two containers, the first. Those that
    /// the proxy stands before, and the one for accounts, are reached by the cell alone. Where the proxy answers, its ports are
    /// not the containers'.
    pub fn direct_ports(&self) -> BTreeMap<(Protocol, u16), &Name> {
        let routed = self.routing.iter();
        let routed =
            routed.flat_map(|routing| std::iter::once(&routing.backend).chain(routing.extra.values()));
        let accounts = self.accounts.iter().map(|accounts| &accounts.backend);
        let hidden: Vec<(&Name, u16)> = routed
            .chain(accounts)
            .map(|backend| (&backend.container, backend.port))
            .collect();
        let is_proxys = |port: u16| self.routing.is_some() && OF_PROXY.contains(&port);
        let mut found = BTreeMap::new();
        for container in &self.containers {
            for port in &container.ports {
                let by_cell = hidden.contains(&(&container.name, port.port)) || is_proxys(port.port);
                if port.protocol == Protocol::Tcp && by_cell {
                    continue;
                }
                found.entry((port.protocol, port.port)).or_insert(&container.name);
            }
        }
        found
    }
}
