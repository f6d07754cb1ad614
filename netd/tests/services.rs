//! Networks of services, packet by packet: what containers on a bridge reach, by which way, and who reaches them.
//!
//! The containers are namespaces, and the exits' interfaces are veth pairs with an exit's name, as in `exits.rs`.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/exits.rs"]
mod cell;
#[path = "support/containers.rs"]
mod containers;
mod support;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use cell::{SECOND, Setup, link, setup};
use cell_lab::probe::{EchoServer, Flow, tcp_echo};
use cell_lab::prober::Prober;
use cell_lab::process::until;
use cell_lab::topology::{CELL_ON_LAN, FAR_HOST, LAN_HOST};
use cell_proto::netd::v1;
use containers::{Container, bridge, network, reaching};
use support::PATIENCE;

const LONG: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(20);
const NOTHING: [bool; 3] = [false; 3];
const ALL: [bool; 3] = [true; 3];

fn with_networks(setup: &Setup, networks: &[v1::ServiceNetwork]) -> v1::NetworkSpec {
    let mut spec = setup.spec("");
    spec.service_networks = networks.to_vec();
    spec
}

fn apply(setup: &Setup, networks: &[v1::ServiceNetwork]) -> Result<()> {
    Ok(setup.netd.apply(with_networks(setup, networks), "").map(drop)?)
}

/// Bridges 1 and 2, one container on each.
fn two(setup: &Setup) -> Result<[Container; 2]> {
    let cell = &setup.world.cell;
    let one = |index: u8| {
        let name = format!("cellsvc{index}");
        bridge(cell, &name, index)?;
        let container = Container::new(cell, &name, index, 2)?;
        EchoServer::start(&container.namespace, 80)?;
        anyhow::Ok(container)
    };
    Ok([one(1)?, one(2)?])
}

/// What a container could want, but for its own network.
fn everything(other: &Container) -> Vec<(IpAddr, u16)> {
    let mut all: Vec<(IpAddr, u16)> = Vec::new();
    all.extend(FAR_HOST.each().map(|far| (far, 80)));
    all.extend(LAN_HOST.each().map(|lan| (lan, 80)));
    all.extend(CELL_ON_LAN.each().map(|cell| (cell, 3443)));
    let inside = [
        ("10.86.0.1", 443),
        ("10.86.0.2", 80),
        ("fd86::1", 443),
        ("169.254.67.1", 3443),
        ("172.30.1.1", 3443),
        ("fd30:1::1", 3443),
        ("fd30:2::2", 80),
    ];
    all.extend(inside.map(|(at, port)| (at.parse::<IpAddr>().unwrap(), port)));
    all.push((other.address.into(), 80));
    all
}

#[test]
fn a_container_reaches_nothing_that_is_not_granted() -> Result<()> {
    let setup = setup()?;
    let [one, two] = two(&setup)?;
    EchoServer::start(&setup.device.namespace, 80)?;
    // Also while no specification knows the bridge.
    apply(&setup, &[])?;
    let _client = setup.client(&setup.device)?;
    assert_eq!(one.reaches(FAR_HOST.v4.into(), 80), NOTHING);
    assert!(setup.netd.dropped("service_source")? > 0);

    apply(&setup, &[network(1, false, ""), network(2, false, "")])?;
    std::thread::scope(|scope| {
        for (at, port) in everything(&two) {
            let one = &one;
            scope.spawn(move || assert_eq!(one.reaches(at, port), NOTHING, "{at}"));
        }
    });
    assert!(setup.netd.dropped("from_service_default")? > 0);
    assert_eq!(setup.own_way.packets(), [0, 0]);
    Ok(())
}

#[test]
fn what_is_granted_is_reached_and_nothing_beside_it() -> Result<()> {
    let setup = setup()?;
    let [one, two] = two(&setup)?;
    // Control: the same with a grant of each.
    apply(&setup, &[network(1, true, ""), network(2, false, "")])?;
    assert_eq!(one.reaches(FAR_HOST.v4.into(), 80), ALL);
    assert!(setup.own_way.packets()[0] >= 6);
    assert_eq!(one.reaches(FAR_HOST.v6.into(), 80), NOTHING, "no IPv6");
    assert_eq!(setup.own_way.packets()[1], 0);
    assert_eq!(
        one.reaches(LAN_HOST.v4.into(), 80),
        NOTHING,
        "the house is not the internet"
    );
    let granted = [(LAN_HOST.v4.into(), 80), (two.address.into(), 80)];
    let spec = [reaching(network(1, false, ""), &granted), network(2, false, "")];
    apply(&setup, &spec)?;
    for (at, port) in granted {
        let port = u16::try_from(port)?;
        assert_eq!(one.reaches(at, port), [true, false, false], "{at}: TCP alone");
    }
    assert_eq!(two.reaches(one.address.into(), 80), NOTHING, "and not back");

    // A grant that goes cuts what is under way.
    let mut flow = Flow::open(&one.namespace, SocketAddr::new(two.address.into(), 80), LONG)?;
    flow.echo(LONG)?;
    apply(&setup, &[network(1, false, ""), network(2, false, "")])?;
    assert!(flow.echo(SECOND).is_err());
    Ok(())
}

