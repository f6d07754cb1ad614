//! Exits of the relay, end to end: a stock WireGuard client, netd, cell-egress, real proxies and an SSH server. What they cannot
//! carry is refused, and nothing leaves the cell by itself. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/relay.rs"]
mod relay;
#[allow(dead_code, reason = "egress's own tests use all of it")]
#[path = "../../egress/tests/support/servers.rs"]
mod servers;
#[path = "../../egress/tests/support/sshd.rs"]
mod sshd;
mod support;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use cell_lab::probe::{ping, tcp_echo, udp_echo};
use cell_lab::process::until;
use cell_lab::topology::{CELL, CELL_ON_LAN, FAR_HOST};
use relay::{EXITS, RELAY, SECOND, Setup, Talk, id, setup};
use support::PATIENCE;

/// With the exits told to both daemons, the peer through one of them (none: the machine's own way).
fn begun(through: &str) -> Result<Setup> {
    let setup = setup()?;
    setup.netd.apply(setup.spec(through), "")?;
    setup.egress.apply(setup.kinds())?;
    Ok(setup)
}

fn each_is_seen_as(setup: &Setup, expected: [IpAddr; 2]) {
    for (far, expected) in FAR_HOST.each().into_iter().zip(expected) {
        let seen = until(PATIENCE, "an answer", || {
            setup.talk(far).and_then(|mut talk| talk.seen()).ok()
        });
        assert_eq!(seen.unwrap(), expected.to_string(), "{far}");
    }
}

#[test]
fn tcp_goes_through_each_kind_of_exit_and_everything_else_is_refused() -> Result<()> {
    let setup = begun("")?;
    let _client = setup.client()?;
    each_is_seen_as(&setup, CELL.each());
    let own_way = setup.direct();
    assert!(own_way > 0, "control: what goes directly is counted");
    for number in EXITS {
        setup.bind(&id(number))?;
        each_is_seen_as(&setup, setup.proxies.address.each());
    }
    let from = &setup.device.namespace;
    let refused = setup.dropped("exit_refused");
    for far in FAR_HOST.each() {
        let pings = ping(from, far, 2, Duration::from_millis(200), SECOND)?;
        assert_eq!((pings.sent, pings.received), (2, 0));
        assert_eq!(udp_echo(from, SocketAddr::new(far, 53), 2, SECOND)?, 0);
        is_told_at_once(&setup, SocketAddr::new(far, 53))?;
    }
    assert!(setup.dropped("exit_refused") >= refused + 10, "and counted");
    assert_eq!(setup.direct(), own_way, "nothing left by itself");
    setup.bind("")?;
    assert_eq!(
        udp_echo(from, SocketAddr::new(FAR_HOST.v4.into(), 53), 2, SECOND)?,
        2,
        "control: there is somebody who answers"
    );
    Ok(())
}

/// The peer hears that it is prohibited, and does not wait.
fn is_told_at_once(setup: &Setup, to: SocketAddr) -> Result<()> {
    let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse()?;
    let socket = setup.device.namespace.inside(|| UdpSocket::bind(any))??;
    socket.connect(to)?;
    socket.set_read_timeout(Some(2 * SECOND))?;
    socket.send(b"who")?;
    let told = socket.recv(&mut [0; 8]).unwrap_err();
    assert!(
        matches!(
            told.kind(),
            ErrorKind::HostUnreachable | ErrorKind::PermissionDenied
        ),
        "{told:?}"
    );
    Ok(())
}

