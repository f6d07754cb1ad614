//! What a change would do: told in words, with netd's opinion, and without a trace.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use cell_api::service::plan::Author;
use cell_api::service::{Actor, peers};
use cell_api_core::peer::PeerUpdateInput;
use cell_api_core::plan::OwnPath;
use serde_json::{Value, json};
use support::client::Client;
use support::{Cell, add, key};

fn access(internet: bool, peer_to_peer: bool, services: &[(&str, u16)]) -> Value {
    let services = services
        .iter()
        .map(|(address, port)| json!({"address": address, "protocol": "tcp", "port": port}));
    let services: Vec<Value> = services.collect();
    json!({"access": {"internet": internet, "peer_to_peer": peer_to_peer, "services": services}})
}

fn texts(plan: &Value) -> Vec<String> {
    let statements = plan["statements"].as_array().unwrap().iter();
    statements
        .map(|one| one["text"].as_str().unwrap().to_owned())
        .collect()
}

async fn planned(client: &Client, path: &str, body: &Value) -> Value {
    client
        .put(&format!("{path}?validate_only=true"), body)
        .await
        .expect(200)
        .json()
}

/// All that a change could leave behind.
async fn traces(cell: &Cell, client: &Client) -> (Value, Value, Value, u64, u32) {
    let read = |path: &'static str| async move { client.get(path).await.expect(200).json() };
    let generation = read("/api/status").await["generation"].clone();
    let deltas = cell.netd.state.lock().unwrap().deltas;
    let netds = cell.netd.state.lock().unwrap().generation;
    (
        read("/api/peers").await,
        read("/api/audit").await,
        generation,
        netds,
        deltas,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_told_and_nothing_is_stored_or_done() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    for (name, number) in [("laptop", 1), ("phone", 2), ("nas", 3)] {
        add(&admin, name, number).await;
    }
    for name in ["phone", "nas"] {
        let path = format!("/api/peers/{name}");
        admin.put(&path, &access(false, true, &[])).await.expect(200);
    }
    let before = traces(&cell, &admin).await;
    let nas = before.0["peers"][1]["ipv4"].as_str().unwrap().to_owned();
    let plan = planned(&admin, "/api/peers/laptop", &access(true, true, &[(&nas, 22)])).await;
    assert_eq!(
        texts(&plan),
        [
            "laptop gains the internet, by the cell's own way.".to_owned(),
            "laptop gains nas and phone.".to_owned(),
            "nas and phone gain laptop.".to_owned(),
            format!("laptop gains TCP port 22 of nas ({nas})."),
        ]
    );
    assert_eq!(plan["statements"][2]["peer_count"], json!(2));
    assert_eq!(
        plan["netd"],
        json!({"takes": true, "says": ["peer laptop: of the test"]})
    );
    assert_eq!(
        (&plan["own_path"], &plan["confirm_advised"]),
        (&json!("stays"), &json!(false))
    );
    let gone = admin
        .delete("/api/peers/nas?validate_only=true")
        .await
        .expect(200)
        .json();
    assert_eq!(
        texts(&gone),
        [
            "nas is removed and can reach nothing any more.",
            "nas loses phone.",
            "phone loses nas.",
            "All open connections of nas end.",
        ]
    );
    let nothing = planned(&admin, "/api/peers/nas", &access(false, true, &[])).await;
    assert_eq!(texts(&nothing), ["Nobody's reach changes."]);
    let open = planned(
        &admin,
        "/api/connectivity/peers/nas/failopen",
        &json!({"fail_open": true}),
    )
    .await;
    assert_eq!(texts(&open), ["Nobody's reach changes."]);
    assert_eq!(traces(&cell, &admin).await, before);
    // The same without the question is done, and does what was said.
    admin
        .put(
            "/api/peers/laptop?validate_only=false",
            &access(true, true, &[(&nas, 22)]),
        )
        .await
        .expect(200);
    assert_eq!(
        texts(&planned(&admin, "/api/peers/laptop", &access(true, true, &[(&nas, 22)])).await),
        ["Nobody's reach changes."]
    );
    assert_ne!(traces(&cell, &admin).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_refused_what_the_change_would_be_refused_and_tells_netds_no() {
    let mut cell = Cell::ready().await;
    let admin = cell.admin().await;
    for (name, number) in [("laptop", 1), ("phone", 2)] {
        add(&admin, name, number).await;
    }
    let ask = |path: &str| format!("{path}?validate_only=true");
    let laptop = ask("/api/peers/laptop");
    admin
        .put(&ask("/api/peers/nobody"), &access(true, false, &[]))
        .await
        .refused(404, "NO_PEER");
    admin
        .delete(&ask("/api/peers/nobody"))
        .await
        .refused(404, "NO_PEER");
    let taken = json!({"public_key": key(2)});
    admin.put(&laptop, &taken).await.refused(409, "KEY_IN_USE");
    admin
        .put(&laptop, &json!({}))
        .await
        .refused(400, "INVALID_REQUEST");
    let exit = ask("/api/connectivity/peers/laptop/exit");
    admin
        .put(&exit, &json!({"connection_id": "nowhere"}))
        .await
        .refused(400, "INVALID_REQUEST");
    for wrong in ["yes", "", "true&validate_only=true", "1", "true&x=1"] {
        let path = format!("/api/peers/laptop?validate_only={wrong}");
        admin
            .put(&path, &access(true, false, &[]))
            .await
            .refused(400, "INVALID_REQUEST");
    }
    cell.netd.state.lock().unwrap().refused_address = Some("10.0.5.7".parse().unwrap());
    let plan = planned(
        &admin,
        "/api/peers/laptop",
        &access(false, false, &[("10.0.5.7", 80)]),
    )
    .await;
    assert_eq!(
        plan["netd"],
        json!({"takes": false, "says": ["a service is not at a link-local address"]})
    );
    assert_eq!(
        texts(&plan),
        [
            "laptop gains TCP port 80 of 10.0.5.7 on a private network.",
            "laptop needs a new configuration: what goes into the tunnel changes.",
        ]
    );
    admin
        .put("/api/peers/phone?confirm_within=60", &access(true, false, &[]))
        .await
        .expect(200);
    admin
        .put(&laptop, &access(true, false, &[]))
        .await
        .refused(409, "CHANGE_PENDING");
    admin.post("/api/network/rollback", &json!({})).await.expect(204);
    cell.netd.kill();
    let plan = planned(&admin, "/api/peers/laptop", &access(true, false, &[])).await;
    assert_eq!(plan["netd"], Value::Null);
    assert_eq!(
        texts(&plan),
        ["laptop gains the internet, by the cell's own way."]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn exits_are_told_by_name_and_as_they_work_now() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "laptop", 1).await;
    admin
        .put("/api/peers/laptop", &access(true, false, &[]))
        .await
        .expect(200);
    for (name, kind) in [("work", "proxy"), ("onion", "tor")] {
        let import = if kind == "tor" {
            Value::Null
        } else {
            json!({"url": "socks5://192.0.2.9:1080"})
        };
        let body = json!({"name": name, "type": kind, "import": import});
        admin
            .post("/api/connectivity/connections", &body)
            .await
            .expect(201);
    }
    let exit = "/api/connectivity/peers/laptop/exit";
    let plan = planned(&admin, exit, &json!({"connection_id": "work"})).await;
    assert_eq!(
        texts(&plan),
        [
            "laptop leaves for the internet through work (TCP alone), and no longer by the cell's own way.",
            "Open connections of laptop to the internet end.",
        ]
    );
    // Nobody has seen Tor work yet, and it fails open.
    let plan = planned(&admin, exit, &json!({"connection_id": "onion"})).await;
    assert_eq!(
        texts(&plan),
        [
            "laptop is bound to onion; what goes to the internet goes by the cell's own way for now.",
            "While onion does not work, laptop goes out directly, by the cell's own way.",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_from_the_device_itself_is_warned() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    for (name, number) in [("laptop", 1), ("phone", 2)] {
        add(&admin, name, number).await;
    }
    let at = admin.get("/api/peers/laptop").await.expect(200).json()["ipv4"]
        .as_str()
        .unwrap()
        .to_owned();
    let actor = Actor {
        name: "anna".to_owned(),
        role: None,
        remote: at.clone(),
    };
    let input = PeerUpdateInput {
        public_key: Some(key(9)),
        ..PeerUpdateInput::default()
    };
    for (name, author, expected) in [
        ("laptop", Author::ByVpn(at.clone()), OwnPath::Cut),
        ("phone", Author::ByVpn(at.clone()), OwnPath::Stays),
        ("laptop", Author::Otherwise, OwnPath::Stays),
    ] {
        let plan = peers::plan_update(&cell.app, &actor, name, &input, None, author.clone())
            .await
            .unwrap()
            .plan;
        assert_eq!(plan.own_path, expected, "{name} {author:?}");
        let plan = peers::plan_delete(&cell.app, &actor, name, author.clone(), peers::Accounts::Stay)
            .await
            .unwrap()
            .plan;
        assert_eq!(plan.own_path, expected, "{name} {author:?}");
    }
}

/// What is imported again takes the place of secrets that nobody keeps: so it is told first, and cannot wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_made_anew_is_told_and_nothing_is_stored_or_done() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let all = "/api/connectivity/connections";
    let url = |server: &str| json!({"import": {"url": format!("socks5://anna:hunter2@{server}:1080")}});
    let made = json!({"name": "home", "type": "proxy", "import": url("192.0.2.9")["import"]});
    let made = admin.post(all, &made).await.expect(201).json();
    let id = made["connection"]["id"].as_str().unwrap().to_owned();
    let path = format!("{all}/{id}");
    for (number, name) in (1..).zip(["laptop", "phone", "nas"]) {
        add(&admin, name, number).await;
        if name != "nas" {
            let peer = format!("/api/peers/{name}");
            admin.put(&peer, &access(true, false, &[])).await.expect(200);
            let exit = json!({"connection_id": id});
            admin
                .put(&format!("/api/connectivity/peers/{name}/exit"), &exit)
                .await
                .expect(200);
        }
    }
    let secrets = || cell.vault.secrets.lock().unwrap().kept.clone();
    let (before, kept) = (traces(&cell, &admin).await, secrets());
    let plan = planned(&admin, &path, &url("192.0.2.10")).await;
    assert_eq!(
        texts(&plan),
        [
            "home is made anew: it connects to 192.0.2.10:1080, and no longer to 192.0.2.9:1080.",
            "Open connections of laptop and phone to the internet end: home carries them.",
            "The vault forgets the secrets that home has now, and nothing brings them back: keep what it was made of.",
        ]
    );
    assert_eq!(plan["statements"][1]["peers"], json!(["laptop", "phone"]));
    assert_eq!(
        (&plan["own_path"], &plan["netd"]["takes"]),
        (&json!("stays"), &json!(true))
    );
    assert!(!plan.to_string().contains("hunter2"), "{plan}");
    let renamed = planned(&admin, &path, &json!({"name": "sweden"})).await;
    assert_eq!(
        (texts(&renamed), &renamed["netd"]),
        (vec!["home is called sweden.".to_owned()], &Value::Null)
    );
    let wrong = admin
        .put(&format!("{path}?validate_only=true"), &url("192.0.2.256:"))
        .await;
    wrong.refused(400, "INVALID_REQUEST");
    let waits = admin
        .put(&format!("{path}?confirm_within=60"), &url("192.0.2.10"))
        .await;
    waits.refused(400, "INVALID_REQUEST");
    assert_eq!(waits.json()["violations"][0]["field"], "confirm_within");
    assert_eq!(traces(&cell, &admin).await, before);
    assert_eq!(secrets(), kept);
    let shown = admin.get(&path).await.expect(200).json();
    assert_eq!(shown["version"], made["connection"]["version"]);
}
