//! cell-wg on one side, a stock client on the other. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use cell_lab::probe::{Pings, ping};
use cell_lab::process::{resident_bytes, until};
use cell_lab::stock::Client;
use nix::sys::signal::Signal;
use support::{Daemon, Descriptors, Keys, SECOND, base64, device_file, network, peer};

const ADDRESSES: [&str; 2] = ["10.8.0.2/32", "fd08::2/128"];
const PATIENT: Duration = Duration::from_millis(200);

/// All `count` pings in both families are answered.
fn all_answered(namespace: &cell_lab::netns::Namespace, count: u32) -> Result<()> {
    for target in ["10.8.0.1", "fd08::1"] {
        let pings = ping(namespace, target.parse()?, count, PATIENT, SECOND)?;
        ensure!(
            pings
                == Pings {
                    sent: count,
                    received: count
                },
            "{target}: {pings:?}"
        );
    }
    Ok(())
}

#[test]
fn a_stock_client_comes_in_over_both_families_and_is_seen() -> Result<()> {
    let (server_ns, client_ns) = network()?;
    let (server, device) = (Keys::new(7), Keys::new(9));
    let mut daemon = Daemon::start("root")?;
    Descriptors::make(&server_ns, "wg0")?.give(&daemon)?;
    daemon.set(&server.private, vec![peer(&device.public, &ADDRESSES)])?;
    for endpoint in ["192.0.2.1", "[2001:db8::1]"] {
        let before = SystemTime::now() - SECOND;
        let client = Client::up(&client_ns, &device_file(&device, &server, endpoint))?;
        client.wait_for_handshake()?;
        all_answered(&client_ns, 5)?;
        let seen = daemon.get()?;
        assert_eq!(
            (seen.interface.as_str(), seen.listen_port, seen.peers.len()),
            ("wg0", 51820, 1)
        );
        assert_eq!(seen.public_key, server.public);
        let state = &seen.peers[0];
        let from = std::net::SocketAddr::try_from(state.endpoint.as_ref().unwrap()).unwrap();
        assert_eq!(
            from.ip().to_string(),
            endpoint
                .trim_matches(['[', ']'])
                .replace(".1", ".2")
                .replace("::1", "::2")
        );
        let handshake =
            SystemTime::UNIX_EPOCH + Duration::from_millis(state.latest_handshake_unix_ms.try_into()?);
        assert!(
            handshake > before && handshake <= SystemTime::now(),
            "{handshake:?}"
        );
        // Ten pings of 84 and 104 bytes each way at the least.
        assert!(state.received_bytes > 900 && state.sent_bytes > 900, "{state:?}");
    }
    assert!(daemon.get_only(vec![1; 32])?.peers.is_empty());
    let log = daemon.process.output();
    assert!(
        !log.contains(&base64(&server.private)) && !log.contains(&"07".repeat(32)),
        "{log}"
    );
    assert!(daemon.process.terminate(5 * SECOND)?.success());
    Ok(())
}

#[test]
fn a_machine_with_several_addresses_answers_from_the_one_that_was_asked() -> Result<()> {
    let (server_ns, client_ns) = network()?;
    let (server, device) = (Keys::new(7), Keys::new(9));
    let daemon = Daemon::start("root")?;
    Descriptors::make(&server_ns, "wg0")?.give(&daemon)?;
    daemon.set(&server.private, vec![peer(&device.public, &ADDRESSES)])?;
    for (second, net) in [
        ("192.0.2.11", "192.0.2.11/24"),
        ("[2001:db8::11]", "2001:db8::11/64"),
    ] {
        server_ns.add_address("eth0", net.parse()?)?;
        let client = Client::up(&client_ns, &device_file(&device, &server, second))?;
        client.wait_for_handshake()?;
        all_answered(&client_ns, 3)?;
        let endpoint = client.peers()?[0].endpoint.unwrap().to_string();
        assert_eq!(
            endpoint,
            format!("{second}:51820"),
            "the client was answered from elsewhere"
        );
        // The address goes; the next packet finds its way by routing.
        server_ns.ip(&format!("address delete {net} dev eth0"))?;
        let old = ping(&client_ns, "10.8.0.1".parse()?, 1, PATIENT, PATIENT)?;
        assert_eq!(old.received, 0, "the old address is gone");
        client.configure(&device_file(&device, &server, "192.0.2.1"))?;
        client.wait_for_handshake()?;
        all_answered(&client_ns, 2)?;
    }
    Ok(())
}