#[test]
fn a_service_leaves_by_its_exit_alone() -> Result<()> {
    let setup = setup()?;
    let [one, _two] = two(&setup)?;
    let far = SocketAddr::new(FAR_HOST.v4.into(), 80);
    apply(&setup, &[network(1, true, "")])?;
    assert_eq!(one.reaches(far.ip(), 80), ALL, "the machine's own way");
    let mut flow = Flow::open(&one.namespace, far, LONG)?;
    flow.echo(LONG)?;
    apply(&setup, &[network(1, true, "exit0")])?;
    let free = setup.own_way.packets();
    let prober = Prober::start(&one.namespace, far, TICK)?;
    assert!(flow.echo(SECOND).is_err(), "a flow does not change its way");
    let by = |exit: usize| {
        let before = setup.exits[exit].1.packets()[0];
        assert_eq!(one.reaches(far.ip(), 80), ALL, "by exit {exit}");
        assert!(setup.exits[exit].1.packets()[0] >= before + 6);
    };
    by(0);
    let mut flow = Flow::open(&one.namespace, far, LONG)?;
    flow.echo(LONG)?;
    apply(&setup, &[network(1, true, "exit1")])?;
    let left = setup.exits[0].1.packets();
    assert!(flow.echo(SECOND).is_err(), "nor its exit");
    by(1);
    assert_eq!(
        setup.exits[0].1.packets(),
        left,
        "nothing goes by the exit before"
    );
    assert!(setup.netd.dropped("exit_moved")? > 0);

    // Down: unreachable, and nothing else.
    setup.cell(&format!("ip link set {} down", link(1)))?;
    assert_eq!(one.reaches(far.ip(), 80), NOTHING);
    setup.cell(&format!("ip link set {} up", link(1)))?;
    let carried = || (one.reaches(far.ip(), 80) == ALL).then_some(());
    until(PATIENCE, "the exit carries again", carried)?;
    // What others undo is put right, and leaks nothing meanwhile.
    for command in [
        "ip -4 rule del pref 10034",
        "ip -4 route flush table 1001",
        "nft flush ruleset",
    ] {
        setup.cell(command)?;
        until(PATIENCE, "the exit carries again", carried)?;
        by(1);
    }
    apply(&setup, &[network(1, false, "exit1")])?;
    assert_eq!(
        one.reaches(far.ip(), 80),
        NOTHING,
        "no internet, whatever the exit"
    );
    assert!(prober.stop()?.sent.len() > 100);
    assert_eq!(setup.own_way.packets(), free, "leaked packets");
    Ok(())
}

#[test]
fn containers_are_reached_by_grants_alone() -> Result<()> {
    let setup = setup()?;
    let [one, two] = two(&setup)?;
    let neighbour = Container::new(&setup.world.cell, "cellsvc1", 1, 3)?;
    let networks = [network(1, true, ""), network(2, true, "")];
    let at = SocketAddr::new(one.address.into(), 80);
    let device = &setup.device.namespace;
    apply(&setup, &networks)?;
    let _client = setup.client(&setup.device)?;
    let lan = &setup.world.lan;
    lan.ip(&format!("route add 172.30.0.0/16 via {}", CELL_ON_LAN.v4))?;
    assert!(
        tcp_echo(&neighbour.namespace, at, LONG)?,
        "containers of one service"
    );
    assert!(!tcp_echo(device, at, SECOND)?, "a device without a grant");
    assert!(!tcp_echo(lan, at, SECOND)?, "the house");
    assert!(setup.netd.dropped("to_service_default")? > 0);
    let mut peer = setup.peer("");
    let granted = support::access(true, false, &[(&one.address.to_string(), 80)]);
    peer.access = Some(granted);
    let mut spec = with_networks(&setup, &networks);
    spec.peers = vec![peer];
    setup.netd.apply(spec, "")?;
    assert!(tcp_echo(device, at, LONG)?, "a device with one");
    assert!(!tcp_echo(
        device,
        SocketAddr::new(two.address.into(), 80),
        SECOND
    )?);

    Ok(())
}

#[test]
fn containers_speak_for_nobody_else_and_nobody_else_for_them() -> Result<()> {
    let setup = setup()?;
    let [one, _two] = two(&setup)?;
    apply(&setup, &[network(1, true, ""), network(2, true, "")])?;
    let lan = &setup.world.lan;
    // Of another service, of a device, of nobody; and somebody else as a container.
    let count = |reason: &str| setup.netd.dropped(reason).unwrap();
    for claim in [
        "172.30.2.5",
        "172.30.1.1",
        "10.86.0.2",
        "192.168.77.50",
        "203.0.113.77",
    ] {
        one.namespace.ip(&format!("address add {claim}/32 dev lo"))?;
        let before = (count("service_source"), setup.own_way.packets());
        let sent = one.namespace.run(
            "ping",
            &[
                "-c",
                "2",
                "-i",
                "0.2",
                "-W",
                "1",
                "-I",
                claim,
                &FAR_HOST.v4.to_string(),
            ],
        );
        assert!(sent.is_err(), "{claim}");
        assert!(count("service_source") >= before.0 + 2, "{claim}");
        assert_eq!(setup.own_way.packets(), before.1, "{claim}");
        one.namespace.ip(&format!("address del {claim}/32 dev lo"))?;
    }
    assert_eq!(one.reaches(FAR_HOST.v4.into(), 80), ALL, "control: its own");
    // So that it knows the cell's link: nobody answers who asks for that in a container's name.
    lan.run("ping", &["-c", "1", "-W", "1", &CELL_ON_LAN.v4.to_string()])?;
    lan.ip("address add 172.30.1.9/32 dev lo")?;
    lan.ip(&format!("route replace {} via {}", FAR_HOST.v4, CELL_ON_LAN.v4))?;
    let before = count("spoofed_source");
    let sent = lan.run(
        "ping",
        &[
            "-c",
            "2",
            "-i",
            "0.2",
            "-W",
            "1",
            "-I",
            "172.30.1.9",
            &FAR_HOST.v4.to_string(),
        ],
    );
    assert!(sent.is_err());
    assert!(count("spoofed_source") >= before + 2);
    Ok(())
}
