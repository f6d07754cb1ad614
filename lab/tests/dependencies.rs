//! The house's rules of dependency (ARCHITECTURE.md, ADR 0001), read from `cargo metadata`: what decides cannot act, and
//! no daemon links another.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Every member and the members it may link (not counting tests). A new edge needs an ADR.
const ALLOWED: &[(&str, &[&str])] = &[
    ("cell-sandbox", &[]),
    ("cell-proto", &["cell-sandbox"]),
    ("cell-netd-core", &[]),
    ("cell-netd", &["cell-netd-core", "cell-proto", "cell-sandbox"]),
    ("cell-wg-core", &[]),
    ("cell-wg", &["cell-wg-core", "cell-proto", "cell-sandbox"]),
    ("cell-iptables-core", &[]),
    (
        "cell-iptables",
        &["cell-iptables-core", "cell-proto", "cell-sandbox"],
    ),
    ("cell-egress-core", &[]),
    ("cell-egress", &["cell-egress-core", "cell-proto", "cell-sandbox"]),
    ("cell-openvpn-core", &[]),
    (
        "cell-openvpn",
        &["cell-openvpn-core", "cell-proto", "cell-sandbox"],
    ),
    ("cell-manifest", &[]),
    ("cell-broker-core", &["cell-manifest"]),
    (
        "cell-broker",
        &["cell-broker-core", "cell-manifest", "cell-proto", "cell-sandbox"],
    ),
    ("cell-vaultd-core", &[]),
    ("cell-vaultd", &["cell-vaultd-core", "cell-proto", "cell-sandbox"]),
    ("cell-api-core", &["cell-manifest"]),
    (
        "cell-api",
        &["cell-api-core", "cell-manifest", "cell-proto", "cell-sandbox"],
    ),
    ("cell-accounts", &[]),
    ("cellctl", &["cell-proto"]),
    ("cell-launch", &["cell-proto", "cell-sandbox"]),
];

/// What a crate that decides must not reach, however indirectly: runtimes, the kernel, files, sockets, randomness.
const FORBIDDEN_IN_CORES: &[&str] = &[
    "tokio",
    "mio",
    "async-std",
    "smol",
    "nix",
    "rustix",
    "libc",
    "caps",
    "landlock",
    "rtnetlink",
    "netlink-sys",
    "rusqlite",
    "bollard",
    "hyper",
    "axum",
    "tonic",
    "prost",
    "rand",
    "getrandom",
    "tempfile",
    "socket2",
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--locked",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Package id -> (name, ids it links when built, tests and build scripts left out).
fn graph(metadata: &Value) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let names: BTreeMap<&str, &str> = array(metadata, "packages")
        .map(|package| (package["id"].as_str().unwrap(), package["name"].as_str().unwrap()))
        .collect();
    array(&metadata["resolve"], "nodes")
        .map(|node| {
            let id = node["id"].as_str().unwrap();
            let linked = array(node, "deps")
                .filter(|dep| links(dep))
                .map(|dep| dep["pkg"].as_str().unwrap().to_owned());
            (id.to_owned(), (names[id].to_owned(), linked.collect()))
        })
        .collect()
}

/// Whether a dependency is a normal one, not for tests or for building.
fn links(dep: &Value) -> bool {
    array(dep, "dep_kinds").any(|kind| kind["kind"].is_null())
}

fn array<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().unwrap().iter()
}

