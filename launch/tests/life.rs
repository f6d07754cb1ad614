//! From start to end: order, restart, Ctrl-C, a killed launcher, and what is refused with one line.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use support::{Cell, run, status, until};

#[test]
fn a_cell_starts_greets_and_leaves_nothing_behind() {
    let mut cell = Cell::new("cell", 0o755);
    cell.start(&[]);
    let output = cell.output();
    for words in [
        "http://127.0.0.1:3000",
        "claim token  ABCD-EFGH",
        "api    | hello from cell-api",
    ] {
        assert!(output.contains(words), "{words}\n{output}");
    }
    assert!(answer(&cell, "netd/netd.sock") == cell.pid("netd").to_string());
    let pids: Vec<u32> = ["vaultd", "netd", "openvpn", "egress", "broker", "api"]
        .map(|name| cell.pid(name))
        .into();
    cell.signal("-INT");
    assert!(cell.ended(), "{}", cell.output());
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
    assert!(!cell.home.join("run").exists());
    assert!(
        !Path::new("/run/netns").join(&cell.netns).exists(),
        "it made the namespace, so it removes it"
    );
    assert!(cell.home.join("lib/api/claim-token").exists(), "state stays");
}

#[test]
fn a_namespace_that_was_there_stays_and_forwards() {
    let mut cell = Cell::new("cell", 0o755);
    run(Command::new("ip").args(["netns", "add", &cell.netns]));
    cell.start(&[]);
    for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        assert_eq!(
            run(Command::new("ip").args(["netns", "exec", &cell.netns, "sysctl", "-n", key])).trim(),
            "1"
        );
    }
    let own = run(Command::new("ip").args([
        "netns",
        "exec",
        &cell.outside,
        "sysctl",
        "-n",
        "net.ipv4.ip_forward",
    ]));
    assert_eq!(own.trim(), "0", "the network it was started in is untouched");
    cell.signal("-TERM");
    assert!(cell.ended());
    assert!(Path::new("/run/netns").join(&cell.netns).exists());
}

#[test]
fn a_killed_daemon_comes_back_and_requests_wait_for_it() {
    let mut cell = Cell::new("cell", 0o755);
    cell.start(&[]);
    for _ in 0..3 {
        let before = cell.pid("netd");
        run(Command::new("kill").args(["-KILL", &before.to_string()]));
        // Connects to the listener that the launcher holds, whether or not the daemon is back yet.
        let after = answer(&cell, "netd/netd.sock");
        assert_ne!(after, before.to_string());
        until(
            || cell.pid("netd").to_string() == after,
            || "the new process id is not noted".to_owned(),
        );
        assert_eq!(status(cell.pid("netd"), "CapBnd"), "0000000000001000");
    }
    assert!(
        cell.output().contains("cell-netd ended (signal: 9 (SIGKILL)"),
        "{}",
        cell.output()
    );
}

#[test]
fn a_killed_launcher_takes_its_daemons_with_it() {
    let mut cell = Cell::new("cell", 0o755);
    cell.start(&[]);
    let pids: Vec<u32> = ["vaultd", "netd", "api"].map(|name| cell.pid(name)).into();
    cell.signal("-KILL");
    assert!(!cell.ended());
    for pid in pids {
        until(
            || !Path::new(&format!("/proc/{pid}")).exists(),
            || format!("process {pid} still runs"),
        );
    }
    // What it could not clear does not stand in the way of the next start, which knows whose namespace it is.
    cell.start(&[]);
    cell.signal("-TERM");
    assert!(cell.ended());
    assert!(!Path::new("/run/netns").join(&cell.netns).exists());
}

#[test]
fn a_home_below_a_closed_folder_works() {
    let mut cell = Cell::new("private/deep", 0o755);
    let closed = cell.home.ancestors().nth(2).unwrap().to_owned();
    fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    fs::write(closed.join("secret"), "x").unwrap();
    cell.start(&[]);
    assert_eq!(answer(&cell, "vault/vault.sock"), cell.pid("vaultd").to_string());
    let seen = format!("/proc/{}/root{}", cell.pid("api"), closed.display());
    let mut names: Vec<_> = fs::read_dir(seen)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["deep"],
        "a daemon sees its own way down and nothing beside it"
    );
}

#[test]
fn faults_are_one_line_each() {
    let cell = Cell::new("cell", 0o755);
    fs::remove_file(cell.bin.join("cell-api")).unwrap();
    fs::remove_file(cell.bin.join("cell-netd")).unwrap();
    let output = cell.run_command(&[]).output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert_eq!(words.lines().count(), 2, "{words}");
    assert!(
        words.lines().all(|line| line.contains("is missing: build it")),
        "{words}"
    );
}

#[test]
fn a_busy_port_is_named_with_who_holds_it() {
    let cell = Cell::new("cell", 0o755);
    let code = "import socket,time; s=socket.create_server(('127.0.0.1',3000)); print('up',flush=True); time.sleep(60)";
    let mut holder = Command::new("ip");
    holder
        .args(["netns", "exec", &cell.outside, "python3", "-c", code])
        .stdout(std::process::Stdio::piped());
    let mut holder = holder.spawn().unwrap();
    holder.stdout.as_mut().unwrap().read_exact(&mut [0; 2]).unwrap();
    let output = cell.run_command(&[]).output().unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(
        words.contains("TCP 127.0.0.1:3000 is in use by python3"),
        "{words}"
    );
    assert!(words.contains("--http") && words.lines().count() == 1, "{words}");
    assert!(
        !Path::new("/run/netns").join(&cell.netns).exists(),
        "what it had made is gone again"
    );
}

#[test]
fn a_daemon_that_does_not_start_ends_the_attempt() {
    let cell = Cell::new("cell", 0o755);
    fs::write(
        cell.bin.join("cell-broker"),
        "#!/bin/sh\necho no such engine >&2\nexit 3\n",
    )
    .unwrap();
    let begin = Instant::now();
    let output = cell.run_command(&[]).output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && begin.elapsed() < Duration::from_secs(20));
    assert!(words.contains("broker | no such engine"), "{words}");
    assert!(words.contains("cell-broker ended before it served"), "{words}");
    assert!(!cell.home.join("run").exists());
}

#[test]
fn two_cells_do_not_share_a_home() {
    let mut cell = Cell::new("cell", 0o755);
    cell.start(&[]);
    let output = cell.run_command(&["--http", "127.0.0.1:3001"]).output().unwrap();
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("another cell runs in")
    );
    assert!(
        cell.home.join("run/netd/netd.sock").exists(),
        "the first is not disturbed"
    );
}

#[test]
fn the_vault_s_key_is_not_replaced_by_a_new_one() {
    let mut cell = Cell::new("cell", 0o755);
    cell.start(&[]);
    cell.signal("-TERM");
    assert!(cell.ended());
    let kek = fs::read(cell.home.join("etc/vault.kek")).unwrap();
    cell.start(&[]);
    cell.signal("-TERM");
    assert!(cell.ended());
    assert_eq!(fs::read(cell.home.join("etc/vault.kek")).unwrap(), kek);
    fs::remove_file(cell.home.join("etc/vault.kek")).unwrap();
    let output = cell.run_command(&[]).output().unwrap();
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("vault.kek is gone")
    );
}

/// Connects and reads the stand-in's answer: its process id.
fn answer(cell: &Cell, socket: &str) -> String {
    let mut stream = UnixStream::connect(cell.home.join("run").join(socket)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
