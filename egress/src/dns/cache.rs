//! What the resolvers of one way answered. Each way has its own, so that no peer is ever told what another's exit said.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache as Quick;

use super::wire::{Asked, Reply};

/// How much one way keeps, bytes, about.
const BYTES: u64 = 1024 * 1024;
/// How many answers of usual size these are.
const ANSWERS: usize = 1024;
/// An answer's share beside its records, bytes.
const BESIDE: usize = 256;
/// Longest that an answer is kept, seconds.
const LONGEST: u32 = 86_400;
/// How long it is kept that nobody answered, seconds (RFC 9520).
const FAILURE: u32 = 1;

/// What a question came to.
pub type Outcome = Option<Arc<Reply>>;

#[derive(Debug, Clone)]
struct Kept {
    outcome: Outcome,
    since: Instant,
    until: Instant,
}

#[derive(Debug, Clone)]
struct Size;

impl Weighter<Asked, Kept> for Size {
    fn weight(&self, _: &Asked, kept: &Kept) -> u64 {
        let of_reply = kept.outcome.as_ref().map_or(0, |reply| reply.size);
        (BESIDE + of_reply) as u64
    }
}

/// See the module.
pub struct Cache(Quick<Asked, Kept, Size>);

impl Default for Cache {
    fn default() -> Self {
        Cache(Quick::with_weighter(ANSWERS, BYTES, Size))
    }
}

impl Cache {
    /// What is known, and its age in seconds.
    pub fn get(&self, asked: &Asked, now: Instant) -> Option<(Outcome, u32)> {
        let kept = self.0.get(asked).filter(|kept| now < kept.until)?;
        let age = now.saturating_duration_since(kept.since).as_secs();
        Some((kept.outcome, u32::try_from(age).unwrap_or(u32::MAX)))
    }

    /// Keeps what a question came to, for as long as it says.
    pub fn keep(&self, asked: Asked, outcome: Outcome, now: Instant) {
        let ttl = outcome.as_ref().map_or(FAILURE, |reply| reply.ttl.min(LONGEST));
        if ttl > 0 {
            let until = now + Duration::from_secs(ttl.into());
            let since = now;
            self.0.insert(
                asked,
                Kept {
                    outcome,
                    since,
                    until,
                },
            );
        }
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cache({} answers)", self.0.len())
    }
}
