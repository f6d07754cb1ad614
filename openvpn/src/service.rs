//! `cell.openvpn.v1.OpenvpnService`: from the wire to the supervisor, and back.

use std::sync::Arc;

use cell_openvpn_core::request::Ceiling;
use cell_proto::fault::{Fault, Violation};
use cell_proto::openvpn::v1;
use cell_proto::openvpn::v1::openvpn_service_server::{OpenvpnService, OpenvpnServiceServer};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

use crate::request;
use crate::supervisor::Supervisor;

const DOMAIN: &str = "openvpn.cell";
/// Largest message that is decoded, bytes: the certificates of all exits fit.
const MESSAGE_MAX: usize = 16 * 1024 * 1024;

/// What is served on the listener `api`, and nothing beside it.
pub fn routes(supervisor: Arc<Supervisor>, ceiling: Ceiling) -> Routes {
    let service = Service { supervisor, ceiling };
    Routes::new(OpenvpnServiceServer::new(service).max_decoding_message_size(MESSAGE_MAX))
}

struct Service {
    supervisor: Arc<Supervisor>,
    ceiling: Ceiling,
}

#[tonic::async_trait]
impl OpenvpnService for Service {
    async fn apply_exits(
        &self,
        request: Request<v1::ApplyExitsRequest>,
    ) -> Result<Response<v1::ApplyExitsResponse>, Status> {
        let exits = request::apply_exits(request.get_ref(), &self.ceiling).map_err(invalid)?;
        // To its end, though the caller goes away meanwhile.
        let supervisor = Arc::clone(&self.supervisor);
        let applied = tokio::spawn(async move { supervisor.apply(exits).await });
        let exits = applied
            .await
            .map_err(|_| Status::internal("the change was not made"))?;
        let exits = exits.into_iter().map(request::status).collect();
        Ok(Response::new(v1::ApplyExitsResponse { exits }))
    }

    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let exits = self.supervisor.status().await;
        let exits = exits.into_iter().map(request::status).collect();
        Ok(Response::new(v1::GetStatusResponse { exits }))
    }
}

fn invalid(violations: Vec<Violation>) -> Status {
    let message = format!("the request has {} fault(s)", violations.len());
    Fault::new(Code::InvalidArgument, DOMAIN, "INVALID_REQUEST", message)
        .violations(violations)
        .into()
}
