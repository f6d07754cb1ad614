//! Single places that containers of a service may reach besides: as they are granted and taken, over a service's life.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use cell_proto::api::v1::service_network_service_client::ServiceNetworkServiceClient;
use cell_proto::api::v1::{ServiceAccess, SetServiceReachRequest};
use cell_proto::{fault, ipc};
use serde_json::{Value, json};
use support::catalog::{self, notes};
use support::client::{Answer, Client};
use support::store::{gone, install, ready, stands, words};
use support::{Cell, eventually};

const ALL: &str = "/api/connectivity/services";
const PATH: &str = "/api/connectivity/services/notes/reach";

/// `notes` of `version`, with a way out of its network or without one.
fn shelve(cell: &Cell, version: &str, is_open: bool) {
    let mut manifest = notes(version);
    manifest["containers"][0]["ports"] = json!([{"port": 8080}]);
    if is_open {
        manifest["flags"]["has_egress"] = json!(true);
        manifest["egress"] = json!({"allowed": ["tor"]});
    }
    catalog::write(&cell.state().join("catalog"), &[manifest]);
}

fn place(address: &str, protocol: &str, port: u64) -> Value {
    json!({"address": address, "protocol": protocol, "port": port})
}

fn disk() -> Value {
    place("192.168.1.20", "tcp", 445)
}

async fn grant(admin: &Client, places: &[Value]) -> Answer {
    admin.put(PATH, &json!({"reach": places})).await
}

async fn plan(admin: &Client, places: &[Value]) -> Value {
    let path = format!("{PATH}?validate_only=true");
    admin
        .put(&path, &json!({"reach": places}))
        .await
        .expect(200)
        .json()
}

async fn told(admin: &Client) -> Value {
    admin.get(ALL).await.expect(200).json()["services"][0]["reach"].clone()
}

async fn update(admin: &Client) {
    admin
        .post("/api/services/notes/update", &json!({}))
        .await
        .expect(202);
}

