//! The keys by which an SSH server is known. No other key is taken, whoever asks.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Longest key, bytes; the longest of the known algorithms has 172.
const BLOB_MAX: usize = 1024;
/// Algorithms that are known. RSA is left out: see docs/adr/0011-proxies-and-ssh.md.
pub const ALGORITHMS: [&str; 4] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
];

/// A server's public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    algorithm: &'static str,
    blob: Vec<u8>,
}

/// Text that is no usable host key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHostKey {
    /// Not `ALGORITHM BASE64`, or the two do not go together.
    #[error("is a line as ssh-keyscan(1) prints it, without the host: `ssh-ed25519 AAAA…`")]
    Form,
    /// A key of another algorithm.
    #[error("is of an algorithm that is not used here: take the server's ssh-ed25519 or ecdsa key")]
    Algorithm,
}

impl HostKey {
    /// Reads `ALGORITHM BASE64`, with a comment or without.
    ///
    /// # Errors
    /// [`InvalidHostKey`]
    pub fn parse(line: &str) -> Result<Self, InvalidHostKey> {
        let mut words = line.split_ascii_whitespace();
        let (Some(name), Some(encoded)) = (words.next(), words.next()) else {
            return Err(InvalidHostKey::Form);
        };
        if encoded.len() > BLOB_MAX * 2 {
            return Err(InvalidHostKey::Form);
        }
        let blob = STANDARD.decode(encoded).map_err(|_| InvalidHostKey::Form)?;
        if blob.len() > BLOB_MAX || first_string(&blob) != Some(name.as_bytes()) {
            return Err(InvalidHostKey::Form);
        }
        let algorithm = ALGORITHMS
            .into_iter()
            .find(|known| *known == name)
            .ok_or(InvalidHostKey::Algorithm)?;
        Ok(HostKey { algorithm, blob })
    }

    /// The name of its algorithm.
    pub fn algorithm(&self) -> &'static str {
        self.algorithm
    }

    /// Whether the server's key, as it is sent (RFC 4253, section 6.6), is this one.
    pub fn is(&self, presented: &[u8]) -> bool {
        self.blob == presented
    }
}

/// The first string of a key: the name of its algorithm (RFC 4251, section 5).
fn first_string(blob: &[u8]) -> Option<&[u8]> {
    let (length, rest) = blob.split_first_chunk::<4>()?;
    rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDbhqFJ5KXyZFmpYYXJBrWD5AGVqnlUBM4HhFPPqqLfu";

    fn blob(name: &str) -> String {
        let bytes = [
            &(name.len() as u32).to_be_bytes(),
            name.as_bytes(),
            &[0, 0, 0, 1, 7],
        ]
        .concat();
        format!("{name} {}", STANDARD.encode(bytes))
    }

    #[test]
    fn a_key_is_itself_and_no_other() {
        let key = HostKey::parse(&format!("{KEY} a comment")).unwrap();
        let bytes = STANDARD.decode(KEY.split(' ').nth(1).unwrap()).unwrap();
        assert_eq!(key.algorithm(), "ssh-ed25519");
        assert!(key.is(&bytes));
        assert!(!key.is(&bytes[1..]) && !key.is(&[]));
        let mut other = bytes;
        *other.last_mut().unwrap() ^= 1;
        assert!(!key.is(&other));
    }

    #[test]
    fn what_is_no_key_is_told_from_what_is_not_used() {
        for name in [
            "ssh-rsa",
            "ssh-dss",
            "sk-ssh-ed25519@openssh.com",
            "ssh-ed25519-cert-v01@openssh.com",
        ] {
            assert_eq!(
                HostKey::parse(&blob(name)),
                Err(InvalidHostKey::Algorithm),
                "{name}"
            );
        }
        for line in [
            "",
            "ssh-ed25519",
            "ssh-ed25519 !",
            "ssh-ed25519 AAAA",
            "ssh-ed25519 /////w==",
        ] {
            assert_eq!(HostKey::parse(line), Err(InvalidHostKey::Form), "{line}");
        }
        let disguised = blob("ssh-rsa").replacen("ssh-rsa", "ssh-ed25519", 1);
        assert_eq!(HostKey::parse(&disguised), Err(InvalidHostKey::Form));
    }

    proptest! {
        #[test]
        fn no_line_ends_the_reader(line in ".{0,200}") {
            let _ = HostKey::parse(&line);
        }
    }
}
