//! Exits, packet by packet: a peer's traffic through one exit and another, while exits go down and others undo the rules, the
//! routes and the tables. At each way out somebody counts; by the machine's own way goes nothing.
//!
//! The exits' interfaces are veth pairs with an exit's name: what is proven is the policy and the routing, whatever carries
//! the packets beyond.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use cell_lab::counter::{Counter, Protocol, Spec, host};
use cell_lab::netns::Namespace;
use cell_lab::probe::{EchoServer, Flow, ping, tcp_echo, udp_echo};
use cell_lab::prober::Prober;
use cell_lab::process::until;
use cell_lab::stock::Client;
use cell_lab::topology::{CELL, Device, FAR_HOST, LAN_HOST, World};
use cell_proto::common::v1 as common;
use cell_proto::netd::v1;
use support::{Keys, Netd, PATIENCE, PORT, access, address, client_file, peer, spec};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(20);
/// TCP, UDP and ping, of both families.
const ALL: usize = 6;

/// Who is behind a way out: the far host is there too, and all that arrives for it is counted.
struct Isp {
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
    fn packets(&self) -> [u64; 2] {
        let packets: Vec<u64> = self
            .counters
            .iter()
            .map(|counter| counter.packets().unwrap())
            .collect();
        packets.try_into().unwrap()
    }
}

struct Setup {
    world: World,
    netd: Netd,
    device: Device,
    keys: Keys,
    exits: [(Namespace, Isp); 2],
    own_way: Isp,
}

fn link(index: usize) -> String {
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

fn near(index: usize) -> [IpAddr; 2] {
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
            peer_public_key: vec![0x50 + index as u8; 32],
            endpoint: Some("192.0.2.9:51820".parse::<SocketAddr>().unwrap().into()),
            persistent_keepalive_seconds: 0,
            allowed_ips: vec![every("0.0.0.0"), every("::")],
            has_preshared_key: false,
        })),
    }
}

/// A cell on a machine that checks return paths strictly unless told otherwise (`all`), with two exits and a way of its own.
fn setup() -> Result<Setup> {
    let mut world = World::new()?;
    world.cell.set_sysctl("ipv4/ip_forward", "1")?;
    world.cell.set_sysctl("ipv6/conf/all/forwarding", "1")?;
    world.cell.set_sysctl("ipv4/conf/all/rp_filter", "1")?;
    world.cell.set_sysctl("ipv4/conf/default/rp_filter", "2")?;
    let device = world.device("a")?;
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
    fn client<'a>(&self, device: &'a Device) -> Result<Client<'a>> {
        let endpoint = SocketAddr::new(IpAddr::V4(CELL.v4), PORT).to_string();
        let file = client_file(1, &self.keys, &self.netd.keys, &endpoint);
        let client = Client::up(&device.namespace, &file)?;
        client.wait_for_handshake()?;
        Ok(client)
    }

    fn peer(&self, exit: &str) -> v1::PeerSpec {
        let lan = LAN_HOST.each().map(|host| host.to_string());
        let services = lan.each_ref().map(|host| (host.as_str(), 80));
        let mut peer = peer(1, "a", &self.keys.public_bytes, access(true, false, &services));
        peer.exit = exit.to_owned();
        peer
    }

    fn spec(&self, through: &str) -> v1::NetworkSpec {
        let mut spec = spec(vec![self.peer(through)]);
        spec.exits = vec![exit(0), exit(1)];
        spec
    }

    fn bind(&self, exit: &str) -> Result<()> {
        Ok(self.netd.delta(vec![self.peer(exit)], &[]).map(drop)?)
    }

    /// How many of [`ALL`] ways to speak to the far host are answered.
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
        FAR_HOST
            .each()
            .into_iter()
            .flat_map(one)
            .filter(|answered| *answered)
            .count()
    }

    fn all_by(&self, exit: usize) {
        let before = self.exits[exit].1.packets();
        assert_eq!(self.answered(), ALL);
        let after = self.exits[exit].1.packets();
        assert!(
            after[0] >= before[0] + 6 && after[1] >= before[1] + 6,
            "{before:?} {after:?}"
        );
    }

    fn repaired(&self, exit: usize) -> Result<()> {
        until(PATIENCE, "the exit carries again", || {
            let status = self.netd.status().ok()?;
            (status.observed_generation == status.generation && self.answered() == ALL).then_some(())
        })?;
        self.all_by(exit);
        Ok(())
    }

    fn cell(&self, command: &str) -> Result<String> {
        let words: Vec<&str> = command.split(' ').collect();
        self.world.cell.run(words[0], &words[1..])
    }
}

/// UDP without a pause, in one flow of each family, and what had gone the machine's own way before.
struct Watch {
    probers: Vec<Prober>,
    leaked: [u64; 2],
}

impl Watch {
    fn start(setup: &Setup) -> Result<Self> {
        let start = |far| Prober::start(&setup.device.namespace, SocketAddr::new(far, 80), TICK);
        let leaked = setup.own_way.packets();
        Ok(Watch {
            probers: FAR_HOST.each().into_iter().map(start).collect::<Result<_>>()?,
            leaked,
        })
    }

