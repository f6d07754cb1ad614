//! Three devices that send all the time: one that may, as the control, one that may nothing, and one whose access is switched.
//! What is denied is counted where it must not arrive: at the far host, at a service on the LAN, at another device.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use cell_lab::counter::{Counter, Protocol, Spec, host};
use cell_lab::netns::Namespace;
use cell_lab::probe::{Arrivals, EchoServer, udp_echo};
use cell_lab::prober::{self, Prober};
use cell_lab::process::until;
use cell_lab::report::Report;
use cell_lab::rest::Rest;
use cell_lab::stock::Client;
use cell_lab::topology::{Device, FAR_HOST, LAN_HOST, World};
use serde_json::{Value, json};

use crate::switched::{self, History, Reach};

const ALLOWED_PORT: u16 = 7001;
/// Of the three targets of the denied device, in the order of [`Reach::ALL`].
const DENIED_PORTS: [u16; 3] = [7002, 7012, 7022];
/// Of the three targets of the switched device.
const SWITCHED_PORTS: [u16; 3] = [7003, 7013, 7023];
const CONNECTED: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(20);

/// The port of the service that the switched device may reach at times.
pub const SERVICE_PORT: u16 = SWITCHED_PORTS[1];

/// The devices.
pub struct Devices {
    allowed: Device,
    denied: Device,
    switched: Device,
}

/// The senders and the counters.
pub struct Traffic<'a> {
    device: &'a Device,
    allowed: Vec<Prober>,
    denied: Vec<Prober>,
    switched: Vec<Prober>,
    /// Of the denied device's packets at each target: must stay 0.
    leaks: Vec<Counter>,
    /// Of the switched device's packets, in the order of [`Reach::ALL`].
    arrivals: Vec<Arrivals>,
    /// The switched device's addresses in the VPN.
    pub addresses: [IpAddr; 2],
    _clients: [Client<'a>; 3],
}

/// What came of it.
pub struct Passed {
    allowed: Vec<prober::Report>,
    denied: Vec<prober::Report>,
    switched: Vec<prober::Report>,
    leaked: u64,
    arrivals: Vec<Arrivals>,
}

impl Devices {
    /// Puts the devices on the internet.
    pub fn new(world: &mut World) -> Result<Self> {
        Ok(Devices {
            allowed: world.device("allowed")?,
            denied: world.device("denied")?,
            switched: world.device("switched")?,
        })
    }

    /// Makes them peers of the cell, connects them and starts sending, IPv4 and IPv6.
    pub fn start<'a>(&'a self, world: &World, rest: &mut Rest) -> Result<Traffic<'a>> {
        let reaching = json!({"internet": true, "peer_to_peer": true});
        let clients = [
            connect(&self.allowed, rest, "allowed", &reaching)?,
            connect(&self.denied, rest, "denied", &json!({}))?,
            connect(&self.switched, rest, switched::NAME, &json!({}))?,
        ];
        let other = both(&clients[0])?;
        let places = [&world.internet, &world.lan, &self.allowed.namespace];
        let hosts = [FAR_HOST.each(), LAN_HOST.each(), other];
        EchoServer::start(&world.internet, ALLOWED_PORT)?;
        let (mut arrivals, mut leaks) = (Vec::new(), Vec::new());
        for (at, place) in places.into_iter().enumerate() {
            // Somebody answers there: what is let through becomes a flow in both directions.
            EchoServer::start(place, DENIED_PORTS[at])?;
            arrivals.push(EchoServer::recording(place, SWITCHED_PORTS[at])?.1);
            for to in hosts[at] {
                let spec = Spec::to(host(to), Protocol::Udp(Some(DENIED_PORTS[at])));
                leaks.push(Counter::install(place, spec)?);
            }
        }
        Ok(Traffic {
            device: &self.allowed,
            allowed: probers(&self.allowed.namespace, FAR_HOST.each(), ALLOWED_PORT)?,
            denied: each(&self.denied, hosts, DENIED_PORTS)?,
            switched: each(&self.switched, hosts, SWITCHED_PORTS)?,
            leaks,
            arrivals,
            addresses: both(&clients[2])?,
            _clients: clients,
        })
    }
}

