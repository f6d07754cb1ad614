//! What comes to the sockets of cell-wg and does not belong there. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs::File;
use std::os::fd::AsRawFd;

use anyhow::Result;
use cell_lab::process::until;
use cell_proto::fault::{reason, violations};
use support::{Daemon, Descriptors, Keys, SECOND, hand_over, network, peer};

fn open_descriptors(daemon: &Daemon) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{}/fd", daemon.process.id()))?.count())
}

/// The daemon closes what it was sent a moment after it has answered.
fn settles_at(daemon: &Daemon, open: usize) -> Result<()> {
    until(SECOND, &format!("{open} open descriptors"), || {
        open_descriptors(daemon).ok().filter(|now| *now == open)
    })
    .map(drop)
}

#[test]
fn garbage_on_the_device_socket_is_refused_and_changes_nothing() -> Result<()> {
    let (server_ns, _client) = network()?;
    let daemon = Daemon::start("root")?;
    Descriptors::make(&server_ns, "wg0")?.give(&daemon)?;
    daemon.set(&Keys::new(7).private, vec![peer(&[3; 32], &["10.8.0.3/32"])])?;
    let before = daemon.get()?;
    let open = open_descriptors(&daemon)?;

    let other = support::network()?;
    let spare = Descriptors::make(&other.0, "wg1")?;
    let [tun, v4, v6] = spare.raw();
    let null = File::open("/dev/null")?;
    let null = null.as_raw_fd();
    let good = b"\x01wg1";
    let cases: [(&str, &[u8], &[i32]); 14] = [
        ("version", b"", &[tun, v4, v6]),
        ("version", b"\x00wg1", &[tun, v4, v6]),
        ("version", b"\x02wg1", &[tun, v4, v6]),
        ("name", b"\x01", &[tun, v4, v6]),
        ("name", b"\x01../x", &[tun, v4, v6]),
        ("name", b"\x01\xff\xfe", &[tun, v4, v6]),
        ("too long", &[1; 17], &[tun, v4, v6]),
        ("too long", &[1; 60_000], &[tun, v4, v6]),
        ("carries 4", good, &[tun, v4, v6, v4]),
        ("too long", good, &[null; 64]),
        ("carries 0", good, &[]),
        ("carries 2", good, &[tun, v4]),
        ("descriptor 0", good, &[null, v4, v6]),
        ("descriptor 1", good, &[tun, v6, v4]),
    ];
    for (expected, payload, descriptors) in cases {
        let (code, text) = hand_over(&daemon.device_socket(), payload, descriptors)?;
        assert!(code == 1 && text.contains(expected), "{expected}: {code} {text}");
    }
    assert_eq!(daemon.get()?, before, "the device goes on");
    settles_at(&daemon, open)?;

    // A good one of that name replaces the device, and the former TUN goes with its last descriptor.
    let third = support::network()?;
    Descriptors::make(&third.0, "wg0")?.give(&daemon)?;
    let now = daemon.get()?;
    assert_eq!(
        (now.interface.as_str(), now.public_key.len(), now.peers.len()),
        ("wg0", 0, 0)
    );
    assert!(server_ns.ip("link show wg0").is_err(), "wg0 is still held");
    // A device with a key holds each UDP socket two times more: to make, and in use.
    settles_at(&daemon, open - 4)?;
    // One of another name is another device.
    spare.give(&daemon)?;
    assert_eq!(daemon.get_of("wg1")?.interface, "wg1");
    assert_eq!(daemon.get()?, now);
    assert!(third.0.ip("link show wg0").is_ok());
    settles_at(&daemon, open - 1)
}

#[test]
fn another_user_is_refused_on_both_sockets() -> Result<()> {
    let (server_ns, _client) = network()?;
    // The caller is root, and root is not the user that the policy names.
    let mut daemon = Daemon::start("daemon")?;
    let spare = Descriptors::make(&server_ns, "wg0")?;
    match hand_over(&daemon.device_socket(), &spare.payload(), &spare.raw()) {
        Ok((code, text)) => assert_eq!((code, text.as_str()), (1, "user 0 may not use this socket")),
        // The message was not even read when the connection was closed.
        Err(error) => assert_eq!(error.downcast_ref(), Some(&nix::Error::ECONNRESET)),
    }
    daemon.process.wait_for(SECOND, "refusal in the log", |log| {
        log.find("CALLER_UNKNOWN_USER")
    })?;
    assert!(!daemon.process.output().contains("taken over"));
    let refusal = daemon.get().unwrap_err();
    assert_eq!(refusal.code(), tonic::Code::PermissionDenied);
    assert_eq!(reason(&refusal).as_deref(), Some("CALLER_UNKNOWN_USER"));
    Ok(())
}

#[test]
fn bad_requests_name_every_fault_and_change_nothing() -> Result<()> {
    let (server_ns, _client) = network()?;
    let daemon = Daemon::start("root")?;
    let keys = Keys::new(7);
    assert_eq!(
        reason(&daemon.set(&keys.private, vec![]).unwrap_err()).as_deref(),
        Some("NO_DEVICE")
    );
    Descriptors::make(&server_ns, "wg0")?.give(&daemon)?;
    let unset = daemon.update(vec![peer(&[3; 32], &[])], &[]).unwrap_err();
    assert_eq!(reason(&unset).as_deref(), Some("NO_KEY"));
    daemon.set(&keys.private, vec![peer(&[3; 32], &["10.8.0.3/32"])])?;
    let before = daemon.get()?;

    let bad = vec![
        peer(&[4; 32], &["10.8.0.4/32"]),
        peer(&[0; 32], &[]),
        peer(&[5; 32], &["10.8.0.4/32"]),
    ];
    for refusal in [
        daemon.set(&[0; 32], bad.clone()).unwrap_err(),
        daemon.update(bad, &[[3; 32]]).unwrap_err(),
    ] {
        assert_eq!(refusal.code(), tonic::Code::InvalidArgument);
        assert_eq!(reason(&refusal).as_deref(), Some("INVALID_REQUEST"));
        assert!(violations(&refusal).len() >= 2, "{:?}", violations(&refusal));
    }
    assert_eq!(daemon.get()?, before);
    Ok(())
}
