//! Elements of sets, straight into bytes: of all that is written there are most of these, and the crate's nested lists
//! measure each of their levels anew at each level.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

use cell_netd_core::model::{Port, Protocol};
use cell_netd_core::policy::Element;
use netlink_packet_core::NLA_F_NESTED;

/// Entries of one message: an attribute holds at most 64 KiB, and an IPv6 service takes 56 bytes; nothing takes more.
const CHUNK: usize = 800;
/// An IPv6 service: two addresses, protocol and port.
const LONGEST_KEY: usize = 16 + 16 + 4 + 4;

/// The values of NFTA_SET_ELEM_LIST_ELEMENTS, one for each message that is needed.
pub(super) fn lists(elements: impl IntoIterator<Item = Element>) -> Vec<Vec<u8>> {
    let mut lists: Vec<Vec<u8>> = Vec::new();
    for (index, entry) in elements.into_iter().flat_map(entries).enumerate() {
        if index.is_multiple_of(CHUNK) {
            lists.push(Vec::new());
        }
        if let Some(list) = lists.last_mut() {
            entry.append(list);
        }
    }
    lists
}

/// The value of NFTA_SET_ELEM_LIST_ELEMENTS that asks for one element; a range is found by its start.
pub(super) fn wanted(element: Element) -> Vec<u8> {
    let mut list = Vec::new();
    Entry::new(element_key(element)).append(&mut list);
    list
}

/// One entry, or two for a range: its start, and the end that is no longer in it.
fn entries(element: Element) -> impl Iterator<Item = Entry> {
    let end = match element {
        // A range up to the last address of all has no end.
        Element::Range(_, last) => successor(last).map(Element::Address),
        Element::Address(_)
        | Element::Service4(..)
        | Element::Service6(..)
        | Element::Port(_)
        | Element::ExitMark(..)
        | Element::ExitWay(..)
        | Element::Link(_)
        | Element::RelayPort(..)
        | Element::RelayWay(..)
        | Element::Host(..)
        | Element::Entry(..)
        | Element::EntryTarget(..)
        | Element::EntryWay(..)
        | Element::Server(_) => None,
    };
    let first = Entry {
        key: element_key(element),
        ends: false,
        data: data(element),
    };
    let end = end.map(|end| Entry {
        ends: true,
        ..Entry::new(element_key(end))
    });
    std::iter::once(first).chain(end)
}

/// What a map has for a key: at most two registers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Data {
    padded: [u8; 8],
    length: usize,
}

impl Data {
    fn new(value: &[u8]) -> Self {
        let mut padded = [0; 8];
        padded[..value.len()].copy_from_slice(value);
        Data {
            padded,
            length: value.len(),
        }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.padded[..self.length]
    }

    /// As an attribute's value has it.
    fn aligned(&self) -> &[u8] {
        &self.padded[..self.length.next_multiple_of(4)]
    }
}

/// What a map has for the element's key; none: it is an element of a set. Marks are in the host's byte order, ports in the
/// network's.
pub(super) fn data(element: Element) -> Option<Data> {
    match element {
        Element::ExitMark(_, mark) => Some(Data::new(&mark.value().to_ne_bytes())),
        Element::RelayPort(_, port) => Some(Data::new(&port.to_be_bytes())),
        // Each fills a register.
        Element::EntryTarget(_, _, to) => {
            let [a, b, c, d] = to.ip().octets();
            let [high, low] = to.port().to_be_bytes();
            Some(Data::new(&[a, b, c, d, high, low, 0, 0]))
        }
        Element::Address(_)
        | Element::Range(..)
        | Element::Service4(..)
        | Element::Service6(..)
        | Element::Port(_)
        | Element::ExitWay(..)
        | Element::Link(_)
        | Element::RelayWay(..)
        | Element::Host(..)
        | Element::Entry(..)
        | Element::EntryWay(..)
        | Element::Server(_) => None,
    }
}

/// A key, whether it ends a range, and what a map has for it.
struct Entry {
    key: Key,
    ends: bool,
    data: Option<Data>,
}

impl Entry {
    fn new(key: Key) -> Self {
        Entry {
            key,
            ends: false,
            data: None,
        }
    }

