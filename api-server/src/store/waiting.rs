//! The change that waits for its confirmation: at most one, with what it changes as that was before.

mod whole;

pub use whole::{Before as BeforeWhole, begin_import, begin_service};

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use cell_api_core::access::{AccessPolicy, Protocol, Service, Tunnel};
use cell_api_core::connection::choice::ExitChoice;
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::key::PublicKey;
use cell_api_core::name::PeerName;
use cell_api_core::peer::Peer;
use cell_api_core::range::VpnRange;
use cell_api_core::waiting::{Sent, Window};
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use super::peers::{self, StoredPeer};
use super::transaction::Tx;
use crate::service::ServiceError;

const CORRUPT: ServiceError = ServiceError::Storage("the change that waits is not one");

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A peer was altered.
    Update,
    /// A peer was removed.
    Delete,
    /// A service's containers were given another way to the internet.
    ServiceExit,
    /// Peers were bound to exits of the first version.
    Import,
}

/// How a change is to wait, and who made it by which way.
#[derive(Debug, Clone)]
pub struct Wait {
    /// How long.
    pub window: Window,
    /// Who.
    pub author: String,
    /// Where from: an address, or `unix`.
    pub remote: String,
    /// Whether by the VPN.
    pub by_vpn: bool,
}

/// The change.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Of whom: the peer, or the service; of an import a word for people.
    pub subject: String,
    /// What was done.
    pub action: Action,
    /// How it waits.
    pub wait: Wait,
    /// As netd has it; none until netd has accepted it.
    pub sent: Option<Sent>,
    before: String,
}

impl Action {
    const ALL: [Action; 4] = [
        Action::Update,
        Action::Delete,
        Action::ServiceExit,
        Action::Import,
    ];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Update => "update",
            Action::Delete => "delete",
            Action::ServiceExit => "service_exit",
            Action::Import => "import",
        }
    }

    /// Whether it is of one peer: netd hears of it as a difference then, and else as the whole.
    pub fn is_of_peer(self) -> bool {
        match self {
            Action::Update | Action::Delete => true,
            Action::ServiceExit | Action::Import => false,
        }
    }
}

impl Waiting {
    /// The peer that it is of, if it is of one.
    pub fn peer(&self) -> Option<&str> {
        self.action.is_of_peer().then_some(self.subject.as_str())
    }

    /// The service that it is of, if it is of one.
    pub fn service(&self) -> Option<&str> {
        (self.action == Action::ServiceExit).then_some(self.subject.as_str())
    }

    /// What comes back if a change of the whole is taken back; `None`: it is of one peer.
    ///
    /// # Errors
    /// [`ServiceError::Storage`].
    pub fn before_whole(&self) -> Result<Option<BeforeWhole>, ServiceError> {
        match self.action {
            Action::Update | Action::Delete => Ok(None),
            Action::ServiceExit | Action::Import => BeforeWhole::read(&self.before).map(Some),
        }
    }
}

/// Whether one waits.
///
/// # Errors
/// SQLite's.
pub fn any(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM waiting_change)";
    connection.prepare_cached(sql)?.query_row((), |row| row.get(0))
}

/// Refuses what has to wait for the change that waits.
///
/// # Errors
/// [`ServiceError::ChangePending`] while there is one, [`ServiceError::Storage`].
pub fn refuse_beside(connection: &Connection) -> Result<(), ServiceError> {
    match any(connection)? {
        true => Err(ServiceError::ChangePending),
        false => Ok(()),
    }
}

