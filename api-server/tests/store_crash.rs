//! The real binary and a broker, killed with SIGKILL while services come and go: at the border of each call of the broker, and at
//! random moments. It always ends installed or gone, and nothing is left over. Needs root, to start it as another user.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use support::broker::FakeBroker;
use support::catalog::{self, checked, notes};
use support::client::Client;
use support::process::{Process, prepare, started};
use support::{PASSWORD, START_MS, egress, netd, vault};

/// Milliseconds after the request at which cell-api is killed. A whole installation takes some hundred.
const MOMENTS: [u64; 8] = [0, 3, 8, 15, 30, 60, 120, 250];

struct Stage {
    folder: PathBuf,
    netd: netd::FakeNetd,
    broker: FakeBroker,
    process: Process,
    client: Client,
    _vault: vault::FakeVault,
    _egress: egress::FakeEgress,
    catalog: tempfile::TempDir,
}

impl Stage {
    async fn start(folder: &Path) -> Stage {
        prepare(folder);
        // Elsewhere than its own folder: the sandbox lets it read there.
        let shelf = tempfile::tempdir().unwrap();
        std::fs::set_permissions(shelf.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        catalog::write(shelf.path(), &[notes("1.0.0")]);
        let policy = std::fs::read_to_string(folder.join("api.toml")).unwrap();
        let policy = format!("catalog = {:?}\n{policy}", shelf.path().display().to_string());
        std::fs::write(folder.join("api.toml"), policy).unwrap();
        let netd = netd::FakeNetd::start(folder.join("netd.sock")).await;
        let vault = vault::FakeVault::start(folder.join("vault.sock"), START_MS).await;
        let egress = egress::FakeEgress::start(folder.join("egress.sock"));
        let broker = FakeBroker::start(folder.join("broker.sock"));
        let (process, client) = started(folder).await;
        Stage {
            folder: folder.to_owned(),
            netd,
            broker,
            process,
            client,
            _vault: vault,
            _egress: egress,
            catalog: shelf,
        }
    }

    /// Ends cell-api, whatever it does, and starts it anew.
    async fn killed(&mut self, after: Duration) {
        tokio::time::sleep(after).await;
        self.process.child.kill().unwrap();
        self.process.child.wait().unwrap();
        self.process = Process::start(&self.folder);
        self.client = self.process.ready(&self.folder).await;
        self.client.login("anna", PASSWORD).await;
    }

    async fn service(&self) -> Option<Value> {
        let answer = self.client.get("/api/services/notes").await;
        (answer.status == 200).then(|| answer.json())
    }

    async fn until(&mut self, what: &str, holds: impl Fn(Option<&Value>) -> bool) {
        for _ in 0..400 {
            if self.broker.is_dead() {
                tokio::time::sleep(Duration::from_millis(50)).await;
                self.broker.revive();
            }
            let told = self.service().await;
            if holds(told.as_ref()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!(
            "never {what}: {:?} {:?}",
            self.service().await,
            self.broker.calls()
        );
    }

    async fn installed(&mut self) {
        self.until("installed", |told| {
            told.is_some_and(|one| one["phase"] == "installed")
        })
        .await;
        let state = self.broker.state.lock().unwrap();
        let made = &state.made["notes"];
        assert_eq!(
            (made.deployment.bridge.as_str(), state.made.len()),
            ("cellsvc1", 1)
        );
        drop(state);
        let spec = self.netd.state.lock().unwrap().spec.clone().unwrap();
        assert_eq!((spec.service_networks.len(), spec.entries.len()), (1, 1));
    }

    async fn gone(&mut self) {
        self.until("gone", |told| told.is_none()).await;
        {
            let state = self.broker.state.lock().unwrap();
            assert!(state.made.is_empty() && state.volumes.is_empty());
        }
        let netd = std::sync::Arc::clone(&self.netd.state);
        support::eventually("netd has nothing of it", || {
            let state = netd.lock().unwrap();
            let spec = state.spec.as_ref().unwrap();
            spec.service_networks.is_empty() && spec.entries.is_empty()
        })
        .await;
        let database = rusqlite::Connection::open(self.folder.join("cell.db")).unwrap();
        database.busy_timeout(Duration::from_secs(5)).unwrap();
        for table in [
            "service",
            "service_manifest",
            "service_network",
            "service_container",
            "service_access",
        ] {
            let sql = format!("SELECT COUNT(*) FROM {table}");
            let rows: u32 = database.query_row(&sql, (), |row| row.get(0)).unwrap();
            assert_eq!(rows, 0, "{table}");
        }
        assert!(!self.folder.join("services/notes").exists());
    }

    async fn install(&self) {
        let body = json!({"everyone": true});
        let answer = self.client.post("/api/services/notes/install", &body).await;
        assert!([202, 409].contains(&answer.status), "{}", answer.json());
    }

    /// Has it updated to this version, and its check say this when it was looked at.
    async fn update(&self, version: &str, says: &'static str) {
        let newer = catalog::write(self.catalog.path(), &[checked(notes(version))])[0].clone();
        self.broker.with(|state| state.checks.insert(newer, says));
        let answer = self.client.post("/api/services/notes/update", &json!({})).await;
        assert_eq!(answer.status, 202, "{}", answer.json());
    }

    async fn remove(&self) {
        self.client
            .delete("/api/services/notes?delete_volumes=true")
            .await
            .expect(202);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whenever_cell_api_is_killed_it_ends_installed_or_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::start(folder.path()).await;
    for moment in MOMENTS.map(Duration::from_millis) {
        stage.install().await;
        stage.killed(moment).await;
        stage.installed().await;
        stage.remove().await;
        stage.killed(moment).await;
        stage.gone().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_answer_of_the_broker_is_lost_it_ends_installed_or_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::start(folder.path()).await;
    for call in 1..=3 {
        stage.broker.state.lock().unwrap().dies_after = Some(call);
        stage.install().await;
        stage.installed().await;
        stage.broker.state.lock().unwrap().dies_after = Some(1);
        stage.remove().await;
        stage.gone().await;
    }
    let calls = stage.broker.calls();
    assert!(
        calls.iter().filter(|call| call.starts_with("remove")).count() >= 6,
        "each was done and its answer lost"
    );
}

/// An update is written down with what there is to go back to, so that whoever is killed in the middle of its trial ends at what works.
#[tokio::test(flavor = "multi_thread")]
async fn whenever_cell_api_is_killed_an_update_ends_at_what_works() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::start(folder.path()).await;
    stage.install().await;
    stage.installed().await;
    let ends = |version: &'static str, code: Value| {
        move |told: Option<&Value>| {
            told.is_some_and(|one| {
                one["phase"] == "installed" && one["version"] == version && one["error"]["code"] == code
            })
        }
    };
    for moment in [0, 30, 120, 400].map(Duration::from_millis) {
        stage.update("2.0.0", "unhealthy").await;
        stage.killed(moment).await;
        stage
            .until("taken back", ends("1.0.0", json!("UPDATE_TAKEN_BACK")))
            .await;
    }
    // In the middle of the trial: it goes on after the start, and knows the way back.
    stage.update("2.0.0", "starting").await;
    let on_trial = |told: Option<&Value>| told.is_some_and(|one| one["waiting"]["code"] == "HEALTH");
    stage.until("on trial", on_trial).await;
    stage.killed(Duration::ZERO).await;
    stage.until("on trial again", on_trial).await;
    stage
        .broker
        .with(|state| state.made.get_mut("notes").unwrap().health = "unhealthy".to_owned());
    stage
        .until("taken back", ends("1.0.0", json!("UPDATE_TAKEN_BACK")))
        .await;
    stage.update("3.0.0", "starting").await;
    stage.until("on trial", on_trial).await;
    stage.killed(Duration::ZERO).await;
    stage.until("on trial again", on_trial).await;
    stage
        .broker
        .with(|state| state.made.get_mut("notes").unwrap().health = "healthy".to_owned());
    stage.until("updated", ends("3.0.0", Value::Null)).await;
    stage.installed().await;
}

/// After a start, what is installed is asked for again: a machine that was started anew has containers that nobody has started.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_installed_is_asked_for_again_after_a_start_and_what_was_stopped_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::start(folder.path()).await;
    stage.install().await;
    stage.installed().await;
    let deploys = |stage: &Stage| {
        stage
            .broker
            .calls()
            .iter()
            .filter(|call| call.starts_with("deploy"))
            .count()
    };
    let before = deploys(&stage);
    stage
        .broker
        .state
        .lock()
        .unwrap()
        .made
        .get_mut("notes")
        .unwrap()
        .running = false;
    stage.killed(Duration::ZERO).await;
    let state = std::sync::Arc::clone(&stage.broker.state);
    support::eventually("it is started again", || {
        state.lock().unwrap().made["notes"].running
    })
    .await;
    assert!(deploys(&stage) > before);
    // What somebody took away behind the cell's back is made again, and its new address told.
    let removed = stage.broker.state.lock().unwrap().made.remove("notes").unwrap();
    let address = |made: &support::broker::Made| made.deployment.containers[0].address.clone();
    support::eventually("it is made again", || {
        state
            .lock()
            .unwrap()
            .made
            .get("notes")
            .is_some_and(|made| address(made) != address(&removed))
    })
    .await;
    stage.installed().await;

    stage
        .client
        .post("/api/services/notes/stop", &json!({}))
        .await
        .expect(200);
    stage.killed(Duration::ZERO).await;
    let before = deploys(&stage);
    // Killed before the broker heard of it, it is what cell-api does first when it is back.
    support::eventually("it is stopped", || !state.lock().unwrap().made["notes"].running).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(deploys(&stage), before);
    assert!(!state.lock().unwrap().made["notes"].running);
}
