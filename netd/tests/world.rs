//! netd, cell-wg and stock WireGuard clients in namespaces: who reaches what, packet by packet.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;
use cell_lab::netns::Namespace;
use cell_lab::probe::{EchoServer, Flow, ping, tcp_echo};
use cell_lab::prober::Prober;
use cell_lab::process::{run_with_input, until};
use cell_lab::stock::Client;
use cell_lab::topology::{CELL, Device, FAR_HOST, LAN_HOST, World};
use cell_proto::netd::v1::ChangeAction;
use support::{Keys, Netd, PATIENCE, PORT, access, client_file, is_legacy, peer, spec};

const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3);

struct Setup {
    world: World,
    netd: Netd,
    a: (Device, Keys),
    b: (Device, Keys),
}

/// A cell with netd, and two devices; an echo server on port 80 wherever one may want to go.
fn setup() -> Result<Setup> {
    let mut world = World::new()?;
    world.cell.forward()?;
    let (a, b) = (world.device("a")?, world.device("b")?);
    for namespace in [&world.internet, &world.lan, &a.namespace, &b.namespace] {
        EchoServer::start(namespace, 80)?;
    }
    EchoServer::start(&world.cell, 3443)?;
    let netd = Netd::start(&world.cell)?;
    Ok(Setup {
        world,
        netd,
        a: (a, Keys::make()?),
        b: (b, Keys::make()?),
    })
}

impl Setup {
    fn client<'a>(&self, index: u8, device: &'a (Device, Keys)) -> Result<Client<'a>> {
        let endpoint = SocketAddr::new(IpAddr::V4(CELL.v4), PORT).to_string();
        let client = Client::up(
            &device.0.namespace,
            &client_file(index, &device.1, &self.netd.keys, &endpoint),
        )?;
        client.wait_for_handshake()?;
        Ok(client)
    }

    fn peer_a(&self, access: cell_proto::netd::v1::AccessPolicy) -> cell_proto::netd::v1::PeerSpec {
        peer(1, "a", &self.a.1.public_bytes, access)
    }

    fn peer_b(&self, access: cell_proto::netd::v1::AccessPolicy) -> cell_proto::netd::v1::PeerSpec {
        peer(2, "b", &self.b.1.public_bytes, access)
    }
}

fn reaches(from: &Namespace, to: IpAddr, port: u16) -> bool {
    tcp_echo(from, SocketAddr::new(to, port), LONG).unwrap()
}