#[test]
fn a_hundred_changes_cost_no_packet() -> Result<()> {
    let (server_ns, client_ns) = network()?;
    let (server, device) = (Keys::new(7), Keys::new(9));
    let daemon = Daemon::start("root")?;
    Descriptors::make(&server_ns, "wg0")?.give(&daemon)?;
    daemon.set(&server.private, vec![peer(&device.public, &ADDRESSES)])?;
    let client = Client::up(&client_ns, &device_file(&device, &server, "192.0.2.1"))?;
    client.wait_for_handshake()?;
    let handshake = daemon.get()?.peers[0].latest_handshake_unix_ms;
    let pings = std::thread::scope(|scope| {
        let pinging = scope.spawn(|| {
            ping(
                &client_ns,
                "10.8.0.1".parse()?,
                400,
                Duration::from_millis(20),
                SECOND,
            )
        });
        for round in 0..25_u8 {
            let other = peer(&[100 + round; 32], &[&format!("10.8.1.{round}/32")]);
            let wider = peer(
                &device.public,
                &[ADDRESSES[0], ADDRESSES[1], &format!("10.9.{round}.0/24")],
            );
            let all = vec![peer(&device.public, &ADDRESSES), other.clone()];
            daemon.update(vec![other], &[])?;
            daemon.update(vec![wider], &[])?;
            daemon.set(&server.private, all)?;
            daemon.update(vec![], &[[100 + round; 32]])?;
            std::thread::sleep(Duration::from_millis(200));
        }
        anyhow::Ok(pinging.join().unwrap()?)
    })?;
    assert_eq!(
        pings,
        Pings {
            sent: 400,
            received: 400
        }
    );
    let seen = daemon.get()?;
    assert_eq!(seen.peers.len(), 1);
    let later = seen.peers[0].latest_handshake_unix_ms;
    assert!(
        later.abs_diff(handshake) < 1000,
        "the session was begun anew: {handshake} {later}"
    );
    Ok(())
}

#[test]
fn a_removed_peer_and_a_former_key_carry_nothing() -> Result<()> {
    let (server_ns, client_ns) = network()?;
    let (server, device, later) = (Keys::new(7), Keys::new(9), Keys::new(11));
    let daemon = Daemon::start("root")?;
    Descriptors::make(&server_ns, "wg0")?.give(&daemon)?;
    let peers = || vec![peer(&device.public, &ADDRESSES)];
    daemon.set(&server.private, peers())?;
    let client = Client::up(&client_ns, &device_file(&device, &server, "192.0.2.1"))?;
    client.wait_for_handshake()?;
    all_answered(&client_ns, 2)?;

    let silent = || -> Result<()> {
        let arrived = cell_lab::counter::Counter::install(
            &server_ns,
            cell_lab::counter::Spec::to(
                cell_lab::counter::host([10, 8, 0, 1]),
                cell_lab::counter::Protocol::Ping,
            ),
        )?;
        let pings = ping(&client_ns, "10.8.0.1".parse()?, 5, PATIENT, PATIENT)?;
        assert_eq!((pings, arrived.packets()?), (Pings { sent: 5, received: 0 }, 0));
        Ok(())
    };
    daemon.update(vec![], &[device.public])?;
    silent()?;
    // A narrowed peer: its address is no longer its own.
    daemon.set(&server.private, vec![peer(&device.public, &["10.8.0.77/32"])])?;
    client.configure(&device_file(&device, &server, "192.0.2.1"))?;
    client.wait_for_handshake()?;
    silent()?;
    daemon.update(peers(), &[])?;
    all_answered(&client_ns, 2)?;

    daemon.set(&later.private, peers())?;
    silent()?;
    client.configure(&device_file(&device, &later, "192.0.2.1"))?;
    client.wait_for_handshake()?;
    all_answered(&client_ns, 2)?;
    assert_eq!(daemon.get()?.public_key, later.public);
    Ok(())
}

