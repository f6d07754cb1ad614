//! Networks of services of a cell that is not there.

use cell_proto::api::v1::service_network_service_server::ServiceNetworkService;
use cell_proto::api::v1::*;
use tonic::{Code, Request, Response, Status};

use super::{Service, fault};

fn absent() -> Status {
    fault(
        Code::NotFound,
        "NO_SERVICE_NETWORK",
        "there is no network of a service of this name",
    )
}

#[tonic::async_trait]
impl ServiceNetworkService for Service {
    async fn list_service_networks(
        &self,
        _: Request<ListServiceNetworksRequest>,
    ) -> Result<Response<ListServiceNetworksResponse>, Status> {
        let networks = self.0.lock().unwrap().networks.clone();
        Ok(Response::new(ListServiceNetworksResponse { networks }))
    }

    async fn set_service_exit(
        &self,
        _: Request<SetServiceExitRequest>,
    ) -> Result<Response<SetServiceExitResponse>, Status> {
        Err(absent())
    }

    async fn set_service_reach(
        &self,
        request: Request<SetServiceReachRequest>,
    ) -> Result<Response<SetServiceReachResponse>, Status> {
        let SetServiceReachRequest {
            service,
            reach,
            validate_only,
        } = request.into_inner();
        let networks = &mut self.0.lock().unwrap().networks;
        let mut networks = networks.iter_mut();
        let network = networks
            .find(|network| network.service == service)
            .ok_or_else(absent)?;
        let changes = network.reach != reach;
        let after = ServiceNetwork {
            reach,
            ..network.clone()
        };
        let plan = match validate_only && changes {
            true => vec![format!("{service} reaches {}.", after.reach.len())],
            false => vec![],
        };
        if !validate_only {
            *network = after.clone();
        }
        Ok(Response::new(SetServiceReachResponse {
            network: Some(after),
            plan,
        }))
    }

    async fn explain_service_flow(
        &self,
        _: Request<ExplainServiceFlowRequest>,
    ) -> Result<Response<ExplainServiceFlowResponse>, Status> {
        Err(absent())
    }
}
