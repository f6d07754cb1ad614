//! What each process really has, read back from the kernel, against docs/runtime.md.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;

use cell_launch::house::{Daemon, EDGES, Network};
use support::{Cell, gid, ids, namespace, status};

/// CAP_NET_ADMIN is bit 12 (linux/capability.h).
const NET_ADMIN: &str = "0000000000001000";
const NONE: &str = "0000000000000000";

#[test]
fn every_process_has_what_the_page_says_and_no_more() {
    let mut cell = Cell::new("cell", 0o755);
    cell.start(&[]);
    for daemon in started(&cell) {
        let pid = cell.pid(daemon.name());
        let name = daemon.user();
        let (uid, primary) = ids(name);
        assert_eq!(status(pid, "Uid"), [uid.as_str(); 4].join(" "), "{name}");
        assert_eq!(status(pid, "Gid"), [primary.as_str(); 4].join(" "), "{name}");
        let groups: BTreeSet<u32> = status(pid, "Groups")
            .split(' ')
            .filter_map(|gid| gid.parse().ok())
            .collect();
        let expected = daemon
            .edges()
            .iter()
            .chain(daemon.optional_groups())
            .filter_map(|group| gid(group));
        assert_eq!(groups, expected.collect(), "{name}");
        let capabilities = if daemon == Daemon::Netd { NET_ADMIN } else { NONE };
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status(pid, set), capabilities, "{name} {set}");
        }
        assert_eq!(status(pid, "NoNewPrivs"), "1", "{name}");
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .unwrap();
        assert_eq!(
            core.split_ascii_whitespace().skip(4).take(2).collect::<Vec<_>>(),
            ["0", "0"],
            "{name}"
        );
        assert_eq!(
            fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(),
            Some("/"),
            "{name}"
        );
        assert_eq!(
            fs::read_link(format!("/proc/{pid}/fd/0")).unwrap().to_str(),
            Some("/dev/null"),
            "{name}"
        );
    }
}

#[test]
fn only_netd_egress_openvpn_and_tor_are_in_a_network_and_nobody_in_the_launchers() {
    let mut cell = Cell::new("cell", 0o755);
    cell.start(&[]);
    let launcher = namespace(cell.launcher_pid(), "net");
    let inode = fs::metadata(format!("/run/netns/{}", cell.netns)).unwrap().ino();
    let mut seen = BTreeSet::from([launcher]);
    for daemon in started(&cell) {
        let net = namespace(cell.pid(daemon.name()), "net");
        let is_cells = net.to_str() == Some(&format!("net:[{inode}]"));
        assert_eq!(is_cells, daemon.network() == Network::Cell, "{}", daemon.user());
        // Those share the cell's.
        assert!(
            seen.insert(net) || [Daemon::Tor, Daemon::Openvpn, Daemon::Egress].contains(&daemon),
            "{} shares a network",
            daemon.user()
        );
        for kind in ["mnt", "ipc"] {
            let (own, launchers) = (
                namespace(cell.pid(daemon.name()), kind),
                namespace(cell.launcher_pid(), kind),
            );
            assert_ne!(own, launchers, "{} {kind}", daemon.user());
        }
    }
}

#[test]
fn sockets_belong_to_root_and_to_the_group_of_their_edge() {
    let mut cell = Cell::new("cell", 0o755);
    cell.start(&[]);
    let started = started(&cell);
    for edge in EDGES.iter().filter(|edge| started.contains(&edge.server)) {
        let folder = cell.home.join("run").join(edge.folder);
        for (path, mode) in [(folder.clone(), 0o040_750), (folder.join(edge.file), 0o140_660)] {
            let found = fs::metadata(&path).unwrap();
            let expected = (0, gid(edge.group).unwrap(), mode);
            assert_eq!(
                (found.uid(), found.gid(), found.mode()),
                expected,
                "{}",
                path.display()
            );
        }
    }
    let state = fs::metadata(cell.home.join("lib/api")).unwrap();
    assert_eq!(
        (state.uid().to_string(), state.mode()),
        (ids("cell-api").0, 0o040_700)
    );
    let kek = fs::metadata(cell.home.join("etc/vault.kek")).unwrap();
    assert_eq!((kek.uid(), kek.mode(), kek.len()), (0, 0o100_400, 32));
}

#[test]
fn a_daemon_finds_its_listeners_and_nothing_else() {
    let mut cell = Cell::new("cell", 0o755);
    cell.start(&[]);
    let api = facts(&cell, "api");
    assert_eq!(api["names"], r#"["automation","loopback","vpn","vpn"]"#);
    assert!(
        api["addresses"].contains("127.0.0.1") && api["addresses"].contains("fd43:454c:4c00::1"),
        "{api:?}"
    );
    assert_eq!(api["descriptors"], "[0,1,2,3,4,5,6]");
    assert_eq!(api["links"], r#"["lo"]"#);
    assert_eq!(api["umask"], "63", "0077");
    assert_eq!(api["forwarding"], r#"["No such file or directory",null]"#);
    assert_eq!(
        facts(&cell, "netd")["forwarding"],
        r#"["1","Read-only file system"]"#,
        "seen, not set"
    );
    let vaultd = facts(&cell, "vaultd");
    assert_eq!(vaultd["names"], r#"["api","netd","egress","openvpn","broker"]"#);
    assert_eq!(vaultd["kek_bytes"], "32");
    let processes: Vec<u32> = serde_json::from_str(&vaultd["processes"]).unwrap();
    assert!(processes.contains(&cell.pid("vaultd")), "{processes:?}");
    let hidden = [cell.pid("api"), cell.launcher_pid(), 1];
    assert!(
        !processes.iter().any(|pid| hidden.contains(pid)),
        "it sees others' processes: {processes:?}"
    );
    for name in ["HOME", "PATH", "CELL_HOME"] {
        assert!(
            !api["environment"].contains(&format!("{name:?}:")),
            "{name} leaks into the daemon"
        );
    }
}

/// The top-level members of what the stand-in wrote, as compact JSON.
fn facts(cell: &Cell, daemon: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(cell.home.join("lib").join(daemon).join("facts.json")).unwrap();
    let value: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    value
        .into_iter()
        .map(|(key, value)| (key, value.to_string()))
        .collect()
}

/// Who runs here: cell-wg only where the kernel has no WireGuard.
fn started(cell: &Cell) -> Vec<Daemon> {
    let runs = |daemon: &Daemon| cell.home.join("run/pids").join(daemon.name()).exists();
    let started: Vec<Daemon> = Daemon::ALL.into_iter().filter(runs).collect();
    assert!(started.len() >= 4, "{started:?}");
    started
}
