//! The red team against a stage: folders, sockets and processes as `docs/runtime.md` has them, without daemons. So every
//! process-level line is seen to be open to root and closed to a sandboxed `cell-api` without starting a cell.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use nix::unistd::{Group, User};

/// Everything that a running cell has on disk and in the process table.
struct Stage {
    home: tempfile::TempDir,
    processes: Vec<Child>,
    _listeners: Vec<UnixListener>,
}

impl Stage {
    fn set_up() -> Self {
        let sysusers = Command::new("systemd-sysusers")
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../systemd/sysusers.d/cell.conf"
            ))
            .status()
            .unwrap();
        assert!(sysusers.success());
        let home = tempfile::tempdir().unwrap();
        mode(home.path(), 0o755);
        let stage = |path: &str| home.path().join(path);
        for folder in ["etc", "run/pids"] {
            fs::create_dir_all(stage(folder)).unwrap();
        }
        fs::write(stage("etc/api.toml"), "").unwrap();
        fs::write(stage("etc/vault.kek"), [7; 32]).unwrap();
        mode(&stage("etc/vault.kek"), 0o400);
        for name in ["api", "netd", "broker", "vaultd"] {
            let state = stage("lib").join(name);
            fs::create_dir_all(&state).unwrap();
            fs::write(state.join("state"), name).unwrap();
            for path in [state.join("state"), state.clone()] {
                chown(path, Some(user(name)), None).unwrap();
            }
            mode(&state, 0o700);
        }
        let vault = stage("lib/vaultd/vault");
        fs::create_dir_all(&vault).unwrap();
        for file in ["access.log", "ca-root.1.sealed"] {
            fs::write(vault.join(file), "").unwrap();
        }
        fs::create_dir_all(stage("run/credentials/vaultd")).unwrap();
        chown(stage("run/credentials/vaultd"), Some(user("vaultd")), None).unwrap();
        mode(&stage("run/credentials/vaultd"), 0o500);
        let listening = |(path, _): &(&str, &str)| !ABSENT.contains(path);
        // The sockets of absent daemons stay behind: connecting is refused at once.
        let listeners = EDGES
            .into_iter()
            .map(|entry| (listening(&entry), edge(&stage("run").join(entry.0), entry.1)));
        let listeners = listeners
            .filter_map(|(kept, listener)| kept.then_some(listener))
            .collect();
        let processes = ["vaultd", "netd", "egress", "openvpn", "broker", "wg"].map(|name| {
            let child = Command::new("sleep").arg("600").uid(user(name)).spawn().unwrap();
            fs::write(stage("run/pids").join(name), child.id().to_string()).unwrap();
            child
        });
        Stage {
            home,
            processes: processes.into(),
            _listeners: listeners,
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// What cell-api calls: nobody answers on the stage.
const ABSENT: [&str; 5] = [
    "netd/netd.sock",
    "egress/egress.sock",
    "openvpn/openvpn.sock",
    "broker/broker.sock",
    "vault/vault.sock",
];

const EDGES: [(&str, &str); 15] = [
    ("netd/netd.sock", "cell-edge-netd"),
    ("egress/egress.sock", "cell-edge-egress"),
    ("broker/broker.sock", "cell-edge-broker"),
    ("vault/vault.sock", "cell-edge-vault"),
    ("keys/vault.sock", "cell-edge-keys"),
    ("exit-keys/vault.sock", "cell-edge-exit-keys"),
    ("openvpn/openvpn.sock", "cell-edge-openvpn"),
    ("openvpn-keys/vault.sock", "cell-edge-openvpn-keys"),
    ("broker-keys/vault.sock", "cell-edge-broker-keys"),
    ("programs/management.sock", "cell-edge-programs"),
    ("wg/wg.sock", "cell-edge-wg"),
    ("iptables/iptables.sock", "cell-edge-iptables"),
    ("wg/device.sock", "cell-edge-wg"),
    ("marks/mark.sock", "cell-edge-marks"),
    ("api/api.sock", "cell-admin"),
];

fn edge(path: &Path, group: &str) -> UnixListener {
    let folder = path.parent().unwrap();
    let group = Group::from_name(group).unwrap().unwrap().gid.as_raw();
    fs::create_dir_all(folder).unwrap();
    let listener = if path.ends_with("device.sock") || path.ends_with("mark.sock") {
        sequenced(path)
    } else {
        UnixListener::bind(path).unwrap()
    };
    for (path, bits) in [(folder, 0o750), (path, 0o660)] {
        chown(path, Some(0), Some(group)).unwrap();
        mode(path, bits);
    }
    listener
}

/// A SOCK_SEQPACKET listener, kept as what std has.
fn sequenced(path: &Path) -> UnixListener {
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
    let made = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    bind(
        std::os::fd::AsRawFd::as_raw_fd(&made),
        &UnixAddr::new(path).unwrap(),
    )
    .unwrap();
    listen(&made, Backlog::new(8).unwrap()).unwrap();
    UnixListener::from(made)
}

fn user(name: &str) -> u32 {
    User::from_name(&format!("cell-{name}"))
        .unwrap()
        .unwrap()
        .uid
        .as_raw()
}

fn mode(path: &Path, bits: u32) {
    fs::set_permissions(path, Permissions::from_mode(bits)).unwrap();
}

/// Lets the red team at the stage; what it found open, what it could not prove, what it printed, the rows of its report.
fn attack(stage: &Stage) -> (Vec<String>, Vec<String>, String, Vec<serde_json::Value>) {
    let reports = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cell-redteam"))
        .arg("--home")
        .arg(stage.home.path())
        .arg("--target")
        .arg(reports.path())
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let marked = |mark: &str| -> Vec<String> {
        told.lines()
            .filter(|line| line.get(5..9) == Some(mark))
            .map(|line| line[..3].to_owned())
            .collect()
    };
    let (open, unproven) = (marked("OPEN"), marked("FAIL"));
    assert_eq!(
        output.status.success(),
        open.is_empty() && unproven.is_empty(),
        "the exit status says what the lines say"
    );
    let written = fs::read(reports.path().join("reports/redteam.json")).unwrap();
    (open, unproven, told, serde_json::from_slice(&written).unwrap())
}

/// The stage's processes are no daemons and wear no sandbox: their posture must be found loose.
const LOOSE: [&str; 5] = ["A02", "A03", "A04", "A05", "A06"];

#[test]
fn no_attempt_is_open_and_most_are_real() {
    let (open, unproven, told, rows) = attack(&Stage::set_up());
    assert_eq!(open, LOOSE, "{told}");
    let value = |name: &str| {
        let row = rows.iter().find(|row| row["name"] == name).unwrap();
        row["value"].as_str().unwrap().parse::<usize>().unwrap()
    };
    assert_eq!(value("open"), LOOSE.len());
    // What is closed counts only beside a control that was open to root.
    assert!(value("closed") >= 50, "{told}");
    let of_listeners = |line: &&str| line.starts_with('L') && line.get(5..7) == Some("ok");
    assert_eq!(told.lines().filter(of_listeners).count(), 6, "{told}");
    // Nobody answers on the stage, no api runs, and there is no Docker: what was to be tried there and was not is no success.
    assert!(
        unproven
            .iter()
            .all(|id| id.starts_with('G') || ["S01", "A01"].contains(&&**id)),
        "{told}"
    );
    let calls = unproven.iter().filter(|id| id.starts_with('G')).count();
    assert!(calls >= 20, "{told}");
    assert_eq!(value("to be tried, and not proven"), unproven.len());
    assert_eq!(
        rows.iter().filter(|row| row["ok"] == false).count(),
        LOOSE.len() + unproven.len() + 2,
        "and their sums"
    );
}

#[test]
fn a_hole_in_the_cell_is_found() {
    let stage = Stage::set_up();
    // vaultd's state, open to everybody.
    mode(&stage.home.path().join("lib/vaultd"), 0o755);
    // The socket that netd asks vaultd for the key on, in the API's group.
    let keys = stage.home.path().join("run/keys");
    let api = Group::from_name("cell-edge-vault").unwrap().unwrap().gid.as_raw();
    for path in [keys.clone(), keys.join("vault.sock")] {
        chown(path, None, Some(api)).unwrap();
    }
    let (open, _, told, _) = attack(&stage);
    // Landlock still keeps the folder shut; the socket's group is what keeps the key socket shut.
    assert_eq!(open, [&["S03"], &LOOSE[..]].concat(), "{told}");
}
