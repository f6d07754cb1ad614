//! Names and routes of services, whatever they are: who finds and who opens what is compared with the grants read one by one.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/published.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use cell_api_core::access::Protocol;
use cell_api_core::derive::caddy::{self, AdminListen, CaddySettings, Certificates, LogLevel};
use cell_api_core::derive::corefile::{self, ADDRESSES_MAX, COREFILE, CorefileSettings, QueryLog};
use cell_api_core::derive::zones::{Zone, next_serial, views};
use cell_api_core::published::{HostName, Label, Published, Reader, ServiceRecord};
use cell_api_core::service_network::ServiceName;
use proptest::prelude::*;
use serde_json::Value;
use support::any_published;

fn may(service: &ServiceRecord, reader: &Reader, port: Option<u16>) -> bool {
    service.everyone
        || reader.granted.iter().any(|grant| {
            grant.address == IpAddr::V4(service.address)
                && match port {
                    Some(port) => grant.protocol == Protocol::Tcp && grant.port == port,
                    None => service.ports.contains(&(grant.protocol, grant.port)),
                }
        })
}

fn settings(folder: &str) -> CorefileSettings<'_> {
    CorefileSettings {
        relay: Ipv4Addr::new(172, 20, 0, 1),
        log: QueryLog::Errors,
        folder,
        port: 53,
    }
}

fn caddy_settings() -> CaddySettings {
    CaddySettings {
        admin: AdminListen {
            path: "/run/cell/caddy/admin.sock".to_owned(),
            mode: Some(0o660),
        },
        ports: [caddy::HTTPS_PORT, caddy::HTTP_PORT],
        vpn: ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
        log: LogLevel::Error,
    }
}

/// The services that a peer's view has; no view: none.
fn found(published: &Published, address: IpAddr) -> BTreeSet<usize> {
    let views = views(published);
    let of: Vec<_> = views
        .iter()
        .filter(|view| view.readers.contains(&address))
        .collect();
    assert!(of.len() <= 1, "an address is in one view");
    of.into_iter()
        .flat_map(|view| view.services.iter().copied())
        .collect()
}

proptest! {
    #[test]
    fn everybody_finds_what_it_may_use(published in any_published()) {
        for reader in &published.readers {
            let expected: BTreeSet<usize> = published.services.iter().enumerate()
                .filter(|(_, service)| may(service, reader, None)).map(|(place, _)| place).collect();
            for address in &reader.addresses {
                prop_assert_eq!(&found(&published, *address), &expected);
            }
        }
        let all = views(&published);
        let sets: BTreeSet<_> = all.iter().map(|view| &view.services).collect();
        prop_assert_eq!(sets.len(), all.len(), "equal views are there once");
        prop_assert!(all.iter().is_sorted_by_key(|view| &view.services));
        let mut turned = published.clone();
        turned.readers.reverse();
        prop_assert_eq!(views(&turned), all, "the order of peers is nothing");
    }

    #[test]
    fn files_are_read_as_they_were_meant(published in any_published()) {
        let files = corefile::files(&published, &settings("/etc/coredns"), 7);
        let (last, text) = files.last().unwrap();
        prop_assert_eq!(last, COREFILE);
        prop_assert_eq!(corefile::serial_of(text), Some(7));
        prop_assert!(files.iter().all(|(name, _)| corefile::is_ours(name)));
        let named: BTreeSet<&str> = text.split_whitespace().filter_map(|word| word.strip_prefix("/etc/coredns/")).collect();
        let written: BTreeSet<&str> = files.iter().map(|(name, _)| name.as_str()).filter(|name| *name != COREFILE).collect();
        prop_assert_eq!(named, written);
        prop_assert_eq!(text.matches('{').count(), text.matches('}').count());
    }

    #[test]
    fn a_zone_file_has_what_the_zone_has(published in any_published()) {
        for view in views(&published) {
            for apex in published.distinct_domains() {
                let zone = Zone::of(&published, apex, &view.services);
                let text = zone.render(9);
                let rows: Vec<_> = text.lines().filter(|line| line.contains(" IN A ")).collect();
                prop_assert_eq!(rows.len(), zone.records.len());
                for (label, address) in &zone.records {
                    let row = format!("{label} IN A {address}");
                    prop_assert!(rows.contains(&row.as_str()));
                    // Whose address it is, it may be found; and of two that claim a name the first has it.
                    let owner = published.services.iter().position(|service| service.subdomains.contains(*label)).unwrap();
                    prop_assert!(view.services.contains(&owner));
                    prop_assert_eq!(published.services[owner].address, *address);
                }
            }
        }
    }

    #[test]
    fn everybody_opens_what_it_may_open(published in any_published()) {
        let (config, _) = caddy::config(&published, &caddy_settings(), &Certificates::default());
        let json = serde_json::to_value(&config).unwrap();
        for reader in &published.readers {
            for domain in published.distinct_domains() {
                for (place, service) in published.services.iter().enumerate() {
                    for label in &service.subdomains {
                        let owner = published.services.iter().position(|other| other.subdomains.contains(label));
                        let host = domain.child(label).unwrap();
                        let opened = opened(&json, &host, reader.addresses[0]);
                        let service = &published.services[owner.unwrap()];
                        let expected = match service.web {
                            None => Err(421),
                            Some(web) if may(service, reader, Some(443)) => Ok(web.to_string()),
                            Some(_) => Err(403),
                        };
                        prop_assert_eq!(opened, expected, "{} {}", place, host);
                    }
                }
            }
        }
        prop_assert_eq!(opened(&json, &HostName::parse("nobody.example").unwrap(), [10, 0, 0, 9].into()), Err(421));
    }

    #[test]
    fn serials_grow(last in any::<u32>(), now in any::<i64>()) {
        let next = next_serial(Some(last), now);
        prop_assert!(next > last || last == u32::MAX);
        prop_assert!(next_serial(None, now) >= 1);
    }
}

