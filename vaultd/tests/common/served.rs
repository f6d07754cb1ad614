//! The listeners over real Unix sockets, and requests to send to them.

use std::sync::Arc;

use cell_proto::ipc::{CallerPolicy, connect, serve};
use cell_proto::vault::v1::{IssueServerCertificateRequest, PutSecretRequest};
use cell_vaultd::files::StateFolder;
use cell_vaultd::service::{Shared, api_routes, broker_routes, egress_routes, netd_routes, openvpn_routes};
use cell_vaultd::vault::{Aspect, Vault};
use cell_vaultd_core::Timestamp;
use cell_vaultd_core::seal::SealReason;
use tokio::net::UnixListener;
use tonic::transport::Channel;

use super::{KEK, machine_clock, open_with};

/// The listeners, served until dropped.
pub struct Served {
    folder: tempfile::TempDir,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Served {
    pub fn start(vault: Result<Vault, SealReason>, folder: tempfile::TempDir, uids: Vec<u32>) -> Served {
        let shared = Shared::new(
            vault,
            Aspect::failing("MemoryLocked", "LIMIT", "test"),
            Timestamp(1),
        );
        let mut tasks = Vec::new();
        let listeners = [
            ("api", api_routes(&shared)),
            ("netd", netd_routes(&shared)),
            ("egress", egress_routes(&shared)),
            ("openvpn", openvpn_routes(&shared)),
            ("broker", broker_routes(&shared)),
        ];
        for (name, routes) in listeners {
            let listener = UnixListener::bind(folder.path().join(name)).unwrap();
            let callers = CallerPolicy {
                uids: uids.clone(),
                unit: None,
            };
            tasks.push(tokio::spawn(async move {
                serve(listener, callers, routes, std::future::pending())
                    .await
                    .unwrap();
            }));
        }
        Served { folder, tasks }
    }

    pub fn open() -> Served {
        let folder = tempfile::tempdir().unwrap();
        let vault = open_with(Arc::new(StateFolder::new(folder.path())), machine_clock(), &KEK);
        assert!(vault.is_ok());
        Served::start(vault, folder, own_uid())
    }

    /// Another one over the same state.
    pub fn restarted(mut self) -> Served {
        self.tasks.drain(..).for_each(|task| task.abort());
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        for listener in ["api", "netd", "egress", "openvpn", "broker"] {
            std::fs::remove_file(folder.path().join(listener)).unwrap();
        }
        let vault = open_with(Arc::new(StateFolder::new(folder.path())), machine_clock(), &KEK);
        assert!(vault.is_ok());
        Served::start(vault, folder, own_uid())
    }

    pub fn sealed(reason: SealReason) -> Served {
        Served::start(Err(reason), tempfile::tempdir().unwrap(), own_uid())
    }

    pub fn channel(&self, listener: &str) -> Channel {
        connect(self.folder.path().join(listener))
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("vault/access.log")).unwrap()
    }
}

pub fn own_uid() -> Vec<u32> {
    vec![nix::unistd::geteuid().as_raw()]
}

pub fn put(name: &str, value: &[u8], expected_version: u64) -> PutSecretRequest {
    PutSecretRequest {
        name: name.to_owned(),
        value: value.to_vec(),
        expected_version,
        revision: 0,
    }
}

pub fn issue(names: &[&str]) -> IssueServerCertificateRequest {
    let common = super::request(names, &[]);
    IssueServerCertificateRequest {
        csr_der: common.csr_der,
        names: common.names,
        addresses: common.addresses,
    }
}
