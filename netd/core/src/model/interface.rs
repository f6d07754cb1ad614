//! Names and sizes of network interfaces.

use std::fmt;
use std::str::FromStr;

/// IFNAMSIZ without the final NUL (include/uapi/linux/if.h).
const NAME_MAX: usize = 15;

/// Name of a network interface: 1-15 of `[A-Za-z0-9_.-]`, not `.` or `..`. Narrower than the kernel's
/// `dev_valid_name`, so that it is safe in a path, a log line and an nftables text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceName(String);

/// Not the name of an interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an interface name has 1-15 characters of A-Z a-z 0-9 _ . - and is neither \".\" nor \"..\"")]
pub struct InvalidInterfaceName;

impl FromStr for InterfaceName {
    type Err = InvalidInterfaceName;

    fn from_str(text: &str) -> Result<Self, InvalidInterfaceName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let valid =
            (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(allowed) && !matches!(text, "." | "..");
        valid
            .then(|| InterfaceName(text.to_owned()))
            .ok_or(InvalidInterfaceName)
    }
}

impl InterfaceName {
    /// `lo`.
    pub fn loopback() -> Self {
        InterfaceName("lo".to_owned())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Largest packet of an interface, bytes, 1280-9000. IPv6 needs 1280 (RFC 8200 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mtu(u32);

impl Mtu {
    /// 1500 less WireGuard's largest overhead (80 bytes over IPv6), as wg-quick(8) takes it.
    pub const DEFAULT: Mtu = Mtu(1420);

    /// `None` out of range.
    pub fn try_new(bytes: u32) -> Option<Self> {
        (1280..=9000).contains(&bytes).then_some(Mtu(bytes))
    }

    /// In bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }
}
