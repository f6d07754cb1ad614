//! gRPC: decodes, asks the vault, encodes. Which services a listener has is [`api_routes`], [`netd_routes`],
//! [`egress_routes`], [`openvpn_routes`] and [`broker_routes`]; what is not there answers UNIMPLEMENTED on that socket.

mod anchors;
mod certificates;
mod exits;
mod secrets;
mod services;
mod status;
mod wireguard;

use std::sync::{Arc, Mutex, PoisonError};

use cell_proto::ipc::Caller;
use cell_proto::vault::v1::audit_anchor_service_server::AuditAnchorServiceServer;
use cell_proto::vault::v1::certificate_service_server::CertificateServiceServer;
use cell_proto::vault::v1::exit_secret_service_server::ExitSecretServiceServer;
use cell_proto::vault::v1::secret_service_server::SecretServiceServer;
use cell_proto::vault::v1::service_secret_service_server::ServiceSecretServiceServer;
use cell_proto::vault::v1::vault_status_service_server::VaultStatusServiceServer;
use cell_proto::vault::v1::wireguard_key_service_server::WireguardKeyServiceServer;
use cell_vaultd_core::seal::SealReason;
use cell_vaultd_core::{Role, Timestamp};
use tonic::service::Routes;
use tonic::{Extensions, Response, Status};

use crate::error::VaultError;
use crate::vault::{Asker, Aspect, Vault};

/// Largest message that vaultd decodes, bytes: the largest secret with room for the rest.
const MESSAGE_MAX: usize = 128 * 1024;

/// The vault behind all listeners.
#[derive(Clone)]
pub struct Shared(Arc<Inner>);

struct Inner {
    vault: Mutex<Result<Vault, SealReason>>,
    memory_locked: Aspect,
    started: Timestamp,
}

impl Shared {
    /// `vault` as it was opened; `memory_locked` as it was found out at start.
    pub fn new(vault: Result<Vault, SealReason>, memory_locked: Aspect, started: Timestamp) -> Self {
        Shared(Arc::new(Inner {
            vault: Mutex::new(vault),
            memory_locked,
            started,
        }))
    }

    /// Does one thing with the vault, on a thread that may block, to its end even if the caller goes away.
    async fn with<T: Send + 'static>(
        &self,
        role: Role,
        extensions: &Extensions,
        act: impl FnOnce(&mut Vault, &Asker) -> Result<T, VaultError> + Send + 'static,
    ) -> Result<T, VaultError> {
        let caller = extensions.get::<Caller>().ok_or(VaultError::UnknownCaller)?;
        let asker = Asker {
            role,
            uid: caller.uid,
            pid: caller.pid,
        };
        let inner = Arc::clone(&self.0);
        let work = tokio::task::spawn_blocking(move || {
            // A panic in an earlier request left the vault between two whole steps: each step replaces its state last.
            match &mut *inner.vault.lock().unwrap_or_else(PoisonError::into_inner) {
                Ok(vault) => act(vault, &asker),
                Err(reason) => Err(VaultError::Sealed(*reason)),
            }
        });
        let done = work.await.unwrap_or(Err(VaultError::Task));
        if let Err(error) = done.as_ref().map(drop)
            && error.is_failure()
        {
            tracing::error!(%role, %error, "a request failed");
        }
        done
    }

    async fn answer<T: Send + 'static, M>(
        &self,
        role: Role,
        extensions: &Extensions,
        act: impl FnOnce(&mut Vault, &Asker) -> Result<T, VaultError> + Send + 'static,
        encode: impl FnOnce(T) -> M,
    ) -> Result<Response<M>, Status> {
        let done = self.with(role, extensions, act).await;
        done.map(|value| Response::new(encode(value)))
            .map_err(Status::from)
    }
}

/// The permit table of the listener `api`.
pub fn api_routes(vault: &Shared) -> Routes {
    let api = ApiListener(vault.clone());
    Routes::new(CertificateServiceServer::new(api.clone()).max_decoding_message_size(MESSAGE_MAX))
        .add_service(SecretServiceServer::new(api.clone()).max_decoding_message_size(MESSAGE_MAX))
        .add_service(VaultStatusServiceServer::new(api.clone()).max_decoding_message_size(MESSAGE_MAX))
        .add_service(AuditAnchorServiceServer::new(api).max_decoding_message_size(MESSAGE_MAX))
}

/// The permit table of the listener `netd`.
pub fn netd_routes(vault: &Shared) -> Routes {
    let netd = NetdListener(vault.clone());
    Routes::new(WireguardKeyServiceServer::new(netd.clone()).max_decoding_message_size(MESSAGE_MAX))
        .add_service(ExitSecretServiceServer::new(netd).max_decoding_message_size(MESSAGE_MAX))
}

/// The permit table of the listener `egress`.
pub fn egress_routes(vault: &Shared) -> Routes {
    let egress = EgressListener(vault.clone());
    Routes::new(ExitSecretServiceServer::new(egress).max_decoding_message_size(MESSAGE_MAX))
}

/// The permit table of the listener `openvpn`.
pub fn openvpn_routes(vault: &Shared) -> Routes {
    let openvpn = OpenvpnListener(vault.clone());
    Routes::new(ExitSecretServiceServer::new(openvpn).max_decoding_message_size(MESSAGE_MAX))
}

/// The permit table of the listener `broker`.
pub fn broker_routes(vault: &Shared) -> Routes {
    let broker = BrokerListener(vault.clone());
    Routes::new(ServiceSecretServiceServer::new(broker).max_decoding_message_size(MESSAGE_MAX))
}

/// The services of the listener `api`. They know no other role.
#[derive(Clone)]
struct ApiListener(Shared);

/// The services of the listener `netd`.
#[derive(Clone)]
struct NetdListener(Shared);

/// The service of the listener `egress`.
#[derive(Clone)]
struct EgressListener(Shared);

/// The service of the listener `openvpn`.
#[derive(Clone)]
struct OpenvpnListener(Shared);

/// The service of the listener `broker`.
#[derive(Clone)]
struct BrokerListener(Shared);