/// What netd lets containers of `notes` reach besides.
fn at_netd(cell: &Cell) -> Option<Vec<String>> {
    let state = cell.netd.state.lock().unwrap();
    let mut networks = state.spec.iter().flat_map(|spec| &spec.service_networks);
    let network = networks.find(|one| one.name == "notes")?;
    Some(network.reach.iter().map(words).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_is_the_owners_until_the_service_is_removed() {
    let (cell, _broker, admin, _) = ready().await;
    shelve(&cell, "1.0.0", true);
    install(&admin, "notes", json!({})).await;
    stands(&admin, "notes", "installed").await;
    assert_eq!(told(&admin).await, json!([]));

    let dns = place("10.0.5.7", "udp", 53);
    let planned = plan(&admin, &[disk(), dns.clone(), disk()]).await;
    let gains = [
        "Containers of notes may reach UDP port 53 of 10.0.5.7.",
        "Containers of notes may reach TCP port 445 of 192.168.1.20.",
    ];
    assert_eq!(planned["plan"], json!(gains));
    assert_eq!(
        planned["network"]["reach"],
        json!([dns, disk()]),
        "twice counts once"
    );
    assert_eq!(told(&admin).await, json!([]), "nothing was done");

    let made = grant(&admin, &[disk(), dns.clone()]).await.expect(200).json();
    assert_eq!(
        (&made["network"]["reach"], &made["plan"]),
        (&json!([dns, disk()]), &json!([]))
    );
    assert_eq!(told(&admin).await, json!([dns, disk()]));
    let both = ["10.0.5.7:53", "192.168.1.20:445"].map(str::to_owned);
    eventually("netd hears of both", || {
        at_netd(&cell).is_some_and(|has| has == both)
    })
    .await;
    assert_eq!(plan(&admin, &[dns.clone(), disk()]).await["plan"], json!([]));

    let losses = [
        "Containers of notes may no longer reach UDP port 53 of 10.0.5.7.",
        "Connections that they have open to what they lose end.",
    ];
    assert_eq!(plan(&admin, &[disk()]).await["plan"], json!(losses));
    grant(&admin, &[disk()]).await.expect(200);
    let one = || at_netd(&cell).is_some_and(|has| has == both[1..]);
    eventually("netd takes the other away", one).await;
    let audit = admin.get("/api/audit?limit=1000").await.expect(200).json();
    let records = audit["records"].as_array().unwrap();
    let record = records
        .iter()
        .rfind(|one| one["action"] == "service.network.reach");
    let record = record.unwrap();
    assert_eq!(
        (&record["subject"], &record["detail"]),
        (&json!("notes"), &json!("192.168.1.20/tcp/445"))
    );

    shelve(&cell, "2.0.0", true);
    update(&admin).await;
    let updated = stands(&admin, "notes", "installed").await;
    assert_eq!(updated["version"], "2.0.0");
    assert_eq!(told(&admin).await, json!([disk()]), "it is not the manifest's");
    assert!(one());

    let removed = admin.delete("/api/services/notes").await;
    removed.expect(202);
    gone(&admin, "notes").await;
    install(&admin, "notes", json!({})).await;
    stands(&admin, "notes", "installed").await;
    assert_eq!(told(&admin).await, json!([]), "it went with the service");
    eventually("netd has none of it", || {
        at_netd(&cell).is_some_and(|has| has.is_empty())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_named_at_its_place() {
    let (_cell, _broker, admin, _) = ready().await;
    install(&admin, "notes", json!({})).await;
    for (body, fields) in [
        (json!({}), vec!["reach"]),
        (json!({"reach": null}), vec!["reach"]),
        (json!({"reach": "all"}), vec!["reach"]),
        (json!({"reach": [], "more": 1}), vec!["more"]),
        (
            json!({"reach": [disk(), {"address": 7, "protocol": "icmp"}]}),
            vec!["reach[1].address", "reach[1].port", "reach[1].protocol"],
        ),
        (
            json!({"reach": [disk(), disk(), place("fd00::7", "icmp", 0)]}),
            vec!["reach[2].address", "reach[2].protocol", "reach[2].port"],
        ),
        (
            json!({"reach": (1..=257).map(|port| place("10.0.5.7", "tcp", port)).collect::<Vec<_>>()}),
            vec!["reach"],
        ),
    ] {
        for query in ["", "?validate_only=true"] {
            let refused = admin.put(&format!("{PATH}{query}"), &body).await;
            refused.refused(400, "INVALID_REQUEST");
            assert_eq!(refused.fields(), fields, "{body}");
        }
    }
    // A device, the cell itself on the bridges of a service and of its own containers, the machine, its link, the internet.
    for address in [
        "10.86.0.2",
        "172.21.0.1",
        "172.20.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "224.0.0.251",
        "0.0.0.0",
        "198.51.100.7",
    ] {
        let refused = grant(&admin, &[disk(), place(address, "tcp", 443)]).await;
        assert_eq!(refused.fields(), ["reach[1].address"], "{address}");
    }
    let waits = admin
        .put(&format!("{PATH}?confirm_within=60"), &json!({"reach": []}))
        .await;
    assert_eq!(waits.fields(), ["query"]);
    assert_eq!(told(&admin).await, json!([]), "nothing was done");
    let nobody = format!("{ALL}/mail/reach");
    let refused = admin.put(&nobody, &json!({"reach": []})).await;
    refused.refused(404, "NO_SERVICE_NETWORK");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_way_out_is_granted_nothing_and_keeps_what_it_had() {
    let (cell, _broker, admin, _) = ready().await;
    shelve(&cell, "1.0.0", true);
    install(&admin, "notes", json!({})).await;
    stands(&admin, "notes", "installed").await;
    grant(&admin, &[disk()]).await.expect(200);
    shelve(&cell, "2.0.0", false);
    update(&admin).await;
    stands(&admin, "notes", "installed").await;
    assert_eq!(told(&admin).await, json!([disk()]));
    let more = [disk(), place("10.0.5.7", "tcp", 80)];
    for query in ["", "?validate_only=true"] {
        let refused = admin
            .put(&format!("{PATH}{query}"), &json!({"reach": more}))
            .await;
        refused.refused(409, "NO_WAY_OUT");
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("notes") && detail.contains("egress"), "{detail}");
    }
    grant(&admin, &[disk()]).await.expect(200);
    grant(&admin, &[]).await.expect(200);
    assert_eq!(told(&admin).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_automation_socket_grants_too() {
    let (cell, _broker, admin, _) = ready().await;
    install(&admin, "notes", json!({})).await;
    let mut client = ServiceNetworkServiceClient::new(ipc::connect(cell.automation.clone()));
    let wanted = ServiceAccess {
        address: "192.168.1.20".to_owned(),
        protocol: "tcp".to_owned(),
        port: 445,
    };
    let set = |service: &str, reach: &[ServiceAccess], validate_only| SetServiceReachRequest {
        service: service.to_owned(),
        reach: reach.to_vec(),
        validate_only,
    };
    let places = [wanted.clone()];
    let planned = client.set_service_reach(set("notes", &places, true)).await;
    let planned = planned.unwrap().into_inner();
    assert_eq!(
        planned.plan,
        ["Containers of notes may reach TCP port 445 of 192.168.1.20."]
    );
    assert_eq!(told(&admin).await, json!([]), "nothing was done");
    let made = client.set_service_reach(set("notes", &places, false)).await;
    let made = made.unwrap().into_inner();
    assert_eq!(
        (made.network.unwrap().reach, made.plan),
        (places.to_vec(), vec![])
    );
    assert_eq!(told(&admin).await, json!([disk()]));
    let bad = ServiceAccess { port: 0, ..wanted };
    let refused = client
        .set_service_reach(set("notes", &[bad], false))
        .await
        .unwrap_err();
    assert_eq!(fault::reason(&refused).as_deref(), Some("INVALID_REQUEST"));
    let fields = fault::violations(&refused).into_iter().map(|one| one.field);
    assert_eq!(fields.collect::<Vec<_>>(), ["reach[0].port"]);
    let refused = client
        .set_service_reach(set("mail", &[], false))
        .await
        .unwrap_err();
    assert_eq!(fault::reason(&refused).as_deref(), Some("NO_SERVICE_NETWORK"));
}
