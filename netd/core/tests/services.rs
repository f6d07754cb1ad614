//! Networks of services: what may be asked for, and what their containers reach by the compiled policy.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::net::IpAddr;
use std::time::Duration;

use cell_netd_core::Ceiling;
use cell_netd_core::bridges::{Bridge, Unused};
use cell_netd_core::ceiling::{InvalidServices, ServiceCeiling};
use cell_netd_core::desired::Desired;
use cell_netd_core::explain::{Fate, NoAnswer, Question, Sender, Target, fate};
use cell_netd_core::model::Protocol;
use cell_netd_core::policy::explain::{Payload, Verdict};
use cell_netd_core::policy::{Action, ChainName, Counter, Match, Rule, SetId, compile};
use cell_netd_core::spec::{CellPortSpec, NetworkSpec, ServiceNetworkSpec};
use cell_netd_core::validate::{Rejection, validate};
use proptest::prelude::*;
use support::*;

fn with(networks: Vec<ServiceNetworkSpec>) -> NetworkSpec {
    let mut spec = spec(vec![with_access(peer(1), true, true, &[("172.30.1.2", 80)])]);
    spec.exits = vec![exit(0), redirect(10)];
    spec.cell_ports = [Protocol::Udp, Protocol::Tcp]
        .map(|protocol| CellPortSpec {
            protocol: Ok(protocol),
            port: 53,
            target_port: 9053,
            bound_target_port: 9054,
        })
        .into();
    spec.service_networks = networks;
    spec
}

fn faults(networks: Vec<ServiceNetworkSpec>, ceiling: &Ceiling) -> Vec<(String, String)> {
    let Err(Rejection::InvalidSpec(faults) | Rejection::AboveCeiling(faults)) =
        validate(&with(networks), ceiling, None)
    else {
        return vec![];
    };
    let told = faults.into_iter().map(|fault| (fault.field, fault.description));
    told.collect()
}

type Change = fn(&mut ServiceNetworkSpec);

/// What is wrong, the field, and words of the fault.
const FAULTS: [(Change, &str, &str); 23] = [
    (|net| net.name = "Files".into(), "name", "1-63 characters"),
    (|net| net.name = "x".repeat(64), "name", "1-63 characters"),
    (|net| net.name = "-a".into(), "name", "1-63 characters"),
    (
        |net| net.bridge = "br0".into(),
        "bridge",
        "no bridge of services may have this name",
    ),
    (
        |net| net.bridge = "cellsvc".into(),
        "bridge",
        "no bridge of services",
    ),
    (
        |net| net.bridge = "cellsvc012345678".into(),
        "bridge",
        "1-15 characters",
    ),
    (
        |net| net.subnet = Ok("fd30::/64".parse().unwrap()),
        "subnet",
        "is IPv4",
    ),
    (
        |net| net.subnet = Ok("172.30.1.1/28".parse().unwrap()),
        "subnet",
        "without host bits",
    ),
    (
        |net| net.subnet = Ok("172.30.0.0/23".parse().unwrap()),
        "subnet",
        "24-29 bits",
    ),
    (
        |net| net.subnet = Ok("172.30.1.0/30".parse().unwrap()),
        "subnet",
        "24-29 bits",
    ),
    (
        |net| net.subnet = Ok("172.29.1.0/28".parse().unwrap()),
        "subnet",
        "may lie there",
    ),
    (|net| net.exit = "exit9".into(), "exit", "there is no exit exit9"),
    (
        |net| net.reach = vec![service("10.86.0.2", 80)],
        "reach[0].address",
        "is in the VPN",
    ),
    (
        |net| net.reach = vec![service("fd00::7", 80)],
        "reach[0].address",
        "is IPv4",
    ),
    (
        |net| net.reach = vec![service("127.0.0.1", 80)],
        "reach[0].address",
        "loopback",
    ),
    // The network's own address, its bridge's, everybody's there, another network's container, and a device.
    (|net| calls(net, &["172.30.1.0:80"]), "called[0]", NO_CONTAINER),
    (
        |net| calls(net, &["172.30.1.2:80", "172.30.1.1:80"]),
        "called[1]",
        NO_CONTAINER,
    ),
    (|net| calls(net, &["172.30.1.15:80"]), "called[0]", NO_CONTAINER),
    (|net| calls(net, &["172.30.2.2:80"]), "called[0]", NO_CONTAINER),
    (|net| calls(net, &["10.86.0.2:80"]), "called[0]", NO_CONTAINER),
    (|net| calls(net, &["172.30.1.2:0"]), "called[0]", "port 0"),
    (|net| calls(net, &["[fd30:1::2]:80"]), "called[0]", "is IPv4"),
    (
        |net| net.called = (1..=257).map(|port| Ok(([172, 30, 1, 2], port).into())).collect(),
        "called",
        "at most 256",
    ),
];

