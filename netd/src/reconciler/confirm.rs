//! Changes that wait for their confirmation: the state before them is on the disk before the kernel is touched, and comes
//! back at the deadline, when it is asked for, and whenever netd starts and finds it there.

use cell_netd_core::Desired;
use cell_netd_core::confirm::{Beside, Pending, Phase, Reason, Refusal, Rollback, Way, takes_away};
use cell_netd_core::desired::Delta;
use cell_netd_core::model::PeerName;
use cell_netd_core::rebound::rebound;
use cell_netd_core::spec::{DeltaSpec, NetworkSpec};
use cell_netd_core::validate::validate;
use cell_proto::netd::v1::KeptState;
use std::io;
use std::time::Duration;
use tokio::time::Instant;

use super::{Applied, ApplyError, Reconciler};
use crate::kept::{Kept, Unreadable};
use crate::kernel::Kernel;
use crate::status::Holds;
use crate::{clock, proto};

/// The timer looks at the clock at least so often: the runtime's own stands still while the machine is suspended.
const TICK: Duration = Duration::from_secs(1);

/// Where netd stands with changes that wait, in memory and on the disk.
pub(super) struct Confirmation {
    kept: Kept,
    phase: Phase,
    /// What comes back; there as long as a change waits.
    last_good: Option<Desired>,
    /// The change that was confirmed last.
    confirmed: Option<String>,
    /// Something is on the disk that this netd cannot read.
    damaged: bool,
}

impl Confirmation {
    pub(super) fn new(kept: Kept) -> Self {
        Confirmation {
            kept,
            phase: Phase::Idle,
            last_good: None,
            confirmed: None,
            damaged: false,
        }
    }

    /// When the timer must look at the clock; none: nothing waits.
    pub(super) fn look_at(&self) -> Option<Instant> {
        let left = self.phase.pending()?.left(clock::since_boot());
        Some(Instant::now() + Duration::from_millis(left).min(TICK))
    }

    /// Puts the state to come back to on the disk.
    async fn keep(&self, state: KeptState) -> io::Result<()> {
        let kept = self.kept.clone();
        on_disk(move || kept.write(&state)).await
    }

    async fn forget(&self) -> io::Result<()> {
        let kept = self.kept.clone();
        on_disk(move || kept.forget()).await
    }
}

async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

fn state(last_good: &Desired, pending: &Pending, rollback: Option<&Rollback>) -> KeptState {
    KeptState {
        last_good: Some(proto::from_desired(last_good)),
        pending_etag: pending.etag.clone(),
        previous_etag: pending.previous_etag.clone(),
        rollback: rollback.map(proto::from_rollback),
    }
}

impl<K: Kernel> Reconciler<K> {
    /// How to carry a request out, by its etag and its wish to wait.
    pub(super) fn admit(
        &self,
        etag: &str,
        window: Option<cell_netd_core::confirm::Window>,
    ) -> Result<Way, Refusal> {
        self.confirmation.phase.admit(etag, &self.status.etag, window)
    }

    /// A whole state, in the way that it was admitted.
    pub(super) async fn apply_admitted(&mut self, desired: Desired, way: Way) -> Result<Applied, ApplyError> {
        let same = self.accepted.as_ref() == Some(&desired);
        match way {
            Way::Plain | Way::Notes => {}
            // Nothing would come back, so there is nothing to wait for.
            Way::Begins(_) if same => {}
            Way::Beside if same => return self.apply_desired(desired, false).await,
            Way::Beside => return Err(Refusal::ChangePending.into()),
            Way::Begins(_) | Way::JoinsIn(_) => {
                let pending = self.begin(way, !same).await?;
                let outcome = self.apply_desired(desired, false).await;
                return self.begun(way, pending, outcome).await;
            }
        }
        self.note().await?;
        let applied = self.apply_desired(desired, false).await?;
        self.supersede().await;
        Ok(applied)
    }

