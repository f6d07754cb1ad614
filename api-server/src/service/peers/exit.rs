//! What carries a peer to the internet.

use std::sync::Arc;

use cell_api_core::connection::choice::{ExitChoice, ExitInput, MAX_FALLBACKS};
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::connection::reference::{Known, resolve};
use cell_api_core::fault::Faults;
use cell_api_core::name::PeerName;
use cell_api_core::peer::Peer;
use cell_api_core::range::VpnRange;
use rusqlite::Connection;

use super::change::{PATIENCE, netd_takes};
use super::{Look, PeerView, parse_name};
use crate::app::App;
use crate::events::Topic;
use crate::service::cell;
use crate::service::device::known_side;
use crate::service::{Actor, ServiceError, waiting};
use crate::store::connections;
use crate::store::peers::{self as table, StoredPeer};
use crate::store::transaction::{NetworkChange, Origin, Tx};
use crate::store::waiting::{self as waiting_table, Action, Wait};

/// How the parts of a change are named where it came from, for its faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitFields {
    exit: &'static str,
    fallbacks: &'static str,
}

/// As a peer's own fields.
pub const OF_PEER: ExitFields = ExitFields {
    exit: "exit_connection_id",
    fallbacks: "fallback_connection_ids",
};

/// A change of what carries a peer, as a whole: a connection, what happens while it does not work, and what stands in meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitChange {
    asked: ExitInput,
    fields: ExitFields,
}

impl ExitChange {
    /// Any of the three.
    pub fn new(asked: ExitInput) -> Self {
        let fields = ExitFields {
            exit: "connection_id",
            ..OF_PEER
        };
        ExitChange { asked, fields }
    }

    /// Binds it to the connection of this id, name or lone type; empty or `default`: to none.
    pub fn exit(text: String) -> Self {
        ExitChange::new(ExitInput::exit(text))
    }

    /// Its own word on what happens while that connection does not work.
    pub fn fail_open(own: Option<bool>) -> Self {
        ExitChange::new(ExitInput {
            fail_open: Some(own),
            ..ExitInput::default()
        })
    }

    /// What stands in for that connection meanwhile: ids, names or lone types, the first first.
    pub fn fallbacks(texts: Vec<String>) -> Self {
        let asked = ExitInput {
            fallbacks: Some(texts),
            ..ExitInput::default()
        };
        let fields = ExitFields {
            fallbacks: "connection_ids",
            ..OF_PEER
        };
        ExitChange { asked, fields }
    }
}

/// The audit's names of what was done, each with it for people.
pub(in crate::service) fn told(
    asked: &ExitInput,
    exit: &ExitChoice,
    name_of: impl Fn(&ConnectionId) -> String,
) -> Vec<(&'static str, String)> {
    let bound = asked.exit.as_ref().map(|_| match exit.bound() {
        Some(id) => format!("through {} ({id})", name_of(&id)),
        None => "by the cell's own way".to_owned(),
    });
    let fail_open = asked.fail_open.map(|own| match own {
        Some(true) => "goes out directly while its exit does not work",
        Some(false) => "goes nowhere while its exit does not work",
        None => "as the type of its exit says",
    });
    let fallbacks = asked.fallbacks.as_ref().map(|_| {
        let names: Vec<String> = exit.fallbacks().iter().map(name_of).collect();
        if names.is_empty() {
            "nothing stands in for its exit".to_owned()
        } else {
            format!("stand-ins for its exit: {}", names.join(", "))
        }
    });
    let all = [
        ("peer.exit", bound),
        ("peer.failopen", fail_open.map(str::to_owned)),
        ("peer.fallbacks", fallbacks),
    ];
    all.into_iter()
        .filter_map(|(action, detail)| Some((action, detail?)))
        .collect()
}

/// Changes what carries a peer. netd hears of this peer alone, however many there are. With `wait` the change is taken back
/// unless it is confirmed in time.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoPeer`], [`ServiceError::ExitNotCarried`], [`ServiceError::NetdRefuses`],
/// [`ServiceError::SetupRequired`], [`ServiceError::ChangePending`]; with `wait` [`ServiceError::NotApplied`],
/// [`ServiceError::Unreachable`].
pub async fn set(
    app: &App,
    actor: &Actor,
    name: &str,
    change: ExitChange,
    wait: Option<Wait>,
) -> Result<PeerView, ServiceError> {
    let name = parse_name(name)?;
    let identity = cell::identity(app)?;
    if wait.is_some() {
        waiting::ready(app)?;
    }
    let range = identity.range;
    let now = app.peers.get(name.as_str()).ok_or(ServiceError::NoPeer)?;
    let candidate = app
        .store
        .read(|connection| changed(connection, &now.peer, &change))?;
    if candidate.exit.bound() != now.peer.exit.bound() {
        netd_takes(app, &range, &candidate, candidate.exit.bound()).await?;
    }
    let (asked, waits) = (name.clone(), wait.clone());
    let ((_, stored), generation) = app
        .store
        .commit(Origin::new(actor, app.now()), move |tx| {
            make(tx, &range, &asked, &change, waits.as_ref())
        })
        .await?;
    app.network.wait_for(generation, PATIENCE).await;
    waiting::applied(app, wait.as_ref(), generation)?;
    let side = known_side(app, &identity).await;
    let activity = app.activity.one(name.as_str(), app.now()).await.ok();
    let way = super::way(app, &stored.peer)?;
    Ok(Look::new(stored, identity, side.as_ref(), way, activity).view())
}

