//! Interfaces for accounts, each on a port of loopback: one that is made up, and the program that images have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::connect_info::MockConnectInfo;
use axum::extract::{Path as Segment, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use cell_accounts::caller::Interface;
use cell_accounts::http::Served;
use cell_accounts::store::{Places, Store};
use cell_accounts::users::Format;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::catalog::container;

/// What an interface does with requests whose method is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fails {
    /// Answers 500, and does nothing.
    Broken,
    /// Does it, and the answer is lost.
    AnswerLost,
    /// Answers 400, and does nothing.
    Refuses,
    /// Leads elsewhere.
    Redirects,
    /// Says nothing, for so long.
    Silent(Duration),
}

#[derive(Default)]
pub struct Log {
    /// Methods that fail.
    pub fails: BTreeMap<String, Fails>,
    /// Method and path of all that were asked.
    pub asked: Vec<String>,
}

/// One interface, whichever answers behind it.
pub struct Accounts {
    pub port: u16,
    pub log: Arc<Mutex<Log>>,
    kind: Kind,
}

enum Kind {
    MadeUp(Arc<Mutex<Stored>>),
    Real(tempfile::TempDir),
}

#[derive(Default)]
struct Stored {
    users: BTreeMap<String, String>,
    certificates: Vec<(String, String)>,
}

impl Accounts {
    pub async fn made_up() -> Accounts {
        let stored = Arc::<Mutex<Stored>>::default();
        let router = made_up(Arc::clone(&stored));
        serve(router, Kind::MadeUp(stored)).await
    }

    /// The program of the images, asked by the machine.
    pub async fn real() -> Accounts {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        let router = real(folder.path());
        serve(router, Kind::Real(folder)).await
    }

    pub fn users(&self) -> BTreeSet<String> {
        match &self.kind {
            Kind::MadeUp(stored) => stored.lock().unwrap().users.keys().cloned().collect(),
            Kind::Real(folder) => {
                let file = std::fs::read_to_string(folder.path().join("users")).unwrap_or_default();
                let user = |line: &str| line.split_once(':').map(|(user, _)| user.to_owned());
                file.lines()
                    .filter(|line| !line.starts_with('#'))
                    .filter_map(user)
                    .collect()
            }
        }
    }

    /// Whether somebody logs in with it.
    pub fn takes(&self, user: &str, password: &str) -> bool {
        match &self.kind {
            Kind::MadeUp(stored) => {
                stored.lock().unwrap().users.get(user).map(String::as_str) == Some(password)
            }
            Kind::Real(folder) => {
                let file = std::fs::read_to_string(folder.path().join("users")).unwrap();
                let line = file
                    .lines()
                    .find_map(|line| line.strip_prefix(&format!("{user}:")));
                let hash = line.map(|rest| rest.split(':').next().unwrap());
                hash.is_some_and(|hash| bcrypt::verify(password, hash).unwrap())
            }
        }
    }

    /// Certificates that it was given, with their keys.
    pub fn certificates(&self) -> Vec<(String, String)> {
        match &self.kind {
            Kind::MadeUp(stored) => stored.lock().unwrap().certificates.clone(),
            Kind::Real(_) => Vec::new(),
        }
    }

    pub fn fail(&self, method: &str, fails: Option<Fails>) {
        let mut log = self.log.lock().unwrap();
        match fails {
            Some(fails) => log.fails.insert(method.to_owned(), fails),
            None => log.fails.remove(method),
        };
    }

    /// A service with this interface.
    pub fn manifest(&self, id: &str) -> Value {
        let port = self.port;
        json!({"schema_version": 3, "kind": "store", "id": id, "name": id, "version": "1.0.0",
            "flags": {"has_subdomain": true, "has_accounts": true},
            "containers": [container("main", &json!([{"port": 80}, {"port": 993}])),
                container("accounts", &json!([{"port": port}]))],
            "routing": {"subdomain": id, "backend": "main:80"},
            "accounts": {"backend": format!("accounts:{port}"), "path": "/accounts"}})
    }
}

async fn serve(router: Router, kind: Kind) -> Accounts {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let log = Arc::<Mutex<Log>>::default();
    let router = router.layer(from_fn_with_state(Arc::clone(&log), watched));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Accounts { port, log, kind }
}

async fn watched(State(log): State<Arc<Mutex<Log>>>, request: Request, next: Next) -> Response {
    let method = request.method().to_string();
    let fails = {
        let mut log = log.lock().unwrap();
        log.asked.push(format!("{method} {}", request.uri().path()));
        log.fails.get(&method).copied()
    };
    match fails {
        None => next.run(request).await,
        Some(Fails::Broken) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            Json(json!({"error": "broken"})),
        )
            .into_response(),
        Some(Fails::Refuses) => (StatusCode::BAD_REQUEST, Json(json!({"error": "not so"}))).into_response(),
        Some(Fails::Redirects) => {
            (StatusCode::FOUND, [("location", "http://127.0.0.1:1/accounts")]).into_response()
        }
        Some(Fails::AnswerLost) => {
            drop(next.run(request).await);
            (StatusCode::BAD_GATEWAY, "lost").into_response()
        }
        Some(Fails::Silent(pause)) => {
            tokio::time::sleep(pause).await;
            next.run(request).await
        }
    }
}

fn real(folder: &Path) -> Router {
    let own = Interface {
        address: "172.21.0.18".parse().unwrap(),
        mask: "255.255.255.240".parse().unwrap(),
    };
    let store = Store::open(Places {
        file: folder.join("users"),
        format: Format::Htpasswd,
        data: vec![folder.join("data")],
        make_folders: true,
    });
    let served = Served {
        store: Arc::new(store.unwrap()),
        interfaces: Arc::new(move || Ok(vec![own])),
        certificate: None,
    };
    let machine: SocketAddr = "172.21.0.17:40000".parse().unwrap();
    cell_accounts::http::router(served).layer(MockConnectInfo(machine))
}

type Shared = Arc<Mutex<Stored>>;

fn made_up(stored: Shared) -> Router {
    let list = async |State(stored): State<Shared>| {
        let users: Vec<String> = stored.lock().unwrap().users.keys().cloned().collect();
        Json(json!({"users": users}))
    };
    let one = async |State(stored): State<Shared>, Segment(user): Segment<String>| {
        if stored.lock().unwrap().users.contains_key(&user) {
            StatusCode::OK
        } else {
            StatusCode::NOT_FOUND
        }
    };
    let make =
        async |State(stored): State<Shared>, Segment(user): Segment<String>, Json(body): Json<Value>| {
            let password = body["password"].as_str().unwrap().to_owned();
            match stored.lock().unwrap().users.insert(user, password) {
                None => StatusCode::CREATED,
                Some(_) => StatusCode::OK,
            }
        };
    let remove = async |State(stored): State<Shared>, Segment(user): Segment<String>| {
        stored.lock().unwrap().users.remove(&user);
        StatusCode::NO_CONTENT
    };
    let certificate = async |State(stored): State<Shared>, Json(body): Json<Value>| {
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        let pair = (text("chain"), text("key"));
        stored.lock().unwrap().certificates.push(pair);
        StatusCode::NO_CONTENT
    };
    Router::new()
        .route("/accounts", get(list))
        .route("/accounts/{user}", get(one).put(make).delete(remove))
        .route("/certificate", put(certificate))
        .with_state(stored)
}
