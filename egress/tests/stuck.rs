//! What is stuck of SSH exits: the library that speaks SSH holds little of it, and gives it back whole. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use cell_lab::netns::Namespace;
use cell_proto::egress::v1;
use cell_proto::egress::v1::exit::Kind;
use support::inside::Kept;
use support::servers::Asked;
use support::sshd::{self, key, private_text, public_line};
use support::vault::Vault;
use support::{Ceiling, Daemon, FAR, Lab, beyond, exit, server};

/// Channels of the one session.
const MANY: usize = 128;
/// What the far end has for each, bytes: more than all buffers on the way take.
const MUCH: usize = 256 << 10;
/// And how much of that at a time, so that all are stuck at about the same time.
const PIECE: usize = 4 << 10;
/// What a stuck one may cost, KiB: two messages that wait, one that is being read, and what is left of another, of 2 KiB each; with
/// what the allocator adds.
const EACH: u64 = 16;
/// Beside those: buffers of the session and its threads, KiB.
const BESIDE: u64 = 4 << 10;

/// Takes [`MANY`] connections and, when it is told to, says [`MUCH`] to each, in turns. How many bytes were taken from it.
fn serve_in_turns(namespace: &Namespace, at: SocketAddr, begin: Receiver<()>) -> Result<Arc<AtomicU64>> {
    let listener = namespace.inside(|| TcpListener::bind(at))??;
    let taken = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&taken);
    thread::spawn(move || {
        let mut open: Vec<(TcpStream, usize)> = Vec::new();
        while open.len() < MANY {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0]).unwrap();
            stream.write_all(b"+").unwrap();
            stream.set_nonblocking(true).unwrap();
            open.push((stream, 0));
        }
        begin.recv().unwrap();
        while !open.is_empty() {
            open.retain_mut(|(stream, said)| match stream.write(&said_at(*said)) {
                Ok(length) => {
                    *said += length;
                    counter.fetch_add(length as u64, Ordering::Relaxed);
                    *said < MUCH
                }
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            });
            thread::sleep(Duration::from_millis(2));
        }
    });
    Ok(taken)
}

/// The next piece of what is said.
fn said_at(from: usize) -> Vec<u8> {
    (from..MUCH.min(from + PIECE))
        .map(|at| (at % 251) as u8)
        .collect()
}

/// What was taken, in all, once nothing more is.
fn until_stuck(taken: &AtomicU64) -> Result<usize> {
    let mut before = 0;
    for _ in 0..90 {
        thread::sleep(Duration::from_secs(2));
        let now = taken.load(Ordering::Relaxed);
        if now > 0 && now == before {
            return Ok(usize::try_from(now)?);
        }
        before = now;
    }
    anyhow::bail!("{before} bytes and no end")
}

fn small_lab() -> Result<Lab> {
    let lab = Lab::new()?;
    for namespace in [&lab.peer, &lab.cell, &lab.far] {
        for key in ["ipv4/tcp_rmem", "ipv4/tcp_wmem"] {
            namespace.set_sysctl(key, "4096 32768 32768")?;
        }
    }
    Ok(lab)
}

fn opened(lab: &Lab) -> Result<TcpStream> {
    let mut stream = lab.connect(beyond(0, 0))?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0])?;
    Ok(stream)
}

#[test]
fn channels_that_nobody_reads_from_cost_little_and_lose_nothing() -> Result<()> {
    let lab = small_lab()?;
    let (begins, begin) = channel();
    let taken = serve_in_turns(&lab.far, beyond(0, 0), begin)?;
    let (host, user) = (key(1), key(2));
    let at = format!("{FAR}:22").parse()?;
    let sessions = sshd::serve(&lab.far, at, host.clone(), &user, Asked::default());
    let vault = Vault::start(Kept::default().with(0, "private_key", &private_text(&user)))?;
    let ceiling = Ceiling {
        limits: (4 * MANY as u32, 4 * MANY as u32, 4 * MANY as u32),
        vault: vault.socket(),
        ..Ceiling::default()
    };
    let daemon = Daemon::start(&lab, &ceiling)?;
    let ssh = Kind::Ssh(v1::SshExit {
        server: server(at),
        username: "hans".to_owned(),
        host_keys: vec![public_line(&host)],
    });
    daemon.apply(vec![exit(0, ssh)])?;
    let open = (0..MANY).map(|_| opened(&lab)).collect::<Result<Vec<_>>>()?;
    assert_eq!(sessions.load(Ordering::Relaxed), 1);
    let idle = daemon.memory()?;

    begins.send(())?;
    let held = until_stuck(&taken)?;
    let stuck = daemon.memory()?.saturating_sub(idle);
    println!(
        "{} bytes were taken of each, and {stuck} KiB are held of {MANY}",
        held / MANY
    );
    assert!(held < MANY * MUCH * 7 / 8, "{held} bytes: they are stuck");
    let most = MANY as u64 * EACH + BESIDE;
    assert!(stuck < most, "{stuck} KiB for stuck channels, {most} at most");

    let whole: Vec<_> = (0..MUCH).map(|at| (at % 251) as u8).collect();
    thread::scope(|scope| {
        let readers = open.into_iter().map(|mut stream| {
            let whole = &whole;
            scope.spawn(move || {
                let mut said = vec![0; MUCH];
                stream.read_exact(&mut said).unwrap();
                assert!(said == *whole, "in order");
            })
        });
        let readers: Vec<_> = readers.collect();
        assert!(readers.into_iter().all(|reader| reader.join().is_ok()));
    });
    Ok(())
}
