//! The domain of services: what is taken and what is refused, where its token goes, and what follows from it.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use cell_api_core::domain::TOKEN;
use cell_proto::api::v1::cell_service_client::CellServiceClient;
use cell_proto::api::v1::{DomainSetting, GetDomainRequest, SetDomainRequest};
use cell_proto::{fault, ipc};
use serde_json::{Value, json};
use support::netd::CLOSED;
use support::{Cell, eventually};

const PATH: &str = "/api/domain";
const SECRET: &str = "a7c4d0ad-114e-40ef-ba1d-d217904a50f2";
const KEY: &str = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IDMyISE=";

fn duckdns(token: Option<&str>) -> Value {
    json!({"mode": "dns01", "domain": "myhome.duckdns.org", "provider": "duckdns", "token": token})
}

fn token(cell: &Cell) -> Option<String> {
    let secrets = cell.vault.secrets.lock().unwrap();
    secrets.kept.contains_key(TOKEN).then(|| secrets.value(TOKEN))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_is_set_and_its_token_is_at_vaultd_alone() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let first = admin.get(PATH).await.expect(200).json();
    assert_eq!(
        first,
        json!({"mode": "lan", "domain": null, "email": null, "provider": null, "server": null, "tsig_name": null,
            "tsig_algorithm": null, "acme_directory": null, "acme_authority": null, "token_is_set": false})
    );
    // Nothing is changed without a token.
    let refused = admin.put(PATH, &duckdns(None)).await;
    assert_eq!(refused.expect(400).fields(), ["token"]);
    assert_eq!(admin.get(PATH).await.json(), first);

    let told = admin.put(PATH, &duckdns(Some(SECRET))).await.expect(200);
    assert_eq!(
        (&told.json()["domain"], &told.json()["token_is_set"]),
        (&json!("myhome.duckdns.org"), &json!(true))
    );
    assert!(!told.text.contains(SECRET));
    assert_eq!(token(&cell).as_deref(), Some(SECRET));
    let status = admin.get("/api/status").await.json();
    assert_eq!(
        (&status["domain_mode"], &status["domain"]),
        (&json!("dns01"), &json!("home.cell"))
    );

    // The one that is there is this provider's, and another provider's it is not.
    let mut other = duckdns(None);
    other["domain"] = json!("other.duckdns.org");
    admin.put(PATH, &other).await.expect(200);
    other["domain"] = json!("home.example.org");
    other["provider"] = json!("cloudflare");
    assert_eq!(admin.put(PATH, &other).await.expect(400).fields(), ["token"]);
    assert_eq!(admin.get(PATH).await.json()["domain"], "other.duckdns.org");

    let audit = admin.get("/api/audit").await.expect(200).text;
    assert!(
        audit.contains("domain.update") && audit.contains("other.duckdns.org at duckdns"),
        "{audit}"
    );
    assert!(!audit.contains(SECRET));
    let mut all = Vec::new();
    for entry in std::fs::read_dir(cell.state()).unwrap().flatten() {
        if entry.file_type().unwrap().is_file() {
            all.extend(std::fs::read(entry.path()).unwrap());
        }
    }
    let has = |text: &str| all.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(has("other.duckdns.org") && !has(SECRET));

    admin.put(PATH, &json!({"mode": "lan"})).await.expect(200);
    assert_eq!(token(&cell), None);
    assert_eq!(admin.get(PATH).await.json(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_told_and_nothing_is_changed() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    for (body, fields) in [
        // Of the port, that netd has not, is not spoken while there are faults.
        (
            json!({"mode": "http01", "domain": "home.cell", "provider": "duckdns", "token": SECRET}),
            &["provider", "domain"][..],
        ),
        (
            json!({"mode": "http01", "domain": "home.example.org", "token": SECRET}),
            &["token"],
        ),
        (json!({"mode": "lan", "token": SECRET}), &["token"]),
        (json!({"mode": "dns01"}), &["provider", "domain"]),
        (
            json!({"mode": "dns01", "provider": "generic", "domain": "home.cell", "server": 1, "x": 2}),
            &["server", "x", "tsig_name", "domain"],
        ),
        (
            json!({"mode": "dns01", "provider": "duckdns", "domain": "a.duckdns.org", "token": "a b"}),
            &["token"],
        ),
        (json!({}), &["mode"]),
    ] {
        let refused = admin.put(PATH, &body).await;
        assert_eq!(refused.expect(400).fields(), fields, "{body}");
    }
    assert_eq!(
        (token(&cell), admin.get(PATH).await.json()["mode"].clone()),
        (None, json!("lan"))
    );
    cell.client().get(PATH).await.expect(401);
    let person = cell.peer_user("ben").await;
    person.put(PATH, &duckdns(Some(SECRET))).await.expect(403);
    assert_eq!(token(&cell), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_http_it_is_proven_where_netd_opens_a_port_alone() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    admin.put(PATH, &duckdns(Some(SECRET))).await.expect(200);
    let before = admin.get(PATH).await.json();
    let setting = json!({"mode": "http01", "domain": "home.example.org", "email": "post@example.org"});
    let refused = admin.put(PATH, &setting).await.expect(400);
    assert_eq!(refused.fields(), ["mode"]);
    assert!(refused.text.contains(CLOSED), "{}", refused.text);
    // Nothing of it is done.
    assert_eq!(admin.get(PATH).await.json(), before);
    assert_eq!(token(&cell).as_deref(), Some(SECRET));

    cell.netd.with(|state| state.opens_http = true);
    let told = admin.put(PATH, &setting).await.expect(200).json();
    assert_eq!(
        (
            &told["mode"],
            &told["domain"],
            &told["provider"],
            &told["token_is_set"]
        ),
        (
            &json!("http01"),
            &json!("home.example.org"),
            &Value::Null,
            &json!(false)
        )
    );
    assert_eq!(token(&cell), None, "nobody needs it");
    assert_eq!(admin.get("/api/status").await.json()["domain_mode"], "http01");
    let audit = admin.get("/api/audit").await.expect(200).text;
    assert!(audit.contains("home.example.org by http01"), "{audit}");
    // There is no proxy yet, to which anything could be led.
    eventually("netd has the state", || {
        cell.netd.with(|state| state.spec.is_some())
    })
    .await;
    let led = cell.netd.with(|state| state.spec.clone().unwrap().public_http);
    assert_eq!(led, None);
    // Back again a token is needed.
    assert_eq!(
        admin.put(PATH, &duckdns(None)).await.expect(400).fields(),
        ["token"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_vaultd_nothing_is_changed() {
    let mut cell = Cell::ready().await;
    let admin = cell.admin().await;
    cell.lose_vault().await;
    admin.put(PATH, &duckdns(Some(SECRET))).await.expect(503);
    let told = admin.get(PATH).await.expect(200).json();
    assert_eq!(
        (&told["mode"], &told["token_is_set"]),
        (&json!("lan"), &Value::Null)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_a_crash_left_goes() {
    let cell = Cell::ready().await;
    let left = (1, SECRET.as_bytes().to_vec());
    cell.vault
        .secrets
        .lock()
        .unwrap()
        .kept
        .insert(TOKEN.to_owned(), left);
    cell.app.secrets_left.notify_one();
    eventually("it is removed", || token(&cell).is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_automation_socket_sets_what_rest_does() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let mut service = CellServiceClient::new(ipc::connect(&cell.automation));
    let setting = DomainSetting {
        mode: "dns01".to_owned(),
        domain: "home.example.org".to_owned(),
        email: "post@example.org".to_owned(),
        provider: "generic".to_owned(),
        server: "192.0.2.53".to_owned(),
        tsig_name: "cell".to_owned(),
        ..DomainSetting::default()
    };
    let asked = SetDomainRequest {
        setting: Some(setting.clone()),
        token: KEY.to_owned(),
    };
    let told = service.set_domain(asked).await.unwrap().into_inner();
    assert_eq!(token(&cell).as_deref(), Some(KEY));
    let read = service
        .get_domain(GetDomainRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((&told.setting, told.token_is_set), (&read.setting, Some(true)));
    let whole = DomainSetting {
        server: "192.0.2.53:53".to_owned(),
        tsig_algorithm: "hmac-sha256".to_owned(),
        ..setting
    };
    assert_eq!(read.setting, Some(whole));
    let rest = admin.get(PATH).await.json();
    assert_eq!(
        (&rest["server"], &rest["tsig_name"], &rest["email"]),
        (
            &json!("192.0.2.53:53"),
            &json!("cell"),
            &json!("post@example.org")
        )
    );
    let wrong = service.set_domain(SetDomainRequest::default()).await.unwrap_err();
    let fields: Vec<String> = fault::violations(&wrong)
        .into_iter()
        .map(|one| one.field)
        .collect();
    assert_eq!(fields, ["mode"]);
    let audit = admin.get("/api/audit").await.expect(200).text;
    assert!(
        audit.contains("home.example.org at generic, with a new token") && !audit.contains(KEY),
        "{audit}"
    );
}
