//! The compiled policy as text, held to golden files. `UPDATE_GOLDEN=1 cargo test` writes them anew, for review.
#![allow(clippy::disallowed_methods, reason = "golden files lie beside this test")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;

use cell_netd_core::model::Protocol;
use cell_netd_core::plan::element_delta;
use cell_netd_core::policy::{compile, render, render_delta};
use cell_netd_core::spec::{CellPortSpec, DeltaSpec, NetworkSpec};
use cell_netd_core::validate::{validate, validate_delta};
use support::{
    CALLER, RELAY_USER, ceiling, entry, exit, leaving, network, peer, redirect, service, spec, through,
    user_tunnel, with_access,
};

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{name}");
}

fn text(spec: &NetworkSpec) -> String {
    let desired = validate(spec, &ceiling(), None).unwrap();
    let on_link = ["192.0.2.1/24", "2001:db8:77::1/64"].map(|net| net.parse().unwrap());
    render(&compile(&desired, &ceiling(), &on_link.into()).unwrap())
}

#[test]
fn without_an_interface_bridges_of_services_are_closed_and_there_is_nothing_else_to_hold() {
    let nothing = validate(&NetworkSpec::default(), &ceiling(), None).unwrap();
    let shut = compile(&nothing, &ceiling(), &Default::default()).unwrap();
    let text = render(&shut);
    assert!(text.contains(
        "iifname \"cellsvc*\" ip saddr . iifname != @svc_hosts4 counter name \"service_source\" drop"
    ));
    let granting = [
        "svc_hosts4",
        "svc_addresses4",
        "peers4",
        "internet4",
        "svc4",
        "entries4",
        "called4",
    ];
    let fixed = shut.elements.keys().map(|set| set.name());
    assert_eq!(fixed.filter(|name| granting.contains(name)).count(), 0);
    let mut without = ceiling();
    without.services = None;
    assert_eq!(compile(&nothing, &without, &Default::default()), None);
}

#[test]
fn the_relay_opens_flows_to_containers_where_it_is_listed_and_in_no_flow_of_an_exit() {
    let relay = |callers: &[u32]| -> Vec<String> {
        let mut ceiling = ceiling();
        let callers = callers.iter().copied().collect();
        ceiling.services = ceiling.services.map(|services| services.with_callers(callers));
        let desired = validate(&spec(vec![]), &ceiling, None).unwrap();
        let text = render(&compile(&desired, &ceiling, &Default::default()).unwrap());
        let caller = text.find("chain c_caller {").unwrap();
        let chain = text.find("chain c_relay {").unwrap();
        assert!(caller < chain, "each chain stands before those that lead to it");
        let rules = text[chain..].lines().take_while(|line| line.trim() != "}");
        rules.map(str::to_owned).collect()
    };
    let leads = |line: &String| line.contains("goto c_caller");
    assert!(!relay(&[CALLER]).iter().any(leads));
    let rules = relay(&[CALLER, RELAY_USER]);
    let calls = rules.iter().position(leads).unwrap();
    assert!(rules[calls].contains("oifname \"cellsvc*\""), "{}", rules[calls]);
    let of_flows = rules
        .iter()
        .position(|line| line.contains("ct mark") && line.contains("egress_stranger"))
        .unwrap();
    assert!(of_flows < calls);
}

#[test]
fn no_peers() {
    golden("no_peers.nft", &text(&spec(vec![])));
}

#[test]
fn every_kind_of_access() {
    let peers = vec![
        peer(1),
        with_access(peer(2), true, false, &[]),
        with_access(peer(3), false, true, &[]),
        with_access(peer(4), false, false, &[("10.0.5.7", 443), ("fd00::7", 8443)]),
    ];
    golden("every_kind_of_access.nft", &text(&spec(peers)));
}

#[test]
fn networks_of_services() {
    let mut spec = spec(vec![with_access(peer(1), true, false, &[])]);
    spec.exits = vec![exit(0), redirect(10)];
    spec.cell_ports = vec![CellPortSpec {
        protocol: Ok(Protocol::Udp),
        port: 53,
        target_port: 9053,
        bound_target_port: 9054,
    }];
    spec.service_networks = vec![
        network(1),
        leaving(network(2), "exit0"),
        leaving(network(3), "exit10"),
    ];
    spec.service_networks[0].reach = vec![service("172.30.2.2", 443)];
    spec.service_networks[1].called = vec![Ok("172.30.2.2:8081".parse().unwrap())];
    golden("networks_of_services.nft", &text(&spec));
}

