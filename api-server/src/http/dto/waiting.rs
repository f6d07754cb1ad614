//! The change that waits for its confirmation.

use serde::Serialize;
use utoipa::ToSchema;

use super::rfc3339;
use crate::service::waiting::WaitingView;
use crate::store::waiting::Waiting;

/// What waits, and what was taken back last.
#[derive(Debug, Serialize, ToSchema)]
pub struct NetworkChange {
    /// Null: nothing waits.
    pub waiting: Option<WaitingChange>,
    /// When netd took a change back last; null: not since it started, or that was noted long ago.
    pub last_rollback_at: Option<String>,
}

/// A change that is taken back unless it is confirmed.
#[derive(Debug, Serialize, ToSchema)]
pub struct WaitingChange {
    /// Name of the peer that it is of; null: it is of none alone.
    #[schema(required)]
    pub peer: Option<String>,
    /// Name of the service whose way to the internet was changed; null: none.
    #[schema(required)]
    pub service: Option<String>,
    /// `update` or `delete` of a peer, `service_exit`, or `import`: devices that were bound to exits of the first version.
    #[schema(example = "update")]
    pub action: String,
    /// Who made it.
    pub author: String,
    /// When it is taken back; null: netd has not taken it yet.
    pub deadline: Option<String>,
    /// Seconds until then, by the cell's clock; 0 when it is over.
    pub seconds_left: u64,
    /// Whether only the author's own device can confirm it, through the VPN.
    pub confirm_by_vpn: bool,
}

impl NetworkChange {
    /// As of `now`, milliseconds since 1970-01-01T00:00:00Z.
    pub fn at(view: WaitingView, now: i64) -> Self {
        let WaitingView {
            waiting,
            last_rollback,
        } = view;
        NetworkChange {
            waiting: waiting.map(|waiting| WaitingChange::at(waiting, now)),
            last_rollback_at: last_rollback.map(|rollback| rfc3339(rollback.at_unix_ms)),
        }
    }
}

impl WaitingChange {
    fn at(waiting: Waiting, now: i64) -> Self {
        let deadline = waiting.sent.as_ref().map(|sent| sent.deadline_unix_ms);
        let left = deadline.map_or(0, |deadline| deadline.saturating_sub(now));
        WaitingChange {
            peer: waiting.peer().map(str::to_owned),
            service: waiting.service().map(str::to_owned),
            action: waiting.action.as_str().to_owned(),
            author: waiting.wait.author,
            deadline: deadline.map(rfc3339),
            seconds_left: u64::try_from(left).unwrap_or(0).div_ceil(1000),
            confirm_by_vpn: waiting.wait.by_vpn,
        }
    }
}
