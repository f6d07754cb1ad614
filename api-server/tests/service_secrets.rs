//! Secrets of services: a service waits for those that it needs, their values go to vaultd alone, and they go with the service.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use std::sync::Arc;

use cell_proto::api::v1::store_service_client::StoreServiceClient;
use cell_proto::api::v1::{ListServiceSecretsRequest, RemoveServiceSecretRequest, SetServiceSecretRequest};
use cell_proto::{fault, ipc};
use serde_json::{Value, json};
use support::Cell;
use support::broker::FakeBroker;
use support::catalog::{self, notes};
use support::client::Client;
use support::store::{gone, install, stands, told};
use support::traces::{Log, files};
use tonic::Code;

const ALL: &str = "/api/services/notes/secrets";
const TOKEN: &str = "/api/services/notes/secrets/dns_token";
const STORED: &str = "svc_notes_dns_token";

fn with_secrets(version: &str) -> Value {
    let mut manifest = notes(version);
    manifest["containers"][0]["secrets"] = json!([
        {"name": "dns_token"}, {"name": "other", "optional": true}, {"name": "session_key", "generate": 32}
    ]);
    let field =
        json!({"type": "string", "label": "Token", "pattern": "printable", "max_length": 40, "secret": true});
    manifest["config_schema"]["dns_token"] = field;
    manifest
}

/// A cell whose broker looks secrets up where vaultd keeps them.
async fn ready() -> (Cell, FakeBroker, Client) {
    let cell = Cell::ready().await;
    let broker = FakeBroker::start(cell.state().join("broker.sock"));
    broker.with(|state| state.vault = Some(Arc::clone(&cell.vault.secrets)));
    catalog::write(&cell.state().join("catalog"), &[with_secrets("1.0.0")]);
    let admin = cell.admin().await;
    (cell, broker, admin)
}

fn starts(broker: &FakeBroker) -> i64 {
    broker.with(|state| state.made.get("notes").map_or(0, |made| made.starts))
}

