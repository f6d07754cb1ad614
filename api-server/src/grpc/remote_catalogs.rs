//! Remote catalogs of the store.

use cell_manifest::Key;
use cell_proto::api::v1 as wire;
use cell_proto::api::v1::remote_catalog_service_server::RemoteCatalogService;
use tonic::{Request, Response, Status};

use super::{Automation, refused};
use crate::service::remote_catalogs::{self as remote, RemoteInput, RemoteView};

#[tonic::async_trait]
impl RemoteCatalogService for Automation {
    async fn list_remote_catalogs(
        &self,
        _: Request<wire::ListRemoteCatalogsRequest>,
    ) -> Result<Response<wire::ListRemoteCatalogsResponse>, Status> {
        let all = remote::list(&self.app).await.map_err(refused)?;
        Ok(Response::new(wire::ListRemoteCatalogsResponse {
            catalogs: all.into_iter().map(shown).collect(),
        }))
    }

    async fn add_remote_catalog(
        &self,
        request: Request<wire::AddRemoteCatalogRequest>,
    ) -> Result<Response<wire::AddRemoteCatalogResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let wire::AddRemoteCatalogRequest {
            name,
            url,
            keys,
            ca,
            connection_id,
        } = request.into_inner();
        let input = RemoteInput {
            name,
            url,
            keys,
            ca,
            connection: connection_id,
        };
        let view = remote::add(&self.app, &actor, input).await.map_err(refused)?;
        Ok(Response::new(wire::AddRemoteCatalogResponse {
            catalog: Some(shown(view)),
        }))
    }

    async fn remove_remote_catalog(
        &self,
        request: Request<wire::RemoveRemoteCatalogRequest>,
    ) -> Result<Response<wire::RemoveRemoteCatalogResponse>, Status> {
        let actor = self.actor(&request)?;
        let done = remote::remove(&self.app, &actor, &request.into_inner().name).await;
        done.map_err(refused)?;
        Ok(Response::new(wire::RemoveRemoteCatalogResponse {}))
    }

    async fn refresh_remote_catalog(
        &self,
        request: Request<wire::RefreshRemoteCatalogRequest>,
    ) -> Result<Response<wire::RefreshRemoteCatalogResponse>, Status> {
        self.set_up()?;
        let view = remote::refresh(&self.app, &request.into_inner().name).await;
        Ok(Response::new(wire::RefreshRemoteCatalogResponse {
            catalog: Some(shown(view.map_err(refused)?)),
        }))
    }
}

fn shown(view: RemoteView) -> wire::RemoteCatalog {
    let RemoteView {
        stored,
        live,
        connection_name,
        expired,
    } = view;
    let index = stored.index.as_ref();
    wire::RemoteCatalog {
        url: stored.url.to_string(),
        public_keys: stored.keys.iter().map(Key::to_pem).collect(),
        connection_id: stored.connection.map(|id| id.to_string()).unwrap_or_default(),
        connection_name: connection_name.unwrap_or_default(),
        serial: index.map_or(0, |index| index.serial),
        issued_unix_ms: index.map_or(0, |index| index.issued_s.saturating_mul(1000)),
        expires_unix_ms: index.map_or(0, |index| index.expires_s.saturating_mul(1000)),
        expired,
        services: index.map_or(0, |index| u32::try_from(index.lines.len()).unwrap_or(u32::MAX)),
        refreshed_unix_ms: stored.refreshed,
        error: stored.error,
        refreshing: live.refreshing,
        fetched: live.fetched,
        to_fetch: live.to_fetch,
        next_unix_ms: live.next,
        ca: stored.ca,
        name: stored.name,
    }
}
