//! vaultd's socket for the broker, with secrets of the tests behind it: the real message over a real socket.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use cell_proto::fault::Fault;
use cell_proto::ipc::{CallerPolicy, serve};
use cell_proto::vault::v1::service_secret_service_server::{
    ServiceSecretService, ServiceSecretServiceServer,
};
use cell_proto::vault::v1::{ReadServiceSecretRequest, ReadServiceSecretResponse};
use tokio::net::UnixListener;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

#[derive(Default)]
struct Inner {
    secrets: BTreeMap<String, Vec<u8>>,
    is_sealed: bool,
    asked: BTreeSet<String>,
}

#[derive(Clone, Default)]
pub struct Vault(Arc<Mutex<Inner>>);

impl Vault {
    /// Served at `path` for the user `uid`, until the runtime ends.
    pub fn serve(path: &Path, uid: u32) -> Self {
        let vault = Vault::default();
        let listener = UnixListener::bind(path).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o666)).unwrap();
        let callers = CallerPolicy {
            uids: vec![uid],
            unit: None,
        };
        let routes = Routes::new(ServiceSecretServiceServer::new(vault.clone()));
        tokio::spawn(serve(listener, callers, routes, std::future::pending()));
        vault
    }

    pub fn set(&self, name: &str, value: &str) {
        let mut inner = self.0.lock().unwrap();
        inner.secrets.insert(name.to_owned(), value.as_bytes().to_vec());
    }

    pub fn seal(&self, is_sealed: bool) {
        self.0.lock().unwrap().is_sealed = is_sealed;
    }

    /// Every name that was asked for.
    pub fn asked(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().asked.clone()
    }
}

#[tonic::async_trait]
impl ServiceSecretService for Vault {
    async fn read_service_secret(
        &self,
        request: Request<ReadServiceSecretRequest>,
    ) -> Result<Response<ReadServiceSecretResponse>, Status> {
        let refusal = |code, reason: &'static str| Status::from(Fault::new(code, "vault.cell", reason, "no"));
        let name = request.into_inner().name;
        let mut inner = self.0.lock().unwrap();
        inner.asked.insert(name.clone());
        if inner.is_sealed {
            return Err(refusal(Code::FailedPrecondition, "SEALED"));
        }
        let value = inner.secrets.get(&name).cloned();
        let value = value.ok_or_else(|| refusal(Code::NotFound, "NO_SECRET"))?;
        Ok(Response::new(ReadServiceSecretResponse { value }))
    }
}
