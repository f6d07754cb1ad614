//! What `explain` says of a packet is what the kernel does with it: every pair of a source and a destination, over UDP and
//! TCP, some of them redirected to the relay, led to an exit's interface, or turned to the cell's resolver, is sent through a real router with the policy, and the counter that moves is the one that was named. What netd
//! answers people with (`fate`) is asked where it can be: it knows no sender but devices and containers, and takes routes for standing.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../core/tests/support/mod.rs"]
mod support;
#[path = "explain/trace.rs"]
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use cell_lab::netns::{Namespace, join};
use cell_lab::process::run_with_input;
use cell_netd::kernel::nft::{Nft, Owners};
use cell_netd_core::explain::{Question, Sender, fate};
use cell_netd_core::model::{Family, InterfaceName, Protocol};
use cell_netd_core::policy::explain::{Explanation, Flow, Packet, Payload, Verdict, Way, explain};
use cell_netd_core::policy::iptables::{self, Stage};
use cell_netd_core::policy::{Counter, Ruleset, compile};
use cell_netd_core::spec::{CellPortSpec, NetworkSpec};
use cell_netd_core::validate::validate;
use cell_netd_core::{Ceiling, Desired};
use support::{ceiling, exit, leaving, network, peer, redirect, service, spec, through, with_access};

/// Of peers: none of anything, internet and peer-to-peer, services, an exit of the relay, the same without internet, an exit with
/// an interface, one whose rule somebody has deleted; and of nobody.
const SOURCES: [&str; 18] = [
    "10.86.0.2",
    "10.86.0.3",
    "10.86.0.4",
    "10.86.0.7",
    "10.86.0.8",
    "10.86.0.9",
    "10.86.0.10",
    "10.86.0.11",
    "10.86.0.99",
    "fd86::2",
    "fd86::3",
    "fd86::4",
    "fd86::7",
    "fd86::b",
    "fd86::8",
    "fd86::9",
    "fd86::a",
    "fd86::99",
];
/// Of the exit with an interface, and of the one without its rule.
const MARKS: [u32; 2] = [0x1000, 0x1010];
const LINK: &str = "wgext_00000000";
/// A container, which may go to the internet, and the bridge that it is on.
const CONTAINER: &str = "172.30.1.2";
const BRIDGE: &str = "cellsvc1";
const DESTINATIONS: [&str; 16] = [
    "10.86.0.1",
    "169.254.67.1",
    "10.86.0.5",
    "10.86.0.6",
    "198.51.100.7",
    "203.0.113.9",
    "10.0.5.7",
    "192.168.9.9",
    "fd86::1",
    "fd43:454c:4c00::1",
    "fd86::5",
    "fd86::6",
    "2001:db8:1::7",
    "2600::7",
    "fd00::7",
    "fdff::9",
];
const PORTS: [u16; 4] = [53, 443, 3443, 8443];

/// What people are told of a cell.
struct Told {
    desired: Desired,
    ceiling: Ceiling,
    on_link: BTreeSet<ipnet::IpNet>,
}

impl Told {
    fn new() -> Told {
        let ceiling = ceiling_with_dns();
        let on_link = ["198.51.100.0/24", "2001:db8:1::/64"].map(|net| net.parse().unwrap());
        Told {
            desired: validate(&wanted(), &ceiling, None).unwrap(),
            ceiling,
            on_link: on_link.into(),
        }
    }

    fn ruleset(&self) -> Ruleset {
        compile(&self.desired, &self.ceiling, &self.on_link).unwrap()
    }

    /// Of a packet of whoever has this address; none: nobody that a question can name.
    fn fate(&self, from: IpAddr, to: IpAddr, payload: Payload) -> Option<Explanation> {
        let has = |peer: &cell_netd_core::desired::Peer| peer.addresses().any(|own| own == from);
        let mut peers = self.desired.peers().iter();
        let peer = peers.find(|(_, peer)| has(peer)).map(|(name, _)| name.clone());
        let mut services = self.desired.services().iter();
        let service = services.find(|(_, network)| network.first() == Some(from));
        let sender = peer
            .map(Sender::Peer)
            .or(service.map(|(name, _)| Sender::Service(name.clone())))?;
        let question = Question {
            sender,
            destination: to,
            payload,
        };
        let fate = fate(&self.desired, &self.ceiling, &self.on_link, &question).unwrap();
        assert_eq!(fate.source, from);
        Some(fate.explanation)
    }

