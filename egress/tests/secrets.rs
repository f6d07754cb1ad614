//! Exits that log in: proxies with a password, and SSH with pinned host keys. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::Result;
use cell_egress::vault::KEPT;
use cell_lab::process::until;
use cell_proto::egress::v1;
use cell_proto::egress::v1::exit::Kind;
use support::inside::{Inside, Kept};
use support::servers::{self, Asked, Login, echo, serve};
use support::sshd::{self, key, private_text, public_line};
use support::vault::Vault;
use support::{
    Ceiling, Daemon, FAR, Lab, SECOND, beyond, echoed, exit, exit_of, http, is_reset, server, socks5,
};

fn far(port: u16) -> SocketAddr {
    format!("{FAR}:{port}").parse().unwrap()
}

fn ssh(at: SocketAddr, user: &str, pin: &str) -> Kind {
    Kind::Ssh(v1::SshExit {
        server: server(at),
        username: user.to_owned(),
        host_keys: vec![pin.to_owned()],
    })
}

#[test]
fn a_proxy_is_told_its_password_and_a_wrong_one_carries_nothing() -> Result<()> {
    let lab = Lab::new()?;
    for number in 0..4 {
        serve(&lab.far, beyond(0, number), echo);
    }
    let asked = Asked::default();
    let only = Login::Only("hans", "hunter2");
    serve(&lab.far, far(1080), servers::socks5(only, asked.clone()));
    serve(
        &lab.far,
        far(3128),
        servers::http(Some("aGFuczpodW50ZXIy"), asked.clone()),
    );
    let exits = || {
        vec![
            exit(0, socks5(far(1080), "hans")),
            exit(1, http(far(3128), "hans")),
            exit(2, socks5(far(1080), "hans")),
            exit(3, http(far(3128), "hans")),
        ]
    };
    let kept = [(0, "hunter2"), (1, "hunter2"), (2, "wrong"), (3, "wrong")]
        .into_iter()
        .fold(Kept::default(), |kept, (number, password)| {
            kept.with(number, "password", password)
        });
    let engine = Inside::start(&lab, &Ceiling::default(), kept)?;
    assert_eq!(engine.apply(exits())?, 4);
    for number in [2, 3] {
        is_reset(lab.connect(beyond(0, number)));
        let told = engine.settles(number, |exit| exit.failed_connections == 1)?;
        assert_eq!(told.last_failure_reason, "CREDENTIALS");
        let words = format!("{told:?}");
        assert!(!words.contains("wrong") && !words.contains("hans"), "{words}");
    }
    assert!(
        asked.lock().unwrap().is_empty(),
        "nothing was asked of a proxy that refused"
    );
    for number in [0, 1] {
        assert_eq!(echoed(lab.connect(beyond(0, number))?, b"in")?, b"in", "control");
    }
    lab.nothing_went_directly()
}

#[test]
fn ssh_carries_many_connections_in_one_session_of_each_peer() -> Result<()> {
    let lab = Lab::new()?;
    for family in [0, 1] {
        serve(&lab.far, beyond(family, 0), echo);
    }
    let (host, user) = (key(1), key(2));
    let asked = Asked::default();
    let sessions = sshd::serve(&lab.far, far(22), host.clone(), &user, asked.clone());
    let kept = Kept::default().with(0, "private_key", &private_text(&user));
    let engine = Inside::start(&lab, &Ceiling::default(), kept)?;
    engine.apply(vec![exit(0, ssh(far(22), "hans", &public_line(&host)))])?;
    let text: Vec<u8> = (0..1_000_000u32).map(|at| (at % 251) as u8).collect();
    for family in [0, 1] {
        let to = beyond(family, 0);
        let open = [lab.connect(to)?, lab.connect(to)?, lab.connect(to)?];
        for stream in open {
            assert!(echoed(stream, &text)? == text, "{to}");
        }
        assert!(asked.lock().unwrap().iter().all(|asked| asked.ends_with(":7100")));
    }
    // The peer's two addresses are two peers here.
    assert_eq!(sessions.load(Ordering::Relaxed), 2);
    let told = engine.settles(0, |exit| exit.open_connections == 0)?;
    assert_eq!((told.carried_connections, told.failed_connections), (6, 0));
    lab.nothing_went_directly()
}

