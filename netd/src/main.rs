//! cell-netd: arguments, policy, sandbox, serve.

#![forbid(unsafe_code)]

use anyhow::Context as _;
use cell_netd::config::{Arguments, Config};
use cell_netd::run::{choose, run, sandbox};
use cell_proto::ipc::Listeners;
use cell_sandbox::Readiness;
use clap::Parser as _;
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config =
        Config::read(&arguments.config).with_context(|| format!("{}", arguments.config.display()))?;
    if arguments.check {
        println!("{config:#?}");
        return Ok(());
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();

    let listeners = Listeners::take().context("taking over the listeners")?;
    let readiness = Readiness::connect().context("NOTIFY_SOCKET")?;
    let choice = choose(&config).context("looking for WireGuard in the kernel")?;
    let instance = getrandom::u64()?;
    let report = sandbox(&config, &choice)
        .enter()
        .context("entering the sandbox")?;
    tracing::info!(?choice, "{report}");

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let ready = || {
        if let Err(error) = readiness.ready() {
            tracing::warn!(%error, "the service manager was not told that netd is ready");
        }
    };
    runtime.block_on(run(config, choice, listeners, instance, ready))?;
    Ok(())
}
