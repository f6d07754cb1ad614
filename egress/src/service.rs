//! `cell.egress.v1.EgressService`: from the wire to the engine and back.

use std::sync::Arc;

use cell_proto::egress::v1;
use cell_proto::egress::v1::egress_service_server::{EgressService, EgressServiceServer};
use cell_proto::fault::{Fault, Violation};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

use crate::engine::Engine;
use crate::request;

const DOMAIN: &str = "egress.cell";
/// Largest message that is decoded, bytes: a hundred exits with all their host keys fit.
const MESSAGE_MAX: usize = 4 * 1024 * 1024;

/// What is served on the listener `api`, and nothing beside it.
pub fn routes(engine: Arc<Engine>) -> Routes {
    let service = EgressServiceServer::new(Service { engine }).max_decoding_message_size(MESSAGE_MAX);
    Routes::new(service)
}

struct Service {
    engine: Arc<Engine>,
}

#[tonic::async_trait]
impl EgressService for Service {
    async fn apply_exits(
        &self,
        request: Request<v1::ApplyExitsRequest>,
    ) -> Result<Response<v1::ApplyExitsResponse>, Status> {
        let reach = &self.engine.rules().reach;
        let table = request::apply_exits(request.get_ref(), reach).map_err(invalid)?;
        let exits = self
            .engine
            .apply(table)
            .await
            .into_iter()
            .map(request::status)
            .collect();
        Ok(Response::new(v1::ApplyExitsResponse { exits }))
    }

    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let exits = self
            .engine
            .status()
            .await
            .into_iter()
            .map(request::status)
            .collect();
        Ok(Response::new(v1::GetStatusResponse { exits }))
    }
}

fn invalid(violations: Vec<Violation>) -> Status {
    let message = format!("the request has {} fault(s)", violations.len());
    Fault::new(Code::InvalidArgument, DOMAIN, "INVALID_REQUEST", message)
        .violations(violations)
        .into()
}
