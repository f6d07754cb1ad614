//! The store's contract, over files on the disk and over files in memory.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cell_vaultd::files::{Files, StateFolder};
use cell_vaultd::kek::Kek;
use cell_vaultd::keyring::Keyring;
use cell_vaultd::store::{Store, StoreError};
use cell_vaultd_core::index::ChangeRefused;
use cell_vaultd_core::{ItemName, Timestamp};
use common::memory::MemoryFiles;

const NOW: Timestamp = Timestamp(1);

fn secret(name: &str) -> ItemName {
    ItemName::Secret(name.parse().unwrap())
}

fn keyring() -> Arc<Keyring> {
    Arc::new(Keyring::create(&Kek::from_bytes(&common::KEK)).unwrap().0)
}

/// Runs `test` on a fresh store of each kind, with a way to open it once more.
fn on_both(test: impl Fn(Store, &dyn Fn() -> Store)) {
    let on_disk = tempfile::tempdir().unwrap();
    let kinds: [Arc<dyn Files>; 2] = [
        Arc::new(StateFolder::new(on_disk.path())),
        Arc::new(MemoryFiles::default()),
    ];
    for files in kinds {
        let keyring = keyring();
        let store = Store::create(Arc::clone(&files), PathBuf::new(), Arc::clone(&keyring)).unwrap();
        test(store, &|| {
            Store::open(Arc::clone(&files), PathBuf::new(), Arc::clone(&keyring)).unwrap()
        });
    }
}

#[test]
fn what_is_written_is_read_back_now_and_after_a_restart() {
    on_both(|mut store, reopen| {
        assert!(store.read(&secret("a")).unwrap().is_none());
        for (version, text) in [
            (0, "one"),
            (
                1,
                "two, which is longer than sixty-four bytes and so in the next bucket..",
            ),
        ] {
            let entry = store
                .write(&secret("a"), text.as_bytes(), version, 9, NOW)
                .unwrap();
            assert_eq!(entry.version, version + 1);
            for store in [&store, &reopen()] {
                assert_eq!(**store.read(&secret("a")).unwrap().unwrap(), *text.as_bytes());
                assert_eq!(store.index().items.len(), 1);
            }
        }
    });
}

#[test]
fn a_revision_stays_with_its_value_over_a_restart() {
    on_both(|mut store, reopen| {
        store.write(&secret("a"), b"old", 0, 9, NOW).unwrap();
        for (version, revision) in [(1, 7), (2, 0), (3, u64::MAX)] {
            let revised = |store: &Store| store.index().items[&secret("a")].revision;
            let entry = store
                .write_of(&secret("a"), b"new", version, revision, 9, NOW)
                .unwrap();
            assert_eq!(
                (entry.revision, revised(&store), revised(&reopen())),
                (revision, revision, revision)
            );
            assert_eq!(**reopen().read(&secret("a")).unwrap().unwrap(), *b"new");
        }
    });
}

#[test]
fn a_removed_item_is_gone_and_its_name_is_free() {
    on_both(|mut store, reopen| {
        store.write(&secret("a"), b"1", 0, 9, NOW).unwrap();
        store.remove(&secret("a"), 1).unwrap();
        assert!(reopen().read(&secret("a")).unwrap().is_none());
        assert_eq!(store.write(&secret("a"), b"2", 0, 9, NOW).unwrap().version, 1);
        assert_eq!(**reopen().read(&secret("a")).unwrap().unwrap(), *b"2");
    });
}

#[test]
fn a_refused_change_changes_nothing() {
    on_both(|mut store, reopen| {
        store.write(&secret("a"), b"1", 0, 2, NOW).unwrap();
        store.write(&secret("b"), b"1", 0, 2, NOW).unwrap();
        let before = store.index().clone();
        let refused = |result: Result<(), StoreError>| match result {
            Err(StoreError::Refused(refused)) => refused,
            other => panic!("{other:?}"),
        };
        let mismatch = |expected, found| ChangeRefused::VersionMismatch { expected, found };
        let mut write =
            |name, expected| refused(store.write(&secret(name), b"x", expected, 2, NOW).map(drop));
        assert_eq!(write("a", 0), mismatch(0, 1));
        assert_eq!(write("a", 2), mismatch(2, 1));
        assert_eq!(write("c", 1), mismatch(1, 0));
        assert_eq!(write("c", 0), ChangeRefused::TooMany(2));
        assert_eq!(refused(store.remove(&secret("a"), 2)), mismatch(2, 1));
        assert_eq!(refused(store.remove(&secret("c"), 1)), ChangeRefused::Absent);
        assert!(matches!(
            store.write(&secret("a"), &[], 1, 2, NOW),
            Err(StoreError::Length)
        ));
        assert!(matches!(
            store.write(&secret("a"), &[0; 65_537], 1, 2, NOW),
            Err(StoreError::Length)
        ));
        assert_eq!((store.index(), reopen().index()), (&before, &before));
    });
}

#[test]
fn every_length_of_value_is_kept() {
    on_both(|mut store, reopen| {
        for (version, length) in [1, 59, 60, 61, 252, 253, 4_092, 4_093, 65_535, 65_536]
            .into_iter()
            .enumerate()
        {
            let value: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            store.write(&secret("a"), &value, version as u64, 9, NOW).unwrap();
            assert_eq!(**reopen().read(&secret("a")).unwrap().unwrap(), value);
        }
    });
}

#[test]
fn files_are_ours_alone_and_what_is_no_longer_named_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let files: Arc<dyn Files> = Arc::new(StateFolder::new(folder.path()));
    let keyring = keyring();
    let mut store = Store::create(Arc::clone(&files), PathBuf::new(), Arc::clone(&keyring)).unwrap();
    for version in 0..3 {
        store.write(&secret("a"), b"x", version, 9, NOW).unwrap();
    }
    let present = || {
        let mut names: Vec<String> = common::content(folder.path())
            .into_keys()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(present(), ["index.sealed", "secret-a.3.sealed"]);
    for path in common::content(folder.path()).into_keys() {
        assert_eq!(
            path.metadata().unwrap().permissions().mode() & 0o7777,
            0o600,
            "{path:?}"
        );
    }
    for left in ["secret-a.2.sealed", "secret-b.9.sealed", "index.draft"] {
        std::fs::write(folder.path().join(left), b"left by a crash").unwrap();
    }
    std::fs::write(folder.path().join("notes.txt"), b"not ours").unwrap();
    Store::open(files, PathBuf::new(), keyring).unwrap();
    assert_eq!(present(), ["index.sealed", "notes.txt", "secret-a.3.sealed"]);
}

#[test]
fn a_link_in_the_folder_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::NamedTempFile::new().unwrap();
    let files = StateFolder::new(folder.path());
    std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).unwrap();
    assert!(files.read(Path::new("link"), 10).is_err());
    assert!(files.append(Path::new("link"), b"x").is_err());
    assert!(files.truncate(Path::new("link"), 0).is_err());
    assert!(files.create(Path::new("link"), b"x").is_err());
}

#[test]
fn no_length_of_a_file_tells_more_than_the_bucket() {
    let length = |value: usize| {
        let folder = tempfile::tempdir().unwrap();
        let files: Arc<dyn Files> = Arc::new(StateFolder::new(folder.path()));
        let mut store = Store::create(files, PathBuf::new(), keyring()).unwrap();
        store.write(&secret("a"), &vec![1; value], 0, 9, NOW).unwrap();
        folder.path().join("secret-a.1.sealed").metadata().unwrap().len()
    };
    assert_eq!(length(1), length(60));
    assert_eq!(length(61), length(252));
    assert_ne!(length(60), length(61));
}
