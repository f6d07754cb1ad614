//! Whoever sells the far end of a tunnel: a stock WireGuard somewhere on the internet, with an internet of its own behind it.
#![allow(dead_code, clippy::unwrap_used, reason = "shared by several test binaries")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;

use super::support::{Keys, Netd, address};
use anyhow::Result;
use cell_lab::counter::{Counter, Protocol, Spec, host};
use cell_lab::netns::Namespace;
use cell_lab::probe::EchoServer;
use cell_lab::stock::Client;
use cell_lab::topology::{Device, FAR_HOST, World};
use cell_proto::common::v1 as common;
use cell_proto::netd::v1;

const PORT: u16 = 51_999;

/// One provider, and the exit that leads to it.
pub struct Provider {
    index: u32,
    device: Device,
    server: Keys,
    /// The near end's, which vaultd has.
    near: Mutex<Keys>,
    preshared: String,
    /// What comes for the far host from the tunnel's near end, of both families.
    counters: Vec<Counter>,
}

impl Provider {
    /// Two of them, with the first two exits.
    pub fn pair(world: &mut World, netd: &Netd) -> Result<[Self; 2]> {
        Ok([Self::start(world, netd, 0)?, Self::start(world, netd, 1)?])
    }

    /// Its secrets are given to the vault.
    pub fn start(world: &mut World, netd: &Netd, index: u32) -> Result<Self> {
        let device = world.device(&format!("isp{index}"))?;
        for far in FAR_HOST.each() {
            device.namespace.add_address("lo", far.into())?;
        }
        EchoServer::start(&device.namespace, 80)?;
        let counters = FAR_HOST.each().into_iter().zip(near(index)).map(|(far, near)| {
            let spec = Spec::to(host(far), Protocol::Any).and_from(host(near));
            Counter::install(&device.namespace, spec)
        });
        let provider = Provider {
            index,
            counters: counters.collect::<Result<_>>()?,
            device,
            server: Keys::make()?,
            near: Mutex::new(Keys::make()?),
            preshared: Keys::make()?.private,
        };
        provider.deposit(netd);
        Ok(provider)
    }

    /// The near end's keys.
    pub fn near(&self) -> Keys {
        self.near.lock().unwrap().clone()
    }

    /// Where it is, and what lies behind it.
    pub fn namespace(&self) -> &Namespace {
        &self.device.namespace
    }

    /// Gives the near end other keys.
    pub fn change(&self, netd: &Netd) -> Result<()> {
        *self.near.lock().unwrap() = Keys::make()?;
        self.deposit(netd);
        Ok(())
    }

    /// Gives the vault what it has now.
    pub fn deposit(&self, netd: &Netd) {
        let mut secrets = netd.exit_secrets.lock().unwrap();
        // As the API stores them: in the letters of the file that was imported.
        secrets.insert(
            secret(self.index, "wireguard_key"),
            self.near().private.into_bytes(),
        );
        secrets.insert(
            secret(self.index, "preshared_key_1"),
            self.preshared.clone().into_bytes(),
        );
    }

    /// Brings the far end up.
    pub fn up(&self) -> Result<Client<'_>> {
        Client::up(&self.device.namespace, &self.file())
    }

    /// Its wg-quick file.
    pub fn file(&self) -> String {
        let [v4, v6] = near(self.index);
        format!(
            "[Interface]\nPrivateKey = {}\nListenPort = {PORT}\nAddress = 172.21.{i}.1/32, fd21:{i}::1/128\n\n\
             [Peer]\nPublicKey = {}\nPresharedKey = {}\nAllowedIPs = {v4}/32, {v6}/128\n",
            self.server.private,
            self.near().public,
            self.preshared,
            i = self.index,
        )
    }

    /// Packets for the far host that came out of the tunnel, from its near end, of both families.
    pub fn packets(&self) -> [u64; 2] {
        let packets: Vec<u64> = self
            .counters
            .iter()
            .map(|counter| counter.packets().unwrap())
            .collect();
        packets.try_into().unwrap()
    }

    /// The exit. An odd one is reached over IPv6.
    pub fn exit(&self, secret_revision: u64) -> v1::ExitSpec {
        let every = |zero: &str| common::IpPrefix {
            address: Some(address(zero)),
            length: 0,
        };
        let [v4, v6] = self.device.address.each();
        let at = if self.index.is_multiple_of(2) { v4 } else { v6 };
        v1::ExitSpec {
            id: id(self.index),
            mark: 0x1000 + 0x10 * self.index,
            table: 1000 + self.index,
            interface: link(self.index),
            way: Some(v1::exit_spec::Way::Wireguard(v1::WireguardExit {
                addresses: near(self.index).map(Into::into).into(),
                mtu_bytes: 1380,
                far_ends: vec![v1::WireguardFarEnd {
                    public_key: self.server.public_bytes.clone(),
                    endpoint: Some(SocketAddr::new(at, PORT).into()),
                    persistent_keepalive_seconds: 1,
                    allowed_ips: vec![every("0.0.0.0"), every("::")],
                    has_preshared_key: true,
                }],
                secret_revision,
            })),
        }
    }
}

pub fn id(index: u32) -> String {
    format!("0123abcd-4567-89ab-cdef-{index:012x}")
}

pub fn secret(index: u32, field: &str) -> String {
    format!("conn_{}_{field}", id(index).replace('-', ""))
}

pub fn link(index: u32) -> String {
    format!("wgext_{index:08x}")
}

pub fn near(index: u32) -> [IpAddr; 2] {
    [format!("172.20.{index}.2"), format!("fd20:{index}::2")].map(|text| text.parse().unwrap())
}
