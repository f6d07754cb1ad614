//! What managers ask of services: configuration, tests, how they were, what is wrong, logs as they grow.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cell_api::store::{managers as table, migrations};
use cell_api_core::services::health::{Alert, Kind, PATIENCE_MS, Severity};
use cell_proto::api::v1::manager_service_client::ManagerServiceClient;
use cell_proto::api::v1::store_service_client::StoreServiceClient;
use cell_proto::api::v1::{
    AcknowledgeAlertRequest, FollowServiceLogsRequest, GetServiceConfigRequest,
    GetServiceHealthHistoryRequest, ListAlertsRequest, ReadServiceBackupRequest, ServiceParameter,
    SetQueryLogRequest, TestServiceRequest, ValidateServiceConfigRequest,
};
use cell_proto::{fault, ipc};
use serde_json::{Value, json};
use support::catalog::{self, notes};
use support::client::Client;
use support::eventually;
use support::store::*;
use tokio::net::TcpListener;

async fn alerts(admin: &Client) -> Vec<Value> {
    let told = admin.get("/api/alerts").await.expect(200).json();
    told["alerts"].as_array().unwrap().clone()
}

/// Waits until what is wrong is so.
async fn alerted(admin: &Client, is_it: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let mut last = Vec::new();
    for _ in 0..200 {
        last = alerts(admin).await;
        if is_it(&last) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it is never told: {last:?}");
}

async fn states(admin: &Client, service: &str) -> Vec<String> {
    let path = format!("/api/services/{service}/health/history");
    let told = admin.get(&path).await.expect(200).json();
    let entries = told["entries"].as_array().unwrap().iter();
    entries
        .map(|entry| entry["state"].as_str().unwrap().to_owned())
        .collect()
}

/// Waits until a service's last transitions are these, the last first.
async fn was(admin: &Client, service: &str, expected: &[&str]) {
    let mut last = Vec::new();
    for _ in 0..200 {
        last = states(admin, service).await;
        if last
            .iter()
            .map(String::as_str)
            .take(expected.len())
            .eq(expected.iter().copied())
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{service} never was {expected:?}: {last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_read_and_tried() {
    let (_cell, broker, admin, _) = ready().await;
    install(&admin, "notes", json!({"parameters": {"size": 4}})).await;
    stands(&admin, "notes", "installed").await;
    let config = admin.get("/api/services/notes/config").await.expect(200).json();
    assert_eq!(config["parameters"], json!({"size": "4"}));
    assert_eq!(config["form"].as_array().unwrap().len(), 2);
    let calls = broker.calls();
    let path = "/api/services/notes/config/validate";
    let valid = admin.post(path, &json!({"parameters": {"size": 5}})).await;
    assert_eq!(valid.expect(200).json(), json!({"valid": true}));
    let refused = admin
        .post(path, &json!({"parameters": {"size": 0, "x": "y"}}))
        .await;
    refused.refused(400, "INVALID_REQUEST");
    assert_eq!(refused.fields().len(), 2);
    assert_eq!(broker.calls(), calls, "nothing was done");
    let path = "/api/services/board/config/validate";
    let none = admin.post(path, &json!({"parameters": {}})).await;
    none.refused(404, "NO_SERVICE");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_service_is_is_written_down_and_what_is_wrong_is_told_until_it_is_over() {
    let (cell, broker, admin, _) = ready().await;
    // An installation may be quicker than a look at it: this one waits until it was seen.
    broker.state.lock().unwrap().no_docker = true;
    install(&admin, "notes", json!({})).await;
    was(&admin, "notes", &["installing"]).await;
    broker.state.lock().unwrap().no_docker = false;
    stands(&admin, "notes", "installed").await;
    was(&admin, "notes", &["healthy", "installing"]).await;
    assert_eq!(alerts(&admin).await, Vec::<Value>::new());
    let set = |health: &str, running: bool| {
        let mut state = broker.state.lock().unwrap();
        let made = state.made.get_mut("notes").unwrap();
        (made.health, made.running) = (health.to_owned(), running);
    };
    set("unhealthy", true);
    was(&admin, "notes", &["unhealthy", "healthy"]).await;
    assert_eq!(alerts(&admin).await, Vec::<Value>::new(), "it may be over soon");
    let topic = cell_api::events::Topic::Alerts;
    let before = cell.app.events.watch().borrow().of(topic);
    cell.advance(Duration::from_millis(PATIENCE_MS.unsigned_abs()));
    let told = alerted(&admin, |all| all.len() == 1).await;
    assert_eq!(
        (&told[0]["service"], &told[0]["severity"]),
        (&json!("notes"), &json!("warning"))
    );
    assert!(
        told[0]["text"].as_str().unwrap().contains("its check"),
        "{told:?}"
    );
    assert!(cell.app.events.watch().borrow().of(topic) > before);

    // Somebody has seen it; it is still there, until it is over.
    let path = format!("/api/alerts/{}/acknowledge", told[0]["id"].as_str().unwrap());
    admin.post(&path, &json!({})).await.expect(204);
    assert_eq!(alerts(&admin).await[0]["acknowledged"], true);
    let audit = admin.get("/api/audit?limit=1000").await.text;
    assert!(audit.contains("alert.acknowledge"));
    set("", false);
    cell.advance(Duration::from_millis(PATIENCE_MS.unsigned_abs()));
    was(&admin, "notes", &["down", "unhealthy"]).await;
    cell.advance(Duration::from_millis(PATIENCE_MS.unsigned_abs()));
    let told = alerted(&admin, |all| all.iter().any(|one| one["severity"] == "critical")).await;
    assert_eq!(
        (told.len(), &told[0]["acknowledged"]),
        (1, &json!(false)),
        "the other is over"
    );
    set("healthy", true);
    was(&admin, "notes", &["healthy", "down"]).await;
    alerted(&admin, <[Value]>::is_empty).await;
    admin.post(&path, &json!({})).await.refused(404, "NO_ALERT");
    for id in ["", "x", "-1", "99999999999999999999"] {
        let path = format!("/api/alerts/{id}/acknowledge");
        assert_eq!(admin.post(&path, &json!({})).await.status, 404, "{id}");
    }

    // What starts by itself again and again is told; what somebody asked for is not.
    for _ in 0..4 {
        admin
            .post("/api/services/notes/restart", &json!({}))
            .await
            .expect(200);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(alerts(&admin).await, Vec::<Value>::new());
    for _ in 0..4 {
        broker.state.lock().unwrap().made.get_mut("notes").unwrap().starts += 1;
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
    let told = alerted(&admin, |all| all.len() == 1).await;
    assert!(
        told[0]["text"].as_str().unwrap().contains("started again"),
        "{told:?}"
    );

    // Stopped is stopped: nothing is wrong. It goes with all that was written down of it.
    admin
        .post("/api/services/notes/stop", &json!({}))
        .await
        .expect(200);
    was(&admin, "notes", &["stopped"]).await;
    admin.delete("/api/services/notes").await.expect(202);
    gone(&admin, "notes").await;
    alerted(&admin, <[Value]>::is_empty).await;
    let path = "/api/services/notes/health/history";
    assert_eq!(admin.get(path).await.code(), "NO_SERVICE");
    let left: u32 = cell
        .app
        .store
        .read(|db| Ok(db.query_row("SELECT COUNT(*) FROM service_health", (), |row| row.get(0))?))
        .unwrap();
    assert_eq!(left, 0);
}

/// What somebody has seen is another when it says something else.
#[test]
fn an_alert_that_says_something_else_is_seen_by_nobody_yet() {
    let mut database = rusqlite::Connection::open_in_memory().unwrap();
    migrations::apply(&mut database, 0).unwrap();
    let alert = |text: &str| Alert {
        service: "notes".to_owned(),
        kind: Kind::Fault,
        severity: Severity::Warning,
        text: text.to_owned(),
    };
    let tell = |text: &str, now| table::set_alerts(&database, &[alert(text)], now).unwrap();
    let seen = || {
        let all = table::alerts(&database).unwrap();
        assert_eq!((all.len(), all[0].id, all[0].since), (1, 1, 1));
        all[0].acknowledged
    };
    assert!(tell("a", 1) && !seen());
    database.execute("UPDATE alert SET acknowledged = 1", ()).unwrap();
    assert!(!tell("a", 2) && seen(), "it says the same");
    assert!(tell("b", 3) && !seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_that_failed_is_told() {
    let (_cell, broker, admin, digests) = ready().await;
    broker
        .state
        .lock()
        .unwrap()
        .refuses
        .insert(digests[0].clone(), "DENIED");
    install(&admin, "notes", json!({})).await;
    stands(&admin, "notes", "failed").await;
    let told = alerted(&admin, |all| all.len() == 1).await;
    let text = told[0]["text"].as_str().unwrap();
    assert!(
        text.contains("the installation of notes failed") && text.contains("DENIED"),
        "{text}"
    );
    assert_eq!(states(&admin, "notes").await[0], "failed");
    broker.state.lock().unwrap().refuses.clear();
    install(&admin, "notes", json!({})).await;
    stands(&admin, "notes", "installed").await;
    alerted(&admin, <[Value]>::is_empty).await;
}

/// `notes` at a port that is open, or was.
fn at(port: u16) -> Value {
    let mut manifest = notes("1.0.0");
    manifest["containers"][0]["ports"] = json!([{"port": port}]);
    manifest["routing"]["backend"] = json!(format!("notes:{port}"));
    manifest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_asks_what_a_device_needs() {
    let (cell, broker, admin, _) = ready().await;
    let open = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = open.local_addr().unwrap().port();
    catalog::write(&cell.state().join("catalog"), &[at(port)]);
    broker.state.lock().unwrap().address = Some(Ipv4Addr::LOCALHOST);
    install(&admin, "notes", json!({})).await;
    stands(&admin, "notes", "installed").await;
    let checks = async || {
        let tested = admin.post("/api/services/notes/test", &json!({})).await;
        let tested = tested.expect(200).json();
        let checks = tested["checks"].as_array().unwrap().clone();
        checks
            .into_iter()
            .map(|check| {
                assert!(check["ms"].is_u64(), "{check}");
                let (name, detail) = (check["name"].as_str().unwrap(), check["detail"].as_str().unwrap());
                (name.to_owned(), check["ok"].as_bool().unwrap(), detail.to_owned())
            })
            .collect::<Vec<_>>()
    };
    let all = checks().await;
    let of = |all: &[(String, bool, String)], name: &str| {
        let found = all.iter().find(|one| one.0 == name).unwrap();
        (found.1, found.2.clone())
    };
    assert!(of(&all, "containers").0 && of(&all, "port").0, "{all:?}");
    // This cell has neither CoreDNS nor Caddy, and that is what is said.
    assert!(
        !of(&all, "name").0 && of(&all, "name").1.contains("core_dns_dir"),
        "{all:?}"
    );
    assert!(
        !of(&all, "route").0 && of(&all, "route").1.contains("caddy_socket"),
        "{all:?}"
    );
    drop(open);
    broker
        .state
        .lock()
        .unwrap()
        .made
        .get_mut("notes")
        .unwrap()
        .running = false;
    let all = checks().await;
    assert!(!of(&all, "port").0 && !of(&all, "containers").0, "{all:?}");
    assert!(of(&all, "containers").1.contains("exited"), "{all:?}");
    assert_eq!(
        admin.post("/api/services/none/test", &json!({})).await.code(),
        "NO_SERVICE"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_followed_until_its_reader_goes() {
    let (cell, broker, admin, _) = ready().await;
    install(&admin, "notes", json!({})).await;
    stands(&admin, "notes", "installed").await;
    let log = tokio::sync::broadcast::Sender::new(16);
    let followers = broker.with(|state| {
        state.log = Some(log.clone());
        std::sync::Arc::clone(&state.followers)
    });
    let mut stream = admin.stream("/api/services/notes/logs?follow=true&lines=7").await;
    let head = stream.until("notes 7").await;
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"),
        "{head}"
    );
    log.send("a line later".to_owned()).unwrap();
    stream
        .until(r#"{"lines":["a line later"],"skipped":false}"#)
        .await;
    assert_eq!(followers.load(Ordering::SeqCst), 1);
    drop(stream);
    // Nothing has to be written for it to be seen that nobody reads.
    eventually("the broker is left alone", || {
        followers.load(Ordering::SeqCst) == 0
    })
    .await;
    for query in ["follow=1", "follow=true&lines=0", "follow=true&container=other"] {
        let path = format!("/api/services/notes/logs?{query}");
        assert_eq!(admin.get(&path).await.status, 400, "{query}");
    }
    // The end of the session is the end of the stream.
    let mut stream = admin.stream("/api/services/notes/logs?follow=true").await;
    stream.until("notes 0").await;
    admin.post("/api/auth/logout", &json!({})).await.expect(204);
    log.send("not for you".to_owned()).unwrap();
    let rest = stream.rest().await;
    assert!(!rest.contains("not for you"), "{rest}");
    drop(cell);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_query_log_is_set_at_once() {
    let (cell, _broker, admin, _) = ready().await;
    let level = admin.get("/api/dns/query-log").await.expect(200).json();
    assert_eq!(level, json!({"level": "errors"}));
    for level in ["questions", "off", "errors"] {
        let set = admin.put("/api/dns/query-log", &json!({"level": level})).await;
        assert_eq!(set.expect(200).json(), json!({"level": level}));
        assert_eq!(admin.get("/api/dns/query-log").await.json()["level"], level);
    }
    let refused = admin.put("/api/dns/query-log", &json!({"level": "all"})).await;
    refused.refused(400, "INVALID_REQUEST");
    assert_eq!(refused.fields(), ["level"]);
    assert!(
        admin
            .get("/api/audit?limit=1000")
            .await
            .text
            .contains("dns.query_log")
    );
    drop(cell);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_automation_socket_does_the_same() {
    let (cell, broker, admin, _) = ready().await;
    install(&admin, "notes", json!({"parameters": {"size": 4}})).await;
    stands(&admin, "notes", "installed").await;
    was(&admin, "notes", &["healthy"]).await;
    let mut managers = ManagerServiceClient::new(ipc::connect(&cell.automation));
    let service = || "notes".to_owned();
    let request = GetServiceConfigRequest { service: service() };
    let config = managers.get_service_config(request).await.unwrap().into_inner();
    assert_eq!((config.form.len(), config.parameters[0].text.as_str()), (2, "4"));
    let parameters = vec![ServiceParameter {
        name: "size".to_owned(),
        text: "0".to_owned(),
    }];
    let request = ValidateServiceConfigRequest {
        service: service(),
        parameters,
    };
    let refused = managers.validate_service_config(request).await.unwrap_err();
    assert_eq!(fault::violations(&refused)[0].field, "parameters.size");
    let request = GetServiceHealthHistoryRequest { service: service() };
    let history = managers
        .get_service_health_history(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(history.entries[0].state, "healthy");
    broker
        .state
        .lock()
        .unwrap()
        .made
        .get_mut("notes")
        .unwrap()
        .running = false;
    was(&admin, "notes", &["down"]).await;
    cell.advance(Duration::from_millis(PATIENCE_MS.unsigned_abs()));
    alerted(&admin, |all| all.len() == 1).await;
    let told = managers
        .list_alerts(ListAlertsRequest {})
        .await
        .unwrap()
        .into_inner();
    let id = told.alerts[0].id.clone();
    managers
        .acknowledge_alert(AcknowledgeAlertRequest { id })
        .await
        .unwrap();
    assert_eq!(alerts(&admin).await[0]["acknowledged"], true);
    let none = AcknowledgeAlertRequest { id: "0".to_owned() };
    let refused = managers.acknowledge_alert(none).await.unwrap_err();
    assert_eq!(fault::reason(&refused).as_deref(), Some("NO_ALERT"));
    let request = FollowServiceLogsRequest {
        service: service(),
        container: String::new(),
        lines: 3,
    };
    let mut log = managers.follow_service_logs(request).await.unwrap().into_inner();
    assert_eq!(log.message().await.unwrap().unwrap().lines, ["notes 3"]);
    assert!(log.message().await.unwrap().is_none());
    let request = SetQueryLogRequest {
        level: "questions".to_owned(),
    };
    let set = managers.set_query_log(request).await.unwrap().into_inner();
    assert_eq!(set.level, "questions");
    let request = TestServiceRequest {
        service: "nothing".to_owned(),
    };
    let refused = managers.test_service(request).await.unwrap_err();
    assert_eq!(fault::reason(&refused).as_deref(), Some("NO_SERVICE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_passed_on_whole_or_breaks_off() {
    const PATH: &str = "/api/services/notes/backup";
    let (cell, broker, admin, _) = ready().await;
    install(&admin, "notes", json!({})).await;
    stands(&admin, "notes", "installed").await;
    // Nobody whom it is for: told with the reason, before anything begins, and nobody took anything.
    for path in [PATH.to_owned(), format!("{PATH}?validate_only=true")] {
        let refused = admin.get(&path).await;
        refused.refused(409, "BROKER_REFUSES");
        assert!(refused.text.contains("NO_RECIPIENT"), "{}", refused.text);
    }
    let audit = async || admin.get("/api/audit?limit=500").await.expect(200).text;
    assert!(!audit().await.contains("service.backup"));

    let pieces: Vec<Vec<u8>> = (0..64_u8).map(|n| vec![n; 64 * 1024]).collect();
    broker.with(|state| state.backup = Some(pieces.iter().cloned().map(Ok).collect()));
    assert_eq!(admin.get(&format!("{PATH}?validate_only=true")).await.status, 204);
    assert!(!audit().await.contains("service.backup"), "to ask is not to take");
    let whole = admin.get(PATH).await.expect(200);
    assert_eq!(whole.headers["content-type"], "application/octet-stream");
    let disposition = whole.headers["content-disposition"].to_str().unwrap();
    let named = disposition.strip_prefix("attachment; filename=\"notes-").unwrap();
    assert!(named.ends_with(".tar.age\""), "{disposition}");
    assert_eq!(whole.headers["cache-control"], "no-store");
    // All of these bytes are UTF-8.
    assert!(
        whole.text.as_bytes() == pieces.concat(),
        "{} bytes",
        whole.text.len()
    );
    assert_eq!(audit().await.matches("service.backup").count(), 1);

    // Broken off in the middle: the answer has no end, so that nobody takes it for one.
    let broken = || vec![Ok(b"the first part".to_vec()), Err("SERVICE_CHANGED")];
    let breaks = broker.with(|state| {
        state.backup = Some(broken());
        std::sync::Arc::clone(&state.backup_breaks)
    });
    let mut stream = admin.stream(PATH).await;
    let head = stream.until("the first part").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    breaks.notify_one();
    let rest = stream.rest().await;
    assert!(
        !rest.ends_with("0\r\n\r\n"),
        "it ends as if it were whole: {rest:?}"
    );

    let channel = ipc::connect(&cell.automation);
    let mut client = StoreServiceClient::new(channel);
    let request = ReadServiceBackupRequest {
        service: "notes".to_owned(),
    };
    let mut answers = client
        .read_service_backup(request.clone())
        .await
        .unwrap()
        .into_inner();
    let first = answers.message().await.unwrap().unwrap();
    assert!(first.file_name.starts_with("notes-"), "{first:?}");
    let piece = answers.message().await.unwrap().unwrap();
    assert_eq!(piece.chunk, b"the first part");
    breaks.notify_one();
    let ended = answers.message().await.unwrap_err();
    assert_eq!(
        fault::reason(&ended).as_deref(),
        Some("BROKER_REFUSES"),
        "{ended:?}"
    );

    for (path, status) in [
        ("/api/services/none/backup".to_owned(), 404),
        (format!("{PATH}?validate_only=1"), 400),
        (format!("{PATH}?recipient=age1x"), 400),
    ] {
        assert_eq!(admin.get(&path).await.status, status, "{path}");
    }
}
