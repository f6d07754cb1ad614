//! A prober that sends all the time, numbers its datagrams, and knows afterwards which came back and when.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::netns::Namespace;
use crate::probe::udp_socket;

/// How long the last answers may take.
const TAIL: Duration = Duration::from_secs(1);

/// Sends one datagram per interval to an [`crate::probe::EchoServer`]. Dropping it stops it.
#[derive(Debug)]
pub struct Prober {
    stop: Arc<AtomicBool>,
    sender: Option<JoinHandle<Vec<Instant>>>,
    receiver: Option<JoinHandle<BTreeMap<u64, Instant>>>,
}

/// What a prober saw.
#[derive(Debug, Clone)]
pub struct Report {
    /// When each datagram was sent, by number.
    pub sent: Vec<Instant>,
    /// When each was answered, by number.
    pub answered: BTreeMap<u64, Instant>,
}

impl Report {
    /// Datagrams that were not answered.
    pub fn lost(&self) -> usize {
        self.sent.len() - self.answered.len()
    }

    /// Datagrams sent at `time` or later that were answered.
    pub fn answered_since(&self, time: Instant) -> usize {
        let first = self.sent.partition_point(|sent| *sent < time) as u64;
        self.answered.range(first..).count()
    }

    /// Datagrams sent at `time` or later.
    pub fn sent_since(&self, time: Instant) -> usize {
        self.sent.len() - self.sent.partition_point(|sent| *sent < time)
    }

    /// When the last datagram that was answered had been sent.
    pub fn last_answered(&self) -> Option<Instant> {
        let (number, _) = self.answered.last_key_value()?;
        usize::try_from(*number)
            .ok()
            .and_then(|number| self.sent.get(number))
            .copied()
    }
}

impl Prober {
    /// Starts sending from inside `namespace`.
    ///
    /// # Errors
    /// When there is no socket.
    pub fn start(namespace: &Namespace, to: SocketAddr, interval: Duration) -> Result<Self> {
        let socket = namespace.inside(|| udp_socket(to))??;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (sending, stopped) = (socket.try_clone()?, Arc::clone(&stop));
        let sender = thread::spawn(move || send(&sending, interval, &stopped));
        let stopped = Arc::clone(&stop);
        let receiver = thread::spawn(move || receive(&socket, &stopped));
        Ok(Prober {
            stop,
            sender: Some(sender),
            receiver: Some(receiver),
        })
    }

    /// Stops sending, waits a second for the last answers, and reports.
    ///
    /// # Errors
    /// When one of its threads panicked.
    pub fn stop(mut self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.take().and_then(|thread| thread.join().ok());
        let answered = self.receiver.take().and_then(|thread| thread.join().ok());
        let (Some(sent), Some(answered)) = (sent, answered) else {
            return Err(anyhow!("a prober's thread panicked"));
        };
        Ok(Report { sent, answered })
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn send(socket: &UdpSocket, interval: Duration, stop: &AtomicBool) -> Vec<Instant> {
    let mut sent = Vec::new();
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let number = sent.len() as u64;
        // A datagram that the namespace itself refuses counts as sent and lost.
        sent.push(Instant::now());
        let _ = socket.send(&number.to_be_bytes());
        next += interval;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    sent
}

fn receive(socket: &UdpSocket, stop: &AtomicBool) -> BTreeMap<u64, Instant> {
    let mut answered = BTreeMap::new();
    let mut end = None;
    while end.is_none_or(|end| Instant::now() < end) {
        if end.is_none() && stop.load(Ordering::Relaxed) {
            end = Some(Instant::now() + TAIL);
        }
        let mut number = [0; 8];
        if let Ok(8) = socket.recv(&mut number) {
            answered
                .entry(u64::from_be_bytes(number))
                .or_insert_with(Instant::now);
        }
    }
    answered
}