    /// Whether there is an answer, which must be what was found. That a rule of the machine's is gone it cannot know.
    fn is_right(&self, kind: Kind, from: SocketAddr, to: SocketAddr, found: Verdict) -> bool {
        let told = self.fate(from.ip(), to.ip(), kind.payload(from, to));
        let told = told.filter(|told| told.mark != MARKS[1]);
        if let Some(told) = &told {
            assert_eq!(told.verdict, found, "{kind:?} {from} {to}: {told:#?}");
        }
        told.is_some()
    }
}

fn wanted() -> NetworkSpec {
    let peers = vec![
        peer(1),
        with_access(peer(2), true, true, &[]),
        with_access(peer(3), false, false, &[("10.0.5.7", 443), ("fd00::7", 8443)]),
        with_access(peer(4), true, true, &[]),
        peer(5),
        through(
            with_access(peer(6), true, false, &[("203.0.113.9", 443), ("2600::7", 443)]),
            "exit10",
        ),
        through(
            with_access(peer(7), false, true, &[("203.0.113.9", 443), ("2600::7", 443)]),
            "exit11",
        ),
        through(with_access(peer(8), true, false, &[]), "exit0"),
        through(with_access(peer(9), true, true, &[]), "exit1"),
        through(
            with_access(peer(10), false, false, &[("203.0.113.9", 443), ("2600::7", 443)]),
            "exit0",
        ),
    ];
    let mut wanted = spec(peers);
    wanted.exits = vec![exit(0), exit(1), redirect(10), redirect(11)];
    let dns = [Protocol::Udp, Protocol::Tcp].map(|protocol| CellPortSpec {
        protocol: Ok(protocol),
        port: 53,
        target_port: 9053,
        bound_target_port: 9054,
    });
    wanted.cell_ports.retain(|port| port.port != 53);
    wanted.cell_ports.extend(dns);
    let mut granted = leaving(network(1), "");
    granted.reach = vec![service("192.168.9.9", 443)];
    wanted.service_networks = vec![granted];
    wanted
}

/// As it is shipped: the relay answers DNS.
fn ceiling_with_dns() -> Ceiling {
    let mut ceiling = ceiling();
    for port in ["udp/9053", "tcp/9053", "udp/9054", "tcp/9054"] {
        ceiling.service_targets.insert(port.parse().unwrap());
    }
    ceiling
}

/// The policy, in the router.
enum Standing {
    Nft(Nft),
    Legacy,
}

/// `CELL_TEST_RENDERER=iptables` chooses the other renderer.
fn is_legacy() -> bool {
    std::env::var_os("CELL_TEST_RENDERER").is_some_and(|name| name == "iptables")
}

impl Standing {
    fn install(router: &Namespace, ruleset: &Ruleset) -> Standing {
        if !is_legacy() {
            let open = || Nft::open(ceiling().table, Owners::IfKnown).unwrap();
            let mut nft = router.inside(open).unwrap();
            nft.replace(ruleset).unwrap();
            return Standing::Nft(nft);
        }
        for stage in iptables::replace(&iptables::Saved::default(), ruleset).unwrap() {
            let (program, arguments, text): (_, &[&str], _) = match stage {
                Stage::Sets(text) => ("ipset", &["-exist", "restore"], text),
                Stage::Rules(Family::V4, text) => ("iptables-legacy-restore", &["--noflush"], text),
                Stage::Rules(Family::V6, text) => ("ip6tables-legacy-restore", &["--noflush"], text),
            };
            let mut command = Command::new(program);
            command.args(arguments);
            let restored = router.inside(|| run_with_input(&mut command, &text));
            restored.unwrap().unwrap();
        }
        Standing::Legacy
    }

