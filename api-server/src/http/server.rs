//! Serves connections: bounded in number, in time, and in what one source may hold.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cell_api_core::host::HostPolicy;
use cell_api_core::throttle::Source;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::idle::{Usage, Watched};
use super::router::Site;
use super::transport::{Connection, Transport};

/// Connections at once: on loopback, and on the VPN's listeners together.
const MAX_CONNECTIONS: usize = 1_024;
/// Of these, from the machine itself, where everybody is one source.
const MAX_OF_MACHINE: usize = 256;
/// Of these, from one peer: a browser opens six. One household's devices cannot starve one another.
const MAX_PER_PEER: usize = 32;
/// How long a client may take for its handshake, for its headers, and between requests.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an HTTP/2 connection may be open without a request; one of HTTP/1 is closed after [`PATIENCE`].
const IDLE: Duration = Duration::from_secs(60);
/// Request line and headers, of which there are 100 at most (hyper's own limit, for which alone it needs no memory anew
/// for each request). HTTP/1 reads up to twice that before it looks, so 32 KiB at most.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// How long requests under way may take once the process ends.
const FAREWELL: Duration = Duration::from_secs(3);

/// One listener with what is served on it.
pub struct Endpoint {
    /// Where connections come from.
    pub listener: TcpListener,
    /// HTTPS by this acceptor, or plain.
    pub tls: Option<TlsAcceptor>,
    /// The names that it answers to.
    pub hosts: Arc<HostPolicy>,
    /// What it serves.
    pub site: Site,
    /// Who holds how many connections; one for listeners that the same clients reach.
    pub slots: Arc<Slots>,
}

impl Endpoint {
    /// Serves until `shutdown`, then lets requests under way end.
    pub async fn serve(self, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, remote)) => match self.slots.take(self.transport().source(remote)) {
                    // A token of its own: looking at a shared one locks it, and each request looks.
                    Some(slot) => {
                        drop(tasks.spawn(self.connection(stream, remote, slot, shutdown.child_token())))
                    }
                    None => tracing::debug!(%remote, "too many connections"),
                },
                Err(error) => pause_after(&error).await,
            }
        }
        tasks.close();
        let _ = tokio::time::timeout(FAREWELL, tasks.wait()).await;
    }

    fn transport(&self) -> Transport {
        if self.tls.is_some() {
            Transport::Tls
        } else {
            Transport::Loopback
        }
    }

    fn connection(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        slot: Slot,
        shutdown: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let connection = Connection {
            transport: self.transport(),
            remote,
            hosts: Arc::clone(&self.hosts),
        };
        let (site, tls) = (self.site.clone(), self.tls.clone());
        async move {
            let _slot = slot;
            // Small answers should not wait for more.
            let _ = stream.set_nodelay(true);
            let Some(tls) = tls else {
                return serve(stream, false, connection, site, shutdown).await;
            };
            // A client that talks something else, or never ends its handshake, is nobody's problem but its own.
            if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                serve(stream, http2, connection, site, shutdown).await;
            }
        }
    }
}

async fn serve<S>(stream: S, http2: bool, connection: Connection, site: Site, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        // Usage keeps the time: this timer would be made and taken back for each request.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(64)
        .max_header_list_size(MAX_HEADER_BYTES as u32)
        .keep_alive_interval(PATIENCE * 3)
        .keep_alive_timeout(PATIENCE);
    // The version is known beforehand. Guessing it from the first bytes would wait for them without a limit.
    let builder = if http2 {
        builder.http2_only()
    } else {
        builder.http1_only()
    };
    let usage = Usage::default();
    let requests = usage.clone();
    let service = service_fn(move |request| {
        let in_use = requests.begin();
        let answer = site.answer(&connection, request);
        async move { Ok::<_, Infallible>(answer.await.map(|body| in_use.until_sent(body))) }
    });
    let stream = Watched::new(stream, (!http2).then(|| usage.clone()));
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    tokio::select! {
        ended = served.as_mut() => log_end(ended),
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            log_end(served.await);
        }
        () = usage.idle(if http2 { IDLE } else { PATIENCE }) => {
            if http2 {
                served.as_mut().graceful_shutdown();
                // Who does not take the farewell is hung up on.
                if let Ok(ended) = tokio::time::timeout(PATIENCE, served).await {
                    log_end(ended);
                }
            }
        }
    }
}

fn log_end(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// accept(2) fails for a connection that is gone already, or because descriptors have run out; then there is nothing
/// to do but wait for some to be closed.
async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "accept failed");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Who holds how many connections.
#[derive(Debug, Default)]
pub struct Slots(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    by_source: BTreeMap<Source, usize>,
    all: usize,
}

/// One connection's place; given back when dropped.
struct Slot {
    slots: Arc<Slots>,
    source: Source,
}

impl Slots {
    fn take(self: &Arc<Self>, source: Source) -> Option<Slot> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let most = match source {
            Source::V4(_) | Source::V6(_) => MAX_OF_MACHINE,
            Source::Peer(_) => MAX_PER_PEER,
        };
        let own = held.by_source.get(&source).copied().unwrap_or(0);
        if held.all >= MAX_CONNECTIONS || own >= most {
            return None;
        }
        held.all += 1;
        held.by_source.insert(source, own + 1);
        Some(Slot {
            slots: Arc::clone(self),
            source,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut held = self.slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.all -= 1;
        if let Some(own) = held.by_source.get_mut(&self.source) {
            *own -= 1;
            if *own == 0 {
                held.by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn one_peer_takes_its_share_and_gives_it_back() {
        let slots = Arc::new(Slots::default());
        let peer = |n: usize| Source::peer(std::net::Ipv4Addr::from_bits(0x0a56_0000 + n as u32).into());
        let mut taken: Vec<_> = (0..MAX_PER_PEER).map(|_| slots.take(peer(2)).unwrap()).collect();
        assert!(slots.take(peer(2)).is_none());
        taken.push(slots.take(peer(3)).unwrap());
        taken.remove(0);
        taken.push(slots.take(peer(2)).unwrap());
        let rest = MAX_CONNECTIONS - taken.len();
        taken.extend((0..rest).map(|n| slots.take(peer(100 + n)).unwrap()));
        assert!(slots.take(peer(9)).is_none());
        assert!(
            !slots.0.lock().unwrap().by_source.contains_key(&peer(9)),
            "who is turned away leaves nothing"
        );
        taken.clear();
        let held = slots.0.lock().unwrap();
        assert_eq!((held.all, held.by_source.len()), (0, 0));
    }
}
