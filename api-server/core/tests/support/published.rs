//! States of services at random.
#![allow(dead_code, reason = "not every test needs all")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

use cell_api_core::access::{Protocol, Service};
use cell_api_core::published::{HostName, Label, LinkedZone, Published, Reader, ServiceRecord};
use cell_api_core::service_network::ServiceName;
use proptest::prelude::*;

fn label() -> impl Strategy<Value = Label> {
    prop_oneof![
        prop::sample::select(vec![
            "mail",
            "www",
            // With a linked zone of this name below.
            "x",
            "files",
            "in",
            "soa",
            "0",
            "a-b",
            "xn--bcher-kva"
        ])
        .prop_map(str::to_owned),
        "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?",
    ]
    .prop_map(|text| Label::parse(&text).unwrap())
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop::sample::select(vec![Protocol::Tcp, Protocol::Udp])
}

fn port() -> impl Strategy<Value = u16> {
    prop::sample::select(vec![443, 993, 53])
}

fn service_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 8, 1, number)
}

fn service() -> impl Strategy<Value = ServiceRecord> {
    let ports = prop::collection::btree_set((protocol(), port()), 0..3);
    (
        prop::collection::btree_set(label(), 1..4),
        ports,
        prop::bool::weighted(0.2),
        any::<bool>(),
    )
        .prop_map(|(subdomains, mut ports, everyone, has_web)| {
            if has_web {
                ports.insert((Protocol::Tcp, 443));
            }
            ServiceRecord {
                name: ServiceName::parse("s").unwrap(),
                subdomains,
                address: Ipv4Addr::UNSPECIFIED,
                ports,
                everyone,
                web: has_web.then(|| SocketAddrV4::new(Ipv4Addr::new(172, 21, 0, 2), 8080)),
            }
        })
}

fn grant() -> impl Strategy<Value = Service> {
    let address = prop_oneof![
        (0_u8..8).prop_map(|number| IpAddr::V4(service_address(number))),
        Just(IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ];
    (address, protocol(), port()).prop_map(|(address, protocol, port)| Service {
        address,
        protocol,
        port,
    })
}

/// Whatever may be there: equal names, unknown grants, no service at all, several domains, linked zones that are the cell's own.
pub fn any_published() -> impl Strategy<Value = Published> {
    let domain = prop::sample::select(vec!["home.cell", "a.b.example", "0.cell", "in-addr.cell"]);
    let domains = prop::collection::vec(domain.prop_map(|text| HostName::parse(text).unwrap()), 1..4);
    let link = (
        prop::sample::select(vec!["home.cell", "other.cell", "x.home.cell"]),
        any::<bool>(),
    );
    let links = prop::collection::vec(link, 0..3);
    let services = prop::collection::vec(service(), 0..6);
    let readers = prop::collection::vec(prop::collection::btree_set(grant(), 0..5), 0..6);
    (domains, services, readers, links).prop_map(|(domains, mut services, readers, links)| {
        for (number, service) in services.iter_mut().enumerate() {
            service.address = service_address(u8::try_from(number).unwrap());
        }
        let readers = readers.into_iter().enumerate().map(|(number, granted)| {
            let last = u8::try_from(number + 2).unwrap();
            Reader {
                addresses: vec![
                    Ipv4Addr::new(10, 8, 0, last).into(),
                    Ipv6Addr::new(0xfd08, 0, 0, 0, 0, 0, 0, last.into()).into(),
                ],
                granted,
            }
        });
        Published {
            domains,
            services,
            readers: readers.collect(),
            links: links
                .into_iter()
                .map(|(zone, is_six)| LinkedZone {
                    zone: HostName::parse(zone).unwrap(),
                    resolver: if is_six { "[fd09::1]:53" } else { "10.9.0.1:53" }
                        .parse()
                        .unwrap(),
                })
                .collect(),
        }
    })
}

/// A service that nobody is granted.
pub fn one_service() -> Published {
    Published {
        domains: vec![HostName::parse("home.cell").unwrap()],
        services: vec![ServiceRecord {
            name: ServiceName::parse("calendar").unwrap(),
            subdomains: BTreeSet::from([Label::parse("calendar").unwrap()]),
            address: service_address(0),
            ports: BTreeSet::from([(Protocol::Tcp, 443)]),
            everyone: false,
            web: Some(SocketAddrV4::new(Ipv4Addr::new(172, 21, 0, 2), 5232)),
        }],
        readers: Vec::new(),
        links: Vec::new(),
    }
}
