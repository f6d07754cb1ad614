//! Peers.

use cell_api_core::access::{AccessInput, Service, ServiceInput};
use cell_api_core::connection::choice::ExitInput;
use cell_api_core::fault::Faults;
use cell_api_core::flow::FlowInput;
use cell_api_core::peer::{PeerInput, PeerUpdateInput};
use cell_proto::api::v1::peer_service_server::PeerService;
use cell_proto::api::v1::{
    ChangePlan, CreatePeerRequest, CreatePeerResponse, DeletePeerRequest, DeletePeerResponse,
    DeliverPeerConfigRequest, DeliverPeerConfigResponse, ExplainFlowRequest, ExplainFlowResponse,
    ExplainedExit, GetPeerConfigRequest, GetPeerConfigResponse, GetPeerRequest, GetPeerResponse,
    ListPeersRequest, ListPeersResponse, Peer, PeerAccess, PeerActivity, ServiceAccess, SetPeerExitRequest,
    SetPeerExitResponse, SetPeerFailOpenRequest, SetPeerFailOpenResponse, SetPeerFallbacksRequest,
    SetPeerFallbacksResponse, UpdatePeerRequest, UpdatePeerResponse,
};
use tonic::{Request, Response, Status};

use super::plan::change_plan;
use super::waiting::wait;
use super::{Automation, refused};
use crate::service::peers::{self, Accounts, Activity, ExitChange, PeerView};
use crate::service::plan::Author;
use crate::service::{Actor, ServiceError, explain};
use crate::store::waiting::Wait;

#[tonic::async_trait]
impl PeerService for Automation {
    async fn list_peers(&self, _: Request<ListPeersRequest>) -> Result<Response<ListPeersResponse>, Status> {
        let peers = peers::list(&self.app).await.map_err(refused)?;
        Ok(Response::new(ListPeersResponse {
            peers: peers.into_iter().map(peer).collect(),
        }))
    }

    async fn get_peer(&self, request: Request<GetPeerRequest>) -> Result<Response<GetPeerResponse>, Status> {
        let view = peers::get(&self.app, &request.into_inner().name)
            .await
            .map_err(refused)?;
        Ok(Response::new(GetPeerResponse {
            peer: Some(peer(view)),
        }))
    }

    async fn explain_flow(
        &self,
        request: Request<ExplainFlowRequest>,
    ) -> Result<Response<ExplainFlowResponse>, Status> {
        let ExplainFlowRequest {
            name,
            destination,
            protocol,
            port,
        } = request.into_inner();
        let flow = FlowInput {
            destination,
            protocol,
            port,
        };
        let found = explain::explain(&self.app, &name, &flow).await;
        Ok(Response::new(explained(found.map_err(refused)?)))
    }

