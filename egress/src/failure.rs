//! Why an exit did not carry a connection.

use std::io;

use cell_egress_core::handshake::HandshakeError;

use crate::secrets::NoSecret;

/// One connection that came to nothing, and whose fault it was.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The server of the exit was not reached.
    #[error("the exit's server was not reached: {0}")]
    Connect(#[source] io::Error),
    /// Nor in time.
    #[error("the exit's server did not take the connection in time")]
    ConnectTimeout,
    /// The server said nothing more, or too slowly.
    #[error("the exit did not open the way in time")]
    HandshakeTimeout,
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The server hung up, or the connection broke.
    #[error("the exit closed the connection: {0}")]
    Closed(#[source] io::Error),
    /// The vault gave no secret, or one of no use.
    #[error(transparent)]
    Secret(#[from] NoSecret),
    /// The SSH server's key is none of those that are pinned.
    #[error("the server's host key is none of the pinned ones")]
    HostKey,
    /// The SSH server takes neither user nor key.
    #[error("the server refused the user and key")]
    SshLogin,
    /// SSH itself.
    #[error("SSH: {0}")]
    Ssh(String),
    /// The SSH server does not carry this connection.
    #[error("the server does not carry the connection: {0}")]
    SshRefused(String),
    /// An attempt failed a moment ago.
    #[error("the exit failed a moment ago and is tried again later")]
    Paused,
}

impl Failure {
    /// A code that never changes, as `ExitStatus.last_failure_reason` names it.
    pub fn reason(&self) -> &'static str {
        match self {
            Failure::Connect(_) => "CONNECT_FAILED",
            Failure::ConnectTimeout => "CONNECT_TIMEOUT",
            Failure::HandshakeTimeout => "HANDSHAKE_TIMEOUT",
            Failure::Handshake(HandshakeError::Protocol(_) | HandshakeError::Over) | Failure::Ssh(_) => {
                "PROTOCOL"
            }
            Failure::Handshake(HandshakeError::NoMethod | HandshakeError::Credentials)
            | Failure::SshLogin => "CREDENTIALS",
            Failure::Handshake(HandshakeError::Refused(_)) | Failure::SshRefused(_) => "REFUSED",
            Failure::Closed(_) => "CLOSED",
            Failure::Secret(_) => "SECRET",
            Failure::HostKey => "HOST_ID",
            Failure::Paused => "PAUSED",
        }
    }
}
