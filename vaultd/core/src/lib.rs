//! What vaultd decides: who may do what, which names may be certified, what a certificate says, how sealed files and
//! logs are laid out, and whether the vault may open. No key, no file, no clock and no randomness is here.

#![forbid(unsafe_code)]

pub mod access;
pub mod access_log;
pub mod anchors;
pub mod dns;
pub mod exit_secret;
pub mod index;
pub mod item;
pub mod padding;
pub mod policy;
pub mod profile;
pub mod rate;
pub mod renewal;
pub mod request;
pub mod scope;
pub mod seal;
pub mod sealed;
pub mod secret_name;
pub mod timestamp;
pub mod violation;

pub use access::{Action, Denial, Role, may};
pub use dns::DnsName;
pub use item::ItemName;
pub use policy::{Policy, PolicySpec};
pub use scope::NameScope;
pub use secret_name::{SecretName, SecretPrefix};
pub use timestamp::Timestamp;
pub use violation::Violation;
