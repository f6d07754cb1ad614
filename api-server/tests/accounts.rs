//! Accounts at services: made at all of them or at none, whoever fails meanwhile, shown once and kept nowhere. The same stories with an
//! interface that is made up and with the program that images have.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cell_proto::api::v1 as wire;
use cell_proto::api::v1::account_service_client::AccountServiceClient;
use cell_proto::{fault, ipc};
use serde_json::{Value, json};
use support::accounts::{Accounts, Fails};
use support::broker::FakeBroker;
use support::catalog::{self, notes};
use support::client::Client;
use support::{Cell, add};

/// A cell with two services that have accounts and one that has none.
struct World {
    cell: Cell,
    _broker: FakeBroker,
    admin: Client,
    calendar: Accounts,
    email: Accounts,
}

impl World {
    async fn new(calendar: Accounts, email: Accounts) -> World {
        let cell = Cell::ready().await;
        let broker = FakeBroker::start(cell.state().join("broker.sock"));
        broker.state.lock().unwrap().address = Some(std::net::Ipv4Addr::LOCALHOST);
        let manifests = [
            calendar.manifest("calendar"),
            email.manifest("email"),
            notes("1.0.0"),
        ];
        catalog::write(&cell.state().join("catalog"), &manifests);
        let admin = cell.admin().await;
        add(&admin, "Phone", 1).await;
        for service in ["calendar", "email", "notes"] {
            install(&admin, service).await;
        }
        World {
            cell,
            _broker: broker,
            admin,
            calendar,
            email,
        }
    }

    async fn made_up() -> World {
        World::new(Accounts::made_up().await, Accounts::made_up().await).await
    }

    async fn real() -> World {
        World::new(Accounts::real().await, Accounts::real().await).await
    }

    async fn listed(&self, service: &str) -> BTreeSet<String> {
        let told = self.admin.get(&format!("/api/services/{service}/accounts")).await;
        let told = told.expect(200).json();
        let all = told["accounts"].as_array().unwrap();
        all.iter()
            .map(|one| {
                format!(
                    "{} {}",
                    one["user"].as_str().unwrap(),
                    one["peer"].as_str().unwrap_or("-")
                )
            })
            .collect()
    }

    /// Nobody has anything, and nothing is half made.
    async fn is_empty(&self) -> bool {
        let stored = self.cell.app.store.read(cell_api::store::accounts::list).unwrap();
        stored.is_empty() && self.calendar.users().is_empty() && self.email.users().is_empty()
    }