const NO_CONTAINER: &str = "is no container's address in this network";

fn calls(network: &mut ServiceNetworkSpec, ports: &[&str]) {
    network.called = ports.iter().map(|port| Ok(port.parse().unwrap())).collect();
}

#[test]
fn each_fault_is_named_with_its_field() {
    let changed = |change: fn(&mut ServiceNetworkSpec)| {
        let mut network = network(1);
        change(&mut network);
        faults(vec![network], &ceiling())
    };
    for (change, field, words) in FAULTS {
        let found = changed(change);
        let expected = format!("spec.service_networks[0].{field}");
        assert!(
            found
                .iter()
                .any(|(at, why)| *at == expected && why.contains(words)),
            "{expected}: {words}: {found:?}"
        );
    }
    assert_eq!(changed(|_| {}), [], "control");
    let twice = changed(|net| calls(net, &["172.30.1.2:80", "172.30.1.2:81", "172.30.1.2:80"]));
    let expected = (
        "spec.service_networks[0].called[2]".to_owned(),
        "is named twice".to_owned(),
    );
    assert_eq!(twice, [expected]);
    let most = changed(|net| {
        net.called = (1..=256)
            .map(|port| Ok(([172, 30, 1, 14], port).into()))
            .collect()
    });
    assert_eq!(most, [], "control");
}

#[test]
fn networks_do_not_clash_with_each_other_or_the_vpn() {
    let twice = |change: fn(&mut ServiceNetworkSpec)| {
        let (one, mut other) = (network(1), network(2));
        change(&mut other);
        faults(vec![one, other], &ceiling())
    };
    assert_eq!(twice(|_| {}), [], "control");
    let cases: [(Change, &str); 4] = [
        (|net| net.name = "svc1".into(), "name"),
        (|net| net.bridge = "cellsvc1".into(), "bridge"),
        (|net| net.subnet = Ok("172.30.1.0/24".parse().unwrap()), "subnet"),
        (|net| net.subnet = Ok("172.30.1.8/29".parse().unwrap()), "subnet"),
    ];
    for (change, field) in cases {
        let found = twice(change);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, format!("spec.service_networks[1].{field}"));
    }
    let mut wide = ceiling();
    wide.services = Some(ServiceCeiling::try_new("cellsvc", vec!["10.0.0.0/8".parse().unwrap()], 2).unwrap());
    let mut inside = network(1);
    inside.subnet = Ok("10.86.0.128/28".parse().unwrap());
    assert!(faults(vec![inside], &wide)[0].1.contains("overlaps the VPN"));
    let three = faults(vec![network(1), network(2), network(3)], &wide);
    assert!(three[0].1.starts_with("at most 2 networks"), "{three:?}");
    wide.services = None;
    assert_eq!(faults(vec![network(1)], &wide)[0].0, "spec.service_networks");
    let alone = NetworkSpec {
        service_networks: vec![network(1)],
        ..NetworkSpec::default()
    };
    let Err(Rejection::InvalidSpec(found)) = validate(&alone, &ceiling(), None) else {
        panic!("an interface is needed")
    };
    assert_eq!(found[0].field, "spec.service_networks");
}

