//! From networks of services to what netd and the DNS relay are asked for.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddrV4};

use ipnet::Ipv4Net;

use super::dns::{Way, no_exit};
use crate::access::Service;
use crate::connection::choice::{ExitChoice, Route};
use crate::connection::id::ConnectionId;
use crate::domain::{Domain, PublicDomain};
use crate::public::is_public;
use crate::service_network::{Egress, Place, ServiceNetwork};
use crate::services::{self, core_network::CoreNetwork};

/// A network of a service, as netd has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// The service's name.
    pub name: String,
    /// Its bridge.
    pub bridge: String,
    /// Where its containers lie.
    pub subnet: Ipv4Net,
    /// Whether they reach the internet now.
    pub internet: bool,
    /// What carries them; `None`: the cell's own way.
    pub exit: Option<ConnectionId>,
    /// What else they may reach.
    pub reach: Vec<Service>,
    /// TCP ports of its containers that `cell-egress` may open ([`crate::services::called`]).
    pub called: BTreeSet<SocketAddrV4>,
}

/// The specification of one network, of which `called` may be opened; `route` says which way a choice leads now.
pub fn service_spec(
    network: &ServiceNetwork,
    called: BTreeSet<SocketAddrV4>,
    route: impl Fn(&ExitChoice) -> Route,
) -> ServiceSpec {
    let mut reach = network.reach.clone();
    let (internet, exit) = match &network.egress {
        Egress::Nowhere => (false, None),
        Egress::Direct => (true, None),
        Egress::Exit(choice) => match route(choice) {
            Route::Own => (true, None),
            Route::Exit(id) => (true, Some(id)),
            Route::Nowhere => {
                // netd would not take the exit, and without one they would go directly.
                reach.retain(|service| !is_public(service.address));
                (false, None)
            }
        },
    };
    ServiceSpec {
        name: network.service.to_string(),
        bridge: network.place.bridge(),
        subnet: network.place.subnet,
        internet,
        exit,
        reach,
        called,
    }
}

/// The network of the cell's own containers: the proxy, DNS and time. It is as closed as any, but where the proxy has to ask an
/// authority of the web and a DNS provider. Nothing of it is called: names are asked of CoreDNS as of any resolver.
pub fn core_network(network: CoreNetwork, domain: &Domain) -> ServiceSpec {
    let public = domain.public();
    ServiceSpec {
        name: services::CORE_NETWORK.to_owned(),
        bridge: services::CORE_BRIDGE.to_owned(),
        subnet: network.subnet(),
        internet: public.is_some(),
        exit: None,
        reach: public.map(PublicDomain::reach).unwrap_or_default(),
        called: BTreeSet::new(),
    }
}

/// What the containers are called among peers: no peer's name has a colon, and no DNS name.
pub fn asker(spec: &ServiceSpec) -> String {
    format!("service:{}", spec.name)
}

/// The way of the containers' questions. Without the internet they ask for the cell's names alone: names that are looked up tell
/// whoever answers as much as packets do.
pub fn way(spec: &ServiceSpec) -> Way {
    let place = Place {
        number: 0,
        subnet: spec.subnet,
    };
    Way {
        addresses: place.hosts().map(IpAddr::V4).collect(),
        exit: if spec.internet { spec.exit } else { Some(no_exit()) },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::service_network::ServiceName;

    fn network(egress: Egress) -> ServiceNetwork {
        ServiceNetwork {
            service: ServiceName::parse("files").unwrap(),
            place: Place {
                number: 7,
                subnet: "172.21.0.96/28".parse().unwrap(),
            },
            egress,
            reach: Vec::new(),
        }
    }

    #[test]
    fn what_leads_nowhere_is_not_sent_directly() {
        let id = ConnectionId::from_random([7; 16]);
        let bound = Egress::through(id, None);
        let cases = [
            (Egress::Nowhere, Route::Own, (false, None), Some(no_exit())),
            (Egress::Direct, Route::Nowhere, (true, None), None),
            (bound.clone(), Route::Exit(id), (true, Some(id)), Some(id)),
            (bound.clone(), Route::Own, (true, None), None),
            (bound, Route::Nowhere, (false, None), Some(no_exit())),
        ];
        for (egress, route, (internet, exit), asks) in cases {
            let called = BTreeSet::from(["172.21.0.98:80".parse().unwrap()]);
            let spec = service_spec(&network(egress), called.clone(), |_| route);
            assert_eq!(spec.called, called);
            assert_eq!((spec.internet, spec.exit), (internet, exit));
            assert_eq!(spec.bridge, "cellsvc7");
            let way = way(&spec);
            assert_eq!(way.exit, asks);
            assert_eq!(way.addresses.first(), Some(&"172.21.0.98".parse().unwrap()));
            assert_eq!(way.addresses.len(), 13);
        }
    }
}
