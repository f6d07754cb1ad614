//! The making of a service: everything is created and looked at before anything starts; what ran goes on until the new one has
//! started, and is started again when it does not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use cell_broker_core::deploy::{Approved, Given, Place, compare};
use cell_broker_core::model::ContainerId;
use cell_manifest::Digest;
use serde_json::json;

use super::secrets::Delivery;
use super::store::{Attempt, Former, Made, OwnerRecord, Record};
use super::{DeployRefusal, Deployments, Outcome};
use crate::binds;
use crate::engine::{EngineError, VolumeState};

/// How long what was started has to go on before it counts.
const SETTLES: Duration = Duration::from_millis(1000);

impl Deployments {
    pub(super) async fn deploy_now(
        &self,
        digest: &Digest,
        instance: &str,
        parameters: BTreeMap<String, String>,
        place: Option<Place>,
    ) -> Result<Outcome, DeployRefusal> {
        // Everything that can be refused without Docker is, before it is asked anything.
        let verified = self.verified(digest)?;
        let name = verified
            .manifest()
            .service_name(instance)
            .map_err(|faults| DeployRefusal::Denied(faults.into()))?;
        let before = self.records().remove(name.as_str());
        let approved = self.judged(&verified, instance, &parameters, place)?;
        // Its network stays where it is as long as the service is there.
        if before.as_ref().is_some_and(|record| record.place() != place) {
            return Err(DeployRefusal::NetworkDiffers);
        }
        let mut binds = BTreeMap::new();
        for (root, below) in approved.binds() {
            let Some(found) = self.ceiling().bind_roots.get(&root) else {
                continue;
            };
            let path = binds::walk(found, &below)?;
            binds.insert((root, below), path);
        }
        let attempt = self.attempt(&approved, instance, parameters.clone());
        let secrets = self.read_secrets(name.as_str(), &attempt.containers).await?;
        // What Docker will not let go of other services is no reason against this one.
        self.put_in_order().await?.of(name.as_str())?;
        let before = self.records().remove(name.as_str());
        if let Some(record) = before
            .as_ref()
            .filter(|record| is_same(record, &approved, &parameters))
            && self.is_there(record).await?
        {
            // What failed after the service had started is done again: the proxy's leg.
            self.join_proxy(record).await?;
            let warnings = approved.warnings().to_vec();
            let record = self.note_renewed(record.clone(), &secrets)?;
            let (record, changed) = self.bring_up(record, &secrets).await?;
            return Ok(Outcome {
                record,
                changed,
                warnings,
            });
        }
        self.has_images(&approved).await?;
        let record = begin(&approved, before, attempt, place);
        let service = record.service.clone();
        match self.carry_out(&approved, binds, record, &secrets).await {
            Ok(record) => Ok(Outcome {
                record,
                changed: true,
                warnings: approved.warnings().to_vec(),
            }),
            Err(refusal) => {
                self.undo(&service).await;
                Err(refusal)
            }
        }
    }

    /// # Errors
    /// [`DeployRefusal::ImageAbsent`] names the first that Docker does not have.
    async fn has_images(&self, approved: &Approved) -> Result<(), DeployRefusal> {
        for container in approved.containers() {
            let there = match (&container.image_id, container.container.image.registry()) {
                (Some(id), _) => self.maker.has_image_id(id).await?,
                (None, Some(image)) => self.maker.has_image(image).await?,
                (None, None) => false,
            };
            if !there {
                return Err(DeployRefusal::ImageAbsent(container.container.image.to_string()));
            }
        }
        Ok(())
    }

    /// Whether no container of what runs was removed by somebody else.
    async fn is_there(&self, record: &Record) -> Result<bool, DeployRefusal> {
        for id in ids(record.live.as_ref()) {
            match self.maker.inspect_container(&id).await {
                Err(EngineError::Gone) => return Ok(false),
                found => drop(found?),
            }
        }
        Ok(true)
    }

