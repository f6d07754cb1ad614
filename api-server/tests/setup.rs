//! The first run, and the document that describes it all.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use serde_json::json;
use std::time::Duration;
use support::{Cell, PASSWORD, key};

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
