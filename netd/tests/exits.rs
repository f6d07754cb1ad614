//! Exits, packet by packet: a peer's traffic through one exit and another, while exits go down and others undo the rules, the
//! routes and the tables. At each way out somebody counts; by the machine's own way goes nothing.
//!
//! The exits' interfaces are veth pairs with an exit's name: what is proven is the policy and the routing, whatever carries
//! the packets beyond.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/exits.rs"]
mod cell;
mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use cell::{ALL, SECOND, Setup, link, near, setup};
use cell_lab::probe::{EchoServer, Flow, tcp_echo, udp_echo};
use cell_lab::prober::Prober;
use cell_lab::process::{Process, until};
use cell_lab::topology::{FAR_HOST, LAN_HOST};
use cell_proto::common::v1::Protocol;
use cell_proto::netd::v1;
use support::{PATIENCE, access, is_legacy};

const LONG: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(20);

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

/// Senders that keep their port, as WireGuard, calls and ping do, have no end that they could notice.
struct Steady {
    sockets: Vec<UdpSocket>,
    pings: Vec<Process>,
}

impl Steady {
    fn start(setup: &Setup) -> Result<Self> {
        let device = &setup.device.namespace;
        let open = |far| -> Result<UdpSocket> {
            let any = if matches!(far, IpAddr::V4(_)) {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            };
            let socket = device.inside(|| UdpSocket::bind(any))??;
            socket.connect(SocketAddr::new(far, 80))?;
            socket.set_read_timeout(Some(SECOND))?;
            Ok(socket)
        };
        let ping =
            |far: IpAddr| device.spawn("ping", Command::new("ping").args(["-i", "0.2", &far.to_string()]));
        let far = FAR_HOST.each();
        Ok(Steady {
            sockets: far.into_iter().map(open).collect::<Result<_>>()?,
            pings: far.into_iter().map(ping).collect::<Result<_>>()?,
        })
    }

    /// All of them are answered, what is sent from now on.
    fn go_on(&mut self) -> Result<()> {
        for socket in &self.sockets {
            // Of before.
            socket.set_nonblocking(true)?;
            while socket.recv(&mut [0; 64]).is_ok() {}
            socket.set_nonblocking(false)?;
            let what = format!("the port that stays is answered by {}", socket.peer_addr()?);
            until(PATIENCE, &what, || {
                socket.send(b"on").ok();
                socket.recv(&mut [0; 64]).ok()
            })?;
        }
        for ping in &mut self.pings {
            let count = |output: &str| output.matches("bytes from").count();
            let before = count(&ping.output());
            ping.wait_for(PATIENCE, "answer", |output| {
                (count(output) > before + 1).then_some(())
            })?;
        }
        Ok(())
    }
}

#[test]
fn who_sends_without_a_connection_goes_on_by_the_way_of_now() -> Result<()> {
    let setup = setup()?;
    setup.netd.apply(setup.spec(""), "")?;
    let _client = setup.client(&setup.device)?;
    let mut steady = Steady::start(&setup)?;
    steady.go_on()?;
    for (exit, number) in [("exit0", 0), ("exit1", 1), ("exit0", 0)] {
        setup.bind(exit)?;
        let (own, by) = (setup.own_way.packets(), setup.exits[number].1.packets());
        let other = setup.exits[1 - number].1.packets();
        steady.go_on().context(exit)?;
        let now = setup.exits[number].1.packets();
        assert!(now[0] > by[0] && now[1] > by[1], "{exit}: {by:?} {now:?}");
        assert_eq!(setup.own_way.packets(), own, "{exit}: leaked packets");
        assert_eq!(setup.exits[1 - number].1.packets(), other, "{exit}: by the other");
    }
    let own = setup.own_way.packets();
    setup.bind("")?;
    steady.go_on()?;
    let now = setup.own_way.packets();
    assert!(now[0] > own[0] && now[1] > own[1], "{own:?} {now:?}");
    let by = setup.exits[0].1.packets();
    steady.go_on()?;
    assert_eq!(setup.exits[0].1.packets(), by, "by none");
    Ok(())
}