    /// Starts what was deployed already and does not run: after a boot, or where it ended. What a verb stopped stays so. Whether
    /// anything was started. Those whose secrets were replaced are started anew.
    async fn bring_up(
        &self,
        mut record: Record,
        secrets: &Delivery,
    ) -> Result<(Record, bool), DeployRefusal> {
        let mut started = false;
        self.write_secrets(&record.service, secrets)?;
        let Some(live) = record.live.as_mut() else {
            return Ok((record, false));
        };
        for made in live.containers.iter_mut().filter(|made| !made.stopped) {
            let Some(id) = made.id.as_deref().and_then(|id| ContainerId::try_from(id).ok()) else {
                continue;
            };
            let answer = self.maker.inspect_container(&id).await?;
            let runs = answer["State"]["Running"] == json!(true);
            if runs && made.is_renewing {
                self.maker.stop_container(&id, made.stop_seconds).await?;
            }
            if !runs || made.is_renewing {
                self.maker.start_container(&id).await?;
                started = true;
            }
            made.is_renewing = false;
            made.boot = Some(self.boot.as_str().to_owned());
        }
        self.write(&record)?;
        Ok((record, started))
    }

    fn attempt(&self, approved: &Approved, instance: &str, parameters: BTreeMap<String, String>) -> Attempt {
        let made = approved.containers().iter().map(|container| Made {
            handle: container.handle.clone(),
            name: container.container.name.to_string(),
            address: container.address.to_string(),
            id: None,
            restart: container.container.restart.into(),
            boot: Some(self.boot.as_str().to_owned()),
            stopped: false,
            reload: container
                .container
                .reload_signal
                .map(|signal| signal.word().to_owned()),
            stop_seconds: container.container.stop_timeout_seconds,
            secrets: container
                .container
                .secrets
                .iter()
                .map(|secret| (secret.name.to_string(), secret.is_optional))
                .collect(),
            is_renewing: false,
        });
        let memory = approved
            .containers()
            .iter()
            .map(|one| one.container.limits.memory_mib);
        Attempt {
            word: self.attempt_word(),
            digest: approved.digest().to_string(),
            instance: instance.to_owned(),
            parameters,
            containers: made.collect(),
            local_images: local_images(approved),
            local_names: local_names(approved),
            owner: Some(OwnerRecord::from(approved.owner())),
            memory_mib: memory.fold(0, u32::saturating_add),
            new_volumes: BTreeSet::new(),
        }
    }

    async fn carry_out(
        &self,
        approved: &Approved,
        binds: BTreeMap<(cell_manifest::Name, cell_manifest::BelowRoot), String>,
        mut record: Record,
        secrets: &Delivery,
    ) -> Result<Record, DeployRefusal> {
        self.write(&record)?;
        self.network(approved, &mut record).await?;
        self.volumes(approved, &mut record).await?;
        let given = Given {
            network: record.network.clone().unwrap_or_default(),
            binds,
            images: approved.local_images(),
            attempt: record
                .next
                .as_ref()
                .map(|next| next.word.clone())
                .unwrap_or_default(),
            gateway: self.ceiling().gateways.contains(&approved.owner().id),
        };
        // What is bound has to be there; what ran finds its own still.
        self.make_folders(&record.service, secrets)?;
        for n in 0..approved.containers().len() {
            self.create(approved, &given, n, &mut record).await?;
        }
        self.switch(&mut record, secrets).await?;
        self.join_proxy(&record).await?;
        self.clear_garbage(&mut record).await?;
        self.sweep_secrets()?;
        Ok(record)
    }

    /// The service's network, or the cell's own for its own containers.
    async fn network(&self, approved: &Approved, record: &mut Record) -> Result<(), DeployRefusal> {
        let plan = approved.network();
        let known = if approved.is_core() {
            // One network for all of the cell's own containers: whichever of them has it.
            let records = self.records();
            let mut core = records.values().filter(|record| record.number.is_none());
            core.find_map(|record| record.network.clone())
        } else {
            record.network.clone()
        };
        if let Some(id) = known.and_then(|id| ContainerId::try_from(id.as_str()).ok()) {
            if !self.maker.is_network(&id, plan).await? {
                return Err(DeployRefusal::NetworkDiffers);
            }
            record.network = Some(id.to_string());
            return self.write(record);
        }
        let word = record
            .next
            .as_ref()
            .map(|next| next.word.as_str())
            .unwrap_or_default();
        let id = self
            .maker
            .create_network(plan, approved.service().as_str(), word)
            .await?;
        record.network = Some(id.to_string());
        self.write(record)?;
        if self.maker.is_network(&id, plan).await? {
            Ok(())
        } else {
            Err(DeployRefusal::Different("the network".to_owned()))
        }
    }

