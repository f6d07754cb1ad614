//! Where a redirected connection was meant to go, and whether an exit may be asked to carry it there.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// An address that an exit may be asked for. It is told to exits alone; nothing here gives it to who could dial it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Destination(SocketAddr);

/// Why a connection is not carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCarried {
    /// It came to the port itself: nobody redirected it, so it names no destination.
    #[error("the connection was not redirected here")]
    NotRedirected,
    /// An address that means something on this machine or link alone, or is no address of one host.
    #[error("the destination is an address that no exit can reach")]
    NoHost,
}

impl Destination {
    /// Judges the destination that the kernel remembers of a connection which it accepted at `local`.
    ///
    /// # Errors
    /// [`NotCarried`] says why.
    pub fn judge(original: SocketAddr, local: SocketAddr) -> Result<Self, NotCarried> {
        let (original, local) = (canonical(original), canonical(local));
        if original == local {
            Err(NotCarried::NotRedirected)
        } else if original.port() == 0 || !is_host(original.ip()) {
            Err(NotCarried::NoHost)
        } else {
            Ok(Destination(original))
        }
    }

    /// A server that the cell itself asks for; None for an address that no exit can reach.
    pub fn of_cell(address: SocketAddr) -> Option<Self> {
        Destination::resolver(address)
    }

    /// A resolver that an exit's own questions go to; None for an address that no exit can reach.
    pub(crate) fn resolver(address: SocketAddr) -> Option<Self> {
        let address = canonical(address);
        (address.port() != 0 && is_host(address.ip())).then_some(Destination(address))
    }

    /// As SOCKS 5 writes it: type, address, port (RFC 1928, section 4).
    pub(crate) fn socks5(&self) -> Vec<u8> {
        let mut bytes = match self.0.ip() {
            IpAddr::V4(ip) => [&[1], ip.octets().as_slice()].concat(),
            IpAddr::V6(ip) => [&[4], ip.octets().as_slice()].concat(),
        };
        bytes.extend(self.0.port().to_be_bytes());
        bytes
    }

    /// As HTTP writes it: `address:port`, IPv6 in brackets (RFC 9110, section 9.3.6).
    pub(crate) fn authority(&self) -> String {
        self.0.to_string()
    }

    /// As SSH's direct-tcpip writes it: the host as text, and the port (RFC 4254, section 7.2).
    pub fn direct_tcpip(&self) -> (String, u32) {
        (self.0.ip().to_string(), self.0.port().into())
    }
}

/// Shows the port alone: whom a peer talks to is its own affair, in logs too.
impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Destination(port {})", self.0.port())
    }
}

/// Without the detour of an IPv4 address through IPv6, and without scope.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether one host beyond this machine and its links can have the address.
pub(crate) fn is_host(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(link_local || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn judge(original: &str, local: &str) -> Result<Destination, NotCarried> {
        Destination::judge(original.parse().unwrap(), local.parse().unwrap())
    }

    #[test]
    fn a_host_is_told_in_three_ways() {
        let v4 = judge("192.0.2.7:443", "10.8.0.1:9100").unwrap();
        assert_eq!(v4.socks5(), [1, 192, 0, 2, 7, 1, 187]);
        assert_eq!(v4.authority(), "192.0.2.7:443");
        assert_eq!(v4.direct_tcpip(), ("192.0.2.7".to_owned(), 443));
        let v6 = judge("[2001:db8::7]:80", "[fd08::1]:9100").unwrap();
        assert_eq!(v6.socks5()[0], 4);
        assert_eq!(v6.socks5().len(), 1 + 16 + 2);
        assert_eq!(v6.authority(), "[2001:db8::7]:80");
        assert_eq!(v6.direct_tcpip(), ("2001:db8::7".to_owned(), 80));
        assert_eq!(format!("{v6:?}"), "Destination(port 80)");
    }

    #[test]
    fn who_comes_to_the_port_itself_names_no_destination() {
        for (original, local) in [
            ("10.8.0.1:9100", "10.8.0.1:9100"),
            ("[::ffff:10.8.0.1]:9100", "10.8.0.1:9100"),
            ("[fd08::1]:9100", "[fd08::1]:9100"),
        ] {
            assert_eq!(judge(original, local), Err(NotCarried::NotRedirected));
        }
        assert!(judge("10.8.0.1:9101", "10.8.0.1:9100").is_ok(), "another port");
    }

    #[test]
    fn what_is_no_host_beyond_is_not_carried() {
        for original in [
            "127.0.0.1:80",
            "0.0.0.0:80",
            "0.1.2.3:80",
            "169.254.169.254:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "192.0.2.1:0",
            "[::1]:80",
            "[::]:80",
            "[fe80::1]:80",
            "[ff02::1]:80",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert_eq!(
                judge(original, "10.8.0.1:9100"),
                Err(NotCarried::NoHost),
                "{original}"
            );
        }
    }
}