#[test]
fn a_thousand_peers_come_quickly_and_one_more_costs_one() -> Result<()> {
    let (server_ns, _client) = network()?;
    let server = Keys::new(7);
    let daemon = Daemon::start("root")?;
    Descriptors::make(&server_ns, "wg0")?.give(&daemon)?;
    let many: Vec<_> = (0..1000_u32)
        .map(|i| {
            let mut key = [0x40; 32];
            key[..4].copy_from_slice(&i.to_be_bytes());
            peer(&key, &[&format!("10.64.{}.{}/32", i / 250, i % 250 + 1)])
        })
        .collect();
    let start = Instant::now();
    daemon.set(&server.private, many.clone())?;
    let all = start.elapsed();
    let start = Instant::now();
    daemon.update(vec![peer(&[0x41; 32], &["10.65.0.1/32"])], &[])?;
    let one = start.elapsed();
    let start = Instant::now();
    daemon.set(&server.private, many)?;
    let same = start.elapsed();
    println!("1,000 peers {all:?}, one more {one:?}, the same 1,000 again (1 to remove) {same:?}");
    assert_eq!(daemon.get()?.peers.len(), 1000);
    assert!(
        all < 10 * SECOND && one < SECOND / 4 && same < SECOND,
        "{all:?} {one:?} {same:?}"
    );
    daemon.set(&server.private, vec![])?;
    assert!(daemon.get()?.peers.is_empty());
    Ok(())
}

#[test]
fn a_deleted_tun_takes_its_device_alone() -> Result<()> {
    let (server_ns, client_ns) = network()?;
    let (server, other, device) = (Keys::new(7), Keys::new(8), Keys::new(9));
    let mut daemon = Daemon::start("root")?;
    Descriptors::make(&server_ns, "wg0")?.give(&daemon)?;
    daemon.set(&server.private, vec![peer(&device.public, &ADDRESSES)])?;
    let client = Client::up(&client_ns, &device_file(&device, &server, "192.0.2.1"))?;
    client.wait_for_handshake()?;
    for with_key in [false, true] {
        Descriptors::make_at(&server_ns, "wg1", 51821, ["10.9.0.1/24", "fd09::1/64"])?.give(&daemon)?;
        if with_key {
            daemon.set_of("wg1", &other.private, vec![peer(&[3; 32], &["10.9.0.2/32"])])?;
            let (first, second) = (daemon.get()?, daemon.get_of("wg1")?);
            assert_eq!(
                (&first.public_key[..], &second.public_key[..]),
                (&server.public[..], &other.public[..])
            );
            assert_eq!((first.listen_port, second.listen_port), (51820, 51821));
            assert_eq!((first.peers.len(), second.peers.len()), (1, 1));
        }
        server_ns.ip("link delete wg1")?;
        until(5 * SECOND, "the device is gone", || {
            let gone = daemon.get_of("wg1").unwrap_err();
            (cell_proto::fault::reason(&gone).as_deref() == Some("NO_DEVICE")).then_some(())
        })?;
        all_answered(&client_ns, 3)?;
    }
    assert!(
        daemon.process.output().contains("the TUN interface is gone"),
        "{}",
        daemon.process.output()
    );
    // The last one, too: the process stays for the next hand-over.
    server_ns.ip("link delete wg0")?;
    until(5 * SECOND, "the device is gone", || daemon.get().err())?;
    Descriptors::make(&server_ns, "wg0")?.give(&daemon)?;
    daemon.set(&server.private, vec![peer(&device.public, &ADDRESSES)])?;
    client.configure(&device_file(&device, &server, "192.0.2.1"))?;
    client.wait_for_handshake()?;
    all_answered(&client_ns, 3)?;
    assert!(daemon.process.terminate(5 * SECOND)?.success());
    Ok(())
}

