//! Secrets from vaultd, over its socket for this daemon: read when a program needs them, and kept nowhere.

use std::path::PathBuf;
use std::time::Duration;

use cell_openvpn_core::exit::{Exit, PASSWORD, USERNAME};
use cell_openvpn_core::profile::{Sealed, login};
use cell_proto::vault::v1::ReadExitSecretRequest;
use cell_proto::vault::v1::exit_secret_service_client::ExitSecretServiceClient;
use cell_proto::{fault, ipc};
use tonic::Code;
use tonic::transport::Channel;
use zeroize::{Zeroize as _, Zeroizing};

/// How long vaultd may take: it answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no secret; never its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its secret {field} {why}")]
pub struct NoSecret {
    /// Which, without the connection's id.
    pub field: &'static str,
    /// Why.
    pub why: String,
}

/// vaultd's socket for this daemon.
#[derive(Debug, Clone)]
pub struct Vault(ExitSecretServiceClient<Channel>);

impl Vault {
    /// Connects when a secret is first wanted. Needs a tokio runtime.
    pub fn new(socket: PathBuf) -> Self {
        Vault(ExitSecretServiceClient::new(ipc::connect(socket)))
    }

    /// The blocks of an exit's profile.
    ///
    /// # Errors
    /// [`NoSecret`] names the first that is not there.
    pub async fn sealed(&self, exit: &Exit) -> Result<Vec<Sealed>, NoSecret> {
        let mut sealed = Vec::with_capacity(exit.sealed.len());
        for block in &exit.sealed {
            sealed.push((*block, self.read(exit, block.field()).await?));
        }
        Ok(sealed)
    }

    /// The answer to the question who signs in.
    ///
    /// # Errors
    /// [`NoSecret`] names the first that is not there.
    pub async fn login(&self, exit: &Exit, realm: &str) -> Result<Zeroizing<String>, NoSecret> {
        let username = self.read(exit, USERNAME).await?;
        let password = self.read(exit, PASSWORD).await?;
        login(realm, &username, &password).ok_or_else(|| NoSecret {
            field: PASSWORD,
            why: "or the name with it has a character that OpenVPN cannot be told".to_owned(),
        })
    }

    /// What was put by the import that the exit is of: what another one brought would be told to this one's server.
    async fn read(&self, exit: &Exit, field: &'static str) -> Result<Zeroizing<String>, NoSecret> {
        let none = |why: &str| NoSecret {
            field,
            why: why.to_owned(),
        };
        let mut client = self.0.clone();
        let request = || ReadExitSecretRequest {
            name: exit.id.secret_name(field),
        };
        let mut answer = tokio::time::timeout(PATIENCE, client.read_exit_secret(request())).await;
        // The first call after vaultd was started anew finds the old connection broken.
        if matches!(&answer, Ok(Err(status)) if status.code() == Code::Unavailable) {
            answer = tokio::time::timeout(PATIENCE, client.read_exit_secret(request())).await;
        }
        let answer = answer.map_err(|_| none("is not given: vaultd does not answer"))?;
        let answer = answer.map_err(|status| match fault::reason(&status) {
            Some(reason) => none(&format!("is not given by vaultd: {reason}")),
            None => none("is not given: vaultd is not reachable"),
        })?;
        let answer = answer.into_inner();
        let is_of = answer.revision == exit.secret_revision;
        match String::from_utf8(answer.value).map(Zeroizing::new) {
            Ok(text) if is_of => Ok(text),
            Ok(_) => Err(none("is not this exit's: the vault has another import's")),
            Err(error) => {
                error.into_bytes().zeroize();
                Err(none("is no text"))
            }
        }
    }
}
