//! The change that waits for its confirmation.

use cell_api_core::fault::Faults;
use cell_api_core::waiting::Window;
use cell_proto::api::v1::network_change_service_server::NetworkChangeService;
use cell_proto::api::v1::{
    ConfirmNetworkChangeRequest, ConfirmNetworkChangeResponse, GetNetworkChangeRequest,
    GetNetworkChangeResponse, RollBackNetworkChangeRequest, RollBackNetworkChangeResponse, WaitingChange,
};
use tonic::{Request, Response, Status};

use super::{Automation, refused};
use crate::service::{Actor, waiting};
use crate::store::waiting::{Action, Wait, Waiting};

/// How a change of a caller on this socket waits; 0 seconds: not at all. Such a caller has no path that could be cut.
pub(super) fn wait(actor: &Actor, seconds: u32) -> Result<Option<Wait>, Status> {
    if seconds == 0 {
        return Ok(None);
    }
    let window = Window::of_seconds(seconds.into())
        .map_err(|error| refused(Faults::one("confirm_within_seconds", error).into()))?;
    Ok(Some(Wait {
        window,
        author: actor.name.clone(),
        remote: actor.remote.clone(),
        by_vpn: false,
    }))
}

#[tonic::async_trait]
impl NetworkChangeService for Automation {
    async fn get_network_change(
        &self,
        _: Request<GetNetworkChangeRequest>,
    ) -> Result<Response<GetNetworkChangeResponse>, Status> {
        let view = waiting::view(&self.app).map_err(refused)?;
        Ok(Response::new(GetNetworkChangeResponse {
            waiting: view.waiting.map(shown),
            last_rollback_unix_ms: view.last_rollback.map_or(0, |rollback| rollback.at_unix_ms),
        }))
    }

    async fn confirm_network_change(
        &self,
        request: Request<ConfirmNetworkChangeRequest>,
    ) -> Result<Response<ConfirmNetworkChangeResponse>, Status> {
        let actor = self.actor(&request)?;
        waiting::confirm(&self.app, &actor, false)
            .await
            .map_err(refused)?;
        Ok(Response::new(ConfirmNetworkChangeResponse {}))
    }

    async fn roll_back_network_change(
        &self,
        request: Request<RollBackNetworkChangeRequest>,
    ) -> Result<Response<RollBackNetworkChangeResponse>, Status> {
        let actor = self.actor(&request)?;
        waiting::roll_back(&self.app, &actor).await.map_err(refused)?;
        Ok(Response::new(RollBackNetworkChangeResponse {}))
    }
}

fn shown(waiting: Waiting) -> WaitingChange {
    let text = |name: Option<&str>| name.unwrap_or_default().to_owned();
    WaitingChange {
        removal: waiting.action == Action::Delete,
        peer: text(waiting.peer()),
        action: waiting.action.as_str().to_owned(),
        service: text(waiting.service()),
        author: waiting.wait.author,
        deadline_unix_ms: waiting.sent.map_or(0, |sent| sent.deadline_unix_ms),
        by_vpn: waiting.wait.by_vpn,
    }
}
