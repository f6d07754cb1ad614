//! What `explain` says of a packet is what the kernel does with it: every pair of a source and a destination, over UDP and
//! TCP, some of them redirected to the relay, led to an exit's interface, or turned to the cell's resolver, is sent through a real router with the policy, and the counter that moves is the one that was named.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../core/tests/support/mod.rs"]
mod support;
#[path = "explain/trace.rs"]
mod trace;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use cell_lab::netns::{Namespace, join};
use cell_lab::process::run_with_input;
use cell_netd::kernel::nft::{Nft, Owners};
use cell_netd_core::Ceiling;
use cell_netd_core::model::{Family, InterfaceName, Protocol};
use cell_netd_core::policy::explain::{Explanation, Flow, Packet, Payload, Verdict, Way, explain};
use cell_netd_core::policy::iptables::{self, Stage};
use cell_netd_core::policy::{Counter, Ruleset, compile};
use cell_netd_core::spec::CellPortSpec;
use cell_netd_core::validate::validate;
use support::{ceiling, exit, peer, redirect, spec, through, with_access};

/// Of peers: none of anything, internet and peer-to-peer, services, an exit of the relay, the same without internet, an exit with
/// an interface, one whose rule somebody has deleted; and of nobody.
const SOURCES: [&str; 16] = [
    "10.86.0.2",
    "10.86.0.3",
    "10.86.0.4",
    "10.86.0.7",
    "10.86.0.8",
    "10.86.0.9",
    "10.86.0.10",
    "10.86.0.99",
    "fd86::2",
    "fd86::3",
    "fd86::4",
    "fd86::7",
    "fd86::8",
    "fd86::9",
    "fd86::a",
    "fd86::99",
];
/// Of the exit with an interface, and of the one without its rule.
const MARKS: [u32; 2] = [0x1000, 0x1010];
const LINK: &str = "wgext_00000000";
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

fn ruleset() -> Ruleset {
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
        through(with_access(peer(7), false, true, &[]), "exit11"),
        through(with_access(peer(8), true, false, &[]), "exit0"),
        through(with_access(peer(9), true, true, &[]), "exit1"),
    ];
    let mut wanted = spec(peers);
    wanted.exits = vec![exit(0), exit(1), redirect(10), redirect(11)];
    let dns = [Protocol::Udp, Protocol::Tcp].map(|protocol| CellPortSpec {
        protocol: Ok(protocol),
        port: 53,
        target_port: 9053,
    });
    wanted.cell_ports.retain(|port| port.port != 53);
    wanted.cell_ports.extend(dns);
    let ceiling = ceiling_with_dns();
    let desired = validate(&wanted, &ceiling, None).unwrap();
    let on_link = ["198.51.100.0/24", "2001:db8:1::/64"].map(|net| net.parse().unwrap());
    compile(&desired, &ceiling, &on_link.into()).unwrap()
}

/// As it is shipped: the relay answers DNS.
fn ceiling_with_dns() -> Ceiling {
    let mut ceiling = ceiling();
    for port in ["udp/9053", "tcp/9053"] {
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

/// A client that has all sources, a router with the policy, and what lies behind it.
struct Road {
    client: Namespace,
    router: Namespace,
    standing: Standing,
    _behind: [Namespace; 2],
}

/// What the client and what lies behind say: nothing beyond what the test says (neighbours, multicast groups), and nothing
/// back.
const SILENCE: &str = "add table inet silent; \
                       add chain inet silent in { type filter hook prerouting priority -400; policy drop; }; \
                       add chain inet silent out { type filter hook output priority 0; }; \
                       add rule inet silent out meta l4proto ipv6-icmp drop";
/// What passed is counted where nothing judges any more.
const PROBE: &str = "add table inet probe; add counter inet probe passed; \
                     add chain inet probe in { type filter hook input priority 300; }; \
                     add chain inet probe out { type filter hook postrouting priority 300; }; \
                     add rule inet probe in iifname wg0 meta l4proto { tcp, udp } counter name passed; \
                     add rule inet probe out iifname wg0 meta l4proto { tcp, udp } counter name passed";

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
        let [client, router, behind, far] =
            ["client", "router", "behind", "far"].map(|name| Namespace::new(name).unwrap());
        join((&client, "eth0"), (&router, "wg0")).unwrap();
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
        neighbours(&router, "wg0", &others, &mac(&client, "eth0"));
        addresses(&router, LINK, &["172.20.0.2", "fd20::2"]);
        neighbours(&router, LINK, &DESTINATIONS, &mac(&far, "eth0"));
        for (namespace, line) in [
            (&router, "rule add fwmark 0x1000/0x1ff0 lookup 1000"),
            (&router, "-6 rule add fwmark 0x1000/0x1ff0 lookup 1000"),
            (&router, "route add default dev wgext_00000000 table 1000"),
            (&router, "-6 route add default dev wgext_00000000 table 1000"),
            (&client, "route add default dev eth0 metric 1"),
            (&client, "-6 route add default dev eth0 metric 1"),
            (&router, "route add default via 198.51.100.2 dev out0"),
            (&router, "-6 route add default via 2001:db8:1::2 dev out0"),
        ] {
            namespace.ip(line).unwrap();
        }
        client.run("nft", &[SILENCE]).unwrap();
        for namespace in [&behind, &far] {
            namespace.run("nft", &[SILENCE]).unwrap();
        }
        let standing = Standing::install(&router, ruleset);
        router.run("nft", &[PROBE]).unwrap();
        Road {
            client,
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
    fn send(&mut self, protocol: Protocol, from: SocketAddr, to: SocketAddr) -> Verdict {
        let before = self.counters();
        let sent = self.client.inside(|| match protocol {
            Protocol::Udp => UdpSocket::bind(from).and_then(|socket| socket.send_to(b"x", to).map(drop)),
            Protocol::Tcp => syn(from, to),
        });
        sent.unwrap().unwrap();
        let end = Instant::now() + Duration::from_secs(2);
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
            assert!(Instant::now() < end, "{protocol:?} {from} {to}: no counter moved");
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

fn explained(ruleset: &Ruleset, protocol: Protocol, from: SocketAddr, to: SocketAddr) -> Explanation {
    let packet = Packet {
        interface: "wg0".parse().unwrap(),
        source: from.ip(),
        destination: to.ip(),
        payload: Payload::Ports(protocol, from.port(), to.port()),
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
    let ruleset = ruleset();
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
                    let explanation = explained(&ruleset, protocol, from, to);
                    let found = road.send(protocol, from, to);
                    let port = explanation.translated.map(|(_, port)| port);
                    let passes = found == Verdict::Passes;
                    for (fate, met) in [
                        ("redirected", port == Some(9110)),
                        ("asked the cell", port == Some(9053) && passes),
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
