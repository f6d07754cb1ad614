//! Remote catalogs: what is added, what is believed of what their servers say, and what becomes of it in the store.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use cell_lab::catalog::{Edition, publish};
use cell_lab::https::Https;
use cell_proto::api::v1::remote_catalog_service_client::RemoteCatalogServiceClient;
use cell_proto::api::v1::{
    AddRemoteCatalogRequest, ListRemoteCatalogsRequest, RefreshRemoteCatalogRequest,
    RemoveRemoteCatalogRequest,
};
use cell_proto::broker::v1::ImageSignature;
use cell_proto::{fault, ipc};
use p256::ecdsa::SigningKey;
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};
use support::broker::FakeBroker;
use support::catalog::{self, board, caddy, notes};
use support::client::Client;
use support::store::{install, stands};
use support::{Cell, eventually};

const ALL: &str = "/api/store/catalogs";
const HOST: &str = "catalog.example.org";

fn key(byte: u8) -> SigningKey {
    SigningKey::from_slice(&[byte; 32]).unwrap()
}

fn pem(byte: u8) -> String {
    key(byte)
        .verifying_key()
        .to_public_key_pem(LineEnding::LF)
        .unwrap()
}

fn server() -> SocketAddr {
    "192.0.2.80:443".parse().unwrap()
}

fn https(folder: PathBuf) -> Https {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    Https::serve(listener, folder, HOST).unwrap()
}

/// A cell with a catalog of its own and a broker, and a server of another that it can reach.
struct Story {
    cell: Cell,
    broker: FakeBroker,
    admin: Client,
    https: Https,
    published: tempfile::TempDir,
    now_s: i64,
}

impl Story {
    async fn begin() -> Story {
        let cell = Cell::ready().await;
        let broker = FakeBroker::start(cell.state().join("broker.sock"));
        catalog::write(&cell.state().join("catalog"), &[notes("1.0.0"), caddy()]);
        let admin = cell.admin().await;
        let published = tempfile::tempdir().unwrap();
        let https = https(published.path().to_owned());
        {
            let mut egress = cell.egress.state.lock().unwrap();
            egress.catalogs.insert(server(), https.at);
            egress.hosts.insert(HOST.to_owned(), vec![server().ip()]);
        }
        let now_s = cell.app.now() / 1000;
        Story {
            cell,
            broker,
            admin,
            https,
            published,
            now_s,
        }
    }

    /// What the server has from now on.
    fn publish(&self, serial: u64, manifests: &[Value]) -> PathBuf {
        self.publish_as(1, serial, manifests, 1000)
    }

    fn publish_as(&self, by: u8, serial: u64, manifests: &[Value], lasts_s: i64) -> PathBuf {
        let source = tempfile::tempdir().unwrap();
        catalog::write(source.path(), manifests);
        for manifest in manifests {
            let id = manifest["id"].as_str().unwrap();
            let images = json!([{"payload": format!("{{\"of\": \"{id}\"}}"), "signature": "MEUCIQ=="}]);
            std::fs::write(source.path().join(id).join("images.json"), images.to_string()).unwrap();
        }
        let edition = Edition {
            serial,
            issued_s: self.now_s,
            expires_s: self.now_s + lasts_s,
        };
        let out = self.published.path().join("cell");
        publish(source.path(), &key(by), edition, &out).unwrap();
        out
    }

    fn body(&self) -> Value {
        json!({"name": "more", "url": format!("https://{HOST}/cell/"), "keys": [pem(1)], "ca": self.https.ca})
    }

    async fn add(&self) -> Value {
        self.admin.post(ALL, &self.body()).await.expect(201).json()
    }

    async fn refresh(&self) -> Value {
        let path = format!("{ALL}/more/refresh");
        self.admin.post(&path, &json!({})).await.expect(200).json()
    }

    async fn store(&self) -> Value {
        self.admin.get("/api/store/catalog").await.expect(200).json()
    }

