//! WireGuard files that an administrator imports: what is taken is whole, bounded, and shows no key.
#![no_main]

use cell_api_core::connection::import::wireguard;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(imported) = wireguard::read(text) {
        assert!((1..=8).contains(&imported.config.peers.len()));
        assert!((1..=8).contains(&imported.config.addresses.len()));
        let shown = format!("{imported:?}");
        assert!(imported.secrets.iter().all(|secret| !shown.contains(secret.value.as_str())));
    }
});
