//! What leaves after a peer's exit went down, while the peer sends without a pause and netd watches.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cell_lab::measure::Bench;
use cell_lab::process::until;
use cell_lab::stock::Client;

use crate::relay;
use crate::road::SERVER;
use crate::state::{FAR, PROXY_PORT, interface};
use crate::tunnelled::{Machines, Tunnelled, far_file};

/// Where the peer sends to.
const SINK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(SERVER), 9);
const TICK: Duration = Duration::from_micros(200);
/// Long enough for what was under way, and for netd to make an interface anew.
const AFTER: Duration = Duration::from_secs(3);
/// An exit that is down is so for as long, or it was not.
const DOWN_LEAST: Duration = Duration::from_millis(100);
/// How long the server waits for more before it looks whether all is over.
const LOOK: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(20);

/// Adds the rows.
pub fn run(bench: &mut Bench, road: &mut Tunnelled<'_>) -> Result<()> {
    let first = interface(0);
    let machines = road.machines;
    let ip = |command: String| machines.cell.ip(&command).map(drop);
    tunnel(bench, road, "its interface is set down", |_| {
        ip(format!("link set {first} down"))
    })?;
    tunnel(bench, road, "its interface is deleted", |_| {
        ip(format!("link delete {first}"))
    })?;
    tunnel(bench, road, "its far end goes", |road| {
        road.far = None;
        Ok(())
    })?;
    road.far = Some(Client::up(&machines.far, &far_file())?);
    redirected(bench, road)?;
    // The counter sees what it should, or its noughts say nothing.
    let leaked = road.leaked.packets()?;
    machines
        .cell
        .run("ping", &["-c", "1", "-W", "2", &SERVER.to_string()])?;
    let seen = road.leaked.packets()? > leaked;
    let name = "control: what the machine itself sends that way is counted";
    bench.report.add(name, seen, "", "true", seen);
    Ok(())
}

fn tunnel<'a>(
    bench: &mut Bench,
    road: &mut Tunnelled<'a>,
    what: &str,
    act: impl FnOnce(&mut Tunnelled<'a>) -> Result<()>,
) -> Result<()> {
    let stream = Stream::of_datagrams(road.machines)?;
    judge(bench, road, stream, &format!("a tunnel goes down ({what})"), act)
}

/// The peer's exit is a relay, which is killed while a connection is open.
fn redirected(bench: &mut Bench, road: &mut Tunnelled<'_>) -> Result<()> {
    road.netd.assign(road.size.peers, road.size.exits / 2)?;
    let folder = tempfile::tempdir()?;
    let proxy = SocketAddr::from((FAR, PROXY_PORT));
    let _far = road.machines.far.inside(|| relay::served(proxy))??;
    let egress = relay::start_egress(&road.machines.cell, folder.path(), "10.64.0.0/10", proxy)?;
    let stream = Stream::of_bytes(road.machines)?;
    judge(
        bench,
        road,
        stream,
        "a relay goes down (cell-egress is killed)",
        |_| {
            drop(egress);
            Ok(())
        },
    )
}

fn judge<'a>(
    bench: &mut Bench,
    road: &mut Tunnelled<'a>,
    stream: Stream,
    what: &str,
    act: impl FnOnce(&mut Tunnelled<'a>) -> Result<()>,
) -> Result<()> {
    until(PATIENCE, "what the peer sends to arrive", || {
        (stream.arrived.load(Ordering::Relaxed) > 500).then_some(())
    })?;
    let (down, before) = (Instant::now(), stream.sent.load(Ordering::Relaxed));
    act(road)?;
    std::thread::sleep(AFTER);
    let (sent, arrivals) = stream.stop()?;
    let sent = sent - before;
    ensure!(sent > 100, "the peer went on sending: {sent}");
    let (last, again) = silence(down, &arrivals, Instant::now());
    // Shorter, it may be that this machine did something else, and that the exit never was down.
    let silent = again.unwrap_or(AFTER).saturating_sub(last);
    ensure!(silent >= DOWN_LEAST, "{what}: nothing came for {silent:?} alone");
    let name = format!("{what}: from the command to the last packet by it");
    let millis = format!("{:.2}", last.as_secs_f64() * 1e3);
    bench.report.add(name, millis, "ms", "", true);
    if let Some(again) = again {
        bench.time(
            format!("{what}: until netd has it up again, and packets come"),
            again,
        );
    }
    let leaked = road.leaked.packets()?;
    bench.report.add(
        format!("{what}: packets by the machine's own way, of {sent} times that the peer sent or tried from then on"),
        leaked,
        "packets",
        "0",
        leaked == 0,
    );
    Ok(())
}

