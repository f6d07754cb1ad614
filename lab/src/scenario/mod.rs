//! The proof that a cell is what it says: one world, one cell, two devices with stock clients, and what each may.
//!
//! The end-to-end test asserts every line of its report; `make demo` prints it.

mod access;
mod household;
mod passage;
mod revocation;

use anyhow::{Context, Result};

pub use household::Household;
pub use passage::{Passage, Verdict};

use crate::report::Report;

/// Runs the whole proof on a fresh cell.
///
/// # Errors
/// When something that the proof stands on fails; what merely does not hold is a line of the report.
pub fn run(report: &mut Report) -> Result<()> {
    let world = household::world()?;
    let household = Household::move_in(&world, report)?;
    access::https(&household, report).context("HTTPS")?;
    access::rights(&household, report).context("rights")?;
    revocation::run(household, report).context("revocation")
}
