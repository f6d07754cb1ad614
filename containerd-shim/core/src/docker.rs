//! What must hold of Docker itself.

use std::fmt;

/// A version of Docker's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// Before the dot.
    pub major: u16,
    /// After it.
    pub minor: u16,
}

/// The oldest API that the broker works with: Docker 20.10, the oldest that a supported distribution ships.
pub const OLDEST_API: ApiVersion = ApiVersion { major: 1, minor: 41 };

impl ApiVersion {
    /// From Docker's own form, e.g. "1.47".
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(ApiVersion {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Why there is no Docker to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// No such file.
    #[error("Docker's socket does not exist: Docker is not installed or not running")]
    NoSocket,
    /// A file, and nobody listens.
    #[error("nobody listens on Docker's socket: Docker is not running")]
    Refused,
    /// The broker's user may not open it.
    #[error("Docker's socket may not be opened: the broker's user is not in its group")]
    Permission,
    /// It ended the connection in the middle.
    #[error("Docker ended the connection")]
    Lost,
    /// It answers, in a version that the broker does not work with.
    #[error("Docker's API is older than {OLDEST_API} (Docker 20.10), or says no version")]
    TooOld,
}

impl Unreachable {
    /// Stable code, the reason of the condition `DockerReachable`.
    pub fn code(self) -> &'static str {
        match self {
            Unreachable::NoSocket => "NO_SOCKET",
            Unreachable::Refused => "REFUSED",
            Unreachable::Permission => "PERMISSION",
            Unreachable::Lost => "LOST",
            Unreachable::TooOld => "TOO_OLD",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        let version = |text| ApiVersion::parse(text);
        assert!(version("1.100") > version("1.41"));
        assert!(version("1.5") < Some(OLDEST_API));
        for bad in ["", "1", "1.", "v1.41", "1.41.2", "-1.2"] {
            assert_eq!(version(bad), None, "{bad:?}");
        }
    }
}
