//! Names of secrets become names of files and words of log lines.
#![no_main]

use cell_vaultd_core::{ItemName, SecretName, SecretPrefix};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (name, prefix) = input;
    if let Ok(parsed) = name.parse::<SecretName>() {
        assert_eq!(parsed.as_str(), name);
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'));
        let item = ItemName::Secret(parsed.clone());
        assert!(item.file_name(u64::MAX).len() < 255);
        assert_eq!(item.to_string().parse(), Ok(item));
        if let Ok(prefix) = prefix.parse::<SecretPrefix>() {
            assert_eq!(parsed.starts_with(&prefix), name.starts_with(prefix.as_str()));
        }
    }
    if let Ok(item) = name.parse::<ItemName>() {
        assert_eq!(item.to_string(), name);
    }
});
