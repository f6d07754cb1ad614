//! What the internet reaches of the machine: what is refused, what it means in both renderers' words, and how it is told.
#![allow(clippy::disallowed_methods, reason = "golden files lie beside this test")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;

use cell_netd_core::Ceiling;
use cell_netd_core::ceiling::{InvalidServices, PublicHttp};
use cell_netd_core::desired::Desired;
use cell_netd_core::model::Family;
use cell_netd_core::observed::Observed;
use cell_netd_core::plan::plan;
use cell_netd_core::policy::{Ruleset, compile, iptables, render, shut};
use cell_netd_core::spec::NetworkSpec;
use cell_netd_core::validate::{Rejection, validate};
use support::{ceiling, exit, leaving, network, peer, spec, with_access};

/// A ceiling that lets the internet to containers of network 1.
fn open() -> Ceiling {
    let to = PublicHttp {
        within: "172.30.1.0/24".parse().unwrap(),
        port: 8480,
    };
    let mut ceiling = ceiling();
    ceiling.services = ceiling
        .services
        .map(|services| services.with_public_http(to).unwrap());
    ceiling
}

fn leading(to: &str) -> NetworkSpec {
    let mut spec = spec(vec![with_access(peer(1), true, false, &[])]);
    spec.exits = vec![exit(0)];
    spec.service_networks = vec![leaving(network(1), "exit0"), network(2)];
    spec.public_http = Some(Ok(to.parse().unwrap()));
    spec
}

fn desired(spec: &NetworkSpec) -> Desired {
    validate(spec, &open(), None).unwrap()
}

fn compiled(spec: &NetworkSpec) -> Ruleset {
    compile(&desired(spec), &open(), &Default::default()).unwrap()
}

fn refused(spec: &NetworkSpec, ceiling: &Ceiling) -> (bool, String) {
    let rejection = validate(spec, ceiling, None).unwrap_err();
    let [fault] = rejection.violations() else {
        panic!("{rejection:?}");
    };
    assert_eq!(fault.field, "spec.public_http");
    let above = matches!(rejection, Rejection::AboveCeiling(_));
    (above, fault.description.clone())
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{name}");
}

#[test]
fn a_ceiling_that_does_not_speak_of_it_refuses_it_and_names_the_fix() {
    let (above, told) = refused(&leading("172.30.1.2:8480"), &ceiling());
    assert!(above);
    assert!(
        told.contains("public_http") && told.contains("netd.toml"),
        "{told}"
    );
    desired(&leading("172.30.1.2:8480"));
}

#[test]
fn it_leads_to_a_container_where_the_ceiling_has_it_and_nowhere_else() {
    for to in [
        "172.30.1.2:8443",
        "172.30.2.2:8480",
        "192.0.2.9:8480",
        "10.86.0.2:8480",
    ] {
        let (above, told) = refused(&leading(to), &open());
        assert!(above && told.contains("172.30.1.0/24"), "{to}: {told}");
    }
    // The bridge itself, the ends of its network, and where no network is.
    for to in [
        "172.30.1.1:8480",
        "172.30.1.0:8480",
        "172.30.1.15:8480",
        "172.30.1.77:8480",
    ] {
        let (above, told) = refused(&leading(to), &open());
        assert!(!above && told.contains("no container"), "{to}: {told}");
    }
    let (above, told) = refused(&leading("[fd30::2]:8480"), &open());
    assert!(!above && told.contains("IPv4"), "{told}");
}

#[test]
fn a_network_that_is_refused_is_named_by_its_place() {
    let mut wanted = leading("172.30.1.2:8480");
    wanted.service_networks[0].bridge = "eth0".to_owned();
    let rejection = validate(&wanted, &open(), None).unwrap_err();
    let told: Vec<_> = rejection
        .violations()
        .iter()
        .map(|fault| format!("{fault:?}"))
        .collect();
    assert!(
        told.iter()
            .any(|fault| fault.contains("spec.public_http") && fault.contains("service_networks[0]")),
        "{told:?}"
    );
}

#[test]
fn a_ceiling_opens_an_unprivileged_port_of_its_own_networks_alone() {
    for (within, port) in [
        ("172.30.1.0/24", 80),
        ("192.168.0.0/24", 8480),
        ("172.30.1.7/24", 8480),
    ] {
        let to = PublicHttp {
            within: within.parse().unwrap(),
            port,
        };
        let services = ceiling().services.unwrap();
        assert_eq!(
            services.with_public_http(to),
            Err(InvalidServices::PublicHttp),
            "{within} {port}"
        );
    }
}

#[test]
fn both_renderers_words() {
    let ruleset = compiled(&leading("172.30.1.2:8480"));
    golden("public_http.nft", &render(&ruleset));
    // Those of the rules that have to do with it.
    let rules = iptables::rules(&ruleset, Family::V4).unwrap();
    let mut lines = String::new();
    for (table, chains) in &rules.chains {
        for (chain, rules) in chains {
            for rule in rules
                .iter()
                .filter(|rule| rule.contains("8480") || rule.contains("LOCAL"))
            {
                lines += &format!("{} {chain} {rule}\n", table.name());
            }
        }
    }
    golden("public_http.iptables", &lines);
    let v6 = format!("{:?}", iptables::rules(&ruleset, Family::V6).unwrap());
    assert!(!v6.contains("8480") && !v6.contains("LOCAL"));
}

#[test]
fn without_it_nothing_is_led_in_whatever_the_ceiling_has() {
    let mut closed = leading("172.30.1.2:8480");
    closed.public_http = None;
    let closed = render(&compiled(&closed));
    let nothing = render(&shut(&open(), &Default::default()).unwrap());
    for text in [closed, nothing] {
        assert!(!text.contains("type local") && !text.contains("8480"), "{text}");
        // What the container still says in a flow that was open is no flow of its own.
        let closed = "ct direction reply ct status dnat counter name \"from_service_default\" drop";
        assert!(text.contains(closed), "{text}");
    }
}

#[test]
fn a_plan_says_that_the_internet_reaches_it_and_that_it_does_not_any_more() {
    let open = desired(&leading("172.30.1.2:8480"));
    let mut without = leading("172.30.1.2:8480");
    without.public_http = None;
    let closed = desired(&without);
    let told = |to: &Desired, from: Option<&Desired>| -> Vec<String> {
        let ceiling = self::open();
        let ruleset = compile(to, &ceiling, &Default::default()).unwrap();
        let plan = plan(to, Some(&ruleset), &ceiling, from, &Observed::default());
        let changes = plan.changes.iter().map(ToString::to_string);
        changes.filter(|change| change.contains("TCP 80")).collect()
    };
    let opens = ["add the internet: reaches 172.30.1.2:8480 by TCP 80 of this machine"];
    assert_eq!(told(&open, Some(&closed)), opens);
    assert_eq!(told(&open, None), opens);
    assert_eq!(
        told(&closed, Some(&open)),
        ["remove the internet: reaches nothing by TCP 80 of this machine any more"]
    );
    assert_eq!(told(&closed, Some(&closed)), Vec::<String>::new());
    let moved = desired(&leading("172.30.1.3:8480"));
    assert_eq!(
        told(&moved, Some(&open)),
        ["update the internet: reaches 172.30.1.3:8480 by TCP 80 of this machine"]
    );
}
