//! What the vault keeps, one sealed file each.

use std::fmt;
use std::str::FromStr;

use crate::secret_name::SecretName;

/// The name of a sealed item. Secrets that callers name cannot clash with the vault's own: those have a hyphen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ItemName {
    /// Key and certificate of the root.
    RootAuthority,
    /// Key and certificate of the intermediate.
    IntermediateAuthority,
    /// The cell's WireGuard private key.
    WireguardKey,
    /// A secret that the API put.
    Secret(SecretName),
}

/// Longest text of an item's name, bytes.
pub const ITEM_NAME_MAX: usize = SECRET.len() + crate::secret_name::NAME_MAX;

const ROOT: &str = "ca-root";
const INTERMEDIATE: &str = "ca-intermediate";
const WIREGUARD: &str = "wireguard-key";
const SECRET: &str = "secret-";

/// Not the name of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of an item of the vault")]
pub struct InvalidItemName;

impl ItemName {
    /// The secret's own name, if it is one.
    pub fn as_secret(&self) -> Option<&SecretName> {
        match self {
            ItemName::Secret(name) => Some(name),
            ItemName::RootAuthority | ItemName::IntermediateAuthority | ItemName::WireguardKey => None,
        }
    }

    /// The file that holds it as it was written at `generation`.
    pub fn file_name(&self, generation: u64) -> String {
        format!("{self}.{generation}.sealed")
    }
}

impl fmt::Display for ItemName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ItemName::RootAuthority => f.write_str(ROOT),
            ItemName::IntermediateAuthority => f.write_str(INTERMEDIATE),
            ItemName::WireguardKey => f.write_str(WIREGUARD),
            ItemName::Secret(name) => write!(f, "{SECRET}{name}"),
        }
    }
}

impl FromStr for ItemName {
    type Err = InvalidItemName;

    fn from_str(text: &str) -> Result<Self, InvalidItemName> {
        match text {
            ROOT => Ok(ItemName::RootAuthority),
            INTERMEDIATE => Ok(ItemName::IntermediateAuthority),
            WIREGUARD => Ok(ItemName::WireguardKey),
            _ => {
                let name = text.strip_prefix(SECRET).ok_or(InvalidItemName)?;
                name.parse().map(ItemName::Secret).map_err(|_| InvalidItemName)
            }
        }
    }
}
