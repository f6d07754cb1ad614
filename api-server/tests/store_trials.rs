//! An update is done when its new containers work; where they do not, what ran before runs again. Whoever is killed meanwhile, it
//! ends at the one or the other.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::broker::FakeBroker;
use support::catalog;
use support::client::Client;
use support::store::*;
use support::{Cell, eventually};

/// `notes` with a check, and the port 995 from version 2.
fn checked(version: &str) -> Value {
    catalog::checked(match version.starts_with('1') {
        true => catalog::notes(version),
        false => notes_with(version, 995),
    })
}

/// Version 1 installed, and version 2 in the catalog, whose check says this; the digests of both.
async fn with_update(says: &'static str) -> (Cell, FakeBroker, Client, [String; 2]) {
    let (cell, broker, admin, _) = ready().await;
    let shelf = cell.state().join("catalog");
    let first = catalog::write(&shelf, &[checked("1.0.0")])[0].clone();
    install(&admin, "notes", json!({"everyone": true})).await;
    stands(&admin, "notes", "installed").await;
    let second = catalog::write(&shelf, &[checked("2.0.0")])[0].clone();
    broker.with(|state| state.checks.insert(second.clone(), says));
    (cell, broker, admin, [first, second])
}

async fn update(admin: &Client) {
    let asked = admin.post("/api/services/notes/update", &json!({})).await;
    asked.expect(202);
}

/// Until it is told that the new containers are looked at.
async fn on_trial(admin: &Client) -> Value {
    told(admin, "notes", |told| told["waiting"]["code"] == "HEALTH").await
}

async fn ended(admin: &Client, version: &str) -> Value {
    let is_it = |told: &Value| told["phase"] == "installed" && told["version"] == version;
    told(admin, "notes", is_it).await
}

fn runs(broker: &FakeBroker) -> String {
    broker.with(|state| state.made["notes"].deployment.manifest_digest.clone())
}

fn has_port(cell: &Cell, port: u16) -> bool {
    let suffix = format!(":{port}");
    entries(cell).iter().any(|(at, _)| at.ends_with(&suffix))
}

