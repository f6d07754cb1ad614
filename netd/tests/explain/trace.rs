//! The rules that netd names to people (`fate`, which `cellctl` asks) are those that the kernel's own trace (nft_trace(8), `nft monitor trace`) shows, one by one and in
//! their order, for random packets of devices and of a container. `CELL_TEST_SEED` has the packets of an earlier run again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cell_lab::netns::Namespace;
use cell_lab::process::{Process, until};
use cell_lab::random::Random;
use cell_netd_core::model::Protocol;
use cell_netd_core::policy::Counter;
use cell_netd_core::policy::explain::{Explanation, Verdict};

use super::{
    CONTAINER, DESTINATIONS, Kind, MARKS, PORTS, Road, SOURCES, Told, ceiling, explained, is_legacy, mac,
};

const PACKETS: usize = 200;
/// Packets whose trace was not shown, and of which nothing is said.
const MAY_BE_LOST: usize = 4;
/// Everything that comes by wg0 or the bridge is traced, from before the first chain of the policy on.
const TRACED: &str = "add table inet traced; \
                      add chain inet traced in { type filter hook prerouting priority -450; }; \
                      add rule inet traced in iifname { wg0, cellsvc1 } meta l4proto { tcp, udp } meta nftrace set 1; \
                      add rule inet traced in iifname { wg0, cellsvc1 } icmp type echo-request meta nftrace set 1; \
                      add rule inet traced in iifname { wg0, cellsvc1 } icmpv6 type echo-request meta nftrace set 1";
const PATIENCE: Duration = Duration::from_secs(20);

/// A rule that a packet matched: its chain and its place there, from 1.
type Met = (String, usize);

struct Tracer {
    monitor: Process,
    /// Places of rules, by chain and handle.
    places: BTreeMap<(String, u64), usize>,
}

impl Tracer {
    fn start(router: &Namespace) -> Tracer {
        router.run("nft", &[TRACED]).unwrap();
        let table = ceiling().table.to_string();
        let listed = router
            .run("nft", &["-j", "list", "table", "inet", &table])
            .unwrap();
        let monitor = router
            .spawn(
                "nft monitor",
                Command::new("nft").args(["-a", "monitor", "trace"]),
            )
            .unwrap();
        Tracer {
            monitor,
            places: places(&listed),
        }
    }

    /// What became of the packet from this port and the rules that it matched, as soon as the trace has shown its end. None: it
    /// has not; the kernel drops traces that nft(8) does not read soon enough on a busy machine.
    ///
    /// The fate is read here and not from the counters: those move for what the router says by itself too, some seconds after a
    /// neighbour did not answer.
    fn end(&self, source_port: u16) -> Option<(Verdict, Vec<Met>)> {
        let shown = until(PATIENCE, "the trace of the packet", || {
            let output = self.monitor.output();
            let whole = output.rfind('\n').map_or("", |end| &output[..end]);
            let lines = of_packet(whole, source_port);
            let done = |line: &&String| line.contains("verdict drop") || line.contains(" probe ");
            lines.iter().any(|line| done(&line)).then_some(lines)
        });
        let lines = shown.ok()?;
        let rules = lines.iter().filter_map(|line| self.rule(line)).collect();
        Some((fate(&lines), rules))
    }

    /// `trace id 1a2b3c4d inet cell forward rule … # handle 7 (verdict drop)`
    fn rule(&self, line: &str) -> Option<Met> {
        let table = ceiling().table.to_string();
        let mut words = line.split_whitespace().skip(3);
        if words.next() != Some("inet") || words.next() != Some(&table) {
            return None;
        }
        let chain = words.next()?.to_owned();
        if words.next() != Some("rule") {
            return None;
        }
        let handle = line.rsplit("# handle ").next()?;
        let handle = handle.split(' ').next()?.parse().unwrap();
        let place = self.places[&(chain.clone(), handle)];
        Some((chain, place))
    }
}