    /// Numbers of include/uapi/linux/netfilter/nf_tables.h.
    fn append(&self, bytes: &mut Vec<u8>) {
        const NFTA_LIST_ELEM: u16 = 1;
        const NFTA_SET_ELEM_KEY: u16 = 1;
        const NFTA_SET_ELEM_DATA: u16 = 2;
        const NFTA_SET_ELEM_FLAGS: u16 = 3;
        const NFTA_DATA_VALUE: u16 = 1;
        const NFT_SET_ELEM_INTERVAL_END: u32 = 1;
        const HEADER: usize = 4;
        let key = self.key.as_slice();
        let flags = if self.ends { HEADER + 4 } else { 0 };
        let data = self.data.map_or(0, |data| 2 * HEADER + data.aligned().len());
        header(
            bytes,
            NFTA_LIST_ELEM | NLA_F_NESTED,
            2 * HEADER + key.len() + data + flags,
        );
        header(bytes, NFTA_SET_ELEM_KEY | NLA_F_NESTED, HEADER + key.len());
        header(bytes, NFTA_DATA_VALUE, key.len());
        bytes.extend_from_slice(key);
        if let Some(data) = &self.data {
            header(
                bytes,
                NFTA_SET_ELEM_DATA | NLA_F_NESTED,
                HEADER + data.aligned().len(),
            );
            header(bytes, NFTA_DATA_VALUE, data.length);
            // The attribute's own length is without the padding.
            bytes.extend_from_slice(data.aligned());
        }
        if self.ends {
            header(bytes, NFTA_SET_ELEM_FLAGS, 4);
            bytes.extend_from_slice(&NFT_SET_ELEM_INTERVAL_END.to_be_bytes());
        }
    }
}

