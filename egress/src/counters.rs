//! What is counted of an exit, and when it last did its work.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::failure::Failure;

/// How often it is told of one exit that this machine lacks something, at most: not of each of a flood of connections.
const TELL_MS: i64 = 10_000;

/// Counters of one exit, since it was started. Each is right by itself; together they are no snapshot.
#[derive(Debug, Default)]
pub struct Counters {
    /// Under way.
    pub open: AtomicU32,
    /// Reached their destination's side.
    pub carried: AtomicU64,
    /// Reset before the exit was asked, or for want of something of this machine.
    pub refused: AtomicU64,
    /// Not carried by the exit.
    pub failed: AtomicU64,
    /// Bytes from peers.
    pub sent: AtomicU64,
    /// Bytes to peers.
    pub received: AtomicU64,
    last_success: AtomicI64,
    last_told_of_lack: AtomicI64,
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
    /// The exit says that a connection reached its destination's side.
    pub fn succeeded(&self) {
        self.carried.fetch_add(1, Ordering::Relaxed);
    }

    /// Something came from there: there are servers that say so before they know.
    pub fn heard(&self) {
        self.last_success.store(now(), Ordering::Relaxed);
    }

    /// A connection did not. One that was not tried says nothing new: what there was before it is why.
    pub fn failed(&self, failure: &Failure) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        if !matches!(failure, Failure::Paused) {
            self.note(failure.reason(), failure.to_string());
        }
    }

    /// A connection was reset since this machine lacks something, which says nothing of the exit. Whether that is to be told now.
    pub fn lacked(&self) -> bool {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let (now, told) = (now(), self.last_told_of_lack.load(Ordering::Relaxed));
        // A clock that was set back is no reason for silence.
        let is_old = !(0..TELL_MS).contains(&now.saturating_sub(told));
        let exchange = |to| {
            let order = Ordering::Relaxed;
            self.last_told_of_lack.compare_exchange(told, to, order, order)
        };
        is_old && exchange(now).is_ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_is_counted_each_time_told_once_and_no_failure() {
        let counters = Counters::default();
        let told = (0..5).filter(|_| counters.lacked()).count();
        assert_eq!((told, counters.refused.load(Ordering::Relaxed)), (1, 5));
        assert_eq!(counters.failed.load(Ordering::Relaxed), 0);
        assert_eq!(counters.last_failure(), None);
        // Told long ago, and by a clock that was ahead.
        for told in [now() - TELL_MS, now() + 10 * TELL_MS] {
            counters.last_told_of_lack.store(told, Ordering::Relaxed);
            assert!(counters.lacked());
        }
    }
}