#[test]
fn no_interface_of_the_cells_is_taken_for_a_bridge() {
    let make = |prefix: &str| {
        let subnets = vec!["172.30.0.0/16".parse().unwrap()];
        let made = ServiceCeiling::try_new(prefix, subnets, 1)?;
        made.beside(&ceiling().interfaces, &ceiling().exits).map(drop)
    };
    assert_eq!(make("cellsvc"), Ok(()));
    for prefix in ["wg0x", "wgext_1", "wgex", "ovpn_", "ovpn", "loop"] {
        assert!(matches!(make(prefix), Err(InvalidServices::Taken(_))), "{prefix}");
    }
    for prefix in ["", "wg0", "-ices", "ab cd", "cellsvc00000000"] {
        assert_eq!(make(prefix), Err(InvalidServices::Prefix), "{prefix}");
    }
}

fn desired(networks: Vec<ServiceNetworkSpec>) -> Desired {
    validate(&with(networks), &ceiling(), None).unwrap()
}

fn ask(desired: &Desired, name: &str, to: &str, payload: Payload) -> Result<Fate, NoAnswer> {
    let question = Question {
        sender: Sender::Service(name.parse().unwrap()),
        destination: to.parse().unwrap(),
        payload,
    };
    let on_link = ["192.0.2.1/24", "172.30.1.1/28"].map(|net| net.parse().unwrap());
    fate(desired, &ceiling(), &on_link.into(), &question)
}

/// One with a grant and no way out, one with a tunnel, one with a relay, and one with the cell's own way.
fn four() -> Desired {
    let mut first = network(1);
    first.reach = vec![service("172.30.2.2", 443), service("192.0.2.53", 53)];
    desired(vec![
        first,
        leaving(network(2), "exit0"),
        leaving(network(3), "exit10"),
        leaving(network(4), ""),
    ])
}

#[test]
fn what_has_no_answer_is_told() {
    let desired = four();
    let asked = |name, to| ask(&desired, name, to, Payload::Ports(Protocol::Tcp, 0, 1));
    assert!(asked("svc1", "203.0.113.9").is_ok(), "control");
    assert_eq!(asked("svc9", "203.0.113.9"), Err(NoAnswer::NoService));
    assert_eq!(asked("svc1", "2001:db8::9"), Err(NoAnswer::NoIpv6));
}

#[test]
fn a_name_server_that_is_granted_is_asked_itself() {
    let tcp = Payload::Ports(Protocol::Tcp, 0, 53);
    let target = |to| ask(&four(), "svc1", to, tcp).unwrap().target;
    assert_ne!(target("192.0.2.53"), Target::Cell);
    assert_eq!(target("192.0.2.54"), Target::Cell, "control");
}

