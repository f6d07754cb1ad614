//! SecretService: nothing in it gives a value back.

use cell_proto::vault::v1::secret_service_server::SecretService;
use cell_proto::vault::v1::{
    DeleteSecretRequest, DeleteSecretResponse, GenerateSecretRequest, GenerateSecretResponse,
    ListSecretsRequest, ListSecretsResponse, PutSecretRequest, PutSecretResponse, RotateSecretRequest,
    RotateSecretResponse, SecretMetadata,
};
use cell_vaultd_core::Role;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::ApiListener;
use crate::vault::SecretInfo;

#[tonic::async_trait]
impl SecretService for ApiListener {
    async fn put_secret(
        &self,
        request: Request<PutSecretRequest>,
    ) -> Result<Response<PutSecretResponse>, Status> {
        let (
            _,
            extensions,
            PutSecretRequest {
                name,
                value,
                expected_version,
                revision,
            },
        ) = request.into_parts();
        let value = Zeroizing::new(value);
        let encode = |info| PutSecretResponse {
            metadata: Some(metadata(info)),
        };
        self.0
            .answer(
                Role::Api,
                &extensions,
                move |vault, asker| vault.put_secret(asker, &name, &value, expected_version, revision),
                encode,
            )
            .await
    }

    async fn list_secrets(
        &self,
        request: Request<ListSecretsRequest>,
    ) -> Result<Response<ListSecretsResponse>, Status> {
        let (_, extensions, ListSecretsRequest { prefix }) = request.into_parts();
        let encode = |infos: Vec<SecretInfo>| ListSecretsResponse {
            secrets: infos.into_iter().map(metadata).collect(),
        };
        self.0
            .answer(
                Role::Api,
                &extensions,
                move |vault, asker| vault.list_secrets(asker, &prefix),
                encode,
            )
            .await
    }

    async fn rotate_secret(
        &self,
        request: Request<RotateSecretRequest>,
    ) -> Result<Response<RotateSecretResponse>, Status> {
        let (
            _,
            extensions,
            RotateSecretRequest {
                name,
                expected_version,
            },
        ) = request.into_parts();
        let encode = |info| RotateSecretResponse {
            metadata: Some(metadata(info)),
        };
        self.0
            .answer(
                Role::Api,
                &extensions,
                move |vault, asker| vault.rotate_secret(asker, &name, expected_version),
                encode,
            )
            .await
    }

    async fn generate_secret(
        &self,
        request: Request<GenerateSecretRequest>,
    ) -> Result<Response<GenerateSecretResponse>, Status> {
        let (
            _,
            extensions,
            GenerateSecretRequest {
                name,
                length,
                expected_version,
            },
        ) = request.into_parts();
        let encode = |info| GenerateSecretResponse {
            metadata: Some(metadata(info)),
        };
        self.0
            .answer(
                Role::Api,
                &extensions,
                move |vault, asker| vault.generate_secret(asker, &name, length, expected_version),
                encode,
            )
            .await
    }

    async fn delete_secret(
        &self,
        request: Request<DeleteSecretRequest>,
    ) -> Result<Response<DeleteSecretResponse>, Status> {
        let (
            _,
            extensions,
            DeleteSecretRequest {
                name,
                expected_version,
            },
        ) = request.into_parts();
        let delete = move |vault: &mut crate::vault::Vault, asker: &_| {
            vault.delete_secret(asker, &name, expected_version)
        };
        self.0
            .answer(Role::Api, &extensions, delete, |()| DeleteSecretResponse {})
            .await
    }
}

fn metadata(info: SecretInfo) -> SecretMetadata {
    let SecretInfo {
        name,
        version,
        updated,
        revision,
    } = info;
    SecretMetadata {
        name: name.to_string(),
        version,
        updated_unix_ms: updated.0,
        revision,
    }
}
