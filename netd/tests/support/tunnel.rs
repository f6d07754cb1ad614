//! A cell with one exit that a program carries, the server that it leads to, and an ISP that counts what goes the machine's own
//! way.
#![allow(dead_code, clippy::unwrap_used, reason = "shared by several test binaries")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use cell_lab::counter::{Counter, Protocol, Spec, host};
use cell_lab::probe::{ping, tcp_echo, udp_echo};
use cell_lab::process::until;
use cell_lab::stock::Client;
use cell_lab::topology::{CELL, Device, FAR_HOST, World};
use cell_proto::common::v1 as common;
use cell_proto::netd::v1;
use cell_proto::netd::v1::ExitState;

use super::openvpn::{Offer, OpenvpnServer};
use super::support::{Keys, Netd, PATIENCE, PORT, access, client_file, peer, spec};

/// netd's policy names it ("bin").
pub const USER: u32 = 2;
pub const LINK: &str = "ovpn_00000000";
pub const EXIT: &str = "6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a00";
pub const SECOND: Duration = Duration::from_secs(1);
/// TCP, UDP and ping, of both families.
pub const ALL: usize = 6;
pub const BOTH: Offer = Offer { v6: true, tcp: false };

pub struct Setup {
    pub world: World,
    pub netd: Netd,
    pub device: Arc<Device>,
    pub keys: Keys,
    pub server: OpenvpnServer,
    /// What goes for the far host by the machine's own way, or from the peer's own address.
    pub own_way: Vec<Counter>,
    /// How much of that is what a control sent.
    pub controls: u64,
}

impl Setup {
    pub fn new(offer: Offer) -> Result<Self> {
        let mut world = World::new()?;
        world.cell.forward()?;
        world.cell.set_sysctl("ipv4/conf/all/rp_filter", "1")?;
        world.cell.set_sysctl("ipv4/conf/default/rp_filter", "1")?;
        let device = Arc::new(world.device("a")?);
        let netd = Netd::start(&world.cell)?;
        let server = OpenvpnServer::start(&mut world, offer)?;
        let to = FAR_HOST.each().map(|far| Spec::to(host(far), Protocol::Any));
        let own = ["10.86.0.2", "fd86::2"];
        let from = own.map(|own| Spec::from(host(own.parse::<IpAddr>().unwrap()), Protocol::Any));
        let counted = to.into_iter().chain(from);
        let own_way = counted.map(|spec| Counter::install(&world.internet, spec));
        Ok(Setup {
            own_way: own_way.collect::<Result<_>>()?,
            controls: 0,
            world,
            netd,
            device,
            keys: Keys::make()?,
            server,
        })
    }

    pub fn leaked(&self) -> u64 {
        let packets = self.own_way.iter().map(|counter| counter.packets().unwrap());
        packets.sum::<u64>() - self.controls
    }

    pub fn spec(&self, through: &str, addresses: &[IpAddr]) -> v1::NetworkSpec {
        let mut bound = peer(1, "a", &self.keys.public_bytes, access(true, false, &[]));
        bound.exit = through.to_owned();
        let mut spec = spec(vec![bound]);
        spec.exits = vec![v1::ExitSpec {
            id: EXIT.to_owned(),
            mark: 0x1000,
            table: 1000,
            interface: LINK.to_owned(),
            way: Some(v1::exit_spec::Way::Tunnel(v1::TunnelExit {
                addresses: addresses.iter().map(|address| (*address).into()).collect(),
                mtu_bytes: 1500,
                servers: vec![v1::TunnelServer {
                    endpoint: Some(self.server.at().into()),
                    protocol: match self.server.offer().tcp {
                        true => common::Protocol::Tcp.into(),
                        false => common::Protocol::Udp.into(),
                    },
                }],
            })),
        }];
        spec
    }

    pub fn apply(&self, through: &str, addresses: &[IpAddr]) -> Result<()> {
        Ok(self.netd.apply(self.spec(through, addresses), "").map(drop)?)
    }

    pub fn client<'a>(&self, device: &'a Device) -> Result<Client<'a>> {
        let endpoint = SocketAddr::new(IpAddr::V4(CELL.v4), PORT).to_string();
        let file = client_file(1, &self.keys, &self.netd.keys, &endpoint);
        let client = Client::up(&device.namespace, &file)?;
        client.wait_for_handshake()?;
        Ok(client)
    }

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
        let answers = FAR_HOST.each().into_iter().flat_map(one);
        answers.filter(|answered| *answered).count()
    }

    /// That many are answered, all of it came out at the server, and nothing by the machine's own way.
    pub fn carries(&self, wanted: usize) -> Result<()> {
        let before = self.server.packets();
        until(PATIENCE, "the exit carries", || {
            (self.answered() == wanted).then_some(())
        })?;
        let after = self.server.packets();
        assert!(after[0] >= before[0] + 6, "{before:?} {after:?}");
        assert!(wanted < ALL || after[1] >= before[1] + 6, "{before:?} {after:?}");
        assert_eq!(self.leaked(), 0);
        Ok(())
    }

    pub fn carries_nothing(&self) {
        assert_eq!(self.answered(), 0);
        assert_eq!(self.leaked(), 0);
    }

    pub fn cell(&self, command: &str) -> Result<String> {
        let words: Vec<&str> = command.split(' ').collect();
        self.world.cell.run(words[0], &words[1..])
    }

    pub fn state(&self) -> Option<ExitState> {
        let status = self.netd.status().ok()?;
        status.exits.first().map(v1::ExitStatus::state)
    }
}
