//! Connections as others see them; what changes them is in [`change`].

mod change;
mod vault;

pub use change::{Stored, create, delete, update};
pub use vault::tidy_all;

use std::sync::Arc;

use cell_api_core::connection::health::Health;
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::fault::Faults;

use super::{ServiceError, cell};
use crate::app::App;
use crate::store::connections::{self as table, StoredConnection};

/// A connection as others see it.
#[derive(Debug)]
pub struct ConnectionView {
    /// As stored.
    pub stored: StoredConnection,
    /// Whether it works.
    pub health: Health,
    /// Why that is thought, for people. Never holds a secret.
    pub detail: &'static str,
}

impl ConnectionView {
    /// Nothing uses or probes connections yet, so that of a whole one nothing is known; one that lacks a secret cannot
    /// work.
    fn of(stored: StoredConnection) -> Self {
        let (health, detail) = if stored.secrets_whole {
            (Health::Unknown, "nothing uses or probes connections yet")
        } else {
            (
                Health::Down,
                "its secrets at the vault are missing or belong to another import: import it again",
            )
        };
        ConnectionView {
            stored,
            health,
            detail,
        }
    }

    /// Names this state of it.
    pub fn version(&self) -> String {
        self.stored.revision.to_string()
    }

    /// The names that its secrets have at vaultd.
    pub fn vault_names(&self) -> Vec<String> {
        vault::names_of(&self.stored)
    }
}

/// All connections, in the order of names.
///
/// # Errors
/// [`ServiceError::SetupRequired`], [`ServiceError::Storage`].
pub async fn list(app: &Arc<App>) -> Result<Vec<ConnectionView>, ServiceError> {
    cell::identity(app)?;
    let stored = app.store.read_much(table::list).await?;
    Ok(stored.into_iter().map(ConnectionView::of).collect())
}

/// One connection.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoConnection`], [`ServiceError::SetupRequired`].
pub async fn get(app: &App, id: &str) -> Result<ConnectionView, ServiceError> {
    let id = parse_id(id)?;
    cell::identity(app)?;
    let stored = app.store.read(|connection| table::get(connection, &id))?;
    Ok(ConnectionView::of(stored))
}

fn parse_id(text: &str) -> Result<ConnectionId, Faults> {
    ConnectionId::parse(text).map_err(|error| Faults::one("id", error))
}
