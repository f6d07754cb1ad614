//! The cell's WireGuard private key: from vaultd to the device, and kept nowhere else.

use std::path::PathBuf;
use std::time::Duration;

use cell_netd_core::model::PublicKey;
use cell_proto::vault::v1::GetWireguardPrivateKeyRequest;
use cell_proto::vault::v1::wireguard_key_service_client::WireguardKeyServiceClient;
use cell_proto::{fault, ipc};
use tonic::transport::Channel;
use zeroize::Zeroize as _;

use crate::kernel::KernelError;
use crate::kernel::wireguard::PrivateKey;

/// How long vaultd may take where its answer is only looked for: it answers within milliseconds.
const GLANCE: Duration = Duration::from_secs(2);
/// How long where there is no device without it: until vaultd was started anew.
const PATIENCE: Duration = Duration::from_secs(10);

/// vaultd's socket for netd.
#[derive(Debug, Clone)]
pub struct KeySource(WireguardKeyServiceClient<Channel>);

impl KeySource {
    /// Connects when a key is first wanted. Needs a tokio runtime.
    pub fn new(vault_socket: PathBuf) -> Self {
        KeySource(WireguardKeyServiceClient::new(ipc::connect(vault_socket)))
    }

    /// The public key that belongs to it.
    ///
    /// # Errors
    /// As [`KeySource::fetch`].
    pub async fn public(&mut self) -> Result<PublicKey, KernelError> {
        let key = self.ask(GLANCE).await?;
        key.public()
            .ok_or_else(|| KernelError::NoKey("it gave something else".to_owned()))
    }

    /// The key.
    ///
    /// # Errors
    /// [`KernelError::NoKey`] while vaultd is away or sealed, or does not answer in time.
    pub async fn fetch(&mut self) -> Result<PrivateKey, KernelError> {
        self.ask(PATIENCE).await
    }

    async fn ask(&mut self, patience: Duration) -> Result<PrivateKey, KernelError> {
        let answer = self.0.get_wireguard_private_key(GetWireguardPrivateKeyRequest {});
        // A socket whose daemon is away takes connections nevertheless: it was made before the daemon.
        let answer = tokio::time::timeout(patience, answer)
            .await
            .map_err(|_| KernelError::NoKey("it does not answer".to_owned()))?;
        let mut answer = answer.map_err(|status| {
            KernelError::NoKey(fault::reason(&status).unwrap_or_else(|| "it is not reachable".to_owned()))
        })?;
        let bytes = &mut answer.get_mut().private_key;
        let key = PrivateKey::from_slice(bytes);
        bytes.zeroize();
        key.ok_or_else(|| KernelError::NoKey("it gave something else".to_owned()))
    }
}
