//! The words of `cellctl import`.

use std::path::PathBuf;

use clap::Args;

const WHAT: &str = "\
Of FILE the section \"connectivity\" is read: one exit of each type (wireguard_ext, openvpn, tor, sshuttle, proxy). Each
becomes a connection with a mark and a table of its own; its secrets go to the cell's vault and cannot be read back. Of
the peers' file only the exits of devices are read, and of devices that are here. What is not carried is said. A second
time does nothing.

  cellctl import cell_config.json --peers peers.json --dry-run";

/// The files of the first version.
#[derive(Debug, Args)]
#[command(after_help = WHAT)]
pub(crate) struct FirstVersion {
    /// cell_config.json of the first version; "-": standard input.
    pub(crate) file: PathBuf,
    /// Its file of peers, which says which exit each uses ("-": standard input).
    #[arg(long, value_name = "FILE")]
    pub(crate) peers: Option<PathBuf>,
    /// What its vault held, where FILE refers to that: a JSON object of texts by the names of then ("-": standard input).
    #[arg(long, value_name = "FILE")]
    pub(crate) secrets: Option<PathBuf>,
    /// Unbinds the devices again after so many seconds (5-3600), unless it is kept: at a terminal that is asked here, else by
    /// `cellctl change confirm`. The connections stay. Without this, 60 if you are logged in over SSH from a device that is bound.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(5..=3600))]
    pub(crate) confirm_within: Option<u32>,
    /// Changes it for good at once, even where you are logged in from what is changed.
    #[arg(long, conflicts_with_all = ["confirm_within", "dry_run"])]
    pub(crate) at_once: bool,
    /// Only say what it would do.
    #[arg(long, conflicts_with = "confirm_within")]
    pub(crate) dry_run: bool,
}
