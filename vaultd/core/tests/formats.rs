//! What is read back from disk: exactly what was written, or a fault.
#![allow(clippy::unwrap_used, reason = "tests")]

use cell_vaultd_core::access_log::{self, Record};
use cell_vaultd_core::anchors::{self, Anchor, Tail};
use cell_vaultd_core::index::{ChangeRefused, Entry, Index};
use cell_vaultd_core::{Action, ItemName, Role, Timestamp, padding, sealed};
use proptest::prelude::*;

/// A digest that depends on every byte; the real one is the keyring's.
fn mac(previous: &[u8; 32], body: &[u8]) -> [u8; 32] {
    let mut state = *previous;
    for (index, byte) in body.iter().enumerate() {
        let at = index % 32;
        state[at] = state[at].wrapping_mul(31).wrapping_add(*byte).wrapping_add(1);
        state[(at + 7) % 32] ^= state[at].rotate_left(3);
    }
    state
}

fn anchors_file(sequences: &[u64]) -> Vec<u8> {
    let mut file = anchors::MAGIC.to_vec();
    let mut head = [0; 32];
    for sequence in sequences {
        let body = Anchor {
            sequence: *sequence,
            hash: [*sequence as u8; 32],
            anchored: Timestamp(5),
        }
        .body();
        head = mac(&head, &body);
        file.extend_from_slice(&body);
        file.extend_from_slice(&head);
    }
    file
}

fn log_file(records: u64) -> Vec<u8> {
    let mut file = access_log::HEADER.as_bytes().to_vec();
    let mut head = [0; 32];
    for number in 1..=records {
        let body = Record {
            number,
            time: Timestamp(1_000),
            generation: number + 3,
            role: Role::Api,
            uid: 990,
            pid: (number % 2 == 0).then_some(7),
            action: Action::PutSecret,
            names: vec!["conn_1".into(), "b".into()],
            verdict: "ALLOWED",
        }
        .to_string();
        head = mac(&head, body.as_bytes());
        file.extend_from_slice(access_log::line(&body, &head).as_bytes());
    }
    file
}

#[test]
fn anchors_read_back() {
    let file = anchors_file(&[1, 2, 9]);
    let read = anchors::check(&file, mac).unwrap();
    assert_eq!((read.count, read.last.unwrap().sequence), (3, 9));
    assert_eq!(read.whole(), file.len() as u64);
    assert!(read.check_next(10).is_ok());
    assert_eq!(read.check_next(9).unwrap_err().last, 9);
    assert!(Tail::empty().check_next(0).is_err());
}

#[test]
fn a_torn_anchor_is_cut_at_every_length() {
    let file = anchors_file(&[1, 2, 3]);
    for length in anchors::MAGIC.len()..file.len() {
        let read = anchors::check(&file[..length], mac).unwrap();
        assert_eq!(read.whole(), 8 + (length as u64 - 8) / 80 * 80);
        assert_eq!(read.count, (length as u64 - 8) / 80);
    }
}

#[test]
fn a_file_reads_alike_in_pieces_of_any_size() {
    let (anchors, log) = (anchors_file(&[1, 2, 3, 7]), log_file(4));
    for size in 1..200 {
        let mut reader = anchors::Reader::new(mac);
        let mut lines = access_log::Reader::new(mac);
        anchors.chunks(size).for_each(|piece| reader.feed(piece).unwrap());
        log.chunks(size).for_each(|piece| lines.feed(piece).unwrap());
        assert_eq!(reader.finish(), anchors::check(&anchors, mac));
        assert_eq!(lines.finish(), access_log::check(&log, mac));
    }
}

#[test]
fn anchors_are_followed_from_any_place_and_from_no_false_one() {
    let file = anchors_file(&[1, 2, 3]);
    let record = |n: usize| file[8 + n * 80..].first_chunk().unwrap();
    let after_first = Tail::after(1, record(0));
    let second = after_first.follow(record(1), mac).unwrap();
    assert_eq!((second.count, second.last.unwrap().sequence), (2, 2));
    assert_eq!(
        after_first.follow(record(2), mac),
        Err(anchors::Damaged::Record(2))
    );
    assert!(after_first.follow(record(0), mac).is_err());
}

#[test]
fn any_changed_byte_of_the_anchors_is_damage() {
    let file = anchors_file(&[1, 2, 3]);
    for at in 0..file.len() {
        let mut bad = file.clone();
        bad[at] ^= 1;
        assert!(anchors::check(&bad, mac).is_err(), "byte {at}");
    }
}