/// struct nlattr, before a value of `length` bytes: at most a key and its wrapping, a multiple of 4 but for a port's.
fn header(bytes: &mut Vec<u8>, kind: u16, length: usize) {
    bytes.extend_from_slice(&(4 + length as u16).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
}

/// The bytes of a key. Parts of a concatenation fill whole registers.
struct Key {
    bytes: [u8; LONGEST_KEY],
    length: usize,
}

impl Key {
    const EMPTY: Key = Key {
        bytes: [0; LONGEST_KEY],
        length: 0,
    };

    fn with(mut self, part: &[u8]) -> Self {
        self.bytes[self.length..][..part.len()].copy_from_slice(part);
        self.length += part.len();
        self
    }

    fn with_port(self, port: Port) -> Self {
        self.with(&[port.protocol.number(), 0, 0, 0])
            .with(&port.number.to_be_bytes())
            .with(&[0, 0])
    }

    fn with_end(self, end: SocketAddrV4, protocol: Protocol) -> Self {
        self.with(&end.ip().octets()).with_port(Port {
            protocol,
            number: end.port(),
        })
    }

    fn with_number(self, port: u16) -> Self {
        self.with(&port.to_be_bytes()).with(&[0, 0])
    }

    fn with_address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.with(&address.octets()),
            IpAddr::V6(address) => self.with(&address.octets()),
        }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The key of an element; of a range, of its start.
fn element_key(element: Element) -> Key {
    let key = Key::EMPTY;
    match element {
        Element::Address(address)
        | Element::Range(address, _)
        | Element::ExitMark(address, _)
        | Element::RelayPort(address, _) => key.with_address(address),
        Element::Service4(peer, address, protocol, number) => key
            .with(&peer.octets())
            .with(&address.octets())
            .with_port(Port { protocol, number }),
        Element::Service6(peer, address, protocol, number) => key
            .with(&peer.octets())
            .with(&address.octets())
            .with_port(Port { protocol, number }),
        Element::Port(port) => key.with_port(port),
        Element::ExitWay(peer, interface, mark) => key
            .with_address(peer)
            .with(interface.padded())
            .with(&mark.value().to_ne_bytes()),
        Element::Link(interface) => key.with(interface.padded()),
        Element::Host(address, bridge) => key.with_address(address).with(bridge.padded()),
        Element::RelayWay(peer, port, mark) => key
            .with_address(peer)
            .with_number(port)
            .with(&mark.value().to_ne_bytes()),
        Element::Entry(at, protocol) | Element::EntryTarget(at, protocol, _) => key.with_end(at, protocol),
        Element::EntryWay(at, protocol, to) => key
            .with_end(at, protocol)
            .with(&to.ip().octets())
            .with_number(to.port()),
        Element::Server(server) => key.with_address(server.ip()).with_number(server.port()),
    }
}

fn successor(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4
            .to_bits()
            .checked_add(1)
            .map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6
            .to_bits()
            .checked_add(1)
            .map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use netlink_packet_core::Emitable as _;
    use netlink_packet_netfilter::nftables::{
        DataAttribute, ListAttribute, SetElementAttribute, SetElementFlags,
    };

    use super::*;

    /// The same in the crate's types.
    fn by_the_crate(keys: &[(Vec<u8>, bool)]) -> Vec<u8> {
        with_data(keys, None)
    }

    fn with_data(keys: &[(Vec<u8>, bool)], data: Option<&[u8]>) -> Vec<u8> {
        let element = |(key, ends): &(Vec<u8>, bool)| {
            let mut attributes = vec![SetElementAttribute::Key(DataAttribute::Value(key.clone()))];
            if let Some(data) = data {
                attributes.push(SetElementAttribute::Data(DataAttribute::Value(data.to_vec())));
            }
            if *ends {
                attributes.push(SetElementAttribute::Flags(SetElementFlags::IntervalEnd));
            }
            ListAttribute::Element(attributes)
        };
        let list: Vec<_> = keys.iter().map(element).collect();
        let mut bytes = vec![0; list.as_slice().buffer_len()];
        list.as_slice().emit(&mut bytes);
        bytes
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn bytes_are_those_of_the_crate_for_each_kind_of_element() {
        let (v4, v6) = (Ipv4Addr::new(10, 1, 2, 3), Ipv6Addr::from_bits(0xfd86 << 112 | 7));
        let port = vec![6, 0, 0, 0, 0x01, 0xbb, 0, 0];
        let tcp = Protocol::Tcp;
        let elements = [
            Element::Address(v4.into()),
            Element::Address(v6.into()),
            Element::Range(address("10.0.0.0"), address("10.0.0.255")),
            Element::Range(address("240.0.0.0"), address("255.255.255.255")),
            Element::Range(address("fe80::"), address("fe80::ffff")),
            Element::Service4(v4, v4, tcp, 443),
            Element::Service6(v6, v6, tcp, 443),
            Element::Port(Port {
                protocol: tcp,
                number: 443,
            }),
        ];
        let (b4, b6) = (v4.octets(), v6.octets());
        let v6_key = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets().to_vec();
        let expected = by_the_crate(&[
            (b4.to_vec(), false),
            (b6.to_vec(), false),
            (vec![10, 0, 0, 0], false),
            (vec![10, 0, 1, 0], true),
            (vec![240, 0, 0, 0], false),
            (v6_key("fe80::"), false),
            (v6_key("fe80::1:0"), true),
            ([&b4[..], &b4, &port].concat(), false),
            ([&b6[..], &b6, &port].concat(), false),
            (port, false),
        ]);
        assert_eq!(lists(elements), [expected]);
    }

    #[test]
    fn elements_of_exits_have_names_as_16_bytes_and_marks_in_the_hosts_order() {
        let mark = cell_netd_core::model::ExitMark::try_new(0x1010).unwrap();
        let interface = "wgext_00000001".parse().unwrap();
        let name = *b"wgext_00000001\0\0";
        let v6 = "fd86::2".parse::<Ipv6Addr>().unwrap();
        assert_eq!(
            lists([Element::ExitMark(v6.into(), mark)]),
            [with_data(
                &[(v6.octets().to_vec(), false)],
                Some(&0x1010_u32.to_ne_bytes())
            )]
        );
        let key = [&v6.octets()[..], &name, &0x1010_u32.to_ne_bytes()].concat();
        assert_eq!(
            lists([
                Element::ExitWay(v6.into(), interface, mark),
                Element::Link(interface)
            ]),
            [by_the_crate(&[(key, false), (name.to_vec(), false)])]
        );
    }

    #[test]
    fn elements_of_the_relay_have_ports_in_the_networks_order() {
        let mark = cell_netd_core::model::ExitMark::try_new(0x1010).unwrap();
        let v6 = "fd86::2".parse::<Ipv6Addr>().unwrap();
        assert_eq!(
            lists([Element::RelayPort(v6.into(), 9100)]),
            [with_data(&[(v6.octets().to_vec(), false)], Some(&[0x23, 0x8c]))]
        );
        let port = [0x23, 0x8c, 0, 0];
        let way = [&v6.octets()[..], &port, &0x1010_u32.to_ne_bytes()].concat();
        let server = [&[198, 51, 100, 7], &port[..]].concat();
        assert_eq!(
            lists([
                Element::RelayWay(v6.into(), 9100, mark),
                Element::Server("198.51.100.7:9100".parse().unwrap())
            ]),
            [by_the_crate(&[(way, false), (server, false)])]
        );
    }

    #[test]
    fn many_elements_are_split_so_that_each_list_fits_an_attribute() {
        let v6 = |index: u32| Ipv6Addr::from_bits(u128::from(index));
        let service = |index| Element::Service6(v6(index), v6(0), Protocol::Udp, 53);
        let lists = lists((0..2 * CHUNK as u32 + 1).map(service));
        let lengths: Vec<usize> = lists.iter().map(Vec::len).collect();
        let entry = wanted(service(0)).len();
        assert_eq!(lengths, [CHUNK * entry, CHUNK * entry, entry]);
        assert!(CHUNK * entry + 4 <= usize::from(u16::MAX));
        assert_eq!(lists[2], wanted(service(2 * CHUNK as u32)));
    }
}
