//! Hides how long a secret is. XChaCha20 keeps lengths, so whoever sees the state folder or a backup of it could tell a
//! PIN from a password from a key, and watch a value change its length. Values are padded to one of six lengths first.

/// Longest value of a secret, bytes.
pub const VALUE_MAX: usize = 64 * 1024;

const LENGTH_BYTES: usize = 4;
/// The lengths that a padded value can have, bytes, its length field included.
pub const BUCKETS: [usize; 6] = [64, 256, 1_024, 4_096, 16_384, VALUE_MAX + LENGTH_BYTES];

/// A padded value that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a padded value")]
pub struct InvalidPadding;

/// The length that a value of `length` bytes is padded to; `None` if it is too long.
pub fn padded_length(length: usize) -> Option<usize> {
    BUCKETS
        .into_iter()
        .find(|bucket| length.saturating_add(LENGTH_BYTES) <= *bucket)
}

/// Writes the value's length, the value and zeros into `buffer`, which must be empty. The buffer grows once, so that no
/// copy of the value is left behind in memory that was given back. `false` if the value is too long.
pub fn pad(value: &[u8], buffer: &mut Vec<u8>) -> bool {
    let (Some(length), Ok(prefix)) = (padded_length(value.len()), u32::try_from(value.len())) else {
        return false;
    };
    buffer.reserve_exact(length);
    buffer.extend_from_slice(&prefix.to_be_bytes());
    buffer.extend_from_slice(value);
    buffer.resize(length, 0);
    true
}

/// The value in what [`pad`] wrote.
///
/// # Errors
/// When the length is not one of the buckets, or what should be zero is not.
pub fn unpad(padded: &[u8]) -> Result<&[u8], InvalidPadding> {
    let (prefix, rest) = padded.split_first_chunk::<LENGTH_BYTES>().ok_or(InvalidPadding)?;
    let length = usize::try_from(u32::from_be_bytes(*prefix)).map_err(|_| InvalidPadding)?;
    if padded_length(length) != Some(padded.len()) {
        return Err(InvalidPadding);
    }
    let (value, zeros) = rest.split_at_checked(length).ok_or(InvalidPadding)?;
    if zeros.iter().all(|byte| *byte == 0) {
        Ok(value)
    } else {
        Err(InvalidPadding)
    }
}
