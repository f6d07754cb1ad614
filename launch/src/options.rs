//! The command line.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::exec_daemon::Orders;

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
    /// Become one daemon; `run` starts each this way.
    #[command(hide = true)]
    ExecDaemon(Orders),
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
