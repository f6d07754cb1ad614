//! Whoever sells OpenVPN: Debian's, as a server somewhere on the internet, with an internet of its own behind it, and
//! certificates that are made for the test.
#![allow(dead_code, clippy::unwrap_used, reason = "shared by several test binaries")]

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cell_lab::counter::{Counter, Protocol, Spec, host};
use cell_lab::netns::Namespace;
use cell_lab::probe::EchoServer;
use cell_lab::process::{Process, run};
use cell_lab::topology::{Device, FAR_HOST, World};

pub const PORT: u16 = 1194;
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
    folder: tempfile::TempDir,
    offer: Offer,
    process: Option<Process>,
    counters: Vec<Counter>,
}

impl OpenvpnServer {
    pub fn start(world: &mut World, offer: Offer) -> Result<Self> {
        let device = world.device("ovpn")?;
        let folder = tempfile::tempdir()?;
        certificates(folder.path())?;
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
            folder,
            offer,
            process: None,
        };
        server.up()?;
        Ok(server)
    }

    /// Starts the program.
    pub fn up(&mut self) -> Result<()> {
        let proto = if self.offer.tcp { "tcp-server" } else { "udp" };
        let v6 = if self.offer.v6 {
            "server-ipv6 fd99::/64\n"
        } else {
            ""
        };
        let check = self.folder.path().join("check");
        std::fs::write(
            &check,
            format!(
                "#!/bin/sh\n[ \"$(cat \"$1\")\" = \"$(cat {}/right)\" ]\n",
                self.folder.path().display()
            ),
        )?;
        std::fs::write(
            self.folder.path().join("right"),
            format!("{USERNAME}\n{PASSWORD}\n"),
        )?;
        std::fs::set_permissions(&check, PermissionsExt::from_mode(0o755))?;
        let text = format!(
            "dev tun\ntopology subnet\nserver 10.99.0.0 255.255.255.0\n{v6}proto {proto}\nport {PORT}\n\
             ca ca.crt\ncert server.crt\nkey server.key\ndh none\ntls-crypt ta.key\nkeepalive 1 4\n\
             push \"dhcp-option DNS {RESOLVER}\"\npush \"redirect-gateway def1 ipv6\"\nscript-security 2\n\
             auth-user-pass-verify {} via-file\nverb 3\n",
            check.display()
        );
        std::fs::write(self.folder.path().join("server.conf"), text)?;
        let mut command = Command::new("openvpn");
        command
            .args(["--config", "server.conf"])
            .current_dir(self.folder.path());
        let mut process = self.device.namespace.spawn("openvpn server", &mut command)?;
        process.wait_for(Duration::from_secs(20), "the server is up", |output| {
            output.contains("Initialization Sequence Completed").then_some(())
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("it runs")?;
        process.signal(nix::sys::signal::Signal::SIGKILL)?;
        process.wait(Duration::from_secs(10)).map(drop)
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
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    /// A profile as providers sell it.
    pub fn profile(&self) -> String {
        let proto = if self.offer.tcp { "tcp" } else { "udp" };
        format!(
            "client\ndev tun\nproto {proto}\nremote {} {PORT}\nnobind\npersist-key\npersist-tun\nremote-cert-tls server\n\
             auth-user-pass\nverb 3\n<ca>\n{}</ca>\n<cert>\n{}</cert>\n<key>\n{}</key>\n<tls-crypt>\n{}</tls-crypt>\n",
            self.at().ip(),
            self.file("ca.crt"),
            self.file("client.crt"),
            self.file("client.key"),
            self.file("ta.key"),
        )
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

fn certificates(folder: &Path) -> Result<()> {
    let openssl = |arguments: &str| {
        run(Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder))
    };
    let curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!(
        "req -x509 {curve} -keyout ca.key -out ca.crt -subj /CN=ca -days 30"
    ))?;
    for (name, usage) in [("server", "serverAuth"), ("client", "clientAuth")] {
        openssl(&format!(
            "req {curve} -keyout {name}.key -out {name}.csr -subj /CN={name}"
        ))?;
        std::fs::write(
            folder.join("ext"),
            format!("keyUsage=digitalSignature\nextendedKeyUsage={usage}\n"),
        )?;
        openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out {name}.crt -days 30 -extfile ext"
        ))?;
    }
    let mut genkey = Command::new("openvpn");
    genkey
        .args(["--genkey", "tls-crypt", "ta.key"])
        .current_dir(folder);
    run(&mut genkey).map(drop)
}
