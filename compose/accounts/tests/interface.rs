//! The interface, as `cell-api` asks it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use cell_accounts::caller::Interface;
use cell_accounts::http::{Interfaces, Served, router};
use cell_accounts::store::{Places, Store};
use cell_accounts::users::Format;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// The machine's address in the container's network.
const MACHINE: &str = "172.21.0.17";

struct Service {
    dir: tempfile::TempDir,
    router: axum::Router,
}

impl Service {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        let router = open(dir.path());
        Service { dir, router }
    }

    fn file(&self) -> String {
        fs::read_to_string(self.dir.path().join("users")).unwrap()
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        self.ask_as(method, path, body, MACHINE).await
    }

    async fn ask_as(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        source: &str,
    ) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .extension(ConnectInfo(SocketAddr::new(source.parse().unwrap(), 40_000)))
            .header("content-type", "application/json")
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))
            .unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }
}

fn open(dir: &Path) -> axum::Router {
    let own = Interface {
        address: "172.21.0.18".parse().unwrap(),
        mask: "255.255.255.240".parse().unwrap(),
    };
    open_as(dir, Arc::new(move || Ok(vec![own])))
}

fn open_as(dir: &Path, interfaces: Interfaces) -> axum::Router {
    let store = Store::open(Places {
        file: dir.join("users"),
        format: Format::Htpasswd,
        data: vec![dir.join("data")],
        make_folders: true,
    })
    .unwrap();
    router(Served {
        store: Arc::new(store),
        interfaces,
        certificate: Some(Arc::new(dir.join("tls.pem"))),
    })
}

#[tokio::test]
async fn an_account_is_made_changed_listed_and_removed() {
    let service = Service::new();
    let password = |text: &str| Some(json!({"password": text}));
    assert_eq!(service.file(), "");
    let (status, body) = service
        .ask("PUT", "/accounts/alice", password("first password"))
        .await;
    assert_eq!((status, body), (StatusCode::CREATED, json!({"user": "alice"})));
    let first = service.file();
    assert!(
        first.starts_with("alice:$2y$10$") && first.lines().count() == 1,
        "{first}"
    );
    assert!(bcrypt::verify("first password", first.trim_end().split_once(':').unwrap().1).unwrap());
    assert!(service.dir.path().join("data/alice").is_dir());
    let mode = fs::metadata(service.dir.path().join("users"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640);

    let (status, _) = service
        .ask("PUT", "/accounts/alice", password("second password"))
        .await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        !bcrypt::verify(
            "first password",
            service.file().trim_end().split_once(':').unwrap().1
        )
        .unwrap()
    );
    service
        .ask("PUT", "/accounts/bob", password("a third password"))
        .await;
    let (_, body) = service.ask("GET", "/accounts", None).await;
    assert_eq!(body, json!({"users": ["alice", "bob"]}));

    fs::write(service.dir.path().join("data/alice/file"), "hers").unwrap();
    for _ in 0..2 {
        let (status, _) = service.ask("DELETE", "/accounts/alice", None).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        assert_eq!(
            service.ask("GET", "/accounts/alice", None).await.0,
            StatusCode::NOT_FOUND
        );
        assert!(!service.dir.path().join("data/alice").exists());
    }
    assert_eq!(service.ask("GET", "/accounts/bob", None).await.0, StatusCode::OK);
    assert!(service.file().starts_with("bob:") && service.file().lines().count() == 1);
}

#[tokio::test]
async fn who_is_not_the_machine_gets_and_changes_nothing() {
    let service = Service::new();
    let body = || Some(json!({"password": "first password"}));
    // The container itself, another of its network, the proxy's network, a device, and IPv6.
    for source in [
        "127.0.0.1",
        "172.21.0.18",
        "172.21.0.20",
        "172.21.0.1",
        "10.42.0.2",
        "::1",
    ] {
        for (method, path) in [
            ("PUT", "/accounts/alice"),
            ("DELETE", "/accounts/alice"),
            ("GET", "/accounts"),
            ("GET", "/accounts/alice"),
            ("PUT", "/certificate"),
            ("GET", "/nothing"),
            ("GET", "/health/"),
        ] {
            let (status, _) = service.ask_as(method, path, body(), source).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path} {source}");
        }
        let (status, _) = service.ask_as("GET", "/health", None, source).await;
        let own = source == "127.0.0.1";
        let expected = if own {
            StatusCode::OK
        } else {
            StatusCode::FORBIDDEN
        };
        assert_eq!(status, expected, "{source}");
    }
    assert_eq!(service.file(), "");
    assert_eq!(service.ask("GET", "/health", None).await.0, StatusCode::OK);
    assert_eq!(
        service.ask("PUT", "/accounts/alice", body()).await.0,
        StatusCode::CREATED
    );
}

