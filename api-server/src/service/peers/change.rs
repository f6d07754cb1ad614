//! Adds, alters and removes peers. What is committed is told whatever comes after it: an answer that says "failed" for
//! what is done would lose a server-made key for good.

use std::sync::Arc;
use std::time::Duration;

use cell_api_core::client_config::{self, CellSide};
use cell_api_core::connection::choice::{ExitChoice, ExitInput, Route};
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::derive;
use cell_api_core::name::PeerName;
use cell_api_core::peer::{KeySource, NewPeer, Peer, PeerInput, PeerUpdate, PeerUpdateInput};
use cell_api_core::range::VpnRange;
use cell_proto::fault::Violation;
use rusqlite::Connection;
use zeroize::Zeroizing;

use super::exit::{self, OF_PEER, chosen};
use super::{Activity, Look, PeerView, parse_name, room};
use crate::app::App;
use crate::events::Topic;
use crate::peers::Peers;
use crate::reconcile::granted;
use crate::service::cell::{self, CellIdentity};
use crate::service::device::{known_side, make_key, side};
use crate::service::{Actor, ServiceError, waiting};
use crate::store::accounts as accounts_table;
use crate::store::peers::{self as table, StoredPeer};
use crate::store::transaction::{self, NetworkChange, Origin, Tx};
use crate::store::waiting::{self as waiting_table, Action, Wait};

/// How long a change waits for netd before it is answered anyway: accepted and converged are two facts.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// A peer that was added.
pub struct CreatedPeer {
    /// As stored.
    pub view: PeerView,
    /// The device's configuration; has the private key only if the server made it.
    pub config: Zeroizing<String>,
    /// The generation that has the peer.
    pub generation: u64,
    /// The generation that netd had confirmed when this was answered.
    pub observed_generation: u64,
}

/// Adds a peer. The cost does not depend on how many there are.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::PeerExists`], [`ServiceError::KeyInUse`],
/// [`ServiceError::AddressesExhausted`], [`ServiceError::TooManyPeers`], [`ServiceError::TooManyServices`],
/// [`ServiceError::NetdRefuses`], [`ServiceError::EndpointUnknown`], [`ServiceError::Unreachable`] when the cell's own
/// key is not known yet.
pub async fn create(app: &App, actor: &Actor, input: PeerInput) -> Result<CreatedPeer, ServiceError> {
    let NewPeer {
        name,
        key,
        access,
        tunnel,
        exit,
    } = input.check()?;
    let identity = cell::identity(app)?;
    let side = side(app, &identity).await?;
    let (public_key, private_key) = match key {
        KeySource::Device(public_key) => (public_key, None),
        KeySource::Server => make_key()?,
    };
    if public_key == side.public_key {
        return Err(ServiceError::KeyInUse);
    }
    let candidate = Peer {
        name,
        public_key,
        host: app
            .store
            .read(|connection| table::next_host(connection, &side.range))?,
        access,
        tunnel,
        exit: app.store.read(|connection| first(connection, &exit))?,
    };
    netd_takes(app, &side.range, &candidate, candidate.exit.bound()).await?;
    let (peers, cell_side) = (Arc::clone(&app.peers), side.clone());
    let made = if private_key.is_some() {
        "server-made key"
    } else {
        "key made by the device"
    };
    let (stored, generation) = app
        .store
        .commit(Origin::new(actor, app.now()), move |tx| {
            let peer = Peer {
                // The connection may have gone meanwhile.
                exit: first(tx, &exit)?,
                // Another peer may have taken the address meanwhile.
                host: table::allocate(tx, &cell_side.range)?,
                ..candidate
            };
            add(tx, &peers, &cell_side, peer, (made, &exit))
        })
        .await?;
    let observed_generation = app.network.wait_for(generation, PATIENCE).await;
    let activity = app.network.status().map(|_| Activity::default());
    let way = super::way(app, &stored.peer)?;
    Ok(CreatedPeer {
        view: Look::new(Arc::clone(&stored), identity, Some(&side), way, activity).view(),
        config: client_config::render(&side, &stored.peer, private_key.as_deref().map(String::as_str)),
        generation,
        observed_generation,
    })
}

