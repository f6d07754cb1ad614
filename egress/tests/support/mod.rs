//! Three namespaces: a peer, the cell with cell-egress, and what lies beyond: exits' servers and destinations.
//!
//! The cell forwards and has a route to the destinations, so that a direct way exists and is counted: 7100-7109 are redirected
//! to 9100-9109, everything else goes straight through.
#![allow(dead_code, clippy::unwrap_used, reason = "shared by several test binaries")]

pub mod dns;
pub mod inside;
pub mod servers;
pub mod sshd;
pub mod vault;

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use cell_lab::activation::{self, Listener};
use cell_lab::netns::{self, Namespace};
use cell_lab::process::{Process, resident_bytes, run_with_input, until};
use cell_proto::egress::v1;
use cell_proto::egress::v1::egress_service_client::EgressServiceClient;
use cell_proto::egress::v1::exit::Kind;
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tonic::transport::Channel;

pub const SECOND: Duration = Duration::from_secs(1);
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Who the program runs as.
pub const NOBODY: u32 = 65534;
/// Where servers of exits are.
pub const FAR: &str = "192.0.2.2";
pub const FAR6: &str = "2001:db8::2";
/// Destinations, of both families.
pub const BEYOND: [&str; 2] = ["198.51.100.7", "2001:db8:7::7"];

const RULES: &str = "
table inet t {
    counter direct {}
    chain pre {
        type nat hook prerouting priority dstnat;
        iifname \"eth0\" tcp dport 7100-7109 redirect to :tcp dport map { 7100 : 9100, 7101 : 9101, 7102 : 9102, 7103 : 9103 }
    }
    chain out {
        type filter hook postrouting priority 0;
        ip daddr 198.51.100.7 counter name direct
        ip6 daddr 2001:db8:7::7 counter name direct
    }
}";

pub struct Lab {
    pub peer: Namespace,
    pub cell: Namespace,
    pub far: Namespace,
}

impl Lab {
    pub fn new() -> Result<Self> {
        let lab = Lab {
            peer: Namespace::new("egp")?,
            cell: Namespace::new("egc")?,
            far: Namespace::new("egf")?,
        };
        netns::join((&lab.peer, "eth0"), (&lab.cell, "eth0"))?;
        netns::join((&lab.cell, "eth1"), (&lab.far, "eth0"))?;
        for (namespace, link, addresses) in [
            (
                &lab.peer,
                "eth0",
                ["10.8.0.2/24", "10.8.0.3/24", "10.9.0.2/24", "fd08::2/64"].as_slice(),
            ),
            (&lab.cell, "eth0", &["10.8.0.1/24", "10.9.0.1/24", "fd08::1/64"]),
            (&lab.cell, "eth1", &["192.0.2.1/24", "2001:db8::1/64"]),
            (&lab.far, "eth0", &["192.0.2.2/24", "2001:db8::2/64"]),
            (&lab.far, "lo", &["198.51.100.7/32", "2001:db8:7::7/128"]),
        ] {
            for address in addresses {
                namespace.add_address(link, address.parse()?)?;
            }
        }
        lab.cell.set_sysctl("ipv4/ip_forward", "1")?;
        lab.cell.set_sysctl("ipv6/conf/all/forwarding", "1")?;
        lab.peer.ip("route add default via 10.8.0.1")?;
        lab.peer.ip("-6 route add default via fd08::1")?;
        lab.cell.ip("route add 198.51.100.0/24 via 192.0.2.2")?;
        lab.cell.ip("-6 route add 2001:db8:7::/64 via 2001:db8::2")?;
        lab.far.ip("route add default via 192.0.2.1")?;
        lab.far.ip("-6 route add default via 2001:db8::1")?;
        lab.cell
            .inside(|| run_with_input(Command::new("nft").args(["-f", "-"]), RULES))??;
        Ok(lab)
    }

    /// Packets that left the cell for a destination itself.
    pub fn direct(&self) -> Result<u64> {
        let told = self
            .cell
            .run("nft", &["list", "counter", "inet", "t", "direct"])?;
        let words: Vec<_> = told.split_whitespace().collect();
        let at = words
            .iter()
            .position(|word| *word == "packets")
            .context("packets")?;
        Ok(words[at + 1].parse()?)
    }

