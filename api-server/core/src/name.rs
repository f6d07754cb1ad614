//! Names: of the cell, of peers and users, and the host that devices connect to.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A name that breaks its rule. Never repeats the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Not a DNS label.
    #[error("must be 1-63 characters of a-z, 0-9 and -, with no - at either end")]
    Label,
    /// Not a peer's or user's name.
    #[error("must be 1-64 characters of A-Z, a-z, 0-9, _, . and -, starting with a letter or digit")]
    Name,
    /// Neither an address nor a DNS name.
    #[error("must be an IPv4 address, an IPv6 address or a DNS name that devices can connect to")]
    Host,
}

/// The cell's name: a DNS label (RFC 1035, section 2.3.1, digits allowed first as in RFC 1123).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellName(String);

impl CellName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidName::Label`].
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if is_label(text) {
            Ok(CellName(text.to_owned()))
        } else {
            Err(InvalidName::Label)
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The cell's DNS domain, e.g. `home.cell`.
    pub fn domain(&self) -> String {
        format!("{}.cell", self.0)
    }
}

macro_rules! plain_name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $type(String);

        impl $type {
            /// Checks a name: 1-64 characters of `[A-Za-z0-9_.-]`, the first a letter or digit, so that it is one
            /// segment of a URL path and never `.`, `..` or an option.
            ///
            /// # Errors
            /// [`InvalidName::Name`].
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                if is_plain(text) { Ok($type(text.to_owned())) } else { Err(InvalidName::Name) }
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

plain_name! {
    /// The name of a peer.
    PeerName
}

plain_name! {
    /// The name of a user.
    Username
}

plain_name! {
    /// The name of a connection.
    ConnectionName
}

/// The host that devices connect to. Stored as text, and checked again when it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EndpointHost {
    /// An address.
    Address(IpAddr),
    /// A DNS name, in lower case.
    Name(String),
}

impl EndpointHost {
    /// Reads an address or a DNS name. Brackets around an IPv6 address are not part of it.
    ///
    /// # Errors
    /// [`InvalidName::Host`], also for addresses that no device can connect to (unspecified, multicast).
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if let Ok(address) = text.parse::<IpAddr>() {
            let unusable = address.is_unspecified() || address.is_multicast() || is_broadcast(address);
            return if unusable {
                Err(InvalidName::Host)
            } else {
                Ok(EndpointHost::Address(address))
            };
        }
        let lower = text.to_ascii_lowercase();
        let labels: Vec<&str> = lower.split('.').collect();
        // A last label of digits would be read as an IPv4 address by some resolvers (RFC 1123, section 2.1).
        let numeric = labels
            .last()
            .is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
        if lower.len() <= 253 && labels.iter().all(|label| is_label(label)) && !numeric {
            Ok(EndpointHost::Name(lower))
        } else {
            Err(InvalidName::Host)
        }
    }
}

impl fmt::Display for EndpointHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndpointHost::Address(address) => write!(f, "{address}"),
            EndpointHost::Name(name) => f.write_str(name),
        }
    }
}

impl From<EndpointHost> for String {
    fn from(host: EndpointHost) -> Self {
        host.to_string()
    }
}

impl TryFrom<String> for EndpointHost {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        EndpointHost::parse(&text)
    }
}

fn is_broadcast(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.is_broadcast())
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_plain(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_cell_is_named_by_a_dns_label() {
        assert_eq!(CellName::parse("home-1").unwrap().domain(), "home-1.cell");
        for bad in ["", "-a", "a-", "Home", "a.b", "a b", "ä", "a\0", &"a".repeat(64)] {
            assert_eq!(CellName::parse(bad), Err(InvalidName::Label), "{bad:?}");
        }
    }

    #[test]
    fn a_peer_is_named_by_one_path_segment() {
        for good in ["a", "Anna.laptop", "0-1_2", &"x".repeat(64)] {
            assert_eq!(PeerName::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "-a",
            "_a",
            "a/b",
            "a b",
            "a\n",
            "é",
            "a%2f",
            &"x".repeat(65),
        ] {
            assert_eq!(PeerName::parse(bad), Err(InvalidName::Name), "{bad:?}");
        }
    }

    #[test]
    fn an_endpoint_is_something_to_connect_to() {
        for (text, shown) in [
            ("192.0.2.7", "192.0.2.7"),
            ("2001:DB8::1", "2001:db8::1"),
            ("Vpn.Example.ORG", "vpn.example.org"),
            ("box", "box"),
        ] {
            assert_eq!(EndpointHost::parse(text).unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
            "1.2.3",
            "1.2.3.256",
            "a..b",
            "a.",
            "[2001:db8::1]",
            "host:51820",
            "a b",
            "a\nPostUp = id",
            "fe80::1%eth0",
            "é.example",
        ] {
            assert_eq!(EndpointHost::parse(bad), Err(InvalidName::Host), "{bad:?}");
        }
    }
}
