//! The index of a remote catalog: whoever serves it, and whoever has the key that signs it. What is taken names every service once, has a serial
//! that can be kept, and never stands in the place of a newer one.
#![no_main]

use cell_api_core::services::remote::{Kept, RemoteIndex, SERVICES_MAX, manifest_file};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Without a key nothing is read.
    assert!(RemoteIndex::open(bytes, bytes, &[]).is_err());
    let Ok(index) = RemoteIndex::parse(bytes) else {
        return;
    };
    assert_eq!(RemoteIndex::parse(bytes).as_ref(), Ok(&index));
    assert!(index.lines.len() + index.faults.len() <= SERVICES_MAX);
    assert!(index.lines.windows(2).all(|two| two[0].id < two[1].id));
    assert!(i64::try_from(index.serial).is_ok_and(|serial| serial > 0));
    assert!(index.expires_s > index.issued_s);
    for line in &index.lines {
        let file = manifest_file(&line.digest);
        assert!(!file.contains("..") && !file.starts_with('/'));
        assert!(!line.title.chars().any(char::is_control));
    }
    let kept = Kept {
        serial: index.serial,
        digest: index.digest.to_string(),
    };
    assert_eq!(index.replaces(Some(&kept), index.issued_s), Ok(false));
    let later = Kept {
        serial: index.serial.saturating_add(1),
        ..kept
    };
    assert!(index.replaces(Some(&later), index.issued_s).is_err());
    assert_eq!(index.replaces(None, index.issued_s), Ok(true));
    assert!(index.replaces(None, index.expires_s).is_err());
});
