//! The resolvers that the cell asks for whoever has no exit.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::PORT;

/// The most of them.
pub const MAX_UPSTREAMS: usize = 8;

/// Resolvers by address and port, the first asked first; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstreams(Vec<SocketAddr>);

/// Text that names no resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUpstream {
    /// Not an address.
    #[error("must be an address, with a port where it is not 53, e.g. 9.9.9.9, [2620:fe::fe]:53")]
    Address,
    /// An address that no resolver can be asked at.
    #[error("must be the address of a single host on a network: not of this machine, nor of a link")]
    NoHost,
    /// Twice the same.
    #[error("must not name a resolver twice")]
    Twice,
    /// Too many.
    #[error("must have at most {MAX_UPSTREAMS} resolvers")]
    TooMany,
}

/// Quad9 (<https://quad9.net>): answers are checked by DNSSEC, and the operator is bound to keep no addresses of who asks.
impl Default for Upstreams {
    fn default() -> Self {
        let addresses: [IpAddr; 4] = [
            Ipv4Addr::new(9, 9, 9, 9).into(),
            Ipv4Addr::new(149, 112, 112, 112).into(),
            Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe).into(),
            Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 9).into(),
        ];
        Upstreams(addresses.map(|ip| SocketAddr::new(ip, PORT)).into())
    }
}

impl Upstreams {
    /// Reads a list; an empty one is the default.
    ///
    /// # Errors
    /// Which of them is wrong, from 0, and how.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, (usize, InvalidUpstream)> {
        let mut all = Vec::new();
        for (place, text) in texts.into_iter().enumerate() {
            let one = parse_one(text).map_err(|error| (place, error))?;
            if all.contains(&one) {
                return Err((place, InvalidUpstream::Twice));
            }
            if place == MAX_UPSTREAMS {
                return Err((place, InvalidUpstream::TooMany));
            }
            all.push(one);
        }
        Ok(if all.is_empty() {
            Upstreams::default()
        } else {
            Upstreams(all)
        })
    }

    /// All of them.
    pub fn as_slice(&self) -> &[SocketAddr] {
        &self.0
    }

    /// As they are shown and read: without the port where it is 53.
    pub fn shown(&self) -> Vec<String> {
        let one = |address: &SocketAddr| match address.port() {
            PORT => address.ip().to_string(),
            _ => address.to_string(),
        };
        self.0.iter().map(one).collect()
    }
}

impl fmt::Display for Upstreams {
    /// In one line, as it is stored.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown().join(" "))
    }
}

fn parse_one(text: &str) -> Result<SocketAddr, InvalidUpstream> {
    let alone = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
    let address = alone()
        .or_else(|_| text.parse())
        .map_err(|_| InvalidUpstream::Address)?;
    let is_host = match address {
        SocketAddr::V4(v4) => is_v4_host(*v4.ip()),
        SocketAddr::V6(v6) => is_v6_host(*v6.ip()) && v6.scope_id() == 0,
    };
    if is_host && address.port() != 0 {
        Ok(address)
    } else {
        Err(InvalidUpstream::NoHost)
    }
}

fn is_v4_host(ip: Ipv4Addr) -> bool {
    !(ip.octets()[0] == 0
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.octets()[0] >= 240)
}

fn is_v6_host(ip: Ipv6Addr) -> bool {
    !(ip.is_unspecified()
        || ip.is_loopback()
        || ip.is_unicast_link_local()
        || ip.is_multicast()
        || ip.to_ipv4().is_some())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_is_shown_reads_back() {
        let all =
            Upstreams::parse(["192.168.1.1", "[2620:fe::fe]:5353", "2001:db8::1", "10.0.0.1:54"]).unwrap();
        let shown = all.shown();
        assert_eq!(
            shown,
            ["192.168.1.1", "[2620:fe::fe]:5353", "2001:db8::1", "10.0.0.1:54"]
        );
        assert_eq!(
            Upstreams::parse(shown.iter().map(String::as_str)),
            Ok(all.clone())
        );
        assert_eq!(Upstreams::parse(all.to_string().split(' ')), Ok(all));
        assert_eq!(Upstreams::parse([]), Ok(Upstreams::default()));
        assert_eq!(Upstreams::default().shown()[0], "9.9.9.9");
    }

    #[test]
    fn only_hosts_on_a_network_are_resolvers() {
        for (bad, error) in [
            ("", InvalidUpstream::Address),
            ("dns.example.org", InvalidUpstream::Address),
            ("9.9.9.9:99999", InvalidUpstream::Address),
            ("2620:fe::fe]:53", InvalidUpstream::Address),
            ("127.0.0.53", InvalidUpstream::NoHost),
            ("0.0.0.0", InvalidUpstream::NoHost),
            ("169.254.67.1", InvalidUpstream::NoHost),
            ("224.0.0.1", InvalidUpstream::NoHost),
            ("255.255.255.255", InvalidUpstream::NoHost),
            ("::1", InvalidUpstream::NoHost),
            ("::ffff:127.0.0.1", InvalidUpstream::NoHost),
            ("fe80::1", InvalidUpstream::NoHost),
            ("[2620:fe::fe%2]:53", InvalidUpstream::NoHost),
            ("9.9.9.9:0", InvalidUpstream::NoHost),
            ("9.9.9.9:53", InvalidUpstream::Twice),
        ] {
            assert_eq!(Upstreams::parse(["9.9.9.9", bad]), Err((1, error)), "{bad}");
        }
        let many: Vec<String> = (1..=9).map(|n| format!("10.0.0.{n}")).collect();
        let many = Upstreams::parse(many.iter().map(String::as_str));
        assert_eq!(many, Err((8, InvalidUpstream::TooMany)));
    }
}
