//! The policy's way into the kernel: netd's own messages, `nft -f` of the same state, and one `iptables` call per rule.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cell_lab::netns::Namespace;
use cell_netd::bench::{Sample, Timing};
use cell_netd_core::policy::Elements;

use crate::{iptables, state};
use cell_lab::measure::{Bench, Goal};

const ROUNDS: usize = 5;

/// Adds the rows.
pub fn run(bench: &mut Bench, scratch: &Path, largest: u32) -> Result<()> {
    let mut elements = Elements::new();
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
        let with_look = (applied + ours.read_back).as_secs_f64() / theirs.as_secs_f64();
        bench.number(
            format!("the same with reading back, which nft does not, at {peers} peers"),
            with_look,
            "ratio",
        );
        if peers == largest {
            bench.judge(name, ratio, "ratio", Goal::AtMost(0.6));
        } else {
            bench.number(name, ratio, "ratio");
        }
        (elements, ours_at_largest) = (sample.ruleset()?.elements, applied);
    }
    let rules: usize = elements.values().map(std::collections::BTreeSet::len).sum();
    let calls = iptables::measure(&elements)?;
    bench.time("one call of iptables, while there are few rules", calls.first);
    bench.time(
        format!(
            "one call of iptables, mean of {} spread over the filling",
            calls.measured
        ),
        calls.mean,
    );
    let all = |call: Duration| call.as_secs_f64() * rules as f64 / ours_at_largest.as_secs_f64();
    bench.number(
        format!("{rules} iptables calls / netd, were all as cheap as the first"),
        all(calls.first),
        "ratio",
    );
    bench.judge(
        format!("{rules} iptables calls, scaled from these means / netd"),
        all(calls.mean),
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
