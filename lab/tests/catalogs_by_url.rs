//! A remote catalog with real parts: a cell whose API has no network, its relay held by netd's rules, a resolver and an HTTPS server on what
//! stands for the internet. Needs root and the built programs.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use anyhow::{Context as _, Result};
use cell_lab::cell::Cell;
use cell_lab::process::until;
use cell_lab::publisher::{HOST, Publisher, URL};
use cell_lab::rest::{Rest, Setup};
use cell_lab::topology::{CELL, FAR_HOST, World};
use serde_json::{Value, json};

/// How long a busy machine may take until the cell has fetched something.
const PATIENCE: Duration = Duration::from_secs(90);

/// The catalog's one service, in the version of this serial.
fn publish(owner: &Publisher, serial: u64) -> Result<()> {
    owner.write(
        &json!({"schema_version": 3, "kind": "store", "id": "wiki", "name": "Wiki", "version": format!("1.{serial}"),
        "containers": [{"name": "wiki", "image": format!("reg.example/wiki@sha256:{}", "0f".repeat(32)), "user": "1000:1000",
            "limits": {"memory_mib": 32, "cpu_milli": 100, "pids": 16}}]}),
    )?;
    owner.publish(serial)
}

fn signed_in(cell: &Cell) -> Result<Rest> {
    let mut rest = cell.rest();
    rest.setup(&Setup {
        claim_token: cell.claim_token()?,
        cell_name: "catalogs".into(),
        vpn_range_ipv4: "10.87.0.0/24".into(),
        vpn_range_ipv6: "fd87::/64".into(),
        endpoint_host: CELL.v4.to_string(),
        username: "admin".into(),
        password: "correct horse battery".into(),
    })?;
    let body = json!({"dns_upstreams": [FAR_HOST.v4.to_string()]});
    rest.put("/api/config", &body)?.expect(200)?;
    Ok(rest)
}

/// Looks until what is told of the catalog is so.
fn told(rest: &mut Rest, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut last = Value::Null;
    until(PATIENCE, what, || {
        last = rest
            .post("/api/store/catalogs/more/refresh", &json!({}))
            .ok()?
            .expect(200)
            .ok()?;
        is_it(&last).then(|| last.clone())
    })
    .with_context(|| format!("the last that was told: {last}"))
}

#[test]
fn a_catalog_is_fetched_by_the_cells_own_way_and_an_older_one_is_refused_over_a_crash() -> Result<()> {
    let world = World::new()?;
    let owner = Publisher::new()?;
    publish(&owner, 2)?;
    let https = owner.serve(&world.internet)?;
    let cell = Cell::start(&world.cell)?;
    let mut rest = signed_in(&cell)?;

    let body = json!({"name": "more", "url": URL, "keys": [owner.key()?], "ca": https.ca});
    rest.post("/api/store/catalogs", &body)?.expect(201)?;
    let fetched = told(&mut rest, "the catalog", |told| {
        told["serial"] == 2 && told["error"].is_null()
    })
    .with_context(|| cell.output())?;
    assert_eq!(fetched["services"], 1, "{fetched}");
    let store = rest.get("/api/store/catalog")?.expect(200)?;
    let services = store["services"].as_array().context("services")?;
    let wiki = services.iter().find(|one| one["id"] == "wiki").context("wiki")?;
    assert_eq!(
        (&wiki["origin"], &wiki["version"]),
        (&json!("more"), &json!("1.2")),
        "{wiki}"
    );

    // Somebody puts the former index back, and the API dies meanwhile.
    publish(&owner, 1)?;
    cell.crash("api")?;
    let mut rest = cell.rest();
    until(PATIENCE, "a session", || {
        rest.login("admin", "correct horse battery").ok()
    })?;
    let refused = told(&mut rest, "the refusal", |told| !told["error"].is_null())?;
    assert!(
        refused["error"].as_str().unwrap().contains("older index"),
        "{refused}"
    );
    assert_eq!(refused["serial"], 2);
    publish(&owner, 3)?;
    told(&mut rest, "the next one", |told| {
        told["serial"] == 3 && told["error"].is_null()
    })?;

    // What the ceiling does not list is not connected to: another port of the same server.
    rest.delete("/api/store/catalogs/more")?.expect(204)?;
    let mut elsewhere = body;
    elsewhere["url"] = json!(format!("https://{HOST}:8443/cell/"));
    rest.post("/api/store/catalogs", &elsewhere)?.expect(201)?;
    let refused = told(&mut rest, "the refusal of the relay", |told| {
        told["error"]
            .as_str()
            .is_some_and(|error| error.contains("NOT_A_CATALOG"))
    })?;
    assert_eq!(refused["serial"], Value::Null);
    cell.stop()
}
