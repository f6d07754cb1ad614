//! A shortage of the machine's own is told from an exit that does not answer. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use cell_lab::process::{Process, until};
use cell_proto::egress::v1::exit::Kind;
use cell_proto::egress::v1::{DnsWayStatus, ServerProbe, SshExit};
use support::dns::{DnsLab, FIRST, Relay, SECOND, resolver, spec};
use support::inside::Kept;
use support::servers::{self, Asked, Login, echo, serve};
use support::sshd::{self, key, private_text, public_line};
use support::vault::Vault;
use support::{Ceiling, Daemon, FAR, Lab, NOBODY, beyond, echoed, exit, http, is_reset, server, socks5, tor};

/// An exit that works is proven every 15-25 s.
const NEXT: Duration = Duration::from_secs(60);
/// How long the program's descriptors must stay as they are.
const REST: Duration = Duration::from_millis(500);

/// How many descriptors the program may have: the soft limit, as prlimit(1) writes it.
fn limit(process: &Process, most: &str) -> Result<()> {
    let limited = Command::new("prlimit")
        // One's own processes take no capability, which a container may lack.
        .uid(NOBODY)
        .gid(NOBODY)
        .args(["--pid", &process.id().to_string()])
        .arg(format!("--nofile={most}"))
        .status()?;
    ensure!(limited.success(), "prlimit: {limited}");
    Ok(())
}

/// The descriptors that the program has open.
fn open(process: &Process) -> Result<BTreeSet<u32>> {
    let mut open = BTreeSet::new();
    for entry in std::fs::read_dir(format!("/proc/{}/fd", process.id()))? {
        open.insert(entry?.file_name().to_string_lossy().parse::<u32>()?);
    }
    Ok(open)
}

/// Leaves the program one descriptor: enough to take a connection, and none to carry it by. What it still closes of a connection
/// that has ended would be a second one, which carries the next: so it must have come to rest before.
fn leave_one(process: &Process) -> Result<()> {
    let mut before = open(process)?;
    let rest = until(NEXT, "the same descriptors for a while", || {
        std::thread::sleep(REST);
        let now = open(process).ok()?;
        let rest = (now == before).then(|| now.clone());
        before = now;
        rest
    })?;
    let free = (0..).find(|number| !rest.contains(number)).unwrap_or_default();
    limit(process, &format!("{}:", free + 1))
}

fn enough(process: &Process) -> Result<()> {
    limit(process, "4096:")
}

fn far(port: u16) -> SocketAddr {
    format!("{FAR}:{port}").parse().unwrap()
}

fn proven_after(relay: &Relay, before: i64) -> Result<DnsWayStatus> {
    until(NEXT, "a proof", || {
        let way = relay.way(Some(1));
        (way.last_proven_unix_ms > before).then_some(way)
    })
}

#[test]
fn an_exit_that_cannot_be_asked_for_want_of_descriptors_is_not_told_to_fail() -> Result<()> {
    let lab = DnsLab::new()?;
    let _heard = [resolver(&lab.exits[0], FIRST), resolver(&lab.exits[1], SECOND)];
    let relay = Relay::start(&lab)?;
    relay.apply(spec())?;
    let proven = proven_after(&relay, 0)?;
    assert_eq!(proven.last_proof_failure_unix_ms, 0);

    // What it has open it keeps, and this test's connection is of that.
    limit(&relay.process, "3:")?;
    until(NEXT, "a question that could not be asked", || {
        let log = relay.process.output();
        (log.contains("which says nothing of it") && log.contains("no socket for the question")).then_some(())
    })?;
    let way = relay.way(Some(1));
    assert_eq!(way.last_proof_failure_unix_ms, 0, "{way:?}");
    assert_eq!(way.last_proven_unix_ms, proven.last_proven_unix_ms, "control");

    enough(&relay.process)?;
    let proven = proven_after(&relay, proven.last_proven_unix_ms)?;
    assert_eq!(proven.lost_proofs, 0, "what could not be asked is not lost");
    // What is the exit's own is told.
    lab.cell.ip("link set wgext_1 down")?;
    until(NEXT, "a failure", || {
        let way = relay.way(Some(1));
        (way.last_proof_failure.contains("cannot be reached") && way.lost_proofs > 0).then_some(())
    })
}

