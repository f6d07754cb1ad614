#![allow(clippy::unwrap_used, reason = "tests")]
use proptest::prelude::*;

use super::*;
use crate::derive::exits::FarEnd;
use crate::key::PublicKey;
use crate::range;

fn id(number: u8) -> ConnectionId {
    ConnectionId::from_random([number; 16])
}

fn way(host: u8, exit: Option<u8>) -> Way {
    Way {
        addresses: vec![IpAddr::from([10, 86, 0, host])],
        exit: exit.map(id),
    }
}

fn ways() -> impl Strategy<Value = Ways> {
    let one =
        (0u8..6, proptest::option::of(0u8..3)).prop_map(|(n, exit)| (format!("p{n}"), way(n + 2, exit)));
    proptest::collection::btree_map(0u8..6, one, 0..6).prop_map(|all| all.into_values().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_question_goes_directly_while_netd_leads_its_peer_elsewhere(had in ways(), will in ways()) {
        let between = before(&had, &will);
        for (name, way) in &between {
            // netd has the one or the other.
            for netd in [had.get(name), will.get(name)].into_iter().flatten() {
                prop_assert!(way.exit.is_some() || netd.exit.is_none(), "{name}");
            }
        }
        for (name, way) in &will {
            if way.exit.is_some() {
                prop_assert_eq!(between.get(name), Some(way));
            }
            prop_assert!(between.contains_key(name));
        }
        prop_assert_eq!(before(&between, &will), between.clone(), "once is enough");
        prop_assert_eq!(before(&will, &will), will.clone());
        let mut addresses: Vec<IpAddr> = between.values().flat_map(|way| way.addresses.clone()).collect();
        let count = addresses.len();
        addresses.sort();
        addresses.dedup();
        prop_assert_eq!(addresses.len(), count, "an address has one owner");
    }
}

#[test]
fn an_address_that_is_given_to_another_is_its_alone() {
    let had = Ways::from([("old".to_owned(), way(2, Some(1)))]);
    let will = Ways::from([("new".to_owned(), way(2, None))]);
    assert_eq!(before(&had, &will), will);
}

fn cell() -> (CellName, VpnRange) {
    let range = VpnRange::new(
        range::parse_v4("10.86.0.0/24").unwrap(),
        range::parse_v6("fd00::/64").unwrap(),
    );
    (CellName::parse("home").unwrap(), range.unwrap())
}

#[test]
fn the_cell_and_its_devices_have_names() {
    let (name, range) = cell();
    let all = [
        "Phone", "phone", "api", "API", "a..b", "x.", "tv_1", "web.tv", "a-",
    ];
    let peers = (2u8..)
        .zip(all)
        .map(|(host, name)| (name.to_owned(), way(host, None)))
        .collect();
    let spec = spec(&name, None, &range, &Upstreams::default(), Vec::new(), peers);
    assert_eq!(spec.zones, ["home.cell"]);
    let told: Vec<(&str, String)> = spec
        .records
        .iter()
        .map(|record| (record.name.as_str(), record.address.to_string()))
        .collect();
    let expected = [
        ("home.cell", "10.86.0.1"),
        ("home.cell", "fd00::1"),
        ("api.home.cell", "10.86.0.1"),
        ("api.home.cell", "fd00::1"),
        ("phone.home.cell", "10.86.0.2"),
        ("tv_1.home.cell", "10.86.0.8"),
        ("web.tv.home.cell", "10.86.0.9"),
    ];
    assert_eq!(told, expected.map(|(name, ip)| (name, ip.to_owned())));
}

fn tunnel(addresses: &[&str], resolvers: &[&str], nets: &[&str]) -> ExitSpec {
    let far_end = FarEnd {
        public_key: PublicKey::from_bytes(&[7; 32]).unwrap(),
        endpoint: None,
        keepalive_seconds: 0,
        allowed_ips: nets.iter().map(|net| net.parse().unwrap()).collect(),
        has_preshared_key: false,
    };
    ExitSpec {
        id: id(1),
        mark: 0x1000,
        way: ExitWay::Wireguard(Tunnel {
            table: 1000,
            interface: "wgext_a".to_owned(),
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            mtu_bytes: None,
            far_ends: vec![far_end],
            resolvers: resolvers.iter().map(|ip| ip.parse().unwrap()).collect(),
            secret_revision: 1,
        }),
    }
}

fn asked(spec: ExitSpec) -> Vec<String> {
    let all = exits(&[spec], &Upstreams::default());
    let upstreams = all.into_iter().flat_map(|exit| exit.upstreams);
    upstreams.map(|upstream| upstream.ip().to_string()).collect()
}

#[test]
fn an_exit_is_asked_by_resolvers_that_it_carries() {
    let both: &[&str] = &["10.2.0.2", "fd00::2"];
    let all: &[&str] = &["0.0.0.0/0", "::/0"];
    assert_eq!(asked(tunnel(both, &["10.2.0.1"], all)), ["10.2.0.1"]);
    assert_eq!(asked(tunnel(both, &[], all)).len(), 4);
    assert_eq!(
        asked(tunnel(&["10.2.0.2"], &[], all)),
        ["9.9.9.9", "149.112.112.112"],
        "it has no address of IPv6"
    );
    assert_eq!(
        asked(tunnel(both, &["192.0.2.1"], &["10.0.0.0/8", "9.9.9.9/32"])),
        ["9.9.9.9"]
    );
    assert!(asked(tunnel(both, &["192.0.2.1"], &["10.0.0.0/8"])).is_empty());
    let redirect = ExitSpec {
        id: id(2),
        mark: 0x1010,
        way: ExitWay::Redirect {
            port: 9100,
            servers: Vec::new(),
        },
    };
    let told = exits(&[redirect], &Upstreams::default());
    assert_eq!(
        (told[0].upstreams.len(), &told[0].reached),
        (4, &Reached::Redirect)
    );
}
