//! The whole program between a peer and its exits: carried, refused, replaced. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;

use anyhow::Result;
use cell_proto::fault::{reason, violations};
use support::servers::{self, Asked, Login, echo, serve};
use support::{Ceiling, Daemon, FAR, FAR6, Lab, PATIENCE, beyond, echoed, exit, http, is_reset, socks5, tor};

fn far(port: u16) -> SocketAddr {
    format!("{FAR}:{port}").parse().unwrap()
}

/// Echo servers at the destinations behind the first redirect ports, of both families.
fn destinations(lab: &Lab) {
    for (family, number) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
        serve(&lab.far, beyond(family, number), echo);
    }
}

#[test]
fn each_kind_carries_both_families_and_nothing_goes_directly() -> Result<()> {
    let lab = Lab::new()?;
    destinations(&lab);
    let asked: [Asked; 3] = Default::default();
    let six = format!("[{FAR6}]:1080").parse()?;
    serve(&lab.far, six, servers::socks5(Login::None, asked[0].clone()));
    serve(&lab.far, far(3128), servers::http(None, asked[1].clone()));
    serve(&lab.far, far(9050), servers::socks5(Login::Any, asked[2].clone()));
    let daemon = Daemon::start(&lab, &Ceiling::default())?;
    let exits = vec![
        exit(0, socks5(six, "")),
        exit(1, http(far(3128), "")),
        exit(2, tor(far(9050))),
    ];
    assert!(daemon.apply(exits)?.iter().all(|exit| exit.listening));
    let text: Vec<u8> = (0..300_000u32).map(|at| (at % 251) as u8).collect();
    for (number, asked) in asked.iter().enumerate() {
        for family in [0, 1] {
            let to = beyond(family, number as u16);
            let answer = echoed(lab.connect(to)?, &text)?;
            assert!(answer == text, "{to}: {} bytes of {}", answer.len(), text.len());
            assert!(asked.lock().unwrap()[family].ends_with(&to.to_string()));
        }
        let told = daemon.settles(number as u16, |exit| exit.open_connections == 0)?;
        assert_eq!((told.carried_connections, told.failed_connections), (2, 0));
        assert_eq!((told.sent_bytes, told.received_bytes), (600_000, 600_000));
        assert!(told.last_success_unix_ms > 0 && told.last_failure_unix_ms == 0);
    }
    // Each peer has a name of its own at Tor, by which it keeps their circuits apart.
    echoed(lab.connect_from("10.8.0.3", beyond(0, 2))?, b"x")?;
    echoed(lab.connect_from("10.8.0.2", beyond(0, 2))?, b"x")?;
    let asked = asked[2].lock().unwrap();
    assert_eq!(asked[0], asked[3], "the same peer");
    assert_ne!(asked[0], asked[2], "another peer");
    lab.nothing_went_directly()
}

#[test]
fn what_an_exit_does_not_carry_is_reset_and_others_go_on() -> Result<()> {
    let lab = Lab::new()?;
    let asked = Asked::default();
    // Nobody listens at the destination of the first exit; the second's server hangs; the third is not there.
    serve(&lab.far, beyond(0, 3), echo);
    serve(&lab.far, far(1080), servers::socks5(Login::None, asked.clone()));
    serve(&lab.far, far(1081), |stream| {
        thread::sleep(10 * PATIENCE);
        drop(stream);
        Ok(())
    });
    let daemon = Daemon::start(
        &lab,
        &Ceiling {
            handshake: 1,
            ..Ceiling::default()
        },
    )?;
    daemon.apply(vec![
        exit(0, socks5(far(1080), "")),
        exit(1, socks5(far(1081), "")),
        exit(2, http(far(1082), "")),
        exit(3, socks5(far(1080), "")),
    ])?;
    for (number, expected) in [(0, "REFUSED"), (1, "HANDSHAKE_TIMEOUT"), (2, "CONNECT_FAILED")] {
        let waiting = lab.connect(beyond(0, number));
        assert_eq!(echoed(lab.connect(beyond(0, 3))?, b"goes on")?, b"goes on");
        is_reset(waiting);
        let told = daemon.settles(number, |exit| {
            exit.failed_connections == 1 && exit.open_connections == 0
        })?;
        assert_eq!(told.last_failure_reason, expected, "{}", told.last_failure_detail);
        assert_eq!(told.carried_connections, 0);
    }
    // A user whose password nobody can read: the exit is not asked at all.
    daemon.apply(vec![exit(0, socks5(far(1080), "hans"))])?;
    let before = asked.lock().unwrap().len();
    is_reset(lab.connect(beyond(0, 0)));
    let told = daemon.settles(0, |exit| exit.failed_connections == 1)?;
    assert_eq!(told.last_failure_reason, "SECRET");
    assert_eq!(asked.lock().unwrap().len(), before);
    lab.nothing_went_directly()
}

#[test]
fn who_was_not_redirected_or_is_no_peer_is_reset() -> Result<()> {
    let lab = Lab::new()?;
    destinations(&lab);
    let asked = Asked::default();
    serve(&lab.far, far(1080), servers::socks5(Login::None, asked.clone()));
    let daemon = Daemon::start(&lab, &Ceiling::default())?;
    daemon.apply(vec![exit(0, socks5(far(1080), ""))])?;
    is_reset(lab.connect("10.8.0.1:9100".parse()?));
    is_reset(lab.connect("[fd08::1]:9100".parse()?));
    is_reset(lab.connect_from("10.9.0.2", beyond(0, 0)));
    let told = daemon.settles(0, |exit| exit.refused_connections == 3)?;
    assert_eq!((told.failed_connections, told.open_connections), (0, 0));
    assert!(asked.lock().unwrap().is_empty(), "the exit was not asked");
    assert_eq!(echoed(lab.connect(beyond(0, 0))?, b"control")?, b"control");
    lab.nothing_went_directly()
}

