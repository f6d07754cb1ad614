//! CoreDNS and Caddy follow what is published, within a second, and get it again when they lost it.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

#[path = "../core/tests/support/published.rs"]
mod states;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path as Segment, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use cell_api::published::Folder;
use cell_api_core::derive::corefile::{CorefileSettings, QueryLog, serial_of};
use serde_json::{Value, json};
use support::broker::FakeBroker;
use support::client::Client;
use support::{Cell, catalog, eventually};
use tokio::net::UnixListener;

/// The configuration that a Caddy has.
type Loaded = Arc<Mutex<Option<Value>>>;

fn fake_caddy(path: &Path) -> Loaded {
    let loaded = Loaded::default();
    let take = |State(loaded): State<Loaded>, body: axum::Json<Value>| async move {
        *loaded.lock().unwrap() = Some(body.0);
    };
    let has = |State(loaded): State<Loaded>, Segment(mark): Segment<String>| async move {
        let is_known = loaded
            .lock()
            .unwrap()
            .as_ref()
            .is_some_and(|config| config["admin"]["@id"] == mark);
        if is_known {
            StatusCode::OK
        } else {
            StatusCode::NOT_FOUND
        }
    };
    let config = |State(loaded): State<Loaded>, Segment(path): Segment<String>| async move {
        let loaded = loaded.lock().unwrap();
        let pointer = format!("/{path}");
        let part = loaded.as_ref().and_then(|config| config.pointer(&pointer));
        axum::Json(part.cloned())
    };
    // As `compose/images/caddy/acme/outcome.go`: what became of the certificate is in a file beside the socket.
    let outcome = path.with_extension("outcome");
    let certificate = move || async move { fs::read_to_string(&outcome).unwrap_or_default() };
    let routes = Router::new()
        .route("/cell/certificate", get(certificate))
        .route("/load", post(take))
        .route("/config/{*path}", get(config))
        .route("/id/{mark}", get(has))
        .with_state(Arc::clone(&loaded));
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    loaded
}

fn condition(status: &Value, kind: &str) -> (String, String) {
    let daemons = status["daemons"].as_array().unwrap();
    let services = daemons
        .iter()
        .find(|daemon| daemon["name"] == "services")
        .unwrap();
    let all = services["conditions"].as_array().unwrap();
    let one = all.iter().find(|one| one["type"] == kind).unwrap();
    let text = |field: &str| one[field].as_str().unwrap().to_owned();
    (text("status"), text("reason"))
}

