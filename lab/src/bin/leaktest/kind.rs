//! The types of exits. A new one is a variant here, an arm in each match, and a far end in `far`.

use std::fmt;

use crate::key::Protocol;

/// The types of exits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// WireGuard, stock tools.
    Wireguard,
    /// SOCKS5 with a password: microsocks.
    Socks5,
    /// HTTP CONNECT with a password: tinyproxy.
    HttpProxy,
    /// OpenSSH's sshd.
    Ssh,
    /// A private Tor network, which the cell's own Tor is a client of.
    Tor,
    /// OpenVPN's own server.
    Openvpn,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] = [
        Kind::Wireguard,
        Kind::Socks5,
        Kind::HttpProxy,
        Kind::Ssh,
        Kind::Tor,
        Kind::Openvpn,
    ];

    /// Those that have an interface on the cell.
    pub const TUNNELS: [Kind; 2] = [Kind::Wireguard, Kind::Openvpn];

    /// Its place in [`Kind::ALL`].
    pub fn place(self) -> u8 {
        self as u8
    }

    /// Its place in [`Kind::ALL`], as an index.
    pub fn index(self) -> usize {
        self.place().into()
    }

    /// Whether it can carry packets of this kind at all. Questions of peers go to the cell's relay, which asks over TCP
    /// where the exit carries nothing else.
    pub fn carries(self, protocol: Protocol) -> bool {
        let over_tcp = match protocol {
            Protocol::Tcp | Protocol::Dns => true,
            Protocol::Udp | Protocol::Icmp => false,
        };
        match self {
            Kind::Wireguard | Kind::Openvpn => true,
            Kind::Socks5 | Kind::HttpProxy | Kind::Ssh | Kind::Tor => over_tcp,
        }
    }

    /// What its connection and its first peer are called.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Wireguard => "wireguard",
            Kind::Socks5 => "socks5",
            Kind::HttpProxy => "http-proxy",
            Kind::Ssh => "ssh",
            Kind::Tor => "tor",
            Kind::Openvpn => "openvpn",
        }
    }

    /// What the API calls it.
    pub fn api_type(self) -> &'static str {
        match self {
            Kind::Wireguard => "wireguard_ext",
            Kind::Socks5 | Kind::HttpProxy => "proxy",
            Kind::Ssh => "sshuttle",
            Kind::Tor => "tor",
            Kind::Openvpn => "openvpn",
        }
    }

    /// The letter that begins the names that are asked for by peers that are bound to it.
    pub fn letter(self) -> char {
        match self {
            Kind::Wireguard => 'w',
            Kind::Socks5 => 's',
            Kind::HttpProxy => 'h',
            Kind::Ssh => 'o',
            Kind::Tor => 't',
            Kind::Openvpn => 'v',
        }
    }
}

impl Kind {
    /// The letter that begins the names that are asked for by services that are bound to it.
    pub fn letter_of_services(self) -> char {
        match self {
            Kind::Wireguard => 'g',
            Kind::Socks5 => 'k',
            Kind::HttpProxy => 'p',
            Kind::Ssh => 'n',
            Kind::Tor => 'r',
            Kind::Openvpn => 'e',
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Wireguard => "WireGuard",
            Kind::Socks5 => "SOCKS5",
            Kind::HttpProxy => "HTTP proxy",
            Kind::Ssh => "SSH",
            Kind::Tor => "Tor",
            Kind::Openvpn => "OpenVPN",
        })
    }
}
