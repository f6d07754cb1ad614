//! The listeners of the DNS relay: datagrams, and connections that bring one question after the other.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::listen::{Door, Sockets};
use super::relay::Relay;
use super::wire::Transport;

/// Datagrams that are being answered.
const DATAGRAMS: usize = 4096;
/// Connections of all peers.
pub const CONNECTIONS: usize = 512;
/// Connections of one peer.
const OF_ONE_PEER: u32 = 8;
/// How long a connection may wait for its next question, and an answer to be taken.
const IDLE: Duration = Duration::from_secs(10);
/// Largest datagram that is read, bytes: no question is larger.
const QUESTION_MAX: usize = 4096;
/// How long to wait after a listener failed, e.g. for want of descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves the sockets until it is dropped.
///
/// # Errors
/// When the runtime does not take one.
pub async fn serve(relay: Arc<Relay>, sockets: Sockets) -> io::Result<()> {
    let mut serving = JoinSet::new();
    let connections = Arc::new(Connections::default());
    for (door, socket) in sockets.datagrams {
        serving.spawn(datagrams(Arc::clone(&relay), door, UdpSocket::from_std(socket)?));
    }
    for (door, listener) in sockets.connections {
        let listener = TcpListener::from_std(listener)?;
        let connections = Arc::clone(&connections);
        serving.spawn(accept(Arc::clone(&relay), door, listener, connections));
    }
    while let Some(ended) = serving.join_next().await {
        tracing::error!(panicked = ended.is_err(), "a DNS listener ended");
    }
    std::future::pending().await
}

async fn datagrams(relay: Arc<Relay>, door: Door, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let places = Arc::new(Semaphore::new(DATAGRAMS));
    let mut buffer = vec![0; QUESTION_MAX];
    loop {
        let (length, source) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "a datagram could not be received");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Before anything is done about it, so that a flood of one peer is read faster than it comes.
        let Some(admitted) = relay.admit(source.ip(), door) else {
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            super::counters::count(&relay.counters().dropped);
            continue;
        };
        let (socket, question) = (Arc::clone(&socket), buffer[..length].to_vec());
        tokio::spawn(async move {
            if let Some(answer) = admitted.answer(&question, Transport::Udp).await
                && let Err(error) = socket.send_to(&answer, source).await
            {
                tracing::debug!(%error, "an answer could not be sent");
            }
            drop(place);
        });
    }
}

async fn accept(relay: Arc<Relay>, door: Door, listener: TcpListener, connections: Arc<Connections>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Dropped without one, the connection is closed.
                if let Some(place) = Connections::enter(&connections, peer.ip()) {
                    tokio::spawn(connection(Arc::clone(&relay), door, stream, peer, place));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection for DNS could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(relay: Arc<Relay>, door: Door, mut stream: TcpStream, peer: SocketAddr, place: Place) {
    if let Err(error) = questions(&relay, door, &mut stream, peer.ip()).await {
        tracing::debug!(%error, "a connection for DNS ended");
    }
    drop(place);
}

/// One question after the other (RFC 7766), until one gets no answer.
async fn questions(relay: &Arc<Relay>, door: Door, stream: &mut TcpStream, peer: IpAddr) -> io::Result<()> {
    loop {
        let question = timeout(IDLE, question(stream)).await??;
        let Some(admitted) = relay.admit(peer, door) else {
            return Ok(());
        };
        let Some(answer) = admitted.answer(&question, Transport::Tcp).await else {
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let framed = [length.to_be_bytes().as_slice(), answer.as_slice()].concat();
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}

async fn question(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > QUESTION_MAX {
        return Err(io::Error::other("a question of that length is none"));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// The connections that there are, by peer.
#[derive(Debug, Default)]
struct Connections(Mutex<BTreeMap<IpAddr, u32>>);

impl Connections {
    fn enter(all: &Arc<Connections>, peer: IpAddr) -> Option<Place> {
        let mut peers = all.0.lock().unwrap_or_else(PoisonError::into_inner);
        let there: u32 = peers.values().sum();
        let of_peer = peers.get(&peer).copied().unwrap_or(0);
        if there as usize >= CONNECTIONS || of_peer >= OF_ONE_PEER {
            return None;
        }
        peers.insert(peer, of_peer + 1);
        Some(Place(Arc::clone(all), peer))
    }
}

/// A connection's entry, taken out again however it ends.
struct Place(Arc<Connections>, IpAddr);

impl Drop for Place {
    fn drop(&mut self) {
        let mut peers = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        match peers.get_mut(&self.1) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(peers.remove(&self.1)),
        }
    }
}