/// A grant of one service says whether, the exit says by which way (ADR 0047).
#[test]
fn a_granted_service_of_the_internet_goes_by_the_exit_too() -> Result<()> {
    let far = FAR_HOST.each().map(|far| SocketAddr::new(far, 80));
    let at = far.map(|far| (far.ip().to_string(), 80));
    let at = at.each_ref().map(|(address, port)| (address.as_str(), *port));
    for internet in [false, true] {
        // Of its own: what waits in a flow that was closed is sent again by whatever way there is then.
        let setup = setup()?;
        let spec = |exit: &str| {
            let mut spec = setup.spec(exit);
            spec.peers[0].access = Some(access(internet, false, &at));
            spec
        };
        let reached = || -> Result<usize> {
            let echoes = far.map(|far| tcp_echo(&setup.device.namespace, far, LONG));
            Ok(echoes
                .into_iter()
                .collect::<Result<Vec<_>>>()?
                .into_iter()
                .filter(|came| *came)
                .count())
        };
        // Opened through the exit, it goes by no other way when there is none any more.
        setup.netd.apply(spec("exit0"), "")?;
        let client = setup.client(&setup.device)?;
        let mut flow = Flow::open(&setup.device.namespace, far[0], LONG)?;
        flow.echo(LONG)?;
        setup.netd.apply(spec(""), "")?;
        let before = (setup.own_way.packets(), setup.exits[0].1.packets());
        assert!(flow.echo(SECOND).is_err(), "a flow keeps its exit");
        let after = (setup.own_way.packets(), setup.exits[0].1.packets());
        assert_eq!(before, after, "internet {internet}");

        assert_eq!(reached()?, 2, "the machine's own way, internet {internet}");
        let own = setup.own_way.packets();
        assert!(
            own[0] > before.0[0] && own[1] > before.0[1],
            "the counters see: {own:?}"
        );
        let mut flow = Flow::open(&setup.device.namespace, far[0], LONG)?;
        setup.netd.apply(spec("exit0"), "")?;
        let own = setup.own_way.packets();
        assert!(flow.echo(SECOND).is_err(), "a flow does not change its way");
        let through = setup.exits[0].1.packets();
        assert_eq!(reached()?, 2, "by the exit, internet {internet}");
        let after = setup.exits[0].1.packets();
        assert!(after[0] > through[0] && after[1] > through[1], "{after:?}");
        setup.cell(&format!("ip link set {} down", link(0)))?;
        assert_eq!(reached()?, 0, "down");
        assert_eq!(
            setup.own_way.packets(),
            own,
            "leaked packets, internet {internet}"
        );
        setup.cell(&format!("ip link set {} up", link(0)))?;
        setup.world.cell.add_address(&link(0), near(0)[1].into())?;
        drop(client);
    }
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
        &["ip -4 rule del pref 10034", "ip -6 rule del pref 10034"],
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
        "-4 rule add pref 10040 fwmark 0x1070/0x1ff0 lookup 1007",
        "-6 rule add pref 10034 fwmark 0x1010/0x1ff0 lookup 1007",
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
        // The kernel's own come and go while links come up.
        let not_others = ["proto 206", "proto kernel", "wg0"];
        let kept = |line: &&str| !not_others.iter().any(|mark| line.contains(mark));
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
    setup.cell("ip -4 rule del pref 10034")?;
    setup.cell("ip -6 rule del pref 10034")?;
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
    setup.cell("ip -4 rule del pref 10033")?;
    setup.cell("ip -6 rule del pref 10033")?;
    assert_eq!(setup.answered(), 0);
    assert_eq!(setup.own_way.packets(), [0, 0]);
    for (set, own) in [("exit_ways4", "10.86.0.2"), ("exit_ways6", "fd86::2")] {
        if is_legacy() {
            setup.cell(&format!("ipset add CELL-{set} {own},uplink"))?;
            continue;
        }
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

/// Debian's own: another one may lie where only root looks.
const PYTHON: &str = "/usr/bin/python3";

/// As another user, by a socket that is bound to a link or not.
fn said_by(setup: &Setup, user: u32, link: &str, to: SocketAddr) -> Result<bool> {
    let script = "import socket, sys\n\
                  where = (sys.argv[2], int(sys.argv[3]))\n\
                  s = socket.socket(socket.AF_INET6 if ':' in where[0] else socket.AF_INET)\n\
                  s.settimeout(2)\n\
                  if sys.argv[1]: s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, sys.argv[1].encode())\n\
                  s.connect(where)";
    let user = user.to_string();
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
        .args(["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"])
        .args([
            PYTHON,
            "-c",
            script,
            link,
            &to.ip().to_string(),
            &to.port().to_string(),
        ]);
    let ended = setup.world.cell.inside(|| command.output())??;
    Ok(ended.status.success())
}

/// netd's policy names the relay's user: "daemon".
#[test]
fn the_relays_user_speaks_out_of_exits_interfaces_and_by_no_other_way() -> Result<()> {
    const RELAY: u32 = 1;
    let setup = setup()?;
    setup.netd.apply(setup.spec("exit0"), "")?;
    for far in FAR_HOST.each() {
        let to = SocketAddr::new(far, 80);
        assert!(
            said_by(&setup, 0, "", to)?,
            "control: others go the machine's own way"
        );
        // Its last packets, too.
        std::thread::sleep(Duration::from_millis(300));
        let (own_way, exit) = (setup.own_way.packets(), setup.exits[0].1.packets());
        assert!(said_by(&setup, RELAY, &link(0), to)?, "{to}");
        assert_ne!(setup.exits[0].1.packets(), exit);
        let before = setup.netd.dropped("egress_stranger")?;
        assert!(!said_by(&setup, RELAY, "", to)?, "{to}");
        assert!(setup.netd.dropped("egress_stranger")? > before);
        assert_eq!(setup.own_way.packets(), own_way);
    }
    Ok(())
}

/// A service of the cell that runs as the relay's user answers peers, and opens nothing towards them.
#[test]
fn the_relays_user_answers_peers_and_speaks_to_none_first() -> Result<()> {
    const RELAY: &str = "1";
    let setup = setup()?;
    setup.netd.apply(setup.spec(""), "")?;
    let _client = setup.client(&setup.device)?;
    let script = "import socket\n\
                  s = socket.create_server(('169.254.67.1', 3444))\n\
                  while True: s.accept()[0].sendall(b'here')";
    let mut server = std::process::Command::new("setpriv");
    server
        .args(["--reuid", RELAY, "--regid", RELAY, "--clear-groups"])
        .args([PYTHON, "-c", script]);
    let _server = setup.world.cell.spawn("server", &mut server)?;
    let mut spec = setup.spec("");
    spec.cell_ports[0].target_port = 3444;
    setup.netd.apply(spec, &setup.netd.status()?.etag)?;
    let answered = || {
        use std::io::Read as _;
        let to = SocketAddr::from(([10, 86, 0, 1], 443));
        let connect = || std::net::TcpStream::connect_timeout(&to, SECOND);
        let mut stream = setup.device.namespace.inside(connect).ok()?.ok()?;
        let mut word = [0; 4];
        stream.read_exact(&mut word).ok()?;
        (&word == b"here").then_some(())
    };
    until(PATIENCE, "an answer", answered)?;
    EchoServer::start(&setup.device.namespace, 80)?;
    let before = setup.netd.dropped("egress_stranger")?;
    assert!(!said_by(&setup, 1, "", SocketAddr::from(([10, 86, 0, 2], 80)))?);
    assert!(setup.netd.dropped("egress_stranger")? > before);
    Ok(())
}

/// As cell-egress asks the resolvers of an exit: from the machine itself, out of the exit's interface.
#[test]
fn sockets_that_are_bound_to_an_exit_go_by_it() -> Result<()> {
    let setup = setup()?;
    let asks = || {
        FAR_HOST.each().map(|far| {
            let far = far.to_string();
            let arguments = ["-c", "1", "-W", "2", "-I", &link(1), &far];
            setup.world.cell.run("ping", &arguments).is_ok()
        })
    };
    assert!(!asks()[1], "control: no route leads there but the exit's");
    setup.netd.apply(setup.spec("exit0"), "")?;
    assert_eq!(asks(), [true, true]);
    assert!(setup.exits[1].1.packets().iter().all(|packets| *packets > 0));
    let others = [setup.exits[0].1.packets(), setup.own_way.packets()];
    assert_eq!(others, [[0, 0]; 2], "and by no other way");
    setup.cell("ip -6 rule del pref 10602")?;
    until(LONG, "the rule", || asks()[1].then_some(()))?;
    // Down, it has no way.
    setup.cell(&format!("ip link set {} down", link(1)))?;
    assert_eq!(asks(), [false, false]);
    assert_eq!(setup.own_way.packets(), [0, 0]);
    Ok(())
}

/// Echoes on the hidden addresses, as cell-egress listens there for whoever is bound, and counts what it gets.
fn relay(setup: &Setup) -> Result<Arc<AtomicUsize>> {
    let heard = Arc::new(AtomicUsize::new(0));
    for at in ["169.254.67.1:9054", "[fd43:454c:4c00::1]:9054"] {
        let bound = setup
            .world
            .cell
            .inside(|| (UdpSocket::bind(at), TcpListener::bind(at)))?;
        let (udp, tcp) = (bound.0?, bound.1?);
        let count = Arc::clone(&heard);
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                count.fetch_add(1, Ordering::Relaxed);
                let _ = udp.send_to(&buffer[..length], from);
            }
        });
        let count = Arc::clone(&heard);
        thread::spawn(move || {
            for mut stream in tcp.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || {
                    let mut buffer = [0; 2048];
                    while let Ok(length @ 1..) = stream.read(&mut buffer) {
                        if stream.write_all(&buffer[..length]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
    }
    Ok(heard)
}

/// With the cell's own way of DNS.
fn relayed(setup: &Setup, exit: &str) -> v1::NetworkSpec {
    let mut spec = setup.spec(exit);
    spec.cell_ports
        .extend([Protocol::Udp, Protocol::Tcp].map(|protocol| v1::CellPort {
            protocol: protocol.into(),
            port: 53,
            target_port: 9053,
            bound_target_port: 9054,
        }));
    spec
}

#[test]
fn questions_of_a_bound_peer_come_to_the_relay_whomever_it_asks() -> Result<()> {
    let setup = setup()?;
    EchoServer::start(&setup.world.internet, 53)?;
    setup.netd.apply(relayed(&setup, ""), "")?;
    let _client = setup.client(&setup.device)?;
    let relay = relay(&setup)?;
    let heard = || relay.load(Ordering::Relaxed);
    let from = &setup.device.namespace;
    // Over TCP and UDP, of both families.
    let answered = || {
        let one = |far| {
            let to = SocketAddr::new(far, 53);
            let udp = udp_echo(from, to, 2, SECOND).unwrap() > 0;
            [tcp_echo(from, to, SECOND).unwrap(), udp]
        };
        FAR_HOST
            .each()
            .into_iter()
            .flat_map(one)
            .filter(|answered| *answered)
            .count()
    };
    assert_eq!(
        (answered(), heard()),
        (4, 0),
        "a peer without an exit asks whom it likes"
    );
    setup.bind("exit0")?;
    let own_way = setup.own_way.packets();
    assert_eq!(answered(), 4);
    assert!(heard() >= 4, "each of them");
    assert_eq!(
        setup.exits[0].1.packets(),
        [0, 0],
        "no question is the exit's until the relay asks"
    );
    setup.cell(&format!("ip link set {} down", link(0)))?;
    let before = heard();
    assert_eq!(answered(), 4, "the relay is reached whatever the exit's state");
    assert!(heard() >= before + 4);
    // Where the cell has no relay, a question is carried as anything else is.
    setup.netd.apply(setup.spec("exit1"), "")?;
    let before = heard();
    assert_eq!(
        (answered(), heard()),
        (0, before),
        "nobody is there behind the exit"
    );
    assert!(
        setup.exits[1].1.packets().iter().all(|packets| *packets > 0),
        "control"
    );
    assert_eq!(
        setup.own_way.packets(),
        own_way,
        "nothing went the machine's own way"
    );
    Ok(())
}
