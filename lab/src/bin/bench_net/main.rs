//! `make bench-net`: what the network costs with many peers and exits, each number beside its peer, measured in the same run.

mod apply;
mod down;
mod forward;
mod netd;
mod relay;
mod road;
mod state;
mod tunnelled;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use cell_lab::measure::Bench;
use cell_lab::report::Report;
use clap::{Parser, ValueEnum};

use crate::state::Size;

/// Measures exits beside their peers.
#[derive(Parser)]
struct Options {
    /// Measure everything once with few peers, and judge no number: shows that the benchmark works.
    #[arg(long)]
    short: bool,
    /// Peers of the large cell.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=20_000))]
    peers: u32,
    /// Exits of the large cell, even.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=200))]
    exits: u32,
    /// Measure one part alone.
    #[arg(long)]
    only: Option<Part>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The whole state at once, beside nft, ip and wg.
    Apply,
    /// One peer's other exit, in a large and in a small cell.
    Assign,
    /// What packets pay, and what leaves when an exit goes down.
    Forward,
    /// cell-egress beside redsocks.
    Relay,
}

fn main() -> Result<ExitCode> {
    let Options {
        short,
        peers,
        exits,
        only,
    } = Options::parse();
    ensure!(exits % 2 == 0, "exits is even");
    let (name, size, rounds) = match (short, only) {
        (true, _) => (
            "bench-net-short",
            Size {
                peers: 100,
                exits: 20,
            },
            1,
        ),
        (false, None) => ("bench-net", Size { peers, exits }, 5),
        (false, Some(_)) => ("bench-net-part", Size { peers, exits }, 5),
    };
    let mut bench = Bench {
        report: Report::new(name),
        judged: !short,
    };
    let scratch = tempfile::tempdir()?;
    for part in Part::value_variants() {
        if only.is_some_and(|only| only != *part) {
            continue;
        }
        eprintln!("==> {part:?}");
        match part {
            Part::Apply => apply::whole(&mut bench, scratch.path(), size, rounds)?,
            Part::Assign => apply::assignments(&mut bench, size)?,
            Part::Forward => forward::run(&mut bench, size, rounds)?,
            Part::Relay => relay::run(&mut bench, rounds)?,
        }
    }
    bench.report.finish(Path::new("target"))
}
