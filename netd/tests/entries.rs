//! Services at addresses in the VPN, by packets of real WireGuard peers: who reaches the container behind, whom it sees, and what
//! becomes of a flow whose grant goes.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/exits.rs"]
mod cell;
#[path = "support/containers.rs"]
mod containers;
mod support;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cell::{SECOND, Setup, setup};
use cell_lab::netns::Namespace;
use cell_lab::probe::{EchoServer, Flow, tcp_echo, udp_echo};
use cell_lab::stock::Client;
use cell_lab::topology::{CELL, CELL_ON_LAN, Device};
use cell_proto::common::v1 as common;
use cell_proto::netd::v1;
use containers::{Container, bridge, network};
use support::{Keys, PORT, access, address, client_file, peer};

const LONG: Duration = Duration::from_secs(3);
/// Where a service is found.
const CALENDAR: &str = "10.86.0.200";
const FILES: &str = "10.86.0.201";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn service(end: SocketAddr, protocol: common::Protocol) -> v1::Service {
    v1::Service {
        address: Some(end.ip().into()),
        protocol: protocol.into(),
        port: end.port().into(),
    }
}

fn entry(from: &str, to: &str, protocol: common::Protocol, everyone: bool) -> v1::ServiceEntry {
    v1::ServiceEntry {
        at: Some(service(at(from), protocol)),
        to: Some(service(at(to), protocol)),
        everyone,
    }
}

fn tcp(from: &str, to: &str) -> v1::ServiceEntry {
    entry(from, to, common::Protocol::Tcp, false)
}

/// Answers each connection with the address that it sees, then with what it is sent.
fn teller(namespace: &Namespace, port: u16) -> Result<()> {
    let listener = namespace.inside(|| TcpListener::bind(("0.0.0.0", port)))??;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let Ok(seen) = stream.peer_addr() else { continue };
            let _gone = writeln!(stream, "{}", seen.ip());
        }
    });
    Ok(())
}

/// Whom the service at `to` sees.
fn seen(from: &Namespace, to: SocketAddr) -> Result<IpAddr> {
    let answer = from.inside(|| -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, LONG)?;
        stream.set_read_timeout(Some(LONG))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })??;
    Ok(answer.trim().parse()?)
}

/// Two devices, `a` (10.86.0.2) and `b` (10.86.0.3), and the proxy's container (bridge 1) and another (bridge 2).
struct House {
    setup: Setup,
    b: Arc<Device>,
    keys_b: Keys,
    proxy: Container,
    other: Container,
}

impl House {
    fn new() -> Result<Self> {
        let mut setup = setup()?;
        let b = Arc::new(setup.world.device("b")?);
        let cell = &setup.world.cell;
        let one = |index: u8| {
            let name = format!("cellsvc{index}");
            bridge(cell, &name, index)?;
            Container::new(cell, &name, index, 2)
        };
        let (proxy, other) = (one(1)?, one(2)?);
        for container in [&proxy, &other] {
            EchoServer::start(&container.namespace, 8443)?;
            EchoServer::start(&container.namespace, 123)?;
            teller(&container.namespace, 8080)?;
        }
        Ok(House {
            setup,
            b,
            keys_b: Keys::make()?,
            proxy,
            other,
        })
    }

    fn a(&self) -> &Namespace {
        &self.setup.device.namespace
    }

    /// Each device with what is granted to it, by TCP.
    fn spec(&self, a: &[(&str, u32)], b: &[(&str, u32)], entries: &[v1::ServiceEntry]) -> v1::NetworkSpec {
        let mut spec = support::spec(vec![
            peer(1, "a", &self.setup.keys.public_bytes, access(true, true, a)),
            peer(2, "b", &self.keys_b.public_bytes, access(true, true, b)),
        ]);
        spec.service_networks = vec![network(1, false, ""), network(2, false, "")];
        spec.entries = entries.to_vec();
        spec
    }

    fn apply(&self, spec: v1::NetworkSpec) -> Result<()> {
        Ok(self.setup.netd.apply(spec, "").map(drop)?)
    }

    fn connect(&self) -> Result<(Client<'_>, Client<'_>)> {
        let endpoint = SocketAddr::new(IpAddr::V4(CELL.v4), PORT).to_string();
        let file = client_file(2, &self.keys_b, &self.setup.netd.keys, &endpoint);
        let b = Client::up(&self.b.namespace, &file)?;
        b.wait_for_handshake()?;
        Ok((self.setup.client(&self.setup.device)?, b))
    }

