//! Look up, inspect, judge, act: the only caller of [`Engine`].

use std::sync::Arc;

use cell_broker_core::logs::LogTail;
use cell_broker_core::model::{Container, ContainerId, ContainerState, Observed, Stats};
use cell_broker_core::{
    Act, Permit, Policy, Request, Role, Unreachable, Unresolved, Verb, Verdict, act, judge, resolve,
};
use cell_proto::broker::v1::BrokerStatus;
use cell_proto::ipc::Caller;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

use crate::audit::Subject;
use crate::backup::{BackupFault, BackupPolicy, Backups};
use crate::deploy::{DeployRefusal, Deployments};
use crate::engine::{Engine, EngineError, LISTED_MAX};
use crate::status::StatusBook;

/// Logs that are followed at once.
const FOLLOWERS: usize = 8;

/// The broker over one Docker.
pub struct Broker<E> {
    engine: Arc<E>,
    policy: Policy,
    slots: Semaphore,
    followers: Arc<Semaphore>,
    status: StatusBook,
    /// What the broker made itself. Where there are deployments, nothing else is the cell's own, whatever labels it bears.
    deployments: Option<Arc<Deployments>>,
    backups: Backups,
}

/// The cell's own containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// In the order of services.
    pub containers: Vec<Container>,
    /// Whether there are others: more than [`LISTED_MAX`], or some of which Docker's answer cannot be used.
    pub incomplete: bool,
}

/// Why the broker did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no own container of that service, whatever else there may be.
    #[error("no container of this service belongs to the cell")]
    NotOwned,
    /// Several containers claim to be that service.
    #[error("several containers bear the labels of this service; remove all but one")]
    Ambiguous,
    /// It makes no sense in the container's state.
    #[error("cannot {verb} a container that is {state}")]
    WrongState {
        /// What was asked.
        verb: Verb,
        /// Its state.
        state: ContainerState,
    },
    /// As many requests as the policy allows are under way.
    #[error("too many requests at once; try again")]
    Busy,
    /// There is no Docker.
    #[error("{0}")]
    NoDocker(Unreachable),
    /// Docker was too slow.
    #[error("Docker did not answer in time")]
    Slow,
    /// Docker would not.
    #[error("Docker refused; the broker's log has its words")]
    DockerRefused {
        /// HTTP status.
        status: u16,
    },
    /// Docker's answer is not understood.
    #[error("Docker's answer cannot be used: {0}")]
    DockerAnswer(&'static str),
    /// Its manifest names no signal.
    #[error("the service's manifest has no reload_signal: restart it instead")]
    NoReload,
    /// A secret that a container needs is nowhere: by its name, and the service's.
    #[error("the secret {secret} of {service} is not set: set it, and it is started")]
    SecretMissing {
        /// Whose.
        service: String,
        /// All that are missing, by their names in the manifest, with commas between them.
        secret: String,
    },
    /// vaultd does not give them now.
    #[error("secrets cannot be had from vaultd now ({0}): try again later")]
    SecretsAway(String),
    /// The broker's own store.
    #[error("the broker's store cannot be used; its log has the cause")]
    Store,
    /// There is no backup, or it is not whole.
    #[error("{0}")]
    Backup(#[from] BackupFault),
}

impl Refusal {
    /// Stable code, the reason in an answer.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::NotOwned => "NOT_OWNED",
            Refusal::Ambiguous => "AMBIGUOUS",
            Refusal::WrongState { .. } => "WRONG_STATE",
            Refusal::Busy => "BUSY",
            Refusal::NoDocker(_) => "NO_DOCKER",
            Refusal::Slow => "DOCKER_SLOW",
            Refusal::DockerRefused { .. } => "DOCKER_REFUSED",
            Refusal::DockerAnswer(_) => "DOCKER_ANSWER",
            Refusal::NoReload => "NO_RELOAD_SIGNAL",
            Refusal::SecretMissing { .. } => "SECRET_MISSING",
            Refusal::SecretsAway(_) => "SECRETS_AWAY",
            Refusal::Store => "STORE",
            Refusal::Backup(fault) => fault.code(),
        }
    }

    /// Whether it is the caller who went, or was slow.
    pub(crate) fn is_of_reader(&self) -> bool {
        matches!(
            self,
            Refusal::Backup(BackupFault::Unread | BackupFault::ReaderSlow)
        )
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Unreachable(why) => Refusal::NoDocker(why),
            EngineError::Slow => Refusal::Slow,
            EngineError::Gone => Refusal::NotOwned,
            EngineError::Refused { status } => Refusal::DockerRefused { status },
            EngineError::Unusable(what) => Refusal::DockerAnswer(what),
        }
    }
}