    async fn offered(&self, id: &str) -> Value {
        let all = self.store().await["services"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["id"] == id).unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_signed_and_serves_is_installed_once_the_broker_takes_its_key() {
    let story = Story::begin().await;
    story.publish(7, &[board(), caddy()]);
    let added = story.add().await;
    assert_eq!((&added["serial"], &added["services"]), (&Value::Null, &json!(0)));
    let fetched = story.refresh().await;
    assert_eq!(fetched["error"], Value::Null, "{fetched}");
    assert_eq!((&fetched["serial"], &fetched["services"]), (&json!(7), &json!(1)));
    assert_eq!(fetched["expired"], false);
    assert_eq!(fetched["url"], format!("https://{HOST}/cell/"));

    // netd was told where it is, and nothing else was connected to.
    let cell = &story.cell;
    eventually("netd lets the relay to the server", || {
        let state = cell.netd.state.lock().unwrap();
        let servers = state.spec.iter().flat_map(|spec| &spec.relay_servers);
        servers
            .filter_map(|at| SocketAddr::try_from(at).ok())
            .eq([server()])
    })
    .await;
    let asked = cell.egress.state.lock().unwrap().asked_catalogs.clone();
    assert!(
        asked.iter().all(|(at, exit)| *at == server() && exit.is_empty()),
        "{asked:?}"
    );

    let offered = story.offered("board").await;
    assert_eq!(offered["origin"], "more");
    assert_eq!(offered["deployable"], false);
    let fix = offered["deployable_fix"].as_str().unwrap();
    assert!(
        fix.contains("manifest_keys") && fix.contains(&pem(1).trim().replace('\n', "\\n")),
        "{fix}"
    );
    assert_eq!(story.offered("notes").await["origin"], Value::Null);
    assert_eq!(story.offered("notes").await["deployable"], Value::Null);

    // The API's list of keys is no guard: whoever asks is refused by the broker.
    install(&story.admin, "notes", json!({"everyone": true})).await;
    stands(&story.admin, "notes", "installed").await;
    install(&story.admin, "board", json!({"instance": "one"})).await;
    let failed = stands(&story.admin, "board-one", "failed").await;
    assert_eq!(failed["error"]["code"], "MANIFEST_UNSIGNED", "{failed}");
    let path = "/api/services/board-one";
    story.admin.delete(path).await.expect(202);
    support::store::gone(&story.admin, "board-one").await;

    story.broker.state.lock().unwrap().manifest_keys = vec![pem(1)];
    let offered = story.offered("board").await;
    assert_eq!(
        (&offered["deployable"], &offered["deployable_fix"]),
        (&json!(true), &Value::Null)
    );
    install(&story.admin, "board", json!({"instance": "one"})).await;
    stands(&story.admin, "board-one", "installed").await;
    // The broker judges the images by what the catalog says of them; of a catalog that says nothing there is nothing.
    let given: Vec<Vec<String>> = story.broker.with(|state| {
        let of = |one: &Vec<ImageSignature>| {
            one.iter()
                .map(|one| String::from_utf8(one.payload.clone()).unwrap())
                .collect()
        };
        state.image_signatures.values().map(of).collect()
    });
    assert!(
        given.contains(&vec!["{\"of\": \"board\"}".to_owned()]),
        "{given:?}"
    );
    assert!(given.contains(&Vec::new()), "{given:?}");

    // What was installed stays when the catalog goes, and netd forgets the server.
    story.admin.delete(&format!("{ALL}/more")).await.expect(204);
    assert_eq!(story.offered("board").await, Value::Null);
    stands(&story.admin, "board-one", "installed").await;
    eventually("netd forgets the server", || {
        let state = cell.netd.state.lock().unwrap();
        state
            .spec
            .as_ref()
            .is_some_and(|spec| spec.relay_servers.is_empty())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_older_unsigned_or_altered_is_taken_and_what_was_stays() {
    let story = Story::begin().await;
    story.publish(7, &[board()]);
    story.add().await;
    assert_eq!(story.refresh().await["serial"], 7);
    let stays = async |why: &str| {
        let told = story.refresh().await;
        let error = told["error"].as_str().unwrap_or_default().to_owned();
        assert!(error.contains(why), "{why}: {told}");
        assert_eq!(
            (&told["serial"], &told["services"]),
            (&json!(7), &json!(1)),
            "{told}"
        );
        assert_eq!(story.offered("board").await["origin"], "more");
    };
    story.publish(6, &[]);
    stays("older index").await;
    story.publish(7, &[]);
    stays("another index of the same serial").await;
    story.publish_as(2, 8, &[], 1000);
    stays("not signed by a key").await;
    // The control: the next one of the right key.
    story.publish(8, &[board()]);
    let told = story.refresh().await;
    assert_eq!((&told["serial"], &told["error"]), (&json!(8), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_right_is_told_and_asked_no_more_than_is_needed() {
    let story = Story::begin().await;
    let out = story.publish(7, &[board()]);
    story.add().await;
    assert_eq!(story.refresh().await["error"], Value::Null);
    story.https.asked();
    // It is what it was: one question.
    story.refresh().await;
    assert_eq!(story.https.asked(), [("/cell/index.json".to_owned(), 304)]);

    for (status, why) in [
        (302, "leads elsewhere"),
        (500, "answers 500"),
        (404, "has no index.json"),
    ] {
        story.https.always(Some(status));
        let told = story.refresh().await;
        assert!(told["error"].as_str().unwrap().contains(why), "{told}");
        let asked = story.https.asked();
        assert!(
            asked.iter().all(|(path, _)| path.starts_with("/cell/")),
            "{asked:?}"
        );
    }
    story.https.always(None);

    // A manifest that is another than the index says, and one that is not there, leave the rest.
    let mut broken = board();
    broken["id"] = json!("broken");
    story.publish(8, &[board(), broken.clone()]);
    let file = catalog::digest(&broken).replace("sha256:", "manifests/") + ".json";
    std::fs::write(out.join(&file), b"{}").unwrap();
    let told = story.refresh().await;
    assert!(
        told["error"]
            .as_str()
            .unwrap()
            .contains("broken: the manifest is another"),
        "{told}"
    );
    assert_eq!((&told["serial"], &told["services"]), (&json!(8), &json!(2)));
    assert_eq!(story.offered("board").await["faults"], json!([]));
    assert!(
        story.offered("broken").await["faults"][0]
            .as_str()
            .unwrap()
            .contains("not be fetched")
    );
    std::fs::remove_file(out.join(&file)).unwrap();
    assert!(story.refresh().await["error"].as_str().unwrap().contains("404"));
    std::fs::write(out.join(&file), serde_json::to_vec(&broken).unwrap()).unwrap();
    assert_eq!(story.refresh().await["error"], Value::Null);
    assert_eq!(story.offered("broken").await["faults"], json!([]));

    // Somebody else's certificate.
    let other = https(story.published.path().to_owned());
    story
        .cell
        .egress
        .state
        .lock()
        .unwrap()
        .catalogs
        .insert(server(), other.at);
    let told = story.refresh().await;
    assert!(
        told["error"].as_str().unwrap().contains("TLS is not right"),
        "{told}"
    );
    assert!(other.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_cell_has_is_not_shadowed_and_what_has_ended_is_told() {
    let story = Story::begin().await;
    story.publish(1, &[notes("9.0.0"), board()]);
    story.add().await;
    story.refresh().await;
    assert_eq!(story.offered("notes").await["version"], "1.0.0");
    let faults = story.store().await["faults"].to_string();
    assert!(faults.contains("came with the cell"), "{faults}");
    assert!(!faults.contains("expired"), "{faults}");
    story.cell.advance(Duration::from_secs(1200));
    assert!(story.store().await["faults"].to_string().contains("has expired"));
    let all = story.admin.get(ALL).await.expect(200).json();
    assert_eq!(all["catalogs"][0]["expired"], true);
    // An index that has ended is not taken anew.
    story.publish(2, &[]);
    let told = story.refresh().await;
    assert!(told["error"].as_str().unwrap().contains("expired"), "{told}");
    assert_eq!(told["serial"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_netd_refuses_holds_up_nobody() {
    let story = Story::begin().await;
    story.cell.netd.state.lock().unwrap().refused_servers = vec![server()];
    story.publish(1, &[board()]);
    story.add().await;
    let cell = &story.cell;
    eventually("the name is asked for", || {
        let egress = cell.egress.state.lock().unwrap();
        egress.resolved.contains(&(HOST.to_owned(), String::new()))
    })
    .await;
    support::add(&story.admin, "phone", 1).await;
    eventually("netd has the device", || {
        let state = cell.netd.state.lock().unwrap();
        state
            .spec
            .iter()
            .flat_map(|spec| &spec.peers)
            .any(|peer| peer.name == "phone")
    })
    .await;
    eventually("netd has refused it", || {
        let state = cell.netd.state.lock().unwrap();
        state
            .spec
            .as_ref()
            .is_some_and(|spec| spec.relay_servers.is_empty())
    })
    .await;
    let told = story.refresh().await;
    let error = told["error"].as_str().unwrap_or_default();
    assert!(
        error.contains("netd does not let the cell to 192.0.2.80:443"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_a_connection_carries_goes_by_no_other_way() {
    let story = Story::begin().await;
    let tor = json!({"name": "onions", "type": "tor"});
    let tor = story
        .admin
        .post("/api/connectivity/connections", &tor)
        .await
        .expect(201)
        .json();
    let id = tor["connection"]["id"].as_str().unwrap().to_owned();
    story.publish(1, &[board()]);
    let mut body = story.body();
    body["connection_id"] = json!("onions");
    let added = story.admin.post(ALL, &body).await.expect(201).json();
    assert_eq!(
        (&added["connection_id"], &added["connection_name"]),
        (&json!(id), &json!("onions"))
    );
    let told = story.refresh().await;
    assert_eq!((&told["error"], &told["serial"]), (&Value::Null, &json!(1)));
    {
        let egress = story.cell.egress.state.lock().unwrap();
        assert!(egress.asked_catalogs.iter().all(|(_, exit)| *exit == id));
        let of_it = egress.resolved.iter().filter(|(name, _)| name == HOST);
        let by: Vec<&str> = of_it.map(|(_, by)| by.as_str()).collect();
        assert!(
            !by.is_empty() && by.iter().all(|by| *by == id),
            "its name is not asked for directly"
        );
    }
    let path = format!("/api/connectivity/connections/{id}");
    story.admin.delete(&path).await.refused(409, "CONNECTION_IN_USE");
    story.admin.delete(&format!("{ALL}/more")).await.expect(204);
    story.admin.delete(&path).await.expect(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_wrongly_is_refused_with_all_faults() {
    let story = Story::begin().await;
    let bad = json!({"name": "No Label", "url": "http://catalog.example.org/", "keys": ["x"], "ca": "y"});
    let refused = story.admin.post(ALL, &bad).await;
    refused.refused(400, "INVALID_REQUEST");
    let mut fields = refused.fields();
    fields.sort();
    assert_eq!(fields, ["ca", "keys", "name", "url"]);
    let mut nowhere = story.body();
    nowhere["connection_id"] = json!("nowhere");
    assert_eq!(story.admin.post(ALL, &nowhere).await.fields(), ["connection_id"]);
    story.add().await;
    story
        .admin
        .post(ALL, &story.body())
        .await
        .refused(409, "REMOTE_CATALOG_EXISTS");
    let mut same = story.body();
    same["name"] = json!("other");
    story
        .admin
        .post(ALL, &same)
        .await
        .refused(409, "REMOTE_CATALOG_EXISTS");
    for number in 1..16 {
        let body = json!({"name": format!("c{number}"), "url": format!("https://c{number}.example.org/"), "keys": [pem(1)]});
        story.admin.post(ALL, &body).await.expect(201);
    }
    same["url"] = json!("https://last.example.org/");
    story
        .admin
        .post(ALL, &same)
        .await
        .refused(507, "REMOTE_CATALOGS_EXHAUSTED");
    let path = format!("{ALL}/nobody");
    story.admin.delete(&path).await.refused(404, "NO_REMOTE_CATALOG");
    story
        .admin
        .post(&format!("{path}/refresh"), &json!({}))
        .await
        .refused(404, "NO_REMOTE_CATALOG");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_automation_api_offers_the_same() {
    let story = Story::begin().await;
    story.publish(3, &[board()]);
    let mut remote = RemoteCatalogServiceClient::new(ipc::connect(&story.cell.automation));
    let add = AddRemoteCatalogRequest {
        name: "more".to_owned(),
        url: format!("https://{HOST}/cell"),
        keys: vec![pem(1)],
        ca: story.https.ca.clone(),
        connection_id: String::new(),
    };
    let added = remote.add_remote_catalog(add.clone()).await.unwrap().into_inner();
    assert_eq!(added.catalog.unwrap().url, format!("https://{HOST}/cell/"));
    let again = remote.add_remote_catalog(add).await.unwrap_err();
    assert_eq!(fault::reason(&again).as_deref(), Some("REMOTE_CATALOG_EXISTS"));
    let name = "more".to_owned();
    let refresh = RefreshRemoteCatalogRequest { name: name.clone() };
    let told = remote
        .refresh_remote_catalog(refresh)
        .await
        .unwrap()
        .into_inner()
        .catalog
        .unwrap();
    assert_eq!((told.error.as_str(), told.serial, told.services), ("", 3, 1));
    let list = remote
        .list_remote_catalogs(ListRemoteCatalogsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(list.catalogs.len(), 1);
    let remove = RemoveRemoteCatalogRequest { name };
    remote.remove_remote_catalog(remove.clone()).await.unwrap();
    let gone = remote.remove_remote_catalog(remove).await.unwrap_err();
    assert_eq!(fault::reason(&gone).as_deref(), Some("NO_REMOTE_CATALOG"));
}
