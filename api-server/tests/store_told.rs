//! When netd is told of services, and what of it cannot be held up.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use support::broker::FakeBroker;
use support::catalog;
use support::client::Client;
use support::store::*;
use support::{Cell, add, eventually};

fn own(ports: &[u16]) -> BTreeSet<String> {
    ports.iter().map(|port| format!("10.86.0.254:{port}")).collect()
}

fn open(cell: &Cell) -> BTreeSet<String> {
    entries(cell).into_iter().map(|(at, _)| at).collect()
}

/// notes 1.0.0 for the phone, and 2.0.0 with a port more in the catalog; its digest.
async fn with_update(cell: &Cell, admin: &Client) -> String {
    add(admin, "phone", 1).await;
    add(admin, "tablet", 2).await;
    install(admin, "notes", json!({"allowed_peers": ["phone"]})).await;
    stands(admin, "notes", "installed").await;
    eventually("the phone may", || granted(cell, "phone") == Some(own(&[993]))).await;
    let manifests = [notes_with("2.0.0", 995)];
    catalog::write(&cell.state().join("catalog"), &manifests)[0].clone()
}

async fn update(admin: &Client) {
    let asked = admin.post("/api/services/notes/update", &json!({})).await;
    asked.expect(202);
}

/// Has netd told everything of services anew.
async fn tell_again(cell: &Cell, admin: &Client) {
    let both = json!({"allowed_peers": ["phone", "tablet"]});
    admin.put("/api/services/notes/access", &both).await.expect(200);
    eventually("the tablet may", || {
        granted(cell, "tablet").is_some_and(|has| !has.is_empty())
    })
    .await;
}

async fn waits(admin: &Client, code: &str) {
    told(admin, "notes", |told| told["waiting"]["code"] == code).await;
}

