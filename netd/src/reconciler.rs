//! The one task that owns the kernel: requests come to it in order, drift is looked for between them, and what it
//! knows is published for all.

mod apply;
mod bridges;
mod confirm;
mod drift;
mod tunnels;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cell_netd_core::bridges::Unused;
use cell_netd_core::confirm::{Pending, Refusal, Window};
use cell_netd_core::explain::{Fate, NoAnswer, Question, fate};
use cell_netd_core::model::{PeerName, PublicKey};
use cell_netd_core::plan::Change;
use cell_netd_core::spec::{DeltaSpec, NetworkSpec};
use cell_netd_core::validate::Rejection;
use cell_netd_core::{Ceiling, Desired};
use ipnet::IpNet;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

pub use apply::{BETWEEN_LOOKS, LOOKING};
use tunnels::Tunnels;

use confirm::Confirmation;

use crate::kept::Kept;
use crate::kernel::wireguard::PeerStatistics;
use crate::kernel::{Glance, Kernel, KernelError};
use crate::marks::Marks;
use crate::status::{Holds, Status};

/// Requests that may wait.
const QUEUE: usize = 64;
/// Every so many looks all peers and elements are compared, not the cheap facts alone.
const DEEP_LOOK: u64 = 12;
/// Changes come in bursts (Docker's restart, our own transactions).
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The spec is malformed or above the ceiling.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The state is not the one that the request was made against, or a change waits for its confirmation.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// netd's state folder.
    #[error("netd's state folder could not be written: {0}")]
    State(#[from] std::io::Error),
    /// The machine would not.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// What was read back is not what was meant.
    #[error("the kernel does not match after {0} change(s)")]
    NotConverged(usize),
    /// netd is ending.
    #[error("netd is ending")]
    Ending,
}

/// What was or would be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Of the accepted spec.
    pub generation: u64,
    /// Of the accepted spec.
    pub etag: String,
    /// For people.
    pub changes: Vec<Change>,
    /// What waits for its confirmation now.
    pub pending: Option<Pending>,
}

/// Statistics by key, with the name of the peer where it is known.
pub type PeerTable = BTreeMap<PublicKey, (Option<String>, PeerStatistics)>;

/// Everything that the task can be asked.
#[derive(Debug)]
pub enum Request {
    /// Replace the whole desired state.
    Apply {
        /// What is wanted.
        spec: Box<NetworkSpec>,
        /// The state that it was made against; empty: any.
        etag: String,
        /// Only plan.
        validate_only: bool,
        /// How long it waits for its confirmation; none: it is for good.
        window: Option<Window>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Applied, ApplyError>>,
    },
    /// Change some peers.
    ApplyDelta {
        /// What is to change.
        spec: DeltaSpec,
        /// The state that it was made against.
        base_etag: String,
        /// Only plan.
        validate_only: bool,
        /// How long it waits for its confirmation; none: it is for good.
        window: Option<Window>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Applied, ApplyError>>,
    },
    /// Keep the change that waits. Generation and etag are answered.
    Confirm {
        /// Which.
        etag: String,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<(u64, String), ApplyError>>,
    },
    /// Take it back. Generation and etag of what is accepted then are answered.
    RollBack {
        /// Which.
        etag: String,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<(u64, String), ApplyError>>,
    },
    /// The status of this moment and the accepted state.
    Get {
        /// Where the answer goes.
        reply: oneshot::Sender<(Arc<Status>, Option<Desired>)>,
        /// Whether the state is wanted.
        include_desired: bool,
    },
    /// Handshakes and traffic.
    PeerStatuses {
        /// Of this peer alone; none: of all, those that are not the spec's too.
        only: Option<PeerName>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<PeerTable, KernelError>>,
    },
    /// What becomes of a packet, by the policy in force.
    Explain {
        /// Which packet.
        question: Question,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Fate, NoAnswer>>,
    },
    /// Whether the kernel told the caller's unit.
    CallerSeen {
        /// It did.
        unit_checked: bool,
    },
}

/// How others reach the task.
#[derive(Debug, Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    status: watch::Receiver<Arc<Status>>,
    marks: watch::Receiver<Marks>,
}

impl Handle {
    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// [`ApplyError::Ending`] when the task is gone.
    pub async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, ApplyError> {
        let (reply, answer) = oneshot::channel();
        self.requests
            .send(request(reply))
            .await
            .map_err(|_| ApplyError::Ending)?;
        answer.await.map_err(|_| ApplyError::Ending)
    }

    /// Says whether the caller's unit was checked; lost while the queue is full.
    pub fn caller_seen(&self, unit_checked: bool) {
        let _full = self.requests.try_send(Request::CallerSeen { unit_checked });
    }

