//! Points in time, as the protos tell them.

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

/// One second in milliseconds.
pub const SECOND: i64 = 1_000;
/// One hour in milliseconds.
pub const HOUR: i64 = 3_600 * SECOND;
/// One day in milliseconds.
pub const DAY: i64 = 24 * HOUR;

/// 2026-01-01T00:00:00Z, before this version was written. A clock that shows less has not been set (small machines
/// without a battery start in 1970), and certificates made by it would be worthless, the root for ten years.
pub const EARLIEST_PLAUSIBLE: Timestamp = Timestamp(1_767_225_600 * SECOND);
/// 9000-01-01T00:00:00Z; beyond it X.509's four-digit years (RFC 5280 section 4.1.2.5.2) come to an end.
pub const LATEST_PLAUSIBLE: Timestamp = Timestamp(221_845_392_000 * SECOND);

impl Timestamp {
    /// Whether a clock that shows this can be right.
    pub fn is_plausible(self) -> bool {
        (EARLIEST_PLAUSIBLE..LATEST_PLAUSIBLE).contains(&self)
    }

    /// `milliseconds` later (earlier if negative), without overflow.
    #[must_use]
    pub fn plus(self, milliseconds: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(milliseconds))
    }

    /// The same with the part below a second cut off, as X.509 keeps it.
    #[must_use]
    pub fn whole_seconds(self) -> Timestamp {
        Timestamp(self.0.div_euclid(SECOND) * SECOND)
    }

    /// Seconds since 1970-01-01T00:00:00Z, rounded down.
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(SECOND)
    }
}
