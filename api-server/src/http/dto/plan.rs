//! What a change would do.

use cell_api_core::plan::Told;
use serde::Serialize;
use utoipa::ToSchema;

use super::peers::Peer;
use crate::daemons::check::Verdict;
use crate::service::plan::PlanView;

/// Names that are listed of a statement; how many there are is told beside them.
const NAMES: usize = 20;

/// What a change would do. Nothing is stored, and nothing is done.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangePlan {
    /// Who gains and loses what. At least one; for a change of nothing, that it is one.
    pub statements: Vec<PlanStatement>,
    /// What becomes of the way that this request came by: `stays`, `touched` (it is of the author's own device) or `cut`.
    #[schema(example = "stays")]
    pub own_path: String,
    /// Whether to send the change with `confirm_within`.
    pub confirm_advised: bool,
    /// Why, for people.
    #[schema(required)]
    pub warning: Option<String>,
    /// What netd says; null: it is away, or has not taken what there is now.
    #[schema(required)]
    pub netd: Option<NetdPlan>,
}

/// One thing that a change means.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlanStatement {
    /// `off`, `not_carried`, `new_key`, `loses`, `gains`, `way`, `bound`, `while_down`, `ends`, `reinstall`, `accounts` or `nothing`.
    #[schema(example = "loses")]
    pub kind: String,
    /// Names of the peers that it is about, at most the first 20.
    pub peers: Vec<String>,
    /// How many they are.
    pub peer_count: usize,
    /// A sentence for people.
    #[schema(example = "laptop loses the internet.")]
    pub text: String,
}

/// What netd says of a change.
#[derive(Debug, Serialize, ToSchema)]
pub struct NetdPlan {
    /// Whether it would take it.
    pub takes: bool,
    /// What it would do, or why it would not, in its own words; empty: nothing changes for it.
    pub says: Vec<String>,
}

/// The peer after a change; with `validate_only`, what the change would do.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum PeerOrPlan {
    /// It was made.
    Made(Box<Peer>),
    /// It would be made.
    Planned(ChangePlan),
}

impl From<PlanView> for ChangePlan {
    fn from(view: PlanView) -> Self {
        let PlanView { plan, netd } = view;
        ChangePlan {
            statements: plan.told().into_iter().map(PlanStatement::from).collect(),
            own_path: plan.own_path.as_str().to_owned(),
            confirm_advised: plan.confirm_advised(),
            warning: plan.own_path.warning().map(str::to_owned),
            netd: netd.map(NetdPlan::from),
        }
    }
}

impl From<Told<'_>> for PlanStatement {
    fn from(told: Told<'_>) -> Self {
        let Told { kind, who, text } = told;
        PlanStatement {
            kind: kind.to_owned(),
            peers: who.iter().take(NAMES).cloned().collect(),
            peer_count: who.len(),
            text,
        }
    }
}

impl From<Verdict> for NetdPlan {
    fn from(verdict: Verdict) -> Self {
        let (takes, says) = match verdict {
            Verdict::Takes(says) => (true, says),
            Verdict::Refuses(says) => (false, says),
        };
        NetdPlan { takes, says }
    }
}
