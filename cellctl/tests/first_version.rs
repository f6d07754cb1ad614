//! `cellctl import`: what is read, what is sent, what is said.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use cell_proto::api::v1::ImportFirstVersionRequest;
use serde_json::{Value, json};
use support::FakeCell;

const SECRET: &str = "correct-horse-1";

fn files(cell: &FakeCell) -> ([String; 3], ImportFirstVersionRequest) {
    let request = ImportFirstVersionRequest {
        config: json!({"connectivity": {"proxy": {"password": SECRET}}}).to_string(),
        peers: json!({"tv": "proxy"}).to_string(),
        secrets: json!({"name": SECRET}).to_string(),
        validate_only: false,
        confirm_within_seconds: 0,
    };
    let texts = [&request.config, &request.peers, &request.secrets];
    let paths = ["cell_config.json", "peers.json", "vault.json"].map(|name| cell.dir.path().join(name));
    for (path, text) in paths.iter().zip(texts) {
        std::fs::write(path, text).unwrap();
    }
    (paths.map(|path| path.to_str().unwrap().to_owned()), request)
}

#[test]
fn files_are_sent_whole_and_the_cells_words_are_shown() {
    let cell = FakeCell::start();
    let ([config, peers, secrets], request) = files(&cell);
    let said = cell.run(&["import", &config, "--peers", &peers, "--secrets", &secrets]);
    assert!(said.status.success());
    let (out, err) = (
        String::from_utf8(said.stdout).unwrap(),
        String::from_utf8(said.stderr).unwrap(),
    );
    assert_eq!(out, "tv: bound to proxy-v1.\nDone.\n");
    assert!(err.contains("Note: of config only connectivity is read"), "{err}");
    assert!(
        err.contains(&format!("Remove {config} and what was given with it")),
        "{err}"
    );
    assert!(!out.contains(SECRET) && !err.contains(SECRET));
    assert_eq!(cell.state.lock().unwrap().first_versions, [request]);
}

#[test]
fn what_is_to_wait_says_how_it_is_kept() {
    let cell = FakeCell::start();
    let ([config, _, _], request) = files(&cell);
    let said = cell.run(&["import", &config, "--confirm-within", "60"]);
    let err = String::from_utf8(said.stderr).unwrap();
    assert!(said.status.success(), "{err}");
    assert!(
        err.contains("taken back in 60 seconds") && err.contains("cellctl change confirm"),
        "{err}"
    );
    let sent = ImportFirstVersionRequest {
        peers: String::new(),
        secrets: String::new(),
        confirm_within_seconds: 60,
        ..request
    };
    assert_eq!(cell.state.lock().unwrap().first_versions, [sent]);
    let both = cell.run(&["import", &config, "--confirm-within", "60", "--dry-run"]);
    assert!(!both.status.success());
}

#[test]
fn a_dry_run_asks_and_says_that_nothing_was_changed() {
    let cell = FakeCell::start();
    let ([config, _, _], request) = files(&cell);
    let said = cell.run(&["import", &config, "--dry-run"]);
    let (out, err) = (
        String::from_utf8(said.stdout).unwrap(),
        String::from_utf8(said.stderr).unwrap(),
    );
    assert_eq!(out, "tv: bound to proxy-v1.\nNothing was changed.\n");
    assert!(!err.contains("Remove"), "{err}");
    let sent = ImportFirstVersionRequest {
        peers: String::new(),
        secrets: String::new(),
        validate_only: true,
        ..request
    };
    assert_eq!(cell.state.lock().unwrap().first_versions, [sent]);
    let document: Value =
        serde_json::from_str(&cell.say(&["import", &config, "--dry-run", "--json"])).unwrap();
    assert_eq!(document["applied"], json!(false));
    assert_eq!(document["exits"][0]["id"], Value::Null);
    assert_eq!(document["peers"], json!(["tv"]));
}

#[test]
fn what_cannot_be_read_is_said_and_nothing_sent() {
    let cell = FakeCell::start();
    let ([config, _, _], _) = files(&cell);
    let absent = format!("{config}.absent");
    let huge = cell.dir.path().join("huge.json");
    std::fs::write(&huge, vec![b' '; 512 * 1024 + 1]).unwrap();
    for (wrong, why) in [
        (&["import", &absent][..], "cannot read"),
        (&["import", huge.to_str().unwrap()], "more than 512 KiB"),
        (&["import", "-", "--peers", "-"], "only one of the files"),
    ] {
        let said = cell.run(wrong);
        assert_eq!(said.status.code(), Some(1), "{wrong:?}");
        let err = String::from_utf8(said.stderr).unwrap();
        assert!(err.contains(why), "{err}");
    }
    assert!(cell.state.lock().unwrap().first_versions.is_empty());
    let help = cell.say(&["import", "--help"]);
    for word in ["--dry-run", "--peers", "--secrets", "A second\ntime does nothing"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}

/// Who is bound by it may be cut off by it; which devices it binds only the cell knows, and is asked first.
#[test]
fn what_binds_the_very_device_that_the_shell_came_from_waits() {
    let cell = FakeCell::start();
    let ([config, _, _], request) = files(&cell);
    cell.say(&["peer", "add", "laptop"]);
    cell.say(&["peer", "add", "tv"]);
    let own = "10.86.0.3 50000 10.86.0.1 22";
    cell.state.lock().unwrap().peers[1].ipv4 = "10.86.0.3".to_owned();
    for (from, options, waits) in [
        (own, &[][..], true),
        ("10.86.0.2 50000 10.86.0.1 22", &[][..], false),
        ("192.0.2.7 50000 192.0.2.1 22", &[][..], false),
        ("", &[][..], false),
        (own, &["--at-once"][..], false),
        (own, &["--dry-run"][..], false),
    ] {
        cell.state.lock().unwrap().first_versions.clear();
        let said = cell.run_by(&[&["import", &config][..], options].concat(), "", from);
        let err = String::from_utf8(said.stderr).unwrap();
        assert!(said.status.success(), "{err}");
        assert_eq!(
            err.contains("logged in from tv itself"),
            waits,
            "{from} {options:?}: {err}"
        );
        assert_eq!(
            err.contains("cellctl change confirm"),
            waits,
            "{from} {options:?}: {err}"
        );
        let sent = cell.state.lock().unwrap().first_versions.pop().unwrap();
        assert_eq!(
            sent.confirm_within_seconds,
            if waits { 60 } else { 0 },
            "{from} {options:?}"
        );
        assert_eq!(sent.config, request.config);
    }
}
