//! What the machine itself sends to containers: by the users of the policy file alone, to the TCP ports that the specification names,
//! and by the containers' bridge or not at all.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/exits.rs"]
mod cell;
#[path = "support/containers.rs"]
mod containers;
mod support;

use std::fs::Permissions;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use cell::{Setup, setup};
use cell_lab::counter::{Counter, Protocol, Spec, host};
use cell_lab::netns::Namespace;
use cell_lab::probe::{EchoServer, tcp_echo, udp_echo};
use cell_lab::process::until;
use cell_proto::netd::v1;
use containers::{Container, bridge, called, network};
use support::PATIENCE;

/// `services.callers` of the tests' policy file: somebody, and the relay's user.
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
    for port in [80, 81, 53] {
        EchoServer::start(&container.namespace, port)?;
    }
    Ok((setup, container))
}

/// The container is the relay's resolver, and its port 80 may be called.
fn spec(setup: &Setup) -> v1::NetworkSpec {
    let mut spec = setup.spec("");
    spec.service_networks = vec![called(network(1, false, ""), &["172.30.1.2:80"])];
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
        for user in OTHERS.into_iter().chain([LISTED, RELAY]) {
            assert!(!is_echoed(cell, user, protocol, at), "{user}");
        }
    }
    setup.netd.apply(spec(&setup), "")?;
    for user in [LISTED, RELAY] {
        assert!(is_echoed(cell, user, "tcp", at), "control: {user}");
    }
    for protocol in ["tcp", "udp"] {
        let before = setup.netd.dropped("caller_denied")?;
        for user in OTHERS {
            assert!(!is_echoed(cell, user, protocol, at), "{user}");
        }
        // The third is the user of tunnels, whose packets are counted as such.
        let counted = || (setup.netd.dropped("caller_denied").ok()? >= before + 2).then_some(());
        until(PATIENCE, "they are counted", counted)?;
    }
    // The relay speaks to its resolver there, too.
    assert!(is_echoed(cell, RELAY, "udp", "172.30.1.2:53"));
    assert!(is_echoed(cell, RELAY, "tcp", "172.30.1.2:53"));
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
fn they_open_the_ports_that_are_named_and_no_others() -> Result<()> {
    let (setup, _container) = house()?;
    let cell = &setup.world.cell;
    let other = Container::new(cell, "cellsvc1", 1, 3)?;
    EchoServer::start(&other.namespace, 80)?;
    bridge(cell, "cellsvc2", 2)?;
    let elsewhere = Container::new(cell, "cellsvc2", 2, 2)?;
    EchoServer::start(&elsewhere.namespace, 80)?;
    let (one, all) = (spec(&setup), ["172.30.1.2:81", "172.30.1.3:80", "172.30.2.2:80"]);
    let mut more = one.clone();
    more.service_networks = vec![
        called(
            network(1, false, ""),
            &["172.30.1.2:80", "172.30.1.2:81", "172.30.1.3:80"],
        ),
        called(network(2, false, ""), &["172.30.2.2:80"]),
    ];
    setup.netd.apply(more, "")?;
    for (user, at) in [LISTED, RELAY]
        .into_iter()
        .flat_map(|user| all.map(|at| (user, at)))
    {
        assert!(is_echoed(cell, user, "tcp", at), "control: {user} {at}");
    }
    // They go with the specification, and with the network.
    setup.netd.apply(one, "")?;
    for user in [LISTED, RELAY] {
        assert!(is_echoed(cell, user, "tcp", "172.30.1.2:80"), "control: {user}");
        for at in all {
            let before = setup.netd.dropped("caller_denied")?;
            assert!(!is_echoed(cell, user, "tcp", at), "{user} {at}");
            let counted = || (setup.netd.dropped("caller_denied").ok()? > before).then_some(());
            until(PATIENCE, "it is counted", counted)?;
        }
        // A port is TCP's.
        assert!(!is_echoed(cell, user, "udp", "172.30.1.2:80"), "{user}");
    }
    Ok(())
}

/// Speaks, and again when a file is there: whether it is answered then.
fn goes_on(from: &Namespace, user: &str, at: &str, spoke: &Path, again: &Path) -> bool {
    let (at, spoke, again) = (at.replace(':', "/"), spoke.display(), again.display());
    let script = format!(
        "exec 3<>/dev/tcp/{at}; ask() {{ printf q >&3; read -t 5 -n 1 -u 3 it && [ $it = q ]; }}\n\
         ask || exit 1; touch {spoke}; while ! [ -e {again} ]; do sleep 0.05; done; ask"
    );
    let as_user = ["--reuid", user, "--regid", "nogroup", "--clear-groups"];
    let words = as_user
        .into_iter()
        .chain(["timeout", "60", "bash", "-c", &script]);
    from.run("setpriv", &words.collect::<Vec<_>>()).is_ok()
}

#[test]
fn an_open_flow_ends_with_the_right_to_its_port() -> Result<()> {
    let (setup, _container) = house()?;
    let cell = &setup.world.cell;
    setup.netd.apply(spec(&setup), "")?;
    let mut without = spec(&setup);
    without.service_networks[0].called.clear();
    for (then, survives) in [(spec(&setup), true), (without, false)] {
        for user in [LISTED, RELAY] {
            setup.netd.apply(spec(&setup), "")?;
            let folder = tempfile::tempdir()?;
            std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777))?;
            let (spoke, again) = (folder.path().join("spoke"), folder.path().join("again"));
            let went_on = thread::scope(|scope| -> Result<bool> {
                let flow = scope.spawn(|| goes_on(cell, user, "172.30.1.2:80", &spoke, &again));
                until(PATIENCE, "it is open", || spoke.exists().then_some(()))?;
                let applied = setup.netd.apply(then.clone(), "");
                std::fs::write(&again, "")?;
                applied?;
                Ok(flow.join().unwrap_or_default())
            })?;
            assert_eq!(went_on, survives, "{user}");
        }
    }
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
