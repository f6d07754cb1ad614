//! The store by its REST interface: what is installed, updated and removed, with a broker and a netd that remember what they were
//! asked for.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use std::collections::BTreeSet;

use cell_proto::api::v1::store_service_client::StoreServiceClient;
use cell_proto::api::v1::{
    GetCatalogRequest, GetServiceRequest, GetServiceStatusRequest, InstallServiceRequest,
    RemoveServiceRequest, RunServiceRequest, ServiceParameter, ServiceRun,
};
use cell_proto::netd::v1 as netd;
use cell_proto::{fault, ipc};
use serde_json::{Value, json};
use support::broker::FakeBroker;
use support::catalog::{self, board, caddy, notes};
use support::client::Client;
use support::{Cell, add, eventually};

/// A cell with a catalog and a broker.
async fn ready() -> (Cell, FakeBroker, Client, Vec<String>) {
    let cell = Cell::ready().await;
    let broker = FakeBroker::start(cell.state().join("broker.sock"));
    let digests = catalog::write(&cell.state().join("catalog"), &[notes("1.0.0"), board(), caddy()]);
    let admin = cell.admin().await;
    (cell, broker, admin, digests)
}

async fn install(admin: &Client, id: &str, body: Value) -> Value {
    let answer = admin.post(&format!("/api/services/{id}/install"), &body).await;
    answer.expect(202).json()["service"].clone()
}