    /// A change of some peers, in the way that it was admitted.
    pub(super) async fn apply_delta_admitted(
        &mut self,
        spec: &DeltaSpec,
        delta: Delta,
        way: Way,
    ) -> Result<Applied, ApplyError> {
        let empty = delta.is_empty();
        match way {
            Way::Plain | Way::Notes => {}
            Way::Begins(_) if empty => {}
            Way::Beside => return self.apply_beside(spec, delta).await,
            Way::Begins(_) | Way::JoinsIn(_) => {
                let pending = self.begin(way, !empty).await?;
                let outcome = self.apply_checked(delta).await;
                return self.begun(way, pending, outcome).await;
            }
        }
        self.note().await?;
        self.apply_checked(delta).await
    }

    /// What takes away alone is taken from the state before too, first on the disk. Where that cannot be written, it is
    /// taken from the peers nevertheless, and the caller is told to send it again.
    async fn apply_beside(&mut self, spec: &DeltaSpec, delta: Delta) -> Result<Applied, ApplyError> {
        let (Phase::Waits(pending), Some(accepted)) = (&self.confirmation.phase, &self.accepted) else {
            return Err(Refusal::NotPending.into());
        };
        if !takes_away(&delta) {
            return Err(Refusal::ChangePending.into());
        }
        let upserted = spec.upserted_peers.iter().map(|peer| &peer.name);
        let names = spec.removed_peers.iter().chain(upserted);
        let names = names.filter_map(|name| name.parse::<PeerName>().ok());
        let beside = Beside::of(names, &delta, accepted);
        let pending = pending.clone();
        let mut kept = Ok(());
        if let Some(last_good) = &mut self.confirmation.last_good {
            let loss = beside.from_last_good(last_good);
            let _inverse = last_good.apply(loss);
            let etag = self.next_etag(!delta.is_empty());
            kept = self.keep_pending(&pending.clone().becomes(etag)).await;
        }
        let applied = self.apply_checked(delta).await?;
        let pending = pending.becomes(self.status.etag.clone());
        self.wait_for(pending);
        kept?;
        Ok(self.with_pending(applied))
    }

    /// Before the kernel is touched: what comes back is on the disk.
    async fn begin(&mut self, way: Way, changes: bool) -> Result<Pending, ApplyError> {
        let now = clock::now();
        let pending = match (way, &self.confirmation.phase) {
            (Way::Begins(window), _) => {
                self.confirmation.last_good = self.accepted.clone();
                Pending::begins(&self.status.etag, window, now)
            }
            (Way::JoinsIn(window), Phase::Waits(pending)) => pending.with_part(window, now),
            (Way::Plain | Way::Notes | Way::Beside | Way::JoinsIn(_), _) => {
                return Err(Refusal::NotPending.into());
            }
        };
        let pending = pending.becomes(self.next_etag(changes));
        if let Err(error) = self.keep_pending(&pending).await {
            self.not_kept(&error);
            if matches!(way, Way::Begins(_)) {
                self.confirmation.last_good = None;
            }
            return Err(error.into());
        }
        Ok(pending)
    }

    /// After it: the timer runs, or nothing has changed.
    async fn begun(
        &mut self,
        way: Way,
        pending: Pending,
        outcome: Result<Applied, ApplyError>,
    ) -> Result<Applied, ApplyError> {
        let error = match outcome {
            Ok(applied) => {
                self.wait_for(pending.becomes(self.status.etag.clone()));
                return Ok(self.with_pending(applied));
            }
            Err(error) => error,
        };
        match (way, self.confirmation.phase.pending().cloned()) {
            // What waited before waits on; it is again what the disk speaks of.
            (Way::JoinsIn(_), Some(before)) => {
                if let Err(error) = self.keep_pending(&before).await {
                    self.not_kept(&error);
                }
            }
            // The kernel is back already, as it mostly is, or is on its way there.
            _ if self.status.observed_generation == self.status.generation => {
                self.confirmation.last_good = None;
                self.confirmation.phase = Phase::Idle;
                self.forget_kept().await;
                self.tell_phase();
            }
            _ => self.taken_back(pending, Reason::Failed).await,
        }
        Err(error)
    }

    fn wait_for(&mut self, pending: Pending) {
        self.confirmation.phase = Phase::Waits(pending);
        self.tell_phase();
    }

    fn with_pending(&self, applied: Applied) -> Applied {
        Applied {
            pending: self.confirmation.phase.pending().cloned(),
            ..applied
        }
    }

