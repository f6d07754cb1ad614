//! Connections.

use cell_api_core::connection::allocation::Device;
use cell_api_core::connection::config::Server;
use cell_api_core::connection::input::{ConnectionInput, ConnectionUpdateInput, ImportInput};
use cell_proto::api::v1::connection_service_server::ConnectionService;
use cell_proto::api::v1::{
    Connection, ConnectionConfig, ConnectionImport, ConnectionServer, ConnectionStatus,
    CreateConnectionRequest, CreateConnectionResponse, DeleteConnectionRequest, DeleteConnectionResponse,
    GetConnectionRequest, GetConnectionResponse, ImportFirstVersionRequest, ImportFirstVersionResponse,
    ListConnectionsRequest, ListConnectionsResponse, UpdateConnectionRequest, UpdateConnectionResponse,
};
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::plan::connection_plan;
use super::waiting::wait;
use super::{Automation, first_version, refused};
use crate::service::connections::{self, ConnectionView};
use crate::service::plan::Author;

#[tonic::async_trait]
impl ConnectionService for Automation {
    async fn list_connections(
        &self,
        _: Request<ListConnectionsRequest>,
    ) -> Result<Response<ListConnectionsResponse>, Status> {
        let all = connections::list(&self.app).await.map_err(refused)?;
        Ok(Response::new(ListConnectionsResponse {
            connections: all.into_iter().map(connection).collect(),
        }))
    }

    async fn get_connection(
        &self,
        request: Request<GetConnectionRequest>,
    ) -> Result<Response<GetConnectionResponse>, Status> {
        let found = connections::get(&self.app, &request.into_inner().id).await;
        Ok(Response::new(GetConnectionResponse {
            connection: Some(connection(found.map_err(refused)?)),
        }))
    }

    async fn create_connection(
        &self,
        request: Request<CreateConnectionRequest>,
    ) -> Result<Response<CreateConnectionResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let CreateConnectionRequest { name, r#type, import } = request.into_inner();
        let input = ConnectionInput {
            name,
            kind: r#type,
            import: import.map(import_input).unwrap_or_default(),
        };
        let stored = connections::create(&self.app, &actor, input)
            .await
            .map_err(refused)?;
        Ok(Response::new(CreateConnectionResponse {
            connection: Some(connection(stored.view)),
            notes: stored.notes,
        }))
    }

    async fn update_connection(
        &self,
        request: Request<UpdateConnectionRequest>,
    ) -> Result<Response<UpdateConnectionResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let UpdateConnectionRequest {
            id,
            name,
            import,
            if_version,
            validate_only,
        } = request.into_inner();
        let input = ConnectionUpdateInput {
            name,
            import: import.map(import_input),
        };
        if validate_only {
            let planned =
                connections::plan_update(&self.app, &id, input, if_version, Author::Otherwise).await;
            return Ok(Response::new(connection_plan(planned.map_err(refused)?)));
        }
        let stored = connections::update(&self.app, &actor, &id, input, if_version)
            .await
            .map_err(refused)?;
        Ok(Response::new(UpdateConnectionResponse {
            connection: Some(connection(stored.view)),
            notes: stored.notes,
            ..UpdateConnectionResponse::default()
        }))
    }

    async fn delete_connection(
        &self,
        request: Request<DeleteConnectionRequest>,
    ) -> Result<Response<DeleteConnectionResponse>, Status> {
        let actor = self.actor(&request)?;
        connections::delete(&self.app, &actor, &request.into_inner().id)
            .await
            .map_err(refused)?;
        Ok(Response::new(DeleteConnectionResponse {}))
    }

    async fn import_first_version(
        &self,
        request: Request<ImportFirstVersionRequest>,
    ) -> Result<Response<ImportFirstVersionResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let request = request.into_inner();
        let wait = wait(&actor, request.confirm_within_seconds)?;
        first_version::import(&self.app, &actor, request, wait)
            .await
            .map(Response::new)
            .map_err(refused)
    }
}

fn import_input(import: ConnectionImport) -> ImportInput {
    let ConnectionImport {
        file,
        username,
        password,
        url,
        target,
        private_key,
        host_keys,
    } = import;
    let given = |text: String| Some(Zeroizing::new(text));
    ImportInput {
        file: given(file),
        username: given(username),
        password: given(password),
        url: given(url),
        target: given(target),
        private_key: given(private_key),
        host_keys: given(host_keys),
    }
}

fn connection(view: ConnectionView) -> Connection {
    let (version, vault_names) = (view.version(), view.vault_names());
    let stored = view.stored;
    let (iface, redirect_port) = match stored.allocation.device {
        Device::Interface(name) => (name, 0),
        Device::RedirectPort(port) => (String::new(), port.into()),
        Device::Link => (String::new(), 0),
    };
    let shown = stored.config.shown();
    Connection {
        id: stored.id.to_string(),
        r#type: stored.config.kind().to_string(),
        name: stored.name.to_string(),
        mark: format!("{:#x}", stored.allocation.mark),
        table: stored.allocation.table,
        iface,
        redirect_port,
        config: Some(ConnectionConfig {
            servers: shown.servers.into_iter().map(server).collect(),
            username: shown.username.unwrap_or_default(),
            addresses: shown.addresses,
            resolvers: shown.resolvers,
            host_public_keys: shown.host_public_keys,
        }),
        vault_names,
        status: Some(ConnectionStatus {
            health: view.judged.health.as_str().to_owned(),
            detail: view.judged.detail,
            probed_unix_ms: view.judged.seen_unix_ms.unwrap_or(0),
            proven_unix_ms: view.judged.proven_unix_ms.unwrap_or(0),
        }),
        version,
        created_unix_ms: stored.created_unix_ms,
    }
}

fn server(server: Server) -> ConnectionServer {
    ConnectionServer {
        protocol: server.protocol.to_owned(),
        host: server.host,
        port: server.port.into(),
        public_key: server.public_key.unwrap_or_default(),
    }
}
