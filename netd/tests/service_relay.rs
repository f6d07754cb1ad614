//! Containers of a service whose exit the relay carries, end to end: netd, cell-egress, real proxies and an SSH server. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/containers.rs"]
mod containers;
#[path = "support/relay.rs"]
mod relay;
#[allow(dead_code, reason = "egress's own tests use all of it")]
#[path = "../../egress/tests/support/servers.rs"]
mod servers;
#[path = "../../egress/tests/support/sshd.rs"]
mod sshd;
mod support;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use cell_lab::probe::{ping, udp_echo};
use cell_lab::process::until;
use cell_lab::topology::{CELL, FAR_HOST};
use containers::{Container, bridge, network};
use relay::{EXITS, SECOND, Setup, Talk, id, setup};
use support::PATIENCE;

fn bind(setup: &Setup, exit: &str) -> Result<()> {
    let mut spec = setup.spec("");
    spec.service_networks = vec![network(1, true, exit)];
    Ok(setup.netd.apply(spec, "").map(drop)?)
}

fn far() -> SocketAddr {
    SocketAddr::new(FAR_HOST.v4.into(), 80)
}

fn is_seen_as(container: &Container, expected: IpAddr) {
    let seen = until(PATIENCE, "an answer", || {
        Talk::open(&container.namespace, far())
            .and_then(|mut talk| talk.seen())
            .ok()
    });
    assert_eq!(seen.unwrap(), expected.to_string());
}

#[test]
fn a_container_goes_through_each_kind_of_exit_and_by_no_other_way() -> Result<()> {
    let setup = setup()?;
    bridge(&setup.world.cell, "cellsvc1", 1)?;
    let container = Container::new(&setup.world.cell, "cellsvc1", 1, 2)?;
    bind(&setup, "")?;
    setup.egress.apply(setup.kinds())?;
    is_seen_as(&container, CELL.v4.into());
    let own_way = setup.direct();
    assert!(own_way > 0, "control: what goes directly is counted");
    for number in EXITS {
        bind(&setup, &id(number))?;
        is_seen_as(&container, setup.proxies.address.v4.into());
    }
    // What the relay cannot carry is refused.
    let from = &container.namespace;
    let refused = setup.dropped("exit_refused");
    let pings = ping(from, far().ip(), 2, Duration::from_millis(200), SECOND)?;
    assert_eq!((pings.sent, pings.received), (2, 0));
    // Not port 53: that is the relay's, where there is one for DNS.
    assert_eq!(udp_echo(from, far(), 2, SECOND)?, 0);
    assert!(setup.dropped("exit_refused") >= refused + 3, "and counted");

    let mut talk = Talk::open(from, far())?;
    talk.seen()?;
    bind(&setup, &id(0))?;
    assert!(talk.seen().is_err(), "a flow ends with its exit");
    setup.egress.kill()?;
    assert!(Talk::open(from, far()).and_then(|mut talk| talk.seen()).is_err());
    assert_eq!(setup.direct(), own_way, "nothing left by itself");
    setup.egress.restart(&setup.world.cell)?;
    setup.egress.apply(setup.kinds())?;
    is_seen_as(&container, setup.proxies.address.v4.into());
    assert_eq!(setup.direct(), own_way);
    Ok(())
}