/// The longest time without an arrival after `down`: when it began, and when it ended, if it did. Pure.
fn silence(down: Instant, arrivals: &[Instant], end: Instant) -> (Duration, Option<Duration>) {
    let since = |time: Instant| time.saturating_duration_since(down);
    let after: Vec<Instant> = arrivals.iter().copied().filter(|time| *time > down).collect();
    let starts = std::iter::once(down).chain(after.iter().copied());
    let ends = after.iter().copied().map(Some).chain([None]);
    let longest = starts
        .zip(ends)
        .max_by_key(|(start, next)| next.unwrap_or(end).saturating_duration_since(*start));
    longest.map_or((Duration::ZERO, None), |(start, next)| {
        (since(start), next.map(since))
    })
}

/// What the peer sends to the server.
struct Stream {
    over: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    arrived: Arc<AtomicU64>,
    sender: JoinHandle<()>,
    receiver: JoinHandle<Vec<Instant>>,
}

impl Stream {
    fn of_datagrams(machines: &Machines) -> Result<Self> {
        let sink = machines.far.inside(|| UdpSocket::bind(SINK))??;
        sink.set_read_timeout(Some(LOOK))?;
        let source = machines.client.inside(|| UdpSocket::bind("0.0.0.0:0"))??;
        source.connect(SINK)?;
        // While the exit is down the cell answers that nothing is reachable, which the next call is told.
        let send = move || source.send(b"probe").is_ok();
        Ok(Stream::new(send, move || sink.recv(&mut [0; 16]).is_ok()))
    }

    /// By one connection, or another when it is broken.
    fn of_bytes(machines: &Machines) -> Result<Self> {
        let sink = machines.far.inside(|| TcpListener::bind(SINK))??;
        sink.set_nonblocking(true)?;
        let mut near: Option<TcpStream> = None;
        let send = move || {
            match near.as_mut().map(|stream| stream.write_all(b"p")) {
                Some(Ok(())) => {}
                Some(Err(_)) => near = None,
                None => near = TcpStream::connect_timeout(&SINK, LOOK).ok(),
            }
            // Tried is sent: of what fails, the first packet left the peer.
            true
        };
        let mut far: Option<TcpStream> = None;
        let receive = move || {
            if let Ok((stream, _)) = sink.accept() {
                let timed = stream
                    .set_nonblocking(false)
                    .and_then(|()| stream.set_read_timeout(Some(LOOK)));
                far = timed.is_ok().then_some(stream);
            }
            let Some(stream) = &mut far else {
                std::thread::sleep(TICK);
                return false;
            };
            matches!(stream.read(&mut [0; 4096]), Ok(read) if read > 0)
        };
        // A thread is where the one is that makes it.
        machines.client.inside(|| Stream::new(send, receive))
    }

    /// `send` says whether something was sent, `receive` whether something arrived.
    fn new(
        mut send: impl FnMut() -> bool + Send + 'static,
        mut receive: impl FnMut() -> bool + Send + 'static,
    ) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (sent, arrived) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let sender = std::thread::spawn({
            let (over, sent) = (Arc::clone(&over), Arc::clone(&sent));
            move || {
                while !over.load(Ordering::Relaxed) {
                    sent.fetch_add(send().into(), Ordering::Relaxed);
                    std::thread::sleep(TICK);
                }
            }
        });
        let receiver = std::thread::spawn({
            let (over, arrived) = (Arc::clone(&over), Arc::clone(&arrived));
            move || {
                let mut arrivals = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    if receive() {
                        arrived.fetch_add(1, Ordering::Relaxed);
                        arrivals.push(Instant::now());
                    }
                }
                arrivals
            }
        });
        Stream {
            over,
            sent,
            arrived,
            sender,
            receiver,
        }
    }

    /// How many were sent, and when they arrived.
    fn stop(self) -> Result<(u64, Vec<Instant>)> {
        self.over.store(true, Ordering::Relaxed);
        self.sender.join().ok().context("the sender panicked")?;
        let arrivals = self.receiver.join().ok().context("the receiver panicked")?;
        Ok((self.sent.load(Ordering::Relaxed), arrivals))
    }
}
