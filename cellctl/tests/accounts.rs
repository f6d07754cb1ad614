//! Accounts by the command line: shown once, listed, set anew and removed.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use serde_json::Value;
use support::FakeCell;

#[test]
fn an_account_is_made_listed_set_anew_and_removed() {
    let cell = FakeCell::start();
    assert!(
        cell.say(&["account", "list", "calendar"])
            .contains("cellctl account add")
    );
    let made = cell.say(&["account", "add", "Phone", "--service", "calendar,email"]);
    for words in [
        "calendar",
        "email",
        "phone",
        "abcdefghijkmnpqrstuvwxyz",
        "https://email.home.cell/",
        "shown this once",
    ] {
        assert!(made.contains(words), "{words}: {made}");
    }
    let told = cell.say(&[
        "--json",
        "account",
        "add",
        "Phone",
        "--service",
        "email",
        "--user",
        "alice",
    ]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["credentials"][0]["user"], "alice");
    let listed = cell.say(&["account", "list", "calendar"]);
    assert!(listed.contains("alice") && listed.contains("Phone"), "{listed}");
    let reset = cell.say(&["account", "password", "email", "alice"]);
    assert!(reset.contains("abcdefghijkmnpqrstuvwxyz"), "{reset}");
    let plan = cell.say(&["account", "remove", "email", "alice", "--validate-only"]);
    assert_eq!(plan.trim(), "The account is removed.");
    let removed = cell.say(&["account", "remove", "email", "alice"]);
    assert!(removed.contains("is removed"), "{removed}");
    let absent = cell.run(&["account", "remove", "email", "alice"]);
    assert_eq!(absent.status.code(), Some(1));
    let nowhere = cell.run(&["account", "add", "Phone"]);
    assert_eq!(nowhere.status.code(), Some(2), "where has to be said");
}
