//! What can be asked of the cell, whoever asks: REST and the automation socket stand on this one layer.

pub mod claim;
pub mod setup;

pub mod auth;
pub mod users;

mod device;
pub mod peers;

pub mod audit;
pub mod cell;
pub mod containers;
pub mod trust;

mod error;

pub use error::{Kind, ServiceError};

use std::net::IpAddr;

use cell_api_core::role::Role;

/// Who acts, for the audit record.
#[derive(Debug, Clone)]
pub struct Actor {
    /// A user's name, `local:<user>` on the automation socket, `setup`, or `-`.
    pub name: String,
    /// The role, where there is one.
    pub role: Option<Role>,
    /// An address, or `unix`.
    pub remote: String,
}

impl Actor {
    /// Whoever holds the claim token.
    pub fn setup(remote: IpAddr) -> Self {
        Actor {
            name: "setup".to_owned(),
            role: None,
            remote: remote.to_string(),
        }
    }

    /// Somebody unknown.
    pub fn unknown(remote: IpAddr) -> Self {
        Actor {
            name: "-".to_owned(),
            role: None,
            remote: remote.to_string(),
        }
    }
}