fn refused(from: &Namespace, to: IpAddr, port: u16) -> bool {
    !tcp_echo(from, SocketAddr::new(to, port), SECOND).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn each_peer_reaches_what_it_may_and_nothing_else() -> Result<()> {
    let setup = setup()?;
    let (a, b) = (&setup.a.0.namespace, &setup.b.0.namespace);
    let services = LAN_HOST.each().map(|host| (host.to_string(), 80));
    let services = services.each_ref().map(|(at, port)| (at.as_str(), *port));
    let answer = setup.netd.apply(
        spec(vec![
            setup.peer_a(access(true, false, &[])),
            setup.peer_b(access(false, false, &services)),
        ]),
        "",
    )?;
    assert_eq!(answer.generation, 1);
    let _clients = (setup.client(1, &setup.a)?, setup.client(2, &setup.b)?);
    for far in FAR_HOST.each() {
        assert!(reaches(a, far, 80), "a has internet: {far}");
        let before = setup.netd.dropped("from_peer_default")?;
        assert!(refused(b, far, 80), "b has not: {far}");
        assert!(
            setup.netd.dropped("from_peer_default")? > before,
            "and the policy dropped it"
        );
    }
    for host in LAN_HOST.each() {
        assert!(reaches(b, host, 80), "b may reach the service: {host}");
        assert!(refused(b, host, 81), "and no other port of it");
        assert!(
            refused(a, host, 80),
            "a may not: private addresses are not the internet"
        );
    }
    let moving = |peer: &cell_proto::netd::v1::PeerStatus| {
        peer.latest_handshake_unix_ms > 0 && peer.received_bytes > 0
    };
    assert!(setup.netd.peers()?.iter().all(moving));
    Ok(())
}

#[test]
fn a_peer_reaches_the_ports_of_the_cell_by_translation_and_no_other() -> Result<()> {
    let setup = setup()?;
    setup
        .netd
        .apply(spec(vec![setup.peer_a(access(true, true, &[]))]), "")?;
    let _client = setup.client(1, &setup.a)?;
    let a = &setup.a.0.namespace;
    for own in ["10.86.0.1", "fd86::1"] {
        assert!(reaches(a, ip(own), 443), "{own}");
        let before = setup.netd.dropped("cell_input")?;
        assert!(refused(a, ip(own), 3443), "the target's port itself: {own}");
        assert!(setup.netd.dropped("cell_input")? > before);
        assert!(ping(a, ip(own), 3, Duration::from_millis(200), SECOND)?.received > 0);
    }
    // The address behind the translation is not spoken to, nor are the cell's other addresses.
    for other in ["169.254.67.1", "192.168.77.1"] {
        assert!(refused(a, ip(other), 3443), "{other}");
    }
    // A flow that is under way ends with its port.
    let mut flow = Flow::open(a, SocketAddr::new(ip("10.86.0.1"), 443), LONG)?;
    flow.echo(LONG)?;
    let mut closed = spec(vec![setup.peer_a(access(true, true, &[]))]);
    closed.cell_ports.clear();
    setup.netd.apply(closed, "")?;
    assert!(flow.echo(SECOND).is_err());
    Ok(())
}

#[test]
fn peers_reach_each_other_when_both_may() -> Result<()> {
    let setup = setup()?;
    let (on, off) = (access(false, true, &[]), access(false, false, &[]));
    setup.netd.apply(
        spec(vec![setup.peer_a(on.clone()), setup.peer_b(off.clone())]),
        "",
    )?;
    let _clients = (setup.client(1, &setup.a)?, setup.client(2, &setup.b)?);
    let a = &setup.a.0.namespace;
    let between = [ip("10.86.0.3"), ip("fd86::3")];
    for to in between {
        let before = setup.netd.dropped("peer_to_peer")?;
        assert!(refused(a, to, 80));
        assert!(setup.netd.dropped("peer_to_peer")? > before);
    }
    setup.netd.delta(vec![setup.peer_b(on)], &[])?;
    assert!(between.iter().all(|to| reaches(a, *to, 80)), "both may");
    setup.netd.delta(vec![setup.peer_b(off)], &[])?;
    assert!(
        between.iter().all(|to| refused(a, *to, 80)),
        "one of them may not"
    );
    // A peer's service, named as such: one way alone.
    let service = access(false, false, &[("10.86.0.3", 80)]);
    setup.netd.delta(vec![setup.peer_a(service)], &[])?;
    assert!(reaches(a, ip("10.86.0.3"), 80));
    assert!(refused(&setup.b.0.namespace, ip("10.86.0.2"), 80));
    Ok(())
}

#[test]
fn the_lan_reaches_neither_the_vpn_nor_the_hidden_addresses() -> Result<()> {
    let setup = setup()?;
    setup
        .netd
        .apply(spec(vec![setup.peer_a(access(true, true, &[]))]), "")?;
    let _client = setup.client(1, &setup.a)?;
    let lan = &setup.world.lan;
    for (to, port) in [
        ("10.86.0.1", 443),
        ("169.254.67.1", 3443),
        ("fd86::1", 443),
        ("fd43:454c:4c00::1", 3443),
    ] {
        let before = setup.netd.dropped("weak_host")?;
        lan.ip(&format!("{} route replace {to} via {}", family(to), gateway(to)))?;
        assert!(refused(lan, ip(to), port), "{to}");
        assert!(setup.netd.dropped("weak_host")? > before, "{to}");
    }
    // Nor a peer, though it routes there; nor with a peer's source address.
    for to in ["10.86.0.2", "fd86::2"] {
        lan.ip(&format!("{} route replace {to} via {}", family(to), gateway(to)))?;
        let before = setup.netd.dropped("to_peer_default")?;
        assert!(refused(lan, ip(to), 80), "{to}");
        assert!(setup.netd.dropped("to_peer_default")? > before, "{to}");
    }
    // The cell's own port on the LAN is not ours to judge.
    assert!(reaches(lan, ip("192.168.77.1"), 3443));
    Ok(())
}

fn family(address: &str) -> &'static str {
    if address.contains(':') { "-6" } else { "-4" }
}