#[test]
fn services_at_addresses_in_the_vpn() {
    let granted = [("10.86.0.200", 443)];
    let mut spec = spec(vec![
        with_access(peer(1), true, false, &granted),
        with_access(peer(2), false, true, &[("172.30.1.2", 8443)]),
    ]);
    spec.service_networks = vec![network(1), network(2)];
    spec.entries = vec![
        entry("10.86.0.200:443", "172.30.1.2:8443", Protocol::Tcp, false),
        entry("10.86.0.201:443", "172.30.1.2:8443", Protocol::Tcp, false),
        entry("10.86.0.1:123", "172.30.2.3:123", Protocol::Udp, true),
    ];
    golden("entries.nft", &text(&spec));
}

#[test]
fn without_bridges_in_the_ceiling_there_are_no_rules_for_them() {
    let mut without = ceiling();
    without.services = None;
    let desired = validate(&spec(vec![peer(1)]), &without, None).unwrap();
    let text = render(&compile(&desired, &without, &Default::default()).unwrap());
    assert!(
        !text.contains("cellsvc") && !text.contains("c_from_service"),
        "{text}"
    );
}

#[test]
fn ipv4_only() {
    let mut spec = spec(vec![with_access(peer(1), true, true, &[("fd00::7", 443)])]);
    spec.wireguard.as_mut().unwrap().addresses.pop();
    spec.peers[0].addresses.pop();
    golden("ipv4_only.nft", &text(&spec));
}

#[test]
fn exits() {
    let mut spec = spec(vec![
        with_access(peer(1), true, false, &[]),
        through(
            with_access(peer(2), true, false, &[("203.0.113.9", 443)]),
            "exit0",
        ),
        through(with_access(peer(3), true, true, &[]), "exit1"),
    ]);
    spec.exits = vec![exit(0), exit(1)];
    golden("exits.nft", &text(&spec));
}

#[test]
fn redirects() {
    let mut spec = spec(vec![
        with_access(peer(1), true, false, &[]),
        through(
            with_access(peer(2), true, false, &[("203.0.113.9", 443)]),
            "exit10",
        ),
        through(with_access(peer(3), true, true, &[]), "exit0"),
    ]);
    spec.exits = vec![exit(0), redirect(10), redirect(11)];
    let resolvers = ["9.9.9.9:53", "127.0.0.53:53", "[2620:fe::fe]:53"];
    spec.dns_upstreams = resolvers.map(|at| Ok(at.parse().unwrap())).into();
    golden("redirects.nft", &text(&spec));
}

#[test]
fn tunnels() {
    let mut spec = spec(vec![
        through(with_access(peer(1), true, false, &[]), "exit5"),
        through(with_access(peer(2), true, false, &[]), "exit0"),
    ]);
    spec.exits = vec![exit(0), user_tunnel(5)];
    golden("tunnels.nft", &text(&spec));
}

#[test]
fn another_exit_is_some_elements() {
    let mut spec = spec(vec![through(with_access(peer(1), true, false, &[]), "exit0")]);
    spec.exits = vec![exit(0), exit(1)];
    let base = validate(&spec, &ceiling(), None).unwrap();
    let delta = DeltaSpec {
        upserted_peers: vec![through(with_access(peer(1), true, false, &[]), "exit1")],
        removed_peers: vec![],
    };
    let delta = validate_delta(&delta, &base, &ceiling()).unwrap();
    golden(
        "another_exit.nft",
        &render_delta(&ceiling().table, &element_delta(&delta)),
    );
}

#[test]
fn rules_do_not_grow_with_exits() {
    let chains = |spec: &NetworkSpec| {
        let desired = validate(spec, &ceiling(), None).unwrap();
        compile(&desired, &ceiling(), &Default::default()).unwrap().chains
    };
    let mut many = spec(vec![through(peer(1), "exit3")]);
    many.exits = (0..10).map(exit).chain((10..20).map(redirect)).collect();
    many.peers.push(through(peer(2), "exit12"));
    many.dns_upstreams.push(Ok("9.9.9.9:53".parse().unwrap()));
    many.relay_servers.push(Ok("192.0.2.80:443".parse().unwrap()));
    assert_eq!(chains(&spec(vec![])), chains(&many));
}

