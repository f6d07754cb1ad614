//! The real binary, killed with SIGKILL while it carries the first version's exits: at the border of each of its steps, and at
//! random moments. Whoever begins again comes to the same end, nothing is made twice, and no secret stays that nothing
//! refers to. Needs root, to start it as another user.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cell_api_core::audit::Verifier;
use serde_json::{Value, json};
use support::client::Client;
use support::process::{Process, prepare, started};
use support::{netd, v1, vault};

const IMPORT: &str = "/api/connectivity/import";
const CONNECTIONS: &str = "/api/connectivity/connections";
/// The devices of the files that have an exit.
const BOUND: [&str; 5] = ["phone", "laptop", "tv", "desk", "nas"];
/// What the files hold of secrets.
const SECRETS: usize = 6;
const RANDOM_ROUNDS: u64 = 24;

/// When a kill comes.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// The ids are written down, and vaultd has nothing yet.
    Begun,
    /// vaultd has so many of the secrets, and the database no connection.
    Sealed(usize),
    /// All is committed; the answer may be on its way.
    Committed,
    /// So long after the request was sent.
    After(Duration),
}

struct Stage {
    folder: PathBuf,
    vault: vault::FakeVault,
    client: Client,
    process: Process,
}

impl Stage {
    fn number(&self, sql: &str) -> usize {
        let database = rusqlite::Connection::open(self.folder.join("cell.db")).unwrap();
        database.busy_timeout(Duration::from_secs(5)).unwrap();
        database.query_row(sql, (), |row| row.get(0)).unwrap()
    }

