//! The header that says for whom a question is asked: the PROXY protocol, version 2 (HAProxy's proxy-protocol.txt, section 2.2).

use std::net::{IpAddr, SocketAddr};

/// What begins every header.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, for somebody else.
const PROXY: u8 = 0x21;
/// Addresses of IPv4, IPv6.
const INET: u8 = 0x10;
const INET6: u8 = 0x20;

/// What follows the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The question, in the same datagram.
    Udp,
    /// A connection's bytes.
    Tcp,
}

/// The header of what `peer` asks of `to`. The peer's port is told to nobody: 0. Of two families both are written as IPv6.
pub fn header(over: Over, peer: IpAddr, to: SocketAddr) -> Vec<u8> {
    let transport = match over {
        Over::Tcp => 1,
        Over::Udp => 2,
    };
    let (family, addresses) = match (peer.to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (INET, [from.octets(), to.octets()].concat()),
        (from, to) => (INET6, [octets(from), octets(to)].concat()),
    };
    let ports = [[0, 0], to.port().to_be_bytes()].concat();
    // 12 or 36 bytes.
    let length = u16::try_from(addresses.len() + ports.len()).unwrap_or_default();
    let mut header = SIGNATURE.to_vec();
    header.extend([PROXY, family | transport]);
    header.extend(length.to_be_bytes());
    header.extend(addresses);
    header.extend(ports);
    header
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn headers_are_as_the_protocol_has_them() {
        let to = "172.20.0.3:53".parse().unwrap();
        let v4 = header(Over::Udp, "10.8.0.2".parse().unwrap(), to);
        let expected = [
            b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x21\x12\x00\x0c".as_slice(),
            &[10, 8, 0, 2, 172, 20, 0, 3, 0, 0, 0, 53],
        ];
        assert_eq!(v4, expected.concat());
        let v6 = header(Over::Tcp, "fd08::2".parse().unwrap(), to);
        assert_eq!(v6[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(v6[16..18], [0xfd, 8]);
        assert_eq!(
            v6[32..48],
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 172, 20, 0, 3]
        );
        assert_eq!(v6.len(), 16 + 36);
        assert_eq!(header(Over::Udp, "::ffff:10.8.0.2".parse().unwrap(), to), v4);
    }
}