#[test]
fn a_flow_ends_with_the_exit_that_it_was_opened_through() -> Result<()> {
    let setup = begun(&id(0))?;
    let _client = setup.client()?;
    let far = FAR_HOST.v4.into();
    let proxy = setup.proxies.address.v4.to_string();
    let mut first = setup.talk(far)?;
    assert_eq!(first.seen()?, proxy);
    let moved = setup.dropped("exit_moved");
    setup.bind(&id(1))?;
    assert!(first.seen().is_err(), "a flow of another exit");
    assert!(setup.dropped("exit_moved") > moved);
    assert_eq!(setup.talk(far)?.seen()?, proxy, "control: a new one");

    let mut second = setup.talk(far)?;
    assert_eq!(second.seen()?, proxy);
    setup.bind("")?;
    assert!(second.seen().is_err(), "a flow of no exit any more");
    let mut own = setup.talk(far)?;
    assert_eq!(own.seen()?, CELL.v4.to_string());
    let (direct, moved) = (setup.direct(), setup.dropped("exit_moved"));
    setup.bind(&id(0))?;
    assert!(own.seen().is_err(), "a flow of the machine's own way");
    assert_eq!(setup.direct(), direct);
    assert!(setup.dropped("exit_moved") > moved);
    Ok(())
}

/// The same port for another exit, told to netd before egress knows: the old flow is not carried by the wrong exit.
#[test]
fn a_port_that_another_exit_has_got_takes_no_flow_along() -> Result<()> {
    let setup = begun(&id(0))?;
    let _client = setup.client()?;
    let mut talk = setup.talk(FAR_HOST.v4.into())?;
    talk.seen()?;
    let mut spec = setup.spec(&id(0));
    spec.exits.truncate(1);
    spec.exits[0].mark = 0x1070;
    setup.netd.apply(spec, &setup.netd.status()?.etag)?;
    assert!(talk.seen().is_err());
    assert!(setup.talk(FAR_HOST.v4.into())?.seen().is_ok(), "control");
    Ok(())
}

#[test]
fn without_the_relay_connections_are_refused_and_nothing_leaks() -> Result<()> {
    let setup = begun(&id(0))?;
    let _client = setup.client()?;
    each_is_seen_as(&setup, setup.proxies.address.each());
    let mut open = setup.talk(FAR_HOST.v4.into())?;
    open.seen()?;
    setup.egress.kill()?;
    assert!(open.seen().is_err());
    for far in FAR_HOST.each() {
        let started = Instant::now();
        let refused = setup.talk(far).map(drop).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{far}");
        assert!(started.elapsed() < 4 * SECOND, "at once");
    }
    assert_eq!(setup.direct(), 0);
    setup.egress.restart(&setup.world.cell)?;
    setup.egress.apply(setup.kinds())?;
    each_is_seen_as(&setup, setup.proxies.address.each());
    assert_eq!(setup.direct(), 0);
    Ok(())
}

#[test]
fn nobody_else_reaches_the_relay() -> Result<()> {
    let setup = begun("")?;
    let _client = setup.client()?;
    for (from, to) in [
        (&setup.world.lan, CELL_ON_LAN.v4.into()),
        (&setup.world.internet, CELL.v4.into()),
        (&setup.device.namespace, "10.86.0.1".parse::<IpAddr>()?),
        (&setup.device.namespace, "169.254.67.1".parse()?),
        (&setup.world.cell, CELL.v4.into()),
    ] {
        let to = SocketAddr::new(to, 9100);
        assert!(!tcp_echo(from, to, SECOND)?, "{to}");
        assert!(Talk::open(from, to).is_err(), "{to}");
    }
    Ok(())
}

/// Arbitrary code as the relay's user, in the cell's own network.
struct TakenOver<'a>(&'a Setup);

impl TakenOver<'_> {
    /// By bash's /dev/tcp and /dev/udp, as the user.
    fn reaches(&self, user: u32, protocol: &str, to: SocketAddr) -> bool {
        let script = format!("exec 3<>/dev/{protocol}/{}/{} && echo x >&3", to.ip(), to.port());
        let user = user.to_string();
        let mut command = Command::new("timeout");
        command
            .args([
                "2",
                "setpriv",
                "--reuid",
                &user,
                "--regid",
                &user,
                "--clear-groups",
            ])
            .args(["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"])
            .args(["bash", "-c", &script]);
        let ended = self.0.world.cell.inside(|| command.output()).unwrap().unwrap();
        ended.status.success()
    }

    /// That nothing of it arrives, and that it is counted.
    fn is_held(&self, protocol: &str, to: SocketAddr) {
        let before = self.0.dropped("egress_stranger");
        let reached = self.reaches(RELAY, protocol, to);
        assert!(
            !reached || protocol == "udp",
            "{protocol} {to}: a datagram alone is sent without an answer"
        );
        assert!(
            self.0.dropped("egress_stranger") > before,
            "{protocol} {to} is not counted"
        );
    }
}

