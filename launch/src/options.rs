//! The command line.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::container::Served;
use crate::exec_daemon::Orders;
use crate::house::Daemon;

/// Starts a Personal Internet Cell in the foreground: each daemon as its own user, with its own rights alone.
///
/// Needs root, and the users of systemd/sysusers.d/cell.conf. Ctrl-C ends the cell; what it knows stays in one folder.
#[derive(Debug, Parser)]
#[command(name = "cell-launch", version)]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a cell and stay until Ctrl-C.
    Run(RunOptions),
    /// Print what `run` would set up, and do nothing.
    Plan(RunOptions),
    /// Remove every interface, rule, setting and namespace that a cell which ran here left behind.
    CleanHost(CleanOptions),
    /// Do one container's part of a cell whose daemons run in containers (compose/docker-compose.yml).
    #[command(subcommand)]
    Container(Part),
    /// Become one daemon; `run` starts each this way.
    #[command(hide = true)]
    ExecDaemon(Orders),
}

/// What a container of the cell does.
#[derive(Debug, Subcommand)]
pub enum Part {
    /// Once, as root: make the folders, policies and keys of the cell, and correct those that are there.
    Prepare(PrepareOptions),
    /// Bind all listeners and give each daemon's container its own, as a socket unit does.
    Hold(HoldOptions),
    /// Take the listeners of a daemon from `hold`, run it, and start it again when it dies.
    Serve(ServeOptions),
    /// End with 0 if the daemon of this container serves.
    Healthy,
    /// Become the daemon; `serve` starts it this way.
    #[command(hide = true)]
    Exec(Served),
}

/// Where the cell's folder is, on the machine and in the container.
#[derive(Debug, Clone, Args)]
pub struct PrepareOptions {
    /// The folder that holds everything the cell keeps.
    #[arg(long, value_name = "DIR", env = "CELL_HOME")]
    pub home: PathBuf,

    /// UDP port of WireGuard, written to etc/api.toml (51820 if never given).
    #[arg(long, value_name = "PORT", env = "CELL_WIREGUARD_PORT")]
    pub wireguard_port: Option<NonZeroU16>,
}

/// What is bound.
#[derive(Debug, Clone, Args)]
pub struct HoldOptions {
    /// The folder that holds everything the cell keeps.
    #[arg(long, value_name = "DIR", env = "CELL_HOME")]
    pub home: PathBuf,

    /// Address of the web UI and API in plain HTTP; loopback only.
    #[arg(
        long,
        value_name = "ADDR",
        env = "CELL_HTTP",
        default_value = "127.0.0.1:3000"
    )]
    pub http: SocketAddr,
}

/// Which daemon.
#[derive(Debug, Clone, Args)]
pub struct ServeOptions {
    /// Its short name: vaultd, wg, netd, tor, openvpn, egress, broker or api.
    #[arg(value_parser = daemon)]
    pub daemon: Daemon,

    /// The folder that holds everything the cell keeps.
    #[arg(long, value_name = "DIR", env = "CELL_HOME")]
    pub home: PathBuf,
}

fn daemon(name: &str) -> Result<Daemon, String> {
    let known = |daemon: &Daemon| daemon.name() == name;
    Daemon::ALL.into_iter().find(known).ok_or_else(|| {
        let names: Vec<_> = Daemon::ALL.iter().map(|daemon| daemon.name()).collect();
        format!("there is no daemon {name}; there are {}", names.join(", "))
    })
}

/// Where the cell lives and what it may be reached by.
#[derive(Debug, Clone, Args)]
pub struct RunOptions {
    /// The folder that holds everything the cell keeps.
    #[arg(long, value_name = "DIR", env = "CELL_HOME", default_value = "./var")]
    pub home: PathBuf,

    /// Live in this network namespace, made if it is missing; the host's own network stays untouched.
    ///
    /// Without it (or when empty) the host's network is used, except in a container, in CI, and where the kernel has no
    /// WireGuard: there a namespace "cell" is made.
    #[arg(long, value_name = "NAME", env = "NETNS", conflicts_with = "host")]
    pub netns: Option<String>,

    /// Use the host's network, wherever this is.
    #[arg(long, env = "CELL_HOST")]
    pub host: bool,

    /// Address of the web UI and API in plain HTTP; loopback only.
    #[arg(
        long,
        value_name = "ADDR",
        env = "CELL_HTTP",
        default_value = "127.0.0.1:3000"
    )]
    pub http: SocketAddr,

    /// UDP port of WireGuard, written to etc/api.toml (51820 if never given).
    #[arg(long, value_name = "PORT", env = "CELL_WIREGUARD_PORT")]
    pub wireguard_port: Option<NonZeroU16>,

    /// The folder of the cell-* programs (default: that of this program).
    #[arg(long, value_name = "DIR", env = "CELL_BIN")]
    pub bin: Option<PathBuf>,

    /// Leave a daemon out (may be repeated).
    #[arg(long, value_name = "DAEMON", env = "CELL_WITHOUT", value_delimiter = ',')]
    pub without: Vec<Optional>,

    /// Seconds that a daemon may take until it serves.
    #[arg(
        long,
        value_name = "SECONDS",
        env = "CELL_START_TIMEOUT",
        default_value = "30"
    )]
    pub start_timeout: NonZeroU16,
}

/// What a cell can do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Optional {
    /// No Docker.
    Broker,
    /// No Tor, though it is installed.
    Tor,
}

/// What to clean.
#[derive(Debug, Clone, Args)]
pub struct CleanOptions {
    /// The folder of the cell that ran here.
    #[arg(long, value_name = "DIR", env = "CELL_HOME", default_value = "./var")]
    pub home: PathBuf,
}
