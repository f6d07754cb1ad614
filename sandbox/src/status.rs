//! What the kernel says of this process: /proc/self/status, read back as the last word on threads and capabilities.

use std::io;

/// The lines of proc_pid_status(5) that the sandbox rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SelfStatus {
    /// Number of threads.
    pub(crate) threads: u32,
    /// Capability sets, as masks.
    pub(crate) inheritable: u64,
    pub(crate) permitted: u64,
    pub(crate) effective: u64,
    pub(crate) bounding: u64,
    pub(crate) ambient: u64,
}

impl SelfStatus {
    /// Reads them of the calling thread's process.
    pub(crate) fn read() -> io::Result<Self> {
        Self::parse(&std::fs::read_to_string("/proc/self/status")?)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/self/status lacks a line"))
    }

    fn parse(text: &str) -> Option<Self> {
        let line = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
                .map(str::trim)
        };
        let mask = |key| u64::from_str_radix(line(key)?, 16).ok();
        Some(SelfStatus {
            threads: line("Threads")?.parse().ok()?,
            inheritable: mask("CapInh")?,
            permitted: mask("CapPrm")?,
            effective: mask("CapEff")?,
            bounding: mask("CapBnd")?,
            ambient: mask("CapAmb")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Name:\tCapPrm\nThreads:\t3\nCapInh:\t0000000000000000\nCapPrm:\t0000000000001000\n\
                        CapEff:\t0000000000001000\nCapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\n";

    #[test]
    fn a_status_is_read_whole_or_not_at_all() {
        let expected = SelfStatus {
            threads: 3,
            inheritable: 0,
            permitted: 0x1000,
            effective: 0x1000,
            bounding: 0x1ff_ffff_ffff,
            ambient: 0,
        };
        assert_eq!(SelfStatus::parse(TEXT), Some(expected));
        assert_eq!(SelfStatus::parse(&TEXT.replace("CapBnd", "CapXxx")), None);
    }

    #[test]
    fn the_kernel_s_own_is_read() {
        assert!(SelfStatus::read().is_ok_and(|status| status.threads >= 1));
    }
}
