//! Services that speak TLS themselves are given a certificate of their names, another in time, and are never left without one.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use std::time::{Duration, Instant};

use cell_api::events::Topic;
use serde_json::{Value, json};
use support::Cell;
use support::accounts::{Accounts, Fails};
use support::broker::FakeBroker;
use support::catalog;
use support::client::Client;

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// As somebody who logs in anew: sessions end meanwhile.
async fn told(cell: &Cell) -> Value {
    let admin: Client = cell.admin().await;
    admin.get("/api/services/email").await.expect(200).json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_given_renewed_and_tried_again() {
    let email = Accounts::made_up().await;
    let mut cell = Cell::ready().await;
    let broker = FakeBroker::start(cell.state().join("broker.sock"));
    broker.state.lock().unwrap().address = Some(std::net::Ipv4Addr::LOCALHOST);
    let mut manifest = email.manifest("email");
    manifest["accounts"]["certificate"] = json!(true);
    manifest["containers"][0]["reload_signal"] = json!("SIGHUP");
    let plain = {
        let mut manifest = email.manifest("plain");
        manifest["containers"][0]["reload_signal"] = json!("SIGHUP");
        manifest
    };
    catalog::write(&cell.state().join("catalog"), &[manifest, plain]);
    let admin = cell.admin().await;
    for service in ["plain", "email"] {
        let path = format!("/api/services/{service}/install");
        admin.post(&path, &json!({})).await.expect(202);
    }
    let count = async || email.certificates().len();
    let reloads = |handle: &str| {
        let calls = broker.calls();
        calls
            .iter()
            .filter(|call| *call == &format!("reload {handle}"))
            .count()
    };
    until("the first", async || count().await == 1 && reloads("email") == 1).await;
    let (chain, key) = email.certificates()[0].clone();
    assert!(chain.starts_with("-----BEGIN CERTIFICATE-----") && key.contains("PRIVATE KEY"));
    let issued = cell.vault.issued();
    assert!(
        issued.contains(&(vec!["email.home.cell".to_owned()], Vec::new())),
        "{issued:?}"
    );
    assert_eq!(told(&cell).await["waiting"], Value::Null);

    // A start of cell-api gives it none: it has the one.
    cell.restart().await;
    cell.app.events.publish([Topic::Services]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((count().await, reloads("email")), (1, 1));

    // Nothing more before half of its life.
    cell.advance(Duration::from_secs(11 * 3600));
    cell.app.events.publish([Topic::Services]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(count().await, 1);
    cell.advance(Duration::from_secs(2 * 3600));
    cell.app.events.publish([Topic::Services]);
    until("the second", async || count().await == 2 && reloads("email") == 2).await;

    // It does not take one, or there is none: it is told, and tried again.
    email.fail("PUT", Some(Fails::Broken));
    cell.advance(Duration::from_secs(13 * 3600));
    cell.app.events.publish([Topic::Services]);
    until("it is told", async || {
        told(&cell).await["waiting"]["code"] == "CERTIFICATE"
    })
    .await;
    let now = told(&cell).await;
    assert_eq!(
        (&now["phase"], &now["published"]),
        (&json!("installed"), &json!(true))
    );
    assert!(
        now["waiting"]["message"]
            .as_str()
            .unwrap()
            .contains("keeps the one that it has")
    );
    email.fail("PUT", None);
    until("the third", async || count().await == 3).await;
    until("it is told no more", async || {
        told(&cell).await["waiting"].is_null()
    })
    .await;
    cell.vault.refuse(&["email.home.cell"]);
    cell.advance(Duration::from_secs(13 * 3600));
    cell.app.events.publish([Topic::Services]);
    until("it is told", async || {
        told(&cell).await["waiting"]["code"] == "CERTIFICATE"
    })
    .await;
    assert_eq!(count().await, 3, "it keeps what it has");
    cell.vault.refuse(&[]);
    until("the fourth", async || count().await == 4).await;
    assert_eq!(reloads("plain"), 0, "who asks for none is left alone");
}