    async fn volumes(&self, approved: &Approved, record: &mut Record) -> Result<(), DeployRefusal> {
        let service = approved.service().as_str();
        let mut absent = BTreeSet::new();
        for name in approved.volumes().into_keys() {
            match self.maker.volume(&name, service).await? {
                VolumeState::Own => {
                    // Whoever made it, it is this service's from now on.
                    self.late_volumes
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .remove(&name);
                    record.volumes.insert(name);
                }
                VolumeState::Absent => {
                    absent.insert(name);
                }
                VolumeState::Foreign => return Err(DeployRefusal::Foreign(name)),
            }
        }
        record.volumes.extend(absent.iter().cloned());
        if let Some(next) = &mut record.next {
            next.new_volumes.clone_from(&absent);
        }
        self.write(record)?;
        let word = record
            .next
            .as_ref()
            .map(|next| next.word.clone())
            .unwrap_or_default();
        for name in absent {
            self.maker.create_volume(&name, service, &word).await?;
            if self.maker.volume(&name, service).await? != VolumeState::Own {
                return Err(DeployRefusal::Different(name));
            }
        }
        Ok(())
    }

    /// Creates a container and compares what Docker says of it with what was asked. It does not run.
    async fn create(
        &self,
        approved: &Approved,
        given: &Given,
        n: usize,
        record: &mut Record,
    ) -> Result<(), DeployRefusal> {
        let finished = approved.finish(self.ceiling(), given, n)?;
        // The attempt in the name: what runs has the one without it no longer, and both can be there.
        let name = format!("{}-{}", finished.name(), given.attempt);
        let id = self.maker.create_container(&finished, &name).await?;
        if let Some(made) = record.next.as_mut().and_then(|next| next.containers.get_mut(n)) {
            made.id = Some(id.to_string());
        }
        self.write(record)?;
        let answer = self.maker.inspect_container(&id).await?;
        let mut differences = compare(finished.body(), &answer);
        if answer["Id"] != id.as_str() || answer["State"]["Running"] != json!(false) {
            differences.push(cell_broker_core::deploy::Difference {
                field: "State".to_owned(),
            });
        }
        if differences.is_empty() {
            return Ok(());
        }
        let fields: Vec<String> = differences
            .into_iter()
            .map(|difference| difference.field)
            .collect();
        let fields = fields.join(",");
        tracing::warn!(target: "audit", container = id.as_str(), fields, "Docker made something else than was asked for");
        Err(DeployRefusal::Different(fields))
    }

    /// Stops what ran, starts what was made, and only then has the store say so.
    async fn switch(&self, record: &mut Record, secrets: &Delivery) -> Result<(), DeployRefusal> {
        self.stop(record.live.as_ref()).await?;
        self.write_secrets(&record.service, secrets)?;
        for id in ids(record.next.as_ref()) {
            self.maker.start_container(&id).await?;
        }
        self.goes_on(record).await?;
        let old = ids(record.live.as_ref()).map(|id| id.to_string());
        record.garbage.extend(old.collect::<Vec<_>>());
        let runs = record.next.take();
        // Whoever made the new one may find that it does not do what it should: what ran is let through again, whatever root has
        // shipped or built meanwhile.
        if let Some(ran) = std::mem::replace(&mut record.live, runs)
            && record.live.as_ref().is_some_and(|live| live.digest != ran.digest)
        {
            record.former = Some(Former {
                digest: ran.digest,
                local_images: ran.local_names,
            });
        }
        self.write(record)
    }

    /// Each with the time that its manifest gives it: what it has not written yet is lost with it.
    pub(super) async fn stop(&self, attempt: Option<&Attempt>) -> Result<(), DeployRefusal> {
        for made in attempt.into_iter().flat_map(|attempt| &attempt.containers) {
            if let Some(id) = made.id.as_deref().and_then(|id| ContainerId::try_from(id).ok()) {
                self.maker.stop_container(&id, made.stop_seconds).await?;
            }
        }
        Ok(())
    }