/// The change that waits.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn get(connection: &Connection) -> Result<Option<Waiting>, ServiceError> {
    let sql =
        "SELECT subject, action, before_json, window_seconds, author, remote, by_vpn, etag, previous_etag,
        deadline_unix_ms FROM waiting_change";
    let read = |row: &rusqlite::Row<'_>| {
        let action: String = row.get(1)?;
        let (etag, previous_etag, deadline): (Option<String>, Option<String>, Option<i64>) =
            (row.get(7)?, row.get(8)?, row.get(9)?);
        let sent = etag.zip(previous_etag).zip(deadline);
        let waiting = |window, action| Waiting {
            subject: String::new(),
            action,
            wait: Wait {
                window,
                author: String::new(),
                remote: String::new(),
                by_vpn: false,
            },
            sent: sent.map(|((etag, previous_etag), deadline_unix_ms)| Sent {
                etag,
                previous_etag,
                deadline_unix_ms,
            }),
            before: String::new(),
        };
        let action = Action::ALL.into_iter().find(|one| one.as_str() == action);
        let (Ok(window), Some(action)) = (Window::of_seconds(row.get(3)?), action) else {
            return Ok(None);
        };
        let mut found = waiting(window, action);
        found.subject = row.get(0)?;
        found.before = row.get(2)?;
        found.wait.author = row.get(4)?;
        found.wait.remote = row.get(5)?;
        found.wait.by_vpn = row.get(6)?;
        Ok(Some(found))
    };
    match connection.prepare_cached(sql)?.query_row((), read).optional()? {
        Some(Some(waiting)) => Ok(Some(waiting)),
        Some(None) => Err(CORRUPT),
        None => Ok(None),
    }
}

/// Notes that what this transaction does to `before` waits.
///
/// # Errors
/// [`ServiceError::ChangePending`] when one waits already.
pub fn begin(tx: &mut Tx<'_>, action: Action, before: &StoredPeer, wait: &Wait) -> Result<(), ServiceError> {
    write(
        tx,
        (before.peer.name.as_str(), action),
        &Before::from(before),
        wait,
    )
}

fn write(
    tx: &mut Tx<'_>,
    (subject, action): (&str, Action),
    before: &impl Serialize,
    wait: &Wait,
) -> Result<(), ServiceError> {
    refuse_beside(tx)?;
    let before_json = serde_json::to_string(before).map_err(|_| CORRUPT)?;
    let sql =
        "INSERT INTO waiting_change (one, subject, action, before_json, window_seconds, author, remote, by_vpn)
        VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    tx.prepare_cached(sql)?.execute((
        subject,
        action.as_str(),
        before_json,
        wait.window.seconds(),
        &wait.author,
        &wait.remote,
        wait.by_vpn,
    ))?;
    tx.settles_change();
    Ok(())
}

/// What was taken from the peer of this name meanwhile stays taken, whatever becomes of the change: `left` is what it has now. netd
/// does the same with the state that it comes back to.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn take_away(tx: &mut Tx<'_>, peer: &PeerName, left: &AccessPolicy) -> Result<(), ServiceError> {
    // What is not of this peer alone brings no access back, and so takes none.
    let Some(waiting) = get(tx)?.filter(|waiting| waiting.peer() == Some(peer.as_str())) else {
        return Ok(());
    };
    let mut before: Before = serde_json::from_str(&waiting.before).map_err(|_| CORRUPT)?;
    let is_left = |(address, protocol, port): &(IpAddr, String, u16)| {
        let mut services = left.services.iter();
        services
            .any(|one| (one.address, one.protocol.as_str(), one.port) == (*address, protocol.as_str(), *port))
    };
    before.internet &= left.internet;
    before.peer_to_peer &= left.peer_to_peer;
    before.services.retain(is_left);
    let json = serde_json::to_string(&before).map_err(|_| CORRUPT)?;
    tx.prepare_cached("UPDATE waiting_change SET before_json = ?1")?
        .execute([json])?;
    Ok(())
}