    fn drops(&mut self, router: &Namespace) -> BTreeMap<Counter, u64> {
        let nft = match self {
            Standing::Nft(nft) => nft,
            Standing::Legacy => {
                let saved = |program: &str| {
                    let tables =
                        ["raw", "mangle"].map(|table| router.run(program, &["-c", "-t", table]).unwrap());
                    iptables::parse_rules(&tables.concat()).unwrap()
                };
                let saved = iptables::Saved {
                    v4: saved("iptables-legacy-save"),
                    v6: saved("ip6tables-legacy-save"),
                    sets: BTreeMap::new(),
                };
                let drops = iptables::drops(&saved).into_iter();
                return drops.map(|(counter, (packets, _))| (counter, packets)).collect();
            }
        };
        let drops = nft.drops().unwrap().into_iter();
        drops.map(|(counter, drops)| (counter, drops.packets)).collect()
    }
}

/// What a packet is. Of an echo request the port it comes from is its identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ports(Protocol),
    Echo,
}

impl Kind {
    fn payload(self, from: SocketAddr, to: SocketAddr) -> Payload {
        match self {
            Kind::Ports(protocol) => Payload::Ports(protocol, from.port(), to.port()),
            Kind::Echo => Payload::EchoRequest,
        }
    }
}

/// A client that has all sources, a container, a router with the policy, and what lies behind it.
struct Road {
    client: Namespace,
    container: Namespace,
    router: Namespace,
    standing: Standing,
    _behind: [Namespace; 2],
}

/// What the client and what lies behind say: nothing beyond what the test says (neighbours, multicast groups), and nothing
/// back.
const SILENCE: &str = "add table inet silent; \
                       add chain inet silent in { type filter hook prerouting priority -400; policy drop; }; \
                       add chain inet silent out { type filter hook output priority 0; }; \
                       add rule inet silent out icmpv6 type != echo-request drop";
/// What passed is counted where nothing judges any more.
const PROBE: &str = "add table inet probe; add counter inet probe passed; \
                     add chain inet probe in { type filter hook input priority 300; }; \
                     add chain inet probe out { type filter hook postrouting priority 300; }; \
                     add rule inet probe in iifname { wg0, cellsvc1 } meta l4proto { tcp, udp } counter name passed; \
                     add rule inet probe out iifname { wg0, cellsvc1 } meta l4proto { tcp, udp } counter name passed; \
                     add rule inet probe in iifname { wg0, cellsvc1 } icmp type echo-request counter name passed; \
                     add rule inet probe out iifname { wg0, cellsvc1 } icmp type echo-request counter name passed; \
                     add rule inet probe in iifname { wg0, cellsvc1 } icmpv6 type echo-request counter name passed; \
                     add rule inet probe out iifname { wg0, cellsvc1 } icmpv6 type echo-request counter name passed";

fn mac(namespace: &Namespace, link: &str) -> String {
    let shown = namespace.ip(&format!("-brief link show {link}")).unwrap();
    shown.split_whitespace().nth(2).unwrap().to_owned()
}

fn addresses(namespace: &Namespace, link: &str, all: &[&str]) {
    for address in all {
        let single = || address.parse::<IpAddr>().unwrap().into();
        let address = address.parse().unwrap_or_else(|_| single());
        namespace.add_address(link, address).unwrap();
    }
}

/// Nobody is asked for: each packet passes at once or not at all.
fn neighbours(namespace: &Namespace, link: &str, all: &[&str], mac: &str) {
    for to in all {
        namespace
            .ip(&format!("neigh replace {to} lladdr {mac} dev {link}"))
            .unwrap();
    }
}

