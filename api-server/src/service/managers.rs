//! What managers ask of each service: its configuration, whether it works, how it was, what is wrong, and its log as it grows.

mod logs;
mod probe;

use std::sync::Arc;

use cell_api_core::derive::corefile::QueryLog;
use cell_api_core::services::form::{self, FormField};

pub use logs::{LogStream, follow};
pub use probe::{Check, test};

use super::{Actor, ServiceError, store};
use crate::app::App;
use crate::events::Topic;
use crate::store::managers as table;
use crate::store::services::{self, Parameters};
use crate::store::transaction::Origin;

pub use crate::store::managers::{HealthEntry, StoredAlert};

/// A service's configuration.
#[derive(Debug, Clone)]
pub struct ConfigView {
    /// What can be set.
    pub form: Vec<FormField>,
    /// What was set; what is not here has its default.
    pub parameters: Parameters,
}

/// A service's configuration.
///
/// # Errors
/// [`ServiceError::NoService`], [`ServiceError::SetupRequired`], [`ServiceError::Storage`].
pub async fn config(app: &App, name: &str) -> Result<ConfigView, ServiceError> {
    let view = store::get(app, name).await?;
    Ok(ConfigView {
        form: form::form(&view.manifest),
        parameters: view.service.make.parameters,
    })
}

/// Whether a configuration could be set.
///
/// # Errors
/// [`ServiceError::Invalid`] with every fault at once, [`ServiceError::NoService`].
pub async fn validate(app: &App, name: &str, parameters: &Parameters) -> Result<(), ServiceError> {
    let view = store::get(app, name).await?;
    form::check(&view.manifest, &view.service.instance, parameters)?;
    Ok(())
}

/// How a service was, the last first.
///
/// # Errors
/// [`ServiceError::NoService`], [`ServiceError::Storage`].
pub async fn history(app: &App, name: &str) -> Result<Vec<HealthEntry>, ServiceError> {
    let name = name.to_owned();
    app.store
        .read_much(move |connection| {
            services::get(connection, &name)?;
            Ok(table::history(connection, &name)?)
        })
        .await
}

/// All that is wrong, the oldest first.
///
/// # Errors
/// [`ServiceError::Storage`].
pub async fn alerts(app: &App) -> Result<Vec<StoredAlert>, ServiceError> {
    app.store
        .read_much(|connection| Ok(table::alerts(connection)?))
        .await
}

/// Notes that somebody has seen an alert.
///
/// # Errors
/// [`ServiceError::NoAlert`], [`ServiceError::Storage`].
pub async fn acknowledge(app: &Arc<App>, actor: &Actor, id: &str) -> Result<(), ServiceError> {
    let digits = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    let id: u64 = id.parse().ok().filter(|_| digits).ok_or(ServiceError::NoAlert)?;
    app.store
        .mutate(Origin::new(actor, app.now()), move |tx| {
            let service = table::acknowledge(tx, id)?;
            tx.audit("alert.acknowledge", &service, format!("alert {id}"));
            tx.effects.topics.insert(Topic::Alerts);
            Ok(())
        })
        .await
}

/// What CoreDNS logs.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn query_log(app: &App) -> Result<QueryLog, ServiceError> {
    let level = app.store.read(|connection| Ok(table::query_log(connection)?))?;
    QueryLog::parse(&level).map_err(|_| ServiceError::Storage("a stored level of the query log is none"))
}

/// Says what CoreDNS logs, from the next question on: nothing is started anew for it.
///
/// # Errors
/// [`ServiceError::Storage`].
pub async fn set_query_log(app: &Arc<App>, actor: &Actor, level: QueryLog) -> Result<(), ServiceError> {
    app.store
        .mutate(Origin::new(actor, app.now()), move |tx| {
            table::set_query_log(tx, level.as_str())?;
            tx.audit("dns.query_log", level.as_str(), "");
            tx.effects.topics.insert(Topic::Config);
            Ok(())
        })
        .await
}
