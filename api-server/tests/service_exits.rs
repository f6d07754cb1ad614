//! Ways of services to the internet, as their manifests allow them: of those that have none, of those that may have some, of an
//! installation, and of an update that takes one away.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use cell_proto::api::v1::service_network_service_client::ServiceNetworkServiceClient;
use cell_proto::api::v1::store_service_client::StoreServiceClient;
use cell_proto::api::v1::{InstallServiceRequest, SetServiceExitRequest};
use cell_proto::{fault, ipc};
use serde_json::{Value, json};
use support::catalog::{self, notes};
use support::client::{Answer, Client};
use support::store::{install, ready, stands};
use support::{Cell, eventually};

const ALL: &str = "/api/connectivity/services";

/// `notes` behind the proxy alone, so that nothing but `egress` gives it a way out.
fn page(version: &str, egress: Option<Value>) -> Value {
    let mut manifest = notes(version);
    manifest["containers"][0]["ports"] = json!([{"port": 8080}]);
    if let Some(egress) = egress {
        manifest["flags"]["has_egress"] = json!(true);
        manifest["egress"] = egress;
    }
    manifest
}

fn tor_or_proxy() -> Option<Value> {
    Some(json!({"allowed": ["tor", "proxy"], "default": "proxy"}))
}

fn shelve(cell: &Cell, manifest: &Value) {
    catalog::write(&cell.state().join("catalog"), std::slice::from_ref(manifest));
}

