//! An administrator locks their own device out by a change that waits, and everything that could undo it is killed: the
//! device is back by itself. A real cell, a stock client. Needs root and the built programs.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use cell_lab::cell::Cell;
use cell_lab::household::{PASSWORD, USER, claimed, join};
use cell_lab::process::until;
use cell_lab::topology::{Device, World};
use serde_json::{Value, json};

/// A client whose peer was gone notices by WireGuard's own timers (15 s without an answer, then a handshake).
const NEW_HANDSHAKE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// Whether the web UI answers the device through the VPN.
fn reaches(device: &Device) -> bool {
    let address = SocketAddr::new("10.67.0.1".parse().unwrap(), 443);
    let connects = move || std::net::TcpStream::connect_timeout(&address, SECOND).is_ok();
    device.namespace.inside(connects).unwrap()
}

/// As somebody who logs in anew: it was started anew.
fn asked(cell: &Cell, path: &str) -> Option<Value> {
    let mut rest = cell.rest();
    rest.login(USER, PASSWORD).ok()?;
    rest.get(path).ok()?.expect(200).ok()
}

/// Locks the device out by a change that waits for longer than the test takes: nothing but what is done to the cell then brings
/// it back.
fn lock_out(cell: &Cell, device: &Device) -> Result<()> {
    let mut rest = cell.rest();
    rest.login(USER, PASSWORD)?;
    rest.delete("/api/peers/phone?confirm_within=3600")?.expect(204)?;
    ensure!(!reaches(device), "it was not locked out");
    ensure!(asked(cell, "/api/network/pending").is_some_and(|change| change["waiting"]["peer"] == "phone"));
    Ok(())
}

fn comes_back(cell: &Cell, device: &Device) -> Result<()> {
    until(NEW_HANDSHAKE, "the device is back", || {
        reaches(device).then_some(())
    })?;
    until(NEW_HANDSHAKE, "the cell says so", || {
        let pending = asked(cell, "/api/network/pending")?;
        let peer = asked(cell, "/api/peers/phone")?;
        (pending["waiting"].is_null() && peer["name"] == "phone").then_some(())
    })?;
    // netd hears nothing else from an API that was started anew.
    for _ in 0..3 {
        ensure!(reaches(device), "it was lost again");
        std::thread::sleep(SECOND);
    }
    Ok(())
}

#[test]
fn whoever_is_killed_the_device_that_was_locked_out_is_back() -> Result<()> {
    let mut world = World::new()?;
    let device = world.device("phone")?;
    let mut cell = Cell::start(&world.cell)?;
    let mut rest = claimed(&cell)?;
    let _client = join(&mut rest, &device, json!({"name": "phone", "tunnel": "split"}))?;
    ensure!(reaches(&device), "the control");

    lock_out(&cell, &device)?;
    cell.crash_all()?;
    comes_back(&cell, &device)?;

    lock_out(&cell, &device)?;
    cell.crash_launcher()?;
    comes_back(&cell, &device)?;
    cell.stop()
}
