//! Stopped or failed at every step: afterwards the vault is as before or as after, never mixed, and what was acknowledged
//! is there.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use cell_vaultd::VaultError;
use cell_vaultd::files::{Files, StateFolder};
use cell_vaultd::kek::Kek;
use cell_vaultd::keyring::Keyring;
use cell_vaultd::store::{Store, StoreError};
use cell_vaultd::vault::Vault;
use cell_vaultd_core::{ItemName, Timestamp};
use common::faulty::{Fault, FaultyFiles};
use common::memory::{LOSSES, Loss, MemoryFiles};
use common::{API, KEK, open_with, some_day, value};

/// How long a child may take until it has something done.
const PATIENCE: Duration = Duration::from_secs(60);
const NOW: Timestamp = Timestamp(1);

fn secret(name: &str) -> ItemName {
    ItemName::Secret(name.parse().unwrap())
}

type Contents = BTreeMap<String, (u64, Vec<u8>)>;

fn contents(store: &Store) -> Contents {
    let read = |name: &ItemName, version| {
        (
            name.to_string(),
            (version, store.read(name).unwrap().unwrap().to_vec()),
        )
    };
    store
        .index()
        .items
        .iter()
        .map(|(name, entry)| read(name, entry.version))
        .collect()
}

type Change = fn(&mut Store) -> Result<(), StoreError>;

const CHANGES: [(&str, Change); 4] = [
    ("put", |store| {
        store.write(&secret("c"), b"three", 0, 9, NOW).map(drop)
    }),
    ("replace", |store| {
        store.write(&secret("a"), &[7; 5_000], 1, 9, NOW).map(drop)
    }),
    ("remove", |store| store.remove(&secret("b"), 1)),
    ("put and remove", |store| {
        store.write(&secret("c"), b"three", 0, 9, NOW)?;
        store.remove(&secret("c"), 1)
    }),
];

/// Two secrets, on files that the caller keeps.
fn prepared(keyring: &Arc<Keyring>) -> Arc<MemoryFiles> {
    let files = Arc::new(MemoryFiles::default());
    let mut store = Store::create(
        Arc::clone(&files) as Arc<dyn Files>,
        PathBuf::new(),
        Arc::clone(keyring),
    )
    .unwrap();
    store.write(&secret("a"), b"one", 0, 9, NOW).unwrap();
    store.write(&secret("b"), b"two", 0, 9, NOW).unwrap();
    files
}

fn open_store(files: Arc<dyn Files>, keyring: &Arc<Keyring>) -> Store {
    Store::open(files, PathBuf::new(), Arc::clone(keyring)).unwrap()
}

#[test]
fn a_store_that_dies_at_any_step_is_old_or_new_whatever_the_disk_kept() {
    let keyring = Arc::new(Keyring::create(&Kek::from_bytes(&KEK)).unwrap().0);
    let mut points = 0;
    for (name, change) in CHANGES {
        let old = contents(&open_store(prepared(&keyring), &keyring));
        let mut allowed = vec![old];
        if name == "put and remove" {
            let mut store = open_store(prepared(&keyring), &keyring);
            store.write(&secret("c"), b"three", 0, 9, NOW).unwrap();
            allowed.push(contents(&store));
        }
        let mut store = open_store(prepared(&keyring), &keyring);
        change(&mut store).unwrap();
        allowed.push(contents(&store));
        for at in 0.. {
            let files = prepared(&keyring);
            let faulty = FaultyFiles::new(Arc::clone(&files) as Arc<dyn Files>, Fault::Death, at);
            let mut store = open_store(Arc::clone(&faulty) as Arc<dyn Files>, &keyring);
            let done = change(&mut store);
            for loss in LOSSES {
                let found = contents(&open_store(Arc::new(files.after(loss)), &keyring));
                assert!(allowed.contains(&found), "{name}, step {at}, {loss:?}: {found:?}");
                if done.is_ok() {
                    assert_eq!(
                        Some(&found),
                        allowed.last(),
                        "{name}, step {at}, {loss:?}: acknowledged and lost"
                    );
                }
                points += 1;
            }
            if !faulty.struck() {
                break;
            }
        }
    }
    assert!(points > 100, "only {points} points were tried");
}

