//! Peers: their life, their keys, their addresses, their activity.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use cell_proto::api::v1::peer_service_client::PeerServiceClient;
use cell_proto::api::v1::{ExplainFlowRequest, GetPeerConfigRequest, GetPeerRequest, UpdatePeerRequest};
use cell_proto::netd::v1::PeerStatus;
use cell_proto::{fault, ipc};
use serde_json::{Value, json};
use std::time::Duration;
use support::{Cell, PASSWORD, START_MS, add, key};

#[tokio::test(flavor = "multi_thread")]
async fn peers_are_added_listed_altered_and_removed_and_netd_hears_of_each() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let created = add(&admin, "laptop", 1).await;
    assert_eq!(created["peer"]["ipv4"], "10.86.0.2");
    assert_eq!(created["peer"]["ipv6"], "fd12:3456:789a::2");
    assert_eq!(
        created["generation"], created["observed_generation"],
        "netd confirmed within its time"
    );
    let config = created["config"].as_str().unwrap();
    assert!(config.contains("PrivateKey = \n") && config.contains("Endpoint = vpn.example.org:51820\n"));
    add(&admin, "phone", 2).await;
    assert_eq!(cell.netd.peer_names(), ["laptop", "phone"]);
    assert_eq!(
        cell.netd.state.lock().unwrap().deltas,
        2,
        "one peer, one difference"
    );

    let again = json!({"name": "laptop", "public_key": key(3)});
    admin.post("/api/peers", &again).await.refused(409, "PEER_EXISTS");
    let taken = json!({"name": "tablet", "public_key": key(1)});
    admin.post("/api/peers", &taken).await.refused(409, "KEY_IN_USE");
    admin
        .put("/api/peers/phone", &json!({"public_key": key(1)}))
        .await
        .refused(409, "KEY_IN_USE");
    let own = base64_of(&[9; 32]);
    admin
        .post("/api/peers", &json!({"name": "tablet", "public_key": own}))
        .await
        .refused(409, "KEY_IN_USE");

    let service = json!({"address": "10.0.5.7", "protocol": "tcp", "port": 443});
    let access = json!({"access": {"internet": true, "services": [service]}});
    let altered = admin.put("/api/peers/laptop", &access).await.expect(200).json();
    assert_eq!(altered["access"]["services"], json!([service]));
    assert_eq!(
        altered["config_needs_reinstall"], true,
        "split: the service is a new route on the device"
    );
    let records = || async { admin.get("/api/audit?limit=1000").await.expect(200).json()["records"].clone() };
    let before = records().await;
    let looked_at = admin.get("/api/peers/laptop/config").await.expect(200).text;
    let read = admin.get("/api/peers/laptop").await.expect(200).json();
    assert_eq!(
        (read["config_needs_reinstall"].clone(), records().await),
        (json!(true), before),
        "to look changes nothing"
    );
    let given = admin
        .post("/api/peers/laptop/config", &json!({}))
        .await
        .expect(200);
    assert_eq!(given.text, looked_at);
    let read = admin.get("/api/peers/laptop").await.expect(200).json();
    assert_eq!(read["config_needs_reinstall"], false);
    assert_eq!(
        records().await.as_array().unwrap().last().unwrap()["action"],
        "peer.config"
    );

    admin.delete("/api/peers/laptop").await.expect(204);
    admin.delete("/api/peers/laptop").await.refused(404, "NO_PEER");
    assert_eq!(cell.netd.peer_names(), ["phone"]);
    assert_eq!(
        add(&admin, "third", 4).await["peer"]["ipv4"],
        "10.86.0.4",
        "the address of one that is gone rests"
    );
    let list = admin.get("/api/peers").await.expect(200).json();
    assert_eq!(list["peers"].as_array().unwrap().len(), 2);
    admin
        .put("/api/peers/phone", &json!({}))
        .await
        .refused(400, "INVALID_REQUEST");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_made_key_is_shown_once_and_kept_nowhere() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let created = admin
        .post("/api/peers", &json!({"name": "tv", "server_makes_key": true}))
        .await
        .expect(201)
        .json();
    let config = created["config"].as_str().unwrap();
    let key = config
        .lines()
        .find_map(|line| line.strip_prefix("PrivateKey = "))
        .unwrap();
    let bytes: [u8; 32] = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, key)
        .unwrap()
        .try_into()
        .unwrap();
    let public = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(bytes));
    assert_eq!(created["peer"]["public_key"], base64_of(public.as_bytes()));
    let later = admin.get("/api/peers/tv/config").await.expect(200).json();
    assert!(later["config"].as_str().unwrap().contains("PrivateKey = \n"));
    let delivered = admin.post("/api/peers/tv/config", &json!({})).await.expect(200);
    let mut peers = PeerServiceClient::new(ipc::connect(&cell.automation));
    let request = GetPeerConfigRequest {
        name: "tv".to_owned(),
    };
    let local = peers.get_peer_config(request).await.unwrap().into_inner().config;
    let mut shown = vec![delivered.text, local];
    for path in [
        "/api/peers",
        "/api/peers/tv",
        "/api/audit?limit=1000",
        "/api/status",
    ] {
        shown.push(admin.get(path).await.expect(200).text);
    }
    assert!(shown.iter().all(|text| !text.contains(key)), "shown once");
    let spec = format!("{:?}", cell.netd.state.lock().unwrap().spec);
    assert!(spec.contains("tv") && !spec.contains(&format!("{bytes:?}")));
    for file in ["cell.db", "cell.db-wal"] {
        let stored = std::fs::read(cell.state().join(file)).unwrap();
        let holds = |needle: &[u8]| stored.windows(needle.len()).any(|window| window == needle);
        assert!(!holds(&bytes) && !holds(key.as_bytes()), "{file}");
        assert!(!holds(PASSWORD.as_bytes()), "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_what_was_not_read_is_refused() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "laptop", 1).await;
    let read = admin.get("/api/peers/laptop").await.expect(200);
    let tag = read.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(tag.trim_matches('"'), read.json()["version"].as_str().unwrap());
    let put = |tag: String, internet: bool| {
        let admin = admin.clone();
        async move {
            let body = json!({"access": {"internet": internet}}).to_string();
            let headers = [("content-type", "application/json"), ("if-match", tag.as_str())];
            admin
                .send("PUT", "/api/peers/laptop", &headers, Some(body.into_bytes()))
                .await
        }
    };
    let first = put(tag.clone(), true).await.expect(200);
    assert_ne!(first.headers["etag"].to_str().unwrap(), tag);
    for old in [tag, "*".to_owned(), String::new(), "W/\"x\"".to_owned()] {
        put(old, false).await.refused(412, "VERSION_MISMATCH");
    }
    let read = admin.get("/api/peers/laptop").await.expect(200);
    assert_eq!(read.json()["access"]["internet"], true);
    put(read.headers["etag"].to_str().unwrap().to_owned(), false)
        .await
        .expect(200);

    let mut peers = PeerServiceClient::new(ipc::connect(&cell.automation));
    let mut update = UpdatePeerRequest {
        name: "laptop".to_owned(),
        tunnel: Some("full".to_owned()),
        if_version: Some(read.json()["version"].as_str().unwrap().to_owned()),
        ..UpdatePeerRequest::default()
    };
    let status = peers.update_peer(update.clone()).await.unwrap_err();
    assert_eq!(
        (status.code(), fault::reason(&status).as_deref()),
        (tonic::Code::Aborted, Some("VERSION_MISMATCH"))
    );
    let request = GetPeerRequest {
        name: "laptop".to_owned(),
    };
    let now = peers.get_peer(request).await.unwrap().into_inner().peer.unwrap();
    update.if_version = Some(now.version);
    peers.update_peer(update).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn activity_is_live_and_unknown_is_not_off() {
    let mut cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "laptop", 1).await;
    let status = PeerStatus {
        name: "laptop".to_owned(),
        latest_handshake_unix_ms: START_MS - 10_000,
        received_bytes: 7,
        sent_bytes: 8,
        ..PeerStatus::default()
    };
    cell.netd
        .state
        .lock()
        .unwrap()
        .statuses
        .insert("laptop".to_owned(), status);
    cell.advance(Duration::from_secs(2));
    let activity = |peer: &Value| peer["activity"].clone();
    let seen = activity(&admin.get("/api/peers/laptop").await.expect(200).json());
    assert_eq!(
        (seen["connected"].clone(), seen["received_bytes"].clone()),
        (json!(true), json!(7))
    );
    assert_eq!(
        admin.get("/api/status").await.expect(200).json()["connected_peer_count"],
        1
    );
    cell.advance(Duration::from_secs(180));
    let seen = activity(&admin.get("/api/peers/laptop").await.expect(200).json());
    assert_eq!(
        seen["connected"],
        json!(false),
        "the handshake is older than 180 s"
    );
    cell.netd.kill();
    // It ends a moment later; then nobody knows, once what was seen last is too old to be shown.
    let mut looks = 0;
    loop {
        cell.advance(Duration::from_secs(10));
        let seen = activity(&admin.get("/api/peers/laptop").await.expect(200).json());
        looks += 1;
        if seen == Value::Null {
            break;
        }
        assert!(looks < 50, "still shown: {seen}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let status = admin.get("/api/status").await.expect(200).json();
    assert_eq!(status["connected_peer_count"], Value::Null);
    let vault = status["daemons"]
        .as_array()
        .unwrap()
        .iter()
        .find(|d| d["name"] == "vault")
        .unwrap();
    let broker = status["daemons"]
        .as_array()
        .unwrap()
        .iter()
        .find(|d| d["name"] == "broker")
        .unwrap();
    assert_eq!(
        (vault["reachable"].clone(), broker["reachable"].clone()),
        (json!(true), json!(false))
    );
    let containers = admin.get("/api/containers").await.expect(200).json();
    assert_eq!(
        containers["docker"],
        json!({"reachable": false, "reason": "NO_BROKER"})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_peers_at_once_get_an_address_each_and_the_range_runs_out() {
    let cell = Cell::start().await;
    cell.set_up().await;
    let admin = cell.admin().await;
    let mut adding = tokio::task::JoinSet::new();
    for n in 0..260u64 {
        let admin = admin.clone();
        adding.spawn(async move {
            let peer = json!({"name": format!("p{n}"), "public_key": key(n + 1)});
            let answer = admin.post("/api/peers", &peer).await;
            (
                answer.status,
                answer.code(),
                answer.json()["peer"]["ipv4"].clone(),
            )
        });
        if n % 32 == 31 {
            while adding.len() > 16 {
                check_added(adding.join_next().await.unwrap().unwrap());
            }
        }
    }
    while let Some(added) = adding.join_next().await {
        check_added(added.unwrap());
    }
    let list = admin.get("/api/peers").await.expect(200).json();
    let mut addresses: Vec<String> = list["peers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["ipv4"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(addresses.len(), 253);
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 253);
    assert_eq!(cell.netd.peer_names().len(), 253);

    // Full: now what is given back is given out again, the longest rested first.
    let address = |name: &str| {
        let peers = list["peers"].as_array().unwrap();
        peers.iter().find(|peer| peer["name"] == name).unwrap()["ipv4"].clone()
    };
    let names: Vec<&str> = list["peers"].as_array().unwrap()[..2]
        .iter()
        .map(|peer| peer["name"].as_str().unwrap())
        .collect();
    for name in &names {
        admin.delete(&format!("/api/peers/{name}")).await.expect(204);
        cell.advance(Duration::from_secs(1));
    }
    for (number, name) in (900..).zip(names) {
        assert_eq!(
            add(&admin, &format!("again-{number}"), number).await["peer"]["ipv4"],
            address(name)
        );
    }
    let more = json!({"name": "more", "public_key": key(999)});
    admin
        .post("/api/peers", &more)
        .await
        .refused(507, "ADDRESSES_EXHAUSTED");
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn check_added((status, code, _): (u16, String, Value)) {
    assert!(
        status == 201 || (status, code.as_str()) == (507, "ADDRESSES_EXHAUSTED"),
        "{status} {code}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_a_packet_is_asked_of_netd() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "laptop", 1).await;
    let asked = "/api/peers/laptop/explain?destination=10.0.5.7";
    let passes = admin.get(&format!("{asked}&port=443")).await.expect(200).json();
    assert_eq!(passes["passes"], true);
    assert_eq!(passes["source"], "10.86.0.2");
    assert_eq!(
        (&passes["counter"], &passes["translated_to"]),
        (&Value::Null, &Value::Null)
    );
    let dropped = admin
        .get(&format!("{asked}&protocol=udp&port=443"))
        .await
        .expect(200)
        .json();
    assert_eq!(dropped["passes"], false);
    assert_eq!(dropped["counter"], "from_peer_default");
    assert_eq!(
        admin.get(asked).await.expect(200).json()["passes"],
        false,
        "a ping"
    );

    for (query, field) in [
        ("", "destination"),
        ("destination=example.org", "destination"),
        ("destination=10.0.5.7&port=0", "port"),
        ("destination=10.0.5.7&protocol=tcp", "port"),
        ("destination=10.0.5.7&protocol=sctp&port=1", "protocol"),
        ("destination=10.0.5.7&destination=10.0.5.8", "destination"),
        ("destination=10.0.5.7&verbose=1", "query"),
    ] {
        let answer = admin.get(&format!("/api/peers/laptop/explain?{query}")).await;
        answer.refused(400, "INVALID_REQUEST");
        assert_eq!(answer.json()["violations"][0]["field"], field, "{query}");
    }
    let nobody = "/api/peers/nobody/explain?destination=10.0.5.7";
    admin.get(nobody).await.refused(404, "NO_PEER");
    cell.client().get(nobody).await.refused(401, "NO_SESSION");

    let mut automation = PeerServiceClient::new(ipc::connect(&cell.automation));
    let question = ExplainFlowRequest {
        name: "laptop".to_owned(),
        destination: "10.0.5.7".to_owned(),
        protocol: String::new(),
        port: "443".to_owned(),
    };
    assert!(
        automation
            .explain_flow(question.clone())
            .await
            .unwrap()
            .into_inner()
            .passes
    );
    let refused = automation
        .explain_flow(ExplainFlowRequest {
            port: "x".to_owned(),
            ..question
        })
        .await;
    assert_eq!(fault::violations(&refused.unwrap_err())[0].field, "port");
}