async fn connection(admin: &Client, body: Value) -> String {
    let made = admin.post("/api/connectivity/connections", &body).await;
    made.expect(201).json()["connection"]["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn proxy(admin: &Client, name: &str) -> String {
    let import = json!({"url": "socks5://192.0.2.9:1080"});
    connection(admin, json!({"name": name, "type": "proxy", "import": import})).await
}

async fn bind(admin: &Client, body: Value) -> Answer {
    admin.put(&format!("{ALL}/notes/exit"), &body).await
}

async fn network(admin: &Client) -> Value {
    admin.get(ALL).await.expect(200).json()["services"][0].clone()
}

async fn planned(admin: &Client, body: Value) -> String {
    let path = "/api/services/notes/install?validate_only=true";
    let answer = admin.post(path, &body).await.expect(200).json();
    answer["plan"].to_string()
}

async fn update(admin: &Client) -> Answer {
    admin.post("/api/services/notes/update", &json!({})).await
}

fn detail(answer: &Answer) -> String {
    answer.json()["detail"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_way_out_is_given_none() {
    let (cell, _broker, admin, _) = ready().await;
    proxy(&admin, "work").await;
    shelve(&cell, &page("1.0.0", None));
    let offered = admin.get("/api/store/catalog").await.expect(200).json()["services"][0].clone();
    assert_eq!(
        (&offered["has_way_out"], &offered["exit_types"]),
        (&json!(false), &json!([]))
    );
    for way in ["work", "direct"] {
        let refused = admin
            .post("/api/services/notes/install", &json!({"connection_id": way}))
            .await;
        refused.refused(409, "NO_WAY_OUT");
        assert!(detail(&refused).contains("egress"), "{}", detail(&refused));
    }
    let empty = admin
        .post("/api/services/notes/install", &json!({"connection_id": ""}))
        .await;
    assert_eq!(empty.fields(), ["connection_id"]);
    assert!(
        planned(&admin, json!({"connection_id": "none"}))
            .await
            .contains("that has no way to the internet, and can be given none")
    );
    install(&admin, "notes", json!({})).await;
    stands(&admin, "notes", "installed").await;
    for way in ["work", "direct"] {
        for query in ["", "?validate_only=true", "?confirm_within=60"] {
            let path = format!("{ALL}/notes/exit{query}");
            let refused = admin.put(&path, &json!({"connection_id": way})).await;
            refused.refused(409, "NO_WAY_OUT");
            assert!(
                detail(&refused).contains("connection_id null"),
                "the fix is named"
            );
        }
    }
    bind(&admin, json!({"connection_id": null})).await.expect(200);
    let told = network(&admin).await;
    assert_eq!(
        (&told["has_way_out"], &told["exit_types"], &told["way"]),
        (&json!(false), &json!([]), &json!("nowhere"))
    );
    let mut client = ServiceNetworkServiceClient::new(ipc::connect(cell.automation.clone()));
    let request = SetServiceExitRequest {
        service: "notes".to_owned(),
        connection_id: "work".to_owned(),
        ..SetServiceExitRequest::default()
    };
    let refused = client.set_service_exit(request).await.unwrap_err();
    assert_eq!(fault::reason(&refused).as_deref(), Some("NO_WAY_OUT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn its_manifest_says_which_exits_and_which_at_first() {
    let (cell, _broker, admin, _) = ready().await;
    shelve(&cell, &page("1.0.0", tor_or_proxy()));
    let asks = "asks for a connection of type proxy, and there is not exactly one";
    assert!(planned(&admin, json!({})).await.contains(asks), "there is none");
    let work = proxy(&admin, "work").await;
    assert!(
        planned(&admin, json!({}))
            .await
            .contains("with the way to the internet through work alone")
    );
    assert!(
        planned(&admin, json!({"connection_id": "direct"}))
            .await
            .contains("with the cell's own way")
    );
    let none = planned(&admin, json!({"connection_id": "none"})).await;
    assert!(
        none.contains("without a way") && !none.contains("asks for"),
        "{none}"
    );
    let unknown = admin
        .post("/api/services/notes/install", &json!({"connection_id": "absent"}))
        .await;
    assert_eq!(unknown.fields(), ["connection_id"]);
    // A plan did nothing.
    assert_eq!(admin.get(ALL).await.expect(200).json()["services"], json!([]));

    install(&admin, "notes", json!({})).await;
    stands(&admin, "notes", "installed").await;
    let told = network(&admin).await;
    assert_eq!(
        (&told["connection_id"], &told["has_way_out"], &told["exit_types"]),
        (&json!(work), &json!(true), &json!(["tor", "proxy"]))
    );
    eventually("netd hears of it", || {
        let state = cell.netd.state.lock().unwrap();
        let mut networks = state.spec.iter().flat_map(|spec| &spec.service_networks);
        networks.any(|one| one.name == "notes" && one.internet && one.exit == work)
    })
    .await;
    let tunnel = "[Interface]\nPrivateKey = eAtFvoIHFG4DGRxTkUjhmcNMvYyhVOJPTYXzNl2BC1M=\nAddress = 10.9.0.2/32\n[Peer]\n\
        PublicKey = SrUWV2owBjXiPTjjyVRUfAwYFJcPBEp6GuGaNvsn2RA=\nEndpoint = 192.0.2.7:51820\nAllowedIPs = 0.0.0.0/0\n";
    let import = json!({"file": tunnel});
    connection(
        &admin,
        json!({"name": "vpn", "type": "wireguard_ext", "import": import}),
    )
    .await;
    for body in [
        json!({"connection_id": "vpn"}),
        json!({"connection_id": "work", "fallback_connection_ids": ["vpn"]}),
    ] {
        let refused = bind(&admin, body).await;
        refused.refused(409, "EXIT_NOT_ALLOWED");
        let said = detail(&refused);
        assert!(
            said.contains("wireguard_ext") && said.contains("tor, proxy"),
            "{said}"
        );
    }
    assert_eq!(
        network(&admin).await["connection_id"],
        json!(work),
        "nothing was done"
    );
    bind(&admin, json!({"connection_id": "direct"})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_does_not_take_its_way_without_a_word() {
    let (cell, _broker, admin, _) = ready().await;
    shelve(&cell, &page("1.0.0", tor_or_proxy()));
    let work = proxy(&admin, "work").await;
    install(&admin, "notes", json!({"connection_id": "work"})).await;
    stands(&admin, "notes", "installed").await;
    for (version, egress, code) in [
        ("2.0.0", None, "NO_WAY_OUT"),
        ("2.0.1", Some(json!({"allowed": ["tor"]})), "EXIT_NOT_ALLOWED"),
    ] {
        shelve(&cell, &page(version, egress));
        let refused = update(&admin).await;
        refused.refused(409, code);
        assert!(detail(&refused).contains("the manifest of the update"));
        assert_eq!(network(&admin).await["connection_id"], json!(work));
    }
    shelve(&cell, &page("3.0.0", None));
    bind(&admin, json!({"connection_id": null})).await.expect(200);
    update(&admin).await.expect(202);
    // What is to come counts at once, and what runs until then.
    bind(&admin, json!({"connection_id": "work"}))
        .await
        .refused(409, "NO_WAY_OUT");
    stands(&admin, "notes", "installed").await;
    assert_eq!(network(&admin).await["has_way_out"], json!(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_automation_socket_installs_with_a_way() {
    let (cell, _broker, admin, _) = ready().await;
    shelve(&cell, &page("1.0.0", tor_or_proxy()));
    let work = proxy(&admin, "work").await;
    proxy(&admin, "other").await;
    let mut store = StoreServiceClient::new(ipc::connect(cell.automation.clone()));
    let with = |connection: &str, validate_only| InstallServiceRequest {
        id: "notes".to_owned(),
        connection_id: connection.to_owned(),
        validate_only,
        ..InstallServiceRequest::default()
    };
    // Two of the type: which, nobody knows.
    let plan = store
        .install_service(with("", true))
        .await
        .unwrap()
        .into_inner()
        .plan;
    assert!(
        plan.iter().any(|said| said.contains("not exactly one")),
        "{plan:?}"
    );
    let refused = store.install_service(with("proxy", true)).await.unwrap_err();
    assert_eq!(fault::reason(&refused).as_deref(), Some("INVALID_REQUEST"));
    store.install_service(with("work", false)).await.unwrap();
    assert_eq!(network(&admin).await["connection_id"], json!(work));
}
