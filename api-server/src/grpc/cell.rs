//! The cell as a whole.

use std::pin::Pin;
use std::sync::Arc;

use cell_proto::api::v1::cell_service_server::CellService;
use cell_proto::api::v1::{
    CellStatus, DaemonStatus, GetCellConfigRequest, GetCellConfigResponse, GetCellStatusRequest,
    GetCellStatusResponse, GetDomainRequest, GetDomainResponse, SetDomainRequest, SetDomainResponse,
    UpdateCellConfigRequest, UpdateCellConfigResponse, VerifyAuditRequest, VerifyAuditResponse,
    WatchCellStatusRequest, WatchCellStatusResponse,
};
use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};

use super::{Automation, config, domain, refused};
use crate::service::audit;
use crate::service::cell::{self, CellView};
use crate::service::domain as service;

type Statuses = Pin<Box<dyn Stream<Item = Result<WatchCellStatusResponse, Status>> + Send>>;

#[tonic::async_trait]
impl CellService for Automation {
    type WatchCellStatusStream = Statuses;

    async fn get_cell_status(
        &self,
        _: Request<GetCellStatusRequest>,
    ) -> Result<Response<GetCellStatusResponse>, Status> {
        let view = cell::status(&self.app).await.map_err(refused)?;
        Ok(Response::new(GetCellStatusResponse {
            status: Some(status(view)),
        }))
    }

    async fn watch_cell_status(
        &self,
        _: Request<WatchCellStatusRequest>,
    ) -> Result<Response<Statuses>, Status> {
        self.set_up()?;
        let mut changes = self.app.events.watch();
        changes.mark_changed();
        let state = (Arc::clone(&self.app), changes);
        let statuses = stream::unfold(state, |(app, mut changes)| async move {
            app.events.changed(&mut changes).await?;
            let answer = cell::status(&app).await.map_err(refused);
            let answer = answer.map(|view| WatchCellStatusResponse {
                status: Some(status(view)),
            });
            Some((answer, (app, changes)))
        });
        Ok(Response::new(Box::pin(statuses)))
    }

    async fn get_cell_config(
        &self,
        _: Request<GetCellConfigRequest>,
    ) -> Result<Response<GetCellConfigResponse>, Status> {
        let identity = cell::identity(&self.app).map_err(refused)?;
        let config = Some(config::shown(&self.app, &identity));
        Ok(Response::new(GetCellConfigResponse { config }))
    }

    async fn update_cell_config(
        &self,
        request: Request<UpdateCellConfigRequest>,
    ) -> Result<Response<UpdateCellConfigResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let input = config::input(request.into_inner());
        let identity = cell::configure(&self.app, &actor, input).await.map_err(refused)?;
        let config = Some(config::shown(&self.app, &identity));
        Ok(Response::new(UpdateCellConfigResponse { config }))
    }

    async fn get_domain(&self, _: Request<GetDomainRequest>) -> Result<Response<GetDomainResponse>, Status> {
        let view = service::view(&self.app).await.map_err(refused)?;
        Ok(Response::new(GetDomainResponse {
            setting: Some(domain::shown(&view)),
            token_is_set: view.token_is_set,
        }))
    }

    async fn set_domain(
        &self,
        request: Request<SetDomainRequest>,
    ) -> Result<Response<SetDomainResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let input = domain::input(request.into_inner());
        let view = service::set(&self.app, &actor, input).await.map_err(refused)?;
        Ok(Response::new(SetDomainResponse {
            setting: Some(domain::shown(&view)),
            token_is_set: view.token_is_set,
        }))
    }

    async fn verify_audit(
        &self,
        _: Request<VerifyAuditRequest>,
    ) -> Result<Response<VerifyAuditResponse>, Status> {
        self.set_up()?;
        let verdict = audit::verify(&self.app).await.map_err(refused)?;
        Ok(Response::new(VerifyAuditResponse {
            intact: verdict.fault.is_none(),
            record_count: verdict.record_count,
            anchor_count: verdict.anchor_count,
            first_bad_sequence: verdict.fault.map_or(0, |fault| fault.sequence()),
            detail: verdict.fault.map(|fault| fault.to_string()).unwrap_or_default(),
        }))
    }
}

fn status(view: CellView) -> CellStatus {
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let daemons = view.daemons.into_iter().map(|daemon| DaemonStatus {
        name: daemon.name.to_owned(),
        reachable: daemon.conditions.is_some(),
        conditions: daemon.conditions.unwrap_or_default(),
    });
    CellStatus {
        cell_name: view.identity.cell_name.as_str().to_owned(),
        domain_mode: view.identity.domain.mode().to_owned(),
        domain: view.identity.cell_name.domain(),
        uptime_seconds: view.uptime.as_secs(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation: view.generation,
        observed_generation: view.observed_generation,
        peer_count: small(view.peer_count),
        connected_peer_count: small(view.connected_peer_count.unwrap_or(0)),
        daemons: daemons.collect(),
    }
}
