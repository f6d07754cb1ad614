//! DNS names: what is taken is within a suffix exactly if it is the suffix or ends in a dot and the suffix.
#![no_main]

use cell_vaultd_core::DnsName;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (name, suffix) = input;
    let (Ok(name), Ok(suffix)) = (name.parse::<DnsName>(), suffix.parse::<DnsName>()) else { return };
    let below = name.as_str().ends_with(&format!(".{suffix}"));
    assert_eq!(name.is_within(&suffix), below || name == suffix);
    assert!(name.as_str().split('.').all(|label| (1..=63).contains(&label.len())));
});
