//! Remote catalogs: what administrators say of them. Who fetches is `crate::remote`.

use std::sync::Arc;
use std::time::Duration;

use cell_api_core::fault::Faults;
use cell_api_core::services::remote::{self, CatalogUrl, PEM_MAX_BYTES};
use cell_manifest::Name;

use super::peers::find_exit;
use super::{Actor, ServiceError, cell};
use crate::app::App;
use crate::events::Topic;
use crate::remote::{Live, refresh as look};
use crate::store::connections;
use crate::store::remote_catalogs::{self as table, NewCatalog, StoredCatalog};
use crate::store::transaction::Origin;

/// How long an answer waits for a look that somebody asked for. It goes on.
const PATIENCE: Duration = Duration::from_secs(25);

/// A remote catalog as others see it.
#[derive(Debug, Clone)]
pub struct RemoteView {
    /// As stored.
    pub stored: StoredCatalog,
    /// What moves about it.
    pub live: Live,
    /// What the connection that carries it is called.
    pub connection_name: Option<String>,
    /// Whether its index has ended.
    pub expired: bool,
}

/// What is asked of a new one.
#[derive(Debug, Clone, Default)]
pub struct RemoteInput {
    /// What it is to be called.
    pub name: String,
    /// Where it lies.
    pub url: String,
    /// Public keys that may sign its index, PEM.
    pub keys: Vec<String>,
    /// Authorities of its server, PEM; empty: those of the system.
    pub ca: String,
    /// What carries it, as peers' exits are named; empty: the cell's own way.
    pub connection: String,
}

impl RemoteInput {
    /// What is wrong with it by itself.
    ///
    /// # Errors
    /// Every fault.
    pub fn check(&self) -> Result<NewCatalog, Faults> {
        let mut faults = Faults::default();
        let name = Name::try_from(self.name.as_str()).map_err(|fault| fault.to_string());
        let name = faults.keep("name", name);
        let url = faults.keep("url", CatalogUrl::parse(&self.url));
        let keys = faults.keep("keys", remote::keys(&self.keys));
        if self.ca.len() > PEM_MAX_BYTES {
            faults.add("ca", format!("is at most {PEM_MAX_BYTES} bytes"));
        } else if !self.ca.trim().is_empty()
            && let Err(why) = crate::authorities::Authorities::default().client(&self.ca)
        {
            faults.add("ca", why);
        }
        match (name, url, keys) {
            (Some(name), Some(url), Some(keys)) if faults.is_empty() => Ok(NewCatalog {
                name: name.to_string(),
                url,
                keys,
                ca: self.ca.trim().to_owned(),
                connection: None,
            }),
            _ => Err(faults),
        }
    }
}

/// All of them, in the order in which they were added.
///
/// # Errors
/// [`ServiceError::SetupRequired`], [`ServiceError::Storage`].
pub async fn list(app: &App) -> Result<Vec<RemoteView>, ServiceError> {
    cell::identity(app)?;
    let read = |connection: &_| Ok((table::list(connection)?, connections::names(connection)?));
    let (all, names) = app.store.read_much(read).await?;
    let view = |stored: StoredCatalog| {
        let named = names.iter().find(|(id, _, _)| Some(*id) == stored.connection);
        RemoteView {
            live: app.remote.live(&stored.name),
            connection_name: named.map(|(_, name, _)| name.clone()),
            expired: stored
                .index
                .as_ref()
                .is_some_and(|index| index.is_expired(app.now() / 1000)),
            stored,
        }
    };
    Ok(all.into_iter().map(view).collect())
}

/// One of them.
///
/// # Errors
/// [`ServiceError::NoRemoteCatalog`], [`ServiceError::SetupRequired`], [`ServiceError::Storage`].
pub async fn get(app: &App, name: &str) -> Result<RemoteView, ServiceError> {
    let all = list(app).await?.into_iter();
    let mut found = all.filter(|view| view.stored.name == name);
    found.next().ok_or(ServiceError::NoRemoteCatalog)
}

/// Adds one: it is fetched from then on.
///
/// # Errors
/// [`ServiceError::Invalid`] with every fault, [`ServiceError::RemoteCatalogExists`],
/// [`ServiceError::TooManyRemoteCatalogs`], [`ServiceError::SetupRequired`].
pub async fn add(app: &Arc<App>, actor: &Actor, input: RemoteInput) -> Result<RemoteView, ServiceError> {
    let new = input.check()?;
    cell::identity(app)?;
    let name = new.name.clone();
    app.store
        .mutate(Origin::new(actor, app.now()), move |tx| {
            let connection = find_exit(tx, "connection_id", &input.connection)?;
            let new = NewCatalog { connection, ..new };
            table::add(tx, &new)?;
            let by = connection.map(|id| format!(" through {id}")).unwrap_or_default();
            let detail = format!("{}{by}, {} key(s)", new.url, new.keys.len());
            tx.audit("catalog.add", &new.name, detail);
            tx.effects.topics.insert(Topic::Services);
            Ok(())
        })
        .await?;
    told(app, &name);
    get(app, &name).await
}

/// Removes one. What was installed of it stays.
///
/// # Errors
/// [`ServiceError::NoRemoteCatalog`], [`ServiceError::SetupRequired`].
pub async fn remove(app: &Arc<App>, actor: &Actor, name: &str) -> Result<(), ServiceError> {
    cell::identity(app)?;
    let owned = name.to_owned();
    app.store
        .mutate(Origin::new(actor, app.now()), move |tx| {
            table::remove(tx, &owned)?;
            tx.audit("catalog.remove", &owned, "");
            tx.effects.topics.insert(Topic::Services);
            Ok(())
        })
        .await?;
    told(app, name);
    Ok(())
}

/// Looks at one now. The answer says how it went, or that it goes on.
///
/// # Errors
/// [`ServiceError::NoRemoteCatalog`], [`ServiceError::SetupRequired`], [`ServiceError::Storage`].
pub async fn refresh(app: &Arc<App>, name: &str) -> Result<RemoteView, ServiceError> {
    get(app, name).await?;
    let (own, owned) = (Arc::clone(app), name.to_owned());
    // Whoever asked may go away.
    let looking = tokio::spawn(async move { look(&own, &owned).await });
    if let Ok(looked) = tokio::time::timeout(PATIENCE, looking).await {
        looked.unwrap_or(Err(ServiceError::Storage("a look was cut off")))?;
    }
    get(app, name).await
}

/// Where servers are is netd's to know, and where names lead to has to be asked.
fn told(app: &App, name: &str) {
    app.remote.changed(name);
    app.exits.look.notify_one();
    app.network.again();
}
