//! Connections: their life, their allocations, and their secrets, which go to vaultd and nowhere else.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use cell_api::events::Topic;
use cell_api::service::connections;
use cell_proto::api::v1::connection_service_client::ConnectionServiceClient;
use cell_proto::api::v1::{
    ConnectionImport, CreateConnectionRequest, DeleteConnectionRequest, GetConnectionRequest,
    ListConnectionsRequest, UpdateConnectionRequest,
};
use cell_proto::{fault, ipc};
use serde_json::{Value, json};
use support::client::{Answer, Client};
use support::{ABSENT, Cell};

const ALL: &str = "/api/connectivity/connections";
const PRIVATE: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
const PRESHARED: &str = "FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE=";

fn wireguard(host: &str) -> String {
    format!(
        "[Interface]\nPrivateKey = {PRIVATE}\nAddress = 10.2.0.2/32\nDNS = 10.2.0.1\nTable = off\n\n[Peer]\n\
         PublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\nPresharedKey = {PRESHARED}\n\
         AllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = {host}:51820\n"
    )
}

fn one(id: &Value) -> String {
    format!("{ALL}/{}", id.as_str().unwrap())
}

async fn add(admin: &Client, body: &Value) -> Value {
    admin.post(ALL, body).await.expect(201).json()
}

async fn add_tor(admin: &Client, name: &str) -> Value {
    add(admin, &json!({"name": name, "type": "tor"})).await["connection"].clone()
}

async fn put_if(admin: &Client, path: &str, version: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json"), ("if-match", version)];
    admin
        .send("PUT", path, &headers, Some(body.to_string().into_bytes()))
        .await
}

