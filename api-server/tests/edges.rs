//! The audit chain, events, HTTPS and the automation socket.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use cell_api::events::Topic;
use cell_proto::api::v1::cell_service_client::CellServiceClient;
use cell_proto::api::v1::peer_service_client::PeerServiceClient;
use cell_proto::api::v1::setup_service_client::SetupServiceClient;
use cell_proto::api::v1::user_service_client::UserServiceClient;
use cell_proto::api::v1::{
    CreatePeerRequest, DeletePeerRequest, GetCellStatusRequest, GetSetupRequest, ListPeersRequest,
    ListUsersRequest, PeerAccess, ResetPasswordRequest, ServiceAccess, VerifyAuditRequest,
    WatchCellStatusRequest,
};
use cell_proto::{fault, ipc};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use support::{Cell, PASSWORD, add, eventually, key};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_chain_is_written_anchored_and_checked() {
    let mut cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "laptop", 1).await;
    let page = admin.get("/api/audit?from=1&limit=3").await.expect(200).json();
    assert_eq!(page["records"].as_array().unwrap().len(), 3);
    assert_eq!(page["next"], 4);
    let all = admin.get("/api/audit?limit=1000").await.expect(200);
    let sequences = async |query: &str| {
        let page = admin.get(&format!("/api/audit?{query}")).await.expect(200).json();
        let records = page["records"].as_array().unwrap();
        let numbers: Vec<u64> = records.iter().map(|r| r["sequence"].as_u64().unwrap()).collect();
        (numbers, page["next"].as_u64())
    };
    let length = all.json()["records"].as_array().unwrap().len() as u64;
    // The tail is read from its end, without a look at the rest.
    assert_eq!(
        sequences("order=desc&limit=2").await,
        (vec![length, length - 1], Some(length - 2))
    );
    assert_eq!(sequences("order=desc&from=2").await, (vec![2, 1], None));
    assert_eq!(sequences("order=asc&from=2&limit=2").await, (vec![2, 3], Some(4)));
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
        "order=down",
        "order=asc&order=desc",
    ] {
        admin
            .get(&format!("/api/audit?{bad}"))
            .await
            .refused(400, "INVALID_REQUEST");
    }
    let count = length;
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

/// A stream of events as a browser opens it.
async fn events(cell: &Cell, admin: &support::client::Client) -> tokio::net::TcpStream {
    let mut stream = tokio::net::TcpStream::connect(cell.address).await.unwrap();
    let request = format!(
        "GET /api/events HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\n\r\n",
        cell.address,
        admin.cookie.as_deref().unwrap()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_what_changed_and_end_with_the_session() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let (mut stream, mut text) = (events(&cell, &admin).await, String::new());
    read_until(&mut stream, &mut text, "event: services\ndata: {\"version\": 1}").await;
    assert!(text.contains("text/event-stream") && text.contains("event: activity"));
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

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_events_end_with_the_process() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let (mut stream, mut text) = (events(&cell, &admin).await, String::new());
    read_until(&mut stream, &mut text, "event: services").await;
    let mut client = CellServiceClient::new(ipc::connect(&cell.automation));
    let mut statuses = client
        .watch_cell_status(WatchCellStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(statuses.message().await.unwrap().is_some());

    let started = std::time::Instant::now();
    cell.shut_down();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_millis(3_500), async {
        while let Ok(Some(_)) = statuses.message().await {}
        let _ = stream.read_to_end(&mut rest).await;
        cell.ended().await;
    });
    ended
        .await
        .expect("both streams, and everything that was started, end at once");
    assert!(
        started.elapsed() < Duration::from_millis(3_500),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_hear_of_differences_and_not_of_every_look() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "laptop", 1).await;
    eventually("netd was seen", || cell.app.network.status().is_some()).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = *cell.app.events.watch().borrow();
    for packets in 1..=5 {
        cell.netd.look(packets);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let after = *cell.app.events.watch().borrow();
    for topic in [Topic::Status, Topic::Peers] {
        assert_eq!(after.of(topic), before.of(topic), "{topic:?}: only packets moved");
    }
    assert!(
        after.of(Topic::Activity) - before.of(Topic::Activity) <= 1,
        "every few seconds at most"
    );
    cell.netd.foreign_change();
    eventually("a difference is told", || {
        cell.app.events.watch().borrow().of(Topic::Status) > after.of(Topic::Status)
    })
    .await;
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
            confirm_within_seconds: 0,
            validate_only: false,
            delete_accounts: false,
        })
        .await
        .unwrap();
    let gone = peers
        .delete_peer(DeletePeerRequest {
            name: "laptop".to_owned(),
            confirm_within_seconds: 0,
            validate_only: false,
            delete_accounts: false,
        })
        .await
        .unwrap_err();
    assert_eq!(gone.code(), tonic::Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_out_administrator_comes_back_by_the_local_socket() {
    let cell = Cell::start().await;
    let mut users = UserServiceClient::new(ipc::connect(&cell.automation));
    let early = users.list_users(ListUsersRequest {}).await.unwrap_err();
    assert_eq!(fault::reason(&early).as_deref(), Some("SETUP_REQUIRED"));
    cell.set_up().await;
    let session = cell.admin().await;
    let login = |password: &str| json!({"username": "anna", "password": password});
    for _ in 0..5 {
        let wrong = login("wrong wrong wrong");
        session
            .post("/api/auth/login", &wrong)
            .await
            .refused(401, "LOGIN");
    }
    let answer = session.post("/api/auth/login", &login(PASSWORD)).await;
    answer.refused(429, "LOCKED");
    let listed = users
        .list_users(ListUsersRequest {})
        .await
        .unwrap()
        .into_inner()
        .users;
    assert_eq!(
        (listed.len(), listed[0].username.as_str(), listed[0].role.as_str()),
        (1, "anna", "admin")
    );
    assert!(listed[0].locked_until_unix_ms > support::START_MS);

    let reset = |username: &str, new_password: &str| ResetPasswordRequest {
        username: username.to_owned(),
        new_password: new_password.to_owned(),
    };
    let unknown = users
        .reset_password(reset("eve", "a new password"))
        .await
        .unwrap_err();
    assert_eq!(fault::reason(&unknown).as_deref(), Some("NO_USER"));
    let short = users.reset_password(reset("anna", "short")).await.unwrap_err();
    assert_eq!(fault::violations(&short)[0].field, "new_password");
    users
        .reset_password(reset("anna", "a new password"))
        .await
        .unwrap();
    session.get("/api/auth/me").await.refused(401, "NO_SESSION");
    let mut anna = cell.client();
    anna.login("anna", "a new password").await;
    anna.get("/api/peers").await.refused(403, "MUST_CHANGE_PASSWORD");
    let change = json!({"current_password": "a new password", "new_password": "one of my own choice"});
    let changed = anna.post("/api/auth/change-password", &change).await.expect(204);
    drop(changed);
    anna.login("anna", "one of my own choice").await;
    let audit = anna.get("/api/audit?limit=1000").await.expect(200).json();
    let records = audit["records"].as_array().unwrap();
    let by = |record: &&serde_json::Value| record["action"] == "user.reset-password";
    assert_eq!(records.iter().find(by).unwrap()["actor"], "local:tester");
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
