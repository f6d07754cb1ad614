//! Peers that are bound to connections: what netd and cell-egress hear of it, and what happens when an exit fails.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use cell_api::store::{migrations, peers};
use cell_api_core::connection::choice::ExitChoice;
use cell_api_core::range::{self, VpnRange};
use cell_proto::api::v1::connection_service_client::ConnectionServiceClient;
use cell_proto::api::v1::peer_service_client::PeerServiceClient;
use cell_proto::api::v1::{
    DeleteConnectionRequest, FailOpen, Fallbacks, GetPeerRequest, SetPeerExitRequest, SetPeerFailOpenRequest,
    SetPeerFallbacksRequest, UpdatePeerRequest,
};
use cell_proto::egress::v1::exit::Kind;
use cell_proto::netd::v1::exit_spec::Way;
use cell_proto::{fault, ipc};
use serde_json::{Value, json};
use support::client::Client;
use support::{ABSENT, Cell, START_MS, add, eventually};

const ALL: &str = "/api/connectivity/connections";

const WIREGUARD: &str = "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n\
    Address = 10.2.0.2/32, fd00::2/128\n\n[Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\n\
    AllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = 192.0.2.1:51820\nPersistentKeepalive = 25\n";

async fn connect(admin: &Client, body: Value) -> String {
    let made = admin.post(ALL, &body).await.expect(201).json();
    made["connection"]["id"].as_str().unwrap().to_owned()
}

async fn tor(admin: &Client, name: &str) -> String {
    connect(admin, json!({"name": name, "type": "tor"})).await
}

async fn proxy(admin: &Client, name: &str) -> String {
    let import = json!({"url": "socks5://192.0.2.9:1080"});
    connect(admin, json!({"name": name, "type": "proxy", "import": import})).await
}

async fn wireguard(admin: &Client, name: &str) -> String {
    let import = json!({"file": WIREGUARD});
    connect(
        admin,
        json!({"name": name, "type": "wireguard_ext", "import": import}),
    )
    .await
}

async fn bind(admin: &Client, peer: &str, connection: Value) -> support::client::Answer {
    let path = format!("/api/connectivity/peers/{peer}/exit");
    admin.put(&path, &json!({"connection_id": connection})).await
}

async fn fail_open(admin: &Client, peer: &str, own: Value) -> Value {
    let path = format!("/api/connectivity/peers/{peer}/failopen");
    admin
        .put(&path, &json!({"fail_open": own}))
        .await
        .expect(200)
        .json()
}

async fn health(admin: &Client, id: &str) -> Value {
    let answer = admin.get(&format!("{ALL}/{id}/health")).await.expect(200).json();
    answer["status"].clone()
}

async fn actions(admin: &Client) -> Vec<(String, String, String)> {
    let all = admin.get("/api/audit?limit=1000").await.expect(200).json();
    let text = |record: &Value, field: &str| record[field].as_str().unwrap().to_owned();
    let one = |r: &Value| (text(r, "action"), text(r, "subject"), text(r, "detail"));
    all["records"].as_array().unwrap().iter().map(one).collect()
}

/// Whether netd has a peer without an exit, and without the internet.
fn is_inside(cell: &Cell, peer: &str) -> bool {
    let state = cell.netd.state.lock().unwrap();
    let spec = state.spec.clone().unwrap_or_default();
    let found = spec.peers.into_iter().find(|one| one.name == peer);
    found.is_some_and(|peer| peer.exit.is_empty() && !peer.access.unwrap_or_default().internet)
}

