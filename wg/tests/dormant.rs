//! Peers that never spoke: cell-wg does without them until they do. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cell_lab::netns::Namespace;
use cell_lab::probe::{Pings, ping};
use cell_lab::process::{resident_bytes, until};
use cell_lab::stock::Client;
use cell_proto::wg::v1;
use gotatun::noise::Tunn;
use gotatun::noise::index_table::IndexTable;
use gotatun::noise::rate_limiter::RateLimiter;
use support::{Daemon, Descriptors, Keys, PORT, SECOND, device_file, network, peer};
use x25519_dalek::{PublicKey, StaticSecret};

const ADDRESSES: [&str; 2] = ["10.8.0.2/32", "fd08::2/128"];
const MANY: u32 = 4000;
/// The library has some 30 kB for each that it knows.
const MOST_BYTES_EACH: u64 = 8_000;
/// An initiation that is lost is sent again after 5 s (WireGuard, section 6.4).
const AT_ONCE: Duration = Duration::from_secs(3);

/// Others who never speak.
fn silent() -> impl Iterator<Item = v1::Peer> {
    (1..=MANY).map(|number| {
        let mut key = [0xee; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        let [_, a, b, c] = number.to_be_bytes();
        peer(&key, &[&format!("10.{}.{b}.{c}/32", 100 + a)])
    })
}

fn comes_in_at_once(client: &Client<'_>, namespace: &Namespace) -> Result<()> {
    let began = Instant::now();
    client.wait_for_handshake()?;
    ensure!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    for target in ["10.8.0.1", "fd08::1"] {
        let pings = ping(namespace, target.parse()?, 3, Duration::from_millis(200), SECOND)?;
        ensure!(pings == Pings { sent: 3, received: 3 }, "{target}: {pings:?}");
    }
    Ok(())
}

#[test]
fn who_never_spoke_costs_next_to_nothing_and_comes_in_at_once() -> Result<()> {
    let (server_ns, client_ns) = network()?;
    let (server, device) = (Keys::new(7), Keys::new(9));
    let daemon = Daemon::start("root")?;
    Descriptors::make(&server_ns, "wg0")?.give(&daemon)?;
    let all = || silent().chain([peer(&device.public, &ADDRESSES)]).collect();
    daemon.set(&server.private, vec![])?;
    let before = resident_bytes(daemon.process.id())?;
    daemon.set(&server.private, all())?;
    let each = (resident_bytes(daemon.process.id())?.saturating_sub(before)) / u64::from(MANY);
    assert!(each < MOST_BYTES_EACH, "{each} bytes");

    let client = Client::up(&client_ns, &device_file(&device, &server, "192.0.2.1"))?;
    comes_in_at_once(&client, &client_ns)?;
    let seen = daemon.get()?.peers;
    assert_eq!(seen.len(), MANY as usize + 1);
    let spoke: Vec<_> = seen
        .iter()
        .filter(|peer| peer.latest_handshake_unix_ms > 0 || peer.endpoint.is_some())
        .collect();
    assert_eq!(spoke.len(), 1);
    assert_eq!(spoke[0].public_key, device.public);
    let one = silent().next().unwrap();
    let told = daemon.get_only(one.public_key.clone())?.peers;
    assert_eq!(
        (told.len(), &told[0].allowed_ips),
        (1, &one.allowed_ips),
        "as it was set"
    );
    // The same again is no change for whoever speaks.
    daemon.set(&server.private, all())?;
    ping(&client_ns, "10.8.0.1".parse()?, 1, SECOND, SECOND)?;
    assert!(daemon.get_only(device.public.to_vec())?.peers[0].received_bytes >= spoke[0].received_bytes);
    Ok(())
}

/// Whoever was not heard of is changed and removed as anybody else.
#[test]
fn changes_of_who_never_spoke_hold_once_it_speaks() -> Result<()> {
    let (server_ns, client_ns) = network()?;
    let (server, device) = (Keys::new(7), Keys::new(9));
    let daemon = Daemon::start("root")?;
    Descriptors::make(&server_ns, "wg0")?.give(&daemon)?;
    let file = device_file(&device, &server, "192.0.2.1");
    daemon.set(&server.private, vec![peer(&device.public, &["10.8.0.77/32"])])?;
    daemon.update(
        vec![peer(&[1; 32], &["10.8.0.3/32"]), peer(&device.public, &ADDRESSES)],
        &[],
    )?;
    let client = Client::up(&client_ns, &file)?;
    comes_in_at_once(&client, &client_ns)?;
    drop(client);

    // Removed before it is heard of again: it does not come in, and the device has none of the two.
    daemon.set(&server.private, vec![])?;
    daemon.set(
        &server.private,
        vec![peer(&[1; 32], &["10.8.0.3/32"]), peer(&device.public, &ADDRESSES)],
    )?;
    daemon.update(vec![], &[device.public])?;
    let client = Client::up(&client_ns, &file)?;
    assert!(ping(&client_ns, "10.8.0.1".parse()?, 3, SECOND, SECOND)?.received == 0);
    assert_eq!(daemon.get()?.peers.len(), 1);
    daemon.update(vec![peer(&device.public, &ADDRESSES)], &[])?;
    until(10 * SECOND, "the client tries again, and comes in", || {
        let pings = ping(&client_ns, "10.8.0.1".parse().ok()?, 1, SECOND, SECOND).ok()?;
        (pings.received == 1).then_some(())
    })?;
    drop(client);
    Ok(())
}

/// Initiations of that many strangers who know the device's key.
fn strangers(server: &Keys, number: u8) -> Result<Vec<Vec<u8>>> {
    let device = PublicKey::from(server.public);
    (0..number)
        .map(|number| {
            let private = StaticSecret::from([100 + number; 32]);
            let limiter = RateLimiter::new(&PublicKey::from(&private), 10).into();
            let mut tunnel = Tunn::new(private, device, None, None, IndexTable::from_os_rng(), limiter);
            let initiation = tunnel
                .format_handshake_initiation(false)
                .context("an initiation")?;
            Ok(initiation.into_bytes().to_vec())
        })
        .collect()
}

/// Asking who calls costs a key agreement each, before the device's own limit: with too many at once it is not asked any more.
#[test]
fn with_too_many_callers_nobody_is_left_out() -> Result<()> {
    let (server_ns, client_ns) = network()?;
    let (server, device) = (Keys::new(7), Keys::new(9));
    let daemon = Daemon::start("root")?;
    Descriptors::make(&server_ns, "wg0")?.give(&daemon)?;
    let all = silent().take(300).chain([peer(&device.public, &ADDRESSES)]);
    daemon.set(&server.private, all.collect())?;
    let socket = client_ns.inside(|| UdpSocket::bind("0.0.0.0:0"))??;
    let to = ("192.0.2.1", PORT);
    let said = "no peer is left out";
    // Neither what is no initiation nor what was not made for this device counts, at the same rate.
    let calls = strangers(&server, 150)?;
    for some in calls.chunks(16) {
        for call in some {
            let mut other = call.clone();
            other[130] ^= 1;
            socket.send_to(&other, to)?;
            socket.send_to(&call[..147], to)?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let client = Client::up(&client_ns, &device_file(&device, &server, "192.0.2.1"))?;
    comes_in_at_once(&client, &client_ns)?;
    drop(client);
    assert!(
        !daemon.process.output().contains(said),
        "{}",
        daemon.process.output()
    );

    let before = resident_bytes(daemon.process.id())?;
    for some in calls.chunks(16) {
        for call in some {
            socket.send_to(call, to)?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    until(5 * SECOND, "all are woken", || {
        daemon.process.output().contains(said).then_some(())
    })?;
    let grown = resident_bytes(daemon.process.id())?.saturating_sub(before);
    assert!(
        grown > 300 * MOST_BYTES_EACH,
        "the device has them: {grown} bytes"
    );
    // Strangers' own limit is over.
    std::thread::sleep(2 * SECOND);
    let client = Client::up(&client_ns, &device_file(&device, &server, "192.0.2.1"))?;
    comes_in_at_once(&client, &client_ns)?;
    assert_eq!(daemon.get()?.peers.len(), 301);
    Ok(())
}
