//! Exits that a program carries by a TUN that netd made for its user: stock WireGuard client, netd, Debian's OpenVPN as that user
//! without any right, and a real server. Nothing goes the machine's own way while the program, netd or the TUN is away, or the
//! addresses are not known. Needs root and the package `openvpn`.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/openvpn.rs"]
mod openvpn;
mod support;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cell_lab::counter::{Counter, Protocol, Spec, host};
use cell_lab::probe::{ping, tcp_echo, udp_echo};
use cell_lab::process::{Process, until};
use cell_lab::stock::Client;
use cell_lab::topology::{CELL, Device, FAR_HOST, World};
use cell_proto::common::v1 as common;
use cell_proto::netd::v1;
use cell_proto::netd::v1::ExitState;
use nix::sys::signal::Signal;
use openvpn::{Offer, OpenvpnServer, near};
use support::{Keys, Netd, PATIENCE, PORT, access, client_file, peer, spec};

/// Which everybody may run.
const PYTHON: &str = "/usr/bin/python3";
/// netd's policy names it ("bin").
const USER: &str = "2";
const LINK: &str = "ovpn_00000000";
const EXIT: &str = "exit0";
const SECOND: Duration = Duration::from_secs(1);
/// TCP, UDP and ping, of both families.
const ALL: usize = 6;

struct Setup {
    world: World,
    netd: Netd,
    device: Arc<Device>,
    keys: Keys,
    server: OpenvpnServer,
    /// What goes for the far host by the machine's own way, or from the peer's own address.
    own_way: Vec<Counter>,
    /// How much of that is what a control sent.
    controls: u64,
}

impl Setup {
    fn new(offer: Offer) -> Result<Self> {
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

    fn leaked(&self) -> u64 {
        let packets = self.own_way.iter().map(|counter| counter.packets().unwrap());
        packets.sum::<u64>() - self.controls
    }

    fn spec(&self, through: &str, addresses: &[IpAddr]) -> v1::NetworkSpec {
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
                    protocol: common::Protocol::Udp.into(),
                }],
            })),
        }];
        spec
    }

    fn apply(&self, through: &str, addresses: &[IpAddr]) -> Result<()> {
        Ok(self.netd.apply(self.spec(through, addresses), "").map(drop)?)
    }

    fn client<'a>(&self, device: &'a Device) -> Result<Client<'a>> {
        let endpoint = SocketAddr::new(IpAddr::V4(CELL.v4), PORT).to_string();
        let file = client_file(1, &self.keys, &self.netd.keys, &endpoint);
        let client = Client::up(&device.namespace, &file)?;
        client.wait_for_handshake()?;
        Ok(client)
    }

    fn answered(&self) -> usize {
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
    fn carries(&self, wanted: usize) -> Result<()> {
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

    fn carries_nothing(&self) {
        assert_eq!(self.answered(), 0);
        assert_eq!(self.leaked(), 0);
    }

    /// OpenVPN without a supervisor, as the user and without any right.
    fn openvpn(&self, folder: &Path) -> Result<Process> {
        let login = folder.join("login");
        std::fs::write(&login, format!("{}\n{}\n", openvpn::USERNAME, openvpn::PASSWORD))?;
        let profile = self
            .server
            .profile()
            .replace("dev tun", &format!("dev {LINK}\ndev-type tun"));
        let profile = profile.replace("auth-user-pass", &format!("auth-user-pass {}", login.display()));
        let config = folder.join("client.conf");
        std::fs::write(
            &config,
            format!("{profile}\nifconfig-noexec\nroute-noexec\nscript-security 0\ndisable-dco\n"),
        )?;
        let mut command = Command::new("setpriv");
        command
            .args([
                "--reuid",
                USER,
                "--regid",
                USER,
                "--clear-groups",
                "--inh-caps=-all",
            ])
            .args(["--bounding-set=-all", "--no-new-privs", "openvpn", "--config"])
            .arg(&config);
        let mut process = self.world.cell.spawn("openvpn", &mut command)?;
        process.wait_for(PATIENCE, "OpenVPN has a session", |output| {
            output.contains("Initialization Sequence Completed").then_some(())
        })?;
        Ok(process)
    }

    fn cell(&self, command: &str) -> Result<String> {
        let words: Vec<&str> = command.split(' ').collect();
        self.world.cell.run(words[0], &words[1..])
    }

    fn state(&self) -> Option<ExitState> {
        let status = self.netd.status().ok()?;
        status.exits.first().map(v1::ExitStatus::state)
    }
}

/// A folder that the user may read.
fn folder() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(folder)
}

const BOTH: Offer = Offer { v6: true, tcp: false };

