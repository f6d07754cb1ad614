//! Where a server can be: what netd would refuse is refused when it is read.

use std::net::IpAddr;

use crate::name::EndpointHost;

/// Whether a server may be on the machine itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loopback {
    /// One that `cell-egress` connects to, where the policy files list it (`local_servers`).
    Listed,
    /// No tunnel leads there.
    Never,
}

/// Reads the host of a server.
///
/// # Errors
/// In words, when it is none, or an address that no server is at.
pub(super) fn server(text: &str, loopback: Loopback) -> Result<EndpointHost, String> {
    let host = EndpointHost::parse(text).map_err(|error| error.to_string())?;
    if let EndpointHost::Address(address) = host
        && let Some(kind) = nowhere(address.to_canonical(), loopback)
    {
        return Err(format!("must be where a server can be: not {kind}"));
    }
    Ok(host)
}

fn nowhere(address: IpAddr, loopback: Loopback) -> Option<&'static str> {
    let (this_network, link_local) = match address {
        IpAddr::V4(v4) => (v4.octets()[0] == 0 || v4.is_broadcast(), v4.is_link_local()),
        IpAddr::V6(v6) => (v6.is_unspecified(), v6.is_unicast_link_local()),
    };
    match address {
        _ if this_network => Some("in 0.0.0.0/8 or a broadcast address"),
        _ if address.is_multicast() => Some("a multicast address"),
        _ if link_local => Some("a link-local address"),
        _ if address.is_loopback() && loopback == Loopback::Never => Some("on the machine itself"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_where_one_can_be() {
        for good in [
            "vpn.example.org",
            "203.0.113.9",
            "10.0.0.1",
            "2001:db8::1",
            "fd00::1",
            "::ffff:203.0.113.9",
        ] {
            assert!(server(good, Loopback::Never).is_ok(), "{good}");
        }
        for bad in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "fe80::1",
            "ff02::1",
            "224.0.0.1",
            "255.255.255.255",
            "::ffff:169.254.169.254",
            "::ffff:224.0.0.1",
            "a..b",
        ] {
            assert!(server(bad, Loopback::Listed).is_err(), "{bad}");
        }
        for here in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(server(here, Loopback::Listed).is_ok(), "{here}");
            assert!(server(here, Loopback::Never).is_err(), "{here}");
        }
    }
}
