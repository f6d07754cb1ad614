//! Two devices that send all the time: one that may, as the control, and one that may not. What the second one sends is
//! counted where it must not arrive.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use cell_lab::counter::{Counter, Protocol, Spec, host};
use cell_lab::probe::{EchoServer, udp_echo};
use cell_lab::prober::{self, Prober};
use cell_lab::process::until;
use cell_lab::report::Report;
use cell_lab::rest::Rest;
use cell_lab::stock::Client;
use cell_lab::topology::{Device, FAR_HOST, World};
use serde_json::json;

const ALLOWED_PORT: u16 = 7001;
const DENIED_PORT: u16 = 7002;
const CONNECTED: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(10);

/// The two devices.
pub struct Devices {
    allowed: Device,
    denied: Device,
}

/// The senders and the counters.
pub struct Traffic<'a> {
    device: &'a Device,
    allowed: Vec<Prober>,
    denied: Vec<Prober>,
    /// Of the denied device's packets at the far end: must stay 0.
    leaks: Vec<Counter>,
    _clients: [Client<'a>; 2],
}

/// What came of it.
pub struct Passed {
    allowed: Vec<prober::Report>,
    denied: Vec<prober::Report>,
    leaked: u64,
}

impl Devices {
    /// Puts two devices on the internet.
    pub fn new(world: &mut World) -> Result<Self> {
        Ok(Devices {
            allowed: world.device("allowed")?,
            denied: world.device("denied")?,
        })
    }

    /// Makes them peers of the cell, connects them and starts sending, IPv4 and IPv6.
    pub fn start<'a>(&'a self, world: &World, rest: &mut Rest) -> Result<Traffic<'a>> {
        for port in [ALLOWED_PORT, DENIED_PORT] {
            EchoServer::start(&world.internet, port)?;
        }
        let leak = |far| {
            Counter::install(
                &world.internet,
                Spec::to(host(far), Protocol::Udp(Some(DENIED_PORT))),
            )
        };
        let leaks = FAR_HOST.each().into_iter().map(leak).collect::<Result<_>>()?;
        let clients = [
            connect(&self.allowed, rest, "allowed", true)?,
            connect(&self.denied, rest, "denied", false)?,
        ];
        Ok(Traffic {
            device: &self.allowed,
            allowed: probers(&self.allowed, ALLOWED_PORT)?,
            denied: probers(&self.denied, DENIED_PORT)?,
            leaks,
            _clients: clients,
        })
    }
}

/// A peer with a full tunnel, so that everything the device sends arrives at the cell, allowed or not.
fn connect<'a>(device: &'a Device, rest: &mut Rest, name: &str, internet: bool) -> Result<Client<'a>> {
    let peer =
        json!({"name": name, "server_makes_key": true, "tunnel": "full", "access": {"internet": internet}});
    let (_, config) = rest.add_peer(&peer)?;
    let client = Client::up(&device.namespace, &config)?;
    client.wait_for_handshake()?;
    Ok(client)
}

fn probers(device: &Device, port: u16) -> Result<Vec<Prober>> {
    let start = |far| Prober::start(&device.namespace, SocketAddr::new(far, port), INTERVAL);
    FAR_HOST.each().into_iter().map(start).collect()
}

impl Traffic<'_> {
    /// Waits until the allowed device has a session again. A WireGuard client that gets no answer begins a new handshake
    /// after 15 s (KEEPALIVE_TIMEOUT + REKEY_TIMEOUT of the protocol).
    pub fn wait_until_connected(&self) -> Result<()> {
        let far = SocketAddr::new(FAR_HOST.v4.into(), ALLOWED_PORT);
        until(CONNECTED, "the allowed device to be connected again", || {
            let answered = udp_echo(&self.device.namespace, far, 1, Duration::from_secs(1)).ok()?;
            (answered > 0).then_some(())
        })
    }

    /// Stops sending.
    pub fn stop(self) -> Result<Passed> {
        let stop = |probers: Vec<Prober>| probers.into_iter().map(Prober::stop).collect::<Result<Vec<_>>>();
        let (allowed, denied) = (stop(self.allowed)?, stop(self.denied)?);
        let leaked = self.leaks.iter().map(Counter::packets).sum::<Result<u64>>()?;
        Ok(Passed {
            allowed,
            denied,
            leaked,
        })
    }
}

impl Passed {
    /// Adds the rows.
    pub fn report(&self, report: &mut Report) {
        let sent = |reports: &[prober::Report]| reports.iter().map(|r| r.sent.len()).sum::<usize>();
        let answered = |reports: &[prober::Report]| reports.iter().map(|r| r.answered.len()).sum::<usize>();
        let (control, probes) = (answered(&self.allowed), sent(&self.denied));
        // While the control is not answered there is no session, and what is denied proves nothing.
        let share = 100 * control / sent(&self.allowed).max(1);
        report.add(
            "control: allowed device's packets answered",
            share,
            "%",
            ">= 30",
            share >= 30,
        );
        report.add(
            "denied device's packets sent",
            probes,
            "packets",
            ">= 1000",
            probes >= 1000,
        );
        report.add(
            "denied packets that arrived at the far end",
            self.leaked,
            "packets",
            "0",
            self.leaked == 0,
        );
        let back = answered(&self.denied);
        report.add(
            "denied packets that were answered",
            back,
            "packets",
            "0",
            back == 0,
        );
    }
}
