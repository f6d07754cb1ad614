//! netd: away, forgetful, and changed by somebody else.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use serde_json::{Value, json};
use std::time::Duration;
use support::client::Client;
use support::{Cell, add, eventually, key};

#[tokio::test(flavor = "multi_thread")]
async fn a_change_while_netd_is_away_is_accepted_and_converges_later() {
    let mut cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "before", 1).await;
    cell.netd.kill();
    *cell.netd.state.lock().unwrap() = support::netd::State::default();
    let created = add(&admin, "during", 2).await;
    let (generation, observed) = (
        created["generation"].as_u64().unwrap(),
        created["observed_generation"].as_u64().unwrap(),
    );
    assert!(observed < generation, "accepted is not converged");
    cell.netd.resume();
    cell.converged(generation).await;
    assert_eq!(
        cell.netd.peer_names(),
        ["before", "during"],
        "a netd that forgot everything gets everything"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etag_mismatch_and_a_foreign_change_are_answered_with_everything() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "one", 1).await;
    cell.netd.silent_change();
    let created = add(&admin, "two", 2).await;
    assert_eq!(created["generation"], created["observed_generation"]);
    assert_eq!(cell.netd.peer_names(), ["one", "two"]);
    cell.netd.foreign_change();
    eventually("the foreign change is undone", || {
        cell.netd.peer_names() == ["one", "two"]
    })
    .await;
    let applies = cell.netd.state.lock().unwrap().full_applies;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        cell.netd.state.lock().unwrap().full_applies,
        applies,
        "and then it is quiet"
    );
}

/// The condition `SpecAccepted` of netd in the status: its status, reason and message.
async fn accepted(admin: &Client) -> (String, String, String) {
    let status = admin.get("/api/status").await.expect(200).json();
    let daemons = status["daemons"].as_array().unwrap();
    let netd = daemons.iter().find(|daemon| daemon["name"] == "netd").unwrap();
    assert_eq!(
        netd["reachable"],
        json!(true),
        "netd answers: that it says no is another fact"
    );
    let conditions = netd["conditions"].as_array().unwrap();
    let condition = conditions.iter().find(|c| c["type"] == "SpecAccepted").unwrap();
    let text = |field: &str| condition[field].as_str().unwrap().to_owned();
    (text("status"), text("reason"), text("message"))
}

fn service_at(address: &str) -> Value {
    json!({"access": {"services": [{"address": address, "protocol": "tcp", "port": 443}]}})
}

