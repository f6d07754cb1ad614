//! What cell-api accepts, netd accepts. The two decide apart, on purpose; but a peer that the API took and netd refuses
//! would be a promise that nobody keeps.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

#[path = "support/wire.rs"]
mod wire;

use std::net::IpAddr;

use cell_api_core::access::{AccessInput, MAX_SERVICES, ServiceInput};
use cell_api_core::connection::choice::Route;
use cell_api_core::derive;
use cell_api_core::peer::{MAX_PEERS, PeerInput};
use cell_api_core::range::{self, HostIndex, VpnRange};
use cell_api_core::setup::Network;
use cell_netd_core::validate::{Rejection, SERVICES_MAX, validate};
use wire::{addresses, carried, ceiling, settings};

fn range_of(v4: &str, v6: &str) -> VpnRange {
    VpnRange::new(range::parse_v4(v4).unwrap(), range::parse_v6(v6).unwrap()).unwrap()
}

/// What netd says of a peer, or `None` where the API refuses it already.
fn verdict(input: &PeerInput) -> Option<Result<(), Rejection>> {
    let new = input.check().ok()?;
    let cell_api_core::peer::KeySource::Device(public_key) = new.key else {
        panic!("these peers have their keys")
    };
    let range = range_of("10.86.0.0/24", "fd86::/64");
    let peer = cell_api_core::peer::Peer {
        name: new.name,
        public_key,
        host: range.host(2).unwrap(),
        access: new.access,
        tunnel: new.tunnel,
        exit: Default::default(),
    };
    let spec = derive::network_spec(&settings(), Some(&range), [(&peer, Route::Own)], vec![], None);
    Some(validate(&carried(spec), &ceiling(), None).map(|_| ()))
}

fn peer(name: &str, services: Vec<ServiceInput>) -> PeerInput {
    PeerInput {
        name: name.to_owned(),
        public_key: Some("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=".to_owned()),
        access: Some(AccessInput {
            services,
            ..AccessInput::default()
        }),
        ..PeerInput::default()
    }
}

fn at(address: IpAddr) -> Vec<ServiceInput> {
    vec![ServiceInput {
        address: address.to_string(),
        protocol: "tcp".to_owned(),
        port: 443,
    }]
}

#[test]
fn every_service_address_that_the_api_takes_netd_takes() {
    let (mut taken, mut refused) = (0, Vec::new());
    for address in addresses() {
        match verdict(&peer("a", at(address))) {
            Some(outcome) => {
                assert_eq!(outcome, Ok(()), "{address}");
                taken += 1;
            }
            None => refused.push(address.to_string()),
        }
    }
    assert!(taken > 700, "{taken}");
    for wanted in [
        "169.254.169.254",
        "fe80::1",
        "0.0.0.1",
        "127.0.0.1",
        "::ffff:10.0.0.1",
    ] {
        assert!(
            refused.iter().any(|address| address == wanted),
            "{wanted} is refused by the API"
        );
    }
}

#[test]
fn every_name_and_number_of_services_that_the_api_takes_netd_takes() {
    for name in ["a", "A.b-c_d", "0", "a.", "a-", "a__b", &"x".repeat(64)] {
        assert_eq!(verdict(&peer(name, Vec::new())), Some(Ok(())), "{name}");
    }
    assert_eq!((MAX_SERVICES, MAX_PEERS), (SERVICES_MAX, ceiling().max_peers));
    let many = (1..=MAX_SERVICES as u64).map(|port| ServiceInput {
        address: "10.0.5.7".to_owned(),
        protocol: "udp".to_owned(),
        port,
    });
    assert_eq!(verdict(&peer("a", many.collect())), Some(Ok(())));
}

#[test]
fn every_range_that_the_api_takes_netd_takes() {
    let v4 = [
        "10.0.0.0/8",
        "10.255.255.248/29",
        "172.16.0.0/12",
        "172.31.255.0/24",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "100.127.255.248/29",
    ];
    let v6 = [
        "fc00::/48",
        "fdff:ffff:ffff::/48",
        "fd00::/64",
        "fd12:3456:789a::/96",
    ];
    for (v4, v6) in v4.iter().flat_map(|v4| v6.iter().map(move |v6| (*v4, *v6))) {
        let network = Network::check(v4, Some(v6), None, [0; 7]).unwrap();
        let spec = derive::network_spec(&settings(), Some(&network.range), [], vec![], None);
        let taken = validate(&carried(spec), &ceiling(), None).map(|_| ());
        assert_eq!(taken, Ok(()), "{v4} {v6}");
        // The first and the last peer that the range has room for.
        for host in [HostIndex::CELL.get() + 1, network.range.last().get()] {
            let peer = cell_api_core::peer::Peer {
                name: cell_api_core::name::PeerName::parse("a").unwrap(),
                public_key: cell_api_core::key::PublicKey::from_bytes(&[7; 32]).unwrap(),
                host: network.range.host(host).unwrap(),
                access: Default::default(),
                tunnel: cell_api_core::access::Tunnel::Split,
                exit: Default::default(),
            };
            let spec = derive::network_spec(
                &settings(),
                Some(&network.range),
                [(&peer, Route::Own)],
                vec![],
                None,
            );
            let taken = validate(&carried(spec), &ceiling(), None).map(|_| ());
            assert_eq!(taken, Ok(()), "{v4} {v6} host {host}");
        }
    }
}
