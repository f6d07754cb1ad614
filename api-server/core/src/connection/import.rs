//! What people have already, read into connections: WireGuard files, OpenVPN profiles, proxy URLs, SSH targets.
//!
//! All of it is hostile: bounded before it is looked at, refused with every fault named by its line, and reduced to what
//! the cell itself writes out again. What would run a program is refused, never dropped in silence; what the cell decides
//! itself (marks, tables, routes) is left out and said so.

mod host;
mod line;
pub mod openvpn;
pub mod proxy;
pub mod ssh;
pub mod wireguard;

use std::fmt;

use zeroize::Zeroizing;

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported<C> {
    /// What is stored and shown.
    pub config: C,
    /// What only the vault may hold.
    pub secrets: Vec<Secret>,
    /// What was left out and why, for people.
    pub notes: Vec<String>,
}

/// A secret on its way to the vault. Never shown, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Which field of the connection it is: the last part of the vault's name.
    pub field: String,
    /// Its value.
    pub value: Zeroizing<String>,
}

impl Secret {
    fn new(field: impl Into<String>, value: impl Into<String>) -> Self {
        Secret {
            field: field.into(),
            value: Zeroizing::new(value.into()),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.field)
    }
}