    /// The marks of the accepted exits that have an interface.
    pub fn marks(&self) -> watch::Receiver<Marks> {
        self.marks.clone()
    }

    /// The published status.
    pub fn watch(&self) -> watch::Receiver<Arc<Status>> {
        self.status.clone()
    }
}

/// The task's state.
pub struct Reconciler<K> {
    kernel: K,
    ceiling: Ceiling,
    /// What the last accepted spec wants; none before the first.
    accepted: Option<Desired>,
    /// Makes etags of this process unlike those of the one before.
    instance: u64,
    /// The cell's public key, once vaultd told it.
    own_key: Option<PublicKey>,
    /// What lay on the machine's links when the policy in force was compiled.
    on_link: BTreeSet<IpNet>,
    /// Other programs' chains that dropped what is forwarded at the last look; none: not seen.
    blockers: Option<Vec<String>>,
    confirmation: Confirmation,
    /// When to read the device whole, because peers that a change touched could not be read back alone.
    unread: Option<Instant>,
    /// The cheap facts when the kernel last matched.
    seen: Option<Glance>,
    /// Those before the kernel was last read as a whole.
    noted: Option<Glance>,
    /// Tunnels of exits, as far as netd dealt with them.
    tunnels: Tunnels,
    status: Status,
    published: watch::Sender<Arc<Status>>,
    marks: watch::Sender<Marks>,
    looks: u64,
    /// Bridges that nobody uses, and since when they were seen so.
    unused: Unused,
}

impl<K: Kernel> Reconciler<K> {
    /// A task that owns `kernel` until all handles are gone. What is in `kept` comes back first. `instance` is random;
    /// `changed` wakes it to look for drift.
    pub fn spawn(kernel: K, ceiling: Ceiling, kept: Kept, instance: u64, changed: Arc<Notify>) -> Handle {
        let mut status = Status::default();
        status.set(
            "Converged",
            Holds::Unknown,
            "NO_SPEC",
            "no spec was applied since netd started",
        );
        status.set(
            "CallerUnitChecked",
            Holds::Unknown,
            "NO_CALLER",
            "nobody has called yet",
        );
        status.set_key(None);
        let (published, receiver) = watch::channel(Arc::new(status.clone()));
        let (marks, marks_receiver) = watch::channel(Marks::new());
        let (requests, queue) = mpsc::channel(QUEUE);
        let reconciler = Reconciler {
            kernel,
            ceiling,
            accepted: None,
            instance,
            own_key: None,
            on_link: BTreeSet::new(),
            blockers: None,
            confirmation: Confirmation::new(kept),
            unread: None,
            seen: None,
            noted: None,
            tunnels: Tunnels::default(),
            status,
            published,
            marks,
            looks: 0,
            unused: Unused::default(),
        };
        tokio::spawn(reconciler.run(queue, changed));
        Handle {
            requests,
            status: receiver,
            marks: marks_receiver,
        }
    }

