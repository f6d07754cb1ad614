//! `cell-openvpn`: drives OpenVPN, one process for each exit.

#![forbid(unsafe_code)]

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use cell_openvpn::config::Config;
use cell_openvpn::management::Expected;
use cell_openvpn::run::Shared;
use cell_openvpn::service;
use cell_openvpn::supervisor::Supervisor;
use cell_openvpn::vault::Vault;
use cell_proto::ipc::{Listeners, policy};
use cell_sandbox::{Readiness, profiles};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Drives OpenVPN, one unprivileged process for each exit, for cell-api.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Policy file.
    #[arg(long, default_value = "/etc/cell/openvpn.toml")]
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
    let null = OpenOptions::new()
        .write(true)
        .open("/dev/null")
        .context("/dev/null")?;
    let readiness = Readiness::connect()?;
    let report =
        profiles::openvpn(&config.vault_socket, &config.management_socket, &config.program).enter()?;
    tracing::info!("{report}");
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(run(config, listeners, null, readiness))
}

fn load(path: &Path) -> anyhow::Result<Config> {
    policy::read(path, |text| Config::parse(text, policy::uid_of))
}

async fn run(
    config: Config,
    mut listeners: Listeners,
    null: std::fs::File,
    readiness: Readiness,
) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shared = Arc::new(Shared {
        vault: Vault::new(config.vault_socket),
        expected: Expected::default(),
        management: config.management_socket,
        program: config.program,
        null,
    });
    let supervisor = Arc::new(Supervisor::new(Arc::clone(&shared)));
    let (management, own_uid) = (listeners.unix("management")?, nix::unistd::geteuid().as_raw());
    let programs = shared.expected.accept(management, own_uid);
    let calls = cell_proto::ipc::serve(
        listeners.unix("api")?,
        config.api,
        service::routes(Arc::clone(&supervisor), config.ceiling),
        std::future::pending(),
    );
    readiness.ready()?;
    tokio::select! {
        served = calls => served?,
        () = programs => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // Each says farewell to its server.
    supervisor.apply(Default::default()).await;
    Ok(())
}
