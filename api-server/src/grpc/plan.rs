//! What a change would do.

use cell_api_core::plan::Told;
use cell_proto::api::v1::{ChangePlan, NetdPlan, PlanStatement, UpdateConnectionResponse};

use crate::daemons::check::Verdict;
use crate::service::connections::UpdatePlan;
use crate::service::plan::PlanView;

/// Names that are listed of a statement; how many there are is told beside them.
const NAMES: usize = 20;

pub(super) fn change_plan(view: PlanView) -> ChangePlan {
    let PlanView { plan, netd } = view;
    ChangePlan {
        statements: plan.told().into_iter().map(statement).collect(),
        warning: plan.own_path.warning().unwrap_or_default().to_owned(),
        netd: netd.map(netd_plan),
    }
}

pub(super) fn connection_plan(planned: UpdatePlan) -> UpdateConnectionResponse {
    let UpdatePlan { plan, netd, notes } = planned;
    UpdateConnectionResponse {
        connection: None,
        notes,
        services: plan.services().to_vec(),
        plan: Some(ChangePlan {
            statements: plan.told().into_iter().map(statement).collect(),
            warning: plan.warning().unwrap_or_default().to_owned(),
            netd: netd.map(netd_plan),
        }),
    }
}

fn netd_plan(verdict: Verdict) -> NetdPlan {
    let (takes, says) = match verdict {
        Verdict::Takes(says) => (true, says),
        Verdict::Refuses(says) => (false, says),
    };
    NetdPlan { takes, says }
}

fn statement(told: Told<'_>) -> PlanStatement {
    let Told { kind, who, text } = told;
    PlanStatement {
        kind: kind.to_owned(),
        peers: who.iter().take(NAMES).cloned().collect(),
        peer_count: u32::try_from(who.len()).unwrap_or(u32::MAX),
        text,
    }
}
