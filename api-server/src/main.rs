//! cell-api: arguments, policy, sandbox, serve.

#![forbid(unsafe_code)]

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::Context as _;
use cell_api::config::Config;
use cell_api::http::openapi;
use cell_api::{callers, run};
use cell_proto::ipc::Listeners;
use cell_sandbox::{Readiness, profiles};
use clap::Parser;
use tracing_subscriber::EnvFilter;

/// The cell's REST API and web UI.
#[derive(Parser)]
#[command(name = "cell-api", version)]
struct Arguments {
    /// Policy file.
    #[arg(long, default_value = "/etc/cell/api.toml")]
    config: PathBuf,
    /// Parse the policy, print what is in force, exit.
    #[arg(long)]
    check: bool,
    /// Print the OpenAPI document, exit.
    #[arg(long)]
    print_openapi: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.print_openapi {
        print!("{}", openapi::rendered()?);
        return Ok(());
    }
    let config = Config::read(&arguments.config)?;
    if arguments.check {
        println!("{config:#?}");
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
    let callers = callers::resolve(&config.automation).context("callers.automation")?;
    let readiness = Readiness::connect().context("NOTIFY_SOCKET")?;
    let sockets: Vec<_> = [&config.netd_socket, &config.broker_socket, &config.vault_socket]
        .into_iter()
        .chain(&config.egress_socket)
        .chain(&config.openvpn_socket)
        .chain(&config.caddy_socket)
        .map(PathBuf::as_path)
        .collect();
    let sandbox = profiles::api(&config.state, &config.catalog, &sockets);
    let sandbox = match &config.core_dns_dir {
        Some(folder) => sandbox.read_write(folder),
        None => sandbox,
    };
    let report = sandbox.enter().context("entering the sandbox")?;
    tracing::info!("{report}");

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(run::run(config, callers, listeners, || {
        if let Err(error) = readiness.ready() {
            tracing::warn!(%error, "the service manager was not told that cell-api is ready");
        }
    }))
}