    /// That nothing went directly, and that it would have been counted.
    pub fn nothing_went_directly(&self) -> Result<()> {
        assert_eq!(self.direct()?, 0, "packets left the cell for the destination");
        for beyond in BEYOND {
            let before = self.direct()?;
            // The first packet over a fresh IPv6 link may be lost to the search for neighbours.
            until(PATIENCE, "an answer to a ping", || {
                self.peer.run("ping", &["-c", "1", "-W", "1", beyond]).ok()
            })?;
            assert!(self.direct()? > before, "control: the counter counts");
        }
        Ok(())
    }

    /// Connects from the peer, by one of its addresses.
    pub fn connect_from(&self, source: &str, to: SocketAddr) -> io::Result<TcpStream> {
        let source: IpAddr = source.parse().unwrap();
        let connected = self.peer.inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let socket = if to.is_ipv4() {
                    TcpSocket::new_v4()?
                } else {
                    TcpSocket::new_v6()?
                };
                socket.bind(SocketAddr::new(source, 0))?;
                socket.connect(to).await?.into_std()
            })
        });
        let stream = connected.map_err(io::Error::other)??;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    pub fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.connect_from(if to.is_ipv4() { "10.8.0.2" } else { "fd08::2" }, to)
    }
}

/// The destination behind redirect port 91xx, `number` being xx.
pub fn beyond(family: usize, number: u16) -> SocketAddr {
    SocketAddr::new(BEYOND[family].parse().unwrap(), 7100 + number)
}

/// Says something, ends its own direction, and reads what comes until the end: half-close all the way. Both at once, so that
/// what comes back early is in nobody's way.
pub fn echoed(mut stream: TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
    let mut writer = stream.try_clone()?;
    let mut answer = Vec::new();
    std::thread::scope(|scope| {
        let said = scope.spawn(move || {
            writer.write_all(text)?;
            writer.shutdown(Shutdown::Write)
        });
        let read = stream.read_to_end(&mut answer);
        said.join().unwrap().and(read)
    })?;
    Ok(answer)
}

/// That a connection is reset and brings nothing.
pub fn is_reset(connected: io::Result<TcpStream>) {
    let told = connected.and_then(|mut stream| stream.read(&mut [0]));
    let kind = told.expect_err("it was not reset").kind();
    assert_eq!(kind, io::ErrorKind::ConnectionReset);
}

pub fn id(number: u16) -> String {
    format!("6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a{number:02x}")
}

pub fn exit(number: u16, kind: Kind) -> v1::Exit {
    v1::Exit {
        id: id(number),
        redirect_port: (9100 + number).into(),
        kind: Some(kind),
        secret_revision: 0,
    }
}

/// Of an import that has a number.
pub fn exit_of(number: u16, kind: Kind, secret_revision: u64) -> v1::Exit {
    v1::Exit {
        secret_revision,
        ..exit(number, kind)
    }
}

pub fn server(at: SocketAddr) -> Option<cell_proto::common::v1::Endpoint> {
    Some(at.into())
}

pub fn socks5(at: SocketAddr, user: &str) -> Kind {
    Kind::Socks5(v1::Socks5Exit {
        server: server(at),
        username: user.to_owned(),
    })
}

pub fn http(at: SocketAddr, user: &str) -> Kind {
    Kind::HttpConnect(v1::HttpConnectExit {
        server: server(at),
        username: user.to_owned(),
    })
}

pub fn tor(at: SocketAddr) -> Kind {
    Kind::Tor(v1::TorExit { server: server(at) })
}

/// The ceiling that the tests are under.
pub struct Ceiling {
    pub limits: (u32, u32, u32),
    pub connect: u32,
    pub handshake: u32,
    pub idle: u32,
    pub user: &'static str,
    /// Nobody answers there unless a test serves it.
    pub vault: std::path::PathBuf,
}

