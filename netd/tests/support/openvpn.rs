//! Whoever sells OpenVPN: Debian's, as a server somewhere on the internet, with an internet of its own behind it, and
//! certificates that are made for the test.
#![allow(dead_code, clippy::unwrap_used, reason = "shared by several test binaries")]

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context as _, Result};
use cell_lab::counter::{Counter, Protocol, Spec, host};
use cell_lab::netns::Namespace;
use cell_lab::openvpn_server::{self, PORT};
use cell_lab::probe::EchoServer;
use cell_lab::process::Process;
use cell_lab::topology::{Device, FAR_HOST, World};

/// Who may sign in.
pub const USERNAME: &str = "bob \"the\" builder";
pub const PASSWORD: &str = "back\\slash and 'quotes'";
/// What the server gives its first client.
pub const NEAR: [&str; 2] = ["10.99.0.2", "fd99::1000"];
/// Its resolver, which it pushes.
pub const RESOLVER: &str = "10.99.0.1";

/// How a server is to be.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// Whether it gives IPv6 addresses too.
    pub v6: bool,
    /// Whether it is spoken to by TCP.
    pub tcp: bool,
}

/// The provider.
pub struct OpenvpnServer {
    device: Device,
    server: openvpn_server::OpenvpnServer,
    offer: Offer,
    process: Option<Process>,
    counters: Vec<Counter>,
}

impl OpenvpnServer {
    pub fn start(world: &mut World, offer: Offer) -> Result<Self> {
        let device = world.device("ovpn")?;
        let made = openvpn_server::OpenvpnServer::new()?;
        for far in FAR_HOST.each() {
            device.namespace.add_address("lo", far.into())?;
        }
        device.namespace.forward()?;
        EchoServer::start(&device.namespace, 80)?;
        let counters = FAR_HOST.each().into_iter().zip(near()).map(|(far, near)| {
            let spec = Spec::to(host(far), Protocol::Any).and_from(host(near));
            Counter::install(&device.namespace, spec)
        });
        let mut server = OpenvpnServer {
            counters: counters.collect::<Result<_>>()?,
            device,
            server: made,
            offer,
            process: None,
        };
        server.up()?;
        Ok(server)
    }

    /// Starts the program.
    pub fn up(&mut self) -> Result<()> {
        let folder = self.server.folder();
        let proto = if self.offer.tcp { "tcp-server" } else { "udp" };
        let v6 = if self.offer.v6 { openvpn_server::V6 } else { "" };
        let check = folder.join("check");
        let right = folder.join("right");
        std::fs::write(
            &check,
            format!(
                "#!/bin/sh\n[ \"$(cat \"$1\")\" = \"$(cat {})\" ]\n",
                right.display()
            ),
        )?;
        std::fs::write(right, format!("{USERNAME}\n{PASSWORD}\n"))?;
        std::fs::set_permissions(&check, PermissionsExt::from_mode(0o755))?;
        let lines = format!(
            "{v6}proto {proto}\npush \"dhcp-option DNS {RESOLVER}\"\npush \"redirect-gateway def1 ipv6\"\n\
             script-security 2\nauth-user-pass-verify {} via-file\n",
            check.display()
        );
        self.process = Some(self.server.start(&self.device.namespace, &lines)?);
        Ok(())
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        openvpn_server::crash(self.process.take().context("it runs")?)
    }

    /// What it says.
    pub fn output(&self) -> String {
        self.process.as_ref().map(Process::output).unwrap_or_default()
    }

    pub fn offer(&self) -> Offer {
        self.offer
    }

    pub fn namespace(&self) -> &Namespace {
        &self.device.namespace
    }

    /// Where it is.
    pub fn at(&self) -> SocketAddr {
        SocketAddr::new(self.device.address.v4.into(), PORT)
    }

    /// A file of those that were made: ca.crt, client.crt, client.key, ta.key.
    pub fn file(&self, name: &str) -> String {
        self.server.file(name).unwrap()
    }

    /// A profile as providers sell it.
    pub fn profile(&self) -> String {
        let proto = if self.offer.tcp { "tcp" } else { "udp" };
        let lines = format!("proto {proto}\nauth-user-pass\n");
        self.server.profile(self.at(), &lines).unwrap()
    }

    /// Packets for the far host that came out of the tunnel, from its near end, of both families.
    pub fn packets(&self) -> [u64; 2] {
        let packets = self.counters.iter().map(|counter| counter.packets().unwrap());
        packets.collect::<Vec<_>>().try_into().unwrap()
    }
}

pub fn near() -> [IpAddr; 2] {
    NEAR.map(|text| text.parse().unwrap())
}
