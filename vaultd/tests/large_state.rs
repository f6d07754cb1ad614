//! A log and anchors far longer than vaultd may have memory: it opens, tells, goes on, and stays small. A program of its own,
//! because memory is measured for the whole process.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use cell_vaultd::files::StateFolder;
use cell_vaultd::kek::Kek;
use cell_vaultd::keyring::Keyring;
use cell_vaultd_core::access_log::{self, Record};
use cell_vaultd_core::anchors::{self, Anchor};
use cell_vaultd_core::{Action, Role, Timestamp};
use common::{API, KEK, open_in, open_with, some_day};

const CHILD: &str = "CELL_VAULTD_TEST_CHILD";
const FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Most that a process may ever have held, bytes: half of one of the files, most of it the test program itself.
const PEAK_MAX: u64 = FILE_BYTES / 2;
const ANCHORS: u64 = FILE_BYTES / 80;

/// Writes a log in one file, as before there were several, and anchors.
fn prepare(folder: &Path) {
    drop(open_in(folder).unwrap());
    let vault = folder.join("vault");
    let verifier = std::fs::read(vault.join("verifier")).unwrap();
    let keyring = Keyring::open(&Kek::from_bytes(&KEK), &verifier).unwrap().unwrap();
    let mut log = BufWriter::new(File::create(vault.join("access.log")).unwrap());
    log.write_all(access_log::HEADER.as_bytes()).unwrap();
    let (mut head, mut written, mut number) = ([0; 32], 0, 0);
    while written < FILE_BYTES {
        number += 1;
        let body = Record {
            number,
            time: Timestamp(1_000),
            generation: 1,
            role: Role::Api,
            uid: 990,
            pid: Some(4711),
            action: Action::IssueServerCertificate,
            names: vec!["a".repeat(250)],
            verdict: "NAME_NOT_ALLOWED",
        }
        .to_string();
        head = keyring.log_mac(&head, body.as_bytes());
        let line = access_log::line(&body, &head);
        log.write_all(line.as_bytes()).unwrap();
        written += line.len() as u64;
    }
    log.flush().unwrap();
    let mut file = BufWriter::new(File::create(vault.join("anchors")).unwrap());
    file.write_all(anchors::MAGIC).unwrap();
    let mut head = [0; 32];
    for sequence in 1..=ANCHORS {
        let body = Anchor {
            // With gaps, so that a page can be asked for from between two.
            sequence: sequence * 3,
            hash: [7; 32],
            anchored: Timestamp(1_000),
        }
        .body();
        head = keyring.anchor_mac(&head, &body);
        file.write_all(&[&body[..], &head].concat()).unwrap();
    }
    file.flush().unwrap();
}

/// Not a test of its own: what the next test measures.
#[test]
fn child_that_opens_and_tells() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    let mut vault = open_with(Arc::new(StateFolder::new(folder)), some_day(), &KEK).unwrap();
    assert!(
        vault
            .status(&API)
            .unwrap()
            .aspects
            .iter()
            .all(|aspect| aspect.holds)
    );
    let mut told = |from| {
        let page = vault.list_anchors(&API, from).unwrap();
        (page.len(), page.first().map(|anchor| anchor.sequence))
    };
    assert_eq!(told(0), (1_000, Some(3)));
    assert_eq!(told(3), (1_000, Some(3)));
    assert_eq!(told(4), (1_000, Some(6)));
    assert_eq!(
        told(ANCHORS * 3 / 2),
        (1_000, Some((ANCHORS * 3 / 2).next_multiple_of(3)))
    );
    assert_eq!(told(ANCHORS * 3 - 1), (1, Some(ANCHORS * 3)));
    assert_eq!(told(ANCHORS * 3 + 1), (0, None));
    vault.append_anchor(&API, ANCHORS * 3 + 1, &[1; 32]).unwrap();
    vault.list_secrets(&API, "").unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    println!("\npeak {}", peak.trim());
}

#[test]
fn files_larger_than_the_memory_are_read_in_a_bounded_part_of_it() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_opens_and_tells", "--nocapture"])
        .env(CHILD, folder.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&child.stderr)
    );
    let peak = told.lines().find_map(|line| line.strip_prefix("peak ")).unwrap();
    let peak: u64 = peak.trim_end_matches(" kB").parse().unwrap();
    assert!(peak * 1024 < PEAK_MAX, "{peak} kB at most");
    // The record of the child began a second file, and a start after that finds all well.
    assert!(folder.path().join("vault/access.log.000001").exists());
    let mut vault = open_in(folder.path()).unwrap();
    assert!(
        vault
            .status(&API)
            .unwrap()
            .aspects
            .iter()
            .all(|aspect| aspect.holds)
    );
}