    async fn keep_pending(&mut self, pending: &Pending) -> io::Result<()> {
        match &self.confirmation.last_good {
            Some(last_good) => self.confirmation.keep(state(last_good, pending, None)).await,
            None => Ok(()),
        }
    }

    /// The etag of the state that comes next.
    fn next_etag(&self, changes: bool) -> String {
        self.etag_of(self.status.generation + u64::from(changes))
    }

    /// Whoever sends the etag of the state that came back knows that it did: it need not come back once more.
    async fn note(&mut self) -> Result<(), ApplyError> {
        match self.confirmation.phase {
            Phase::Idle | Phase::Waits(_) => Ok(()),
            Phase::Unnoted(_) => {
                self.confirmation.forget().await?;
                self.confirmation.phase = Phase::Idle;
                self.tell_phase();
                Ok(())
            }
        }
    }

    /// A state that is accepted whole and for good takes the place of one that cannot be read.
    async fn supersede(&mut self) {
        if !self.confirmation.damaged {
            return;
        }
        let kept = self.confirmation.kept.clone();
        match on_disk(move || kept.set_aside()).await {
            Ok(()) => self.confirmation.damaged = false,
            Err(error) => tracing::error!(%error, "the damaged last good state cannot be moved away"),
        }
        self.tell_phase();
    }

    /// Keeps the change for good: from here on the disk says nothing of it.
    pub(super) async fn confirm(&mut self, etag: &str) -> Result<(u64, String), ApplyError> {
        let phase = &self.confirmation.phase;
        if phase.pending().is_none()
            && self.confirmation.confirmed.as_deref() == Some(etag)
            && self.status.etag == etag
        {
            return Ok((self.status.generation, etag.to_owned()));
        }
        let waiting = phase.waiting(etag, clock::since_boot()).map(drop);
        self.expire().await;
        waiting?;
        self.confirmation.forget().await?;
        self.confirmation.phase = Phase::Idle;
        self.confirmation.last_good = None;
        self.confirmation.confirmed = Some(etag.to_owned());
        self.tell_phase();
        tracing::info!(etag, "the change was confirmed");
        Ok((self.status.generation, etag.to_owned()))
    }

    /// Takes the change back because somebody wants it.
    pub(super) async fn roll_back_requested(&mut self, etag: &str) -> Result<(u64, String), ApplyError> {
        let pending = self
            .confirmation
            .phase
            .waiting(etag, clock::since_boot())?
            .clone();
        self.taken_back(pending, Reason::Requested).await;
        if self.status.observed_generation != self.status.generation {
            return Err(ApplyError::NotConverged(1));
        }
        Ok((self.status.generation, self.status.etag.clone()))
    }

    /// Takes the change back if its time is over.
    pub(super) async fn expire(&mut self) {
        let Some(pending) = self.confirmation.phase.pending() else {
            return;
        };
        if pending.left(clock::since_boot()) == 0 {
            let pending = pending.clone();
            self.taken_back(pending, Reason::Expired).await;
        }
    }

    /// The kernel first, for somebody may be locked out; a netd that dies before the disk says so does it once more.
    async fn taken_back(&mut self, pending: Pending, reason: Reason) {
        let Some(mut last_good) = self.confirmation.last_good.take() else {
            return;
        };
        if let Some(key) = self.own_key {
            last_good.set_own_key(key);
        }
        tracing::warn!(etag = pending.etag, %reason, "the change is rolled back");
        self.come_back(last_good.clone()).await;
        let rollback = Rollback {
            rejected_etag: pending.etag.clone(),
            restored_etag: self.status.etag.clone(),
            at_unix_ms: clock::unix_ms(),
            reason,
        };
        self.unnoted(&last_good, &pending, rollback).await;
    }

    /// The state becomes the accepted one; what the kernel does not take now, it is led to at the looks that follow.
    async fn come_back(&mut self, last_good: Desired) {
        if let Err(error) = self.remove_strange_tunnels(&last_good).await {
            tracing::error!(%error, "tunnels of the change are not gone yet");
        }
        let restored = self.try_repair(&last_good).await;
        let moved = self.accepted.as_ref().map(|before| rebound(before, &last_good));
        self.accepted = Some(last_good);
        self.status.generation += 1;
        self.status.etag = self.etag();
        match restored {
            Ok(_) => {
                self.lead_on(moved.unwrap_or_default());
                self.accept().await;
            }
            Err(error) => {
                tracing::error!(%error, "the last good state is not in force yet");
                self.seen = None;
                self.repair(false).await;
            }
        }
        self.try_tunnels_at_once();
        self.tend_tunnels(false).await;
        self.guard().await;
    }

