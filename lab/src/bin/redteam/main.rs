//! The red team: arbitrary code as `cell-api`, in `cell-api`'s sandbox, against a running cell.
//!
//! Every attempt is made three times, each in a process of its own: as root (is the attack real on this machine?), as the
//! plain user `cell-api`, and inside the sandbox that `cell-api` enters. What root cannot do either proves nothing and is
//! marked VOID. Needs root and a cell started by `cell-launch`. Harmless to both: the network, mounts and host name that
//! root could harm are those of a namespace of its own.

mod attempt;
mod files;
mod kernel;
mod listeners;
mod network;
mod posture;
mod processes;
mod rpc;
mod sockets;
mod stance;
mod table;
mod target;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// What a compromised cell-api can still do.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// CELL_HOME of the running cell.
    #[arg(long, env = "CELL_HOME", default_value = "./var")]
    home: PathBuf,
    /// Where reports/redteam.json goes.
    #[arg(long, default_value = "target")]
    target: PathBuf,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let target = target::Target::look(&options.home)?;
    stance::own_namespaces()?;
    listeners::hand_over()?;
    let mut table = table::Table::default();
    for check in [
        files::CHECKS,
        sockets::CHECKS,
        processes::CHECKS,
        network::CHECKS,
        listeners::CHECKS,
        kernel::CHECKS,
    ]
    .concat()
    {
        table.process_level(&check, &target)?;
    }
    for daemon in &posture::ALL {
        table.posture(daemon, &target);
    }
    for check in rpc::checks() {
        table.rpc_level(&check, &target)?;
    }
    table.finish(&options.target)
}