    async fn run(mut self, mut queue: mpsc::Receiver<Request>, changed: Arc<Notify>) {
        let mut timer = interval(self.kernel.look_every());
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (began, mut look_at) = (Instant::now(), None);
        self.restore().await;
        self.guard().await;
        loop {
            let deadline = self.confirmation.look_at();
            tokio::select! {
                // Requests before looks, which can wait. But no number of requests keeps a change from being taken back.
                biased;
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.expire().await;
                    self.publish().await;
                }
                request = queue.recv() => match request {
                    Some(request) => self.handle(request).await,
                    None => return,
                },
                () = changed.notified() => {
                    // That nothing judges the packets any more is not left for later.
                    self.guard().await;
                    look_at.get_or_insert_with(|| Instant::now() + DEBOUNCE);
                }
                () = sleep_until(look_at.unwrap_or_else(Instant::now)), if look_at.is_some() => {
                    look_at = None;
                    self.look(false).await;
                }
                () = sleep_until(self.unread.unwrap_or_else(Instant::now)), if self.unread.is_some() => {
                    self.look(true).await;
                }
                _ = timer.tick() => {
                    self.looks += 1;
                    self.learn_missing_key().await;
                    self.look(self.looks.is_multiple_of(DEEP_LOOK)).await;
                    self.clear_bridges(began.elapsed()).await;
                }
            }
        }
    }

    async fn handle(&mut self, request: Request) {
        // A caller that went away does not want the answer.
        match request {
            Request::Apply {
                spec,
                etag,
                validate_only,
                window,
                reply,
            } => {
                let outcome = self.apply(&spec, &etag, validate_only, window).await;
                self.publish().await;
                let _gone = reply.send(outcome);
            }
            Request::ApplyDelta {
                spec,
                base_etag,
                validate_only,
                window,
                reply,
            } => {
                let outcome = self.apply_delta(&spec, &base_etag, validate_only, window).await;
                self.publish().await;
                let _gone = reply.send(outcome);
            }
            Request::Confirm { etag, reply } => {
                let outcome = self.confirm(&etag).await;
                self.publish().await;
                let _gone = reply.send(outcome);
            }
            Request::RollBack { etag, reply } => {
                let outcome = self.roll_back_requested(&etag).await;
                self.publish().await;
                let _gone = reply.send(outcome);
            }
            Request::Get {
                reply,
                include_desired,
            } => {
                self.read_tunnels().await;
                self.publish().await;
                let desired = self.accepted.clone().filter(|_| include_desired);
                let _gone = reply.send((Arc::new(self.status.clone()), desired));
            }
            Request::PeerStatuses { only, reply } => {
                let statuses = match only {
                    Some(name) => self.peer_status(name).await,
                    None => self.peer_statuses().await,
                };
                let _gone = reply.send(statuses);
            }
            Request::Explain { question, reply } => {
                let fate = match &self.accepted {
                    Some(accepted) => fate(accepted, &self.ceiling, &self.on_link, &question),
                    None => Err(NoAnswer::NoPeer),
                };
                let _gone = reply.send(fate);
            }
            Request::CallerSeen { unit_checked } => self.caller_seen(unit_checked),
        }
    }

    fn caller_seen(&mut self, unit_checked: bool) {
        let (holds, reason, message) = if unit_checked {
            (Holds::True, "CHECKED", "the caller's user and unit are checked")
        } else {
            (
                Holds::False,
                "USER_ONLY",
                "the caller's user is checked; its unit cannot be told here",
            )
        };
        self.status.set("CallerUnitChecked", holds, reason, message);
    }

    /// Of one peer: neither the spec nor the device is walked for it.
    async fn peer_status(&mut self, name: PeerName) -> Result<PeerTable, KernelError> {
        let Some((wireguard, peer)) = self.accepted.as_ref().and_then(|accepted| {
            let peer = accepted.peers().get(&name)?;
            Some((accepted.wireguard()?, peer))
        }) else {
            return Ok(PeerTable::new());
        };
        let moving = self.kernel.statistics_of(&wireguard.interface, &peer.key).await?;
        let row = (Some(name.to_string()), moving.unwrap_or_default());
        Ok([(peer.key, row)].into())
    }

    async fn peer_statuses(&mut self) -> Result<PeerTable, KernelError> {
        let Some(accepted) = &self.accepted else {
            return Ok(PeerTable::new());
        };
        let Some(wireguard) = accepted.wireguard() else {
            return Ok(PeerTable::new());
        };
        let mut statistics = self.kernel.statistics(&wireguard.interface).await?;
        let foreign = |key: &PublicKey| accepted.name_of_key(key).is_none();
        let mut table: PeerTable = accepted
            .peers()
            .iter()
            .map(|(name, peer)| {
                let moving = statistics.get(&peer.key).copied().unwrap_or_default();
                (peer.key, (Some(name.to_string()), moving))
            })
            .collect();
        statistics.retain(|key, _| foreign(key));
        table.extend(statistics.into_iter().map(|(key, moving)| (key, (None, moving))));
        Ok(table)
    }

    /// Reads what is cheap and publishes the whole status.
    async fn publish(&mut self) {
        self.status.set_forwarding(self.kernel.forwarding());
        self.status.set_ownership(self.seen.as_ref());
        self.status.set_renderer(self.kernel.renderer());
        let wireguard = self.accepted.as_ref().and_then(Desired::wireguard);
        self.status.backend = if wireguard.is_some() {
            self.kernel.backend()
        } else {
            ""
        };
        self.status.public_key = self
            .seen
            .as_ref()
            .and_then(|seen| seen.device)
            .map(|device| device.public_key);
        self.status.peer_count = self
            .accepted
            .as_ref()
            .map_or(0, |accepted| accepted.peers().len());
        match self.kernel.drops().await {
            Ok(drops) => self.status.drops = drops,
            Err(error) => tracing::warn!(%error, "the drop counters could not be read"),
        }
        self.published.send_replace(Arc::new(self.status.clone()));
        self.publish_marks();
    }

    fn publish_marks(&self) {
        let exits = self
            .accepted
            .iter()
            .flat_map(|accepted| accepted.exits().values());
        let wanted: Marks = exits.map(|exit| (exit.way.id.clone(), exit.way.mark)).collect();
        self.marks.send_if_modified(|known| {
            let changed = *known != wanted;
            *known = wanted;
            changed
        });
    }

    fn etag(&self) -> String {
        self.etag_of(self.status.generation)
    }

    fn etag_of(&self, generation: u64) -> String {
        format!("{:016x}-{generation}", self.instance)
    }
}
