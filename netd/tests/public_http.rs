//! What the internet reaches of the machine, by packets from the provider's side: nothing, and where the ceiling and the specification have
//! it TCP 80, led to one container.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/exits.rs"]
mod cell;
#[path = "support/containers.rs"]
mod containers;
mod support;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use cell::{SECOND, Setup, setup};
use cell_lab::counter::{Counter, Protocol, Spec, host};
use cell_lab::probe::{EchoServer, Flow, tcp_echo, udp_echo};
use cell_lab::topology::{CELL, FAR_HOST, LAN_HOST};
use cell_proto::netd::v1;
use containers::{Container, bridge, network};

const LONG: Duration = Duration::from_secs(5);
/// The port that the policy file of the tests lets it lead to.
const TO: &str = "172.30.1.2:8480";

struct House {
    setup: Setup,
    proxy: Container,
    other: Container,
    /// What comes to the proxy's container.
    arrived: Counter,
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn of_cell(port: u16) -> SocketAddr {
    (CELL.v4, port).into()
}

impl House {
    /// The proxy answers at every port that is asked for, so that what does not come there is not for want of a listener. The internet
    /// is asked from far away: its answers are what an exit would carry.
    fn new() -> Result<Self> {
        let setup = setup()?;
        let cell = &setup.world.cell;
        let one = |index: u8| {
            let name = format!("cellsvc{index}");
            bridge(cell, &name, index)?;
            Container::new(cell, &name, index, 2)
        };
        let (proxy, other) = (one(1)?, one(2)?);
        for container in [&proxy, &other] {
            for port in [80, 81, 443, 8443, 8480] {
                EchoServer::start(&container.namespace, port)?;
            }
        }
        let internet = &setup.world.internet;
        let (cell, far, lan) = (CELL.v4, FAR_HOST.v4, LAN_HOST.v4);
        internet.ip(&format!("route add {cell}/32 dev br0 src {far}"))?;
        internet.ip(&format!("route add {lan}/32 via {cell} src {far}"))?;
        internet.ip(&format!("route add 172.30.0.0/16 via {cell} src {far}"))?;
        let arrived = Counter::install(&proxy.namespace, Spec::to(host(proxy.address), Protocol::Any))?;
        Ok(House {
            setup,
            proxy,
            other,
            arrived,
        })
    }

    fn spec(&self, exit: &str, to: Option<&str>) -> v1::NetworkSpec {
        let mut spec = self.setup.spec("");
        spec.service_networks = vec![network(1, true, exit), network(2, false, "")];
        spec.public_http = to.map(|to| at(to).into());
        spec
    }

    fn apply(&self, exit: &str, to: Option<&str>) -> Result<()> {
        Ok(self.setup.netd.apply(self.spec(exit, to), "").map(drop)?)
    }

    fn asks(&self, to: SocketAddr, patience: Duration) -> Result<bool> {
        tcp_echo(&self.setup.world.internet, to, patience)
    }

    fn dropped(&self, reason: &str) -> u64 {
        self.setup.netd.dropped(reason).unwrap()
    }
}

#[test]
fn tcp_80_is_led_in_and_nothing_beside_it() -> Result<()> {
    let house = House::new()?;
    let _client = {
        house.apply("", None)?;
        house.setup.client(&house.setup.device)?
    };
    for port in [80, 443, 8480] {
        assert!(!house.asks(of_cell(port), SECOND)?, "closed: {port}");
    }
    assert_eq!(house.arrived.packets()?, 0);

    house.apply("", Some(TO))?;
    assert!(house.asks(of_cell(80), LONG)?);
    assert!(house.arrived.packets()? > 0);
    let before = house.arrived.packets()?;
    for port in [81, 443, 8443, 8480] {
        assert!(!house.asks(of_cell(port), SECOND)?, "{port}");
    }
    let internet = &house.setup.world.internet;
    assert_eq!(udp_echo(internet, of_cell(80), 2, SECOND)?, 0, "UDP");
    assert!(!house.asks((CELL.v6, 80).into(), SECOND)?, "IPv6");
    // Who knows the container's address comes no further than before: nobody translated that.
    let dropped = house.dropped("to_service_default");
    for to in [TO, "172.30.1.2:80", "172.30.2.2:8480"] {
        assert!(!house.asks(at(to), SECOND)?, "{to}");
    }
    assert!(house.dropped("to_service_default") > dropped);
    // By interfaces of the cell's own nothing comes there: neither a device, nor another service, nor the far end of an exit.
    let device = &house.setup.device.namespace;
    for to in ["10.86.0.1:80", TO] {
        assert!(!tcp_echo(device, at(to), SECOND)?, "{to}");
        assert!(!tcp_echo(&house.other.namespace, at(to), SECOND)?, "{to}");
    }
    let strangers = house.dropped("exit_stranger");
    let by_exit = &house.setup.exits[0].0;
    assert!(!tcp_echo(by_exit, (cell::near(0)[0], 80).into(), SECOND)?);
    assert!(house.dropped("exit_stranger") > strangers);
    assert_eq!(house.arrived.packets()?, before, "none of it arrived");
    // What the machine carries to others is theirs, and the device has what it had.
    assert!(house.asks((LAN_HOST.v4, 80).into(), LONG)?);
    assert!(tcp_echo(device, (FAR_HOST.v4, 80).into(), LONG)?);
    assert!(tcp_echo(device, (LAN_HOST.v4, 80).into(), LONG)?);
    assert_eq!(house.arrived.packets()?, before);
    assert!(house.asks(of_cell(80), LONG)?, "and still");
    Ok(())
}

#[test]
fn answers_go_back_by_the_way_that_the_question_came_whatever_exit_the_container_has() -> Result<()> {
    let house = House::new()?;
    house.apply("exit0", Some(TO))?;
    let exit = &house.setup.exits[0].1;
    let before = (exit.packets()[0], house.setup.own_way.packets()[0]);
    assert!(house.asks(of_cell(80), LONG)?);
    assert_eq!(exit.packets()[0], before.0);
    assert!(house.setup.own_way.packets()[0] > before.1);
    // What the container asks for itself takes the exit.
    assert!(tcp_echo(&house.proxy.namespace, (FAR_HOST.v4, 80).into(), LONG)?);
    assert!(exit.packets()[0] > before.0, "control");
    Ok(())
}

#[test]
fn it_closes_at_once_and_what_was_open_ends() -> Result<()> {
    let house = House::new()?;
    for exit in ["", "exit0"] {
        house.apply(exit, Some(TO))?;
        let mut flow = Flow::open(&house.setup.world.internet, of_cell(80), LONG)?;
        flow.echo(LONG)?;
        house.apply(exit, None)?;
        let before = house.dropped("to_service_default");
        assert!(flow.echo(SECOND).is_err());
        assert!(house.dropped("to_service_default") > before);
        assert!(!house.asks(of_cell(80), SECOND)?);
        house.apply(exit, Some(TO))?;
        assert!(house.asks(of_cell(80), LONG)?, "and is given back");
    }
    Ok(())
}
