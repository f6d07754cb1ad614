//! netd: away, forgetful, and changed by somebody else.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use std::time::Duration;
use support::{Cell, add, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_change_while_netd_is_away_is_accepted_and_converges_later() {
    let mut cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "before", 1).await;
    cell.netd.kill();
    *cell.netd.state.lock().unwrap() = support::netd::State::default();
    let created = add(&admin, "during", 2).await;
    let (generation, observed) = (
        created["generation"].as_u64().unwrap(),
        created["observed_generation"].as_u64().unwrap(),
    );
    assert!(observed < generation, "accepted is not converged");
    cell.netd.resume();
    cell.converged(generation).await;
    assert_eq!(
        cell.netd.peer_names(),
        ["before", "during"],
        "a netd that forgot everything gets everything"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etag_mismatch_and_a_foreign_change_are_answered_with_everything() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "one", 1).await;
    cell.netd.silent_change();
    let created = add(&admin, "two", 2).await;
    assert_eq!(created["generation"], created["observed_generation"]);
    assert_eq!(cell.netd.peer_names(), ["one", "two"]);
    cell.netd.foreign_change();
    eventually("the foreign change is undone", || {
        cell.netd.peer_names() == ["one", "two"]
    })
    .await;
    let applies = cell.netd.state.lock().unwrap().full_applies;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        cell.netd.state.lock().unwrap().full_applies,
        applies,
        "and then it is quiet"
    );
}
