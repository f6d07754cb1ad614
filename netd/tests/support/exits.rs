//! A cell with two exits and a way of its own, and somebody who counts at each.
#![allow(dead_code, clippy::unwrap_used, reason = "shared by several test binaries")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::support::{Keys, Netd, PATIENCE, PORT, access, address, client_file, peer, spec};
use anyhow::Result;
use cell_lab::counter::{Counter, Protocol, Spec, host};
use cell_lab::netns::Namespace;
use cell_lab::probe::{EchoServer, ping, tcp_echo, udp_echo};
use cell_lab::process::until;
use cell_lab::stock::Client;
use cell_lab::topology::{CELL, Device, FAR_HOST, LAN_HOST, World};
use cell_proto::common::v1 as common;
use cell_proto::netd::v1;

pub const SECOND: Duration = Duration::from_secs(1);
/// TCP, UDP and ping, of both families.
pub const ALL: usize = 6;

/// Who is behind a way out: the far host is there too, and all that arrives for it is counted.
pub struct Isp {
    counters: Vec<Counter>,
}

impl Isp {
    fn count(namespace: &Namespace) -> Result<Self> {
        let specs = FAR_HOST
            .each()
            .into_iter()
            .map(|far| Spec::to(host(far), Protocol::Any));
        let counters = specs.map(|spec| Counter::install(namespace, spec));
        Ok(Isp {
            counters: counters.collect::<Result<_>>()?,
        })
    }

    /// Packets to the far host, of both families.
    pub fn packets(&self) -> [u64; 2] {
        let packets: Vec<u64> = self
            .counters
            .iter()
            .map(|counter| counter.packets().unwrap())
            .collect();
        packets.try_into().unwrap()
    }
}

pub struct Setup {
    pub world: World,
    pub netd: Netd,
    pub device: Arc<Device>,
    pub keys: Keys,
    pub exits: [(Namespace, Isp); 2],
    pub own_way: Isp,
}

pub fn link(index: usize) -> String {
    format!("wgext_{index:08}")
}

/// An exit whose interface is a wire to the ISP; both ends have one MAC and ask for none, as a tunnel does.
fn wire(world: &World, index: usize) -> Result<Namespace> {
    let isp = Namespace::new("isp")?;
    let (link, mac) = (link(index), format!("02:00:00:00:00:{:02x}", index + 1));
    world.cell.ip(&format!(
        "link add {link} address {mac} type veth peer name isp address {mac} netns {}",
        isp.name()
    ))?;
    for far in FAR_HOST.each() {
        isp.add_address("lo", far.into())?;
    }
    isp.ip("link set isp arp off up")?;
    isp.ip("-4 route add default dev isp")?;
    isp.ip("-6 route add default dev isp")?;
    EchoServer::start(&isp, 80)?;
    lay(world, index)?;
    Ok(isp)
}

/// Brings the cell's end up.
fn lay(world: &World, index: usize) -> Result<()> {
    let link = link(index);
    world.cell.ip(&format!("link set {link} arp off up"))?;
    for near in near(index) {
        world.cell.add_address(&link, near.into())?;
    }
    Ok(())
}

pub fn near(index: usize) -> [IpAddr; 2] {
    [format!("172.20.{index}.2"), format!("fd20:{index}::2")].map(|text| text.parse().unwrap())
}

fn exit(index: u32) -> v1::ExitSpec {
    let every = |zero: &str| common::IpPrefix {
        address: Some(address(zero)),
        length: 0,
    };
    v1::ExitSpec {
        id: format!("exit{index}"),
        mark: 0x1000 + 0x10 * index,
        table: 1000 + index,
        interface: link(index as usize),
        way: Some(v1::exit_spec::Way::Wireguard(v1::WireguardExit {
            addresses: near(index as usize).map(Into::into).into(),
            mtu_bytes: 0,
            far_ends: vec![v1::WireguardFarEnd {
                public_key: vec![0x50 + index as u8; 32],
                endpoint: Some("192.0.2.9:51820".parse::<SocketAddr>().unwrap().into()),
                persistent_keepalive_seconds: 0,
                allowed_ips: vec![every("0.0.0.0"), every("::")],
                has_preshared_key: false,
            }],
            secret_revision: 0,
        })),
    }
}

