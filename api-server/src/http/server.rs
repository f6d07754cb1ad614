//! Serves connections: bounded in number, in time, and in what one source may hold.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use cell_api_core::host::HostPolicy;
use cell_api_core::throttle::Source;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::transport::{Connection, Transport};

/// Connections of one listener at once.
const MAX_CONNECTIONS: usize = 1_024;
/// Of these, from one source. On loopback everybody is one source.
const MAX_PER_SOURCE: usize = 256;
/// How long a client may take for its handshake, for its headers, and between requests.
const PATIENCE: Duration = Duration::from_secs(10);
/// Request line and headers. HTTP/1 reads up to twice that before it looks, so 32 KiB at most.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Header fields of one request.
const MAX_HEADERS: usize = 64;
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
    pub router: Router,
}

impl Endpoint {
    /// Serves until `shutdown`, then lets requests under way end.
    pub async fn serve(self, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        let slots = Arc::new(Slots::default());
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, remote)) => match slots.take(remote) {
                    Some(slot) => drop(tasks.spawn(self.connection(stream, remote, slot, shutdown.clone()))),
                    None => tracing::debug!(%remote, "too many connections"),
                },
                Err(error) => pause_after(&error).await,
            }
        }
        tasks.close();
        let _ = tokio::time::timeout(FAREWELL, tasks.wait()).await;
    }

    fn connection(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        slot: Slot,
        shutdown: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let transport = if self.tls.is_some() {
            Transport::Tls
        } else {
            Transport::Loopback
        };
        let connection = Connection {
            transport,
            remote,
            hosts: Arc::clone(&self.hosts),
        };
        let (router, tls) = (self.router.clone(), self.tls.clone());
        async move {
            let _slot = slot;
            // Small answers should not wait for more.
            let _ = stream.set_nodelay(true);
            let Some(tls) = tls else {
                return serve(stream, false, connection, router, shutdown).await;
            };
            // A client that talks something else, or never ends its handshake, is nobody's problem but its own.
            if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                serve(stream, http2, connection, router, shutdown).await;
            }
        }
    }
}

async fn serve<S>(stream: S, http2: bool, connection: Connection, router: Router, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_headers(MAX_HEADERS)
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
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(connection.clone());
        router.clone().oneshot(request)
    });
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    tokio::select! {
        ended = served.as_mut() => log_end(ended),
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            log_end(served.await);
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
#[derive(Default)]
struct Slots(Mutex<BTreeMap<Source, usize>>);

/// One connection's place; given back when dropped.
struct Slot {
    slots: Arc<Slots>,
    source: Source,
}

impl Slots {
    fn take(self: &Arc<Self>, remote: SocketAddr) -> Option<Slot> {
        let source = Source::from(remote.ip());
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = held.values().sum();
        let own = held.entry(source).or_default();
        if all >= MAX_CONNECTIONS || *own >= MAX_PER_SOURCE {
            return None;
        }
        *own += 1;
        Some(Slot {
            slots: Arc::clone(self),
            source,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut held = self.slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = held.get_mut(&self.source) {
            *own -= 1;
            if *own == 0 {
                held.remove(&self.source);
            }
        }
    }
}
