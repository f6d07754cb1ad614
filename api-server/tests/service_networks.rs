//! Networks of services: what they are given, what carries them, and what netd and cell-egress hear of it.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use std::time::Duration;

use cell_api::service::Actor;
use cell_api::store::service_networks as table;
use cell_api::store::transaction::Origin;
use cell_api_core::connection::health::Health;
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::service_network::ServiceName;
use cell_proto::api::v1::service_network_service_client::ServiceNetworkServiceClient;
use cell_proto::api::v1::{
    ExplainServiceFlowRequest, ListServiceNetworksRequest, ServiceNetwork, SetServiceExitRequest,
};
use cell_proto::common::v1::IpPrefix;
use cell_proto::netd::v1 as netd;
use cell_proto::netd::v1::RollbackReason;
use cell_proto::{fault, ipc};
use serde_json::{Value, json};
use support::client::{Answer, Client};
use support::{ABSENT, Cell, START_MS, eventually};

const ALL: &str = "/api/connectivity/services";

fn name(text: &str) -> ServiceName {
    ServiceName::parse(text).unwrap()
}

async fn register(cell: &Cell, service: &str) {
    let (origin, service) = (Origin::new(&Actor::cell(), START_MS), name(service));
    let pool = cell.app.config.service_pool;
    let vpn = cell.app.identity().unwrap().range.v4();
    let done = cell.app.store.commit(origin, move |tx| {
        tx.audit("service.install", &service, "");
        table::register_service_network(tx, pool, vpn, &service)
    });
    done.await.unwrap();
}

async fn remove(cell: &Cell, service: &str) {
    let (origin, service) = (Origin::new(&Actor::cell(), START_MS), name(service));
    let removing = cell
        .app
        .store
        .commit(origin, move |tx| table::remove_service_network(tx, &service));
    removing.await.unwrap();
}

async fn connection(admin: &Client, body: Value) -> String {
    let made = admin
        .post("/api/connectivity/connections", &body)
        .await
        .expect(201);
    made.json()["connection"]["id"].as_str().unwrap().to_owned()
}

async fn proxy(admin: &Client, name: &str) -> String {
    let import = json!({"url": "socks5://192.0.2.9:1080"});
    connection(admin, json!({"name": name, "type": "proxy", "import": import})).await
}

async fn bind(admin: &Client, service: &str, body: Value) -> Answer {
    admin.put(&format!("{ALL}/{service}/exit"), &body).await
}

fn at_netd(cell: &Cell, service: &str) -> Option<netd::ServiceNetwork> {
    let state = cell.netd.state.lock().unwrap();
    let networks = &state.spec.as_ref()?.service_networks;
    networks.iter().find(|network| network.name == service).cloned()
}

