//! The real binary, in its sandbox, killed with SIGKILL at random moments: what was acknowledged is there afterwards,
//! what was not is wholly there or wholly not, and the audit chain holds. Needs root, to start it as another user.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use cell_api_core::audit::Verifier;
use serde_json::{Value, json};
use support::client::Client;
use support::process::{Process, prepare, started};
use support::{egress, key, netd, vault};

const ROUNDS: u64 = 12;

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_sigkill() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    prepare(folder);
    let netd = netd::FakeNetd::start(folder.join("netd.sock")).await;
    let _vault = vault::FakeVault::start(folder.join("vault.sock"), support::START_MS).await;
    let (mut process, mut client) = started(folder).await;

    let mut acknowledged: BTreeMap<String, String> = BTreeMap::new();
    let mut attempted = 0u64;
    for round in 0..ROUNDS {
        // A moment that moves through the life of a request and differs in each round.
        let killer = process.killed_after(Duration::from_micros(80_000 + 37_321 * round));
        loop {
            attempted += 1;
            let name = format!("p{attempted}");
            let body = json!({"name": name, "public_key": key(attempted)});
            match client.try_post("/api/peers", &body).await {
                Some(answer) => {
                    assert_eq!(answer.status, 201, "{}", answer.text);
                    acknowledged.insert(name, answer.json()["peer"]["ipv4"].as_str().unwrap().to_owned());
                }
                None => break,
            }
        }
        killer.join().unwrap();
        process.child.wait().unwrap();
        process = Process::start(folder);
        let fresh = process.ready(folder).await;
        // The session survives the kill too.
        client.address = fresh.address;
        let peers = client.get("/api/peers").await.expect(200).json();
        let stored: BTreeMap<String, String> = peers["peers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| {
                (
                    p["name"].as_str().unwrap().to_owned(),
                    p["ipv4"].as_str().unwrap().to_owned(),
                )
            })
            .collect();
        for (name, address) in &acknowledged {
            assert_eq!(
                stored.get(name),
                Some(address),
                "round {round}: an acknowledged peer is lost or changed"
            );
        }
        // At most the one request under way at the moment of the kill was committed and not acknowledged.
        assert!(stored.len() as u64 <= acknowledged.len() as u64 + round + 1);
        check_database(folder, stored.len() as u64);
    }
    assert!(
        acknowledged.len() as u64 > ROUNDS * 2,
        "only {} writes were acknowledged",
        acknowledged.len()
    );
    let known = client.get("/api/status").await.expect(200).json()["peer_count"]
        .as_u64()
        .unwrap();
    for _ in 0..100 {
        if netd.peer_names().len() as u64 == known {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("netd never got every peer");
}

/// Each peer has its audit record and its generation, or none of the three is there.
fn check_database(folder: &Path, peers: u64) {
    let database = rusqlite::Connection::open(folder.join("cell.db")).unwrap();
    let number = |sql: &str| database.query_row(sql, (), |row| row.get::<_, u64>(0)).unwrap();
    assert_eq!(
        number("SELECT COUNT(*) FROM audit WHERE action = 'peer.create'"),
        peers
    );
    assert_eq!(
        number("SELECT value FROM counter WHERE name = 'network_generation'"),
        peers + 1
    );
    assert_eq!(
        number("SELECT value FROM counter WHERE name = 'highest_host'"),
        peers + 1
    );
    let mut verifier = Verifier::new(BTreeMap::new());
    for record in cell_api::store::audit::page(&database, 1, u32::MAX).unwrap() {
        verifier.push(&record);
    }
    assert_eq!(verifier.finish().fault, None);
    let integrity: String = database
        .query_row("PRAGMA integrity_check", (), |row| row.get(0))
        .unwrap();
    assert_eq!(integrity, "ok");
}

const CONNECTIONS: &str = "/api/connectivity/connections";

/// 198.18.0.0, from which the addresses of servers are counted.
const SERVERS: u32 = 0xc612_0000;

/// A tunnel whose server and keys are all of one number, so that a mixture shows.
fn tunnel(number: u64) -> Value {
    let (private, preshared) = (key(number), key(1_000_000 + number));
    json!({"file": format!(
        "[Interface]\nPrivateKey = {private}\nAddress = 10.2.0.2/32\n[Peer]\nPublicKey = {}\n\
         PresharedKey = {preshared}\nAllowedIPs = 0.0.0.0/0\nEndpoint = {}:1\n", key(7), Ipv4Addr::from_bits(SERVERS + number as u32)
    )})
}

/// The number of a tunnel that is listed.
fn number_of(connection: &Value) -> u64 {
    let host = connection["config"]["servers"][0]["host"].as_str().unwrap();
    u64::from(host.parse::<Ipv4Addr>().unwrap().to_bits() - SERVERS)
}

/// What was acknowledged of a connection: the number of its tunnel, and its path.
type Known = BTreeMap<String, (u64, String)>;

/// Adds, replaces and removes until there is no answer; the name of what was under way then.
async fn change_until_killed(client: &Client, next: &mut u64, known: &mut Known) -> String {
    loop {
        *next += 1;
        let number = *next;
        let (name, import) = (format!("c{number}"), tunnel(number));
        let body = json!({"name": name, "type": "wireguard_ext", "import": import});
        let Some(answer) = client.try_post(CONNECTIONS, &body).await else {
            return name;
        };
        let id = answer.expect(201).json()["connection"]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let path = format!("{CONNECTIONS}/{id}");
        known.insert(name.clone(), (number, path.clone()));
        let other = 10_000 + number;
        let body = json!({"import": tunnel(other)});
        let Some(answer) = client.try_change("PUT", &path, &body).await else {
            return name;
        };
        answer.expect(200);
        known.insert(name.clone(), (other, path.clone()));
        if number.is_multiple_of(3) {
            let Some(answer) = client.try_change("DELETE", &path, &json!({})).await else {
                return name;
            };
            answer.expect(204);
            known.remove(&name);
        }
    }
}

/// vaultd is slow here, so that most kills hit between two secrets, or between them and the record.
#[tokio::test(flavor = "multi_thread")]
async fn no_kill_leaves_a_connection_that_seems_whole_with_other_secrets_or_a_secret_that_stays() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    prepare(folder);
    let _netd = netd::FakeNetd::start(folder.join("netd.sock")).await;
    let vault = vault::FakeVault::start(folder.join("vault.sock"), support::START_MS).await;
    let (mut process, mut client) = started(folder).await;
    vault.secrets.lock().unwrap().delay = Duration::from_millis(8);

    let (mut known, mut next, mut broken, mut orphans) = (Known::new(), 0, 0, 0);
    // Where a machine is so slow or quick that no moment was the right one, more are tried.
    for round in 0..ROUNDS * 8 {
        if round >= ROUNDS * 2 && broken > 0 && orphans > 0 {
            break;
        }
        let moment = 9_173 * (round % (ROUNDS * 2)) + 2_311 * (round / (ROUNDS * 2));
        let killer = process.killed_after(Duration::from_micros(60_000 + moment));
        let under_way = change_until_killed(&client, &mut next, &mut known).await;
        killer.join().unwrap();
        process.child.wait().unwrap();
        let left = vault.secrets.lock().unwrap().names();
        process = Process::start(folder);
        client.address = process.ready(folder).await.address;

        let list = client.get(CONNECTIONS).await.expect(200).json();
        let listed = list["connections"].as_array().unwrap();
        let referred: BTreeSet<String> = listed
            .iter()
            .flat_map(|one| one["vault_names"].as_array().unwrap().clone())
            .map(|name| name.as_str().unwrap().to_owned())
            .collect();
        orphans += left.iter().filter(|name| !referred.contains(*name)).count();
        let what = format!("round {round}: vaultd has what is referred to and nothing else");
        support::eventually(&what, || {
            let names: BTreeSet<String> = vault.secrets.lock().unwrap().names().into_iter().collect();
            names == referred
        })
        .await;
        for one in listed {
            let (name, number) = (one["name"].as_str().unwrap(), number_of(one));
            if one["status"]["health"] == "down" {
                assert_eq!(name, under_way, "round {round}");
                broken += 1;
                let again = json!({"import": tunnel(number)});
                let path = format!("{CONNECTIONS}/{}", one["id"].as_str().unwrap());
                client.put(&path, &again).await.expect(200);
            }
            let secrets = vault.secrets.lock().unwrap();
            let value = |at: usize| secrets.value(one["vault_names"][at].as_str().unwrap());
            assert_eq!(
                (value(0), value(1)),
                (key(1_000_000 + number), key(number)),
                "round {round}: {name}"
            );
        }
        let stored: BTreeMap<&str, u64> = listed
            .iter()
            .map(|one| (one["name"].as_str().unwrap(), number_of(one)))
            .collect();
        for (name, (number, _)) in known.iter().filter(|(name, _)| **name != under_way) {
            assert_eq!(
                stored.get(name.as_str()),
                Some(number),
                "round {round}: {name} was acknowledged"
            );
        }
        known.retain(|name, _| *name != under_way);
        let unknown = stored.keys().filter(|name| !known.contains_key(**name));
        let unknown: Vec<String> = unknown.map(|name| (*name).to_owned()).collect();
        // What was not acknowledged is wholly there or wholly not; it goes, so that the next round begins clean.
        for one in listed
            .iter()
            .filter(|one| unknown.contains(&one["name"].as_str().unwrap().to_owned()))
        {
            client
                .delete(&format!("{CONNECTIONS}/{}", one["id"].as_str().unwrap()))
                .await
                .expect(204);
        }
        assert!(
            unknown.iter().all(|name| *name == under_way),
            "round {round}: {unknown:?}"
        );
    }
    assert!(next > ROUNDS * 2, "only {next} were begun");
    assert!(
        broken > 0 && orphans > 0,
        "no kill hit where it hurts: {broken}, {orphans}"
    );
}