    /// Nothing has gone that way since.
    fn end(self, setup: &Setup) -> Result<()> {
        for prober in self.probers {
            let sent = prober.stop()?.sent.len();
            assert!(sent > 100, "{sent} probes were sent all the time");
        }
        assert_eq!(setup.own_way.packets(), self.leaked, "leaked packets");
        Ok(())
    }
}

#[test]
fn a_bound_peer_leaves_by_its_exit_alone() -> Result<()> {
    let setup = setup()?;
    setup.netd.apply(setup.spec(""), "")?;
    let _client = setup.client(&setup.device)?;
    assert_eq!(setup.answered(), ALL, "the machine's own way");
    let free = setup.own_way.packets();
    assert!(
        free.iter().all(|packets| *packets >= 6),
        "the counters see: {free:?}"
    );
    assert_eq!(setup.exits[0].1.packets(), [0, 0]);

    let far = SocketAddr::new(FAR_HOST.each()[0], 80);
    let mut flow = Flow::open(&setup.device.namespace, far, LONG)?;
    setup.bind("exit0")?;
    let watch = Watch::start(&setup)?;
    assert!(flow.echo(SECOND).is_err(), "a flow does not change its way");
    setup.all_by(0);
    let mut flow = Flow::open(&setup.device.namespace, far, LONG)?;
    setup.bind("exit1")?;
    let left = setup.exits[0].1.packets();
    assert!(flow.echo(SECOND).is_err(), "nor its exit");
    setup.all_by(1);
    assert_eq!(
        setup.exits[0].1.packets(),
        left,
        "nothing goes by the exit before"
    );
    assert!(setup.netd.dropped("exit_moved")? > 0, "flows that it had are cut");
    // What the peer may reach besides is as it was.
    for lan in LAN_HOST.each() {
        assert!(
            tcp_echo(&setup.device.namespace, SocketAddr::new(lan, 80), LONG)?,
            "{lan}"
        );
    }
    let own = SocketAddr::new("10.86.0.1".parse()?, 443);
    assert!(tcp_echo(&setup.device.namespace, own, LONG)?);
    watch.end(&setup)?;

    let mut flow = Flow::open(&setup.device.namespace, far, LONG)?;
    flow.echo(LONG)?;
    setup.bind("")?;
    let left = setup.exits[1].1.packets();
    assert!(flow.echo(SECOND).is_err());
    assert_eq!(setup.answered(), ALL, "the machine's own way again");
    assert!(setup.own_way.packets()[0] >= free[0] + 6);
    assert_eq!(setup.exits[1].1.packets(), left);
    Ok(())
}

#[test]
fn an_exit_that_is_down_is_unreachable_and_what_others_undo_is_put_right() -> Result<()> {
    let setup = setup()?;
    setup.netd.apply(setup.spec("exit1"), "")?;
    let _client = setup.client(&setup.device)?;
    let watch = Watch::start(&setup)?;
    setup.all_by(1);
    setup.cell(&format!("ip link set {} down", link(1)))?;
    assert_eq!(setup.answered(), 0, "down");
    setup.cell(&format!("ip link set {} up", link(1)))?;
    // Its IPv6 addresses went with it.
    setup.world.cell.add_address(&link(1), near(1)[1].into())?;
    setup.repaired(1)?;
    assert_eq!(setup.netd.status()?.drift_repairs, 0, "nobody meddled");
    let spoil: [&[&str]; 4] = [
        &["ip -4 rule del pref 10001", "ip -6 rule del pref 10001"],
        &["ip -4 route flush table 1001", "ip -6 route flush table 1001"],
        &["nft flush ruleset"],
        &["ip -4 rule flush", "ip -4 rule add pref 32766 lookup main"],
    ];
    for commands in spoil {
        for command in commands {
            setup.cell(command)?;
        }
        setup.repaired(1)?;
    }
    assert!(setup.netd.status()?.drift_repairs >= 3);
    watch.end(&setup)
}

/// Rules and routes of others that look like ours but for who made them.
#[test]
fn what_others_have_in_our_ranges_is_left_alone() -> Result<()> {
    let setup = setup()?;
    let foreign = [
        "-4 rule add pref 10007 fwmark 0x1070/0x1ff0 lookup 1007",
        "-6 rule add pref 10001 fwmark 0x1010/0x1ff0 lookup 1007",
        "-4 route add unreachable default table 1007 metric 20000",
        "-4 route add 192.0.2.0/24 dev uplink table 1001",
    ];
    for command in foreign {
        setup.world.cell.ip(command)?;
    }
    let others = || -> Result<Vec<String>> {
        let listed = [
            "-4 rule",
            "-6 rule",
            "-4 route show table all",
            "-6 route show table all",
        ];
        let texts = listed.map(|command| setup.world.cell.ip(command));
        let texts = texts.into_iter().collect::<Result<Vec<_>>>()?;
        let lines = texts.iter().flat_map(|text| text.lines());
        let kept = |line: &&str| !line.contains("proto 206") && !line.contains("wg0");
        Ok(lines.filter(kept).map(str::to_owned).collect())
    };
    let before = others()?;
    setup.netd.apply(setup.spec("exit1"), "")?;
    assert_eq!(others()?, before);
    let ours = setup.world.cell.ip("-4 rule")?;
    assert!(ours.contains("proto 206"), "{ours}");
    setup.netd.apply(v1::NetworkSpec::default(), "")?;
    assert_eq!(others()?, before);
    let text = setup.world.cell.ip("-4 rule")? + &setup.world.cell.ip("-4 route show table all")?;
    assert!(!text.contains("proto 206"), "ours are gone: {text}");
    Ok(())
}

