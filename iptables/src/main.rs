//! `cell-iptables`: iptables-restore and ipset for a cell-netd on a host with legacy iptables.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use anyhow::Context;
use cell_iptables::config::Config;
use cell_iptables::program::{IPSET, IPTABLES, LOCK};
use cell_iptables::service;
use cell_proto::ipc::{Listeners, policy};
use cell_sandbox::{Readiness, profiles};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Runs iptables-restore and ipset for cell-netd, which starts no program.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Policy file.
    #[arg(long, default_value = "/etc/cell/iptables.toml")]
    config: PathBuf,
    /// Parse the policy file, print what is in force, and exit.
    #[arg(long)]
    check: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    if arguments.check {
        println!("{:#?}", load(&arguments.config)?);
        return Ok(());
    }
    let listeners = Listeners::take()?;
    let config = load(&arguments.config)?;
    let readiness = Readiness::connect()?;
    let programs = [IPTABLES, IPSET].map(Path::new);
    let report = profiles::iptables(&programs, Path::new(LOCK))
        .enter()
        .context("entering the sandbox: are the packages iptables and ipset installed?")?;
    tracing::info!("{report}");
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?
        .block_on(run(config, listeners, readiness))
}

fn load(path: &Path) -> anyhow::Result<Config> {
    policy::read(path, |text| Config::parse(text, policy::uid_of))
}

async fn run(config: Config, mut listeners: Listeners, readiness: Readiness) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let serving = cell_proto::ipc::serve(
        listeners.unix("netd")?,
        config.netd,
        service::routes(),
        std::future::pending(),
    );
    readiness.ready()?;
    tokio::select! {
        served = serving => served.map_err(Into::into),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}