#[test]
fn a_fate_says_which_way_a_container_has_and_why() {
    let desired = four();
    let (tcp, udp) = (
        |port| Payload::Ports(Protocol::Tcp, 0, port),
        |port| Payload::Ports(Protocol::Udp, 0, port),
    );
    let dropped = |counter| (Verdict::Dropped(counter), None);
    let passes = |target| (Verdict::Passes, Some(target));
    let default = Counter::FromServiceDefault;
    let cases = [
        ("svc1", "203.0.113.9", tcp(443), dropped(default)),
        ("svc1", "172.30.2.2", tcp(443), passes(Target::Service)),
        ("svc1", "172.30.2.2", tcp(80), dropped(default)),
        ("svc1", "172.30.2.2", udp(443), dropped(default)),
        ("svc2", "172.30.1.2", tcp(443), dropped(default)),
        ("svc1", "10.86.0.2", tcp(80), dropped(Counter::ToPeerDefault)),
        ("svc2", "192.0.2.50", tcp(80), dropped(default)),
        ("svc2", "192.168.1.1", tcp(80), dropped(default)),
        ("svc2", "203.0.113.9", tcp(443), passes(Target::Exit)),
        ("svc2", "203.0.113.9", Payload::EchoRequest, passes(Target::Exit)),
        ("svc3", "203.0.113.9", tcp(443), passes(Target::Exit)),
        (
            "svc3",
            "203.0.113.9",
            udp(443),
            (Verdict::Refused(Counter::ExitRefused), Some(Target::Exit)),
        ),
        ("svc4", "203.0.113.9", tcp(443), passes(Target::Out)),
        // Questions of DNS, whomever they are put to.
        ("svc1", "192.168.1.1", udp(53), passes(Target::Cell)),
        ("svc3", "9.9.9.9", tcp(53), passes(Target::Cell)),
        ("svc4", "10.86.0.1", udp(53), passes(Target::Cell)),
        ("svc4", "172.30.4.1", udp(53), passes(Target::Cell)),
        // But to one that is granted by address, port and protocol.
        ("svc1", "192.0.2.53", tcp(53), (Verdict::Passes, None)),
        ("svc1", "192.0.2.53", udp(53), passes(Target::Cell)),
        ("svc1", "192.0.2.54", tcp(53), passes(Target::Cell)),
        ("svc4", "172.30.4.1", udp(5353), dropped(default)),
        ("svc4", "10.86.0.1", tcp(443), dropped(Counter::WeakHost)),
    ];
    for (name, to, payload, (verdict, target)) in cases {
        let found = ask(&desired, name, to, payload).unwrap();
        assert_eq!(
            found.explanation.verdict, verdict,
            "{name} {to} {payload:?}: {:#?}",
            found.explanation.steps
        );
        assert!(
            target.is_none_or(|target| found.target == target),
            "{name} {to}: {:?}",
            found.target
        );
        assert!(
            !found.reason().contains("device")
                || verdict == Verdict::Dropped(Counter::ToPeerDefault)
                || verdict == Verdict::Refused(Counter::ExitRefused),
            "{}",
            found.reason()
        );
    }
}

/// What users of the machine may open at containers, as the renderers are given it.
fn called(desired: &Desired) -> Vec<String> {
    let ruleset = compile(desired, &ceiling(), &Default::default()).unwrap();
    let all = ruleset.elements.get(&SetId::Called).into_iter().flatten();
    all.map(ToString::to_string).collect()
}

/// Each rule by which a user of the machine gets to containers asks for the port, and one of an earlier packet too.
#[test]
fn users_of_the_machine_open_what_is_named_and_nothing_beside_it() {
    let mut first = network(1);
    calls(&mut first, &["172.30.1.2:80", "172.30.1.3:80"]);
    let desired = desired(vec![first, network(2)]);
    assert_eq!(called(&desired), ["172.30.1.2 . 80", "172.30.1.3 . 80"]);
    let ruleset = compile(&desired, &ceiling(), &Default::default()).unwrap();
    let chain = ruleset
        .chains
        .iter()
        .find(|chain| chain.name == ChainName::Caller);
    let lets = |rule: &&Rule| rule.actions.contains(&Action::Accept);
    let by_user = |rule: &&Rule| {
        let of_caller = |one: &Match| matches!(one, Match::SocketUser(_) | Match::L4(6));
        rule.matches.iter().any(of_caller)
    };
    let rules: Vec<&Rule> = chain.unwrap().rules.iter().filter(lets).filter(by_user).collect();
    assert_eq!(
        rules.len(),
        2,
        "an open flow's, and that of the one user: {rules:?}"
    );
    for rule in rules {
        let tcp = rule.matches.iter().position(|one| *one == Match::L4(6));
        let port = rule.matches.iter().position(|one| *one == Match::Called);
        assert!(tcp.is_some() && tcp < port, "{rule:?}");
    }
}

