//! The gRPC services: decode, ask the reconciler, encode. No decisions.

use std::sync::Arc;

use cell_netd_core::confirm::{Refusal, Window};
use cell_netd_core::explain::NoAnswer;
use cell_netd_core::model::PeerName;
use cell_netd_core::validate::Rejection;
use cell_proto::fault::{Fault, Violation};
use cell_proto::ipc::Caller;
use cell_proto::netd::v1::network_service_server::{NetworkService, NetworkServiceServer};
use cell_proto::netd::v1::network_status_service_server::{NetworkStatusService, NetworkStatusServiceServer};
use cell_proto::netd::v1::{
    ApplyNetworkDeltaRequest, ApplyNetworkDeltaResponse, ApplyNetworkRequest, ApplyNetworkResponse,
    ConfirmNetworkRequest, ConfirmNetworkResponse, ExplainFlowRequest, ExplainFlowResponse,
    GetNetworkRequest, GetNetworkResponse, ListPeerStatusesRequest, ListPeerStatusesResponse,
    RollBackNetworkRequest, RollBackNetworkResponse, WatchNetworkRequest, WatchNetworkResponse,
};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio_stream::wrappers::WatchStream;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

use crate::kernel::KernelError;
use crate::reconciler::{Applied, ApplyError, Handle, Request as Ask};
use crate::{explain, proto};

const DOMAIN: &str = "netd.cell";
/// Changes of one answer.
const CHANGES_MAX: usize = 1000;
/// Named faults of one answer: they travel in a header, of which clients take some KiB.
const FAULTS_MAX: usize = 64;