async fn records(admin: &Client) -> Vec<Value> {
    let all = admin.get("/api/audit?limit=1000").await.expect(200).json();
    all["records"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_imported_listed_renamed_replaced_and_removed() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let generation = admin.get("/api/status").await.expect(200).json()["generation"]
        .as_u64()
        .unwrap();
    let import = json!({"file": wireguard("192.0.2.1")});
    let body = json!({"name": "mullvad", "type": "wireguard_ext", "import": import});
    let created = admin.post(ALL, &body).await.expect(201);
    assert_eq!(created.headers["etag"], "\"1\"");
    let created = created.json();
    assert!(
        created["notes"][0].as_str().unwrap().contains("Table"),
        "{created}"
    );
    let made = &created["connection"];
    let digits = made["id"].as_str().unwrap().replace('-', "");
    let (private, preshared) = (
        format!("conn_{digits}_wireguard_key"),
        format!("conn_{digits}_preshared_key_1"),
    );
    assert_eq!(made["mark"], "0x1000");
    assert_eq!(made["table"], 1000);
    assert_eq!(made["iface"], format!("wgext_{}", &digits[..8]));
    assert_eq!(made["redirect_port"], Value::Null);
    assert_eq!(made["vault_names"], json!([preshared, private]));
    assert_eq!(made["config"]["servers"][0]["host"], "192.0.2.1");
    assert_eq!(
        (
            made["status"]["health"].clone(),
            made["status"]["timestamp"].clone()
        ),
        (json!("unknown"), Value::Null)
    );
    {
        let vault = cell.vault.secrets.lock().unwrap();
        assert_eq!(vault.names(), [preshared.clone(), private.clone()]);
        assert_eq!(
            (vault.value(&private), vault.value(&preshared)),
            (PRIVATE.to_owned(), PRESHARED.to_owned())
        );
    }
    let path = one(&made["id"]);
    let read = admin.get(&path).await.expect(200);
    assert_eq!(
        (&read.headers["etag"], &read.json()),
        (&"\"1\"".parse().unwrap(), made)
    );
    add_tor(&admin, "onion").await;
    let list = admin.get(ALL).await.expect(200).json();
    assert_eq!(list["connections"][0], *made);
    assert_eq!(list["connections"].as_array().unwrap().len(), 2);

    admin.post(ALL, &body).await.refused(409, "CONNECTION_EXISTS");
    admin
        .put(&path, &json!({"name": "onion"}))
        .await
        .refused(409, "CONNECTION_EXISTS");
    assert_eq!(
        cell.vault.secrets.lock().unwrap().kept.len(),
        2,
        "what is refused leaves nothing behind"
    );
    let renamed = put_if(&admin, &path, "\"1\"", &json!({"name": "sweden"}))
        .await
        .expect(200);
    assert_eq!(renamed.headers["etag"], "\"2\"");
    assert_eq!(renamed.json()["connection"]["name"], "sweden");
    put_if(&admin, &path, "\"1\"", &json!({"name": "norway"}))
        .await
        .refused(412, "VERSION_MISMATCH");

    let other = wireguard("other.example.org").replace(&format!("PresharedKey = {PRESHARED}\n"), "");
    let other = other.replace(PRIVATE, PRESHARED);
    let replaced = admin
        .put(&path, &json!({"import": {"file": other}}))
        .await
        .expect(200)
        .json();
    let replaced = &replaced["connection"];
    assert_eq!(replaced["config"]["servers"][0]["host"], "other.example.org");
    for same in ["id", "name", "mark", "table", "iface"] {
        let expected = if same == "name" {
            &json!("sweden")
        } else {
            &made[same]
        };
        assert_eq!(replaced[same], *expected);
    }
    {
        let vault = cell.vault.secrets.lock().unwrap();
        assert_eq!(
            vault.names(),
            std::slice::from_ref(&private),
            "what is not used any more is gone"
        );
        assert_eq!(vault.value(&private), PRESHARED);
    }

    admin.delete(&path).await.expect(204);
    assert!(cell.vault.secrets.lock().unwrap().kept.is_empty());
    for refused in [
        admin.get(&path).await,
        admin.delete(&path).await,
        admin.put(&path, &json!({"name": "a"})).await,
    ] {
        refused.refused(404, "NO_CONNECTION");
    }
    admin
        .get(&format!("{ALL}/x"))
        .await
        .refused(400, "INVALID_REQUEST");
    let told: Vec<Value> = records(&admin)
        .await
        .iter()
        .map(|record| record["action"].clone())
        .collect();
    let told: Vec<&str> = told
        .iter()
        .filter_map(Value::as_str)
        .filter(|a| a.starts_with("connection.") && *a != "connection.health")
        .collect();
    let expected =
        ["create", "create", "update", "update", "delete"].map(|what| format!("connection.{what}"));
    assert_eq!(told, expected);
    let now = admin.get("/api/status").await.expect(200).json()["generation"]
        .as_u64()
        .unwrap();
    assert_eq!(now, generation + 4, "netd hears of all but the new name");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_type_goes_the_same_way_and_faults_are_named_at_once() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let proxy =
        json!({"name": "proxy", "type": "proxy", "import": {"url": "socks5://anna:hunter2@p.example.org"}});
    let made = add(&admin, &proxy).await["connection"].clone();
    assert_eq!(made["redirect_port"], 9100);
    assert_eq!(made["config"]["username"], "anna");
    assert_eq!(
        made["config"]["servers"],
        json!([{"protocol": "socks5", "host": "p.example.org", "port": 1080, "public_key": null}])
    );
    let pem = |label: &str| format!("-----BEGIN {label}-----\nTUlJQg==\n-----END {label}-----\n");
    let (certificate, key) = (pem("CERTIFICATE"), pem("PRIVATE KEY"));
    let profile = format!(
        "client\ndev tun\nremote vpn.example.org 443 tcp-client\nauth-user-pass\n<ca>\n{certificate}</ca>\n\
         <cert>\n{certificate}</cert>\n<key>\n{key}</key>\n"
    );
    let import = json!({"file": profile, "username": "anna", "password": "hunter2"});
    let made = add(
        &admin,
        &json!({"name": "ovpn", "type": "openvpn", "import": import}),
    )
    .await["connection"]
        .clone();
    assert!(made["iface"].as_str().unwrap().starts_with("ovpn_"));
    assert_eq!(made["vault_names"].as_array().unwrap().len(), 3);
    assert_eq!(made["config"]["servers"][0]["protocol"], "openvpn/tcp");
    let tor = add_tor(&admin, "tor").await;
    assert_eq!(
        (tor["redirect_port"].clone(), tor["mark"].clone()),
        (json!(9101), json!("0x1020"))
    );

    // Their health is looked at meanwhile.
    let all = || async {
        let mut all = admin.get(ALL).await.expect(200).json();
        let connections = all["connections"].as_array_mut().unwrap();
        connections.iter_mut().for_each(|one| one["status"] = json!(null));
        all
    };
    let before = all().await;
    let bad = json!({"name": "", "type": "wireguard_ext", "import": {"file": "[Interface]\nPostUp = hunter2\nFoo = 1", "url": "x"}});
    let answer = admin.post(ALL, &bad).await;
    answer.refused(400, "INVALID_REQUEST");
    assert_eq!(
        answer.fields(),
        [
            "name",
            "import.url",
            "import.file line 2 (PostUp)",
            "import.file line 3 (unknown key)"
        ]
    );
    assert!(!answer.text.contains("hunter2"));
    let answer = admin
        .post(
            ALL,
            &json!({"name": 7, "type": "cell_relay", "import": {"file": 1, "x": 2}}),
        )
        .await;
    answer.refused(400, "INVALID_REQUEST");
    assert_eq!(answer.fields(), ["name", "import.file", "import.x", "type"]);
    admin
        .put(&one(&tor["id"]), &json!({"import": {"url": "socks5://p"}}))
        .await
        .refused(400, "INVALID_REQUEST");
    admin
        .put(&one(&tor["id"]), &json!({}))
        .await
        .refused(400, "INVALID_REQUEST");
    let huge = json!({"name": "a", "type": "proxy", "import": {"url": "a".repeat(70_000)}});
    admin.post(ALL, &huge).await.refused(413, "TOO_LARGE");
    assert_eq!(all().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_for_administrators() {
    let cell = Cell::ready().await;
    let path = format!("{ALL}/{ABSENT}");
    cell.client().get(ALL).await.refused(401, "NO_SESSION");
    let peer = cell.peer_user("ben").await;
    peer.get(ALL).await.refused(403, "ROLE");
    peer.post(ALL, &json!({"name": "a", "type": "tor"}))
        .await
        .refused(403, "ROLE");
    peer.delete(&path).await.refused(403, "ROLE");
    let mut admin = cell.admin().await;
    admin.get(ALL).await.expect(200);
    admin.csrf = None;
    admin
        .post(ALL, &json!({"name": "a", "type": "tor"}))
        .await
        .refused(403, "CSRF");
    admin.delete(&path).await.refused(403, "CSRF");
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_are_filled_nothing_is_given_twice_and_the_end_is_an_error() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let mut ids = Vec::new();
    for number in 0..100 {
        ids.push(add_tor(&admin, &format!("tor-{number}")).await["id"].clone());
    }
    let full = admin.post(ALL, &json!({"name": "tor-100", "type": "tor"})).await;
    full.refused(507, "CONNECTIONS_EXHAUSTED");
    assert!(full.text.contains("100 ports"), "{}", full.text);
    let import = json!({"file": wireguard("192.0.2.1")});
    add(
        &admin,
        &json!({"name": "wg", "type": "wireguard_ext", "import": import}),
    )
    .await;
    admin.delete(&one(&ids[41])).await.expect(204);
    admin.delete(&one(&ids[7])).await.expect(204);
    let again = add_tor(&admin, "again").await;
    assert_eq!(
        (
            again["mark"].clone(),
            again["table"].clone(),
            again["redirect_port"].clone()
        ),
        (json!("0x1070"), json!(1007), json!(9107)),
        "the lowest gap"
    );
    let listed = admin.get(ALL).await.expect(200).json()["connections"]
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(listed.len(), 100);
    for field in ["mark", "table", "id", "name"] {
        let values: BTreeSet<String> = listed.iter().map(|one| one[field].to_string()).collect();
        assert_eq!(values.len(), 100, "{field}");
    }
    // Many at once: the writer gives each its own.
    for one_of in &listed {
        admin.delete(&one(&one_of["id"])).await.expect(204);
    }
    let names: Vec<String> = (0..12).map(|n| format!("at-once-{n}")).collect();
    let at_once = names.iter().map(|name| add_tor(&admin, name));
    let made = futures_util::future::join_all(at_once).await;
    let marks: BTreeSet<String> = made.iter().map(|one| one["mark"].to_string()).collect();
    let lowest: BTreeSet<String> = (0..12).map(|n| format!("\"{:#x}\"", 0x1000 + n * 0x10)).collect();
    assert_eq!(marks, lowest);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_vaultd_nothing_is_added_and_what_it_refuses_is_said() {
    let mut cell = Cell::ready().await;
    let admin = cell.admin().await;
    let import = json!({"file": wireguard("192.0.2.1")});
    let body = json!({"name": "wg", "type": "wireguard_ext", "import": import});
    cell.lose_vault().await;
    admin.post(ALL, &body).await.refused(503, "UNREACHABLE");
    add_tor(&admin, "needs-no-secret").await;
    cell.vault.resume();
    for (reason, status, code) in [
        ("NAME_NOT_ALLOWED", 409, "VAULT_REFUSES"),
        ("QUOTA", 409, "VAULT_REFUSES"),
        ("SEALED", 409, "VAULT_REFUSES"),
        ("RATE", 503, "BUSY"),
        ("STORAGE_FAILED", 503, "UNREACHABLE"),
    ] {
        // The first secret is taken, the second is not: the first must go again.
        cell.vault.secrets.lock().unwrap().refuses = Some(("_preshared_key_1", reason));
        admin.post(ALL, &body).await.refused(status, code);
        assert!(cell.vault.secrets.lock().unwrap().kept.is_empty(), "{reason}");
        assert_eq!(
            admin.get(ALL).await.expect(200).json()["connections"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
    }
    cell.vault.secrets.lock().unwrap().refuses = None;
    add(&admin, &body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_that_stops_half_way_is_broken_until_it_is_done_again() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let import = json!({"file": wireguard("192.0.2.1")});
    let body = json!({"name": "wg", "type": "wireguard_ext", "import": import});
    let made = add(&admin, &body).await["connection"].clone();
    let path = one(&made["id"]);
    let health = || async { admin.get(&path).await.expect(200).json()["status"]["health"].clone() };

    // Refused before anything was taken: as it was.
    cell.vault.secrets.lock().unwrap().refuses = Some(("_wireguard_key", "STORAGE_FAILED"));
    admin
        .put(&path, &json!({"import": import}))
        .await
        .refused(503, "UNREACHABLE");
    assert_eq!(health().await, "unknown");
    assert_eq!(admin.get(&path).await.expect(200).json(), made);
    // Refused in the middle: one key is of the new import, the other of the old.
    cell.vault.secrets.lock().unwrap().refuses = Some(("_preshared_key_1", "STORAGE_FAILED"));
    admin
        .put(&path, &json!({"import": import}))
        .await
        .refused(503, "UNREACHABLE");
    assert_eq!(health().await, "down");
    admin.put(&path, &json!({"name": "renamed"})).await.expect(200);
    assert_eq!(health().await, "down", "another name does not mend it");
    cell.vault.secrets.lock().unwrap().refuses = None;
    admin.put(&path, &json!({"import": import})).await.expect(200);
    assert_eq!(health().await, "unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_leaves_at_the_vault_is_removed_and_what_the_vault_lost_is_said() {
    let mut cell = Cell::ready().await;
    let admin = cell.admin().await;
    let import = json!({"file": wireguard("192.0.2.1")});
    let made = add(
        &admin,
        &json!({"name": "wg", "type": "wireguard_ext", "import": import}),
    )
    .await["connection"]
        .clone();
    let path = one(&made["id"]);
    let orphan = format!("conn_{}_password", "0a".repeat(16));
    let keep = |name: &str| (name.to_owned(), (3, b"x".to_vec()));
    // What is not a connection's is not ours to remove.
    let foreign = ["conn_other", "ddns_token", "conn_0A_password"].map(keep);
    cell.vault
        .secrets
        .lock()
        .unwrap()
        .kept
        .extend(foreign.into_iter().chain([keep(&orphan)]));
    connections::tidy_all(&cell.app).await.unwrap();
    let names = cell.vault.secrets.lock().unwrap().names();
    assert_eq!(names.len(), 5, "{names:?}");
    assert!(!names.contains(&orphan));
    assert_eq!(
        admin.get(&path).await.expect(200).json(),
        made,
        "whole ones are left alone"
    );

    // Removed while vaultd is away: the secrets follow when it is back.
    let tor_like = add(
        &admin,
        &json!({"name": "wg2", "type": "wireguard_ext", "import": import}),
    )
    .await["connection"]
        .clone();
    cell.lose_vault().await;
    admin.delete(&one(&tor_like["id"])).await.expect(204);
    assert!(
        connections::tidy_all(&cell.app).await.is_err(),
        "the positive control: it is away"
    );
    assert_eq!(cell.vault.secrets.lock().unwrap().kept.len(), 7);
    cell.vault.resume();
    tokio::time::timeout(
        Duration::from_secs(30),
        until(|| cell.vault.secrets.lock().unwrap().kept.len() == 5),
    )
    .await
    .unwrap();

    let lost = made["vault_names"][0].as_str().unwrap();
    cell.vault.secrets.lock().unwrap().kept.remove(lost);
    connections::tidy_all(&cell.app).await.unwrap();
    let read = admin.get(&path).await.expect(200).json();
    assert_eq!(
        (read["status"]["health"].clone(), read["version"].clone()),
        (json!("down"), json!("2"))
    );
    let broken = async || {
        let mut records = records(&admin).await;
        records.retain(|record| record["action"] == "connection.broken");
        records
    };
    let told = broken().await;
    assert_eq!((told.len(), &told[0]["actor"]), (1, &json!("cell")));
    connections::tidy_all(&cell.app).await.unwrap();
    assert_eq!(broken().await, told, "said once");
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_automation_api_does_the_same() {
    let cell = Cell::ready().await;
    let mut client = ConnectionServiceClient::new(ipc::connect(&cell.automation));
    let import = || ConnectionImport {
        url: "http://anna:hunter2@p.example.org:3128".to_owned(),
        ..ConnectionImport::default()
    };
    let request = |name: &str| CreateConnectionRequest {
        name: name.to_owned(),
        r#type: "proxy".to_owned(),
        import: Some(import()),
    };
    assert!(!format!("{:?}", request("a")).contains("hunter2"));
    let made = client
        .create_connection(request("way-out"))
        .await
        .unwrap()
        .into_inner();
    let made = made.connection.unwrap();
    assert_eq!(
        (made.mark.as_str(), made.redirect_port, made.iface.as_str()),
        ("0x1000", 9100, "")
    );
    let name = format!("conn_{}_password", made.id.replace('-', ""));
    assert_eq!(made.vault_names, std::slice::from_ref(&name));
    assert_eq!(cell.vault.secrets.lock().unwrap().value(&name), "hunter2");
    let again = client.create_connection(request("way-out")).await.unwrap_err();
    assert_eq!(fault::reason(&again).as_deref(), Some("CONNECTION_EXISTS"));
    let id = || made.id.clone();
    let rename = |if_version: &str| UpdateConnectionRequest {
        id: id(),
        name: Some("out".to_owned()),
        import: None,
        if_version: Some(if_version.to_owned()),
        validate_only: false,
    };
    let renamed = client.update_connection(rename("1")).await.unwrap().into_inner();
    assert_eq!(renamed.connection.unwrap().name, "out");
    let stale = client.update_connection(rename("1")).await.unwrap_err();
    assert_eq!(fault::reason(&stale).as_deref(), Some("VERSION_MISMATCH"));
    let listed = client
        .list_connections(ListConnectionsRequest {})
        .await
        .unwrap()
        .into_inner();
    let read = client
        .get_connection(GetConnectionRequest { id: id() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.connections, [read.connection.unwrap()]);
    client
        .delete_connection(DeleteConnectionRequest { id: id() })
        .await
        .unwrap();
    let gone = client
        .delete_connection(DeleteConnectionRequest { id: id() })
        .await
        .unwrap_err();
    assert_eq!(fault::reason(&gone).as_deref(), Some("NO_CONNECTION"));
    let last = records(&cell.admin().await).await;
    let deleted = last
        .iter()
        .find(|record| record["action"] == "connection.delete")
        .unwrap();
    assert_eq!(
        (deleted["actor"].clone(), deleted["subject"].clone()),
        (json!("local:tester"), json!("out"))
    );

    let fresh = Cell::start().await;
    let mut client = ConnectionServiceClient::new(ipc::connect(&fresh.automation));
    let early = client.create_connection(request("a")).await.unwrap_err();
    assert_eq!(fault::reason(&early).as_deref(), Some("SETUP_REQUIRED"));
    let early = client
        .list_connections(ListConnectionsRequest {})
        .await
        .unwrap_err();
    assert_eq!(fault::reason(&early).as_deref(), Some("SETUP_REQUIRED"));
}

/// What browsers are told.
#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_an_event() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let version = || cell.app.events.watch().borrow().of(Topic::Connections);
    let before = version();
    let made = add_tor(&admin, "tor").await;
    assert_eq!(version(), before + 1);
    admin
        .put(&one(&made["id"]), &json!({"name": "onion"}))
        .await
        .expect(200);
    admin.delete(&one(&made["id"])).await.expect(204);
    assert_eq!(version(), before + 3);
    admin
        .delete(&one(&made["id"]))
        .await
        .refused(404, "NO_CONNECTION");
    assert_eq!(version(), before + 3);
}
