//! The file of anchors, with a digest that the fuzzer can satisfy: what is read is whole, in order, and
//! reads alike record by record.
#![no_main]

use cell_vaultd_core::anchors::{MAGIC, RECORD_BYTES, Tail, check};
use libfuzzer_sys::fuzz_target;

/// A digest that is all zeros after the first byte, which tells how long the body is.
fn mac(previous: &[u8; 32], body: &[u8]) -> [u8; 32] {
    let mut mac = [0; 32];
    mac[0] = previous[0] ^ body[0] ^ body[body.len() - 1];
    mac
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(read) = check(bytes, mac) else { return };
    let whole = read.whole() as usize;
    assert!(bytes.len() - whole < RECORD_BYTES);
    let mut tail = Tail::empty();
    let (records, torn) = bytes[MAGIC.len()..whole].as_chunks::<RECORD_BYTES>();
    assert!(torn.is_empty());
    for record in records {
        let next = tail.follow(record, mac).expect("it was read before");
        assert!(next.last.map(|anchor| anchor.sequence) > tail.last.map(|anchor| anchor.sequence));
        tail = next;
    }
    assert_eq!(tail, read);
});
