//! Putting in order: what a failure or a crash left is taken away, or is what runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use cell_broker_core::model::ContainerId;

use super::make::ids;
use super::store::Record;
use super::{DeployRefusal, Deployments};
use crate::broker::Refusal;
use crate::engine::EngineError;

/// What Docker would not let be put in order, by service; what is nobody's is the empty name's.
#[derive(Debug, Default)]
pub(super) struct Left(BTreeMap<String, DeployRefusal>);

impl Left {
    /// Notes that one thing was refused: the others are gone on with, unless they would end alike.
    ///
    /// # Errors
    /// The refusal, where there is no Docker, or no answer in time.
    fn note(&mut self, service: &str, done: Result<(), DeployRefusal>) -> Result<(), DeployRefusal> {
        match done {
            Ok(()) => Ok(()),
            Err(away @ DeployRefusal::Other(Refusal::NoDocker(_) | Refusal::Slow)) => Err(away),
            Err(refusal) => {
                self.0.entry(service.to_owned()).or_insert(refusal);
                Ok(())
            }
        }
    }

    /// Why this service cannot be changed now.
    pub(super) fn of(mut self, service: &str) -> Result<(), DeployRefusal> {
        self.0.remove(service).map_or(Ok(()), Err)
    }

    /// For people.
    pub(super) fn told(&self) -> Option<String> {
        let one = |(service, refusal): (&String, &DeployRefusal)| match service.as_str() {
            "" => refusal.to_string(),
            service => format!("{service}: {refusal}"),
        };
        let all: Vec<String> = self.0.iter().map(one).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

impl Deployments {
    /// After the start, until it is done: every service ends as what ran, or absent; containers and networks that bear the cell's labels
    /// and are nobody's go. What Docker will not let go holds up nothing else.
    ///
    /// # Errors
    /// There is no Docker, or it does not answer.
    pub(super) async fn put_in_order(&self) -> Result<Left, DeployRefusal> {
        let mut left = Left::default();
        if self.ordered.load(Ordering::Acquire) {
            return Ok(left);
        }
        for record in self.records().into_values() {
            let service = record.service.clone();
            left.note(&service, self.settle(record).await)?;
        }
        left.note("", self.sweep().await)?;
        if left.0.is_empty() {
            self.ordered.store(true, Ordering::Release);
        }
        Ok(left)
    }

    /// After a failure: at once where Docker lets it, else at the next start or change.
    pub(super) async fn undo(&self, service: &str) {
        let Some(record) = self.records().remove(service) else {
            return;
        };
        if let Err(refusal) = self.settle(record).await {
            tracing::warn!(service, %refusal, "what was half made is not yet taken away");
            self.ordered.store(false, Ordering::Release);
        }
    }

    async fn settle(&self, mut record: Record) -> Result<(), DeployRefusal> {
        if record.removing.is_some() {
            return self.take_away(record).await;
        }
        if let Some(next) = record.next.clone() {
            let late = next
                .new_volumes
                .iter()
                .map(|volume| (volume.clone(), next.word.clone()));
            self.late_volumes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(late);
            // Those that the store knows, and those that were made when it could not be told any more.
            let label = format!("cell.attempt={}", next.word);
            let mut left: BTreeSet<ContainerId> = ids(Some(&next)).collect();
            left.extend(self.maker.list_own(false, &label).await?);
            for id in &left {
                self.maker.remove_container(id).await?;
            }
            if record.live.is_none() {
                return self.clear_absent(record, &next.new_volumes, &label).await;
            }
            // What ran before a boot waits until somebody asks for it.
            let live = record.live.iter().flat_map(|live| &live.containers);
            let runs = live.filter(|made| made.runs_in(&self.boot));
            let runs: Vec<_> = runs.cloned().collect();
            if let Err(refusal) = self.deliver(&record.service, &runs).await {
                // What is there already may do. Whoever asks for the service again has them written anew; nothing else waits for it.
                tracing::warn!(service = record.service, %refusal, "secrets of what ran before are not read again");
            }
            for id in runs
                .iter()
                .filter_map(|made| ContainerId::try_from(made.id.as_deref()?).ok())
            {
                match self.maker.start_container(&id).await {
                    // Somebody removed it: the next deployment makes it anew, and nothing waits for it.
                    Err(EngineError::Gone) => {
                        tracing::warn!(container = id.as_str(), "is gone and cannot be started")
                    }
                    started => started?,
                }
            }
            for volume in &next.new_volumes {
                self.maker.remove_volume(volume).await?;
                record.volumes.remove(volume);
            }
            record.next = None;
            self.write(&record)?;
        }
        self.clear_garbage(&mut record).await?;
        if let Err(refusal) = self.join_proxy(&record).await {
            // A proxy that is not there holds up nothing else; the next deployment of either tries again.
            tracing::warn!(service = record.service, %refusal, "the proxy has no leg in the service's network");
        }
        Ok(())
    }

    /// What was to be the first of its service was not: nothing of it stays.
    async fn clear_absent(
        &self,
        record: Record,
        new_volumes: &BTreeSet<String>,
        label: &str,
    ) -> Result<(), DeployRefusal> {
        let mut networks: BTreeSet<ContainerId> =
            self.maker.list_own(true, label).await?.into_iter().collect();
        if record.number.is_some() {
            networks.extend(
                record
                    .network
                    .as_deref()
                    .and_then(|id| ContainerId::try_from(id).ok()),
            );
        }
        for id in &networks {
            if let Some(proxy) = self.proxy() {
                self.maker.disconnect(id, &proxy).await?;
            }
            self.maker.remove_network(id).await?;
        }
        for volume in new_volumes {
            self.maker.remove_volume(volume).await?;
        }
        self.forget(&record.service)?;
        self.sweep_secrets()
    }

    /// Removes a service whose record says so. Each step can be done twice.
    pub(super) async fn take_away(&self, record: Record) -> Result<(), DeployRefusal> {
        // A backup that reads its volumes sees that it goes, and ends.
        let readers = self.readers().get(&record.service).cloned();
        for id in readers.iter().flatten() {
            self.maker.remove_container(id).await?;
        }
        if record.removing == Some(false) {
            self.stop(record.live.as_ref()).await?;
        }
        let attempts = record.live.iter().chain(&record.next);
        for id in attempts.flat_map(|attempt| ids(Some(attempt))) {
            self.maker.remove_container(&id).await?;
        }
        for id in record
            .garbage
            .iter()
            .filter_map(|id| ContainerId::try_from(id.as_str()).ok())
        {
            self.maker.remove_container(&id).await?;
        }
        if let Some(next) = &record.next {
            for id in self
                .maker
                .list_own(false, &format!("cell.attempt={}", next.word))
                .await?
            {
                self.maker.remove_container(&id).await?;
            }
        }
        let network = record
            .network
            .as_deref()
            .and_then(|id| ContainerId::try_from(id).ok());
        if let Some(network) = network.filter(|id| !self.is_shared(&record, id)) {
            if let Some(proxy) = self.proxy() {
                self.maker.disconnect(&network, &proxy).await?;
            }
            self.maker.remove_network(&network).await?;
        }
        if record.removing == Some(true) {
            for volume in &record.volumes {
                self.maker.remove_volume(volume).await?;
            }
        }
        self.forget(&record.service)?;
        self.sweep_secrets()
    }

    /// Whether another service is in this network: the cell's own.
    fn is_shared(&self, record: &Record, network: &ContainerId) -> bool {
        let records = self.records();
        let mut others = records.values().filter(|other| other.service != record.service);
        others.any(|other| other.network.as_deref() == Some(network.as_str()))
    }

    /// Containers, networks and volumes with the cell's labels that no record knows: of an attempt whose record was lost. Each by itself:
    /// the first that Docker refuses is told when all were tried.
    pub(super) async fn sweep(&self) -> Result<(), DeployRefusal> {
        let records = self.records();
        let known: BTreeSet<ContainerId> = records
            .values()
            .flat_map(|record| ids(record.live.as_ref()))
            .chain(self.readers().values().flatten().cloned())
            .collect();
        let mut refused: Result<(), EngineError> = Ok(());
        for id in self.maker.list_own(false, "cell.attempt").await? {
            if !known.contains(&id) {
                tracing::warn!(target: "audit", container = id.as_str(), "a container that no record knows is removed");
                refused = refused.and(self.maker.remove_container(&id).await);
            }
        }
        self.sweep_secrets()?;
        let networks: BTreeSet<&str> = records
            .values()
            .filter_map(|record| record.network.as_deref())
            .collect();
        for id in self.maker.list_own(true, "cell.attempt").await? {
            if !networks.contains(id.as_str()) {
                tracing::warn!(target: "audit", network = id.as_str(), "a network that no record knows is removed");
                refused = refused.and(self.maker.remove_network(&id).await);
            }
        }
        let late = self
            .late_volumes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for (volume, attempt) in late {
            if self.maker.volume_is_of(&volume, &attempt).await? {
                tracing::warn!(target: "audit", volume, "a volume of an attempt that was taken back is removed");
                refused = refused.and(self.maker.remove_volume(&volume).await);
            }
        }
        Ok(refused?)
    }
}