/// What devices find is of what runs: the new version's port is open while it is on trial, and closed when it was taken back.
#[tokio::test(flavor = "multi_thread")]
async fn what_says_that_it_does_not_work_is_taken_back() {
    let (cell, broker, admin, [first, second]) = with_update("starting").await;
    update(&admin).await;
    let told = on_trial(&admin).await;
    assert_eq!(
        (&told["phase"], &told["step"], &told["error"]),
        (&json!("updating"), &json!("health"), &Value::Null)
    );
    let waits = told["waiting"]["message"].as_str().unwrap();
    assert!(waits.contains("notes") && waits.contains("21 s"), "{waits}");
    assert_eq!(runs(&broker), second);
    eventually("the new version's port is open", || has_port(&cell, 995)).await;
    // It does not end by itself while nothing is said.
    tokio::time::sleep(Duration::from_secs(2)).await;
    on_trial(&admin).await;

    broker.with(|state| state.made.get_mut("notes").unwrap().health = "unhealthy".to_owned());
    let told = ended(&admin, "1.0.0").await;
    assert_eq!(
        (&told["digest"], &told["error"]["code"]),
        (&json!(first), &json!("UPDATE_TAKEN_BACK"))
    );
    let why = told["error"]["message"].as_str().unwrap();
    for part in [
        "the new container notes",
        "health check failed 1 times",
        "Fix: ",
        "(UNHEALTHY)",
    ] {
        assert!(why.contains(part), "{part}: {why}");
    }
    assert_eq!(told["waiting"], Value::Null);
    assert_eq!(told["update"]["version"], "2.0.0", "it can be tried again");
    assert_eq!(runs(&broker), first);
    eventually("its port is closed", || {
        !has_port(&cell, 995) && has_port(&cell, 993)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_works_stays_and_what_ran_before_is_forgotten() {
    let (cell, broker, admin, [first, second]) = with_update("starting").await;
    update(&admin).await;
    on_trial(&admin).await;
    // Who may reach it can be said meanwhile, and the trial goes on.
    let nobody = json!({"everyone": false, "allowed_peers": []});
    admin.put("/api/services/notes/access", &nobody).await.expect(200);
    let kept = || {
        let database = rusqlite::Connection::open(cell.state().join("cell.db")).unwrap();
        let sql = "SELECT COUNT(*) FROM service_manifest WHERE digest = ?1";
        database
            .query_row(sql, [&first], |row| row.get::<_, u32>(0))
            .unwrap()
    };
    assert_eq!(kept(), 1, "what there is to go back to is kept");
    broker.with(|state| state.made.get_mut("notes").unwrap().health = "healthy".to_owned());
    let told = ended(&admin, "2.0.0").await;
    assert_eq!((&told["error"], &told["update"]), (&Value::Null, &Value::Null));
    assert_eq!((runs(&broker), kept()), (second, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_or_starts_again_is_taken_back() {
    let (_cell, broker, admin, [first, _]) = with_update("starting").await;
    let taken_back = async |part: &str| {
        let told = ended(&admin, "1.0.0").await;
        let why = told["error"]["message"].as_str().unwrap().to_owned();
        assert!(
            why.contains(part) && why.contains("CONTAINER_ENDED"),
            "{part}: {why}"
        );
        assert_eq!(runs(&broker), first);
    };
    update(&admin).await;
    on_trial(&admin).await;
    broker.with(|state| state.made.get_mut("notes").unwrap().running = false);
    taken_back("exit status 137").await;
    update(&admin).await;
    on_trial(&admin).await;
    broker.with(|state| state.made.get_mut("notes").unwrap().starts += 1);
    taken_back("was started again").await;
}

/// Without a check what runs on for some seconds works.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_check_has_to_run_on() {
    let (cell, _broker, admin, _) = ready().await;
    install(&admin, "notes", json!({})).await;
    stands(&admin, "notes", "installed").await;
    catalog::write(&cell.state().join("catalog"), &[catalog::notes("2.0.0")]);
    let begun = std::time::Instant::now();
    update(&admin).await;
    let told = on_trial(&admin).await;
    assert!(
        told["waiting"]["message"]
            .as_str()
            .unwrap()
            .contains("runs on for 5 s"),
        "{told}"
    );
    let told = ended(&admin, "2.0.0").await;
    assert_eq!(told["error"], Value::Null);
    assert!(begun.elapsed() >= Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_does_not_wait_for_a_trial() {
    let (_cell, broker, admin, _) = with_update("starting").await;
    update(&admin).await;
    on_trial(&admin).await;
    let refused = admin.post("/api/services/notes/update", &json!({})).await;
    assert_eq!(refused.expect(409).json()["code"], "SERVICE_NOT_NOW");
    admin.delete("/api/services/notes").await.expect(202);
    gone(&admin, "notes").await;
    broker.with(|state| assert!(state.made.is_empty()));
}

/// After a boot, or where somebody took them away while the broker was dead: they are made again, and devices led to them.
#[tokio::test(flavor = "multi_thread")]
async fn containers_that_are_gone_with_the_broker_are_made_again() {
    let (cell, mut broker, admin, [_, second]) = with_update("starting").await;
    update(&admin).await;
    on_trial(&admin).await;
    broker.kill();
    let before = broker.with(|state| {
        state.checks.clear();
        state.made.remove("notes").unwrap()
    });
    told(&admin, "notes", |told| told["waiting"]["code"] == "UNREACHABLE").await;
    broker.revive();
    let told = ended(&admin, "2.0.0").await;
    assert_eq!((&told["error"], runs(&broker)), (&Value::Null, second));
    let now = broker.with(|state| state.made["notes"].deployment.containers[0].address.clone());
    assert_ne!(before.deployment.containers[0].address, now);
    eventually("devices are led to the new ones", || {
        let state = cell.netd.state.lock().unwrap();
        let mut all = state.spec.iter().flat_map(|spec| &spec.entries).peekable();
        let leads = |to: &cell_proto::netd::v1::Service| words(to).starts_with(&format!("{now}:"));
        all.peek().is_some() && all.all(|entry| entry.to.as_ref().is_some_and(leads))
    })
    .await;
}

/// Then the new one goes on, though it does not work, and it is told so; another update is let through.
#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_way_back_both_reasons_are_told() {
    let (cell, broker, admin, [first, second]) = with_update("starting").await;
    update(&admin).await;
    on_trial(&admin).await;
    broker.with(|state| {
        state.refuses.insert(first, "DENIED");
        state.made.get_mut("notes").unwrap().health = "unhealthy".to_owned();
    });
    let told = stands(&admin, "notes", "failed").await;
    assert_eq!(
        (&told["error"]["code"], &told["version"]),
        (&json!("DENIED"), &json!("2.0.0"))
    );
    let why = told["error"]["message"].as_str().unwrap();
    assert!(
        why.contains("(UNHEALTHY)") && why.contains("the new container notes"),
        "{why}"
    );
    assert_eq!(runs(&broker), second);
    assert!(has_port(&cell, 995), "what is told is what runs");
    let third = catalog::write(&cell.state().join("catalog"), &[checked("3.0.0")])[0].clone();
    update(&admin).await;
    ended(&admin, "3.0.0").await;
    assert_eq!(runs(&broker), third);
}

/// Version 2 failed, and so did the way back to version 1, which the broker refuses no more.
async fn without_a_way_back() -> (Cell, FakeBroker, Client, [String; 2]) {
    let (cell, broker, admin, [first, second]) = with_update("unhealthy").await;
    broker.with(|state| state.refuses.insert(first.clone(), "DENIED"));
    update(&admin).await;
    stands(&admin, "notes", "failed").await;
    broker.with(|state| state.refuses.clear());
    (cell, broker, admin, [first, second])
}

/// Its container ends with the machine, and the broker starts nothing by itself: until it runs again, and what is told then.
async fn boot(broker: &mut FakeBroker, admin: &Client) -> Value {
    broker.kill();
    broker.with(|state| state.made.get_mut("notes").unwrap().running = false);
    broker.revive();
    told(admin, "notes", |_| {
        broker.with(|state| state.made["notes"].running)
    })
    .await
}

/// What worked last is what there is to go back to, and not what runs meanwhile, until something works again.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_way_back_that_failed_the_next_goes_back_to_what_worked() {
    let (cell, broker, admin, [first, _]) = without_a_way_back().await;
    let third = catalog::write(&cell.state().join("catalog"), &[checked("3.0.0")])[0].clone();
    broker.with(|state| state.checks.insert(third.clone(), "starting"));
    update(&admin).await;
    on_trial(&admin).await;
    assert_eq!(runs(&broker), third);
    broker.with(|state| {
        state.refuses.insert(first.clone(), "DENIED");
        state.made.get_mut("notes").unwrap().health = "unhealthy".to_owned();
    });
    // Once more without a way back.
    stands(&admin, "notes", "failed").await;
    assert_eq!(runs(&broker), third);
    // The same again, which does not work, and now there is a way back.
    broker.with(|state| state.refuses.clear());
    update(&admin).await;
    let told = ended(&admin, "1.0.0").await;
    assert_eq!(told["error"]["code"], "UPDATE_TAKEN_BACK");
    assert_eq!((runs(&broker), &told["digest"]), (first.clone(), &json!(first)));
    eventually("its port is closed", || {
        !has_port(&cell, 995) && has_port(&cell, 993)
    })
    .await;
    let kept = || {
        let database = rusqlite::Connection::open(cell.state().join("cell.db")).unwrap();
        let sql = "SELECT COUNT(*) FROM service_manifest";
        database.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap()
    };
    assert_eq!(kept(), 1, "what runs");
}

/// Until the next has been deployed what runs is told, and not what there is to go back to; also where the next never runs.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_way_back_that_failed_what_runs_is_told_until_another_does() {
    let (cell, mut broker, admin, [first, second]) = without_a_way_back().await;
    assert!(has_port(&cell, 995));
    let third = catalog::write(&cell.state().join("catalog"), &[checked("3.0.0")])[0].clone();
    broker.with(|state| {
        state.refuses.insert(third, "DENIED");
        state.refuses.insert(first.clone(), "DENIED");
    });
    update(&admin).await;
    stands(&admin, "notes", "failed").await;
    assert_eq!(runs(&broker), second);
    assert!(has_port(&cell, 995), "it is of the second");
    // That is what runs after a boot, and neither what was asked for nor what there is to go back to.
    boot(&mut broker, &admin).await;
    assert_eq!(runs(&broker), second);
    broker.with(|state| state.refuses.remove(&first));
    update(&admin).await;
    ended(&admin, "1.0.0").await;
    assert_eq!(runs(&broker), first);
}

/// The broker starts nothing by itself after a boot: what runs before it is asked for again.
#[tokio::test(flavor = "multi_thread")]
async fn what_runs_without_a_way_back_runs_after_a_boot_too() {
    let (_cell, mut broker, admin, [_, second]) = without_a_way_back().await;
    let before = stands(&admin, "notes", "failed").await;
    let after = boot(&mut broker, &admin).await;
    assert_eq!((runs(&broker), &after["phase"]), (second, &json!("failed")));
    assert_eq!(
        (&after["error"], &after["version"]),
        (&before["error"], &before["version"])
    );
}

/// A broker that is busy, or whose Docker is slow, has taken nothing away: the same trial goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_busy_is_waited_for_and_nothing_is_forgotten() {
    for (status, code) in [
        (tonic::Code::ResourceExhausted, "BUSY"),
        (tonic::Code::DeadlineExceeded, "DOCKER_SLOW"),
    ] {
        let (_cell, broker, admin, [first, second]) = with_update("starting").await;
        update(&admin).await;
        on_trial(&admin).await;
        let asked = |digest: &String| {
            let deploy = format!("deploy {digest}");
            broker.calls().iter().filter(|call| **call == deploy).count()
        };
        let before = asked(&second);
        broker.with(|state| state.refuses_looks = Some((status, code)));
        let told = told(&admin, "notes", |told| told["waiting"]["code"] == code).await;
        assert_eq!(
            (&told["phase"], &told["error"]),
            (&json!("updating"), &Value::Null)
        );
        broker.with(|state| {
            state.refuses_looks = None;
            state.made.get_mut("notes").unwrap().starts += 1;
        });
        let told = ended(&admin, "1.0.0").await;
        let why = told["error"]["message"].as_str().unwrap();
        assert!(why.contains("was started again"), "{code}: {why}");
        assert_eq!(
            (runs(&broker), asked(&second)),
            (first, before),
            "{code}: nobody asks for it again"
        );
    }
}

/// What the broker does not have was taken away; whatever else it refuses is told as what it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_is_refused_is_told_as_what_it_is() {
    for (status, code, told_as) in [
        (
            tonic::Code::NotFound,
            "NOT_OWNED",
            "was taken away by somebody else",
        ),
        (
            tonic::Code::PermissionDenied,
            "DENIED",
            "cannot be looked at: the broker refuses",
        ),
    ] {
        let (_cell, broker, admin, [first, _]) = with_update("starting").await;
        update(&admin).await;
        on_trial(&admin).await;
        broker.with(|state| state.refuses_looks = Some((status, code)));
        let told = ended(&admin, "1.0.0").await;
        let why = told["error"]["message"].as_str().unwrap();
        let is_taken_away = why.contains("taken away");
        assert!(
            why.contains(told_as)
                && why.contains("container notes")
                && is_taken_away == (code == "NOT_OWNED"),
            "{code}: {why}"
        );
        assert_eq!(runs(&broker), first);
    }
}

/// Until it is installed as this version; how often the broker was dead meanwhile. It is started again each time.
async fn survived(broker: &mut FakeBroker, admin: &Client, version: &str) -> (u32, Value) {
    let mut deaths = 0;
    for _ in 0..600 {
        if broker.is_dead() {
            deaths += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
            broker.revive();
        }
        let told = admin.get("/api/services/notes").await.json();
        if told["phase"] == "installed" && told["version"] == version {
            return (deaths, told);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!(
        "never {version}: {}",
        admin.get("/api/services/notes").await.json()
    );
}

/// Each answer of the broker's is lost once, with what was asked for done.
#[tokio::test(flavor = "multi_thread")]
async fn whichever_answer_is_lost_it_ends_at_the_one_that_works() {
    let (cell, mut broker, admin, [first, second]) = with_update("unhealthy").await;
    // The manifest, its images, the containers; these again, and how they are; the former ones.
    for call in 1..=6 {
        broker.with(|state| state.dies_after = Some(call));
        update(&admin).await;
        let (deaths, told) = survived(&mut broker, &admin, "1.0.0").await;
        assert_eq!(
            (deaths, &told["error"]["code"]),
            (1, &json!("UPDATE_TAKEN_BACK")),
            "{call}"
        );
        assert!(
            told["error"]["message"].as_str().unwrap().contains("UNHEALTHY"),
            "{told}"
        );
        assert_eq!(runs(&broker), first, "{call}");
    }
    broker.with(|state| state.checks.clear());
    let shelf = cell.state().join("catalog");
    for call in 1..=5 {
        broker.with(|state| state.dies_after = Some(call));
        update(&admin).await;
        let (deaths, told) = survived(&mut broker, &admin, "2.0.0").await;
        assert_eq!((deaths, &told["error"]), (1, &Value::Null), "{call}");
        assert_eq!(runs(&broker), second, "{call}");
        catalog::write(&shelf, &[checked("1.0.0")]);
        update(&admin).await;
        ended(&admin, "1.0.0").await;
        catalog::write(&shelf, &[checked("2.0.0")]);
    }
}
