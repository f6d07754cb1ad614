//! Argon2id (RFC 9106): 64 MiB, three passes, one lane; at most two at a time.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use cell_api_core::password::Password;
use tokio::sync::Semaphore;

use crate::service::ServiceError;

const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 1;
/// A flood of logins costs this many times 64 MiB and as many threads, no more.
const AT_ONCE: usize = 2;
const PATIENCE: Duration = Duration::from_secs(10);

/// Hashes and verifies passwords.
pub struct Hasher {
    turn: Arc<Semaphore>,
    dummy: String,
}

/// The hash of nobody's password, so that an unknown user takes as long as a known one. Random bytes stand in its place:
/// to compare with them costs as much, and making them costs the start nothing.
fn dummy() -> Result<String, ServiceError> {
    let mut random = [0u8; 16 + 32];
    getrandom::fill(&mut random).map_err(|_| ServiceError::Random)?;
    let (salt, output) = random.split_at(16);
    let (salt, output) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(output));
    Ok(format!(
        "$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${output}"
    ))
}

impl Hasher {
    /// Hashes nothing yet.
    ///
    /// # Errors
    /// [`ServiceError::Random`] when the kernel gives no random bytes.
    pub fn new() -> Result<Self, ServiceError> {
        Ok(Hasher {
            turn: Arc::new(Semaphore::new(AT_ONCE)),
            dummy: dummy()?,
        })
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// [`ServiceError::Busy`] when too many wait.
    pub async fn hash(&self, password: Password) -> Result<String, ServiceError> {
        self.in_turn(move || hash(&password)).await?
    }

    /// Verifies a password against a stored hash; without one, against nobody's. `still_allowed` is asked when it is
    /// this attempt's turn, since attempts before it may have locked the account.
    ///
    /// # Errors
    /// [`ServiceError::Busy`] when too many wait, or what `still_allowed` says.
    pub async fn verify(
        &self,
        password: Password,
        stored: Option<String>,
        still_allowed: impl FnOnce() -> Result<(), ServiceError>,
    ) -> Result<bool, ServiceError> {
        let permit = self.permit().await?;
        still_allowed()?;
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.dummy.clone());
        let matches = move || {
            let _permit = permit;
            PasswordHash::new(&stored)
                .is_ok_and(|hash| argon().verify_password(password.expose(), &hash).is_ok())
        };
        let matches = tokio::task::spawn_blocking(matches)
            .await
            .map_err(|_| ServiceError::Busy)?;
        Ok(matches && known)
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ServiceError> {
        let permit = self.permit().await?;
        let work = move || {
            let _permit = permit;
            work()
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| ServiceError::Busy)
    }

    async fn permit(&self) -> Result<tokio::sync::OwnedSemaphorePermit, ServiceError> {
        let turn = Arc::clone(&self.turn).acquire_owned();
        tokio::time::timeout(PATIENCE, turn)
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or(ServiceError::Busy)
    }
}

fn argon() -> Argon2<'static> {
    // The constants lie within Argon2's limits; the default would only be weaker.
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash(password: &Password) -> Result<String, ServiceError> {
    let mut salt = [0u8; 16];
    getrandom::fill(&mut salt).map_err(|_| ServiceError::Random)?;
    let salt = SaltString::encode_b64(&salt).map_err(|_| ServiceError::Random)?;
    let hash = argon()
        .hash_password(password.expose(), &salt)
        .map_err(|_| ServiceError::Random)?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn nobodys_hash_costs_what_a_real_one_costs_and_fits_nothing() {
        let (nobody, real) = (
            dummy().unwrap(),
            hash(&Password::new("a password".to_owned())).unwrap(),
        );
        let (nobody, real) = (
            PasswordHash::new(&nobody).unwrap(),
            PasswordHash::new(&real).unwrap(),
        );
        assert_eq!(nobody.algorithm, real.algorithm);
        assert_eq!((nobody.version, &nobody.params), (real.version, &real.params));
        let length = |hash: &PasswordHash<'_>| (hash.salt.unwrap().len(), hash.hash.unwrap().len());
        assert_eq!(length(&nobody), length(&real));
        let refused = argon().verify_password(b"a password", &nobody).unwrap_err();
        assert_eq!(refused, argon2::password_hash::Error::Password);
        assert!(argon().verify_password(b"a password", &real).is_ok());
    }
}
