//! What is said to an exit before it carries anything: bytes in, bytes out, no socket.
//!
//! A machine is started once, then given what the exit sends, in whatever pieces it comes, until it is open or has failed.
//! It keeps a bounded number of bytes, and gives back those that came after the exit's last word: they are the
//! destination's first.

use std::fmt;

use zeroize::Zeroizing;

use crate::credentials::Credentials;
use crate::destination::Destination;
use crate::http_connect::HttpConnect;
use crate::socks5::{self, Socks5};

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Wait for more from the exit.
    Wait,
    /// Send this, then wait.
    Send(Outgoing),
    /// The way is open. What came with the last word is the destination's and goes to the peer first.
    Open(Vec<u8>),
}

/// Bytes for the exit. They may hold a password, so they are wiped when they go, and `Debug` shows their number alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Outgoing(Zeroizing<Vec<u8>>);

impl Outgoing {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Outgoing(Zeroizing::new(bytes))
    }

    /// What to send.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outgoing({} bytes)", self.0.len())
    }
}

/// Why a handshake came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The answer is of another protocol, or broken.
    #[error("the exit does not speak the protocol: {0}")]
    Protocol(&'static str),
    /// The exit wants what was not offered: a user and password, or none.
    #[error("the exit takes none of the ways to log in that were offered")]
    NoMethod,
    /// User or password are wrong.
    #[error("the exit refused the user and password")]
    Credentials,
    /// The exit speaks the protocol and does not reach the destination, or will not.
    #[error("the exit does not carry the connection: {0}")]
    Refused(Refusal),
    /// Bytes after the end, or a machine that has failed already.
    #[error("the handshake is over")]
    Over,
}

/// An exit's own reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// RFC 1928, section 6.
    #[error("{0}")]
    Socks5(socks5::Reply),
    /// The status of the answer to CONNECT.
    #[error("HTTP status {0}")]
    Http(u16),
}

/// Any of the handshakes.
#[derive(Debug)]
pub enum Handshake {
    /// RFC 1928.
    Socks5(Socks5),
    /// RFC 9110, section 9.3.6.
    HttpConnect(HttpConnect),
}

impl Handshake {
    /// By SOCKS 5. With credentials only these are offered: an exit that wants none is another than was meant.
    pub fn socks5(destination: Destination, credentials: Option<Credentials>) -> Self {
        Handshake::Socks5(Socks5::new(destination, credentials))
    }

    /// By HTTP CONNECT.
    pub fn http_connect(destination: Destination, credentials: Option<&Credentials>) -> Self {
        Handshake::HttpConnect(HttpConnect::new(&destination, credentials))
    }

    /// What is sent first.
    pub fn start(&self) -> Outgoing {
        match self {
            Handshake::Socks5(machine) => machine.start(),
            Handshake::HttpConnect(machine) => machine.start(),
        }
    }

    /// Takes what the exit sent.
    ///
    /// # Errors
    /// [`HandshakeError`]; the connection is to be given up.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Step, HandshakeError> {
        match self {
            Handshake::Socks5(machine) => machine.receive(bytes),
            Handshake::HttpConnect(machine) => machine.receive(bytes),
        }
    }
}