    async fn create_peer(
        &self,
        request: Request<CreatePeerRequest>,
    ) -> Result<Response<CreatePeerResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let CreatePeerRequest {
            name,
            public_key,
            server_makes_key,
            access,
            tunnel,
            exit,
            fail_open,
            fallbacks,
        } = request.into_inner();
        let input = PeerInput {
            name,
            public_key: Some(public_key).filter(|key| !key.is_empty()),
            server_makes_key,
            access: access.map(access_input),
            tunnel: Some(tunnel),
            exit: ExitInput {
                exit: Some(exit).filter(|exit| !exit.is_empty()),
                fail_open: fail_open.map(Some),
                fallbacks: Some(fallbacks).filter(|list| !list.is_empty()),
            },
        };
        let created = peers::create(&self.app, &actor, input).await.map_err(refused)?;
        let config = created.config.to_string();
        Ok(Response::new(CreatePeerResponse {
            peer: Some(peer(created.view)),
            config,
        }))
    }

    async fn update_peer(
        &self,
        request: Request<UpdatePeerRequest>,
    ) -> Result<Response<UpdatePeerResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let UpdatePeerRequest {
            name,
            public_key,
            access,
            tunnel,
            if_version,
            exit,
            confirm_within_seconds,
            validate_only,
            fail_open,
            fallbacks,
        } = request.into_inner();
        let wait = wait(&actor, confirm_within_seconds)?;
        let input = PeerUpdateInput {
            public_key,
            access: access.map(access_input),
            tunnel,
            exit: ExitInput {
                exit,
                fail_open: fail_open.map(|word| word.own),
                fallbacks: fallbacks.map(|list| list.connections),
            },
        };
        if validate_only {
            let by = Author::Otherwise;
            let plan = peers::plan_update(&self.app, &actor, &name, &input, if_version, by).await;
            return Ok(Response::new(UpdatePeerResponse {
                peer: None,
                plan: Some(change_plan(plan.map_err(refused)?)),
            }));
        }
        let view = peers::update(&self.app, &actor, &name, &input, if_version, wait)
            .await
            .map_err(refused)?;
        Ok(Response::new(UpdatePeerResponse {
            peer: Some(peer(view)),
            plan: None,
        }))
    }

    async fn set_peer_exit(
        &self,
        request: Request<SetPeerExitRequest>,
    ) -> Result<Response<SetPeerExitResponse>, Status> {
        let actor = self.actor(&request)?;
        let SetPeerExitRequest {
            name,
            exit,
            confirm_within_seconds,
            validate_only,
        } = request.into_inner();
        let how = (wait(&actor, confirm_within_seconds)?, validate_only);
        let change = ExitChange::exit(exit);
        let (peer, plan) = self.set_exit(&actor, &name, change, how).await?;
        Ok(Response::new(SetPeerExitResponse { peer, plan }))
    }

    async fn set_peer_fail_open(
        &self,
        request: Request<SetPeerFailOpenRequest>,
    ) -> Result<Response<SetPeerFailOpenResponse>, Status> {
        let actor = self.actor(&request)?;
        let SetPeerFailOpenRequest {
            name,
            fail_open,
            confirm_within_seconds,
            validate_only,
        } = request.into_inner();
        let how = (wait(&actor, confirm_within_seconds)?, validate_only);
        let change = ExitChange::fail_open(fail_open);
        let (peer, plan) = self.set_exit(&actor, &name, change, how).await?;
        Ok(Response::new(SetPeerFailOpenResponse { peer, plan }))
    }

    async fn set_peer_fallbacks(
        &self,
        request: Request<SetPeerFallbacksRequest>,
    ) -> Result<Response<SetPeerFallbacksResponse>, Status> {
        let actor = self.actor(&request)?;
        let SetPeerFallbacksRequest {
            name,
            connections,
            confirm_within_seconds,
            validate_only,
        } = request.into_inner();
        let how = (wait(&actor, confirm_within_seconds)?, validate_only);
        let change = ExitChange::fallbacks(connections);
        let (peer, plan) = self.set_exit(&actor, &name, change, how).await?;
        Ok(Response::new(SetPeerFallbacksResponse { peer, plan }))
    }

    async fn get_peer_config(
        &self,
        request: Request<GetPeerConfigRequest>,
    ) -> Result<Response<GetPeerConfigResponse>, Status> {
        let config = peers::config(&self.app, &request.into_inner().name)
            .await
            .map_err(refused)?;
        Ok(Response::new(GetPeerConfigResponse {
            config: config.to_string(),
        }))
    }

    async fn deliver_peer_config(
        &self,
        request: Request<DeliverPeerConfigRequest>,
    ) -> Result<Response<DeliverPeerConfigResponse>, Status> {
        let actor = self.actor(&request)?;
        let config = peers::deliver_config(&self.app, &actor, &request.into_inner().name)
            .await
            .map_err(refused)?;
        Ok(Response::new(DeliverPeerConfigResponse {
            config: config.to_string(),
        }))
    }

    async fn delete_peer(
        &self,
        request: Request<DeletePeerRequest>,
    ) -> Result<Response<DeletePeerResponse>, Status> {
        let actor = self.actor(&request)?;
        let DeletePeerRequest {
            name,
            confirm_within_seconds,
            validate_only,
            delete_accounts,
        } = request.into_inner();
        let wait = wait(&actor, confirm_within_seconds)?;
        let accounts = match (delete_accounts, &wait) {
            (true, Some(_)) => {
                let faults = Faults::one(
                    "delete_accounts",
                    "cannot wait for a confirmation: remove the device at once, or keep its accounts",
                );
                return Err(refused(ServiceError::from(faults)));
            }
            (true, None) => Accounts::Go,
            (false, _) => Accounts::Stay,
        };
        if validate_only {
            let plan = peers::plan_delete(&self.app, &actor, &name, Author::Otherwise, accounts).await;
            let plan = Some(change_plan(plan.map_err(refused)?));
            return Ok(Response::new(DeletePeerResponse { plan }));
        }
        peers::delete(&self.app, &actor, &name, wait, accounts)
            .await
            .map_err(refused)?;
        Ok(Response::new(DeletePeerResponse { plan: None }))
    }
}