    async fn unnoted(&mut self, last_good: &Desired, pending: &Pending, rollback: Rollback) {
        let written = self
            .confirmation
            .keep(state(last_good, pending, Some(&rollback)))
            .await;
        self.status.last_rollback = Some(rollback.clone());
        self.confirmation.phase = Phase::Unnoted(rollback);
        self.tell_phase();
        if let Err(error) = written {
            self.not_kept(&error);
        }
    }

    /// At a start: what waited is taken back, and a rollback that nobody has noted stands.
    pub(super) async fn restore(&mut self) {
        let kept = self.confirmation.kept.clone();
        let read = on_disk(move || Ok(kept.read()))
            .await
            .unwrap_or_else(|error| Err(error.into()));
        match read {
            Ok(None) => self.tell_phase(),
            Ok(Some(state)) => self.restore_from(state).await,
            Err(error) => self.damaged(&error),
        }
    }

    async fn restore_from(&mut self, state: KeptState) {
        let KeptState {
            last_good,
            pending_etag,
            previous_etag,
            rollback,
        } = state;
        let spec: NetworkSpec = proto::network_spec(last_good.unwrap_or_default());
        // The cell's key is learned later: a device that is there is not kept waiting for vaultd.
        let last_good = match validate(&spec, &self.ceiling, self.own_key) {
            Ok(last_good) => last_good,
            Err(rejection) => {
                for fault in rejection.violations() {
                    tracing::error!(fault.field, fault.description, "in the last good state");
                }
                return self.damaged(&Unreadable::Damaged(
                    "the ceiling forbids what it says, or it is malformed",
                ));
            }
        };
        tracing::warn!(
            etag = pending_etag,
            "netd ended while a change waited, or before its rollback was noted"
        );
        self.come_back(last_good.clone()).await;
        let noted = rollback.and_then(proto::rollback);
        let rollback = noted.unwrap_or_else(|| Rollback {
            rejected_etag: pending_etag.clone(),
            restored_etag: self.status.etag.clone(),
            at_unix_ms: clock::unix_ms(),
            reason: Reason::Restarted,
        });
        let pending = Pending {
            etag: pending_etag,
            previous_etag,
            deadline: clock::since_boot(),
            deadline_unix_ms: rollback.at_unix_ms,
        };
        self.unnoted(&last_good, &pending, rollback).await;
        self.publish().await;
    }

    /// The kernel is left as it is: it is not known what came before.
    fn damaged(&mut self, error: &Unreadable) {
        tracing::error!(%error, "if a change waited for its confirmation, it is not taken back");
        self.confirmation.damaged = true;
        let message = format!("{error}; the network is left as it is until a whole spec is applied");
        self.status.set("RollbackReady", Holds::False, "DAMAGED", message);
    }

    async fn forget_kept(&mut self) {
        if let Err(error) = self.confirmation.forget().await {
            self.not_kept(&error);
        }
    }

    fn not_kept(&mut self, error: &io::Error) {
        tracing::error!(%error, "the state folder cannot be written");
        let message = format!("the state folder cannot be written ({error}): make room in it");
        self.status
            .set("RollbackReady", Holds::False, "NOT_WRITTEN", message);
    }

    /// What the status says of it.
    fn tell_phase(&mut self) {
        self.status.pending = self.confirmation.phase.pending().cloned();
        if self.confirmation.damaged {
            return;
        }
        let (reason, message) = match &self.confirmation.phase {
            Phase::Idle => ("NOTHING_WAITS", "no change waits for its confirmation".to_owned()),
            Phase::Waits(_) => (
                "WAITS",
                "a change is taken back at its deadline unless it is confirmed".to_owned(),
            ),
            Phase::Unnoted(rollback) => (
                "ROLLED_BACK",
                format!("a change was taken back, since {}", rollback.reason),
            ),
        };
        self.status.set("RollbackReady", Holds::True, reason, message);
    }
}