fn set_docker(broker: &FakeBroker, is_away: bool) {
    broker.state.lock().unwrap().no_docker = is_away;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_is_told_when_it_is_deployed() {
    let (cell, broker, admin, _) = ready().await;
    with_update(&cell, &admin).await;
    set_docker(&broker, true);
    update(&admin).await;
    waits(&admin, "NO_DOCKER").await;
    // The containers are those of 1.0.0 still.
    tell_again(&cell, &admin).await;
    assert_eq!(granted(&cell, "phone"), Some(own(&[993])));
    assert_eq!(open(&cell), own(&[993]));
    set_docker(&broker, false);
    told(&admin, "notes", |told| {
        told["phase"] == "installed" && told["version"] == "2.0.0"
    })
    .await;
    eventually("its new port is open", || open(&cell) == own(&[993, 995])).await;
    assert_eq!(granted(&cell, "phone"), Some(own(&[993, 995])));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_update_that_is_taken_back_nothing_was_told() {
    let (cell, broker, admin, _) = ready().await;
    let newer = with_update(&cell, &admin).await;
    broker.with(|state| {
        state.refuses.insert(newer, "DENIED");
    });
    set_docker(&broker, true);
    update(&admin).await;
    waits(&admin, "NO_DOCKER").await;
    tell_again(&cell, &admin).await;
    assert_eq!(open(&cell), own(&[993]));
    set_docker(&broker, false);
    let told = told(&admin, "notes", |told| {
        told["error"]["code"] == "UPDATE_TAKEN_BACK" && told["phase"] == "installed"
    })
    .await;
    assert_eq!(told["version"], "1.0.0");
    tell_again(&cell, &admin).await;
    assert_eq!(open(&cell), own(&[993]));
}

async fn set_access(admin: &Client, service: &str, mut access: Value) -> support::client::Answer {
    if access["allowed_peers"].is_null() {
        access["allowed_peers"] = json!([]);
    }
    admin
        .put(&format!("/api/services/{service}/access"), &access)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_netd_refuses_of_a_service_holds_up_nothing_else() {
    let (cell, _broker, admin, _) = ready().await;
    let manifests = [
        catalog::notes("1.0.0"),
        named("files", 22),
        named("wiki", 8443),
        named("chat", 5222),
    ];
    catalog::write(&cell.state().join("catalog"), &manifests);
    add(&admin, "phone", 1).await;
    for id in ["files", "wiki", "chat"] {
        install(&admin, id, json!({"everyone": true})).await;
        stands(&admin, id, "installed").await;
    }
    cell.netd.with(|state| {
        state.refused_networks = vec!["files".to_owned()];
        state.refused_entry = Some(5222);
    });
    // A revocation goes through, and each service says what is refused of it.
    set_access(&admin, "wiki", json!({"allowed_peers": ["phone"]}))
        .await
        .expect(200);
    let wiki = "10.86.0.253:8443".to_owned();
    eventually("wiki is the phone's alone", || {
        entries(&cell) == [(wiki.clone(), false)]
    })
    .await;
    assert_eq!(networks(&cell), ["chat", "wiki"]);
    let files = told(&admin, "files", |told| !told["error"].is_null()).await;
    assert_eq!(files["error"]["code"], "NETWORK_REFUSED");
    assert!(
        files["error"]["message"]
            .as_str()
            .unwrap()
            .contains("its network: subnet"),
        "{files}"
    );
    let chat = told(&admin, "chat", |told| !told["error"].is_null()).await;
    assert!(
        chat["error"]["message"]
            .as_str()
            .unwrap()
            .contains("its port tcp 5222"),
        "{chat}"
    );
    assert_eq!(admin.get("/api/services/wiki").await.json()["error"], Value::Null);
    // One that is refused itself fails alone, and the next is installed.
    cell.netd.with(|state| {
        state.refused_networks.push("notes".to_owned());
    });
    install(&admin, "notes", json!({})).await;
    let failed = stands(&admin, "notes", "failed").await;
    assert_eq!(failed["error"]["code"], "NETWORK_REFUSED");
    // What is refused no more is there again, with nobody asking for it.
    cell.netd.with(|state| {
        state.refused_networks.clear();
        state.refused_entry = None;
        state.max_entries = Some(2);
    });
    set_access(&admin, "wiki", json!({"everyone": true}))
        .await
        .expect(200);
    eventually("as many entries as the ceiling allows", || {
        entries(&cell).len() == 2
    })
    .await;
    cell.netd.with(|state| {
        state.max_entries = None;
    });
    set_access(&admin, "wiki", json!({})).await.expect(200);
    eventually("all", || entries(&cell).len() == 3).await;
    told(&admin, "files", |told| told["error"].is_null()).await;
}

/// A service of one container and one port.
fn named(id: &str, port: u16) -> Value {
    json!({"schema_version": 3, "kind": "store", "id": id, "name": id, "version": "1.0.0",
        "containers": [catalog::container(id, &json!([{"port": port}]))]})
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_is_taken_away_while_netd_refuses_the_network() {
    let (cell, _broker, admin, _) = ready().await;
    install(&admin, "notes", json!({"everyone": true})).await;
    stands(&admin, "notes", "installed").await;
    eventually("everyone may", || {
        entries(&cell) == [("10.86.0.254:993".to_owned(), true)]
    })
    .await;
    let port = cell.netd.with(|state| {
        let wireguard = state.spec.as_mut().unwrap().wireguard.as_mut().unwrap();
        state.refused_listen_port = Some(wireguard.listen_port);
        // It has the network of before, with another port.
        wireguard.listen_port += 1;
        wireguard.listen_port - 1
    });
    set_access(&admin, "notes", json!({})).await.expect(200);
    eventually("nobody may", || {
        entries(&cell).iter().all(|(_, everyone)| !everyone)
    })
    .await;
    let other = cell.netd.with(|state| {
        let spec = state.spec.as_ref().unwrap();
        spec.wireguard.as_ref().unwrap().listen_port
    });
    assert_eq!(other, port + 1, "and nothing else was changed");
    admin.delete("/api/services/notes").await.expect(202);
    eventually("it is closed", || entries(&cell).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn access_is_taken_away_while_a_change_waits() {
    let (cell, _broker, admin, _) = ready().await;
    for (number, name) in (1..).zip(["phone", "tablet", "laptop"]) {
        add(&admin, name, number).await;
    }
    let both = json!({"allowed_peers": ["phone", "tablet"]});
    install(&admin, "notes", both).await;
    stands(&admin, "notes", "installed").await;
    eventually("the phone may", || granted(&cell, "phone") == Some(own(&[993]))).await;
    let waits = async || {
        let update = json!({"access": {"internet": true}});
        let path = "/api/peers/laptop?confirm_within=60";
        admin.put(path, &update).await.expect(200);
        assert!(cell.netd.state.lock().unwrap().pending.is_some());
    };
    waits().await;
    // More is refused, and less is done beside it.
    set_access(&admin, "notes", json!({"everyone": true}))
        .await
        .refused(409, "CHANGE_PENDING");
    set_access(&admin, "notes", json!({"allowed_peers": ["tablet"]}))
        .await
        .expect(200);
    eventually("the phone may not", || granted(&cell, "phone") == Some(own(&[]))).await;
    assert_eq!(granted(&cell, "tablet"), Some(own(&[993])));
    assert!(
        cell.netd.state.lock().unwrap().pending.is_some(),
        "the change waits on"
    );
    admin.post("/api/network/confirm", &json!({})).await.expect(204);

    // What is everyone's netd does not close beside a change, which therefore waits no more.
    set_access(&admin, "notes", json!({"everyone": true}))
        .await
        .expect(200);
    eventually("everyone may", || {
        entries(&cell).iter().any(|(_, everyone)| *everyone)
    })
    .await;
    let update = json!({"access": {"internet": false}});
    admin.put("/api/peers/laptop", &update).await.expect(200);
    waits().await;
    set_access(&admin, "notes", json!({"allowed_peers": ["phone"]}))
        .await
        .expect(200);
    eventually("the phone may alone", || {
        entries(&cell) == [("10.86.0.254:993".to_owned(), false)]
            && granted(&cell, "phone") == Some(own(&[993]))
            && granted(&cell, "tablet") == Some(own(&[]))
    })
    .await;
    assert!(cell.netd.state.lock().unwrap().pending.is_none());
    let laptop = admin.get("/api/peers/laptop").await.expect(200).json();
    assert_eq!(laptop["access"]["internet"], false, "the change was put back");
    assert!(
        admin
            .get("/api/audit?limit=1000")
            .await
            .text
            .contains("a service was closed meanwhile")
    );
    // A service goes while another change waits.
    waits().await;
    set_access(&admin, "notes", json!({})).await.expect(200);
    eventually("nobody may", || granted(&cell, "phone") == Some(own(&[]))).await;
    admin.delete("/api/services/notes").await.expect(202);
}
