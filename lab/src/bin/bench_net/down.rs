//! What leaves after a peer's exit went down, while the peer sends without a pause.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cell_lab::measure::Bench;
use cell_lab::process::until;

use crate::road::{Road, SERVER};
use crate::state::interface;

/// Where datagrams are sent.
const SINK: u16 = 9;
const TICK: Duration = Duration::from_micros(200);
/// Long enough for what was under way.
const AFTER: Duration = Duration::from_secs(2);

/// Adds the rows.
pub fn run(bench: &mut Bench, road: &Road) -> Result<()> {
    let stream = Stream::start(road)?;
    until(Duration::from_secs(10), "datagrams to arrive", || {
        (stream.arrived.load(Ordering::Relaxed) > 1000).then_some(())
    })?;
    let (down, before) = (Instant::now(), stream.sent.load(Ordering::Relaxed));
    road.router.ip(&format!("link set {} down", interface(0)))?;
    std::thread::sleep(AFTER);
    let (sent, last) = stream.stop()?;
    let sent = sent - before;
    ensure!(sent > 100, "the peer went on sending: {sent}");
    bench.time(
        "an exit goes down: from the command to the last packet by it",
        last.saturating_duration_since(down),
    );
    let leaked = road.leaked.packets()?;
    bench.report.add(
        format!("packets by the machine's own way, of {sent} sent from then on"),
        leaked,
        "packets",
        "0",
        leaked == 0,
    );
    let server = SERVER.to_string();
    road.router.run("ping", &["-c", "1", "-W", "2", &server])?;
    let seen = road.leaked.packets()? > leaked;
    let name = "control: what the machine itself sends that way is counted";
    bench.report.add(name, seen, "", "true", seen);
    Ok(())
}

/// Datagrams from the peer to the server.
struct Stream {
    over: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    arrived: Arc<AtomicU64>,
    sender: JoinHandle<()>,
    /// When the last one arrived.
    receiver: JoinHandle<Option<Instant>>,
}

impl Stream {
    fn start(road: &Road) -> Result<Self> {
        let sink = road.server.inside(|| UdpSocket::bind((SERVER, SINK)))??;
        sink.set_read_timeout(Some(Duration::from_millis(50)))?;
        let source = road.client.inside(|| -> io::Result<_> {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(SocketAddr::from((SERVER, SINK)))?;
            Ok(socket)
        })??;
        let (over, sent, arrived) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicU64::new(0)),
        );
        let sender = std::thread::spawn({
            let (over, sent) = (Arc::clone(&over), Arc::clone(&sent));
            move || {
                while !over.load(Ordering::Relaxed) {
                    // While the exit is down the router answers that nothing is reachable, which the next call is told.
                    if source.send(b"probe").is_ok() {
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                    std::thread::sleep(TICK);
                }
            }
        });
        let receiver = std::thread::spawn({
            let (over, arrived) = (Arc::clone(&over), Arc::clone(&arrived));
            move || {
                let mut last = None;
                while !over.load(Ordering::Relaxed) {
                    if sink.recv(&mut [0; 16]).is_ok() {
                        arrived.fetch_add(1, Ordering::Relaxed);
                        last = Some(Instant::now());
                    }
                }
                last
            }
        });
        Ok(Stream {
            over,
            sent,
            arrived,
            sender,
            receiver,
        })
    }

    /// How many were sent, and when the last one arrived.
    fn stop(self) -> Result<(u64, Instant)> {
        self.over.store(true, Ordering::Relaxed);
        self.sender.join().ok().context("the sender panicked")?;
        let last = self.receiver.join().ok().context("the receiver panicked")?;
        Ok((
            self.sent.load(Ordering::Relaxed),
            last.context("nothing arrived")?,
        ))
    }
}
