//! What the first version kept of exits, carried by REST and by the automation socket: connections, devices, secrets, and a
//! second time.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use cell_proto::api::v1::ImportFirstVersionRequest;
use cell_proto::api::v1::connection_service_client::ConnectionServiceClient;
use cell_proto::netd::v1::RollbackReason;
use cell_proto::{fault, ipc};
use serde_json::{Value, json};
use support::client::Client;
use support::{Cell, add, v1};

const IMPORT: &str = "/api/connectivity/import";
const PLAN: &str = "/api/connectivity/import?validate_only=true";
const CONNECTIONS: &str = "/api/connectivity/connections";
const DEVICES: [&str; 6] = ["phone", "laptop", "tv", "desk", "nas", "guest"];

async fn devices(admin: &Client) {
    for (number, name) in (1..).zip(DEVICES) {
        add(admin, name, number).await;
    }
}

async fn connections(admin: &Client) -> Vec<Value> {
    let all = admin.get(CONNECTIONS).await.expect(200).json();
    all["connections"].as_array().unwrap().clone()
}

/// What a device uses, by the connection's name, and its own word.
async fn exit_of(admin: &Client, name: &str) -> (Option<String>, Value) {
    let peer = admin.get(&format!("/api/peers/{name}")).await.expect(200).json();
    assert_eq!(peer["exit_connection_id"], peer["route_via"], "kept alike");
    let all = connections(admin).await;
    let found = all.iter().find(|one| one["id"] == peer["exit_connection_id"]);
    (
        found.map(|one| one["name"].as_str().unwrap().to_owned()),
        peer["fail_open"].clone(),
    )
}

async fn records(admin: &Client) -> Vec<Value> {
    let all = admin.get("/api/audit?limit=1000").await.expect(200).json();
    all["records"].as_array().unwrap().clone()
}

