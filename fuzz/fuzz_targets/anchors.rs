//! The file of anchors, with a digest that the fuzzer can satisfy: what is read is whole, in order and can be written
//! again.
#![no_main]

use cell_vaultd_core::anchors::{MAGIC, parse};
use libfuzzer_sys::fuzz_target;

/// A digest that is all zeros after the first byte, which tells how long the body is.
fn mac(previous: &[u8; 32], body: &[u8]) -> [u8; 32] {
    let mut mac = [0; 32];
    mac[0] = previous[0] ^ body[0] ^ body[body.len() - 1];
    mac
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(read) = parse(bytes, mac) else { return };
    assert!(read.anchors.is_sorted_by(|a, b| a.sequence < b.sequence));
    let mut again = MAGIC.to_vec();
    let mut head = [0; 32];
    for anchor in &read.anchors {
        head = mac(&head, &anchor.body());
        again.extend_from_slice(&anchor.body());
        again.extend_from_slice(&head);
    }
    assert_eq!(again, bytes[..read.whole]);
    assert_eq!(head, read.head);
    assert!(bytes.len() - read.whole < 80);
});
