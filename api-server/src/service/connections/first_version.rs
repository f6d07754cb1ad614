//! Carries what the first version kept of exits: reads, plans, and does it.
//!
//! In this order: the ids of the connections are written down; their secrets go to vaultd under the names of these ids; one
//! transaction makes the connections, binds the peers and notes that it is done. Whoever is cut off in between leaves ids
//! without connections, whose secrets are removed at the next start like all that nothing refers to; who begins again goes
//! on with the same ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use cell_api_core::connection::id::ConnectionId;
use cell_api_core::connection::import::Secret;
use cell_api_core::connection::kind::Kind;
use cell_api_core::connection::reference::Known;
use cell_api_core::migrate::{self, Bind, Cell, File, First, Make, Plan, Target, Texts};
use cell_api_core::range::VpnRange;
use rusqlite::Connection;
use zeroize::Zeroizing;

use super::change::{PATIENCE, fields_of, new_id, to_the_end};
use super::vault;
use crate::app::App;
use crate::events::Topic;
use crate::peers::Peers;
use crate::service::peers::ExitChange;
use crate::service::{Actor, ServiceError, cell};
use crate::store::connections::{self as table, StoredConnection};
use crate::store::first_version as record;
use crate::store::peers::{self, StoredPeer};
use crate::store::transaction::{NetworkChange, Origin, Tx};
use crate::store::waiting;

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

/// What becomes of the files.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The exits, by type.
    pub exits: Vec<Carried>,
    /// The names of the peers that are bound, or get their own word on failing open.
    pub peers: Vec<String>,
    /// What is done, in words.
    pub words: Vec<String>,
    /// What is not carried and why, for people.
    pub notes: Vec<String>,
}

/// An exit of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// Its type.
    pub kind: Kind,
    /// The connection's name.
    pub name: String,
    /// The connection; `None`: it is only planned.
    pub id: Option<ConnectionId>,
    /// Whether it was there before.
    pub was_there: bool,
    /// The names that its secrets have at vaultd, or the last parts of them where it is only planned.
    pub secrets: Vec<String>,
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
    let trying = app
        .store
        .try_out(Origin::new(actor, app.now()), move |tx| work.make(tx, &range));
    trying.await?;
    Ok(outcome)
}

/// Carries them.
///
/// # Errors
/// [`ServiceError::Invalid`] with every fault of the files, [`ServiceError::ConnectionsExhausted`],
/// [`ServiceError::ChangePending`], [`ServiceError::SetupRequired`], [`ServiceError::VaultRefuses`],
/// [`ServiceError::Unreachable`] without vaultd; nothing is carried then.
pub async fn carry(app: &Arc<App>, actor: &Actor, files: FirstVersion) -> Result<Outcome, ServiceError> {
    cell::identity(app)?;
    to_the_end(carried(Arc::clone(app), actor.clone(), files)).await
}

async fn carried(app: Arc<App>, actor: Actor, files: FirstVersion) -> Result<Outcome, ServiceError> {
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
            app.store.commit(origin, move |tx| work.make(tx, &range)).await
        }
        Err(error) => Err(error),
    };
    if made.is_err() {
        for id in ids.values() {
            vault::tidy(&app, id).await;
        }
    }
    let (stored, generation) = made?;
    app.network.wait_for(generation, PATIENCE).await;
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
    if waiting::any(connection)? {
        return Err(ServiceError::ChangePending);
    }
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
        vault::put(app, &candidate.id, secrets, &known).await?;
    }
    Ok(())
}

/// What the transaction makes.
struct Work {
    connections: Vec<(Candidate, Vec<Secret>)>,
    bind: Vec<Bind>,
}

/// A connection that has everything but its allocation.
struct Candidate {
    id: ConnectionId,
    make: Make,
}

impl Work {
    /// The ids that are not given are made up.
    fn new(plan: Plan, ids: BTreeMap<Kind, ConnectionId>) -> Result<Self, ServiceError> {
        let mut connections = Vec::with_capacity(plan.make.len());
        for mut make in plan.make {
            let id = match ids.get(&make.kind()) {
                Some(id) => *id,
                None => new_id()?,
            };
            let secrets = std::mem::take(&mut make.imported.secrets);
            connections.push((Candidate { id, make }, secrets));
        }
        Ok(Work {
            connections,
            bind: plan.bind,
        })
    }

