//! Somebody deletes the cell's tunnel at any moment, also while a change is put in force: devices are carried again.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use cell_lab::probe::{EchoServer, tcp_echo};
use cell_lab::process::until;
use cell_lab::random::Random;
use cell_lab::stock::Client;
use cell_lab::topology::{CELL, World};
use cell_proto::netd::v1;
use support::{Keys, Netd, PATIENCE, PORT, access, client_file, peer, spec};

const ROUNDS: u32 = 25;
const SECOND: Duration = Duration::from_secs(1);

/// The device, and so many others: so many steps has a change.
fn with(keys: &Keys, others: u8) -> v1::NetworkSpec {
    let mut peers = vec![peer(1, "phone", &keys.public_bytes, access(false, false, &[]))];
    for index in 0..others {
        let (name, key) = (format!("other{index}"), [index + 1; 32]);
        peers.push(peer(index + 10, &name, &key, access(true, true, &[])));
    }
    spec(peers)
}

#[test]
fn a_deleted_tunnel_comes_back_whatever_netd_does_meanwhile() -> Result<()> {
    let rounds = std::env::var("CELL_TEST_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap());
    let mut world = World::new()?;
    world.cell.forward()?;
    let (device, keys) = (world.device("a")?, Keys::make()?);
    EchoServer::start(&world.cell, 3443)?;
    let netd = Netd::start(&world.cell)?;
    netd.apply(with(&keys, 0), "")?;
    let endpoint = SocketAddr::new(IpAddr::V4(CELL.v4), PORT).to_string();
    let file = client_file(1, &keys, &netd.keys, &endpoint);
    let client = Client::up(&device.namespace, &file)?;
    client.wait_for_handshake()?;
    let reachable = || {
        let api = SocketAddr::new("10.86.0.1".parse().unwrap(), 443);
        tcp_echo(&device.namespace, api, SECOND).unwrap()
    };
    until(PATIENCE, "the control", || reachable().then_some(()))?;
    let mut random = Random::new(7);
    let (mut slowest, mut refused) = (Duration::ZERO, 0);
    for round in 0..rounds {
        let wait = Duration::from_millis(random.below(60));
        let deleted = std::thread::scope(|scope| {
            let cell = &world.cell;
            let by_hand = scope.spawn(move || {
                std::thread::sleep(wait);
                cell.ip("link delete wg0")
            });
            // It may be refused for what was deleted meanwhile, and is asked for again.
            let changed = netd.apply(with(&keys, u8::try_from(round % 30).unwrap() + 1), "");
            refused += u32::from(changed.is_err());
            by_hand.join().unwrap()
        });
        let _was_there = deleted;
        let start = Instant::now();
        until(PATIENCE, "the device is carried again", || {
            client.configure(&file).ok()?;
            client.wait_for_handshake().ok()?;
            reachable().then_some(())
        })
        .with_context(|| format!("round {round}, after {wait:?}: {}", shown(&world, &netd)))?;
        slowest = slowest.max(start.elapsed());
    }
    println!("{rounds} rounds, {refused} changes refused, the slowest took {slowest:?}");
    Ok(())
}

/// For whoever looks into a failure.
fn shown(world: &World, netd: &Netd) -> String {
    let shown = [
        ("ip", &["-s", "address", "show", "dev", "wg0"][..]),
        ("ss", &["-uanpem"]),
        ("ip", &["rule"]),
    ];
    let shown = shown.map(|(program, arguments)| world.cell.run(program, arguments).unwrap_or_default());
    format!(
        "{}\n{:#?}\n{}",
        shown.join("\n"),
        netd.peers(),
        netd.process.output()
    )
}
