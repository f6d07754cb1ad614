//! Exits of the type openvpn, end to end: stock WireGuard client, netd, cell-openvpn and the OpenVPN that it starts, in their
//! sandbox, and a real server. The test is cell-api: it tells both daemons of the exit, and carries the addresses that the server
//! gave from the one to the other. Needs root and the package `openvpn`.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "tests: a case is one story"
)]

#[path = "support/openvpn.rs"]
mod openvpn;
#[path = "support/supervisor.rs"]
mod supervisor;
mod support;
#[path = "support/tunnel.rs"]
mod tunnel;

use std::sync::Arc;

use anyhow::{Result, ensure};
use cell_lab::process::until;
use cell_proto::openvpn::v1::State;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use openvpn::{Offer, RESOLVER, near};
use supervisor::{Supervisor, exit};
use support::PATIENCE;
use tunnel::{ALL, BOTH, EXIT, LINK, Setup};

/// The process id of its one program.
fn program(supervisor: &Supervisor) -> Result<Pid> {
    let programs = supervisor.programs();
    ensure!(programs.len() == 1, "one program runs, not {programs:?}");
    Ok(Pid::from_raw(programs[0]))
}

/// As cell-api does it once the server gave addresses.
fn carry(setup: &Setup, supervisor: &Supervisor) -> Result<()> {
    let addresses = supervisor.connected()?;
    setup.apply(EXIT, &addresses)
}

/// A cell whose peer is bound to the exit, which carries nothing yet.
fn bound() -> Result<(Setup, Supervisor)> {
    let mut setup = Setup::new(BOTH)?;
    let supervisor = Supervisor::start(&setup.world.cell, &setup.server)?;
    setup.apply("", &[])?;
    let device = Arc::clone(&setup.device);
    let client = setup.client(&device)?;
    cell_lab::probe::EchoServer::start(&setup.world.internet, 80)?;
    until(PATIENCE, "control: the machine's own way", || {
        (setup.answered() == ALL).then_some(())
    })?;
    drop(client);
    setup.apply(EXIT, &[])?;
    assert!(setup.leaked() > 0, "control: it is counted");
    setup.controls += setup.leaked();
    until(PATIENCE, "the supervisor answers", || {
        supervisor.apply(vec![]).ok()
    })?;
    Ok((setup, supervisor))
}

#[test]
fn openvpn_carries_a_peer_by_what_its_server_gave() -> Result<()> {
    let (setup, supervisor) = bound()?;
    let _client = setup.client(&setup.device)?;
    setup.carries_nothing();
    supervisor.apply(vec![exit(&setup.server, 1)])?;
    assert_eq!(supervisor.connected()?, near());
    let status = supervisor.status()?;
    let resolvers = status.resolvers.iter().map(std::net::IpAddr::try_from);
    let resolvers: Vec<_> = resolvers.collect::<Result<_, _>>()?;
    assert_eq!(resolvers, [RESOLVER.parse::<std::net::IpAddr>()?]);
    assert_eq!((status.mtu_bytes, status.starts, &*status.reason), (1500, 1, ""));
    setup.carries_nothing();
    carry(&setup, &supervisor)?;
    setup.carries(ALL)?;

    // The same once more changes nothing.
    let running = program(&supervisor)?;
    supervisor.apply(vec![exit(&setup.server, 1)])?;
    assert_eq!(program(&supervisor)?, running);
    setup.carries(ALL)?;

    // It goes with the exit.
    assert_eq!(supervisor.apply(vec![])?, []);
    assert!(kill(running, None).is_err(), "its program goes");
    setup.carries_nothing();
    Ok(())
}

#[test]
fn whatever_dies_nothing_goes_another_way() -> Result<()> {
    let (mut setup, mut supervisor) = bound()?;
    let device = Arc::clone(&setup.device);
    let _client = setup.client(&device)?;
    supervisor.apply(vec![exit(&setup.server, 1)])?;
    carry(&setup, &supervisor)?;
    setup.carries(ALL)?;

    // OpenVPN. Its successor comes soon, and carries what it can.
    kill(program(&supervisor)?, Signal::SIGKILL)?;
    setup.answered();
    assert_eq!(setup.leaked(), 0);
    until(PATIENCE, "it is started anew", || {
        (supervisor.status().ok()?.starts > 1).then_some(())
    })?;
    carry(&setup, &supervisor)?;
    setup.carries(ALL)?;

    // The supervisor, and its program with it.
    let running = program(&supervisor)?;
    supervisor.kill()?;
    until(PATIENCE, "the program does not outlive it", || {
        kill(running, None).is_err().then_some(())
    })?;
    setup.carries_nothing();
    supervisor.restart(&setup.world.cell)?;
    setup.carries_nothing();
    until(PATIENCE, "the supervisor answers", || {
        supervisor.apply(vec![exit(&setup.server, 1)]).ok()
    })?;
    carry(&setup, &supervisor)?;
    setup.carries(ALL)?;

    // netd: what it made stays.
    setup.netd.process.signal(Signal::SIGKILL)?;
    setup.netd.process.wait(PATIENCE)?;
    setup.carries(ALL)?;
    setup.netd.restart(&setup.world.cell)?;
    setup.carries(ALL)?;
    carry(&setup, &supervisor)?;
    setup.carries(ALL)
}

