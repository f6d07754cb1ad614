//! Where devices find services: addresses in the VPN, and what stands behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use cell_manifest::{Manifest, Protocol as Transport};

use super::access::Access;
use crate::access::{MAX_SERVICES, Protocol, Service};
use crate::derive::caddy;
use crate::published::{HTTP, HTTPS};

/// Id of the proxy's manifest.
pub const PROXY: &str = "caddy";
/// Id of the time server's manifest.
pub const CLOCK: &str = "chrony";
/// Ports that the proxy listens on for HTTPS and HTTP, and those of devices.
const BY_PROXY: [(u16, u16); 2] = [(HTTPS, caddy::HTTPS_PORT), (HTTP, caddy::HTTP_PORT)];
const NTP: u16 = 123;

/// A service that devices find at an address in the VPN and that a container answers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Where.
    pub at: Service,
    /// Who answers, by the same protocol.
    pub to: Service,
    /// Whether every peer may.
    pub everyone: bool,
}

/// A service that is to be reached.
#[derive(Debug, Clone)]
pub struct Published<'a> {
    /// What it is.
    pub manifest: &'a Manifest,
    /// Its address in the VPN; the cell's own containers have none.
    pub address: Option<Ipv4Addr>,
    /// Addresses of its containers, by their names in the manifest.
    pub containers: &'a BTreeMap<String, Ipv4Addr>,
    /// Who may.
    pub access: &'a Access,
}

/// What netd is told of services.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries {
    /// In order, each `at` once.
    pub all: Vec<Entry>,
    /// What peers may reach by being named, in the order of their names.
    pub grants: BTreeMap<String, BTreeSet<Service>>,
    /// The proxy's container, while there is one.
    pub proxy: Option<Ipv4Addr>,
}

/// Ports of a manifest that devices reach at the service's own address, with the container of each.
pub fn ports(manifest: &Manifest) -> BTreeMap<(Protocol, u16), &str> {
    let direct = manifest.direct_ports().into_iter();
    direct
        .map(|((protocol, port), container)| {
            let protocol = match protocol {
                Transport::Tcp => Protocol::Tcp,
                Transport::Udp => Protocol::Udp,
            };
            ((protocol, port), container.as_str())
        })
        .collect()
}

/// What a peer needs for a service, at most: the ports of its own and the proxy's.
pub fn granted_ports(manifest: &Manifest) -> BTreeSet<(Protocol, u16)> {
    let by_proxy = manifest.routing.iter().flat_map(|_| BY_PROXY);
    let by_proxy = by_proxy.map(|(port, _)| (Protocol::Tcp, port));
    ports(manifest).into_keys().chain(by_proxy).collect()
}

/// How many grants a peer needs for a service, at most.
pub fn grants_of(manifest: &Manifest) -> usize {
    granted_ports(manifest).len()
}

