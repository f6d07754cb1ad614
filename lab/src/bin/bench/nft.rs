//! The policy's way into the kernel: netd's own messages, `nft -f` of the same state, and one `iptables` call per rule.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cell_lab::netns::Namespace;
use cell_lab::process;
use cell_netd::bench::{Sample, Timing, addresses};
use cell_netd::kernel::KernelError;

use crate::measure::{Bench, Goal};
use crate::state;

const ROUNDS: usize = 5;
/// Calls of iptables that are made; the rest is scaled from them, though each further rule makes a call slower.
const IPTABLES_CALLS: u32 = 200;

/// Adds the rows.
pub fn run(bench: &mut Bench, scratch: &Path, largest: u32) -> Result<()> {
    let mut rules = 0;
    let mut ours_at_largest = Duration::ZERO;
    for peers in BTreeSet::from([10, 1_000.min(largest), largest]) {
        let sample = state::sample(peers)?;
        let Both { ours, theirs } = both(&sample, &scratch.join("policy.nft"))?;
        let applied = ours.compile + ours.commit;
        bench.time(
            format!("policy of {peers} peers, netd: validate, compile, commit"),
            applied,
        );
        bench.time(
            format!("policy of {peers} peers, netd: re-read and compared after that"),
            ours.read_back,
        );
        bench.time(format!("policy of {peers} peers, nft -f"), theirs);
        let ratio = applied.as_secs_f64() / theirs.as_secs_f64();
        let name = format!("netd / nft -f at {peers} peers");
        if peers == largest {
            bench.judge(name, ratio, "ratio", Goal::AtMost(0.6));
        } else {
            bench.number(name, ratio, "ratio");
        }
        (rules, ours_at_largest) = (elements(&sample)?, applied);
    }
    let call = iptables_call()?;
    bench.time("one call of iptables", call);
    bench.judge(
        format!("one iptables call for each of {rules} rules (measured on {IPTABLES_CALLS}, scaled) / netd"),
        (call * rules).as_secs_f64() / ours_at_largest.as_secs_f64(),
        "ratio",
        Goal::AtLeast(1000.0),
    );
    Ok(())
}

struct Both {
    ours: Timing,
    theirs: Duration,
}

/// Best times of netd's way and of `nft -f`, each replacing the table in a namespace of its own.
fn both(sample: &Sample, file: &Path) -> Result<Both> {
    let (ours, theirs) = (Namespace::new("nft-ours")?, Namespace::new("nft-theirs")?);
    let text = sample.text()?;
    std::fs::write(
        file,
        format!("table inet cell {{}}\ndelete table inet cell\n{text}"),
    )?;
    let file = file.to_str().context("a path in UTF-8")?;
    let mut nft = ours.inside(|| sample.open())??;
    let mut best: Option<Both> = None;
    for _ in 0..ROUNDS {
        let timing = sample.apply(&mut nft)?;
        let start = Instant::now();
        theirs.run("nft", &["-f", file])?;
        let elapsed = start.elapsed();
        best = Some(match best {
            None => Both {
                ours: timing,
                theirs: elapsed,
            },
            Some(Both { ours, theirs }) => Both {
                ours: if timing.compile + timing.commit < ours.compile + ours.commit {
                    timing
                } else {
                    ours
                },
                theirs: theirs.min(elapsed),
            },
        });
    }
    best.context("no round")
}

/// How many rules the original would need: one for each element of a set.
fn elements(sample: &Sample) -> Result<u32, KernelError> {
    let ruleset = sample.ruleset()?;
    Ok(ruleset.elements.values().map(|set| set.len() as u32).sum())
}

/// The mean time of one call, as the original makes them: a program for each rule.
fn iptables_call() -> Result<Duration> {
    let namespace = Namespace::new("iptables")?;
    namespace.inside(|| {
        let start = Instant::now();
        for number in 1..=IPTABLES_CALLS {
            let (address, _) = addresses(number);
            let rule = ["-A", "FORWARD", "-s", &address.to_string(), "-j", "ACCEPT"];
            process::run(Command::new("iptables").args(rule))?;
        }
        Ok(start.elapsed() / IPTABLES_CALLS)
    })?
}