#[test]
fn what_is_taken_away_comes_back_and_nothing_goes_another_way_meanwhile() -> Result<()> {
    let (mut setup, supervisor) = bound()?;
    let device = Arc::clone(&setup.device);
    let _client = setup.client(&device)?;
    supervisor.apply(vec![exit(&setup.server, 1)])?;
    carry(&setup, &supervisor)?;
    setup.carries(ALL)?;

    // The server.
    setup.server.kill()?;
    setup.carries_nothing();
    until(PATIENCE, "the loss is told", || {
        let status = supervisor.status().ok()?;
        (status.state() != State::Connected && status.reason == "LOST").then_some(())
    })?;
    setup.server.up()?;
    carry(&setup, &supervisor)?;
    setup.carries(ALL)?;

    // The TUN: netd makes another, and the program begins anew on that.
    let starts = supervisor.status()?.starts;
    setup.cell(&format!("ip link del {LINK}"))?;
    until(PATIENCE, "OpenVPN is started anew on another TUN", || {
        let status = supervisor.status().ok()?;
        (status.starts > starts && status.state() == State::Connected).then_some(())
    })?;
    carry(&setup, &supervisor)?;
    setup.carries(ALL)
}

/// IPv6 that the server does not give is refused, and not led another way.
#[test]
fn what_the_server_does_not_carry_is_refused() -> Result<()> {
    let setup = Setup::new(Offer { v6: false, tcp: true })?;
    let supervisor = Supervisor::start(&setup.world.cell, &setup.server)?;
    setup.apply(EXIT, &[])?;
    let _client = setup.client(&setup.device)?;
    until(PATIENCE, "the supervisor answers", || {
        supervisor.apply(vec![exit(&setup.server, 1)]).ok()
    })?;
    assert_eq!(supervisor.connected()?, near()[..1]);
    carry(&setup, &supervisor)?;
    setup.carries(ALL / 2)
}

#[test]
fn what_is_amiss_is_told_and_put_right_by_itself() -> Result<()> {
    let mut setup = Setup::new(BOTH)?;
    let supervisor = Supervisor::start(&setup.world.cell, &setup.server)?;
    let told = |reason: &str| {
        until(PATIENCE, reason, || {
            let status = supervisor.status().ok()?;
            (status.reason == reason && status.state() != State::Connected).then_some(())
        })
    };
    until(PATIENCE, "the supervisor answers", || {
        supervisor.apply(vec![exit(&setup.server, 1)]).ok()
    })?;
    // netd has no word on it yet: its user speaks to nobody.
    assert_ne!(supervisor.status()?.state(), State::Connected);
    assert!(setup.cell(&format!("ip link show {LINK}")).is_err());
    setup.apply(EXIT, &[])?;
    supervisor.connected()?;
    // The TUN is not there: without netd's, the program cannot make one.
    setup.netd.process.signal(Signal::SIGKILL)?;
    setup.netd.process.wait(PATIENCE)?;
    setup.cell(&format!("ip link delete {LINK}"))?;
    told("NO_TUN")?;
    assert!(setup.cell(&format!("ip link show {LINK}")).is_err());
    setup.netd.restart(&setup.world.cell)?;
    setup.apply(EXIT, &[])?;
    supervisor.connected()?;

    supervisor.put("openvpn_password", "wrong");
    supervisor.apply(vec![exit(&setup.server, 2)])?;
    told("LOGIN_REFUSED")?;
    supervisor.put("openvpn_password", "no\nsignal SIGTERM");
    supervisor.apply(vec![exit(&setup.server, 3)])?;
    told("NO_SECRET")?;
    supervisor.put("openvpn_password", openvpn::PASSWORD);
    supervisor.put("key", "up /bin/sh");
    supervisor.apply(vec![exit(&setup.server, 4)])?;
    told("NO_SECRET")?;
    supervisor.put("key", &setup.server.file("client.key"));
    // What the vault has is of another import than the exit: its server is told nothing of it.
    let mut of_another = exit(&setup.server, 5);
    of_another.secret_revision = 1;
    supervisor.apply(vec![of_another])?;
    told("NO_SECRET")?;
    assert!(
        supervisor.status()?.detail.contains("another import"),
        "{:?}",
        supervisor.status()
    );
    supervisor.apply(vec![exit(&setup.server, 6)])?;
    supervisor.connected()?;

    let mut bad = exit(&setup.server, 7);
    bad.directives[0].words = vec!["up".to_owned(), "/bin/sh".to_owned()];
    let refused = supervisor.apply(vec![bad]).unwrap_err();
    assert_eq!(
        cell_proto::fault::reason(&refused).as_deref(),
        Some("INVALID_REQUEST")
    );
    assert_eq!(
        supervisor.status()?.state(),
        State::Connected,
        "and nothing changed"
    );

    // No secret in argv, environment or log.
    let running = program(&supervisor)?;
    let about = |file: &str| std::fs::read(format!("/proc/{running}/{file}")).unwrap();
    assert_eq!(about("cmdline"), b"/usr/sbin/openvpn\0--config\0stdin\0");
    assert_eq!(about("environ"), b"");
    let status = String::from_utf8(about("status"))?;
    for line in [
        "CapEff:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
    let said = supervisor.process.output();
    for secret in [openvpn::PASSWORD, openvpn::USERNAME, "PRIVATE KEY"] {
        assert!(!said.contains(secret), "{said}");
    }
    Ok(())
}