impl<E: Engine> Broker<E> {
    /// A broker that judges by `policy` and has at most `max_concurrent` requests under way.
    pub fn new(engine: E, policy: Policy, max_concurrent: usize) -> Self {
        Broker {
            engine: Arc::new(engine),
            policy,
            slots: Semaphore::new(max_concurrent),
            followers: Arc::new(Semaphore::new(FOLLOWERS)),
            status: StatusBook::default(),
            deployments: None,
            backups: Backups::new(None),
        }
    }

    /// With deployments: their store says which containers are the cell's own, and labels are held against it.
    pub fn with_deployments(mut self, deployments: Option<Arc<Deployments>>) -> Self {
        self.deployments = deployments;
        self
    }

    /// With backups, for whom the policy file says.
    pub fn with_backups(mut self, policy: Option<BackupPolicy>) -> Self {
        self.backups = Backups::new(policy);
        self
    }

    pub(crate) fn backups(&self) -> &Backups {
        &self.backups
    }

    pub(crate) fn deployments(&self) -> Option<&Arc<Deployments>> {
        self.deployments.as_ref()
    }

    pub(crate) fn engine(&self) -> Arc<E> {
        Arc::clone(&self.engine)
    }

    /// Whether the broker can work. Answers without Docker too, and has no part in the limit of requests.
    pub async fn status(&self, caller: &Caller) -> BrokerStatus {
        self.status.read(&*self.engine, caller).await
    }

    /// All own containers.
    pub async fn list(&self, caller: &Caller) -> Result<Own, Refusal> {
        let subject = Subject::new(caller, Verb::List, "");
        let _slot = self.slot(&subject)?;
        let mut own = self
            .own()
            .await
            .inspect_err(|refusal| subject.refused(refusal.code()))?;
        own.containers
            .sort_by(|a, b| (&a.service, &a.id).cmp(&(&b.service, &b.id)));
        subject.allowed("");
        Ok(own)
    }

    /// One own container.
    pub async fn show(&self, caller: &Caller, request: &Request<act::Show>) -> Result<Container, Refusal> {
        let subject = Subject::new(caller, Verb::Show, request.service());
        let _slot = self.slot(&subject)?;
        Ok(self.permit(&subject, request).await?.into_container())
    }

    /// The end of its log.
    pub async fn logs(&self, caller: &Caller, request: &Request<act::Logs>) -> Result<LogTail, Refusal> {
        let subject = Subject::new(caller, Verb::Logs, request.service());
        let _slot = self.slot(&subject)?;
        let permit = self.permit(&subject, request).await?;
        Ok(self.engine.logs(&permit).await?)
    }

    /// Its log as it is written; see [`Engine::follow`]. What comes last may be why it ended.
    pub async fn follow(
        &self,
        caller: &Caller,
        request: &Request<act::Logs>,
    ) -> Result<mpsc::Receiver<Result<LogTail, Refusal>>, Refusal> {
        let subject = Subject::new(caller, Verb::Logs, request.service());
        let busy = |_| {
            subject.refused(Refusal::Busy.code());
            Refusal::Busy
        };
        let follower = Arc::clone(&self.followers).try_acquire_owned().map_err(busy)?;
        let permit = self.permit(&subject, request).await?;
        let (told, mut lines) = mpsc::channel(1);
        let (answers, answered) = mpsc::channel(1);
        let engine = Arc::clone(&self.engine);
        let ended = answers.clone();
        tokio::spawn(async move {
            let passed = async {
                while let Some(tail) = lines.recv().await {
                    if answers.send(Ok(tail)).await.is_err() {
                        return;
                    }
                }
            };
            let ends = async {
                tokio::select! {
                    end = engine.follow(&permit, told) => end,
                    () = ended.closed() => Ok(()),
                }
            };
            if let (Err(error), ()) = tokio::join!(ends, passed) {
                let _ = ended.send(Err(error.into())).await;
            }
            drop(follower);
        });
        Ok(answered)
    }

