//! Secrets on their way to vaultd. There is no way back.

use std::collections::BTreeMap;
use std::time::Duration;

use cell_proto::fault;
use cell_proto::vault::v1::secret_service_client::SecretServiceClient;
use cell_proto::vault::v1::{
    DeleteSecretRequest, GenerateSecretRequest, ListSecretsRequest, PutSecretRequest,
};
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::service::ServiceError;

const NAME: &str = "vault";
/// How long vaultd may take to have a secret on its disk.
const DEADLINE: Duration = Duration::from_secs(5);

/// A client of vaultd's store of secrets.
#[derive(Debug, Clone)]
pub struct Secrets(SecretServiceClient<Channel>);

impl Secrets {
    /// A client over a channel.
    pub fn new(channel: Channel) -> Self {
        Secrets(SecretServiceClient::new(channel))
    }

    /// Stores a secret whose version is `expected_version`; 0: there is none. `revision` is kept with it, and given to its reader.
    ///
    /// # Errors
    /// [`ServiceError::VaultRefuses`], [`ServiceError::Busy`], [`ServiceError::Unreachable`]: then it may be stored, or not.
    pub async fn put(
        &self,
        name: String,
        value: &str,
        expected_version: u64,
        revision: u64,
    ) -> Result<(), ServiceError> {
        let request = within(PutSecretRequest {
            name,
            value: value.as_bytes().to_vec(),
            expected_version,
            revision,
        });
        let stored = answered(self.0.clone().put_secret(request)).await?.metadata;
        // One that ran before an update drops what it does not know, and its secret would be of no import: its reader would not
        // use it, and nobody would know why.
        match stored.map_or(0, |metadata| metadata.revision) == revision {
            true => Ok(()),
            false => Err(ServiceError::VaultRefuses(
                "it is older than the API, and keeps a secret without saying of which import it is: start vaultd anew",
            )),
        }
    }

    /// Has vaultd make a secret that is not there, of `length` random bytes, 16-64, written as base64url. Nobody here sees it.
    ///
    /// # Errors
    /// As [`Secrets::put`].
    pub async fn generate(&self, name: String, length: u32) -> Result<(), ServiceError> {
        let request = within(GenerateSecretRequest {
            name,
            length,
            expected_version: 0,
        });
        answered(self.0.clone().generate_secret(request))
            .await
            .map(|_| ())
    }

    /// The names that begin with `prefix`, with their versions.
    ///
    /// # Errors
    /// As [`Secrets::put`].
    pub async fn list(&self, prefix: String) -> Result<BTreeMap<String, u64>, ServiceError> {
        let answer = answered(self.0.clone().list_secrets(within(ListSecretsRequest { prefix }))).await?;
        Ok(answer
            .secrets
            .into_iter()
            .map(|secret| (secret.name, secret.version))
            .collect())
    }

    /// Removes a secret of a version. One that is not there is removed.
    ///
    /// # Errors
    /// As [`Secrets::put`].
    pub async fn delete(&self, name: String, expected_version: u64) -> Result<(), ServiceError> {
        let request = within(DeleteSecretRequest {
            name,
            expected_version,
        });
        answered(self.0.clone().delete_secret(request)).await.map(|_| ())
    }
}

fn within<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

async fn answered<T: Default>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, ServiceError> {
    let status = match tokio::time::timeout(DEADLINE, call).await {
        Ok(Ok(response)) => return Ok(response.into_inner()),
        Ok(Err(status)) => status,
        Err(_) => return Err(ServiceError::Unreachable(NAME)),
    };
    let reason = fault::reason(&status).unwrap_or_default();
    // The message may name what was sent; the reason is one of the proto's.
    tracing::debug!(code = ?status.code(), reason, "vaultd refused");
    Err(match reason.as_str() {
        "NO_SECRET" => return Ok(T::default()),
        "NAME_NOT_ALLOWED" => ServiceError::VaultRefuses(
            "its policy file does not let the API store them: \"conn_\" or \"svc_\" is missing from api_secret_prefixes",
        ),
        "QUOTA" => ServiceError::VaultRefuses("it holds as many as its policy file lets it (secrets_max)"),
        "SEALED" => ServiceError::VaultRefuses("it is sealed"),
        "RATE" | "VERSION_MISMATCH" => ServiceError::Busy,
        _ => ServiceError::Unreachable(NAME),
    })
}