/// Waits until a service stands so; what is told of it then.
async fn stands(admin: &Client, service: &str, phase: &str) -> Value {
    // An update takes some seconds by itself.
    for _ in 0..600 {
        let told = admin.get(&format!("/api/services/{service}")).await;
        if told.status == 200 && told.json()["phase"] == phase {
            return told.json();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let told = admin.get(&format!("/api/services/{service}")).await.json();
    panic!("{service} never is {phase}: {told}");
}

async fn gone(admin: &Client, service: &str) {
    for _ in 0..200 {
        if admin.get(&format!("/api/services/{service}")).await.status == 404 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let told = admin.get(&format!("/api/services/{service}")).await.json();
    panic!("{service} is never gone: {told}");
}

fn words(service: &netd::Service) -> String {
    let address = std::net::IpAddr::try_from(service.address.as_ref().unwrap()).unwrap();
    format!("{address}:{}", service.port)
}

/// What netd has of entries: where, who answers.
fn entries(cell: &Cell) -> Vec<(String, String)> {
    let state = cell.netd.state.lock().unwrap();
    let all = state.spec.iter().flat_map(|spec| &spec.entries);
    all.map(|entry| {
        (
            words(entry.at.as_ref().unwrap()),
            words(entry.to.as_ref().unwrap()),
        )
    })
    .collect()
}

/// What netd lets cell-egress open at containers of each service.
fn called(cell: &Cell) -> BTreeSet<String> {
    let state = cell.netd.state.lock().unwrap();
    let all = state.spec.iter().flat_map(|spec| &spec.service_networks);
    let of_one = |network: &netd::ServiceNetwork| {
        let ports = network.called.iter();
        let words =
            ports.map(|at| format!("{} {}", network.name, std::net::SocketAddr::try_from(at).unwrap()));
        words.collect::<Vec<_>>()
    };
    all.flat_map(of_one).collect()
}

/// Those of `notes`, whose container is there.
fn ports_at(address: &str) -> BTreeSet<String> {
    [8080, 993].map(|port| format!("notes {address}:{port}")).into()
}

fn granted(cell: &Cell, peer: &str) -> BTreeSet<String> {
    let state = cell.netd.state.lock().unwrap();
    let mut peers = state.spec.iter().flat_map(|spec| &spec.peers);
    let services = peers
        .find(|one| one.name == peer)
        .and_then(|peer| peer.access.clone());
    services.unwrap_or_default().services.iter().map(words).collect()
}

fn networks(cell: &Cell) -> Vec<String> {
    let state = cell.netd.state.lock().unwrap();
    let all = state.spec.iter().flat_map(|spec| &spec.service_networks);
    all.map(|network| format!("{} {}", network.name, network.bridge))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_tells_faults_of_one_and_offers_the_rest() {
    let (cell, _broker, admin, digests) = ready().await;
    std::fs::write(cell.state().join("catalog/board/manifest.json"), b"{}").unwrap();
    let told = admin.get("/api/store/catalog").await.expect(200).json();
    let of = |id: &str| {
        let all = told["services"].as_array().unwrap();
        all.iter().find(|one| one["id"] == id).unwrap().clone()
    };
    assert_eq!(of("notes")["digest"], json!(digests[0]));
    assert_eq!(of("notes")["faults"], json!([]));
    assert_eq!(of("caddy")["purpose"], "core");
    let size = of("notes")["form"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["name"] == "size")
        .unwrap()
        .clone();
    assert_eq!(
        (&size["kind"], &size["max"], &size["default"]),
        (&json!("integer"), &json!(9), &json!("3"))
    );
    assert!(
        of("board")["faults"][0]
            .as_str()
            .unwrap()
            .contains("another than the index says")
    );
    let refused = admin
        .post("/api/services/board/install", &json!({"instance": "a"}))
        .await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "CATALOG_FAULT"));
    std::fs::write(cell.state().join("catalog/index.json"), b"no").unwrap();
    assert_eq!(admin.get("/api/store/catalog").await.code(), "NO_CATALOG");
    std::fs::remove_file(cell.state().join("catalog/index.json")).unwrap();
    let none = admin.get("/api/store/catalog").await.expect(200).json();
    assert_eq!(
        none["services"],
        json!([]),
        "a cell without a catalog has an empty one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_installed_reached_and_removed() {
    let (cell, broker, admin, digests) = ready().await;
    add(&admin, "phone", 1).await;
    add(&admin, "tablet", 2).await;
    let body = json!({"parameters": {"size": 5}, "allowed_peers": ["phone"]});
    let planned = admin
        .post("/api/services/notes/install?validate_only=true", &body)
        .await;
    let plan = planned.expect(200).json();
    assert!(plan["service"].is_null());
    let plan = plan["plan"].to_string();
    for words in [
        "Notes 1.0.0",
        "172.21.0.0/28",
        "notes.home",
        "10.86.0.254",
        "phone",
        "data",
    ] {
        assert!(plan.contains(words), "{words}: {plan}");
    }
    assert_eq!(
        admin.get("/api/services").await.json()["services"],
        json!([]),
        "nothing was stored"
    );

    let asked = install(&admin, "notes", body.clone()).await;
    assert_eq!(asked["phase"], "installing");
    let told = stands(&admin, "notes", "installed").await;
    for (field, value) in [
        ("address", json!("10.86.0.254")),
        ("subnet", json!("172.21.0.0/28")),
        ("bridge", json!("cellsvc1")),
        ("parameters", json!({"size": "5"})),
        ("allowed_peers", json!(["phone"])),
        ("published", json!(true)),
        ("error", Value::Null),
    ] {
        assert_eq!(told[field], value, "{field}");
    }
    // netd had the network before the broker was asked.
    let digest = &digests[0];
    assert_eq!(
        broker.calls(),
        [
            format!("put {digest}"),
            format!("pull {digest}"),
            format!("deploy {digest}")
        ]
    );
    assert_eq!(networks(&cell), ["notes cellsvc1"]);
    let to = broker.state.lock().unwrap().made["notes"].deployment.containers[0]
        .address
        .clone();
    assert_eq!(
        entries(&cell),
        [("10.86.0.254:993".to_owned(), format!("{to}:993"))]
    );
    // What stands behind the proxy, and what is its own: the cell's test of it asks both.
    assert_eq!(called(&cell), ports_at(&to));
    assert_eq!(
        granted(&cell, "phone"),
        BTreeSet::from(["10.86.0.254:993".to_owned()])
    );
    assert_eq!(granted(&cell, "tablet"), BTreeSet::new());
    let active = admin.get("/api/services/active").await.json();
    assert_eq!(active["services"][0]["name"], "notes");
    assert_eq!(active["services"][0]["title"], "Notes");

    // A new peer does not get the service's address, and one whose own access is altered keeps the service.
    let update = json!({"access": {"internet": true}});
    admin.put("/api/peers/phone", &update).await.expect(200);
    eventually("netd hears of it", || {
        let state = cell.netd.state.lock().unwrap();
        let mut peers = state.spec.iter().flat_map(|spec| &spec.peers);
        peers.any(|peer| peer.name == "phone" && peer.access.as_ref().is_some_and(|access| access.internet))
    })
    .await;
    assert_eq!(granted(&cell, "phone").len(), 1);

    let set = admin
        .put(
            "/api/services/notes/access",
            &json!({"allowed_peers": ["tablet"]}),
        )
        .await;
    assert_eq!(set.expect(200).json()["allowed_peers"], json!(["tablet"]));
    eventually("the other one may", || granted(&cell, "tablet").len() == 1).await;
    assert_eq!(granted(&cell, "phone"), BTreeSet::new());

    let again = admin.post("/api/services/notes/install", &body).await;
    assert_eq!((again.status, again.code().as_str()), (409, "SERVICE_INSTALLED"));

    let removing = admin
        .delete("/api/services/notes?delete_volumes=true")
        .await
        .expect(202)
        .json();
    assert_eq!(removing["service"]["phase"], "removing");
    let still_published = |db: &rusqlite::Connection| {
        let sql = "SELECT COUNT(*) FROM service WHERE published";
        Ok(db.query_row(sql, (), |row| row.get::<_, u32>(0))?)
    };
    assert_eq!(
        cell.app.store.read(still_published).unwrap(),
        0,
        "from the answer on"
    );
    gone(&admin, "notes").await;
    assert!(broker.state.lock().unwrap().made.is_empty() && broker.state.lock().unwrap().volumes.is_empty());
    eventually("netd forgets it", || networks(&cell).is_empty()).await;
    assert_eq!(called(&cell), BTreeSet::new());
    assert_eq!(entries(&cell), []);
    assert!(!cell.state().join("services/notes").exists());
    let kept: u32 = cell
        .app
        .store
        .read(|db| Ok(db.query_row("SELECT COUNT(*) FROM service_manifest", (), |row| row.get(0))?))
        .unwrap();
    assert_eq!(kept, 0);
    // Its number and subnet are the next one's; its address rests.
    install(&admin, "notes", json!({})).await;
    let next = stands(&admin, "notes", "installed").await;
    assert_eq!(
        (&next["subnet"], &next["address"]),
        (&json!("172.21.0.0/28"), &json!("10.86.0.253"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_named_and_nothing_is_done() {
    let (_cell, broker, admin, _) = ready().await;
    let body =
        json!({"instance": "x", "parameters": {"size": 70, "other": "1"}, "allowed_peers": ["Ä", "nobody"]});
    let refused = admin
        .post("/api/services/notes/install", &body)
        .await
        .expect(400)
        .json();
    let fields: BTreeSet<&str> = refused["violations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["field"].as_str().unwrap())
        .collect();
    for field in ["instance", "parameters.size", "allowed_peers[0]"] {
        assert!(fields.contains(field), "{field}: {refused}");
    }
    for (id, body, status, code) in [
        ("nothing", json!({}), 404, "NOT_IN_CATALOG"),
        ("../notes", json!({}), 404, "NO_ROUTE"),
        ("board", json!({"instance": "a"}), 409, "SERVICE_REQUIRES"),
        ("board", json!({}), 400, "INVALID_REQUEST"),
        (
            "notes",
            json!({"allowed_peers": ["nobody"]}),
            400,
            "INVALID_REQUEST",
        ),
        (
            "notes",
            json!({"everyone": true, "allowed_peers": ["a"]}),
            400,
            "INVALID_REQUEST",
        ),
        ("notes", json!({"more": 1}), 400, "INVALID_REQUEST"),
    ] {
        let answer = admin.post(&format!("/api/services/{id}/install"), &body).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{id} {body}"
        );
    }
    for (path, code) in [
        ("/api/services/notes", "NO_SERVICE"),
        ("/api/services/notes/status", "NO_SERVICE"),
        ("/api/services/notes/logs", "NO_SERVICE"),
    ] {
        assert_eq!(admin.get(path).await.code(), code, "{path}");
    }
    assert_eq!(admin.get("/api/services").await.json()["services"], json!([]));
    assert_eq!(broker.calls(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_docker_does_not_remove_yet_is_asked_for_until_it_is_gone() {
    let (_cell, broker, admin, _) = ready().await;
    install(&admin, "notes", json!({})).await;
    stands(&admin, "notes", "installed").await;
    broker.state.lock().unwrap().refuses_removals = 3;
    admin
        .delete("/api/services/notes?delete_volumes=true")
        .await
        .expect(202);
    gone(&admin, "notes").await;
    let asked = broker.calls();
    assert_eq!(
        asked.iter().filter(|call| *call == "remove notes").count(),
        4,
        "{asked:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_need_is_not_removed() {
    let (_cell, _broker, admin, _) = ready().await;
    install(&admin, "notes", json!({})).await;
    stands(&admin, "notes", "installed").await;
    for instance in ["a", "b"] {
        install(&admin, "board", json!({"instance": instance})).await;
    }
    stands(&admin, "board-a", "installed").await;
    let b = stands(&admin, "board-b", "installed").await;
    assert_eq!(
        (&b["bridge"], &b["address"]),
        (&json!("cellsvc3"), &json!("10.86.0.252"))
    );
    let refused = admin.delete("/api/services/notes").await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (409, "SERVICE_REQUIRED")
    );
    assert!(
        refused.json()["detail"]
            .as_str()
            .unwrap()
            .contains("board-a, board-b")
    );
    for service in ["board-a", "board-b"] {
        admin
            .delete(&format!("/api/services/{service}"))
            .await
            .expect(202);
        gone(&admin, service).await;
    }
    admin.delete("/api/services/notes").await.expect(202);
    gone(&admin, "notes").await;
}

/// Whoever kills Docker ends the containers that it has just started: they are started once more. What ends each time has failed.
#[tokio::test(flavor = "multi_thread")]
async fn an_installation_whose_containers_end_at_once_is_tried_a_few_times() {
    let (_cell, broker, admin, digests) = ready().await;
    let deployed = format!("deploy {}", digests[0]);
    let tries = || broker.calls().iter().filter(|call| **call == deployed).count();
    let refuse = |code| {
        broker
            .state
            .lock()
            .unwrap()
            .refuses
            .insert(digests[0].clone(), code)
    };
    refuse("NOT_RUNNING");
    install(&admin, "notes", json!({})).await;
    let told = stands(&admin, "notes", "failed").await;
    assert_eq!(told["error"]["code"], "NOT_RUNNING", "{told}");
    assert_eq!(tries(), 4);
    admin.delete("/api/services/notes").await.expect(202);
    gone(&admin, "notes").await;
    install(&admin, "notes", json!({})).await;
    eventually("it was tried again", || tries() > 4).await;
    broker.state.lock().unwrap().refuses.clear();
    stands(&admin, "notes", "installed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_fails_goes_back_to_what_ran() {
    let (cell, broker, admin, digests) = ready().await;
    install(&admin, "notes", json!({"parameters": {"size": 4}})).await;
    stands(&admin, "notes", "installed").await;
    let folder = cell.state().join("catalog");
    let newer = catalog::write(&folder, &[notes("2.0.0")]);
    let told = admin.get("/api/services/notes").await.json();
    assert_eq!(told["update"], json!({"version": "2.0.0", "digest": newer[0]}));
    broker
        .state
        .lock()
        .unwrap()
        .refuses
        .insert(newer[0].clone(), "NOT_RUNNING");
    admin
        .post("/api/services/notes/update", &json!({}))
        .await
        .expect(202);
    eventually("it was tried", || {
        broker.calls().contains(&format!("deploy {}", newer[0]))
    })
    .await;
    let told = stands(&admin, "notes", "installed").await;
    assert_eq!(
        (&told["digest"], &told["error"]["code"]),
        (&json!(digests[0]), &json!("UPDATE_TAKEN_BACK"))
    );
    assert!(
        told["error"]["message"].as_str().unwrap().contains("NOT_RUNNING"),
        "{told}"
    );
    assert_eq!(
        broker.state.lock().unwrap().made["notes"]
            .deployment
            .manifest_digest,
        digests[0]
    );

    broker.state.lock().unwrap().refuses.clear();
    admin
        .post("/api/services/notes/update", &json!({}))
        .await
        .expect(202);
    eventually("the new one runs", || {
        broker.state.lock().unwrap().made["notes"]
            .deployment
            .manifest_digest
            == newer[0]
    })
    .await;
    let told = stands(&admin, "notes", "installed").await;
    assert_eq!(
        (&told["version"], &told["error"], &told["update"]),
        (&json!("2.0.0"), &Value::Null, &Value::Null)
    );
    assert_eq!(told["parameters"], json!({"size": "4"}), "what was set stays");
    let to = broker.state.lock().unwrap().made["notes"].deployment.containers[0]
        .address
        .clone();
    eventually("netd has its new address", || {
        entries(&cell) == [("10.86.0.254:993".to_owned(), format!("{to}:993"))]
    })
    .await;
    assert_eq!(called(&cell), ports_at(&to), "and the cell speaks to that alone");

    // Other parameters are an update too, and what does not fit is refused whole.
    let refused = admin
        .put(
            "/api/services/notes/config",
            &json!({"parameters": {"size": 0, "x": "y"}}),
        )
        .await;
    assert_eq!(
        refused.expect(400).json()["violations"].as_array().unwrap().len(),
        2
    );
    admin
        .put("/api/services/notes/config", &json!({"parameters": {"size": 9}}))
        .await
        .expect(202);
    eventually("it has them", || {
        broker.state.lock().unwrap().made["notes"]
            .parameters
            .get("size")
            .is_some_and(|size| size == "9")
    })
    .await;
    stands(&admin, "notes", "installed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_that_fails_says_why_and_can_be_tried_again() {
    let (_cell, broker, admin, digests) = ready().await;
    broker
        .state
        .lock()
        .unwrap()
        .refuses
        .insert(digests[0].clone(), "DENIED");
    install(&admin, "notes", json!({"everyone": true})).await;
    let told = stands(&admin, "notes", "failed").await;
    assert_eq!(
        (&told["step"], &told["error"]["code"]),
        (&json!("installing"), &json!("DENIED"))
    );
    assert_eq!(told["published"], false, "nobody is let to it");
    broker.state.lock().unwrap().refuses.clear();
    install(&admin, "notes", json!({"everyone": true})).await;
    assert_eq!(stands(&admin, "notes", "installed").await["error"], Value::Null);
    // What the broker made elsewhere than it was told is not let through.
    broker.state.lock().unwrap().other_bridge = Some("br-other".to_owned());
    install(&admin, "board", json!({"instance": "a"})).await;
    let told = stands(&admin, "board-a", "failed").await;
    assert_eq!(told["error"]["code"], "PLACE_DIFFERS");
    admin.delete("/api/services/board-a").await.expect(202);
    gone(&admin, "board-a").await;
    assert!(!broker.state.lock().unwrap().made.contains_key("board-a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_away_is_waited_for() {
    let (_cell, broker, admin, _) = ready().await;
    broker.state.lock().unwrap().no_docker = true;
    install(&admin, "notes", json!({})).await;
    let mut waiting = Value::Null;
    for _ in 0..100 {
        waiting = admin.get("/api/services/notes").await.json()["waiting"].clone();
        if !waiting.is_null() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(waiting["code"], "NO_DOCKER");
    broker.state.lock().unwrap().no_docker = false;
    let told = stands(&admin, "notes", "installed").await;
    assert_eq!(told["waiting"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_stopped_started_and_looked_at() {
    let (_cell, broker, admin, digests) = ready().await;
    install(&admin, "notes", json!({})).await;
    stands(&admin, "notes", "installed").await;
    let stopped = admin
        .post("/api/services/notes/stop", &json!({}))
        .await
        .expect(200)
        .json();
    assert_eq!(stopped["stopped"], true);
    let status = admin.get("/api/services/notes/status").await.expect(200).json();
    assert_eq!(status["containers"][0]["state"], "exited");
    assert_eq!(
        admin.get("/api/services/active").await.json()["services"],
        json!([])
    );
    let before = broker
        .calls()
        .iter()
        .filter(|call| **call == format!("deploy {}", digests[0]))
        .count();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let after = broker
        .calls()
        .iter()
        .filter(|call| **call == format!("deploy {}", digests[0]))
        .count();
    assert_eq!(before, after, "what was stopped is not started by itself");
    admin
        .post("/api/services/notes/start", &json!({}))
        .await
        .expect(200);
    admin
        .post("/api/services/notes/restart", &json!({}))
        .await
        .expect(200);
    let status = admin.get("/api/services/notes/status").await.expect(200).json();
    assert_eq!(status["containers"][0]["state"], "running");
    let logs = admin
        .get("/api/services/notes/logs?lines=5")
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&logs["container"], &logs["lines"]),
        (&json!("notes"), &json!(["notes 5"]))
    );
    for query in [
        "lines=0",
        "lines=1001",
        "lines=a",
        "container=other",
        "more=1",
        "lines=1&lines=2",
    ] {
        assert_eq!(
            admin
                .get(&format!("/api/services/notes/logs?{query}"))
                .await
                .status,
            400,
            "{query}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cells_own_containers_are_on_their_own_network_and_stand_before_the_others() {
    let (cell, broker, admin, _) = ready().await;
    install(&admin, "notes", json!({"everyone": true})).await;
    stands(&admin, "notes", "installed").await;
    install(&admin, "caddy", json!({})).await;
    let told = stands(&admin, "caddy", "installed").await;
    assert_eq!(
        (&told["address"], &told["subnet"], &told["purpose"]),
        (&Value::Null, &Value::Null, &json!("core"))
    );
    assert_eq!(networks(&cell), ["cell cellsvc0", "notes cellsvc1"]);
    let to = broker.state.lock().unwrap().made["notes"].deployment.containers[0]
        .address
        .clone();
    assert_eq!(called(&cell), ports_at(&to), "nothing of its own containers");
    let proxy = broker.state.lock().unwrap().made["caddy"].deployment.containers[0]
        .address
        .clone();
    let found: BTreeSet<_> = entries(&cell).into_iter().collect();
    for (at, to) in [(443, 8443), (80, 8080)] {
        assert!(
            found.contains(&(format!("10.86.0.254:{at}"), format!("{proxy}:{to}"))),
            "{found:?}"
        );
    }
    let active = admin.get("/api/services/active").await.json();
    assert_eq!(
        active["services"].as_array().unwrap().len(),
        1,
        "the cell's own are no services of people"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_removed_loses_what_it_was_let_to_and_addresses_stay_apart() {
    let (cell, _broker, admin, _) = ready().await;
    add(&admin, "phone", 1).await;
    install(&admin, "notes", json!({"allowed_peers": ["phone"]})).await;
    stands(&admin, "notes", "installed").await;
    admin.delete("/api/peers/phone").await.expect(204);
    let told = admin.get("/api/services/notes").await.json();
    assert_eq!(told["allowed_peers"], json!([]));
    add(&admin, "phone", 2).await;
    eventually("netd has the new one", || {
        let state = cell.netd.state.lock().unwrap();
        state
            .spec
            .iter()
            .flat_map(|spec| &spec.peers)
            .any(|peer| peer.name == "phone")
    })
    .await;
    assert_eq!(
        granted(&cell, "phone"),
        BTreeSet::new(),
        "another device of that name is not let to it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_and_phases_are_told_to_browsers() {
    let (cell, _broker, admin, _) = ready().await;
    let topic = cell_api::events::Topic::Services;
    let before = cell.app.events.watch().borrow().of(topic);
    install(&admin, "notes", json!({})).await;
    stands(&admin, "notes", "installed").await;
    let after = cell.app.events.watch().borrow().of(topic);
    assert!(after >= before + 5, "{before} {after}");
    let records = admin.get("/api/audit?limit=1000").await.json().to_string();
    for action in ["service.install", "service.network.add", "service.phase"] {
        assert!(records.contains(action), "{action}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_automation_socket_does_the_same() {
    let (cell, broker, _admin, digests) = ready().await;
    let mut store = StoreServiceClient::new(ipc::connect(&cell.automation));
    let catalog = store
        .get_catalog(GetCatalogRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(catalog.services.len(), 3);
    let parameter = |text: &str| ServiceParameter {
        name: "size".to_owned(),
        text: text.to_owned(),
    };
    let request = |parameters: Vec<ServiceParameter>, validate_only| InstallServiceRequest {
        id: "notes".to_owned(),
        instance: String::new(),
        parameters,
        everyone: true,
        allowed_peers: Vec::new(),
        validate_only,
        connection_id: String::new(),
    };
    let planned = store
        .install_service(request(vec![], true))
        .await
        .unwrap()
        .into_inner();
    assert!(
        planned.service.is_none() && planned.plan.len() >= 4,
        "{planned:?}"
    );
    let twice = vec![parameter("1"), parameter("2")];
    let refused = store.install_service(request(twice, false)).await.unwrap_err();
    assert_eq!(fault::violations(&refused)[0].field, "parameters");
    let refused = store
        .install_service(request(vec![parameter("x")], false))
        .await
        .unwrap_err();
    assert_eq!(fault::violations(&refused)[0].field, "parameters.size");
    store
        .install_service(request(vec![parameter("8")], false))
        .await
        .unwrap();
    let mut get = store.clone();
    let mut phase = async || {
        let service = "notes".to_owned();
        let told = get.get_service(GetServiceRequest { service }).await;
        told.map(|told| told.into_inner().service.unwrap().phase)
    };
    for _ in 0..200 {
        if phase().await.unwrap() == "installed" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let service = || "notes".to_owned();
    let status = store
        .get_service_status(GetServiceStatusRequest { service: service() })
        .await
        .unwrap();
    let status = status.into_inner();
    assert_eq!(status.containers[0].state, "running");
    let told = status.service.unwrap();
    assert_eq!(
        (told.digest.as_str(), told.parameters[0].text.as_str()),
        (digests[0].as_str(), "8")
    );
    let none = RunServiceRequest {
        service: service(),
        run: 0,
    };
    assert!(store.run_service(none).await.is_err());
    let stop = RunServiceRequest {
        service: service(),
        run: ServiceRun::Stop.into(),
    };
    assert!(
        store
            .run_service(stop)
            .await
            .unwrap()
            .into_inner()
            .service
            .unwrap()
            .stopped
    );
    let remove = RemoveServiceRequest {
        service: service(),
        delete_volumes: false,
        validate_only: false,
    };
    store.remove_service(remove).await.unwrap();
    let mut gone = None;
    for _ in 0..200 {
        gone = phase().await.err();
        if gone.is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(fault::reason(&gone.unwrap()).as_deref(), Some("NO_SERVICE"));
    assert_eq!(broker.state.lock().unwrap().volumes.len(), 1, "its data is kept");
}

/// The stand-in is held to what the real broker is held to (`containerd-shim/tests/store_contract.rs`).
#[tokio::test(flavor = "multi_thread")]
async fn the_stand_in_is_what_the_broker_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.sock");
    let broker = FakeBroker::start(path.clone());
    let manifest = json!({"schema_version": 3, "kind": "store", "id": "files", "name": "Files", "version": "1.0",
        "containers": [catalog::container("main", &json!([]))]});
    let request = cell_proto::broker::v1::PutManifestRequest {
        manifest: serde_json::to_vec(&manifest).unwrap(),
        ..Default::default()
    };
    support::broker_contract::holds(ipc::connect(path), request).await;
    assert!(!broker.is_dead());
}