/// Makes the change; the peer before and after.
///
/// # Errors
/// Those of [`set`] that depend on what is stored.
pub(super) fn make(
    tx: &mut Tx<'_>,
    range: &VpnRange,
    name: &PeerName,
    change: &ExitChange,
    wait: Option<&Wait>,
) -> Result<(StoredPeer, Arc<StoredPeer>), ServiceError> {
    let before = table::get(tx, range, name.as_str())?.ok_or(ServiceError::NoPeer)?;
    let after = Arc::new(StoredPeer {
        peer: changed(tx, &before.peer, change)?,
        ..before.clone()
    });
    if let Some(wait) = wait {
        waiting_table::begin(tx, Action::Update, &before, wait)?;
    }
    table::update(tx, &after)?;
    note(tx, &after.peer, &change.asked)?;
    tx.network(NetworkChange::Peer(name.to_string()));
    tx.effects.topics.extend([Topic::Peers, Topic::Connections]);
    Ok((before, after))
}

/// Writes down in the audit what carries a peer from now on.
pub(super) fn note(tx: &mut Tx<'_>, peer: &Peer, asked: &ExitInput) -> Result<(), ServiceError> {
    let names = connections::names(tx)?;
    let name_of = |id: &ConnectionId| {
        let found = names.iter().find(|(one, _, _)| one == id);
        found.map_or_else(|| id.to_string(), |(_, name, _)| name.clone())
    };
    for (action, detail) in told(asked, &peer.exit, name_of) {
        tx.audit(action, &peer.name, detail);
    }
    Ok(())
}

/// The connection that `text` names, which must be one that a peer can be bound to; `None`: the machine's own way.
pub(in crate::service) fn find(
    connection: &Connection,
    field: &str,
    text: &str,
) -> Result<Option<ConnectionId>, ServiceError> {
    let names = connections::names(connection)?;
    let known = names.iter().map(|(id, name, kind)| Known {
        id: *id,
        name,
        kind: *kind,
    });
    let id = resolve(text, known).map_err(|error| Faults::one(field, error))?;
    let kind = names
        .iter()
        .find(|(one, _, _)| Some(*one) == id)
        .map(|(_, _, kind)| *kind);
    match kind.filter(|kind| !kind.is_carried()) {
        Some(kind) => Err(ServiceError::ExitNotCarried(kind)),
        None => Ok(id),
    }
}

fn changed(connection: &Connection, peer: &Peer, change: &ExitChange) -> Result<Peer, ServiceError> {
    let exit = chosen(connection, &peer.exit, &change.asked, change.fields)?;
    Ok(Peer { exit, ..peer.clone() })
}

/// What is asked of a choice, made of the one that there is: first what is bound, since what stands in is of that.
pub(super) fn chosen(
    connection: &Connection,
    now: &ExitChoice,
    asked: &ExitInput,
    fields: ExitFields,
) -> Result<ExitChoice, ServiceError> {
    let mut exit = now.clone();
    if let Some(text) = &asked.exit {
        exit = exit.bound_to(find(connection, fields.exit, text)?);
    }
    if let Some(texts) = &asked.fallbacks {
        let field = fields.fallbacks;
        let ids = found(connection, field, texts)?;
        let choice = exit.falling_back_to(ids);
        exit = choice.map_err(|error| Faults::one(field, error))?;
    }
    if let Some(own) = asked.fail_open {
        exit = exit.failing_open(own);
    }
    Ok(exit)
}

/// The connections that stand in.
fn found(connection: &Connection, field: &str, texts: &[String]) -> Result<Vec<ConnectionId>, ServiceError> {
    // Before each is looked up: a list of any length would be so many looks.
    if texts.len() > MAX_FALLBACKS {
        return Err(Faults::one(field, format!("must have at most {MAX_FALLBACKS} connections")).into());
    }
    let ids = texts.iter().enumerate().map(|(index, text)| {
        let field = format!("{field}[{index}]");
        let own_way = || {
            Faults::one(
                &field,
                "must be a connection: to go out directly is for fail_open to say",
            )
        };
        find(connection, &field, text)?.ok_or_else(|| own_way().into())
    });
    ids.collect()
}
