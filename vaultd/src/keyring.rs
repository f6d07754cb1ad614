//! The vault's own keys, derived from the key-encryption key, and all that is done with them: sealing and opening items,
//! and the digests of log and anchors. No other file sees a key of the vault.

use blake3::Hash;
use cell_vaultd_core::sealed::{self, HEADER_NAME_MAX, NONCE_BYTES, SealedFile, TAG_BYTES, WRAPPED_BYTES};
use chacha20poly1305::aead::{AeadInPlace as _, KeyInit as _};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::kek::Kek;

/// Length of a vault's salt, bytes.
pub const SALT_BYTES: usize = 32;
/// Length of a verifier: what tells the right key-encryption key from a wrong one.
pub const VERIFIER_BYTES: usize = VERIFIER_MAGIC.len() + SALT_BYTES + blake3::OUT_LEN;

const VERIFIER_MAGIC: &[u8; 8] = b"CELLVER1";
const KEY_BYTES: usize = 32;
type Key = Zeroizing<[u8; KEY_BYTES]>;

/// The keys of an open vault. Shows nothing and is wiped when it goes.
pub struct Keyring {
    wrapping: Key,
    log: Key,
    anchors: Key,
    verifier: Key,
}

/// Why a sealed file is not opened. Says nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not laid out as one.
    #[error(transparent)]
    Layout(#[from] sealed::InvalidSealedFile),
    /// A whole file of another item, version or generation.
    #[error("the file belongs to another item or to another version of it")]
    Misplaced,
    /// A byte was changed.
    #[error("the file was changed")]
    Changed,
}

/// The operating system gave no randomness, or a value is too long to be sealed: nothing was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot seal: no randomness, or too long a value")]
pub struct SealError;

/// Not a verifier at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the verifier is not one")]
pub struct InvalidVerifier;

/// Fills an array with the operating system's randomness.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| SealError)?;
    Ok(bytes)
}

impl Keyring {
    /// The keys of a new vault, and the verifier to be kept beside it.
    ///
    /// # Errors
    /// When the operating system has no randomness.
    pub fn create(kek: &Kek) -> Result<(Keyring, [u8; VERIFIER_BYTES]), SealError> {
        let salt = random::<SALT_BYTES>()?;
        let keyring = Keyring::derive(kek, &salt);
        let mut verifier = [0; VERIFIER_BYTES];
        let (magic, rest) = verifier.split_at_mut(VERIFIER_MAGIC.len());
        magic.copy_from_slice(VERIFIER_MAGIC);
        let (stored_salt, tag) = rest.split_at_mut(SALT_BYTES);
        stored_salt.copy_from_slice(&salt);
        tag.copy_from_slice(keyring.verifier_tag(&salt).as_bytes());
        Ok((keyring, verifier))
    }

    /// The keys of the vault that `verifier` was made with; `None` if that was with another key-encryption key.
    ///
    /// # Errors
    /// When it is no verifier.
    pub fn open(kek: &Kek, verifier: &[u8]) -> Result<Option<Keyring>, InvalidVerifier> {
        let rest = verifier.strip_prefix(VERIFIER_MAGIC).ok_or(InvalidVerifier)?;
        let (salt, tag) = rest.split_first_chunk::<SALT_BYTES>().ok_or(InvalidVerifier)?;
        let tag = <[u8; blake3::OUT_LEN]>::try_from(tag).map_err(|_| InvalidVerifier)?;
        let keyring = Keyring::derive(kek, salt);
        // Hash compares in constant time.
        let same = keyring.verifier_tag(salt) == Hash::from_bytes(tag);
        Ok(same.then_some(keyring))
    }

    fn derive(kek: &Kek, salt: &[u8; SALT_BYTES]) -> Keyring {
        let mut material = Zeroizing::new([0; KEY_BYTES + SALT_BYTES]);
        material[..KEY_BYTES].copy_from_slice(kek.expose());
        material[KEY_BYTES..].copy_from_slice(salt);
        let key = |context| Zeroizing::new(blake3::derive_key(context, material.as_slice()));
        Keyring {
            wrapping: key("cell-vaultd 2026-11 wrapping key v1"),
            log: key("cell-vaultd 2026-11 access log key v1"),
            anchors: key("cell-vaultd 2026-11 anchors key v1"),
            verifier: key("cell-vaultd 2026-11 verifier key v1"),
        }
    }