/// Binds a device to one connection after the other until there is no answer; how often that was acknowledged, and what
/// it was bound to last.
async fn bind_until_killed(client: &Client, ids: &[String]) -> (u64, Value) {
    let (mut acknowledged, mut last) = (0, Value::Null);
    loop {
        let id = &ids[acknowledged as usize % ids.len()];
        let body = json!({"connection_id": id});
        let path = "/api/connectivity/peers/phone/exit";
        let Some(answer) = client.try_change("PUT", path, &body).await else {
            return (acknowledged, last);
        };
        last = answer.expect(200).json()["exit_connection_id"].clone();
        assert_eq!(last, json!(id));
        acknowledged += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_binding_survives_sigkill_and_netd_has_it_afterwards() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    prepare(folder);
    let netd = netd::FakeNetd::start(folder.join("netd.sock")).await;
    let _vault = vault::FakeVault::start(folder.join("vault.sock"), support::START_MS).await;
    let (mut process, mut client) = started(folder).await;
    let mut ids = Vec::new();
    for number in [1, 2] {
        let body = json!({"name": format!("c{number}"), "type": "wireguard_ext", "import": tunnel(number)});
        let made = client.post(CONNECTIONS, &body).await.expect(201).json();
        ids.push(made["connection"]["id"].as_str().unwrap().to_owned());
    }
    support::add(&client, "phone", 1).await;
    let mut total = 0;
    for round in 0..ROUNDS {
        let before = client.get("/api/peers/phone").await.expect(200).json()["exit_connection_id"].clone();
        let killer = process.killed_after(Duration::from_micros(60_000 + 29_173 * round));
        let (acknowledged, last) = bind_until_killed(&client, &ids).await;
        killer.join().unwrap();
        process.child.wait().unwrap();
        let next = &ids[acknowledged as usize % ids.len()];
        let database = rusqlite::Connection::open(folder.join("cell.db")).unwrap();
        let sql = "SELECT COUNT(*) FROM audit WHERE action = 'peer.exit'";
        let audited: u64 = database.query_row(sql, (), |row| row.get(0)).unwrap();
        drop(database);
        process = Process::start(folder);
        client.address = process.ready(folder).await.address;
        let stored = client.get("/api/peers/phone").await.expect(200).json()["exit_connection_id"].clone();
        let acknowledged_last = if acknowledged == 0 { &before } else { &last };
        // Of the one under way there is the binding and its record, or neither.
        if audited == total + acknowledged {
            assert_eq!(stored, *acknowledged_last, "round {round}");
        } else {
            assert_eq!(
                (audited, &stored),
                (total + acknowledged + 1, &json!(next)),
                "round {round}"
            );
        }
        total = audited;
        support::eventually("netd has what is stored", || {
            netd.state.lock().unwrap().exit_of("phone").map(Value::from) == Some(stored.clone())
        })
        .await;
    }
    assert!(total > ROUNDS, "only {total} bindings");
}

/// What is known of exits is in no file, and yet nobody who fails open goes another way because `cell-api` was killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_sends_nobody_out_directly_whose_exit_works() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    prepare(folder);
    let netd = netd::FakeNetd::start(folder.join("netd.sock")).await;
    let egress = egress::FakeEgress::start(folder.join("egress.sock"));
    let _vault = vault::FakeVault::start(folder.join("vault.sock"), support::START_MS).await;
    let (mut process, client) = started(folder).await;
    let body = json!({"name": "onion", "type": "tor"});
    let made = client.post(CONNECTIONS, &body).await.expect(201).json();
    let id = made["connection"]["id"].as_str().unwrap().to_owned();
    support::add(&client, "phone", 1).await;
    let body = json!({"connection_id": id});
    client
        .put("/api/connectivity/peers/phone/exit", &body)
        .await
        .expect(200);
    let exit = || netd.state.lock().unwrap().exit_of("phone").unwrap();
    assert_eq!(exit(), "", "tor fails open, and nothing has come through yet");
    support::eventually("cell-egress has it", || egress.ids() == [id.clone()]).await;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    egress.see(&id, now.as_millis() as i64, 0);
    support::eventually("it works", || exit() == id).await;
    process.killed_after(Duration::ZERO).join().unwrap();
    process.child.wait().unwrap();
    let applies = netd.state.lock().unwrap().full_applies;
    process = Process::start(folder);
    let told = std::time::Instant::now();
    while netd.state.lock().unwrap().full_applies == applies {
        assert!(told.elapsed() < Duration::from_secs(20), "netd is told nothing");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..200 {
        assert_eq!(exit(), id, "it went out directly");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    process.killed_after(Duration::ZERO).join().unwrap();
    process.child.wait().unwrap();
}
