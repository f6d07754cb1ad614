//! Connections as others see them; what changes them is in [`change`] and [`first_version`].

mod change;
mod first_version;
mod plan;
mod vault;

pub use first_version::{Carried, FirstVersion, Outcome, carry, plan as plan_first_version};

pub use change::{Stored, create, delete, update};
pub use plan::{UpdatePlan, plan_update};
pub use vault::tidy_all;

use std::sync::Arc;

use cell_api_core::connection::id::ConnectionId;
use cell_api_core::connection::judge::Judged;
use cell_api_core::fault::Faults;

use super::{ServiceError, cell};
use crate::app::App;
use crate::exits;
use crate::store::connections::{self as table, StoredConnection};

/// A connection as others see it.
#[derive(Debug)]
pub struct ConnectionView {
    /// As stored.
    pub stored: StoredConnection,
    /// Whether it works, since when, and why that is thought.
    pub judged: Judged,
}

impl ConnectionView {
    fn of(app: &App, stored: StoredConnection) -> Self {
        let judged = exits::now(app, &stored);
        ConnectionView { stored, judged }
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
    Ok(stored
        .into_iter()
        .map(|stored| ConnectionView::of(app, stored))
        .collect())
}

/// One connection.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoConnection`], [`ServiceError::SetupRequired`].
pub async fn get(app: &App, id: &str) -> Result<ConnectionView, ServiceError> {
    let id = parse_id(id)?;
    cell::identity(app)?;
    let stored = app.store.read(|connection| table::get(connection, &id))?;
    Ok(ConnectionView::of(app, stored))
}

fn parse_id(text: &str) -> Result<ConnectionId, Faults> {
    ConnectionId::parse(text).map_err(|error| Faults::one("id", error))
}
