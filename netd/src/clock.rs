//! The two clocks that netd reads.

use std::time::{Duration, SystemTime};

use cell_netd_core::confirm::{Now, SinceBoot};
use nix::time::{ClockId, clock_gettime};

/// This moment.
pub fn now() -> Now {
    Now {
        boot: since_boot(),
        unix_ms: unix_ms(),
    }
}

/// By CLOCK_BOOTTIME. Where it cannot be read, all deadlines are over: a change that nobody can time does not stand.
pub fn since_boot() -> SinceBoot {
    let read = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
    SinceBoot(read.map_or(u64::MAX, |read| {
        u64::try_from(read.as_millis()).unwrap_or(u64::MAX)
    }))
}

/// Milliseconds since 1970; a clock before that is 0.
pub fn unix_ms() -> i64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