    fn dropped(&self, reason: &str) -> u64 {
        self.setup.netd.dropped(reason).unwrap()
    }
}

#[test]
fn who_is_granted_reaches_the_container_and_is_seen_and_nobody_else() -> Result<()> {
    let house = House::new()?;
    let entries = [
        tcp("10.86.0.200:443", "172.30.1.2:8443"),
        tcp("10.86.0.200:80", "172.30.1.2:8080"),
        tcp("10.86.0.201:443", "172.30.1.2:8443"),
        tcp("10.86.0.201:80", "172.30.1.2:8080"),
    ];
    let calendar = [(CALENDAR, 443), (CALENDAR, 80)];
    let files = [(FILES, 443), (FILES, 80)];
    house.apply(house.spec(&calendar, &files, &entries))?;
    let _clients = house.connect()?;
    let b = &house.b.namespace;
    // Both stand before one container, and each device reaches the one that it was granted, as itself.
    assert!(tcp_echo(house.a(), at("10.86.0.200:443"), LONG)?);
    assert!(tcp_echo(b, at("10.86.0.201:443"), LONG)?);
    assert_eq!(
        seen(house.a(), at("10.86.0.200:80"))?,
        "10.86.0.2".parse::<IpAddr>()?
    );
    assert_eq!(seen(b, at("10.86.0.201:80"))?, "10.86.0.3".parse::<IpAddr>()?);
    let before = house.dropped("entry_denied");
    assert!(!tcp_echo(house.a(), at("10.86.0.201:443"), SECOND)?);
    assert!(!tcp_echo(b, at("10.86.0.200:443"), SECOND)?);
    assert!(house.dropped("entry_denied") >= before + 2);
    assert!(
        !tcp_echo(house.a(), at("10.86.0.200:444"), SECOND)?,
        "a port beside it"
    );
    // The container itself is not opened by it.
    let before = house.dropped("from_peer_default");
    assert!(!tcp_echo(house.a(), at("172.30.1.2:8443"), SECOND)?);
    assert!(house.dropped("from_peer_default") > before);
    // And a grant of the container does not open an entry.
    house.apply(house.spec(&[("172.30.1.2", 8443)], &files, &entries))?;
    assert!(tcp_echo(house.a(), at("172.30.1.2:8443"), LONG)?, "control");
    assert!(!tcp_echo(house.a(), at("10.86.0.200:443"), SECOND)?);
    // Neither the house nor another service, nor the proxy itself.
    let lan = &house.setup.world.lan;
    lan.ip(&format!("route add 10.86.0.0/24 via {}", CELL_ON_LAN.v4))?;
    lan.ip(&format!("route add 172.30.0.0/16 via {}", CELL_ON_LAN.v4))?;
    for from in [lan, &house.other.namespace, &house.proxy.namespace] {
        for to in ["10.86.0.200:443", "10.86.0.201:443"] {
            assert!(!tcp_echo(from, at(to), SECOND)?, "{to}");
        }
    }
    assert!(!tcp_echo(lan, at("172.30.1.2:8443"), SECOND)?);
    assert!(!tcp_echo(&house.other.namespace, at("172.30.1.2:8443"), SECOND)?);
    Ok(())
}

