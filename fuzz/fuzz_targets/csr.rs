//! Certification requests: the only ASN.1 that a caller can hand to the process with the keys. What is taken is a key
//! that is strong enough and that can be written into a certificate again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(requested) = cell_vaultd::csr::read(bytes) {
        assert!(bytes.len() <= 4096);
        assert!(requested.kind.check().is_ok());
        assert!(requested.spki_der().len() < bytes.len());
    }
});