fn gateway(address: &str) -> &'static str {
    if address.contains(':') {
        "fd77::1"
    } else {
        "192.168.77.1"
    }
}

#[test]
fn narrowing_and_removal_cut_flows_that_are_under_way() -> Result<()> {
    let setup = setup()?;
    let lan = LAN_HOST.each();
    let wide = access(
        true,
        false,
        &[(&lan[0].to_string(), 80), (&lan[1].to_string(), 80)],
    );
    setup.netd.apply(spec(vec![setup.peer_a(wide.clone())]), "")?;
    let _client = setup.client(1, &setup.a)?;
    let targets: Vec<SocketAddr> = FAR_HOST
        .each()
        .into_iter()
        .chain(lan)
        .map(|to| SocketAddr::new(to, 80))
        .collect();
    let open = || -> Result<Vec<Flow>> {
        let mut flows = Vec::new();
        for to in &targets {
            let mut flow = Flow::open(&setup.a.0.namespace, *to, LONG)?;
            flow.echo(LONG)?;
            flows.push(flow);
        }
        Ok(flows)
    };
    let mut flows = open()?;
    let answer = setup
        .netd
        .delta(vec![setup.peer_a(access(false, false, &[]))], &[])?;
    assert_eq!(answer.changes.len(), 1);
    assert!(
        answer.changes[0].detail.starts_with("loses internet"),
        "{:?}",
        answer.changes
    );
    for flow in &mut flows {
        assert!(flow.echo(SECOND).is_err(), "cut at once");
    }
    setup.netd.delta(vec![setup.peer_a(wide)], &[])?;
    let mut flows = open()?;
    setup.netd.delta(vec![], &["a"])?;
    for flow in &mut flows {
        assert!(flow.echo(SECOND).is_err(), "the peer is gone");
    }
    assert!(setup.netd.peers()?.is_empty());
    Ok(())
}

#[test]
fn a_crash_of_netd_loses_no_packet_and_the_next_one_touches_nothing() -> Result<()> {
    let mut setup = setup()?;
    let wanted = spec(vec![
        setup.peer_a(access(true, false, &[])),
        setup.peer_b(access(false, true, &[])),
    ]);
    let first = setup.netd.apply(wanted.clone(), "")?;
    assert!(
        setup.netd.apply(wanted.clone(), &first.etag)?.changes.is_empty(),
        "twice is once"
    );
    let client = setup.client(1, &setup.a)?;
    let far = SocketAddr::new(FAR_HOST.each()[0], 80);
    let prober = Prober::start(&setup.a.0.namespace, far, Duration::from_millis(20))?;
    std::thread::sleep(SECOND);
    setup.netd.crash_and_restart(&setup.world.cell)?;
    assert_eq!(
        setup.netd.status()?.generation,
        0,
        "a fresh netd has accepted nothing"
    );
    let again = setup.netd.apply(wanted.clone(), "")?;
    assert!(
        again.changes.is_empty(),
        "what is there is what is wanted: {:?}",
        again.changes
    );
    assert_ne!(again.etag, first.etag, "tokens of another life do not fit");
    assert_eq!(
        setup.netd.apply(wanted, &first.etag).unwrap_err().code(),
        tonic::Code::Aborted
    );
    std::thread::sleep(SECOND);
    let report = prober.stop()?;
    assert!(report.answered.len() > 50, "{}", report.answered.len());
    assert_eq!(report.lost(), 0);
    drop(client);
    Ok(())
}

