//! Many thousand connections through one exit, idle and stuck, beside one that answers as ever. Needs root, and 16,000 descriptors.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use cell_lab::netns::Namespace;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use support::servers::{self, Asked, Login, echo, serve};
use support::{BEYOND, Ceiling, Daemon, FAR, Lab, beyond, echoed, exit, socks5};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};

/// In all. Half of it is dealt out in three (two exits, and one that may come), the rest is lent.
const TOTAL: u32 = 7200;
const SHARE: u32 = 1200;
/// What one of the two has then.
const MANY: u32 = 4800;
/// What a far end says when it is asked to say much: more than all buffers on the way take.
const MUCH: usize = 256 << 10;
/// Descriptors: two for each connection of [`TOTAL`], and those beside, which the program has from here.
const NEEDED: u64 = 17_000;
/// What a request through the other exit may take, at the most.
const AT_ONCE: Duration = Duration::from_secs(2);

fn far(port: u16) -> SocketAddr {
    format!("{FAR}:{port}").parse().unwrap()
}

/// As many as the two ends of [`MANY`] need, which this process has both.
fn raise_descriptors() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = hard.max(NEEDED);
    setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted)
        .with_context(|| format!("the test needs {NEEDED} descriptors, and may have {hard}"))
}

/// A SOCKS 5 server that is every destination itself: it sends back what it gets, and [`MUCH`] for a '!'. How many bytes of those were
/// taken from it, of all connections together.
fn serve_many(namespace: &Namespace, at: SocketAddr) -> Result<Arc<AtomicU64>> {
    let listener = namespace.inside(|| std::net::TcpListener::bind(at))??;
    listener.set_nonblocking(true)?;
    let taken = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&taken);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let counter = Arc::clone(&counter);
                // One that is cut is nothing to tell.
                tokio::spawn(async move { one_of_many(stream, &counter).await.ok() });
            }
        });
    });
    Ok(taken)
}

async fn one_of_many(mut stream: tokio::net::TcpStream, taken: &AtomicU64) -> io::Result<()> {
    stream.read_exact(&mut [0; 3]).await?;
    stream.write_all(&[5, 0]).await?;
    stream.read_exact(&mut [0; 10]).await?;
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    let mut piece = [0; 64];
    loop {
        let length = stream.read(&mut piece).await?;
        match &piece[..length] {
            [] => return Ok(()),
            b"!" => {
                for _ in 0..MUCH / 4096 {
                    stream.write_all(&[7; 4096]).await?;
                    taken.fetch_add(4096, Ordering::Relaxed);
                }
            }
            said => stream.write_all(said).await?,
        }
    }
}

/// Connects so often, a hundred at a time, and says each's number; those of which it comes back.
fn flood(lab: &Lab, number: u16, count: u32) -> Result<Vec<TcpStream>> {
    let to = beyond(0, number);
    lab.peer.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut open = Vec::new();
            for start in (0..count).step_by(100) {
                let talks = (start..count.min(start + 100)).map(|number| tokio::spawn(numbered(to, number)));
                let talks: Vec<_> = talks.collect();
                for talk in talks {
                    if let Ok(stream) = talk.await? {
                        let stream = stream.into_std()?;
                        stream.set_nonblocking(false)?;
                        open.push(stream);
                    }
                }
            }
            Ok(open)
        })
    })?
}

async fn numbered(to: SocketAddr, number: u32) -> io::Result<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind("10.8.0.2:0".parse().unwrap())?;
    let mut stream = socket.connect(to).await?;
    stream.write_all(&number.to_be_bytes()).await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    assert_eq!(u32::from_be_bytes(answer), number, "nobody gets another's bytes");
    Ok(stream)
}

/// How long the other exit takes for a connection there and back.
fn other_exit(lab: &Lab) -> Result<Duration> {
    let start = Instant::now();
    assert_eq!(
        echoed(lab.connect_from("10.8.0.3", beyond(0, 1))?, b"at once")?,
        b"at once"
    );
    Ok(start.elapsed())
}

