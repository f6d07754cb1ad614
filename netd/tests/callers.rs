//! What the machine itself sends to containers: by the users of the policy file alone, and by the containers' bridge or not at all.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/exits.rs"]
mod cell;
#[path = "support/containers.rs"]
mod containers;
mod support;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use cell::{Setup, setup};
use cell_lab::counter::{Counter, Protocol, Spec, host};
use cell_lab::netns::Namespace;
use cell_lab::probe::{EchoServer, tcp_echo, udp_echo};
use cell_lab::process::until;
use cell_proto::netd::v1;
use containers::{Container, bridge, network};
use support::PATIENCE;

/// `services.callers` of the tests' policy file, and the relay's user.
const LISTED: &str = "games";
const RELAY: &str = "daemon";
const OTHERS: [&str; 3] = ["root", "news", "bin"];

/// Whether a program of this user is echoed, by bash's own sockets.
fn is_echoed(from: &Namespace, user: &str, protocol: &str, to: &str) -> bool {
    let at = to.replace(':', "/");
    // One character: bash reads no more of a datagram.
    let script =
        format!("exec 3<>/dev/{protocol}/{at} && echo q >&3 && read -t 1 -n 1 -u 3 it && [ $it = q ]");
    let words = [
        "--reuid",
        user,
        "--regid",
        "nogroup",
        "--clear-groups",
        "timeout",
        "3",
        "bash",
        "-c",
        &script,
    ];
    from.run("setpriv", &words).is_ok()
}

fn house() -> Result<(Setup, Container)> {
    let setup = setup()?;
    bridge(&setup.world.cell, "cellsvc1", 1)?;
    let container = Container::new(&setup.world.cell, "cellsvc1", 1, 2)?;
    EchoServer::start(&container.namespace, 80)?;
    EchoServer::start(&container.namespace, 53)?;
    Ok((setup, container))
}

/// The container is the relay's resolver.
fn spec(setup: &Setup) -> v1::NetworkSpec {
    let mut spec = setup.spec("");
    spec.service_networks = vec![network(1, false, "")];
    spec.dns_upstreams = vec!["172.30.1.2:53".parse::<SocketAddr>().unwrap().into()];
    spec
}

#[test]
fn users_of_the_policy_file_speak_to_containers_and_nobody_else_on_the_machine() -> Result<()> {
    let (setup, container) = house()?;
    let cell = &setup.world.cell;
    let at = "172.30.1.2:80";
    // Before the first specification containers do not even answer.
    for protocol in ["tcp", "udp"] {
        for user in OTHERS.into_iter().chain([LISTED]) {
            assert!(!is_echoed(cell, user, protocol, at), "{user}");
        }
    }
    setup.netd.apply(spec(&setup), "")?;
    for protocol in ["tcp", "udp"] {
        assert!(is_echoed(cell, LISTED, protocol, at), "control: {protocol}");
        let before = setup.netd.dropped("caller_denied")?;
        for user in OTHERS {
            assert!(!is_echoed(cell, user, protocol, at), "{user}");
        }
        // The third is the user of tunnels, whose packets are counted as such.
        let counted = || (setup.netd.dropped("caller_denied").ok()? >= before + 2).then_some(());
        until(PATIENCE, "they are counted", counted)?;
    }
    // The relay speaks to its resolver there, and to nothing beside it.
    assert!(is_echoed(cell, RELAY, "udp", "172.30.1.2:53"));
    assert!(is_echoed(cell, RELAY, "tcp", "172.30.1.2:53"));
    assert!(!is_echoed(cell, RELAY, "tcp", "172.30.1.2:80"));
    // Whoever is refused need not wait.
    let asked = std::time::Instant::now();
    let at = SocketAddr::new(container.address.into(), 80);
    assert!(!tcp_echo(cell, at, Duration::from_secs(5)).unwrap_or(false));
    assert!(support::is_legacy() || asked.elapsed() < Duration::from_secs(2));
    // Elsewhere everybody speaks as before.
    assert!(is_echoed(cell, "news", "tcp", "192.168.77.50:80"), "control");
    Ok(())
}

#[test]
fn what_is_for_a_container_does_not_leave_while_its_bridge_is_away() -> Result<()> {
    let (setup, container) = house()?;
    let cell = &setup.world.cell;
    setup.netd.apply(spec(&setup), "")?;
    let at_isp = |address: &str| {
        Counter::install(
            &setup.world.internet,
            Spec::to(host(address.parse::<IpAddr>().unwrap()), Protocol::Any),
        )
    };
    let told = at_isp("172.30.1.2")?;
    let untold = at_isp("172.30.9.9")?;
    assert!(is_echoed(cell, RELAY, "udp", "172.30.1.2:53"), "control: with it");
    // Which network nobody told netd of is like any other host.
    assert_eq!(
        udp_echo(
            cell,
            SocketAddr::new("172.30.9.9".parse()?, 53),
            2,
            Duration::from_secs(1)
        )
        .unwrap_or(0),
        0
    );
    assert!(untold.packets()? >= 2, "control: by the default route");
    drop(container);
    cell.ip("link delete cellsvc1")?;
    let before = setup.netd.dropped("service_away")?;
    for user in [RELAY, LISTED, "root"] {
        for (protocol, port) in [("udp", 53), ("tcp", 53), ("tcp", 80)] {
            assert!(
                !is_echoed(cell, user, protocol, &format!("172.30.1.2:{port}")),
                "{user}"
            );
        }
    }
    let counted = || (setup.netd.dropped("service_away").ok()? >= before + 6).then_some(());
    until(PATIENCE, "they are counted", counted)?;
    assert_eq!(told.packets()?, 0, "seen at the provider");
    Ok(())
}
