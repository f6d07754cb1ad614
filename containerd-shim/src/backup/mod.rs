//! Backups of what services keep: Docker's archives of the volumes that the manifest names, in one that is encrypted here, for the
//! recipients of root's policy file. Whoever asks gets nothing else, and has no say in who can read it
//! ([ADR 0045](../../../docs/adr/0045-backups-of-services.md)).

mod key;
mod pack;
mod restore;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use age::x25519::Recipient;
use bytes::Bytes;
use cell_broker_core::backup::{Misplaced, Part};
use cell_broker_core::model::ServiceName;
use cell_broker_core::{Permit, Request, Verb, act};
use cell_proto::ipc::Caller;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::audit::Subject;
use crate::broker::{Broker, Refusal};
use crate::deploy::{DeployRefusal, Deployments, Plan, Readers};
use crate::engine::{Engine, EngineError};
pub use key::make_key;
use pack::Job;
pub use restore::{Restore, restore};

/// Backups at once, of all services.
const AT_ONCE: usize = 2;
/// How long one may take.
const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// How often it is looked whether the service is still the same.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long its reader may take for one piece.
const READER_SILENT: Duration = Duration::from_secs(60);

/// What the policy file says of backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupPolicy {
    /// Who can read them. None: there are no backups.
    pub recipients: Vec<Recipient>,
    /// Largest, bytes of Docker's archives.
    pub most_bytes: u64,
}

/// Why there is no backup, or none that is whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupFault {
    /// Nobody could read it.
    #[error(
        "the broker knows nobody whom backups are for: as root, make a key with `/usr/lib/cell/cell-broker backup-key FILE`, keep that file \
         away from this machine, put the line that it prints into /etc/cell/broker.toml and restart cell-broker"
    )]
    NoRecipient,
    /// Its manifest names no volume.
    #[error("the service's manifest names nothing that a backup would hold (backup.paths)")]
    Nothing,
    /// What the manifest names is no folder.
    #[error("{0} is no folder in the service's volume: has the service made it yet?")]
    NoFolder(String),
    /// Above the ceiling.
    #[error("the service keeps more than a backup may hold: raise backup.most_mib in /etc/cell/broker.toml")]
    TooLarge,
    /// The service is not what it was.
    #[error("the service was updated or removed while it was read: try again")]
    Changed,
    /// Docker's archive has no end.
    #[error(
        "Docker's archive is not whole; a file became shorter while it was read: try again, or stop the service first"
    )]
    Cut,
    /// A name that is not below the folder.
    #[error("Docker's archive holds something from outside the folder that was asked for")]
    Outside,
    /// Its reader stopped reading.
    #[error("nobody read the backup for a minute")]
    ReaderSlow,
    /// Its reader went.
    #[error("nobody reads the backup any more")]
    Unread,
    /// It took too long.
    #[error("the backup took longer than twelve hours")]
    Long,
    /// The ceiling, an image or a folder is not what it was when the service was made.
    #[error(
        "a container to read the service's volumes from cannot be made, as it could not be deployed now: {0}"
    )]
    Unreadable(String),
    /// A fault of the broker's own.
    #[error("the backup could not be made; the broker's log has the cause")]
    Failed,
}

impl BackupFault {
    /// Stable code, the reason in an answer.
    pub fn code(&self) -> &'static str {
        match self {
            BackupFault::NoRecipient => "NO_RECIPIENT",
            BackupFault::Nothing => "NOTHING_TO_BACK_UP",
            BackupFault::NoFolder(_) => "NO_FOLDER",
            BackupFault::TooLarge => "BACKUP_TOO_LARGE",
            BackupFault::Changed => "SERVICE_CHANGED",
            BackupFault::Cut => "ARCHIVE_CUT",
            BackupFault::Outside => "ARCHIVE_OUTSIDE",
            BackupFault::ReaderSlow => "READER_SLOW",
            BackupFault::Unread => "UNREAD",
            BackupFault::Long => "BACKUP_LONG",
            BackupFault::Unreadable(_) => "UNREADABLE",
            BackupFault::Failed => "BACKUP_FAILED",
        }
    }
}

impl From<Misplaced> for BackupFault {
    fn from(_: Misplaced) -> Self {
        BackupFault::Outside
    }
}

/// A backup as it is made.
#[derive(Debug)]
pub struct Backup {
    pieces: mpsc::Receiver<Bytes>,
    ended: Arc<OnceLock<Result<(), Refusal>>>,
}

