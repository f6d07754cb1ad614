//! The policy's way into the kernel: netd's own messages, `nft -f` of the same state, and one `iptables` call per rule.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cell_lab::netns::Namespace;
use cell_lab::process;
use cell_lab::report::Report;
use cell_netd::kernel::nft::{Nft, Owners};
use cell_netd_core::policy::{self, Ruleset};

use crate::measure::{in_turn, ratio};
use crate::state;

const ROUNDS: usize = 5;
/// Calls of iptables that are made; the rest is scaled from them, though each further rule makes a call slower.
const IPTABLES_CALLS: u32 = 200;

/// Adds the rows.
pub fn run(report: &mut Report, scratch: &Path, largest: u32) -> Result<()> {
    let mut ours_at_largest = Duration::ZERO;
    for peers in [10, 1_000, largest] {
        let ruleset = state::ruleset(peers)?;
        let (ours, theirs) = both(&ruleset, &scratch.join("policy.nft"))?;
        let (milliseconds, ratio) = (
            |time: Duration| format!("{:.2}", time.as_secs_f64() * 1e3),
            ratio(ours, theirs),
        );
        report.add(
            format!("policy of {peers} peers by netd"),
            milliseconds(ours),
            "ms",
            "",
            true,
        );
        report.add(
            format!("policy of {peers} peers by nft -f"),
            milliseconds(theirs),
            "ms",
            "",
            true,
        );
        let (goal, ok) = if peers == largest {
            ("<= 0.6", ratio <= 0.6)
        } else {
            ("", true)
        };
        report.add(
            format!("netd / nft -f at {peers} peers"),
            format!("{ratio:.2}"),
            "ratio",
            goal,
            ok,
        );
        ours_at_largest = ours;
    }
    let call = iptables_call()?;
    let rules = largest * state::RULES_PER_PEER;
    let times = (call * rules).as_secs_f64() / ours_at_largest.as_secs_f64();
    report.add(
        format!("one iptables call per rule, {rules} rules (measured on {IPTABLES_CALLS}, scaled) / netd"),
        format!("{times:.0}"),
        "ratio",
        ">= 1000",
        times >= 1000.0,
    );
    Ok(())
}

/// Best times of netd's way and of `nft -f`, each replacing the table in a namespace of its own.
fn both(ruleset: &Ruleset, file: &Path) -> Result<(Duration, Duration)> {
    let (ours, theirs) = (Namespace::new("nft-ours")?, Namespace::new("nft-theirs")?);
    let table = &ruleset.table;
    std::fs::write(
        file,
        format!(
            "table inet {table} {{}}\ndelete table inet {table}\n{}",
            policy::render(ruleset)
        ),
    )?;
    let file = file.to_str().context("a path in UTF-8")?;
    ours.inside(|| {
        let mut nft = Nft::open(table.clone(), Owners::IfKnown)?;
        in_turn(
            ROUNDS,
            || {
                let start = Instant::now();
                nft.replace(ruleset)?;
                anyhow::Ok(start.elapsed())
            },
            || {
                let start = Instant::now();
                theirs.run("nft", &["-f", file])?;
                Ok(start.elapsed())
            },
        )
    })?
}

/// The mean time of one call, as the original makes them: a program for each rule.
fn iptables_call() -> Result<Duration> {
    let namespace = Namespace::new("iptables")?;
    namespace.inside(|| {
        let start = Instant::now();
        for number in 0..IPTABLES_CALLS {
            let [address, _] = state::addresses(number);
            let rule = ["-A", "FORWARD", "-s", &address.to_string(), "-j", "ACCEPT"];
            process::run(Command::new("iptables").args(rule))?;
        }
        Ok(start.elapsed() / IPTABLES_CALLS)
    })?
}
