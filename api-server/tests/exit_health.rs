//! What the daemons see of connections becomes their health, and health moves peers.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::time::Duration;

use cell_api::events::Topic;
use cell_api_core::connection::health::Health;
use cell_proto::netd::v1::{ExitState, ExitStatus};
use serde_json::{Value, json};
use support::client::Client;
use support::{Cell, START_MS, add, eventually};

const ALL: &str = "/api/connectivity/connections";

const WIREGUARD: &str = "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n\
    Address = 10.2.0.2/32, fd00::2/128\n\n[Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\n\
    AllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = 192.0.2.1:51820\n";

async fn tunnel(admin: &Client, name: &str) -> String {
    let body = json!({"name": name, "type": "wireguard_ext", "import": {"file": WIREGUARD}});
    let made = admin.post(ALL, &body).await.expect(201).json();
    made["connection"]["id"].as_str().unwrap().to_owned()
}

async fn proxy(admin: &Client, name: &str) -> String {
    let body = json!({"name": name, "type": "proxy", "import": {"url": "socks5://192.0.2.9:1080"}});
    let made = admin.post(ALL, &body).await.expect(201).json();
    made["connection"]["id"].as_str().unwrap().to_owned()
}

async fn health(admin: &Client, id: &str) -> Value {
    let answer = admin.get(&format!("{ALL}/{id}/health")).await.expect(200).json();
    answer["status"].clone()
}

