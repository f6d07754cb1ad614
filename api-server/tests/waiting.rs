//! Changes that wait for their confirmation: what is refused meanwhile, what comes back and when, and who may confirm.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests: a case is one story")]

mod support;

use std::time::Duration;

use cell_api::service::{Actor, ServiceError, peers, waiting};
use cell_api::store::waiting::Wait;
use cell_api_core::access::AccessInput;
use cell_api_core::peer::PeerUpdateInput;
use cell_api_core::waiting::Window;
use cell_proto::netd::v1::RollbackReason;
use serde_json::{Value, json};
use support::client::Client;
use support::process::{Process, prepare, started};
use support::{Cell, add, eventually, key};

const INTERNET: &str = r#"{"access": {"internet": true, "peer_to_peer": false, "services": []}}"#;

fn internet() -> Value {
    serde_json::from_str(INTERNET).unwrap()
}

async fn has_internet(client: &Client, name: &str) -> bool {
    let peer = client.get(&format!("/api/peers/{name}")).await.expect(200).json();
    peer["access"]["internet"].as_bool().unwrap()
}

async fn waiting_now(client: &Client) -> Value {
    client.get("/api/network/pending").await.expect(200).json()["waiting"].clone()
}

/// Waits until it is settled.
async fn settled(client: &Client) {
    for _ in 0..200 {
        if waiting_now(client).await.is_null() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the change waits for ever");
}

async fn actions(client: &Client) -> Vec<String> {
    let audit = client.get("/api/audit").await.expect(200).json();
    let actions = audit["records"].as_array().unwrap().iter();
    actions
        .map(|record| record["action"].as_str().unwrap().to_owned())
        .collect()
}

/// The access that netd has.
fn netds(cell: &Cell, name: &str) -> Option<bool> {
    let state = cell.netd.state.lock().unwrap();
    let peer = state.spec.as_ref()?.peers.iter().find(|peer| peer.name == name)?;
    Some(peer.access.as_ref()?.internet)
}

async fn ready() -> (Cell, Client) {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    for (name, number) in [("laptop", 1), ("phone", 2), ("stolen", 3)] {
        add(&admin, name, number).await;
    }
    (cell, admin)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_change_stands_and_meanwhile_peers_can_be_removed_alone() {
    let (cell, admin) = ready().await;
    admin
        .put("/api/peers/laptop?confirm_within=60", &internet())
        .await
        .expect(200);
    let window = cell.netd.state.lock().unwrap().window;
    assert_eq!((window, netds(&cell, "laptop")), (60, Some(true)));
    let shown = waiting_now(&admin).await;
    assert_eq!(
        (&shown["peer"], &shown["action"], &shown["author"]),
        (&json!("laptop"), &json!("update"), &json!("anna"))
    );
    assert_eq!(
        (&shown["seconds_left"], &shown["confirm_by_vpn"]),
        (&json!(60), &json!(false))
    );
    admin
        .put("/api/peers/phone", &internet())
        .await
        .refused(409, "CHANGE_PENDING");
    let late = json!({"name": "late", "public_key": key(9)});
    admin
        .post("/api/peers", &late)
        .await
        .refused(409, "CHANGE_PENDING");
    admin
        .put("/api/peers/phone?confirm_within=60", &internet())
        .await
        .refused(409, "CHANGE_PENDING");
    assert!(!has_internet(&admin, "phone").await);
    admin.delete("/api/peers/stolen").await.expect(204);
    assert_eq!(cell.netd.peer_names(), ["laptop", "phone"]);
    admin.post("/api/network/confirm", &json!({})).await.expect(204);
    assert!(waiting_now(&admin).await.is_null() && cell.netd.state.lock().unwrap().pending.is_none());
    admin
        .post("/api/network/confirm", &json!({}))
        .await
        .refused(409, "NOT_PENDING");
    assert!(has_internet(&admin, "laptop").await);
    admin.put("/api/peers/phone", &internet()).await.expect(200);
    assert_eq!(
        (netds(&cell, "laptop"), netds(&cell, "phone")),
        (Some(true), Some(true))
    );
    assert!(actions(&admin).await.contains(&"network.confirm".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_netd_takes_back_is_put_back_and_who_was_removed_stays_out() {
    let (cell, admin) = ready().await;
    admin
        .put("/api/peers/laptop?confirm_within=60", &internet())
        .await
        .expect(200);
    admin.delete("/api/peers/stolen").await.expect(204);
    cell.netd.take_back(RollbackReason::Expired);
    settled(&admin).await;
    assert!(!has_internet(&admin, "laptop").await);
    admin.put("/api/peers/phone", &internet()).await.expect(200);
    assert_eq!(
        (
            netds(&cell, "laptop"),
            netds(&cell, "phone"),
            netds(&cell, "stolen")
        ),
        (Some(false), Some(true), None)
    );
    let answer = admin.get("/api/network/pending").await.expect(200).json();
    assert!(answer["last_rollback_at"].is_string());
    let audit = admin.get("/api/audit").await.expect(200).text;
    assert!(
        audit.contains("network.rollback") && audit.contains("nobody confirmed it in time"),
        "{audit}"
    );
    // The removal of a peer waits as well, and comes back with the same address.
    let before = admin.get("/api/peers/phone").await.expect(200).json()["ipv4"].clone();
    admin
        .delete("/api/peers/phone?confirm_within=5")
        .await
        .expect(204);
    assert_eq!(cell.netd.peer_names(), ["laptop"]);
    admin.get("/api/peers/phone").await.refused(404, "NO_PEER");
    admin.post("/api/network/rollback", &json!({})).await.expect(204);
    let after = admin.get("/api/peers/phone").await.expect(200).json();
    assert_eq!(
        (&after["ipv4"], cell.netd.peer_names()),
        (&before, vec!["laptop".to_owned(), "phone".to_owned()])
    );
    assert!(has_internet(&admin, "phone").await);
    let next = add(&admin, "next", 7).await;
    assert_ne!(next["peer"]["ipv4"], before, "the address is taken again");
    admin
        .post("/api/network/rollback", &json!({}))
        .await
        .refused(409, "NOT_PENDING");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_netd_does_not_take_is_put_back_at_once() {
    let (mut cell, admin) = ready().await;
    for wrong in ["4", "3601", "", "soon", "60&confirm_within=60", "60&x=1"] {
        let path = format!("/api/peers/laptop?confirm_within={wrong}");
        admin
            .put(&path, &internet())
            .await
            .refused(400, "INVALID_REQUEST");
    }
    cell.netd.state.lock().unwrap().refused_address = Some("10.0.5.7".parse().unwrap());
    cell.netd.state.lock().unwrap().validates = false;
    let refused = json!({"access": {"internet": true, "peer_to_peer": false,
        "services": [{"address": "10.0.5.7", "protocol": "tcp", "port": 80}]}});
    let answer = admin.put("/api/peers/laptop?confirm_within=60", &refused).await;
    answer.refused(503, "NOT_APPLIED");
    assert!(!has_internet(&admin, "laptop").await && waiting_now(&admin).await.is_null());
    cell.netd.kill();
    // Whoever speaks to it notices.
    add(&admin, "meanwhile", 8).await;
    eventually("netd is lost", || cell.app.network.etag().is_none()).await;
    let away = admin
        .put("/api/peers/laptop?confirm_within=60", &internet())
        .await;
    away.refused(503, "UNREACHABLE");
    assert!(!has_internet(&admin, "laptop").await);
}

/// All that a peer may be given here.
fn rich() -> Value {
    json!({"access": {"internet": true, "peer_to_peer": true, "services": [
        {"address": "192.168.1.5", "protocol": "tcp", "port": 443},
        {"address": "192.168.1.5", "protocol": "tcp", "port": 22},
    ]}})
}

/// The same without peer-to-peer and one of the services.
fn poorer() -> Value {
    json!({"access": {"internet": true, "peer_to_peer": false, "services": [
        {"address": "192.168.1.5", "protocol": "tcp", "port": 22},
    ]}})
}

/// What netd has of it: internet, peer-to-peer, ports.
fn reach(cell: &Cell, name: &str) -> (bool, bool, Vec<u32>) {
    let state = cell.netd.state.lock().unwrap();
    let mut peers = state.spec.iter().flat_map(|spec| &spec.peers);
    let access = peers
        .find(|peer| peer.name == name)
        .unwrap()
        .access
        .clone()
        .unwrap();
    let mut ports: Vec<u32> = access.services.iter().map(|service| service.port).collect();
    ports.sort_unstable();
    (access.internet, access.peer_to_peer, ports)
}

async fn stored(client: &Client, name: &str) -> Value {
    client.get(&format!("/api/peers/{name}")).await.expect(200).json()["access"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn access_is_taken_away_at_once_while_a_change_waits_and_does_not_come_back() {
    for confirmed in [true, false] {
        let (cell, admin) = ready().await;
        for name in ["laptop", "phone"] {
            admin
                .put(&format!("/api/peers/{name}"), &rich())
                .await
                .expect(200);
        }
        let binding = json!({"access": {"internet": true, "peer_to_peer": false, "services": []}});
        admin
            .put("/api/peers/stolen?confirm_within=60", &binding)
            .await
            .expect(200);
        admin.put("/api/peers/phone", &poorer()).await.expect(200);
        assert_eq!(reach(&cell, "phone"), (true, false, vec![22]), "at once");
        assert!(!waiting_now(&admin).await.is_null(), "and the change waits on");
        // What gives, what gives and takes, and what alters anything else is refused as before.
        let swapped = json!({"access": {"internet": false, "peer_to_peer": true, "services": []}});
        for more in [
            rich(),
            swapped,
            json!({"public_key": key(9)}),
            json!({"tunnel": "full", "access": {"internet": false}}),
        ] {
            admin
                .put("/api/peers/phone", &more)
                .await
                .refused(409, "CHANGE_PENDING");
        }
        assert_eq!(reach(&cell, "phone"), (true, false, vec![22]));
        if confirmed {
            admin.post("/api/network/confirm", &json!({})).await.expect(204);
        } else {
            cell.netd.take_back(RollbackReason::Expired);
            assert_eq!(reach(&cell, "phone"), (true, false, vec![22]), "by netd itself");
            settled(&admin).await;
        }
        admin.put("/api/peers/laptop", &poorer()).await.expect(200);
        assert_eq!(
            (reach(&cell, "phone"), reach(&cell, "laptop")),
            ((true, false, vec![22]), (true, false, vec![22]))
        );
        assert_eq!(stored(&admin, "phone").await, poorer()["access"]);
        assert_eq!(netds(&cell, "stolen"), Some(confirmed));
    }
}

/// Of the peer itself, too, whose change waits: what comes back is no more than it was left.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_from_the_peer_that_waits_does_not_come_back_with_it() {
    let (cell, admin) = ready().await;
    admin.put("/api/peers/laptop", &rich()).await.expect(200);
    admin
        .put(
            "/api/peers/laptop?confirm_within=60",
            &json!({"public_key": key(9)}),
        )
        .await
        .expect(200);
    admin.put("/api/peers/laptop", &poorer()).await.expect(200);
    assert_eq!(reach(&cell, "laptop"), (true, false, vec![22]));
    admin.post("/api/network/rollback", &json!({})).await.expect(204);
    let after = admin.get("/api/peers/laptop").await.expect(200).json();
    assert_eq!(
        (&after["public_key"], &after["access"]),
        (&json!(key(1)), &poorer()["access"])
    );
    admin.put("/api/peers/phone", &internet()).await.expect(200);
    assert_eq!(reach(&cell, "laptop"), (true, false, vec![22]));
}

/// A way that changed meanwhile by itself (its exit fails) cannot go beside, and must not hold up what takes away.
#[tokio::test(flavor = "multi_thread")]
async fn what_must_wait_does_not_hold_up_what_takes_away() {
    let (cell, admin) = ready().await;
    admin.put("/api/peers/phone", &rich()).await.expect(200);
    admin
        .put("/api/peers/laptop?confirm_within=60", &internet())
        .await
        .expect(200);
    {
        // netd has less of one peer than it may have: that is given when the change is settled.
        let mut state = cell.netd.state.lock().unwrap();
        let spec = state.spec.as_mut().unwrap();
        let stolen = spec.peers.iter_mut().find(|peer| peer.name == "stolen").unwrap();
        stolen.exit = "somewhere".to_owned();
    }
    admin.put("/api/peers/phone", &poorer()).await.expect(200);
    assert_eq!(reach(&cell, "phone"), (true, false, vec![22]));
    assert_eq!(
        cell.netd.state.lock().unwrap().exit_of("stolen").as_deref(),
        Some("somewhere")
    );
    admin.post("/api/network/confirm", &json!({})).await.expect(204);
    eventually("all is told", || {
        cell.netd.state.lock().unwrap().exit_of("stolen").as_deref() == Some("")
    })
    .await;
}

/// A binding can cut its author off as an access can, and all of the choice comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_binding_waits_and_comes_back_with_what_stood_in_for_it() {
    let (cell, admin) = ready().await;
    let mut ids = Vec::new();
    for name in ["work", "spare", "other"] {
        let body = json!({"name": name, "type": "proxy", "import": {"url": "socks5://192.0.2.9:1080"}});
        let made = admin
            .post("/api/connectivity/connections", &body)
            .await
            .expect(201);
        ids.push(made.json()["connection"]["id"].as_str().unwrap().to_owned());
    }
    let put = |what: &str, body: Value| {
        let path = format!("/api/connectivity/peers/laptop/{what}");
        let admin = &admin;
        async move { admin.put(&path, &body).await }
    };
    put("exit", json!({"connection_id": "work"})).await.expect(200);
    put("failopen", json!({"fail_open": false})).await.expect(200);
    put("fallbacks", json!({"connection_ids": ["spare"]}))
        .await
        .expect(200);
    let before = admin.get("/api/peers/laptop").await.expect(200).json()["version"].clone();
    let changes = [
        ("exit", json!({"connection_id": "other"})),
        ("failopen", json!({"fail_open": true})),
        ("fallbacks", json!({"connection_ids": []})),
    ];
    for (what, change) in changes {
        put(&format!("{what}?confirm_within=60"), change)
            .await
            .expect(200);
        assert_eq!(waiting_now(&admin).await["peer"], json!("laptop"), "{what}");
        // What comes back must not be removed meanwhile.
        let path = format!("/api/connectivity/connections/{}", ids[0]);
        let gone = admin.delete(&path).await;
        assert_eq!(gone.status, 409, "{what}: {}", gone.text);
        admin.post("/api/network/rollback", &json!({})).await.expect(204);
        let after = admin.get("/api/peers/laptop").await.expect(200).json();
        assert_eq!(after["version"], before, "{what}");
        assert_eq!(
            cell.netd.state.lock().unwrap().exit_of("laptop").as_ref(),
            Some(&ids[0])
        );
    }
    put("exit?confirm_within=60", json!({"connection_id": "other"}))
        .await
        .expect(200);
    assert_eq!(
        cell.netd.state.lock().unwrap().exit_of("laptop").as_ref(),
        Some(&ids[2])
    );
    admin.post("/api/network/confirm", &json!({})).await.expect(204);
    let after = admin.get("/api/peers/laptop").await.expect(200).json();
    assert_eq!(after["exit_connection_id"], json!(ids[2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_netd_that_was_started_anew_has_taken_it_back() {
    let (mut cell, admin) = ready().await;
    admin
        .put("/api/peers/laptop?confirm_within=60", &internet())
        .await
        .expect(200);
    cell.netd.kill();
    // Whoever speaks to it notices.
    admin.delete("/api/peers/stolen").await.expect(204);
    eventually("netd is lost", || cell.app.network.etag().is_none()).await;
    cell.netd
        .state
        .lock()
        .unwrap()
        .roll_back(RollbackReason::Restarted);
    cell.netd.resume();
    settled(&admin).await;
    assert!(!has_internet(&admin, "laptop").await);
    admin.put("/api/peers/phone", &internet()).await.expect(200);
    assert_eq!(
        (netds(&cell, "laptop"), netds(&cell, "phone")),
        (Some(false), Some(true))
    );
    assert_eq!(netds(&cell, "stolen"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_made_it_through_the_vpn_confirms_it_through_the_vpn() {
    let (cell, admin) = ready().await;
    let at = |remote: &str| Actor {
        name: "anna".to_owned(),
        role: None,
        remote: remote.to_owned(),
    };
    let wait = Wait {
        window: Window::parse("60").unwrap(),
        author: "anna".to_owned(),
        remote: "10.86.0.2".to_owned(),
        by_vpn: true,
    };
    let input = PeerUpdateInput {
        access: Some(AccessInput {
            internet: true,
            ..AccessInput::default()
        }),
        ..PeerUpdateInput::default()
    };
    peers::update(&cell.app, &at("10.86.0.2"), "laptop", &input, None, Some(wait))
        .await
        .unwrap();
    assert_eq!(waiting_now(&admin).await["confirm_by_vpn"], json!(true));
    admin
        .post("/api/network/confirm", &json!({}))
        .await
        .refused(403, "CONFIRM_PATH");
    let other = waiting::confirm(&cell.app, &at("10.86.0.3"), true).await;
    assert!(matches!(other, Err(ServiceError::ConfirmPath)), "{other:?}");
    assert!(cell.netd.state.lock().unwrap().pending.is_some());
    waiting::confirm(&cell.app, &at("10.86.0.2"), true).await.unwrap();
    assert!(cell.netd.state.lock().unwrap().pending.is_none());
}

/// The real binary, killed while its change waits, and netd takes the change back before it is there again.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_was_killed_puts_back_what_netd_took_back_or_lets_it_wait_on() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    prepare(folder);
    let netd = support::netd::FakeNetd::start(folder.join("netd.sock")).await;
    let _vault = support::vault::FakeVault::start(folder.join("vault.sock"), support::START_MS).await;
    let (mut process, mut client) = started(folder).await;
    for (name, number) in [("laptop", 1), ("phone", 2)] {
        add(&client, name, number).await;
    }
    for taken_back in [false, true] {
        waits(&client, "laptop").await;
        process.killed_after(Duration::ZERO).join().unwrap();
        process.child.wait().unwrap();
        if taken_back {
            netd.take_back(RollbackReason::Expired);
        }
        process = Process::start(folder);
        client.address = process.ready(folder).await.address;
        if !taken_back {
            assert_eq!(waiting_now(&client).await["peer"], json!("laptop"));
            assert!(netd.state.lock().unwrap().pending.is_some(), "it waits on");
            client.post("/api/network/rollback", &json!({})).await.expect(204);
        }
        settled(&client).await;
        assert!(!has_internet(&client, "laptop").await, "{taken_back}");
        waits(&client, "phone").await;
        client.post("/api/network/confirm", &json!({})).await.expect(204);
        client
            .put("/api/peers/phone", &json!({"tunnel": "split"}))
            .await
            .expect(200);
    }
}

/// Makes a change that waits. netd is told everything (again) before differences can be made.
async fn waits(client: &Client, name: &str) {
    let path = format!("/api/peers/{name}?confirm_within=600");
    for _ in 0..100 {
        if client.put(&path, &internet()).await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no change of {name} waits");
}

/// What would be refused at the end costs nothing at the beginning.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_beside_a_change_that_waits_touches_no_secret() {
    let (cell, admin) = ready().await;
    let url = |password: &str| json!({"url": format!("socks5://anna:{password}@192.0.2.9:1080")});
    let body = json!({"name": "work", "type": "proxy", "import": url("first")});
    let made = admin
        .post("/api/connectivity/connections", &body)
        .await
        .expect(201)
        .json();
    let id = made["connection"]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/connectivity/connections/{id}");
    let kept = || format!("{:?}", cell.vault.secrets.lock().unwrap().kept);
    let before = (kept(), admin.get(&path).await.expect(200).json());
    admin
        .put("/api/peers/laptop?confirm_within=60", &internet())
        .await
        .expect(200);
    let again = json!({"import": url("second")});
    admin.put(&path, &again).await.refused(409, "CHANGE_PENDING");
    let asks = format!("{path}?validate_only=true");
    admin.put(&asks, &again).await.refused(409, "CHANGE_PENDING");
    assert_eq!((kept(), admin.get(&path).await.expect(200).json()), before);
    // Another name concerns nobody's network.
    admin.put(&path, &json!({"name": "office"})).await.expect(200);
    admin.post("/api/network/confirm", &json!({})).await.expect(204);
    admin.put(&path, &again).await.expect(200);
    assert_ne!(kept(), before.0, "control");
}
