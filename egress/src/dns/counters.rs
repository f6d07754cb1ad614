//! What is counted of DNS. Names are not.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Of the relay, since it was started.
#[derive(Debug, Default)]
pub struct RelayCounters {
    /// Answered here.
    pub answered: AtomicU64,
    /// Refused.
    pub refused: AtomicU64,
    /// Beyond limits.
    pub dropped: AtomicU64,
    /// Of peers whose exit has no DNS, or of whoever netd has bound and the table has not.
    pub without_way: AtomicU64,
    /// The authority was asked.
    pub authority_asked: AtomicU64,
    /// And did not answer.
    pub authority_failed: AtomicU64,
}

/// Of one way, since it was made.
#[derive(Debug, Default)]
pub struct WayCounters {
    /// A resolver was asked.
    pub asked: AtomicU64,
    /// Known from before.
    pub cached: AtomicU64,
    /// Nobody answered.
    pub failed: AtomicU64,
    /// Withheld.
    pub withheld: AtomicU64,
    last_success: AtomicI64,
    last_failure: Mutex<(i64, String)>,
    last_proven: AtomicI64,
    last_proof_failure: Mutex<(i64, String)>,
    lost_proofs: AtomicU32,
    last_marked_proven: AtomicI64,
    last_marked_failure: Mutex<(i64, String)>,
    lost_marked_proofs: AtomicU32,
    unmarked: AtomicU32,
}

/// One more.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl WayCounters {
    /// A resolver answered.
    pub fn succeeded(&self) {
        self.last_success.store(now(), Ordering::Relaxed);
    }

    /// None did, and this is why, without the name.
    pub fn failed(&self, why: String) {
        count(&self.failed);
        note(&self.last_failure, why);
    }

    /// A resolver answered the relay's own question.
    pub fn proven(&self) {
        self.succeeded();
        self.lost_proofs.store(0, Ordering::Relaxed);
        self.last_proven.store(now(), Ordering::Relaxed);
    }

    /// None answered that, and this is why.
    pub fn not_proven(&self, why: String) {
        self.lost_proofs.fetch_add(1, Ordering::Relaxed);
        note(&self.last_failure, why.clone());
        note(&self.last_proof_failure, why);
    }

    /// When a resolver last answered the relay's own question, milliseconds since 1970; 0: never.
    pub fn last_proven(&self) -> i64 {
        self.last_proven.load(Ordering::Relaxed)
    }

    /// When none did, and why.
    pub fn last_proof_failure(&self) -> (i64, String) {
        noted(&self.last_proof_failure)
    }

    /// How often none did since one did.
    pub fn lost_proofs(&self) -> u32 {
        self.lost_proofs.load(Ordering::Relaxed)
    }

    /// A resolver answered the relay's own question by the exit's mark.
    pub fn proven_by_mark(&self) {
        self.lost_marked_proofs.store(0, Ordering::Relaxed);
        self.last_marked_proven.store(now(), Ordering::Relaxed);
    }

    /// None answered that, and this is why.
    pub fn not_proven_by_mark(&self, why: String) {
        self.lost_marked_proofs.fetch_add(1, Ordering::Relaxed);
        note(&self.last_marked_failure, why);
    }

    /// netd gave no mark; how often it did not so far.
    pub fn no_mark(&self) -> u32 {
        self.unmarked.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// When a resolver last answered the relay's own question by the exit's mark, milliseconds since 1970; 0: never.
    pub fn last_marked_proven(&self) -> i64 {
        self.last_marked_proven.load(Ordering::Relaxed)
    }

    /// When none did, and why.
    pub fn last_marked_failure(&self) -> (i64, String) {
        noted(&self.last_marked_failure)
    }

    /// How often none did since one did.
    pub fn lost_marked_proofs(&self) -> u32 {
        self.lost_marked_proofs.load(Ordering::Relaxed)
    }

    /// When a resolver last answered, milliseconds since 1970; 0: never.
    pub fn last_success(&self) -> i64 {
        self.last_success.load(Ordering::Relaxed)
    }

    /// When none did, and why.
    pub fn last_failure(&self) -> (i64, String) {
        noted(&self.last_failure)
    }
}

fn note(last: &Mutex<(i64, String)>, why: String) {
    *last.lock().unwrap_or_else(PoisonError::into_inner) = (now(), why);
}

fn noted(last: &Mutex<(i64, String)>) -> (i64, String) {
    last.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_questions_are_counted_until_one_is_answered() {
        let way = WayCounters::default();
        let lost = || (way.lost_proofs(), way.lost_marked_proofs());
        way.not_proven("no".to_owned());
        way.not_proven("no".to_owned());
        way.not_proven_by_mark("no".to_owned());
        assert_eq!(lost(), (2, 1));
        way.proven();
        assert_eq!(lost(), (0, 1));
        way.proven_by_mark();
        way.not_proven("no".to_owned());
        assert_eq!(lost(), (1, 0));
    }
}