#[test]
fn one_change_is_some_elements() {
    let base = validate(
        &spec(vec![
            with_access(peer(1), true, false, &[("10.0.5.7", 443)]),
            peer(2),
        ]),
        &ceiling(),
        None,
    );
    let delta = DeltaSpec {
        upserted_peers: vec![with_access(peer(1), false, true, &[])],
        removed_peers: vec!["p2".into()],
    };
    let delta = validate_delta(&delta, &base.unwrap(), &ceiling()).unwrap();
    golden(
        "one_change.nft",
        &render_delta(&ceiling().table, &element_delta(&delta)),
    );
}

#[test]
fn rules_do_not_grow_with_peers() {
    let few = compile(
        &validate(&spec(vec![peer(1)]), &ceiling(), None).unwrap(),
        &ceiling(),
        &Default::default(),
    )
    .unwrap();
    let all = (1..=250)
        .map(|index| with_access(peer(index), true, true, &[("10.0.5.7", 443)]))
        .collect();
    let many = compile(
        &validate(&spec(all), &ceiling(), None).unwrap(),
        &ceiling(),
        &Default::default(),
    )
    .unwrap();
    assert_eq!(few.chains, many.chains);
}

#[test]
fn a_bound_peers_packet_is_explained_by_its_exit() {
    use cell_netd_core::explain::{Question, Sender, Target, fate};
    use cell_netd_core::model::Protocol;
    use cell_netd_core::policy::Counter;
    use cell_netd_core::policy::explain::{Payload, Verdict};

    let mut spec = spec(vec![
        through(with_access(peer(1), true, false, &[("10.0.5.7", 443)]), "exit0"),
        with_access(peer(2), true, false, &[]),
        through(with_access(peer(3), false, false, &[]), "exit0"),
    ]);
    spec.exits = vec![exit(0)];
    let spec_exit = Some((spec.exits[0].id.clone(), spec.exits[0].mark, Some(1000)));
    let desired = validate(&spec, &ceiling(), None).unwrap();
    let ask = |name: &str, to: &str| {
        let question = Question {
            sender: Sender::Peer(name.parse().unwrap()),
            destination: to.parse().unwrap(),
            payload: Payload::Ports(Protocol::Tcp, 0, 443),
        };
        let fate = fate(&desired, &ceiling(), &Default::default(), &question).unwrap();
        let exit = fate.exit.map(|exit| {
            let table = exit.table.map(|table| table.number());
            (exit.carrier.id().to_string(), exit.carrier.mark().value(), table)
        });
        let by = spec_exit.clone().filter(|_| fate.target == Target::Exit);
        assert_eq!(exit, by, "{name} to {to}");
        (fate.target, fate.explanation.verdict)
    };
    for far in ["203.0.113.9", "2600::9"] {
        assert_eq!(ask("p1", far), (Target::Exit, Verdict::Passes), "{far}");
        assert_eq!(ask("p2", far), (Target::Out, Verdict::Passes), "{far}");
        let denied = (Target::Exit, Verdict::Dropped(Counter::FromPeerDefault));
        assert_eq!(ask("p3", far), denied, "{far}: an exit is no right");
    }
    // What is granted by name stays at home, exit or not.
    assert_eq!(ask("p1", "10.0.5.7"), (Target::Out, Verdict::Passes));
    assert_eq!(ask("p1", "10.86.0.1"), (Target::Cell, Verdict::Passes));
}