impl Backup {
    /// The next piece; why it is not whole; or none, and it is.
    pub async fn next(&mut self) -> Option<Result<Bytes, Refusal>> {
        if let Some(piece) = self.pieces.recv().await {
            return Some(Ok(piece));
        }
        match self.ended.get() {
            Some(Ok(())) => None,
            Some(Err(refusal)) => Some(Err(refusal.clone())),
            None => Some(Err(BackupFault::Failed.into())),
        }
    }
}

/// Backups that are under way, and whom they are for.
#[derive(Debug)]
pub(crate) struct Backups {
    policy: Option<BackupPolicy>,
    slots: Arc<Semaphore>,
    services: Arc<Mutex<BTreeSet<ServiceName>>>,
}

/// A place among them, of one service's own.
struct Slot {
    _one: OwnedSemaphorePermit,
    service: ServiceName,
    services: Arc<Mutex<BTreeSet<ServiceName>>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.remove(&self.service);
    }
}

impl Backups {
    pub(crate) fn new(policy: Option<BackupPolicy>) -> Self {
        Backups {
            policy: policy.filter(|policy| !policy.recipients.is_empty()),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            services: Arc::default(),
        }
    }

    fn slot(&self, service: &ServiceName) -> Result<Slot, Refusal> {
        let one = Arc::clone(&self.slots).try_acquire_owned();
        let one = one.map_err(|_| Refusal::Busy)?;
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        if !services.insert(service.clone()) {
            return Err(Refusal::Busy);
        }
        Ok(Slot {
            _one: one,
            service: service.clone(),
            services: Arc::clone(&self.services),
        })
    }
}

impl<E: Engine> Broker<E> {
    /// A backup of a deployed service. Before it is known whom it is for, Docker is asked nothing.
    ///
    /// # Errors
    /// Why none is begun; why it is not whole comes with its pieces.
    pub async fn backup(&self, caller: &Caller, service: &ServiceName) -> Result<Backup, Refusal> {
        let subject = Subject::new(caller, Verb::Backup, service);
        let begun = self.begin_backup(&subject, service).await;
        begun.inspect_err(|refusal| subject.refused(refusal.code()))
    }

    /// Whether a backup could be begun, by the policy file and the manifest.
    ///
    /// # Errors
    /// Why not.
    pub fn could_back_up(&self, caller: &Caller, service: &ServiceName) -> Result<(), Refusal> {
        let subject = Subject::new(caller, Verb::Backup, service);
        let could = self.planned(service).map(drop);
        could.inspect_err(|refusal| subject.refused(refusal.code()))
    }

    /// What would be done, and for whom. Docker is not asked.
    fn planned(&self, service: &ServiceName) -> Result<(BackupPolicy, Arc<Deployments>, Plan), Refusal> {
        let policy = self.backups().policy.clone().ok_or(BackupFault::NoRecipient)?;
        let deployments = self.deployments().cloned().ok_or(Refusal::NotOwned)?;
        let plan = deployments.backup_plan(service).map_err(of_plan)?;
        Ok((policy, deployments, plan))
    }

    async fn begin_backup(&self, subject: &Subject, service: &ServiceName) -> Result<Backup, Refusal> {
        let (policy, deployments, mut plan) = self.planned(service)?;
        let slot = self.backups().slot(service)?;
        plan.head.made_unix_ms = unix_ms();
        let made = {
            let deployments = Arc::clone(&deployments);
            // In a task of its own, and with the place: a caller that hangs up leaves nothing half made.
            let making = async move { (deployments.make_readers(&plan).await, plan, slot) };
            tokio::spawn(making).await
        };
        let (readers, plan, slot) = made.map_err(|_| BackupFault::Failed)?;
        let readers = readers.map_err(of_plan)?;
        let parts = match self.permits(subject, &plan, &readers).await {
            Ok(parts) => parts,
            Err(refusal) => {
                readers.remove().await;
                return Err(refusal);
            }
        };
        let (answers, pieces) = mpsc::channel(1);
        let ended = Arc::new(OnceLock::new());
        let (told, subject, service) = (Arc::clone(&ended), subject.clone(), service.clone());
        let work = Work {
            engine: self.engine(),
            deployments,
            policy,
            plan,
        };
        tokio::spawn(async move {
            let made = tokio::time::timeout(LONGEST, work.run(parts, answers.clone())).await;
            let made = made.unwrap_or(Err(BackupFault::Long.into()));
            readers.remove().await;
            subject.done(
                service.as_str(),
                made.as_ref().map_or_else(Refusal::code, |()| "done"),
            );
            let _first = told.set(made);
            // The reader sees the end of the pieces only after it can see what became of them.
            drop(answers);
            drop(slot);
        });
        Ok(Backup { pieces, ended })
    }

