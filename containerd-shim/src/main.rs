//! `cell-broker`: starts, closes the sandbox behind itself, serves.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use cell_broker::broker::Broker;
use cell_broker::deploy::{BootId, Deployments};
use cell_broker::engine::{DockerEngine, Maker};
use cell_broker::{Config, backup, service};
use cell_broker_core::deploy::Ceiling;
use cell_proto::ipc::{Listeners, serve};
use clap::{Parser, Subcommand};
use nix::unistd::User;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt};

/// Cell's Docker broker: the only process of the cell that holds Docker's socket.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// The policy file.
    #[arg(long, default_value = "/etc/cell/broker.toml")]
    config: PathBuf,
    /// Parse the policy, print what is in force, exit.
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a key for backups: the secret half into a new file, the public half and where it belongs to the terminal. Whoever has the
    /// file reads every backup, and without it nobody does: keep it away from this machine, twice.
    BackupKey {
        /// The file; there is none of that name yet.
        file: PathBuf,
    },
    /// Puts a backup back into the volumes of a service, which has to be stopped (`cellctl service stop`). For root. The whole backup is
    /// looked at before anything is written.
    Restore {
        /// The service.
        #[arg(long)]
        service: String,
        /// The file with the secret key.
        #[arg(long, value_name = "FILE")]
        identity: PathBuf,
        /// The broker's state folder.
        #[arg(long, value_name = "FOLDER", default_value = "/var/lib/cell/broker")]
        state: PathBuf,
        /// The backup.
        backup: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(command) = options.command {
        return carry_out(command, &options.config);
    }
    let mut listeners = Listeners::take().context("taking the listeners")?;
    let config = read(&options.config)?;
    if options.check {
        println!("{config:#?}");
        return Ok(());
    }
    // Not `init()`: that would also collect the records of the `log` crate, where bollard writes whole answers of Docker's.
    let subscriber = tracing_subscriber::registry()
        .with(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with(fmt::layer().with_writer(std::io::stderr).with_ansi(false));
    tracing::subscriber::set_global_default(subscriber)?;

    let boot = BootId::of_machine().context("reading which boot of the machine this is")?;
    let ready = cell_sandbox::Readiness::connect().context("reaching the service manager")?;
    let state = std::env::var_os("STATE_DIRECTORY").unwrap_or_else(|| "/var/lib/cell/broker".into());
    shut(Path::new(&state), &config)?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = listeners.unix("api")?;
        let deployments = match config.ceiling {
            Some(ceiling) => {
                let maker = Maker::new(config.docker_socket.clone(), config.docker_deadline, ceiling);
                let deployments =
                    Deployments::open(Path::new(&state), maker, boot).context("reading the store")?;
                Some(Arc::new(deployments))
            }
            None => None,
        };
        if let Some(deployments) = &deployments {
            tokio::spawn(Arc::clone(deployments).keep_order());
            tokio::spawn(Arc::clone(deployments).supervise());
        }
        let engine = DockerEngine::new(config.docker_socket, config.docker_deadline)?;
        let broker = Broker::new(engine, config.policy, config.max_concurrent)
            .with_deployments(deployments.clone())
            .with_backups(config.backup);
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        ready.ready()?;
        serve(
            listener,
            config.api,
            service::routes(Arc::new(broker), deployments),
            async move {
                tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            },
        )
        .await?;
        ready.stopping()?;
        anyhow::Ok(())
    })
}

/// Closes the sandbox behind itself.
fn shut(state: &Path, config: &Config) -> anyhow::Result<()> {
    let ceiling = config.ceiling.as_ref();
    let owned = ceiling.map(Ceiling::owned).unwrap_or_default();
    let secrets = ceiling.and_then(|ceiling| ceiling.secrets.as_ref());
    let secrets = secrets.map(|place| (Path::new(&place.folder), Path::new(&place.vault_socket)));
    let report = cell_sandbox::profiles::broker(state, &config.docker_socket, &owned, secrets).enter()?;
    tracing::info!(%report, "sandboxed");
    Ok(())
}

/// What is done once, by root.
fn carry_out(command: Command, config: &Path) -> anyhow::Result<()> {
    match command {
        Command::BackupKey { file } => {
            println!("{}", backup::make_key(&file)?);
            Ok(())
        }
        Command::Restore {
            service,
            identity,
            state,
            backup,
        } => {
            let restore = backup::Restore {
                state,
                service,
                identity,
                backup,
            };
            put_back(read(config)?, restore)
        }
    }
}

/// Without the sandbox: it runs as root, once, and its files are wherever root has them.
fn put_back(config: Config, restore: backup::Restore) -> anyhow::Result<()> {
    let subscriber = tracing_subscriber::registry()
        .with(EnvFilter::new("warn"))
        .with(fmt::layer().with_writer(std::io::stderr).with_ansi(false));
    tracing::subscriber::set_global_default(subscriber)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    println!("{}", runtime.block_on(backup::restore(config, restore))?);
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Config> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let uid_of = |name: &str| User::from_name(name).ok().flatten().map(|user| user.uid.as_raw());
    Config::parse(&text, uid_of).with_context(|| format!("{}", path.display()))
}
