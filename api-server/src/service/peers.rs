//! Peers as others see them, and their devices' configurations; what changes them is in [`change`].

mod change;
mod exit;
mod plan;
mod room;

pub use change::{Accounts, CreatedPeer, create, delete, deliver_config, update};

pub use exit::{ExitChange, set as set_exit};
pub(super) use exit::{find as find_exit, told as exit_told};
pub use plan::{plan_delete, plan_exit, plan_update};

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use cell_api_core::client_config::{self, CellSide};
use cell_api_core::connection::choice::Route;
use cell_api_core::fault::Faults;
use cell_api_core::name::{PeerName, Username};
use cell_api_core::peer::Peer;
use zeroize::Zeroizing;

use super::ServiceError;
use super::cell::{self, CellIdentity};
use super::device::{known_side, side};
use super::plan::Facts;
use crate::app::App;
use crate::store::peers::{self as table, StoredPeer};

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
    /// Names this state of it ([`Peer::version`]).
    pub version: String,
    /// Its IPv4 address.
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address.
    pub ipv6: Ipv6Addr,
    /// Which way what it sends to the internet has at this moment, as far as it may send there.
    pub way: Route,
    /// Whether the device's configuration is older than the cell's.
    pub config_needs_reinstall: bool,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub created_unix_ms: i64,
    /// What moves; `None` while netd is not reachable.
    pub activity: Option<Activity>,
}

impl PeerView {
    /// Its way as others are told: `direct`, `exit` or `nowhere`, and the id of that exit.
    pub fn way(&self) -> (&'static str, Option<String>) {
        match self.way {
            Route::Own => ("direct", None),
            Route::Exit(id) => ("exit", Some(id.to_string())),
            Route::Nowhere => ("nowhere", None),
        }
    }
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
    let moment = Facts::now(app)?.moment(app);
    let view = |stored: &Arc<StoredPeer>| {
        let activity = activity
            .as_ref()
            .map(|all| all.get(stored.peer.name.as_str()).cloned().unwrap_or_default());
        let way = moment.way(&stored.peer.exit);
        Look::new(
            Arc::clone(stored),
            Arc::clone(&identity),
            side.as_ref(),
            way,
            activity,
        )
        .view()
    };
    Ok(stored.iter().map(view).collect())
}

/// One peer.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoPeer`], [`ServiceError::SetupRequired`].
pub async fn get(app: &App, name: &str) -> Result<PeerView, ServiceError> {
    Ok(look(app, name).await?.view())
}

/// One peer as it is kept, for an answer that is rendered only when something of it has changed.
#[derive(Debug)]
pub struct Look {
    /// The peer.
    pub stored: Arc<StoredPeer>,
    /// As in [`PeerView`].
    pub needs_reinstall: bool,
    /// As in [`PeerView`].
    pub way: Route,
    /// As in [`PeerView`].
    pub activity: Option<Activity>,
    identity: Arc<CellIdentity>,
}

impl Look {
    /// A configuration that cannot be compared, because the cell does not know its own side, is not called old.
    fn new(
        stored: Arc<StoredPeer>,
        identity: Arc<CellIdentity>,
        side: Option<&CellSide>,
        way: Route,
        activity: Option<Activity>,
    ) -> Self {
        let is_old = |side| stored.fingerprint(side) != stored.config_fingerprint;
        Look {
            needs_reinstall: side.is_some_and(is_old),
            stored,
            way,
            activity,
            identity,
        }
    }

    /// All of it.
    pub fn view(&self) -> PeerView {
        let StoredPeer {
            peer,
            config_fingerprint: _,
            created_unix_ms,
            derived: _,
        } = &*self.stored;
        PeerView {
            ipv4: self.identity.range.v4_of(peer.host),
            ipv6: self.identity.range.v6_of(peer.host),
            way: self.way,
            config_needs_reinstall: self.needs_reinstall,
            peer: peer.clone(),
            version: self.stored.version().to_owned(),
            created_unix_ms: *created_unix_ms,
            activity: self.activity.clone(),
        }
    }
}

/// That there is a peer of this name, asking no daemon.
///
/// # Errors
/// As [`get`].
pub fn known(app: &App, name: &str) -> Result<PeerName, ServiceError> {
    cell::identity(app)?;
    let name = parse_name(name)?;
    match app.peers.get(name.as_str()) {
        Some(_) => Ok(name),
        None => Err(ServiceError::NoPeer),
    }
}

/// One peer, without a copy of it.
///
/// # Errors
/// As [`get`].
pub async fn look(app: &App, name: &str) -> Result<Look, ServiceError> {
    let identity = cell::identity(app)?;
    find(app, identity, &parse_name(name)?).await
}

/// The peer that bears a user's name.
///
/// # Errors
/// [`ServiceError::NoPeer`], also for a name that no peer can bear; [`ServiceError::SetupRequired`].
pub async fn of_user(app: &App, username: &Username) -> Result<PeerView, ServiceError> {
    let identity = cell::identity(app)?;
    let name = PeerName::parse(username.as_str()).map_err(|_| ServiceError::NoPeer)?;
    Ok(find(app, identity, &name).await?.view())
}

/// The name of the peer that has an address; `None`: none has it, or it is no address.
///
/// # Errors
/// [`ServiceError::SetupRequired`], [`ServiceError::Storage`].
pub fn at_address(app: &App, address: &str) -> Result<Option<String>, ServiceError> {
    let range = cell::identity(app)?.range;
    let Some(host) = address.parse().ok().and_then(|address| range.host_of(address)) else {
        return Ok(None);
    };
    app.store
        .read(|connection| Ok(table::name_of_host(connection, host)?))
}

/// The device's configuration without its key. Nothing changes; see [`deliver_config`].
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoPeer`], [`ServiceError::EndpointUnknown`],
/// [`ServiceError::Unreachable`].
pub async fn config(app: &App, name: &str) -> Result<Zeroizing<String>, ServiceError> {
    let name = parse_name(name)?;
    let identity = cell::identity(app)?;
    let stored = app.peers.get(name.as_str()).ok_or(ServiceError::NoPeer)?;
    let side = side(app, &identity).await?;
    Ok(client_config::render(&side, &stored.peer, None))
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

async fn find(app: &App, identity: Arc<CellIdentity>, name: &PeerName) -> Result<Look, ServiceError> {
    let stored = app.peers.get(name.as_str()).ok_or(ServiceError::NoPeer)?;
    let side = known_side(app, &identity).await;
    let activity = app.activity.one(name.as_str(), app.now()).await.ok();
    let way = way(app, &stored.peer)?;
    Ok(Look::new(stored, identity, side.as_ref(), way, activity))
}

/// Which way a peer has at this moment.
fn way(app: &App, peer: &Peer) -> Result<Route, ServiceError> {
    // Most peers have the cell's own way, and a look at one of them need not look at connections.
    match peer.exit.bound() {
        None => Ok(Route::Own),
        Some(_) => Ok(Facts::now(app)?.moment(app).way(&peer.exit)),
    }
}