/// The exit by which DNS of a service's containers goes, if it is known.
fn asks_by(cell: &Cell, first: &str) -> Option<String> {
    let first = first.parse::<std::net::IpAddr>().unwrap();
    let peers = cell.egress.dns().peers;
    let found = peers
        .into_iter()
        .find(|peer| peer.addresses.contains(&first.into()))?;
    Some(found.exit_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_gets_a_network_of_its_own_and_no_way_out() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    register(&cell, "files").await;
    register(&cell, "mail").await;
    let listed = admin.get(ALL).await.expect(200).json();
    let first = &listed["services"][0];
    for (field, value) in [
        ("service", json!("files")),
        ("bridge", json!("cellsvc1")),
        ("subnet", json!("172.21.0.0/28")),
        ("egress", json!("none")),
        ("connection_id", Value::Null),
        ("way", json!("nowhere")),
    ] {
        assert_eq!(first[field], value, "{field}");
    }
    assert_eq!(listed["services"][1]["subnet"], "172.21.0.16/28");
    eventually("netd hears of both", || at_netd(&cell, "mail").is_some()).await;
    let files = at_netd(&cell, "files").unwrap();
    assert_eq!(
        (files.bridge.as_str(), files.internet, files.reach.len()),
        ("cellsvc1", false, 0)
    );
    let subnet = IpPrefix {
        address: Some("172.21.0.0".parse::<std::net::IpAddr>().unwrap().into()),
        length: 28,
    };
    assert_eq!(files.subnet, Some(subnet));
    // An exit that DNS does not know: the cell's own names alone.
    let nowhere = || asks_by(&cell, "172.21.0.2").is_some_and(|exit| !exit.is_empty());
    eventually("the relay knows the containers", nowhere).await;

    // What is gone is free, and what stays has what it had.
    remove(&cell, "files").await;
    register(&cell, "calendar").await;
    let listed = admin.get(ALL).await.expect(200).json();
    let of = |at: usize| listed["services"][at]["subnet"].clone();
    assert_eq!((of(0), of(1)), (json!("172.21.0.0/28"), json!("172.21.0.16/28")));
    eventually("netd forgets it", || at_netd(&cell, "files").is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_granted_a_service_was_not_granted_the_one_that_gets_its_subnet() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    register(&cell, "files").await;
    register(&cell, "mail").await;
    let place = |address: &str| json!({"address": address, "protocol": "tcp", "port": 443});
    let (mail, disk) = (place("172.21.0.18"), place("192.168.1.20"));
    let reach = async || admin.get(ALL).await.expect(200).json()["services"][0]["reach"].clone();
    let path = format!("{ALL}/files/reach");
    admin
        .put(&path, &json!({"reach": [mail, disk]}))
        .await
        .expect(200);
    register(&cell, "files").await;
    assert_eq!(reach().await, json!([mail, disk]), "it stays as it is");
    remove(&cell, "mail").await;
    assert_eq!(reach().await, json!([mail, disk]), "nobody is there");
    register(&cell, "notes").await;
    assert_eq!(reach().await, json!([disk]));
    eventually("netd takes it away", || {
        at_netd(&cell, "files").is_some_and(|network| network.reach.len() == 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_carries_a_service_and_nothing_else_does() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let id = proxy(&admin, "work").await;
    register(&cell, "files").await;
    let bound = bind(
        &admin,
        "files",
        json!({"connection_id": "work", "fail_open": null}),
    )
    .await;
    let bound = bound.expect(200).json();
    assert_eq!(bound["network"]["connection_id"], json!(id));
    assert_eq!(bound["network"]["connection_name"], "work");
    assert_eq!(bound["plan"], json!([]));
    let through = || at_netd(&cell, "files").is_some_and(|network| network.internet && network.exit == id);
    eventually("netd hears of it", through).await;
    eventually("its questions go the same way", || {
        asks_by(&cell, "172.21.0.2") == Some(id.clone())
    })
    .await;

    // Its connection does not work, and it says that it may go directly meanwhile.
    bind(&admin, "files", json!({"connection_id": id, "fail_open": true}))
        .await
        .expect(200);
    let directly =
        || at_netd(&cell, "files").is_some_and(|network| network.internet && network.exit.is_empty());
    eventually("it goes directly", directly).await;
    // It works again: without a change of anybody's it is carried again.
    cell.egress.see(&id, START_MS + 1_000, 0);
    cell.advance(Duration::from_secs(2));
    eventually("it is carried again", through).await;

    let path = format!("/api/connectivity/connections/{id}");
    let in_use = admin.delete(&path).await;
    in_use.refused(409, "CONNECTION_IN_USE");
    assert!(
        in_use.json()["detail"]
            .as_str()
            .unwrap()
            .contains("service files"),
        "{:?}",
        in_use.json()
    );
    bind(&admin, "files", json!({"connection_id": "direct"}))
        .await
        .expect(200);
    eventually("the cell's own way", directly).await;
    let own = || asks_by(&cell, "172.21.0.2") == Some(String::new());
    eventually("its questions too", own).await;
    bind(&admin, "files", json!({"connection_id": null}))
        .await
        .expect(200);
    eventually("no way", || {
        at_netd(&cell, "files").is_some_and(|network| !network.internet)
    })
    .await;
    admin.delete(&path).await.expect(204);

    let audit = admin.get("/api/audit?limit=1000").await.expect(200).json();
    let records = audit["records"].as_array().unwrap();
    let details = records.iter().filter(|record| record["action"] == "service.exit");
    let details: Vec<&str> = details.map(|record| record["detail"].as_str().unwrap()).collect();
    assert_eq!(details.len(), 4);
    assert!(
        details.iter().any(|detail| detail.starts_with("through work (")),
        "{details:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_it_would_do_and_does_nothing() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    proxy(&admin, "work").await;
    register(&cell, "files").await;
    bind(&admin, "files", json!({"connection_id": "direct"}))
        .await
        .expect(200);
    let path = format!("{ALL}/files/exit?validate_only=true");
    let plan = admin
        .put(&path, &json!({"connection_id": "work"}))
        .await
        .expect(200)
        .json();
    let sentences: Vec<&str> = plan["plan"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(
        sentences,
        [
            "Containers of files go out through work alone; until now they go out by the cell's own way.",
            "Connections to the internet that they have open now end.",
            "Their DNS goes by the same way, whichever resolver they ask.",
            "The connection does not work now: the service reaches nothing on the internet until it does.",
        ]
    );
    assert_eq!(plan["network"]["connection_name"], "work");
    let same = admin
        .put(&path, &json!({"connection_id": "direct"}))
        .await
        .expect(200)
        .json();
    assert_eq!(same["plan"], json!([]));
    assert_eq!(
        admin.get(ALL).await.json()["services"][0]["egress"],
        "direct",
        "nothing was done"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_with_its_reason() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    register(&cell, "files").await;
    bind(&admin, "mail", json!({"connection_id": null}))
        .await
        .refused(404, "NO_SERVICE_NETWORK");
    bind(&admin, "Files", json!({"connection_id": null}))
        .await
        .refused(400, "INVALID_REQUEST");
    for (body, field) in [
        (json!({}), "connection_id"),
        (json!({"connection_id": 7}), "connection_id"),
        (json!({"connection_id": ABSENT}), "connection_id"),
        (json!({"connection_id": "direct", "fail_open": true}), "fail_open"),
        (json!({"connection_id": null, "fail_open": false}), "fail_open"),
        (json!({"connection_id": null, "fail_open": "no"}), "fail_open"),
        (json!({"connection_id": null, "more": 1}), "more"),
    ] {
        let refused = bind(&admin, "files", body.clone()).await;
        refused.refused(400, "INVALID_REQUEST");
        assert_eq!(refused.fields(), [field], "{body}");
    }
    let four = admin
        .put(
            &format!("{ALL}/files/exit?confirm_within=4"),
            &json!({"connection_id": null}),
        )
        .await;
    assert_eq!(four.fields(), ["confirm_within"]);
    let (work, spare) = (proxy(&admin, "work").await, proxy(&admin, "spare").await);
    let field = "fallback_connection_ids";
    for (bound, stand_ins, at) in [
        (json!(null), json!([spare]), field.to_owned()),
        (json!("direct"), json!([spare]), field.to_owned()),
        (json!(work), json!([work]), field.to_owned()),
        (json!(work), json!([spare, "spare"]), field.to_owned()),
        (json!(work), json!(["default"]), format!("{field}[0]")),
        (json!(work), json!([spare, ABSENT]), format!("{field}[1]")),
        (json!(work), json!(vec![&spare; 9]), field.to_owned()),
        (json!(work), json!("spare"), field.to_owned()),
    ] {
        let body = json!({"connection_id": bound, "fallback_connection_ids": stand_ins});
        let refused = bind(&admin, "files", body.clone()).await;
        assert_eq!(refused.fields(), [at], "{body}");
    }
    bind(&admin, "files", json!({"connection_id": null}))
        .await
        .expect(200);
}

/// Waits until nothing waits for its confirmation.
async fn settled(admin: &Client) {
    for _ in 0..200 {
        let told = admin.get("/api/network/pending").await.expect(200).json();
        if told["waiting"].is_null() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the change waits for ever");
}

async fn egress_of(admin: &Client) -> String {
    let listed = admin.get(ALL).await.expect(200).json();
    listed["services"][0]["egress"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_way_waits_for_its_confirmation_and_comes_back_without() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    register(&cell, "files").await;
    eventually("netd hears of it", || at_netd(&cell, "files").is_some()).await;
    let waits = format!("{ALL}/files/exit?confirm_within=60");
    let direct = json!({"connection_id": "direct"});
    let goes_out = || at_netd(&cell, "files").unwrap().internet;

    admin.put(&waits, &direct).await.expect(200);
    assert!(goes_out());
    assert_eq!(cell.netd.state.lock().unwrap().window, 60);
    let shown = admin.get("/api/network/pending").await.expect(200).json();
    let shown = &shown["waiting"];
    assert_eq!(
        (&shown["action"], &shown["service"], &shown["peer"]),
        (&json!("service_exit"), &json!("files"), &Value::Null)
    );
    bind(&admin, "files", json!({"connection_id": null}))
        .await
        .refused(409, "CHANGE_PENDING");
    cell.netd.take_back(RollbackReason::Expired);
    settled(&admin).await;
    assert_eq!(egress_of(&admin).await, "none");
    // A change can wait again when netd has all.
    let is_told = || cell.app.network.etag().is_some();
    eventually("it goes nowhere", || !goes_out() && is_told()).await;

    // Taken back by hand, and kept.
    admin.put(&waits, &direct).await.expect(200);
    admin.post("/api/network/rollback", &json!({})).await.expect(204);
    assert_eq!(egress_of(&admin).await, "none");
    eventually("netd has all", || !goes_out() && is_told()).await;
    admin.put(&waits, &direct).await.expect(200);
    admin.post("/api/network/confirm", &json!({})).await.expect(204);
    assert_eq!(egress_of(&admin).await, "direct");
    eventually("nothing waits at netd", || {
        cell.netd.state.lock().unwrap().pending.is_none() && goes_out() && is_told()
    })
    .await;
    // What changes nothing has nothing to wait for.
    admin.put(&waits, &direct).await.expect(200);
    settled(&admin).await;
    assert_eq!(egress_of(&admin).await, "direct");
    eventually("netd has all", is_told).await;

    // netd does not take it: all is as it was.
    cell.netd.with(|state| state.refuses_waiting = true);
    admin
        .put(&waits, &json!({"connection_id": null}))
        .await
        .refused(503, "NOT_APPLIED");
    assert_eq!(egress_of(&admin).await, "direct");
    assert!(goes_out());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_else_was_changed_neither_waits_nor_comes_back() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    register(&cell, "files").await;
    eventually("netd hears of it", || at_netd(&cell, "files").is_some()).await;
    // Committed in one breath with the change that waits: netd hears of both at once.
    let waits = format!("{ALL}/files/exit?confirm_within=60");
    register(&cell, "mail").await;
    admin
        .put(&waits, &json!({"connection_id": "direct"}))
        .await
        .expect(200);
    {
        let state = cell.netd.state.lock().unwrap();
        let (_, before) = state.pending.as_ref().unwrap();
        let has = |name: &str| before.service_networks.iter().any(|one| one.name == name);
        assert!(has("mail") && has("files"), "the state to come back to has it");
    }
    cell.netd.take_back(RollbackReason::Expired);
    settled(&admin).await;
    assert!(at_netd(&cell, "mail").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_are_listed_stand_in_and_no_others() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    register(&cell, "files").await;
    let (work, spare) = (proxy(&admin, "work").await, proxy(&admin, "spare").await);
    let other = proxy(&admin, "other").await;
    let body = json!({"connection_id": "work", "fallback_connection_ids": ["spare"], "fail_open": false});
    let planned = admin
        .put(&format!("{ALL}/files/exit?validate_only=true"), &body)
        .await
        .expect(200)
        .json();
    assert!(
        planned["plan"]
            .to_string()
            .contains("While it does not work they go through spare."),
        "{planned}"
    );
    let made = bind(&admin, "files", body).await.expect(200).json();
    assert_eq!(made["network"]["fallback_connection_ids"], json!([spare]));
    assert_eq!(made["network"]["fallback_connection_names"], json!(["spare"]));
    let exit = || at_netd(&cell, "files").map(|network| network.exit);
    // Only the one that is not listed works.
    eventually("cell-egress has all", || cell.egress.ids().len() == 3).await;
    cell.egress.see(&other, START_MS, 0);
    let parsed = ConnectionId::parse(&other).unwrap();
    eventually("it works", || cell.app.exits.health(&parsed) == Health::Working).await;
    eventually("nothing stands in", || exit() == Some(work.clone())).await;
    cell.egress.see(&spare, START_MS, 0);
    eventually("the listed one carries it", || exit() == Some(spare.clone())).await;
    cell.egress.see(&work, START_MS, 0);
    cell.advance(Duration::from_secs(31));
    eventually("its own carries it", || exit() == Some(work.clone())).await;
    // It is in use.
    let path = format!("/api/connectivity/connections/{spare}");
    let refused = admin.delete(&path).await;
    refused.refused(409, "CONNECTION_IN_USE");
    bind(&admin, "files", json!({"connection_id": "work"}))
        .await
        .expect(200);
    admin.delete(&path).await.expect(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_automation_socket_has_the_same() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let id = proxy(&admin, "work").await;
    register(&cell, "files").await;
    let mut client = ServiceNetworkServiceClient::new(ipc::connect(cell.automation.clone()));
    let set = |service: &str, to: &str, validate_only| SetServiceExitRequest {
        service: service.to_owned(),
        connection_id: to.to_owned(),
        fail_open: None,
        validate_only,
        ..SetServiceExitRequest::default()
    };
    let planned = client
        .set_service_exit(set("files", "work", true))
        .await
        .unwrap()
        .into_inner();
    assert!(planned.plan[0].contains("through work alone"), "{planned:?}");
    let made = client
        .set_service_exit(set("files", "work", false))
        .await
        .unwrap()
        .into_inner();
    let ServiceNetwork {
        connection_id,
        egress,
        way,
        ..
    } = made.network.unwrap();
    assert_eq!(
        (connection_id, egress.as_str(), way.as_str()),
        (id, "exit", "exit")
    );
    let listed = client
        .list_service_networks(ListServiceNetworksRequest {})
        .await
        .unwrap();
    assert_eq!(listed.into_inner().networks[0].connection_name, "work");
    let refused = client
        .set_service_exit(set("mail", "work", false))
        .await
        .unwrap_err();
    assert_eq!(fault::reason(&refused).as_deref(), Some("NO_SERVICE_NETWORK"));
    let asked = ExplainServiceFlowRequest {
        service: "mail".to_owned(),
        destination: "203.0.113.9".to_owned(),
        ..ExplainServiceFlowRequest::default()
    };
    let refused = client.explain_service_flow(asked).await.unwrap_err();
    assert_eq!(fault::reason(&refused).as_deref(), Some("NO_SERVICE_NETWORK"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_a_containers_packet_is_told_with_the_exit_that_decides() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let id = proxy(&admin, "work").await;
    register(&cell, "files").await;
    bind(&admin, "files", json!({"connection_id": "work"}))
        .await
        .expect(200);
    eventually("netd hears of it", || {
        at_netd(&cell, "files").is_some_and(|network| network.exit == id)
    })
    .await;
    let asked = format!("{ALL}/files/explain?destination=203.0.113.9");
    let told = admin.get(&format!("{asked}&port=443")).await.expect(200).json();
    assert_eq!(
        (&told["passes"], &told["source"]),
        (&json!(true), &json!("172.21.0.0"))
    );
    let mark = admin
        .get(&format!("/api/connectivity/connections/{id}"))
        .await
        .expect(200)
        .json();
    let exit = json!({"connection_id": id, "connection_name": "work", "mark": mark["mark"], "table": null, "iface": null,
        "redirect_port": mark["redirect_port"]});
    assert_eq!(told["exit"], exit);
    bind(&admin, "files", json!({"connection_id": "direct"}))
        .await
        .expect(200);
    eventually("the cell's own way", || {
        at_netd(&cell, "files").is_some_and(|network| network.exit.is_empty())
    })
    .await;
    assert_eq!(admin.get(&asked).await.expect(200).json()["exit"], Value::Null);

    for (query, field) in [("", "destination"), ("destination=203.0.113.9&port=0", "port")] {
        let answer = admin.get(&format!("{ALL}/files/explain?{query}")).await;
        answer.refused(400, "INVALID_REQUEST");
        assert_eq!(answer.json()["violations"][0]["field"], field, "{query}");
    }
    let nobody = format!("{ALL}/mail/explain?destination=203.0.113.9");
    admin.get(&nobody).await.refused(404, "NO_SERVICE_NETWORK");
    cell.client().get(&nobody).await.refused(401, "NO_SESSION");
}
