//! The red team: arbitrary code as `cell-api`, in `cell-api`'s sandbox, against a running cell.
//!
//! Every attempt is made three times, each in a process of its own: as root (is the attack real on this machine?), as the
//! plain user `cell-api`, and inside the sandbox that `cell-api` enters. What root cannot do either proves nothing and is
//! marked VOID. Needs root and a cell started by `cell-launch`. Harmless to both: the network, mounts and host name that
//! root could harm are those of a namespace of its own.

mod afterwards;
mod attempt;
mod ceiling;
mod excuses;
mod files;
mod kernel;
mod launched;
mod lines;
mod listeners;
mod network;
mod posture;
mod processes;
mod restorer;
mod rpc;
mod sockets;
mod stance;
mod table;
mod target;
mod unit;
mod witness;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::attempt::Outcome;
use crate::lines::Attempt;
use crate::witness::Witness;

/// What the recorder writes, in the stage.
const HEARD: &str = "heard";

/// What a compromised cell-api can still do.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// CELL_HOME of the running cell.
    #[arg(long, env = "CELL_HOME", default_value = "./var")]
    home: PathBuf,
    /// What the cell's daemons have logged so far.
    #[arg(long, env = "CELL_LOG")]
    log: Option<PathBuf>,
    /// Where reports/redteam.json goes.
    #[arg(long, default_value = "target")]
    target: PathBuf,
    /// Folders that the broker may give to containers (lab/redteam.sh makes them).
    #[arg(long, env = "CELL_STAGE")]
    stage: Option<PathBuf>,
    /// Docker's own socket, behind the recorder.
    #[arg(long, env = "CELL_DOCKER", requires = "stage")]
    docker: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// One attempt, in a process that was given the stance of cell-api; the red team starts these itself.
    #[command(hide = true)]
    Attempt { attempt: lines::Attempt, target: String },
    /// Writes the ceiling of a cell's broker before the cell is started.
    Settle,
    /// Stands before Docker's socket and writes down what is asked there.
    Record {
        /// Where it listens.
        listen: PathBuf,
    },
    /// The lines at process level under cell-api.service, whose program this has replaced (lab/systemd/redteam.py).
    Unit,
    /// What cell-api.service starts then.
    #[command(hide = true)]
    InUnit,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    match options.command {
        Some(Command::Attempt { attempt, target }) => {
            launched::inside(attempt, &target).map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Settle) => {
            let stage = options.stage.context("--stage")?;
            ceiling::settle(&options.home, &stage).map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Record { listen }) => {
            let stage = options.stage.context("--stage")?;
            let docker = options.docker.context("--docker")?;
            witness::record(&docker, &listen, &stage.join(HEARD)).map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Unit) => unit::outside(&options.target),
        Some(Command::InUnit) => unit::inside(),
        None => attack(&options),
    }
}

fn attack(options: &Options) -> Result<ExitCode> {
    let mut target = target::Target::look(&options.home)?;
    target.stage.clone_from(&options.stage);
    let witness = options.stage.iter().zip(&options.docker).next();
    let witness = witness.map(|(stage, docker)| Witness::new(stage.join(HEARD), docker.clone()));
    stance::own_namespaces()?;
    listeners::hand_over()?;
    let restorer = restorer::Restorer::start(&target)?;
    let mut table = table::Table::default();
    let neighbour = target::Neighbour::listen()?;
    for (at, check) in lines::process_level().iter().enumerate() {
        table.process_level(Attempt::Process(at), check, &target)?;
    }
    for (at, check) in lines::listeners().iter().enumerate() {
        table.process_level(Attempt::Listener(at), check, &target)?;
    }
    drop(neighbour);
    let log = options.log.as_ref().map(std::fs::read_to_string).transpose()?;
    for daemon in &posture::ALL {
        table.posture(daemon, &target, log.as_deref().unwrap_or_default());
    }
    for (at, check) in lines::rpc_level().iter().enumerate() {
        table.rpc_level(at, check, &target, witness.as_ref())?;
    }
    let kept = ceiling::kept(&target).unwrap_or_else(void);
    table.made("G39", "have the broker keep manifests without end", &kept);
    let given = ceiling::given_away(&target).unwrap_or_else(void);
    table.made("G36", "start a broker whose roots give the cell away", &given);
    let policy = afterwards::policy_without_netd(&target).unwrap_or_else(void);
    table.made(
        "G19",
        "have the policy open while netd is killed and starts",
        &policy,
    );
    let rules = rpc::iptables::rules(&target).unwrap_or_else(void);
    table.made(
        "G47",
        "ask cell-iptables for the rules, as cell-api and as root",
        &rules,
    );
    drop(restorer);
    let footholds = afterwards::footholds(&target).unwrap_or_else(void);
    table.made("G44", "leave anything behind outside its state", &footholds);
    table.finish(&options.target)
}

/// What could not be looked at proves nothing.
fn void(error: anyhow::Error) -> (Outcome, Outcome) {
    let why = Outcome::Void(format!("{error:#}"));
    (why.clone(), why)
}