    /// One reading.
    pub async fn stats(&self, caller: &Caller, request: &Request<act::Stats>) -> Result<Stats, Refusal> {
        let subject = Subject::new(caller, Verb::Stats, request.service());
        let _slot = self.slot(&subject)?;
        let permit = self.permit(&subject, request).await?;
        Ok(self.engine.stats(&permit).await?)
    }

    /// Starts it and shows it as it is then.
    pub async fn start(&self, caller: &Caller, request: &Request<act::Start>) -> Result<Container, Refusal> {
        let act = |engine: Arc<E>, permit: Permit<act::Start>| async move { engine.start(&permit).await };
        self.change(caller, request, act).await
    }

    /// Stops it and shows it as it is then.
    pub async fn stop(&self, caller: &Caller, request: &Request<act::Stop>) -> Result<Container, Refusal> {
        let act = |engine: Arc<E>, permit: Permit<act::Stop>| async move { engine.stop(&permit).await };
        self.change(caller, request, act).await
    }

    /// Stops and starts it, and shows it as it is then.
    pub async fn restart(
        &self,
        caller: &Caller,
        request: &Request<act::Restart>,
    ) -> Result<Container, Refusal> {
        let act = |engine: Arc<E>, permit: Permit<act::Restart>| async move { engine.restart(&permit).await };
        self.change(caller, request, act).await
    }

    /// Has it read its configuration again, and shows it as it is then.
    pub async fn reload(
        &self,
        caller: &Caller,
        request: &Request<act::Reload>,
    ) -> Result<Container, Refusal> {
        let deployments = self.deployments.as_ref();
        let signal = deployments.and_then(|deployments| deployments.reload_signal(request.service()));
        let Some(signal) = signal else {
            let subject = Subject::new(caller, Verb::Reload, request.service());
            let _slot = self.slot(&subject)?;
            let _unused = self.permit(&subject, request).await?;
            subject.refused(Refusal::NoReload.code());
            return Err(Refusal::NoReload);
        };
        let act = move |engine: Arc<E>, permit: Permit<act::Reload>| async move {
            engine.reload(&permit, signal).await
        };
        self.change(caller, request, act).await
    }

    /// Acts in a task of its own: a caller that hangs up does not leave an act half done or its outcome unrecorded.
    async fn change<A: Act, F>(
        &self,
        caller: &Caller,
        request: &Request<A>,
        act: impl FnOnce(Arc<E>, Permit<A>) -> F,
    ) -> Result<Container, Refusal>
    where
        F: Future<Output = Result<(), EngineError>> + Send + 'static,
    {
        let subject = Subject::new(caller, A::VERB, request.service());
        let _slot = self.slot(&subject)?;
        let permit = match self.permit(&subject, request).await {
            // It does not stop what waits to be started again, and says that this is not done either.
            Err(refusal @ Refusal::WrongState { .. }) => {
                self.intend(&subject, request.service(), A::VERB).await?;
                return Err(refusal);
            }
            permit => permit?,
        };
        self.intend(&subject, request.service(), A::VERB).await?;
        let id = permit.id().clone();
        let act = act(Arc::clone(&self.engine), permit);
        let recorded = async move {
            let outcome = act.await.map_err(Refusal::from);
            subject.done(
                id.as_str(),
                outcome.as_ref().map_or_else(Refusal::code, |()| "done"),
            );
            outcome.map(|()| id)
        };
        let id = tokio::spawn(recorded)
            .await
            .map_err(|_| Refusal::DockerAnswer("the act did not end"))??;
        let observed = self.engine.inspect(&id).await?;
        match judge(
            &self.policy,
            Role::Api,
            &Request::show_known(request.service().clone()),
            &id,
            &observed,
        ) {
            Verdict::Allow(permit) => Ok(permit.into_container()),
            Verdict::Deny(_) => Err(Refusal::NotOwned),
        }
    }

