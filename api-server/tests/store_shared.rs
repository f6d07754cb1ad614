//! What devices and services share: addresses and names. No two have one, and a list of its own says who may reach a service.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use std::sync::Arc;

use cell_api::service::Actor;
use cell_api::service::store::hand_over;
use cell_api::store::peers as table;
use cell_api::store::transaction::Origin;
use cell_api_core::access::{Protocol, Service};
use serde_json::{Value, json};
use support::client::Client;
use support::store::*;
use support::{Cell, START_MS, add, catalog, eventually, key};

fn grant(address: &str, port: u16) -> Value {
    json!({"access": {"services": [{"address": address, "protocol": "tcp", "port": port}]}})
}

/// Gives a peer what it cannot be given any more, as an earlier version could.
async fn give(cell: &Cell, peer: &str, ports: &[u16]) {
    let range = cell.app.identity().unwrap().range;
    let (peer, ports) = (peer.to_owned(), ports.to_vec());
    let giving = cell
        .app
        .store
        .mutate(Origin::new(&Actor::cell(), START_MS), move |tx| {
            let mut stored = table::get(tx, &range, &peer)?.unwrap();
            stored.peer.access.services = ports
                .iter()
                .map(|port| Service {
                    address: "10.86.0.254".parse().unwrap(),
                    protocol: Protocol::Tcp,
                    port: *port,
                })
                .collect();
            tx.audit("test", &peer, "");
            table::update(tx, &Arc::new(stored))
        });
    giving.await.unwrap();
}

