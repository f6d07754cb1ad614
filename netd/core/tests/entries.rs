//! Services at addresses in the VPN: what is refused, who reaches them, and what is said of it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::net::IpAddr;

use cell_netd_core::Desired;
use cell_netd_core::explain::{Fate, Question, Sender, Target, fate};
use cell_netd_core::model::Protocol;
use cell_netd_core::plan::{element_delta, plan_delta};
use cell_netd_core::policy::explain::{Payload, Verdict};
use cell_netd_core::policy::{Counter, ElementDelta, compile};
use cell_netd_core::spec::{DeltaSpec, NetworkSpec, PeerSpec, ServiceEntrySpec, ServiceSpec};
use cell_netd_core::validate::{validate, validate_delta};
use proptest::prelude::*;
use support::{ceiling, entry, network, peer, spec, with_access};

fn with(peers: Vec<PeerSpec>, entries: Vec<ServiceEntrySpec>) -> NetworkSpec {
    let mut spec = spec(peers);
    spec.service_networks = vec![network(1), network(2)];
    spec.entries = entries;
    spec
}

fn tcp(at: &str, to: &str) -> ServiceEntrySpec {
    entry(at, to, Protocol::Tcp, false)
}

fn sound() -> ServiceEntrySpec {
    tcp("10.86.0.200:443", "172.30.1.2:8443")
}

fn faults(spec: &NetworkSpec) -> Vec<(String, String)> {
    match validate(spec, &ceiling(), None) {
        Ok(_) => vec![],
        Err(rejection) => {
            let found = rejection.violations().iter();
            found
                .map(|fault| (fault.field.clone(), fault.description.clone()))
                .collect()
        }
    }
}

/// With the field that is named, and a part of what is said.
fn wrong() -> [(ServiceEntrySpec, &'static str, &'static str); 15] {
    [
        (tcp("10.87.0.1:443", "172.30.1.2:1"), "at.address", "outside"),
        (
            tcp("10.86.0.0:443", "172.30.1.2:1"),
            "at.address",
            "not the address of a host",
        ),
        (
            tcp("10.86.0.255:443", "172.30.1.2:1"),
            "at.address",
            "not the address of a host",
        ),
        (tcp("[fd86::200]:443", "172.30.1.2:1"), "at.address", "IPv4"),
        (tcp("127.0.0.1:443", "172.30.1.2:1"), "at.address", "loopback"),
        (tcp("10.86.0.200:0", "172.30.1.2:1"), "at.port", "1-65535"),
        (tcp("10.86.0.1:443", "172.30.1.2:1"), "at", "port of the cell"),
        (
            tcp("10.86.0.200:443", "172.30.3.2:1"),
            "to.address",
            "no container's",
        ),
        (
            tcp("10.86.0.200:443", "172.30.1.1:1"),
            "to.address",
            "no container's",
        ),
        (
            tcp("10.86.0.200:443", "172.30.1.15:1"),
            "to.address",
            "no container's",
        ),
        (
            tcp("10.86.0.200:443", "192.168.1.1:1"),
            "to.address",
            "no container's",
        ),
        (tcp("10.86.0.200:443", "172.30.1.2:0"), "to.port", "1-65535"),
        (ServiceEntrySpec { at: None, ..sound() }, "at", "required"),
        (ServiceEntrySpec { to: None, ..sound() }, "to", "required"),
        (
            ServiceEntrySpec {
                to: sound().to.map(|to| ServiceSpec {
                    protocol: Ok(Protocol::Udp),
                    ..to
                }),
                ..sound()
            },
            "to",
            "another protocol",
        ),
    ]
}

#[test]
fn each_fault_is_named_with_its_field() {
    for (wrong, field, words) in wrong() {
        // All at once: the second of them is sound.
        let found = faults(&with(vec![], vec![wrong, tcp("10.86.0.201:443", "172.30.1.2:1")]));
        let expected = format!("spec.entries[0].{field}");
        let named = |(at, why): &(String, String)| *at == expected && why.contains(words);
        assert!(found.iter().any(named), "{expected}: {words}: {found:?}");
        assert!(
            found.iter().all(|(at, _)| at.starts_with("spec.entries[0]")),
            "{found:?}"
        );
    }
    assert_eq!(faults(&with(vec![], vec![sound()])), [], "control");
    assert_eq!(
        faults(&with(vec![], vec![tcp("10.86.0.1:123", "172.30.1.2:1")])),
        []
    );
}