    fn begun(&self) -> BTreeMap<String, String> {
        let database = rusqlite::Connection::open(self.folder.join("cell.db")).unwrap();
        let mut rows = database
            .prepare("SELECT type, connection FROM first_version_exit")
            .unwrap();
        let rows = rows.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    fn has_come(&self, moment: Moment, since: Instant, imports: usize) -> bool {
        let sealed = || self.vault.secrets.lock().unwrap().kept.len();
        match moment {
            Moment::Begun => {
                let sql = "SELECT COUNT(*) FROM first_version_exit WHERE made_unix_ms IS NULL";
                self.number(sql) == 5
            }
            Moment::Sealed(number) => sealed() >= number,
            Moment::Committed => {
                let sql = "SELECT COUNT(*) FROM audit WHERE action = 'connection.import'";
                self.number(sql) > imports
            }
            Moment::After(time) => since.elapsed() >= time,
        }
    }

    /// Imports, and kills when the moment has come; what was answered, if anything.
    async fn import_until_killed(&mut self, moment: Moment) -> Option<u16> {
        let imports = self.number("SELECT COUNT(*) FROM audit WHERE action = 'connection.import'");
        let (client, since) = (self.client.clone(), Instant::now());
        let asked = tokio::spawn(async move { client.try_post(IMPORT, &files()).await });
        while !self.has_come(moment, since, imports) && since.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        self.process.child.kill().unwrap();
        self.process.child.wait().unwrap();
        asked.await.unwrap().map(|answer| answer.status)
    }

    async fn start_again(&mut self) {
        self.process = Process::start(&self.folder);
        self.client.address = self.process.ready(&self.folder).await.address;
    }

    async fn connections(&self) -> Vec<Value> {
        let list = self.client.get(CONNECTIONS).await.expect(200).json();
        list["connections"].as_array().unwrap().clone()
    }

    /// How many of the devices have an exit.
    async fn bound(&self) -> usize {
        let peers = self.client.get("/api/peers").await.expect(200).json();
        let peers = peers["peers"].as_array().unwrap();
        peers
            .iter()
            .filter(|peer| !peer["exit_connection_id"].is_null())
            .count()
    }

    /// vaultd has what connections refer to and nothing else, sooner or later.
    async fn no_orphans(&self, what: &str) {
        let referred = referred(&self.connections().await);
        support::eventually(what, || {
            let names: BTreeSet<String> = self.vault.secrets.lock().unwrap().names().into_iter().collect();
            names == referred
        })
        .await;
    }

    /// Back to where nothing was imported, by the ways that people have.
    async fn clean(&self) {
        for device in BOUND {
            let path = format!("/api/connectivity/peers/{device}");
            let own_way = json!({"connection_id": null});
            self.client
                .put(&format!("{path}/exit"), &own_way)
                .await
                .expect(200);
            self.client
                .put(&format!("{path}/failopen"), &json!({"fail_open": null}))
                .await
                .expect(200);
        }
        for one in self.connections().await {
            let path = format!("{CONNECTIONS}/{}", one["id"].as_str().unwrap());
            self.client.delete(&path).await.expect(204);
        }
        assert!(self.vault.secrets.lock().unwrap().kept.is_empty());
    }
}

fn files() -> Value {
    json!({"config": v1::all(), "peers": v1::PEERS})
}

fn referred(connections: &[Value]) -> BTreeSet<String> {
    let names = connections
        .iter()
        .flat_map(|one| one["vault_names"].as_array().unwrap().clone());
    names.map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn check_audit(folder: &Path) {
    let database = rusqlite::Connection::open(folder.join("cell.db")).unwrap();
    let mut verifier = Verifier::new(BTreeMap::new());
    for record in cell_api::store::audit::page(&database, 1, u32::MAX).unwrap() {
        v1::keeps_quiet(&format!("{record:?}"));
        verifier.push(&record);
    }
    assert_eq!(verifier.finish().fault, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_in_the_middle_comes_to_the_same_end() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    prepare(folder);
    let _netd = netd::FakeNetd::start(folder.join("netd.sock")).await;
    let vault = vault::FakeVault::start(folder.join("vault.sock"), support::START_MS).await;
    let (process, client) = started(folder).await;
    for (number, name) in (1..).zip(BOUND) {
        support::add(&client, name, number).await;
    }
    // Slow, so that a kill hits between two secrets.
    vault.secrets.lock().unwrap().delay = Duration::from_millis(8);
    let mut stage = Stage {
        folder: folder.to_owned(),
        vault,
        client,
        process,
    };

    let borders = [Moment::Begun, Moment::Committed].into_iter();
    let borders = borders.chain((1..=SECRETS).map(Moment::Sealed));
    let random = (0..RANDOM_ROUNDS).map(|round| Moment::After(Duration::from_micros(1_000 + 7_173 * round)));
    let (mut nothing, mut orphans, mut whole) = (0, 0, 0);
    for moment in borders.chain(random) {
        let answered = stage.import_until_killed(moment).await;
        assert!(
            answered.is_none_or(|status| status == 200),
            "{moment:?}: {answered:?}"
        );
        let (left, begun) = (stage.vault.secrets.lock().unwrap().kept.len(), stage.begun());
        stage.start_again().await;

        // Wholly there, or wholly not.
        let (made, bound) = (stage.connections().await, stage.bound().await);
        match (made.len(), bound) {
            (0, 0) => {
                nothing += 1;
                orphans += usize::from(left > 0);
                assert_eq!(answered, None, "{moment:?}: what was acknowledged is lost");
                assert!(!matches!(moment, Moment::Committed), "it was committed");
            }
            (5, 5) => {
                whole += 1;
                assert!(
                    !matches!(moment, Moment::Begun | Moment::Sealed(1..=5)),
                    "{moment:?}"
                );
            }
            found => panic!("{moment:?}: {found:?} is half of it"),
        }
        // Half of the time it is begun again before the cell has removed what is left.
        if nothing % 2 == 0 {
            stage
                .no_orphans(&format!("{moment:?}: no secret stays that nothing refers to"))
                .await;
        }

        // Begun again, it comes to its end, with the ids that were written down.
        let again = stage.client.post(IMPORT, &files()).await.expect(200);
        v1::keeps_quiet(&again.text);
        let made = stage.connections().await;
        assert_eq!((made.len(), stage.bound().await), (5, 5), "{moment:?}");
        for one in &made {
            let kind = one["type"].as_str().unwrap();
            let known = begun.get(kind).filter(|_| !matches!(moment, Moment::After(_)));
            assert!(
                known.is_none_or(|id| one["id"] == json!(id)),
                "{moment:?}: {kind} has another id"
            );
        }
        stage.no_orphans(&format!("{moment:?}: each secret once")).await;
        assert_eq!(stage.vault.secrets.lock().unwrap().kept.len(), SECRETS);
        let sql = "SELECT COUNT(*) FROM connection WHERE secrets_whole = 0";
        assert_eq!(stage.number(sql), 0, "{moment:?}: all are whole");
        let proxy = made.iter().find(|one| one["type"] == "proxy").unwrap();
        let password = stage
            .vault
            .secrets
            .lock()
            .unwrap()
            .value(proxy["vault_names"][0].as_str().unwrap());
        assert_eq!(password, "battery@staple:2");
        let once_more = stage.client.post(IMPORT, &files()).await.expect(200).json();
        assert_eq!(
            once_more["plan"].as_array().unwrap().last().unwrap(),
            "There is nothing to do."
        );
        check_audit(folder);
        stage.clean().await;
    }
    let log = std::fs::read_to_string(folder.join("log")).unwrap();
    v1::keeps_quiet(&log);
    // After the commit for sure by the moment that waits for it; where the machine is slow, by no kill at random.
    assert!(
        nothing >= 6 && whole >= 1 && orphans >= 5,
        "kills hit too few borders: {nothing} before, {whole} after, {orphans} with secrets left"
    );
}