/// What Caddy does with a request, by its documentation: a map gives a placeholder its value, the first terminal route that
/// matches ends it.
fn opened(config: &Value, host: &HostName, from: IpAddr) -> Result<String, u64> {
    let routes = config["apps"]["http"]["servers"]["services"]["routes"]
        .as_array()
        .unwrap();
    let mut placeholders = BTreeMap::new();
    for route in routes {
        let fits = match route.get("match") {
            None => true,
            Some(sets) => {
                let mut sets = sets.as_array().unwrap().iter();
                sets.any(|set| fits(set, &placeholders, host, from))
            }
        };
        let handler = &route["handle"][0];
        match handler["handler"].as_str().unwrap() {
            "map" => {
                assert!(fits && route["terminal"] == false);
                let value = mapped(handler, host);
                placeholders.insert(handler["destinations"][0].as_str().unwrap(), value);
            }
            word if fits => {
                assert_eq!(route["terminal"], true);
                return match word {
                    "reverse_proxy" => {
                        let dial = handler["upstreams"][0]["dial"].as_str().unwrap();
                        Ok(placeholders[dial].clone())
                    }
                    _ => Err(handler["status_code"].as_u64().unwrap()),
                };
            }
            _ => {}
        }
    }
    panic!("no route is the last");
}

fn mapped(handler: &Value, host: &HostName) -> String {
    assert_eq!(handler["source"], "{http.request.host}");
    let mappings = handler["mappings"].as_array().unwrap();
    let found: Vec<_> = (mappings.iter())
        .filter(|one| one["input"] == host.as_str())
        .collect();
    assert!(found.len() <= 1, "Caddy refuses what is there twice");
    let value = found
        .first()
        .map_or(&handler["defaults"][0], |one| &one["outputs"][0]);
    value.as_str().unwrap().to_owned()
}

/// Whether all matchers of a set do.
fn fits(set: &Value, placeholders: &BTreeMap<&str, String>, host: &HostName, from: IpAddr) -> bool {
    set.as_object()
        .unwrap()
        .iter()
        .all(|(matcher, what)| match matcher.as_str() {
            "host" => what.as_array().unwrap().iter().any(|name| name == host.as_str()),
            "remote_ip" => what["ranges"].as_array().unwrap().iter().any(|net| {
                net.as_str()
                    .unwrap()
                    .parse::<ipnet::IpNet>()
                    .unwrap()
                    .contains(&from)
            }),
            "vars" => what.as_object().unwrap().iter().all(|(name, values)| {
                values
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|value| *value == placeholders[name.as_str()])
            }),
            other => panic!("{other}"),
        })
}

#[test]
fn a_thousand_names_are_five_routes() {
    let mut published = support::one_service();
    let like = published.services[0].clone();
    published.services = (0..1000)
        .map(|number| ServiceRecord {
            name: ServiceName::parse(&format!("s{number}")).unwrap(),
            subdomains: BTreeSet::from([Label::parse(&format!("s{number}")).unwrap()]),
            everyone: number % 2 == 0,
            web: Some("172.21.0.2:80".parse().unwrap()),
            ..like.clone()
        })
        .collect();
    let (config, _) = caddy::config(&published, &caddy_settings(), &Certificates::default());
    let json = serde_json::to_value(&config).unwrap();
    let routes = json["apps"]["http"]["servers"]["services"]["routes"]
        .as_array()
        .unwrap();
    assert_eq!(routes.len(), 5);
}

#[test]
fn a_view_of_many_is_several_blocks() {
    let mut published = support::one_service();
    published.services[0].everyone = true;
    let address = |number: u32| IpAddr::V4(Ipv4Addr::from(0x0a08_0000 + number));
    published.readers = (0..10_000)
        .map(|number| Reader {
            addresses: vec![address(number)],
            granted: BTreeSet::new(),
        })
        .collect();
    let files = corefile::files(&published, &settings("/x"), 1);
    let text = &files.last().unwrap().1;
    assert_eq!(
        text.matches("\tview ").count(),
        10_000_usize.div_ceil(ADDRESSES_MAX)
    );
    assert_eq!(
        files.len(),
        3,
        "and one zone of the view, one of nobody, and the configuration"
    );
}

#[test]
fn what_is_not_ours_is_known() {
    for ours in ["Corefile", "zone-7-0-12.db"] {
        assert!(corefile::is_ours(ours), "{ours}");
    }
    for other in [
        "",
        "corefile",
        "zone-.db",
        "zone-7.db",
        "zone-7-0.db",
        "zone-7-0-1-2.db",
        "zone-7--1.db",
        "zone-a-0-1.db",
        "x",
    ] {
        assert!(!corefile::is_ours(other), "{other}");
    }
    assert_eq!(corefile::serial_of("# Written by cell-api, serial x. What"), None);
}

/// A service of two backends is two records with one address: whoever is granted it finds all of its names.
#[test]
fn a_service_of_two_backends_is_found_by_all_of_its_names() {
    let mut published = support::one_service();
    let mut second = published.services[0].clone();
    second.subdomains = BTreeSet::from([Label::parse("contacts").unwrap()]);
    second.web = second.web.map(|web| SocketAddrV4::new(*web.ip(), 8080));
    published.services.push(second);
    let reader = IpAddr::from([10, 86, 0, 2]);
    published.readers.push(Reader {
        addresses: vec![reader],
        granted: BTreeSet::from([published.services[0].web_grant()]),
    });
    assert_eq!(found(&published, reader), BTreeSet::from([0, 1]));
}
