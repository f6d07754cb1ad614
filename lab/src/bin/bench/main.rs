//! `make bench`: what Cell costs, each number beside its peer, measured in the same run.

mod forward;
mod grpc;
mod http;
mod measure;
mod nft;
mod scale;
mod state;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use cell_lab::netns::Namespace;
use cell_lab::report::Report;
use clap::{Parser, Subcommand};

/// Measures Cell beside its peers.
#[derive(Parser)]
struct Options {
    /// How many peers the large cell has.
    #[arg(long, default_value_t = 10_000)]
    peers: u32,
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
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    if let Some(Part::ServeBare { body }) = options.part {
        let body = std::fs::read(body)?.into();
        runtime.block_on(http::serve_bare(body))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut report = Report::new("bench");
    let scratch = tempfile::tempdir()?;
    runtime.block_on(grpc::run(&mut report, scratch.path()))?;
    nft::run(&mut report, scratch.path(), options.peers)?;
    forward::run(&mut report, options.peers)?;
    whole_cell(&mut report, scratch.path(), options.peers)?;
    report.finish(Path::new("target"))
}

fn whole_cell(report: &mut Report, scratch: &Path, peers: u32) -> Result<()> {
    let namespace = Namespace::new("bench")?;
    let mut scale = scale::Scale::start(report, &namespace)?;
    scale.memory(report, "idle", Some(64.0))?;
    scale.fill(10)?;
    let few = scale.add_one()?;
    let (target, body) = scale.target()?;
    http::run(report, scratch, &target, &body)?;
    scale.fill(peers)?;
    let many = scale.add_one()?;
    scale.memory(report, &format!("{peers} peers"), None)?;
    report.add(
        "adding one peer at 10 peers, REST to kernel to answer",
        format!("{:.2}", few.as_secs_f64() * 1e3),
        "ms",
        "",
        true,
    );
    report.add(
        format!("the same at {peers} peers"),
        format!("{:.2}", many.as_secs_f64() * 1e3),
        "ms",
        "",
        true,
    );
    let ratio = measure::ratio(many, few);
    report.add(
        format!("{peers} peers / 10 peers"),
        format!("{ratio:.2}"),
        "ratio",
        "<= 2",
        ratio <= 2.0,
    );
    Ok(())
}
