//! netd's service and reconciler on this machine's kernel, in a namespace, asked over a socket as cell-api asks it; a cell-wg
//! beside it where the kernel has no WireGuard; and a vault that gives their keys.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cell_lab::activation::{self, Listener};
use cell_lab::cell::program;
use cell_lab::netns::Namespace;
use cell_lab::process::{Process, resident_bytes};
use cell_netd::kept::Kept;
use cell_netd::kernel::Renderer;
use cell_netd::kernel::linux::{Choice, Linux, has_wireguard};
use cell_netd::kernel::nft::Owners;
use cell_netd::keys::KeySource;
use cell_netd::reconciler::Reconciler;
use cell_netd::service;
use cell_proto::ipc::{self, CallerPolicy};
use cell_proto::netd::v1;
use cell_proto::netd::v1::network_service_client::NetworkServiceClient;
use cell_proto::vault::v1::exit_secret_service_server::{ExitSecretService, ExitSecretServiceServer};
use cell_proto::vault::v1::wireguard_key_service_server::{WireguardKeyService, WireguardKeyServiceServer};
use cell_proto::vault::v1::{
    GetWireguardPrivateKeyRequest, GetWireguardPrivateKeyResponse, ReadExitSecretRequest,
    ReadExitSecretResponse,
};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::state;

/// What netd is asked through.
pub struct Netd {
    runtime: Runtime,
    client: NetworkServiceClient<Channel>,
    etag: String,
    /// Which WireGuard it drives.
    pub in_kernel: bool,
    wg: Option<Process>,
    _folder: tempfile::TempDir,
}

impl Netd {
    /// Starts it in that namespace, without a state.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        namespace.inside(|| Netd::start_here(namespace))?
    }

    fn start_here(namespace: &Namespace) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let root = || CallerPolicy {
            uids: vec![0],
            unit: None,
        };
        let in_kernel = runtime.block_on(has_wireguard(&state::ceiling()?.table))?;
        let (choice, wg) = if in_kernel {
            (Choice::Kernel, None)
        } else {
            let choice = Choice::Userspace {
                wg_socket: at("wg.sock"),
                device_socket: at("device.sock"),
            };
            (choice, Some(start_wg(namespace, folder.path())?))
        };
        let client = runtime.block_on(async {
            let vault = UnixListener::bind(at("vault.sock"))?;
            let routes = Routes::new(WireguardKeyServiceServer::new(Vault))
                .add_service(ExitSecretServiceServer::new(Vault));
            tokio::spawn(ipc::serve(vault, root(), routes, std::future::pending()));
            let keys = KeySource::new(at("vault.sock"));
            let ceiling = state::ceiling()?;
            let (linux, changed) = Linux::open(&ceiling, Owners::IfKnown, Renderer::Nftables, choice, keys)?;
            let handle = Reconciler::spawn(linux, ceiling, Kept::new(folder.path()), 1, changed);
            let listener = UnixListener::bind(at("netd.sock"))?;
            tokio::spawn(ipc::serve(
                listener,
                root(),
                service::routes(handle),
                std::future::pending(),
            ));
            let client = NetworkServiceClient::new(ipc::connect(at("netd.sock")));
            anyhow::Ok(client.max_encoding_message_size(ipc::serve::MAX_MESSAGE_BYTES))
        })?;
        Ok(Netd {
            runtime,
            client,
            etag: String::new(),
            in_kernel,
            wg,
            _folder: folder,
        })
    }

    /// Bytes of memory of its cell-wg, if it has one.
    pub fn wg_bytes(&self) -> Result<Option<u64>> {
        self.wg.as_ref().map(|wg| resident_bytes(wg.id())).transpose()
    }

    /// The whole state, from the request to the answer, which says that the kernel was read back.
    pub fn apply(&mut self, spec: v1::NetworkSpec) -> Result<Duration> {
        let request = v1::ApplyNetworkRequest {
            spec: Some(spec),
            etag: String::new(),
            validate_only: false,
            confirm_within_seconds: 0,
        };
        let start = Instant::now();
        let answer = self.runtime.block_on(self.client.apply_network(request))?;
        let took = start.elapsed();
        self.etag = answer.into_inner().etag;
        Ok(took)
    }

    /// One peer is bound to another exit, in the same way.
    pub fn assign(&mut self, index: u32, exit: u32) -> Result<Duration> {
        let request = v1::ApplyNetworkDeltaRequest {
            base_etag: self.etag.clone(),
            upserted_peers: vec![state::peer(index, exit)],
            removed_peers: vec![],
            validate_only: false,
            confirm_within_seconds: 0,
        };
        let start = Instant::now();
        let answer = self.runtime.block_on(self.client.apply_network_delta(request))?;
        let took = start.elapsed();
        let answer = answer.into_inner();
        ensure!(!answer.changes.is_empty(), "nothing was changed");
        self.etag = answer.etag;
        Ok(took)
    }
}

struct Vault;

#[tonic::async_trait]
impl WireguardKeyService for Vault {
    async fn get_wireguard_private_key(
        &self,
        _: Request<GetWireguardPrivateKeyRequest>,
    ) -> Result<Response<GetWireguardPrivateKeyResponse>, Status> {
        Ok(Response::new(GetWireguardPrivateKeyResponse {
            private_key: state::OWN_KEY.to_vec(),
        }))
    }
}

#[tonic::async_trait]
impl ExitSecretService for Vault {
    async fn read_exit_secret(
        &self,
        request: Request<ReadExitSecretRequest>,
    ) -> Result<Response<ReadExitSecretResponse>, Status> {
        let exit = state::exit_of_secret(&request.get_ref().name);
        let exit = exit.ok_or_else(|| Status::not_found("no exit has this secret"))?;
        Ok(Response::new(ReadExitSecretResponse {
            value: state::near_key(exit).to_vec(),
            revision: 0,
        }))
    }
}

/// As its unit starts it: as nobody.
fn start_wg(namespace: &Namespace, folder: &Path) -> Result<Process> {
    let open =
        |name: &str, mode| std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(mode));
    open("", 0o755)?;
    let config = folder.join("wg.toml");
    std::fs::write(&config, "[callers.netd]\nusers = [\"root\"]\n")?;
    let listeners = [
        Listener::stream("netd", &folder.join("wg.sock"))?,
        Listener::seqpacket("device", &folder.join("device.sock"))?,
    ];
    let arguments = ["--config", config.to_str().context("a path in UTF-8")?];
    let mut command = activation::command(&program("cell-wg")?, &arguments, state::NOBODY, &listeners)?;
    namespace.spawn("cell-wg", &mut command)
}
