//! The cell's WireGuard private key, and the keys of exits: from vaultd to the device, and kept nowhere else.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cell_netd_core::desired::{Exit, Tunnel};
use cell_netd_core::model::{ExitId, PublicKey};
use cell_netd_core::tunnel::secret_name;
use cell_proto::vault::v1::exit_secret_service_client::ExitSecretServiceClient;
use cell_proto::vault::v1::wireguard_key_service_client::WireguardKeyServiceClient;
use cell_proto::vault::v1::{GetWireguardPrivateKeyRequest, ReadExitSecretRequest};
use cell_proto::{fault, ipc};
use tonic::transport::Channel;
use zeroize::{Zeroize as _, Zeroizing};

use crate::kernel::KernelError;
use crate::kernel::wireguard::{PresharedKey, PrivateKey, TunnelSecrets};

/// Bytes that 44 characters of base64 may need while they are decoded.
const BASE64_ROOM: usize = 48;
/// How long vaultd may take where its answer is only looked for: it answers within milliseconds.
const GLANCE: Duration = Duration::from_secs(2);
/// How long where there is no device without it: until vaultd was started anew.
const PATIENCE: Duration = Duration::from_secs(10);

/// vaultd's socket for netd.
#[derive(Debug, Clone)]
pub struct KeySource {
    own: WireguardKeyServiceClient<Channel>,
    exits: ExitSecretServiceClient<Channel>,
}

impl KeySource {
    /// Connects when a key is first wanted. Needs a tokio runtime.
    pub fn new(vault_socket: PathBuf) -> Self {
        let channel = ipc::connect(vault_socket);
        KeySource {
            own: WireguardKeyServiceClient::new(channel.clone()),
            exits: ExitSecretServiceClient::new(channel),
        }
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
        let answer = self
            .own
            .get_wireguard_private_key(GetWireguardPrivateKeyRequest {});
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

    /// The keys of an exit's tunnel.
    ///
    /// # Errors
    /// [`KernelError::NoExitSecret`] names the first that vaultd does not give.
    pub async fn exit(&mut self, exit: &Exit) -> Result<TunnelSecrets, KernelError> {
        let id = &exit.way.id;
        let Tunnel::Wireguard(tunnel) = &exit.tunnel else {
            return Err(KernelError::Refused(
                "the exit has no keys that netd reads".to_owned(),
            ));
        };
        let key = self.exit_secret(id, "wireguard_key").await?;
        let key = PrivateKey::from_slice(&*key).ok_or_else(|| not_a_key("wireguard_key"))?;
        let mut secrets = TunnelSecrets {
            key,
            preshared: Default::default(),
        };
        for (index, far) in tunnel
            .far_ends
            .iter()
            .enumerate()
            .filter(|(_, far)| far.preshared)
        {
            let field = format!("preshared_key_{}", index + 1);
            let key = self.exit_secret(id, &field).await?;
            let key = PresharedKey::from_slice(&*key).ok_or_else(|| not_a_key(&field))?;
            secrets.preshared.insert(far.key, key);
        }
        Ok(secrets)
    }

    async fn exit_secret(&mut self, exit: &ExitId, field: &str) -> Result<Zeroizing<[u8; 32]>, KernelError> {
        let refused = |reason: &str| KernelError::NoExitSecret {
            field: field.to_owned(),
            reason: reason.to_owned(),
            silent: false,
        };
        let name = secret_name(exit, field)
            .ok_or_else(|| refused("the exit's id is not that of a connection, so that it has none"))?;
        let request = || ReadExitSecretRequest { name: name.clone() };
        let mut answer = tokio::time::timeout(GLANCE, self.exits.read_exit_secret(request())).await;
        // The first call after vaultd was started anew finds the old connection broken.
        if matches!(&answer, Ok(Err(status)) if status.code() == tonic::Code::Unavailable) {
            answer = tokio::time::timeout(GLANCE, self.exits.read_exit_secret(request())).await;
        }
        let silent = |reason: &str| KernelError::NoExitSecret {
            field: field.to_owned(),
            reason: reason.to_owned(),
            silent: true,
        };
        let answer = answer.map_err(|_| silent("vaultd does not answer"))?;
        let mut answer = answer.map_err(|status| match fault::reason(&status) {
            Some(reason) => refused(&reason),
            None => silent("vaultd is not reachable"),
        })?;
        let value = &mut answer.get_mut().value;
        let key = decoded(value);
        value.zeroize();
        key.ok_or_else(|| not_a_key(field))
    }
}

fn not_a_key(field: &str) -> KernelError {
    KernelError::NoExitSecret {
        field: field.to_owned(),
        reason: "it is not a WireGuard key: 32 bytes, as they are or in base64".to_owned(),
        silent: false,
    }
}

/// A key as wg(8) writes it, or its bytes.
fn decoded(value: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    if let Ok(key) = <[u8; 32]>::try_from(value) {
        return Some(Zeroizing::new(key));
    }
    let mut bytes = Zeroizing::new([0; BASE64_ROOM]);
    let length = STANDARD.decode_slice(value.trim_ascii(), &mut *bytes).ok()?;
    let key = bytes.get(..length)?;
    <[u8; 32]>::try_from(key).map(Zeroizing::new).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_people_have_it() {
        let text = STANDARD.encode([7; 32]);
        for good in [&[7; 32][..], text.as_bytes(), format!("{text}\n").as_bytes()] {
            assert_eq!(decoded(good).as_deref(), Some(&[7; 32]));
        }
        for bad in [&b""[..], &[7; 31], &[7; 33], &text.as_bytes()[1..], &[b'A'; 200]] {
            assert!(decoded(bad).is_none(), "{bad:?}");
        }
    }
}
