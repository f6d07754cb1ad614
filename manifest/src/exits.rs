//! Whether a service's containers can have a way to the internet at all, and by which kinds of exits.

use crate::manifest::Manifest;

/// All kinds of exits, in the order in which they are shown.
pub const EXITS: [&str; 6] = [
    "wireguard_ext",
    "openvpn",
    "tor",
    "sshuttle",
    "proxy",
    "cell_relay",
];

impl Manifest {
    /// Whether containers of it have a route out of their network. The broker makes the network accordingly, and the API offers an
    /// exit accordingly. Beside `egress`, ports that devices open at the service itself ask for it: who is asked by a device answers
    /// to its address, which is not on the bridge. What may pass there is netd's to say, in any case.
    pub fn has_way_out(&self) -> bool {
        let is_published = || {
            let ports = self.containers.iter().flat_map(|container| &container.ports);
            ports.into_iter().any(|port| port.published.is_some())
        };
        self.egress.is_some() || !self.direct_ports().is_empty() || is_published()
    }

    /// The kinds of exits that may carry it, in the order of [`EXITS`]: none without a way out, all where it does not say which.
    pub fn exits(&self) -> Vec<&'static str> {
        let is_allowed = |kind: &&str| match &self.egress {
            Some(egress) => egress.allowed.contains(*kind),
            None => self.has_way_out(),
        };
        EXITS.into_iter().filter(is_allowed).collect()
    }

    /// The kind of exit that is chosen where nobody says another.
    pub fn default_exit(&self) -> Option<&str> {
        self.egress.as_ref().and_then(|egress| egress.default.as_deref())
    }
}
