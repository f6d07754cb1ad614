//! Connections of the type openvpn: what netd, cell-openvpn and cell-egress hear of them, and how what a server gave gets from the
//! one to the others.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use std::net::IpAddr;
use std::time::Duration;

use cell_proto::common::v1::Protocol;
use cell_proto::netd::v1::exit_spec::Way;
use cell_proto::netd::v1::{ExitState, ExitStatus, TunnelExit};
use cell_proto::openvpn::v1::State;
use serde_json::{Value, json};
use support::client::Client;
use support::{Cell, START_MS, add, eventually};

const ALL: &str = "/api/connectivity/connections";

async fn openvpn(admin: &Client, name: &str) -> String {
    let file = include_str!("../../fuzz/corpus/openvpn_profile/provider");
    let import = json!({"file": file, "username": "anna", "password": "hunter2"});
    let body = json!({"name": name, "type": "openvpn", "import": import});
    let made = admin.post(ALL, &body).await.expect(201).json();
    made["connection"]["id"].as_str().unwrap().to_owned()
}

async fn bind(admin: &Client, peer: &str, connection: Value) -> support::client::Answer {
    let path = format!("/api/connectivity/peers/{peer}/exit");
    admin.put(&path, &json!({"connection_id": connection})).await
}

async fn becomes(admin: &Client, id: &str, wanted: &str, why: &str) {
    let mut status = Value::Null;
    for _ in 0..200 {
        let answer = admin.get(&format!("{ALL}/{id}/health")).await.expect(200).json();
        status = answer["status"].clone();
        if status["health"] == wanted && status["detail"].as_str().unwrap().contains(why) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never {wanted} ({why}): {status}");
}

fn tunnel(cell: &Cell, id: &str) -> Option<TunnelExit> {
    let state = cell.netd.state.lock().unwrap();
    let exit = state.spec.as_ref()?.exits.iter().find(|exit| exit.id == id)?;
    match &exit.way {
        Some(Way::Tunnel(tunnel)) => Some(tunnel.clone()),
        Some(Way::Wireguard(_) | Way::Redirect(_)) | None => None,
    }
}

fn ready(cell: &Cell, id: &str) {
    cell.netd.see_exit(ExitStatus {
        id: id.to_owned(),
        state: ExitState::Ready.into(),
        ..ExitStatus::default()
    });
}

fn connected(cell: &Cell, id: &str, addresses: &[&str]) {
    let ip = |text: &&str| text.parse::<IpAddr>().unwrap().into();
    cell.openvpn.see(id, |status| {
        status.state = State::Connected.into();
        status.since_unix_ms = START_MS;
        status.addresses = addresses.iter().map(ip).collect();
        status.resolvers = ["10.99.0.1", "fd99::1"].iter().map(ip).collect();
        status.mtu_bytes = 1400;
        (status.reason, status.detail) = Default::default();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_gave_gets_to_netd_and_to_dns() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "phone", 1).await;
    let id = openvpn(&admin, "ovpn").await;
    bind(&admin, "phone", json!(id)).await.expect(200);
    eventually("netd makes its interface", || tunnel(&cell, &id).is_some()).await;
    let before = tunnel(&cell, &id).unwrap();
    assert_eq!((before.addresses.len(), before.mtu_bytes), (0, 1500));
    let servers: Vec<(u32, i32)> = before
        .servers
        .iter()
        .map(|server| (server.endpoint.as_ref().unwrap().port, server.protocol))
        .collect();
    assert_eq!(
        servers,
        [(443, Protocol::Tcp.into())],
        "the other is a name that is not known"
    );
    eventually("cell-openvpn has it", || cell.openvpn.exits().len() == 1).await;
    let told = cell.openvpn.exits().remove(0);
    assert!(told.id == id && told.interface.starts_with("ovpn_") && told.has_login);
    assert_eq!(
        (told.sealed_blocks, told.remotes.len()),
        (vec!["tls-crypt".to_owned()], 1)
    );
    let first: Vec<&str> = told
        .directives
        .iter()
        .map(|line| line.words[0].as_str())
        .collect();
    assert_eq!(first, ["cipher", "auth", "verify-x509-name"]);
    assert_eq!(cell.netd.state.lock().unwrap().exit_of("phone").unwrap(), id);

    ready(&cell, &id);
    becomes(&admin, &id, "down", "vpn.example.org").await;
    cell.egress.state.lock().unwrap().hosts.insert(
        "vpn.example.org".to_owned(),
        vec!["198.51.100.9".parse().unwrap()],
    );
    cell.advance(Duration::from_secs(120));
    becomes(&admin, &id, "unknown", "no session").await;
    eventually("both servers are known", || {
        cell.openvpn
            .exits()
            .first()
            .is_some_and(|exit| exit.remotes.len() == 2)
    })
    .await;

    connected(&cell, &id, &["10.99.0.2"]);
    becomes(&admin, &id, "working", "a session").await;
    eventually("netd has the address", || {
        tunnel(&cell, &id).is_some_and(|tunnel| tunnel.addresses.len() == 1 && tunnel.mtu_bytes == 1400)
    })
    .await;
    eventually("its resolver is asked through it", || {
        let dns = cell.egress.dns();
        let of_exit = dns.exits.iter().find(|exit| exit.id == id);
        of_exit.is_some_and(|exit| {
            let ips: Vec<IpAddr> = exit
                .upstreams
                .iter()
                .map(|at| std::net::SocketAddr::try_from(at).unwrap().ip())
                .collect();
            ips == ["10.99.0.1".parse::<IpAddr>().unwrap()]
        })
    })
    .await;
    // Another session, of both families.
    connected(&cell, &id, &["10.99.0.7", "fd99::7"]);
    eventually("netd has both", || {
        tunnel(&cell, &id).is_some_and(|tunnel| tunnel.addresses.len() == 2)
    })
    .await;
    admin.delete(&format!("{ALL}/{id}")).await.expect(409);
    bind(&admin, "phone", Value::Null).await.expect(200);
    admin.delete(&format!("{ALL}/{id}")).await.expect(204);
    eventually("it is gone everywhere", || {
        cell.openvpn.exits().is_empty() && tunnel(&cell, &id).is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_program_does_is_its_health() {
    let mut cell = Cell::ready().await;
    let admin = cell.admin().await;
    cell.egress.state.lock().unwrap().hosts.insert(
        "vpn.example.org".to_owned(),
        vec!["198.51.100.9".parse().unwrap()],
    );
    let id = openvpn(&admin, "ovpn").await;
    eventually("cell-openvpn has it", || cell.openvpn.exits().len() == 1).await;
    ready(&cell, &id);
    connected(&cell, &id, &["10.99.0.2"]);
    becomes(&admin, &id, "working", "a session").await;
    cell.openvpn.see(&id, |status| {
        status.state = State::Waiting.into();
        status.reason = "LOGIN_REFUSED".to_owned();
        status.detail = "the server does not take the user's name or password".to_owned();
    });
    becomes(&admin, &id, "down", "LOGIN_REFUSED").await;
    connected(&cell, &id, &["10.99.0.2"]);
    becomes(&admin, &id, "working", "a session").await;
    // Its session is there, and nothing comes back through it.
    cell.advance(Duration::from_secs(10));
    cell.egress.prove(&id, 0, START_MS + 9_000);
    becomes(&admin, &id, "down", "not answered").await;
    cell.egress.prove(&id, START_MS + 9_500, 0);
    becomes(&admin, &id, "working", "a session").await;
    cell.netd.see_exit(ExitStatus {
        id: id.clone(),
        state: ExitState::Failed.into(),
        detail: "the machine's own network".to_owned(),
        ..ExitStatus::default()
    });
    becomes(&admin, &id, "down", "own network").await;
    ready(&cell, &id);

    // Away: its programs may run on, and netd keeps the addresses.
    cell.openvpn.kill();
    becomes(&admin, &id, "unknown", "cell-openvpn does not answer").await;
    assert_eq!(tunnel(&cell, &id).unwrap().addresses.len(), 1);
    let status = admin.get("/api/status").await.expect(200).json();
    let mut daemons = status["daemons"].as_array().unwrap().iter();
    let daemon = daemons.find(|daemon| daemon["name"] == "openvpn").unwrap();
    assert_eq!(daemon["reachable"], json!(false));
    cell.openvpn.resume();
    eventually("it is told again", || cell.openvpn.exits().len() == 1).await;
    eventually("and what its server gave is to be given again", || {
        tunnel(&cell, &id).is_some_and(|tunnel| tunnel.addresses.is_empty())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_bound_to_one_that_is_refused_stays_closed() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "phone", 1).await;
    cell.openvpn.state.lock().unwrap().refuses = true;
    cell.egress.state.lock().unwrap().hosts.insert(
        "vpn.example.org".to_owned(),
        vec!["198.51.100.9".parse().unwrap()],
    );
    let id = openvpn(&admin, "ovpn").await;
    becomes(
        &admin,
        &id,
        "down",
        "cell-openvpn does not take it: directives[3]",
    )
    .await;
    bind(&admin, "phone", json!(id)).await.expect(200);
    assert_eq!(
        cell.netd.state.lock().unwrap().exit_of("phone").unwrap(),
        id,
        "its way leads nowhere, and not another way"
    );
}
