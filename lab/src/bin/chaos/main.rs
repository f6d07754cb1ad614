//! `make chaos`: SIGKILL for every daemon at random moments while changes are made and packets sent. What was
//! acknowledged is there afterwards, nothing is half there, and no packet that policy denies has passed.

mod checkpoint;
mod kernel;
mod ledger;
mod switched;
mod traffic;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use cell_lab::cell::Cell;
use cell_lab::process::until;
use cell_lab::random::Random;
use cell_lab::report::Report;
use cell_lab::rest::{Rest, Setup};
use cell_lab::topology::{CELL, World};
use clap::Parser;

use crate::checkpoint::Findings;
use crate::writer::Shared;

/// How long the cell may take to be itself again after a kill.
const RECOVERY: Duration = Duration::from_secs(20);

/// Every so many kills it is cell-wg's turn.
const RARELY: usize = 20;

/// Kills daemons at random moments and looks whether anything was lost or let through.
#[derive(Parser)]
struct Options {
    /// How many kills.
    #[arg(long, default_value_t = 100)]
    kills: usize,
    /// Seed of the random moments and victims; printed, so that a run can be repeated.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(|| std::process::id().into());
    println!("seed {seed}");
    let mut world = World::new()?;
    let cell = Cell::start(&world.cell)?;
    let mut rest = signed_in(&cell)?;
    let devices = traffic::Devices::new(&mut world)?;
    let traffic = devices.start(&world, &mut rest)?;

    let shared = Shared::default();
    let namespace = world.cell.name().to_owned();
    let writers: Vec<_> = (0..writer::WRITERS)
        .map(|number| writer::spawn(rest.clone(), shared.clone(), seed, number))
        .collect();
    let switch = switched::spawn(
        rest.clone(),
        shared.clone(),
        namespace.clone(),
        traffic.addresses,
        traffic::SERVICE_PORT,
        seed,
    );
    let mut findings = Findings::default();
    let kills = kill_at_random(&cell, &traffic, &options, seed, || {
        findings.look(&mut rest, &shared, &namespace)
    });
    shared.stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?;
    }
    let history = switch
        .join()
        .map_err(|_| anyhow::anyhow!("the switching thread panicked"))?;
    let victims = kills?;
    let history = history?;
    findings.look(&mut rest, &shared, &namespace)?;

    let verify = rest.get("/api/audit/verify")?.json();
    let converged = until(RECOVERY, "the kernel to converge", || {
        writer::converged(&mut rest).ok().filter(|c| *c)
    });
    let passed = traffic.stop()?;
    for line in findings.lost.iter().chain(&findings.kernel).take(20) {
        println!("  {line}");
    }

    let mut report = Report::new("chaos");
    for (name, count) in victims {
        report.add(format!("SIGKILL of {name}"), count, "times", "", count > 0);
    }
    kept(&mut report, &shared, &findings, options.kills);
    report.fact(
        "audit chain intact and anchored",
        &verify["detail"],
        verify["intact"] == true,
    );
    report.fact("converged afterwards", "observed = desired", converged.is_ok());
    // What is denied must have come to the cell, or its absence elsewhere shows nothing.
    let dropped = kernel::dropped(&namespace)?;
    let what = "control: packets that netd's table counted as dropped";
    report.add(what, dropped, "packets", ">= 1000", dropped >= 1000);
    passed.report(&mut report, &history);
    report.finish(Path::new("target"))
}

/// Whether what was acknowledged was there each time, and in the kernel.
fn kept(report: &mut Report, shared: &Shared, findings: &Findings, kills: usize) {
    let ledger = shared.ledger();
    let acknowledged = ledger.acknowledged;
    report.add(
        "changes acknowledged",
        acknowledged,
        "changes",
        &format!(">= {kills}"),
        acknowledged >= kills,
    );
    report.add("changes without an answer", ledger.silent, "changes", "", true);
    let looks = findings.looks;
    report.add("looked at from outside", looks, "times", "> 1", looks > 1);
    for (what, wrong) in [
        ("acknowledged changes lost, or changes half there", &findings.lost),
        (
            "differences of nftables and WireGuard from the list of peers",
            &findings.kernel,
        ),
    ] {
        report.add(what, wrong.len(), "found", "0", wrong.is_empty());
    }
}

fn signed_in(cell: &Cell) -> Result<Rest> {
    let mut rest = cell.rest();
    rest.setup(&Setup {
        claim_token: cell.claim_token()?,
        cell_name: "chaos".into(),
        vpn_range_ipv4: "10.86.0.0/16".into(),
        vpn_range_ipv6: "fd86::/64".into(),
        endpoint_host: CELL.v4.to_string(),
        username: "admin".into(),
        password: "correct horse battery".into(),
    })?;
    Ok(rest)
}

/// Kills one daemon after the other and waits each time until the launcher started it anew, not until it works. Only after
/// cell-wg, with which the sessions of all devices end, it waits until the devices are connected again: what is denied must
/// arrive at the cell to be denied.
/// After every tenth kill `look` is called.
fn kill_at_random(
    cell: &Cell,
    traffic: &traffic::Traffic,
    options: &Options,
    seed: u64,
    mut look: impl FnMut() -> Result<()>,
) -> Result<BTreeMap<&'static str, usize>> {
    let (mut random, kills) = (Random::new(seed), options.kills);
    let often = ["api", "netd", "vaultd", "egress", "broker"];
    let userspace = cell.daemon("wg").is_ok();
    let mut victims = BTreeMap::new();
    for number in 0..kills {
        std::thread::sleep(Duration::from_millis(random.below(700)));
        let rare = userspace && number % RARELY == RARELY / 2;
        let name = if rare {
            "wg"
        } else {
            often[random.place(often.len())]
        };
        cell.crash(name)
            .with_context(|| format!("kill {number} of {kills}: {name}"))?;
        *victims.entry(name).or_default() += 1;
        if rare {
            traffic.wait_until_connected()?;
        }
        if (number + 1) % 10 == 0 {
            look().with_context(|| format!("after {} kills", number + 1))?;
            println!("  {} of {kills} kills", number + 1);
        }
    }
    Ok(victims)
}
