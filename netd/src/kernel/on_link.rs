//! What lies on the machine's links: the prefixes of their addresses, and of routes that have no gateway (a prefix may be told
//! by a router alone, and a DHCPv6 address has none).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cell_netd_core::model::InterfaceName;
use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};

use super::KernelError;
use super::link::{Links, name_of, prefix};

impl Links {
    /// The prefixes on all links but those and loopback. Default routes and single hosts are no prefixes of a link.
    pub(super) async fn on_link(
        &self,
        except: &BTreeSet<InterfaceName>,
    ) -> Result<BTreeSet<IpNet>, KernelError> {
        let (links, routes) = (self.links().await?, self.routes().await?);
        self.prefixes(except, &links, &routes).await
    }

    /// The same of links and routes that were read before.
    pub(super) async fn prefixes(
        &self,
        except: &BTreeSet<InterfaceName>,
        links: &[LinkMessage],
        routes: &[RouteMessage],
    ) -> Result<BTreeSet<IpNet>, KernelError> {
        let addresses: Vec<AddressMessage> = self.handle().address().get().execute().try_collect().await?;
        Ok(prefixes(links, except, &addresses, routes))
    }
}

/// By index, whether a link has neighbours: what is routed into a tunnel as a whole may be half the internet.
fn others(links: &[LinkMessage], except: &BTreeSet<InterfaceName>) -> BTreeMap<u32, bool> {
    links
        .iter()
        .filter(|link| !link.header.flags.contains(LinkFlags::Loopback))
        .filter(|link| name_of(link).is_none_or(|name| !except.contains(&name)))
        .map(|link| {
            let tunnel = LinkFlags::Pointopoint | LinkFlags::Noarp;
            (link.header.index, !link.header.flags.intersects(tunnel))
        })
        .collect()
}

fn prefixes(
    links: &[LinkMessage],
    except: &BTreeSet<InterfaceName>,
    addresses: &[AddressMessage],
    routes: &[RouteMessage],
) -> BTreeSet<IpNet> {
    let others = others(links, except);
    let of_addresses = addresses
        .iter()
        .filter(|message| others.contains_key(&message.header.index))
        .filter_map(prefix);
    let of_routes = routes.iter().filter_map(|route| {
        let (link, net) = direct(route)?;
        others.get(&link).copied().unwrap_or(false).then_some(net)
    });
    of_addresses
        .chain(of_routes)
        .map(|net| net.trunc())
        .filter(|net| (shortest(net)..net.max_prefix_len()).contains(&net.prefix_len()))
        .collect()
}

/// The shortest prefix that a link of neighbours has, 10.0.0.0/8 among them; what is shorter takes the internet as a whole
/// somewhere.
fn shortest(net: &IpNet) -> u8 {
    match net {
        IpNet::V4(_) => 8,
        IpNet::V6(_) => 16,
    }
}

/// Link and prefix of a route whose destinations are spoken to without a gateway.
fn direct(route: &RouteMessage) -> Option<(u32, IpNet)> {
    if route.header.kind != RouteType::Unicast {
        return None;
    }
    let (mut link, mut destination) = (None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                destination = Some(IpAddr::V4(*address));
            }
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                destination = Some(IpAddr::V6(*address));
            }
            RouteAttribute::Gateway(_)
            | RouteAttribute::Via(_)
            | RouteAttribute::MultiPath(_)
            | RouteAttribute::NhId(_) => return None,
            _ => {}
        }
    }
    let net = IpNet::new(destination?, route.header.destination_prefix_length).ok()?;
    let link_local = matches!(net.addr(), IpAddr::V6(v6) if v6.is_unicast_link_local() || v6.is_multicast());
    (!link_local).then_some((link?, net))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use netlink_packet_route::address::AddressAttribute;
    use netlink_packet_route::link::LinkAttribute;

    fn link(index: u32, name: &str, flags: LinkFlags) -> LinkMessage {
        let mut link = LinkMessage::default();
        (link.header.index, link.header.flags) = (index, flags);
        link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        link
    }

    fn address(index: u32, net: &str) -> AddressMessage {
        let net: IpNet = net.parse().unwrap();
        let mut address = AddressMessage::default();
        (address.header.index, address.header.prefix_len) = (index, net.prefix_len());
        address.attributes = vec![AddressAttribute::Address(net.addr())];
        address
    }

    fn route(index: u32, net: &str, more: Vec<RouteAttribute>) -> RouteMessage {
        let net: IpNet = net.parse().unwrap();
        let mut route = RouteMessage::default();
        route.header.kind = RouteType::Unicast;
        route.header.destination_prefix_length = net.prefix_len();
        let to = match net.addr() {
            IpAddr::V4(v4) => RouteAddress::Inet(v4),
            IpAddr::V6(v6) => RouteAddress::Inet6(v6),
        };
        route.attributes = vec![RouteAttribute::Destination(to), RouteAttribute::Oif(index)];
        route.attributes.extend(more);
        route
    }

    #[test]
    fn neighbours_are_told_by_addresses_and_by_routes_without_a_gateway() {
        let links = [
            link(1, "lo", LinkFlags::Loopback),
            link(2, "eth0", LinkFlags::Broadcast),
            link(3, "wg0", LinkFlags::Noarp),
            link(4, "office", LinkFlags::Noarp | LinkFlags::Pointopoint),
        ];
        let addresses = [
            address(1, "127.0.0.1/8"),
            address(2, "192.0.2.7/24"),
            address(2, "2001:db8::5/128"),
            address(2, "fe80::1/64"),
            address(3, "10.86.0.1/24"),
            address(4, "198.51.100.9/24"),
        ];
        let gateway = RouteAttribute::Gateway(RouteAddress::Inet([192, 0, 2, 1].into()));
        let mut unreachable = route(2, "203.0.112.0/24", vec![]);
        unreachable.header.kind = RouteType::Unreachable;
        let routes = [
            route(2, "192.0.2.0/24", vec![]),
            route(2, "2001:db8::/64", vec![]),
            route(2, "203.0.113.0/24", vec![gateway]),
            route(2, "0.0.0.0/0", vec![]),
            route(2, "128.0.0.0/1", vec![]),
            route(2, "2000::/3", vec![]),
            route(2, "203.0.113.9/32", vec![]),
            route(2, "ff00::/8", vec![]),
            route(3, "10.87.0.0/24", vec![]),
            // Half the internet through a tunnel is no neighbourhood.
            route(4, "0.0.0.0/1", vec![]),
            unreachable,
        ];
        let found = prefixes(&links, &["wg0".parse().unwrap()].into(), &addresses, &routes);
        let expected = ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/64"];
        assert_eq!(found, expected.map(|net| net.parse().unwrap()).into());
    }
}
