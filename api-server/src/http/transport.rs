//! How a request came in.

use std::net::SocketAddr;
use std::sync::Arc;

use cell_api_core::host::HostPolicy;
use cell_api_core::throttle::Source;

/// Which listener took the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Plain HTTP, for the machine itself.
    Loopback,
    /// HTTPS, for peers.
    Tls,
}

/// A connection.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Which listener.
    pub transport: Transport,
    /// The other end.
    pub remote: SocketAddr,
    /// The names that the listener answers to.
    pub hosts: Arc<HostPolicy>,
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
