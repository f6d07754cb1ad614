//! The one transaction: connections, devices, the note that it is done, and the audit.

use std::collections::BTreeMap;
use std::sync::Arc;

use cell_api_core::connection::choice::{ExitChoice, ExitInput};
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::connection::import::Secret;
use cell_api_core::connection::kind::Kind;
use cell_api_core::migrate::{Bind, Make, Plan, Target};
use cell_api_core::range::VpnRange;

use super::super::change::{FIRST_REVISION, fields_of, new_id};
use crate::events::Topic;
use crate::service::ServiceError;
use crate::service::peers::exit_told;
use crate::store::connections::{self as table, StoredConnection};
use crate::store::first_version as record;
use crate::store::peers::{self, StoredPeer};
use crate::store::transaction::{NetworkChange, Tx};
use crate::store::waiting::{self, Wait};

/// What the transaction makes.
pub(super) struct Work {
    /// Each with the secrets that vaultd must have before.
    pub(super) connections: Vec<(Candidate, Vec<Secret>)>,
    bind: Vec<Bind>,
}

/// A connection that has everything but its allocation.
pub(super) struct Candidate {
    pub(super) id: ConnectionId,
    make: Make,
}

impl Work {
    /// The ids that are not given are made up.
    pub(super) fn new(plan: Plan, ids: BTreeMap<Kind, ConnectionId>) -> Result<Self, ServiceError> {
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

    /// Makes all of it; with `wait` it waits for its confirmation that peers are bound.
    pub(super) fn make(
        self,
        tx: &mut Tx<'_>,
        range: &VpnRange,
        wait: Option<&Wait>,
    ) -> Result<Made, ServiceError> {
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
        let mut before = BTreeMap::new();
        for bind in self.bind {
            let to = bind.to.and_then(|target| match target {
                Target::There(id) => Some(id),
                Target::Made(kind) => made
                    .iter()
                    .find(|one| one.config.kind() == kind)
                    .map(|one| one.id),
            });
            if let Some(exit) = rebind(tx, range, &bind, to, &names)? {
                before.insert(bind.peer.to_string(), exit);
            }
        }
        let wait = wait.filter(|_| !before.is_empty());
        if let Some(wait) = wait {
            waiting::begin_import(tx, &before, wait)?;
        }
        let bound = before.len();
        let detail = format!("{} connections made, {bound} devices bound", made.len());
        tx.audit("connection.import", "first version", detail);
        tx.network(NetworkChange::All);
        tx.effects.topics.extend([Topic::Peers, Topic::Connections]);
        Ok(Made {
            stored: made,
            waits: wait.is_some(),
        })
    }
}

/// What was made.
pub(super) struct Made {
    /// The connections as stored.
    pub(super) stored: Vec<StoredConnection>,
    /// Whether it waits for its confirmation that peers are bound.
    pub(super) waits: bool,
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
        revision: FIRST_REVISION,
        secret_revision: FIRST_REVISION,
        created_unix_ms: tx.now(),
    };
    table::insert(tx, &stored)?;
    let (mark, routing_table) = (stored.allocation.mark, stored.allocation.table);
    let detail = format!("{kind} of the first version; mark {mark:#x}; table {routing_table}");
    tx.audit("connection.create", &stored.name, detail);
    Ok(stored)
}

/// What carried the peer before, if another does now: it may be gone, and somebody may have chosen for it since.
fn rebind(
    tx: &mut Tx<'_>,
    range: &VpnRange,
    bind: &Bind,
    to: Option<ConnectionId>,
    names: &BTreeMap<ConnectionId, String>,
) -> Result<Option<ExitChoice>, ServiceError> {
    let Some(before) = peers::get(tx, range, bind.peer.as_str())? else {
        return Ok(None);
    };
    let Some(exit) = bind
        .applied_to(&before.peer.exit, to)
        .filter(|exit| *exit != before.peer.exit)
    else {
        return Ok(None);
    };
    let change = ExitInput {
        exit: (exit.bound() != before.peer.exit.bound()).then(String::new),
        fail_open: (exit.fail_open() != before.peer.exit.fail_open()).then(|| exit.fail_open()),
        fallbacks: None,
    };
    let name_of = |id: &ConnectionId| names.get(id).cloned().unwrap_or_else(|| id.to_string());
    for (action, detail) in exit_told(&change, &exit, name_of) {
        tx.audit(action, &before.peer.name, detail);
    }
    let mut after = StoredPeer { ..before };
    let before = std::mem::replace(&mut after.peer.exit, exit);
    peers::update(tx, &Arc::new(after))?;
    Ok(Some(before))
}
