//! Addresses, allocation, configurations, specifications: by example and by property.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "tests: a case is one story"
)]

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use cell_api_core::access::{AccessInput, AccessPolicy, Protocol, Service, ServiceInput, Tunnel};
use cell_api_core::client_config::{self, CellSide};
use cell_api_core::connection::choice::{ExitChoice, Route};
use cell_api_core::derive::dns::Upstreams;
use cell_api_core::derive::{self, NetworkSettings, NetworkSpec};
use cell_api_core::fault::Faults;
use cell_api_core::key::PublicKey;
use cell_api_core::name::{EndpointHost, PeerName};
use cell_api_core::peer::{Peer, PeerInput, PeerUpdate};
use cell_api_core::range::{self, HostIndex, InvalidRange, VpnRange};
use proptest::prelude::*;

fn range(v4: &str, v6: &str) -> VpnRange {
    VpnRange::new(range::parse_v4(v4).unwrap(), range::parse_v6(v6).unwrap()).unwrap()
}

fn home() -> VpnRange {
    range("10.86.0.0/24", "fd12:3456:789a::/64")
}

fn peer(name: &str, host: u32, tunnel: Tunnel, services: &[&str]) -> Peer {
    let service = |text: &&str| Service {
        address: text.parse().unwrap(),
        protocol: Protocol::Tcp,
        port: 443,
    };
    Peer {
        name: PeerName::parse(name).unwrap(),
        public_key: PublicKey::from_bytes(&[7; 32]).unwrap(),
        host: home().host(host).unwrap(),
        access: AccessPolicy {
            services: services.iter().map(service).collect(),
            ..AccessPolicy::default()
        },
        tunnel,
        exit: ExitChoice::default(),
    }
}

/// What netd is told of these peers.
fn whole(peers: &[Peer]) -> NetworkSpec {
    let own_way = peers.iter().map(|peer| (peer, Route::Own));
    derive::network_spec(
        &settings(),
        Some(&home()),
        own_way,
        Vec::new(),
        Some(&Upstreams::default()),
    )
}

fn side(host: &str) -> CellSide {
    CellSide {
        public_key: PublicKey::from_bytes(&[9; 32]).unwrap(),
        range: home(),
        endpoint_host: EndpointHost::parse(host).unwrap(),
        listen_port: 51820,
        dns: false,
    }
}

#[test]
fn ranges_that_a_vpn_may_have() {
    for good in [
        "10.0.0.0/8",
        "10.86.0.0/24",
        "172.16.0.0/12",
        "172.31.255.248/29",
        "192.168.0.0/16",
        "100.64.0.0/10",
    ] {
        assert!(range::parse_v4(good).is_ok(), "{good}");
    }
    for (bad, why) in [
        ("10.86.0.0", InvalidRange::Syntax("10.86.0.0/24")),
        ("10.86.0.0/33", InvalidRange::Syntax("10.86.0.0/24")),
        ("10.86.0/24", InvalidRange::Syntax("10.86.0.0/24")),
        ("fd00::/64", InvalidRange::Syntax("10.86.0.0/24")),
        ("", InvalidRange::Syntax("10.86.0.0/24")),
        ("10.86.0.1/24", InvalidRange::HostBits),
        ("10.0.0.0/7", InvalidRange::Length(8, 29)),
        ("10.0.0.0/30", InvalidRange::Length(8, 29)),
        ("0.0.0.0/8", InvalidRange::NotPrivate),
        ("11.0.0.0/8", InvalidRange::NotPrivate),
        ("172.0.0.0/8", InvalidRange::NotPrivate),
        ("172.32.0.0/16", InvalidRange::NotPrivate),
        ("192.0.0.0/15", InvalidRange::NotPrivate),
        ("169.254.67.0/24", InvalidRange::NotPrivate),
        ("100.128.0.0/10", InvalidRange::NotPrivate),
    ] {
        assert_eq!(range::parse_v4(bad), Err(why), "{bad}");
    }
    for (bad, why) in [
        ("fd00::1", InvalidRange::Syntax("fd12:3456:789a::/64")),
        ("fd00::1/64", InvalidRange::HostBits),
        ("fd00::/47", InvalidRange::Length(48, 120)),
        ("fd00::/121", InvalidRange::Length(48, 120)),
        ("2001:db8::/64", InvalidRange::NotUniqueLocal),
        ("fe80::/64", InvalidRange::NotUniqueLocal),
        ("fd43:454c:4c00::/48", InvalidRange::HiddenService),
        ("fd43:454c:4c00::/64", InvalidRange::HiddenService),
    ] {
        assert_eq!(range::parse_v6(bad), Err(why), "{bad}");
    }
    let (v4, v6) = (
        range::parse_v4("10.0.0.0/8").unwrap(),
        range::parse_v6("fd00::/105").unwrap(),
    );
    assert_eq!(VpnRange::new(v4, v6), Err(InvalidRange::TooSmall(104)));
}

