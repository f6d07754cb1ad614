//! The lines at process level under the real unit: the program of `cell-api.service` is replaced, every other line of it
//! holds. The controls are root's, outside; the attempts are made by children of the unit's process, which enter
//! `cell-api`'s profile as it would. `lab/systemd/redteam.py` sets the unit up and takes it down.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use cell_lab::process::run;
use cell_sandbox::Readiness;

use crate::attempt::{Outcome, in_child, make};
use crate::lines::{Attempt, process_level};
use crate::stance::{self, Stance};
use crate::table::Table;
use crate::target::{Neighbour, Target};

/// Where the unit's process is told what to attack.
const TARGET: &str = "/run/cell-redteam.json";
/// What it tells, below its state folder.
const OUTCOMES: &str = "redteam-outcomes.json";

/// As root, outside: the controls, then the unit, then the lines; `reports/redteam.json` below `reports`.
///
/// # Errors
/// When the unit does not start, or an attempt cannot be made.
pub fn outside(reports: &Path) -> Result<ExitCode> {
    let target = Target::of_units()?;
    let _machine = Neighbour::listen()?;
    fs::write(TARGET, serde_json::to_vec(&target)?)?;
    let outcomes = target.state("api").join(OUTCOMES);
    let started = run(Command::new("systemctl").args(["restart", "cell-api.service"]));
    let told = started.and_then(|_| Ok(fs::read(&outcomes)?));
    for file in [outcomes.as_path(), Path::new(TARGET)] {
        let _ = fs::remove_file(file);
    }
    let told: Vec<String> = serde_json::from_slice(&told.context("cell-api.service as the red team")?)?;
    let lines = process_level();
    anyhow::ensure!(
        told.len() == lines.len(),
        "{} of {} attempts",
        told.len(),
        lines.len()
    );

    stance::own_namespaces()?;
    let _own = Neighbour::listen()?;
    let mut table = Table::default();
    for (at, (line, told)) in lines.iter().zip(told).enumerate() {
        let [root, plain] =
            [Stance::Root, Stance::Plain].map(|stance| make(stance, &target, Attempt::Process(at)));
        table.judged(line, &root?, &plain?, &Outcome::parse(&told));
    }
    table.finish(reports)
}

/// As the unit's process: every attempt, each in a child that enters the profile. The unit is ready when all are made; then it
/// stays until it is ended.
///
/// # Errors
/// When an attempt cannot be made: then the unit fails to start.
pub fn inside() -> Result<ExitCode> {
    let _listeners = cell_sandbox::inherited_descriptors()?;
    let readiness = Readiness::connect()?;
    let state = PathBuf::from(std::env::var_os("STATE_DIRECTORY").context("STATE_DIRECTORY")?);
    let target: Target = serde_json::from_slice(&fs::read(TARGET)?)?;
    let mut told = Vec::new();
    for at in 0..process_level().len() {
        let attempt = Attempt::Process(at);
        let outcome = in_child(|| stance::enter_profile(&target), || attempt.carry_out(&target));
        told.push(outcome.with_context(|| attempt.to_string())?.told());
    }
    fs::write(state.join(OUTCOMES), serde_json::to_vec(&told)?)?;
    readiness.ready()?;
    loop {
        nix::unistd::pause();
    }
}
