//! An exit: where it listens for redirected connections, and how it is reached.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::credentials;
use crate::pin::HostKey;
use crate::secret::Wanted;

/// Ports that connections are redirected to, inclusive.
pub const REDIRECT_PORTS: (u16, u16) = (9100, 9199);
/// Longest user at an SSH server, bytes.
const SSH_USER_MAX: usize = 64;

/// The id of the connection that the exit belongs to: a UUID in lower case with hyphens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExitId(Arc<str>);

/// Text that is no [`ExitId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is the id of a connection: a UUID in lower case, e.g. 6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a5b")]
pub struct InvalidId;

impl ExitId {
    /// Reads the one form that is written.
    ///
    /// # Errors
    /// [`InvalidId`] for any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let fits = text.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => matches!(c, '0'..='9' | 'a'..='f'),
        });
        if text.len() == 36 && fits {
            Ok(ExitId(text.into()))
        } else {
            Err(InvalidId)
        }
    }

    /// The vault's name of a secret of the connection, `conn_<id without hyphens>_<field>`.
    pub fn secret_name(&self, field: &str) -> String {
        format!("conn_{}_{field}", self.0.replace('-', ""))
    }
}

impl fmt::Display for ExitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ExitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExitId({self})")
    }
}

/// A port of [`REDIRECT_PORTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RedirectPort(u16);

impl RedirectPort {
    /// A port within the range, as it comes from the wire.
    pub fn try_new(port: u32) -> Option<Self> {
        let port = u16::try_from(port).ok()?;
        (REDIRECT_PORTS.0..=REDIRECT_PORTS.1)
            .contains(&port)
            .then_some(RedirectPort(port))
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

/// The address of an exit's own server: the only kind of address that is ever connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server(SocketAddr);

impl Server {
    /// The address of one host.
    pub fn try_new(address: SocketAddr) -> Option<Self> {
        let ip = address.ip().to_canonical();
        let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        let host = !(ip.is_unspecified() || ip.is_multicast() || broadcast);
        (host && address.port() != 0).then_some(Server(SocketAddr::new(ip, address.port())))
    }

    /// Where to connect to.
    pub fn address(self) -> SocketAddr {
        self.0
    }
}

/// Who logs in at an exit; the secret that goes with it is the vault's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User(String);

impl User {
    /// A user for SOCKS 5 and HTTP.
    pub fn of_proxy(text: &str) -> Option<Self> {
        credentials::is_username(text).then(|| User(text.to_owned()))
    }

    /// A user for SSH.
    pub fn of_ssh(text: &str) -> Option<Self> {
        let fits = (1..=SSH_USER_MAX).contains(&text.len())
            && text.chars().all(|c| !c.is_control() && !c.is_whitespace());
        fits.then(|| User(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How an exit carries connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A SOCKS 5 proxy; with a user, whose password is the secret `password`.
    Socks5(Server, Option<User>),
    /// An HTTP proxy that takes CONNECT; with a user, whose password is the secret `password`.
    HttpConnect(Server, Option<User>),
    /// Tor's SOCKS port; the peers' streams are kept apart.
    Tor(Server),
    /// An SSH server that forwards; the secret `private_key` logs in.
    Ssh(Server, User, Vec<HostKey>),
}

impl Kind {
    /// Where it is reached.
    pub fn server(&self) -> Server {
        match self {
            Kind::Socks5(server, _)
            | Kind::HttpConnect(server, _)
            | Kind::Tor(server)
            | Kind::Ssh(server, _, _) => *server,
        }
    }
}

/// One exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Whose it is.
    pub id: ExitId,
    /// Where connections for it are redirected to.
    pub port: RedirectPort,
    /// How it carries them.
    pub kind: Kind,
    /// Of which import of the connection its secret is; 0: of none.
    pub secret_revision: u64,
}

impl Exit {
    /// Its secret in a field.
    pub fn secret(&self, field: &str) -> Wanted {
        Wanted::new(&self.id, field, self.secret_revision)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_id_has_one_form() {
        let id = ExitId::parse("6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a5b").unwrap();
        assert_eq!(
            id.secret_name("password"),
            "conn_6f1d2c3a0b4e4d5f8a9b0c1d2e3f4a5b_password"
        );
        for bad in [
            "",
            "6F1D2C3A-0b4e-4d5f-8a9b-0c1d2e3f4a5b",
            "6f1d2c3a00b4e-4d5f-8a9b-0c1d2e3f4a5b",
            "6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a5",
            "6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a5b0",
            "../../../../../../../../../../../etc",
        ] {
            assert!(ExitId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_end_with_their_range() {
        let known = |port| RedirectPort::try_new(port).map(RedirectPort::get);
        assert_eq!([9099, 9200, 0, 65536 + 9100].map(known), [None; 4]);
        assert_eq!([9100, 9199].map(known), [Some(9100), Some(9199)]);
    }

    #[test]
    fn a_server_is_one_host() {
        let server = |text: &str| Server::try_new(text.parse().unwrap());
        for bad in [
            "0.0.0.0:1080",
            "224.0.0.1:1080",
            "255.255.255.255:1",
            "192.0.2.1:0",
            "[::]:1",
        ] {
            assert_eq!(server(bad), None, "{bad}");
        }
        let mapped = server("[::ffff:127.0.0.1]:9050").unwrap();
        assert_eq!(
            mapped.address().to_string(),
            "127.0.0.1:9050",
            "its family is told as it is"
        );
    }
}
