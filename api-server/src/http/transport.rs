//! How a request came in.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use cell_api_core::host::HostPolicy;
use cell_api_core::throttle::Source;
use http::request::Parts;

/// Which listener took the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Plain HTTP, for the machine itself.
    Loopback,
    /// HTTPS, for peers.
    Tls,
}

/// A connection, as told to every request on it.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Which listener.
    pub transport: Transport,
    /// The other end.
    pub remote: SocketAddr,
    /// The names that the listener answers to.
    pub hosts: Arc<HostPolicy>,
}

impl Connection {
    /// Who shares a bucket of failures with it.
    pub fn source(&self) -> Source {
        self.transport.source(self.remote)
    }
}

impl Transport {
    /// Who an address of this listener stands for.
    pub fn source(self, remote: SocketAddr) -> Source {
        match self {
            Transport::Loopback => Source::household(remote.ip()),
            Transport::Tls => Source::peer(remote.ip()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Transport {
    type Rejection = Infallible;

    /// Without a connection there is no plain HTTP to be lenient with.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts
            .extensions
            .get::<Connection>()
            .map_or(Transport::Tls, |connection| connection.transport))
    }
}
