//! Services that are part of the cell: it installs them by itself, tells why it cannot, and nobody removes them.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use std::time::{Duration, Instant};

use cell_proto::api::v1::RemoveServiceRequest;
use cell_proto::api::v1::store_service_client::StoreServiceClient;
use cell_proto::{fault, ipc};
use serde_json::{Value, json};
use support::Cell;
use support::broker::FakeBroker;
use support::catalog::{self, built, core, notes};
use support::client::Client;

/// A cell that wishes for its own services, with a catalog and a broker.
async fn ready(manifests: &[Value], prepare: impl FnOnce(&FakeBroker)) -> (Cell, FakeBroker, Client) {
    let cell = Cell::start_with(|config| {
        config.core_services = true;
        catalog::write(&config.catalog, manifests);
    })
    .await;
    let broker = FakeBroker::start(cell.state().join("broker.sock"));
    prepare(&broker);
    cell.set_up().await;
    let admin = cell.admin().await;
    (cell, broker, admin)
}

/// What is told of each service: its name, where it stands and why.
async fn told(admin: &Client) -> Vec<(String, String, String)> {
    let all = admin.get("/api/services").await.expect(200).json();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                word(&one["name"]),
                word(&one["phase"]),
                word(&one["error"]["code"]),
            )
        })
        .collect()
}

async fn stands(admin: &Client, wanted: &[(&str, &str, &str)]) {
    let wanted: Vec<_> = wanted
        .iter()
        .map(|(name, phase, why)| ((*name).to_owned(), (*phase).to_owned(), (*why).to_owned()))
        .collect();
    let begun = Instant::now();
    loop {
        let told = told(admin).await;
        if told == wanted {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{told:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn own() -> [Value; 4] {
    [core("caddy"), core("chrony"), core("coredns"), notes("1.0.0")]
}

const INSTALLED: [(&str, &str, &str); 3] = [
    ("caddy", "installed", ""),
    ("chrony", "installed", ""),
    ("coredns", "installed", ""),
];

async fn records(admin: &Client) -> usize {
    let audit = admin.get("/api/audit?limit=500").await.expect(200).json();
    audit["records"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_installed_in_their_order_and_stay() {
    let (cell, broker, admin) = ready(&own(), |_| {}).await;
    stands(&admin, &INSTALLED).await;
    let deployed: Vec<String> = broker
        .calls()
        .into_iter()
        .filter_map(|call| Some(call.strip_prefix("deploy ")?.to_owned()))
        .collect();
    let digest = |id: &str| catalog::digest(&core(id));
    assert_eq!(
        deployed,
        [digest("chrony"), digest("coredns"), digest("caddy")],
        "and nothing of the store"
    );

    for query in ["", "?validate_only=true", "?delete_volumes=true"] {
        let refused = admin.delete(&format!("/api/services/caddy{query}")).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (409, "PART_OF_CELL"),
            "{query}"
        );
        assert!(
            refused.json()["detail"]
                .as_str()
                .unwrap()
                .contains("part of the cell")
        );
    }
    let mut store = StoreServiceClient::new(ipc::connect(&cell.automation));
    let request = RemoveServiceRequest {
        service: "chrony".to_owned(),
        ..RemoveServiceRequest::default()
    };
    let refused = store.remove_service(request).await.unwrap_err();
    assert_eq!(fault::reason(&refused).as_deref(), Some("PART_OF_CELL"));
    stands(&admin, &INSTALLED).await;
    // Another one is removed.
    admin
        .post("/api/services/notes/install", &json!({}))
        .await
        .expect(202);
    admin.delete("/api/services/notes").await.expect(202);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_ceiling_the_reason_is_told_and_nothing_else_happens() {
    let (_cell, broker, admin) = ready(&own(), |broker| {
        broker.state.lock().unwrap().no_ceiling = true;
    })
    .await;
    let refused = [
        ("caddy", "failed", "NO_CEILING"),
        ("chrony", "failed", "NO_CEILING"),
        ("coredns", "failed", "NO_CEILING"),
    ];
    stands(&admin, &refused).await;
    let (before, asked) = (records(&admin).await, broker.calls().len());
    let begun = Instant::now();
    while broker.calls().len() < asked + 3 {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is tried again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        records(&admin).await,
        before,
        "what is the same is not written again"
    );
    assert_eq!(
        broker.calls().len(),
        asked + 3,
        "and each is asked for once in a while"
    );
    broker.state.lock().unwrap().no_ceiling = false;
    stands(&admin, &INSTALLED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_has_set_of_one_stays_when_it_is_tried_again() {
    let mut chrony = core("chrony");
    chrony["containers"][0]["command"] = json!(["/bin/chrony", "--size=${config.size}"]);
    chrony["flags"] = json!({"has_admin_config": true});
    chrony["config_schema"] =
        json!({"size": {"type": "integer", "label": "Size", "min": 1, "max": 9, "default": 3}});
    let all = [core("caddy"), chrony, core("coredns")];
    let (_cell, broker, admin) = ready(&all, |broker| {
        broker.state.lock().unwrap().no_ceiling = true;
    })
    .await;
    let refused = [
        ("caddy", "failed", "NO_CEILING"),
        ("chrony", "failed", "NO_CEILING"),
        ("coredns", "failed", "NO_CEILING"),
    ];
    stands(&admin, &refused).await;
    let body = json!({"parameters": {"size": "5"}});
    admin
        .post("/api/services/chrony/install", &body)
        .await
        .expect(202);
    stands(&admin, &refused).await;
    broker.state.lock().unwrap().no_ceiling = false;
    stands(&admin, &INSTALLED).await;
    let told = admin.get("/api/services/chrony").await.expect(200).json();
    assert_eq!(told["parameters"]["size"], "5");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_image_is_not_built_keeps_none_back() {
    let all = [core("caddy"), built("chrony"), core("coredns")];
    let (_cell, broker, admin) = ready(&all, |_| {}).await;
    let lacking = [
        ("caddy", "installed", ""),
        ("chrony", "failed", "IMAGE_ABSENT"),
        ("coredns", "installed", ""),
    ];
    stands(&admin, &lacking).await;
    broker
        .state
        .lock()
        .unwrap()
        .built
        .insert("local:chrony".to_owned());
    stands(&admin, &INSTALLED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_docker_is_away_the_first_waits_and_says_for_what() {
    let (_cell, broker, admin) = ready(&own(), |broker| {
        broker.state.lock().unwrap().no_docker = true;
    })
    .await;
    stands(&admin, &[("chrony", "installing", "")]).await;
    let begun = Instant::now();
    while admin.get("/api/services/chrony").await.json()["waiting"]["code"] != "NO_DOCKER" {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    broker.state.lock().unwrap().no_docker = false;
    stands(&admin, &INSTALLED).await;
}
