//! A Docker that is not there: keeps the engine's contract, and counts what it is asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;
use cell_broker::engine::{Engine, EngineError, LISTED_MAX, Version};
use cell_broker_core::logs::{LogTail, Source, Tail};
use cell_broker_core::model::{ContainerId, ContainerState, Health, Observed, Ownership, ServiceName, Stats};
use cell_broker_core::{Permit, act};
use cell_manifest::ReloadSignal;
use tokio::sync::{Semaphore, mpsc};

#[derive(Default)]
pub struct Inner {
    containers: BTreeMap<ContainerId, Observed>,
    calls: Vec<String>,
    away: Option<EngineError>,
    /// Docker answers a list with these, whatever the filter says: the word of a Docker that errs.
    listed: Option<Vec<ContainerId>>,
    /// Of this one Docker says what nobody understands.
    garbled: Option<ContainerId>,
}

/// Cheap to clone: all clones are one Docker.
#[derive(Clone)]
pub struct FakeEngine {
    inner: Arc<Mutex<Inner>>,
    /// Each call takes one and gives it back; a test that holds them all holds all calls.
    pub gate: Arc<Semaphore>,
}

impl Default for FakeEngine {
    fn default() -> Self {
        FakeEngine {
            inner: Arc::default(),
            gate: Arc::new(Semaphore::new(64)),
        }
    }
}

impl FakeEngine {
    pub fn create(&self, labels: &[(&str, &str)]) -> ContainerId {
        let mut inner = self.inner.lock().unwrap();
        let id = ContainerId::try_from(&*format!("{:064x}", inner.containers.len() + 1)).unwrap();
        let observed = Observed {
            id: id.clone(),
            labels: labels
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            image: super::dockerd::IMAGE.to_owned(),
            state: ContainerState::Created,
            started_unix_ms: None,
            exit_code: 0,
            health: Health::Unchecked,
            restart_count: 0,
            memory_limit_bytes: 0,
        };
        inner.containers.insert(id.clone(), observed);
        id
    }

    pub fn remove(&self, id: &ContainerId) {
        self.inner.lock().unwrap().containers.remove(id);
    }

    pub fn set_state(&self, id: &ContainerId, state: ContainerState) {
        self.inner.lock().unwrap().containers.get_mut(id).unwrap().state = state;
    }

    pub fn go_away(&self, why: Option<EngineError>) {
        self.inner.lock().unwrap().away = why;
    }

    pub fn lie(&self, listed: Vec<ContainerId>) {
        self.inner.lock().unwrap().listed = Some(listed);
    }

    pub fn garble(&self, id: &ContainerId) {
        self.inner.lock().unwrap().garbled = Some(id.clone());
    }

    pub fn calls(&self) -> Vec<String> {
        self.inner.lock().unwrap().calls.clone()
    }

    async fn call<T>(
        &self,
        name: &str,
        id: Option<&ContainerId>,
        answer: impl FnOnce(&mut Inner) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let _passed = self.gate.acquire().await.unwrap();
        let mut inner = self.inner.lock().unwrap();
        inner
            .calls
            .push(id.map_or_else(|| name.to_owned(), |id| format!("{name} {id}")));
        if let Some(error) = &inner.away {
            return Err(error.clone());
        }
        answer(&mut inner)
    }

    async fn change(
        &self,
        name: &str,
        id: &ContainerId,
        change: impl FnOnce(&mut Observed),
    ) -> Result<(), EngineError> {
        let found = |inner: &mut Inner| inner.containers.get_mut(id).map(change).ok_or(EngineError::Gone);
        self.call(name, Some(id), found).await
    }
}

fn run(container: &mut Observed) {
    container.state = ContainerState::Running;
    container.started_unix_ms = Some(1_700_000_000_000);
}

fn end(container: &mut Observed) {
    container.state = ContainerState::Exited;
    container.exit_code = 7;
}

impl Engine for FakeEngine {
    async fn version(&self) -> Result<Version, EngineError> {
        self.call("version", None, |_| {
            Ok(Version {
                docker: "0.0".to_owned(),
                api: "1.41".to_owned(),
            })
        })
        .await
    }

    async fn list(
        &self,
        ownership: &Ownership,
        service: Option<&ServiceName>,
    ) -> Result<Vec<ContainerId>, EngineError> {
        let own = |inner: &mut Inner| {
            let matches = |container: &&Observed| {
                let named = ownership.service(&container.labels);
                ownership.owns(&container.labels)
                    && named.is_some_and(|named| service.is_none_or(|wanted| named == *wanted))
            };
            let matching = inner
                .containers
                .values()
                .filter(matches)
                .map(|container| container.id.clone());
            let all = inner.listed.clone().unwrap_or_else(|| matching.collect());
            Ok(all.into_iter().take(LISTED_MAX + 1).collect())
        };
        self.call("list", None, own).await
    }

    async fn inspect(&self, id: &ContainerId) -> Result<Observed, EngineError> {
        self.call("inspect", Some(id), |inner| {
            if inner.garbled.as_ref() == Some(id) {
                return Err(EngineError::Unusable("not of the documented form"));
            }
            inner.containers.get(id).cloned().ok_or(EngineError::Gone)
        })
        .await
    }

    async fn start(&self, permit: &Permit<act::Start>) -> Result<(), EngineError> {
        self.change("start", permit.id(), run).await
    }

    async fn stop(&self, permit: &Permit<act::Stop>) -> Result<(), EngineError> {
        let stop = |container: &mut Observed| {
            if container.state == ContainerState::Running {
                end(container);
            }
        };
        self.change("stop", permit.id(), stop).await
    }

    async fn restart(&self, permit: &Permit<act::Restart>) -> Result<(), EngineError> {
        self.change("restart", permit.id(), run).await
    }

    async fn reload(&self, permit: &Permit<act::Reload>, _signal: ReloadSignal) -> Result<(), EngineError> {
        self.change("reload", permit.id(), |_| {}).await
    }

    async fn logs(&self, permit: &Permit<act::Logs>) -> Result<LogTail, EngineError> {
        let mut tail = Tail::new(permit.act().lines);
        let said = |inner: &mut Inner| {
            let container = inner.containers.get(permit.id()).ok_or(EngineError::Gone)?;
            if container.started_unix_ms.is_some() {
                tail.push(Source::Output, b"one\n");
                tail.push(Source::Error, b"two\n");
            }
            Ok(tail.finish())
        };
        self.call("logs", Some(permit.id()), said).await
    }

    async fn follow(
        &self,
        permit: &Permit<act::Logs>,
        told: mpsc::Sender<LogTail>,
    ) -> Result<(), EngineError> {
        let tail = self.logs(permit).await?;
        let _ = told.send(tail).await;
        Ok(())
    }

    async fn archive(
        &self,
        permit: &Permit<act::Backup>,
        path: &str,
        _told: mpsc::Sender<Bytes>,
    ) -> Result<(), EngineError> {
        self.call(&format!("archive {path}"), Some(permit.id()), |_| {
            Err(EngineError::Gone)
        })
        .await
    }

    async fn stats(&self, permit: &Permit<act::Stats>) -> Result<Stats, EngineError> {
        let reading = |inner: &mut Inner| {
            inner.containers.get(permit.id()).ok_or(EngineError::Gone)?;
            Ok(Stats {
                cpu_usage_ns: 1,
                memory_usage_bytes: 4096,
                pids: 1,
                ..Stats::default()
            })
        };
        self.call("stats", Some(permit.id()), reading).await
    }
}
