//! `cell-wg`: userspace WireGuard over descriptors from netd.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cell_proto::ipc::{Listeners, policy};
use cell_sandbox::{Readiness, profiles};
use cell_wg::config::Config;
use cell_wg::device::Engine;
use cell_wg::{listener, service};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;

/// Userspace WireGuard without privileges, for cell-netd.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Policy file.
    #[arg(long, default_value = "/etc/cell/wg.toml")]
    config: PathBuf,
    /// Parse the policy file, print what is in force, and exit.
    #[arg(long)]
    check: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // The library logs a line per peer, and one per packet to a peer that is away.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,gotatun=off"));
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
    let report = profiles::wg().enter()?;
    tracing::info!("{report}");
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run(config, listeners, readiness))
}

fn load(path: &Path) -> anyhow::Result<Config> {
    policy::read(path, |text| Config::parse(text, policy::uid_of))
}

async fn run(config: Config, mut listeners: Listeners, readiness: Readiness) -> anyhow::Result<()> {
    let (lost, mut loss) = mpsc::unbounded_channel();
    let engine = Arc::new(Engine::new(lost));
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let devices = listener::serve(
        listeners.unix("device")?,
        config.netd.clone(),
        Arc::clone(&engine),
    );
    let calls = cell_proto::ipc::serve(
        listeners.unix("netd")?,
        config.netd,
        service::routes(Arc::clone(&engine)),
        std::future::pending(),
    );
    let losses = async {
        while let Some((device, lost)) = loss.recv().await {
            engine.lose(device, lost).await;
        }
    };
    readiness.ready()?;
    let outcome = tokio::select! {
        () = devices => Ok(()),
        served = calls => served.map_err(Into::into),
        () = losses => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    engine.shut_down().await;
    outcome
}
