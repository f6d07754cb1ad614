//! How much the whole program takes on, for how long, and at what cost. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::Result;
use cell_lab::process::until;
use support::servers::{self, Asked, Login, echo, serve};
use support::{Ceiling, Daemon, FAR, Lab, PATIENCE, SECOND, beyond, echoed, exit, is_reset, socks5};

fn far(port: u16) -> SocketAddr {
    format!("{FAR}:{port}").parse().unwrap()
}

#[test]
fn a_slow_reader_holds_the_fast_side_back() -> Result<()> {
    let lab = Lab::new()?;
    let written = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&written);
    serve(&lab.far, beyond(0, 0), move |mut stream| {
        loop {
            stream.write_all(&[7; 65536])?;
            counter.fetch_add(65536, Ordering::Relaxed);
        }
    });
    serve(
        &lab.far,
        far(1080),
        servers::socks5(Login::None, Asked::default()),
    );
    let daemon = Daemon::start(&lab, &Ceiling::default())?;
    daemon.apply(vec![exit(0, socks5(far(1080), ""))])?;
    let before = daemon.memory()?;
    let mut slow = lab.connect(beyond(0, 0))?;
    let stands = |since: u64| {
        thread::sleep(SECOND);
        let now = written.load(Ordering::Relaxed);
        (now == since && now > 0, now)
    };
    let start = Instant::now();
    let mut held = 0;
    loop {
        let (still, now) = stands(held);
        if still {
            break;
        }
        held = now;
        assert!(start.elapsed() < 2 * PATIENCE, "{held} bytes and no end");
    }
    // What the kernels of three namespaces buffer on the way, and 8 KiB here.
    assert!(
        held < 64 * 1024 * 1024,
        "{held} bytes were taken from the fast side"
    );
    let grown = daemon.memory()?.saturating_sub(before);
    assert!(
        grown < 4096,
        "{grown} KiB more in memory for a peer that does not read"
    );
    // It goes on as soon as the peer reads.
    let mut taken = 0;
    let mut buffer = vec![0; 65536];
    while taken < held as usize + 8 * 1024 * 1024 {
        taken += slow.read(&mut buffer)?;
    }
    assert!(written.load(Ordering::Relaxed) > held);
    Ok(())
}

#[test]
fn limits_hold_and_places_come_free() -> Result<()> {
    let lab = Lab::new()?;
    serve(&lab.far, beyond(0, 0), echo);
    serve(&lab.far, beyond(0, 1), echo);
    serve(
        &lab.far,
        far(1080),
        servers::socks5(Login::None, Asked::default()),
    );
    let ceiling = Ceiling {
        limits: (6, 3, 2),
        ..Ceiling::default()
    };
    let daemon = Daemon::start(&lab, &ceiling)?;
    daemon.apply(vec![
        exit(0, socks5(far(1080), "")),
        exit(1, socks5(far(1080), "")),
    ])?;
    let first = [lab.connect(beyond(0, 0))?, lab.connect(beyond(0, 0))?];
    daemon.settles(0, |exit| exit.open_connections == 2)?;
    is_reset(lab.connect(beyond(0, 0)));
    let other = lab.connect_from("10.8.0.3", beyond(0, 0))?;
    daemon.settles(0, |exit| exit.open_connections == 3)?;
    // The exit has its share and all that is lent; the other exit has its own.
    is_reset(lab.connect_from("10.8.0.3", beyond(0, 0)));
    assert_eq!(echoed(lab.connect(beyond(0, 1))?, b"free")?, b"free");
    assert_eq!(
        daemon
            .settles(0, |exit| exit.refused_connections == 2)?
            .open_connections,
        3
    );
    drop(first);
    daemon.settles(0, |exit| exit.open_connections == 1)?;
    assert_eq!(echoed(lab.connect(beyond(0, 0))?, b"free")?, b"free");
    drop(other);
    Ok(())
}

