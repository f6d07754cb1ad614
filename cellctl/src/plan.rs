//! What a change would do, as the cell tells it: its words, not ours.

use cell_proto::api::v1::ChangePlan;
use serde::Serialize;

use crate::failure::Failure;
use crate::output::Output;

/// As `--json` shows it.
#[derive(Serialize)]
struct Shown {
    plan: Plan,
}

#[derive(Serialize)]
struct Plan {
    statements: Vec<Statement>,
    warning: Option<String>,
    netd: Option<Netd>,
}

#[derive(Serialize)]
struct Statement {
    kind: String,
    peers: Vec<String>,
    peer_count: u32,
    text: String,
}

#[derive(Serialize)]
struct Netd {
    takes: bool,
    says: Vec<String>,
}

/// Shows it.
///
/// # Errors
/// [`Failure::WouldRefuse`] when netd would not take it.
pub(crate) fn show(output: Output, plan: Option<ChangePlan>) -> Result<(), Failure> {
    let answer =
        "the cell did not say what the change would do: it may be older than this cellctl, and did it";
    let plan = plan.ok_or_else(|| Failure::Local(answer.to_owned()))?;
    let shown = Shown { plan: plan.into() };
    output.result(&shown, || text(&shown.plan))?;
    match &shown.plan.netd {
        Some(Netd { takes: false, .. }) => Err(Failure::WouldRefuse),
        Some(_) | None => Ok(()),
    }
}

fn text(plan: &Plan) -> String {
    let mut lines: Vec<String> = plan.statements.iter().map(|one| one.text.clone()).collect();
    lines.extend(plan.warning.clone());
    match &plan.netd {
        Some(Netd { takes: false, says }) => {
            lines.push(format!(
                "netd, which keeps the network, would refuse this: {}",
                says.join("; ")
            ));
        }
        Some(Netd { takes: true, .. }) => {}
        None => lines.push("netd, which keeps the network, does not answer now.".to_owned()),
    }
    lines.push("Nothing was changed.".to_owned());
    lines.join("\n")
}

impl From<ChangePlan> for Plan {
    fn from(wire: ChangePlan) -> Self {
        let ChangePlan {
            statements,
            warning,
            netd,
        } = wire;
        let statement = |one: cell_proto::api::v1::PlanStatement| Statement {
            kind: one.kind,
            peers: one.peers,
            peer_count: one.peer_count,
            text: one.text,
        };
        Plan {
            statements: statements.into_iter().map(statement).collect(),
            warning: Some(warning).filter(|text| !text.is_empty()),
            netd: netd.map(|netd| Netd {
                takes: netd.takes,
                says: netd.says,
            }),
        }
    }
}