#[test]
fn a_taken_over_relay_reaches_servers_of_exits_alone() -> Result<()> {
    let setup = begun(&id(0))?;
    let attacker = TakenOver(&setup);
    let local = |port: u16| SocketAddr::new([127, 0, 0, 1].into(), port);
    let _listening = setup
        .world
        .cell
        .inside(|| [9150, 2375].map(|port| TcpListener::bind(local(port)).unwrap()))?;
    for number in EXITS {
        assert!(
            attacker.reaches(RELAY, "tcp", setup.server(number)),
            "control: {number}"
        );
    }
    assert!(attacker.reaches(RELAY, "tcp", local(9150)), "control");
    for far in FAR_HOST.each() {
        let to = SocketAddr::new(far, 80);
        assert!(attacker.reaches(0, "tcp", to), "control: others do");
        let direct = setup.direct();
        attacker.is_held("tcp", to);
        attacker.is_held("udp", SocketAddr::new(far, 53));
        assert_eq!(setup.direct(), direct);
    }
    assert!(
        attacker.reaches(0, "tcp", local(2375)),
        "control: somebody listens"
    );
    attacker.is_held("tcp", local(2375));
    attacker.is_held("udp", setup.server(0));
    attacker.is_held("tcp", SocketAddr::new(setup.proxies.address.v4.into(), 53));
    // A server that no exit has any more.
    let mut spec = setup.spec(&id(0));
    spec.exits.truncate(1);
    setup.netd.apply(spec, &setup.netd.status()?.etag)?;
    attacker.is_held("tcp", setup.server(1));
    assert!(attacker.reaches(RELAY, "tcp", setup.server(0)), "control");
    Ok(())
}

#[test]
fn a_taken_over_relay_asks_listed_resolvers_alone() -> Result<()> {
    let setup = begun("")?;
    let attacker = TakenOver(&setup);
    let at = |far, port| SocketAddr::new(far, port);
    let [v4, v6] = FAR_HOST.each();
    attacker.is_held("udp", at(v4, 53));
    attacker.is_held("tcp", at(v4, 53));
    let mut spec = setup.spec("");
    spec.dns_upstreams = vec![at(v4, 53).into()];
    setup.netd.apply(spec.clone(), &setup.netd.status()?.etag)?;
    let (held, direct) = (setup.dropped("egress_stranger"), setup.direct());
    assert!(attacker.reaches(RELAY, "udp", at(v4, 53)), "control");
    assert!(attacker.reaches(RELAY, "tcp", at(v4, 53)), "control");
    assert!(setup.direct() > direct, "control: it went out");
    assert_eq!(setup.dropped("egress_stranger"), held);
    let direct = setup.direct();
    for stranger in [at(v4, 54), at(v6, 53), at(CELL.v4.into(), 53)] {
        attacker.is_held("udp", stranger);
        attacker.is_held("tcp", stranger);
    }
    // On the machine itself only what netd's ceiling lists.
    attacker.is_held("udp", "127.0.0.53:53".parse()?);
    spec.dns_upstreams = vec!["127.0.0.54:53".parse::<SocketAddr>()?.into()];
    let refused = setup
        .netd
        .apply(spec.clone(), &setup.netd.status()?.etag)
        .unwrap_err();
    let told = cell_proto::fault::violations(&refused);
    assert_eq!(told[0].field, "spec.dns_upstreams[0]");
    // One that is listed no more.
    spec.dns_upstreams = vec![at(v6, 53).into(), "127.0.0.53:53".parse::<SocketAddr>()?.into()];
    setup.netd.apply(spec, &setup.netd.status()?.etag)?;
    attacker.is_held("udp", at(v4, 53));
    assert_eq!(setup.direct(), direct, "nothing went out");
    let held = setup.dropped("egress_stranger");
    assert!(attacker.reaches(RELAY, "udp", at(v6, 53)), "control");
    attacker.reaches(RELAY, "udp", "127.0.0.53:53".parse()?);
    assert_eq!(setup.dropped("egress_stranger"), held);
    Ok(())
}

