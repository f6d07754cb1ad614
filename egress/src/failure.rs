//! Why an exit did not carry a connection.

use std::error::Error;
use std::io;

use cell_egress_core::handshake::HandshakeError;
use nix::errno::Errno;

use crate::secrets::NoSecret;

/// One connection that came to nothing, and whose fault it was.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// This machine has too little of something: nothing is known of the exit. Made by [`Failure::connecting`] and
    /// [`Failure::talking`] alone.
    #[error("this machine lacks what the connection takes: {0}")]
    Local(#[source] io::Error),
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
    /// The exit's server could not be connected to. One device that connects very often uses up the ports to it (EADDRNOTAVAIL).
    pub fn connecting(error: io::Error) -> Self {
        let of_ports = error.kind() == io::ErrorKind::AddrNotAvailable;
        match of_ports || is_shortage(&error) {
            true => Failure::Local(error),
            false => Failure::Connect(error),
        }
    }

    /// What was said to it, or what it says, did not come over.
    pub fn talking(error: io::Error) -> Self {
        match is_shortage(&error) {
            true => Failure::Local(error),
            false => Failure::Closed(error),
        }
    }

    /// Whether it is this machine's own, and says nothing of the exit: an exit for which it counted would be called down, and its
    /// devices moved to another or let out directly, for a shortage that all exits have.
    pub fn is_local(&self) -> bool {
        matches!(self, Failure::Local(_) | Failure::Secret(NoSecret::Shortage(_)))
    }

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
            Failure::Local(_) => "SHORTAGE",
        }
    }
}

/// Whether the machine has too little of something: descriptors, its own or all of them, or memory. What the far side answers is
/// never that.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
    )
}

/// The same of what a library says, whatever it has wrapped around it.
pub fn is_of_shortage(error: &(dyn Error + 'static)) -> bool {
    let within = error.downcast_ref::<io::Error>();
    // What an `io::Error` is made of is not its source.
    within.is_some_and(|io| is_shortage(io) || io.get_ref().is_some_and(|inner| is_of_shortage(inner)))
        || error.source().is_some_and(is_of_shortage)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: [Errno; 4] = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];

    #[test]
    fn what_the_machine_lacks_is_not_the_exits() {
        for errno in SHORT {
            for failure in [Failure::connecting(errno.into()), Failure::talking(errno.into())] {
                assert!(failure.is_local() && failure.reason() == "SHORTAGE", "{failure}");
            }
        }
        assert!(
            Failure::connecting(Errno::EADDRNOTAVAIL.into()).is_local(),
            "the ports"
        );
        // What a firewall refuses is no shortage.
        for errno in [Errno::ECONNREFUSED, Errno::ENETUNREACH, Errno::EPERM] {
            let failure = Failure::connecting(errno.into());
            assert!(
                !failure.is_local() && failure.reason() == "CONNECT_FAILED",
                "{errno}"
            );
        }
        let closed = Failure::talking(Errno::ECONNRESET.into());
        assert!(!closed.is_local() && closed.reason() == "CLOSED");
        for failure in [Failure::Paused, Failure::ConnectTimeout, Failure::SshLogin] {
            assert!(!failure.is_local(), "{failure}");
        }
        let name = "conn_x_password".to_owned();
        assert!(Failure::Secret(NoSecret::Shortage(name.clone())).is_local());
        assert!(!Failure::Secret(NoSecret::Absent(name)).is_local());
    }

    #[test]
    fn a_shortage_is_known_whatever_is_around_it() {
        let wrapped =
            |errno: Errno| tonic::Status::from_error(Box::new(io::Error::other(io::Error::from(errno))));
        for errno in SHORT {
            assert!(is_of_shortage(&wrapped(errno)), "{errno}");
        }
        assert!(!is_of_shortage(&wrapped(Errno::ECONNREFUSED)));
        assert!(!is_of_shortage(&tonic::Status::unavailable(
            "Too many open files"
        )));
    }
}