#[test]
fn tors_port_that_cannot_be_looked_at_is_not_told_to_be_away() -> Result<()> {
    let lab = Lab::new()?;
    serve(&lab.far, far(9150), servers::socks5(Login::Any, Asked::default()));
    let daemon = Daemon::start(&lab, &Ceiling::default())?;
    daemon.apply(vec![exit(0, tor(far(9150)))])?;
    let probe = |wanted: &dyn Fn(&ServerProbe) -> bool| {
        until(NEXT, "a look", || {
            daemon.status(0).probe.filter(|probe| wanted(probe))
        })
    };
    let there = probe(&|_| true)?;
    assert_eq!(there.failure_reason, "");

    limit(&daemon.process, "3:")?;
    until(NEXT, "a look that could not be taken", || {
        daemon
            .process
            .output()
            .contains("which says nothing of it")
            .then_some(())
    })?;
    assert_eq!(daemon.status(0).probe, Some(there.clone()));

    enough(&daemon.process)?;
    let again = probe(&|probe| probe.unix_ms > there.unix_ms)?;
    assert_eq!(again.failure_reason, "");
    Ok(())
}

/// Connections are reset for it, and counted as what never came to the exit.
#[test]
fn a_connection_that_cannot_be_carried_for_want_of_descriptors_is_not_the_exits() -> Result<()> {
    let lab = Lab::new()?;
    for number in 0..3 {
        serve(&lab.far, beyond(0, number), echo);
    }
    serve(
        &lab.far,
        far(1080),
        servers::socks5(Login::None, Asked::default()),
    );
    serve(
        &lab.far,
        far(1081),
        servers::socks5(Login::Only("hans", "hunter2"), Asked::default()),
    );
    let vault = Vault::start(Kept::default().with(2, "password", "hunter2"))?;
    let ceiling = Ceiling {
        vault: vault.socket(),
        ..Ceiling::default()
    };
    let daemon = Daemon::start(&lab, &ceiling)?;
    // The last needs a descriptor to reach vaultd by before one to reach its server by.
    daemon.apply(vec![
        exit(0, socks5(far(1080), "")),
        exit(1, http(far(3128), "")),
        exit(2, socks5(far(1081), "hans")),
    ])?;
    leave_one(&daemon.process)?;
    for number in 0..3 {
        is_reset(lab.connect(beyond(0, number)));
        let told = daemon.settles(number, |exit| exit.refused_connections == 1)?;
        assert_eq!(
            (told.failed_connections, told.last_failure_unix_ms),
            (0, 0),
            "{told:?}"
        );
    }
    let log = daemon.process.output();
    assert!(log.contains("which says nothing of the exit"), "{log}");

    enough(&daemon.process)?;
    assert_eq!(echoed(lab.connect(beyond(0, 0))?, b"again")?, b"again");
    // What is the exit's own is told.
    is_reset(lab.connect(beyond(0, 1)));
    let told = daemon.settles(1, |exit| exit.failed_connections == 1)?;
    assert_eq!(told.last_failure_reason, "CONNECT_FAILED", "{told:?}");
    // vaultd's answer is kept for some seconds, and so is that there was none.
    until(NEXT, "the secret is read", || {
        let stream = lab.connect(beyond(0, 2)).ok()?;
        echoed(stream, b"again").ok().filter(|answer| answer == b"again")
    })?;
    assert_eq!(daemon.status(2).failed_connections, 0);
    lab.nothing_went_directly()
}

/// A shortage makes no pause: when it is over, the next connection is carried.
#[test]
fn a_session_that_cannot_be_made_for_want_of_descriptors_makes_no_pause() -> Result<()> {
    let lab = Lab::new()?;
    serve(&lab.far, beyond(0, 0), echo);
    let (host, user) = (key(1), key(2));
    sshd::serve(&lab.far, far(22), host.clone(), &user, Asked::default());
    let vault = Vault::start(Kept::default().with(0, "private_key", &private_text(&user)))?;
    let ceiling = Ceiling {
        vault: vault.socket(),
        ..Ceiling::default()
    };
    let daemon = Daemon::start(&lab, &ceiling)?;
    let by_ssh = Kind::Ssh(SshExit {
        server: server(far(22)),
        username: "hans".to_owned(),
        host_keys: vec![public_line(&host)],
    });
    daemon.apply(vec![exit(0, by_ssh)])?;
    // A session of its own, and vaultd's socket is open.
    assert_eq!(echoed(lab.connect(beyond(0, 0))?, b"first")?, b"first");

    daemon.settles(0, |exit| exit.open_connections == 0)?;
    leave_one(&daemon.process)?;
    for refused in 1..=8 {
        is_reset(lab.connect_from("10.8.0.3", beyond(0, 0)));
        daemon.settles(0, |exit| exit.refused_connections == refused)?;
    }
    enough(&daemon.process)?;
    assert_eq!(
        echoed(lab.connect_from("10.8.0.3", beyond(0, 0))?, b"again")?,
        b"again"
    );
    let told = daemon.status(0);
    assert_eq!(
        (told.failed_connections, told.last_failure_unix_ms),
        (0, 0),
        "{told:?}"
    );
    lab.nothing_went_directly()
}