/// What the listener `api` offers.
pub fn routes(handle: Handle) -> Routes {
    let service = Service(handle);
    let network = NetworkServiceServer::new(service.clone())
        .max_decoding_message_size(cell_proto::ipc::serve::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(cell_proto::ipc::serve::MAX_MESSAGE_BYTES);
    let status = NetworkStatusServiceServer::new(service)
        .max_encoding_message_size(cell_proto::ipc::serve::MAX_MESSAGE_BYTES);
    Routes::new(network).add_service(status)
}

#[derive(Debug, Clone)]
struct Service(Handle);

impl Service {
    fn seen<T>(&self, request: &Request<T>) {
        if let Some(caller) = request.extensions().get::<Caller>() {
            self.0.caller_seen(caller.unit_checked);
        }
    }
}

#[tonic::async_trait]
impl NetworkService for Service {
    async fn apply_network(
        &self,
        request: Request<ApplyNetworkRequest>,
    ) -> Result<Response<ApplyNetworkResponse>, Status> {
        self.seen(&request);
        let ApplyNetworkRequest {
            spec,
            etag,
            validate_only,
            confirm_within_seconds,
        } = request.into_inner();
        let spec = spec.ok_or_else(|| required("spec"))?;
        let window = window(confirm_within_seconds)?;
        let spec = proto::network_spec(spec);
        let outcome = self
            .0
            .ask(|reply| Ask::Apply {
                spec: Box::new(spec),
                etag,
                validate_only,
                window,
                reply,
            })
            .await
            .and_then(|done| done);
        let Applied {
            generation,
            etag,
            changes,
            pending,
        } = outcome.map_err(refusal)?;
        let change_count = u32::try_from(changes.len()).unwrap_or(u32::MAX);
        let changes = changes
            .into_iter()
            .take(CHANGES_MAX)
            .map(proto::from_change)
            .collect();
        Ok(Response::new(ApplyNetworkResponse {
            generation,
            etag,
            changes,
            change_count,
            pending: pending.as_ref().map(proto::from_pending),
        }))
    }

    async fn apply_network_delta(
        &self,
        request: Request<ApplyNetworkDeltaRequest>,
    ) -> Result<Response<ApplyNetworkDeltaResponse>, Status> {
        self.seen(&request);
        let ApplyNetworkDeltaRequest {
            base_etag,
            upserted_peers,
            removed_peers,
            validate_only,
            confirm_within_seconds,
        } = request.into_inner();
        if base_etag.is_empty() {
            return Err(required("base_etag"));
        }
        let window = window(confirm_within_seconds)?;
        let spec = proto::delta_spec(upserted_peers, removed_peers);
        let ask = |reply| Ask::ApplyDelta {
            spec,
            base_etag,
            validate_only,
            window,
            reply,
        };
        let outcome = self.0.ask(ask).await.and_then(|done| done);
        let Applied {
            generation,
            etag,
            changes,
            pending,
        } = outcome.map_err(refusal)?;
        let changes = changes.into_iter().map(proto::from_change).collect();
        Ok(Response::new(ApplyNetworkDeltaResponse {
            generation,
            etag,
            changes,
            pending: pending.as_ref().map(proto::from_pending),
        }))
    }

    async fn confirm_network(
        &self,
        request: Request<ConfirmNetworkRequest>,
    ) -> Result<Response<ConfirmNetworkResponse>, Status> {
        self.seen(&request);
        let etag = named(request.into_inner().etag)?;
        let outcome = self.0.ask(|reply| Ask::Confirm { etag, reply }).await;
        let (generation, etag) = outcome.and_then(|done| done).map_err(refusal)?;
        Ok(Response::new(ConfirmNetworkResponse { generation, etag }))
    }

    async fn roll_back_network(
        &self,
        request: Request<RollBackNetworkRequest>,
    ) -> Result<Response<RollBackNetworkResponse>, Status> {
        self.seen(&request);
        let etag = named(request.into_inner().etag)?;
        let outcome = self.0.ask(|reply| Ask::RollBack { etag, reply }).await;
        let (generation, etag) = outcome.and_then(|done| done).map_err(refusal)?;
        Ok(Response::new(RollBackNetworkResponse { generation, etag }))
    }
}

#[tonic::async_trait]
impl NetworkStatusService for Service {
    type WatchNetworkStream = BoxStream<'static, Result<WatchNetworkResponse, Status>>;

    async fn get_network(
        &self,
        request: Request<GetNetworkRequest>,
    ) -> Result<Response<GetNetworkResponse>, Status> {
        self.seen(&request);
        let GetNetworkRequest { include_spec } = request.into_inner();
        let ask = |reply| Ask::Get {
            reply,
            include_desired: include_spec,
        };
        let (status, desired) = self.0.ask(ask).await.map_err(refusal)?;
        Ok(Response::new(GetNetworkResponse {
            status: Some(proto::from_status(&status)),
            spec: desired.as_ref().map(proto::from_desired),
        }))
    }

    async fn watch_network(
        &self,
        request: Request<WatchNetworkRequest>,
    ) -> Result<Response<Self::WatchNetworkStream>, Status> {
        self.seen(&request);
        // The task publishes at every look, so a watcher hears at least every few seconds.
        let statuses = WatchStream::new(self.0.watch()).map(|status: Arc<crate::status::Status>| {
            Ok(WatchNetworkResponse {
                status: Some(proto::from_status(&status)),
            })
        });
        Ok(Response::new(statuses.boxed()))
    }

    async fn explain_flow(
        &self,
        request: Request<ExplainFlowRequest>,
    ) -> Result<Response<ExplainFlowResponse>, Status> {
        self.seen(&request);
        let question = explain::question(request.into_inner()).map_err(invalid)?;
        let fate = self
            .0
            .ask(|reply| Ask::Explain { question, reply })
            .await
            .map_err(refusal)?;
        Ok(Response::new(explain::answer(&fate.map_err(unanswered)?)))
    }

    async fn list_peer_statuses(
        &self,
        request: Request<ListPeerStatusesRequest>,
    ) -> Result<Response<ListPeerStatusesResponse>, Status> {
        self.seen(&request);
        let ListPeerStatusesRequest { name } = request.into_inner();
        let only = match name.parse::<PeerName>() {
            _ if name.is_empty() => None,
            Ok(name) => Some(name),
            Err(error) => return Err(invalid(vec![Violation::new("name", error)])),
        };
        let table = self
            .0
            .ask(|reply| Ask::PeerStatuses { only, reply })
            .await
            .map_err(refusal)?;
        let table = table.map_err(|error| refusal(error.into()))?;
        let mut peers: Vec<_> = table
            .into_iter()
            .map(|(key, (peer, statistics))| (peer.unwrap_or_default(), key, statistics))
            .map(|(peer, key, statistics)| proto::from_statistics(peer, key.as_bytes(), &statistics))
            .collect();
        peers.sort_by(|one, other| (&one.name, &one.public_key).cmp(&(&other.name, &other.public_key)));
        Ok(Response::new(ListPeerStatusesResponse { peers }))
    }
}

fn unanswered(error: NoAnswer) -> Status {
    let (code, reason) = match error {
        NoAnswer::NoPeer => (Code::NotFound, "NO_PEER"),
        NoAnswer::NoService => (Code::NotFound, "NO_SERVICE"),
        NoAnswer::NoAddress | NoAnswer::NoIpv6 => (Code::FailedPrecondition, "NO_ADDRESS"),
    };
    Fault::new(code, DOMAIN, reason, error.to_string()).into()
}

fn window(seconds: u32) -> Result<Option<Window>, Status> {
    let fault = |error| invalid(vec![Violation::new("confirm_within_seconds", error)]);
    Window::of_seconds(seconds).map_err(fault)
}

fn named(etag: String) -> Result<String, Status> {
    if etag.is_empty() {
        return Err(required("etag"));
    }
    Ok(etag)
}

fn required(field: &str) -> Status {
    invalid(vec![Violation::new(field, "is required")])
}

fn invalid(violations: Vec<Violation>) -> Status {
    Fault::new(
        Code::InvalidArgument,
        DOMAIN,
        "INVALID_SPEC",
        "the request has faults",
    )
    .violations(violations)
    .into()
}

/// The one place where a refusal becomes a status.
fn refusal(error: ApplyError) -> Status {
    let message = error.to_string();
    let fault = |code, reason| Fault::new(code, DOMAIN, reason, message.clone());
    match &error {
        ApplyError::Rejected(rejection) => {
            let (code, reason) = match rejection {
                Rejection::InvalidSpec(_) => (Code::InvalidArgument, "INVALID_SPEC"),
                Rejection::AboveCeiling(_) => (Code::PermissionDenied, "ABOVE_CEILING"),
            };
            let faults = rejection.violations();
            let named = faults.iter().take(FAULTS_MAX);
            let named = named
                .map(|fault| Violation::new(fault.field.as_str(), &fault.description))
                .collect();
            fault(code, reason)
                .with("fault_count", faults.len())
                .violations(named)
                .into()
        }
        ApplyError::Refused(refused) => {
            let (code, reason) = match refused {
                Refusal::EtagMismatch => (Code::Aborted, "ETAG_MISMATCH"),
                Refusal::NotPending => (Code::Aborted, "NOT_PENDING"),
                Refusal::ChangePending => (Code::FailedPrecondition, "CHANGE_PENDING"),
                Refusal::RolledBack => (Code::FailedPrecondition, "ROLLED_BACK"),
                Refusal::NoLastGood => (Code::FailedPrecondition, "NO_LAST_GOOD"),
            };
            fault(code, reason).into()
        }
        ApplyError::State(_) => {
            tracing::error!(%error, "a change could not be kept");
            fault(Code::Unavailable, "STATE").into()
        }
        ApplyError::Kernel(KernelError::Foreign { object }) => {
            fault(Code::FailedPrecondition, "FOREIGN_OBJECT")
                .with("owner", "another program")
                .with("object", object)
                .into()
        }
        ApplyError::Kernel(KernelError::NoKey(_)) => fault(Code::FailedPrecondition, "NO_KEY").into(),
        ApplyError::Kernel(KernelError::Legacy(_)) => {
            tracing::error!(%error, "an apply failed");
            fault(Code::Unavailable, "IPTABLES").into()
        }
        ApplyError::Kernel(_) | ApplyError::NotConverged(_) => {
            tracing::error!(%error, "an apply failed");
            let message = "the kernel refused; the journal of netd says why";
            Fault::new(Code::Unavailable, DOMAIN, "KERNEL", message).into()
        }
        ApplyError::Ending => fault(Code::Unavailable, "ENDING").into(),
    }
}
