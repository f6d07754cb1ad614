//! The layout of a sealed file. Parsing opens nothing: what comes out is untrusted until the keyring has checked its tags.
//!
//! ```text
//! magic   8   "CELLSEA1"          \
//! length  1   of the name          |  the header, authenticated
//! name    n   item, or "index"     |  by both tags
//! version 8   big endian           |
//! generation 8 big endian         /
//! nonce  24   of the wrapped key
//! key    48   the file's own key under the vault's, with tag
//! nonce  24   of the value
//! value  16.. the padded value under the file's own key, with tag
//! ```

/// The first bytes of every sealed file.
pub const MAGIC: &[u8; 8] = b"CELLSEA1";
/// Length of an XChaCha20-Poly1305 nonce, bytes.
pub const NONCE_BYTES: usize = 24;
/// Length of a wrapped key: 32 bytes and a tag.
pub const WRAPPED_BYTES: usize = 48;
/// Length of a tag, bytes.
pub const TAG_BYTES: usize = 16;
/// Longest name in a header, bytes.
pub const HEADER_NAME_MAX: usize = 160;
/// Longest value with its tag: the index of 10,000 items with the longest names fits.
pub const VALUE_MAX: usize = 4 * 1024 * 1024;

/// The parts of a sealed file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SealedFile<'a> {
    /// From the magic to the generation: the additional data of both tags.
    pub header: &'a [u8],
    /// The name in the header.
    pub name: &'a str,
    /// The version in the header.
    pub version: u64,
    /// The generation in the header.
    pub generation: u64,
    /// Nonce of `wrapped_key`.
    pub key_nonce: &'a [u8; NONCE_BYTES],
    /// The file's own key, wrapped.
    pub wrapped_key: &'a [u8; WRAPPED_BYTES],
    /// Nonce of `value`.
    pub value_nonce: &'a [u8; NONCE_BYTES],
    /// The value, sealed.
    pub value: &'a [u8],
}

/// Why bytes are not a sealed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSealedFile {
    /// Ends before its last part does.
    #[error("the file is too short")]
    Truncated,
    /// Longer than anything that was ever sealed.
    #[error("the file is too long")]
    TooLong,
    /// Begins with something else.
    #[error("not a sealed file")]
    Magic,
    /// The name is empty, too long or not printable ASCII.
    #[error("the name in the header is not one")]
    Name,
}

/// The header of a sealed file. `name` is one of the vault's own and never longer than [`HEADER_NAME_MAX`].
pub fn header(name: &str, version: u64, generation: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(MAGIC.len() + 1 + name.len() + 16);
    header.extend_from_slice(MAGIC);
    header.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    header.extend_from_slice(name.as_bytes());
    header.extend_from_slice(&version.to_be_bytes());
    header.extend_from_slice(&generation.to_be_bytes());
    header
}

/// The length of the file that seals `plain` bytes under `name`.
pub fn sealed_length(name: &str, plain: usize) -> usize {
    MAGIC.len() + 1 + name.len() + 16 + NONCE_BYTES + WRAPPED_BYTES + NONCE_BYTES + plain + TAG_BYTES
}

/// Takes a file apart.
///
/// # Errors
/// See [`InvalidSealedFile`].
pub fn parse(bytes: &[u8]) -> Result<SealedFile<'_>, InvalidSealedFile> {
    use InvalidSealedFile::{Magic, Name, TooLong, Truncated};
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(Truncated)?;
    if magic != MAGIC {
        return Err(Magic);
    }
    let (length, rest) = rest.split_first().ok_or(Truncated)?;
    if *length == 0 || usize::from(*length) > HEADER_NAME_MAX {
        return Err(Name);
    }
    let (name, rest) = rest.split_at_checked(usize::from(*length)).ok_or(Truncated)?;
    let name = std::str::from_utf8(name).map_err(|_| Name)?;
    if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Name);
    }
    let (version, rest) = rest.split_first_chunk::<8>().ok_or(Truncated)?;
    let (generation, rest) = rest.split_first_chunk::<8>().ok_or(Truncated)?;
    let header = &bytes[..bytes.len() - rest.len()];
    let (key_nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(Truncated)?;
    let (wrapped_key, rest) = rest.split_first_chunk::<WRAPPED_BYTES>().ok_or(Truncated)?;
    let (value_nonce, value) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(Truncated)?;
    if value.len() < TAG_BYTES {
        return Err(Truncated);
    }
    if value.len() > VALUE_MAX {
        return Err(TooLong);
    }
    Ok(SealedFile {
        header,
        name,
        version: u64::from_be_bytes(*version),
        generation: u64::from_be_bytes(*generation),
        key_nonce,
        wrapped_key,
        value_nonce,
        value,
    })
}
