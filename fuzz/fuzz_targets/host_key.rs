//! Lines that pin an SSH server's key.
#![no_main]

use cell_egress_core::pin::{ALGORITHMS, HostKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &str| {
    if let Ok(key) = HostKey::parse(line) {
        assert!(ALGORITHMS.contains(&key.algorithm()) && line.trim_start().starts_with(key.algorithm()));
        assert!(!key.is(&[]), "a pin that nothing fills");
    }
});
