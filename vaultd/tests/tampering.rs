//! With write access to the state folder and without the key: every change is found, and what is found is told.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cell_vaultd::files::StateFolder;
use cell_vaultd::vault::Vault;
use cell_vaultd_core::seal::SealReason;
use common::{API, KEK, NETD, content, file_of, open_in, open_with, some_day, value};

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A vault with two secrets of the same length, a WireGuard key, records and anchors.
fn prepared(folder: &Path) -> Files {
    let mut vault = open_in(folder).unwrap();
    vault.put_secret(&API, "conn_a", &value(b"alpha"), 0, 0).unwrap();
    vault.put_secret(&API, "conn_b", &value(b"bravo"), 0, 0).unwrap();
    vault.wireguard_private_key(&NETD).unwrap();
    vault.append_anchor(&API, 1, &[1; 32]).unwrap();
    vault.append_anchor(&API, 2, &[2; 32]).unwrap();
    content(folder)
}

fn restore(folder: &Path, files: &Files) {
    for path in content(folder).into_keys() {
        fs::remove_file(path).unwrap();
    }
    for (path, bytes) in files {
        fs::write(path, bytes).unwrap();
    }
}

/// What a start says of the folder: the seal reason, or the conditions that do not hold.
fn verdict(folder: &Path) -> Result<Vec<&'static str>, SealReason> {
    let mut vault = open_with(Arc::new(StateFolder::new(folder)), some_day(), &KEK)?;
    Ok(failing(&mut vault))
}

fn failing(vault: &mut Vault) -> Vec<&'static str> {
    vault
        .status(&API)
        .unwrap()
        .aspects
        .iter()
        .filter(|aspect| !aspect.holds)
        .map(|aspect| aspect.reason)
        .collect()
}

#[test]
fn an_untouched_folder_is_well() {
    let folder = tempfile::tempdir().unwrap();
    prepared(folder.path());
    assert_eq!(verdict(folder.path()), Ok(vec![]));
}

/// Every byte of every file, and every file shortened by one byte, lengthened by one, emptied and removed.
#[test]
fn any_changed_byte_of_any_file_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let good = prepared(folder.path());
    let expected = |file: &str| match file {
        "verifier" => vec![Err(SealReason::KekWrong), Err(SealReason::StateDamaged)],
        "access.log" => vec![Ok(vec!["LOG_DAMAGED"])],
        "anchors" => vec![Ok(vec!["ANCHORS_DAMAGED"])],
        secret if secret.starts_with("secret-") => vec![Ok(vec!["SECRET_DAMAGED"])],
        _ => vec![Err(SealReason::StateDamaged)],
    };
    let mut changes = 0;
    for (path, bytes) in &good {
        let file = path.file_name().unwrap().to_str().unwrap();
        if file == "lock" {
            continue;
        }
        let check = |changed: Option<&[u8]>, what: &str| {
            match changed {
                Some(changed) => fs::write(path, changed).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
            let found = verdict(folder.path());
            assert!(expected(file).contains(&found), "{file}, {what}: {found:?}");
            restore(folder.path(), &good);
        };
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            check(Some(&changed), &format!("byte {at}"));
            changes += 1;
        }
        check(Some(&[]), "emptied");
        check(None, "removed");
        // A log or the anchors with a torn end is what a crash leaves: the end is cut off, and the rest holds.
        if file != "access.log" && file != "anchors" {
            check(Some(&bytes[..bytes.len() - 1]), "shortened");
            check(Some(&[bytes.as_slice(), b"x"].concat()), "lengthened");
        }
    }
    assert!(changes > 2_000, "only {changes} changes were tried");
}

#[test]
fn two_secrets_that_changed_places_are_found() {
    let folder = tempfile::tempdir().unwrap();
    prepared(folder.path());
    let (a, b) = (
        file_of(folder.path(), "secret-conn_a"),
        file_of(folder.path(), "secret-conn_b"),
    );
    let (alpha, bravo) = (fs::read(&a).unwrap(), fs::read(&b).unwrap());
    assert_eq!(alpha.len(), bravo.len());
    fs::write(&a, bravo).unwrap();
    fs::write(&b, alpha).unwrap();
    let mut vault = open_in(folder.path()).unwrap();
    let status = vault.status(&API).unwrap();
    let told = status
        .aspects
        .iter()
        .find(|aspect| aspect.reason == "SECRET_DAMAGED")
        .unwrap();
    assert!(
        told.message.contains("conn_a") && told.message.contains("conn_b"),
        "{told:?}"
    );
}

#[test]
fn the_older_file_of_a_secret_is_found_even_from_an_earlier_life_of_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut vault = open_in(folder.path()).unwrap();
    vault.put_secret(&API, "conn_a", &value(b"first"), 0, 0).unwrap();
    let first = fs::read(file_of(folder.path(), "secret-conn_a")).unwrap();
    vault.put_secret(&API, "conn_a", &value(b"second"), 1, 0).unwrap();
    let write = |bytes| fs::write(file_of(folder.path(), "secret-conn_a"), bytes).unwrap();
    write(&first);
    assert_eq!(verdict(folder.path()), Ok(vec!["SECRET_DAMAGED"]));
    vault.delete_secret(&API, "conn_a", 2).unwrap();
    assert_eq!(
        vault
            .put_secret(&API, "conn_a", &value(b"third"), 0, 0)
            .unwrap()
            .version,
        1
    );
    write(&first);
    assert_eq!(
        verdict(folder.path()),
        Ok(vec!["SECRET_DAMAGED"]),
        "version 1 of another life"
    );
}