#[test]
fn an_address_leads_back_to_its_host_alone() {
    let range = range("10.86.0.0/24", "fd00:1::/64");
    for index in [1, 2, 254] {
        let host = range.host(index).unwrap();
        for address in range.addresses_of(host) {
            assert_eq!(range.host_of(address), Some(host), "{address}");
        }
    }
    for nobodys in [
        "10.86.0.0",
        "10.86.0.255",
        "10.86.1.2",
        "127.0.0.1",
        "fd00:1::",
        "fd00:1::ff",
        "fd00:1:0:1::2",
        "fd00:1::1:0:2",
        "::1",
    ] {
        assert_eq!(range.host_of(nobodys.parse().unwrap()), None, "{nobodys}");
    }
}

#[test]
fn a_range_runs_out_and_says_how_many_it_had() {
    let (small, none) = (range("10.86.0.0/29", "fd00:1::/64"), BTreeSet::new());
    assert_eq!(small.allocate(None, 1, &none).unwrap().get(), 2);
    assert_eq!(small.allocate(None, 5, &none).unwrap().get(), 6);
    assert_eq!(small.allocate(None, 6, &none).unwrap_err().capacity, 5);
    assert_eq!(small.allocate(Some(3), 6, &none).unwrap().get(), 3);
    assert_eq!(
        small.allocate(Some(3), 5, &none).unwrap().get(),
        6,
        "what was never used comes first"
    );
    assert_eq!(
        small.v4_of(small.last()).to_string(),
        "10.86.0.6",
        "never the broadcast address"
    );
}

#[test]
fn a_configuration_is_what_wg_quick_reads() {
    let text = |host: &str, peer: &Peer, key| client_config::render(&side(host), peer, key).to_string();
    assert_eq!(
        text("vpn.example.org", &peer("a", 2, Tunnel::Full, &[]), None),
        include_str!("golden/full.conf"),
    );
    let split = peer(
        "a",
        250,
        Tunnel::Split,
        &["10.0.5.7", "fd99::7", "10.86.0.9", "10.0.5.7"],
    );
    assert_eq!(
        text("2001:db8::7", &split, Some("KEY=")),
        include_str!("golden/split_ipv6_endpoint_server_key.conf")
    );
}

#[test]
fn the_fingerprint_changes_with_what_the_device_must_know() {
    let base = peer("a", 2, Tunnel::Split, &["10.0.5.7"]);
    let print = |side: &CellSide, peer: &Peer| client_config::fingerprint(side, peer);
    let own = side("vpn.example.org");
    let same = print(&own, &base);
    let renamed = Peer {
        name: PeerName::parse("b").unwrap(),
        ..base.clone()
    };
    assert_eq!(print(&own, &renamed), same);
    let internet = AccessPolicy {
        internet: true,
        peer_to_peer: true,
        ..base.access.clone()
    };
    assert_eq!(
        print(
            &own,
            &Peer {
                access: internet,
                ..base.clone()
            }
        ),
        same,
        "the policy is the cell's business"
    );
    let key = PublicKey::from_bytes(&[8; 32]).unwrap();
    for other in [
        Peer {
            tunnel: Tunnel::Full,
            ..base.clone()
        },
        Peer {
            access: AccessPolicy::default(),
            ..base.clone()
        },
        Peer {
            public_key: key,
            ..base.clone()
        },
        Peer {
            host: home().host(3).unwrap(),
            ..base.clone()
        },
    ] {
        assert_ne!(print(&own, &other), same, "{other:?}");
    }
    assert_ne!(print(&side("other.example"), &base), same);
    assert_ne!(
        print(
            &CellSide {
                listen_port: 1,
                ..own.clone()
            },
            &base
        ),
        same
    );
    assert_ne!(
        print(
            &CellSide {
                public_key: key,
                ..own.clone()
            },
            &base
        ),
        same
    );
    let text = |side: &CellSide| client_config::render(side, &base, None).to_string();
    assert!(!text(&own).contains("DNS"));
    let answering = CellSide { dns: true, ..own };
    assert_ne!(print(&answering, &base), same);
    let [v4, v6] = answering.range.addresses_of(HostIndex::CELL);
    assert!(text(&answering).contains(&format!("\nDNS = {v4}, {v6}\n")));
}

#[test]
fn a_peer_names_every_fault_at_once() {
    let service = |address: &str, protocol: &str, port| ServiceInput {
        address: address.to_owned(),
        protocol: protocol.to_owned(),
        port,
    };
    let services = vec![
        service("10.0.0.1", "tcp", 1),
        service("10.0.0.256", "icmp", 0),
        service("::ffff:10.0.0.1", "udp", 65_536),
        service("0.0.0.0", "tcp", 443),
        service("127.0.0.1", "TCP", 443),
    ];
    let input = PeerInput {
        name: "a b".to_owned(),
        public_key: Some("short".to_owned()),
        access: Some(AccessInput {
            services,
            ..AccessInput::default()
        }),
        tunnel: Some("half".to_owned()),
        ..PeerInput::default()
    };
    let fields: Vec<_> = input
        .check()
        .unwrap_err()
        .into_violations()
        .into_iter()
        .map(|v| v.field)
        .collect();
    assert_eq!(
        fields,
        [
            "name",
            "public_key",
            "access.services[1].address",
            "access.services[1].protocol",
            "access.services[1].port",
            "access.services[2].address",
            "access.services[2].port",
            "access.services[3].address",
            "access.services[4].address",
            "access.services[4].protocol",
            "tunnel"
        ]
    );
    let keyless = PeerInput {
        name: "a".to_owned(),
        ..PeerInput::default()
    };
    assert_eq!(keyless.check().unwrap_err().violations()[0].field, "public_key");
    let many = AccessInput {
        services: vec![service("10.0.0.1", "tcp", 1); 257],
        ..AccessInput::default()
    };
    let mut faults = Faults::default();
    many.check("access", &mut faults);
    assert_eq!(faults.violations()[0].field, "access.services");
}

