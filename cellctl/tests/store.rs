//! The store by the command line: what there is, and a service from its installation to its end.

#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "tests: a case is one story"
)]

mod support;

use cell_proto::api::v1::{InstalledService, ServiceRun};
use serde_json::Value;
use support::FakeCell;

#[test]
fn the_catalog_is_shown_with_what_is_wrong_with_it() {
    let cell = FakeCell::start();
    let listed = cell.say(&["store", "list"]);
    assert!(
        listed.contains("notes") && listed.contains("Not usable: services[1]"),
        "{listed}"
    );
    let shown = cell.say(&["store", "show", "notes"]);
    for words in ["size", "is a number from 1 to 9", "has to be set"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let absent = cell.run(&["store", "show", "other"]);
    assert!(!absent.status.success());
    assert!(String::from_utf8_lossy(&absent.stderr).contains("it has: notes"));
}

#[test]
fn a_service_is_installed_looked_at_and_removed() {
    let cell = FakeCell::start();
    assert!(cell.say(&["service", "list"]).contains("cellctl store list"));
    let plan = cell.say(&["service", "install", "notes", "--everyone", "--validate-only"]);
    assert_eq!(plan.trim(), "Notes is installed.");
    // It asks for a domain, and proposes none: the cell's own.
    let planned = cell.state.lock().unwrap().store.installs[0].clone();
    assert_eq!(
        (
            planned.parameters[0].name.as_str(),
            planned.parameters[0].text.as_str()
        ),
        ("domain", "home.cell")
    );
    assert_eq!(planned.connection_id, "");
    cell.state.lock().unwrap().store.looks = 2;
    let args = [
        "service",
        "install",
        "notes",
        "--peer",
        "phone",
        "--set",
        "size=5",
        "--set",
        "domain=a=b",
        "--exit",
        "work",
    ];
    let output = cell.run(&args);
    let (said, told) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{told}");
    assert!(told.contains("installing (images)"), "each step is shown: {told}");
    assert!(
        said.contains("installed") && said.contains("10.86.0.254") && said.contains("phone"),
        "{said}"
    );
    let sent = cell.state.lock().unwrap().store.installs[1].clone();
    assert_eq!(sent.connection_id, "work");
    let set: Vec<_> = sent
        .parameters
        .iter()
        .map(|one| format!("{}={}", one.name, one.text))
        .collect();
    assert_eq!(
        (set, sent.allowed_peers),
        (
            vec!["size=5".to_owned(), "domain=a=b".to_owned()],
            vec!["phone".to_owned()]
        )
    );

    let listed: Value = serde_json::from_str(&cell.say(&["service", "list", "--json"])).unwrap();
    assert_eq!(listed["services"][0]["phase"], "installed");
    assert!(cell.say(&["service", "status", "notes"]).contains("running"));
    assert_eq!(
        cell.say(&["service", "logs", "notes", "main", "--lines", "7"])
            .trim(),
        "7 lines of \"main\""
    );
    assert!(
        cell.say(&["service", "access", "notes", "--everyone"])
            .contains("everyone")
    );
    assert!(cell.say(&["service", "stop", "notes"]).contains("stopped"));
    cell.say(&["service", "start", "notes"]);
    assert_eq!(
        cell.state.lock().unwrap().store.runs,
        [ServiceRun::Stop.into(), i32::from(ServiceRun::Start)]
    );

    let plan = cell.say(&["service", "remove", "notes", "--validate-only"]);
    assert!(plan.contains("data is kept"));
    assert!(
        cell.say(&["service", "remove", "notes", "--delete-data"])
            .contains("is removed")
    );
    let removals = cell.state.lock().unwrap().store.removals.clone();
    assert_eq!(
        removals.iter().map(|one| one.delete_volumes).collect::<Vec<_>>(),
        [false, true]
    );
    let gone = cell.run(&["service", "status", "notes"]);
    assert_eq!(gone.status.code(), Some(1));
}

#[test]
fn what_fails_is_a_failure_of_the_command() {
    let cell = FakeCell::start();
    cell.state.lock().unwrap().store.fails = Some("DENIED");
    let output = cell.run(&["service", "install", "notes"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(told.contains("the broker would not (DENIED)"), "{told}");
    for bad in [
        &["service", "install", "notes", "--set", "size"][..],
        &["service", "install", "notes", "--everyone", "--peer", "phone"],
        &["service", "logs", "notes", "--lines", "0"],
        &["service", "logs", "notes", "--lines", "1001"],
    ] {
        assert_eq!(cell.run(bad).status.code(), Some(2), "{bad:?}");
    }
}

#[test]
fn a_secret_is_set_from_standard_input_and_shown_as_set_alone() {
    let cell = FakeCell::start();
    cell.say(&["service", "install", "notes", "--everyone"]);
    let before = cell.say(&["service", "secrets", "notes"]);
    assert!(
        before.contains("dns_token") && before.contains("has to be set"),
        "{before}"
    );
    let output = cell.run_with(&["service", "set-secret", "notes", "dns_token"], "xyzzy\nmore\n");
    assert!(output.status.success(), "{output:?}");
    assert!(!format!("{output:?}").contains("xyzzy"));
    let told = cell.state.lock().unwrap().store.secrets.clone();
    let expected = ("notes", "dns_token", "xyzzy");
    let (service, secret, value) = &told[0];
    assert_eq!((service.as_str(), secret.as_str(), value.as_str()), expected);
    let after = cell.say(&["service", "secrets", "notes"]);
    assert!(
        after.contains(" set") && !after.contains("has to be set"),
        "{after}"
    );
    let empty = cell.run_with(&["service", "set-secret", "notes", "dns_token"], "\n");
    assert!(!empty.status.success());
    cell.say(&["service", "remove-secret", "notes", "dns_token"]);
    assert!(cell.state.lock().unwrap().store.secrets.is_empty());
}

#[test]
fn a_backup_is_a_file_when_it_is_whole_and_nothing_else() {
    let cell = FakeCell::start();
    cell.state.lock().unwrap().store.service = Some(InstalledService {
        name: "notes".to_owned(),
        ..InstalledService::default()
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("notes.age");
    let save = ["service", "backup", "notes", "-o", file.to_str().unwrap()];
    cell.state.lock().unwrap().store.backup_breaks = true;
    let broken = cell.run(&save);
    assert!(!broken.status.success());
    assert!(String::from_utf8_lossy(&broken.stderr).contains("the service was updated"));
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "nothing of it stays"
    );

    cell.state.lock().unwrap().store.backup_breaks = false;
    assert!(cell.say(&save).contains("age -d -i"));
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        "half of it, and the rest"
    );
    let again = cell.run(&save);
    assert!(!again.status.success(), "no file is replaced");
    let absent = cell.run(&["service", "backup", "other"]);
    assert!(String::from_utf8_lossy(&absent.stderr).contains("no service of this name"));
}
