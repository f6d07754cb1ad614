//! Failures by source address, in memory and bounded.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use cell_api_core::throttle::{Bucket, Quota, Source};
use tokio::sync::Notify;

/// Sources that are remembered at once. Beyond it newcomers share one bucket: fail closed, in bounded memory.
const MAX_SOURCES: usize = 65_536;

/// Buckets for one kind of failure.
#[derive(Debug)]
pub struct Throttle {
    quota: Quota,
    buckets: Mutex<(BTreeMap<Source, Bucket>, Bucket)>,
}

/// A failure paid for in advance.
#[must_use]
#[derive(Debug)]
pub struct Paid<'a> {
    throttle: &'a Throttle,
    source: Source,
}

impl Throttle {
    /// A throttle.
    pub fn new(quota: Quota) -> Self {
        Throttle {
            quota,
            buckets: Mutex::new((BTreeMap::new(), Bucket::FULL)),
        }
    }

    /// Pays for an attempt in advance.
    ///
    /// # Errors
    /// Seconds to wait.
    pub fn pay(&self, source: Source, now: i64) -> Result<Paid<'_>, u64> {
        self.with_bucket(source, now, |bucket| bucket.take(self.quota, now))
            .map(|()| Paid {
                throttle: self,
                source,
            })
            .map_err(|wait_ms| u64::try_from(wait_ms).unwrap_or(0).div_ceil(1000))
    }

    fn with_bucket<T>(&self, source: Source, now: i64, act: impl FnOnce(&mut Bucket) -> T) -> T {
        let mut guard = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let (buckets, shared) = &mut *guard;
        if buckets.len() >= MAX_SOURCES && !buckets.contains_key(&source) {
            buckets.retain(|_, bucket| !bucket.is_full(now));
            if buckets.len() >= MAX_SOURCES {
                return act(shared);
            }
        }
        act(buckets.entry(source).or_insert(Bucket::FULL))
    }
}

impl Paid<'_> {
    /// The attempt was good: it costs nothing.
    pub fn refund(self, now: i64) {
        let quota = self.throttle.quota;
        self.throttle
            .with_bucket(self.source, now, |bucket| bucket.give_back(quota));
    }
}

/// Counts failures, so that somebody tidies up after many.
#[derive(Debug, Default)]
pub struct Failures {
    count: AtomicU32,
    wake: Notify,
}

impl Failures {
    /// As many failed logins as leave room to sweep after them.
    const MANY: u32 = 1_000;

    /// One more.
    pub fn note(&self) {
        if self.count.fetch_add(1, Ordering::Relaxed) % Self::MANY == Self::MANY - 1 {
            self.wake.notify_one();
        }
    }

    /// Waits until there were many since it last returned.
    pub async fn many(&self) {
        self.wake.notified().await;
    }
}
