//! What can be asked of the cell, whoever asks: REST and the automation socket stand on this one layer.

pub mod claim;
pub mod setup;

pub mod auth;
pub mod users;

mod device;
pub mod explain;
pub mod peers;
pub mod remote_catalogs;

pub mod accounts;
pub mod catalog;
pub mod connections;
pub mod managers;
pub mod service_networks;
pub mod store;
pub mod way_out;

pub mod plan;
pub mod published;
pub mod waiting;

pub mod audit;
pub mod cell;
pub mod containers;
pub mod domain;
pub mod trust;

mod error;

pub use error::{Kind, ServiceError};

use std::net::IpAddr;

use cell_api_core::role::Role;
use cell_api_core::throttle::Source;

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

/// Where a caller is who has not shown who it is.
#[derive(Debug, Clone)]
pub struct Remote {
    /// An address, or `unix`.
    pub shown: String,
    /// Who pays for failures; nobody for callers that the kernel has named.
    pub source: Option<Source>,
}

impl Remote {
    /// Somewhere on the network.
    pub fn at(address: IpAddr, source: Source) -> Self {
        Remote {
            shown: address.to_string(),
            source: Some(source),
        }
    }

    /// On the automation socket, which only root and the administrators' group can open. No failure of anybody else on
    /// the machine may slow it.
    pub fn local() -> Self {
        Remote {
            shown: "unix".to_owned(),
            source: None,
        }
    }
}

impl Actor {
    /// Whoever holds the claim token.
    pub fn setup(remote: &Remote) -> Self {
        Actor {
            name: "setup".to_owned(),
            role: None,
            remote: remote.shown.clone(),
        }
    }

    /// The cell itself, of its own accord.
    pub fn cell() -> Self {
        Actor {
            name: "cell".to_owned(),
            role: None,
            remote: "-".to_owned(),
        }
    }

    /// Somebody unknown.
    pub fn unknown(remote: &Remote) -> Self {
        Actor {
            name: "-".to_owned(),
            role: None,
            remote: remote.shown.clone(),
        }
    }
}
