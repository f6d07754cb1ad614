//! What stories about services of the store begin with and ask.

use std::collections::BTreeSet;
use std::time::Duration;

use cell_proto::netd::v1 as netd;
use serde_json::{Value, json};

use super::Cell;
use super::broker::FakeBroker;
use super::catalog::{self, board, caddy, notes};
use super::client::Client;

/// A cell with a catalog and a broker.
pub async fn ready() -> (Cell, FakeBroker, Client, Vec<String>) {
    let cell = Cell::ready().await;
    let broker = FakeBroker::start(cell.state().join("broker.sock"));
    let digests = catalog::write(&cell.state().join("catalog"), &[notes("1.0.0"), board(), caddy()]);
    let admin = cell.admin().await;
    (cell, broker, admin, digests)
}

/// `notes` with one port more than [`notes`] has.
pub fn notes_with(version: &str, port: u16) -> Value {
    let mut manifest = notes(version);
    let ports = manifest["containers"][0]["ports"].as_array_mut().unwrap();
    ports.push(json!({"port": port}));
    manifest
}

pub async fn install(admin: &Client, id: &str, body: Value) -> Value {
    let answer = admin.post(&format!("/api/services/{id}/install"), &body).await;
    answer.expect(202).json()["service"].clone()
}

/// Waits until what is told of a service is so.
pub async fn told(admin: &Client, service: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    // An update takes some seconds by itself.
    for _ in 0..600 {
        let answer = admin.get(&format!("/api/services/{service}")).await;
        last = answer.json();
        if answer.status == 200 && is_it(&last) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{service} is never told so: {last}");
}

/// Waits until a service stands so; what is told of it then.
pub async fn stands(admin: &Client, service: &str, phase: &str) -> Value {
    told(admin, service, |told| told["phase"] == phase).await
}

pub async fn gone(admin: &Client, service: &str) {
    for _ in 0..200 {
        if admin.get(&format!("/api/services/{service}")).await.status == 404 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{service} is never gone");
}

pub fn words(service: &netd::Service) -> String {
    let address = std::net::IpAddr::try_from(service.address.as_ref().unwrap()).unwrap();
    format!("{address}:{}", service.port)
}

/// What netd has of entries: where, and whether everyone may.
pub fn entries(cell: &Cell) -> Vec<(String, bool)> {
    let state = cell.netd.state.lock().unwrap();
    let all = state.spec.iter().flat_map(|spec| &spec.entries);
    all.map(|entry| (words(entry.at.as_ref().unwrap()), entry.everyone))
        .collect()
}

/// What a peer is granted at netd; none: netd does not have it.
pub fn granted(cell: &Cell, peer: &str) -> Option<BTreeSet<String>> {
    let state = cell.netd.state.lock().unwrap();
    let mut peers = state.spec.iter().flat_map(|spec| &spec.peers);
    let access = peers.find(|one| one.name == peer)?.access.clone();
    Some(access.unwrap_or_default().services.iter().map(words).collect())
}

pub fn networks(cell: &Cell) -> Vec<String> {
    let state = cell.netd.state.lock().unwrap();
    let all = state.spec.iter().flat_map(|spec| &spec.service_networks);
    all.map(|network| network.name.clone()).collect()
}