fn add(
    tx: &mut Tx<'_>,
    peers: &Peers,
    cell_side: &CellSide,
    peer: Peer,
    (made, exit): (&str, &ExitInput),
) -> Result<Arc<StoredPeer>, ServiceError> {
    let stored = Arc::new(StoredPeer {
        config_fingerprint: client_config::fingerprint(cell_side, &peer),
        peer,
        created_unix_ms: tx.now(),
        derived: Default::default(),
    });
    peers.room_for(None, &stored)?;
    room::name_is_free(tx, &stored.peer)?;
    room::own_services(tx, &cell_side.range, None, &stored.peer)?;
    table::insert(tx, &stored)?;
    note(tx, "peer.create", &stored.peer, made);
    tx.network(NetworkChange::Peer(stored.peer.name.to_string()));
    if stored.peer.exit != ExitChoice::default() {
        note_exit(tx, &stored.peer, exit)?;
    }
    Ok(stored)
}

/// Alters a peer; with `if_version` only the one that the caller has seen ([`Peer::version`]). With `wait` the change is
/// taken back unless it is confirmed in time.
///
/// # Errors
/// [`ServiceError::Invalid`] with the faults of the name and of the change, [`ServiceError::NoPeer`],
/// [`ServiceError::Stale`], [`ServiceError::KeyInUse`], [`ServiceError::TooManyServices`],
/// [`ServiceError::NetdRefuses`], [`ServiceError::Unreachable`] for a new key while the cell's own is not known yet;
/// [`ServiceError::ChangePending`]; with `wait` [`ServiceError::NotApplied`], [`ServiceError::Unreachable`].
pub async fn update(
    app: &App,
    actor: &Actor,
    name: &str,
    input: &PeerUpdateInput,
    if_version: Option<String>,
    wait: Option<Wait>,
) -> Result<PeerView, ServiceError> {
    let asked = Update::check(app, name, input, if_version).await?;
    if wait.is_some() {
        waiting::ready(app)?;
    }
    let (identity, range) = (Arc::clone(&asked.identity), asked.identity.range);
    if let Some(now) = app.peers.get(asked.name.as_str()) {
        asked.is_of(&now.peer)?;
        let exit = app
            .store
            .read(|connection| chosen(connection, &now.peer.exit, &asked.update.exit, OF_PEER))?;
        // What the change leaves alone must not hold it up: it may take something away.
        let bound = exit.bound().filter(|_| asked.update.exit.exit.is_some());
        if asked.update.is_of_netd() {
            netd_takes(app, &range, &asked.update.applied_to(&now.peer, exit), bound).await?;
        }
    }
    let (peers, name, waits) = (Arc::clone(&app.peers), asked.name.clone(), wait.clone());
    let ((_, stored), generation) = app
        .store
        .commit(Origin::new(actor, app.now()), move |tx| {
            asked.make(tx, &peers, waits.as_ref())
        })
        .await?;
    app.network.wait_for(generation, PATIENCE).await;
    waiting::applied(app, wait.as_ref(), generation)?;
    let side = known_side(app, &identity).await;
    let activity = app.activity.one(name.as_str(), app.now()).await.ok();
    let way = super::way(app, &stored.peer)?;
    Ok(Look::new(stored, identity, side.as_ref(), way, activity).view())
}

/// A change of a peer, checked as far as it can be before it is made.
pub(super) struct Update {
    identity: Arc<CellIdentity>,
    name: PeerName,
    update: PeerUpdate,
    if_version: Option<String>,
}

