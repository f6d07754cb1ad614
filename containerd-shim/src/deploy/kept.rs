//! What a deployed service keeps, and containers to read it from.
//!
//! Docker holds the lock of a container while it gives an archive of it: whoever reads one of a service's own slowly keeps it from
//! being looked at, stopped and started. So each that has a volume to read is made once more, looked at, and never started.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, PoisonError};

use anyhow::{Context as _, anyhow, ensure};
use bytes::Bytes;
use cell_broker_core::backup::{Head, Part, parts};
use cell_broker_core::deploy::{Given, compare};
use cell_broker_core::model::{ContainerId, ServiceName};
use cell_manifest::Digest;
use serde_json::json;
use tokio::sync::mpsc;

use super::store::Record;
use super::{DeployRefusal, Deployments};
use crate::backup::BackupFault;
use crate::binds;
use crate::broker::Refusal;
use crate::engine::EngineError;

/// What is to be read of a service, by the broker's own store and the manifest that it runs by.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What the backup says of itself; `made_unix_ms` is yet to be set.
    pub(crate) head: Head,
    /// The making that is read: another may have written something else.
    pub(crate) attempt: String,
    /// Each folder.
    pub(crate) parts: Vec<Part>,
    record: Record,
}

/// Where a volume is put back.
#[derive(Debug)]
pub(crate) struct WayBack {
    id: ContainerId,
    folder: String,
}

/// Containers to read a service's volumes from. Without [`Readers::remove`] they go at the next look for what nobody knows.
pub(crate) struct Readers {
    deployments: Arc<Deployments>,
    service: String,
    /// By the container's name in the manifest: its handle, and the reader's id.
    pub(crate) made: BTreeMap<String, (ServiceName, ContainerId)>,
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.deployments.readers().remove(&self.service);
    }
}

impl Readers {
    /// Takes them away.
    pub(crate) async fn remove(self) {
        for (_, id) in self.made.values() {
            if let Err(error) = self.deployments.maker.remove_container(id).await {
                tracing::warn!(container = id.as_str(), %error, "what a backup was read from is taken away later");
            }
        }
    }
}

impl Deployments {
    /// What a backup of `service` is to read, by the manifest that it runs by, verified anew. Docker is not asked.
    pub(crate) fn backup_plan(&self, service: &ServiceName) -> Result<Plan, DeployRefusal> {
        let record = self.records().remove(service.as_str());
        let record = record.filter(|record| record.removing.is_none());
        let record = record.ok_or(Refusal::NotOwned)?;
        let live = record.live.as_ref().ok_or(Refusal::NotOwned)?;
        let digest = Digest::try_from(live.digest.as_str()).map_err(|_| DeployRefusal::NoManifest)?;
        let verified = self.verified(&digest)?;
        let parts = parts(verified.manifest());
        if parts.is_empty() {
            return Err(Refusal::from(BackupFault::Nothing).into());
        }
        Ok(Plan {
            head: Head {
                format: Head::FORMAT,
                service: service.to_string(),
                version: verified.manifest().version.clone(),
                manifest_digest: live.digest.clone(),
                made_unix_ms: 0,
                parts: parts.iter().map(Part::prefix).collect(),
            },
            attempt: live.word.clone(),
            parts,
            record,
        })
    }

    /// Whether `service` is what that attempt made, and stays.
    pub(crate) fn runs(&self, service: &str, attempt: &str) -> bool {
        let record = self.records().remove(service);
        record.is_some_and(|record| {
            record.removing.is_none()
                && record.next.is_none()
                && record.live.is_some_and(|live| live.word == attempt)
        })
    }

    /// Makes what a plan is read from, as a deployment would be made, and starts nothing.
    pub(crate) async fn make_readers(self: Arc<Self>, plan: &Plan) -> Result<Readers, DeployRefusal> {
        let _waiting = self.waiting.try_acquire().map_err(|_| Refusal::Busy)?;
        // Whoever looks for containers that nobody knows waits until these are known.
        let _turn = self.turn.lock().await;
        if !self.runs(&plan.head.service, &plan.attempt) {
            return Err(Refusal::from(BackupFault::Changed).into());
        }
        let mut readers = Readers {
            deployments: Arc::clone(&self),
            service: plan.head.service.clone(),
            made: BTreeMap::new(),
        };
        match self.fill(plan, &mut readers).await {
            Ok(()) => Ok(readers),
            Err(refusal) => {
                readers.remove().await;
                Err(refusal)
            }
        }
    }