#[test]
fn a_preshared_key_is_needed_on_both_sides_and_never_told() -> Result<()> {
    let (server_ns, client_ns) = network()?;
    let (server, device) = (Keys::new(7), Keys::new(9));
    let daemon = Daemon::start("root")?;
    Descriptors::make(&server_ns, "wg0")?.give(&daemon)?;
    let preshared = |byte: u8| {
        let mut peer = peer(&device.public, &ADDRESSES);
        peer.preshared_key = vec![byte; 32];
        vec![peer]
    };
    let file = device_file(&device, &server, "192.0.2.1").replace(
        "AllowedIPs",
        &format!("PresharedKey = {}\nAllowedIPs", base64(&[0x51; 32])),
    );
    daemon.set(&server.private, preshared(0x51))?;
    let client = Client::up(&client_ns, &file)?;
    client.wait_for_handshake()?;
    all_answered(&client_ns, 2)?;
    let state = &daemon.get()?.peers[0];
    assert!(state.has_preshared_key);
    // An update that does not speak of it leaves it, and the session.
    daemon.update(
        vec![peer(
            &device.public,
            &["10.8.0.2/32", "fd08::2/128", "10.9.0.0/24"],
        )],
        &[],
    )?;
    all_answered(&client_ns, 2)?;
    assert!(daemon.get()?.peers[0].has_preshared_key);

    daemon.set(&server.private, preshared(0x52))?;
    let pings = ping(&client_ns, "10.8.0.1".parse()?, 5, PATIENT, PATIENT)?;
    assert_eq!(pings.received, 0, "another key, another session");
    daemon.set(&server.private, preshared(0x51))?;
    client.configure(&file)?;
    client.wait_for_handshake()?;
    all_answered(&client_ns, 2)?;
    daemon.set(&server.private, vec![peer(&device.public, &ADDRESSES)])?;
    assert!(!daemon.get()?.peers[0].has_preshared_key);
    let log = daemon.process.output();
    assert!(
        !log.contains(&base64(&[0x51; 32])) && !log.contains("81, 81"),
        "{log}"
    );
    Ok(())
}

/// As many as netd may ask for: the cell's own and those of 256 exits.
#[test]
fn devices_up_to_the_limit_and_no_more() -> Result<()> {
    let (server_ns, _client) = network()?;
    let daemon = Daemon::start("root")?;
    let make = |number: u16| {
        let name = format!("wgext_{number}");
        let address = format!("10.9.{}.{}/32", number >> 8, number & 255);
        let six = format!("fd09::{number:x}/128");
        Descriptors::make_at(&server_ns, &name, 20_000 + number, [&address, &six])
    };
    for number in 0..257 {
        make(number)?.give(&daemon)?;
        daemon.set_of(
            &format!("wgext_{number}"),
            &Keys::new(7).private,
            vec![peer(&[3; 32], &["0.0.0.0/0"])],
        )?;
    }
    let refused = make(300)?.give(&daemon).unwrap_err();
    assert!(refused.to_string().contains("257 devices already"), "{refused}");
    assert_eq!(daemon.get_of("wgext_256")?.peers.len(), 1, "the others go on");
    // The one of a name that is there is replaced, not added.
    server_ns.ip("link delete wgext_7")?;
    until(5 * SECOND, "the device is gone", || {
        daemon.get_of("wgext_7").err()
    })?;
    make(7)?.give(&daemon)?;
    let resident = resident_bytes(daemon.process.id())?;
    println!("257 devices: {resident} bytes");
    Ok(())
}

#[test]
fn sigint_ends_it_cleanly_too() -> Result<()> {
    let mut daemon = Daemon::start("root")?;
    assert_eq!(
        cell_proto::fault::reason(&daemon.get().unwrap_err()).as_deref(),
        Some("NO_DEVICE")
    );
    daemon.process.signal(Signal::SIGINT)?;
    assert!(daemon.process.wait(5 * SECOND)?.success());
    Ok(())
}
