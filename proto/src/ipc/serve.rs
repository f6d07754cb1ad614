//! Serving gRPC on a listener that was handed over, behind the caller check.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tower::{Layer, Service};

use super::caller::{Caller, CallerPolicy, Refusal};
use super::malformed;
use crate::fault::Fault;

/// Largest message that a daemon decodes, bytes. 20,000 peers with services fit; a caller cannot make us hold more.
///
/// tonic keeps the limit in each generated server, so a daemon sets it where it builds its routes:
///
/// ```
/// use cell_proto::ipc::serve::MAX_MESSAGE_BYTES;
/// use cell_proto::netd::v1::network_service_server::{NetworkService, NetworkServiceServer};
///
/// fn routes(service: impl NetworkService) -> tonic::service::Routes {
///     let server = NetworkServiceServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES);
///     tonic::service::Routes::new(server)
/// }
/// ```
///
/// A server that is not told keeps tonic's own 4 MiB; larger messages are refused with OUT_OF_RANGE either way.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// How long one call may take: the longest stop of a container (60 s), and what Docker needs around it.
const CALL_DEADLINE: Duration = Duration::from_secs(90);
/// How long calls under way have to end after the daemon was told to.
const DRAIN: Duration = Duration::from_secs(3);
/// Calls under way at once per connection.
const CONCURRENCY_PER_CONNECTION: usize = 64;

/// The listeners that systemd or the launcher handed over, by name (sd_listen_fds(3), `FileDescriptorName=`). Several may
/// bear one name, e.g. one for each family of addresses.
#[derive(Debug)]
pub struct Listeners(Vec<(String, OwnedFd)>);

impl Listeners {
    /// Takes them from the environment. Call once, before any thread is started.
    pub fn take() -> io::Result<Self> {
        cell_sandbox::inherited_descriptors().map(Listeners)
    }

    /// The first Unix listener called `name` that was not taken yet. Needs the runtime's context.
    ///
    /// # Errors
    /// `NotFound` when none of that name is left.
    pub fn unix(&mut self, name: &str) -> io::Result<UnixListener> {
        let listener = std::os::unix::net::UnixListener::from(self.descriptor(name)?);
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    }

    /// The first TCP listener called `name` that was not taken yet. Where the kernel lets a process without privileges say so,
    /// it can serve and never be a client; elsewhere that is left to the sandbox. Needs the runtime's context.
    ///
    /// # Errors
    /// `NotFound` when none of that name is left.
    pub fn tcp(&mut self, name: &str) -> io::Result<tokio::net::TcpListener> {
        let listener = std::net::TcpListener::from(self.descriptor(name)?);
        match cell_sandbox::never_connects(&listener) {
            // Some kernels are built to refuse socket filters of the unprivileged.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                tracing::warn!(
                    name,
                    "this kernel lets no filter on the listener: the sandbox alone keeps it from connecting"
                );
            }
            attached => attached?,
        }
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener)
    }

    /// The names of what is left to take.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The first descriptor called `name` that was not taken yet, whatever it is.
    ///
    /// # Errors
    /// `NotFound` when none of that name is left.
    pub fn descriptor(&mut self, name: &str) -> io::Result<OwnedFd> {
        let at = self.0.iter().position(|(known, _)| known == name).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("no listener named \"{name}\" was handed over; start this daemon by its unit or by `make run`"),
            )
        })?;
        Ok(self.0.remove(at).1)
    }
}

/// Serves `routes` on `listener` to callers that `policy` knows, until `shutdown` resolves. What is not in `routes` is
/// not registered on this socket: the routes are the permit table of the listener.
pub async fn serve(
    listener: UnixListener,
    policy: CallerPolicy,
    routes: Routes,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let policy = Arc::new(policy);
    let incoming = UnixListenerStream::new(listener).map(move |accepted| {
        accepted.map(|stream| {
            let caller = policy.identify(&stream);
            if let Err(refusal) = &caller {
                tracing::warn!(reason = refusal.reason(), %refusal, "caller refused");
            }
            IdentifiedStream {
                stream,
                caller: Arc::new(caller),
            }
        })
    });
    let (told, stopping) = tokio::sync::oneshot::channel();
    let shutdown = async move {
        shutdown.await;
        let _ = told.send(());
    };
    let server = Server::builder()
        .timeout(CALL_DEADLINE)
        .concurrency_limit_per_connection(CONCURRENCY_PER_CONNECTION)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .layer(GateLayer)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, shutdown);
    tokio::select! {
        served = server => served,
        // A caller that does not hang up must not keep the daemon from ending.
        () = async { let _ = stopping.await; tokio::time::sleep(DRAIN).await } => Ok(()),
    }
}

/// The outcome of the caller check, one per connection.
type Identity = Arc<Result<Caller, Refusal>>;

/// A connection with the caller that was read from it once, at accept(2).
struct IdentifiedStream {
    stream: UnixStream,
    caller: Identity,
}

impl Connected for IdentifiedStream {
    type ConnectInfo = Identity;

    fn connect_info(&self) -> Identity {
        Arc::clone(&self.caller)
    }
}

impl AsyncRead for IdentifiedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for IdentifiedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Answers PERMISSION_DENIED from the headers alone, so that no byte of a refused caller's message is decoded; of a known
/// caller's, what cannot be decoded is told as its fault.
#[derive(Clone)]
struct GateLayer;

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner }
    }
}

#[derive(Clone)]
struct Gate<S> {
    inner: S,
}

impl<S> Service<http::Request<Body>> for Gate<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let refusal = match request.extensions().get::<Identity>().map(Arc::as_ref) {
            Some(Ok(caller)) => {
                let caller = caller.clone();
                request.extensions_mut().insert(caller);
                let answer = self.inner.call(request);
                return Box::pin(async move { answer.await.map(malformed::told) });
            }
            Some(Err(refusal)) => refusal.clone(),
            None => Refusal::NoCredentials,
        };
        let fault = Fault::new(
            tonic::Code::PermissionDenied,
            "ipc.cell",
            refusal.reason(),
            refusal.to_string(),
        );
        Box::pin(async move { Ok(tonic::Status::from(fault).into_http()) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test]
    async fn listeners_of_one_name_come_one_after_the_other() {
        let bound = ["127.0.0.1:0", "[::1]:0"].map(|address| std::net::TcpListener::bind(address).unwrap());
        let mut listeners = Listeners(bound.map(|listener| ("vpn".to_owned(), listener.into())).into());
        assert_eq!(listeners.names().collect::<Vec<_>>(), ["vpn", "vpn"]);
        assert!(listeners.tcp("vpn").unwrap().local_addr().unwrap().is_ipv4());
        assert!(listeners.tcp("vpn").unwrap().local_addr().unwrap().is_ipv6());
        assert_eq!(listeners.tcp("vpn").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(listeners.unix("api").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