impl Road {
    fn new(ruleset: &Ruleset) -> Road {
        let [client, container, router, behind, far] =
            ["client", "container", "router", "behind", "far"].map(|name| Namespace::new(name).unwrap());
        join((&client, "eth0"), (&router, "wg0")).unwrap();
        join((&container, "eth0"), (&router, BRIDGE)).unwrap();
        addresses(&container, "eth0", &["172.30.1.2/28"]);
        addresses(&router, BRIDGE, &["172.30.1.1/28"]);
        neighbours(&container, "eth0", &["172.30.1.1"], &mac(&router, BRIDGE));
        neighbours(&router, BRIDGE, &[CONTAINER], &mac(&container, "eth0"));
        join((&router, "out0"), (&behind, "eth0")).unwrap();
        join((&router, LINK), (&far, "eth0")).unwrap();
        addresses(&client, "eth0", &SOURCES);
        let own = [
            "10.86.0.1/24",
            "169.254.67.1/32",
            "fd86::1/64",
            "fd43:454c:4c00::1/128",
        ];
        addresses(&router, "wg0", &own);
        addresses(&router, "out0", &["198.51.100.1/24", "2001:db8:1::1/64"]);
        addresses(&behind, "eth0", &["198.51.100.2/24", "2001:db8:1::2/64"]);
        router.forward().unwrap();
        neighbours(&client, "eth0", &DESTINATIONS, &mac(&router, "wg0"));
        let next = ["198.51.100.2", "198.51.100.7", "2001:db8:1::2", "2001:db8:1::7"];
        neighbours(&router, "out0", &next, &mac(&behind, "eth0"));
        let others = ["10.86.0.5", "10.86.0.6", "fd86::5", "fd86::6"];
        for all in [&others[..], &SOURCES] {
            neighbours(&router, "wg0", all, &mac(&client, "eth0"));
        }
        addresses(&router, LINK, &["172.20.0.2", "fd20::2"]);
        neighbours(&router, LINK, &DESTINATIONS, &mac(&far, "eth0"));
        for (namespace, line) in [
            (&router, "rule add fwmark 0x1000/0x1ff0 lookup 1000"),
            (&router, "-6 rule add fwmark 0x1000/0x1ff0 lookup 1000"),
            (&router, "route add default dev wgext_00000000 table 1000"),
            (&router, "-6 route add default dev wgext_00000000 table 1000"),
            (&client, "route add default dev eth0 metric 1"),
            (&client, "-6 route add default dev eth0 metric 1"),
            (&container, "route add default via 172.30.1.1"),
            (&router, "route add default via 198.51.100.2 dev out0"),
            (&router, "-6 route add default via 2001:db8:1::2 dev out0"),
        ] {
            namespace.ip(line).unwrap();
        }
        for namespace in [&client, &container] {
            namespace
                .set_sysctl("ipv4/ping_group_range", "0 2147483647")
                .unwrap();
        }
        for namespace in [&client, &container, &behind, &far] {
            namespace.run("nft", &[SILENCE]).unwrap();
        }
        let standing = Standing::install(&router, ruleset);
        router.run("nft", &[PROBE]).unwrap();
        Road {
            client,
            container,
            router,
            standing,
            _behind: [behind, far],
        }
    }

    fn passed(&self) -> u64 {
        let listed = self
            .router
            .run("nft", &["list", "counter", "inet", "probe", "passed"])
            .unwrap();
        let after = listed.split("packets ").nth(1).unwrap();
        after.split(' ').next().unwrap().parse().unwrap()
    }

    fn counters(&mut self) -> (u64, BTreeMap<Counter, u64>) {
        (self.passed(), self.standing.drops(&self.router))
    }

    /// Sends one packet and says which counter moved.
    fn send(&mut self, kind: Kind, from: SocketAddr, to: SocketAddr) -> Verdict {
        let before = self.counters();
        let by_container = from.ip().to_string() == CONTAINER;
        let sender = if by_container {
            &self.container
        } else {
            &self.client
        };
        let sent = sender.inside(|| match kind {
            Kind::Ports(Protocol::Udp) => {
                UdpSocket::bind(from).and_then(|socket| socket.send_to(b"x", to).map(drop))
            }
            Kind::Ports(Protocol::Tcp) => syn(from, to),
            Kind::Echo => echo(from, to),
        });
        sent.unwrap().unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let (passed, drops) = self.counters();
            if passed > before.0 {
                return Verdict::Passes;
            }
            if let Some((counter, _)) = drops.iter().find(|(counter, count)| before.1[counter] < **count) {
                return match counter {
                    Counter::ExitRefused => Verdict::Refused(*counter),
                    _ => Verdict::Dropped(*counter),
                };
            }
            assert!(Instant::now() < end, "{kind:?} {from} {to}: no counter moved");
        }
    }
}

