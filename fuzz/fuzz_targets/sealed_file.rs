//! Sealed files: somebody with access to the disk writes them, and they are parsed before any tag is checked.
#![no_main]

use cell_vaultd_core::{index::Index, padding, sealed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = sealed::parse(bytes) {
        let parts: [&[u8]; 5] = [file.header, file.key_nonce, file.wrapped_key, file.value_nonce, file.value];
        assert_eq!(parts.concat(), bytes);
        assert_eq!(sealed::header(file.name, file.version, file.generation), file.header);
    }
    if let Ok(value) = padding::unpad(bytes) {
        let mut padded = Vec::new();
        assert!(padding::pad(value, &mut padded));
        assert_eq!(padded, bytes);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(index) = Index::decode(text) {
            assert_eq!(index.encode(), text);
        }
    }
});