#[test]
fn a_removed_swapped_or_repeated_anchor_is_damage() {
    let file = anchors_file(&[1, 2, 3]);
    let record = |n: usize| &file[8 + n * 80..8 + (n + 1) * 80];
    for order in [
        &[1usize, 2][..],
        &[0, 2],
        &[0, 2, 1],
        &[0, 1, 1, 2],
        &[0, 1, 2, 2],
    ] {
        let bad: Vec<u8> = anchors::MAGIC
            .iter()
            .copied()
            .chain(order.iter().flat_map(|n| record(*n).to_vec()))
            .collect();
        assert!(anchors::check(&bad, mac).is_err(), "{order:?}");
    }
}

#[test]
fn anchors_that_do_not_grow_are_damage_even_if_well_signed() {
    assert!(anchors::check(&anchors_file(&[2, 2]), mac).is_err());
    assert!(anchors::check(&anchors_file(&[0]), mac).is_err());
}

#[test]
fn the_log_reads_back() {
    let file = log_file(3);
    let read = access_log::check(&file, mac).unwrap();
    assert_eq!(read.after, None);
    let tail = read.tail;
    assert_eq!(
        (tail.records, tail.generation, tail.whole),
        (3, 6, file.len() as u64)
    );
    assert!(
        String::from_utf8(file)
            .unwrap()
            .lines()
            .nth(1)
            .unwrap()
            .starts_with("1 1000 4 api 990 - PutSecret conn_1,b ALLOWED ")
    );
}

#[test]
fn a_torn_line_is_cut_at_every_length() {
    let file = log_file(2);
    let first = log_file(1).len();
    for length in access_log::HEADER.len()..file.len() {
        let tail = access_log::check(&file[..length], mac).unwrap().tail;
        assert_eq!(tail.records, u64::from(length >= first), "length {length}");
    }
}

#[test]
fn any_changed_byte_of_the_log_is_damage() {
    let file = log_file(3);
    for at in 0..file.len() {
        for flip in [1u8, 0x80] {
            let mut bad = file.clone();
            bad[at] ^= flip;
            assert!(access_log::check(&bad, mac).is_err(), "byte {at}");
        }
    }
}

#[test]
fn a_removed_line_is_damage() {
    let file = log_file(3);
    let lines: Vec<&[u8]> = file.split_inclusive(|byte| *byte == b'\n').collect();
    assert!(access_log::check(&[lines[0], lines[2], lines[3]].concat(), mac).is_err());
    assert!(access_log::check(&[lines[0], lines[1], lines[3]].concat(), mac).is_err());
    assert!(access_log::check(&[lines[0], lines[1], lines[2], lines[2]].concat(), mac).is_err());
}

/// A second file of the log: its first line and one record.
fn following_file() -> (access_log::Link, Vec<u8>) {
    let link = access_log::check(&log_file(3), mac).unwrap().tail.link();
    let (header, tail) = access_log::header_after(&link, mac);
    let body = "4 1000 9 api 990 7 PutSecret - ALLOWED";
    let record = access_log::line(body, &mac(&tail.head, body.as_bytes()));
    (link, (header + &record).into_bytes())
}

#[test]
fn a_file_that_goes_on_from_another_says_from_where() {
    let (link, file) = following_file();
    let read = access_log::check(&file, mac).unwrap();
    assert_eq!(read.after, Some(link));
    assert_eq!((read.tail.records, read.tail.generation), (4, 9));
    assert_eq!(read.tail.whole, file.len() as u64);
}

#[test]
fn any_changed_byte_of_a_file_that_goes_on_is_damage_and_so_is_another_start() {
    let (_, file) = following_file();
    for at in 0..file.len() {
        for flip in [1u8, 0x80] {
            let mut bad = file.clone();
            bad[at] ^= flip;
            assert!(access_log::check(&bad, mac).is_err(), "byte {at}");
        }
    }
    let lines: Vec<&[u8]> = file.split_inclusive(|byte| *byte == b'\n').collect();
    let first = access_log::HEADER.as_bytes();
    assert!(access_log::check(&[first, lines[1]].concat(), mac).is_err());
    assert!(access_log::check(&[first, &file].concat(), mac).is_err());
}

#[test]
fn names_take_a_bounded_part_of_a_line() {
    let long = "a".repeat(253);
    let line = |names: &[&str]| {
        let record = Record {
            number: u64::MAX,
            time: Timestamp(i64::MIN),
            generation: u64::MAX,
            role: Role::Netd,
            uid: u32::MAX,
            pid: Some(i32::MIN),
            action: Action::GetWireguardPrivateKey,
            names: names.iter().map(ToString::to_string).collect(),
            verdict: "NAME_NOT_ALLOWED",
        };
        access_log::line(&record.to_string(), &[0xff; 32])
    };
    let names = |line: &str| line.split(' ').nth(7).unwrap().to_owned();
    assert_eq!(names(&line(&["a", "b", "c"])), "a,b,c");
    assert_eq!(names(&line(&[&long])), long, "one name is told whole");
    assert_eq!(names(&line(&[&long, "b", &long, "c"])), format!("{long},b,+2"));
    assert_eq!(names(&line(&[&"a".repeat(257), "b"])), "+2");
    let worst = line(&[long.as_str(); 16]);
    assert!(worst.len() < 512, "{} bytes", worst.len());
}

