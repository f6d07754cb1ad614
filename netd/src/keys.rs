//! The cell's WireGuard private key: from vaultd to the device, and kept nowhere else.

use std::path::PathBuf;

use cell_proto::vault::v1::GetWireguardPrivateKeyRequest;
use cell_proto::vault::v1::wireguard_key_service_client::WireguardKeyServiceClient;
use cell_proto::{fault, ipc};
use tonic::transport::Channel;
use zeroize::Zeroize as _;

use crate::kernel::KernelError;
use crate::kernel::wireguard::PrivateKey;

/// vaultd's socket for netd.
#[derive(Debug, Clone)]
pub struct KeySource(WireguardKeyServiceClient<Channel>);

impl KeySource {
    /// Connects when a key is first wanted. Needs a tokio runtime.
    pub fn new(vault_socket: PathBuf) -> Self {
        KeySource(WireguardKeyServiceClient::new(ipc::connect(vault_socket)))
    }

    /// The key.
    ///
    /// # Errors
    /// [`KernelError::NoKey`] while vaultd is away or sealed.
    pub async fn fetch(&mut self) -> Result<PrivateKey, KernelError> {
        let answer = self
            .0
            .get_wireguard_private_key(GetWireguardPrivateKeyRequest {})
            .await;
        let mut answer = answer.map_err(|status| {
            KernelError::NoKey(fault::reason(&status).unwrap_or_else(|| "it is not reachable".to_owned()))
        })?;
        let bytes = &mut answer.get_mut().private_key;
        let key = PrivateKey::from_slice(bytes);
        bytes.zeroize();
        key.ok_or_else(|| KernelError::NoKey("it gave something else".to_owned()))
    }
}
