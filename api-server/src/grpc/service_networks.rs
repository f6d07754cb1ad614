//! Networks of services.

use cell_api_core::connection::choice::Route;
use cell_api_core::flow::FlowInput;
use cell_api_core::service_network::Egress;
use cell_api_core::service_network::reach::ReachInput;
use cell_proto::api::v1::service_network_service_server::ServiceNetworkService;
use cell_proto::api::v1::{
    ExplainServiceFlowRequest, ExplainServiceFlowResponse, ListServiceNetworksRequest,
    ListServiceNetworksResponse, ServiceNetwork, SetServiceExitRequest, SetServiceExitResponse,
    SetServiceReachRequest, SetServiceReachResponse,
};
use tonic::{Request, Response, Status};

use super::peers::{explained, service_access, service_input};
use super::waiting::wait;
use super::{Automation, refused};
use crate::service::explain;
use crate::service::service_networks::{self, ExitInput, NetworkView, reach};

#[tonic::async_trait]
impl ServiceNetworkService for Automation {
    async fn list_service_networks(
        &self,
        _: Request<ListServiceNetworksRequest>,
    ) -> Result<Response<ListServiceNetworksResponse>, Status> {
        let all = service_networks::list(&self.app).await.map_err(refused)?;
        Ok(Response::new(ListServiceNetworksResponse {
            networks: all.into_iter().map(network).collect(),
        }))
    }

    async fn set_service_exit(
        &self,
        request: Request<SetServiceExitRequest>,
    ) -> Result<Response<SetServiceExitResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let SetServiceExitRequest {
            service,
            connection_id,
            fail_open,
            validate_only,
            confirm_within_seconds,
            fallback_connection_ids,
        } = request.into_inner();
        let wait = wait(&actor, confirm_within_seconds)?;
        let input = ExitInput {
            connection: connection_id,
            fail_open,
            fallbacks: fallback_connection_ids,
        };
        let (view, plan) = if validate_only {
            let planned = service_networks::plan_exit(&self.app, &actor, &service, input).await;
            let planned = planned.map_err(refused)?;
            (planned.view, planned.sentences)
        } else {
            let set = service_networks::set_exit(&self.app, &actor, &service, input, wait).await;
            (set.map_err(refused)?, Vec::new())
        };
        Ok(Response::new(SetServiceExitResponse {
            network: Some(network(view)),
            plan,
        }))
    }

    async fn set_service_reach(
        &self,
        request: Request<SetServiceReachRequest>,
    ) -> Result<Response<SetServiceReachResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let SetServiceReachRequest {
            service,
            reach,
            validate_only,
        } = request.into_inner();
        let input = ReachInput(reach.into_iter().map(service_input).collect());
        let (view, plan) = if validate_only {
            let planned = reach::plan(&self.app, &actor, &service, input).await;
            let planned = planned.map_err(refused)?;
            (planned.view, planned.sentences)
        } else {
            let set = reach::set(&self.app, &actor, &service, input).await;
            (set.map_err(refused)?, Vec::new())
        };
        Ok(Response::new(SetServiceReachResponse {
            network: Some(network(view)),
            plan,
        }))
    }

    async fn explain_service_flow(
        &self,
        request: Request<ExplainServiceFlowRequest>,
    ) -> Result<Response<ExplainServiceFlowResponse>, Status> {
        let ExplainServiceFlowRequest {
            service,
            destination,
            protocol,
            port,
        } = request.into_inner();
        let flow = FlowInput {
            destination,
            protocol,
            port,
        };
        let found = explain::explain_service(&self.app, &service, &flow).await;
        Ok(Response::new(ExplainServiceFlowResponse {
            flow: Some(explained(found.map_err(refused)?)),
        }))
    }
}

fn network(view: NetworkView) -> ServiceNetwork {
    let NetworkView {
        network,
        connection,
        fallbacks,
        route,
        way_out,
    } = view;
    let egress = match &network.egress {
        Egress::Nowhere => "none",
        Egress::Direct => "direct",
        Egress::Exit(_) => "exit",
    };
    let way = match route {
        None | Some(Route::Nowhere) => "nowhere",
        Some(Route::Own) => "direct",
        Some(Route::Exit(_)) => "exit",
    };
    let ids = network.egress.fallbacks().iter();
    ServiceNetwork {
        fallback_connection_ids: ids.map(ToString::to_string).collect(),
        fallback_connection_names: fallbacks,
        bridge: network.place.bridge(),
        subnet: network.place.subnet.to_string(),
        egress: egress.to_owned(),
        connection_id: network
            .egress
            .bound()
            .map(|id| id.to_string())
            .unwrap_or_default(),
        connection_name: connection.unwrap_or_default(),
        fail_open: network.egress.fail_open(),
        way: way.to_owned(),
        service: network.service.to_string(),
        has_way_out: way_out.is_open(),
        exit_types: way_out.kinds().map(|kind| kind.to_string()).collect(),
        reach: network.reach.iter().map(service_access).collect(),
    }
}
