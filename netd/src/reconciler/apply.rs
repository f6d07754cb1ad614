//! A request is validated, planned, performed, read back, and only then accepted.

use std::time::Duration;

use cell_netd_core::confirm::{Refusal, Window};
use cell_netd_core::desired::Delta;
use cell_netd_core::plan::{Plan, expected_peers, peers_hold, plan, plan_delta};
use cell_netd_core::policy::{Ruleset, compile};
use cell_netd_core::rebound::{Moved, rebound, rebound_by};
use cell_netd_core::spec::{DeltaSpec, NetworkSpec};
use cell_netd_core::validate::{validate, validate_delta};
use cell_netd_core::{Desired, Step};

use super::{Applied, ApplyError, Reconciler};
use crate::kernel::{Kernel, KernelError};
use crate::status::Holds;
use tokio::time::Instant;

/// A device of so many peers is read whole after a change of one, where the kernel cannot read one alone.
const FEW_PEERS: usize = 256;
/// How soon a larger one is read after the first such change: once for all changes that come meanwhile.
const UNREAD: Duration = Duration::from_secs(1);

/// How long a policy that differs in elements alone is looked at again before it counts as another than was meant: a large set
/// that has just grown is moved to a larger table in the background (net/netfilter/nft_set_hash.c), and a dump that meets with
/// it may miss elements.
pub const LOOKING: Duration = Duration::from_secs(2);
/// How often anything else is looked at: what somebody took away meanwhile does not come back by being looked at.
const LOOKS: u32 = 5;
/// How long it is left alone between two looks.
pub const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

impl<K: Kernel> Reconciler<K> {
    /// The whole spec.
    pub(super) async fn apply(
        &mut self,
        spec: &NetworkSpec,
        etag: &str,
        validate_only: bool,
        window: Option<Window>,
    ) -> Result<Applied, ApplyError> {
        if validate_only && !etag.is_empty() && etag != self.status.etag {
            return Err(Refusal::EtagMismatch.into());
        }
        let way = match validate_only {
            true => None,
            false => Some(self.admit(etag, window)?),
        };
        self.learn_key().await;
        let desired = match validate(spec, &self.ceiling, self.own_key) {
            Ok(desired) => desired,
            Err(rejection) => {
                // What an earlier netd let through may be what this ceiling forbids, and no peer of it could be removed.
                if self.accepted.is_none() && !validate_only {
                    self.shut("the first spec after a start was refused").await;
                    self.close().await;
                }
                return Err(rejection.into());
            }
        };
        match way {
            Some(way) => self.apply_admitted(desired, way).await,
            None => self.apply_desired(desired, true).await,
        }
    }