/// Two exits' servers, and buffers in the kernel so small that much of what is stuck is the program's.
fn small_lab() -> Result<(Lab, Arc<AtomicU64>)> {
    let lab = Lab::new()?;
    for namespace in [&lab.peer, &lab.cell, &lab.far] {
        for key in ["ipv4/tcp_rmem", "ipv4/tcp_wmem"] {
            namespace.set_sysctl(key, "4096 32768 32768")?;
        }
    }
    let taken = serve_many(&lab.far, far(1080))?;
    serve(
        &lab.far,
        far(1081),
        servers::socks5(Login::None, Asked::default()),
    );
    serve(&lab.far, SocketAddr::new(BEYOND[0].parse()?, 7101), echo);
    Ok((lab, taken))
}

#[test]
fn thousands_through_one_exit_leave_another_as_it_was() -> Result<()> {
    raise_descriptors()?;
    let (lab, taken) = small_lab()?;
    let ceiling = Ceiling {
        limits: (TOTAL, TOTAL, TOTAL),
        // One thread takes them all, perhaps beside other tests.
        connect: 15,
        ..Ceiling::default()
    };
    let daemon = Daemon::start(&lab, &ceiling)?;
    daemon.apply(vec![
        exit(0, socks5(far(1080), "")),
        exit(1, socks5(far(1081), "")),
    ])?;
    let alone = other_exit(&lab)?;
    let before = daemon.memory()?;

    let start = Instant::now();
    let mut open = flood(&lab, 0, MANY + 100)?;
    println!("{} connections in {:?}", open.len(), start.elapsed());
    assert_eq!(open.len(), MANY as usize, "its share, and all that is lent");
    let told = daemon.status(0);
    let counts = (
        told.open_connections,
        told.failed_connections,
        told.refused_connections,
    );
    assert_eq!(counts, (MANY, 0, 100));
    let idle = daemon.memory()?.saturating_sub(before);
    let beside = other_exit(&lab)?;

    // Each is sent more than anybody takes.
    for stream in &mut open {
        stream.write_all(b"!")?;
    }
    let each = until_stuck(&taken)? / u64::from(MANY);
    let (stuck, while_stuck) = (daemon.memory()?.saturating_sub(before), other_exit(&lab)?);
    println!("{each} bytes were taken of each, of {MUCH}");
    assert!(each > 0 && each < MUCH as u64 * 3 / 4, "they are stuck");
    println!("alone {alone:?}, beside idle ones {beside:?}, beside stuck ones {while_stuck:?}");
    println!("memory: idle {idle} KiB, stuck {stuck} KiB, of {MANY} connections");
    assert!(beside < AT_ONCE && while_stuck < AT_ONCE);
    assert!(idle / u64::from(MANY) < 16, "{idle} KiB for idle connections");
    // 8 MiB of the exit are kept in large pieces, the rest in small ones.
    let most = idle + (8 << 10) + u64::from(MANY) * 4 + (16 << 10);
    assert!(stuck < most, "{stuck} KiB for stuck connections, {most} at most");

    // The other has its share to the last place, and no more.
    let others = flood(&lab, 1, SHARE + 10)?;
    assert_eq!(others.len(), SHARE as usize);
    drop(others);
    daemon.settles(1, |exit| exit.open_connections == 0)?;

    // What is stuck goes on as soon as somebody reads, to the last byte.
    let mut last = open.pop().context("a connection")?;
    last.set_read_timeout(Some(support::PATIENCE))?;
    last.read_exact(&mut vec![0; MUCH])?;
    drop((last, open));
    daemon.settles(0, |exit| exit.open_connections == 0)?;
    assert_eq!(
        flood(&lab, 1, SHARE + 10)?.len(),
        SHARE as usize + 10,
        "what came back is lent again"
    );
    Ok(())
}

/// What was taken, in all, once nothing more is.
fn until_stuck(taken: &AtomicU64) -> Result<u64> {
    let mut before = 0;
    for _ in 0..60 {
        thread::sleep(Duration::from_secs(1));
        let now = taken.load(Ordering::Relaxed);
        if now > 0 && now == before {
            return Ok(now);
        }
        before = now;
    }
    anyhow::bail!("{before} bytes and no end")
}
