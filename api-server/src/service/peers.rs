//! Peers: add, list, alter, remove, and their devices' configurations.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cell_api_core::client_config::{self, CellSide};
use cell_api_core::derive;
use cell_api_core::fault::Faults;
use cell_api_core::name::{PeerName, Username};
use cell_api_core::peer::{KeySource, Peer, PeerInput, PeerUpdateInput};
use zeroize::Zeroizing;

use super::cell::{self, CellIdentity};
use super::device::{known_side, make_key, side};
use super::{Actor, ServiceError};
use crate::app::App;
use crate::events::Topic;
use crate::store::peers::{self as table, StoredPeer};
use crate::store::transaction::{self, NetworkChange, Origin, Tx};

/// How long a change waits for netd before it is answered anyway: accepted and converged are two facts.
const PATIENCE: Duration = Duration::from_secs(2);

/// What moves about a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activity {
    /// Whether the last handshake is younger than 180 seconds (WireGuard's REJECT_AFTER_TIME).
    pub connected: bool,
    /// Milliseconds since 1970-01-01T00:00:00Z; `None`: never.
    pub latest_handshake_unix_ms: Option<i64>,
    /// Bytes that the cell received from it.
    pub received_bytes: u64,
    /// Bytes that the cell sent to it.
    pub sent_bytes: u64,
    /// Where it connects from.
    pub endpoint: Option<SocketAddr>,
}

/// A peer as others see it.
#[derive(Debug)]
pub struct PeerView {
    /// As stored.
    pub peer: Peer,
    /// Its IPv4 address.
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address.
    pub ipv6: Ipv6Addr,
    /// Whether the device's configuration is older than the cell's.
    pub config_needs_reinstall: bool,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub created_unix_ms: i64,
    /// What moves; `None` while netd is not reachable.
    pub activity: Option<Activity>,
}

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

/// All peers, in the order of names.
///
/// # Errors
/// [`ServiceError::SetupRequired`], [`ServiceError::Storage`].
pub async fn list(app: &Arc<App>) -> Result<Vec<PeerView>, ServiceError> {
    let identity = cell::identity(app)?;
    let stored = app.peers.list();
    let side = known_side(app, &identity).await;
    let activity = app.activity.all(app.now()).await.ok();
    let view = |stored: &Arc<StoredPeer>| {
        let activity = activity
            .as_ref()
            .map(|all| all.get(stored.peer.name.as_str()).cloned().unwrap_or_default());
        view(stored, &identity, side.as_ref(), activity)
    };
    Ok(stored.iter().map(view).collect())
}

/// One peer.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoPeer`], [`ServiceError::SetupRequired`].
pub async fn get(app: &App, name: &str) -> Result<PeerView, ServiceError> {
    let identity = cell::identity(app)?;
    find(app, &identity, &parse_name(name)?).await
}

/// The peer that bears a user's name.
///
/// # Errors
/// [`ServiceError::NoPeer`], also for a name that no peer can bear; [`ServiceError::SetupRequired`].
pub async fn of_user(app: &App, username: &Username) -> Result<PeerView, ServiceError> {
    let identity = cell::identity(app)?;
    let name = PeerName::parse(username.as_str()).map_err(|_| ServiceError::NoPeer)?;
    find(app, &identity, &name).await
}

/// Adds a peer. The cost does not depend on how many there are.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::PeerExists`], [`ServiceError::KeyInUse`],
/// [`ServiceError::AddressesExhausted`], [`ServiceError::EndpointUnknown`], [`ServiceError::Unreachable`] when the
/// cell's own key is not known yet.
pub async fn create(app: &App, actor: &Actor, input: PeerInput) -> Result<CreatedPeer, ServiceError> {
    let new = input.check()?;
    let identity = cell::identity(app)?;
    let side = side(app, &identity).await?;
    let (public_key, private_key) = match new.key {
        KeySource::Device(public_key) => (public_key, None),
        KeySource::Server => make_key()?,
    };
    if public_key == side.public_key {
        return Err(ServiceError::KeyInUse);
    }
    let origin = Origin::new(actor, app.now());
    let cell_side = side.clone();
    let stored = app
        .store
        .mutate(origin, move |tx| {
            let host = table::allocate(tx, &cell_side.range)?;
            let peer = Peer {
                name: new.name,
                public_key,
                host,
                access: new.access,
                tunnel: new.tunnel,
            };
            let config_fingerprint = client_config::fingerprint(&cell_side, &peer);
            let stored = Arc::new(StoredPeer {
                peer,
                config_fingerprint,
                created_unix_ms: tx.now(),
            });
            table::insert(tx, &stored)?;
            let made = if private_key.is_some() {
                "server-made key"
            } else {
                "key made by the device"
            };
            let peer = &stored.peer;
            tx.audit(
                "peer.create",
                &peer.name,
                format!("{}; {}; {made}", peer.access, peer.tunnel.as_str()),
            );
            upserted(tx, &cell_side, peer);
            Ok((stored, private_key))
        })
        .await?;
    let (stored, private_key) = stored;
    let config = client_config::render(&side, &stored.peer, private_key.as_deref().map(String::as_str));
    let (generation, observed_generation) = converged(app).await?;
    let activity = app.network.status().map(|_| Activity::default());
    Ok(CreatedPeer {
        view: view(&stored, &identity, Some(&side), activity),
        config,
        generation,
        observed_generation,
    })
}

