//! Names of peers, of services, and of the nftables table.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Name of a peer: 1-64 of `[A-Za-z0-9_.-]`, starting with a letter or digit. Shared by its clones: the indexes hold one
/// for each key and address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName(Arc<str>);

/// Not the name of a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a peer name has 1-64 characters of A-Z a-z 0-9 _ . - and starts with a letter or digit")]
pub struct InvalidPeerName;

impl FromStr for PeerName {
    type Err = InvalidPeerName;

    fn from_str(text: &str) -> Result<Self, InvalidPeerName> {
        let valid = text.len() <= 64
            && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        valid.then(|| PeerName(text.into())).ok_or(InvalidPeerName)
    }
}

impl PeerName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name of a service, as the broker has it: 1-63 of `[a-z0-9-]`, starting with a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceName(String);

/// Not the name of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a service's name has 1-63 characters of a-z 0-9 - and starts with a letter")]
pub struct InvalidServiceName;

impl FromStr for ServiceName {
    type Err = InvalidServiceName;

    fn from_str(text: &str) -> Result<Self, InvalidServiceName> {
        let valid = text.len() <= 63
            && text.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        valid
            .then(|| ServiceName(text.to_owned()))
            .ok_or(InvalidServiceName)
    }
}

impl ServiceName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name of an nftables table: 1-32 of `[a-z0-9_]`, starting with a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName(String);

/// Not the name of a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a table name has 1-32 characters of a-z 0-9 _ and starts with a letter")]
pub struct InvalidTableName;

impl FromStr for TableName {
    type Err = InvalidTableName;

    fn from_str(text: &str) -> Result<Self, InvalidTableName> {
        let valid = text.len() <= 32
            && text.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        valid.then(|| TableName(text.to_owned())).ok_or(InvalidTableName)
    }
}

impl TableName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
