//! Entries of services that netd refuses, and those that must be closed in the state that it has: pure.

use std::collections::BTreeMap;

use cell_api_core::derive::NetworkSpec;
use cell_api_core::services::entry::Entry;
use cell_api_core::services::{self, own};
use cell_proto::netd::v1 as wire;

use super::refused::Refused;

/// What an entry is called: by where devices find it.
pub(super) fn key(entry: &Entry) -> String {
    let at = entry.at;
    format!("{} {} {}", at.address, at.protocol.as_str(), at.port)
}

/// Leaves out networks that netd refuses with all entries that lead to them, and entries that it refuses. The entries that go with a
/// network, with why: they are of whoever has the address, and not always of whose network it is.
pub(super) fn leave_out(spec: &mut NetworkSpec, networks: &Refused, entries: &Refused) -> Refused {
    let is_refused = |name: &str| networks.contains_key(name);
    let (refused, taken) = std::mem::take(&mut spec.services)
        .into_iter()
        .partition(|one| is_refused(&one.name));
    spec.services = taken;
    let refused: Vec<cell_api_core::derive::services::ServiceSpec> = refused;
    let mut dropped = Refused::new();
    spec.entries.retain(|entry| {
        let leads_to = refused.iter().find(|network| match entry.to.address {
            std::net::IpAddr::V4(to) => network.subnet.contains(&to),
            std::net::IpAddr::V6(_) => false,
        });
        if let Some(network) = leads_to {
            let why = networks.get(&network.name).cloned().unwrap_or_default();
            let what = match network.name == services::CORE_NETWORK {
                true => "the network of the cell's own containers",
                false => "the network that it leads to",
            };
            dropped.insert(key(entry), format!("{what} is refused: {why}"));
        }
        leads_to.is_none() && !entries.contains_key(&key(entry))
    });
    dropped
}

/// What to say of each service: its network that is refused, or the first of its entries that is refused or goes with a network. `owners`
/// are services by their addresses in the VPN.
pub(super) fn told(
    networks: &Refused,
    entries: &[&Refused],
    owners: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let of_entries = entries.iter().copied().flatten().filter_map(|(key, why)| {
        let (address, port) = key.split_once(' ')?;
        let owner = owners.get(address)?;
        Some((owner.clone(), format!("its port {port}: {why}")))
    });
    let mut told = BTreeMap::new();
    for (service, why) in of_entries {
        told.entry(service).or_insert(why);
    }
    let of_networks = networks.iter();
    for (name, why) in of_networks {
        let why = format!("its network: {why}");
        // The network of the cell's own containers is no service's alone.
        match name == services::CORE_NETWORK {
            true => told.extend(own::IDS.map(|id| (id.to_owned(), why.clone()))),
            false => drop(told.insert(name.clone(), why)),
        }
    }
    told
}

/// The entries that netd has, less those that are not wanted any more or lead elsewhere, and open to everyone only where that is
/// wanted; `None`: it is so already.
pub(super) fn closed(
    has: &[wire::ServiceEntry],
    wanted: &[wire::ServiceEntry],
) -> Option<Vec<wire::ServiceEntry>> {
    let left: Vec<wire::ServiceEntry> = has
        .iter()
        .filter_map(|entry| {
            let same = wanted
                .iter()
                .find(|one| one.at == entry.at && one.to == entry.to)?;
            Some(wire::ServiceEntry {
                everyone: entry.everyone && same.everyone,
                ..entry.clone()
            })
        })
        .collect();
    (left != has).then_some(left)
}

/// Takes from networks that netd has the ports that are not to be called any more, and what their containers may not reach any more, and
/// adds none; whether there were any.
pub(super) fn close_networks(has: &mut [wire::ServiceNetwork], wanted: &[wire::ServiceNetwork]) -> bool {
    let mut is_less = false;
    for network in has {
        let same = wanted.iter().find(|one| one.name == network.name);
        let before = (network.called.len(), network.reach.len(), network.internet);
        network
            .called
            .retain(|port| same.is_some_and(|one| one.called.contains(port)));
        network
            .reach
            .retain(|service| same.is_some_and(|one| one.reach.contains(service)));
        // By another way it is to leave by that alone, and it cannot be given one here.
        network.internet &= same.is_some_and(|one| one.internet && one.exit == network.exit);
        is_less |= before != (network.called.len(), network.reach.len(), network.internet);
    }
    is_less
}

