//! The proof that a cell is what it says: one world, one cell, two devices with stock clients, and what each may.
//!
//! The end-to-end test asserts every line of its report; `make demo` prints it.

mod access;
mod household;
mod passage;
mod revocation;

use anyhow::{Context, Result};

pub use household::{Household, Stage};
pub use passage::{Passage, Verdict};

use crate::cell::Cell;
use crate::report::Report;

/// Runs the whole proof on a fresh cell.
///
/// # Errors
/// When something that the proof stands on fails; what merely does not hold is a line of the report.
pub fn run(report: &mut Report) -> Result<()> {
    let stage = household::world()?;
    let cell = Cell::start(&stage.world.cell)?;
    let proof = prove(&stage, &cell, report);
    if proof.is_err() {
        eprintln!("--- output of the cell:\n{}", cell.output());
    }
    proof?;
    cell.stop()
}

fn prove(stage: &Stage, cell: &Cell, report: &mut Report) -> Result<()> {
    let household = Household::move_in(stage, cell, report)?;
    access::https(&household, report).context("HTTPS")?;
    access::rights(&household, report).context("rights")?;
    revocation::run(household, report).context("revocation")
}
