//! Amounts that a caller may choose, within limits.

use std::time::Duration;

/// A number outside its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is {least}-{most}, or 0 for {default}; not {given}")]
pub struct OutOfRange {
    given: u32,
    least: u16,
    most: u16,
    default: u16,
}

/// `given` within the range, the default for 0 (proto3 cannot tell "unset" from it).
fn bounded(given: u32, least: u16, most: u16, default: u16) -> Result<u16, OutOfRange> {
    match u16::try_from(given) {
        Ok(0) => Ok(default),
        Ok(n) if (least..=most).contains(&n) => Ok(n),
        _ => Err(OutOfRange {
            given,
            least,
            most,
            default,
        }),
    }
}

/// How long a container has between SIGTERM and SIGKILL: 1-60 seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopTimeout(u16);

impl StopTimeout {
    /// From the wire; 0 means 10.
    pub fn from_wire(seconds: u32) -> Result<Self, OutOfRange> {
        bounded(seconds, 1, 60, 10).map(StopTimeout)
    }

    /// In seconds, 1-60.
    pub fn seconds(self) -> u16 {
        self.0
    }
}

impl From<StopTimeout> for Duration {
    fn from(timeout: StopTimeout) -> Duration {
        Duration::from_secs(timeout.0.into())
    }
}

/// How many lines of a log: 1-1,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLines(u16);

impl LogLines {
    /// The most there are.
    pub const MOST: LogLines = LogLines(1000);

    /// From the wire; 0 means 100.
    pub fn from_wire(lines: u32) -> Result<Self, OutOfRange> {
        bounded(lines, 1, 1000, 100).map(LogLines)
    }

    /// 1-1,000.
    pub fn get(self) -> usize {
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_at_both_ends() {
        let timeout = |n| StopTimeout::from_wire(n).map(StopTimeout::seconds).ok();
        let cases = [
            (0, Some(10)),
            (1, Some(1)),
            (60, Some(60)),
            (61, None),
            (65_537, None),
            (u32::MAX, None),
        ];
        for (given, expected) in cases {
            assert_eq!(timeout(given), expected, "{given} s");
        }
        let lines = |n| LogLines::from_wire(n).map(LogLines::get).ok();
        for (given, expected) in [
            (0, Some(100)),
            (1, Some(1)),
            (1000, Some(1000)),
            (1001, None),
            (65_636, None),
        ] {
            assert_eq!(lines(given), expected, "{given} lines");
        }
    }
}