async fn restarted(broker: &FakeBroker, times: i64) {
    for _ in 0..400 {
        if starts(broker) == times {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("started {} times, not {times}", starts(broker));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_waits_for_its_secret_and_nobody_is_told_it() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let (cell, broker, admin) = ready().await;

    // Not among the parameters, in the form or by value.
    let offered = admin.get("/api/store/catalog").await.expect(200).json();
    let form = offered["services"][0]["form"].as_array().unwrap().clone();
    assert!(form.iter().all(|field| field["name"] != "dns_token"), "{form:?}");
    let refused = admin
        .post(
            "/api/services/notes/install",
            &json!({"parameters": {"dns_token": "xyzzy-0"}}),
        )
        .await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    assert!(refused.text.contains("dns_token"), "{}", refused.text);

    install(&admin, "notes", json!({})).await;
    let waits = told(&admin, "notes", |told| {
        told["waiting"]["code"] == "SECRET_MISSING"
    })
    .await;
    assert_eq!(
        (&waits["phase"], &waits["step"]),
        (&json!("installing"), &json!("deploy"))
    );
    let generated = cell.vault.secrets.lock().unwrap().names();
    assert_eq!(
        generated,
        ["svc_notes_session_key"],
        "what the vault makes is made"
    );
    let secrets = admin.get(ALL).await.expect(200).json();
    let state = |name: &str| {
        let all = secrets["secrets"].as_array().unwrap();
        let one = all.iter().find(|one| one["name"] == name).unwrap();
        ["optional", "generated", "can_be_set", "is_set"].map(|key| one[key].as_bool().unwrap())
    };
    assert_eq!(state("dns_token"), [false, false, true, false]);
    assert_eq!(state("other"), [true, false, false, false]);
    assert_eq!(state("session_key"), [false, true, false, true]);

    // What cannot be one.
    for (path, value, field) in [
        (TOKEN, json!({"value": ""}), "value"),
        (TOKEN, json!({"value": "xyzzy\n"}), "value"),
        (TOKEN, json!({"value": "xyzzy".repeat(20)}), "value"),
        (
            "/api/services/notes/secrets/session_key",
            json!({"value": "xyzzy"}),
            "secret",
        ),
        (
            "/api/services/notes/secrets/size",
            json!({"value": "xyzzy"}),
            "secret",
        ),
    ] {
        let refused = admin.put(path, &value).await;
        assert_eq!(refused.status, 400, "{path} {}", refused.text);
        assert!(
            refused.text.contains(field) && !refused.text.contains("xyzzy"),
            "{}",
            refused.text
        );
    }
    assert_eq!(
        admin
            .put("/api/services/absent/secrets/a", &json!({"value": "x"}))
            .await
            .status,
        404
    );

    let mut answers = admin
        .put(TOKEN, &json!({"value": "xyzzy-first"}))
        .await
        .expect(202)
        .text;
    stands(&admin, "notes", "installed").await;
    assert_eq!(starts(&broker), 1);
    assert_eq!(cell.vault.secrets.lock().unwrap().value(STORED), "xyzzy-first");

    // Another one is given to what runs, by the automation API too.
    answers += &admin
        .put(TOKEN, &json!({"value": "xyzzy-second"}))
        .await
        .expect(202)
        .text;
    restarted(&broker, 2).await;
    let mut store = StoreServiceClient::new(ipc::connect(&cell.automation));
    let set = |secret: &str, value: &str| SetServiceSecretRequest {
        service: "notes".to_owned(),
        secret: secret.to_owned(),
        value: value.to_owned(),
    };
    answers += &format!("{:?}", set("dns_token", "xyzzy-third"));
    let done = store
        .set_service_secret(set("dns_token", "xyzzy-third"))
        .await
        .unwrap();
    answers += &format!("{done:?}");
    restarted(&broker, 3).await;
    let wrong = store
        .set_service_secret(set("absent", "xyzzy"))
        .await
        .unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument, "{wrong:?}");
    answers += &format!("{wrong:?}");
    let list = ListServiceSecretsRequest {
        service: "notes".to_owned(),
    };
    let listed = store
        .list_service_secrets(list)
        .await
        .unwrap()
        .into_inner()
        .secrets;
    let is_set: Vec<_> = listed.iter().map(|one| (one.name.as_str(), one.is_set)).collect();
    assert_eq!(
        is_set,
        [("dns_token", true), ("other", false), ("session_key", true)]
    );
    answers += &format!("{listed:?}");

    // Removed, what runs is asked for again, and it waits.
    let request = RemoveServiceSecretRequest {
        service: "notes".to_owned(),
        secret: "dns_token".to_owned(),
    };
    store.remove_service_secret(request).await.unwrap();
    told(&admin, "notes", |told| {
        told["waiting"]["code"] == "SECRET_MISSING"
    })
    .await;
    admin
        .put(TOKEN, &json!({"value": "xyzzy-fourth"}))
        .await
        .expect(202);
    told(&admin, "notes", |told| told["waiting"].is_null()).await;
    for path in [
        ALL,
        "/api/audit?limit=1000",
        "/api/services",
        "/api/services/notes/status",
        "/api/services/notes/config",
    ] {
        answers += &admin.get(path).await.expect(200).text;
    }

    let state = files(cell.state());
    let log = log.0.lock().unwrap().clone();
    let has = |place: &[u8], text: &str| place.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has(&state, "dns_token"), "control");
    assert!(
        has(answers.as_bytes(), "service.secret.set"),
        "control: {answers}"
    );
    assert!(log.len() > 1_000 && has(&log, "request"), "control");
    for (place, bytes) in [
        ("the state", &state[..]),
        ("an answer", answers.as_bytes()),
        ("the log", &log[..]),
    ] {
        assert!(!has(bytes, "xyzzy"), "{place} has a value");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_go_with_their_service_and_a_vault_that_is_away_is_waited_for() {
    let (mut cell, broker, admin) = ready().await;
    // Of a service whose name begins so: not this one's.
    let others = ["svc_notes__board_key", "svc_notesx_key", "conn_x"];
    for name in others {
        let mut secrets = cell.vault.secrets.lock().unwrap();
        secrets.kept.insert(name.to_owned(), (1, b"x".to_vec()));
    }
    install(&admin, "notes", json!({})).await;
    admin.put(TOKEN, &json!({"value": "a"})).await.expect(202);
    stands(&admin, "notes", "installed").await;
    cell.vault.kill();
    admin.delete("/api/services/notes").await.expect(202);
    let waits = told(&admin, "notes", |told| !told["waiting"].is_null()).await;
    assert_eq!(waits["step"], "free", "{waits}");
    assert!(broker.with(|state| state.made.is_empty()));
    let refused = admin.put(TOKEN, &json!({"value": "b"})).await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    cell.vault.resume();
    gone(&admin, "notes").await;
    let mut left = cell.vault.secrets.lock().unwrap().names();
    left.retain(|name| name != "wg");
    assert_eq!(left, ["conn_x", "svc_notes__board_key", "svc_notesx_key"]);
    let absent = admin.get(ALL).await;
    assert_eq!(absent.status, 404);
    let mut store = StoreServiceClient::new(ipc::connect(&cell.automation));
    let list = ListServiceSecretsRequest {
        service: "notes".to_owned(),
    };
    let status = store.list_service_secrets(list).await.unwrap_err();
    assert_eq!(fault::reason(&status).as_deref(), Some("NO_SERVICE"));
}