#[test]
fn applying_touches_only_what_is_another_exit() -> Result<()> {
    let lab = Lab::new()?;
    destinations(&lab);
    for port in [1080, 1081] {
        serve(
            &lab.far,
            far(port),
            servers::socks5(Login::None, Asked::default()),
        );
    }
    let daemon = Daemon::start(&lab, &Ceiling::default())?;
    let (kept, changed) = (exit(0, socks5(far(1080), "")), exit(1, socks5(far(1080), "")));
    daemon.apply(vec![kept.clone(), changed.clone()])?;
    let (mut stays, mut goes) = (lab.connect(beyond(0, 0))?, lab.connect(beyond(0, 1))?);
    let mut byte = [0];
    for stream in [&mut stays, &mut goes] {
        stream.write_all(b"x")?;
        stream.read_exact(&mut byte)?;
    }
    let again = daemon.apply(vec![changed, kept.clone()])?;
    assert_eq!(
        again.iter().map(|exit| exit.open_connections).collect::<Vec<_>>(),
        [1, 1]
    );

    // A request with a fault changes nothing.
    let bad = daemon.apply(vec![
        exit(0, tor("127.0.0.1:9050".parse()?)),
        exit(0, tor("198.51.100.7:1".parse()?)),
    ]);
    let bad = bad.unwrap_err();
    assert_eq!(reason(&bad).as_deref(), Some("INVALID_REQUEST"));
    let named: Vec<_> = violations(&bad).into_iter().map(|fault| fault.field).collect();
    assert_eq!(named, ["exits[0].tor.server", "exits[1].tor.server"]);
    assert_eq!(daemon.status(1).open_connections, 1);

    daemon.apply(vec![kept, exit(1, socks5(far(1081), ""))])?;
    let ended = goes.read(&mut byte).unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(echoed(lab.connect(beyond(0, 1))?, b"new")?, b"new");
    stays.write_all(b"y")?;
    stays.read_exact(&mut byte)?;
    assert_eq!(&byte, b"y");

    // The port is free each time that the exit behind it was stopped.
    for turn in 0..50 {
        let told = daemon.apply(vec![
            exit(0, socks5(far(1080), "")),
            exit(1, socks5(far(1080 + turn % 2), "")),
        ])?;
        assert!(told.iter().all(|exit| exit.listening), "{turn}: {told:?}");
    }
    stays.write_all(b"z")?;
    stays.read_exact(&mut byte)?;

    daemon.apply(vec![])?;
    assert!(stays.read(&mut byte).is_err());
    let gone = lab.connect(beyond(0, 0)).unwrap_err();
    assert_eq!(
        gone.kind(),
        std::io::ErrorKind::ConnectionRefused,
        "nobody listens any more"
    );
    lab.nothing_went_directly()
}

#[test]
fn what_is_cut_short_looks_so_to_the_far_end_too() -> Result<()> {
    let lab = Lab::new()?;
    let (told, ends) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    // A proxy that is the destination itself, and says how each connection ended for it.
    serve(&lab.far, far(1080), move |mut stream| {
        let mut handshake = [0; 3 + 10];
        stream.read_exact(&mut handshake[..3])?;
        stream.write_all(&[5, 0])?;
        stream.read_exact(&mut handshake[3..])?;
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
        let end = stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
        let sent = told.lock().unwrap().send(end);
        sent.map_err(std::io::Error::other)
    });
    let daemon = Daemon::start(&lab, &Ceiling::default())?;
    daemon.apply(vec![exit(0, socks5(far(1080), ""))])?;
    let mut whole = lab.connect(beyond(0, 0))?;
    whole.write_all(b"all")?;
    whole.shutdown(std::net::Shutdown::Write)?;
    assert_eq!(
        ends.recv_timeout(PATIENCE)?,
        Ok(3),
        "control: an end that was said arrives as one"
    );
    let mut cut = lab.connect(beyond(0, 0))?;
    cut.write_all(b"half")?;
    daemon.settles(0, |exit| exit.sent_bytes == 7)?;
    daemon.apply(vec![])?;
    assert_eq!(
        ends.recv_timeout(PATIENCE)?,
        Err(std::io::ErrorKind::ConnectionReset)
    );
    Ok(())
}

#[test]
fn another_user_is_refused() -> Result<()> {
    let lab = Lab::new()?;
    let daemon = Daemon::start(
        &lab,
        &Ceiling {
            user: "daemon",
            ..Ceiling::default()
        },
    )?;
    let refusal = daemon.apply(vec![]).unwrap_err();
    assert_eq!(reason(&refusal).as_deref(), Some("CALLER_UNKNOWN_USER"));
    Ok(())
}

#[test]
fn it_runs_without_any_right_and_ends_when_told() -> Result<()> {
    let lab = Lab::new()?;
    let mut daemon = Daemon::start(&lab, &Ceiling::default())?;
    daemon.apply(vec![])?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.process.id()))?;
    let told = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim).unwrap_or_default().to_owned()
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(told(set), "0000000000000000", "{set}");
    }
    assert_eq!([told("NoNewPrivs:"), told("Seccomp:")], ["1", "2"]);
    assert!(daemon.process.terminate(PATIENCE)?.success());
    Ok(())
}