#[test]
fn entries_do_not_clash_with_each_other_or_with_peers_and_need_what_they_stand_on() {
    let twice = faults(&with(vec![], vec![sound(), sound()]));
    assert_eq!(twice[0].0, "spec.entries[1].at");
    // By another protocol it is another.
    let other = entry("10.86.0.200:443", "172.30.1.2:8443", Protocol::Udp, false);
    assert_eq!(faults(&with(vec![], vec![sound(), other])), []);
    let peers = faults(&with(vec![peer(199)], vec![sound()]));
    assert_eq!(peers[0].0, "spec.peers[0].addresses[0]");
    assert!(peers[0].1.contains("where a service is found"), "{peers:?}");
    let base = validate(&with(vec![], vec![sound()]), &ceiling(), None).unwrap();
    let delta = DeltaSpec {
        upserted_peers: vec![peer(199)],
        removed_peers: vec![],
    };
    assert!(validate_delta(&delta, &base, &ceiling()).is_err());
    let alone = NetworkSpec {
        entries: vec![sound()],
        ..NetworkSpec::default()
    };
    assert!(faults(&alone).iter().any(|(at, _)| at == "spec.entries"));
    let mut few = ceiling();
    few.services = few.services.map(|services| services.with_entries(1).unwrap());
    let two = with(vec![], vec![sound(), tcp("10.86.0.201:443", "172.30.1.2:1")]);
    let refused = validate(&two, &few, None).unwrap_err();
    assert!(
        refused.violations()[0]
            .description
            .starts_with("at most 1 entries")
    );
    assert!(few.services.unwrap().with_entries(4097).is_err());
}

/// So cell-api can leave out what is named, and the rest is sound.
#[test]
fn an_entry_into_a_network_that_is_refused_or_not_there_is_named_by_its_place() {
    let spec = || {
        with(
            vec![peer(1)],
            vec![sound(), tcp("10.86.0.201:443", "172.30.2.2:1")],
        )
    };
    assert_eq!(faults(&spec()), [], "control");
    let mut broken = spec();
    broken.service_networks[0].name = "?".into();
    let named: Vec<String> = faults(&broken).into_iter().map(|(at, _)| at).collect();
    assert_eq!(
        named,
        ["spec.service_networks[0].name", "spec.entries[0].to.address"]
    );
    assert!(
        faults(&broken)[1]
            .1
            .contains("spec.service_networks[0], which is refused")
    );
    broken.service_networks.remove(0);
    let left = faults(&broken);
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].0, "spec.entries[0].to.address");
    assert!(left[0].1.contains("no container's address"), "{left:?}");
    broken.entries.remove(0);
    assert_eq!(faults(&broken), []);
    // The second overlaps the first, which is sound, and so is what leads there.
    let mut meets = spec();
    meets.service_networks[1].subnet = Ok("172.30.1.0/24".parse().unwrap());
    let named: Vec<String> = faults(&meets).into_iter().map(|(at, _)| at).collect();
    assert_eq!(
        named,
        ["spec.service_networks[1].subnet", "spec.entries[1].to.address"]
    );
    // Of an exit with a fault the exit is named alone: it is not the network's, nor the entry's.
    let mut exit = spec();
    exit.exits = vec![support::exit(0)];
    exit.service_networks[0].exit = "exit0".into();
    assert_eq!(faults(&exit), [], "control");
    exit.exits[0].mark = 7;
    let named = faults(&exit);
    assert!(
        !named.is_empty() && named.iter().all(|(at, _)| at.starts_with("spec.exits[0]")),
        "{named:?}"
    );
}

fn desired(peers: Vec<PeerSpec>, entries: Vec<ServiceEntrySpec>) -> Desired {
    validate(&with(peers, entries), &ceiling(), None).unwrap()
}

fn ask(desired: &Desired, peer: &str, to: &str, payload: Payload) -> Fate {
    let question = Question {
        sender: Sender::Peer(peer.parse().unwrap()),
        destination: to.parse().unwrap(),
        payload,
    };
    fate(desired, &ceiling(), &BTreeSet::new(), &question).unwrap()
}

#[test]
fn a_fate_says_where_a_service_is_answered_and_why_not() {
    let granted = [("10.86.0.200", 443)];
    let peers = vec![with_access(peer(1), true, true, &granted), peer(2)];
    let everyone = entry("10.86.0.1:123", "172.30.2.3:123", Protocol::Udp, true);
    let desired = desired(peers, vec![sound(), everyone]);
    let port = |protocol, port| Payload::Ports(protocol, 40_000, port);
    let told = ask(&desired, "p1", "10.86.0.200", port(Protocol::Tcp, 443));
    assert_eq!(
        (told.explanation.verdict, told.target),
        (Verdict::Passes, Target::Service)
    );
    let to: IpAddr = "172.30.1.2".parse().unwrap();
    assert_eq!(told.explanation.translated, Some((to, 8443)));
    assert!(!told.explanation.masqueraded, "the container sees the device");
    let denied = ask(&desired, "p2", "10.86.0.200", port(Protocol::Tcp, 443));
    assert_eq!(denied.explanation.verdict, Verdict::Dropped(Counter::EntryDenied));
    assert!(denied.reason().contains("not granted"));
    for name in ["p1", "p2"] {
        let told = ask(&desired, name, "10.86.0.1", port(Protocol::Udp, 123));
        assert_eq!(told.explanation.verdict, Verdict::Passes, "{name}");
        let direct = ask(&desired, name, "172.30.1.2", port(Protocol::Tcp, 8443));
        assert_eq!(
            direct.explanation.verdict,
            Verdict::Dropped(Counter::FromPeerDefault)
        );
    }
}