    async fn becomes_empty(&self) {
        let begun = Instant::now();
        while !self.is_empty().await {
            assert!(begun.elapsed() < Duration::from_secs(20), "something is left");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn install(admin: &Client, service: &str) {
    admin
        .post(&format!("/api/services/{service}/install"), &json!({}))
        .await
        .expect(202);
    stands(admin, service, "installed").await;
}

async fn stands(admin: &Client, service: &str, phase: &str) {
    let begun = Instant::now();
    loop {
        let told = admin.get(&format!("/api/services/{service}")).await;
        let is_gone = phase == "gone" && told.status == 404;
        if is_gone || told.status == 200 && told.json()["phase"] == phase {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{service} is never {phase}"
        );
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

fn both() -> Value {
    json!({"peer": "Phone", "services": ["email", "calendar"]})
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn one_story(world: &World) {
    let admin = &world.admin;
    let made = admin.post("/api/accounts", &both()).await.expect(201).json();
    let credentials = made["credentials"].as_array().unwrap();
    let services: Vec<_> = credentials
        .iter()
        .map(|one| one["service"].as_str().unwrap())
        .collect();
    assert_eq!(services, ["calendar", "email"]);
    let password = |at: usize| credentials[at]["password"].as_str().unwrap().to_owned();
    assert_eq!(
        (password(0).len(), &credentials[0]["user"]),
        (24, &json!("phone"))
    );
    assert_ne!(password(0), password(1), "each has its own");
    assert_eq!(
        credentials[1]["where"],
        json!(["https://email.home.cell/", "imaps://email.home.cell:993"])
    );
    let by_egress = world.cell.egress.state.lock().unwrap().connected.len();
    assert!(by_egress >= 4, "cell-api has no network of its own: {by_egress}");
    assert!(world.calendar.takes("phone", &password(0)) && world.email.takes("phone", &password(1)));
    assert!(!world.calendar.takes("phone", &password(1)), "the control");
    assert_eq!(world.listed("calendar").await, set(&["phone Phone"]));

    // Kept nowhere.
    let mut kept = Vec::new();
    for file in std::fs::read_dir(world.cell.state()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            kept.extend(std::fs::read(&path).unwrap());
        }
    }
    let holds = |text: &str| kept.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds("account.create"), "the control");
    assert!(!holds(&password(0)) && !holds(&password(1)));

    // The same again is refused, and so is one with another that would be new.
    let more = json!({"peer": "Phone", "user": "phone", "services": ["calendar"]});
    let refused = admin.post("/api/accounts", &more).await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "ACCOUNT_EXISTS"));
    assert!(
        world.calendar.takes("phone", &password(0)),
        "it has its password still"
    );

    let reset = admin
        .post("/api/services/calendar/accounts/phone/password", &json!({}))
        .await
        .expect(200)
        .json();
    let new = reset["password"].as_str().unwrap();
    assert!(world.calendar.takes("phone", new) && !world.calendar.takes("phone", &password(0)));

    let path = "/api/services/calendar/accounts/phone";
    let plan = admin.delete(&format!("{path}?validate_only=true")).await;
    assert!(
        plan.expect(200).json()["plan"]
            .to_string()
            .contains("deleted with it")
    );
    assert_eq!(world.listed("calendar").await.len(), 1);
    admin.delete(path).await.expect(204);
    assert_eq!(world.calendar.users(), set(&[]));
    assert_eq!(world.listed("calendar").await, set(&[]));
    let gone = admin.delete(path).await;
    assert_eq!((gone.status, gone.code().as_str()), (404, "NO_ACCOUNT"));

    // A device that goes leaves its accounts, or takes them along.
    admin.delete("/api/peers/Phone").await.expect(204);
    assert_eq!(world.listed("email").await, set(&["phone -"]));
    admin
        .delete("/api/services/email/accounts/phone")
        .await
        .expect(204);
    add(admin, "Phone", 2).await;
    admin.post("/api/accounts", &both()).await.expect(201);
    let waits = "/api/peers/Phone?delete_accounts=true&confirm_within=60";
    assert_eq!(admin.delete(waits).await.status, 400);
    // What it would do says so, and of a removal that leaves them says nothing of it.
    let plan = async |query: &str| {
        let path = format!("/api/peers/Phone?validate_only=true{query}");
        let told = admin.delete(&path).await.expect(200).json();
        let all = told["statements"].as_array().unwrap().clone();
        let of_accounts = all.iter().find(|one| one["kind"] == "accounts");
        of_accounts.map(|one| one["text"].as_str().unwrap().to_owned())
    };
    assert_eq!(plan("").await, None);
    let told = plan("&delete_accounts=true").await.unwrap();
    let expected = "Accounts of Phone are deleted with all that is kept in them, for good: phone at calendar, phone at email.";
    assert_eq!(told, expected);
    assert_eq!(world.listed("email").await, set(&["phone Phone"]));
    admin
        .delete("/api/peers/Phone?delete_accounts=true")
        .await
        .expect(204);
    world.becomes_empty().await;

    let audit = admin
        .get("/api/audit?limit=500")
        .await
        .expect(200)
        .json()
        .to_string();
    for action in ["account.create", "account.password", "account.remove"] {
        assert!(audit.contains(action), "{action}");
    }
    assert!(!audit.contains(new));
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_made_shown_once_and_removed() {
    one_story(&World::made_up().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_of_the_images_does_the_same() {
    one_story(&World::real().await).await;
}

async fn all_or_nothing(world: &World) {
    let admin = &world.admin;
    for (method, fails, status, code) in [
        ("PUT", Fails::Broken, 503, "ACCOUNTS_AWAY"),
        ("PUT", Fails::AnswerLost, 503, "ACCOUNTS_AWAY"),
        ("PUT", Fails::Refuses, 409, "ACCOUNTS_REFUSED"),
        ("PUT", Fails::Redirects, 409, "ACCOUNTS_REFUSED"),
        ("GET", Fails::Broken, 503, "ACCOUNTS_AWAY"),
    ] {
        // The second of the two, in the order of names.
        world.email.fail(method, Some(fails));
        let refused = admin.post("/api/accounts", &both()).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (status, code),
            "{method} {fails:?}"
        );
        assert!(refused.json()["detail"].as_str().unwrap().contains("email"));
        world.email.fail(method, None);
        world.becomes_empty().await;
    }
    // What cannot even be taken back is, when the service answers again.
    world.calendar.fail("DELETE", Some(Fails::Broken));
    world.email.fail("PUT", Some(Fails::Broken));
    assert_eq!(admin.post("/api/accounts", &both()).await.status, 503);
    assert_eq!(
        world.calendar.users(),
        set(&["phone"]),
        "the control: it was made"
    );
    assert_eq!(world.listed("calendar").await, set(&[]), "and is none");
    world.email.fail("PUT", None);
    let busy = admin.post("/api/accounts", &both()).await;
    assert_eq!(busy.code(), "ACCOUNT_EXISTS", "while it is being removed");
    world.calendar.fail("DELETE", None);
    world.becomes_empty().await;
    admin.post("/api/accounts", &both()).await.expect(201);
    assert_eq!(world.listed("email").await, set(&["phone Phone"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_made_or_none() {
    all_or_nothing(&World::made_up().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_made_or_none_by_the_program_of_the_images() {
    all_or_nothing(&World::real().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_wrongly_is_told_and_nobody_is_asked() {
    let world = World::made_up().await;
    let admin = &world.admin;
    let asked = || world.email.log.lock().unwrap().asked.len();
    let before = asked();
    for (body, status, code) in [
        (
            json!({"peer": "nobody", "services": ["email"]}),
            400,
            "INVALID_REQUEST",
        ),
        (
            json!({"peer": "Phone", "user": "A", "services": ["email"]}),
            400,
            "INVALID_REQUEST",
        ),
        (json!({"peer": "Phone", "services": []}), 400, "INVALID_REQUEST"),
        (
            json!({"peer": "Phone", "services": ["email", "email"]}),
            400,
            "INVALID_REQUEST",
        ),
        (
            json!({"peer": "Phone", "services": ["email", "notes"]}),
            412,
            "NO_ACCOUNTS",
        ),
        (
            json!({"peer": "Phone", "services": ["email", "other"]}),
            404,
            "NO_SERVICE",
        ),
    ] {
        let refused = admin.post("/api/accounts", &body).await;
        assert_eq!(refused.code(), code, "{body}");
        assert!(
            refused.status == status || code == "NO_ACCOUNTS" && refused.status == 409,
            "{body}"
        );
    }
    assert_eq!(asked(), before);
    assert_eq!(
        admin.get("/api/services/notes/accounts").await.code(),
        "NO_ACCOUNTS"
    );
    assert_eq!(
        admin.get("/api/services/other/accounts").await.code(),
        "NO_SERVICE"
    );
    // A stopped service makes none.
    admin
        .post("/api/services/email/stop", &json!({}))
        .await
        .expect(200);
    assert_eq!(admin.post("/api/accounts", &both()).await.code(), "ACCOUNTS_AWAY");
    assert!(world.is_empty().await);
    let other = world.cell.peer_user("bert").await;
    assert_eq!(other.post("/api/accounts", &both()).await.status, 403);
    assert_eq!(other.get("/api/services/email/accounts").await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_half_made_at_a_crash_is_taken_back_and_what_was_asked_to_go_goes() {
    let world = World::made_up().await;
    let admin = &world.admin;
    // Whoever asks goes away in the middle: it is done all the same, with or without him.
    world
        .email
        .fail("PUT", Some(Fails::Silent(Duration::from_millis(700))));
    let body = both();
    let asking = tokio::time::timeout(Duration::from_millis(300), admin.post("/api/accounts", &body));
    assert!(asking.await.is_err());
    let begun = Instant::now();
    while world.listed("email").await != set(&["phone Phone"]) {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.email.fail("PUT", None);
    // As a process leaves it that is killed between the steps: written down as being made, there or not.
    for service in ["calendar", "email"] {
        for (user, at_service) in [("made", true), ("unmade", false)] {
            if at_service {
                let accounts = if service == "email" {
                    &world.email
                } else {
                    &world.calendar
                };
                let client = put_at_service(accounts.port, user).await;
                assert_eq!(client, 201);
            }
            let account = cell_api::store::accounts::StoredAccount {
                service: service.to_owned(),
                user: cell_api_core::services::accounts::User::parse(user).unwrap(),
                peer: Some("Phone".to_owned()),
                stands: cell_api_core::services::accounts::Stands::Making,
                created_unix_ms: 1,
            };
            world
                .cell
                .app
                .store
                .note(move |connection| cell_api::store::accounts::insert(connection, &account))
                .await
                .unwrap();
        }
    }
    // It is looked at when the process starts, as it is now.
    world.cell.app.accounts_left.notify_one();
    let begun = Instant::now();
    while world.calendar.users() != set(&["phone"]) || world.email.users() != set(&["phone"]) {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(world.listed("calendar").await, set(&["phone Phone"]));
    // A removal that the service does not answer is done later.
    world.email.fail("DELETE", Some(Fails::Broken));
    let path = "/api/services/email/accounts/phone";
    let accepted = admin.delete(path).await.expect(202).json();
    let why = accepted["plan"][0].as_str().unwrap();
    assert!(
        why.contains("phone at email") && why.contains("cannot be changed now"),
        "{why}"
    );
    assert_eq!(world.listed("email").await, set(&[]), "it is none any more");
    assert_eq!(admin.delete(path).await.code(), "NO_ACCOUNT");
    world.email.fail("DELETE", None);
    let begun = Instant::now();
    while !world.email.users().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_hangs_keeps_nobody_from_another_and_not_many_waiting() {
    let world = World::made_up().await;
    let admin = &world.admin;
    admin.post("/api/accounts", &both()).await.expect(201);
    world
        .email
        .fail("PUT", Some(Fails::Silent(Duration::from_secs(2))));
    let reset = async |service: &str| {
        let path = format!("/api/services/{service}/accounts/phone/password");
        admin.post(&path, &json!({})).await
    };
    let hanging: Vec<_> = (0..7).map(|_| reset("email")).collect();
    let begun = Instant::now();
    let other = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let made = reset("calendar").await.expect(200);
        (made, begun.elapsed())
    };
    let (answers, (_, took)) = tokio::join!(futures_util::future::join_all(hanging), other);
    // Five hang one after the other, which takes ten seconds; the other service is not one of them.
    assert!(took < Duration::from_secs(8), "{took:?}");
    let count = |status: u16| answers.iter().filter(|one| one.status == status).count();
    assert!(
        count(200) >= 1 && count(503) >= 1,
        "{:?}",
        answers.iter().map(|one| one.status).collect::<Vec<_>>()
    );
    let refused = answers.iter().find(|one| one.status == 503).unwrap();
    assert_eq!(refused.code(), "ACCOUNTS_BUSY");
}

/// An account that the service has made for somebody else.
async fn put_at_service(port: u16, user: &str) -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let body = "{\"password\":\"0123456789\"}";
    let request = format!(
        "PUT /accounts/{user} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_of_data_that_is_kept_are_known_again_and_nobody_takes_them_over() {
    let world = World::made_up().await;
    let admin = &world.admin;
    assert_eq!(put_at_service(world.email.port, "phone").await, 201);
    let refused = admin.post("/api/accounts", &both()).await;
    assert_eq!(
        refused.code(),
        "ACCOUNT_EXISTS",
        "the service has one that the cell did not make"
    );
    assert_eq!(world.calendar.users(), set(&[]));
    assert!(world.email.takes("phone", "0123456789"));
    let begun = Instant::now();
    while world.listed("email").await != set(&["phone -"]) {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Its data outlives the service, and so does the account.
    admin.delete("/api/services/email").await.expect(202);
    stands(admin, "email", "gone").await;
    install(admin, "email").await;
    assert_eq!(world.listed("email").await, set(&["phone -"]));
    // With its data it is gone.
    admin
        .delete("/api/services/email?delete_volumes=true")
        .await
        .expect(202);
    stands(admin, "email", "gone").await;
    let stored = world
        .cell
        .app
        .store
        .read(cell_api::store::accounts::list)
        .unwrap();
    assert_eq!(stored, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_automation_socket_does_the_same() {
    let world = World::made_up().await;
    let mut client = AccountServiceClient::new(ipc::connect(&world.cell.automation));
    let request = wire::CreateAccountsRequest {
        peer: "Phone".to_owned(),
        user: "alice".to_owned(),
        services: vec!["email".to_owned()],
    };
    let made = client
        .create_accounts(request)
        .await
        .unwrap()
        .into_inner()
        .credentials;
    assert!(world.email.takes("alice", &made[0].password));
    assert!(
        !format!("{made:?}").contains(&made[0].password),
        "no log can hold it"
    );
    let request = wire::ListAccountsRequest {
        service: "email".to_owned(),
    };
    let listed = client.list_accounts(request).await.unwrap().into_inner().accounts;
    assert_eq!(
        (listed[0].user.as_str(), listed[0].peer.as_str()),
        ("alice", "Phone")
    );
    let request = wire::ResetAccountPasswordRequest {
        service: "email".to_owned(),
        user: "alice".to_owned(),
    };
    let reset = client.reset_account_password(request).await.unwrap().into_inner();
    assert!(world.email.takes("alice", &reset.credential.unwrap().password));
    let mut request = wire::RemoveAccountRequest {
        service: "email".to_owned(),
        user: "alice".to_owned(),
        validate_only: true,
    };
    let plan = client
        .remove_account(request.clone())
        .await
        .unwrap()
        .into_inner()
        .plan;
    assert_eq!((plan.len(), world.email.users().len()), (2, 1));
    request.validate_only = false;
    client.remove_account(request.clone()).await.unwrap();
    assert_eq!(world.email.users(), set(&[]));
    let gone = client.remove_account(request).await.unwrap_err();
    assert_eq!(fault::reason(&gone).as_deref(), Some("NO_ACCOUNT"));
}
