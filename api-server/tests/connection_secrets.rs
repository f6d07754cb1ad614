//! The secrets of connections reach vaultd and stay out of everything else: the state folder, the log, every answer.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use cell_proto::api::v1::connection_service_client::ConnectionServiceClient;
use cell_proto::api::v1::{ConnectionImport, CreateConnectionRequest, ListConnectionsRequest};
use cell_proto::ipc;
use serde_json::{Value, json};
use support::Cell;
use support::traces::{Log, files};

const ALL: &str = "/api/connectivity/connections";
const PRIVATE: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
const PRESHARED: &str = "FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE=";
const PASSWORD: &str = "hunter2-hunter2";
const USER: &str = "anna-who-is-secret";
/// In the middle of a private key of OpenVPN's.
const PEM: &str = "TUlJQ1NlY3JldFNlY3JldFNlY3JldA==";

fn ssh_key() -> String {
    use ssh_key::private::{Ed25519Keypair, Ed25519PrivateKey};
    let pair = Ed25519Keypair {
        public: ssh_key::public::Ed25519PublicKey([7; 32]),
        private: Ed25519PrivateKey::from_bytes(&[8; 32]),
    };
    let key = ssh_key::PrivateKey::from(pair);
    key.to_openssh(ssh_key::LineEnding::LF).unwrap().to_string()
}

/// One import of each type that has secrets.
fn imports() -> Vec<(&'static str, Value)> {
    let pem = |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    let (certificate, key) = (pem("CERTIFICATE", "TUlJQg=="), pem("PRIVATE KEY", PEM));
    let profile = format!(
        "client\ndev tun\nremote vpn.example.org 1194\nauth-user-pass\n<ca>\n{certificate}</ca>\n\
         <cert>\n{certificate}</cert>\n<key>\n{key}</key>\n"
    );
    let wireguard = format!(
        "[Interface]\nPrivateKey = {PRIVATE}\nAddress = 10.2.0.2/32\n[Peer]\n\
         PublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\nPresharedKey = {PRESHARED}\n\
         AllowedIPs = 0.0.0.0/0\nEndpoint = vpn.example.org:51820\n"
    );
    let host = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINX5727K9nGitSTLUvW7FEObhgvDtquLmlfFyQnsRMyO";
    vec![
        ("wireguard_ext", json!({"file": wireguard})),
        (
            "openvpn",
            json!({"file": profile, "username": USER, "password": PASSWORD}),
        ),
        (
            "sshuttle",
            json!({"target": "anna@box.example.org", "private_key": ssh_key(), "host_keys": host}),
        ),
        (
            "proxy",
            json!({"url": format!("socks5://anna:{PASSWORD}@p.example.org")}),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_a_secret_is_stored_logged_or_answered() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone());
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    let mut cell = Cell::ready().await;
    let admin = cell.admin().await;
    let mut answers = String::new();
    let mut ids = Vec::new();
    for (kind, import) in imports() {
        let body = json!({"name": kind, "type": kind, "import": import});
        let made = admin.post(ALL, &body).await.expect(201);
        ids.push(made.json()["connection"]["id"].as_str().unwrap().to_owned());
        let path = format!("{ALL}/{}", ids.last().unwrap());
        // Every way to fail with the same secrets in hand.
        let again = admin.post(ALL, &body).await.expect(409);
        let mut wrong = import.clone();
        wrong["url"] = json!(format!("socks5://a:{PASSWORD}@p:0/{PRIVATE}"));
        wrong["file"] = json!(format!(
            "{PASSWORD}\n[Interface]\nPostUp = {PASSWORD}\n{PRIVATE} = {PRESHARED}\n"
        ));
        let wrong = json!({"name": PASSWORD, "type": PASSWORD, "import": wrong, "x": {PASSWORD: 1}});
        let wrong = admin.post(ALL, &wrong).await.expect(400);
        let other_type = json!({"import": {"file": PRIVATE, "url": PASSWORD, "target": USER}});
        let other_type = admin.put(&path, &other_type).await.expect(400);
        cell.vault.secrets.lock().unwrap().refuses = Some(("", "STORAGE_FAILED"));
        let refused = admin.put(&path, &json!({"import": import})).await.expect(503);
        cell.vault.secrets.lock().unwrap().refuses = None;
        let replaced = admin.put(&path, &json!({"import": import})).await.expect(200);
        let read = admin.get(&path).await.expect(200);
        for answer in [made, again, wrong, other_type, refused, replaced, read] {
            answers.push_str(&answer.text);
        }
    }
    cell.lose_vault().await;
    let (kind, import) = &imports()[3];
    let away = admin
        .post(ALL, &json!({"name": "away", "type": kind, "import": import}))
        .await
        .expect(503);
    cell.vault.resume();
    let mut client = ConnectionServiceClient::new(ipc::connect(&cell.automation));
    let request = CreateConnectionRequest {
        name: "grpc".to_owned(),
        r#type: "proxy".to_owned(),
        import: Some(ConnectionImport {
            url: format!("http://anna:{PASSWORD}@p.example.org"),
            ..ConnectionImport::default()
        }),
    };
    answers.push_str(&format!("{request:?}"));
    answers.push_str(&format!("{:?}", client.create_connection(request).await.unwrap()));
    answers.push_str(&format!(
        "{:?}",
        client.list_connections(ListConnectionsRequest {}).await.unwrap()
    ));
    answers.push_str(&away.text);
    for path in [ALL, "/api/audit?limit=1000", "/api/status"] {
        answers.push_str(&admin.get(path).await.expect(200).text);
    }
    let before = files(cell.state());
    admin.delete(&format!("{ALL}/{}", ids[0])).await.expect(204);
    let after = files(cell.state());
    let log = log.0.lock().unwrap().clone();

    let key = ssh_key();
    let in_key = key.lines().nth(2).unwrap();
    let secrets = [PRIVATE, PRESHARED, PASSWORD, USER, PEM, in_key];
    let has = |place: &[u8], text: &str| place.windows(text.len()).any(|window| window == text.as_bytes());
    // The positive control: each is at vaultd, and the searches find what is there.
    let vault = cell.vault.secrets.lock().unwrap();
    for secret in &secrets[2..] {
        assert!(
            vault.kept.values().any(|(_, value)| has(value, secret)),
            "{secret}"
        );
    }
    assert!(has(&before, "vpn.example.org") && has(answers.as_bytes(), "vpn.example.org"));
    assert!(has(&log, "STORAGE_FAILED") && has(&log, "request"));
    for secret in secrets {
        for (place, bytes) in [
            ("the state", &before[..]),
            ("the state after a removal", &after[..]),
            ("the log", &log[..]),
            ("an answer", answers.as_bytes()),
        ] {
            assert!(!has(bytes, secret), "{place} has {secret}");
        }
    }
}
