//! The whole, end to end: a real cell, stock clients, packet counters. Needs root and the built programs.

use cell_lab::report::Report;
use cell_lab::scenario;

#[test]
fn a_household_gets_exactly_what_it_was_promised() -> anyhow::Result<()> {
    let mut report = Report::new("e2e");
    let outcome = scenario::run(&mut report);
    println!("{report}");
    outcome?;
    assert!(report.rows().len() > 40, "the proof was cut short");
    assert!(report.ok(), "see the table");
    Ok(())
}
