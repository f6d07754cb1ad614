//! The compose file, the numbers of its image's users and the table of `house` say the same. `make composetest` starts it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cell_launch::house::{Daemon, EDGES, Network};

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines of each service of the compose file.
fn services() -> BTreeMap<String, Vec<String>> {
    let text = read("compose/docker-compose.yml");
    let (_, text) = text.split_once("\nservices:\n").unwrap();
    let mut services: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        match line.strip_prefix("  ") {
            Some(head) if !head.starts_with(' ') && head.ends_with(':') => {
                head.trim_end_matches(':').clone_into(&mut name);
            }
            Some(rest) => services
                .entry(name.clone())
                .or_default()
                .push(rest.trim().to_owned()),
            None => {}
        }
    }
    services
}

/// The value of a key of a service, empty without one.
fn value<'a>(service: &'a [String], key: &str) -> &'a str {
    let found = service
        .iter()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    found.unwrap_or_default()
}

/// What is mounted from the cell's home, below it.
fn mounted(service: &[String]) -> BTreeSet<&str> {
    let source = |line: &'_ String| line.contains("type: bind");
    service
        .iter()
        .filter(|line| source(line))
        .filter_map(|line| line.split("source: \"${CELL_HOME}/").nth(1)?.split('"').next())
        .collect()
}

/// Legacy iptables is for hosts with the package (ADR 0033).
fn contained() -> impl Iterator<Item = Daemon> {
    Daemon::ALL
        .into_iter()
        .filter(|daemon| *daemon != Daemon::Iptables)
}

#[test]
fn containers_have_the_users_capabilities_and_networks_of_the_table() {
    let services = services();
    let names: BTreeSet<&str> = services.keys().map(String::as_str).collect();
    let expected: BTreeSet<&str> = contained().map(Daemon::name).chain(["sockets"]).collect();
    assert_eq!(names, expected);
    for daemon in contained() {
        let service = &services[daemon.name()];
        let name = daemon.name();
        assert_eq!(value(service, "command"), format!("[container, serve, {name}]"));
        let network = match daemon.network() {
            Network::Cell => "host",
            Network::Empty => "none",
        };
        assert_eq!(value(service, "network_mode"), network, "{name}");
        // Who has a capability starts as root, with what it takes to become its user.
        let (user, capabilities) = match daemon {
            Daemon::Netd => ("root", "[NET_ADMIN, SETUID, SETGID, SETPCAP]"),
            _ => (daemon.user(), ""),
        };
        assert_eq!(value(service, "user"), user, "{name}");
        assert_eq!(value(service, "cap_add"), capabilities, "{name}");
        assert!(!value(service, "mem_limit").is_empty(), "{name}");
        assert_eq!(
            !value(service, "device_cgroup_rules").is_empty(),
            daemon.uses_tuns(true, true),
            "{name}"
        );
    }
}

#[test]
fn each_container_sees_its_own_folders_and_those_of_its_edges() {
    let services = services();
    for daemon in contained() {
        let name = daemon.name();
        let mut expected = BTreeSet::from([
            format!("run/handover/{name}"),
            format!("etc/{}", daemon.policy_name()),
        ]);
        expected.extend(daemon.has_state().then(|| format!("lib/{name}")));
        let edges = EDGES.iter().filter(|edge| daemon.edges().contains(&edge.group));
        // No container serves legacy iptables.
        let edges = edges.filter(|edge| edge.server != Daemon::Iptables);
        expected.extend(edges.map(|edge| format!("run/{}", edge.folder)));
        expected.extend(daemon.uses_tuns(true, true).then(|| format!("dev/{name}-tun")));
        let more: &[&str] = match daemon {
            Daemon::Vaultd => &["run/credentials/vaultd"],
            Daemon::Broker => &["lib/images", "lib/core", "run/broker-secrets"],
            Daemon::Api => &["lib/core/dns", "lib/core/caddy"],
            _ => &[],
        };
        expected.extend(more.iter().map(ToString::to_string));
        let found: BTreeSet<String> = mounted(&services[name]).into_iter().map(str::to_owned).collect();
        assert_eq!(found, expected, "{name}");
    }
    let mut expected: BTreeSet<String> = EDGES.iter().map(|edge| format!("run/{}", edge.folder)).collect();
    expected.insert("run/handover".to_owned());
    let found: BTreeSet<String> = mounted(&services["sockets"])
        .into_iter()
        .map(str::to_owned)
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn only_the_broker_has_dockers_socket() {
    let has = |service: &&Vec<String>| service.iter().any(|line| line.contains("docker.sock"));
    let services = services();
    let who: Vec<_> = services.iter().filter(|(_, service)| has(service)).collect();
    assert_eq!(who.len(), 1);
    assert_eq!(who[0].0, "broker");
}

#[test]
fn every_user_and_group_has_a_number_of_its_own() {
    let text = read("compose/images/cell/ids");
    let mut ids: BTreeMap<&str, u32> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, number) = line.split_once(' ').unwrap();
        assert!(ids.insert(name, number.parse().unwrap()).is_none(), "{name}");
    }
    let numbers: BTreeSet<u32> = ids.values().copied().collect();
    assert_eq!(numbers.len(), ids.len(), "no number twice");
    let conf = read("systemd/sysusers.d/cell.conf");
    let named: BTreeSet<&str> = conf
        .lines()
        .filter(|line| line.starts_with(['u', 'g']))
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!(ids.keys().copied().collect::<BTreeSet<_>>(), named);
}
