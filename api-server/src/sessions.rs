//! Open sessions in memory: what every request looks at. The database holds the same, for the next start.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use cell_api_core::name::Username;
use cell_api_core::role::Role;

use crate::store::transaction::SessionChange;

/// Whose session it is.
#[derive(Debug, Clone)]
pub struct SessionUser {
    /// The user's name.
    pub username: Username,
    /// The user's role.
    pub role: Role,
    /// Whether nothing else is answered until the password is changed.
    pub must_change_password: bool,
}

/// An open session.
#[derive(Debug)]
pub struct Session {
    /// SHA-256 of the cookie.
    pub token_hash: [u8; 32],
    /// Whose it is.
    pub user: SessionUser,
    /// When it was opened, milliseconds since 1970-01-01T00:00:00Z.
    pub created_unix_ms: i64,
    seen_unix_ms: AtomicI64,
    noted_unix_ms: AtomicI64,
}

/// How long a session lasts.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// Without a request that a person asked for, milliseconds.
    pub idle_ms: i64,
    /// In all, milliseconds.
    pub absolute_ms: i64,
}

impl Session {
    /// A session.
    pub fn new(token_hash: [u8; 32], user: SessionUser, created_unix_ms: i64, seen_unix_ms: i64) -> Self {
        let (seen, noted) = (AtomicI64::new(seen_unix_ms), AtomicI64::new(seen_unix_ms));
        Session {
            token_hash,
            user,
            created_unix_ms,
            seen_unix_ms: seen,
            noted_unix_ms: noted,
        }
    }

    fn is_open(&self, now: i64, lifetimes: Lifetimes) -> bool {
        now - self.created_unix_ms < lifetimes.absolute_ms
            && now - self.seen_unix_ms.load(Ordering::Relaxed) < lifetimes.idle_ms
    }

    /// Whether the database should hear when it was last seen: once a minute is enough.
    pub fn is_to_be_noted(&self, now: i64) -> bool {
        let noted = self.noted_unix_ms.load(Ordering::Relaxed);
        now - noted > 60_000
            && self
                .noted_unix_ms
                .compare_exchange(noted, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// All open sessions.
#[derive(Debug)]
pub struct Sessions {
    lifetimes: Lifetimes,
    open: RwLock<BTreeMap<[u8; 32], Arc<Session>>>,
}

impl Sessions {
    /// The sessions that the database holds.
    pub fn new(lifetimes: Lifetimes, stored: impl IntoIterator<Item = Session>) -> Self {
        let open = stored
            .into_iter()
            .map(|session| (session.token_hash, Arc::new(session)))
            .collect();
        Sessions {
            lifetimes,
            open: RwLock::new(open),
        }
    }

    /// How long a session lasts.
    pub fn lifetimes(&self) -> Lifetimes {
        self.lifetimes
    }

    /// The session of a cookie, which counts as seen now.
    pub fn seen(&self, token_hash: &[u8; 32], now: i64) -> Option<Arc<Session>> {
        let session = self.find(token_hash, now)?;
        session.seen_unix_ms.fetch_max(now, Ordering::Relaxed);
        Some(session)
    }

    /// The session of a cookie, if it is open.
    pub fn find(&self, token_hash: &[u8; 32], now: i64) -> Option<Arc<Session>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(token_hash)
            .filter(|session| session.is_open(now, self.lifetimes))
            .cloned()
    }

    /// Does what the database did.
    pub fn apply(&self, change: SessionChange) {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        match change {
            SessionChange::Opened(session) => {
                open.insert(session.token_hash, session);
            }
            SessionChange::Closed(token_hash) => {
                open.remove(&token_hash);
            }
            SessionChange::UserClosed(username) => {
                open.retain(|_, session| session.user.username.as_str() != username);
            }
        }
    }

    /// Forgets what is over.
    pub fn forget_expired(&self, now: i64) {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, session| session.is_open(now, self.lifetimes));
    }
}