/// Notes how netd has it.
///
/// # Errors
/// SQLite's.
pub fn note_sent(connection: &Connection, sent: &Sent) -> rusqlite::Result<()> {
    let sql = "UPDATE waiting_change SET etag = ?1, previous_etag = ?2, deadline_unix_ms = ?3";
    let values = (&sent.etag, &sent.previous_etag, sent.deadline_unix_ms);
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

/// It waits no more.
///
/// # Errors
/// SQLite's.
pub fn end(tx: &mut Tx<'_>) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM waiting_change")?.execute(())?;
    tx.settles_change();
    Ok(())
}

/// Puts what was changed back as it was, unless it was removed for good meanwhile.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn restore(tx: &mut Tx<'_>, range: &VpnRange, waiting: &Waiting) -> Result<(), ServiceError> {
    if let Some(before) = waiting.before_whole()? {
        return before.restore(tx, range);
    }
    let before: Before = serde_json::from_str(&waiting.before).map_err(|_| CORRUPT)?;
    let before = Arc::new(before.into_stored(range)?);
    let is_there = peers::get(tx, range, &waiting.subject)?.is_some();
    match (waiting.action, is_there) {
        (Action::Update, true) => peers::update(tx, &before),
        (Action::Delete, false) => {
            tx.prepare_cached("DELETE FROM freed_host WHERE host = ?1")?
                .execute([before.peer.host.get()])?;
            peers::insert(tx, &before)
        }
        (Action::Update, false) | (Action::Delete, true) => Ok(()),
        // Put back above.
        (Action::ServiceExit | Action::Import, _) => Ok(()),
    }
}

/// A peer as it is written down. No secret: the keys of devices are theirs.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Before {
    name: String,
    public_key: String,
    host: u32,
    internet: bool,
    peer_to_peer: bool,
    services: Vec<(IpAddr, String, u16)>,
    tunnel: String,
    exit: Option<String>,
    fail_open: Option<bool>,
    fallbacks: Vec<String>,
    config_fingerprint: [u8; 32],
    created_unix_ms: i64,
}

impl From<&StoredPeer> for Before {
    fn from(stored: &StoredPeer) -> Self {
        let StoredPeer {
            peer,
            config_fingerprint,
            created_unix_ms,
            derived: _,
        } = stored;
        let Peer {
            name,
            public_key,
            host,
            access,
            tunnel,
            exit,
        } = peer;
        let AccessPolicy {
            internet,
            peer_to_peer,
            services,
        } = access;
        let services = services.iter().map(|service| {
            let protocol = service.protocol.as_str().to_owned();
            (service.address, protocol, service.port)
        });
        Before {
            name: name.to_string(),
            public_key: public_key.to_string(),
            host: host.get(),
            internet: *internet,
            peer_to_peer: *peer_to_peer,
            services: services.collect(),
            tunnel: tunnel.as_str().to_owned(),
            exit: exit.bound().map(|id| id.to_string()),
            fail_open: exit.fail_open(),
            fallbacks: exit.fallbacks().iter().map(ConnectionId::to_string).collect(),
            config_fingerprint: *config_fingerprint,
            created_unix_ms: *created_unix_ms,
        }
    }
}

impl Before {
    fn into_stored(self, range: &VpnRange) -> Result<StoredPeer, ServiceError> {
        let service = |(address, protocol, port): (IpAddr, String, u16)| {
            let protocol = Protocol::parse(&protocol).ok()?;
            Some(Service {
                address,
                protocol,
                port,
            })
        };
        let connection = |id: &String| ConnectionId::parse(id).map_err(|_| CORRUPT);
        let bound = self.exit.as_ref().map(connection).transpose()?;
        let fallbacks = self.fallbacks.iter().map(connection).collect::<Result<_, _>>()?;
        let exit = ExitChoice::try_new(bound, self.fail_open, fallbacks).map_err(|_| CORRUPT)?;
        let services: Option<BTreeSet<Service>> = self.services.into_iter().map(service).collect();
        let peer = Peer {
            name: PeerName::parse(&self.name).map_err(|_| CORRUPT)?,
            public_key: PublicKey::parse(&self.public_key).map_err(|_| CORRUPT)?,
            host: range.host(self.host).ok_or(CORRUPT)?,
            access: AccessPolicy {
                internet: self.internet,
                peer_to_peer: self.peer_to_peer,
                services: services.ok_or(CORRUPT)?,
            },
            tunnel: Tunnel::parse(&self.tunnel).map_err(|_| CORRUPT)?,
            exit,
        };
        Ok(StoredPeer {
            peer,
            config_fingerprint: self.config_fingerprint,
            created_unix_ms: self.created_unix_ms,
            derived: Default::default(),
        })
    }
}