#[test]
fn while_netd_is_dead_the_policy_alone_holds() -> Result<()> {
    let mut setup = setup()?;
    setup.netd.apply(setup.spec("exit1"), "")?;
    let _client = setup.client(&setup.device)?;
    let watch = Watch::start(&setup)?;
    setup.netd.process.signal(nix::sys::signal::Signal::SIGKILL)?;
    setup.netd.process.wait(PATIENCE)?;
    setup.all_by(1);
    setup.cell("ip -4 rule del pref 10001")?;
    setup.cell("ip -6 rule del pref 10001")?;
    assert_eq!(setup.answered(), 0, "without a rule");
    setup.cell(&format!("ip link del {}", link(1)))?;
    assert_eq!(setup.answered(), 0, "without an interface");
    setup.netd.restart(&setup.world.cell)?;
    setup.netd.apply(setup.spec("exit1"), "")?;
    assert!(setup.netd.dropped("exit_leak")? > 0, "dropped by that rule");
    assert_eq!(setup.answered(), 0, "unreachable while it has no interface");
    setup.bind("exit0")?;
    setup.all_by(0);
    watch.end(&setup)
}

/// The control of the tests above: a leak that is planted is counted.
#[test]
fn a_planted_leak_is_seen() -> Result<()> {
    let mut setup = setup()?;
    setup.netd.apply(setup.spec("exit0"), "")?;
    let _client = setup.client(&setup.device)?;
    setup.all_by(0);
    setup.netd.process.signal(nix::sys::signal::Signal::SIGKILL)?;
    setup.netd.process.wait(PATIENCE)?;
    setup.cell("ip -4 rule del pref 10000")?;
    setup.cell("ip -6 rule del pref 10000")?;
    assert_eq!(setup.answered(), 0);
    assert_eq!(setup.own_way.packets(), [0, 0]);
    for (set, own) in [("exit_ways4", "10.86.0.2"), ("exit_ways6", "fd86::2")] {
        let element = format!("{{ {own} . \"uplink\" . 0x1000 }}");
        setup
            .world
            .cell
            .run("nft", &["add", "element", "inet", "cell", set, &element])?;
    }
    assert_eq!(setup.answered(), ALL, "it leaves by the machine's own way");
    assert!(setup.own_way.packets().iter().all(|packets| *packets >= 6));
    Ok(())
}

/// An exit that has no IPv6 refuses it.
#[test]
fn a_family_that_the_exit_does_not_carry_is_refused() -> Result<()> {
    let setup = setup()?;
    let mut wanted = setup.spec("exit0");
    if let Some(v1::exit_spec::Way::Wireguard(tunnel)) = &mut wanted.exits[0].way {
        tunnel.addresses.truncate(1);
    }
    setup.netd.apply(wanted, "")?;
    let _client = setup.client(&setup.device)?;
    assert_eq!(setup.answered(), ALL / 2);
    assert_eq!(setup.own_way.packets(), [0, 0]);
    let [v4, v6] = setup.exits[0].1.packets();
    assert!(v4 >= 6 && v6 == 0, "{v4} {v6}");
    Ok(())
}

/// Whoever runs the far end of an exit reaches neither the cell, nor what is behind it, nor a peer.
#[test]
fn nobody_comes_in_by_an_exit() -> Result<()> {
    let setup = setup()?;
    setup.netd.apply(setup.spec("exit0"), "")?;
    let _client = setup.client(&setup.device)?;
    setup.all_by(0);
    let isp = &setup.exits[0].0;
    let lan = LAN_HOST.each()[0];
    for (to, port) in [(near(0)[0], 3443), (near(0)[1], 3443), (lan, 80)] {
        let before = setup.netd.dropped("exit_stranger")?;
        assert!(!tcp_echo(isp, SocketAddr::new(to, port), SECOND)?, "{to}");
        assert!(
            setup.netd.dropped("exit_stranger")? > before,
            "{to}: and the policy dropped it"
        );
    }
    let before = setup.netd.dropped("to_peer_default")?;
    assert!(!tcp_echo(isp, SocketAddr::new("10.86.0.2".parse()?, 80), SECOND)?);
    assert!(setup.netd.dropped("to_peer_default")? > before);
    Ok(())
}
