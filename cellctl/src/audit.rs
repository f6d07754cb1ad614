//! `cellctl audit`.

use cell_proto::api::v1::VerifyAuditRequest;

use crate::cell::Cell;
use crate::cli::Audit;
use crate::failure::Failure;
use crate::output::Output;
use crate::view;

/// Carries out one of the commands.
pub(crate) async fn run(cell: &Cell, output: Output, command: Audit) -> Result<(), Failure> {
    match command {
        Audit::Verify => verify(cell, output).await,
    }
}

/// A chain that does not hold is a failure: scripts go by the exit code.
async fn verify(cell: &Cell, output: Output) -> Result<(), Failure> {
    let answer = cell
        .status()?
        .verify_audit(VerifyAuditRequest {})
        .await?
        .into_inner();
    let outcome = view::Verification::from(answer);
    output.result(&outcome, || text(&outcome))?;
    if outcome.intact {
        Ok(())
    } else {
        Err(Failure::AuditBroken)
    }
}

fn text(outcome: &view::Verification) -> String {
    let counts = format!(
        "{} records and {} anchors checked",
        outcome.record_count, outcome.anchor_count
    );
    if outcome.intact {
        return format!("Intact: {counts}.");
    }
    let at = outcome
        .first_bad_sequence
        .map(|sequence| format!(" from record {sequence} on"))
        .unwrap_or_default();
    format!(
        "BROKEN{at}: {}\n{counts}.",
        outcome.detail.as_deref().unwrap_or("no detail")
    )
}