#[test]
fn an_idle_connection_ends_and_a_used_one_does_not() -> Result<()> {
    let lab = Lab::new()?;
    serve(&lab.far, beyond(0, 0), echo);
    serve(&lab.far, beyond(0, 1), echo);
    serve(
        &lab.far,
        far(1080),
        servers::socks5(Login::None, Asked::default()),
    );
    let daemon = Daemon::start(
        &lab,
        &Ceiling {
            idle: 1,
            ..Ceiling::default()
        },
    )?;
    daemon.apply(vec![exit(0, socks5(far(1080), ""))])?;
    let mut idle = lab.connect(beyond(0, 0))?;
    let mut used = lab.connect(beyond(0, 0))?;
    let mut byte = [0];
    for _ in 0..15 {
        used.write_all(b"x")?;
        used.read_exact(&mut byte)?;
        thread::sleep(SECOND / 5);
    }
    let ended = idle.read(&mut byte).unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(echoed(used, b"y")?, b"y");
    Ok(())
}

#[test]
fn a_thousand_connections_are_carried_at_once() -> Result<()> {
    const MANY: u32 = 1000;
    let lab = Lab::new()?;
    serve(&lab.far, beyond(0, 0), echo);
    serve(
        &lab.far,
        far(1080),
        servers::socks5(Login::None, Asked::default()),
    );
    let ceiling = Ceiling {
        limits: (2 * MANY, MANY, MANY),
        ..Ceiling::default()
    };
    let daemon = Daemon::start(&lab, &ceiling)?;
    daemon.apply(vec![exit(0, socks5(far(1080), ""))])?;
    let before = daemon.memory()?;
    let mut open = Vec::new();
    for number in 0..MANY {
        let mut stream = lab.connect(beyond(0, 0))?;
        stream.write_all(&number.to_be_bytes())?;
        open.push(stream);
    }
    for (number, stream) in open.iter_mut().enumerate() {
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        assert_eq!(
            u32::from_be_bytes(answer) as usize,
            number,
            "nobody gets another's bytes"
        );
    }
    let told = daemon.status(0);
    assert_eq!(
        (
            told.open_connections,
            told.failed_connections,
            told.refused_connections
        ),
        (MANY, 0, 0)
    );
    let each = (daemon.memory()? - before) / u64::from(MANY);
    assert!(each < 64, "{each} KiB of memory for each connection");
    is_reset(lab.connect(beyond(0, 0)));
    drop(open);
    daemon.settles(0, |exit| exit.open_connections == 0)?;
    Ok(())
}

#[test]
fn more_connections_than_descriptors_are_not_taken_on() -> Result<()> {
    let lab = Lab::new()?;
    let limits = (200_000, 200_000, 200_000);
    let ceiling = Ceiling {
        limits,
        ..Ceiling::default()
    };
    let mut daemon = Daemon::start_with(&lab, &ceiling, Some(1024))?;
    assert!(!daemon.process.wait(PATIENCE)?.success(), "not one is left");
    assert!(
        daemon.process.output().contains("LimitNOFILE"),
        "{}",
        daemon.process.output()
    );

    // Three connections have theirs beside what is kept for DNS and calls.
    let few = Daemon::start_with(&lab, &ceiling, Some(3496 + 7))?;
    serve(&lab.far, beyond(0, 0), echo);
    serve(
        &lab.far,
        far(1080),
        servers::socks5(Login::None, Asked::default()),
    );
    few.apply(vec![exit(0, socks5(far(1080), ""))])?;
    until(PATIENCE, "it says how many it carries", || {
        few.process.output().contains("carried=3").then_some(())
    })?;
    let open = [lab.connect(beyond(0, 0))?, lab.connect(beyond(0, 0))?];
    few.settles(0, |exit| exit.open_connections == 2)?;
    is_reset(lab.connect(beyond(0, 0)));
    drop(open);
    Ok(())
}