#[test]
fn a_redirected_peers_packet_is_explained_by_the_relay() {
    use cell_netd_core::explain::{Question, Sender, Target, fate};
    use cell_netd_core::model::Protocol;
    use cell_netd_core::policy::Counter;
    use cell_netd_core::policy::explain::{Payload, Verdict};

    let mut spec = spec(vec![
        through(with_access(peer(1), true, false, &[("10.0.5.7", 443)]), "exit10"),
        through(with_access(peer(2), false, false, &[]), "exit10"),
    ]);
    spec.exits = vec![redirect(10)];
    let desired = validate(&spec, &ceiling(), None).unwrap();
    let ask = |name: &str, to: &str, payload| {
        let question = Question {
            sender: Sender::Peer(name.parse().unwrap()),
            destination: to.parse().unwrap(),
            payload,
        };
        fate(&desired, &ceiling(), &Default::default(), &question).unwrap()
    };
    let port = |protocol| Payload::Ports(protocol, 0, 443);
    for (far, hidden) in [("203.0.113.9", "169.254.67.1"), ("2600::9", "fd43:454c:4c00::1")] {
        let fate = ask("p1", far, port(Protocol::Tcp));
        assert_eq!(
            (fate.target, fate.explanation.verdict),
            (Target::Exit, Verdict::Passes)
        );
        assert_eq!(fate.explanation.translated, Some((hidden.parse().unwrap(), 9110)));
        let by = fate.exit.clone().unwrap();
        assert_eq!(
            (by.carrier.id().to_string(), by.table),
            (spec.exits[0].id.clone(), None)
        );
        assert_eq!(by.carrier.mark().value(), spec.exits[0].mark);
        assert!(fate.reason().contains("exit"), "{}", fate.reason());
        for payload in [port(Protocol::Udp), Payload::EchoRequest, Payload::Other(132)] {
            let fate = ask("p1", far, payload);
            let refused = Verdict::Refused(Counter::ExitRefused);
            assert_eq!((fate.target, fate.explanation.verdict), (Target::Exit, refused));
            assert!(fate.reason().contains("TCP alone"), "{}", fate.reason());
        }
        // An exit is no right.
        for payload in [port(Protocol::Tcp), port(Protocol::Udp)] {
            let fate = ask("p2", far, payload);
            assert_eq!(
                fate.explanation.verdict,
                Verdict::Dropped(Counter::FromPeerDefault)
            );
            assert_eq!(fate.explanation.translated, None);
        }
    }
    let granted = ask("p1", "10.0.5.7", port(Protocol::Tcp));
    assert_eq!(
        (granted.target, granted.explanation.verdict),
        (Target::Out, Verdict::Passes)
    );
    let cell = ask("p1", "10.86.0.1", port(Protocol::Tcp));
    assert_eq!(
        (cell.target, cell.explanation.verdict),
        (Target::Cell, Verdict::Passes)
    );
}

#[test]
fn a_bound_peers_question_is_explained_by_the_relay() {
    use cell_netd_core::explain::{Question, Sender, Target, fate};
    use cell_netd_core::model::Protocol;
    use cell_netd_core::policy::Counter;
    use cell_netd_core::policy::explain::{Payload, Verdict};
    use cell_netd_core::spec::CellPortSpec;

    let mut ceiling = ceiling();
    for port in ["udp/9053", "udp/9054"] {
        ceiling.service_targets.insert(port.parse().unwrap());
    }
    let mut spec = spec(vec![
        through(with_access(peer(1), true, false, &[]), "exit0"),
        with_access(peer(2), true, false, &[]),
        through(with_access(peer(3), false, false, &[]), "exit0"),
    ]);
    spec.exits = vec![exit(0)];
    spec.cell_ports = vec![CellPortSpec {
        protocol: Ok(Protocol::Udp),
        port: 53,
        target_port: 9053,
        bound_target_port: 9054,
    }];
    let desired = validate(&spec, &ceiling, None).unwrap();
    let ask = |name: &str, to: &str, protocol, port| {
        let question = Question {
            sender: Sender::Peer(name.parse().unwrap()),
            destination: to.parse().unwrap(),
            payload: Payload::Ports(protocol, 0, port),
        };
        let fate = fate(&desired, &ceiling, &Default::default(), &question).unwrap();
        (fate.target, fate.explanation.verdict)
    };
    for far in ["203.0.113.9", "2600::9"] {
        let passes = |target| (target, Verdict::Passes);
        assert_eq!(ask("p1", far, Protocol::Udp, 53), passes(Target::Cell), "{far}");
        assert_eq!(
            ask("p1", far, Protocol::Tcp, 53),
            passes(Target::Exit),
            "{far}: not asked for"
        );
        assert_eq!(ask("p1", far, Protocol::Udp, 853), passes(Target::Exit), "{far}");
        assert_eq!(ask("p2", far, Protocol::Udp, 53), passes(Target::Out), "{far}");
        let denied = (Target::Exit, Verdict::Dropped(Counter::FromPeerDefault));
        assert_eq!(
            ask("p3", far, Protocol::Udp, 53),
            denied,
            "{far}: an exit is no right"
        );
    }
    for name in ["p1", "p2", "p3"] {
        assert_eq!(
            ask(name, "10.86.0.1", Protocol::Udp, 53),
            (Target::Cell, Verdict::Passes)
        );
    }
}