    /// Makes all of it; the connections as stored.
    fn make(self, tx: &mut Tx<'_>, range: &VpnRange) -> Result<Vec<StoredConnection>, ServiceError> {
        let mut made = Vec::with_capacity(self.connections.len());
        for (candidate, secrets) in self.connections {
            let stored = insert(tx, candidate, fields_of(&secrets))?;
            record::finish(tx, stored.config.kind(), stored.id, tx.now())?;
            made.push(stored);
        }
        let names: BTreeMap<ConnectionId, String> = table::names(tx)?
            .into_iter()
            .map(|(id, name, _)| (id, name))
            .collect();
        let mut bound = 0;
        for bind in self.bind {
            let to = bind.to.and_then(|target| match target {
                Target::There(id) => Some(id),
                Target::Made(kind) => made
                    .iter()
                    .find(|one| one.config.kind() == kind)
                    .map(|one| one.id),
            });
            bound += usize::from(rebind(tx, range, &bind, to, &names)?);
        }
        let detail = format!("{} connections made, {bound} devices bound", made.len());
        tx.audit("connection.import", "first version", detail);
        tx.network(NetworkChange::All);
        tx.effects.topics.extend([Topic::Peers, Topic::Connections]);
        Ok(made)
    }
}

fn insert(
    tx: &mut Tx<'_>,
    candidate: Candidate,
    secret_fields: Vec<String>,
) -> Result<StoredConnection, ServiceError> {
    let Candidate { id, make } = candidate;
    let kind = make.kind();
    let stored = StoredConnection {
        id,
        name: make.name,
        allocation: table::allocate(tx, &id, kind)?,
        config: make.imported.config,
        secret_fields,
        secrets_whole: true,
        revision: 1,
        created_unix_ms: tx.now(),
    };
    table::insert(tx, &stored)?;
    let (mark, routing_table) = (stored.allocation.mark, stored.allocation.table);
    let detail = format!("{kind} of the first version; mark {mark:#x}; table {routing_table}");
    tx.audit("connection.create", &stored.name, detail);
    Ok(stored)
}

/// Whether the peer is another now: it may be gone, and somebody may have chosen for it since.
fn rebind(
    tx: &mut Tx<'_>,
    range: &VpnRange,
    bind: &Bind,
    to: Option<ConnectionId>,
    names: &BTreeMap<ConnectionId, String>,
) -> Result<bool, ServiceError> {
    let Some(before) = peers::get(tx, range, bind.peer.as_str())? else {
        return Ok(false);
    };
    let Some(exit) = bind
        .applied_to(&before.peer.exit, to)
        .filter(|exit| *exit != before.peer.exit)
    else {
        return Ok(false);
    };
    let changes = [
        (exit.bound() != before.peer.exit.bound()).then(|| ExitChange::Exit(String::new())),
        (exit.fail_open() != before.peer.exit.fail_open()).then(|| ExitChange::FailOpen(exit.fail_open())),
    ];
    for change in changes.iter().flatten() {
        let name_of = |id: &ConnectionId| names.get(id).cloned().unwrap_or_else(|| id.to_string());
        let (action, detail) = change.told(&exit, name_of);
        tx.audit(action, &before.peer.name, detail);
    }
    let mut after = StoredPeer { ..before };
    after.peer.exit = exit;
    peers::update(tx, &Arc::new(after))?;
    Ok(true)
}

impl Outcome {
    fn of(plan: &Plan) -> Self {
        let made = plan.make.iter().map(|make| Carried {
            kind: make.kind(),
            name: make.name.to_string(),
            id: None,
            was_there: false,
            secrets: fields_of(&make.imported.secrets),
        });
        let kept = plan.keep.iter().map(|keep| Carried {
            kind: keep.kind,
            name: keep.name.clone(),
            id: Some(keep.id),
            was_there: true,
            secrets: Vec::new(),
        });
        let mut exits: Vec<Carried> = made.chain(kept).collect();
        exits.sort_by_key(|carried| carried.kind);
        Outcome {
            exits,
            peers: plan.bind.iter().map(|bind| bind.peer.to_string()).collect(),
            words: plan.words(),
            notes: plan.notes.clone(),
        }
    }

    fn complete(&mut self, stored: &[StoredConnection]) {
        for carried in self.exits.iter_mut().filter(|carried| !carried.was_there) {
            if let Some(stored) = stored.iter().find(|one| one.config.kind() == carried.kind) {
                carried.id = Some(stored.id);
                carried.secrets = vault::names_of(stored);
            }
        }
    }
}
