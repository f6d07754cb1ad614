//! The automation API (`cell.api.v1`): the same services as REST, for whoever the socket lets in.

pub mod accounts;
mod cell;
pub mod config;
pub mod connections;
mod domain;
mod first_version;
mod managers;
pub mod peers;
pub mod plan;
mod remote_catalogs;
pub mod service_networks;
pub mod setup;
pub mod store;
pub mod users;
pub mod waiting;

use std::sync::Arc;

use cell_api_core::role::Role;
use cell_proto::api::v1::account_service_server::AccountServiceServer;
use cell_proto::api::v1::cell_service_server::CellServiceServer;
use cell_proto::api::v1::connection_service_server::ConnectionServiceServer;
use cell_proto::api::v1::manager_service_server::ManagerServiceServer;
use cell_proto::api::v1::network_change_service_server::NetworkChangeServiceServer;
use cell_proto::api::v1::peer_service_server::PeerServiceServer;
use cell_proto::api::v1::remote_catalog_service_server::RemoteCatalogServiceServer;
use cell_proto::api::v1::service_network_service_server::ServiceNetworkServiceServer;
use cell_proto::api::v1::setup_service_server::SetupServiceServer;
use cell_proto::api::v1::store_service_server::StoreServiceServer;
use cell_proto::api::v1::user_service_server::UserServiceServer;
use cell_proto::fault::{Fault, Violation};
use cell_proto::ipc::Caller;
use tonic::service::Routes;
use tonic::{Code, Request, Status};

use crate::app::App;
use crate::callers::Callers;
use crate::service::{Actor, Kind, ServiceError};

/// What each service holds.
#[derive(Clone)]
pub struct Automation {
    app: Arc<App>,
    callers: Arc<Callers>,
}

/// Everything that is registered on the automation socket.
pub fn routes(app: Arc<App>, callers: Callers) -> Routes {
    let automation = Automation {
        app,
        callers: Arc::new(callers),
    };
    Routes::new(SetupServiceServer::new(automation.clone()))
        .add_service(CellServiceServer::new(automation.clone()))
        .add_service(UserServiceServer::new(automation.clone()))
        .add_service(PeerServiceServer::new(automation.clone()))
        .add_service(NetworkChangeServiceServer::new(automation.clone()))
        .add_service(ServiceNetworkServiceServer::new(automation.clone()))
        .add_service(StoreServiceServer::new(automation.clone()))
        .add_service(AccountServiceServer::new(automation.clone()))
        .add_service(ManagerServiceServer::new(automation.clone()))
        .add_service(RemoteCatalogServiceServer::new(automation.clone()))
        .add_service(ConnectionServiceServer::new(automation))
}

impl Automation {
    /// Who calls, for the audit record. A request without a checked caller came past the gate and is refused.
    fn actor<T>(&self, request: &Request<T>) -> Result<Actor, Status> {
        let uid = request.extensions().get::<Caller>().map(|caller| caller.uid);
        let name = uid.and_then(|uid| self.callers.0.get(&uid));
        let name = name.ok_or_else(|| Status::permission_denied("no caller"))?;
        Ok(Actor {
            name: format!("local:{name}"),
            role: Some(Role::Admin),
            remote: "unix".to_owned(),
        })
    }

    /// Everything but the first run needs a complete setup.
    fn set_up(&self) -> Result<(), Status> {
        self.app
            .identity()
            .map(|_| ())
            .ok_or_else(|| refused(ServiceError::SetupRequired))
    }
}

/// A refusal on the wire: the same codes as REST's problem documents.
fn refused(error: ServiceError) -> Status {
    let (kind, reason) = error.kind();
    let mut fault = Fault::new(code_of(kind), "api.cell", reason, error.to_string());
    if let Some(seconds) = error.retry_after() {
        fault = fault.with("retry_after_seconds", seconds);
    }
    if let ServiceError::Invalid(faults) = error {
        let violations = faults
            .into_violations()
            .into_iter()
            .map(|v| Violation::new(v.field, v.description));
        fault = fault.violations(violations.collect());
    }
    fault.into()
}

fn code_of(kind: Kind) -> Code {
    match kind {
        Kind::Invalid => Code::InvalidArgument,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::Forbidden => Code::PermissionDenied,
        Kind::NotFound => Code::NotFound,
        Kind::Exists => Code::AlreadyExists,
        Kind::Conflict | Kind::Precondition | Kind::SetupRequired => Code::FailedPrecondition,
        Kind::Stale => Code::Aborted,
        Kind::TooMany | Kind::NoRoom => Code::ResourceExhausted,
        Kind::Unavailable => Code::Unavailable,
        Kind::Internal => Code::Internal,
    }
}