#[test]
fn what_others_break_is_put_right() -> Result<()> {
    let mut setup = setup()?;
    let wanted = spec(vec![setup.peer_a(access(true, false, &[]))]);
    setup.netd.apply(wanted, "")?;
    let _client = setup.client(1, &setup.a)?;
    let far = FAR_HOST.each()[0];
    assert!(reaches(&setup.a.0.namespace, far, 80));
    if is_legacy() {
        // Whoever is root can change the tables; tests/legacy.rs does.
        assert_eq!(setup.netd.condition("TableOwned")?.reason, "SHARED");
    } else {
        no_flush_touches_the_table(&setup)?;
    }
    assert!(reaches(&setup.a.0.namespace, far, 80));
    let spoil: [(&str, &[&str]); 3] = [
        ("ip", &["link", "set", "wg0", "down"]),
        ("ip", &["address", "del", "10.86.0.1/24", "dev", "wg0"]),
        ("ip", &["link", "set", "wg0", "mtu", "1300"]),
    ];
    let mut repairs = setup.netd.status()?.drift_repairs;
    for (program, arguments) in spoil {
        setup.world.cell.run(program, arguments)?;
        let repaired = || {
            let status = setup.netd.status().ok()?;
            (status.drift_repairs > repairs && status.observed_generation == status.generation)
                .then_some(status.drift_repairs)
        };
        repairs = until(PATIENCE, &format!("{program} {arguments:?} repaired"), repaired)?;
        assert!(reaches(&setup.a.0.namespace, far, 80), "{program} {arguments:?}");
    }
    // The process that carries the tunnel dies, and the interface with it.
    setup.netd.crash_wg()?;
    until(PATIENCE, "the device is made anew", || {
        let status = setup.netd.status().ok()?;
        (status.drift_repairs > repairs && status.observed_generation == status.generation).then_some(())
    })?;
    let start = Instant::now();
    until(PATIENCE, "the tunnel carries again", || {
        reaches(&setup.a.0.namespace, far, 80).then_some(())
    })?;
    println!("the tunnel was back after {:?}", start.elapsed());
    Ok(())
}

/// This kernel keeps others from the table (tests/unowned.rs has one that does not).
fn no_flush_touches_the_table(setup: &Setup) -> Result<()> {
    assert_eq!(setup.netd.condition("TableOwned")?.reason, "OWNED");
    let handle = || {
        setup
            .world
            .cell
            .run("nft", &["-a", "list", "table", "inet", "cell"])
    };
    let before = handle()?;
    setup.world.cell.run("nft", &["flush", "ruleset"])?;
    assert_eq!(
        before.lines().next(),
        handle()?.lines().next(),
        "the same table still"
    );
    Ok(())
}

/// What is in a set of the policy.
fn set(cell: &Namespace, name: &str) -> Option<String> {
    if is_legacy() {
        cell.run("ipset", &["list", &format!("CELL-{name}")]).ok()
    } else {
        cell.run("nft", &["list", "set", "inet", "cell", name]).ok()
    }
}

#[test]
fn docker_drops_what_is_forwarded_and_peers_pass_nevertheless() -> Result<()> {
    let setup = setup()?;
    let cell = &setup.world.cell;
    let programs = if is_legacy() {
        ["iptables-legacy", "ip6tables-legacy"]
    } else {
        ["iptables-nft", "ip6tables-nft"]
    };
    let ours = if is_legacy() { "CELL-pass" } else { "0x2000" };
    for program in programs {
        for arguments in [
            "-P FORWARD DROP",
            "-N DOCKER-USER",
            "-A DOCKER-USER -j RETURN",
            "-I FORWARD -j DOCKER-USER",
        ] {
            cell.run(program, &arguments.split(' ').collect::<Vec<_>>())?;
        }
    }
    setup.netd.apply(
        spec(vec![
            setup.peer_a(access(true, false, &[])),
            setup.peer_b(access(false, false, &[])),
        ]),
        "",
    )?;
    assert_eq!(setup.netd.condition("DockerPassage")?.reason, "OPEN");
    let _clients = (setup.client(1, &setup.a)?, setup.client(2, &setup.b)?);
    let open = |who: &str| {
        for far in FAR_HOST.each() {
            assert!(reaches(&setup.a.0.namespace, far, 80), "{who}: {far}");
            assert!(refused(&setup.b.0.namespace, far, 80), "{who}: {far}");
        }
    };
    open("at first");
    // What is not the VPN's stays dropped: the LAN is not let through.
    assert!(refused(&setup.world.lan, FAR_HOST.each()[0], 80));
    for program in programs {
        cell.run(program, &["-F", "DOCKER-USER"])?;
    }
    until(PATIENCE, "the rule is back", || {
        let rules = |program| {
            cell.run(program, &["-S", "DOCKER-USER"])
                .ok()
                .filter(|shown| shown.contains(ours))
        };
        rules(programs[0]).and(rules(programs[1]))
    })?;
    open("after a flush");
    setup.netd.apply(Default::default(), "")?;
    for program in programs {
        assert!(
            !cell.run(program, &["-S"])?.contains(ours),
            "the empty spec leaves nothing"
        );
    }
    // What is left closes bridges of services.
    assert_eq!(
        cell.run("nft", &["list", "tables"])?.contains("cell"),
        !support::is_legacy()
    );
    assert!(cell.ip("link show wg0").is_err());
    Ok(())
}

