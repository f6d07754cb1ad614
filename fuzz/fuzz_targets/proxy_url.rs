//! Proxy URLs that an administrator imports: the password goes to the vault and nowhere else.
#![no_main]

use cell_api_core::connection::import::proxy;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match proxy::read(text) {
        Ok(imported) => {
            assert!(imported.config.port > 0);
            assert_eq!(imported.config.username.is_some(), imported.secrets.len() == 1);
        }
        Err(faults) => assert!(!faults.is_empty()),
    }
});
