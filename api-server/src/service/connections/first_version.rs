//! Carries what the first version kept of exits: reads, plans, and does it.
//!
//! In this order: the ids of the connections are written down; their secrets go to vaultd under the names of these ids; one
//! transaction makes the connections, binds the peers and notes that it is done. Whoever is cut off in between leaves ids
//! without connections, whose secrets are removed at the next start like all that nothing refers to; who begins again goes
//! on with the same ids.

mod outcome;
mod work;

pub use outcome::{Carried, Outcome};

use std::collections::BTreeMap;
use std::sync::Arc;

use cell_api_core::connection::id::ConnectionId;
use cell_api_core::connection::kind::Kind;
use cell_api_core::connection::reference::Known;
use cell_api_core::migrate::{self, Cell, File, First, Plan, Texts};
use rusqlite::Connection;
use zeroize::Zeroizing;

use super::change::{FIRST_REVISION, PATIENCE, new_id, to_the_end};
use super::vault;
use crate::app::App;
use crate::peers::Peers;
use crate::service::{Actor, ServiceError, cell, waiting};
use crate::store::connections as table;
use crate::store::first_version as record;
use crate::store::transaction::{Origin, Tx};
use crate::store::waiting::{self as waiting_table, Wait};
use work::{Made, Work};

/// The first version's files. They hold secrets, so there is no `Debug`, and they are wiped when dropped.
#[derive(Clone)]
pub struct FirstVersion {
    /// `cell_config.json`.
    pub config: Zeroizing<String>,
    /// The file of peers, if it is given.
    pub peers: Option<Zeroizing<String>>,
    /// What the first version's vault held, if it is given.
    pub secrets: Option<Zeroizing<String>>,
}

impl FirstVersion {
    /// For who reads them.
    pub fn texts(&self) -> Texts<'_> {
        Texts {
            config: &self.config,
            peers: self.peers.as_deref().map(String::as_str),
            secrets: self.secrets.as_deref().map(String::as_str),
        }
    }
}

/// What [`carry`] would do.
///
/// # Errors
/// As it, but for vaultd's.
pub async fn plan(app: &Arc<App>, actor: &Actor, files: FirstVersion) -> Result<Outcome, ServiceError> {
    let range = cell::identity(app)?.range;
    let plan = match read(app, files).await? {
        Read::First(plan) => plan,
        Read::Later(outcome) => return Ok(outcome),
    };
    let outcome = Outcome::of(&plan);
    if plan.is_done() {
        return Ok(outcome);
    }
    let work = Work::new(plan, BTreeMap::new())?;
    let trying = app.store.try_out(Origin::new(actor, app.now()), move |tx| {
        work.make(tx, &range, None)
    });
    trying.await?;
    Ok(outcome)
}

/// Carries them. With `wait` the devices are bound for good only if that is confirmed in time; the connections stay either way, and carry
/// nobody then.
///
/// # Errors
/// [`ServiceError::Invalid`] with every fault of the files, [`ServiceError::ConnectionsExhausted`],
/// [`ServiceError::ChangePending`], [`ServiceError::SetupRequired`], [`ServiceError::VaultRefuses`],
/// [`ServiceError::Unreachable`] without vaultd, with `wait` also without netd; nothing is carried then. With `wait`
/// [`ServiceError::NotApplied`]: the devices are as they were.
pub async fn carry(
    app: &Arc<App>,
    actor: &Actor,
    files: FirstVersion,
    wait: Option<Wait>,
) -> Result<Outcome, ServiceError> {
    cell::identity(app)?;
    if wait.is_some() {
        waiting::ready(app)?;
    }
    to_the_end(carried(Arc::clone(app), actor.clone(), files, wait)).await
}

