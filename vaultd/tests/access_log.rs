//! The access log over many files: what a crash leaves is gone on with, what is missing is found, and what is kept is
//! bounded.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cell_vaultd::files::Files;
use cell_vaultd::kek::Kek;
use cell_vaultd::keyring::Keyring;
use cell_vaultd::log::{AccessLog, Limits, OpenLogError};
use cell_vaultd_core::access_log::{Damaged, Record};
use cell_vaultd_core::{Action, Role, Timestamp};
use common::faulty::{Fault, FaultyFiles};
use common::memory::{LOSSES, Loss, MemoryFiles};
use common::{API, KEK, open_with, some_day};

/// Three or four records a file.
const SMALL: Limits = Limits {
    file_bytes: 400,
    closed_files: 3,
};

fn record() -> Record {
    Record {
        number: 0,
        time: Timestamp(1_000),
        generation: 7,
        role: Role::Api,
        uid: 990,
        pid: None,
        action: Action::ListSecrets,
        names: Vec::new(),
        verdict: "ALLOWED",
    }
}

fn keyring() -> Arc<Keyring> {
    Arc::new(Keyring::create(&Kek::from_bytes(&KEK)).unwrap().0)
}

fn open(files: &Arc<MemoryFiles>, keyring: &Arc<Keyring>) -> Result<AccessLog, OpenLogError> {
    let files = Arc::clone(files) as Arc<dyn Files>;
    AccessLog::open(files, PathBuf::new(), Arc::clone(keyring), SMALL)
}

/// A log of `records` records.
fn written(records: u64, keyring: &Arc<Keyring>) -> Arc<MemoryFiles> {
    let files = Arc::new(MemoryFiles::default());
    let dynamic = Arc::clone(&files) as Arc<dyn Files>;
    let mut log = AccessLog::create(dynamic, PathBuf::new(), Arc::clone(keyring), SMALL).unwrap();
    files.sync(Path::new("")).unwrap();
    for _ in 0..records {
        log.append(record()).unwrap();
    }
    files
}

fn names(files: &MemoryFiles) -> Vec<String> {
    files.list(Path::new("")).unwrap().unwrap()
}

fn bytes(files: &MemoryFiles) -> usize {
    let length = |name: &String| files.read(Path::new(name), u64::MAX).unwrap().unwrap().len();
    names(files).iter().map(length).sum()
}

#[test]
fn a_log_goes_on_over_its_files_and_the_oldest_go() {
    let keyring = keyring();
    for records in 0..60 {
        let files = written(records, &keyring);
        let mut log = open(&files, &keyring).unwrap();
        assert_eq!(log.records(), records);
        assert_eq!(log.generation(), if records == 0 { 0 } else { 7 });
        log.append(record()).unwrap();
        assert_eq!(open(&files, &keyring).unwrap().records(), records + 1);
        assert!(
            names(&files).len() <= 4 && bytes(&files) < 4 * 550,
            "{records} records"
        );
    }
    let files = written(60, &keyring);
    assert_eq!(
        names(&files).len(),
        4,
        "three closed ones and the one that is written to"
    );
    assert!(!names(&files).contains(&"access.log.000001".to_owned()));
}

#[test]
fn a_file_that_is_missing_shortened_or_another_is_found() {
    let keyring = keyring();
    for records in [20, 60] {
        let all = names(&written(records, &keyring));
        let all: Vec<&Path> = all.iter().map(Path::new).collect();
        assert_eq!(all.len(), 4, "{records} records");
        for name in &all {
            let files = written(records, &keyring);
            files.remove(name).unwrap();
            assert!(damaged(&files, &keyring), "{records} records, without {name:?}");
        }
        for name in &all[1..] {
            let files = written(records, &keyring);
            let length = files.read(name, u64::MAX).unwrap().unwrap().len() as u64;
            files.truncate(name, length - 1).unwrap();
            assert!(damaged(&files, &keyring), "{records} records, {name:?} cut");
            let files = written(records, &keyring);
            files.rename(name, all[0]).unwrap();
            assert!(
                damaged(&files, &keyring),
                "{records} records, {name:?} for {:?}",
                all[0]
            );
        }
    }
    let files = written(60, &keyring);
    assert!(!damaged(&files, &keyring), "the control: an untouched log");
}

