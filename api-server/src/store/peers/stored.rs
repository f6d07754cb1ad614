//! A peer as it is kept, with what is derived from it once and asked for at every look.

use std::sync::{Mutex, OnceLock, PoisonError};

use axum::body::Bytes;
use axum::http::HeaderValue;
use cell_api_core::client_config::{self, CellSide};
use cell_api_core::connection::choice::Route;
use cell_api_core::peer::Peer;

use crate::service::peers::Activity;

/// A peer with what only the database knows.
#[derive(Debug, Clone)]
pub struct StoredPeer {
    /// The peer.
    pub peer: Peer,
    /// Fingerprint of the configuration that the device got last.
    pub config_fingerprint: [u8; 32],
    /// When it was added, milliseconds since 1970-01-01T00:00:00Z.
    pub created_unix_ms: i64,
    /// What was derived from `peer` before.
    pub derived: Derived,
}

/// What is derived from a peer and asked for at every look: made at the first.
#[derive(Debug, Default)]
pub struct Derived {
    version: OnceLock<String>,
    fingerprint: Mutex<Option<(CellSide, [u8; 32])>>,
    rendered: Mutex<Option<Rendered>>,
}

/// An answer, and all that went into it beside the peer.
#[derive(Debug)]
struct Rendered {
    needs_reinstall: bool,
    way: Route,
    activity: Option<Activity>,
    answer: Answer,
}

/// What shows a peer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Names this version of the peer.
    pub etag: HeaderValue,
    /// The peer as JSON.
    pub body: Bytes,
}

impl Clone for Derived {
    /// Nothing: a copy of a peer is made to be changed.
    fn clone(&self) -> Self {
        Derived::default()
    }
}

impl StoredPeer {
    /// See [`Peer::version`].
    pub fn version(&self) -> &str {
        self.derived.version.get_or_init(|| self.peer.version())
    }

    /// Fingerprint of the configuration that the device should have, the cell's side being `side`.
    pub fn fingerprint(&self, side: &CellSide) -> [u8; 32] {
        let mut known = self
            .derived
            .fingerprint
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((of, fingerprint)) if of == side => *fingerprint,
            _ => {
                let fingerprint = client_config::fingerprint(side, &self.peer);
                *known = Some((side.clone(), fingerprint));
                fingerprint
            }
        }
    }
}

impl Derived {
    /// The answer that shows the peer in this state: rendered, or as it was rendered last if nothing has changed since.
    ///
    /// # Errors
    /// Those of `render`; nothing is kept then.
    pub fn rendered<E>(
        &self,
        needs_reinstall: bool,
        way: Route,
        activity: Option<&Activity>,
        render: impl FnOnce() -> Result<Answer, E>,
    ) -> Result<Answer, E> {
        let mut known = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = &*known
            && last.needs_reinstall == needs_reinstall
            && last.way == way
            && last.activity.as_ref() == activity
        {
            return Ok(last.answer.clone());
        }
        let answer = render()?;
        *known = Some(Rendered {
            needs_reinstall,
            way,
            activity: activity.cloned(),
            answer: answer.clone(),
        });
        Ok(answer)
    }
}
