//! ExitSecretService: secrets of exits, each to the one daemon that drives the exit.

use cell_proto::vault::v1::exit_secret_service_server::ExitSecretService;
use cell_proto::vault::v1::{ReadExitSecretRequest, ReadExitSecretResponse};
use cell_vaultd_core::Role;
use tonic::{Request, Response, Status};

use super::{EgressListener, NetdListener, OpenvpnListener, Shared};
use crate::vault::ExitSecret;

#[tonic::async_trait]
impl ExitSecretService for NetdListener {
    async fn read_exit_secret(
        &self,
        request: Request<ReadExitSecretRequest>,
    ) -> Result<Response<ReadExitSecretResponse>, Status> {
        read(&self.0, Role::Netd, request).await
    }
}

#[tonic::async_trait]
impl ExitSecretService for EgressListener {
    async fn read_exit_secret(
        &self,
        request: Request<ReadExitSecretRequest>,
    ) -> Result<Response<ReadExitSecretResponse>, Status> {
        read(&self.0, Role::Egress, request).await
    }
}

#[tonic::async_trait]
impl ExitSecretService for OpenvpnListener {
    async fn read_exit_secret(
        &self,
        request: Request<ReadExitSecretRequest>,
    ) -> Result<Response<ReadExitSecretResponse>, Status> {
        read(&self.0, Role::Openvpn, request).await
    }
}

async fn read(
    vault: &Shared,
    role: Role,
    request: Request<ReadExitSecretRequest>,
) -> Result<Response<ReadExitSecretResponse>, Status> {
    let (_, extensions, ReadExitSecretRequest { name }) = request.into_parts();
    let encode = |secret: ExitSecret| ReadExitSecretResponse {
        value: secret.value.to_vec(),
        revision: secret.revision,
    };
    vault
        .answer(
            role,
            &extensions,
            move |vault, asker| vault.read_exit_secret(asker, &name),
            encode,
        )
        .await
}
