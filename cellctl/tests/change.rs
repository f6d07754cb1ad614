//! Changes that wait for their confirmation: shown, kept, taken back, and asked for.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use cell_proto::api::v1::WaitingChange;
use serde_json::{Value, json};
use support::FakeCell;

fn waiting(by_vpn: bool, removal: bool) -> Option<WaitingChange> {
    Some(WaitingChange {
        peer: "laptop".to_owned(),
        removal,
        author: "anna".to_owned(),
        deadline_unix_ms: 1_700_000_000_000,
        by_vpn,
        action: if removal { "delete" } else { "update" }.to_owned(),
        service: String::new(),
    })
}

#[test]
fn what_waits_is_shown_with_who_may_keep_it() {
    let cell = FakeCell::start();
    let show = ["change", "show"];
    assert!(cell.say(&show).contains("No change waits"));
    let document = |args: &[&str]| serde_json::from_str::<Value>(&cell.say(args)).unwrap();
    assert_eq!(
        document(&["change", "show", "--json"]),
        json!({"waiting": null, "last_rollback_at": null})
    );
    cell.state.lock().unwrap().last_rollback_unix_ms = 1_700_000_000_000;
    let said = cell.say(&show);
    assert!(
        said.contains("No change waits") && said.contains("taken back: ") && said.contains(" ago."),
        "{said}"
    );
    cell.state.lock().unwrap().waiting = waiting(false, true);
    let said = cell.say(&show);
    assert!(
        said.contains("The removal of laptop by anna") && said.contains("cellctl change confirm"),
        "{said}"
    );
    cell.state.lock().unwrap().waiting = waiting(true, false);
    let said = cell.say(&show);
    assert!(
        said.contains("A change of laptop") && said.contains("through the VPN"),
        "{said}"
    );
    let shown = json!({"peer": "laptop", "service": null, "action": "update", "removal": false, "author": "anna",
        "deadline_unix_ms": 1_700_000_000_000_i64, "by_vpn": true});
    assert_eq!(
        document(&["change", "show", "--json"]),
        json!({"waiting": shown, "last_rollback_at": "2023-11-14T22:13:20Z"})
    );
}

#[test]
fn it_is_kept_or_taken_back_once() {
    let cell = FakeCell::start();
    for (command, settled) in [("confirm", "confirmed"), ("rollback", "taken back")] {
        cell.state.lock().unwrap().waiting = waiting(false, false);
        cell.say(&["change", command]);
        assert_eq!(cell.state.lock().unwrap().settled.pop(), Some(settled));
        let again = cell.run(&["change", command]);
        let error = String::from_utf8(again.stderr).unwrap();
        assert!(
            again.status.code() == Some(1) && error.contains("no change waits"),
            "{error}"
        );
        assert!(cell.state.lock().unwrap().settled.is_empty());
    }
}

#[test]
fn a_removal_waits_when_it_is_asked_for_alone() {
    let cell = FakeCell::start();
    for (name, options, seconds) in [
        ("laptop", &["--confirm-within", "60"][..], 60),
        ("phone", &[][..], 0),
    ] {
        cell.say(&["peer", "add", name]);
        let output = cell.run(&[&["peer", "remove", name], options].concat());
        let note = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{note}");
        assert_eq!(note.contains("cellctl change confirm"), seconds > 0, "{note}");
        assert_eq!(cell.state.lock().unwrap().confirm_within, seconds);
    }
    for wrong in ["4", "3601", "soon"] {
        let output = cell.run(&["peer", "remove", "laptop", "--confirm-within", wrong]);
        assert_eq!(output.status.code(), Some(2), "{wrong}");
    }
}

#[test]
fn a_change_of_the_very_device_that_the_shell_came_from_waits() {
    let cell = FakeCell::start();
    let (own, other) = ("10.86.0.2 50000 10.86.0.1 22", "10.86.0.3 50000 10.86.0.1 22");
    let v6 = "fd12:3456:789a::2 50000 fd12:3456:789a::1 22";
    for (from, options, seconds) in [
        (own, &[][..], 60),
        (v6, &[][..], 60),
        (own, &["--at-once"][..], 0),
        (own, &["--confirm-within", "30"][..], 30),
        (other, &[][..], 0),
        ("", &[][..], 0),
    ] {
        for change in [
            &["peer", "set", "laptop", "--internet", "no"][..],
            &["peer", "remove", "laptop"],
        ] {
            cell.run(&["peer", "add", "laptop"]);
            let output = cell.run_by(&[change, options].concat(), "", from);
            let note = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success(), "{note}");
            assert_eq!(
                note.contains("logged in from laptop itself"),
                seconds == 60,
                "{note}"
            );
            assert_eq!(
                cell.state.lock().unwrap().confirm_within,
                seconds,
                "{change:?} {options:?} {from}"
            );
        }
    }
    let unknown = cell.run_by(&["peer", "remove", "nobody"], "", own);
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(said.contains("no such peer"), "{said}");
}

/// What is asked for in one line is one change, which waits as a whole.
#[test]
fn all_that_is_said_of_a_device_waits_together() {
    let cell = FakeCell::start();
    cell.say(&["peer", "add", "laptop"]);
    let all = ["--tunnel", "split", "--fail-open", "yes", "--exit", "work"];
    let how = ["--confirm-within", "60"];
    cell.say(&[&["peer", "set", "laptop"], &all[..], &how[..]].concat());
    let state = cell.state.lock().unwrap();
    assert_eq!(state.confirm_within, 60);
    let peer = &state.peers[0];
    assert_eq!(
        (
            peer.tunnel.as_str(),
            peer.fail_open,
            peer.exit_connection_id.as_str()
        ),
        ("split", Some(true), "work")
    );
}