/// Whether everyone reaches by what netd has what they must not any more. What is granted by name is taken from peers.
pub(super) fn is_open(has: &[wire::ServiceEntry], wanted: &[wire::ServiceEntry]) -> bool {
    has.iter().filter(|entry| entry.everyone).any(|entry| {
        let same = wanted.iter().find(|one| one.at == entry.at);
        same.is_none_or(|one| !one.everyone)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::net::IpAddr;

    use cell_api_core::access::{Protocol, Service};

    use super::*;

    #[test]
    fn what_leads_to_a_refused_network_is_told_at_whose_it_is() {
        let place = |text: &str| {
            let (address, port) = text.split_once(':').unwrap();
            Service {
                address: address.parse().unwrap(),
                protocol: Protocol::Tcp,
                port: port.parse().unwrap(),
            }
        };
        let entry = |at: &str, to: &str| Entry {
            at: place(at),
            to: place(to),
            everyone: false,
        };
        let mut spec = cell_api_core::derive::network_spec(&settings(), None, Vec::new(), Vec::new(), None);
        spec.services = vec![cell_api_core::derive::services::core_network(
            cell_api_core::services::core_network::CoreNetwork::SHIPPED,
            &cell_api_core::domain::Domain::Lan,
        )];
        let proxy = format!("{}:8443", spec.services[0].subnet.hosts().nth(3).unwrap());
        spec.entries = vec![
            entry("10.86.0.9:443", &proxy),
            entry("10.86.0.9:993", "172.21.0.2:993"),
        ];
        let networks = Refused::from([(services::CORE_NETWORK.to_owned(), "no".to_owned())]);
        let dropped = leave_out(&mut spec, &networks, &Refused::new());
        assert_eq!((spec.services.len(), spec.entries.len()), (0, 1));
        let owners = BTreeMap::from([("10.86.0.9".to_owned(), "notes".to_owned())]);
        let told = told(&networks, &[&Refused::new(), &dropped], &owners);
        assert_eq!(
            told["notes"],
            "its port tcp 443: the network of the cell's own containers is refused: no"
        );
        assert!(own::IDS.iter().all(|id| told[*id] == "its network: no"));
        assert_eq!(told.len(), 1 + own::IDS.len());
    }

    fn settings() -> cell_api_core::derive::NetworkSettings {
        cell_api_core::derive::NetworkSettings {
            interface: "wg0".to_owned(),
            listen_port: 51820,
            https_port: 443,
            https_target_port: 3443,
        }
    }

    fn service(text: &str) -> wire::Service {
        let (address, port) = text.split_once(':').unwrap();
        wire::Service {
            address: Some(address.parse::<IpAddr>().unwrap().into()),
            protocol: 1,
            port: port.parse().unwrap(),
        }
    }

    fn entry(at: &str, to: &str, everyone: bool) -> wire::ServiceEntry {
        wire::ServiceEntry {
            at: Some(service(at)),
            to: Some(service(to)),
            everyone,
        }
    }

    #[test]
    fn what_is_not_wanted_is_closed_and_nothing_is_opened() {
        let has = [
            entry("10.86.0.9:443", "172.21.0.2:443", true),
            entry("10.86.0.9:993", "172.21.0.2:993", true),
            entry("10.86.0.8:22", "172.21.0.18:22", false),
            entry("10.86.0.7:22", "172.21.0.34:22", false),
        ];
        let wanted = [
            entry("10.86.0.9:443", "172.21.0.2:443", false),
            // Elsewhere: what was there may be another's now.
            entry("10.86.0.9:993", "172.21.0.3:993", true),
            // Not to everyone before netd takes the whole.
            entry("10.86.0.8:22", "172.21.0.18:22", true),
            entry("10.86.0.6:22", "172.21.0.50:22", true),
        ];
        let left = closed(&has, &wanted).unwrap();
        let expected = [
            entry("10.86.0.9:443", "172.21.0.2:443", false),
            entry("10.86.0.8:22", "172.21.0.18:22", false),
        ];
        assert_eq!(left, expected);
        assert_eq!(closed(&left, &wanted), None);
        assert!(is_open(&has, &wanted) && !is_open(&left, &wanted));
        assert!(!is_open(&has[1..2], &wanted), "it moved, and is everyone's still");
        assert!(is_open(&has[1..2], &[]), "it is gone");
    }

    #[test]
    fn ports_that_are_not_wanted_are_called_no_more() {
        let network = |name: &str, ports: &[&str]| wire::ServiceNetwork {
            name: name.to_owned(),
            called: ports
                .iter()
                .map(|port| port.parse::<std::net::SocketAddr>().unwrap().into())
                .collect(),
            ..wire::ServiceNetwork::default()
        };
        let wanted = [
            network("notes", &["172.21.0.2:80", "172.21.0.2:82"]),
            network("new", &["172.21.0.50:1"]),
        ];
        let mut has = [
            network("notes", &["172.21.0.2:80", "172.21.0.2:81"]),
            network("gone", &["172.21.0.18:80"]),
        ];
        assert!(close_networks(&mut has, &wanted));
        assert_eq!(has, [network("notes", &["172.21.0.2:80"]), network("gone", &[])]);
        assert!(!close_networks(&mut has, &wanted), "nothing is left to close");
    }

    #[test]
    fn what_containers_may_reach_no_more_is_taken_and_nothing_is_given() {
        let network = |ports: &[u16], internet| wire::ServiceNetwork {
            name: "notes".to_owned(),
            reach: ports
                .iter()
                .map(|port| wire::Service {
                    port: u32::from(*port),
                    ..wire::Service::default()
                })
                .collect(),
            internet,
            ..wire::ServiceNetwork::default()
        };
        let mut has = [network(&[53, 445], true)];
        assert!(close_networks(&mut has, &[network(&[445, 8080], false)]));
        assert_eq!(has, [network(&[445], false)]);
        assert!(
            !close_networks(&mut has, &[network(&[445, 53], true)]),
            "it gives nothing"
        );
        assert_eq!(has, [network(&[445], false)]);
    }

    #[test]
    fn a_service_is_told_what_is_refused_of_it() {
        let refused = |pairs: &[(&str, &str)]| -> Refused {
            let pairs = pairs
                .iter()
                .map(|(name, why)| ((*name).to_owned(), (*why).to_owned()));
            pairs.collect()
        };
        let owners = refused(&[("10.86.0.9", "notes"), ("10.86.0.8", "board")]);
        let entries = refused(&[
            ("10.86.0.9 tcp 443", "a"),
            ("10.86.0.8 tcp 22", "b"),
            ("10.86.0.1 udp 123", "c"),
        ]);
        let told = told(&refused(&[("board", "d")]), &[&entries], &owners);
        let expected = refused(&[("notes", "its port tcp 443: a"), ("board", "its network: d")]);
        assert_eq!(told, expected);
    }
}