#[test]
fn members_link_only_what_the_house_allows() {
    let metadata = metadata();
    let graph = graph(&metadata);
    let members: BTreeSet<&str> = array(&metadata, "workspace_members")
        .map(|id| graph[id.as_str().unwrap()].0.as_str())
        .collect();
    for (name, links) in graph.values().filter(|(name, _)| members.contains(name.as_str())) {
        let found: BTreeSet<&str> = links
            .iter()
            .map(|id| graph[id].0.as_str())
            .filter(|linked| members.contains(linked))
            .collect();
        if name == "cell-lab" {
            continue; // the test hosts may use every part
        }
        let (_, allowed) = ALLOWED
            .iter()
            .find(|(member, _)| member == name)
            .unwrap_or_else(|| {
                panic!("{name} is not in the table of this test: give it a place in the house")
            });
        let extra: Vec<_> = found.iter().filter(|linked| !allowed.contains(linked)).collect();
        assert!(
            extra.is_empty(),
            "{name} links {extra:?}, which ARCHITECTURE.md does not allow"
        );
    }
}

/// The names of everything that is built for `package` alone, features and all: in the whole workspace's graph another
/// member may switch on what this one never asks for.
fn tree(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .args(["--package", package])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn what_decides_cannot_act() {
    let metadata = metadata();
    let graph = graph(&metadata);
    let cores: Vec<&str> = graph
        .values()
        .map(|(name, _)| name.as_str())
        .filter(|name| *name == "cell-manifest" || name.starts_with("cell-") && name.ends_with("-core"))
        .collect();
    assert_eq!(
        cores.len(),
        9,
        "netd, wg, iptables, egress, openvpn, broker, vaultd and api each have a core; the manifest is one by itself"
    );
    for name in cores {
        let reached = tree(name);
        assert!(reached.contains(name));
        let bad: Vec<_> = FORBIDDEN_IN_CORES
            .iter()
            .filter(|krate| reached.contains(**krate))
            .collect();
        assert!(bad.is_empty(), "{name} decides, so it must not reach {bad:?}");
    }
}

/// The folders of the crates that decide.
const CORES: [&str; 9] = [
    "manifest",
    "netd/core",
    "wg/core",
    "iptables/core",
    "egress/core",
    "openvpn/core",
    "containerd-shim/core",
    "vaultd/core",
    "api-server/core",
];

/// What std itself offers of files, sockets, clocks, processes, environment and randomness: no crate's name tells of these.
const FORBIDDEN_OF_STD: [&str; 19] = [
    "std::fs::File",
    "std::fs::OpenOptions",
    "std::fs::read",
    "std::fs::read_to_string",
    "std::fs::write",
    "std::fs::read_dir",
    "std::path::Path::exists",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::os::unix::net::UnixStream",
    "std::time::SystemTime::now",
    "std::time::Instant::now",
    "std::env::var",
    "std::env::var_os",
    "std::process::Command",
    "std::thread::spawn",
    "std::io::stdin",
    "std::hash::RandomState",
];

/// `make lint` runs clippy, which reads the `clippy.toml` that lies nearest: each core's own. So it must hold the rules of
/// the whole house too.
#[test]
fn clippy_keeps_files_sockets_and_clocks_out_of_every_core() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let read = |path: &str| std::fs::read_to_string(format!("{root}/{path}")).unwrap();
    let first = read(&format!("{}/clippy.toml", CORES[0]));
    for core in CORES {
        assert_eq!(read(&format!("{core}/clippy.toml")), first, "{core}");
        let sources = read(&format!("{core}/src/lib.rs"));
        assert!(!sources.contains("clippy::disallowed"), "{core} lifts the rules");
    }
    for line in read("clippy.toml").lines() {
        assert!(
            first.contains(line),
            "a rule of the whole house is missing: {line}"
        );
    }
    for path in FORBIDDEN_OF_STD {
        assert!(first.contains(&format!("path = \"{path}\"")), "{path}");
    }
    let cores = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--no-deps"])
        .current_dir(root)
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&cores.stdout).unwrap();
    let named =
        array(&told, "packages").filter(|package| package["name"].as_str().unwrap().ends_with("-core"));
    for package in named {
        let manifest = package["manifest_path"].as_str().unwrap();
        assert!(
            CORES
                .iter()
                .any(|core| manifest.ends_with(&format!("{core}/Cargo.toml"))),
            "{manifest} is not in the list of this test"
        );
    }
}
