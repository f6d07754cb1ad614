//! What managers ask of services, by the command line.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use cell_proto::api::v1::InstalledService;
use serde_json::Value;
use support::FakeCell;

fn with_notes() -> FakeCell {
    let cell = FakeCell::start();
    cell.state.lock().unwrap().store.service = Some(InstalledService {
        name: "notes".to_owned(),
        phase: "installed".to_owned(),
        ..InstalledService::default()
    });
    cell
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_test_that_fails_is_a_failure_of_the_command() {
    let cell = with_notes();
    let failing = cell.run(&["service", "test", "notes"]);
    let said = String::from_utf8_lossy(&failing.stdout).into_owned();
    assert_eq!(failing.status.code(), Some(1));
    assert!(said.contains("FAILS") && said.contains("of port"), "{said}");
    assert!(String::from_utf8_lossy(&failing.stderr).contains("1 of 2 checks of notes fail"));
    cell.state.lock().unwrap().store.is_open = true;
    assert!(!cell.say(&["service", "test", "notes"]).contains("FAILS"));
    let told = parsed(&cell.say(&["--json", "service", "test", "notes"]));
    assert_eq!(told["checks"][1]["ok"], true);
}

#[test]
fn health_and_alerts_are_told() {
    let cell = with_notes();
    let health = cell.say(&["service", "health", "notes"]);
    assert!(
        health.contains("healthy") && health.contains("installing"),
        "{health}"
    );
    let alerts = cell.say(&["alerts"]);
    assert!(
        alerts.contains("critical") && alerts.contains("notes does not run"),
        "{alerts}"
    );
    assert!(!alerts.contains("seen"));
    assert!(cell.say(&["alerts", "acknowledge", "4"]).contains("seen"));
    assert_eq!(cell.state.lock().unwrap().store.seen, ["4"]);
    cell.state.lock().unwrap().store.service = None;
    assert_eq!(cell.say(&["alerts"]).trim(), "Nothing is wrong.");
}

#[test]
fn a_configuration_is_shown_tried_and_set_only_when_asked() {
    let cell = with_notes();
    let config = cell.say(&["service", "config", "notes"]);
    assert!(config.contains('7') && config.contains("default"), "{config}");
    assert!(
        cell.state.lock().unwrap().store.configured.is_empty(),
        "it was looked at alone"
    );
    let tried = cell.say(&["service", "config", "notes", "--check", "--set", "size=5"]);
    assert_eq!(tried.trim(), "It can be set so.");
    let refused = cell.run(&["service", "config", "notes", "--check", "--set", "size=0"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("parameters.size: must be 1-9"));
    assert!(cell.state.lock().unwrap().store.configured.is_empty());
    cell.say(&["service", "config", "notes", "--set", "size=5", "--no-wait"]);
    cell.say(&["service", "config", "notes", "--defaults", "--no-wait"]);
    let configured = cell.state.lock().unwrap().store.configured.clone();
    let counts: Vec<usize> = configured.iter().map(|one| one.parameters.len()).collect();
    assert_eq!(counts, [1, 0]);
    let both = cell.run(&["service", "config", "notes", "--set", "size=5", "--defaults"]);
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn a_log_is_followed_and_the_query_log_is_set() {
    let cell = with_notes();
    let log = cell.run(&["service", "logs", "notes", "--follow", "--lines", "7"]);
    assert_eq!(
        String::from_utf8_lossy(&log.stdout),
        "7 lines first\nand one later\n"
    );
    assert!(String::from_utf8_lossy(&log.stderr).contains("left out"));
    let lines = cell.say(&["--json", "service", "logs", "notes", "-f"]);
    assert_eq!(
        parsed(lines.lines().next().unwrap())["lines"][0],
        "100 lines first"
    );
    assert!(
        cell.say(&["config", "query-log", "questions"])
            .contains("each device")
    );
    assert!(cell.say(&["config", "query-log"]).starts_with("questions"));
    assert_eq!(cell.run(&["config", "query-log", "all"]).status.code(), Some(2));
}