#[test]
fn what_has_no_end_is_no_line() {
    let mut reader = access_log::Reader::new(mac);
    reader.feed(&log_file(2)).unwrap();
    let endless = vec![b'a'; access_log::LINE_MAX + 1];
    assert_eq!(reader.feed(&endless), Err(access_log::Damaged::Record(3)));
}

fn secret(name: &str) -> ItemName {
    ItemName::Secret(name.parse().unwrap())
}

#[test]
fn versions_are_compared_and_generations_never_come_back() {
    let now = Timestamp(9);
    let index = Index::default();
    let (index, first) = index.with_written(&secret("a"), 0, 3, 100, now).unwrap();
    assert_eq!(
        first,
        Entry {
            version: 1,
            generation: 1,
            updated: now,
            size: 100,
            revision: 0
        }
    );
    assert_eq!(
        index.with_written(&secret("a"), 0, 3, 100, now).unwrap_err(),
        ChangeRefused::VersionMismatch {
            expected: 0,
            found: 1
        }
    );
    let (index, second) = index.with_written(&secret("a"), 1, 3, 100, now).unwrap();
    assert_eq!((second.version, second.generation), (2, 2));
    assert_eq!(
        index.with_removed(&secret("a"), 1).unwrap_err(),
        ChangeRefused::VersionMismatch {
            expected: 1,
            found: 2
        }
    );
    assert_eq!(
        index.with_removed(&secret("b"), 1).unwrap_err(),
        ChangeRefused::Absent
    );
    let (index, removed) = index.with_removed(&secret("a"), 2).unwrap();
    assert_eq!(removed, second);
    let (_, again) = index.with_written(&secret("a"), 0, 3, 100, now).unwrap();
    assert_eq!(
        (again.version, again.generation),
        (1, 4),
        "a new life of the name is another generation"
    );
}

#[test]
fn count_and_total_are_bounded() {
    let now = Timestamp(0);
    let mut index = Index::default();
    for name in ["a", "b", "c"] {
        index = index.with_written(&secret(name), 0, 3, 10, now).unwrap().0;
    }
    assert_eq!(
        index.with_written(&secret("d"), 0, 3, 10, now).unwrap_err(),
        ChangeRefused::TooMany(3)
    );
    assert!(
        index.with_written(&secret("a"), 1, 3, 10, now).is_ok(),
        "a new version is not one more"
    );
    assert!(
        index.with_written(&ItemName::WireguardKey, 0, 3, 10, now).is_ok(),
        "the vault's own do not count"
    );
    let total = cell_vaultd_core::index::TOTAL_BYTES_MAX;
    assert!(index.with_written(&secret("a"), 1, 3, total - 20, now).is_ok());
    assert_eq!(
        index
            .with_written(&secret("a"), 1, 3, total - 19, now)
            .unwrap_err(),
        ChangeRefused::TooLarge
    );
}

#[test]
fn a_revision_is_kept_and_what_was_written_without_reads_as_none() {
    let now = Timestamp(9);
    let old = "generation 2\nsecret-a 1 1 9 100\nsecret-b 1 2 9 100\n";
    let index = Index::decode(old).unwrap();
    assert!(index.items.values().all(|entry| entry.revision == 0));
    assert_eq!(index.encode(), old, "what has none is written as before");
    let (index, entry) = index
        .with_written_of(&secret("a"), 1, u64::MAX, 3, 100, now)
        .unwrap();
    assert_eq!((entry.version, entry.revision), (2, u64::MAX));
    let read = Index::decode(&index.encode()).unwrap();
    assert_eq!(read.items[&secret("a")], entry);
    assert_eq!(read.items[&secret("b")].revision, 0);
    let (index, entry) = read.with_written(&secret("a"), 2, 3, 100, now).unwrap();
    assert_eq!(entry.revision, 0, "each write says its own");
    let own = index.with_written_of(&ItemName::WireguardKey, 0, 5, 3, 10, now);
    assert_eq!(own.unwrap().1.revision, 0, "the vault's own are of no import");
    assert_eq!(Index::decode(&index.encode()).unwrap(), index);
}