#[test]
fn a_plan_calls_a_service_by_its_name() {
    let before = desired(vec![peer(1)], vec![sound()]);
    let change = DeltaSpec {
        upserted_peers: vec![with_access(peer(1), false, false, &[("10.86.0.200", 443)])],
        removed_peers: vec![],
    };
    let delta = validate_delta(&change, &before, &ceiling()).unwrap();
    let plan = plan_delta(&before, &delta);
    assert_eq!(
        plan.to_string(),
        "update peer p1: gains svc1 (10.86.0.200 tcp 443)\n"
    );
}

/// Addresses of the VPN and of containers, and ports, few enough to meet.
fn places() -> impl Strategy<Value = (u8, u8)> {
    (0..3_u8, 0..2_u8)
}

fn place((host, port): (u8, u8)) -> String {
    format!("10.86.0.{}:{}", 200 + host, 440 + u16::from(port))
}

proptest! {
    /// A device reaches what everyone may or what it was granted by where it is found, and a container by a grant of its own.
    #[test]
    fn who_may_is_told_by_where_it_is_found(
        led in proptest::collection::btree_map(places(), ((2..4_u8, 0..2_u8), any::<bool>()), 0..5),
        granted in proptest::collection::btree_set(places(), 0..4),
        direct in proptest::collection::btree_set(2..4_u8, 0..2),
    ) {
        let container = |host: u8| format!("172.30.1.{host}");
        let entries = led.iter().map(|(at, ((host, port), everyone))| {
            let to = format!("{}:{}", container(*host), 8440 + u16::from(*port));
            entry(&place(*at), &to, Protocol::Tcp, *everyone)
        });
        let mut services: Vec<(String, u32)> = granted
            .iter()
            .map(|(host, port)| (format!("10.86.0.{}", 200 + host), 440 + u32::from(*port)))
            .collect();
        services.extend(direct.iter().map(|host| (container(*host), 8440)));
        let services: Vec<(&str, u32)> = services.iter().map(|(at, port)| (at.as_str(), *port)).collect();
        let bound = with_access(peer(1), true, true, &services);
        let base = desired(vec![peer(1)], entries.collect());
        let change = DeltaSpec { upserted_peers: vec![bound], removed_peers: vec![] };
        let delta = validate_delta(&change, &base, &ceiling()).unwrap();
        let mut after = base.clone();
        let _undone = after.apply(delta.clone());
        // A change of a peer is its own elements, whatever the entries are.
        let compiled = |state: &Desired| compile(state, &ceiling(), &BTreeSet::new()).unwrap().elements;
        prop_assert_eq!(element_delta(&delta), ElementDelta::between(&compiled(&base), &compiled(&after)));
        for host in 0..3 {
            for port in 0..2 {
                let may = led.get(&(host, port)).map(|(to, everyone)| {
                    (*to, *everyone || granted.contains(&(host, port)))
                });
                let to = format!("10.86.0.{}", 200 + host);
                let told = ask(&after, "p1", &to, Payload::Ports(Protocol::Tcp, 1, 440 + u16::from(port)));
                let reached = (told.target == Target::Service && told.explanation.verdict == Verdict::Passes)
                    .then_some(told.explanation.translated);
                match may {
                    Some(((host, port), true)) => {
                        let to: IpAddr = container(host).parse().unwrap();
                        prop_assert_eq!(reached, Some(Some((to, 8440 + u16::from(port)))));
                    }
                    Some((_, false)) => {
                        prop_assert_eq!(told.explanation.verdict, Verdict::Dropped(Counter::EntryDenied));
                    }
                    None => prop_assert_eq!(reached, None),
                }
            }
        }
        for host in 2..4 {
            let told = ask(&after, "p1", &container(host), Payload::Ports(Protocol::Tcp, 1, 8440));
            prop_assert_eq!(told.explanation.verdict == Verdict::Passes, direct.contains(&host));
        }
    }
}