#[test]
fn a_store_whose_disk_fails_once_tells_the_truth_and_goes_on() {
    let keyring = Arc::new(Keyring::create(&Kek::from_bytes(&KEK)).unwrap().0);
    for (name, change) in CHANGES {
        for at in 0.. {
            let files = prepared(&keyring);
            let faulty = FaultyFiles::new(Arc::clone(&files) as Arc<dyn Files>, Fault::Once, at);
            let mut store = open_store(Arc::clone(&faulty) as Arc<dyn Files>, &keyring);
            let before = contents(&store);
            let done = change(&mut store);
            if !faulty.struck() {
                done.unwrap();
                break;
            }
            let here = contents(&store);
            match &done {
                Err(StoreError::Io { .. }) if name != "put and remove" => {
                    assert_eq!(here, before, "{name}, step {at}: reported as not done");
                }
                Err(StoreError::Unsettled(_)) if name != "put and remove" => {
                    assert_ne!(here, before, "{name}, step {at}: reported as done")
                }
                Ok(()) | Err(_) => {}
            }
            let reopened = contents(&open_store(Arc::new(files.after(Loss::Nothing)), &keyring));
            assert_eq!(here, reopened, "{name}, step {at}: memory and disk disagree");
            let version = here.get("secret-a").unwrap().0;
            store.write(&secret("a"), b"next", version, 9, NOW).unwrap();
            assert_eq!(
                **store.read(&secret("a")).unwrap().unwrap(),
                *b"next",
                "{name}, step {at}"
            );
            let powerless = open_store(Arc::new(files.after(Loss::Unsynced)), &keyring);
            assert_eq!(
                **powerless.read(&secret("a")).unwrap().unwrap(),
                *b"next",
                "{name}, step {at}"
            );
        }
    }
}

#[test]
fn a_first_start_that_dies_at_any_step_is_followed_by_a_good_one() {
    for at in 0.. {
        let files = Arc::new(MemoryFiles::default());
        let faulty = FaultyFiles::new(Arc::clone(&files) as Arc<dyn Files>, Fault::Death, at);
        let opened = open_with(Arc::clone(&faulty) as Arc<dyn Files>, some_day(), &KEK);
        let root = opened.ok().map(|mut vault| vault.trust_bundle(&API).unwrap());
        for loss in LOSSES {
            let next = open_with(Arc::new(files.after(loss)), some_day(), &KEK);
            let mut vault = next.unwrap_or_else(|reason| panic!("step {at}, {loss:?}: sealed, {reason:?}"));
            let found = vault.trust_bundle(&API).unwrap();
            if let Some(root) = &root {
                assert_eq!(&found, root, "step {at}, {loss:?}: another root");
            }
        }
        if !faulty.struck() {
            assert!(at > 20, "only {at} steps were tried");
            break;
        }
    }
}

type Verb = fn(&mut Vault) -> Result<(), VaultError>;

const VERBS: [(&str, Verb); 6] = [
    ("put", |vault| {
        vault.put_secret(&API, "conn_new", &value(b"v"), 0, 0).map(drop)
    }),
    ("rotate", |vault| {
        vault.rotate_secret(&API, "conn_old", 1).map(drop)
    }),
    ("delete", |vault| vault.delete_secret(&API, "conn_old", 1)),
    ("key", |vault| vault.wireguard_public_key(&API).map(drop)),
    ("anchor", |vault| vault.append_anchor(&API, 7, &[7; 32]).map(drop)),
    ("issue", |vault| {
        let request = common::request(&["a.cell"], &[]);
        vault.issue_server_certificate(&API, &request).map(drop)
    }),
];

/// What can be seen of a vault without asking it for anything new.
fn seen(vault: &mut Vault) -> (Vec<(String, u64)>, Vec<u64>) {
    let secrets = vault.list_secrets(&API, "").unwrap();
    let anchors = vault.list_anchors(&API, 0).unwrap();
    (
        secrets
            .iter()
            .map(|info| (info.name.to_string(), info.version))
            .collect(),
        anchors.iter().map(|anchor| anchor.sequence).collect(),
    )
}

fn prepared_vault() -> Arc<MemoryFiles> {
    let files = Arc::new(MemoryFiles::default());
    let mut vault = open_with(Arc::clone(&files) as Arc<dyn Files>, some_day(), &KEK).unwrap();
    vault.put_secret(&API, "conn_old", &value(b"v"), 0, 0).unwrap();
    vault.append_anchor(&API, 5, &[5; 32]).unwrap();
    files
}

#[test]
fn a_vault_that_dies_in_any_verb_opens_again_old_or_new_with_a_whole_log() {
    for (name, verb) in VERBS {
        let mut vault = open_with(prepared_vault(), some_day(), &KEK).unwrap();
        let old = seen(&mut vault);
        verb(&mut vault).unwrap();
        let new = seen(&mut vault);
        for at in 0.. {
            let files = prepared_vault();
            let faulty = FaultyFiles::new(Arc::clone(&files) as Arc<dyn Files>, Fault::Death, at);
            // Opening an intact vault changes nothing, so that the count begins with the verb.
            let mut vault = open_with(Arc::clone(&faulty) as Arc<dyn Files>, some_day(), &KEK).unwrap();
            let done = verb(&mut vault);
            for loss in LOSSES {
                let reopened = open_with(Arc::new(files.after(loss)), some_day(), &KEK);
                let mut vault =
                    reopened.unwrap_or_else(|reason| panic!("{name}, step {at}, {loss:?}: {reason:?}"));
                let found = seen(&mut vault);
                assert!(
                    found == old || found == new,
                    "{name}, step {at}, {loss:?}: {found:?}"
                );
                assert!(
                    done.is_err() || found == new,
                    "{name}, step {at}, {loss:?}: acknowledged and lost"
                );
                let status = vault.status(&API).unwrap();
                assert!(
                    status.aspects.iter().all(|aspect| aspect.holds),
                    "{name}, step {at}, {loss:?}: {status:?}"
                );
            }
            if !faulty.struck() {
                break;
            }
        }
    }
}