#[test]
fn odd_indexes_are_refused() {
    for bad in [
        "",
        "generation x\n",
        "generation 1",
        "generation 01\n",
        "generation 1\nca-root 1 2 3 4\n",
        "generation 1\nca-root 0 1 3 4\n",
        "generation 1\nca-root 1 1 3 4 5\n",
        "generation 1\nca-root 1 1 3\n",
        "generation 1\nsecret-a 1 1 3 4 0\n",
        "generation 1\nsecret-a 1 1 3 4 x\n",
        "generation 1\nsecret-a 1 1 3 4 5 6\n",
        "generation 1\nother 1 1 3 4\n",
        "generation 1\nsecret-A 1 1 3 4\n",
        "generation 2\nca-root 1 1 3 4\nca-root 2 2 3 4\n",
        "generation 2\nsecret-b 1 1 3 4\nsecret-a 2 2 3 4\n",
    ] {
        assert!(Index::decode(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn the_vaults_own_items_cannot_be_named_by_a_caller() {
    for name in [
        ItemName::RootAuthority,
        ItemName::IntermediateAuthority,
        ItemName::WireguardKey,
    ] {
        assert!(name.to_string().parse::<cell_vaultd_core::SecretName>().is_err());
        assert_eq!(name.to_string().parse::<ItemName>(), Ok(name));
    }
    assert_eq!(secret("ca_root").file_name(7), "secret-ca_root.7.sealed");
}

fn sealed_example() -> Vec<u8> {
    let mut file = sealed::header("secret-a", 3, 9);
    file.extend((0..24 + 48 + 24 + 80).map(|n| n as u8));
    file
}

#[test]
fn a_sealed_file_is_taken_apart_to_the_last_byte() {
    let file = sealed_example();
    let parsed = sealed::parse(&file).unwrap();
    assert_eq!(
        (parsed.name, parsed.version, parsed.generation),
        ("secret-a", 3, 9)
    );
    assert_eq!(parsed.header, sealed::header("secret-a", 3, 9));
    let parts = [
        parsed.header,
        parsed.key_nonce,
        parsed.wrapped_key,
        parsed.value_nonce,
        parsed.value,
    ]
    .concat();
    assert_eq!(parts, file);
    assert_eq!(
        sealed::sealed_length("secret-a", 80 - sealed::TAG_BYTES),
        file.len()
    );
}

#[test]
fn a_sealed_file_cut_anywhere_is_refused() {
    let file = sealed_example();
    let least = file.len() - 80 + sealed::TAG_BYTES;
    for length in 0..least {
        assert!(sealed::parse(&file[..length]).is_err(), "length {length}");
    }
}

#[test]
fn lengths_within_a_bucket_cannot_be_told_apart() {
    for (length, bucket) in [
        (1, 64),
        (60, 64),
        (61, 256),
        (252, 256),
        (253, 1024),
        (65_536, 65_540),
    ] {
        let mut padded = Vec::new();
        assert!(padding::pad(&vec![7; length], &mut padded));
        assert_eq!(padded.len(), bucket, "{length}");
        assert_eq!(padding::unpad(&padded).unwrap(), vec![7; length]);
    }
    assert!(!padding::pad(&vec![7; 65_537], &mut Vec::new()));
}

proptest! {
    #[test]
    fn padding_is_undone_and_nothing_else_is(value in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut padded = Vec::new();
        prop_assert!(padding::pad(&value, &mut padded));
        prop_assert_eq!(padding::unpad(&padded).unwrap(), &value[..]);
        let last = padded.len() - 1;
        if value.len() + 4 <= last {
            padded[last] = 1;
            prop_assert!(padding::unpad(&padded).is_err());
        }
        padded.push(0);
        prop_assert!(padding::unpad(&padded).is_err());
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), magic in 0..4) {
        let with = |prefix: &[u8]| [prefix, &bytes].concat();
        let _ = match magic {
            0 => sealed::parse(&with(sealed::MAGIC)).is_ok(),
            1 => anchors::check(&with(anchors::MAGIC), mac).is_ok(),
            2 => access_log::check(&with(access_log::HEADER.as_bytes()), mac).is_ok(),
            _ => padding::unpad(&bytes).is_ok(),
        };
        let _ = Index::decode(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn an_index_survives_being_written_down(names in prop::collection::btree_set("[a-z][a-z0-9_]{0,20}", 0..20)) {
        let mut index = Index::default();
        for (n, name) in names.iter().enumerate() {
            index = index.with_written(&secret(name), 0, 100, n as u64, Timestamp(-5 + n as i64)).unwrap().0;
        }
        prop_assert_eq!(Index::decode(&index.encode()).unwrap(), index);
    }
}
