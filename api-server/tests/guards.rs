//! Every route against every kind of caller, generated from the OpenAPI document. No test goes past the guards.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use cell_api::service::{Actor, Remote};
use cell_api::store::transaction::{Origin, SessionChange};
use cell_api::store::{sessions, users};
use cell_api::sweep;
use cell_api_core::password::Password;
use cell_api_core::role::{self, Requirement, Role};
use serde_json::json;
use support::client::{Answer, Client};
use support::{Cell, PASSWORD, operations};

async fn call(client: &Client, method: &str, path: &str, body: bool) -> Answer {
    let json = body.then(|| b"{}".to_vec());
    let headers: &[(&str, &str)] = if body {
        &[("content-type", "application/json")]
    } else {
        &[]
    };
    client.send(method, path, headers, json).await
}

fn is_stream(path: &str) -> bool {
    path == "/api/events"
}

#[tokio::test(flavor = "multi_thread")]
async fn before_setup_every_route_but_setups_own_answers_428() {
    let cell = Cell::start().await;
    let client = cell.client();
    let mut seen = 0;
    for (method, path, body) in operations() {
        let answer = call(&client, &method, &path, body).await;
        if path == "/health" {
            answer.expect(200);
        } else if path.starts_with("/api/setup/") {
            assert_ne!(answer.status, 428, "{method} {path}");
        } else {
            answer.refused(428, "SETUP_REQUIRED");
            seen += 1;
        }
    }
    assert!(seen > 20);
    client.get("/api/nothing").await.refused(428, "SETUP_REQUIRED");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_for_nobody_a_peer_and_an_administrator() {
    let cell = Cell::ready().await;
    let peer = cell.peer_user("ben").await;
    let admin = cell.admin().await;
    let nobody = cell.client();
    for (method, path, body) in operations() {
        let requirement = if path == "/health" {
            Requirement::Public
        } else {
            role::requirement(&path)
        };
        if path == "/api/auth/logout" || path == "/health" {
            continue;
        }
        let outcomes = [
            (call(&nobody, &method, &path, body).await, None),
            (
                if is_stream(&path) {
                    continue;
                } else {
                    call(&peer, &method, &path, body).await
                },
                Some(Role::Peer),
            ),
            (call(&admin, &method, &path, body).await, Some(Role::Admin)),
        ];
        for (answer, role) in outcomes {
            let allowed = match (requirement, role) {
                (Requirement::Setup | Requirement::Public, _) => true,
                (_, None) => false,
                (Requirement::User | Requirement::OwnSession, Some(_)) => true,
                (Requirement::Role(wanted), Some(role)) => wanted == role,
            };
            let place = format!("{method} {path} as {role:?}: {}", answer.text);
            assert!(answer.status != 405 && answer.code() != "NO_ROUTE", "{place}");
            match (allowed, role) {
                (true, _) => assert!(
                    !["NO_SESSION", "ROLE", "CSRF"].contains(&answer.code().as_str()),
                    "{place}"
                ),
                (false, None) => assert_eq!(
                    (answer.status, answer.code().as_str()),
                    (401, "NO_SESSION"),
                    "{place}"
                ),
                (false, Some(_)) => {
                    assert_eq!((answer.status, answer.code().as_str()), (403, "ROLE"), "{place}")
                }
            }
        }
    }
    nobody.get("/api/events").await.refused(401, "NO_SESSION");
    peer.get("/api/events").await.refused(403, "ROLE");
    for path in [
        "/api",
        "/api/",
        "/api/nothing",
        "/api/%61uth/login",
        "/api/auth/login/",
        "/api/setup",
    ] {
        nobody.get(path).await.refused(401, "NO_SESSION");
        peer.get(path).await.refused(403, "ROLE");
        admin.get(path).await.refused(404, "NO_ROUTE");
    }
    admin
        .send("PATCH", "/api/peers", &[], None)
        .await
        .refused(405, "METHOD");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_needs_the_sessions_own_csrf_token() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let other = cell.admin().await;
    let mut seen = 0;
    for (method, path, body) in operations() {
        let exempt = path.starts_with("/api/setup/") || path == "/api/auth/login";
        if method == "GET" || exempt {
            continue;
        }
        for token in [
            None,
            Some(String::new()),
            Some("x".repeat(43)),
            other.csrf.clone(),
        ] {
            let client = Client {
                csrf: token,
                ..admin.clone()
            };
            call(&client, &method, &path, body).await.refused(403, "CSRF");
        }
        let twice = [
            ("x-csrf-token", admin.csrf.as_deref().unwrap()),
            ("content-type", "application/json"),
        ];
        admin
            .send(&method, &path, &twice, Some(b"{}".to_vec()))
            .await
            .refused(403, "CSRF");
        for from in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "null"),
            ("origin", "http://evil.example"),
            ("origin", "https://127.0.0.1"),
        ] {
            let answer = admin.send(&method, &path, &[from], Some(b"{}".to_vec())).await;
            answer.refused(403, "CROSS_SITE");
        }
        seen += 1;
    }
    assert!(seen >= 9, "{seen}");
    // The same with the right token is let through to the handler.
    let answer = admin.post("/api/peers", &json!({})).await;
    answer.refused(400, "INVALID_REQUEST");
    for exempt in ["/api/auth/login", "/api/setup/step/claim"] {
        let cross = [
            ("sec-fetch-site", "cross-site"),
            ("content-type", "application/json"),
        ];
        cell.client()
            .send("POST", exempt, &cross, Some(b"{}".to_vec()))
            .await
            .refused(403, "CROSS_SITE");
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "application/json; charset=utf-16",
        ] {
            let answer = cell
                .client()
                .send("POST", exempt, &[("content-type", kind)], Some(b"{}".to_vec()))
                .await;
            answer.refused(415, "NOT_JSON");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_listeners_own_names_are_answered() {
    let cell = Cell::ready().await;
    let client = cell.client();
    let port = cell.address.port();
    for good in [
        format!("localhost:{port}"),
        format!("LOCALHOST:{port}"),
        format!("[::1]:{port}"),
    ] {
        client
            .send("GET", "/health", &[("host", &good)], None)
            .await
            .expect(200);
    }
    for bad in [
        "localhost".to_owned(),
        format!("localhost.:{port}"),
        format!("evil.example:{port}"),
        format!("localhost.evil:{port}"),
        format!("2130706433:{port}"),
        format!("127.1:{port}"),
        format!("[::1%25lo]:{port}"),
        "127.0.0.1:1".to_owned(),
        "home.cell".to_owned(),
        "10.86.0.1".to_owned(),
    ] {
        client
            .send("GET", "/health", &[("host", &bad)], None)
            .await
            .refused(421, "HOST");
        client
            .send("GET", "/api/status", &[("host", &bad)], None)
            .await
            .refused(421, "HOST");
    }
    let forwarded = [("x-forwarded-host", "evil.example")];
    client.send("GET", "/health", &forwarded, None).await.expect(200);
    let own = cell.address;
    let two = format!("GET /health HTTP/1.1\r\nHost: {own}\r\nHost: {own}\r\nConnection: close\r\n\r\n");
    assert!(
        client.raw(two.as_bytes()).await.starts_with("HTTP/1.1 4"),
        "two Host headers"
    );
    let none = client
        .raw(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")
        .await;
    assert!(none.starts_with("HTTP/1.1 421"), "{none}");
    let absolute =
        format!("GET http://evil.example/health HTTP/1.1\r\nHost: {own}\r\nConnection: close\r\n\r\n");
    let answer = client.raw(absolute.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_the_security_headers() {
    let cell = Cell::ready().await;
    for path in ["/health", "/api/peers", "/api/nothing", "/", "/assets/none.js"] {
        let answer = cell.client().get(path).await;
        let header = |name: &str| {
            answer
                .headers
                .get(name)
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        };
        let is_page = !path.starts_with("/api");
        let (policy, opener, referrer, frames) = if is_page {
            (
                "default-src 'none'; script-src 'self';",
                "same-origin",
                "no-referrer",
                "DENY",
            )
        } else {
            (
                "default-src 'none'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
                "",
                "",
                "",
            )
        };
        assert!(header("content-security-policy").starts_with(policy), "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("x-frame-options"), frames, "{path}");
        let cached = header("cache-control");
        assert!(is_page || cached == "no-store", "{path}: {cached}");
        assert_eq!(header("cross-origin-opener-policy"), opener, "{path}");
        assert_eq!(header("cross-origin-resource-policy"), "same-origin");
        assert_eq!(header("referrer-policy"), referrer, "{path}");
        assert_eq!(
            header("strict-transport-security"),
            "",
            "plain HTTP does not promise HTTPS"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_failures_lock_the_account_for_a_quarter_of_an_hour() {
    let cell = Cell::ready().await;
    let client = cell.client();
    for name in ["anna", "nobody-of-this-name"] {
        let wrong = json!({"username": name, "password": "wrong wrong wrong"});
        for _ in 0..5 {
            client.post("/api/auth/login", &wrong).await.refused(401, "LOGIN");
        }
        let answer = client.post("/api/auth/login", &wrong).await;
        answer.refused(429, "LOCKED");
        assert_eq!(answer.headers["retry-after"], "900", "{name}");
        cell.advance(std::time::Duration::from_secs(300));
    }
    let right = json!({"username": "anna", "password": PASSWORD});
    client
        .post("/api/auth/login", &right)
        .await
        .refused(429, "LOCKED");
    cell.advance(std::time::Duration::from_secs(300));
    client.post("/api/auth/login", &right).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_may_fail_ten_times_and_good_logins_cost_nothing() {
    let cell = Cell::ready().await;
    let client = cell.client();
    let right = json!({"username": "anna", "password": PASSWORD});
    for _ in 0..3 {
        client.post("/api/auth/login", &right).await.expect(200);
    }
    for n in 0..10 {
        let wrong = json!({"username": format!("user-{n}"), "password": "wrong wrong wrong"});
        client.post("/api/auth/login", &wrong).await.refused(401, "LOGIN");
    }
    let answer = client.post("/api/auth/login", &right).await;
    answer.refused(429, "THROTTLED");
    assert_eq!(answer.headers["retry-after"], "30");
    cell.advance(std::time::Duration::from_secs(31));
    client.post("/api/auth/login", &right).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_when_idle_in_the_end_and_by_logout_and_password() {
    let cell = Cell::ready().await;
    let minutes = |n: u64| std::time::Duration::from_secs(n * 60);
    let idle = cell.admin().await;
    cell.advance(minutes(29));
    idle.get("/api/auth/me").await.expect(200);
    cell.advance(minutes(31));
    idle.get("/api/auth/me").await.refused(401, "NO_SESSION");

    let busy = cell.admin().await;
    for _ in 0..28 {
        cell.advance(minutes(25));
        busy.get("/api/auth/me").await.expect(200);
    }
    cell.advance(minutes(25));
    busy.get("/api/auth/me").await.refused(401, "NO_SESSION");

    let (one, two) = (cell.admin().await, cell.admin().await);
    one.post("/api/auth/logout", &json!({})).await.expect(204);
    one.get("/api/auth/me").await.refused(401, "NO_SESSION");
    let three = cell.admin().await;
    let change = json!({"current_password": PASSWORD, "new_password": "another good one"});
    let changed = two.post("/api/auth/change-password", &change).await.expect(204);
    two.get("/api/auth/me").await.refused(401, "NO_SESSION");
    let two = two.with_cookie_of(&changed).await;
    two.get("/api/auth/me").await.expect(200);
    two.post("/api/auth/logout", &json!({})).await.expect(204);
    three.get("/api/auth/me").await.refused(401, "NO_SESSION");
}

/// A page that is left open looks again and again, and its event stream comes back whenever it ends.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_page_asks_by_itself_does_not_make_a_session_last() {
    let cell = Cell::ready().await;
    let minutes = |n: u64| std::time::Duration::from_secs(n * 60);
    // Whatever the header says: it can only take away.
    for value in ["1", "0", ""] {
        let left_open = cell.admin().await;
        for _ in 0..2 {
            cell.advance(minutes(14));
            let background = [("x-cell-background", value)];
            let answer = left_open.send("GET", "/api/status", &background, None).await;
            answer.expect(200);
        }
        cell.advance(minutes(3));
        left_open.get("/api/auth/me").await.refused(401, "NO_SESSION");
    }

    let streaming = cell.admin().await;
    for _ in 0..2 {
        cell.advance(minutes(14));
        let head = streaming.stream_head("/api/events").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
    cell.advance(minutes(3));
    streaming.get("/api/auth/me").await.refused(401, "NO_SESSION");

    // The control: the same pace by a person.
    let used = cell.admin().await;
    for _ in 0..2 {
        cell.advance(minutes(14));
        used.get("/api/status").await.expect(200);
    }
    cell.advance(minutes(3));
    used.get("/api/auth/me").await.expect(200);
    // Nor does it end one.
    used.send("GET", "/api/auth/me", &[("x-cell-background", "1")], None)
        .await
        .expect(200);
    // And it is no way around the guards.
    let change = [
        ("x-cell-background", "1"),
        ("content-type", "application/json"),
        ("x-csrf-token", "x"),
    ];
    let answer = used
        .send("POST", "/api/peers", &change, Some(b"{}".to_vec()))
        .await;
    answer.refused(403, "CSRF");
    let nobody = cell.client();
    let answer = nobody.send("GET", "/api/status", &change[..1], None).await;
    answer.refused(401, "NO_SESSION");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_knows_of_a_sessions_use_is_the_persons_alone() {
    let cell = Cell::ready().await;
    let seen = || {
        let sql = "SELECT MAX(seen_unix_ms) FROM session";
        let read = cell
            .app
            .store
            .read(|c| Ok(c.query_row(sql, (), |row| row.get::<_, i64>(0))?));
        read.unwrap()
    };
    let admin = cell.admin().await;
    let before = seen();
    cell.advance(std::time::Duration::from_secs(300));
    let background = [("x-cell-background", "1")];
    admin
        .send("GET", "/api/status", &background, None)
        .await
        .expect(200);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(seen(), before, "a page that is left open");
    admin.get("/api/status").await.expect(200);
    support::eventually("a person's use is noted", || seen() == before + 300_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reset_nothing_but_the_password_can_be_done() {
    let cell = Cell::ready().await;
    let ben = cell.peer_user("ben").await;
    let admin = cell.admin().await;
    let reset = json!({"username": "ben", "new_password": "temporary password"});
    admin
        .post("/api/auth/admin/reset-password", &reset)
        .await
        .expect(204);
    ben.get("/api/auth/me").await.refused(401, "NO_SESSION");
    let mut ben = cell.client();
    ben.login("ben", "temporary password").await;
    ben.get("/api/services/active")
        .await
        .refused(403, "MUST_CHANGE_PASSWORD");
    ben.get("/api/peer/me").await.refused(403, "MUST_CHANGE_PASSWORD");
    let change = json!({"current_password": "wrong", "new_password": "a password of my own"});
    ben.post("/api/auth/change-password", &change)
        .await
        .refused(403, "WRONG_PASSWORD");
    let change = json!({"current_password": "temporary password", "new_password": "a password of my own"});
    let changed = ben.post("/api/auth/change-password", &change).await.expect(204);
    let ben = ben.with_cookie_of(&changed).await;
    ben.get("/api/services/active").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_administrator_stays() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    admin
        .delete("/api/auth/users/anna")
        .await
        .refused(409, "LAST_ADMIN");
    let user = json!({"username": "eve", "password": "a good password", "role": "admin"});
    admin.post("/api/auth/users", &user).await.expect(201);
    admin
        .post("/api/auth/users", &user)
        .await
        .refused(409, "USER_EXISTS");
    admin.delete("/api/auth/users/anna").await.expect(204);
    admin.get("/api/auth/me").await.refused(401, "NO_SESSION");
}

/// What an administrator's reset does to the database, at once and without hashing.
async fn reset_now(cell: &Cell, username: &'static str, hash: String) {
    let origin = Origin::new(&Actor::unknown(&Remote::local()), cell.app.now());
    cell.app
        .store
        .mutate(origin, move |tx| {
            assert!(users::set_password(tx, username, &hash, true)?);
            sessions::delete_of(tx, username)?;
            let ended = SessionChange::UserClosed(username.to_owned());
            tx.effects.sessions.push(ended);
            tx.audit("user.reset-password", username, "");
            Ok(())
        })
        .await
        .unwrap();
}

/// A machine that is busy with other things refuses what waits too long for its place (503), which shows nothing; then it is tried
/// with another cell.
async fn unless_busy<F: Future<Output = bool>>(attempt: impl Fn() -> F) {
    for _ in 0..5 {
        if attempt().await {
            return;
        }
    }
    panic!("refused as busy each time: nothing was tested");
}

/// Both places for hashing are taken, so that what is asked now waits between its reading and its writing.
fn hold_up(cell: &Cell) {
    for _ in 0..4 {
        let app = std::sync::Arc::clone(&cell.app);
        tokio::spawn(async move { app.hasher.hash(Password::new("something else".to_owned())).await });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_is_not_undone_by_a_change_that_was_under_way() {
    unless_busy(reset_amid_a_change).await;
}

/// Whether it was tested.
async fn reset_amid_a_change() -> bool {
    let cell = Cell::ready().await;
    let ben = cell.peer_user("ben").await;
    let reset = "set by the administrator";
    let hash = cell
        .app
        .hasher
        .hash(Password::new(reset.to_owned()))
        .await
        .unwrap();
    hold_up(&cell);
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let changing = {
        let ben = ben.clone();
        let change = json!({"current_password": PASSWORD, "new_password": "chosen by somebody else"});
        tokio::spawn(async move { ben.post("/api/auth/change-password", &change).await })
    };
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    reset_now(&cell, "ben", hash).await;
    let changed = changing.await.unwrap();
    if changed.status == 503 {
        return false;
    }
    changed.refused(401, "NO_SESSION");
    ben.get("/api/auth/me").await.refused(401, "NO_SESSION");
    let theirs = json!({"username": "ben", "password": "chosen by somebody else"});
    cell.client()
        .post("/api/auth/login", &theirs)
        .await
        .refused(401, "LOGIN");
    let mut again = cell.client();
    again.login("ben", reset).await;
    let me = again.get("/api/auth/me").await.expect(200).json();
    assert_eq!(me["must_change_password"], true);
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_with_the_old_password_opens_nothing_after_a_reset() {
    unless_busy(login_amid_a_reset).await;
}

/// Whether it was tested.
async fn login_amid_a_reset() -> bool {
    let cell = Cell::ready().await;
    drop(cell.peer_user("ben").await);
    let hash = cell
        .app
        .hasher
        .hash(Password::new("set by the administrator".to_owned()))
        .await;
    hold_up(&cell);
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let login = {
        let (client, old) = (cell.client(), json!({"username": "ben", "password": PASSWORD}));
        tokio::spawn(async move { client.post("/api/auth/login", &old).await })
    };
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    reset_now(&cell, "ben", hash.unwrap()).await;
    let login = login.await.unwrap();
    if login.status == 503 {
        return false;
    }
    login.refused(401, "LOGIN");
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_is_not_undone_by_a_change_that_was_under_way() {
    unless_busy(logout_amid_a_change).await;
}

/// Whether it was tested.
async fn logout_amid_a_change() -> bool {
    let cell = Cell::ready().await;
    let ben = cell.peer_user("ben").await;
    hold_up(&cell);
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let changing = {
        let ben = ben.clone();
        let change = json!({"current_password": PASSWORD, "new_password": "another good one"});
        tokio::spawn(async move { ben.post("/api/auth/change-password", &change).await })
    };
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    ben.post("/api/auth/logout", &json!({})).await.expect(204);
    let changed = changing.await.unwrap();
    if changed.status == 503 {
        return false;
    }
    changed.refused(401, "NO_SESSION");
    ben.get("/api/auth/me").await.refused(401, "NO_SESSION");
    let mut again = cell.client();
    again.login("ben", PASSWORD).await;
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_is_forgotten() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let stored = || {
        let database = rusqlite::Connection::open(cell.state().join("cell.db")).unwrap();
        database
            .query_row("SELECT COUNT(*) FROM session", (), |row| row.get::<_, u64>(0))
            .unwrap()
    };
    sweep::sweep(&cell.app).await.unwrap();
    assert_eq!(stored(), 1);
    admin.get("/api/auth/me").await.expect(200);
    cell.advance(cell.app.config.session_absolute);
    sweep::sweep(&cell.app).await.unwrap();
    assert_eq!(stored(), 0);
}