    /// Whether what was started still runs a moment later: a program that is not there, or does not take its configuration, ends
    /// at once, and Docker calls that started.
    async fn goes_on(&self, record: &Record) -> Result<(), DeployRefusal> {
        tokio::time::sleep(SETTLES).await;
        for made in record.next.iter().flat_map(|next| &next.containers) {
            let Some(id) = made.id.as_deref().and_then(|id| ContainerId::try_from(id).ok()) else {
                continue;
            };
            let answer = self.maker.inspect_container(&id).await?;
            if answer["State"]["Running"] != json!(true) || answer["RestartCount"] != json!(0) {
                return Err(DeployRefusal::NotRunning(made.handle.clone()));
            }
            // Docker puts it on as it starts the container, where the machine has any.
            if answer["AppArmorProfile"] == "unconfined" {
                return Err(DeployRefusal::Different("AppArmorProfile".to_owned()));
            }
        }
        Ok(())
    }

    pub(super) async fn clear_garbage(&self, record: &mut Record) -> Result<(), DeployRefusal> {
        if record.garbage.is_empty() {
            return Ok(());
        }
        for id in &record.garbage {
            if let Ok(id) = ContainerId::try_from(id.as_str()) {
                self.maker.remove_container(&id).await?;
            }
        }
        record.garbage.clear();
        self.write(record)
    }

    /// The proxy gets a leg in the service's network, or in all of them when it is the one that was made.
    pub(super) async fn join_proxy(&self, record: &Record) -> Result<(), DeployRefusal> {
        let records = self.records();
        let Some(proxy) = self.proxy() else {
            return Ok(());
        };
        let joined: Vec<&Record> = if record.number.is_none() {
            records
                .values()
                .filter(|other| other.number.is_some() && other.live.is_some())
                .collect()
        } else {
            vec![record]
        };
        for other in joined {
            let network = other
                .network
                .as_deref()
                .and_then(|id| ContainerId::try_from(id).ok());
            let subnet: Option<ipnet::Ipv4Net> = other.subnet.parse().ok();
            if let (Some(network), Some(subnet)) = (network, subnet) {
                // The last address but one of the sixteen: the judge gives containers those from the beginning.
                let address = std::net::Ipv4Addr::from(u32::from(subnet.network()) + 14);
                self.maker.connect(&network, &proxy, address).await?;
            }
        }
        Ok(())
    }

    /// The container of the proxy, where it runs.
    pub(super) fn proxy(&self) -> Option<ContainerId> {
        let records = self.records();
        let proxy = records.get("caddy").filter(|record| record.number.is_none())?;
        ids(proxy.live.as_ref()).next()
    }
}

fn begin(approved: &Approved, before: Option<Record>, attempt: Attempt, place: Option<Place>) -> Record {
    let network = approved.network();
    let mut record = before.unwrap_or_else(|| Record {
        service: approved.service().to_string(),
        number: place.map(|place| place.number),
        network: None,
        subnet: network.subnet.to_string(),
        bridge: network.bridge.clone(),
        volumes: BTreeSet::new(),
        live: None,
        next: None,
        garbage: Vec::new(),
        removing: None,
        former: None,
    });
    record.next = Some(attempt);
    record
}

pub(super) fn ids(attempt: Option<&Attempt>) -> impl Iterator<Item = ContainerId> + '_ {
    let made = attempt.into_iter().flat_map(|attempt| &attempt.containers);
    made.filter_map(|made| ContainerId::try_from(made.id.as_deref()?).ok())
}

fn local_images(approved: &Approved) -> BTreeSet<String> {
    let ids = approved.local_images().into_iter();
    ids.map(|id| id.to_string()).collect()
}

fn local_names(approved: &Approved) -> BTreeMap<String, String> {
    let containers = approved.containers().iter();
    let named = containers.filter_map(|one| Some((one.container.image.local()?, one.image_id.as_ref()?)));
    named
        .map(|(name, id)| (name.to_string(), id.to_string()))
        .collect()
}

/// Also of the same images: those that were built on the machine change under their name.
fn is_same(record: &Record, approved: &Approved, parameters: &BTreeMap<String, String>) -> bool {
    let same = |live: &Attempt| {
        live.digest == approved.digest().as_str()
            && live.parameters == *parameters
            && live.local_images == local_images(approved)
    };
    record.live.as_ref().is_some_and(same) && record.next.is_none()
}