proptest! {
    /// What is open to users of the machine is what sound networks name, each its own, and goes with them.
    #[test]
    fn what_may_be_called_is_each_networks_own(
        named in prop::collection::btree_map(1u8..4, prop::collection::btree_set((0u8..16, 0u16..3), 0..5), 0..4),
        foreign in any::<Option<(u8, u8)>>(),
    ) {
        let mut networks: Vec<_> = named.keys().map(|index| network(*index)).collect();
        let (mut is_sound, mut expected) = (true, Vec::new());
        for ((index, ports), network) in named.iter().zip(&mut networks) {
            for (host, port) in ports {
                network.called.push(Ok(([172, 30, *index, *host], *port).into()));
                is_sound &= (2..15).contains(host) && *port != 0;
                expected.push(format!("172.30.{index}.{host} . {port}"));
            }
        }
        if let (Some((index, host)), Some(first)) = (foreign, networks.first_mut()) {
            let own = named.keys().next().unwrap();
            if index != *own {
                first.called.push(Ok(([172, 30, index, host], 1).into()));
                is_sound = false;
            }
        }
        match validate(&with(networks), &ceiling(), None) {
            Ok(desired) => {
                prop_assert!(is_sound);
                let mut found = called(&desired);
                found.sort();
                expected.sort();
                prop_assert_eq!(found, expected);
            }
            Err(_) => prop_assert!(!is_sound),
        }
        prop_assert_eq!(called(&desired(vec![])), Vec::<String>::new());
    }
}

proptest! {
    /// What is not granted does not pass, whatever else is there.
    #[test]
    fn nothing_passes_that_nothing_grants(
        internet in any::<bool>(),
        exit in prop::sample::select(vec!["", "exit0", "exit10"]),
        reach in prop::collection::btree_set((1u8..6, 1u32..4), 0..6),
        to in prop::sample::select(vec!["172.30.1.1", "172.30.2.2", "172.30.3.2", "10.86.0.2", "10.86.0.1", "169.254.67.1", "192.0.2.1", "198.51.100.4"]),
        port in 1u16..4,
    ) {
        let mut first = network(1);
        (first.internet, first.exit) = (internet, exit.to_owned());
        first.reach = reach.iter().map(|(net, port)| service(&format!("172.30.{net}.2"), *port)).collect();
        let granted = first.reach.iter().any(|service| {
            service.address == Ok(to.parse::<IpAddr>().unwrap()) && service.port == u32::from(port)
        });
        let public = to.starts_with("198.51.100.");
        let desired = desired(vec![first, network(2), network(3)]);
        let found = ask(&desired, "svc1", to, Payload::Ports(Protocol::Tcp, 0, port)).unwrap();
        let passes = found.explanation.verdict == Verdict::Passes;
        prop_assert_eq!(passes, granted || public && internet, "{:?}", found);
        if passes && public && !exit.is_empty() {
            prop_assert_eq!(found.target, Target::Exit);
        }
    }
}

/// Bridges without a port at looks, and which are removed.
#[test]
fn a_bridge_is_removed_whose_network_is_gone_for_long() {
    let bridge = |name: &str, index| Bridge {
        name: name.parse().unwrap(),
        index,
    };
    let [left, stopped, refused] =
        [("cellsvc2", 4), ("cellsvc1", 5), ("cellsvc3", 6)].map(|(name, index)| bridge(name, index));
    let anew = bridge("cellsvc2", 7);
    let (both, one) = (desired(vec![network(1), network(2)]), desired(vec![network(1)]));
    let mut unused = Unused::default();
    let mut at = |bare: &[Bridge], desired: &Desired, seconds| {
        let bare = bare.iter().copied().collect();
        unused.due(&bare, desired, Duration::from_secs(seconds))
    };
    let all = [left, stopped, refused];
    assert_eq!(at(&all, &one, 0), []);
    assert_eq!(at(&all, &one, 70), [], "none of them was ever wanted");
    assert_eq!(at(&all, &both, 75), []);
    assert_eq!(at(&all, &both, 150), [], "what is wanted stays");
    assert_eq!(at(&all, &one, 155), []);
    assert_eq!(at(&all, &one, 214), []);
    assert_eq!(at(&all, &one, 215), [left]);
    assert_eq!(at(&all, &one, 220), [left], "as long as it is there");
    // A container came, and went.
    assert_eq!(at(&[stopped], &one, 225), []);
    assert_eq!(at(&[left], &one, 230), []);
    assert_eq!(at(&[anew], &one, 290), [], "another one of its name");
    assert_eq!(at(&[anew], &one, 350), [anew]);
}
