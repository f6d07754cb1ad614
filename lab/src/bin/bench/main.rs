//! `make bench`: what Cell costs, each number beside its peer, measured in the same run.

mod forward;
mod grpc;
mod http;
mod iptables;
mod nft;
mod scale;
mod state;
mod wireguard;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use cell_lab::measure::Bench;
use cell_lab::report::Report;
use clap::{Parser, Subcommand};

/// How long the part of the kernel's WireGuard may take.
const BUDGET: Duration = Duration::from_secs(60);

/// Measures Cell beside its peers.
#[derive(Parser)]
struct Options {
    /// How many peers the large cell has; even, 20 to 10,000.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(20..=10_000))]
    peers: u32,
    /// Measure everything once with few peers, and judge no number: shows that the benchmark works.
    #[arg(long)]
    short: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// A bare axum server that answers the bytes of a file: the benchmark starts it as its own peer.
    ServeBare {
        /// The body to answer.
        body: PathBuf,
    },
    /// Peers into the kernel's WireGuard alone, for a machine whose kernel has it.
    Wireguard {
        /// About how long it may take, seconds: fewer peers on a slow machine.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// The policy's way into the kernel alone.
    Nft,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    match options.part {
        Some(Part::ServeBare { body }) => {
            let body = std::fs::read(body)?.into();
            runtime.block_on(http::serve_bare(body))?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Part::Wireguard { seconds }) => {
            let mut bench = Bench {
                report: Report::new("bench-wireguard"),
                judged: true,
            };
            let (scratch, budget) = (tempfile::tempdir()?, Duration::from_secs(seconds));
            wireguard::run(&mut bench, scratch.path(), options.peers, budget)?;
            return bench.report.finish(Path::new("target"));
        }
        Some(Part::Nft) => {
            let mut bench = Bench {
                report: Report::new("bench-nft"),
                judged: true,
            };
            let scratch = tempfile::tempdir()?;
            nft::run(&mut bench, scratch.path(), options.peers)?;
            return bench.report.finish(Path::new("target"));
        }
        None => {}
    }
    let (name, peers, rounds) = if options.short {
        ("bench-short", 100, 1)
    } else {
        ("bench", options.peers & !1, 5)
    };
    let mut bench = Bench {
        report: Report::new(name),
        judged: !options.short,
    };
    let scratch = tempfile::tempdir()?;
    eprintln!("==> gRPC");
    runtime.block_on(grpc::run(&mut bench, scratch.path(), rounds))?;
    eprintln!("==> policy into the kernel");
    nft::run(&mut bench, scratch.path(), peers)?;
    eprintln!("==> forwarding");
    forward::run(&mut bench, peers, rounds)?;
    eprintln!("==> peers into the kernel's WireGuard");
    if wireguard::in_kernel()? {
        wireguard::run(&mut bench, scratch.path(), peers, BUDGET)?;
    } else {
        eprintln!("    this kernel has none: `make systemtest-vm` measures one that has");
    }
    eprintln!("==> whole cells (adding {peers} peers one by one)");
    scale::run(&mut bench, scratch.path(), peers)?;
    bench.report.finish(Path::new("target"))
}