#[test]
fn names_of_other_programs_are_refused_and_left_alone() -> Result<()> {
    let namespace = Namespace::new("foreign")?;
    let netd = Netd::start(&namespace)?;
    namespace.ip("link add wg0 type veth peer name other")?;
    let refusal = netd.apply(spec(vec![]), "").unwrap_err();
    assert_eq!(
        cell_proto::fault::reason(&refusal).as_deref(),
        Some("FOREIGN_OBJECT")
    );
    assert_eq!(cell_proto::fault::metadata(&refusal)["object"], "interface wg0");
    namespace.ip("link del wg0")?;
    // Another cell's, in this very namespace: neither taken over nor taken for a stray.
    namespace.ip("link add wg1 group 0x63656c6c type veth peer name other")?;
    namespace.ip("link set wg1 alias theirs")?;
    namespace.ip("link add wg2 group 0x63656c6c type veth peer name another")?;
    netd.apply(spec(vec![]), "")?;
    netd.apply(Default::default(), "")?;
    namespace.ip("link show wg1")?;
    namespace.ip("link show wg2")?;
    // A table that was there before: netd's own stands from its start on.
    let namespace = Namespace::new("theirs")?;
    let mut nft = std::process::Command::new("ip");
    nft.args(["netns", "exec", namespace.name(), "nft", "-f", "-"]);
    run_with_input(&mut nft, "table inet cell {\nchain theirs {\n}\n}")?;
    let netd = Netd::start(&namespace)?;
    let refusal = netd.apply(spec(vec![]), "").unwrap_err();
    assert_eq!(
        cell_proto::fault::reason(&refusal).as_deref(),
        Some("FOREIGN_OBJECT")
    );
    assert!(namespace.run("nft", &["list", "ruleset"])?.contains("theirs"));
    Ok(())
}

/// netd marks a link in the message that makes it, and names it in the next: killed between the two, it must not stand in
/// its own way. The link is of another kind here, because the mark is what counts.
#[test]
fn a_link_that_netd_had_no_time_to_name_is_taken_for_its_own() -> Result<()> {
    let namespace = Namespace::new("unnamed")?;
    let netd = Netd::start(&namespace)?;
    namespace.ip("link add wg0 group 0x63656c6c type veth peer name other")?;
    let answer = netd.apply(spec(vec![]), "")?;
    let told = |subject: &str, action| {
        answer
            .changes
            .iter()
            .any(|change| change.subject == subject && change.action() == action)
    };
    assert!(
        told("interface wg0", ChangeAction::Remove),
        "{:?}",
        answer.changes
    );
    assert!(told("interface wg0", ChangeAction::Add), "{:?}", answer.changes);
    let shown = namespace.ip("-d link show wg0")?;
    assert!(
        shown.contains("alias made by cell-netd for table cell"),
        "{shown}"
    );
    Ok(())
}

#[test]
fn a_device_that_outlives_its_vault_is_made_anew_with_the_key_of_the_next() -> Result<()> {
    let mut setup = setup()?;
    let wanted = spec(vec![setup.peer_a(access(true, false, &[]))]);
    setup.netd.apply(wanted.clone(), "")?;
    assert_eq!(setup.netd.condition("KeyChecked")?.reason, "CHECKED");
    setup.netd.change_key()?;
    setup.netd.crash_and_restart(&setup.world.cell)?;
    let answer = setup.netd.apply(wanted.clone(), "")?;
    let told = |change: &cell_proto::netd::v1::Change| {
        change.subject == "interface wg0" && change.action() == ChangeAction::Remove
    };
    assert!(answer.changes.iter().any(told), "{:?}", answer.changes);
    assert_eq!(
        setup.netd.status()?.wireguard_public_key,
        setup.netd.keys.public_bytes
    );
    let _client = setup.client(1, &setup.a)?;
    assert!(reaches(&setup.a.0.namespace, FAR_HOST.each()[0], 80));
    assert!(setup.netd.apply(wanted, "")?.changes.is_empty(), "and stays");
    // A peer with the cell's own key would be ignored by the device without a word.
    let own = peer(5, "own", &setup.netd.keys.public_bytes, access(false, false, &[]));
    let refusal = setup.netd.delta(vec![own], &[]).unwrap_err();
    assert_eq!(
        cell_proto::fault::violations(&refusal)[0].field,
        "upserted_peers[0].public_key"
    );
    Ok(())
}

