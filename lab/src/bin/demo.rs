//! `make demo`: a household moves in, and everything it was promised is tried and shown as a table.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use cell_lab::report::Report;
use cell_lab::scenario;

fn main() -> Result<ExitCode> {
    let mut report = Report::new("demo");
    let outcome = scenario::run(&mut report);
    let code = report.finish(Path::new("target"))?;
    outcome.map(|()| code)
}