/// Alters a peer.
///
/// # Errors
/// [`ServiceError::Invalid`] with the faults of the name and of the change, [`ServiceError::NoPeer`],
/// [`ServiceError::KeyInUse`].
pub async fn update(
    app: &App,
    actor: &Actor,
    name: &str,
    input: &PeerUpdateInput,
) -> Result<PeerView, ServiceError> {
    let (name, update) = match (parse_name(name), input.check()) {
        (Ok(name), Ok(update)) => (name, update),
        (name, update) => {
            let mut faults = name.err().unwrap_or_default();
            faults.merge(update.err().unwrap_or_default());
            return Err(faults.into());
        }
    };
    let identity = cell::identity(app)?;
    let own = app.wireguard_key.known();
    if own.is_some() && update.public_key == own {
        return Err(ServiceError::KeyInUse);
    }
    let range = identity.range;
    let asked = name.clone();
    app.store
        .mutate(Origin::new(actor, app.now()), move |tx| {
            let stored = table::get(tx, &range, asked.as_str())?.ok_or(ServiceError::NoPeer)?;
            let before = &stored.peer;
            let after = update.applied_to(before);
            let altered = StoredPeer {
                peer: after.clone(),
                ..stored
            };
            table::update(tx, &Arc::new(altered))?;
            let key = if after.public_key == before.public_key {
                "same key"
            } else {
                "new key"
            };
            tx.audit(
                "peer.update",
                &after.name,
                format!("{}; {}; {key}", after.access, after.tunnel.as_str()),
            );
            tx.network(NetworkChange::Upserted(derive::peer_spec(&range, &after)));
            tx.effects.topics.insert(Topic::Peers);
            Ok(())
        })
        .await?;
    converged(app).await?;
    find(app, &identity, &name).await
}

/// Removes a peer.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoPeer`].
pub async fn delete(app: &App, actor: &Actor, name: &str) -> Result<(), ServiceError> {
    let name = parse_name(name)?;
    cell::identity(app)?;
    app.store
        .mutate(Origin::new(actor, app.now()), move |tx| {
            if !table::delete(tx, name.as_str())? {
                return Err(ServiceError::NoPeer);
            }
            tx.audit("peer.delete", &name, "");
            tx.network(NetworkChange::Removed(name.to_string()));
            tx.effects.topics.insert(Topic::Peers);
            Ok(())
        })
        .await?;
    converged(app).await.map(|_| ())
}

/// The device's configuration without its key; the device counts as up to date from now on.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoPeer`], [`ServiceError::EndpointUnknown`],
/// [`ServiceError::Unreachable`].
pub async fn config(app: &App, actor: &Actor, name: &str) -> Result<Zeroizing<String>, ServiceError> {
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

impl Default for Activity {
    /// A peer that netd knows and that has not been heard of.
    fn default() -> Self {
        Activity {
            connected: false,
            latest_handshake_unix_ms: None,
            received_bytes: 0,
            sent_bytes: 0,
            endpoint: None,
        }
    }
}

fn parse_name(name: &str) -> Result<PeerName, Faults> {
    PeerName::parse(name).map_err(|error| Faults::one("name", error))
}

async fn find(app: &App, identity: &CellIdentity, name: &PeerName) -> Result<PeerView, ServiceError> {
    let stored = app.peers.get(name.as_str()).ok_or(ServiceError::NoPeer)?;
    let side = known_side(app, identity).await;
    let activity = app.activity.one(name.as_str(), app.now()).await.ok();
    Ok(view(&stored, identity, side.as_ref(), activity))
}

fn upserted(tx: &mut Tx<'_>, side: &CellSide, peer: &Peer) {
    tx.network(NetworkChange::Upserted(derive::peer_spec(&side.range, peer)));
    tx.effects.topics.insert(Topic::Peers);
}

/// Waits for netd to confirm what is committed, for as long as a caller may be kept waiting.
async fn converged(app: &App) -> Result<(u64, u64), ServiceError> {
    let generation = app
        .store
        .read(|connection| Ok(transaction::generation(connection)?))?;
    Ok((generation, app.network.wait_for(generation, PATIENCE).await))
}

/// A configuration that cannot be compared, because the cell does not know its own side, is not called old.
fn view(
    stored: &StoredPeer,
    identity: &CellIdentity,
    side: Option<&CellSide>,
    activity: Option<Activity>,
) -> PeerView {
    let StoredPeer {
        peer,
        config_fingerprint,
        created_unix_ms,
    } = stored;
    let current = side.map(|side| client_config::fingerprint(side, peer));
    PeerView {
        ipv4: identity.range.v4_of(peer.host),
        ipv6: identity.range.v6_of(peer.host),
        config_needs_reinstall: current.is_some_and(|current| current != *config_fingerprint),
        peer: peer.clone(),
        created_unix_ms: *created_unix_ms,
        activity,
    }
}
