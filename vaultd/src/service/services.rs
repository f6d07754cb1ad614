//! ServiceSecretService: secrets of services, to the broker, which gives them to the containers.

use cell_proto::vault::v1::service_secret_service_server::ServiceSecretService;
use cell_proto::vault::v1::{ReadServiceSecretRequest, ReadServiceSecretResponse};
use cell_vaultd_core::Role;
use tonic::{Request, Response, Status};

use super::BrokerListener;

#[tonic::async_trait]
impl ServiceSecretService for BrokerListener {
    async fn read_service_secret(
        &self,
        request: Request<ReadServiceSecretRequest>,
    ) -> Result<Response<ReadServiceSecretResponse>, Status> {
        let (_, extensions, ReadServiceSecretRequest { name }) = request.into_parts();
        let encode = |value: zeroize::Zeroizing<Vec<u8>>| ReadServiceSecretResponse {
            value: value.to_vec(),
        };
        self.0
            .answer(
                Role::Broker,
                &extensions,
                move |vault, asker| vault.read_service_secret(asker, &name),
                encode,
            )
            .await
    }
}