    fn verifier_tag(&self, salt: &[u8; SALT_BYTES]) -> Hash {
        blake3::keyed_hash(&self.verifier, salt)
    }

    /// The digest that binds a line of the access log to the one before.
    pub fn log_mac(&self, previous: &[u8; 32], body: &[u8]) -> [u8; 32] {
        chain_mac(&self.log, previous, body)
    }

    /// The digest that binds an anchor to the one before.
    pub fn anchor_mac(&self, previous: &[u8; 32], body: &[u8]) -> [u8; 32] {
        chain_mac(&self.anchors, previous, body)
    }

    /// A sealed file of `plain`, under a fresh key of its own that is wrapped by the vault's. Name, version and generation
    /// are bound to both, so that a file is worth nothing in the place of another.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn seal(
        &self,
        name: &str,
        version: u64,
        generation: u64,
        plain: Zeroizing<Vec<u8>>,
    ) -> Result<Vec<u8>, SealError> {
        if name.len() > HEADER_NAME_MAX || plain.len() + TAG_BYTES > sealed::VALUE_MAX {
            return Err(SealError);
        }
        let header = sealed::header(name, version, generation);
        let own_key: Key = Zeroizing::new(random()?);
        let (key_nonce, value_nonce) = (random::<NONCE_BYTES>()?, random::<NONCE_BYTES>()?);
        let mut wrapped = Zeroizing::new(*own_key);
        let key_tag = encrypt(&self.wrapping, &key_nonce, &header, wrapped.as_mut_slice())?;
        let mut value = plain;
        let value_tag = encrypt(&own_key, &value_nonce, &header, value.as_mut_slice())?;
        let mut file = Vec::with_capacity(sealed::sealed_length(name, value.len()));
        for part in [
            &header[..],
            &key_nonce,
            wrapped.as_slice(),
            &key_tag,
            &value_nonce,
            value.as_slice(),
            &value_tag,
        ] {
            file.extend_from_slice(part);
        }
        Ok(file)
    }

    /// What a file seals, if it is whole and of this name, version and generation.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn unseal(
        &self,
        name: &str,
        version: u64,
        generation: u64,
        file: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let parsed = sealed::parse(file)?;
        if (parsed.name, parsed.version, parsed.generation) != (name, version, generation) {
            return Err(OpenError::Misplaced);
        }
        self.open_value(&parsed)
    }

    /// What the index's file seals; it tells its own generation.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn unseal_latest(&self, name: &str, file: &[u8]) -> Result<(u64, Zeroizing<Vec<u8>>), OpenError> {
        let parsed = sealed::parse(file)?;
        if parsed.name != name {
            return Err(OpenError::Misplaced);
        }
        Ok((parsed.generation, self.open_value(&parsed)?))
    }

    fn open_value(&self, parsed: &SealedFile<'_>) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (wrapped, key_tag) = parsed.wrapped_key.split_at(WRAPPED_BYTES - TAG_BYTES);
        let mut own_key: Key = Zeroizing::new([0; KEY_BYTES]);
        own_key.copy_from_slice(wrapped);
        decrypt(
            &self.wrapping,
            parsed.key_nonce,
            parsed.header,
            own_key.as_mut_slice(),
            key_tag,
        )?;
        let (value, value_tag) = parsed.value.split_at(parsed.value.len() - TAG_BYTES);
        let mut plain = Zeroizing::new(value.to_vec());
        decrypt(
            &own_key,
            parsed.value_nonce,
            parsed.header,
            plain.as_mut_slice(),
            value_tag,
        )?;
        Ok(plain)
    }
}

fn chain_mac(key: &[u8; KEY_BYTES], previous: &[u8; 32], body: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    *hasher.update(previous).update(body).finalize().as_bytes()
}

fn encrypt(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    header: &[u8],
    buffer: &mut [u8],
) -> Result<Tag, SealError> {
    XChaCha20Poly1305::new(key.into())
        .encrypt_in_place_detached(XNonce::from_slice(nonce), header, buffer)
        .map_err(|_| SealError)
}

fn decrypt(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    header: &[u8],
    buffer: &mut [u8],
    tag: &[u8],
) -> Result<(), OpenError> {
    XChaCha20Poly1305::new(key.into())
        .decrypt_in_place_detached(XNonce::from_slice(nonce), header, buffer, Tag::from_slice(tag))
        .map_err(|_| OpenError::Changed)
}
