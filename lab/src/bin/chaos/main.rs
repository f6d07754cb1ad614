//! `make chaos`: SIGKILL for every daemon at random moments while changes are made and packets sent. What was
//! acknowledged is there afterwards, nothing is half there, and no packet that policy denies has passed.

mod ledger;
mod traffic;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use cell_lab::cell::Cell;
use cell_lab::process::until;
use cell_lab::report::Report;
use cell_lab::rest::{Rest, Setup};
use cell_lab::topology::{CELL, World};
use clap::Parser;

/// How long the cell may take to be itself again after a kill.
const RECOVERY: Duration = Duration::from_secs(20);

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

    let stop = Arc::new(AtomicBool::new(false));
    let writer = writer::spawn(rest.clone(), Arc::clone(&stop), seed);
    let kills = kill_at_random(&cell, options.kills, seed);
    stop.store(true, Ordering::Relaxed);
    let mut ledger = writer
        .join()
        .map_err(|_| anyhow::anyhow!("the writer panicked"))?;
    let victims = kills?;

    let found = until(RECOVERY, "the cell to answer again", || {
        writer::peers(&mut rest).ok()
    })?;
    let wrong = ledger.reconcile(&found);
    for line in wrong.iter().take(20) {
        println!("  {line}");
    }
    let verify = rest.get("/api/audit/verify")?.json();
    let converged = until(RECOVERY, "the kernel to converge", || {
        writer::converged(&mut rest).ok().filter(|c| *c)
    });
    let passed = traffic.stop()?;

    let mut report = Report::new("chaos");
    for (name, count) in victims {
        report.add(format!("SIGKILL of {name}"), count, "times", "", count > 0);
    }
    report.add(
        "changes acknowledged",
        ledger.acknowledged,
        "changes",
        ">= 100",
        ledger.acknowledged >= 100,
    );
    report.add("changes without an answer", ledger.silent, "changes", "", true);
    report.add(
        "acknowledged changes lost, or changes half there",
        wrong.len(),
        "changes",
        "0",
        wrong.is_empty(),
    );
    report.fact(
        "audit chain intact and anchored",
        &verify["detail"],
        verify["intact"] == true,
    );
    report.fact("converged afterwards", "observed = desired", converged.is_ok());
    passed.report(&mut report);
    report.finish(Path::new("target"))
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

/// Kills one daemon after the other and waits each time until the launcher started it anew, not until it works.
fn kill_at_random(cell: &Cell, kills: usize, seed: u64) -> Result<BTreeMap<&'static str, usize>> {
    let mut random = writer::Random::new(seed);
    let names: Vec<&'static str> = ["api", "netd", "vaultd", "broker", "wg"]
        .into_iter()
        .filter(|name| cell.daemon(name).is_ok())
        .collect();
    let mut victims: BTreeMap<&'static str, usize> = names.iter().map(|name| (*name, 0)).collect();
    for number in 0..kills {
        std::thread::sleep(Duration::from_millis(random.below(700)));
        let name = names[usize::try_from(random.below(names.len() as u64))?];
        cell.crash(name)
            .with_context(|| format!("kill {number} of {kills}: {name}"))?;
        *victims.entry(name).or_default() += 1;
        if (number + 1) % 10 == 0 {
            println!("  {} of {kills} kills", number + 1);
        }
    }
    Ok(victims)
}