impl Automation {
    async fn set_exit(
        &self,
        actor: &Actor,
        name: &str,
        change: ExitChange,
        (wait, validate_only): (Option<Wait>, bool),
    ) -> Result<(Option<Peer>, Option<ChangePlan>), Status> {
        self.set_up()?;
        if validate_only {
            let plan = peers::plan_exit(&self.app, actor, name, change, Author::Otherwise).await;
            return Ok((None, Some(change_plan(plan.map_err(refused)?))));
        }
        let view = peers::set_exit(&self.app, actor, name, change, wait).await;
        Ok((Some(view.map(peer).map_err(refused)?), None))
    }
}

fn access_input(access: PeerAccess) -> AccessInput {
    AccessInput {
        internet: access.internet,
        peer_to_peer: access.peer_to_peer,
        services: access.services.into_iter().map(service_input).collect(),
    }
}

pub(super) fn service_input(service: ServiceAccess) -> ServiceInput {
    ServiceInput {
        address: service.address,
        protocol: service.protocol,
        port: service.port.into(),
    }
}

pub(super) fn service_access(service: &Service) -> ServiceAccess {
    ServiceAccess {
        address: service.address.to_string(),
        protocol: service.protocol.as_str().to_owned(),
        port: service.port.into(),
    }
}

fn peer(view: PeerView) -> Peer {
    let (way, way_connection_id) = view.way();
    let access = &view.peer.access;
    let services = access.services.iter().map(service_access);
    Peer {
        version: view.version,
        way: way.to_owned(),
        way_connection_id: way_connection_id.unwrap_or_default(),
        name: view.peer.name.to_string(),
        public_key: view.peer.public_key.to_string(),
        ipv4: view.ipv4.to_string(),
        ipv6: view.ipv6.to_string(),
        access: Some(PeerAccess {
            internet: access.internet,
            peer_to_peer: access.peer_to_peer,
            services: services.collect(),
        }),
        tunnel: view.peer.tunnel.as_str().to_owned(),
        exit_connection_id: view
            .peer
            .exit
            .bound()
            .map(|id| id.to_string())
            .unwrap_or_default(),
        fail_open: view.peer.exit.fail_open(),
        fallback_connection_ids: view
            .peer
            .exit
            .fallbacks()
            .iter()
            .map(ToString::to_string)
            .collect(),
        config_needs_reinstall: view.config_needs_reinstall,
        created_unix_ms: view.created_unix_ms,
        activity: view.activity.map(activity),
    }
}

fn activity(activity: Activity) -> PeerActivity {
    PeerActivity {
        connected: activity.connected,
        latest_handshake_unix_ms: activity.latest_handshake_unix_ms.unwrap_or(0),
        received_bytes: activity.received_bytes,
        sent_bytes: activity.sent_bytes,
        endpoint: activity
            .endpoint
            .map(|endpoint| endpoint.to_string())
            .unwrap_or_default(),
    }
}

/// What becomes of a packet.
pub(super) fn explained(found: explain::Explanation) -> ExplainFlowResponse {
    let explain::Explanation {
        passes,
        reason,
        counter,
        target,
        source,
        translated_to,
        masqueraded,
        steps,
        exit,
    } = found;
    ExplainFlowResponse {
        passes,
        reason,
        counter: counter.unwrap_or_default(),
        target,
        source,
        translated_to: translated_to.unwrap_or_default(),
        masqueraded,
        steps,
        exit: exit.map(|exit| ExplainedExit {
            connection_id: exit.connection_id,
            connection_name: exit.connection_name.unwrap_or_default(),
            mark: format!("{:#x}", exit.mark),
            table: exit.table.unwrap_or(0),
            iface: exit.iface.unwrap_or_default(),
            redirect_port: exit.redirect_port.unwrap_or(0),
        }),
    }
}