async fn own_services(admin: &Client, peer: &str) -> Value {
    let told = admin.get(&format!("/api/peers/{peer}")).await.expect(200).json();
    told["access"]["services"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_services_address_is_not_among_a_peers_own() {
    let (cell, _broker, admin, _) = ready().await;
    add(&admin, "phone", 1).await;
    admin
        .put("/api/peers/phone", &grant("10.86.0.253", 80))
        .await
        .expect(200);
    install(&admin, "notes", json!({})).await;
    stands(&admin, "notes", "installed").await;
    let refused = admin.put("/api/peers/phone", &grant("10.86.0.254", 993)).await;
    refused.refused(400, "INVALID_REQUEST");
    assert!(
        refused.text.contains("PUT /api/services/notes/access"),
        "{}",
        refused.text
    );
    let mut new = grant("10.86.0.254", 993);
    new["name"] = json!("tablet");
    new["public_key"] = json!(key(2));
    let refused = admin.post("/api/peers", &new).await;
    assert_eq!(refused.fields(), ["access.services[0].address"]);
    assert_eq!(granted(&cell, "phone").unwrap().len(), 1);
    // What was granted beforehand is not the next service's.
    install(&admin, "board", json!({"instance": "a"})).await;
    let board = stands(&admin, "board-a", "installed").await;
    assert_eq!(board["address"], "10.86.0.253");
    assert_eq!(own_services(&admin, "phone").await, json!([]));
    eventually("netd has it no more", || {
        granted(&cell, "phone").unwrap().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_of_an_earlier_version_become_the_services() {
    let (cell, _broker, admin, _) = ready().await;
    for (number, name) in (1..).zip(["phone", "tablet"]) {
        add(&admin, name, number).await;
    }
    install(&admin, "notes", json!({})).await;
    stands(&admin, "notes", "installed").await;
    give(&cell, "phone", &[80, 443, 993]).await;
    give(&cell, "tablet", &[443]).await;
    // As after a start.
    hand_over(&cell.app).await.unwrap();
    let told = admin.get("/api/services/notes").await.json();
    assert_eq!(told["allowed_peers"], json!(["phone"]), "who had a part has none");
    for peer in ["phone", "tablet"] {
        assert_eq!(own_services(&admin, peer).await, json!([]), "{peer}");
    }
    let head = cell.app.audit_heads().borrow().0;
    hand_over(&cell.app).await.unwrap();
    assert_eq!(cell.app.audit_heads().borrow().0, head, "once");
    assert!(
        admin
            .get("/api/audit?limit=1000")
            .await
            .text
            .contains("who had all of it")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_given_back_takes_its_grants_along() {
    let (cell, _broker, admin, _) = ready().await;
    add(&admin, "phone", 1).await;
    install(&admin, "notes", json!({})).await;
    stands(&admin, "notes", "installed").await;
    give(&cell, "phone", &[993]).await;
    admin.delete("/api/services/notes").await.expect(202);
    gone(&admin, "notes").await;
    assert_eq!(own_services(&admin, "phone").await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_a_devices_or_a_services() {
    let (cell, _broker, admin, _) = ready().await;
    add(&admin, "Notes", 1).await;
    let refused = admin.post("/api/services/notes/install", &json!({})).await;
    refused.refused(409, "SERVICE_NAME_TAKEN");
    assert!(refused.text.contains("the device Notes's"), "{}", refused.text);
    admin.delete("/api/peers/Notes").await.expect(204);
    install(&admin, "notes", json!({})).await;
    stands(&admin, "notes", "installed").await;
    for name in ["notes", "NOTES"] {
        let body = json!({"name": name, "public_key": key(2)});
        let refused = admin.post("/api/peers", &body).await;
        refused.refused(400, "INVALID_REQUEST");
        assert!(
            refused.text.contains("is the name of the service notes"),
            "{}",
            refused.text
        );
    }
    add(&admin, "notes-2", 2).await;
    // The cell's own names.
    for (id, code) in [
        ("cell", "CATALOG_FAULT"),
        ("network", "CATALOG_FAULT"),
        ("active", "SERVICE_NAME_TAKEN"),
    ] {
        catalog::write(&cell.state().join("catalog"), &[named(id, id)]);
        let refused = admin
            .post(&format!("/api/services/{id}/install"), &json!({}))
            .await;
        refused.refused(409, code);
    }
    // A collision of an earlier version is shown.
    let renaming = cell
        .app
        .store
        .mutate(Origin::new(&Actor::cell(), START_MS), |tx| {
            let range = cell_api::store::setup::cell(tx)?.unwrap().range;
            let mut stored = table::get(tx, &range, "notes-2")?.unwrap();
            table::delete(tx, "notes-2")?;
            tx.execute("DELETE FROM freed_host", ())?;
            stored.peer.name = cell_api_core::name::PeerName::parse("notes").unwrap();
            tx.audit("test", "notes", "");
            table::insert(tx, &Arc::new(stored))
        });
    renaming.await.unwrap();
    let told = admin.get("/api/services/notes").await.json();
    assert_eq!(told["error"]["code"], "NAME_SHADOWED", "{told}");
}

/// A service that browsers find.
fn named(id: &str, subdomain: &str) -> Value {
    json!({"schema_version": 3, "kind": "store", "id": id, "name": id, "version": "1.0.0",
        "flags": {"has_subdomain": true},
        "containers": [catalog::container("web", &json!([{"port": 8080}]))],
        "routing": {"subdomain": subdomain, "backend": "web:8080"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_has_no_more_services_than_netd_takes() {
    let (cell, _broker, admin, _) = ready().await;
    add(&admin, "phone", 1).await;
    let many = |count: u16| {
        let all = (1..=count).map(|port| json!({"address": "192.0.2.1", "protocol": "tcp", "port": port}));
        json!({"access": {"services": all.collect::<Vec<_>>()}})
    };
    admin.put("/api/peers/phone", &many(253)).await.expect(200);
    install(&admin, "notes", json!({"allowed_peers": ["phone"]})).await;
    stands(&admin, "notes", "installed").await;
    // 253 and three: an update that needs one more is refused.
    catalog::write(&cell.state().join("catalog"), &[notes_with("2.0.0", 995)]);
    let refused = admin.post("/api/services/notes/update", &json!({})).await;
    refused.refused(400, "INVALID_REQUEST");
    assert!(
        refused.text.contains("as many services as a device may have"),
        "{}",
        refused.text
    );
    admin.put("/api/peers/phone", &many(252)).await.expect(200);
    admin
        .post("/api/services/notes/update", &json!({}))
        .await
        .expect(202);
    told(&admin, "notes", |told| {
        told["version"] == "2.0.0" && told["phase"] == "installed"
    })
    .await;
    let refused = admin.put("/api/peers/phone", &many(255)).await;
    assert_eq!(refused.fields(), ["access.services"]);
}