#[test]
fn a_taken_over_relay_reaches_listed_servers_of_the_cell_itself_alone() -> Result<()> {
    let setup = begun("")?;
    let attacker = TakenOver(&setup);
    let at = |far, port| SocketAddr::new(far, port);
    let [v4, v6] = FAR_HOST.each();
    attacker.is_held("tcp", at(v4, 80));
    let mut spec = setup.spec("");
    spec.relay_servers = vec![at(v4, 80).into()];
    setup.netd.apply(spec.clone(), &setup.netd.status()?.etag)?;
    let held = setup.dropped("egress_stranger");
    assert!(attacker.reaches(RELAY, "tcp", at(v4, 80)), "control");
    assert_eq!(setup.dropped("egress_stranger"), held);
    let direct = setup.direct();
    for stranger in [at(v4, 81), at(v6, 80), at(CELL.v4.into(), 80)] {
        attacker.is_held("tcp", stranger);
    }
    assert_eq!(setup.direct(), direct, "nothing went out");
    // One that is inside, or on the machine itself, is no server of a catalog.
    for (inside, field) in [
        ("10.86.0.9:443", "spec.relay_servers[1]"),
        ("127.0.0.1:443", "spec.relay_servers[1]"),
    ] {
        let mut bad = spec.clone();
        bad.relay_servers.push(inside.parse::<SocketAddr>()?.into());
        let refused = setup.netd.apply(bad, &setup.netd.status()?.etag).unwrap_err();
        assert_eq!(
            cell_proto::fault::violations(&refused)[0].field,
            field,
            "{inside}"
        );
    }
    // One that is listed no more.
    spec.relay_servers.clear();
    setup.netd.apply(spec, &setup.netd.status()?.etag)?;
    attacker.is_held("tcp", at(v4, 80));
    Ok(())
}

/// As what the relay had still to say to a peer when the interface went away.
#[test]
fn the_addresses_that_peers_see_speak_to_peers_alone() -> Result<()> {
    let setup = begun(&id(0))?;
    let say = |from: IpAddr, to: IpAddr| {
        let socket = setup.world.cell.inside(|| UdpSocket::bind((from, 0)))??;
        // That it is refused is told at once.
        anyhow::Ok(socket.send_to(b"for a peer", (to, 7)).is_ok())
    };
    let arrived = |from: IpAddr, to: IpAddr| {
        let before = setup.direct();
        let sent = say(from, to)?;
        std::thread::sleep(Duration::from_millis(50));
        anyhow::Ok((sent, setup.direct() - before))
    };
    for (cell, far) in CELL.each().into_iter().zip(FAR_HOST.each()) {
        assert_eq!(arrived(cell, far)?, (true, 1), "control: from {cell}");
    }
    let [v4, v6] = FAR_HOST.each();
    for (own, far) in [
        ("169.254.67.1", v4),
        ("10.86.0.1", v4),
        ("fd43:454c:4c00::1", v6),
        ("fd86::1", v6),
    ] {
        let counted = setup.dropped("weak_host");
        assert_eq!(arrived(own.parse()?, far)?, (false, 0), "from {own}");
        assert_eq!(setup.dropped("weak_host"), counted + 1, "from {own}");
        assert!(
            say(own.parse()?, own.parse()?)?,
            "control: {own} to the machine itself"
        );
    }
    Ok(())
}
