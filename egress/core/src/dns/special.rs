//! Names that never leave: what they mean is decided here or nowhere (RFC 6761 and its registry, RFC 6303, RFC 7686, RFC 8375,
//! RFC 9476, RFC 9462).

use std::net::IpAddr;

use ipnet::IpNet;

use super::address::is_private_net;
use super::decide::Kind;
use super::name::Name;

/// What a name is that is not the cell's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// This machine, whoever asks (RFC 6761, section 6.3).
    Localhost,
    /// There is no such name.
    Absent,
    /// A question that may be asked of resolvers.
    None,
}

/// Top labels below which nothing is on the internet.
const TOPS: [&[u8]; 9] = [
    b"local",
    b"invalid",
    b"test",
    b"onion",
    b"alt",
    b"internal",
    b"lan",
    b"home",
    b"corp",
];

/// What to make of a name that lies in no zone of the cell, asked for in `kind`.
pub fn special(name: &Name, kind: Kind) -> Special {
    // From the last label.
    let mut labels: Vec<&[u8]> = name.labels().collect();
    labels.reverse();
    match labels.as_slice() {
        [b"localhost", ..] => Special::Localhost,
        [b"arpa", b"home" | b"resolver", ..] => Special::Absent,
        // By whose absence browsers see that the network has names of its own.
        [b"net", b"use-application-dns", ..] => Special::Absent,
        [b"arpa", b"in-addr", octets @ ..] if in_v4(octets).is_some_and(|net| is_private_net(&net)) => {
            Special::Absent
        }
        [b"arpa", b"ip6", nibbles @ ..] if in_v6(nibbles).is_some_and(|net| is_private_net(&net)) => {
            Special::Absent
        }
        [top, ..] if TOPS.contains(top) => Special::Absent,
        // No top-level domain is a host (RFC 7085): it is a name of some home, and nobody else's business.
        [_] if matches!(kind, Kind::A | Kind::Aaaa) => Special::Absent,
        _ => Special::None,
    }
}

/// The network that a name below in-addr.arpa speaks of; labels from the first octet on.
fn in_v4(labels: &[&[u8]]) -> Option<IpNet> {
    let mut octets = [0; 4];
    let told = labels.len().min(4);
    for (octet, label) in octets.iter_mut().zip(labels) {
        *octet = std::str::from_utf8(label).ok()?.parse().ok()?;
    }
    let length = u8::try_from(told * 8).ok().filter(|length| *length > 0)?;
    IpNet::new(octets.into(), length).ok()
}

/// The same below ip6.arpa.
fn in_v6(labels: &[&[u8]]) -> Option<IpNet> {
    let mut bits: u128 = 0;
    let told = labels.len().min(32);
    for (index, label) in labels.iter().take(32).enumerate() {
        let &[digit] = label else { return None };
        let nibble = char::from(*digit).to_digit(16)?;
        bits |= u128::from(nibble) << (124 - 4 * index);
    }
    let length = u8::try_from(told * 4).ok().filter(|length| *length > 0)?;
    IpNet::new(bits.to_be_bytes().into(), length).ok()
}

/// The address that a whole name of the reverse tree speaks of.
pub fn reverse_address(name: &Name) -> Option<IpAddr> {
    let mut labels: Vec<&[u8]> = name.labels().collect();
    labels.reverse();
    match labels.as_slice() {
        [b"arpa", b"in-addr", octets @ ..] if octets.len() == 4 => in_v4(octets).map(|net| net.addr()),
        [b"arpa", b"ip6", nibbles @ ..] if nibbles.len() == 32 => in_v6(nibbles).map(|net| net.addr()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn of(text: &str) -> Special {
        special(&Name::of_host(text).unwrap(), Kind::Aaaa)
    }

    #[test]
    fn what_never_leaves() {
        for absent in [
            "printer.local",
            "local",
            "a.test",
            "facebookcorewwwi.onion",
            "a.internal",
            "nas.lan",
            "nas.home.arpa",
            "_dns.resolver.arpa",
            "use-application-dns.net",
            "printer",
            "1.0.168.192.in-addr.arpa",
            "168.192.in-addr.arpa",
            "x.1.0.0.10.in-addr.arpa",
            "254.169.in-addr.arpa",
            "64.100.in-addr.arpa",
            "20.172.in-addr.arpa",
            "d.f.ip6.arpa",
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.e.f.ip6.arpa",
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
        ] {
            assert_eq!(of(absent), Special::Absent, "{absent}");
        }
        assert_eq!(of("localhost"), Special::Localhost);
        assert_eq!(of("a.localhost"), Special::Localhost);
        for asked in [
            "example.org",
            "local.example.org",
            "mylocal.org",
            "9.9.9.9.in-addr.arpa",
            "172.in-addr.arpa",
            "in-addr.arpa",
            "300.in-addr.arpa",
            "ip6.arpa",
            "0.2.6.2.ip6.arpa",
            "home.example",
        ] {
            assert_eq!(of(asked), Special::None, "{asked}");
        }
        let top = Name::of_host("org").unwrap();
        assert_eq!(
            special(&top, Kind::Other(48)),
            Special::None,
            "DNSKEY of a top-level domain"
        );
        let root = Name::from_labels([]).unwrap();
        assert_eq!(special(&root, Kind::Ns), Special::None);
    }

    #[test]
    fn addresses_are_read_back() {
        let address = |text: &str| reverse_address(&Name::of_host(text).unwrap()).map(|ip| ip.to_string());
        assert_eq!(address("4.3.2.10.in-addr.arpa").as_deref(), Some("10.2.3.4"));
        let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.c.4.c.5.4.3.4.d.f.ip6.arpa";
        assert_eq!(address(six), None, "a nibble short");
        let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.c.4.c.4.5.4.3.4.d.f.ip6.arpa";
        assert_eq!(address(six).as_deref(), Some("fd43:454c:4c00::1"));
        assert_eq!(address("3.2.10.in-addr.arpa"), None);
        assert_eq!(address("a.3.2.10.in-addr.arpa"), None);
    }
}
