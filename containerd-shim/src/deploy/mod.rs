//! Deployments: hand in, judge, make, look, start; remove; and put in order what a crash left.

mod kept;
mod make;
mod order;
mod owned;
mod refusal;
mod secrets;
mod service;
mod store;
mod supervise;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cell_broker_core::deploy::{Bundle, Ceiling, Key, Order, Place, Verified, judge, judge_images};
use cell_broker_core::model::{ContainerId, ServiceName};
use cell_broker_core::{Role, Verb};
use cell_manifest::{Digest, Image, ReloadSignal};
use cell_proto::ipc::Caller;
use tokio::sync::{Mutex, Notify, Semaphore, mpsc, watch};

use crate::audit::Subject;
use crate::broker::Refusal;
use crate::engine::{Maker, Progress};

pub(crate) use kept::{Plan, Readers, WayBack};
pub use refusal::DeployRefusal;
use secrets::Secrets;
pub use service::Deploying;
pub use store::{Attempt, BootId, Made, Record, Restarting, Store};
pub use supervise::Snapshot;

/// How long after the start Docker may still carry out what a broker before asked for.
const LATE: Duration = Duration::from_secs(120);
/// Fetches at once.
const PULLS: usize = 2;
/// Who is told of all that is deployed, at once.
const WATCHERS: usize = 4;
/// Deployments and removals that wait for their turn; more are refused.
const WAITING: usize = 8;

/// All that was deployed, and how.
pub struct Deployments {
    maker: Maker,
    store: Store,
    /// One change at a time.
    turn: Mutex<()>,
    waiting: Semaphore,
    /// Manifests that are being verified.
    handed_in: Semaphore,
    /// One manifest is kept at a time: what makes room for it is no other's to remove.
    keeping: std::sync::Mutex<()>,
    pulls: Semaphore,
    /// What the store has, for the verbs that look ids up.
    records: RwLock<BTreeMap<String, Record>>,
    /// Whether what a crash left was put in order since this process began.
    ordered: AtomicBool,
    attempts: AtomicU64,
    /// Volumes that an attempt which was taken back was to make: one that comes late is known by the attempt's label.
    late_volumes: std::sync::Mutex<BTreeMap<String, String>>,
    /// Which boot this is.
    boot: BootId,
    /// Something happened that the supervisor is to look at.
    look: Notify,
    /// What the last look found.
    told: watch::Sender<Option<Arc<Vec<Snapshot>>>>,
    watchers: Arc<Semaphore>,
    /// Containers that backups are read from, by service.
    readers: std::sync::Mutex<BTreeMap<String, BTreeSet<ContainerId>>>,
    /// Where secrets come from and lie.
    secrets: Option<Secrets>,
}

/// What became of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// As it is now.
    pub record: Record,
    /// Whether anything was done.
    pub changed: bool,
    /// What was let through with a word.
    pub warnings: Vec<String>,
}

impl Deployments {
    /// What the folder `state` knows. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the store cannot be read: what it held would be nobody's.
    pub fn open(state: &Path, maker: Maker, boot: BootId) -> std::io::Result<Self> {
        let store = Store::open(state)?;
        let records = store.read()?;
        let secrets = maker.ceiling().secrets.as_ref().map(Secrets::new);
        Ok(Deployments {
            maker,
            store,
            turn: Mutex::new(()),
            waiting: Semaphore::new(WAITING),
            handed_in: Semaphore::new(WAITING),
            keeping: std::sync::Mutex::default(),
            pulls: Semaphore::new(PULLS),
            records: RwLock::new(records),
            ordered: AtomicBool::new(false),
            attempts: AtomicU64::new(0),
            late_volumes: std::sync::Mutex::default(),
            boot,
            look: Notify::new(),
            told: watch::Sender::new(None),
            watchers: Arc::new(Semaphore::new(WATCHERS)),
            readers: std::sync::Mutex::default(),
            secrets,
        })
    }

    /// The id of the container that a handle stands for, by the store.
    pub fn id_of(&self, handle: &ServiceName) -> Option<ContainerId> {
        ContainerId::try_from(self.made(handle.as_str())?.id.as_deref()?).ok()
    }

    /// Ids of all containers, by the store.
    pub fn ids(&self) -> Vec<ContainerId> {
        let records = self.records();
        let live = records.values().filter_map(|record| record.live.as_ref());
        let made = live.flat_map(|attempt| &attempt.containers);
        made.filter_map(|made| ContainerId::try_from(made.id.as_deref()?).ok())
            .collect()
    }

    /// What has the container of a handle read its configuration again.
    pub fn reload_signal(&self, handle: &ServiceName) -> Option<ReloadSignal> {
        ReloadSignal::from_word(self.made(handle.as_str())?.reload.as_deref()?)
    }

    /// Seconds that the container of a handle has to end by itself.
    pub fn stop_seconds(&self, handle: &str) -> Option<u32> {
        self.made(handle).map(|made| made.stop_seconds)
    }