#[test]
fn ssh_takes_the_pinned_host_and_no_other_and_tries_again_later() -> Result<()> {
    let lab = Lab::new()?;
    for number in 0..4 {
        serve(&lab.far, beyond(0, number), echo);
    }
    let (host, user, other) = (key(1), key(2), key(3));
    let asked = Asked::default();
    sshd::serve(&lab.far, far(22), host.clone(), &user, asked.clone());
    let kept = (0..3).fold(Kept::default(), |kept, number| {
        kept.with(number, "private_key", &private_text(&user))
    });
    let kept = kept.with(3, "private_key", &private_text(&other));
    let engine = Inside::start(&lab, &Ceiling::default(), kept)?;
    engine.apply(vec![
        exit(0, ssh(far(22), "hans", &public_line(&host))),
        exit(1, ssh(far(22), "hans", &public_line(&other))),
        exit(2, ssh(far(22), "eve", &public_line(&host))),
        exit(3, ssh(far(22), "hans", &public_line(&host))),
    ])?;
    for (number, expected) in [(1, "HOST_ID"), (2, "CREDENTIALS"), (3, "CREDENTIALS")] {
        is_reset(lab.connect(beyond(0, number)));
        let told = engine.settles(number, |exit| exit.failed_connections == 1)?;
        assert_eq!(told.last_failure_reason, expected, "{}", told.last_failure_detail);
        // At once again: the server is not asked in vain.
        is_reset(lab.connect(beyond(0, number)));
        let told = engine.settles(number, |exit| exit.failed_connections == 2)?;
        assert_eq!(told.last_failure_reason, expected, "that it pauses hides nothing");
    }
    assert!(asked.lock().unwrap().is_empty(), "no channel was opened");
    assert_eq!(echoed(lab.connect(beyond(0, 0))?, b"control")?, b"control");
    lab.nothing_went_directly()
}

#[test]
fn over_ssh_a_peer_that_does_not_read_stops_no_other() -> Result<()> {
    let lab = Lab::new()?;
    serve(&lab.far, beyond(0, 1), echo);
    let written = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&written);
    serve(&lab.far, beyond(0, 0), move |mut stream| {
        loop {
            stream.write_all(&[7; 65536])?;
            counter.fetch_add(65536, Ordering::Relaxed);
        }
    });
    let (host, user) = (key(1), key(2));
    sshd::serve(&lab.far, far(22), host.clone(), &user, Asked::default());
    let kept = (0..2).fold(Kept::default(), |kept, number| {
        kept.with(number, "private_key", &private_text(&user))
    });
    let engine = Inside::start(&lab, &Ceiling::default(), kept)?;
    let exits = (0..2).map(|number| exit(number, ssh(far(22), "hans", &public_line(&host))));
    engine.apply(exits.collect())?;
    let mut slow = lab.connect_from("10.8.0.3", beyond(0, 0))?;
    let mut held = 0;
    for _ in 0..20 {
        thread::sleep(SECOND);
        let now = written.load(Ordering::Relaxed);
        if now > 0 && now == held {
            break;
        }
        held = now;
    }
    assert_eq!(
        written.load(Ordering::Relaxed),
        held,
        "the fast side is held back"
    );
    assert!(
        held < 64 * 1024 * 1024,
        "{held} bytes were taken from the fast side"
    );
    // Of the same exit, and of another at the same server.
    let mut buffer = vec![0; 65536];
    assert!(
        lab.connect(beyond(0, 0))?.read(&mut buffer)? > 0,
        "another peer of the exit"
    );
    assert_eq!(echoed(lab.connect(beyond(0, 1))?, b"goes on")?, b"goes on");
    let mut taken = 0;
    while taken < held as usize {
        taken += slow.read(&mut buffer)?;
    }
    Ok(())
}

