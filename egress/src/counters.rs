//! What is counted of an exit, and when it last did its work.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::failure::Failure;

/// Counters of one exit, since it was started. Each is right by itself; together they are no snapshot.
#[derive(Debug, Default)]
pub struct Counters {
    /// Under way.
    pub open: AtomicU32,
    /// Reached their destination's side.
    pub carried: AtomicU64,
    /// Reset before the exit was asked.
    pub refused: AtomicU64,
    /// Not carried by the exit.
    pub failed: AtomicU64,
    /// Bytes from peers.
    pub sent: AtomicU64,
    /// Bytes to peers.
    pub received: AtomicU64,
    last_success: AtomicI64,
    last_failure: Mutex<Option<LastFailure>>,
    last_probe: Mutex<Option<LastProbe>>,
}

/// The last look at the exit's server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastProbe {
    /// Milliseconds since 1970.
    pub unix_ms: i64,
    /// Why it does not speak its protocol, as a code and for people; `None`: it does.
    pub failure: Option<(&'static str, String)>,
}

/// The last time that an exit failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFailure {
    /// Milliseconds since 1970.
    pub unix_ms: i64,
    /// A code.
    pub reason: &'static str,
    /// For people.
    pub detail: String,
}

impl Counters {
    /// A connection reached its destination's side.
    pub fn succeeded(&self) {
        self.carried.fetch_add(1, Ordering::Relaxed);
        self.last_success.store(now(), Ordering::Relaxed);
    }

    /// A connection did not.
    pub fn failed(&self, failure: &Failure) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.note(failure.reason(), failure.to_string());
    }

    /// Something else went wrong with the exit.
    pub fn note(&self, reason: &'static str, detail: String) {
        let unix_ms = now();
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(LastFailure {
            unix_ms,
            reason,
            detail,
        });
    }

    /// The exit's server was looked at.
    pub fn probed(&self, failure: Option<&Failure>) {
        let probe = LastProbe {
            unix_ms: now(),
            failure: failure.map(|failure| (failure.reason(), failure.to_string())),
        };
        *self.last_probe.lock().unwrap_or_else(PoisonError::into_inner) = Some(probe);
    }

    /// If it ever was.
    pub fn last_probe(&self) -> Option<LastProbe> {
        self.last_probe
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Milliseconds since 1970; 0: never.
    pub fn last_success(&self) -> i64 {
        self.last_success.load(Ordering::Relaxed)
    }

    /// If it ever failed.
    pub fn last_failure(&self) -> Option<LastFailure> {
        self.last_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
