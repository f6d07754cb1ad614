//! One mutation: state, audit records and generation in one transaction, and what follows from it afterwards.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

use cell_api_core::audit::{Entry, Hash, Record};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{audit, waiting};
use crate::events::Topic;
use crate::peers::PeerChange;
use crate::service::cell::CellIdentity;
use crate::service::{Actor, ServiceError};
use crate::sessions::Session;

/// Who changes something, and when.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Who.
    pub actor: Actor,
    /// When, milliseconds since 1970-01-01T00:00:00Z.
    pub now: i64,
}

/// What a committed change means for the rest of the process.
#[derive(Debug, Default)]
pub struct Effects {
    /// The generation of the network after it, if it changed the network.
    pub generation: Option<u64>,
    /// What changed of the network.
    pub network: Vec<NetworkChange>,
    /// The last audit record.
    pub audit_head: Option<(u64, Hash)>,
    /// The cell, if it was made or altered.
    pub identity: Option<Arc<CellIdentity>>,
    /// What became of peers.
    pub peers: Vec<PeerChange>,
    /// What became of sessions.
    pub sessions: Vec<SessionChange>,
    /// What the browser shows that changed.
    pub topics: BTreeSet<Topic>,
}

/// One change of the network.
#[derive(Debug, Clone)]
pub enum NetworkChange {
    /// So much that netd is to be told everything.
    All,
    /// A service was closed to all peers, or to all but those that are named, and nothing else was changed.
    Closed,
    /// The peer of this name was added or altered.
    Peer(String),
    /// Access was taken from the peer of this name, and nothing else was changed.
    Reduced(String),
    /// The peer of this name was removed.
    Removed(String),
}

/// What became of a session.
#[derive(Debug)]
pub enum SessionChange {
    /// It was opened, or its user altered.
    Opened(Arc<Session>),
    /// It ended.
    Closed([u8; 32]),
    /// All sessions of the user of this name ended.
    UserClosed(String),
}

/// A transaction under way.
pub struct Tx<'a> {
    transaction: Transaction<'a>,
    origin: Origin,
    entries: Vec<Entry>,
    settles_change: bool,
    /// Handed on after the commit.
    pub effects: Effects,
}

impl Tx<'_> {
    /// When this mutation happens, milliseconds since 1970-01-01T00:00:00Z.
    pub fn now(&self) -> i64 {
        self.origin.now
    }

    /// Writes down what is done. `detail` is for people and never holds a secret.
    pub fn audit(&mut self, action: &str, subject: impl ToString, detail: impl ToString) {
        let Origin { actor, now } = &self.origin;
        self.entries.push(Entry {
            time_unix_ms: *now,
            actor: actor.name.clone(),
            role: actor
                .role
                .map(|role| role.as_str().to_owned())
                .unwrap_or_default(),
            remote: actor.remote.clone(),
            action: action.to_owned(),
            subject: subject.to_string(),
            detail: detail.to_string(),
        });
        self.effects.topics.insert(Topic::Audit);
    }

    /// This makes a change that waits, or ends it, or has to be written down beside one. Anything else is refused while one waits, but
    /// what takes away alone.
    pub fn settles_change(&mut self) {
        self.settles_change = true;
    }

    /// Notes a change of the network; the generation grows by one however many there are.
    pub fn network(&mut self, change: NetworkChange) {
        self.effects.network.push(change);
        self.effects.topics.insert(Topic::Status);
    }
}

impl Deref for Tx<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.transaction
    }
}

/// Runs `change` and commits.
pub(super) fn run<T>(
    connection: &mut Connection,
    origin: Origin,
    change: impl FnOnce(&mut Tx<'_>) -> Result<T, ServiceError>,
) -> Result<(T, Effects), ServiceError> {
    let (value, tx) = made(connection, origin, change)?;
    let Tx {
        transaction,
        entries,
        mut effects,
        settles_change: _,
        origin: _,
    } = tx;
    if !effects.network.is_empty() {
        effects.generation = Some(next_generation(&transaction)?);
    }
    for entry in entries {
        effects.audit_head = Some(append(&transaction, entry)?);
    }
    transaction.commit()?;
    Ok((value, effects))
}

/// Runs `change` and takes all of it back: whoever asks what it would do is refused what would be refused, and nothing is
/// written.
pub(super) fn try_out<T>(
    connection: &mut Connection,
    origin: Origin,
    change: impl FnOnce(&mut Tx<'_>) -> Result<T, ServiceError>,
) -> Result<T, ServiceError> {
    let (value, tx) = made(connection, origin, change)?;
    tx.transaction.rollback()?;
    Ok(value)
}

/// Makes a change that may be committed.
fn made<'c, T>(
    connection: &'c mut Connection,
    origin: Origin,
    change: impl FnOnce(&mut Tx<'_>) -> Result<T, ServiceError>,
) -> Result<(T, Tx<'c>), ServiceError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut tx = Tx {
        transaction,
        origin,
        entries: Vec::new(),
        settles_change: false,
        effects: Effects::default(),
    };
    let value = change(&mut tx)?;
    if tx.entries.is_empty() {
        return Err(ServiceError::Storage("a mutation without an audit record"));
    }
    let takes_away = |change: &NetworkChange| match change {
        NetworkChange::Closed | NetworkChange::Reduced(_) | NetworkChange::Removed(_) => true,
        NetworkChange::All | NetworkChange::Peer(_) => false,
    };
    if !tx.settles_change && !tx.effects.network.iter().all(takes_away) {
        waiting::refuse_beside(&tx)?;
    }
    Ok((value, tx))
}

/// The generation of the network as committed.
///
/// # Errors
/// SQLite's.
pub fn generation(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT value FROM counter WHERE name = 'network_generation'";
    connection.prepare_cached(sql)?.query_row((), |row| row.get(0))
}

fn next_generation(transaction: &Transaction<'_>) -> rusqlite::Result<u64> {
    let sql = "UPDATE counter SET value = value + 1 WHERE name = 'network_generation' RETURNING value";
    transaction.prepare_cached(sql)?.query_row((), |row| row.get(0))
}

fn append(transaction: &Transaction<'_>, entry: Entry) -> rusqlite::Result<(u64, Hash)> {
    let (last, previous) = audit::head(transaction)?;
    let record = Record::seal(last + 1, entry, previous);
    audit::insert(transaction, &record)?;
    Ok((record.sequence, record.hash))
}
