//! `cell.wg.v1.WireguardService`: from the wire to the engine and back.

use std::sync::Arc;

use cell_proto::fault::{Fault, Violation};
use cell_proto::wg::v1;
use cell_proto::wg::v1::wireguard_service_server::{WireguardService, WireguardServiceServer};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

use crate::device::{DeviceError, Engine};
use crate::request;

const DOMAIN: &str = "wg.cell";

/// What is served on the listener `netd`, and nothing beside it.
pub fn routes(engine: Arc<Engine>) -> Routes {
    let service = WireguardServiceServer::new(Service { engine })
        .max_decoding_message_size(cell_proto::ipc::serve::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(cell_proto::ipc::serve::MAX_MESSAGE_BYTES);
    Routes::new(service)
}

struct Service {
    engine: Arc<Engine>,
}

#[tonic::async_trait]
impl WireguardService for Service {
    async fn set_device(
        &self,
        request: Request<v1::SetDeviceRequest>,
    ) -> Result<Response<v1::SetDeviceResponse>, Status> {
        let (interface, private_key, peers) = request::set_device(request.into_inner()).map_err(invalid)?;
        let set = self.engine.set(&interface, private_key, peers).await;
        set.map_err(failed)?;
        Ok(Response::new(v1::SetDeviceResponse {}))
    }

    async fn update_peers(
        &self,
        request: Request<v1::UpdatePeersRequest>,
    ) -> Result<Response<v1::UpdatePeersResponse>, Status> {
        let (interface, upserted, removed) = request::update_peers(request.into_inner()).map_err(invalid)?;
        let updated = self.engine.update(&interface, upserted, &removed).await;
        updated.map_err(failed)?;
        Ok(Response::new(v1::UpdatePeersResponse {}))
    }

    async fn get_device(
        &self,
        request: Request<v1::GetDeviceRequest>,
    ) -> Result<Response<v1::GetDeviceResponse>, Status> {
        let (interface, asked) = request::get_device(request.get_ref()).map_err(invalid)?;
        let observed = self.engine.get(&interface, asked).await.map_err(failed)?;
        Ok(Response::new(request::device(observed)))
    }
}

fn invalid(violations: Vec<Violation>) -> Status {
    let message = format!("the request has {} fault(s)", violations.len());
    Fault::new(Code::InvalidArgument, DOMAIN, "INVALID_REQUEST", message)
        .violations(violations)
        .into()
}

fn failed(error: DeviceError) -> Status {
    let (code, reason) = match &error {
        DeviceError::NoDevice => (Code::FailedPrecondition, "NO_DEVICE"),
        DeviceError::NoKey => (Code::FailedPrecondition, "NO_KEY"),
        // Of a hand-over alone.
        DeviceError::TooMany => (Code::ResourceExhausted, "TOO_MANY"),
        DeviceError::Failed(_) | DeviceError::NotTaken | DeviceError::Io(_) => {
            (Code::Internal, "DEVICE_FAILED")
        }
    };
    if code == Code::Internal {
        tracing::error!(%error, "device failed");
    }
    Fault::new(code, DOMAIN, reason, error.to_string()).into()
}