    fn made(&self, handle: &str) -> Option<Made> {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        let live = records.values().filter_map(|record| record.live.as_ref());
        let mut made = live.flat_map(|attempt| &attempt.containers);
        made.find(|made| made.handle == handle).cloned()
    }

    /// Everything that is deployed.
    pub fn list(&self) -> Vec<Record> {
        self.records()
            .into_values()
            .filter(|record| record.live.is_some())
            .collect()
    }

    /// Verifies and keeps a manifest. Docker is not asked. Files are read and synced, so not where everything else is served from.
    pub async fn put(self: Arc<Self>, caller: &Caller, bundle: Bundle) -> Result<Digest, DeployRefusal> {
        let subject = Subject::new(caller, Verb::PutManifest, "");
        let put = match self.handed_in.try_acquire() {
            Ok(_slot) => {
                let this = Arc::clone(&self);
                tokio::task::spawn_blocking(move || this.keep(bundle))
                    .await
                    .unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
            }
            Err(_) => Err(Refusal::Busy.into()),
        };
        match &put {
            Ok(digest) => subject.allowed(digest.as_str()),
            Err(refusal) => subject.refused(refusal.code()),
        }
        put
    }

    fn keep(&self, bundle: Bundle) -> Result<Digest, DeployRefusal> {
        let verified = self.opened(bundle.clone(), false)?;
        let _one = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        if self.store.bundle(verified.digest())?.is_none() {
            let most = usize::from(self.ceiling().limits.manifests);
            if !self.store.make_room(most, &self.used())? {
                return Err(DeployRefusal::Quota);
            }
        }
        self.store.keep(verified.digest(), &bundle)?;
        Ok(verified.digest().clone())
    }

    /// Makes the service that this manifest and these values are, unless it is so already. In a task of its own: a caller that
    /// hangs up leaves nothing half done.
    pub async fn deploy(
        self: Arc<Self>,
        caller: &Caller,
        digest: Digest,
        instance: String,
        parameters: BTreeMap<String, String>,
        place: Option<Place>,
    ) -> Result<Outcome, DeployRefusal> {
        let subject = Subject::new(caller, Verb::Deploy, &digest);
        let this = Arc::clone(&self);
        let made = async move {
            let _waiting = this.waiting.try_acquire().map_err(|_| Refusal::Busy)?;
            let _turn = this.turn.lock().await;
            this.deploy_now(&digest, &instance, parameters, place).await
        };
        self.recorded(subject, made, |outcome| outcome.record.service.clone())
            .await
    }

    /// Takes a service away, with its volumes if `volumes`.
    pub async fn remove(
        self: Arc<Self>,
        caller: &Caller,
        service: ServiceName,
        volumes: bool,
    ) -> Result<(), DeployRefusal> {
        let subject = Subject::new(caller, Verb::Remove, &service);
        let this = Arc::clone(&self);
        let removed = async move {
            let _waiting = this.waiting.try_acquire().map_err(|_| Refusal::Busy)?;
            let _turn = this.turn.lock().await;
            // Before Docker is asked anything.
            let Some(mut record) = this.records().remove(service.as_str()) else {
                return Err(Refusal::NotOwned.into());
            };
            // Whatever is left of it: all of that goes.
            record.removing = Some(volumes);
            this.write(&record)?;
            // What cannot be ended now is ended later: it is written down that it has to be.
            this.take_away(record)
                .await
                .inspect_err(|_| this.ordered.store(false, Ordering::Release))
        };
        self.recorded(subject, removed, |()| String::new()).await
    }

    /// Fetches the images of a manifest, one after another.
    pub async fn pull(
        &self,
        caller: &Caller,
        digest: &Digest,
        progress: impl Fn(Image) -> mpsc::Sender<Progress>,
    ) -> Result<(), DeployRefusal> {
        let subject = Subject::new(caller, Verb::Pull, digest);
        let pulled = async {
            let verified = self.verified(digest)?;
            let images: BTreeSet<Image> = verified
                .manifest()
                .containers
                .iter()
                .filter_map(|container| container.image.registry().cloned())
                .collect();
            judge_images(self.ceiling(), &verified, &self.local_images(&verified)?)
                .map_err(DeployRefusal::Denied)?;
            let _slot = self.pulls.try_acquire().map_err(|_| Refusal::Busy)?;
            for image in images {
                if !self.maker.has_image(&image).await? {
                    let sender = progress(image.clone());
                    self.maker.pull(&image, &sender).await?;
                }
            }
            Ok(())
        };
        let outcome = pulled.await;
        match &outcome {
            Ok(()) => subject.done("", "done"),
            Err(refusal) => subject.refused(DeployRefusal::code(refusal)),
        }
        outcome
    }

