//! Failures by source address, in memory and bounded.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use cell_api_core::throttle::{Bucket, Quota, Source};

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
    pub fn pay(&self, address: IpAddr, now: i64) -> Result<Paid<'_>, u64> {
        let source = Source::from(address);
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