fn damaged(files: &Arc<MemoryFiles>, keyring: &Arc<Keyring>) -> bool {
    match open(files, keyring) {
        Ok(_) => false,
        Err(OpenLogError::Damaged(Damaged::Header | Damaged::Record(_) | Damaged::File(_))) => true,
        Err(OpenLogError::Io(error)) => panic!("{error}"),
    }
}

#[test]
fn a_log_that_dies_at_any_step_between_two_files_goes_on() {
    let keyring = keyring();
    let mut points = 0;
    // From the first change of files to the first that lets one go.
    for records in 0..20 {
        for at in 0.. {
            let files = written(records, &keyring);
            let faulty = FaultyFiles::new(Arc::clone(&files) as Arc<dyn Files>, Fault::Death, at);
            let dynamic = Arc::clone(&faulty) as Arc<dyn Files>;
            let mut log = AccessLog::open(dynamic, PathBuf::new(), Arc::clone(&keyring), SMALL).unwrap();
            let done = log.append(record());
            for loss in LOSSES {
                let left = Arc::new(files.after(loss));
                let mut log = open(&left, &keyring)
                    .unwrap_or_else(|error| panic!("{records} records, step {at}, {loss:?}: {error}"));
                let least = records + u64::from(done.is_ok());
                assert!(
                    (least..=records + 1).contains(&log.records()),
                    "{records} records, step {at}, {loss:?}: {}",
                    log.records()
                );
                log.append(record()).unwrap();
                assert!(
                    open(&left, &keyring).is_ok(),
                    "{records} records, step {at}, {loss:?}"
                );
                points += 1;
            }
            if !faulty.struck() {
                break;
            }
        }
    }
    assert!(points > 250, "only {points} points were tried");
}

#[test]
fn a_log_whose_disk_fails_once_says_so_and_goes_on_at_the_latest_after_a_start() {
    let keyring = keyring();
    for records in 0..20 {
        for at in 0.. {
            let files = written(records, &keyring);
            let faulty = FaultyFiles::new(Arc::clone(&files) as Arc<dyn Files>, Fault::Once, at);
            let dynamic = Arc::clone(&faulty) as Arc<dyn Files>;
            let mut log = AccessLog::open(dynamic, PathBuf::new(), Arc::clone(&keyring), SMALL).unwrap();
            let _ = log.append(record());
            if !faulty.struck() {
                break;
            }
            let _ = log.append(record());
            let mut log = open(&Arc::new(files.after(Loss::Nothing)), &keyring)
                .unwrap_or_else(|error| panic!("{records} records, step {at}: {error}"));
            log.append(record()).unwrap();
        }
    }
}

/// The whole vault, by its own limits: a caller that asks for all it may is recorded in bounded lines, and over more than one file.
#[test]
fn a_vault_under_a_flood_of_refusals_keeps_a_bounded_log_that_opens_again() {
    let files = Arc::new(MemoryFiles::default());
    let clock = some_day();
    let around = || Arc::clone(&files) as Arc<dyn Files>;
    let mut vault = open_with(around(), clock.clone(), &KEK).unwrap();
    let long = format!("{0}.{0}.{0}.example", "a".repeat(63));
    let labels: Vec<String> = (0..16).map(|n| format!("n{n}.{long}")).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let request = common::request(&labels, &[]);
    let mut closed = 0;
    for n in 0_u32.. {
        if n.is_multiple_of(300) {
            clock.turn(60_000);
            let found = files.list(Path::new("vault")).unwrap().unwrap();
            closed = found
                .iter()
                .filter(|name| name.starts_with("access.log.0"))
                .count();
            if closed == 1 {
                assert!(n > 15_000, "a file was full after {n} records");
                break;
            }
        }
        let refused = vault.issue_server_certificate(&API, &request).unwrap_err();
        assert_eq!(refused.reason(), "NAME_NOT_ALLOWED");
    }
    drop(vault);
    let mut vault = open_with(around(), clock, &KEK).unwrap();
    assert_eq!(closed, 1);
    assert!(
        vault
            .status(&API)
            .unwrap()
            .aspects
            .iter()
            .all(|aspect| aspect.holds)
    );
}