    pub(super) async fn apply_desired(
        &mut self,
        desired: Desired,
        validate_only: bool,
    ) -> Result<Applied, ApplyError> {
        if !validate_only {
            self.remove_strange_tunnels(&desired).await?;
        }
        let on_link = self.kernel.on_link().await?;
        let ruleset = compile(&desired, &self.ceiling, &on_link);
        let plan = self.plan(&desired, ruleset.as_ref()).await?;
        if validate_only {
            return Ok(self.applied(plan));
        }
        let performed = match self.perform(&plan).await {
            Ok(()) => self.converged(&desired, ruleset.as_ref()).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = performed {
            self.go_back().await;
            return Err(error);
        }
        if self.accepted.as_ref() != Some(&desired) {
            self.status.generation += 1;
        }
        let moved = self.accepted.as_ref().map(|before| rebound(before, &desired));
        self.accepted = Some(desired);
        self.on_link = on_link;
        self.lead_on(moved.unwrap_or_default());
        self.accept().await;
        self.try_tunnels_at_once();
        self.tend_tunnels(false).await;
        Ok(self.applied(plan))
    }

    /// Some peers. Where the kernel is known to match, it costs what the change has.
    pub(super) async fn apply_delta(
        &mut self,
        spec: &DeltaSpec,
        base_etag: &str,
        validate_only: bool,
        window: Option<Window>,
    ) -> Result<Applied, ApplyError> {
        let Some(accepted) = &self.accepted else {
            return Err(Refusal::EtagMismatch.into());
        };
        if validate_only {
            if base_etag != self.status.etag {
                return Err(Refusal::EtagMismatch.into());
            }
            let delta = validate_delta(spec, accepted, &self.ceiling)?;
            return Ok(self.applied(plan_delta(accepted, &delta)));
        }
        let way = self.admit(base_etag, window)?;
        let delta = validate_delta(spec, accepted, &self.ceiling)?;
        self.apply_delta_admitted(spec, delta, way).await
    }

    /// A change that is sound and admitted.
    pub(super) async fn apply_checked(&mut self, delta: Delta) -> Result<Applied, ApplyError> {
        let plan = match &self.accepted {
            Some(accepted) => plan_delta(accepted, &delta),
            None => Plan::default(),
        };
        if delta.is_empty() {
            return Ok(self.applied(plan));
        }
        if self.status.observed_generation != self.status.generation || !self.untouched(false).await {
            let mut desired = accepted_clone(&self.accepted);
            let _inverse = desired.apply(delta);
            return self.apply_desired(desired, false).await;
        }
        if let Err(error) = self.perform_delta(&delta, &plan).await {
            self.go_back().await;
            return Err(error);
        }
        let mut moved = Moved::new();
        if let Some(accepted) = &mut self.accepted {
            moved = rebound_by(accepted, &delta);
            let _inverse = accepted.apply(delta);
        }
        self.status.generation += 1;
        self.lead_on(moved);
        self.accept().await;
        Ok(self.applied(plan))
    }

    async fn perform_delta(&mut self, delta: &Delta, plan: &Plan) -> Result<(), ApplyError> {
        self.perform(plan).await?;
        self.note_facts(self.interface().as_ref()).await;
        self.hold_noted_against_seen();
        for step in &plan.steps {
            if let Step::UpdatePolicy(elements) = step
                && !self.kernel.verify(elements).await?
            {
                return Err(ApplyError::NotConverged(plan.changes.len()));
            }
        }
        if self.peers_converged(delta).await? {
            Ok(())
        } else {
            Err(ApplyError::NotConverged(plan.changes.len()))
        }
    }

    /// Reads back the peers that a change touched: the device may ignore one without a word. Where it can be read but
    /// whole and has many peers, that is left to a look soon after, so that one peer costs the same whatever there is.
    async fn peers_converged(&mut self, delta: &Delta) -> Result<bool, KernelError> {
        let Some(accepted) = self.accepted.as_ref() else {
            return Ok(true);
        };
        let Some(wireguard) = accepted.wireguard() else {
            return Ok(true);
        };
        if !self.kernel.reads_single_peers() && accepted.peers().len() > FEW_PEERS {
            self.unread.get_or_insert_with(|| Instant::now() + UNREAD);
            return Ok(true);
        }
        let expected = expected_peers(delta);
        let interface = wireguard.interface.clone();
        let keys = expected.keys().copied().collect();
        let found = self.kernel.some_peers(&interface, &keys).await?;
        Ok(found.is_some_and(|found| peers_hold(&expected, &found.peers)))
    }

    pub(super) async fn plan(
        &mut self,
        desired: &Desired,
        ruleset: Option<&Ruleset>,
    ) -> Result<Plan, KernelError> {
        let interface = desired.wireguard().map(|wireguard| &wireguard.interface);
        let observed = self.kernel.observe(interface, ruleset).await?;
        Ok(plan(
            desired,
            ruleset,
            &self.ceiling,
            self.accepted.as_ref(),
            &observed,
        ))
    }

    pub(super) async fn perform(&mut self, plan: &Plan) -> Result<(), KernelError> {
        self.kernel.prepare(plan).await?;
        for group in plan.groups() {
            self.kernel.apply_group(group).await?;
        }
        Ok(())
    }

    /// Reads everything back.
    pub(super) async fn converged(
        &mut self,
        desired: &Desired,
        ruleset: Option<&Ruleset>,
    ) -> Result<(), ApplyError> {
        let (mut looks, began) = (1, Instant::now());
        let left = loop {
            let interface = desired.wireguard().map(|wireguard| &wireguard.interface);
            self.note_facts(interface).await;
            let observed = self.kernel.observe(interface, ruleset).await?;
            // Held against itself, so that an endpoint which was set just now is not set again.
            let left = plan(desired, ruleset, &self.ceiling, Some(desired), &observed);
            if left.is_empty() {
                return Ok(());
            }
            let may_settle = left.is_policy_elements() || looks < LOOKS;
            if !may_settle || began.elapsed() > LOOKING {
                break left;
            }
            looks += 1;
            tokio::time::sleep(BETWEEN_LOOKS).await;
        };
        for change in &left.changes {
            tracing::error!(%change, "not done after the apply");
        }
        Err(ApplyError::NotConverged(left.changes.len()))
    }

    /// What the policy in force has cut goes on by the way of now, where its sender would not notice. Each packet is judged by the
    /// policy all the same, so nothing depends on it.
    pub(super) fn lead_on(&mut self, moved: Moved) {
        if !moved.is_empty() {
            self.kernel.end_datagrams(moved);
        }
    }

    /// After a failure: the kernel is led back to what was accepted before, as far as it lets itself be led.
    async fn go_back(&mut self) {
        self.seen = None;
        self.status
            .set("Converged", Holds::False, "APPLY_FAILED", "the last apply failed");
        self.repair(false).await;
        self.tend_tunnels(false).await;
        self.guard().await;
    }

    /// The kernel matches the accepted state.
    pub(super) async fn accept(&mut self) {
        self.status.set_key(self.own_key);
        self.status.etag = self.etag();
        self.status.observed_generation = self.status.generation;
        self.status.set(
            "Converged",
            Holds::True,
            "MATCHES",
            "the kernel matches the accepted spec",
        );
        self.refresh().await;
    }

    fn applied(&self, plan: Plan) -> Applied {
        Applied {
            generation: self.status.generation,
            etag: self.status.etag.clone(),
            changes: plan.changes,
            pending: self.status.pending.clone(),
        }
    }
}

fn accepted_clone(accepted: &Option<Desired>) -> Desired {
    accepted.clone().unwrap_or_default()
}
