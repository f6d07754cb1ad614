//! The Host allow-list: which names a request may be sent to. Ends DNS rebinding, where a foreign name points here.

use std::collections::BTreeSet;

/// The names of one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPolicy {
    default_port: u16,
    allowed: BTreeSet<(String, u16)>,
}

impl HostPolicy {
    /// A policy for a listener that clients reach on `port`; `scheme_port` is what they mean when they name none
    /// (80 or 443). A host without a port in `hosts` means the listener's own.
    pub fn new<'a>(port: u16, scheme_port: u16, hosts: impl IntoIterator<Item = &'a str>) -> Self {
        let read = |host: &str| split(host).map(|(name, given)| (name, given.unwrap_or(port)));
        HostPolicy {
            default_port: scheme_port,
            allowed: hosts.into_iter().filter_map(read).collect(),
        }
    }

    /// Whether a request may name `authority` (the Host header or HTTP/2's `:authority`). Exact but for case.
    pub fn allows(&self, authority: &str) -> bool {
        let Some((name, port)) = split(authority) else {
            return false;
        };
        self.allowed.contains(&(name, port.unwrap_or(self.default_port)))
    }
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`; `None` for anything else, user information and zones included.
fn split(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(tail) => {
            let (address, rest) = tail.split_once(']')?;
            (format!("[{}]", address.parse::<std::net::Ipv6Addr>().ok()?), rest)
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let (host, rest) = authority.split_at(end);
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
            if host.is_empty() || !host.bytes().all(plain) {
                return None;
            }
            (host.to_ascii_lowercase(), rest)
        }
    };
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Some((host, None)),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some((host, Some(digits.parse().ok()?)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_listeners_own_names_pass() {
        let policy = HostPolicy::new(
            3000,
            80,
            ["localhost", "127.0.0.1", "[::1]", "tunnel.example:8080"],
        );
        for good in [
            "localhost:3000",
            "LocalHost:3000",
            "127.0.0.1:3000",
            "[::1]:3000",
            "[0:0::1]:3000",
            "tunnel.example:8080",
        ] {
            assert!(policy.allows(good), "{good}");
        }
        for bad in [
            "",
            "localhost",
            "localhost.:3000",
            "localhost:3001",
            "localhost:",
            "localhost:3000:3000",
            "localhost.evil:3000",
            "evil:3000",
            "2130706433:3000",
            "127.1:3000",
            "0x7f.1:3000",
            "::1:3000",
            "[::1%lo]:3000",
            "[::1]3000",
            "user@localhost:3000",
            "localhost:03000x",
            "localhost:99999",
            "tunnel.example",
            "localhost:3000/",
            "localhost :3000",
        ] {
            assert!(!policy.allows(bad), "{bad}");
        }
        let https = HostPolicy::new(443, 443, ["home.cell"]);
        assert!(https.allows("home.cell") && https.allows("home.cell:443") && !https.allows("home.cell:80"));
    }
}