/// The entries of all services. `cell` is the cell's own address.
pub fn entries(cell: Ipv4Addr, services: &[Published<'_>]) -> Entries {
    let of_core = |id: &str| {
        let core = services
            .iter()
            .find(|one| one.address.is_none() && one.manifest.id.as_str() == id)?;
        let main = core.manifest.containers.first()?;
        core.containers.get(main.name.as_str()).copied()
    };
    let proxy = of_core(PROXY);
    let mut entries = Entries {
        proxy,
        ..Entries::default()
    };
    for service in services {
        let Some(address) = service.address else { continue };
        for (at, to) in of_service(service, address, proxy) {
            let everyone = service.access.is_everyone();
            entries.all.push(Entry { at, to, everyone });
            for peer in service.access.peers() {
                entries.grants.entry(peer.to_owned()).or_default().insert(at);
            }
        }
    }
    if let Some(clock) = of_core(CLOCK) {
        entries.all.push(Entry {
            at: service(cell, Protocol::Udp, NTP),
            to: service(clock, Protocol::Udp, NTP),
            everyone: true,
        });
    }
    entries.all.sort();
    entries.all.dedup_by(|a, b| a.at == b.at);
    entries
}

fn of_service(one: &Published<'_>, address: Ipv4Addr, proxy: Option<Ipv4Addr>) -> Vec<(Service, Service)> {
    let routed = one.manifest.routing.as_ref().and(proxy);
    let by_proxy = routed.into_iter().flat_map(|proxy| {
        BY_PROXY.map(|(at, to)| {
            let (at, to) = (
                service(address, Protocol::Tcp, at),
                service(proxy, Protocol::Tcp, to),
            );
            (at, to)
        })
    });
    let own = ports(one.manifest)
        .into_iter()
        .filter_map(|((protocol, port), container)| {
            let to = *one.containers.get(container)?;
            Some((service(address, protocol, port), service(to, protocol, port)))
        });
    by_proxy.chain(own).collect()
}

/// What a peer may reach: its own services, and then those of the store, as many as netd takes of one peer.
pub fn with_grants(own: &BTreeSet<Service>, granted: &BTreeSet<Service>) -> BTreeSet<Service> {
    let room = MAX_SERVICES.saturating_sub(own.len());
    let more = granted.difference(own).take(room);
    own.iter().chain(more).copied().collect()
}

fn service(address: Ipv4Addr, protocol: Protocol, port: u16) -> Service {
    Service {
        address: address.into(),
        protocol,
        port,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn container(name: &str, ports: &[(&str, u16)]) -> Value {
        let ports = ports
            .iter()
            .map(|(protocol, port)| json!({"protocol": protocol, "port": port}));
        json!({"name": name, "image": format!("reg.example/a@sha256:{}", "0f".repeat(32)), "user": "1000:1000",
            "limits": {"memory_mib": 32, "cpu_milli": 100, "pids": 16}, "ports": ports.collect::<Vec<_>>()})
    }

    fn manifest(kind: &str, id: &str, containers: Vec<Value>, routed: Option<&str>) -> Manifest {
        let mut whole = json!({"schema_version": 3, "kind": kind, "id": id, "name": id, "version": "1",
            "containers": containers});
        if let Some(backend) = routed {
            whole["flags"] = json!({"has_subdomain": true});
            whole["routing"] = json!({"subdomain": id, "backend": backend});
        }
        Manifest::parse(&serde_json::to_vec(&whole).unwrap()).unwrap()
    }

    fn mail() -> Manifest {
        let front = container("web", &[("tcp", 8000), ("tcp", 443)]);
        let store = container("imap", &[("tcp", 993), ("udp", 8000)]);
        manifest("store", "mail", vec![front, store], Some("web:8000"))
    }

    fn at(addresses: &[(&str, &str)]) -> BTreeMap<String, Ipv4Addr> {
        let parsed = addresses
            .iter()
            .map(|(name, address)| ((*name).to_owned(), address.parse().unwrap()));
        parsed.collect()
    }

    fn text(one: &Service) -> String {
        format!("{} {}/{}", one.address, one.protocol.as_str(), one.port)
    }

    const CELL: Ipv4Addr = Ipv4Addr::new(10, 86, 0, 1);

    #[test]
    fn what_the_proxy_answers_leads_to_it_and_the_rest_to_containers() {
        let (mail, caddy) = (
            mail(),
            manifest("core", "caddy", vec![container("caddy", &[])], None),
        );
        let chrony = manifest("core", "chrony", vec![container("chrony", &[])], None);
        let anna = Access::Peers(["anna".to_owned()].into());
        let (nobody, own) = (
            Access::default(),
            at(&[("web", "172.21.0.2"), ("imap", "172.21.0.3")]),
        );
        let (proxy, clock) = (at(&[("caddy", "172.20.0.2")]), at(&[("chrony", "172.20.0.4")]));
        let published = |manifest, address: Option<&str>, containers, access| Published {
            manifest,
            address: address.map(|text| text.parse().unwrap()),
            containers,
            access,
        };
        let service = published(&mail, Some("10.86.0.254"), &own, &anna);
        let all = [
            service.clone(),
            published(&caddy, None, &proxy, &nobody),
            published(&chrony, None, &clock, &nobody),
        ];
        let found = entries(CELL, &all);
        let told: Vec<_> = found
            .all
            .iter()
            .map(|entry| format!("{} -> {} {}", text(&entry.at), text(&entry.to), entry.everyone))
            .collect();
        assert_eq!(
            told,
            [
                "10.86.0.1 udp/123 -> 172.20.0.4 udp/123 true",
                "10.86.0.254 tcp/80 -> 172.20.0.2 tcp/8080 false",
                "10.86.0.254 tcp/443 -> 172.20.0.2 tcp/8443 false",
                "10.86.0.254 tcp/993 -> 172.21.0.3 tcp/993 false",
                "10.86.0.254 udp/8000 -> 172.21.0.3 udp/8000 false",
            ]
        );
        assert_eq!(found.grants["anna"].len(), 4);
        assert_eq!(grants_of(&mail), 4);
        // Without the proxy its ports lead nowhere: not to the container, which speaks no TLS.
        let alone = entries(CELL, &[service]);
        let ports: Vec<u16> = alone.all.iter().map(|entry| entry.at.port).collect();
        assert_eq!(ports, [993, 8000]);
    }

    #[test]
    fn a_service_of_everyone_names_nobody() {
        let mail = mail();
        let own = at(&[("web", "172.21.0.2"), ("imap", "172.21.0.3")]);
        let all = [Published {
            manifest: &mail,
            address: Some(Ipv4Addr::new(10, 86, 0, 254)),
            containers: &own,
            access: &Access::Everyone,
        }];
        let found = entries(CELL, &all);
        assert!(!found.all.is_empty() && found.all.iter().all(|entry| entry.everyone));
        assert!(found.grants.is_empty());
    }

    proptest! {
        /// Every `at` is once, is of the service's own address, and no grant is of what is no entry.
        #[test]
        fn entries_are_unique_and_grants_are_of_entries(
            ports in proptest::collection::vec((any::<bool>(), 1u16..60), 0..12), hosts in 1u8..4, everyone: bool
        ) {
            let ports: BTreeSet<_> = ports.into_iter().collect();
            let ports: Vec<_> = ports.iter().map(|(tcp, port)| (if *tcp { "tcp" } else { "udp" }, *port)).collect();
            let simple = manifest("store", "a", vec![container("main", &ports)], None);
            let own = at(&[("main", "172.21.0.2")]);
            let access = if everyone { Access::Everyone } else { Access::Peers(["p".to_owned()].into()) };
            let all: Vec<_> = (0..hosts).map(|n| Published {
                manifest: &simple, address: Some(Ipv4Addr::new(10, 86, 0, 250 - n)), containers: &own, access: &access,
            }).collect();
            let found = entries(CELL, &all);
            let ats: BTreeSet<_> = found.all.iter().map(|entry| entry.at).collect();
            prop_assert_eq!(ats.len(), found.all.len());
            prop_assert_eq!(found.all.len(), ports.len() * usize::from(hosts));
            for granted in found.grants.values() {
                prop_assert!(granted.is_subset(&ats));
            }
        }
    }

    #[test]
    fn a_peers_own_services_come_first() {
        let number = |n: u16| service(CELL, Protocol::Tcp, n);
        let own: BTreeSet<_> = (1..=255).map(number).collect();
        let granted: BTreeSet<_> = [number(1), number(9_000), number(9_001)].into();
        let all = with_grants(&own, &granted);
        assert_eq!(all.len(), MAX_SERVICES);
        assert!(own.is_subset(&all) && all.contains(&number(9_000)));
    }
}