/// The first segment of a connection that nobody waits for.
fn syn(from: SocketAddr, to: SocketAddr) -> std::io::Result<()> {
    let domain = if from.is_ipv4() {
        socket2::Domain::IPV4
    } else {
        socket2::Domain::IPV6
    };
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.bind(&from.into())?;
    socket.set_nonblocking(true)?;
    let _in_progress = socket.connect(&to.into());
    drop(TcpStream::from(socket));
    Ok(())
}

/// An echo request whose answer nobody waits for.
fn echo(from: SocketAddr, to: SocketAddr) -> std::io::Result<()> {
    use socket2::{Domain, Protocol, Socket, Type};
    let (domain, protocol, request) = if from.is_ipv4() {
        (Domain::IPV4, Protocol::ICMPV4, 8)
    } else {
        (Domain::IPV6, Protocol::ICMPV6, 128)
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
    socket.bind(&from.into())?;
    let message = [request, 0, 0, 0, 0, 0, 0, 1];
    socket
        .send_to(&message, &SocketAddr::new(to.ip(), 0).into())
        .map(drop)
}

/// By the test's own routing: of whoever it is, and where somebody has deleted a rule.
fn explained(ruleset: &Ruleset, kind: Kind, from: SocketAddr, to: SocketAddr) -> Explanation {
    let packet = Packet {
        interface: "wg0".parse().unwrap(),
        source: from.ip(),
        destination: to.ip(),
        payload: kind.payload(from, to),
        flow: Flow::New,
    };
    let own = ["10.86.0.1", "169.254.67.1", "fd86::1", "fd43:454c:4c00::1"]
        .map(|text| text.parse::<IpAddr>().unwrap());
    let vpn = ["10.86.0.0/24", "fd86::/64"].map(|text| text.parse::<ipnet::IpNet>().unwrap());
    let by = |name: &str| Way::Forwarded(name.parse::<InterfaceName>().unwrap());
    explain(ruleset, &packet, |destination, mark| {
        if own.contains(&destination) {
            Way::Local
        } else if vpn.iter().any(|net| net.contains(&destination)) {
            by("wg0")
        } else if mark == MARKS[0] {
            by(LINK)
        } else {
            by("out0")
        }
    })
}

#[test]
fn what_is_explained_is_what_the_kernel_does() {
    let told = Told::new();
    let ruleset = told.ruleset();
    let mut road = Road::new(&ruleset);
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let mut source_port = 20_000;
    for from in SOURCES {
        for to in DESTINATIONS {
            let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
            if from.is_ipv4() != to.is_ipv4() || from == to {
                continue;
            }
            for port in PORTS {
                for protocol in [Protocol::Udp, Protocol::Tcp] {
                    source_port += 1;
                    let (from, to) = (SocketAddr::new(from, source_port), SocketAddr::new(to, port));
                    let kind = Kind::Ports(protocol);
                    let explanation = explained(&ruleset, kind, from, to);
                    let found = road.send(kind, from, to);
                    if told.is_right(kind, from, to, found) {
                        *seen.entry("told".to_owned()).or_default() += 1;
                    }
                    let port = explanation.translated.map(|(_, port)| port);
                    let passes = found == Verdict::Passes;
                    for (fate, met) in [
                        ("redirected", port == Some(9110)),
                        ("asked the cell", port == Some(9053) && passes),
                        ("asked the cell, bound", port == Some(9054) && passes),
                        ("by the exit", explanation.mark == MARKS[0] && passes),
                        ("without its rule", explanation.mark == MARKS[1]),
                    ] {
                        if met {
                            *seen.entry(fate.to_owned()).or_default() += 1;
                        }
                    }
                    assert_eq!(
                        explanation.verdict, found,
                        "{protocol:?} {from} {to}: {explanation:#?}"
                    );
                    assert!(!explanation.steps.is_empty(), "{from} {to}");
                    *seen.entry(format!("{found:?}")).or_default() += 1;
                }
            }
        }
    }
    // Each fate was met, so that none is right by never being asked for.
    for fate in [
        "Passes",
        "told",
        "redirected",
        "asked the cell",
        "by the exit",
        "without its rule",
        "ExitLeak",
        "SpoofedSource",
        "FromPeerDefault",
        "PeerToPeer",
        "CellInput",
        "ExitRefused",
    ] {
        assert!(seen.keys().any(|name| name.contains(fate)), "{fate}: {seen:?}");
    }
}