    /// Puts in order what a crash or a failure left, until Docker lets it, and looks again and again for what comes late: a
    /// request that was under way when the broker was killed is carried out by Docker afterwards. Does not end.
    pub async fn keep_order(self: Arc<Self>) {
        let began = Instant::now();
        let mut told = None;
        loop {
            let turn = self.turn.lock().await;
            let done = if self.ordered.load(Ordering::Acquire) {
                self.sweep().await.map(|()| None)
            } else {
                self.put_in_order().await.map(|left| left.told())
            };
            drop(turn);
            // Once for each reason: a machine may have no Docker for as long as it likes.
            let refusal = done.unwrap_or_else(|refusal| Some(refusal.to_string()));
            if told != refusal {
                if let Some(refusal) = &refusal {
                    tracing::warn!(refusal, "what was left is not yet in order");
                }
                told = refusal;
            }
            let late = began.elapsed() < LATE;
            tokio::time::sleep(Duration::from_secs(if late { 2 } else { 60 })).await;
        }
    }

    async fn recorded<T: Send + 'static>(
        &self,
        subject: Subject,
        done: impl Future<Output = Result<T, DeployRefusal>> + Send + 'static,
        id: impl Fn(&T) -> String + Send + 'static,
    ) -> Result<T, DeployRefusal> {
        let task = async move {
            let outcome = done.await;
            match &outcome {
                Ok(made) => subject.done(&id(made), "done"),
                Err(DeployRefusal::Denied(denied)) => subject.refused(&denied.to_string()),
                Err(refusal) => subject.refused(refusal.code()),
            }
            outcome
        };
        tokio::spawn(task)
            .await
            .map_err(|_| Refusal::DockerAnswer("the deployment did not end"))?
    }

    /// Who may sign manifests, as PEM.
    pub fn manifest_keys(&self) -> Vec<String> {
        self.ceiling().manifest_keys.iter().map(Key::to_pem).collect()
    }

    fn ceiling(&self) -> &Ceiling {
        self.maker.ceiling()
    }

    fn verified(&self, digest: &Digest) -> Result<Verified, DeployRefusal> {
        let bundle = self.store.bundle(digest)?.ok_or(DeployRefusal::NoManifest)?;
        // Of what runs the broker has kept the bytes: a package that came later ships others.
        let verified = self.opened(bundle, self.used().contains(digest.as_str()))?;
        // A file that was changed is not what was asked for, whoever signed it.
        if verified.digest() == digest {
            Ok(verified)
        } else {
            Err(DeployRefusal::NoManifest)
        }
    }

    fn judged(
        &self,
        verified: &Verified,
        instance: &str,
        parameters: &BTreeMap<String, String>,
        place: Option<Place>,
    ) -> Result<cell_broker_core::deploy::Approved, DeployRefusal> {
        let name = verified
            .manifest()
            .service_name(instance)
            .map_err(|faults| DeployRefusal::Denied(faults.into()))?;
        let (own, others): (Vec<Record>, Vec<Record>) = self
            .records()
            .into_values()
            .partition(|record| record.service == name.as_str());
        let own = own.first();
        // The way back was let through before.
        let goes_on = |record: &&Record| !record.is_former(verified.digest());
        let owner = own
            .filter(goes_on)
            .and_then(|record| record.live.as_ref()?.owner.as_ref()?.owner());
        let attempts = || {
            others
                .iter()
                .flat_map(|record| record.live.iter().chain(&record.next))
        };
        let taken: BTreeSet<String> = others
            .iter()
            .flat_map(Record::handles)
            .map(str::to_owned)
            .collect();
        let order = Order {
            instance,
            parameters,
            place,
            places: &others.iter().filter_map(Record::place).collect(),
            local: &self.images_of(verified, own)?,
            others: u16::try_from(others.len()).unwrap_or(u16::MAX),
            others_memory_mib: attempts()
                .map(|attempt| attempt.memory_mib)
                .fold(0, u32::saturating_add),
            taken: &taken,
            owner: owner.as_ref(),
        };
        judge(self.ceiling(), Role::Api, verified, &order).map_err(DeployRefusal::Denied)
    }

    fn records(&self) -> BTreeMap<String, Record> {
        self.records
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn used(&self) -> BTreeSet<String> {
        let records = self.records();
        let attempts = records
            .values()
            .flat_map(|record| record.live.iter().chain(&record.next));
        let former = records.values().filter_map(|record| record.former.as_ref());
        attempts
            .map(|attempt| attempt.digest.clone())
            .chain(former.map(|former| former.digest.clone()))
            .collect()
    }

    /// First to the disk, then to memory.
    fn write(&self, record: &Record) -> Result<(), DeployRefusal> {
        self.store.write(record)?;
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        records.insert(record.service.clone(), record.clone());
        self.look.notify_one();
        Ok(())
    }

    fn forget(&self, service: &str) -> Result<(), DeployRefusal> {
        self.store.forget(service)?;
        self.records
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(service);
        // Docker's last event may have been looked at while it was still listed.
        self.look.notify_one();
        Ok(())
    }

    /// A word that no other attempt has had: the time and a count.
    fn attempt_word(&self) -> String {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let count = self.attempts.fetch_add(1, Ordering::Relaxed);
        format!("{:x}-{count}", since.as_nanos())
    }
}
