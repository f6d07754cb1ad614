//! What is acknowledged is seen: by the next reader, whichever listener took the change, and by every session at once.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use cell_proto::api::v1::peer_service_client::PeerServiceClient;
use cell_proto::api::v1::{DeletePeerRequest, GetPeerRequest, UpdatePeerRequest};
use cell_proto::{fault, ipc};
use serde_json::json;
use support::{Cell, PASSWORD, add, key};

#[tokio::test(flavor = "multi_thread")]
async fn a_read_after_an_acknowledged_write_sees_it_on_every_listener() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let mut peers = PeerServiceClient::new(ipc::connect(&cell.automation));
    for round in 0..20_u64 {
        let name = format!("laptop-{round}");
        add(&admin, &name, 100 + round).await;
        let path = format!("/api/peers/{name}");
        assert_eq!(
            admin.get(&path).await.expect(200).json()["public_key"],
            key(100 + round)
        );
        let update = UpdatePeerRequest {
            name: name.clone(),
            public_key: Some(key(200 + round)),
            access: None,
            tunnel: Some("full".to_owned()),
            if_version: None,
            exit: None,
            confirm_within_seconds: 0,
            validate_only: false,
            fail_open: None,
            fallbacks: None,
        };
        peers.update_peer(update).await.unwrap();
        let seen = admin.get(&path).await.expect(200).json();
        assert_eq!(
            (&seen["public_key"], &seen["tunnel"]),
            (&json!(key(200 + round)), &json!("full"))
        );
        let listed = admin.get("/api/peers").await.expect(200).json();
        assert_eq!(listed["peers"], json!([seen]));
        admin
            .put(&path, &json!({"access": {"internet": true}}))
            .await
            .expect(200);
        let got = peers
            .get_peer(GetPeerRequest { name: name.clone() })
            .await
            .unwrap();
        assert!(got.into_inner().peer.unwrap().access.unwrap().internet);
        peers
            .delete_peer(DeletePeerRequest {
                name,
                ..Default::default()
            })
            .await
            .unwrap();
        admin.get(&path).await.refused(404, "NO_PEER");
        let listed = admin.get("/api/peers").await.expect(200).json();
        assert_eq!(listed["peers"], json!([]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_not_seen() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "laptop", 1).await;
    add(&admin, "phone", 2).await;
    let before = admin.get("/api/peers").await.expect(200).json();
    // Both fail inside the transaction, after the row has been looked up and before the commit.
    let taken = json!({"public_key": key(1), "tunnel": "full"});
    admin
        .put("/api/peers/phone", &taken)
        .await
        .refused(409, "KEY_IN_USE");
    let again = json!({"name": "tablet", "public_key": key(2)});
    admin.post("/api/peers", &again).await.refused(409, "KEY_IN_USE");
    assert_eq!(admin.get("/api/peers").await.expect(200).json(), before);
    admin.get("/api/peers/tablet").await.refused(404, "NO_PEER");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_at_once_by_logout_deletion_and_time() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "ben", 1).await;
    let ben = cell.peer_user("ben").await;
    ben.get("/api/peer/me").await.expect(200);
    admin.delete("/api/auth/users/ben").await.expect(204);
    ben.get("/api/peer/me").await.refused(401, "NO_SESSION");

    let user = json!({"username": "eve", "password": PASSWORD, "role": "admin"});
    admin.post("/api/auth/users", &user).await.expect(201);
    let mut eve = cell.client();
    eve.login("eve", PASSWORD).await;
    eve.get("/api/peers/ben").await.expect(200);
    eve.post("/api/auth/logout", &json!({})).await.expect(204);
    eve.get("/api/peers/ben").await.refused(401, "NO_SESSION");

    admin.get("/api/peers/ben").await.expect(200);
    cell.advance(cell.app.config.session_idle);
    admin.get("/api/peers/ben").await.refused(401, "NO_SESSION");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_name_is_named_on_every_listener() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let mut peers = PeerServiceClient::new(ipc::connect(&cell.automation));
    for name in ["", "../x", "a b", "k\u{fc}che"] {
        let name = name.to_owned();
        let get = peers.get_peer(GetPeerRequest { name: name.clone() }).await;
        let delete = peers
            .delete_peer(DeletePeerRequest {
                name: name.clone(),
                ..Default::default()
            })
            .await;
        let update = UpdatePeerRequest {
            name,
            public_key: Some("?".to_owned()),
            access: None,
            tunnel: Some("half".to_owned()),
            if_version: None,
            exit: None,
            confirm_within_seconds: 0,
            validate_only: false,
            fail_open: None,
            fallbacks: None,
        };
        let update = peers.update_peer(update).await;
        for (refused, fields) in [
            (get.unwrap_err(), vec!["name"]),
            (delete.unwrap_err(), vec!["name"]),
            (update.unwrap_err(), vec!["name", "public_key", "tunnel"]),
        ] {
            assert_eq!(fault::reason(&refused).as_deref(), Some("INVALID_REQUEST"));
            let named: Vec<_> = fault::violations(&refused).into_iter().map(|v| v.field).collect();
            assert_eq!(named, fields);
        }
    }
    for answer in [
        admin.get("/api/peers/a%20b").await,
        admin.delete("/api/peers/a%20b").await,
        admin.get("/api/peers/a%20b/config").await,
    ] {
        answer.refused(400, "INVALID_REQUEST");
        assert_eq!(answer.fields(), ["name"]);
    }
}
