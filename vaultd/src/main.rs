//! cell-vaultd: arguments, policy, sandbox, serve.

#![forbid(unsafe_code)]

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::Context as _;
use cell_proto::ipc::Listeners;
use cell_sandbox::{Readiness, profiles};
use cell_vaultd::config::{Arguments, Config};
use cell_vaultd::run::{lock_memory, run};
use clap::Parser as _;
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config = Config::read(&arguments.config)?;
    if arguments.check {
        println!("{}", config.summary());
        return Ok(());
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .init();

    let listeners = Listeners::take().context("taking over the listeners")?;
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let readiness = Readiness::connect().context("NOTIFY_SOCKET")?;
    let memory_locked = lock_memory();
    let sandbox = profiles::vaultd(&config.policy.state, credentials.as_deref());
    let report = sandbox.enter().context("entering the sandbox")?;
    tracing::info!("{report}");

    // Few and small: every thread's stack is locked in memory, and the vault does one thing at a time.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .thread_stack_size(1024 * 1024)
        .enable_all()
        .build()?;
    let ready = || {
        if let Err(error) = readiness.ready() {
            tracing::warn!(%error, "the service manager was not told that vaultd is ready");
        }
    };
    runtime.block_on(run(
        config,
        credentials.as_deref(),
        listeners,
        memory_locked,
        ready,
    ))?;
    Ok(())
}