#[test]
fn a_vault_whose_log_cannot_be_written_gives_nothing_and_changes_nothing() {
    for (name, verb) in VERBS
        .into_iter()
        .filter(|(name, _)| !matches!(*name, "anchor" | "key"))
    {
        for at in 0..2 {
            let files = prepared_vault();
            let faulty = FaultyFiles::new(Arc::clone(&files) as Arc<dyn Files>, Fault::Once, at);
            let mut vault = open_with(Arc::clone(&faulty) as Arc<dyn Files>, some_day(), &KEK).unwrap();
            let refused = verb(&mut vault).unwrap_err();
            assert_eq!(refused.reason(), "ACCESS_LOG_FAILED", "{name}, step {at}");
            let mut reopened = open_with(Arc::new(files.after(Loss::Nothing)), some_day(), &KEK).unwrap();
            let mut fresh = open_with(prepared_vault(), some_day(), &KEK).unwrap();
            assert_eq!(seen(&mut reopened), seen(&mut fresh), "{name}, step {at}");
            // A record that was cut off leaves a log to go on with; a failed fsync does not.
            assert_eq!(verb(&mut vault).is_ok(), at == 0, "{name}, step {at}");
        }
    }
}

const CHILD: &str = "CELL_VAULTD_TEST_CHILD";

/// Not a test of its own: what the next test kills. Rotates one secret as fast as it can and tells each version.
#[test]
fn child_that_rotates_until_it_is_killed() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    let files: Arc<dyn Files> = Arc::new(StateFolder::new(folder));
    // One window of requests a start is enough: the child is killed long before, and time stands still for it.
    let mut vault = open_with(files, some_day(), &KEK).unwrap();
    let known = vault.list_secrets(&API, "").unwrap();
    let mut version = match known.first() {
        Some(info) => info.version,
        None => {
            vault
                .put_secret(&API, "conn_a", &value(b"v"), 0, 0)
                .unwrap()
                .version
        }
    };
    while let Ok(info) = vault.rotate_secret(&API, "conn_a", version) {
        version = info.version;
        let Ok(anchor) = vault.append_anchor(&API, version, &[1; 32]) else {
            break;
        };
        println!("\nacknowledged {}", anchor.sequence);
        std::io::stdout().flush().unwrap();
    }
    loop {
        std::thread::park();
    }
}

#[test]
fn kill_9_under_load_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    let mut fast = 0;
    for cycle in 0..40_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_rotates_until_it_is_killed", "--nocapture"])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tells, told) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            lines
                .filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<u64>().ok())
                .inspect(|sequence| {
                    // Nobody listens any more where the child is killed at any time.
                    let _ = tells.send(*sequence);
                })
                .max()
        });
        // Every other one is killed while it works, however long a busy machine lets it take until then; the others at any time,
        // as while they start.
        if cycle.is_multiple_of(2) {
            told.recv_timeout(PATIENCE).unwrap();
        }
        std::thread::sleep(Duration::from_millis(20 + cycle * 37 % 90));
        child.kill().unwrap();
        child.wait().unwrap();
        let told = reader.join().unwrap().unwrap_or(0);
        fast += u64::from(told > acknowledged);
        acknowledged = acknowledged.max(told);

        let mut vault = open_with(Arc::new(StateFolder::new(folder.path())), some_day(), &KEK)
            .unwrap_or_else(|reason| panic!("cycle {cycle}: sealed, {reason:?}"));
        let status = vault.status(&API).unwrap();
        assert!(
            status.aspects.iter().all(|aspect| aspect.holds),
            "cycle {cycle}: {status:?}"
        );
        let version = vault
            .list_secrets(&API, "")
            .unwrap()
            .first()
            .map_or(0, |info| info.version);
        let anchored = vault
            .list_anchors(&API, acknowledged)
            .unwrap()
            .last()
            .map_or(0, |anchor| anchor.sequence);
        assert!(
            version >= acknowledged,
            "cycle {cycle}: version {version}, {acknowledged} acknowledged"
        );
        assert!(
            anchored >= acknowledged,
            "cycle {cycle}: anchor {anchored}, {acknowledged} acknowledged"
        );
    }
    assert!(fast >= 20, "only {fast} of 40 children got anything done");
}