/// Most houses have a global IPv6 prefix, and some a public IPv4 one: the neighbours are not the internet nevertheless.
#[test]
fn the_internet_does_not_mean_the_neighbours_with_public_addresses() -> Result<()> {
    let setup = setup()?;
    let global = ["192.0.2.50", "2001:db8:77::50"];
    let give = |cell: &str, lan: &str| -> Result<()> {
        setup.world.cell.add_address("lan", cell.parse()?)?;
        setup.world.lan.add_address("eth0", lan.parse()?)
    };
    give("192.0.2.1/24", "192.0.2.50/24")?;
    setup.netd.apply(
        spec(vec![
            setup.peer_a(access(true, false, &[])),
            setup.peer_b(access(false, false, &[(global[0], 80), (global[1], 80)])),
        ]),
        "",
    )?;
    let _clients = (setup.client(1, &setup.a)?, setup.client(2, &setup.b)?);
    let (a, b) = (&setup.a.0.namespace, &setup.b.0.namespace);
    // The prefix of the other family comes while the policy is in force, as a router tells it.
    give("2001:db8:77::1/64", "2001:db8:77::50/64")?;
    until(PATIENCE, "the policy has it", || {
        set(&setup.world.cell, "local6").filter(|set| set.contains("2001:db8:77::"))
    })?;
    for host in global.map(ip) {
        let before = setup.netd.dropped("from_peer_default")?;
        assert!(refused(a, host, 80), "a has internet, not the house: {host}");
        assert!(setup.netd.dropped("from_peer_default")? > before, "{host}");
        assert!(reaches(b, host, 80), "b may reach that service: {host}");
    }
    assert!(FAR_HOST.each().iter().all(|far| reaches(a, *far, 80)));
    // A flow that was the internet's ends when its host turns out to be a neighbour.
    let mut flow = Flow::open(a, SocketAddr::new(FAR_HOST.v4.into(), 80), LONG)?;
    flow.echo(LONG)?;
    setup.world.cell.ip("route add 198.51.100.0/24 dev lan")?;
    setup
        .world
        .cell
        .ip("route add 198.51.100.7/32 via 203.0.113.1 dev uplink")?;
    until(PATIENCE, "the policy has it", || {
        set(&setup.world.cell, "local4").filter(|set| set.contains("198.51.100.0"))
    })?;
    assert!(flow.echo(SECOND).is_err());
    assert_eq!(setup.netd.status()?.drift_repairs, 0);
    Ok(())
}

#[test]
fn a_chain_that_netd_does_not_write_into_is_named_while_it_drops() -> Result<()> {
    let setup = setup()?;
    let cell = &setup.world.cell;
    setup
        .netd
        .apply(spec(vec![setup.peer_a(access(true, false, &[]))]), "")?;
    let _client = setup.client(1, &setup.a)?;
    let far = FAR_HOST.each()[0];
    let told = |reason: &str| {
        until(PATIENCE, reason, || {
            let told = setup.netd.condition("DockerPassage").ok()?;
            (told.reason == reason).then_some(told.message)
        })
    };
    told("NOT_NEEDED")?;
    assert!(reaches(&setup.a.0.namespace, far, 80));
    let other = "table inet other { chain forward { type filter hook forward priority 0; policy drop; }\n}";
    let mut nft = std::process::Command::new("ip");
    nft.args(["netns", "exec", cell.name(), "nft", "-f", "-"]);
    run_with_input(&mut nft, other)?;
    let message = told("BLOCKED")?;
    assert!(message.contains("inet other forward"), "{message}");
    assert!(refused(&setup.a.0.namespace, far, 80), "and it is true");
    cell.run("nft", &["delete", "table", "inet", "other"])?;
    told("NOT_NEEDED")?;
    assert!(reaches(&setup.a.0.namespace, far, 80));
    Ok(())
}
