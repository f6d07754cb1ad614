//! The types of connections.

use std::fmt;

/// The type of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A WireGuard tunnel to somebody else's server.
    WireguardExt,
    /// An OpenVPN tunnel.
    Openvpn,
    /// The Tor network.
    Tor,
    /// A SSH server that forwards TCP. The name is the original's, which used sshuttle for it.
    Sshuttle,
    /// A SOCKS5 or HTTP CONNECT proxy.
    Proxy,
    /// Another cell that offers to carry traffic: derived from the link to it, never made by hand.
    CellRelay,
}

/// How a connection takes traffic over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carriage {
    /// By an interface: mark, rule, table, interface.
    Interface {
        /// What the interface's name begins with.
        prefix: &'static str,
    },
    /// By a port of `cell-egress`, to which marked TCP is redirected. Nothing but TCP can be carried.
    Redirect,
    /// By the cell's own WireGuard interface, to another cell.
    Link,
}

/// Text that names no [`Kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of wireguard_ext, openvpn, tor, sshuttle, proxy, cell_relay")]
pub struct UnknownKind;

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] = [
        Kind::WireguardExt,
        Kind::Openvpn,
        Kind::Tor,
        Kind::Sshuttle,
        Kind::Proxy,
        Kind::CellRelay,
    ];

    /// Its name in the API and in the stored state.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::WireguardExt => "wireguard_ext",
            Kind::Openvpn => "openvpn",
            Kind::Tor => "tor",
            Kind::Sshuttle => "sshuttle",
            Kind::Proxy => "proxy",
            Kind::CellRelay => "cell_relay",
        }
    }

    /// Reads a name.
    ///
    /// # Errors
    /// [`UnknownKind`].
    pub fn parse(text: &str) -> Result<Self, UnknownKind> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(UnknownKind)
    }

    /// How it takes traffic over.
    pub fn carriage(self) -> Carriage {
        match self {
            Kind::WireguardExt => Carriage::Interface { prefix: "wgext_" },
            Kind::Openvpn => Carriage::Interface { prefix: "ovpn_" },
            Kind::Tor | Kind::Sshuttle | Kind::Proxy => Carriage::Redirect,
            Kind::CellRelay => Carriage::Link,
        }
    }

    /// Whether a peer can be bound to one: netd, `cell-egress` and `cell-openvpn` carry these types and not yet the other.
    pub fn is_carried(self) -> bool {
        match self {
            Kind::WireguardExt | Kind::Openvpn | Kind::Tor | Kind::Sshuttle | Kind::Proxy => true,
            Kind::CellRelay => false,
        }
    }

    /// Whether a peer's traffic goes out directly while the connection does not work, unless the peer says otherwise.
    /// Only Tor fails open, as in the original.
    pub fn fails_open(self) -> bool {
        match self {
            Kind::Tor => true,
            Kind::WireguardExt | Kind::Openvpn | Kind::Sshuttle | Kind::Proxy | Kind::CellRelay => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Ok(kind));
        }
        for bad in ["", "Tor", "wireguard", "tor ", "cell-relay"] {
            assert_eq!(Kind::parse(bad), Err(UnknownKind));
        }
    }

    #[test]
    fn only_tor_fails_open() {
        let open: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kind.fails_open()).collect();
        assert_eq!(open, [Kind::Tor]);
    }
}
