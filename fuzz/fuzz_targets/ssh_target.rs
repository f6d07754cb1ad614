//! SSH targets, private keys and known_hosts lines that an administrator imports, parted by a byte that none of them has.
#![no_main]

use cell_api_core::connection::import::ssh;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut parts = text.splitn(3, '\u{1}');
    let mut next = || parts.next().unwrap_or_default();
    if let Ok(imported) = ssh::read(next(), next(), next()) {
        assert!((1..=8).contains(&imported.config.host_keys.len()));
        assert!(!imported.config.user.starts_with('-'));
    }
});