#[test]
fn a_grant_that_goes_cuts_the_flow_and_so_does_the_entry() -> Result<()> {
    let house = House::new()?;
    let entries = [tcp("10.86.0.200:443", "172.30.1.2:8443")];
    let granted = [(CALENDAR, 443)];
    house.apply(house.spec(&granted, &granted, &entries))?;
    let _clients = house.connect()?;
    let to = at("10.86.0.200:443");
    let mut flow = Flow::open(house.a(), to, LONG)?;
    let mut stays = Flow::open(&house.b.namespace, to, LONG)?;
    flow.echo(LONG)?;
    stays.echo(LONG)?;
    let keys = &house.setup.keys.public_bytes;
    let delta = |services: &[(&str, u32)]| {
        let peer = peer(1, "a", keys, access(true, true, services));
        house.setup.netd.delta(vec![peer], &[])
    };
    // Also where the container itself is granted in its place.
    let changed = delta(&[("172.30.1.2", 8443)])?;
    let words: Vec<&str> = changed
        .changes
        .iter()
        .map(|change| change.detail.as_str())
        .collect();
    assert_eq!(
        words,
        ["gains tcp 172.30.1.2:8443; loses svc1 (10.86.0.200 tcp 443)"]
    );
    let before = house.dropped("entry_denied");
    assert!(flow.echo(SECOND).is_err());
    assert!(house.dropped("entry_denied") > before);
    stays.echo(LONG)?;
    delta(&granted)?;
    assert!(tcp_echo(house.a(), to, LONG)?, "and is given back");

    house.apply(house.spec(&granted, &granted, &[]))?;
    assert!(stays.echo(SECOND).is_err(), "the entry is gone");
    assert!(!tcp_echo(house.a(), to, SECOND)?);
    // It comes back, before another container, and after a crash of netd it still stands.
    house.apply(house.spec(&granted, &granted, &[tcp("10.86.0.200:443", "172.30.2.2:8443")]))?;
    assert!(tcp_echo(house.a(), to, LONG)?);
    let mut flow = Flow::open(house.a(), to, LONG)?;
    flow.echo(LONG)?;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(house.setup.netd.process.id())?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?;
    flow.echo(LONG)?;
    assert!(tcp_echo(house.a(), to, LONG)?, "while netd is dead");
    assert!(!tcp_echo(house.a(), at("10.86.0.201:443"), SECOND)?);
    Ok(())
}

#[test]
fn what_everyone_may_is_answered_also_at_the_cells_own_address() -> Result<()> {
    let house = House::new()?;
    let udp = common::Protocol::Udp;
    let entries = [
        entry("10.86.0.1:123", "172.30.1.2:123", udp, true),
        entry("10.86.0.200:123", "172.30.2.2:123", udp, true),
        entry("10.86.0.201:123", "172.30.2.2:123", udp, false),
    ];
    house.apply(house.spec(&[], &[], &entries))?;
    let _clients = house.connect()?;
    for from in [house.a(), &house.b.namespace] {
        for to in ["10.86.0.1:123", "10.86.0.200:123"] {
            assert_eq!(udp_echo(from, at(to), 2, LONG)?, 2, "{to}");
        }
        assert_eq!(
            udp_echo(from, at("10.86.0.201:123"), 2, SECOND)?,
            0,
            "not granted"
        );
        assert!(
            !tcp_echo(from, at("10.86.0.200:123"), SECOND)?,
            "by another protocol"
        );
    }
    // The cell's own ports are what they were.
    assert!(tcp_echo(house.a(), at("10.86.0.1:443"), LONG)?);
    for from in [&house.setup.world.lan, &house.other.namespace] {
        assert_eq!(udp_echo(from, at("10.86.0.1:123"), 1, SECOND)?, 0);
    }
    assert_eq!(
        udp_echo(
            &house.setup.world.lan,
            SocketAddr::new(CELL_ON_LAN.v4.into(), 123),
            1,
            SECOND
        )?,
        0
    );
    Ok(())
}

#[test]
fn while_the_bridge_is_away_nothing_is_sent_anywhere() -> Result<()> {
    let house = House::new()?;
    let entries = [tcp("10.86.0.200:443", "172.30.1.2:8443")];
    house.apply(house.spec(&[(CALENDAR, 443), ("172.30.1.2", 8443)], &[], &entries))?;
    let _clients = house.connect()?;
    let to = at("10.86.0.200:443");
    let cell = &house.setup.world.cell;
    assert!(tcp_echo(house.a(), to, LONG)?, "control");
    // Whoever is there in its place is not spoken to: by its default route the cell would lead there.
    cell.ip("link del cellsvc1")?;
    let internet = &house.setup.world.internet;
    internet.ip("address add 172.30.1.2/32 dev lo")?;
    EchoServer::start(internet, 8443)?;
    // With iptables, rules that follow the machine's links are counted anew.
    cell_lab::process::until(support::PATIENCE, "it is counted", || {
        assert!(!tcp_echo(house.a(), to, SECOND).unwrap());
        assert!(!tcp_echo(house.a(), at("172.30.1.2:8443"), SECOND).unwrap());
        (house.dropped("service_away") >= 2).then_some(())
    })?;
    Ok(())
}