/// A peer with a full tunnel, so that everything the device sends arrives at the cell, allowed or not.
fn connect<'a>(device: &'a Device, rest: &mut Rest, name: &str, access: &Value) -> Result<Client<'a>> {
    let peer = json!({"name": name, "server_makes_key": true, "tunnel": "full", "access": access});
    let (_, config) = rest.add_peer(&peer)?;
    let client = Client::up(&device.namespace, &config)?;
    client.wait_for_handshake()?;
    Ok(client)
}

fn both(client: &Client<'_>) -> Result<[IpAddr; 2]> {
    Ok([client.address(false)?, client.address(true)?])
}

fn each(device: &Device, hosts: [[IpAddr; 2]; 3], ports: [u16; 3]) -> Result<Vec<Prober>> {
    let mut all = Vec::new();
    for (hosts, port) in hosts.into_iter().zip(ports) {
        all.extend(probers(&device.namespace, hosts, port)?);
    }
    Ok(all)
}

fn probers(namespace: &Namespace, hosts: [IpAddr; 2], port: u16) -> Result<Vec<Prober>> {
    let start = |to| Prober::start(namespace, SocketAddr::new(to, port), INTERVAL);
    hosts.into_iter().map(start).collect()
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
            switched: stop(self.switched)?,
            leaked,
            arrivals: self.arrivals,
        })
    }
}

impl Passed {
    /// Adds the rows.
    pub fn report(&self, report: &mut Report, history: &History) {
        let sent = |reports: &[prober::Report]| reports.iter().map(|r| r.sent.len()).sum::<usize>();
        let answered = |reports: &[prober::Report]| reports.iter().map(|r| r.answered.len()).sum::<usize>();
        let control = answered(&self.allowed);
        // While the control is not answered there is no session, and what is denied proves nothing.
        let share = 100 * control / sent(&self.allowed).max(1);
        let what = "control: allowed device's packets answered";
        report.add(what, share, "%", ">= 30", share >= 30);
        for (device, probes) in [("denied", sent(&self.denied)), ("switched", sent(&self.switched))] {
            let what = format!("{device} device's packets sent");
            report.add(what, probes, "packets", ">= 1000", probes >= 1000);
        }
        let what = "always denied: packets that arrived anywhere";
        report.add(what, self.leaked, "packets", "0", self.leaked == 0);
        let back = answered(&self.denied);
        let what = "always denied: packets that were answered";
        report.add(what, back, "packets", "0", back == 0);
        self.switched(report, history);
    }

    fn switched(&self, report: &mut Report, history: &History) {
        let narrowings = history.narrowings;
        report.add(
            "access narrowed and acknowledged",
            narrowings,
            "times",
            ">= 10",
            narrowings >= 10,
        );
        let slowest = history.slowest.as_millis();
        let what = "the longest until the kernel had a change, kills included";
        report.add(what, slowest, "ms after the answer", "", true);
        for (reach, arrivals) in Reach::ALL.into_iter().zip(&self.arrivals) {
            let (open, time) = history.arrived(reach, false, arrivals);
            let what = format!("control: {} packets that arrived while allowed", reach.name());
            report.add(
                what,
                open,
                &format!("packets in {} s", time.as_secs()),
                ">= 1",
                open >= 1,
            );
            let (leaked, time) = history.arrived(reach, true, arrivals);
            let what = format!("{} packets that arrived while denied", reach.name());
            let shut = !time.is_zero();
            report.add(
                what,
                leaked,
                &format!("packets in {} s", time.as_secs()),
                "0",
                leaked == 0 && shut,
            );
        }
    }
}
