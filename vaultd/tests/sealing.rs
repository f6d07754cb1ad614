//! Without the right key nothing opens and nothing is touched.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use cell_vaultd::files::StateFolder;
use cell_vaultd::kek::Kek;
use cell_vaultd::vault::{self, Surroundings};
use cell_vaultd_core::Timestamp;
use cell_vaultd_core::seal::{KekFinding, SealReason};
use common::{API, HandClock, KEK, NETD, content, open_in, open_with, policy, some_day, value};

fn open_without(folder: &Path, finding: KekFinding) -> Option<SealReason> {
    let around = Surroundings {
        policy: policy(Path::new("/state")),
        files: Arc::new(StateFolder::new(folder)),
        clock: some_day(),
    };
    vault::open(around, Err(finding)).err()
}

#[test]
fn a_credential_is_thirty_two_bytes_or_none() {
    let credentials = tempfile::tempdir().unwrap();
    let read = || Kek::read(Some(credentials.path())).err();
    assert_eq!(Kek::read(None).err(), Some(KekFinding::Missing));
    assert_eq!(read(), Some(KekFinding::Missing));
    for (length, found) in [
        (0, Some(KekFinding::WrongLength)),
        (31, Some(KekFinding::WrongLength)),
        (32, None),
        (33, Some(KekFinding::WrongLength)),
        (100_000, Some(KekFinding::WrongLength)),
    ] {
        fs::write(credentials.path().join("kek"), vec![7; length]).unwrap();
        assert_eq!(read(), found, "{length} bytes");
    }
}

#[test]
fn a_missing_short_or_wrong_key_seals_and_touches_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    open_in(folder.path())
        .unwrap()
        .put_secret(&API, "conn_a", &value(b"alpha"), 0, 0)
        .unwrap();
    let before = content(folder.path());
    assert_eq!(
        open_without(folder.path(), KekFinding::Missing),
        Some(SealReason::KekMissing)
    );
    assert_eq!(
        open_without(folder.path(), KekFinding::WrongLength),
        Some(SealReason::KekLength)
    );
    for bit in 0..256 {
        let mut other = KEK;
        other[bit / 8] ^= 1 << (bit % 8);
        let sealed = open_with(Arc::new(StateFolder::new(folder.path())), some_day(), &other).err();
        assert_eq!(sealed, Some(SealReason::KekWrong), "bit {bit}");
    }
    assert_eq!(content(folder.path()), before);
    assert!(open_in(folder.path()).is_ok(), "the right key still opens it");
}

#[test]
fn without_a_key_an_empty_folder_stays_empty() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        open_without(folder.path(), KekFinding::Missing),
        Some(SealReason::KekMissing)
    );
    assert_eq!(content(folder.path()), Default::default());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_clock_that_was_not_set_makes_no_authority_but_opens_one() {
    let folder = tempfile::tempdir().unwrap();
    let files = || Arc::new(StateFolder::new(folder.path()));
    let unset = || HandClock::at(Timestamp(60_000));
    assert_eq!(
        open_with(files(), unset(), &KEK).err(),
        Some(SealReason::ClockUnset)
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    open_with(files(), some_day(), &KEK).unwrap();
    let mut vault = open_with(files(), unset(), &KEK).unwrap();
    assert!(
        vault.wireguard_private_key(&NETD).is_ok(),
        "tunnels need no clock"
    );
    let refused = vault
        .issue_server_certificate(&API, &common::request(&["a.cell"], &[]))
        .unwrap_err();
    assert_eq!(refused.reason(), "CLOCK_UNSET");
}

#[test]
fn two_vaults_with_the_same_key_share_nothing() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut first = open_in(one.path()).unwrap();
    let mut second = open_in(other.path()).unwrap();
    assert_ne!(
        first.trust_bundle(&API).unwrap(),
        second.trust_bundle(&API).unwrap()
    );
    first.put_secret(&API, "conn_a", &value(b"alpha"), 0, 0).unwrap();
    second.put_secret(&API, "conn_a", &value(b"alpha"), 0, 0).unwrap();
    drop((first, second));
    let from = common::file_of(one.path(), "secret-conn_a");
    fs::copy(&from, common::file_of(other.path(), "secret-conn_a")).unwrap();
    let status = open_in(other.path()).unwrap().status(&API).unwrap();
    assert!(
        status
            .aspects
            .iter()
            .any(|aspect| aspect.reason == "SECRET_DAMAGED")
    );
}

#[test]
fn no_value_and_no_key_lies_in_the_folder_in_the_clear() {
    let folder = tempfile::tempdir().unwrap();
    let mut vault = open_in(folder.path()).unwrap();
    let secret = b"correct horse battery staple";
    vault.put_secret(&API, "conn_a", &value(secret), 0, 0).unwrap();
    let key = vault.wireguard_private_key(&NETD).unwrap();
    for (path, bytes) in content(folder.path()) {
        for needle in [secret.as_slice(), key.as_slice(), KEK.as_slice()] {
            assert!(
                !bytes.windows(needle.len()).any(|window| window == needle),
                "{path:?}"
            );
        }
        // PKCS #8 of a P-256 key begins so; neither CA key may be there.
        let pkcs8 = [0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13];
        assert!(
            !bytes.windows(pkcs8.len()).any(|window| window == pkcs8),
            "{path:?}"
        );
    }
}
