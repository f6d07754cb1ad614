//! The cell end to end below its guards: setup, peers, netd, audit, TLS, automation.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use cell_proto::api::v1::cell_service_client::CellServiceClient;
use cell_proto::api::v1::peer_service_client::PeerServiceClient;
use cell_proto::api::v1::setup_service_client::SetupServiceClient;
use cell_proto::api::v1::{
    CreatePeerRequest, DeletePeerRequest, GetCellStatusRequest, GetSetupRequest, ListPeersRequest,
    PeerAccess, ServiceAccess, VerifyAuditRequest,
};
use cell_proto::netd::v1::PeerStatus;
use cell_proto::{fault, ipc};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use support::client::Client;
use support::{Cell, PASSWORD, START_MS, key};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn add(client: &Client, name: &str, number: u64) -> Value {
    let answer = client
        .post("/api/peers", &json!({"name": name, "public_key": key(number)}))
        .await;
    answer.expect(201).json()
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..200 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

#[test]
fn the_committed_document_is_the_handlers() {
    let committed = include_str!("../../webui/openapi.json");
    let generated = cell_api::http::openapi::rendered().unwrap();
    assert!(
        committed == generated,
        "run: cell-api --print-openapi > webui/openapi.json"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_run_from_claim_to_login() {
    let cell = Cell::start().await;
    let mut client = cell.client();
    let status = client.get("/api/setup/status").await.expect(200).json();
    assert_eq!(
        status,
        json!({"complete": false, "claimed": false, "answered_steps": [], "next_step": "claim"})
    );
    let identity = json!({"cell_name": "home", "domain_mode": "lan"});
    client
        .post("/api/setup/step/identity", &identity)
        .await
        .refused(403, "CLAIM_TOKEN");
    client
        .post("/api/setup/step/claim", &json!({"claim_token": "AAAA"}))
        .await
        .refused(403, "CLAIM_TOKEN");

    let token = cell.claim_token();
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(cell.state().join("claim-token"))
            .unwrap()
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    client.claim = Some(token.clone());
    client
        .post("/api/setup/step/identity", &identity)
        .await
        .refused(409, "NOT_CLAIMED");
    client
        .post(
            "/api/setup/step/claim",
            &json!({"claim_token": token.to_lowercase()}),
        )
        .await
        .expect(200);
    client
        .post("/api/setup/complete", &json!({}))
        .await
        .refused(409, "SETUP_INCOMPLETE");
    let bad = json!({"vpn_range_ipv4": "10.86.0.1/24", "vpn_range_ipv6": "x", "endpoint_host": "a b"});
    let answer = client.post("/api/setup/step/network", &bad).await;
    answer.refused(400, "INVALID_REQUEST");
    assert_eq!(
        answer.fields(),
        ["vpn_range_ipv4", "vpn_range_ipv6", "endpoint_host"]
    );
    client
        .post(
            "/api/setup/step/network",
            &json!({"vpn_range_ipv4": "10.86.0.0/24"}),
        )
        .await
        .expect(200);
    let stored = client.get("/api/setup/step/network").await.expect(200).json();
    assert!(
        stored["values"]["vpn_range_ipv6"]
            .as_str()
            .unwrap()
            .starts_with("fd"),
        "chosen at random"
    );
    client
        .post("/api/setup/step/identity", &identity)
        .await
        .expect(200);
    let other = json!({"cell_name": "house", "domain_mode": "lan"});
    client.post("/api/setup/step/identity", &other).await.expect(200);
    client
        .post(
            "/api/setup/step/admin",
            &json!({"username": "anna", "password": PASSWORD}),
        )
        .await
        .expect(200);
    let admin = client.get("/api/setup/step/admin").await.expect(200);
    assert!(admin.text.contains("anna") && !admin.text.contains("argon2") && !admin.text.contains(PASSWORD));
    client.get("/api/config").await.refused(428, "SETUP_REQUIRED");
    client.post("/api/setup/complete", &json!({})).await.expect(200);
    client
        .post("/api/setup/complete", &json!({}))
        .await
        .refused(409, "SETUP_COMPLETE");
    client
        .post("/api/setup/step/identity", &identity)
        .await
        .refused(409, "SETUP_COMPLETE");
    assert!(!cell.state().join("claim-token").exists());
    let config = cell.admin().await.get("/api/config").await.expect(200).json();
    assert_eq!(config["domain"], "house.cell");
    assert_eq!(config["vpn_address_ipv4"], "10.86.0.1");
    let answer = cell
        .admin()
        .await
        .post("/api/peers", &json!({"name": "a", "public_key": key(1)}))
        .await;
    answer.refused(409, "ENDPOINT_UNKNOWN");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_claim_tokens_are_throttled() {
    let cell = Cell::start().await;
    let claim = |token: String| json!({"claim_token": token});
    for n in 0..10 {
        let answer = cell
            .client()
            .post("/api/setup/step/claim", &claim(format!("AAAA{n}")))
            .await;
        answer.refused(403, "CLAIM_TOKEN");
    }
    let answer = cell
        .client()
        .post("/api/setup/step/claim", &claim(cell.claim_token()))
        .await;
    answer.refused(429, "THROTTLED");
    cell.advance(Duration::from_secs(11));
    cell.client()
        .post("/api/setup/step/claim", &claim(cell.claim_token()))
        .await
        .expect(200);
}

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
    admin.get("/api/peers/laptop/config").await.expect(200);
    let read = admin.get("/api/peers/laptop").await.expect(200).json();
    assert_eq!(read["config_needs_reinstall"], false);

    admin.delete("/api/peers/laptop").await.expect(204);
    admin.delete("/api/peers/laptop").await.refused(404, "NO_PEER");
    assert_eq!(cell.netd.peer_names(), ["phone"]);
    assert_eq!(
        add(&admin, "third", 4).await["peer"]["ipv4"],
        "10.86.0.2",
        "the gap is filled"
    );
    let list = admin.get("/api/peers").await.expect(200).json();
    assert_eq!(list["peers"].as_array().unwrap().len(), 2);
    admin
        .put("/api/peers/phone", &json!({}))
        .await
        .refused(400, "INVALID_REQUEST");
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
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
    for file in ["cell.db", "cell.db-wal"] {
        let stored = std::fs::read(cell.state().join(file)).unwrap();
        let holds = |needle: &[u8]| stored.windows(needle.len()).any(|window| window == needle);
        assert!(!holds(&bytes) && !holds(key.as_bytes()), "{file}");
        assert!(!holds(PASSWORD.as_bytes()), "{file}");
    }
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
    cell.advance(Duration::from_secs(2));
    let seen = activity(&admin.get("/api/peers/laptop").await.expect(200).json());
    assert_eq!(seen, Value::Null);
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
}

fn check_added((status, code, _): (u16, String, Value)) {
    assert!(
        status == 201 || (status, code.as_str()) == (507, "ADDRESSES_EXHAUSTED"),
        "{status} {code}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_chain_is_written_anchored_and_checked() {
    let mut cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "laptop", 1).await;
    let page = admin.get("/api/audit?from=1&limit=3").await.expect(200).json();
    assert_eq!(page["records"].as_array().unwrap().len(), 3);
    assert_eq!(page["next"], 4);
    let all = admin.get("/api/audit?limit=1000").await.expect(200);
    for action in ["setup.complete", "auth.login", "peer.create"] {
        assert!(all.text.contains(action), "{action}");
    }
    assert!(!all.text.contains(PASSWORD) && !all.text.contains("argon2"));
    for bad in [
        "from=0",
        "from=-1",
        "from=x",
        "limit=0",
        "limit=1001",
        "limit=1&limit=2",
        "order=desc",
    ] {
        admin
            .get(&format!("/api/audit?{bad}"))
            .await
            .refused(400, "INVALID_REQUEST");
    }
    let count = all.json()["records"].as_array().unwrap().len() as u64;
    let anchors = Arc::clone(&cell.vault.anchors);
    eventually("the head is anchored", || {
        anchors.lock().unwrap().contains_key(&count)
    })
    .await;
    let verdict = admin.get("/api/audit/verify").await.expect(200).json();
    assert_eq!(
        (verdict["intact"].clone(), verdict["record_count"].clone()),
        (json!(true), json!(count))
    );
    assert!(verdict["anchor_count"].as_u64().unwrap() >= 1);

    cell.vault.kill();
    admin.get("/api/audit/verify").await.refused(503, "UNREACHABLE");
    add(&admin, "while-away", 2).await;
    cell.vault.resume();
    eventually("the head is anchored later", || {
        anchors.lock().unwrap().contains_key(&(count + 1))
    })
    .await;

    let database = rusqlite::Connection::open(cell.state().join("cell.db")).unwrap();
    database
        .execute("UPDATE audit SET detail = 'x' WHERE sequence = 2", ())
        .unwrap_err();
    database.execute("DELETE FROM audit", ()).unwrap_err();
    database
        .execute_batch("DROP TRIGGER audit_is_not_altered; UPDATE audit SET actor = 'eve' WHERE sequence = 2")
        .unwrap();
    let verdict = admin.get("/api/audit/verify").await.expect(200).json();
    assert_eq!(
        (verdict["intact"].clone(), verdict["first_bad_sequence"].clone()),
        (json!(false), json!(2))
    );
    database
        .execute_batch("UPDATE audit SET actor = 'setup' WHERE sequence = 2")
        .unwrap();
    assert_eq!(
        admin.get("/api/audit/verify").await.expect(200).json()["intact"],
        json!(true)
    );
    let head = count + 1;
    database
        .execute_batch("DROP TRIGGER audit_is_not_removed")
        .unwrap();
    database
        .execute("DELETE FROM audit WHERE sequence = ?1", [head])
        .unwrap();
    let verdict = admin.get("/api/audit/verify").await.expect(200).json();
    assert_eq!(verdict["first_bad_sequence"], json!(head), "a cut tail");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_what_changed_and_end_with_the_session() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let mut stream = tokio::net::TcpStream::connect(cell.address).await.unwrap();
    let request = format!(
        "GET /api/events HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\n\r\n",
        cell.address,
        admin.cookie.as_deref().unwrap()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    read_until(&mut stream, &mut text, "event: services\ndata: {\"version\": 1}").await;
    assert!(text.contains("text/event-stream"));
    text.clear();
    add(&admin, "laptop", 1).await;
    read_until(&mut stream, &mut text, "event: peers").await;
    read_until(&mut stream, &mut text, "event: audit").await;
    admin.post("/api/auth/logout", &json!({})).await.expect(204);
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
    // The connection may stay open for the next request; the stream itself has its last chunk.
    assert!(
        ended.is_ok() || String::from_utf8_lossy(&rest).ends_with("0\r\n\r\n"),
        "{}",
        String::from_utf8_lossy(&rest)
    );
}

async fn read_until(stream: &mut tokio::net::TcpStream, text: &mut String, wanted: &str) {
    let mut buffer = [0u8; 4096];
    while !text.contains(wanted) {
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buffer)).await;
        let read = read
            .unwrap_or_else(|_| panic!("{wanted} never came: {text}"))
            .unwrap();
        assert_ne!(read, 0, "the stream ended before {wanted}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn https_has_vaults_certificate_and_its_own_rules() {
    let cell = Cell::ready().await;
    eventually("a certificate is issued", || !cell.vault.issued().is_empty()).await;
    let (names, addresses) = cell.vault.issued().remove(0);
    assert_eq!(names, ["api.home.cell", "home.cell"]);
    assert_eq!(
        addresses,
        [
            vec![10, 86, 0, 1],
            "fd12:3456:789a::1"
                .parse::<std::net::Ipv6Addr>()
                .unwrap()
                .octets()
                .to_vec()
        ]
    );
    let answer = https(&cell, "home.cell", "/health").await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("strict-transport-security: max-age="),
        "{answer}"
    );
    let answer = https(&cell, "localhost", "/health").await;
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
    let body = json!({"username": "anna", "password": PASSWORD}).to_string();
    let login = https_send(&cell, &format!(
        "POST /api/auth/login HTTP/1.1\r\nHost: home.cell\r\nOrigin: https://home.cell\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )).await;
    assert!(login.contains("set-cookie: __Host-cell="), "{login}");
    assert!(
        login.contains("Secure") && login.contains("HttpOnly") && login.contains("SameSite=Strict"),
        "{login}"
    );
}

async fn https(cell: &Cell, host: &str, path: &str) -> String {
    https_send(
        cell,
        &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
    )
    .await
}

async fn https_send(cell: &Cell, request: &str) -> String {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from(cell.vault.root_der.clone()))
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(cell.vpn).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector
        .connect(ServerName::try_from("home.cell").unwrap(), stream)
        .await
        .unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn automation_is_the_same_cell() {
    let cell = Cell::start().await;
    let channel = ipc::connect(&cell.automation);
    let state = SetupServiceClient::new(channel.clone())
        .get_setup(GetSetupRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(state.state.unwrap().next_step, "claim");
    let mut peers = PeerServiceClient::new(channel.clone());
    let early = peers.list_peers(ListPeersRequest {}).await.unwrap_err();
    assert_eq!(fault::reason(&early).as_deref(), Some("SETUP_REQUIRED"));
    cell.set_up().await;
    let bad = CreatePeerRequest {
        name: "a b".to_owned(),
        public_key: "x".to_owned(),
        access: Some(PeerAccess {
            services: vec![ServiceAccess::default()],
            ..PeerAccess::default()
        }),
        ..CreatePeerRequest::default()
    };
    let status = peers.create_peer(bad).await.unwrap_err();
    assert_eq!(fault::reason(&status).as_deref(), Some("INVALID_REQUEST"));
    let fields: Vec<_> = fault::violations(&status).into_iter().map(|v| v.field).collect();
    assert_eq!(
        fields,
        [
            "name",
            "public_key",
            "access.services[0].address",
            "access.services[0].protocol",
            "access.services[0].port"
        ]
    );
    let good = CreatePeerRequest {
        name: "laptop".to_owned(),
        public_key: key(1),
        ..CreatePeerRequest::default()
    };
    let created = peers.create_peer(good.clone()).await.unwrap().into_inner();
    assert!(created.config.contains("PrivateKey = \n"));
    let twice = peers.create_peer(good).await.unwrap_err();
    assert_eq!(
        (twice.code(), fault::reason(&twice).as_deref()),
        (tonic::Code::AlreadyExists, Some("PEER_EXISTS"))
    );
    let mut service = CellServiceClient::new(channel);
    let status = service
        .get_cell_status(GetCellStatusRequest {})
        .await
        .unwrap()
        .into_inner()
        .status
        .unwrap();
    assert_eq!(
        (status.peer_count, status.generation, status.observed_generation),
        (1, 2, 2)
    );
    assert!(
        service
            .verify_audit(VerifyAuditRequest {})
            .await
            .unwrap()
            .into_inner()
            .intact
    );
    let audit = cell.admin().await.get("/api/audit").await.expect(200);
    assert!(audit.text.contains("\"actor\":\"local:tester\"") && audit.text.contains("\"remote\":\"unix\""));
    peers
        .delete_peer(DeletePeerRequest {
            name: "laptop".to_owned(),
        })
        .await
        .unwrap();
    let gone = peers
        .delete_peer(DeletePeerRequest {
            name: "laptop".to_owned(),
        })
        .await
        .unwrap_err();
    assert_eq!(gone.code(), tonic::Code::NotFound);
}