/// The cell's own containers: CoreDNS, Caddy and chrony lie on `cellsvc0`, with a /24.
#[test]
fn the_cells_own_network_is_as_closed_as_others_and_its_resolver_is_asked() -> Result<()> {
    let house = House::new()?;
    let cell = &house.setup.world.cell;
    cell.ip("link add cellsvc0 type bridge")?;
    cell.ip("link set cellsvc0 up")?;
    cell.ip("address add 172.30.0.1/24 dev cellsvc0")?;
    let core = Container::new(cell, "cellsvc0", 0, 4)?;
    core.namespace.ip("address add 172.30.0.4/24 dev eth0")?;
    core.namespace.ip("address del 172.30.0.4/28 dev eth0")?;
    core.namespace.ip("route replace default via 172.30.0.1")?;
    for port in [53, 123, 8443] {
        EchoServer::start(&core.namespace, port)?;
    }
    let entries = [
        tcp("10.86.0.200:443", "172.30.0.4:8443"),
        entry("10.86.0.1:123", "172.30.0.4:123", common::Protocol::Udp, true),
    ];
    let mut spec = house.spec(&[(CALENDAR, 443)], &[], &entries);
    let mut own = network(0, false, "");
    own.name = "cell".to_owned();
    own.subnet = Some(common::IpPrefix {
        address: Some(address("172.30.0.0")),
        length: 24,
    });
    spec.service_networks.push(own);
    house.apply(spec.clone())?;
    let _clients = house.connect()?;
    assert!(tcp_echo(house.a(), at("10.86.0.200:443"), LONG)?);
    assert_eq!(udp_echo(&house.b.namespace, at("10.86.0.1:123"), 2, LONG)?, 2);
    assert!(!tcp_echo(&house.b.namespace, at("10.86.0.200:443"), SECOND)?);
    for (to, port) in [("198.51.100.7", 80), ("172.30.1.2", 8443), ("10.86.0.2", 80)] {
        assert_eq!(core.reaches(to.parse()?, port), [false; 3], "{to}");
    }
    for from in [&house.setup.world.lan, &house.other.namespace] {
        assert!(!tcp_echo(from, at("172.30.0.4:8443"), SECOND)?);
    }
    // The relay's user asks a resolver there only where netd was told of it.
    let asks = || -> Result<bool> {
        let mut command = std::process::Command::new("setpriv");
        let script = "exec 3<>/dev/udp/172.30.0.4/53 && echo question >&3 && read -r -N 1 -t 1 -u 3 answer";
        command.args([
            "--reuid",
            "daemon",
            "--regid",
            "daemon",
            "--clear-groups",
            "bash",
            "-c",
            script,
        ]);
        let mut asked = cell.spawn("asker", &mut command)?;
        let answered = asked.wait(LONG)?.success();
        Ok(answered)
    };
    let before = house.dropped("egress_stranger");
    assert!(!asks()?);
    assert!(house.dropped("egress_stranger") > before);
    spec.dns_upstreams = vec![at("172.30.0.4:53").into()];
    house.apply(spec)?;
    assert!(asks()?);
    Ok(())
}

#[test]
fn what_somebody_changes_is_put_right() -> Result<()> {
    let house = House::new()?;
    let entries = [tcp("10.86.0.200:443", "172.30.1.2:8443")];
    house.apply(house.spec(&[(CALENDAR, 443)], &[], &entries))?;
    let _clients = house.connect()?;
    let to = at("10.86.0.200:443");
    assert!(tcp_echo(house.a(), to, LONG)?);
    if support::is_legacy() {
        let cell = &house.setup.world.cell;
        for change in [
            "-t nat -F CELL-entry_leads",
            "-t mangle -F CELL-entry_asked",
            "-t mangle -A CELL-entry_asked -j CELL-entry_let",
        ] {
            let words: Vec<&str> = change.split(' ').collect();
            cell.run("iptables-legacy", &words)?;
            cell_lab::process::until(support::PATIENCE, "it is put right", || {
                let right = tcp_echo(house.a(), to, SECOND).ok()?;
                let denied = !tcp_echo(&house.b.namespace, to, SECOND).ok()?;
                (right && denied).then_some(())
            })
            .context(change)?;
        }
    }
    Ok(())
}