    async fn fill(&self, plan: &Plan, readers: &mut Readers) -> Result<(), DeployRefusal> {
        let live = plan.record.live.as_ref().ok_or(Refusal::NotOwned)?;
        let digest = Digest::try_from(live.digest.as_str()).map_err(|_| DeployRefusal::NoManifest)?;
        let verified = self.verified(&digest)?;
        let place = plan.record.place();
        let approved = self.judged(&verified, &live.instance, &live.parameters, place)?;
        let mut folders = BTreeMap::new();
        for (root, below) in approved.binds() {
            if let Some(found) = self.ceiling().bind_roots.get(&root) {
                let path = binds::walk(found, &below)?;
                folders.insert((root, below), path);
            }
        }
        let given = Given {
            network: plan.record.network.clone().unwrap_or_default(),
            binds: folders,
            images: approved.local_images(),
            attempt: self.attempt_word(),
            gateway: self.ceiling().gateways.contains(&approved.owner().id),
        };
        let wanted: BTreeSet<&str> = plan.parts.iter().map(|part| part.container.as_str()).collect();
        for (n, container) in approved.containers().iter().enumerate() {
            let name = container.container.name.as_str();
            if !wanted.contains(name) {
                continue;
            }
            let handle = ServiceName::try_from(container.handle.as_str()).map_err(|_| Refusal::NotOwned)?;
            let finished = approved.finish(self.ceiling(), &given, n)?;
            let named = format!("{}-{}", finished.name(), given.attempt);
            let id = self.maker.create_container(&finished, &named).await?;
            readers.made.insert(name.to_owned(), (handle, id.clone()));
            let known = self
                .readers()
                .entry(readers.service.clone())
                .or_default()
                .insert(id.clone());
            debug_assert!(known, "Docker gives no id twice");
            let answer = self.maker.inspect_container(&id).await?;
            if !compare(finished.body(), &answer).is_empty() {
                return Err(DeployRefusal::Different("the container that is read".to_owned()));
            }
        }
        Ok(())
    }

    /// Where root puts a backup of `service` back, by volume: into its own containers, which somebody stopped, so that nobody starts
    /// them meanwhile.
    pub(crate) async fn ways_back(&self, service: &ServiceName) -> anyhow::Result<BTreeMap<String, WayBack>> {
        let plan = self
            .backup_plan(service)
            .map_err(|refusal| anyhow!("{refusal}"))?;
        let live = plan.record.live.as_ref().context("it is not there")?;
        let mut ways = BTreeMap::new();
        for made in &live.containers {
            let id = made.id.as_deref().and_then(|id| ContainerId::try_from(id).ok());
            let id = id.context("a container without an id")?;
            let answer = self.maker.inspect_container(&id).await?;
            ensure!(
                made.stopped && plan.record.next.is_none() && answer["State"]["Running"] == json!(false),
                "{service} is not stopped: cellctl service stop {service}"
            );
            for part in plan
                .parts
                .iter()
                .filter(|part| part.container.as_str() == made.name)
            {
                let folder = part.target.clone();
                ways.insert(
                    part.volume.to_string(),
                    WayBack {
                        id: id.clone(),
                        folder,
                    },
                );
            }
        }
        Ok(ways)
    }

    /// Puts an archive there.
    pub(crate) async fn put_back(
        &self,
        way: &WayBack,
        archive: mpsc::Receiver<io::Result<Bytes>>,
    ) -> Result<(), EngineError> {
        self.maker.put_back(&way.id, &way.folder, archive).await
    }

    /// What backups are read from now, by service.
    pub(super) fn readers(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, BTreeSet<ContainerId>>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