    /// Each folder with leave to read it, from the container that was made for it.
    async fn permits(
        &self,
        subject: &Subject,
        plan: &Plan,
        readers: &Readers,
    ) -> Result<Vec<(Part, Permit<act::Backup>)>, Refusal> {
        let mut permits = Vec::new();
        for part in &plan.parts {
            let made = readers.made.get(part.container.as_str());
            let (handle, id) = made.ok_or(Refusal::NotOwned)?;
            let request = Request::backup_known(handle.clone());
            let observed = self.engine().inspect(id).await?;
            permits.push((part.clone(), self.judged(subject, &request, id, &observed)?));
        }
        Ok(permits)
    }
}

/// What one backup needs while it is made.
struct Work<E> {
    engine: Arc<E>,
    deployments: Arc<Deployments>,
    policy: BackupPolicy,
    plan: Plan,
}

impl<E: Engine> Work<E> {
    /// Docker's archives to the thread that packs, what it packs to the reader; all three at once, each as fast as the next.
    async fn run(
        self,
        parts: Vec<(Part, Permit<act::Backup>)>,
        answers: mpsc::Sender<Bytes>,
    ) -> Result<(), Refusal> {
        let (jobs, given) = mpsc::channel(1);
        let (out, packed) = mpsc::channel(1);
        let (policy, head) = (self.policy.clone(), self.plan.head.clone());
        let packing = tokio::task::spawn_blocking(move || {
            pack::pack(&policy.recipients, policy.most_bytes, &head, given, out)
        });
        let read = async {
            tokio::select! {
                read = self.feed(parts, jobs) => read,
                () = self.changed() => Err(BackupFault::Changed.into()),
            }
        };
        let (read, packed, passed) = tokio::join!(read, packing, pass(packed, answers));
        let packed = packed.unwrap_or(Err(BackupFault::Failed));
        // Who stopped first is the reason of the others.
        let outcome = passed
            .map_err(Refusal::from)
            .and(read)
            .and(packed.map_err(Refusal::from));
        match outcome {
            // Its containers went: that is all that was wrong with them.
            Err(refusal) if !refusal.is_of_reader() && !self.is_same() => {
                tracing::info!(%refusal, "a backup ended because its service changed");
                Err(BackupFault::Changed.into())
            }
            outcome => outcome,
        }
    }

    async fn feed(
        &self,
        parts: Vec<(Part, Permit<act::Backup>)>,
        jobs: mpsc::Sender<Job>,
    ) -> Result<(), Refusal> {
        for (part, permit) in parts {
            let (told, pieces) = mpsc::channel(1);
            let path = part.path();
            let prefix = part.prefix();
            if jobs.send(Job::Part(part, pieces)).await.is_err() {
                return Ok(());
            }
            let read = self.engine.archive(&permit, &path, told).await;
            read.map_err(|error| match error {
                EngineError::Gone => BackupFault::NoFolder(prefix).into(),
                error => Refusal::from(error),
            })?;
        }
        if !self.is_same() {
            return Err(BackupFault::Changed.into());
        }
        let _whole = jobs.send(Job::Finish).await;
        Ok(())
    }

    /// Comes to an end when the service is not any more what is read.
    async fn changed(&self) {
        while self.is_same() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn is_same(&self) -> bool {
        self.deployments.runs(&self.plan.head.service, &self.plan.attempt)
    }
}

/// Passes pieces on to a reader that takes them.
async fn pass(mut packed: mpsc::Receiver<Bytes>, answers: mpsc::Sender<Bytes>) -> Result<(), BackupFault> {
    while let Some(piece) = packed.recv().await {
        match tokio::time::timeout(READER_SILENT, answers.send(piece)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(BackupFault::Unread),
            Err(_) => return Err(BackupFault::ReaderSlow),
        }
    }
    Ok(())
}

fn of_plan(refusal: DeployRefusal) -> Refusal {
    match refusal {
        DeployRefusal::Other(refusal) => refusal,
        DeployRefusal::Store(error) => {
            tracing::error!(%error, "what a service keeps cannot be looked up");
            Refusal::Store
        }
        // It could not be deployed now, either: the ceiling, an image or a folder is another.
        refusal => {
            tracing::error!(%refusal, "a container to read a service's volumes from cannot be made");
            BackupFault::Unreadable(refusal.to_string()).into()
        }
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