/// By the rule that dropped it, each of which has a counter with a name; what the probe saw was dropped by none.
fn fate(lines: &[String]) -> Verdict {
    let Some(last) = lines.iter().find(|line| line.contains("verdict drop")) else {
        return Verdict::Passes;
    };
    let named = |counter: &Counter| last.contains(&format!("counter name \"{}\" ", counter.name()));
    match Counter::ALL.into_iter().find(named) {
        Some(refused @ Counter::ExitRefused) => Verdict::Refused(refused),
        Some(counter) => Verdict::Dropped(counter),
        None => panic!("dropped without a counter: {last}"),
    }
}

/// The lines of the trace that has a packet with this source port.
fn of_packet(output: &str, source_port: u16) -> Vec<String> {
    let id = |line: &str| line.split_whitespace().nth(2).map(str::to_owned);
    // What nft(8) takes for a problem's place in ICMPv6 is the identifier of an echo request and its number, which is 1.
    let echo6 = u32::from(source_port) << 16 | 1;
    let named = [
        format!("sport {source_port} "),
        format!("icmp id {source_port} "),
        format!("icmpv6 id {source_port} "),
        format!("icmpv6 parameter-problem {echo6} "),
    ];
    let ids: BTreeSet<String> = output
        .lines()
        .filter(|line| named.iter().any(|named| line.contains(named.as_str())))
        .filter_map(id)
        .collect();
    output
        .lines()
        .filter(|line| id(line).is_some_and(|id| ids.contains(&id)))
        .map(str::to_owned)
        .collect()
}

fn places(listed: &str) -> BTreeMap<(String, u64), usize> {
    let listed: serde_json::Value = serde_json::from_str(listed).unwrap();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut places = BTreeMap::new();
    for object in listed["nftables"].as_array().unwrap() {
        let Some(rule) = object.get("rule") else {
            continue;
        };
        let chain = rule["chain"].as_str().unwrap().to_owned();
        let place = seen.entry(chain.clone()).or_default();
        *place += 1;
        places.insert((chain, rule["handle"].as_u64().unwrap()), *place);
    }
    places
}

/// Some of what policies speak of, some of anything else that can be routed.
fn destination(random: &mut Random, v4: bool) -> IpAddr {
    let byte =
        |random: &mut Random, from: u64, to: u64| u8::try_from(from + random.below(to - from + 1)).unwrap();
    let any = |random: &mut Random| byte(random, 1, 254);
    if random.below(2) == 0 {
        let known: Vec<&str> = DESTINATIONS
            .into_iter()
            .filter(|text| text.contains(':') != v4)
            .collect();
        return known[random.place(known.len())].parse().unwrap();
    }
    if v4 {
        let address = match random.below(4) {
            0 => [10, 86, 0, byte(random, 100, 200)],
            1 => [10, byte(random, 100, 200), any(random), any(random)],
            2 => [192, 168, any(random), any(random)],
            // Public and reserved addresses up to 126.
            _ => [byte(random, 11, 126), any(random), any(random), any(random)],
        };
        return Ipv4Addr::from(address).into();
    }
    let mut address = Ipv6Addr::UNSPECIFIED.octets();
    for place in &mut address {
        *place = any(random);
    }
    match random.below(3) {
        0 => address[..8].copy_from_slice(&[0xfd, 0x86, 0, 0, 0, 0, 0, 0]),
        1 => address[0] = 0xfd,
        _ => address[0] = byte(random, 0x20, 0x2f),
    }
    Ipv6Addr::from(address).into()
}

/// All that is not known on the link goes to the router.
fn by_the_router(road: &Road) {
    let to = mac(&road.router, "wg0");
    for (family, gateway) in [("-4", "10.86.0.1"), ("-6", "fd86::1")] {
        for line in [
            format!("neigh replace {gateway} lladdr {to} dev eth0"),
            format!("{family} route replace default via {gateway} dev eth0 metric 1 onlink"),
        ] {
            road.client.ip(&line).unwrap();
        }
    }
}

