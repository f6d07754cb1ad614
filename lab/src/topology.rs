//! The world around a cell: an internet, a LAN behind the cell, and devices out on the internet.
//!
//! ```text
//!  device ── 203.0.113.101 ─┐
//!                           ├── internet (bridge 203.0.113.1, host 198.51.100.7) ── uplink 203.0.113.10 ── cell ── lan
//!  device ── 203.0.113.102 ─┘                                                              192.168.77.1 / .50
//! ```
//! The same with 2001:db8:1::/64, 2001:db8:7::7 and fd77::/64. Addresses are of RFC 5737 and RFC 3849.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::netns::{Namespace, join};

/// One address per family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Both {
    /// IPv4.
    pub v4: Ipv4Addr,
    /// IPv6.
    pub v6: Ipv6Addr,
}

impl Both {
    /// Both, IPv4 first.
    pub fn each(self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }

    fn nets(self, v4_length: u8, v6_length: u8) -> [IpNet; 2] {
        [
            Ipv4Net::new_assert(self.v4, v4_length).into(),
            Ipv6Net::new_assert(self.v6, v6_length).into(),
        ]
    }
}

/// The internet's own address on the bridge, everybody's default gateway.
pub const GATEWAY: Both = public(1);
/// The cell's public address.
pub const CELL: Both = public(10);
/// A host far out on the internet, behind the gateway.
pub const FAR_HOST: Both = Both {
    v4: Ipv4Addr::new(198, 51, 100, 7),
    v6: Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7),
};
/// The cell's address on its LAN.
pub const CELL_ON_LAN: Both = lan(1);
/// A host on the cell's LAN, which holds the services.
pub const LAN_HOST: Both = lan(50);

const fn public(host: u8) -> Both {
    Both {
        v4: Ipv4Addr::new(203, 0, 113, host),
        v6: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host as u16),
    }
}

const fn lan(host: u8) -> Both {
    Both {
        v4: Ipv4Addr::new(192, 168, 77, host),
        v6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, host as u16),
    }
}

/// The namespaces. Devices are added by [`World::device`].
#[derive(Debug)]
pub struct World {
    /// Bridge, gateway and far host.
    pub internet: Namespace,
    /// Where the cell lives: links `uplink` and `lan`, default route through the internet.
    pub cell: Namespace,
    /// A host on the cell's LAN, whose default gateway is the cell.
    pub lan: Namespace,
    devices: u8,
}

/// A device somewhere on the internet.
#[derive(Debug)]
pub struct Device {
    /// Its namespace; the link is `eth0`.
    pub namespace: Namespace,
    /// Its public address.
    pub address: Both,
}

impl World {
    /// Builds it without a device.
    ///
    /// # Errors
    /// As [`Namespace::new`] and [`join`].
    pub fn new() -> Result<Self> {
        let world = World {
            internet: Namespace::new("internet")?,
            cell: Namespace::new("cell")?,
            lan: Namespace::new("lan")?,
            devices: 0,
        };
        world.internet.ip("link add br0 type bridge")?;
        world.internet.ip("link set br0 up")?;
        for net in GATEWAY.nets(24, 64) {
            world.internet.add_address("br0", net)?;
        }
        for net in FAR_HOST.nets(32, 128) {
            world.internet.add_address("lo", net)?;
        }
        world.attach(&world.cell, "uplink", CELL)?;
        join((&world.cell, "lan"), (&world.lan, "eth0"))?;
        for (on_cell, on_lan) in CELL_ON_LAN.nets(24, 64).into_iter().zip(LAN_HOST.nets(24, 64)) {
            world.cell.add_address("lan", on_cell)?;
            world.lan.add_address("eth0", on_lan)?;
        }
        default_routes(&world.lan, CELL_ON_LAN, "eth0")?;
        Ok(world)
    }

    /// Adds a device to the internet.
    ///
    /// # Errors
    /// As [`Namespace::new`] and [`join`].
    pub fn device(&mut self, label: &str) -> Result<Device> {
        self.devices += 1;
        let address = public(100 + self.devices);
        let namespace = Namespace::new(label)?;
        self.attach(&namespace, "eth0", address)?;
        Ok(Device { namespace, address })
    }

    fn attach(&self, namespace: &Namespace, link: &str, address: Both) -> Result<()> {
        let port = format!("p{}", address.v4.octets()[3]);
        join((namespace, link), (&self.internet, &port))?;
        self.internet.ip(&format!("link set {port} master br0"))?;
        for net in address.nets(24, 64) {
            namespace.add_address(link, net)?;
        }
        default_routes(namespace, GATEWAY, link)
    }
}

fn default_routes(namespace: &Namespace, via: Both, link: &str) -> Result<()> {
    for gateway in via.each() {
        namespace.ip(&format!("route add default via {gateway} dev {link}"))?;
    }
    Ok(())
}
