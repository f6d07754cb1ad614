//! The units in `systemd/` and the table of `house` say the same.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cell_launch::house::{Daemon, EDGES, HIDDEN, Kind, Network};

type Unit = BTreeMap<String, Vec<String>>;

/// All `Key=value` lines of a unit, by key.
fn unit(name: &str) -> Unit {
    let text = read(name);
    let mut unit = Unit::new();
    for line in text.lines().filter(|line| !line.starts_with(['#', '['])) {
        if let Some((key, value)) = line.split_once('=') {
            unit.entry(key.to_owned()).or_default().push(value.to_owned());
        }
    }
    unit
}

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../systemd")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn one<'a>(unit: &'a Unit, key: &str) -> &'a str {
    let values = unit.get(key).map(Vec::as_slice).unwrap_or_default();
    assert_eq!(values.len(), 1, "{key}: {values:?}");
    &values[0]
}

/// The launcher gives the path of a policy; our own programs know it.
fn exec_start(daemon: Daemon) -> String {
    let program = daemon.program(Path::new("/usr/lib/cell")).display().to_string();
    match daemon {
        Daemon::Tor => format!("{program} {} /etc/cell/torrc", daemon.arguments().join(" ")),
        Daemon::Vaultd
        | Daemon::Wg
        | Daemon::Netd
        | Daemon::Openvpn
        | Daemon::Iptables
        | Daemon::Egress
        | Daemon::Broker
        | Daemon::Api => program,
    }
}

#[test]
fn services_have_the_users_capabilities_and_networks_of_the_table() {
    for daemon in Daemon::ALL {
        let service = unit(&format!("{}.service", daemon.user()));
        assert_eq!(one(&service, "User"), daemon.user());
        assert_eq!(one(&service, "ExecStart"), exec_start(daemon));
        assert_eq!(one(&service, "LimitNOFILE"), daemon.most_files().to_string());
        let capabilities: Vec<String> = daemon.capabilities().iter().map(ToString::to_string).collect();
        assert_eq!(
            one(&service, "CapabilityBoundingSet"),
            capabilities.join(" "),
            "{}",
            daemon.user()
        );
        let ambient = service
            .get("AmbientCapabilities")
            .map(|values| values.join(" "))
            .unwrap_or_default();
        assert_eq!(ambient, capabilities.join(" "), "{}", daemon.user());
        assert_eq!(
            service.contains_key("PrivateNetwork"),
            daemon.network() == Network::Empty,
            "{}",
            daemon.user()
        );
        assert_eq!(
            service.contains_key("StateDirectory"),
            daemon.has_state(),
            "{}",
            daemon.user()
        );
    }
}

#[test]
fn what_the_launcher_hides_the_units_hide_too() {
    for daemon in Daemon::ALL {
        let service = unit(&format!("{}.service", daemon.user()));
        let hidden: Vec<_> = service
            .get("InaccessiblePaths")
            .into_iter()
            .flatten()
            .flat_map(|line| line.split(' '))
            .collect();
        for folder in cell_launch::view::INACCESSIBLE {
            assert!(
                hidden.contains(&&*format!("-{folder}")),
                "{}: {hidden:?}",
                daemon.user()
            );
        }
    }
}

#[test]
fn every_edge_has_its_socket_unit() {
    let mut found = BTreeSet::new();
    for name in [
        "netd",
        "netd-mark",
        "egress",
        "broker",
        "vaultd",
        "vaultd-netd",
        "vaultd-egress",
        "vaultd-openvpn",
        "vaultd-broker",
        "openvpn",
        "openvpn-management",
        "wg",
        "wg-device",
        "iptables",
        "api",
    ] {
        let socket = unit(&format!("cell-{name}.socket"));
        let path = ["ListenStream", "ListenSequentialPacket"]
            .into_iter()
            .find_map(|key| socket.get(key))
            .unwrap();
        let edge = EDGES
            .iter()
            .find(|edge| path == &[format!("/run/cell/{}/{}", edge.folder, edge.file)])
            .unwrap();
        assert_eq!(
            socket.contains_key("ListenSequentialPacket"),
            edge.kind == Kind::SeqPacket,
            "{name}"
        );
        assert_eq!(one(&socket, "FileDescriptorName"), edge.listener, "{name}");
        assert_eq!(one(&socket, "SocketGroup"), edge.group, "{name}");
        assert_eq!(
            (one(&socket, "SocketUser"), one(&socket, "SocketMode")),
            ("root", "0660"),
            "{name}"
        );
        let service = format!("{}.service", edge.server.user());
        assert_eq!(one(&socket, "Service"), service, "{name}");
        assert!(
            one(&unit(&service), "Sockets").contains(&format!("cell-{name}.socket")),
            "{name}"
        );
        found.insert((edge.folder, edge.file));
    }
    assert_eq!(found.len(), EDGES.len());
}

#[test]
fn https_for_peers_is_bound_to_the_hidden_addresses() {
    let socket = unit("cell-api-vpn.socket");
    assert_eq!(socket["ListenStream"], HIDDEN.map(|address| address.to_string()));
    assert_eq!(
        (one(&socket, "FreeBind"), one(&socket, "FileDescriptorName")),
        ("yes", "vpn")
    );
}

#[test]
fn the_socket_that_owns_the_policy_is_held_for_netd() {
    let socket = unit("cell-netd-nft.socket");
    assert_eq!(
        (one(&socket, "ListenNetlink"), one(&socket, "FileDescriptorName")),
        ("netfilter", "nft")
    );
    assert_eq!(one(&socket, "Service"), "cell-netd.service");
    assert!(one(&unit("cell-netd.service"), "Sockets").contains("cell-netd-nft.socket"));
    assert!(
        unit("cell.target")["Wants"]
            .iter()
            .any(|line| line.contains("cell-netd-nft.socket"))
    );
}

#[test]
fn sysusers_and_tmpfiles_have_the_groups_and_folders_of_the_table() {
    let lines = |text: String| -> BTreeSet<String> {
        let words = |line: &str| {
            line.split_ascii_whitespace()
                .take(5)
                .collect::<Vec<_>>()
                .join(" ")
        };
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(words)
            .collect()
    };
    let (users, folders) = (
        lines(read("sysusers.d/cell.conf")),
        lines(read("tmpfiles.d/cell.conf")),
    );
    for daemon in Daemon::ALL {
        assert!(
            users
                .iter()
                .any(|line| line.starts_with(&format!("u {} -", daemon.user()))),
            "{}",
            daemon.user()
        );
        let members: Vec<_> = users
            .iter()
            .filter(|line| line.starts_with(&format!("m {} ", daemon.user())))
            .collect();
        assert_eq!(members.len(), daemon.edges().len(), "{members:?}");
        for group in daemon.edges() {
            assert!(users.contains(&format!("m {} {group}", daemon.user())), "{group}");
        }
    }
    for edge in EDGES {
        assert!(users.contains(&format!("g {} -", edge.group)), "{}", edge.group);
        let folder = format!("d /run/cell/{} 0750 root {}", edge.folder, edge.group);
        assert!(folders.contains(&folder), "{folder}");
    }
}
