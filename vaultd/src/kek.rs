//! The key-encryption key: read once from `$CREDENTIALS_DIRECTORY/kek` (systemd.exec(5)), used to derive the vault's own
//! keys, and wiped.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use cell_vaultd_core::seal::{KEK_BYTES, KekFinding};
use zeroize::Zeroizing;

/// Thirty-two secret bytes. Shows nothing, is not copied, and is wiped when it goes.
pub struct Kek(Zeroizing<[u8; KEK_BYTES]>);

impl Kek {
    /// From bytes that somebody else keeps.
    pub fn from_bytes(bytes: &[u8; KEK_BYTES]) -> Self {
        Kek(Zeroizing::new(*bytes))
    }

    /// Reads `kek` in the credentials folder.
    ///
    /// # Errors
    /// What is wrong with it: never its content.
    pub fn read(credentials: Option<&Path>) -> Result<Self, KekFinding> {
        let path = credentials.ok_or(KekFinding::Missing)?.join("kek");
        // One byte more than allowed tells a longer file. The buffer never grows, so no copy stays behind.
        let mut buffer = Zeroizing::new([0; KEK_BYTES + 1]);
        let length = File::open(&path)
            .and_then(|mut file| read_up_to(&mut file, buffer.as_mut_slice()))
            .map_err(|error| {
                tracing::warn!(path = %path.display(), %error, "the key-encryption key cannot be read");
                KekFinding::Missing
            })?;
        if length != KEK_BYTES {
            return Err(KekFinding::WrongLength);
        }
        let (bytes, _) = buffer
            .split_first_chunk::<KEK_BYTES>()
            .ok_or(KekFinding::WrongLength)?;
        Ok(Kek::from_bytes(bytes))
    }

    /// The bytes, for the one place that derives from them.
    pub(crate) fn expose(&self) -> &[u8; KEK_BYTES] {
        &self.0
    }
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..])? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}