#[test]
fn an_unclaimed_cell_asks_netd_for_nothing() {
    assert_eq!(
        derive::network_spec(&settings(), None, [], Vec::new(), None),
        NetworkSpec::default()
    );
}

fn settings() -> NetworkSettings {
    NetworkSettings {
        interface: "wg0".to_owned(),
        listen_port: 51820,
        https_port: 443,
        https_target_port: 3443,
    }
}

proptest! {
    /// Any sequence of additions and removals gives out every address once and never the cell's: those never used first,
    /// then those that have rested longest.
    #[test]
    fn addresses_rest_before_they_are_given_out_again(steps in prop::collection::vec((any::<bool>(), 0usize..8), 0..200)) {
        let range = range("10.86.0.0/28", "fd00:1::/120");
        let (mut used, mut freed, mut highest) = (BTreeSet::new(), VecDeque::new(), 1);
        for (add, pick) in steps {
            if add {
                let expected = if highest < 14 { Some(highest + 1) } else { freed.front().copied() };
                match range.allocate(freed.front().copied(), highest, &BTreeSet::new()) {
                    Ok(host) => {
                        prop_assert_eq!(Some(host.get()), expected);
                        prop_assert!(!used.contains(&host.get()));
                        if host.get() <= highest {
                            freed.pop_front();
                        }
                        highest = highest.max(host.get());
                        used.insert(host.get());
                    }
                    Err(full) => {
                        prop_assert_eq!(expected, None);
                        prop_assert_eq!(full.capacity, 13);
                    }
                }
            } else if let Some(host) = used.iter().nth(pick).copied() {
                used.remove(&host);
                freed.push_back(host);
            }
        }
    }

    /// Both addresses of every host lie in their ranges, and no two hosts share one.
    #[test]
    fn addresses_mirror(a in 1u32..65_534, b in 1u32..65_534) {
        let range = range("10.86.0.0/16", "fd12:3456:789a::/112");
        let of = |index| range.addresses_of(range.host(index).unwrap());
        let ([a4, a6], [b4, b6]) = (of(a), of(b));
        let inside = |address: &IpAddr| ipnet::IpNet::V4(range.v4()).contains(address) || ipnet::IpNet::V6(range.v6()).contains(address);
        prop_assert!(a4.is_ipv4() && a6.is_ipv6() && inside(&a4) && inside(&a6));
        prop_assert_eq!(a == b, a4 == b4);
        prop_assert_eq!(a == b, a6 == b6);
    }

    /// The specification of a state does not depend on the order in which the state is read.
    #[test]
    fn derivation_is_canonical(hosts in prop::collection::btree_set(2u32..200, 0..20), seed in any::<u64>()) {
        let mut peers: Vec<Peer> = hosts.iter().map(|host| peer(&format!("p{host}"), *host, Tunnel::Full, &[])).collect();
        let straight = whole(&peers);
        peers.sort_by_key(|peer| (u64::from(peer.host.get()) ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        prop_assert_eq!(whole(&peers), straight.clone());
        for peer in &peers {
            prop_assert!(straight.peers.contains(&derive::peer_spec(&home(), peer, Route::Own)), "a delta says what the whole says");
        }
    }

    /// No host that is accepted, however close to a forged line, can add a line to a configuration.
    #[test]
    fn configurations_have_ten_lines(host in "[a-z0-9.:=#\\[\\]\n\r -]{1,12}(\nPostUp = id)?", full in any::<bool>()) {
        let Ok(host) = EndpointHost::parse(&host) else { return Ok(()) };
        let tunnel = if full { Tunnel::Full } else { Tunnel::Split };
        let text = client_config::render(&side(&host.to_string()), &peer("a", 2, tunnel, &[]), None);
        prop_assert_eq!(text.lines().count(), 10);
        prop_assert!(!text.contains("PostUp") && !text.contains('\r') && !text.contains('#'));
    }

    /// A change keeps what it does not name.
    #[test]
    fn an_empty_change_changes_nothing(host in 2u32..200) {
        let before = peer("a", host, Tunnel::Split, &["10.0.5.7"]);
        prop_assert_eq!(PeerUpdate::default().applied_to(&before, before.exit.clone()), before);
    }
}
