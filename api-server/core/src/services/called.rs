//! TCP ports of containers that the cell itself opens, by `cell-egress`: where accounts are made, and where devices are led to, which the
//! test of a service asks. netd lets the relay to these and to no other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use cell_manifest::{Manifest, Purpose};

use super::{entry, labels};
use crate::access::Protocol;
use crate::service_network::Place;

/// Most of one service; what netd takes of one network.
pub const MOST: usize = 256;

/// Ports that the test of a service asks, each with the container and port that people read: those that stand behind the proxy, and
/// those that are the service's own. None of the cell's own containers, which are asked for what they do.
pub fn tested(
    manifest: &Manifest,
    instance: &str,
    containers: &BTreeMap<String, Ipv4Addr>,
) -> BTreeSet<(String, SocketAddrV4)> {
    if manifest.purpose == Purpose::Core {
        return BTreeSet::new();
    }
    let at = |container: &str, port: u16| {
        let address = *containers.get(container)?;
        Some((format!("{container}:{port}"), SocketAddrV4::new(address, port)))
    };
    let labels = labels(manifest, instance);
    let backends = labels
        .values()
        .filter_map(|backend| at(backend.container.as_str(), backend.port));
    let own = entry::ports(manifest).into_iter();
    let own = own.filter(|((protocol, _), _)| *protocol == Protocol::Tcp);
    let own = own.filter_map(|((_, port), container)| at(container, port));
    backends.chain(own).take(MOST - 1).collect()
}

/// What netd is told of a service: what is tested, and the port for accounts. A container that says it is elsewhere than in the
/// service's own network has none.
pub fn called(
    manifest: &Manifest,
    instance: &str,
    containers: &BTreeMap<String, Ipv4Addr>,
    place: &Place,
) -> BTreeSet<SocketAddrV4> {
    let accounts = manifest.accounts.iter().filter_map(|accounts| {
        let address = *containers.get(accounts.backend.container.as_str())?;
        Some(SocketAddrV4::new(address, accounts.backend.port))
    });
    let tested = tested(manifest, instance, containers).into_iter();
    let own: BTreeSet<Ipv4Addr> = place.hosts().collect();
    let all = accounts.chain(tested.map(|(_, at)| at));
    all.filter(|at| own.contains(at.ip())).collect()
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

    fn mail() -> Manifest {
        let web = container("web", &[("tcp", 8000), ("tcp", 9000)]);
        let imap = container("imap", &[("tcp", 993), ("udp", 993), ("tcp", 8081)]);
        let whole = json!({"schema_version": 3, "kind": "store", "id": "mail", "name": "mail", "version": "1",
            "containers": [web, imap], "flags": {"has_subdomain": true, "has_accounts": true},
            "routing": {"subdomain": "mail", "backend": "web:8000"},
            "accounts": {"backend": "imap:8081", "path": "/accounts"}});
        Manifest::parse(&serde_json::to_vec(&whole).unwrap()).unwrap()
    }

    fn at(addresses: &[(&str, &str)]) -> BTreeMap<String, Ipv4Addr> {
        let parsed = addresses
            .iter()
            .map(|(name, address)| ((*name).to_owned(), address.parse().unwrap()));
        parsed.collect()
    }

    fn place() -> Place {
        Place {
            number: 1,
            subnet: "172.21.0.0/28".parse().unwrap(),
        }
    }

    fn told(containers: &BTreeMap<String, Ipv4Addr>) -> Vec<String> {
        let all = called(&mail(), "", containers, &place());
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_port_for_accounts_and_those_of_devices_are_called_and_nothing_else() {
        let containers = at(&[("web", "172.21.0.2"), ("imap", "172.21.0.3")]);
        let expected = [
            "172.21.0.2:8000",
            "172.21.0.2:9000",
            "172.21.0.3:993",
            "172.21.0.3:8081",
        ];
        assert_eq!(told(&containers), expected);
        let asked: Vec<_> = tested(&mail(), "", &containers)
            .into_iter()
            .map(|(what, _)| what)
            .collect();
        assert_eq!(
            asked,
            ["imap:993", "web:8000", "web:9000"],
            "accounts are asked for otherwise"
        );
    }

    #[test]
    fn containers_elsewhere_and_containers_that_are_not_there_have_none() {
        let elsewhere = at(&[("web", "172.21.0.2"), ("imap", "172.21.0.19")]);
        assert_eq!(told(&elsewhere), ["172.21.0.2:8000", "172.21.0.2:9000"]);
        for bridge in ["172.21.0.0", "172.21.0.1", "172.21.0.15", "127.0.0.1"] {
            assert_eq!(told(&at(&[("imap", bridge)])), Vec::<String>::new(), "{bridge}");
        }
        assert_eq!(told(&BTreeMap::new()), Vec::<String>::new());
    }

    proptest! {
        /// Whatever is tested of a service in its network, netd is told of, and of not more than it takes.
        #[test]
        fn netd_is_told_of_what_is_tested(
            ports in proptest::collection::btree_set((any::<bool>(), 1u16..2_000), 0..400), host in 0u8..20
        ) {
            let ports: Vec<_> = ports.iter().map(|(tcp, port)| (if *tcp { "tcp" } else { "udp" }, *port)).collect();
            let whole = json!({"schema_version": 3, "kind": "store", "id": "a", "name": "a", "version": "1",
                "containers": [container("main", &ports)]});
            let Ok(manifest) = Manifest::parse(&serde_json::to_vec(&whole).unwrap()) else {
                return Ok(());
            };
            let containers = BTreeMap::from([("main".to_owned(), Ipv4Addr::new(172, 21, 0, host))]);
            let (told, asked) = (called(&manifest, "", &containers, &place()), tested(&manifest, "", &containers));
            prop_assert!(told.len() <= MOST);
            let is_own = (2..15).contains(&host);
            prop_assert_eq!(told.is_empty(), !is_own || asked.is_empty());
            prop_assert!(!is_own || asked.iter().all(|(_, at)| told.contains(at)));
        }
    }
}