/// Waits until the status says so.
async fn says(admin: &Client, kind: &str, (status, reason): (&str, &str)) {
    for _ in 0..200 {
        let told = admin.get("/api/status").await.expect(200).json();
        if condition(&told, kind) == (status.to_owned(), reason.to_owned()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {kind} {status} {reason}");
}

/// A cell that is set up, its CoreDNS' folder, its Caddy and its broker.
struct Lab {
    cell: Cell,
    admin: Client,
    dns: PathBuf,
    loaded: Loaded,
    broker: FakeBroker,
    place: tempfile::TempDir,
}

impl Lab {
    async fn new() -> Lab {
        let place = tempfile::tempdir().unwrap();
        let (dns, socket) = (place.path().to_owned(), place.path().join("admin.sock"));
        let loaded = fake_caddy(&socket);
        let cell = Cell::start_with(|config| {
            config.core_dns_dir = Some(dns.clone());
            config.caddy_socket = Some(socket.clone());
        })
        .await;
        let broker = FakeBroker::start(cell.state().join("broker.sock"));
        let mut pages = catalog::notes("1.0.0");
        pages["id"] = json!("pages");
        pages["routing"]["subdomain"] = json!("pages");
        let offered = [
            catalog::notes("1.0.0"),
            pages,
            catalog::core("coredns"),
            catalog::caddy(),
        ];
        catalog::write(&cell.state().join("catalog"), &offered);
        cell.set_up().await;
        let admin = cell.admin().await;
        Lab {
            cell,
            admin,
            dns,
            loaded,
            broker,
            place,
        }
    }

    async fn install(&self, id: &str) {
        let path = format!("/api/services/{id}/install");
        self.admin.post(&path, &json!({})).await.expect(202);
        for _ in 0..200 {
            let told = self.admin.get(&format!("/api/services/{id}")).await;
            if told.json()["phase"] == "installed" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{id} is never installed");
    }

    /// cell-api ends and is started anew; Caddy goes on.
    async fn restart(&mut self) {
        self.cell.restart().await;
        self.admin = self.cell.admin().await;
    }

    /// Until Caddy was told something by this process: it is asked first what it has.
    async fn told(&self) {
        says(&self.admin, "ProxyConfigured", ("true", "TOLD")).await;
    }

    fn reloads(&self) -> usize {
        let calls = self.broker.calls();
        calls.iter().filter(|call| *call == "reload coredns").count()
    }

    fn has_route(&self) -> bool {
        let loaded = self.loaded.lock().unwrap();
        let routes = |config: &Value| config["apps"]["http"]["servers"]["services"]["routes"].to_string();
        loaded
            .as_ref()
            .is_some_and(|config| routes(config).contains("notes."))
    }

    fn has(&self, text: &str) -> bool {
        let loaded = self.loaded.lock().unwrap();
        loaded
            .as_ref()
            .is_some_and(|config| config.to_string().contains(text))
    }

    /// Certificates of the configuration in force, in order.
    fn certificates(&self) -> Vec<String> {
        let loaded = self.loaded.lock().unwrap();
        let config = loaded.clone().unwrap_or_default();
        let all = config["apps"]["tls"]["certificates"]["load_pem"]
            .as_array()
            .cloned();
        let all = all.unwrap_or_default().into_iter();
        let mut all: Vec<String> = all.map(|one| one["certificate"].to_string()).collect();
        all.sort();
        all
    }

    /// How often a certificate was issued for a name.
    fn issued(&self, name: &str) -> usize {
        let all = self.cell.vault.issued();
        all.iter()
            .filter(|(names, _)| names == &[name.to_owned()])
            .count()
    }

    fn corefile(&self) -> String {
        fs::read_to_string(self.dns.join("Corefile")).unwrap()
    }

    /// CoreDNS and Caddy are told apart, and neither waits for the other.
    async fn serves(&self, text: &str) {
        eventually(text, || self.corefile().contains(text)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_coredns_logs_is_set_without_a_restart() {
    let lab = Lab::new().await;
    for id in ["coredns", "notes"] {
        lab.install(id).await;
    }
    eventually("a reload", || lab.reloads() > 0).await;
    assert!(lab.corefile().contains("\terrors\n") && !lab.corefile().contains("\tlog\n"));
    for (level, errors, log) in [
        ("questions", true, true),
        ("off", false, false),
        ("errors", true, false),
    ] {
        let (before, serial) = (lab.reloads(), serial_of(&lab.corefile()).unwrap());
        let body = json!({"level": level});
        lab.admin.put("/api/dns/query-log", &body).await.expect(200);
        // A reload alone may still be for what was installed: the file is waited for, then a reload of it.
        let says = || {
            let corefile = lab.corefile();
            let said = (corefile.contains("\terrors\n"), corefile.contains("\tlog\n"));
            serial_of(&corefile).unwrap() > serial && said == (errors, log)
        };
        eventually(&format!("a file that logs {level}"), says).await;
        eventually("it reads its files anew", || lab.reloads() > before).await;
    }
    let calls = lab.broker.calls();
    let started = |call: &String| call.starts_with("restart") || call.starts_with("stop");
    assert!(!calls.iter().any(started), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_knows_names_and_routes() {
    let lab = Lab::new().await;
    lab.broker
        .with(|state| state.address = Some(std::net::Ipv4Addr::LOCALHOST));
    for id in ["coredns", "caddy", "notes"] {
        lab.install(id).await;
    }
    says(&lab.admin, "DnsServed", ("true", "TOLD")).await;
    says(&lab.admin, "ProxyConfigured", ("true", "TOLD")).await;
    let checked = async |service: &str, name: &str| {
        let path = format!("/api/services/{service}/test");
        let told = lab.admin.post(&path, &json!({})).await.expect(200).json();
        let checks = told["checks"].as_array().unwrap();
        let found = checks.iter().find(|check| check["name"] == name).unwrap();
        (found["ok"].as_bool().unwrap(), found["detail"].to_string())
    };
    eventually("a route", || lab.has_route()).await;
    let route = checked("notes", "route").await;
    assert!(route.0 && route.1.contains("127.0.0.1:8080"), "{route:?}");
    let name = checked("notes", "name").await;
    assert!(name.0 && name.1.contains("no device may reach it"), "{name:?}");
    assert!(checked("caddy", "admin").await.0);
    assert!(checked("coredns", "names").await.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_follow_what_is_published() {
    let lab = Lab::new().await;
    let (cell, admin) = (&lab.cell, &lab.admin);
    assert_eq!(cell.egress.dns().authority, None, "nothing is published");
    for id in ["coredns", "caddy", "notes"] {
        lab.install(id).await;
    }
    let start = Instant::now();
    eventually("a route", || lab.has_route()).await;
    assert!(
        start.elapsed() < Duration::from_millis(2_500),
        "{:?}",
        start.elapsed()
    );
    // Caddy listens on where its container has the folder, wherever the machine has it.
    assert!(lab.has("unix//run/cell/caddy/admin.sock|0660"));
    eventually("a reload", || lab.reloads() > 0).await;
    let serial = serial_of(&lab.corefile()).unwrap();
    eventually("the authority", || cell.egress.dns().authority.is_some()).await;
    eventually("netd's word on it", || {
        let state = cell.netd.state.lock().unwrap();
        let told = state.spec.clone().unwrap_or_default().dns_upstreams;
        told.contains(&"172.20.0.3:53".parse::<SocketAddr>().unwrap().into())
    })
    .await;
    says(admin, "DnsServed", ("true", "TOLD")).await;
    says(admin, "ProxyConfigured", ("true", "TOLD")).await;
    let issued = cell.vault.issued();
    let is_its = |(names, addresses): &support::vault::Names| {
        names.len() == 1 && names[0].starts_with("notes.") && addresses.is_empty()
    };
    assert!(issued.iter().any(is_its), "{issued:?}");

    // A peer that may use it has a view, and a way through the proxy; and then not any more.
    assert!(!lab.corefile().contains("client_ip()"));
    let body = json!({"name": "phone", "public_key": support::key(1)});
    admin.post("/api/peers", &body).await.expect(201);
    let who = |peers: Value| json!({"allowed_peers": peers});
    let access = "/api/services/notes/access";
    admin.put(access, &who(json!(["phone"]))).await.expect(200);
    eventually("a view", || lab.corefile().contains("client_ip()")).await;
    assert!(serial_of(&lab.corefile()).unwrap() > serial);
    eventually("its address at the proxy", || lab.has("10.86.0.2")).await;
    admin.put(access, &who(json!([]))).await.expect(200);
    eventually("no view", || !lab.corefile().contains("client_ip()")).await;
    eventually("nobody at the proxy", || !lab.has("10.86.0.2")).await;
}

/// Its socket takes connections, and nobody answers: names that end end all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_caddy_that_hangs_keeps_no_word_from_coredns() {
    let lab = Lab::new().await;
    for id in ["coredns", "caddy", "notes"] {
        lab.install(id).await;
    }
    lab.told().await;
    eventually("Caddy has its route", || lab.has("notes.")).await;
    let socket = lab.place.path().join("admin.sock");
    fs::remove_file(&socket).unwrap();
    let hung = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let body = json!({"name": "phone", "public_key": support::key(1)});
    lab.admin.post("/api/peers", &body).await.expect(201);
    let access = "/api/services/notes/access";
    for _ in 0..2 {
        let phone = json!({"allowed_peers": ["phone"]});
        lab.admin.put(access, &phone).await.expect(200);
        eventually("a view", || lab.corefile().contains("client_ip()")).await;
        let nobody = json!({"allowed_peers": []});
        lab.admin.put(access, &nobody).await.expect(200);
        eventually("no view", || !lab.corefile().contains("client_ip()")).await;
    }
    assert!(lab.has("notes."), "control: what it had is what it has");
    drop(hung);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lost_it_or_refuses_it_is_told_again() {
    let lab = Lab::new().await;
    lab.install("notes").await;
    // Nobody has installed CoreDNS.
    says(&lab.admin, "DnsServed", ("false", "NOT_RELOADED")).await;
    eventually("a route", || lab.has_route()).await;
    // Caddy is started anew.
    *lab.loaded.lock().unwrap() = None;
    eventually("the route again", || lab.has_route()).await;
    lab.install("coredns").await;
    says(&lab.admin, "DnsServed", ("true", "TOLD")).await;
    // And it is gone, with its certificate.
    lab.admin.delete("/api/services/notes").await.expect(202);
    eventually("no route", || !lab.has_route()).await;
    assert!(
        !lab.loaded
            .lock()
            .unwrap()
            .as_ref()
            .unwrap()
            .to_string()
            .contains("PRIVATE KEY")
    );
    eventually("no authority", || lab.cell.egress.dns().authority.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_has_a_certificate_of_its_own_and_loses_it_to_nobody() {
    let lab = Lab::new().await;
    let vault = &lab.cell.vault;
    lab.install("notes").await;
    eventually("a certificate", || lab.certificates().len() == 1).await;
    let notes = lab.certificates();
    // The other one gets none: it alone has no HTTPS, and its route is there.
    vault.refuse(&["pages.home.cell"]);
    lab.install("pages").await;
    eventually("its route", || lab.has("pages.home.cell")).await;
    says(&lab.admin, "ProxyConfigured", ("false", "NO_CERTIFICATE")).await;
    assert_eq!(lab.certificates(), notes);
    vault.refuse(&[]);
    says(&lab.admin, "ProxyConfigured", ("true", "TOLD")).await;
    eventually("both", || lab.certificates().len() == 2).await;
    assert!(lab.certificates().contains(&notes[0]));
    let both = lab.certificates();
    // One that goes takes nothing along, and has its own again when it comes back.
    lab.admin.delete("/api/services/pages").await.expect(202);
    eventually("the other's alone", || lab.certificates() == notes).await;
    gone(&lab.admin, "pages").await;
    lab.install("pages").await;
    eventually("the same two", || lab.certificates() == both).await;
    assert_eq!(
        (lab.issued("notes.home.cell"), lab.issued("pages.home.cell")),
        (1, 1)
    );
    // What cannot be renewed goes on as it is.
    vault.refuse(&["notes.home.cell"]);
    lab.cell.advance(Duration::from_secs(17 * 3600));
    // The session is over by then.
    let admin = lab.cell.admin().await;
    says(&admin, "ProxyConfigured", ("false", "NO_CERTIFICATE")).await;
    eventually("the other's is renewed", || lab.issued("pages.home.cell") > 1).await;
    eventually("and in force", || {
        let now = lab.certificates();
        now.len() == 2 && now != both
    })
    .await;
    assert!(lab.certificates().contains(&notes[0]));
    vault.refuse(&[]);
    eventually("its own too", || !lab.certificates().contains(&notes[0])).await;
    assert_eq!(lab.certificates().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_outlive_a_start_and_vaultd_may_be_away_meanwhile() {
    let mut lab = Lab::new().await;
    for id in ["caddy", "notes", "pages"] {
        lab.install(id).await;
    }
    eventually("both", || lab.certificates().len() == 2).await;
    let both = lab.certificates();
    // A start with vaultd: nothing is issued again but for the cell's own listeners.
    lab.restart().await;
    lab.told().await;
    assert_eq!(lab.certificates(), both);
    let issued = |lab: &Lab| (lab.issued("notes.home.cell"), lab.issued("pages.home.cell"));
    assert_eq!(issued(&lab), (1, 1));
    // And without it: what is published may change meanwhile, nothing gets worse.
    let body = json!({"name": "phone", "public_key": support::key(1)});
    lab.admin.post("/api/peers", &body).await.expect(201);
    lab.cell.vault.kill();
    lab.restart().await;
    lab.told().await;
    assert_eq!(lab.certificates(), both);
    let access = json!({"allowed_peers": ["phone"]});
    lab.admin
        .put("/api/services/notes/access", &access)
        .await
        .expect(200);
    eventually("its address at the proxy", || lab.has("10.86.0.2")).await;
    assert_eq!(lab.certificates(), both);
    // What somebody else put there is not taken up: that service is given its own, the other keeps what it has.
    lab.cell.vault.resume();
    let foreign = rcgen::generate_simple_self_signed(vec!["notes.home.cell".to_owned()]).unwrap();
    {
        let mut loaded = lab.loaded.lock().unwrap();
        let all = loaded.as_mut().unwrap()["apps"]["tls"]["certificates"]["load_pem"]
            .as_array_mut()
            .unwrap();
        let mut all = all.iter_mut();
        let is_first = |one: &&mut Value| {
            let text = one["certificate"].to_string();
            text == both[0]
        };
        let one = all.find(is_first).unwrap();
        *one = json!({"certificate": foreign.cert.pem(), "key": foreign.signing_key.serialize_pem()});
    }
    lab.restart().await;
    eventually("another of one", || issued(&lab).0 + issued(&lab).1 == 3).await;
    eventually("both", || {
        let now = lab.certificates();
        now.len() == 2 && now.contains(&both[1]) && !now.contains(&both[0])
    })
    .await;
    assert!(!lab.has(&foreign.cert.pem().replace('\n', "\\n")));
}

async fn gone(admin: &Client, service: &str) {
    for _ in 0..200 {
        if admin.get(&format!("/api/services/{service}")).await.status == 404 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{service} is never gone");
}

#[test]
fn the_folder_has_one_state_and_nothing_of_others_is_touched() {
    let place = tempfile::tempdir().unwrap();
    let (folder, at) = (Folder::new(place.path()), place.path());
    let settings = CorefileSettings {
        relay: [172, 20, 0, 1].into(),
        log: QueryLog::Errors,
        folder: "/etc/coredns",
        port: 53,
    };
    fs::write(at.join("notes.txt"), "mine").unwrap();
    fs::write(at.join("zone-1-0-0.db"), "of a former state").unwrap();
    let names = || {
        fs::read_dir(at)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect::<BTreeSet<_>>()
    };
    let set = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let mut state = states::one_service();
    folder.publish(&state, &settings, 100).unwrap();
    assert_eq!(names(), set(&["Corefile", "notes.txt", "zone-100-0-0.db"]));
    folder.publish(&state, &settings, 200).unwrap();
    assert_eq!(
        names(),
        set(&["Corefile", "notes.txt", "zone-100-0-0.db"]),
        "the same again"
    );
    // A clock that was set back.
    state.services.clear();
    state
        .domains
        .push(cell_api_core::published::HostName::parse("second.cell").unwrap());
    folder.publish(&state, &settings, 50).unwrap();
    assert_eq!(
        names(),
        set(&["Corefile", "notes.txt", "zone-101-0-0.db", "zone-101-0-1.db"])
    );
    // What is broken is put right, and what was left half-done is no hindrance.
    fs::write(at.join("zone-101-0-0.db"), "").unwrap();
    fs::write(at.join(".unfinished"), "half").unwrap();
    folder.publish(&state, &settings, 60).unwrap();
    assert_eq!(
        names(),
        set(&["Corefile", "notes.txt", "zone-102-0-0.db", "zone-102-0-1.db"])
    );
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(at.join("Corefile")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644, "CoreDNS is another user");
    // A name that cannot be written: the former state stays.
    fs::create_dir_all(at.join("zone-103-0-0.db/x")).unwrap();
    let before = fs::read(at.join("Corefile")).unwrap();
    state.domains.pop();
    let failed = folder.publish(&state, &settings, 103).unwrap_err().to_string();
    assert!(failed.contains("zone-103-0-0.db"), "{failed}");
    assert_eq!(fs::read(at.join("Corefile")).unwrap(), before);
    assert!(at.join("zone-102-0-1.db").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_domain_stands_beside_the_cells_own() {
    let lab = Lab::new().await;
    for id in ["coredns", "caddy", "notes"] {
        lab.install(id).await;
    }
    says(&lab.admin, "ProxyConfigured", ("true", "TOLD")).await;
    let outcome = lab.dns.join("admin.outcome");
    let told = |not_after: Value, fault: Value| {
        fs::write(
            &outcome,
            json!({"not_after": not_after, "fault": fault}).to_string(),
        )
        .unwrap();
    };
    told(Value::Null, Value::Null);
    let setting = json!({"mode": "dns01", "domain": "home.example.org", "provider": "cloudflare",
        "token": "a7c4d0ad114e40efba1dd217904a50f2"});
    lab.admin.put("/api/domain", &setting).await.expect(200);
    says(&lab.admin, "ProxyConfigured", ("unknown", "CERTIFICATE_COMING")).await;
    assert!(lab.has("notes.home.example.org") && lab.has("notes.home.cell") && lab.has("*.home.example.org"));
    assert!(
        !lab.has("a7c4d0ad114e40efba1dd217904a50f2"),
        "the token comes by another way"
    );
    // The cell's own authority vouches for the cell's own names alone.
    let issued = lab.cell.vault.issued();
    let is_own = |(names, _): &support::vault::Names| names.iter().all(|name| !name.contains("example"));
    assert!(issued.iter().all(is_own));
    assert!(lab.issued("notes.home.cell") >= 1);
    lab.serves("home.example.org:53").await;
    let spec = || lab.cell.netd.with(|state| state.spec.clone().unwrap_or_default());
    let core = |spec: &cell_proto::netd::v1::NetworkSpec| {
        spec.service_networks
            .iter()
            .find(|one| one.name == "cell")
            .map(|one| one.internet)
    };
    eventually("the proxy reaches the authority", || core(&spec()) == Some(true)).await;
    let notes = lab.admin.get("/api/services/notes").await.json();
    assert_eq!(
        notes["names"],
        json!(["notes.home.example.org", "notes.home.cell"])
    );

    told(Value::Null, json!("the provider's token is\nnot there"));
    says(&lab.admin, "ProxyConfigured", ("false", "NO_CERTIFICATE")).await;
    told(json!(1_900_000_000), Value::Null);
    says(&lab.admin, "ProxyConfigured", ("true", "TOLD")).await;
    told(json!(1_900_000_000), json!("rate limited"));
    says(&lab.admin, "ProxyConfigured", ("false", "NO_CERTIFICATE")).await;
    let status = lab.admin.get("/api/status").await.text;
    assert!(
        status.contains("the last one is served meanwhile: rate limited"),
        "{status}"
    );

    lab.admin
        .put("/api/domain", &json!({"mode": "lan"}))
        .await
        .expect(200);
    says(&lab.admin, "ProxyConfigured", ("true", "TOLD")).await;
    eventually("nothing is left of it", || !lab.has("example.org")).await;
    eventually("the way out is shut", || core(&spec()) == Some(false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_proven_by_http_are_published_and_the_internet_reaches_the_proxy_meanwhile() {
    let lab = Lab::new().await;
    for id in ["coredns", "caddy", "notes"] {
        lab.install(id).await;
    }
    says(&lab.admin, "ProxyConfigured", ("true", "TOLD")).await;
    let led = || {
        lab.cell
            .netd
            .with(|state| state.spec.clone().unwrap_or_default().public_http)
    };
    assert_eq!(led(), None);
    lab.cell.netd.with(|state| state.opens_http = true);
    let outcome = lab.dns.join("admin.outcome");
    fs::write(
        &outcome,
        json!({"not_after": 1_900_000_000, "fault": null}).to_string(),
    )
    .unwrap();
    let setting = json!({"mode": "http01", "domain": "home.example.org"});
    lab.admin.put("/api/domain", &setting).await.expect(200);
    let proxy = lab.broker.state.lock().unwrap().made["caddy"]
        .deployment
        .containers[0]
        .address
        .parse::<std::net::IpAddr>()
        .unwrap();
    eventually("the internet is led to the proxy", || {
        led() == Some(SocketAddr::new(proxy, 8480).into())
    })
    .await;
    eventually("the name is certified, and no other of the domain", || {
        lab.has("notes.home.example.org") && lab.has("alternate_port") && !lab.has("*.home.example.org")
    })
    .await;
    says(&lab.admin, "ProxyConfigured", ("true", "TOLD")).await;
    lab.serves("home.example.org:53").await;

    // Root takes the port away: nothing else is held up, and it is told what is missing.
    lab.cell.netd.with(|state| state.opens_http = false);
    let access = json!({"everyone": true, "allowed_peers": []});
    lab.admin
        .put("/api/services/notes/access", &access)
        .await
        .expect(200);
    says(&lab.admin, "ProxyConfigured", ("false", "PORT_NOT_OPEN")).await;
    let status = lab.admin.get("/api/status").await.text;
    assert!(status.contains(support::netd::CLOSED), "{status}");
    assert_eq!(led(), None);
    let networks = lab
        .cell
        .netd
        .with(|state| state.spec.clone().unwrap_or_default().service_networks.len());
    assert!(networks >= 2, "the rest stands");

    lab.cell.netd.with(|state| state.opens_http = true);
    let lan = json!({"mode": "lan"});
    lab.admin.put("/api/domain", &lan).await.expect(200);
    eventually("nothing is left of it", || !lab.has("example.org")).await;
    eventually("it is shut", || led().is_none()).await;
}