impl Update {
    /// Checks what can be checked beforehand.
    ///
    /// # Errors
    /// Those of [`update`] that do not depend on what is stored.
    pub(super) async fn check(
        app: &App,
        name: &str,
        input: &PeerUpdateInput,
        if_version: Option<String>,
    ) -> Result<Self, ServiceError> {
        let (name, update) = match (parse_name(name), input.check()) {
            (Ok(name), Ok(update)) => (name, update),
            (name, update) => {
                let mut faults = name.err().unwrap_or_default();
                faults.merge(update.err().unwrap_or_default());
                return Err(faults.into());
            }
        };
        let identity = cell::identity(app)?;
        if let Some(new) = update.public_key
            && new == app.wireguard_key.public_key(app).await?
        {
            return Err(ServiceError::KeyInUse);
        }
        Ok(Update {
            identity,
            name,
            update,
            if_version,
        })
    }

    /// Whether the peer is as the caller has seen it.
    fn is_of(&self, now: &Peer) -> Result<(), ServiceError> {
        match &self.if_version {
            Some(version) if *version != now.version() => Err(ServiceError::Stale),
            _ => Ok(()),
        }
    }

    /// Makes it; the peer before and after.
    ///
    /// # Errors
    /// Those of [`update`] that depend on what is stored.
    pub(super) fn make(
        self,
        tx: &mut Tx<'_>,
        peers: &Peers,
        wait: Option<&Wait>,
    ) -> Result<(StoredPeer, Arc<StoredPeer>), ServiceError> {
        let range = self.identity.range;
        let before = table::get(tx, &range, self.name.as_str())?.ok_or(ServiceError::NoPeer)?;
        self.is_of(&before.peer)?;
        let after = Arc::new(StoredPeer {
            peer: self.update.applied_to(
                &before.peer,
                chosen(tx, &before.peer.exit, &self.update.exit, OF_PEER)?,
            ),
            ..before.clone()
        });
        peers.room_for(Some(&before), &after)?;
        room::own_services(tx, &range, Some(&before.peer), &after.peer)?;
        if let Some(wait) = wait {
            waiting_table::begin(tx, Action::Update, &before, wait)?;
        }
        table::update(tx, &after)?;
        let key = if after.peer.public_key == before.peer.public_key {
            "same key"
        } else {
            "new key"
        };
        if self.update.is_of_exit_alone() {
            tx.effects.topics.insert(Topic::Peers);
        } else {
            note(tx, "peer.update", &after.peer, key);
        }
        let name = after.peer.name.to_string();
        if wait.is_none() && before.peer.loses_alone(&after.peer) {
            waiting_table::take_away(tx, &after.peer.name, &after.peer.access)?;
            tx.network(NetworkChange::Reduced(name));
        } else {
            tx.network(NetworkChange::Peer(name));
        }
        if !self.update.exit.is_empty() {
            note_exit(tx, &after.peer, &self.update.exit)?;
        }
        Ok((before, after))
    }
}

/// Removes a peer, with `wait` only if that is confirmed in time.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoPeer`]; with `wait` those of [`update`] too.
pub async fn delete(
    app: &App,
    actor: &Actor,
    name: &str,
    wait: Option<Wait>,
    accounts: Accounts,
) -> Result<(), ServiceError> {
    let name = parse_name(name)?;
    let range = cell::identity(app)?.range;
    if wait.is_some() {
        waiting::ready(app)?;
    }
    let waits = wait.clone();
    let (_, generation) = app
        .store
        .commit(Origin::new(actor, app.now()), move |tx| {
            if accounts == Accounts::Go {
                let count = accounts_table::remove_with_peer(tx, name.as_str())?;
                tx.audit("account.remove", &name, format!("all of the device's: {count}"));
            }
            remove(tx, &range, &name, waits.as_ref())
        })
        .await?;
    app.accounts_left.notify_one();
    app.network.wait_for(generation, PATIENCE).await;
    waiting::applied(app, wait.as_ref(), generation)
}

/// What becomes of a removed peer's accounts at services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accounts {
    /// They stay, as nobody's.
    Stay,
    /// They go with all that they have.
    Go,
}