#[test]
fn a_program_carries_what_its_far_end_gave_addresses_for_and_nothing_else_leaves() -> Result<()> {
    let mut setup = Setup::new(BOTH)?;
    let folder = folder()?;
    setup.apply("", &[])?;
    let device = Arc::clone(&setup.device);
    let _client = setup.client(&device)?;
    cell_lab::probe::EchoServer::start(&setup.world.internet, 80)?;
    until(PATIENCE, "control: the machine's own way", || {
        (setup.answered() == ALL).then_some(())
    })?;
    assert!(setup.leaked() > 0, "control: it is counted");
    setup.apply(EXIT, &[])?;
    setup.controls += setup.leaked();
    let link = setup.cell(&format!("ip -d link show {LINK}"))?;
    assert!(
        link.contains("tun type tun pi off") && link.contains("user bin"),
        "{link}"
    );
    setup.carries_nothing();
    let mut program = setup.openvpn(folder.path())?;
    setup.carries_nothing();
    setup.apply(EXIT, &near())?;
    setup.carries(ALL)?;
    setup.apply(EXIT, &near()[..1])?;
    setup.carries(ALL / 2)?;
    setup.apply(EXIT, &near())?;
    setup.carries(ALL)?;

    program.signal(Signal::SIGKILL)?;
    program.wait(PATIENCE)?;
    setup.carries_nothing();
    let mut program = setup.openvpn(folder.path())?;
    setup.carries(ALL)?;

    // What the program carries goes on while netd is away, and after.
    setup.netd.process.signal(Signal::SIGKILL)?;
    setup.netd.process.wait(PATIENCE)?;
    setup.carries(ALL)?;
    setup.netd.restart(&setup.world.cell)?;
    setup.apply(EXIT, &near())?;
    setup.carries(ALL)?;

    program.signal(Signal::SIGKILL)?;
    program.wait(PATIENCE)?;
    let mut spec = setup.spec("", &near());
    spec.exits.clear();
    setup.netd.apply(spec, "")?;
    assert!(
        setup.cell(&format!("ip link show {LINK}")).is_err(),
        "it goes with the exit"
    );
    Ok(())
}

#[test]
fn a_tun_that_others_touch_is_made_anew_or_left_to_them() -> Result<()> {
    let setup = Setup::new(BOTH)?;
    let folder = folder()?;
    setup.apply(EXIT, &near())?;
    let device = Arc::clone(&setup.device);
    let _client = setup.client(&device)?;
    let first = setup.openvpn(folder.path())?;
    setup.carries(ALL)?;
    setup.cell(&format!("ip link del {LINK}"))?;
    until(PATIENCE, "the TUN is there again", || {
        let link = setup.cell(&format!("ip -d link show {LINK}")).ok()?;
        (link.contains("user bin") && setup.state() == Some(ExitState::Ready)).then_some(())
    })?;
    setup.carries_nothing();
    drop(first);
    let second = setup.openvpn(folder.path())?;
    setup.carries(ALL)?;
    drop(second);

    // Somebody else's.
    setup.cell(&format!("ip link del {LINK}"))?;
    let taken = until(PATIENCE, "somebody is faster", || {
        let _gone = setup.cell(&format!("ip link del {LINK}"));
        setup
            .cell(&format!("ip tuntap add dev {LINK} mode tun user daemon"))
            .ok()
    });
    taken?;
    until(PATIENCE, "netd sees whose it is", || {
        let alias = setup.cell(&format!("ip link show {LINK}")).ok()?;
        (!alias.contains("made by") && setup.state() == Some(ExitState::Foreign)).then_some(())
    })?;
    setup.carries_nothing();
    setup.cell(&format!("ip link del {LINK}"))?;
    until(PATIENCE, "netd has its own again", || {
        (setup.state() == Some(ExitState::Ready)).then_some(())
    })?;
    let _third = setup.openvpn(folder.path())?;
    setup.carries(ALL)
}

/// One datagram and one attempt to connect, by a socket of that user.
fn said_by(setup: &Setup, user: &str, to: SocketAddr) -> Result<bool> {
    let script = "import socket, sys\n\
                  family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET\n\
                  s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(1)\n\
                  try:\n  s.sendto(b'x', (sys.argv[1], int(sys.argv[2]))); s.recv(9)\n\
                  except OSError: sys.exit(1)";
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", user, "--regid", user, "--clear-groups"])
        .args([PYTHON, "-c", script, &to.ip().to_string(), &to.port().to_string()]);
    let ended = setup.world.cell.inside(|| command.output())?.context("python3")?;
    Ok(ended.status.success())
}

/// Whoever takes the program over reaches its servers, and nothing else.
#[test]
fn the_user_of_tunnels_speaks_to_their_servers_alone() -> Result<()> {
    let setup = Setup::new(BOTH)?;
    cell_lab::probe::EchoServer::start(&setup.world.internet, 80)?;
    setup.apply("", &[])?;
    for far in FAR_HOST.each() {
        let to = SocketAddr::new(far, 80);
        assert!(said_by(&setup, "0", to)?, "control: others may");
        let (before, counted) = (setup.netd.dropped("tunnel_stranger")?, setup.leaked());
        assert!(!said_by(&setup, USER, to)?, "{to}");
        assert!(setup.netd.dropped("tunnel_stranger")? > before);
        assert_eq!(setup.leaked(), counted, "nothing left the machine");
    }
    // The right host and port by the wrong protocol.
    let before = setup.netd.dropped("tunnel_stranger")?;
    let at = setup.server.at();
    let tcp = format!(
        "import socket; socket.create_connection(('{}', {}), 1)",
        at.ip(),
        at.port()
    );
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        USER,
        "--regid",
        USER,
        "--clear-groups",
        PYTHON,
        "-c",
        &tcp,
    ]);
    let _refused = setup.world.cell.inside(|| command.output())?;
    assert!(setup.netd.dropped("tunnel_stranger")? > before);
    let folder = folder()?;
    let stranger = setup.netd.dropped("tunnel_stranger")?;
    let _program = setup
        .openvpn(folder.path())
        .context("control: its servers answer it")?;
    assert_eq!(setup.netd.dropped("tunnel_stranger")?, stranger);
    Ok(())
}