    /// Has the supervisor know what was asked for, before it is done.
    async fn intend(
        &self,
        subject: &Subject,
        service: &cell_broker_core::model::ServiceName,
        verb: Verb,
    ) -> Result<(), Refusal> {
        let Some(deployments) = &self.deployments else {
            return Ok(());
        };
        let noted = deployments
            .intend(service, verb)
            .await
            .map_err(|refusal| match refusal {
                DeployRefusal::Other(refusal) => refusal,
                refusal => {
                    tracing::error!(%refusal, "what is wanted of a container cannot be written down");
                    Refusal::Store
                }
            });
        noted.inspect_err(|refusal| subject.refused(refusal.code()))
    }

    /// Looks up, inspects and judges.
    async fn permit<A: Act>(&self, subject: &Subject, request: &Request<A>) -> Result<Permit<A>, Refusal> {
        let (id, observed) = match self.find(request).await {
            Ok(Ok(found)) => found,
            Ok(Err(unresolved)) => {
                subject.unresolved(unresolved);
                return Err(match unresolved {
                    Unresolved::None => Refusal::NotOwned,
                    Unresolved::Several => Refusal::Ambiguous,
                });
            }
            Err(error) => {
                let refusal = Refusal::from(error);
                subject.refused(refusal.code());
                return Err(refusal);
            }
        };
        self.judged(subject, request, &id, &observed)
    }

    /// Judges what Docker says of a container, and writes the verdict down.
    pub(crate) fn judged<A: Act>(
        &self,
        subject: &Subject,
        request: &Request<A>,
        id: &ContainerId,
        observed: &Observed,
    ) -> Result<Permit<A>, Refusal> {
        match judge(&self.policy, Role::Api, request, id, observed) {
            Verdict::Allow(permit) => {
                subject.allowed(id.as_str());
                Ok(permit)
            }
            Verdict::Deny(reasons) => {
                subject.denied(&reasons, id.as_str());
                Err(match reasons.wrong_state() {
                    Some(state) => Refusal::WrongState { verb: A::VERB, state },
                    None => Refusal::NotOwned,
                })
            }
        }
    }

    /// What Docker says of the one container that it lists for the service.
    async fn find<A>(
        &self,
        request: &Request<A>,
    ) -> Result<Result<(ContainerId, Observed), Unresolved>, EngineError> {
        let listed = match &self.deployments {
            Some(deployments) => deployments.id_of(request.service()).into_iter().collect(),
            None => {
                let ownership = &self.policy.ownership;
                self.engine.list(ownership, Some(request.service())).await?
            }
        };
        match resolve(&listed) {
            Ok(id) => Ok(Ok((id.clone(), self.engine.inspect(id).await?))),
            Err(unresolved) => Ok(Err(unresolved)),
        }
    }

    /// Every listed container that is found to be the cell's own. One of which Docker's answer cannot be used is left out,
    /// and says so: it must not hide the others.
    async fn own(&self) -> Result<Own, Refusal> {
        let mut ids = match &self.deployments {
            Some(deployments) => deployments.ids(),
            None => self.engine.list(&self.policy.ownership, None).await?,
        };
        let mut own = Own {
            containers: Vec::new(),
            incomplete: ids.len() > LISTED_MAX,
        };
        if own.incomplete {
            tracing::warn!(most = LISTED_MAX, "there are more own containers than are listed");
        }
        ids.truncate(LISTED_MAX);
        for id in ids {
            let observed = match self.engine.inspect(&id).await {
                Ok(observed) => observed,
                // It was removed since it was listed.
                Err(EngineError::Gone) => continue,
                Err(EngineError::Unusable(why)) => {
                    tracing::warn!(
                        container = id.as_str(),
                        why,
                        "a container is left out of the list"
                    );
                    own.incomplete = true;
                    continue;
                }
                Err(
                    error @ (EngineError::Unreachable(_) | EngineError::Slow | EngineError::Refused { .. }),
                ) => return Err(error.into()),
            };
            let Some(service) = self.policy.ownership.service(&observed.labels) else {
                continue;
            };
            if let Verdict::Allow(permit) = judge(
                &self.policy,
                Role::Api,
                &Request::show_known(service),
                &id,
                &observed,
            ) {
                own.containers.push(permit.into_container());
            }
        }
        Ok(own)
    }

    fn slot(&self, subject: &Subject) -> Result<SemaphorePermit<'_>, Refusal> {
        self.slots.try_acquire().map_err(|_| {
            subject.refused(Refusal::Busy.code());
            Refusal::Busy
        })
    }
}