fn explained_rules(explanation: &Explanation) -> Vec<Met> {
    let steps = explanation.steps.iter();
    steps
        .map(|step| (step.chain.as_str().to_owned(), step.rule))
        .collect()
}

#[test]
fn the_rules_that_are_named_are_those_that_the_kernel_went_by() {
    if is_legacy() {
        // Legacy iptables has a trace of its own, in the kernel's log of the machine alone.
        return;
    }
    let seed = seed();
    let told = Told::new();
    let ruleset = told.ruleset();
    let mut road = Road::new(&ruleset);
    by_the_router(&road);
    let tracer = Tracer::start(&road.router);
    let mut random = Random::new(seed);
    let (mut fates, mut met): (BTreeMap<String, u32>, BTreeSet<Met>) = Default::default();
    let (mut source_port, mut lost) = (30_000, 0);
    while usize::from(source_port - 30_000) < PACKETS && lost <= MAY_BE_LOST {
        let Some((kind, from, to)) = packet(&mut random, source_port + 1) else {
            continue;
        };
        source_port += 1;
        // Nobody asks of an address that is no one's, and that a rule of the machine's is gone netd does not know.
        let asked = told.fate(from.ip(), to.ip(), kind.payload(from, to));
        let asked = asked.filter(|explanation| explanation.mark != MARKS[1]);
        let is_told = asked.is_some();
        let explanation = asked.unwrap_or_else(|| explained(&ruleset, kind, from, to));
        road.send(kind, from, to);
        let Some((found, rules)) = tracer.end(source_port) else {
            lost += 1;
            continue;
        };
        let said = explained_rules(&explanation);
        assert_eq!(
            (explanation.verdict, &said),
            (found, &rules),
            "{kind:?} {from} {to} (seed {seed}, told {is_told}): {explanation:#?}"
        );
        let who = if from.ip().to_string() == CONTAINER {
            "container"
        } else {
            "device"
        };
        let passes = found == Verdict::Passes;
        for fate in [
            format!("{found:?}"),
            format!("told {is_told}"),
            format!("{who} passes {passes}"),
            format!("echo {} passes {passes}", kind == Kind::Echo),
        ] {
            *fates.entry(fate).or_default() += 1;
        }
        met.extend(rules);
    }
    for fate in [
        "told true",
        "device passes true",
        "device passes false",
        "container passes true",
        "container passes false",
        "echo true passes true",
        "echo true passes false",
    ] {
        assert!(fates.contains_key(fate), "{fate} (seed {seed}): {fates:?}");
    }
    assert!(met.len() >= 20 && lost <= MAY_BE_LOST, "{lost} lost: {met:?}");
}

/// Another one each time, unless one is given; told either way.
fn seed() -> u64 {
    let by_time = |_| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = std::env::var("CELL_TEST_SEED").map_or_else(by_time, |seed| seed.parse().unwrap());
    println!("CELL_TEST_SEED={seed}");
    seed
}

/// One from this port, or with this identifier; none: it would go where its sender is.
fn packet(random: &mut Random, source_port: u16) -> Option<(Kind, SocketAddr, SocketAddr)> {
    let from = match random.below(5) {
        0 => CONTAINER,
        _ => SOURCES[random.place(SOURCES.len())],
    };
    let from: IpAddr = from.parse().unwrap();
    let to = destination(random, from.is_ipv4());
    let port = match random.below(3) {
        0 => u16::try_from(1 + random.below(65_535)).unwrap(),
        _ => PORTS[random.place(PORTS.len())],
    };
    let kind = match random.below(4) {
        0 => Kind::Echo,
        1 => Kind::Ports(Protocol::Udp),
        _ => Kind::Ports(Protocol::Tcp),
    };
    let is_senders = SOURCES.contains(&to.to_string().as_str());
    let packet = (
        kind,
        SocketAddr::new(from, source_port),
        SocketAddr::new(to, port),
    );
    (!is_senders).then_some(packet)
}
