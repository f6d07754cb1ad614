//! Who holds up netd's thread for marks holds up nothing else of netd, and no other question for longer than is said. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/marks.rs"]
mod marks;
#[path = "support/provider.rs"]
mod provider;
mod support;

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use cell_lab::process::until;
use cell_lab::topology::World;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::socket::{getsockopt, sockopt};
use provider::{Provider, id};
use socket2::SockRef;
use support::{Netd, PATIENCE, spec};

/// netd's answer to a socket that has its mark.
const MARKED: [u8; 1] = [0];
/// And the first byte of one that says why it has none.
const REFUSED: u8 = 1;
/// netd waits a second for a message; on a machine that does much else, some more.
const SOON: Duration = Duration::from_secs(5);
/// How long the socket lingers: longer than anything that may not wait for it.
const LINGER: Duration = Duration::from_secs(30);

struct Setup {
    world: World,
    netd: Netd,
    provider: Provider,
}

impl Setup {
    /// The test itself may ask for marks, which else the relay's user alone may.
    fn new() -> Result<Self> {
        let mut world = World::new()?;
        let mut netd = Netd::start(&world.cell)?;
        let policy = netd.mark_socket().with_file_name("netd.toml");
        let relay = "[callers.mark]\nusers = [\"daemon\"]";
        let text = std::fs::read_to_string(&policy)?;
        assert!(text.contains(relay));
        std::fs::write(&policy, text.replace(relay, "[callers.mark]\nusers = [\"root\"]"))?;
        netd.crash_and_restart(&world.cell)?;
        let provider = Provider::start(&mut world, &netd, 0)?;
        let setup = Setup {
            world,
            netd,
            provider,
        };
        setup.apply()?;
        Ok(setup)
    }

    fn apply(&self) -> Result<()> {
        let mut wanted = spec(Vec::new());
        wanted.exits = vec![self.provider.exit(0)];
        self.netd.apply(wanted, "")?;
        Ok(())
    }

    fn at(&self) -> PathBuf {
        self.netd.mark_socket()
    }

    /// Another question's socket is given its mark, at most so much later.
    fn marks_within(&self, patience: Duration) -> Result<()> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        assert_eq!(marks::hand_over(&self.at(), &id(0), &socket, patience)?, MARKED);
        assert_ne!(getsockopt(&socket, sockopt::Mark)?, 0);
        Ok(())
    }
}

/// One at a time: a program that the other one starts has a copy of every descriptor for a moment, between fork(2) and execve(2), and
/// netd's copy of what lingers has to be the last.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn who_says_nothing_or_never_reads_keeps_nobody_waiting() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let setup = Setup::new()?;
    setup.marks_within(SOON)?;

    // None of these is closed before all is over.
    let silent = marks::connected(&setup.at(), SOON)?;
    setup.marks_within(SOON)?;
    let deaf = UdpSocket::bind("127.0.0.1:0")?;
    let never_reads: Vec<_> = (0..20)
        .map(|_| {
            let connection = marks::connected(&setup.at(), SOON)?;
            marks::send(&connection, &id(0), &deaf)?;
            Ok(connection)
        })
        .collect::<Result<_>>()?;
    setup.marks_within(SOON)?;
    assert_ne!(getsockopt(&deaf, sockopt::Mark)?, 0, "it was served all the same");

    assert_eq!(marks::answer(&silent)?.first(), Some(&REFUSED), "it was given up");
    for connection in &never_reads {
        assert_eq!(marks::answer(connection)?, MARKED);
    }
    Ok(())
}

/// A connection whose far end never reads, with more in it than that takes: close(2) of the last descriptor waits.
fn lingering(listener: &TcpListener) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(listener.local_addr()?)?;
    stream.set_nonblocking(true)?;
    let full = loop {
        if let Err(error) = stream.write(&[0; 65536]) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    SockRef::from(&stream).set_linger(Some(LINGER))?;
    Ok(stream)
}

/// The threads of netd that are in close(2) now, by name.
fn closing(netd: &Netd) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{}/task", netd.process.id()))? {
        let task = task?.path();
        // One that has ended meanwhile closes nothing.
        let call = std::fs::read_to_string(task.join("syscall")).unwrap_or_default();
        let number = call.split(' ').next().and_then(|number| number.parse().ok());
        if number == Some(nix::libc::SYS_close) {
            names.push(std::fs::read_to_string(task.join("comm"))?.trim().to_owned());
        }
    }
    Ok(names)
}

#[test]
fn a_socket_that_lingers_holds_up_marks_alone() -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let setup = Setup::new()?;
    setup.marks_within(SOON)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let stream = lingering(&listener)?;

    // netd does not read before its copy is the last.
    setup.netd.process.hold()?;
    let connection = marks::connected(&setup.at(), 2 * LINGER)?;
    marks::send(&connection, &id(0), &stream)?;
    drop(stream);
    setup.netd.process.signal(Signal::SIGCONT)?;
    let began = Instant::now();

    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let other = marks::hand_over(&setup.at(), &id(0), &socket, Duration::from_secs(2));
    assert_eq!(
        other,
        Err(Errno::EAGAIN),
        "control: the thread waits for the socket"
    );
    assert_eq!(
        closing(&setup.netd)?,
        ["marks"],
        "it keeps no worker of netd busy"
    );
    for _ in 0..5 {
        let asked = Instant::now();
        setup.netd.status()?;
        setup.apply()?;
        assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    }
    // And so does what looks at drift by itself.
    setup
        .world
        .cell
        .run("ip", &["rule", "del", "fwmark", "0x1000/0x1ff0"])?;
    until(PATIENCE, "the rule is back", || {
        let rules = setup.world.cell.run("ip", &["rule"]).ok()?;
        rules.contains("0x1000/0x1ff0").then_some(())
    })?;
    assert!(!marks::is_answered(&connection), "it lingers still");

    assert_eq!(marks::answer(&connection)?, MARKED, "when it lingers no more");
    assert!(began.elapsed() >= LINGER - Duration::from_secs(1));
    setup.marks_within(SOON)
}
