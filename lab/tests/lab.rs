//! The laboratory tests itself: what it is to prove with must not err. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use cell_lab::activation::{self, Listener};
use cell_lab::counter::{Counter, Protocol, Spec, host};
use cell_lab::netns::{Namespace, join};
use cell_lab::probe::{EchoServer, Flow, Pings, ping, tcp_echo, udp_echo};
use cell_lab::prober::Prober;
use cell_lab::process::{Process, run};
use cell_lab::stock::Client;
use cell_lab::topology::{CELL, FAR_HOST, LAN_HOST, World};
use wireguard_control::KeyPair;

const SECOND: Duration = Duration::from_secs(1);
const SHORT: Duration = Duration::from_millis(300);

fn pair() -> Result<(Namespace, Namespace)> {
    let (one, two) = (Namespace::new("one")?, Namespace::new("two")?);
    join((&one, "eth0"), (&two, "eth0"))?;
    for (namespace, number) in [(&one, 1), (&two, 2)] {
        namespace.add_address("eth0", format!("192.0.2.{number}/24").parse()?)?;
        namespace.add_address("eth0", format!("2001:db8::{number}/64").parse()?)?;
    }
    Ok((one, two))
}

#[test]
fn everything_is_torn_down_even_when_a_test_panics() -> Result<()> {
    let namespace = Namespace::new("gone")?;
    let name = namespace.name().to_owned();
    let sleeper = namespace.spawn("sleep", Command::new("sleep").arg("600"))?;
    let id = sleeper.id();
    assert!(
        Command::new("ip")
            .args(["netns", "pids", &name])
            .output()?
            .stdout
            .starts_with(id.to_string().as_bytes())
    );
    let panicked = std::thread::spawn(move || {
        let _held = (sleeper, namespace);
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    assert!(!std::path::Path::new("/run/netns").join(&name).exists());
    assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    Ok(())
}

#[test]
fn output_is_kept_and_waited_for() -> Result<()> {
    let mut process = Process::spawn(
        "sh",
        Command::new("sh").args(["-c", "echo one; echo two >&2; exit 3"]),
    )?;
    process.wait_for(SECOND, "both lines", |text| {
        (text.contains("one") && text.contains("two")).then_some(())
    })?;
    assert_eq!(process.wait(SECOND)?.code(), Some(3));
    let missing = process
        .wait_for(SECOND, "a third line", |text| text.find("three"))
        .unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("ended (exit status: 3) before a third line"),
        "{missing}"
    );
    Ok(())
}

#[test]
fn a_counter_counts_exactly_what_it_is_told_to() -> Result<()> {
    let (one, two) = pair()?;
    let echo = EchoServer::start(&two, 7000)?;
    for (target, source) in [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")] {
        let (target, source): (std::net::IpAddr, std::net::IpAddr) = (target.parse()?, source.parse()?);
        let counter =
            |protocol| Counter::install(&two, Spec::to(host(target), protocol).and_from(host(source)));
        let (pings, datagrams) = (counter(Protocol::Ping)?, counter(Protocol::Udp(Some(7000)))?);
        let (streams, elsewhere) = (
            counter(Protocol::Tcp(Some(7000)))?,
            counter(Protocol::Udp(Some(7001)))?,
        );
        let stranger = Counter::install(&two, Spec::from(host(target), Protocol::Any))?;
        assert_eq!(
            ping(&one, target, 7, Duration::from_millis(10), SECOND)?,
            Pings { sent: 7, received: 7 }
        );
        assert_eq!(
            udp_echo(&one, SocketAddr::new(target, echo.port), 11, SECOND)?,
            11
        );
        assert_eq!(
            (pings.packets()?, datagrams.packets()?, streams.packets()?),
            (7, 11, 0)
        );
        assert!(tcp_echo(&one, SocketAddr::new(target, echo.port), SECOND)?);
        assert!(streams.packets()? >= 3, "SYN, ACK, data");
        assert_eq!((elsewhere.packets()?, stranger.packets()?), (0, 0));
    }
    Ok(())
}

#[test]
fn what_is_dropped_is_seen_to_be_dropped() -> Result<()> {
    let (one, two) = pair()?;
    let to = SocketAddr::new("192.0.2.2".parse()?, EchoServer::start(&two, 7000)?.port);
    let mut flow = Flow::open(&one, to, SECOND)?;
    flow.echo(SECOND)?;
    let prober = Prober::start(&one, to, Duration::from_millis(10))?;
    std::thread::sleep(SHORT);
    two.run(
        "nft",
        &["add table inet deny; add chain inet deny in { type filter hook input priority 0; policy drop; }"],
    )?;
    let denied = Instant::now();
    assert!(flow.echo(SHORT).is_err());
    assert!(!tcp_echo(&one, to, SHORT)?);
    assert_eq!(udp_echo(&one, to, 3, SHORT)?, 0);
    let report = prober.stop()?;
    assert_eq!(report.answered_since(denied), 0);
    assert!(
        report.sent_since(denied) > 20 && report.answered.len() > 20,
        "{report:?}"
    );
    assert!(report.last_answered().unwrap() < denied && report.lost() >= report.sent_since(denied));
    Ok(())
}

#[test]
fn the_world_is_routed_as_it_is_drawn() -> Result<()> {
    let mut world = World::new()?;
    let (one, two) = (world.device("phone")?, world.device("laptop")?);
    let reaches = |from: &Namespace, to: cell_lab::topology::Both| -> Result<[bool; 2]> {
        let [v4, v6] = to
            .each()
            .map(|to| ping(from, to, 2, Duration::from_millis(10), SHORT));
        Ok([v4?.received > 0, v6?.received > 0])
    };
    assert_eq!(reaches(&one.namespace, CELL)?, [true; 2]);
    assert_eq!(reaches(&one.namespace, two.address)?, [true; 2]);
    assert_eq!(reaches(&world.cell, FAR_HOST)?, [true; 2]);
    assert_eq!(reaches(&world.cell, LAN_HOST)?, [true; 2]);
    // The LAN lies behind the cell, which forwards nothing by itself.
    assert_eq!(reaches(&one.namespace, LAN_HOST)?, [false; 2]);
    assert_eq!(reaches(&world.lan, FAR_HOST)?, [false; 2]);
    Ok(())
}

#[test]
fn two_stock_clients_shake_hands() -> Result<()> {
    let (one, two) = pair()?;
    let (left, right) = (KeyPair::generate(), KeyPair::generate());
    let file = |mine: &KeyPair, other: &KeyPair, me: u8, you: u8| {
        format!(
            "[Interface]\nPrivateKey = {}\nListenPort = 51820\nAddress = 10.8.0.{me}/32, fd08::{me}/128\nMTU = 1380\n\n\
             [Peer]\nPublicKey = {}\nAllowedIPs = 10.8.0.{you}/32, fd08::{you}/128\nEndpoint = 192.0.2.{you}:51820\n",
            mine.private.to_base64(),
            other.public.to_base64()
        )
    };
    let here = Client::up(&one, &file(&left, &right, 1, 2))?;
    let there = Client::up(&two, &file(&right, &left, 2, 1))?;
    here.wait_for_handshake()?;
    there.wait_for_handshake()?;
    for target in ["10.8.0.2", "fd08::2"] {
        assert_eq!(
            ping(&one, target.parse()?, 5, SHORT, SECOND)?,
            Pings { sent: 5, received: 5 }
        );
    }
    let peer = &here.peers()?[0];
    assert_eq!(peer.public_key, right.public.to_base64());
    assert!(
        peer.received_bytes > 0 && peer.sent_bytes > 0 && peer.endpoint == Some("192.0.2.2:51820".parse()?)
    );
    assert!(
        one.ip(&format!("link show {}", here.interface()))?
            .contains("mtu 1380")
    );
    Ok(())
}

#[test]
fn a_full_tunnel_keeps_the_way_to_its_endpoint() -> Result<()> {
    let mut world = World::new()?;
    let device = world.device("phone")?;
    let keys = KeyPair::generate();
    let file = format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.8.0.2/32\n[Peer]\nPublicKey = {}\nAllowedIPs = 0.0.0.0/0, ::/0\n\
         Endpoint = {}:51820\n",
        keys.private.to_base64(),
        KeyPair::generate().public.to_base64(),
        FAR_HOST.v4
    );
    let client = Client::up(&device.namespace, &file)?;
    let way = |to: &str| device.namespace.ip(&format!("route get {to}"));
    assert!(way("192.0.2.99")?.contains(client.interface()));
    assert!(way("2001:db8:99::1")?.contains(client.interface()));
    assert!(way(&FAR_HOST.v4.to_string())?.contains("dev eth0"));
    Ok(())
}

#[test]
fn listeners_are_handed_over_whatever_numbers_they_have() {
    let folder = tempfile::tempdir().unwrap();
    // Numbers around a hundred, which a script might take for its own.
    let mut others = Vec::new();
    while others.last().is_none_or(|file: &File| file.as_raw_fd() < 101) {
        others.push(File::open("/dev/null").unwrap());
    }
    let listeners: Vec<Listener> = ["a", "b", "c", "d"]
        .into_iter()
        .map(|name| Listener::stream(name, &folder.path().join(name)).unwrap())
        .collect();
    let mut command =
        activation::command(Path::new("/bin/ls"), &["-l", "/proc/self/fd"], 65534, &listeners).unwrap();
    let told = run(&mut command).unwrap();
    let socket = |number: u32| {
        let line = told
            .lines()
            .find(|line| line.contains(&format!(" {number} -> socket:")));
        line.and_then(|line| line.split_once("socket:"))
            .map(|(_, inode)| inode)
    };
    let sockets: BTreeSet<_> = (3..7).filter_map(socket).collect();
    assert_eq!(sockets.len(), 4, "{told}");
}