/// Who asks cannot be told when the kernel does not say which addresses are the container's: then nobody is answered.
#[tokio::test]
async fn without_addresses_of_its_own_it_answers_nobody() {
    let dir = tempfile::tempdir().unwrap();
    for (told, expected) in [
        (Ok(()), StatusCode::FORBIDDEN),
        (Err(()), StatusCode::INTERNAL_SERVER_ERROR),
    ] {
        let mut service = Service::new();
        service.router = open_as(
            dir.path(),
            Arc::new(move || told.map(|()| Vec::new()).map_err(|()| io::Error::other("no"))),
        );
        for source in [MACHINE, "127.0.0.1"] {
            let (status, _) = service.ask_as("GET", "/accounts", None, source).await;
            assert_eq!(status, expected, "{source}");
        }
    }
}

#[tokio::test]
async fn what_is_not_a_user_or_a_password_changes_nothing() {
    let service = Service::new();
    for path in [
        "/accounts/..%2fa",
        "/accounts/A",
        "/accounts/a%0ab",
        "/accounts/a:b",
        "/accounts/%23a",
    ] {
        let (status, _) = service
            .ask("PUT", path, Some(json!({"password": "first password"})))
            .await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(
            service.ask("DELETE", path, None).await.0,
            StatusCode::BAD_REQUEST,
            "{path}"
        );
    }
    for body in [
        json!({}),
        json!({"password": "short"}),
        json!({"password": "x".repeat(73)}),
        json!({"password": "first password", "more": 1}),
        json!(null),
    ] {
        let (status, said) = service.ask("PUT", "/accounts/alice", Some(body.clone())).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(
            !said.to_string().contains("short"),
            "a password is not repeated: {said}"
        );
    }
    let long = json!({"password": "x".repeat(100_000)});
    assert_eq!(
        service.ask("PUT", "/accounts/alice", Some(long)).await.0,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    assert_eq!(service.file(), "");
    assert_eq!(fs::read_dir(service.dir.path().join("data")).unwrap().count(), 0);
}

/// A removal that was cut short between the two halves is finished at the next start, and by a new account of that name.
#[tokio::test]
async fn a_removal_is_finished_after_a_crash() {
    for restart in [true, false] {
        let mut service = Service::new();
        let data = service.dir.path().join("data");
        fs::create_dir(data.join("alice")).unwrap();
        fs::write(data.join("alice/mail"), "hers").unwrap();
        fs::write(service.dir.path().join("users"), "#removing alice\n").unwrap();
        assert_eq!(
            service.ask("GET", "/accounts/alice", None).await.0,
            StatusCode::NOT_FOUND
        );
        if restart {
            service.router = open(service.dir.path());
            assert!(!data.join("alice").exists());
            assert_eq!(service.file(), "");
        }
        let body = Some(json!({"password": "first password"}));
        assert_eq!(
            service.ask("PUT", "/accounts/alice", body).await.0,
            StatusCode::CREATED
        );
        assert_eq!(
            fs::read_dir(data.join("alice")).unwrap().count(),
            0,
            "nobody inherits"
        );
    }
}

#[tokio::test]
async fn a_file_of_somebody_elses_is_left_as_it_is() {
    let service = Service::new();
    fs::write(service.dir.path().join("users"), "alice:plain\n").unwrap();
    let body = Some(json!({"password": "first password"}));
    let (status, said) = service.ask("PUT", "/accounts/bob", body).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(said["error"].as_str().unwrap().contains("line 1"), "{said}");
    assert_eq!(service.file(), "alice:plain\n");
    assert_eq!(
        service.ask("GET", "/health", None).await.0,
        StatusCode::INTERNAL_SERVER_ERROR
    );
}

/// The service that writes a user's folder may put a link in its place: what it leads to stays.
#[tokio::test]
async fn a_link_in_place_of_a_folder_is_not_followed() {
    let service = Service::new();
    let body = Some(json!({"password": "first password"}));
    service.ask("PUT", "/accounts/alice", body).await;
    let (data, other) = (service.dir.path().join("data"), service.dir.path().join("other"));
    fs::create_dir(&other).unwrap();
    fs::write(other.join("kept"), "").unwrap();
    symlink(&other, data.join("alice/link")).unwrap();
    assert_eq!(
        service.ask("DELETE", "/accounts/alice", None).await.0,
        StatusCode::NO_CONTENT
    );
    assert!(other.join("kept").exists() && !data.join("alice").exists());
}

#[tokio::test]
async fn a_certificate_is_replaced_with_its_key_or_not_at_all() {
    let service = Service::new();
    let made = || {
        let made = rcgen::generate_simple_self_signed(["mail.cell".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    };
    let ((chain, key), (other, _)) = (made(), made());
    let path = service.dir.path().join("tls.pem");
    let (status, _) = service
        .ask("PUT", "/certificate", Some(json!({"chain": chain, "key": key})))
        .await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let before = fs::read_to_string(&path).unwrap();
    assert!(before.contains(chain.trim()) && before.contains(key.trim()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    let (status, said) = service
        .ask("PUT", "/certificate", Some(json!({"chain": other, "key": key})))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(!said.to_string().contains("PRIVATE"));
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
}