/// The program itself: under its sandbox it reaches vaultd, and speaks SSH.
#[test]
fn the_program_reads_its_secrets_from_vaultd_and_takes_a_new_one_within_seconds() -> Result<()> {
    let lab = Lab::new()?;
    for number in 0..3 {
        serve(&lab.far, beyond(0, number), echo);
    }
    let asked = Asked::default();
    let (host, user) = (key(1), key(2));
    serve(
        &lab.far,
        far(1080),
        servers::socks5(Login::Only("hans", "hunter2"), asked.clone()),
    );
    sshd::serve(&lab.far, far(22), key(1), &user, asked.clone());
    let kept = Kept::default()
        .with(0, "password", "old")
        .with(1, "private_key", &private_text(&user));
    let vault = Vault::start(kept)?;
    let ceiling = Ceiling {
        vault: vault.socket(),
        ..Ceiling::default()
    };
    let daemon = Daemon::start(&lab, &ceiling)?;
    let exits = daemon.apply(vec![
        exit(0, socks5(far(1080), "hans")),
        exit(1, ssh(far(22), "hans", &public_line(&host))),
        exit(2, http(far(3128), "hans")),
    ])?;
    assert!(exits.iter().all(|exit| exit.listening), "{exits:?}");
    assert_eq!(echoed(lab.connect(beyond(0, 1))?, b"ssh")?, b"ssh");
    is_reset(lab.connect(beyond(0, 0)));
    let told = daemon.settles(0, |exit| exit.failed_connections == 1)?;
    assert_eq!(told.last_failure_reason, "CREDENTIALS");
    is_reset(lab.connect(beyond(0, 2)));
    let told = daemon.settles(2, |exit| exit.failed_connections == 1)?;
    assert_eq!(told.last_failure_reason, "SECRET", "vaultd has none");
    vault.put(0, "password", "hunter2", 0);
    let carried = until(2 * KEPT, "the new password works", || {
        let stream = lab.connect(beyond(0, 0)).ok()?;
        echoed(stream, b"new").ok().filter(|answer| answer == b"new")
    });
    carried?;
    assert!(!daemon.process.output().contains("hunter2"), "a secret is logged");
    lab.nothing_went_directly()
}

/// A connection that is imported again has another server and another password, and neither server is told the other's: not while
/// vaultd has the new one and ApplyExits has not come, and not from what is kept for a few seconds.
#[test]
fn no_server_is_told_the_password_of_another_import() -> Result<()> {
    let lab = Lab::new()?;
    let (old, new) = (Asked::default(), Asked::default());
    serve(&lab.far, far(1080), servers::socks5_listening(old.clone()));
    serve(&lab.far, far(1081), servers::socks5_listening(new.clone()));
    let vault = Vault::start(Kept::default().with_of(0, "password", "hunter-first", 1))?;
    let ceiling = Ceiling {
        vault: vault.socket(),
        ..Ceiling::default()
    };
    let daemon = Daemon::start(&lab, &ceiling)?;
    let import = |port, revision| daemon.apply(vec![exit_of(0, socks5(far(port), "hans"), revision)]);
    let carries = || -> Result<bool> { Ok(echoed(lab.connect(beyond(0, 0))?, b"in")? == b"in") };
    import(1080, 1)?;
    assert!(carries()?);

    vault.put(0, "password", "hunter-second", 2);
    let refused = until(2 * KEPT, "what was kept is let go", || {
        is_carried_or_reset(&lab);
        let told = daemon.status(0);
        (told.failed_connections > 0).then_some(told)
    })?;
    assert_eq!(refused.last_failure_reason, "SECRET");
    let words = refused.last_failure_detail;
    assert!(words.contains("than this exit was told of"), "{words}");
    assert!(refused.listening, "it is no end of the exit");

    import(1081, 2)?;
    assert!(carries()?, "with ApplyExits it works, at once");
    // The next import follows while the last one's is kept.
    vault.put(0, "password", "hunter-third", 3);
    import(1080, 3)?;
    assert!(carries()?, "at once again");

    let mut told = old.lock().unwrap().clone();
    told.dedup();
    assert_eq!(told, ["hunter-first", "hunter-third"], "the one server");
    assert_eq!(*new.lock().unwrap(), ["hunter-second"], "the other");
    assert!(!daemon.process.output().contains("hunter"), "a secret is logged");
    lab.nothing_went_directly()
}

/// A connection of which it is not known yet whether it is carried.
fn is_carried_or_reset(lab: &Lab) {
    if let Ok(stream) = lab.connect(beyond(0, 0)) {
        let _ = echoed(stream, b"in");
    }
    thread::sleep(SECOND / 4);
}
