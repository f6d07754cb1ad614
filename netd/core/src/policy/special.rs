//! Addresses that "the internet" does not mean.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::element::Element;
use crate::model::Family;

/// Special-purpose IPv4 ranges (RFC 6890 and the IANA registry it made), and multicast.
///
/// Left out on purpose: the documentation ranges 192.0.2.0/24, 198.51.100.0/24 and 203.0.113.0/24. They are routed to
/// nothing, private or public, so a peer gains nothing by them, and tests can play the internet with them.
const SPECIAL4: [([u8; 4], u8); 12] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// The same for IPv6; 2001:db8::/32 and 3fff::/20 are left out likewise. ::/16 holds the unspecified, loopback, IPv4-mapped
/// and IPv4-compatible addresses, 2002::/16 (6to4) and 2001::/23 (Teredo) carry IPv4 addresses inside.
const SPECIAL6: [([u16; 4], u8); 10] = [
    ([0, 0, 0, 0], 16),
    ([0x64, 0xff9b, 1, 0], 48),
    ([0x100, 0, 0, 0], 8),
    ([0x2001, 0, 0, 0], 23),
    ([0x2002, 0, 0, 0], 16),
    ([0x5f00, 0, 0, 0], 16),
    ([0xfc00, 0, 0, 0], 7),
    ([0xfe80, 0, 0, 0], 10),
    ([0xfec0, 0, 0, 0], 10),
    ([0xff00, 0, 0, 0], 8),
];

/// The ranges of a family, neither overlapping nor touching.
pub(super) fn ranges(family: Family) -> impl Iterator<Item = Element> {
    merged(
        family,
        match family {
            Family::V4 => ipv4().map(IpNet::V4).collect(),
            Family::V6 => ipv6().map(IpNet::V6).collect(),
        },
    )
}

/// Whether an address is in one of the special-purpose ranges, which are none of the internet.
pub fn is(address: IpAddr) -> bool {
    let around = |range| matches!(range, Element::Range(first, last) if (first..=last).contains(&address));
    ranges(Family::of(address)).any(around)
}

/// The prefixes of that family as ranges, neither overlapping nor touching.
pub(super) fn merged(family: Family, nets: Vec<IpNet>) -> impl Iterator<Item = Element> {
    let of_family = nets.into_iter().filter_map(|net| match (family, net) {
        (Family::V4, IpNet::V4(net)) => Some((bits4(net.network()), bits4(net.broadcast()))),
        (Family::V6, IpNet::V6(net)) => Some((net.network().to_bits(), net.broadcast().to_bits())),
        (Family::V4, IpNet::V6(_)) | (Family::V6, IpNet::V4(_)) => None,
    });
    let mut ranges: Vec<_> = of_family.collect();
    ranges.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(previous) if previous.1.checked_add(1).is_none_or(|next| first <= next) => {
                previous.1 = previous.1.max(last);
            }
            _ => merged.push((first, last)),
        }
    }
    merged
        .into_iter()
        .map(move |(first, last)| Element::Range(address(family, first), address(family, last)))
}

fn ipv4() -> impl Iterator<Item = Ipv4Net> {
    SPECIAL4
        .into_iter()
        .map(|(octets, length)| Ipv4Net::new_assert(octets.into(), length))
}

/// With the images of the IPv4 ranges under NAT64's well-known prefix (RFC 6052 section 2.1), so that a translator
/// cannot be used to reach private addresses.
fn ipv6() -> impl Iterator<Item = Ipv6Net> {
    let own = SPECIAL6
        .into_iter()
        .map(|([a, b, c, d], length)| Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), length));
    own.chain(ipv4().map(image))
}

/// The prefixes of the machine's links as ranges of that family, IPv4's images included.
pub(super) fn local(family: Family, on_link: &BTreeSet<IpNet>) -> impl Iterator<Item = Element> {
    let images = on_link.iter().filter_map(|net| match net {
        IpNet::V4(net) => Some(IpNet::V6(image(*net))),
        IpNet::V6(_) => None,
    });
    merged(family, on_link.iter().copied().chain(images).collect())
}

fn image(net: Ipv4Net) -> Ipv6Net {
    let embedded = (0x0064_ff9b_u128 << 96) | bits4(net.network());
    Ipv6Net::new_assert(Ipv6Addr::from_bits(embedded), 96 + net.prefix_len())
}

fn bits4(address: Ipv4Addr) -> u128 {
    address.to_bits().into()
}

fn address(family: Family, bits: u128) -> IpAddr {
    match family {
        // Truncation is the point: IPv4 ranges were widened from 32 bits.
        Family::V4 => Ipv4Addr::from_bits(bits as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(bits).into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn special(text: &str) -> bool {
        is(text.parse().unwrap())
    }

    #[test]
    fn private_and_special_addresses_are_not_the_internet() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.0.1",
            "192.168.1.1",
            "224.0.0.251",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "fd00::1",
            "fe80::1",
            "ff02::fb",
            "2002:0a00:0001::1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::192.168.1.1",
            "64:ff9b:1::1",
        ] {
            assert!(special(address), "{address}");
        }
    }

    #[test]
    fn public_and_documentation_addresses_are() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.32.0.0",
            "203.0.113.9",
            "198.51.100.1",
            "192.0.2.1",
            "223.255.255.255",
            "2001:db8::1",
            "2606:4700::1111",
            "64:ff9b::1.1.1.1",
        ] {
            assert!(!special(address), "{address}");
        }
    }

    #[test]
    fn prefixes_of_the_links_become_ranges_that_a_set_can_hold() {
        let nets = [
            "192.0.2.7/25",
            "192.0.2.128/25",
            "192.0.2.0/24",
            "203.0.113.1/24",
            "2001:db8::5/64",
        ];
        let nets = nets.iter().map(|net| net.parse().unwrap()).collect();
        let told = |family| {
            let ranges = local(family, &nets).map(|range| range.to_string());
            ranges.collect::<Vec<_>>()
        };
        assert_eq!(
            told(Family::V4),
            ["192.0.2.0-192.0.2.255", "203.0.113.0-203.0.113.255"]
        );
        assert_eq!(
            told(Family::V6),
            [
                "64:ff9b::c000:200-64:ff9b::c000:2ff",
                "64:ff9b::cb00:7100-64:ff9b::cb00:71ff",
                "2001:db8::-2001:db8::ffff:ffff:ffff:ffff"
            ]
        );
    }

    #[test]
    fn ranges_neither_overlap_nor_touch() {
        for family in Family::BOTH {
            let ranges: Vec<_> = ranges(family).collect();
            for pair in ranges.windows(2) {
                let [Element::Range(_, last), Element::Range(first, _)] = pair else {
                    panic!("{pair:?}")
                };
                assert!(last < first, "{pair:?}");
            }
        }
    }
}
