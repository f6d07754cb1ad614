//! Bridges of services, and what devices were answered, are closed while no specification says what may pass: before netd's first, after one that removes all, and
//! while netd is dead. By packets, both ways, and each time beside the same without netd.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/containers.rs"]
mod containers;
mod support;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::Result;
use cell_lab::counter::Protocol::Any;
use cell_lab::counter::{Counter, Spec, host};
use cell_lab::probe::{EchoServer, tcp_echo};
use cell_lab::process::until;
use cell_lab::topology::{CELL_ON_LAN, FAR_HOST, LAN_HOST, World};
use cell_proto::netd::v1;
use containers::{Container, bridge, network, reaching};
use support::{Netd, PATIENCE, spec};

const LONG: Duration = Duration::from_secs(3);
const SECOND: Duration = Duration::from_secs(1);
const NOTHING: [bool; 3] = [false; 3];
const ALL: [bool; 3] = [true; 3];

struct House {
    world: World,
    container: Container,
}

impl House {
    /// The house knows the way to the container, so that nothing but a policy stands between them.
    fn new() -> Result<Self> {
        let world = World::new()?;
        world.cell.forward()?;
        world
            .lan
            .ip(&format!("route add 172.30.0.0/16 via {}", CELL_ON_LAN.v4))?;
        bridge(&world.cell, "cellsvc1", 1)?;
        let container = Container::new(&world.cell, "cellsvc1", 1, 2)?;
        EchoServer::start(&world.lan, 80)?;
        EchoServer::start(&world.cell, 3443)?;
        EchoServer::start(&container.namespace, 80)?;
        Ok(House { world, container })
    }

    fn at(&self) -> SocketAddr {
        SocketAddr::new(self.container.address.into(), 80)
    }

    /// Whether the container is reached from the house, and the house and the machine itself from there.
    fn speaks(&self) -> Result<(bool, [bool; 3], [bool; 3])> {
        Ok((
            tcp_echo(&self.world.lan, self.at(), SECOND)?,
            self.container.reaches(LAN_HOST.v4.into(), 80),
            self.container.reaches("172.30.1.1".parse()?, 3443),
        ))
    }

    fn is_closed(&self) -> Result<()> {
        assert_eq!(self.speaks()?, (false, NOTHING, NOTHING));
        Ok(())
    }
}

#[test]
fn bridges_are_closed_from_the_start_and_after_all_is_removed_and_while_netd_is_dead() -> Result<()> {
    let house = House::new()?;
    assert_eq!(house.speaks()?, (true, ALL, ALL), "control: without netd");
    let mut netd = Netd::start(&house.world.cell)?;
    house.is_closed()?;
    assert!(netd.dropped("service_source")? >= 4);

    // A crash before the first specification, and a bridge that comes meanwhile.
    netd.process.signal(nix::sys::signal::Signal::SIGKILL)?;
    netd.process.wait(PATIENCE)?;
    house.is_closed()?;
    bridge(&house.world.cell, "cellsvc9", 9)?;
    let late = Container::new(&house.world.cell, "cellsvc9", 9, 2)?;
    assert_eq!(late.reaches(LAN_HOST.v4.into(), 80), NOTHING);
    netd.restart(&house.world.cell)?;
    house.is_closed()?;

    // Control: what is granted passes.
    let mut granted = spec(vec![]);
    granted.service_networks = vec![reaching(network(1, false, ""), &[(LAN_HOST.v4.into(), 80)])];
    netd.apply(granted.clone(), "")?;
    assert!(tcp_echo(
        &house.container.namespace,
        SocketAddr::new(LAN_HOST.v4.into(), 80),
        LONG
    )?);
    netd.crash_and_restart(&house.world.cell)?;
    assert!(
        tcp_echo(
            &house.container.namespace,
            SocketAddr::new(LAN_HOST.v4.into(), 80),
            LONG
        )?,
        "the policy of a netd before stands"
    );

    let removed = netd.apply(v1::NetworkSpec::default(), "")?;
    house.is_closed()?;
    assert!(!removed.changes.is_empty());
    let again = netd.apply(v1::NetworkSpec::default(), "")?;
    assert_eq!(again.changes, [], "nothing is left to do");
    netd.process.signal(nix::sys::signal::Signal::SIGKILL)?;
    netd.process.wait(PATIENCE)?;
    house.is_closed()?;
    netd.restart(&house.world.cell)?;
    house.is_closed()?;
    Ok(())
}

/// Connections of devices that outlive the specification have something to say, and the interface is down: by routes alone it
/// would leave by the uplink.
#[test]
fn the_addresses_that_devices_speak_to_answer_by_no_other_link() -> Result<()> {
    let house = House::new()?;
    let hidden: [IpAddr; 2] = ["169.254.67.1".parse()?, "fd43:454c:4c00::1".parse()?];
    for own in hidden {
        house.world.cell.add_address("lo", own.into())?;
    }
    let counters = hidden.map(|own| Counter::install(&house.world.internet, Spec::from(host(own), Any)));
    let counters = counters.into_iter().collect::<Result<Vec<_>>>()?;
    let speak = || -> Result<Vec<u64>> {
        for (own, far) in hidden.into_iter().zip(FAR_HOST.each()) {
            let socket = house
                .world
                .cell
                .inside(|| UdpSocket::bind(SocketAddr::new(own, 0)))??;
            // A refusal is told by an error.
            let _sent = socket.send_to(b"late", SocketAddr::new(far, 80));
        }
        counters.iter().map(Counter::packets).collect()
    };
    until(PATIENCE, "control: without netd it leaves", || {
        speak().ok()?.iter().all(|packets| *packets > 0).then_some(())
    })?;
    let _netd = Netd::start(&house.world.cell)?;
    std::thread::sleep(SECOND);
    let before = counters
        .iter()
        .map(Counter::packets)
        .collect::<Result<Vec<_>>>()?;
    for _ in 0..5 {
        speak()?;
    }
    std::thread::sleep(SECOND);
    assert_eq!(speak()?, before);
    Ok(())
}

/// With nftables the table has an owner while netd lives; it is flushed while netd is dead, or rules of iptables, and closed by
/// the next.
#[test]
fn what_somebody_took_away_is_closed_by_the_next_netd() -> Result<()> {
    let house = House::new()?;
    let mut netd = Netd::start(&house.world.cell)?;
    house.is_closed()?;
    netd.process.signal(nix::sys::signal::Signal::SIGKILL)?;
    netd.process.wait(PATIENCE)?;
    house.world.cell.run("nft", &["flush", "ruleset"])?;
    if support::is_legacy() {
        for table in ["mangle", "raw", "filter"] {
            house.world.cell.run("iptables-legacy", &["-t", table, "-F"])?;
        }
    }
    let opened = until(PATIENCE, "the house is reached", || {
        (house.speaks().ok()? == (true, ALL, ALL)).then_some(())
    });
    opened?;
    netd.restart(&house.world.cell)?;
    house.is_closed()?;
    Ok(())
}
