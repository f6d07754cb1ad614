//! Exits of the type tor, end to end: stock WireGuard clients, netd, cell-egress, Debian's Tor by the torrc that is shipped, and a
//! private Tor network. Needs root and the package `tor`.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/relay.rs"]
mod relay;
#[allow(dead_code, reason = "egress's own tests use all of it")]
#[path = "../../egress/tests/support/servers.rs"]
mod servers;
#[path = "../../egress/tests/support/sshd.rs"]
mod sshd;
mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cell_lab::netns::Namespace;
use cell_lab::probe::{tcp_echo, udp_echo};
use cell_lab::process::until;
use cell_lab::stock::Client;
use cell_lab::topology::{CELL, FAR_HOST};
use cell_lab::tor_network::TorNetwork;
use cell_proto::egress::v1 as egress;
use cell_proto::egress::v1::exit::Kind;
use nix::sys::signal::Signal;
use nix::unistd::User;
use relay::{SECOND, Talk, id, setup};
use support::{Keys, PATIENCE, PORT, access, client_file, peer};

/// Until the relays have a consensus and the client its circuits.
const BOOTSTRAP: Duration = Duration::from_secs(90);

/// An answer of the control socket (control-spec), its lines.
fn ask(control: &Path, question: &str) -> Result<Vec<String>> {
    let mut stream = UnixStream::connect(control)?;
    stream.set_read_timeout(Some(SECOND))?;
    write!(stream, "AUTHENTICATE\r\nGETINFO {question}\r\nQUIT\r\n")?;
    Ok(BufReader::new(stream).lines().map_while(Result::ok).collect())
}

/// The circuits that streams to the far host are on now.
fn circuits(control: &Path) -> BTreeSet<String> {
    let far = format!("{}:80", FAR_HOST.v4);
    let circuit = |line: &String| {
        let line = line.trim_start_matches("250-stream-status=").to_owned();
        let words: Vec<&str> = line.split(' ').collect();
        let is_ours = words.get(1) == Some(&"SUCCEEDED") && words.get(3) == Some(&far.as_str());
        is_ours.then(|| words[2].to_owned())
    };
    ask(control, "stream-status")
        .unwrap()
        .iter()
        .filter_map(circuit)
        .collect()
}

fn through(from: &Namespace, to: IpAddr) -> std::io::Result<(Talk, String)> {
    let mut talk = Talk::open(from, SocketAddr::new(to, 80))?;
    let seen = talk.seen()?;
    Ok((talk, seen))
}

/// Connections of one peer until one opens no circuit: were they kept apart, each would. Tor takes another circuit now and then,
/// where the first is slow.
fn on_one_circuit(
    from: &Namespace,
    far: IpAddr,
    exit: &str,
    control: &Path,
) -> Result<(Vec<Talk>, BTreeSet<String>)> {
    let mut kept = Vec::new();
    let own = until(
        PATIENCE,
        "control: connections of one peer on one circuit",
        || {
            let before = circuits(control);
            let (talk, seen) = through(from, far).ok()?;
            kept.push(talk);
            (seen == exit && circuits(control) == before).then_some(before)
        },
    )?;
    Ok((kept, own))
}

#[test]
fn tor_carries_each_peer_on_circuits_of_its_own_or_nothing_at_all() -> Result<()> {
    let mut setup = setup()?;
    let (other, leaver) = (setup.world.device("b")?, setup.world.device("leaver")?);
    let network = TorNetwork::start(&setup.proxies, &leaver)?;
    let user = User::from_name("cell-tor")?.context("no user cell-tor: make users")?;
    let (mut tor, control) = network.client(&setup.world.cell, user.uid.as_raw())?;

    let keys = Keys::make()?;
    let mut second = peer(2, "b", &keys.public_bytes, access(true, false, &[]));
    second.exit = id(0);
    let mut spec = setup.spec(&id(0));
    spec.peers.push(second);
    setup.netd.apply(spec, "")?;
    let mut kinds = setup.kinds();
    kinds[0] = Kind::Tor(egress::TorExit {
        server: Some("127.0.0.1:9150".parse::<SocketAddr>()?.into()),
    });
    setup.egress.apply(kinds)?;
    let _first = setup.client()?;
    let endpoint = SocketAddr::new(CELL.v4.into(), PORT).to_string();
    let client = Client::up(
        &other.namespace,
        &client_file(2, &keys, &setup.netd.keys, &endpoint),
    )?;
    client.wait_for_handshake()?;

    let exit = leaver.address.v4.to_string();
    let (from, far) = (&setup.device.namespace, FAR_HOST.v4.into());
    let (_one, seen) =
        until(BOOTSTRAP, "a way through Tor", || through(from, far).ok()).with_context(|| tor.output())?;
    assert_eq!(seen, exit, "the far host sees the exit relay");
    let own = circuits(&control);
    assert_eq!(own.len(), 1, "{own:?}");
    let (_kept, own) = on_one_circuit(from, far, &exit, &control)?;
    let (_three, seen) = until(PATIENCE, "a way for the other", || {
        through(&other.namespace, far).ok()
    })?;
    assert_eq!(seen, exit);
    assert_eq!(
        circuits(&control).difference(&own).count(),
        1,
        "another peer, another circuit"
    );

    let refused = setup.dropped("exit_refused");
    assert_eq!(udp_echo(from, SocketAddr::new(far, 53), 2, SECOND)?, 0);
    assert!(setup.dropped("exit_refused") > refused);
    assert_eq!(setup.direct(), 0, "nothing left by itself");

    tor.signal(Signal::SIGKILL)?;
    tor.wait(PATIENCE)?;
    assert!(through(from, far).is_err(), "without Tor there is no way");
    assert!(!tcp_echo(from, SocketAddr::new(far, 80), SECOND)?);
    assert_eq!(setup.direct(), 0, "and no other one");
    // What the cell says when the peer may go out directly then.
    setup.bind("")?;
    assert_eq!(through(from, far)?.1, CELL.v4.to_string());
    assert!(setup.direct() > 0, "control: what goes directly is counted");
    Ok(())
}