impl Default for Ceiling {
    fn default() -> Self {
        Ceiling {
            limits: (100, 50, 20),
            connect: 2,
            handshake: 10,
            idle: 60,
            user: "root",
            vault: "/nonexistent/vault.sock".into(),
        }
    }
}

impl Ceiling {
    pub fn text(&self) -> String {
        let (total, per_exit, per_peer) = self.limits;
        format!(
            "vault_socket = \"{}\"\nlisten = [\"0.0.0.0\", \"::\"]\n\
             peers = [\"10.8.0.0/24\", \"fd08::/64\"]\nservers = [\"192.0.2.0/24\", \"2001:db8::/64\"]\nlocal_servers = []\n\
             services = [\"192.0.2.64/28\"]\ncatalog_ports = [8443]\n\
             [limits]\ntotal = {total}\nper_exit = {per_exit}\nper_peer = {per_peer}\n\
             [timeouts]\nconnect_seconds = {}\nhandshake_seconds = {}\nidle_seconds = {}\n\
             [callers.api]\nusers = [\"{}\"]\nunit = \"cell-api.service\"\n",
            self.vault.display(),
            self.connect,
            self.handshake,
            self.idle,
            self.user
        )
    }
}

/// The program under test: unprivileged, sandboxed, in the cell's namespace.
pub struct Daemon {
    pub process: Process,
    runtime: Runtime,
    client: EgressServiceClient<Channel>,
    _folder: tempfile::TempDir,
}

impl Daemon {
    pub fn start(lab: &Lab, ceiling: &Ceiling) -> Result<Self> {
        Daemon::start_with(lab, ceiling, None)
    }

    /// With as many descriptors as are given.
    pub fn start_with(lab: &Lab, ceiling: &Ceiling, descriptors: Option<u32>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let config = folder.path().join("egress.toml");
        std::fs::write(&config, ceiling.text())?;
        let socket = folder.path().join("egress.sock");
        let listeners = [Listener::stream("api", &socket)?];
        let arguments = ["--config", config.to_str().context("path")?];
        let program = Path::new(env!("CARGO_BIN_EXE_cell-egress"));
        let mut command = activation::command(program, &arguments, NOBODY, &listeners)?;
        if let Some(most) = descriptors {
            // prlimit(1) goes on as the program that it is given, with the listeners as they are.
            let mut limited = Command::new("prlimit");
            limited
                .arg(format!("--nofile={most}"))
                .arg(command.get_program())
                .args(command.get_args());
            limited.envs(
                command
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            );
            command = limited;
        }
        let process = lab.cell.spawn("cell-egress", &mut command)?;
        let runtime = Runtime::new()?;
        let channel = runtime.block_on(async { cell_proto::ipc::connect(socket) });
        let client = EgressServiceClient::new(channel);
        Ok(Daemon {
            process,
            runtime,
            client,
            _folder: folder,
        })
    }

    pub fn apply(&self, exits: Vec<v1::Exit>) -> Result<Vec<v1::ExitStatus>, tonic::Status> {
        let request = v1::ApplyExitsRequest { exits };
        let applied = self.runtime.block_on(self.client.clone().apply_exits(request));
        applied.map(|answer| answer.into_inner().exits)
    }

    pub fn status(&self, number: u16) -> v1::ExitStatus {
        let told = self
            .runtime
            .block_on(self.client.clone().get_status(v1::GetStatusRequest {}));
        let exits = told.unwrap().into_inner().exits;
        exits.into_iter().find(|exit| exit.id == id(number)).unwrap()
    }

    /// Waits until the counters of an exit are as `look` wants them: they move a moment after the packets.
    pub fn settles(&self, number: u16, look: impl Fn(&v1::ExitStatus) -> bool) -> Result<v1::ExitStatus> {
        let settled = until(PATIENCE, "counters", || Some(self.status(number)).filter(&look));
        settled.with_context(|| format!("{:?}", self.status(number)))
    }

    /// Resident memory, KiB.
    pub fn memory(&self) -> Result<u64> {
        Ok(resident_bytes(self.process.id())? / 1024)
    }
}
