//! What containers do reaches browsers within a second, and a broker that was started anew is asked for everything at once.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use std::time::{Duration, Instant};

use cell_api::events::Topic;
use serde_json::json;
use support::broker::FakeBroker;
use support::{Cell, catalog, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn what_containers_do_is_told_within_a_second() {
    let cell = Cell::ready().await;
    let mut broker = FakeBroker::start(cell.state().join("broker.sock"));
    catalog::write(&cell.state().join("catalog"), &[catalog::notes("1.0.0")]);
    let admin = cell.admin().await;
    let body = json!({"everyone": true});
    admin.post("/api/services/notes/install", &body).await.expect(202);
    let begun = Instant::now();
    while admin.get("/api/services/notes").await.json()["phase"] != "installed" {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    // Until it is quiet.
    let mut changes = cell.app.events.watch();
    let version = |now: &cell_api::events::Versions| now.of(Topic::Services);
    let mut last = version(&changes.borrow());
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = version(&changes.borrow_and_update());
        if std::mem::replace(&mut last, now) == now {
            break;
        }
    }
    let deploys = |broker: &FakeBroker| {
        broker
            .calls()
            .iter()
            .filter(|call| call.starts_with("deploy"))
            .count()
    };
    assert_eq!(deploys(&broker), 1, "nothing was asked for twice");
    assert_eq!(
        broker.with(|state| state.watches),
        1,
        "one stream for all who go by it"
    );

    for what in ["unhealthy", "ended"] {
        let before = version(&changes.borrow_and_update());
        {
            let mut state = broker.state.lock().unwrap();
            if what == "unhealthy" {
                state.health.insert("notes".to_owned(), "unhealthy".to_owned());
            } else {
                state.made.get_mut("notes").unwrap().running = false;
            }
        }
        let news = changes.wait_for(|now| version(now) != before);
        let told = tokio::time::timeout(Duration::from_secs(5), news).await;
        assert!(told.is_ok_and(|told| told.is_ok()), "{what}");
    }

    // What is gone at the broker is made again, without waiting for the next look.
    let begun = Instant::now();
    broker.state.lock().unwrap().made.clear();
    eventually("it is made again", || {
        broker.state.lock().unwrap().made.contains_key("notes")
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());

    // Killed and started anew: asked for again, though it has all.
    let before = deploys(&broker);
    broker.kill();
    broker.revive();
    let begun = Instant::now();
    eventually("it is asked for again", || deploys(&broker) > before).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
