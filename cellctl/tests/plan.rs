//! What a change would do: the cell's words, shown and not acted on.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use cell_proto::api::v1::{ChangePlan, NetdPlan, PlanStatement};
use serde_json::{Value, json};
use support::FakeCell;

fn plan(takes: bool) -> ChangePlan {
    ChangePlan {
        statements: vec![PlanStatement {
            kind: "loses".to_owned(),
            peers: vec!["laptop".to_owned()],
            peer_count: 1,
            text: "laptop loses the internet.".to_owned(),
        }],
        warning: String::new(),
        netd: Some(NetdPlan {
            takes,
            says: vec!["of netd's".to_owned()],
        }),
    }
}

#[test]
fn a_dry_run_shows_the_cells_words_and_changes_nothing() {
    let cell = FakeCell::start();
    cell.say(&["peer", "add", "laptop", "--internet"]);
    let before = cell.state.lock().unwrap().peers.clone();
    cell.state.lock().unwrap().plan = plan(true);
    for change in [
        &["peer", "set", "laptop", "--internet", "no"][..],
        &["peer", "set", "laptop", "--fail-open", "yes"],
        &["peer", "set", "laptop", "--no-fallbacks"],
        &["peer", "remove", "laptop"],
    ] {
        let said = cell.say(&[change, &["--dry-run"]].concat());
        assert_eq!(
            said, "laptop loses the internet.\nNothing was changed.\n",
            "{change:?}"
        );
        let document: Value =
            serde_json::from_str(&cell.say(&[change, &["--dry-run", "--json"]].concat())).unwrap();
        let statement = json!({"kind": "loses", "peers": ["laptop"], "peer_count": 1, "text": "laptop loses the internet."});
        assert_eq!(document["plan"]["statements"], json!([statement]));
        assert_eq!(document["plan"]["netd"]["takes"], json!(true));
        assert_eq!(cell.state.lock().unwrap().peers, before, "{change:?}");
    }
    // The same without it is done.
    cell.say(&["peer", "remove", "laptop"]);
    assert!(cell.state.lock().unwrap().peers.is_empty());
}

#[test]
fn what_netd_would_refuse_is_said_and_fails() {
    let cell = FakeCell::start();
    cell.say(&["peer", "add", "laptop"]);
    cell.state.lock().unwrap().plan = plan(false);
    let output = cell.run(&["peer", "set", "laptop", "--internet", "yes", "--dry-run"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("netd, which keeps the network, would refuse this: of netd's"),
        "{said}"
    );
    let mut silent = plan(true);
    silent.netd = None;
    silent.warning = "Mind the way that you came by.".to_owned();
    cell.state.lock().unwrap().plan = silent;
    let said = cell.say(&["peer", "set", "laptop", "--internet", "yes", "--dry-run"]);
    assert!(
        said.contains("does not answer now") && said.contains("Mind the way"),
        "{said}"
    );
}

#[test]
fn a_dry_run_is_of_one_change_and_waits_for_nothing() {
    let cell = FakeCell::start();
    cell.say(&["peer", "add", "laptop"]);
    for wrong in [
        &["--dry-run", "--confirm-within", "60", "--tunnel", "split"][..],
        &["--dry-run"],
    ] {
        let output = cell.run(&[&["peer", "set", "laptop"], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}
