//! Proof 2: what is taken away is gone from established flows within a second.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use crate::counter::{Counter, Protocol, Spec, host};
use crate::probe::Flow;
use crate::prober::{self, Prober};
use crate::report::Report;
use crate::topology::CELL;

use super::household::{self, Household, Target};
use super::{Verdict, access};

const INTERVAL: Duration = Duration::from_millis(20);
/// How long a change may take on flows that are there.
const PROMISE: Duration = Duration::from_secs(1);
const DEADLINE: Duration = Duration::from_secs(2);

/// Runs the proof; at its end the phone's peer is gone.
pub(super) fn run(mut household: Household, report: &mut Report) -> Result<()> {
    access::peer_to_peer(&mut household, report)?;
    let access = |internet: bool| json!({"internet": internet, "peer_to_peer": true, "services": []});
    cut(&mut household, report, "access narrowed", |household| {
        household.grant("phone", &access(false))
    })?;
    household.grant("phone", &access(true))?;
    let echo = Protocol::Udp(Some(household::ECHO));
    household.expect(report, &household.phone, Target::INTERNET, echo, Verdict::Passes)?;
    cut(&mut household, report, "peer removed", |household| {
        household.rest.delete("/api/peers/phone")?.expect(204).map(drop)
    })?;
    let peers = household.rest.get("/api/peers")?.expect(200)?;
    let names: Vec<_> = peers["peers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|peer| peer["name"].clone())
        .collect();
    report.fact(
        "after the removal: the peers that are left",
        Value::from(names.clone()),
        names == [json!("laptop")],
    );
    Ok(())
}

/// The phone sends to the internet all the time, both families, and holds a TCP connection; then `act` takes that away.
fn cut(
    household: &mut Household,
    report: &mut Report,
    what: &str,
    act: impl FnOnce(&mut Household) -> Result<()>,
) -> Result<()> {
    let targets = both(household)?;
    let device = household.phone.device;
    let mut flows = Vec::new();
    let mut probers = Vec::new();
    for to in targets {
        let mut flow = Flow::open(&device.namespace, to, DEADLINE)?;
        flow.echo(DEADLINE)?;
        flows.push(flow);
        probers.push(Prober::start(&device.namespace, to, INTERVAL)?);
    }
    thread::sleep(PROMISE);
    let asked = Instant::now();
    act(household)?;
    let acknowledged = Instant::now();
    thread::sleep(PROMISE);
    let late = Late::install(household, targets)?;
    thread::sleep(PROMISE);
    for (mut flow, family) in flows.into_iter().zip(["IPv4", "IPv6"]) {
        let carried = flow.echo(PROMISE).is_ok();
        let found = if carried {
            "still carries"
        } else {
            "carries nothing"
        };
        report.fact(format!("{what}: established TCP, {family}"), found, !carried);
    }
    late.report(report, what)?;
    for (prober, family) in probers.into_iter().zip(["IPv4", "IPv6"]) {
        timing(
            report,
            &format!("{what}: UDP flow, {family}"),
            &prober.stop()?,
            [asked, acknowledged],
        );
    }
    Ok(())
}

fn both(household: &Household) -> Result<[SocketAddr; 2]> {
    let to = |v6| -> Result<SocketAddr> { Ok(household.passage(&household.phone, Target::INTERNET, v6)?.to) };
    Ok([to(false)?, to(true)?])
}

/// Counters from a second after the change on: the device goes on sending, nothing arrives.
struct Late {
    from_device: Counter,
    at_target: Vec<Counter>,
}

impl Late {
    fn install(household: &Household, targets: [SocketAddr; 2]) -> Result<Self> {
        let world = &household.stage.world;
        let device = household.phone.device.address.v4;
        let port = household.config["wireguard_port"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok());
        let tunnel = Spec::to(host(CELL.v4), Protocol::Udp(port)).and_from(host(device));
        let at_target = targets
            .map(|to| Counter::install(&world.internet, Spec::to(host(to.ip()), Protocol::Any)))
            .into_iter()
            .collect::<Result<_>>()?;
        Ok(Late {
            from_device: Counter::install(&world.cell, tunnel)?,
            at_target,
        })
    }

    fn report(&self, report: &mut Report, what: &str) -> Result<()> {
        let sent = self.from_device.packets()?;
        report.fact(
            format!("{what}: the phone goes on sending"),
            format!("{sent} datagrams to the cell"),
            sent > 0,
        );
        for (counter, family) in self.at_target.iter().zip(["IPv4", "IPv6"]) {
            let packets = counter.packets()?;
            report.add(
                format!("{what}: packets at the internet, {family}"),
                packets,
                "packets",
                "0",
                packets == 0,
            );
        }
        Ok(())
    }
}

/// When the last datagram left that was still answered, against the answer of the API.
fn timing(report: &mut Report, name: &str, probes: &prober::Report, [asked, acknowledged]: [Instant; 2]) {
    // The change is in force before it is answered: on a busy machine, long before.
    let before = probes.sent.len() - probes.sent_since(asked);
    let answered_before = probes.answered.len() - probes.answered_since(asked);
    // Without a flow that was there before, its end would show nothing.
    let established = answered_before * 10 > before * 9;
    let late = probes
        .last_answered()
        .map(|last| last.saturating_duration_since(acknowledged));
    let value = late.map_or_else(
        || "never answered".to_owned(),
        |late| late.as_millis().to_string(),
    );
    let ok = established && late.is_some_and(|late| late <= PROMISE);
    report.add(name, value, "ms after the answer", "<= 1000", ok);
}
