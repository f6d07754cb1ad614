//! WireguardKeyService: the one answer that carries a key, on netd's socket alone.

use cell_proto::vault::v1::wireguard_key_service_server::WireguardKeyService;
use cell_proto::vault::v1::{GetWireguardPrivateKeyRequest, GetWireguardPrivateKeyResponse};
use cell_vaultd_core::Role;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::NetdListener;

#[tonic::async_trait]
impl WireguardKeyService for NetdListener {
    async fn get_wireguard_private_key(
        &self,
        request: Request<GetWireguardPrivateKeyRequest>,
    ) -> Result<Response<GetWireguardPrivateKeyResponse>, Status> {
        let encode = |key: Zeroizing<[u8; 32]>| GetWireguardPrivateKeyResponse {
            private_key: key.to_vec(),
        };
        self.0
            .answer(
                Role::Netd,
                request.extensions(),
                |vault, asker| vault.wireguard_private_key(asker),
                encode,
            )
            .await
    }
}