async fn generation(admin: &Client) -> u64 {
    admin.get("/api/status").await.expect(200).json()["generation"]
        .as_u64()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_household_is_planned_carried_and_nothing_is_done_twice() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    devices(&admin).await;
    let body = json!({"config": v1::all(), "peers": v1::PEERS});

    let (before, audited) = (generation(&admin).await, records(&admin).await.len());
    let planned = admin.post(PLAN, &body).await.expect(200);
    v1::keeps_quiet(&planned.text);
    let planned = planned.json();
    assert_eq!(planned["applied"], json!(false));
    assert_eq!(planned["exits"].as_array().unwrap().len(), 5);
    assert_eq!(planned["exits"][0]["id"], Value::Null);
    assert_eq!(
        planned["exits"][0]["vault_names"],
        json!(["preshared_key_1", "wireguard_key"])
    );
    assert_eq!(planned["peers"], json!(["desk", "laptop", "nas", "phone", "tv"]));
    assert!(connections(&admin).await.is_empty());
    assert!(
        cell.vault.secrets.lock().unwrap().kept.is_empty(),
        "a plan gives nothing away"
    );
    assert_eq!(
        (generation(&admin).await, records(&admin).await.len()),
        (before, audited)
    );

    let done = admin.post(IMPORT, &body).await.expect(200);
    v1::keeps_quiet(&done.text);
    let done = done.json();
    assert_eq!(
        (&done["applied"], &done["plan"]),
        (&json!(true), &planned["plan"])
    );
    assert_eq!(done["notes"], planned["notes"]);
    assert_eq!(generation(&admin).await, before + 1, "one change of the network");
    let made = connections(&admin).await;
    let marks: Vec<(&str, &str, u64)> = made
        .iter()
        .map(|one| {
            (
                one["name"].as_str().unwrap(),
                one["mark"].as_str().unwrap(),
                one["table"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        marks,
        [
            ("openvpn-v1", "0x1010", 1001),
            ("proxy-v1", "0x1040", 1004),
            ("sshuttle-v1", "0x1030", 1003),
            ("tor-v1", "0x1020", 1002),
            ("wireguard_ext-v1", "0x1000", 1000),
        ]
    );
    {
        let vault = cell.vault.secrets.lock().unwrap();
        let mut told: Vec<String> = made
            .iter()
            .flat_map(|one| one["vault_names"].as_array().unwrap().clone())
            .map(|name| name.as_str().unwrap().to_owned())
            .collect();
        told.sort();
        assert_eq!(
            vault.names(),
            told,
            "each secret has its connection's name, and there is no other"
        );
        let proxy = made.iter().find(|one| one["name"] == "proxy-v1").unwrap();
        assert_eq!(
            vault.value(proxy["vault_names"][0].as_str().unwrap()),
            "battery@staple:2"
        );
    }
    for (device, exit, own) in [
        ("phone", Some("wireguard_ext-v1"), Value::Null),
        ("laptop", Some("tor-v1"), json!(false)),
        ("tv", Some("proxy-v1"), json!(true)),
        ("desk", Some("openvpn-v1"), Value::Null),
        ("nas", Some("sshuttle-v1"), Value::Null),
        ("guest", None, Value::Null),
    ] {
        assert_eq!(
            exit_of(&admin, device).await,
            (exit.map(str::to_owned), own),
            "{device}"
        );
    }
    let told = records(&admin).await;
    v1::keeps_quiet(&Value::from(told.clone()).to_string());
    let count = |action: &str| told.iter().filter(|record| record["action"] == action).count();
    assert_eq!(
        (
            count("connection.create"),
            count("peer.exit"),
            count("peer.failopen"),
            count("connection.import")
        ),
        (5, 5, 2, 1)
    );
    cell.converged(before + 1).await;
    assert_eq!(cell.netd.peer_names().len(), DEVICES.len());

    let kept = (
        connections(&admin).await,
        cell.vault.secrets.lock().unwrap().kept.clone(),
    );
    for path in [PLAN, IMPORT, IMPORT] {
        let again = admin.post(path, &body).await.expect(200).json();
        assert_eq!(
            again["plan"].as_array().unwrap().last().unwrap(),
            "There is nothing to do."
        );
        assert_eq!(again["exits"].as_array().unwrap().len(), 5);
        assert!(
            again["exits"]
                .as_array()
                .unwrap()
                .iter()
                .all(|exit| exit["was_there"] == json!(true))
        );
    }
    assert_eq!(
        (
            connections(&admin).await,
            cell.vault.secrets.lock().unwrap().kept.clone()
        ),
        kept
    );
    assert_eq!(
        (generation(&admin).await, records(&admin).await.len()),
        (before + 1, told.len())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_comes_back_when_it_is_imported_again_and_names_are_not_taken_away() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "tv", 1).await;
    let own = json!({"name": "proxy-v1", "type": "proxy", "import": {"url": "socks5://own.example.org"}});
    admin.post(CONNECTIONS, &own).await.expect(201);
    let (config, peers) = (v1::parts(), json!({"tv": "proxy"}).to_string());
    let body = json!({"config": config, "peers": peers});
    let done = admin.post(IMPORT, &body).await.expect(200).json();
    assert_eq!(done["exits"][1]["name"], "proxy-v1-2");
    assert_eq!(
        exit_of(&admin, "tv").await.0.unwrap(),
        "proxy-v1-2",
        "the file's own, though there are two"
    );
    // By type alone nobody could tell, and the refusal says between which.
    let refused = admin
        .put(
            "/api/connectivity/peers/tv/exit",
            &json!({"connection_id": "proxy"}),
        )
        .await;
    refused.refused(400, "INVALID_REQUEST");
    assert!(
        refused.text.contains("name one of proxy-v1, proxy-v1-2"),
        "{}",
        refused.text
    );
    let by_type = json!({"connection_id": "wireguard_ext"});
    admin
        .put("/api/connectivity/peers/tv/exit", &by_type)
        .await
        .expect(200);
    assert_eq!(
        exit_of(&admin, "tv").await.0.unwrap(),
        "mullvad",
        "the one of its type"
    );
    let first = &done["exits"][1]["id"];
    admin
        .delete(&format!("{CONNECTIONS}/{}", first.as_str().unwrap()))
        .await
        .expect(204);
    let again = admin.post(IMPORT, &body).await.expect(200).json();
    assert_eq!(
        (&again["exits"][1]["name"], &again["exits"][1]["was_there"]),
        (&json!("proxy-v1-2"), &json!(false))
    );
    assert_ne!(
        &again["exits"][1]["id"], first,
        "another connection, with an id of its own"
    );
    assert_eq!(
        exit_of(&admin, "tv").await.0.unwrap(),
        "mullvad",
        "what was chosen here stays"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_leaves_nothing_behind() {
    let mut cell = Cell::ready().await;
    let admin = cell.admin().await;
    devices(&admin).await;
    let before = (generation(&admin).await, records(&admin).await.len());
    let broken = admin
        .post(IMPORT, &json!({"config": v1::BROKEN, "peers": "[7]"}))
        .await;
    broken.refused(400, "INVALID_REQUEST");
    v1::keeps_quiet(&broken.text);
    for field in [
        "config.connectivity.exits.wireguard_ext.conf line 7 (PostUp)",
        "peers[0]",
    ] {
        assert!(
            broken.fields().contains(&field.to_owned()),
            "{:?}",
            broken.fields()
        );
    }
    for path in [
        "/api/connectivity/import?validate_only=yes",
        "/api/connectivity/import?confirm_within=4",
    ] {
        admin
            .post(path, &json!({"config": v1::TOR}))
            .await
            .refused(400, "INVALID_REQUEST");
    }
    let huge = json!({"config": " ".repeat(65 * 1024)});
    admin.post(IMPORT, &huge).await.refused(413, "TOO_LARGE");
    cell.peer_user("laptop")
        .await
        .post(IMPORT, &json!({"config": v1::TOR}))
        .await
        .refused(403, "ROLE");
    let audited = records(&admin).await.len();
    let second = admin
        .post(IMPORT, &json!({"config": v1::SECOND}))
        .await
        .expect(200)
        .json();
    assert!(
        second["notes"][0].as_str().unwrap().contains("version 2"),
        "{second}"
    );

    // vaultd refuses the last of the secrets: those before it go again.
    let body = json!({"config": v1::all(), "peers": v1::PEERS});
    cell.vault.secrets.lock().unwrap().refuses = Some(("_password", "QUOTA"));
    admin.post(IMPORT, &body).await.refused(409, "VAULT_REFUSES");
    assert!(cell.vault.secrets.lock().unwrap().kept.is_empty());
    cell.vault.secrets.lock().unwrap().refuses = None;
    cell.lose_vault().await;
    admin.post(IMPORT, &body).await.refused(503, "UNREACHABLE");
    cell.vault.resume();
    assert!(connections(&admin).await.is_empty());
    assert_eq!(
        (generation(&admin).await, records(&admin).await.len()),
        (before.0, audited)
    );
    // And with a vault it goes.
    let mut done = admin.post(IMPORT, &body).await;
    for _ in 0..50 {
        if done.status == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        done = admin.post(IMPORT, &body).await;
    }
    done.expect(200);
    assert_eq!(connections(&admin).await.len(), 5);
    assert_eq!(cell.vault.secrets.lock().unwrap().kept.len(), 6);
}

/// The same household whose secrets lay in the vault of then: no name of then is left anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn references_to_the_old_vault_become_names_of_connections() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    devices(&admin).await;
    let body = json!({"config": v1::REFERENCES, "peers": v1::PEERS});
    let refused = admin.post(IMPORT, &body).await;
    refused.refused(400, "INVALID_REQUEST");
    for field in [
        "proxy.password_secret",
        "openvpn.password",
        "wireguard_ext.preshared_key.vault",
    ] {
        let field = format!("config.connectivity.exits.{field}");
        assert!(
            refused.fields().contains(&field),
            "{field}: {:?}",
            refused.fields()
        );
    }
    let body = json!({"config": v1::REFERENCES, "peers": v1::PEERS, "secrets": v1::references_secrets()});
    let done = admin.post(IMPORT, &body).await.expect(200);
    v1::keeps_quiet(&done.text);
    let made = connections(&admin).await;
    assert_eq!(made.len(), 5);
    let told = records(&admin).await;
    let vault = cell.vault.secrets.lock().unwrap();
    let names = vault.names();
    let all = format!("{made:?} {told:?} {} {names:?}", done.text);
    for old in [
        "wireguard_ext_private_key",
        "wireguard_ext_preshared_key",
        "sshuttle_private_key",
        "proxy_password",
    ] {
        assert!(!all.contains(old), "{old} is left: {all}");
    }
    let value_of = |name: &str, field: &str| {
        let one = made.iter().find(|one| one["name"] == name).unwrap();
        let digits = one["id"].as_str().unwrap().replace('-', "");
        vault.value(&format!("conn_{digits}_{field}"))
    };
    assert_eq!(
        value_of("wireguard_ext-v1", "wireguard_key"),
        "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
    );
    assert_eq!(value_of("openvpn-v1", "openvpn_password"), "correct-horse-1");
    assert_eq!(value_of("proxy-v1", "password"), "battery@staple:2");
    assert!(value_of("sshuttle-v1", "private_key").contains("OPENSSH"));
    assert_eq!(names.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_change_waits_nothing_is_imported() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "tv", 1).await;
    let waiting = admin
        .put(
            "/api/peers/tv?confirm_within=60",
            &json!({"access": {"internet": true}}),
        )
        .await;
    waiting.expect(200);
    let body = json!({"config": v1::parts(), "peers": "{\"tv\": \"proxy\"}"});
    for path in [PLAN, IMPORT] {
        admin.post(path, &body).await.refused(409, "CHANGE_PENDING");
    }
    assert!(cell.vault.secrets.lock().unwrap().kept.is_empty());
    admin.post("/api/network/rollback", &json!({})).await.expect(204);
    admin.post(IMPORT, &body).await.expect(200);
}

async fn waits(admin: &Client) -> Value {
    admin.get("/api/network/pending").await.expect(200).json()["waiting"].clone()
}

async fn settled(admin: &Client) {
    for _ in 0..200 {
        if waits(admin).await.is_null() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("it waits for ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_bound_for_good_only_if_that_is_confirmed() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    devices(&admin).await;
    let body = json!({"config": v1::all(), "peers": v1::PEERS});
    let path = format!("{IMPORT}?confirm_within=60");
    let mut before = Vec::new();
    for name in DEVICES {
        before.push(exit_of(&admin, name).await);
    }
    let done = admin.post(&path, &body).await.expect(200).json();
    assert_eq!((&done["applied"], &done["waits"]), (&json!(true), &json!(true)));
    let bound = exit_of(&admin, "phone").await;
    assert_ne!(bound, before[0]);
    let told = waits(&admin).await;
    assert_eq!((&told["action"], &told["peer"]), (&json!("import"), &Value::Null));
    {
        // The state to come back to has the connections, and nobody who is bound to them.
        let state = cell.netd.state.lock().unwrap();
        let (_, last_good) = state.pending.as_ref().unwrap();
        assert_eq!(state.window, 60);
        assert!(last_good.peers.iter().all(|peer| peer.exit.is_empty()));
        assert!(state.exit_of("phone").is_none_or(|exit| !exit.is_empty()));
    }
    // Who is removed meanwhile stays out.
    admin.delete("/api/peers/guest").await.expect(204);
    cell.netd.take_back(RollbackReason::Expired);
    settled(&admin).await;
    for (name, before) in DEVICES.iter().zip(&before).filter(|(name, _)| **name != "guest") {
        assert_eq!(&exit_of(&admin, name).await, before, "{name}");
    }
    assert_eq!(admin.get("/api/peers/guest").await.status, 404);
    assert_eq!(connections(&admin).await.len(), 5, "they carry nobody, and stay");

    // Once more: the same devices, no connection twice, and kept.
    let again = admin.post(&path, &body).await.expect(200).json();
    assert_eq!(again["waits"], json!(true));
    assert!(
        again["exits"]
            .as_array()
            .unwrap()
            .iter()
            .all(|exit| exit["was_there"] == json!(true))
    );
    admin.post("/api/network/confirm", &json!({})).await.expect(204);
    assert_eq!(exit_of(&admin, "phone").await, bound);
    assert_eq!(connections(&admin).await.len(), 5);
    // Nothing is left to do, and so nothing to confirm.
    let nothing = admin.post(&path, &body).await.expect(200).json();
    assert_eq!(nothing["waits"], json!(false));
    assert!(waits(&admin).await.is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn automation_imports_alike() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    devices(&admin).await;
    let mut client = ConnectionServiceClient::new(ipc::connect(&cell.automation));
    let request = ImportFirstVersionRequest {
        config: v1::all(),
        peers: v1::PEERS.to_owned(),
        secrets: String::new(),
        validate_only: true,
        confirm_within_seconds: 0,
    };
    let planned = client
        .import_first_version(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(
        planned
            .exits
            .iter()
            .all(|exit| exit.id.is_empty() && !exit.was_there)
    );
    assert!(connections(&admin).await.is_empty());
    let request = ImportFirstVersionRequest {
        validate_only: false,
        ..request
    };
    assert!(
        !format!("{request:?}").contains("battery@staple"),
        "redacted in logs"
    );
    let done = client.import_first_version(request).await.unwrap().into_inner();
    assert_eq!((done.plan, done.peers.len()), (planned.plan, 5));
    v1::keeps_quiet(&format!("{:?} {:?}", done.exits, done.notes));
    assert_eq!(connections(&admin).await.len(), 5);
    let broken = ImportFirstVersionRequest {
        config: v1::BROKEN.to_owned(),
        ..ImportFirstVersionRequest::default()
    };
    let refused = client.import_first_version(broken).await.unwrap_err();
    assert_eq!(fault::reason(&refused).as_deref(), Some("INVALID_REQUEST"));
    v1::keeps_quiet(&format!("{refused:?}"));
}
