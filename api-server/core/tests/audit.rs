//! Everything that can be done to a chain is found: with the chain alone where that is possible, else by its anchors.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "tests: a case is one story"
)]

use std::collections::BTreeMap;

use cell_api_core::audit::{ChainFault, Entry, GENESIS, Hash, Record, Verdict, Verifier, canonical};
use proptest::prelude::*;

fn entry(n: u64, detail: &str) -> Entry {
    Entry {
        time_unix_ms: 1_800_000_000_000 + n as i64,
        actor: "anna".to_owned(),
        role: "admin".to_owned(),
        remote: "127.0.0.1".to_owned(),
        action: "peer.create".to_owned(),
        subject: format!("peer-{n}"),
        detail: detail.to_owned(),
    }
}

fn chain(length: u64, detail: &str) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    for n in 1..=length {
        let previous = records.last().map_or(GENESIS, |record| record.hash);
        records.push(Record::seal(n, entry(n, detail), previous));
    }
    records
}

fn verify(records: &[Record], anchors: &[(u64, Hash)]) -> Verdict {
    let mut verifier = Verifier::new(anchors.iter().copied().collect::<BTreeMap<_, _>>());
    records.iter().for_each(|record| verifier.push(record));
    verifier.finish()
}

#[test]
fn an_untouched_chain_is_intact() {
    let records = chain(9, "");
    let anchors = [(3, records[2].hash), (9, records[8].hash)];
    assert_eq!(
        verify(&records, &anchors),
        Verdict {
            record_count: 9,
            anchor_count: 2,
            fault: None
        }
    );
    assert_eq!(
        verify(&[], &[]),
        Verdict {
            record_count: 0,
            anchor_count: 0,
            fault: None
        }
    );
}

#[test]
fn the_bytes_of_a_record_are_frozen() {
    let hash = Record::seal(1, entry(1, "d\u{e9}tail"), GENESIS).hash;
    assert_eq!(
        hex::encode(hash),
        include_str!("golden/audit_record.sha256").trim()
    );
}

#[test]
fn altering_removing_swapping_and_inserting_break_the_chain() {
    let records = chain(9, "");
    let mut altered = records.clone();
    altered[3].entry.detail = "x".to_owned();
    assert_eq!(verify(&altered, &[]).fault, Some(ChainFault::Content(4)));

    let mut resealed = records.clone();
    resealed[3] = Record::seal(4, entry(4, "x"), records[2].hash);
    assert_eq!(
        verify(&resealed, &[]).fault,
        Some(ChainFault::Link(5)),
        "sealed anew, the next does not follow"
    );

    let mut removed = records.clone();
    removed.remove(3);
    assert_eq!(
        verify(&removed, &[]).fault,
        Some(ChainFault::Sequence { expected: 4 })
    );

    let mut swapped = records.clone();
    swapped.swap(3, 4);
    assert_eq!(
        verify(&swapped, &[]).fault,
        Some(ChainFault::Sequence { expected: 4 })
    );

    let mut inserted = records.clone();
    inserted.insert(3, Record::seal(4, entry(4, "forged"), records[2].hash));
    assert_eq!(
        verify(&inserted, &[]).fault,
        Some(ChainFault::Sequence { expected: 5 })
    );

    assert_eq!(
        verify(&records[1..], &[]).fault,
        Some(ChainFault::Sequence { expected: 1 })
    );
}

#[test]
fn only_anchors_find_a_cut_tail_an_old_copy_and_a_chain_that_was_rewritten_whole() {
    let records = chain(9, "");
    let anchors = [(4, records[3].hash), (9, records[8].hash)];
    assert_eq!(
        verify(&records[..7], &[]).fault,
        None,
        "the chain alone cannot tell"
    );
    assert_eq!(verify(&records[..7], &anchors).fault, Some(ChainFault::Cut(9)));
    assert_eq!(verify(&[], &anchors).fault, Some(ChainFault::Cut(4)));
    let rewritten = chain(9, "another history");
    assert_eq!(verify(&rewritten, &[]).fault, None, "the chain alone cannot tell");
    assert_eq!(verify(&rewritten, &anchors).fault, Some(ChainFault::Anchor(4)));
}

proptest! {
    /// No two records have the same bytes, wherever their texts are cut.
    #[test]
    fn texts_cannot_be_shifted_between_fields(text in "[a-c]{0,6}", cut in 0usize..7, other in 0usize..7) {
        let at = |cut: usize| {
            let (actor, role) = text.split_at(cut.min(text.len()));
            Entry { actor: actor.to_owned(), role: role.to_owned(), ..entry(1, "") }
        };
        let (one, two) = (at(cut), at(other));
        prop_assert_eq!(one == two, canonical(1, &one, &GENESIS) == canonical(1, &two, &GENESIS));
    }

    /// Any one flipped bit of a hash is found, at its record or the next.
    #[test]
    fn a_flipped_bit_is_found(at in 0usize..9, byte in 0usize..32, bit in 0u8..8, previous in any::<bool>()) {
        let mut records = chain(9, "");
        let hash = if previous { &mut records[at].previous_hash } else { &mut records[at].hash };
        hash[byte] ^= 1 << bit;
        let fault = verify(&records, &[]).fault.unwrap();
        prop_assert_eq!(fault.sequence(), at as u64 + 1);
    }
}