/// Whoever is quicker than netd after the setup is not told that "peers need an interface".
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_made_though_netd_has_no_network_yet() {
    let cell = Cell::start().await;
    eventually("netd has what there is", || {
        cell.netd.with(|state| state.full_applies > 0)
    })
    .await;
    // The setup asks it beforehand, and hears nothing; the network itself it does not take.
    cell.netd.with(|state| {
        (state.validates, state.refused_listen_port) = (false, Some(51820));
    });
    cell.set_up().await;
    cell.netd.with(|state| state.validates = true);
    let admin = cell.admin().await;
    add(&admin, "one", 1).await;
    assert_eq!(cell.netd.peer_names(), [""; 0]);
    cell.netd.with(|state| state.refused_listen_port = None);
    eventually("netd has it", || cell.netd.peer_names() == ["one"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_netd_refuses_is_refused_before_anything_is_written_down() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "one", 1).await;
    cell.netd.state.lock().unwrap().refused_address = Some("10.9.9.9".parse().unwrap());
    let before = admin.get("/api/audit?limit=1000").await.expect(200).text;
    let mut bad = service_at("10.9.9.9");
    admin
        .put("/api/peers/one", &bad)
        .await
        .refused(409, "NETD_REFUSES");
    bad["name"] = json!("two");
    bad["public_key"] = json!(key(2));
    let answer = admin.post("/api/peers", &bad).await;
    answer.refused(409, "NETD_REFUSES");
    assert!(
        answer.text.contains("a service is not at a link-local address"),
        "{}",
        answer.text
    );
    cell.netd.state.lock().unwrap().max_peers = Some(1);
    let more = json!({"name": "two", "public_key": key(2)});
    admin.post("/api/peers", &more).await.refused(409, "NETD_REFUSES");
    assert_eq!(admin.get("/api/audit?limit=1000").await.expect(200).text, before);
    // What it takes, it is still given.
    admin
        .put("/api/peers/one", &service_at("10.9.9.8"))
        .await
        .expect(200);
    assert_eq!(accepted(&admin).await.0, "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_refused_peer_holds_up_nobody_else_and_no_revocation() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    for (number, name) in (1..).zip(["bad", "good", "gone"]) {
        add(&admin, name, number).await;
    }
    // As if netd had been away, or judged otherwise, when this was accepted.
    {
        let mut state = cell.netd.state.lock().unwrap();
        state.refused_address = Some("10.9.9.9".parse().unwrap());
        state.validates = false;
    }
    let started = std::time::Instant::now();
    admin
        .put("/api/peers/bad", &service_at("10.9.9.9"))
        .await
        .expect(200);
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "a refusal is an answer: nobody waits for another"
    );
    let (status, reason, message) = accepted(&admin).await;
    assert_eq!((status.as_str(), reason.as_str()), ("false", "PEERS_REFUSED"));
    assert!(
        message.contains("bad (access.services[0].address a service is not"),
        "{message}"
    );
    assert_eq!(
        cell.netd.peer_names(),
        ["gone", "good"],
        "what is refused is off the network"
    );

    admin.delete("/api/peers/gone").await.expect(204);
    assert_eq!(cell.netd.peer_names(), ["good"], "a revocation arrives");
    add(&admin, "new", 9).await;
    assert_eq!(cell.netd.peer_names(), ["good", "new"]);
    let status = admin.get("/api/status").await.expect(200).json();
    assert!(status["observed_generation"].as_u64() < status["generation"].as_u64());

    // The same for the whole, after netd forgot everything.
    cell.netd.foreign_change();
    eventually("netd has the others again", || {
        cell.netd.peer_names() == ["good", "new"]
    })
    .await;

    admin
        .put("/api/peers/bad", &json!({"access": {}}))
        .await
        .expect(200);
    assert_eq!(
        cell.netd.peer_names(),
        ["bad", "good", "new"],
        "and what is mended is back"
    );
    assert_eq!(accepted(&admin).await.0, "true");
    let status = admin.get("/api/status").await.expect(200).json();
    assert_eq!(status["observed_generation"], status["generation"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrowed_limit_leaves_out_the_excess_and_no_more() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    for (number, name) in (1..).zip(["a", "b", "c", "d"]) {
        add(&admin, name, number).await;
    }
    cell.netd.state.lock().unwrap().max_peers = Some(3);
    cell.netd.foreign_change();
    eventually("three of four", || cell.netd.peer_names() == ["a", "b", "c"]).await;
    assert_eq!(accepted(&admin).await.1, "PEERS_REFUSED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_network_is_told_apart_from_a_netd_that_is_away_and_revocations_arrive() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    for (number, name) in (1..).zip(["one", "two"]) {
        add(&admin, name, number).await;
    }
    cell.netd.state.lock().unwrap().refuses_network = true;
    cell.netd.silent_change();
    admin.delete("/api/peers/one").await.expect(204);
    eventually("the revocation arrives", || cell.netd.peer_names() == ["two"]).await;
    let (status, reason, message) = accepted(&admin).await;
    assert_eq!((status.as_str(), reason.as_str()), ("false", "ABOVE_CEILING"));
    assert!(message.contains("the VPN may not lie there"), "{message}");
    admin
        .put("/api/peers/two", &service_at("10.0.5.7"))
        .await
        .expect(200);
    let has_service = || {
        let state = cell.netd.state.lock().unwrap();
        let peers = &state.spec.as_ref().unwrap().peers;
        peers[0].access.as_ref().unwrap().services.len() == 1
    };
    eventually("changes of peers arrive too", has_service).await;
    cell.netd.state.lock().unwrap().refuses_network = false;
    let generation = admin.get("/api/status").await.expect(200).json()["generation"].as_u64();
    cell.converged(generation.unwrap()).await;
    assert_eq!(accepted(&admin).await.0, "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn setup_asks_netd_before_a_network_is_chosen_for_good() {
    let cell = Cell::start().await;
    cell.netd.state.lock().unwrap().refuses_network = true;
    let token = cell.claim_token();
    let mut client = cell.client();
    client
        .post("/api/setup/step/claim", &json!({"claim_token": token}))
        .await
        .expect(200);
    client.claim = Some(token);
    let network = json!({"vpn_range_ipv4": "10.86.0.0/24", "vpn_range_ipv6": "fd12:3456:789a::/64"});
    let answer = client.post("/api/setup/step/network", &network).await;
    answer.refused(400, "INVALID_REQUEST");
    assert_eq!(answer.fields(), ["vpn_range_ipv4"]);
    let stored = client.get("/api/setup/step/network").await.expect(200).json();
    assert_eq!(stored["answered"], json!(false));

    // Answered while netd did not say so: then the end asks again.
    cell.netd.state.lock().unwrap().validates = false;
    cell.netd.state.lock().unwrap().refuses_network = false;
    client.post("/api/setup/step/network", &network).await.expect(200);
    let identity = json!({"cell_name": "home", "domain_mode": "lan"});
    client
        .post("/api/setup/step/identity", &identity)
        .await
        .expect(200);
    let admin = json!({"username": "anna", "password": support::PASSWORD});
    client.post("/api/setup/step/admin", &admin).await.expect(200);
    cell.netd.state.lock().unwrap().validates = true;
    cell.netd.state.lock().unwrap().refuses_network = true;
    client
        .post("/api/setup/complete", &json!({}))
        .await
        .refused(400, "INVALID_REQUEST");
    cell.netd.state.lock().unwrap().refuses_network = false;
    client.post("/api/setup/complete", &json!({})).await.expect(200);
}