/// A cell on a machine that checks return paths strictly unless told otherwise (`all`), with two exits and a way of its own.
pub fn setup() -> Result<Setup> {
    let mut world = World::new()?;
    world.cell.forward()?;
    world.cell.set_sysctl("ipv4/conf/all/rp_filter", "1")?;
    world.cell.set_sysctl("ipv4/conf/default/rp_filter", "2")?;
    let device = Arc::new(world.device("a")?);
    EchoServer::start(&world.internet, 80)?;
    EchoServer::start(&world.lan, 80)?;
    EchoServer::start(&world.cell, 3443)?;
    let isps = [wire(&world, 0)?, wire(&world, 1)?];
    let exits = isps.map(|isp| {
        let counted = Isp::count(&isp).unwrap();
        (isp, counted)
    });
    let own_way = Isp::count(&world.internet)?;
    let netd = Netd::start(&world.cell)?;
    Ok(Setup {
        world,
        netd,
        device,
        keys: Keys::make()?,
        exits,
        own_way,
    })
}

impl Setup {
    pub fn client<'a>(&self, device: &'a Device) -> Result<Client<'a>> {
        let endpoint = SocketAddr::new(IpAddr::V4(CELL.v4), PORT).to_string();
        let file = client_file(1, &self.keys, &self.netd.keys, &endpoint);
        let client = Client::up(&device.namespace, &file)?;
        client.wait_for_handshake()?;
        Ok(client)
    }

    pub fn peer(&self, exit: &str) -> v1::PeerSpec {
        let lan = LAN_HOST.each().map(|host| host.to_string());
        let services = lan.each_ref().map(|host| (host.as_str(), 80));
        let mut peer = peer(1, "a", &self.keys.public_bytes, access(true, false, &services));
        peer.exit = exit.to_owned();
        peer
    }

    pub fn spec(&self, through: &str) -> v1::NetworkSpec {
        let mut spec = spec(vec![self.peer(through)]);
        spec.exits = vec![exit(0), exit(1)];
        spec
    }

    pub fn bind(&self, exit: &str) -> Result<()> {
        Ok(self.netd.delta(vec![self.peer(exit)], &[]).map(drop)?)
    }

    /// How many of [`ALL`] ways to speak to the far host are answered.
    pub fn answered(&self) -> usize {
        let from = &self.device.namespace;
        let one = |far: IpAddr| {
            let to = SocketAddr::new(far, 80);
            [
                tcp_echo(from, to, SECOND).unwrap(),
                udp_echo(from, to, 2, SECOND).unwrap() > 0,
                ping(from, far, 2, Duration::from_millis(200), SECOND)
                    .unwrap()
                    .received
                    > 0,
            ]
        };
        FAR_HOST
            .each()
            .into_iter()
            .flat_map(one)
            .filter(|answered| *answered)
            .count()
    }

    pub fn all_by(&self, exit: usize) {
        let before = self.exits[exit].1.packets();
        assert_eq!(self.answered(), ALL);
        let after = self.exits[exit].1.packets();
        assert!(
            after[0] >= before[0] + 6 && after[1] >= before[1] + 6,
            "{before:?} {after:?}"
        );
    }

    pub fn repaired(&self, exit: usize) -> Result<()> {
        until(PATIENCE, "the exit carries again", || {
            let status = self.netd.status().ok()?;
            (status.observed_generation == status.generation && self.answered() == ALL).then_some(())
        })?;
        self.all_by(exit);
        Ok(())
    }

    pub fn cell(&self, command: &str) -> Result<String> {
        let words: Vec<&str> = command.split(' ').collect();
        self.world.cell.run(words[0], &words[1..])
    }
}
