//! vaultd's socket for egress, with secrets that the test gives.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use cell_proto::ipc::{self, CallerPolicy};
use cell_proto::vault::v1::exit_secret_service_server::{ExitSecretService, ExitSecretServiceServer};
use cell_proto::vault::v1::{ReadExitSecretRequest, ReadExitSecretResponse};
use tokio::runtime::Runtime;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::NOBODY;
use super::inside::Kept;

/// A vault that answers the program under test alone.
pub struct Vault {
    pub secrets: Arc<Mutex<Kept>>,
    _runtime: Runtime,
    folder: tempfile::TempDir,
}

struct Served(Arc<Mutex<Kept>>);

#[tonic::async_trait]
impl ExitSecretService for Served {
    async fn read_exit_secret(
        &self,
        request: Request<ReadExitSecretRequest>,
    ) -> Result<Response<ReadExitSecretResponse>, Status> {
        let kept = self.0.lock().unwrap();
        let kept = kept.0.get(&request.get_ref().name).cloned();
        kept.map(|(value, revision)| Response::new(ReadExitSecretResponse { value, revision }))
            .ok_or_else(|| Status::not_found("no secret"))
    }
}

impl Vault {
    pub fn start(secrets: Kept) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let runtime = Runtime::new()?;
        let path = folder.path().join("vault.sock");
        let listener = runtime.block_on(async { tokio::net::UnixListener::bind(&path) })?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
        let policy = CallerPolicy {
            uids: vec![NOBODY],
            unit: None,
        };
        let secrets = Arc::new(Mutex::new(secrets));
        let routes = Routes::new(ExitSecretServiceServer::new(Served(Arc::clone(&secrets))));
        runtime.spawn(ipc::serve(listener, policy, routes, std::future::pending()));
        Ok(Vault {
            secrets,
            _runtime: runtime,
            folder,
        })
    }

    /// As when a connection is imported again.
    pub fn put(&self, number: u16, field: &str, value: &str, revision: u64) {
        let mut kept = self.secrets.lock().unwrap();
        *kept = std::mem::take(&mut *kept).with_of(number, field, value, revision);
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("vault.sock")
    }
}