async fn carried(
    app: Arc<App>,
    actor: Actor,
    files: FirstVersion,
    wait: Option<Wait>,
) -> Result<Outcome, ServiceError> {
    let _gate = app.connection_changes.lock().await;
    let range = cell::identity(&app)?.range;
    let plan = match read(&app, files).await? {
        Read::First(plan) => plan,
        Read::Later(outcome) => return Ok(outcome),
    };
    let mut outcome = Outcome::of(&plan);
    if plan.is_done() {
        return Ok(outcome);
    }
    let ids = begin(&app, &plan).await?;
    let work = Work::new(plan, ids.clone())?;
    let sealed = seal(&app, &work).await;
    let made = match sealed {
        Ok(()) => {
            let origin = Origin::new(&actor, app.now());
            let waits = wait.clone();
            let making = move |tx: &mut Tx<'_>| work.make(tx, &range, waits.as_ref());
            app.store.commit(origin, making).await
        }
        Err(error) => Err(error),
    };
    if made.is_err() {
        for id in ids.values() {
            vault::tidy(&app, id).await;
        }
    }
    let (Made { stored, waits }, generation) = made?;
    app.network.wait_for(generation, PATIENCE).await;
    // Where nobody was bound there is nothing to confirm.
    waiting::applied(&app, wait.as_ref().filter(|_| waits), generation)?;
    outcome.waits = waits && app.store.read(|connection| Ok(waiting_table::any(connection)?))?;
    outcome.complete(&stored);
    Ok(outcome)
}

enum Read {
    First(Plan),
    Later(Outcome),
}

/// Reads the files and plans, by what there is now. Nothing that would be refused in any case is begun.
async fn read(app: &Arc<App>, files: FirstVersion) -> Result<Read, ServiceError> {
    let app = Arc::clone(app);
    // Both are megabytes at the most, and so may be the peers.
    let reading = tokio::task::spawn_blocking(move || read_all(&app, &files));
    let cut_off = Err(ServiceError::Storage("a read was cut off"));
    reading.await.unwrap_or(cut_off)
}

fn read_all(app: &App, files: &FirstVersion) -> Result<Read, ServiceError> {
    match migrate::read(files.texts())? {
        File::First(first) => {
            let plan = app
                .store
                .read(|connection| planned(connection, &app.peers, first))?;
            Ok(Read::First(plan))
        }
        File::Later(version) => Ok(Read::Later(Outcome {
            words: vec!["There is nothing to do.".to_owned()],
            notes: vec![format!(
                "the file is of version {version}, whose connections have names: the first version's files are imported here"
            )],
            ..Outcome::default()
        })),
    }
}

fn planned(connection: &Connection, peers: &Peers, first: First) -> Result<Plan, ServiceError> {
    waiting_table::refuse_beside(connection)?;
    let names = table::names(connection)?;
    let connections: Vec<Known<'_>> = names
        .iter()
        .map(|(id, name, kind)| Known {
            id: *id,
            name,
            kind: *kind,
        })
        .collect();
    let peers = peers.list();
    let peers = peers
        .iter()
        .map(|stored| (stored.peer.name.clone(), stored.peer.exit.clone()));
    let cell = Cell {
        connections: &connections,
        carried: &record::made(connection)?,
        peers: &peers.collect(),
    };
    Ok(migrate::plan(first, &cell)?)
}

/// Writes down which ids the connections of a plan will have.
async fn begin(app: &App, plan: &Plan) -> Result<BTreeMap<Kind, ConnectionId>, ServiceError> {
    let mut fresh = BTreeMap::new();
    for make in &plan.make {
        fresh.insert(make.kind(), new_id()?);
    }
    let now = app.now();
    app.store
        .jot(move |connection| {
            let begun = fresh.into_iter().map(|(kind, fresh)| {
                let id = record::begin(connection, kind, fresh, now)?;
                Ok((kind, id))
            });
            begun.collect()
        })
        .await
}

/// Gives vaultd the secrets, in the place of what an attempt that was cut off has left there.
async fn seal(app: &App, work: &Work) -> Result<(), ServiceError> {
    for (candidate, secrets) in &work.connections {
        let known = vault::versions(app, &candidate.id).await?;
        vault::put(app, &candidate.id, secrets, &known, FIRST_REVISION).await?;
    }
    Ok(())
}