/// Removes a peer; the peer as it was.
///
/// # Errors
/// [`ServiceError::NoPeer`], [`ServiceError::ChangePending`], [`ServiceError::Storage`].
pub(super) fn remove(
    tx: &mut Tx<'_>,
    range: &VpnRange,
    name: &PeerName,
    wait: Option<&Wait>,
) -> Result<StoredPeer, ServiceError> {
    let before = table::get(tx, range, name.as_str())?.ok_or(ServiceError::NoPeer)?;
    if let Some(wait) = wait {
        waiting_table::begin(tx, Action::Delete, &before, wait)?;
    }
    table::delete(tx, name.as_str())?;
    tx.audit("peer.delete", name, "");
    tx.network(NetworkChange::Removed(name.to_string()));
    tx.effects.topics.extend([Topic::Peers, Topic::Connections]);
    Ok(before)
}

/// The device's configuration without its key, given to the device: it counts as up to date from now on.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoPeer`], [`ServiceError::EndpointUnknown`],
/// [`ServiceError::Unreachable`].
pub async fn deliver_config(app: &App, actor: &Actor, name: &str) -> Result<Zeroizing<String>, ServiceError> {
    let name = parse_name(name)?;
    let identity = cell::identity(app)?;
    let side = side(app, &identity).await?;
    app.store
        .mutate(Origin::new(actor, app.now()), move |tx| {
            let stored = table::get(tx, &side.range, name.as_str())?.ok_or(ServiceError::NoPeer)?;
            let fingerprint = client_config::fingerprint(&side, &stored.peer);
            let text = client_config::render(&side, &stored.peer, None);
            if fingerprint != stored.config_fingerprint {
                table::set_fingerprint(tx, stored, fingerprint)?;
                tx.effects.topics.insert(Topic::Peers);
            }
            tx.audit("peer.config", &name, "");
            Ok(text)
        })
        .await
}

/// Writes down what a peer is now, and tells the browsers.
fn note(tx: &mut Tx<'_>, action: &str, peer: &Peer, key: &str) {
    let detail = format!("{}; {}; {key}", peer.access, peer.tunnel.as_str());
    tx.audit(action, &peer.name, detail);
    tx.effects.topics.insert(Topic::Peers);
}

/// The same of what carries it: who uses a connection is shown with the connection, too.
fn note_exit(tx: &mut Tx<'_>, peer: &Peer, exit: &ExitInput) -> Result<(), ServiceError> {
    tx.effects.topics.insert(Topic::Connections);
    exit::note(tx, peer, exit)
}

/// What a new peer's is asked to be.
fn first(connection: &Connection, asked: &ExitInput) -> Result<ExitChoice, ServiceError> {
    chosen(connection, &ExitChoice::default(), asked, OF_PEER)
}

/// Asks netd whether it takes a peer, so that its no is heard before anything is written down. Its sentences are told
/// and its fields are not: where a service is in the request is not always where it is in netd's.
pub(super) async fn netd_takes(
    app: &App,
    range: &VpnRange,
    peer: &Peer,
    exit: Option<ConnectionId>,
) -> Result<(), ServiceError> {
    let route = exit.map_or(Route::Own, Route::Exit);
    let spec = granted(app, derive::peer_spec(range, peer, route))?;
    let generation = app
        .store
        .read(|connection| Ok(transaction::generation(connection)?))?;
    let is_current = app.network.holds(generation);
    let mut asked = asked_beforehand(app, spec.clone()).await;
    if asked.is_err() && !is_current {
        // Its no may be of what it has not heard of yet, as an exit that was made a moment ago.
        app.network.wait_for(generation, PATIENCE).await;
        asked = match app.network.holds(generation) {
            true => asked_beforehand(app, spec).await,
            false => Ok(()),
        };
    }
    asked.map_err(|violations| {
        let said = violations.into_iter().map(|violation| violation.description);
        ServiceError::NetdRefuses(said.collect::<Vec<_>>().join("; "))
    })
}

/// What netd finds wrong; nothing too where it cannot be asked.
async fn asked_beforehand(app: &App, spec: derive::PeerSpec) -> Result<(), Vec<Violation>> {
    match app.network.etag() {
        Some(etag) => app.check.peer(etag, spec).await,
        None => Ok(()),
    }
}
