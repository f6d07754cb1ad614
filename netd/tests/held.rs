//! Who starts netd holds the socket that owns the policy: while netd is dead, nobody with root takes it away, by a flush as
//! Debian's nftables.service does it or by name. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use cell_lab::netns::Namespace;
use cell_lab::probe::{EchoServer, udp_echo};
use cell_lab::process::until;
use cell_lab::stock::Client;
use cell_lab::topology::{CELL, Device, FAR_HOST, World};
use nix::sys::signal::Signal;
use support::{Keys, Netd, PATIENCE, PORT, access, client_file, peer, spec};

const ECHO: u16 = 80;
const SECOND: Duration = Duration::from_secs(1);

fn nft(cell: &Namespace, arguments: &str) -> Result<String> {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    cell.run("nft", &arguments)
}

/// How much of three datagrams of either family comes back.
fn answered(device: &Device) -> Result<u32> {
    let mut all = 0;
    for far in FAR_HOST.each() {
        all += udp_echo(&device.namespace, SocketAddr::new(far, ECHO), 3, SECOND)?;
    }
    Ok(all)
}

#[test]
fn nobody_takes_the_policy_away_while_netd_is_dead() -> Result<()> {
    let mut world = World::new()?;
    world.cell.forward()?;
    EchoServer::start(&world.internet, ECHO)?;
    let (allowed, denied) = (world.device("a")?, world.device("b")?);
    let mut netd = Netd::start_held(&world.cell)?;
    let keys = [Keys::make()?, Keys::make()?];
    let with_internet = peer(1, "a", &keys[0].public_bytes, access(true, false, &[]));
    let without = peer(2, "b", &keys[1].public_bytes, access(false, false, &[]));
    netd.apply(spec([with_internet.clone(), without.clone()].into()), "")?;
    let endpoint = SocketAddr::new(IpAddr::V4(CELL.v4), PORT).to_string();
    let client = |index: u8, device| {
        let file = client_file(index, &keys[usize::from(index) - 1], &netd.keys, &endpoint);
        let client = Client::up(device, &file)?;
        client.wait_for_handshake()?;
        anyhow::Ok(client)
    };
    let _clients = [client(1, &allowed.namespace)?, client(2, &denied.namespace)?];
    assert_eq!((answered(&allowed)?, answered(&denied)?), (6, 0));

    netd.process.signal(Signal::SIGKILL)?;
    netd.process.wait(PATIENCE)?;
    nft(&world.cell, "flush ruleset")?;
    let refused = nft(&world.cell, "delete table inet cell")
        .unwrap_err()
        .to_string();
    assert!(refused.contains("Operation not permitted"), "{refused}");
    assert_eq!((answered(&allowed)?, answered(&denied)?), (6, 0), "netd is dead");

    // The next one goes on with the same socket, and nothing that was answered to the last confuses it.
    netd.restart(&world.cell)?;
    assert_eq!(
        (answered(&allowed)?, answered(&denied)?),
        (6, 0),
        "it knows nothing yet"
    );
    netd.apply(spec(vec![with_internet, without.clone()]), "")?;
    netd.delta(vec![], &["b"])?;
    netd.delta(vec![without], &[])?;
    assert_eq!((answered(&allowed)?, answered(&denied)?), (6, 0), "as before");

    // Control: once nobody holds it, a dead netd's table is anybody's.
    netd.process.signal(Signal::SIGKILL)?;
    netd.process.wait(PATIENCE)?;
    netd.let_go();
    until(PATIENCE, "the table to be nobody's", || {
        nft(&world.cell, "delete table inet cell").ok()
    })?;
    assert!(nft(&world.cell, "list table inet cell").is_err());
    Ok(())
}