fn exit_at_netd(cell: &Cell, peer: &str) -> Option<String> {
    cell.netd.state.lock().unwrap().exit_of(peer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_bound_and_netd_hears_of_it_alone() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let (home, other) = (wireguard(&admin, "home").await, proxy(&admin, "work").await);
    add(&admin, "phone", 1).await;
    add(&admin, "tv", 2).await;
    {
        let state = cell.netd.state.lock().unwrap();
        let exits = &state.spec.as_ref().unwrap().exits;
        assert_eq!(
            exits.len(),
            2,
            "what nobody uses is told too, so that its health can be seen"
        );
        let of = |id: &str| exits.iter().find(|exit| exit.id == id).unwrap();
        let Some(Way::Wireguard(tunnel)) = &of(&home).way else {
            panic!("a tunnel")
        };
        assert_eq!(tunnel.far_ends[0].endpoint.as_ref().unwrap().port, 51820);
        assert_eq!((tunnel.addresses.len(), of(&home).table), (2, 1000));
        let Some(Way::Redirect(redirect)) = &of(&other).way else {
            panic!("a redirect")
        };
        assert_eq!(
            (redirect.port, redirect.servers.len(), of(&other).table),
            (9100, 1, 0)
        );
    }
    let applies = cell.netd.state.lock().unwrap().full_applies;
    let before = admin.get("/api/peers/phone").await.expect(200).json();
    assert_eq!(
        (&before["exit_connection_id"], &before["route_via"]),
        (&Value::Null, &Value::Null)
    );
    let bound = bind(&admin, "phone", json!(home)).await.expect(200).json();
    assert_eq!(
        (&bound["exit_connection_id"], &bound["route_via"]),
        (&json!(home), &json!(home))
    );
    assert_ne!(bound["version"], before["version"]);
    assert_eq!(exit_at_netd(&cell, "phone"), Some(home.clone()));
    assert_eq!(
        exit_at_netd(&cell, "tv"),
        Some(String::new()),
        "another peer keeps its way"
    );
    assert_eq!(
        cell.netd.state.lock().unwrap().full_applies,
        applies,
        "one peer is one difference"
    );
    let free = bind(&admin, "phone", Value::Null).await.expect(200).json();
    assert_eq!(free["exit_connection_id"], Value::Null);
    assert_eq!(exit_at_netd(&cell, "phone"), Some(String::new()));
    let audit = actions(&admin).await;
    let told: Vec<_> = audit
        .iter()
        .filter(|(action, ..)| action == "peer.exit")
        .collect();
    assert_eq!(told.len(), 2);
    assert!(told[0].2.contains("home") && told[0].1 == "phone", "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_named_in_every_old_way() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let (onion, work) = (tor(&admin, "onion").await, proxy(&admin, "work").await);
    proxy(&admin, "second").await;
    let body = json!({"name": "phone", "public_key": support::key(1), "route_via": "work"});
    let made = admin.post("/api/peers", &body).await.expect(201).json();
    assert_eq!(made["peer"]["exit_connection_id"], json!(work));
    assert_eq!(exit_at_netd(&cell, "phone"), Some(work.clone()));
    for (field, named, id) in [
        ("exit_connection_id", json!(onion), json!(onion)),
        ("route_via", json!("default"), Value::Null),
        ("exit_via", json!("tor"), json!(onion)),
        ("exit_connection_id", Value::Null, Value::Null),
        ("route_via", json!("work"), json!(work)),
    ] {
        let changed = admin
            .put("/api/peers/phone", &json!({field: named}))
            .await
            .expect(200)
            .json();
        assert_eq!(changed["exit_connection_id"], id, "{field} {named}");
    }
    let kept = admin
        .put("/api/peers/phone", &json!({"tunnel": "full"}))
        .await
        .expect(200)
        .json();
    assert_eq!(kept["exit_connection_id"], json!(work), "what is absent stays");
    for (field, named) in [
        ("exit_connection_id", json!("nowhere")),
        ("exit_connection_id", json!(ABSENT)),
        ("route_via", json!("proxy")),
        ("exit_via", json!(7)),
    ] {
        let refused = admin
            .put("/api/peers/phone", &json!({field: named}))
            .await
            .expect(400)
            .json();
        let named = refused["violations"][0]["field"].as_str().unwrap().to_owned();
        assert!(named == field || named == "exit_connection_id", "{refused}");
    }
    let via = "/api/peers/phone/route-via";
    for (named, id) in [
        (json!("onion"), json!(onion)),
        (Value::Null, Value::Null),
        (json!("work"), json!(work)),
    ] {
        let bound = admin
            .put(via, &json!({"via_cell": named}))
            .await
            .expect(200)
            .json();
        assert_eq!(
            (&bound["exit_connection_id"], &bound["route_via"]),
            (&id, &id),
            "{named}"
        );
    }
    for body in [json!({"via_cell": "nowhere"}), json!({}), json!({"via_cell": 7})] {
        admin.put(via, &body).await.expect(400);
    }
    let twice = json!({"exit_connection_id": work, "route_via": onion});
    admin.put("/api/peers/phone", &twice).await.expect(400);
    assert_eq!(
        exit_at_netd(&cell, "phone"),
        Some(work),
        "what is refused changes nothing"
    );
}

/// A connection may be of a type that fails open and not work yet: with a change for each there would be a moment in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_failing_open_and_stand_ins_are_one_change() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let (onion, spare) = (tor(&admin, "onion").await, proxy(&admin, "spare").await);
    let of = |peer: &Value| {
        let of = |field: &str| peer[field].clone();
        [
            of("exit_connection_id"),
            of("fail_open"),
            of("fallback_connection_ids"),
        ]
    };
    let all = [json!(onion), json!(false), json!([spare])];
    let key = support::key(7);
    let body = json!({"name": "new", "public_key": key, "exit_connection_id": "onion", "fail_open": false,
        "fallback_connection_ids": ["spare"], "access": {"internet": true}});
    let made = admin.post("/api/peers", &body).await.expect(201).json();
    assert_eq!(of(&made["peer"]), all);
    add(&admin, "phone", 1).await;
    let body = json!({"connection_id": "onion", "fail_open": false, "fallback_connection_ids": ["spare"]});
    let path = "/api/connectivity/peers/phone/exit";
    assert_eq!(of(&admin.put(path, &body).await.expect(200).json()), all);
    // What is absent stays; what is there is said, null too.
    let body = json!({"fail_open": null});
    let peer = admin.put("/api/peers/phone", &body).await.expect(200).json();
    assert_eq!(of(&peer), [json!(onion), Value::Null, json!([spare])]);
    let body = json!({"exit_connection_id": spare, "fail_open": true});
    let peer = admin.put("/api/peers/phone", &body).await.expect(200).json();
    assert_eq!(of(&peer), [json!(spare), json!(true), json!([])]);
    // One of them is wrong: none is done.
    for (body, field) in [
        (
            json!({"fail_open": "no", "exit_connection_id": "onion"}),
            "fail_open",
        ),
        (
            json!({"fail_open": false, "fallback_connection_ids": ["nowhere"]}),
            "fallback_connection_ids[0]",
        ),
        (
            json!({"fail_open": false, "fallback_connection_ids": ["spare"]}),
            "fallback_connection_ids",
        ),
    ] {
        let refused = admin.put("/api/peers/phone", &body).await.expect(400).json();
        assert_eq!(refused["violations"][0]["field"], field, "{refused}");
    }
    let now = admin.get("/api/peers/phone").await.expect(200).json();
    assert_eq!(of(&now), of(&peer));
    let of_phone: Vec<_> = actions(&admin)
        .await
        .into_iter()
        .filter(|(_, subject, _)| subject == "phone")
        .map(|(action, ..)| action)
        .collect();
    let expected = [
        "peer.create",
        "peer.exit",
        "peer.failopen",
        "peer.fallbacks",
        "peer.failopen",
        "peer.exit",
        "peer.failopen",
    ];
    assert_eq!(of_phone, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_in_use_is_not_removed() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let (home, spare) = (wireguard(&admin, "home").await, proxy(&admin, "spare").await);
    add(&admin, "phone", 1).await;
    add(&admin, "tv", 2).await;
    bind(&admin, "phone", json!(home)).await.expect(200);
    bind(&admin, "tv", json!("home")).await.expect(200);
    let path = "/api/connectivity/peers/tv/fallbacks";
    let tv = admin
        .put(path, &json!({"connection_ids": ["spare"]}))
        .await
        .expect(200)
        .json();
    assert_eq!(tv["fallback_connection_ids"], json!([spare]));
    let refused = admin.delete(&format!("{ALL}/{home}")).await.expect(409).json();
    assert_eq!(refused["code"], "CONNECTION_IN_USE");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("phone, tv"), "{detail}");
    let refused = admin.delete(&format!("{ALL}/{spare}")).await.expect(409).json();
    assert!(
        refused["detail"].as_str().unwrap().ends_with(": tv"),
        "a stand-in is used too: {refused}"
    );
    bind(&admin, "phone", Value::Null).await.expect(200);
    let tv = bind(&admin, "tv", json!(spare)).await.expect(200).json();
    assert_eq!(
        tv["fallback_connection_ids"],
        json!([]),
        "what is bound stands in for nothing"
    );
    admin.delete(&format!("{ALL}/{home}")).await.expect(204);
    admin.delete("/api/peers/tv").await.expect(204);
    admin.delete(&format!("{ALL}/{spare}")).await.expect(204);
    eventually("netd has no exits", || {
        cell.netd
            .state
            .lock()
            .unwrap()
            .spec
            .as_ref()
            .unwrap()
            .exits
            .is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cell_egress_gets_its_exits_again_whatever_becomes_of_it() {
    let mut cell = Cell::ready().await;
    let admin = cell.admin().await;
    let (onion, work) = (tor(&admin, "onion").await, proxy(&admin, "work").await);
    wireguard(&admin, "home").await;
    let import = json!({"url": "socks5://proxy.example.org:1080"});
    let named = connect(
        &admin,
        json!({"name": "named", "type": "proxy", "import": import}),
    )
    .await;
    let mut both = vec![onion.clone(), work.clone()];
    both.sort();
    let has = |cell: &Cell, ids: &[String]| {
        let mut has = cell.egress.ids();
        has.sort();
        has == ids
    };
    eventually("it has both, and no tunnel, and no name", || has(&cell, &both)).await;
    let status = health(&admin, &named).await;
    assert!(status["health"] == "down" && status["detail"].as_str().unwrap().contains("proxy.example.org"));
    cell.egress.forget();
    eventually("it was started anew between two looks", || has(&cell, &both)).await;
    let reachable = async || {
        let status = admin.get("/api/status").await.expect(200).json();
        let mut daemons = status["daemons"].as_array().unwrap().iter();
        daemons.find(|daemon| daemon["name"] == "egress").unwrap()["reachable"].clone()
    };
    assert_eq!(reachable().await, json!(true));
    cell.egress.kill();
    eventually("it is away", || {
        !cell
            .app
            .exits
            .judged(&id(&onion))
            .unwrap()
            .detail
            .contains("nothing")
    })
    .await;
    assert_eq!(reachable().await, json!(false));
    cell.egress.resume();
    eventually("it is there again", || has(&cell, &both)).await;
    admin.delete(&format!("{ALL}/{onion}")).await.expect(204);
    eventually("one is gone", || has(&cell, std::slice::from_ref(&work))).await;
    let applies = cell.egress.state.lock().unwrap().applies;
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert_eq!(
        cell.egress.state.lock().unwrap().applies,
        applies,
        "and then it is only asked"
    );
}

fn id(text: &str) -> cell_api_core::connection::id::ConnectionId {
    cell_api_core::connection::id::ConnectionId::parse(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cell_egress_refuses_holds_up_no_other() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    cell.egress.state.lock().unwrap().refused_port = Some(9100);
    let refused = proxy(&admin, "work").await;
    let good = tor(&admin, "onion").await;
    eventually("the other is there", || cell.egress.ids() == [good.clone()]).await;
    let status = health(&admin, &refused).await;
    assert_eq!(status["health"], "down");
    assert!(
        status["detail"]
            .as_str()
            .unwrap()
            .contains("no exit may have its server there"),
        "{status}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_falls_back_comes_back_and_goes_directly_only_by_its_own_word() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let (work, spare, unlisted) = (
        proxy(&admin, "work").await,
        proxy(&admin, "spare").await,
        proxy(&admin, "unlisted").await,
    );
    for (number, name) in [(1, "closed"), (2, "open"), (3, "listed"), (4, "own")] {
        add(&admin, name, number).await;
    }
    for name in ["closed", "open", "listed"] {
        bind(&admin, name, json!(work)).await.expect(200);
    }
    fail_open(&admin, "open", json!(true)).await;
    let path = "/api/connectivity/peers/listed/fallbacks";
    admin
        .put(path, &json!({"connection_ids": [spare]}))
        .await
        .expect(200);
    eventually("cell-egress has all three", || cell.egress.ids().len() == 3).await;
    let ways = |closed: &str, open: &str, listed: &str| {
        let of = |name: &str| exit_at_netd(&cell, name).unwrap();
        of("closed") == closed && of("open") == open && of("listed") == listed && of("own").is_empty()
    };
    eventually("unknown is down", || ways(&work, "", &work)).await;
    let version = cell
        .app
        .events
        .watch()
        .borrow()
        .of(cell_api::events::Topic::Connections);
    cell.egress.see(&unlisted, START_MS, 0);
    cell.egress.see(&spare, START_MS, 0);
    eventually("the stand-in works", || ways(&work, "", &spare)).await;
    let now = cell
        .app
        .events
        .watch()
        .borrow()
        .of(cell_api::events::Topic::Connections);
    assert!(now > version, "browsers hear of it");
    cell.egress.see(&work, START_MS, 0);
    eventually("all works", || ways(&work, &work, &work)).await;
    let status = health(&admin, &work).await;
    assert_eq!(
        (&status["health"], &status["timestamp"]),
        (&json!("working"), &json!("2027-01-15T08:00:00Z"))
    );
    cell.egress.see(&work, START_MS, START_MS + 1);
    eventually("it fails", || ways(&work, "", &spare)).await;
    assert_eq!(health(&admin, &work).await["health"], "down");
    fail_open(&admin, "open", json!(false)).await;
    eventually("its word is taken back", || ways(&work, &work, &spare)).await;
    cell.egress.see(&spare, START_MS, START_MS + 1);
    eventually("nothing that was listed works", || ways(&work, &work, &work)).await;
    let audit = actions(&admin).await;
    let turns = |name: &str| -> Vec<String> {
        let of = audit
            .iter()
            .filter(|(action, subject, _)| action == "connection.health" && subject == name);
        of.map(|(_, _, detail)| detail.split(':').next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(turns("work"), ["unknown to working", "working to down"]);
    assert_eq!(turns("spare"), ["unknown to working", "working to down"]);
    let said: Vec<_> = audit
        .iter()
        .filter(|(action, ..)| action == "peer.failopen")
        .map(|(_, _, d)| d)
        .collect();
    assert_eq!(said.len(), 2);
    assert!(
        said[0].contains("directly") && said[1].contains("nowhere"),
        "{said:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_that_netd_refuses_takes_its_peers_off_the_internet_and_nobody_off_the_network() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    cell.netd.state.lock().unwrap().validates = false;
    let (work, home) = (proxy(&admin, "work").await, wireguard(&admin, "home").await);
    for (number, name) in [(1, "bound"), (2, "other"), (3, "own")] {
        add(&admin, name, number).await;
    }
    for name in ["bound", "own"] {
        let access = json!({"access": {"internet": true}});
        admin
            .put(&format!("/api/peers/{name}"), &access)
            .await
            .expect(200);
    }
    bind(&admin, "bound", json!(work)).await.expect(200);
    bind(&admin, "other", json!(home)).await.expect(200);
    assert_eq!(exit_at_netd(&cell, "bound"), Some(work.clone()));
    assert!(!is_inside(&cell, "bound") && !is_inside(&cell, "own"));
    cell.netd.state.lock().unwrap().refuses_redirects = true;
    cell.netd.foreign_change();
    eventually("it goes nowhere, and all others stay", || {
        is_inside(&cell, "bound")
            && exit_at_netd(&cell, "other") == Some(home.clone())
            && exit_at_netd(&cell, "own") == Some(String::new())
    })
    .await;
    // Its names are not looked up by the cell's own way either.
    let asks = |host: u8| {
        let at = std::net::IpAddr::from([10, 86, 0, host]).into();
        let peers = cell.egress.dns().peers;
        let of = peers.into_iter().find(|peer| peer.addresses.contains(&at));
        of.map(|peer| peer.exit_id)
    };
    eventually("the relay has its way", || {
        asks(2).is_some_and(|exit| !exit.is_empty() && exit != work)
    })
    .await;
    assert_eq!(asks(4), Some(String::new()));
    let status = health(&admin, &work).await;
    assert!(
        status["detail"].as_str().unwrap().contains("no redirects here"),
        "{status}"
    );
    bind(&admin, "own", json!(work)).await.expect(200);
    eventually("a difference says the same", || is_inside(&cell, "own")).await;
    bind(&admin, "own", Value::Null).await.expect(200);
    eventually("it is back", || !is_inside(&cell, "own")).await;
    cell.netd.state.lock().unwrap().validates = true;
    let refused = bind(&admin, "own", json!(work)).await.expect(409).json();
    assert_eq!(
        refused["code"], "NETD_REFUSES",
        "who asks beforehand hears it: {refused}"
    );
    // What is taken away from a peer is not held up by an exit that netd does not have.
    let less = json!({"access": {"peer_to_peer": true}});
    let left = admin.put("/api/peers/bound", &less).await.expect(200).json();
    assert_eq!(left["access"]["internet"], json!(false));
}

/// Whoever is quicker than netd is not told that there is no such exit.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_goes_by_a_connection_that_netd_is_not_told_of_yet() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "phone", 1).await;
    let is_known = |id: &str| {
        let spec = cell.netd.with(|state| state.spec.clone().unwrap());
        spec.exits.iter().any(|exit| exit.id == id)
    };
    let slow = |seconds| {
        cell.netd
            .with(|state| state.slow = std::time::Duration::from_secs(seconds));
    };
    // On a busy machine netd may be told before the answer to whoever made it has come.
    for attempt in 0..5 {
        slow(3);
        let work = proxy(&admin, &format!("work{attempt}")).await;
        let is_tested = !is_known(&work);
        bind(&admin, "phone", json!(work)).await.expect(200);
        slow(0);
        eventually("it goes by it", || {
            exit_at_netd(&cell, "phone") == Some(work.clone())
        })
        .await;
        if is_tested {
            return;
        }
    }
    panic!("netd was told each time before the answer came: nothing was tested");
}

#[tokio::test(flavor = "multi_thread")]
async fn fallbacks_are_checked_before_anything_is_changed() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let (work, spare) = (proxy(&admin, "work").await, proxy(&admin, "spare").await);
    add(&admin, "phone", 1).await;
    let path = "/api/connectivity/peers/phone/fallbacks";
    let set = async |ids: Value| admin.put(path, &json!({"connection_ids": ids})).await;
    set(json!([spare])).await.expect(400);
    bind(&admin, "phone", json!(work)).await.expect(200);
    for bad in [
        json!([work]),
        json!([spare, "spare"]),
        json!(["default"]),
        json!(["nowhere"]),
        json!(vec![spare.clone(); 9]),
    ] {
        let refused = set(bad.clone()).await.expect(400).json();
        let field = refused["violations"][0]["field"].as_str().unwrap();
        assert!(field.starts_with("connection_ids"), "{bad}: {refused}");
    }
    assert_eq!(
        set(json!([spare])).await.expect(200).json()["fallback_connection_ids"],
        json!([spare])
    );
    for (path, body) in [
        ("exit", json!({})),
        ("failopen", json!({})),
        ("failopen", json!({"fail_open": "yes"})),
        ("exit", json!({"connection_id": 7})),
        ("fallbacks", json!({"connection_ids": "spare"})),
    ] {
        let path = format!("/api/connectivity/peers/phone/{path}");
        admin.put(&path, &body).await.expect(400);
    }
    bind(&admin, "nobody", json!(work)).await.expect(404);
    admin.get(&format!("{ALL}/{ABSENT}/health")).await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_automation_socket_does_the_same() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let (work, spare) = (proxy(&admin, "work").await, proxy(&admin, "spare").await);
    add(&admin, "phone", 1).await;
    let channel = ipc::connect(&cell.automation);
    let mut peers = PeerServiceClient::new(channel.clone());
    let name = || "phone".to_owned();
    let request = SetPeerExitRequest {
        name: name(),
        exit: "work".to_owned(),
        confirm_within_seconds: 0,
        validate_only: false,
    };
    let asked = SetPeerExitRequest {
        validate_only: true,
        ..request.clone()
    };
    let plan = peers.set_peer_exit(asked).await.unwrap().into_inner();
    assert!(plan.peer.is_none());
    assert_eq!(
        plan.plan.unwrap().statements[0].text,
        "phone is bound to work; that counts once there is internet access."
    );
    let bound = peers
        .set_peer_exit(request)
        .await
        .unwrap()
        .into_inner()
        .peer
        .unwrap();
    assert_eq!((&bound.exit_connection_id, bound.fail_open), (&work, None));
    let request = SetPeerFallbacksRequest {
        name: name(),
        connections: vec!["spare".to_owned()],
        confirm_within_seconds: 0,
        validate_only: false,
    };
    peers.set_peer_fallbacks(request).await.unwrap();
    for own in [Some(true), Some(false), None] {
        let request = SetPeerFailOpenRequest {
            name: name(),
            fail_open: own,
            confirm_within_seconds: 0,
            validate_only: false,
        };
        peers.set_peer_fail_open(request).await.unwrap();
        let read = peers.get_peer(GetPeerRequest { name: name() }).await.unwrap();
        let peer = read.into_inner().peer.unwrap();
        assert_eq!(
            (peer.fail_open, peer.fallback_connection_ids),
            (own, vec![spare.clone()])
        );
    }
    let mut connections = ConnectionServiceClient::new(channel);
    let refused = connections
        .delete_connection(DeleteConnectionRequest { id: work.clone() })
        .await
        .unwrap_err();
    assert_eq!(fault::reason(&refused).as_deref(), Some("CONNECTION_IN_USE"));
    assert!(refused.message().contains("phone"), "{refused}");
    let whole = UpdatePeerRequest {
        name: name(),
        exit: Some("spare".to_owned()),
        fail_open: Some(FailOpen { own: Some(false) }),
        fallbacks: Some(Fallbacks {
            connections: vec!["work".to_owned()],
        }),
        ..UpdatePeerRequest::default()
    };
    let now = peers.update_peer(whole).await.unwrap().into_inner().peer.unwrap();
    assert_eq!(
        (now.exit_connection_id, now.fail_open, now.fallback_connection_ids),
        (spare, Some(false), vec![work.clone()])
    );
    let update = UpdatePeerRequest {
        name: name(),
        exit: Some(String::new()),
        fail_open: Some(FailOpen { own: None }),
        ..UpdatePeerRequest::default()
    };
    let free = peers
        .update_peer(update)
        .await
        .unwrap()
        .into_inner()
        .peer
        .unwrap();
    assert_eq!(free.exit_connection_id, "");
    assert_eq!(exit_at_netd(&cell, "phone"), Some(String::new()));
}

/// A database as the version before this one left it.
#[test]
fn peers_from_before_there_were_exits_keep_the_cells_own_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cell.db");
    let mut database = rusqlite::Connection::open(&path).unwrap();
    migrations::apply(&mut database, 0).unwrap();
    database
        .execute_batch(&format!(
            "DROP TABLE peer_fallback; DROP INDEX peer_by_exit;
             ALTER TABLE peer DROP COLUMN exit_connection_id; ALTER TABLE peer DROP COLUMN fail_open;
             DELETE FROM migration WHERE number = 4;
             INSERT INTO peer VALUES ('phone', x'{}', 2, 1, 0, 'full', zeroblob(32), 1);",
            "07".repeat(32)
        ))
        .unwrap();
    migrations::apply(&mut database, 1).unwrap();
    let range = VpnRange::new(
        range::parse_v4("10.86.0.0/24").unwrap(),
        range::parse_v6("fd00::/64").unwrap(),
    );
    let phone = peers::get(&database, &range.unwrap(), "phone").unwrap().unwrap();
    assert_eq!(phone.peer.exit, ExitChoice::default());
    let dangling = "UPDATE peer SET exit_connection_id = 'no such connection'";
    database.pragma_update(None, "foreign_keys", "ON").unwrap();
    assert!(
        database.execute(dangling, ()).is_err(),
        "a peer is bound to what is there alone"
    );
    assert!(database.execute("UPDATE peer SET fail_open = 2", ()).is_err());
    assert!(database.execute("UPDATE peer SET fail_open = 1", ()).is_ok());
}

/// cell-egress is told of which import an exit's secret is, and vaultd keeps it with it: by that no server is told another's.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_import_has_another_secret_and_a_new_name_has_not() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let url = |host: &str, password: &str| json!({"url": format!("socks5://anna:{password}@{host}:1080")});
    let body = json!({"name": "work", "type": "proxy", "import": url("192.0.2.9", "old")});
    let work = connect(&admin, body).await;
    let path = format!("{ALL}/{work}");
    let secret = format!("conn_{}_password", work.replace('-', ""));
    let has = |host: [u8; 4], revision: u64| {
        let server = std::net::SocketAddr::from((host, 1080));
        let told = cell.egress.state.lock().unwrap().exits.iter().any(|exit| {
            let Some(Kind::Socks5(socks)) = &exit.kind else {
                return false;
            };
            (exit.secret_revision, &socks.server) == (revision, &Some(server.into()))
        });
        let kept = cell.vault.secrets.lock().unwrap().revisions[&secret];
        assert!(!told || kept == revision, "vaultd has it first: {kept}");
        told
    };
    eventually("it is told", || has([192, 0, 2, 9], 1)).await;
    admin.put(&path, &json!({"name": "job"})).await.expect(200);
    admin
        .put(&path, &json!({"import": url("192.0.2.10", "new")}))
        .await
        .expect(200);
    // The name was a change of its own.
    eventually("it is told of the other", || has([192, 0, 2, 10], 3)).await;
    admin.put(&path, &json!({"name": "work"})).await.expect(200);
    // Whatever is told next, a name moves nothing of it.
    tor(&admin, "onion").await;
    eventually("it is told again", || cell.egress.ids().len() == 2).await;
    assert!(has([192, 0, 2, 10], 3));

    // A vaultd of before there were any would leave the exit with a secret of no import.
    cell.vault.secrets.lock().unwrap().is_old = true;
    let import = json!({"import": url("192.0.2.11", "newest")});
    let refused = admin.put(&path, &import).await.expect(409);
    assert!(refused.text.contains("start vaultd anew"), "{}", refused.text);
    eventually("no server is told it", || cell.egress.ids().len() == 1).await;
    cell.vault.secrets.lock().unwrap().is_old = false;
    admin.put(&path, &import).await.expect(200);
    eventually("it works again", || has([192, 0, 2, 11], 5)).await;
}
