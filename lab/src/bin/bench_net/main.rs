//! `make bench-net`: what the network costs with many peers and exits, each number beside its peer, measured in the same run.

mod apply;
mod down;
mod forward;
mod netd;
mod relay;
mod road;
mod state;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use cell_lab::measure::Bench;
use cell_lab::report::Report;
use clap::Parser;

use crate::state::Size;

/// Measures exits beside their peers.
#[derive(Parser)]
struct Options {
    /// Measure everything once with few peers, and judge no number: shows that the benchmark works.
    #[arg(long)]
    short: bool,
}

fn main() -> Result<ExitCode> {
    let short = Options::parse().short;
    let (name, size, rounds) = if short {
        (
            "bench-net-short",
            Size {
                peers: 100,
                exits: 20,
            },
            1,
        )
    } else {
        (
            "bench-net",
            Size {
                peers: 10_000,
                exits: 200,
            },
            5,
        )
    };
    let mut bench = Bench {
        report: Report::new(name),
        judged: !short,
    };
    let scratch = tempfile::tempdir()?;
    eprintln!("==> the whole state at once");
    apply::run_all(&mut bench, scratch.path(), size, rounds)?;
    eprintln!("==> forwarding");
    forward::run(&mut bench, size, rounds)?;
    eprintln!("==> relays");
    relay::run(&mut bench, rounds)?;
    bench.report.finish(Path::new("target"))
}