async fn becomes(admin: &Client, id: &str, wanted: &str) -> Value {
    for _ in 0..200 {
        let status = health(admin, id).await;
        if status["health"] == wanted {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never {wanted}: {}", health(admin, id).await);
}

fn exit(id: &str, handshake_unix_ms: i64, sent_bytes: u64) -> ExitStatus {
    ExitStatus {
        id: id.to_owned(),
        state: ExitState::Ready.into(),
        latest_handshake_unix_ms: handshake_unix_ms,
        sent_bytes,
        ..ExitStatus::default()
    }
}

fn exit_at_netd(cell: &Cell, peer: &str) -> String {
    cell.netd.state.lock().unwrap().exit_of(peer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_judged_by_its_handshakes_and_by_what_came_through() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let id = tunnel(&admin, "home").await;
    assert_eq!(health(&admin, &id).await["health"], "unknown");
    cell.netd.see_exit(exit(&id, START_MS, 148));
    let status = becomes(&admin, &id, "working").await;
    assert_eq!(status["proven_at"], "2027-01-15T08:00:00Z");
    cell.advance(Duration::from_secs(180));
    let status = becomes(&admin, &id, "unknown").await;
    assert!(
        status["detail"]
            .as_str()
            .unwrap()
            .contains("nothing has gone through it")
    );
    eventually("it was looked at while it was idle", || {
        let judged = cell.app.exits.judged(&parsed(&id));
        judged.is_some_and(|judged| judged.detail.contains("nothing has gone through it"))
    })
    .await;
    cell.netd.see_exit(exit(&id, START_MS, 296));
    let status = becomes(&admin, &id, "down").await;
    assert!(
        status["detail"].as_str().unwrap().contains("stopped answering"),
        "{status}"
    );
    let now = START_MS + 180_000;
    cell.egress.prove(&id, now, 0);
    let status = becomes(&admin, &id, "working").await;
    assert_eq!(status["proven_at"], "2027-01-15T08:03:00Z");
    cell.egress.prove_by_mark(&id, START_MS, now);
    let status = becomes(&admin, &id, "down").await;
    let detail = status["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("the exit answers, but not by its mark: ") && detail.contains("no route"),
        "{status}"
    );
    assert_eq!(status["proven_at"], "2027-01-15T08:00:00Z");
    cell.egress.prove_by_mark(&id, now, now - 1);
    let status = becomes(&admin, &id, "working").await;
    assert_eq!(status["proven_at"], "2027-01-15T08:03:00Z");
    cell.netd.see_exit(ExitStatus {
        state: ExitState::NoKey.into(),
        detail: "vaultd gives no key".to_owned(),
        ..exit(&id, 0, 0)
    });
    let status = becomes(&admin, &id, "down").await;
    assert!(
        status["detail"].as_str().unwrap().contains("vaultd gives no key"),
        "{status}"
    );
}

fn parsed(id: &str) -> cell_api_core::connection::id::ConnectionId {
    cell_api_core::connection::id::ConnectionId::parse(id).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_that_move_are_no_news() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let id = tunnel(&admin, "home").await;
    cell.netd.see_exit(exit(&id, START_MS, 148));
    becomes(&admin, &id, "working").await;
    eventually("it was noted", || {
        cell.app
            .exits
            .judged(&parsed(&id))
            .is_some_and(|judged| judged.proven_unix_ms.is_some())
    })
    .await;
    let versions = || {
        let events = cell.app.events.watch();
        let versions = *events.borrow();
        (versions.of(Topic::Status), versions.of(Topic::Connections))
    };
    let before = versions();
    for sent in 0..5 {
        cell.netd.see_exit(exit(&id, START_MS + 1000, 200 + sent));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(versions(), before);
    cell.netd.see_exit(ExitStatus {
        state: ExitState::Failed.into(),
        ..exit(&id, START_MS, 148)
    });
    eventually("a tunnel that is gone is", || {
        versions().0 > before.0 && versions().1 > before.1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_that_comes_and_goes_does_not_drag_its_peers_along() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let (work, spare) = (proxy(&admin, "work").await, proxy(&admin, "spare").await);
    add(&admin, "phone", 1).await;
    let access = json!({"access": {"internet": true}});
    admin.put("/api/peers/phone", &access).await.expect(200);
    let path = "/api/connectivity/peers/phone";
    let exit = json!({"connection_id": work});
    admin.put(&format!("{path}/exit"), &exit).await.expect(200);
    let listed = json!({"connection_ids": [spare]});
    admin.put(&format!("{path}/fallbacks"), &listed).await.expect(200);
    eventually("cell-egress has both", || cell.egress.ids().len() == 2).await;
    let goes_by = |id: &str| exit_at_netd(&cell, "phone") == id;
    cell.egress.see(&work, START_MS, 0);
    cell.egress.see(&spare, START_MS, 0);
    let works = |id: &str| cell.app.exits.health(&parsed(id)) == Health::Working;
    eventually("both work", || works(&work) && works(&spare)).await;
    assert!(goes_by(&work));
    cell.egress.see(&work, START_MS, START_MS + 1);
    eventually("the stand-in takes over at once", || goes_by(&spare)).await;
    cell.egress.see(&work, START_MS + 2, START_MS + 1);
    becomes(&admin, &work, "working").await;
    // Longer than two looks.
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(goes_by(&spare), "it has only just come back");
    cell.advance(Duration::from_secs(30));
    eventually("it has worked for long enough", || goes_by(&work)).await;
    let turns = turns(&admin, 4).await;
    let expected = [
        "unknown to working",
        "working to down",
        "down to working",
        "it has worked for long enough",
    ];
    assert_eq!(turns, expected);
    let expected = [
        "1 device: through spare, before through work",
        "1 device: through work, before through spare",
    ];
    assert_eq!(audited(&admin, "connection.failover", 2).await, expected);
}

/// A start of `cell-egress` anew, as after an upgrade, lets nobody out directly.
#[tokio::test(flavor = "multi_thread")]
async fn a_moment_in_which_nothing_is_known_moves_nobody() {
    let mut cell = Cell::ready().await;
    let admin = cell.admin().await;
    let work = proxy(&admin, "work").await;
    add(&admin, "phone", 1).await;
    let access = json!({"access": {"internet": true}});
    admin.put("/api/peers/phone", &access).await.expect(200);
    let path = "/api/connectivity/peers/phone";
    let exit = json!({"connection_id": work});
    admin.put(&format!("{path}/exit"), &exit).await.expect(200);
    let open = json!({"fail_open": true});
    admin.put(&format!("{path}/failopen"), &open).await.expect(200);
    eventually("cell-egress has it", || cell.egress.ids().len() == 1).await;
    cell.egress.see(&work, START_MS, 0);
    becomes(&admin, &work, "working").await;
    eventually("it goes by it", || exit_at_netd(&cell, "phone") == work).await;
    cell.egress.kill();
    becomes(&admin, &work, "unknown").await;
    // Longer than two looks.
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(exit_at_netd(&cell, "phone"), work, "it may be back in a moment");
    cell.egress.resume();
    eventually("it is told again", || cell.egress.ids().len() == 1).await;
    cell.egress.see(&work, START_MS + 1, 0);
    becomes(&admin, &work, "working").await;
    assert_eq!(exit_at_netd(&cell, "phone"), work);
    cell.egress.kill();
    becomes(&admin, &work, "unknown").await;
    cell.advance(Duration::from_secs(30));
    eventually("it has been gone for too long", || {
        exit_at_netd(&cell, "phone") != work
    })
    .await;
    let turns = turns(&admin, 5).await;
    let expected = [
        "unknown to working",
        "working to unknown",
        "unknown to working",
        "working to unknown",
        "it has been unknown for too long",
    ];
    assert_eq!(turns, expected);
}

/// How `work` has turned, without the reasons, once the audit has so many turns.
async fn turns(admin: &Client, lines: usize) -> Vec<String> {
    let turns = audited(admin, "connection.health", lines).await;
    let word = |turn: &String| turn.split(':').next().unwrap().to_owned();
    turns.iter().map(word).collect()
}

/// What the audit says of `work`, once it says so much: netd may hear of a turn before it is written down.
async fn audited(admin: &Client, action: &str, lines: usize) -> Vec<String> {
    for _ in 0..400 {
        let audit = admin.get("/api/audit?limit=1000").await.expect(200).json();
        let records = audit["records"].as_array().unwrap().iter();
        let found = records.filter(|record| record["action"] == action && record["subject"] == "work");
        let found: Vec<String> = found
            .map(|record| record["detail"].as_str().unwrap().to_owned())
            .collect();
        if found.len() >= lines {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the audit never says {lines} times {action} of work");
}

/// As it is shown alone, and among all.
async fn way(admin: &Client, peer: &str) -> [(Value, Value); 2] {
    let shown = admin.get(&format!("/api/peers/{peer}")).await.expect(200).json();
    let listed = admin.get("/api/peers").await.expect(200).json();
    let mut listed = listed["peers"].as_array().unwrap().iter();
    let listed = listed.find(|one| one["name"] == peer).unwrap();
    [&shown, listed].map(|peer| (peer["way"].clone(), peer["way_connection_id"].clone()))
}

async fn goes(admin: &Client, peer: &str, wanted: (&str, Option<&str>)) {
    let wanted = (json!(wanted.0), json!(wanted.1));
    for _ in 0..400 {
        if way(admin, peer).await.iter().all(|way| *way == wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{peer} never goes {wanted:?}, but {:?}", way(admin, peer).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_shown_with_the_way_that_it_has_now() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let work = proxy(&admin, "work").await;
    for (number, name) in (1..).zip(["phone", "tablet", "tv"]) {
        add(&admin, name, number).await;
        let access = json!({"access": {"internet": true}});
        admin
            .put(&format!("/api/peers/{name}"), &access)
            .await
            .expect(200);
        goes(&admin, name, ("direct", None)).await;
    }
    for name in ["phone", "tablet"] {
        let exit = json!({"connection_id": work});
        admin
            .put(&format!("/api/connectivity/peers/{name}/exit"), &exit)
            .await
            .expect(200);
    }
    let opens = json!({"fail_open": true});
    admin
        .put("/api/connectivity/peers/tablet/failopen", &opens)
        .await
        .expect(200);
    eventually("cell-egress has it", || cell.egress.ids().len() == 1).await;
    cell.egress.see(&work, START_MS, 0);
    let peers = || cell.app.events.watch().borrow().of(Topic::Peers);
    for name in ["phone", "tablet"] {
        goes(&admin, name, ("exit", Some(&work))).await;
    }
    let before = peers();
    cell.egress.see(&work, START_MS, START_MS + 1);
    goes(&admin, "phone", ("nowhere", None)).await;
    goes(&admin, "tablet", ("direct", None)).await;
    let asked = "/api/peers/phone/explain?destination=203.0.113.9&protocol=tcp&port=443";
    let why = admin.get(asked).await.expect(200).json();
    let reason = why["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("of the test; but work does not work now ("),
        "{why}"
    );
    eventually("browsers hear of it", || peers() > before).await;
    goes(&admin, "tv", ("direct", None)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_by_name_is_looked_up_and_kept_while_nobody_knows_it() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let import = json!({"url": "socks5://proxy.example.org:1080"});
    let body = json!({"name": "named", "type": "proxy", "import": import});
    let made = admin.post(ALL, &body).await.expect(201).json();
    let id = made["connection"]["id"].as_str().unwrap().to_owned();
    let status = becomes(&admin, &id, "down").await;
    assert!(
        status["detail"].as_str().unwrap().contains("proxy.example.org"),
        "{status}"
    );
    let leads_to = |ip: Option<[u8; 4]>| {
        let all = ip.map(|ip| ("proxy.example.org".to_owned(), vec![ip.into()]));
        cell.egress.state.lock().unwrap().hosts = all.into_iter().collect();
    };
    let told = || {
        let state = cell.netd.state.lock().unwrap();
        let exits = &state.spec.as_ref().unwrap().exits;
        let Some(cell_proto::netd::v1::exit_spec::Way::Redirect(way)) = exits[0].way.clone() else {
            panic!("a redirect")
        };
        let server = way
            .servers
            .first()
            .map(|server| std::net::SocketAddr::try_from(server).unwrap());
        server.map(|server| server.to_string())
    };
    leads_to(Some([192, 0, 2, 7]));
    cell.advance(Duration::from_secs(10));
    eventually("both daemons know it", || {
        told().as_deref() == Some("192.0.2.7:1080") && cell.egress.ids() == [id.clone()]
    })
    .await;
    leads_to(None);
    cell.advance(Duration::from_secs(300));
    eventually("nobody knows it any more", || {
        let judged = cell.app.exits.judged(&parsed(&id)).unwrap();
        judged.detail.contains("is used as before")
    })
    .await;
    assert_eq!(told().as_deref(), Some("192.0.2.7:1080"));
    leads_to(Some([192, 0, 2, 8]));
    cell.advance(Duration::from_secs(300));
    eventually("it moved", || told().as_deref() == Some("192.0.2.8:1080")).await;
}
