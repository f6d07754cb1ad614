//! What is found at Tor's port, whoever is there. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result};
use cell_lab::process::until;
use cell_proto::egress::v1::ServerProbe;
use support::servers::{self, Asked, Login, serve};
use support::{Ceiling, Daemon, FAR, Lab, PATIENCE, exit, socks5, tor};

fn far(port: u16) -> SocketAddr {
    format!("{FAR}:{port}").parse().unwrap()
}

/// Waits for a look that found this.
fn finds(daemon: &Daemon, number: u16, reason: &str) -> Result<ServerProbe> {
    let is_so = |probe: &ServerProbe| probe.failure_reason == reason;
    until(2 * PATIENCE, "a look at Tor's port", || {
        daemon.status(number).probe.filter(is_so)
    })
    .with_context(|| format!("{reason}: {:?}", daemon.status(number)))
}

#[test]
fn it_is_told_who_is_at_the_port_of_tor_and_nobody_is_asked_for_anything() -> Result<()> {
    let lab = Lab::new()?;
    serve(&lab.far, far(9152), |mut stream| {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    });
    serve(&lab.far, far(9153), |_stream| {
        thread::sleep(2 * PATIENCE);
        Ok(())
    });
    serve(&lab.far, far(9154), |_stream| Ok(()));
    let asked = Asked::default();
    let daemon = Daemon::start(&lab, &Ceiling::default())?;
    daemon.apply(vec![
        exit(0, tor(far(9151))),
        exit(1, tor(far(9152))),
        exit(2, tor(far(9153))),
        exit(3, tor(far(9154))),
        exit(4, socks5(far(9152), "")),
    ])?;
    let away = finds(&daemon, 0, "CONNECT_FAILED")?;
    assert!(away.failure_detail.contains("refused"), "{}", away.failure_detail);
    finds(&daemon, 1, "PROTOCOL")?;
    finds(&daemon, 2, "HANDSHAKE_TIMEOUT")?;
    finds(&daemon, 3, "CLOSED")?;

    // It is seen soon that it is there.
    serve(
        &lab.far,
        far(9151),
        servers::socks5(Login::Any, Arc::clone(&asked)),
    );
    let there = finds(&daemon, 0, "")?;
    assert!(there.unix_ms > away.unix_ms);
    let told = daemon.status(0);
    assert_eq!(
        (
            told.carried_connections,
            told.failed_connections,
            told.last_failure_unix_ms
        ),
        (0, 0, 0)
    );
    assert!(asked.lock().unwrap().is_empty(), "nothing went out");
    assert_eq!(daemon.status(4).probe, None, "of Tor alone");
    Ok(())
}