#[test]
fn a_damaged_secret_is_replaced_or_removed_and_then_all_is_well() {
    let folder = tempfile::tempdir().unwrap();
    prepared(folder.path());
    for name in ["secret-conn_a", "secret-conn_b"] {
        fs::write(file_of(folder.path(), name), b"damaged").unwrap();
    }
    let mut vault = open_in(folder.path()).unwrap();
    assert_eq!(failing(&mut vault), ["SECRET_DAMAGED"]);
    vault.put_secret(&API, "conn_a", &value(b"again"), 1, 0).unwrap();
    vault.delete_secret(&API, "conn_b", 1).unwrap();
    assert_eq!(failing(&mut vault), [""; 0]);
    assert_eq!(verdict(folder.path()), Ok(vec![]));
}

#[test]
fn an_older_vault_under_a_newer_log_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let yesterday = prepared(folder.path());
    let mut vault = open_in(folder.path()).unwrap();
    vault.rotate_secret(&API, "conn_a", 1).unwrap();
    vault.rotate_secret(&API, "conn_a", 2).unwrap();
    drop(vault);
    let mixed = |keep: &str| {
        let today = content(folder.path());
        let mut files = yesterday.clone();
        for (path, bytes) in today {
            if path.ends_with(keep) {
                files.insert(path, bytes);
            }
        }
        files
    };
    let files = mixed("access.log");
    restore(folder.path(), &files);
    assert_eq!(verdict(folder.path()), Err(SealReason::StateRolledBack));
    // The whole folder of yesterday cannot be told from yesterday; the README says so.
    restore(folder.path(), &yesterday);
    assert_eq!(verdict(folder.path()), Ok(vec![]));
}

#[test]
fn an_older_index_alone_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let mut vault = open_in(folder.path()).unwrap();
    vault.put_secret(&API, "conn_a", &value(b"first"), 0, 0).unwrap();
    let index = folder.path().join("vault/index.sealed");
    let older = fs::read(&index).unwrap();
    vault.put_secret(&API, "conn_a", &value(b"second"), 1, 0).unwrap();
    fs::write(&index, older).unwrap();
    assert_eq!(
        verdict(folder.path()),
        Ok(vec!["SECRET_DAMAGED"]),
        "the file that it names is gone"
    );
}

#[test]
fn a_damaged_log_is_kept_and_a_new_one_begun_and_the_condition_stays_until_it_is_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    prepared(folder.path());
    let log = folder.path().join("vault/access.log");
    let damaged = fs::read_to_string(&log)
        .unwrap()
        .replace(" api 990 ", " api 991 ");
    fs::write(&log, &damaged).unwrap();
    for _ in 0..2 {
        let mut vault = open_in(folder.path()).unwrap();
        vault.list_secrets(&API, "").unwrap();
        assert_eq!(failing(&mut vault), ["LOG_DAMAGED"]);
    }
    let kept = folder.path().join("vault/access.log.damaged-1");
    assert_eq!(fs::read_to_string(&kept).unwrap(), damaged);
    assert_eq!(
        fs::read_to_string(&log).unwrap().lines().count(),
        3,
        "header and two records"
    );
    fs::remove_file(kept).unwrap();
    assert_eq!(verdict(folder.path()), Ok(vec![]));
}

#[test]
fn damaged_anchors_are_reported_and_neither_told_nor_repaired() {
    let folder = tempfile::tempdir().unwrap();
    prepared(folder.path());
    let path = folder.path().join("vault/anchors");
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let mut vault = open_in(folder.path()).unwrap();
    assert_eq!(
        vault.append_anchor(&API, 9, &[9; 32]).unwrap_err().reason(),
        "ANCHORS_DAMAGED"
    );
    assert_eq!(
        vault.list_anchors(&API, 0).unwrap_err().reason(),
        "ANCHORS_DAMAGED"
    );
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert!(
        vault.put_secret(&API, "conn_c", &value(b"x"), 0, 0).is_ok(),
        "the rest works"
    );
}

#[test]
fn a_torn_anchor_is_cut_off_and_the_next_one_follows() {
    let folder = tempfile::tempdir().unwrap();
    prepared(folder.path());
    let path = folder.path().join("vault/anchors");
    let whole = fs::read(&path).unwrap();
    for torn in 1..80 {
        fs::write(&path, &whole[..whole.len() - torn]).unwrap();
        let mut vault = open_in(folder.path()).unwrap();
        assert_eq!(
            vault.list_anchors(&API, 0).unwrap().len(),
            1,
            "{torn} bytes short"
        );
        vault.append_anchor(&API, 2, &[2; 32]).unwrap();
        drop(vault);
        assert_eq!(
            open_in(folder.path())
                .unwrap()
                .list_anchors(&API, 0)
                .unwrap()
                .len(),
            2
        );
    }
}
