//! Drift: what others changed is found and put right.

use std::time::Duration;

use cell_netd_core::model::InterfaceName;
use cell_netd_core::plan::Plan;
use cell_netd_core::policy::{SetId, compile, shut};
use cell_netd_core::routing::RouteTo;
use cell_netd_core::{Desired, Step};

use super::Reconciler;
use crate::kernel::{Glance, Kernel, KernelError};
use crate::status::Holds;

/// How often the table is read before it counts as unreadable.
const READS: u32 = 5;
/// How long after a failure.
const BETWEEN_READS: Duration = Duration::from_millis(50);

/// Whether all there is to do is that other prefixes lie on the machine's links now, or that an exit's interface came up, by
/// which the kernel had dropped its routes when it went down: nobody's meddling.
fn follows_links(plan: &Plan) -> bool {
    let local = |step: &Step| match step {
        Step::UpdatePolicy(delta) => delta.sets().iter().all(|set| matches!(set, SetId::Local(_))),
        Step::AddRoute(route) => matches!(route.to, RouteTo::Interface(_)),
        Step::RemoveRoute(_)
        | Step::AddRule(_)
        | Step::RemoveRule(_)
        | Step::RemoveLink(_)
        | Step::UpdatePeers(..)
        | Step::ReplacePolicy(_)
        | Step::RemovePolicy
        | Step::CreateDevice(_)
        | Step::SetMtu(..)
        | Step::RemoveAddress(..)
        | Step::AddAddress(..)
        | Step::SetUp(_) => false,
    };
    plan.steps.iter().all(local)
}

impl<K: Kernel> Reconciler<K> {
    /// Compares the cheap facts with those of the last match; looks at everything where they differ, or if `deep`.
    pub(super) async fn look(&mut self, deep: bool) {
        if deep {
            self.unread = None;
        }
        if self.accepted.is_none() {
            self.guard().await;
        } else if deep || !self.untouched(true).await {
            self.repair(true).await;
        }
        self.tend_tunnels(true).await;
        self.ensure_passage(true).await;
        self.publish().await;
    }

    /// Sees to it that no interface of ours is up, and no bridge of services there, without a table that judges their packets: the
    /// table is put back where the spec is known. Where it is not, or where that fails, the interface is taken down, and a table
    /// is put in force by which nothing passes. Cheap while all is well.
    pub(super) async fn guard(&mut self) {
        let wanted = self.interface().is_some() || self.ceiling.services.is_some();
        if !wanted && self.accepted.is_some() || self.guards().await {
            return;
        }
        if self.accepted.is_some() {
            self.repair(true).await;
        } else {
            self.shut("the table of an earlier netd is gone").await;
            self.close().await;
        }
    }

    /// Puts the policy in force by which nothing passes by bridges of services, nor by what may be ours.
    pub(super) async fn close(&mut self) {
        match self.try_close().await {
            Ok(true) => tracing::info!("bridges of services are closed until a spec is put in force"),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "bridges of services could not be closed: what is on them is not judged");
            }
        }
    }

    async fn try_close(&mut self) -> Result<bool, KernelError> {
        let on_link = self.kernel.on_link().await?;
        let Some(ruleset) = shut(&self.ceiling, &on_link) else {
            return Ok(false);
        };
        let observed = self.kernel.observe(None, Some(&ruleset)).await?;
        if observed.policy.is_some_and(|policy| policy.skeleton_matches) {
            return Ok(false);
        }
        self.kernel.apply(&Step::ReplacePolicy(ruleset)).await?;
        Ok(true)
    }

    /// Whether a table with rules at every hook judges the packets. Others' transactions can keep it from being read for a
    /// moment, and an interface is not taken down for that; what cannot be read at all does not guard.
    async fn guards(&mut self) -> bool {
        for _ in 0..READS {
            match self.kernel.guards().await {
                Ok(guards) => return guards,
                Err(error) => tracing::warn!(%error, "the table could not be read"),
            }
            tokio::time::sleep(BETWEEN_READS).await;
        }
        false
    }

    pub(super) async fn shut(&mut self, why: &str) {
        match self.kernel.shut().await {
            Ok(names) if names.is_empty() => {}
            Ok(names) => {
                let names: Vec<_> = names.iter().map(InterfaceName::as_str).collect();
                let message = format!("{why}: {} is down until a spec is put in force", names.join(", "));
                tracing::error!("{message}");
                self.seen = None;
                self.status.set("Converged", Holds::False, "UNGUARDED", message);
            }
            Err(error) => tracing::error!(%error, "{why}, and the interface cannot be taken down"),
        }
    }

    /// Asks vaultd for the cell's public key. While it does not answer, what is known stays, and where nothing is known any
    /// key of the device will do: a peer must be removable meanwhile.
    pub(super) async fn learn_key(&mut self) {
        match self.kernel.own_key().await {
            Ok(key) => {
                self.own_key = Some(key);
                self.status.set_key(self.own_key);
            }
            Err(error) => tracing::warn!(%error, "the device's key is not held against vaultd's"),
        }
    }

    /// The same where a spec was accepted without it; then the device is held against it.
    pub(super) async fn learn_missing_key(&mut self) {
        if self.own_key.is_some() || self.interface().is_none() {
            return;
        }
        self.learn_key().await;
        if let (Some(key), Some(accepted)) = (self.own_key, &mut self.accepted) {
            accepted.set_own_key(key);
            self.seen = None;
        }
    }

    /// Whether nothing changed since the kernel last matched; `anew` reads all of it, whatever the kernel told.
    pub(super) async fn untouched(&mut self, anew: bool) -> bool {
        if self.seen.is_none() {
            return false;
        }
        match self.glance(anew).await {
            Ok(glance) => self.seen.as_ref() == Some(&glance),
            Err(_) => false,
        }
    }

    /// Leads the kernel to the accepted state; `drift` counts it if there was anything to do.
    pub(super) async fn repair(&mut self, drift: bool) {
        let Some(desired) = self.accepted.clone() else {
            return;
        };
        match self.try_repair(&desired).await {
            Ok(changes) => {
                if drift && changes > 0 {
                    self.status.drift_repairs += 1;
                }
                self.accept().await;
            }
            Err(error) => {
                tracing::error!(%error, "the kernel could not be led back to the accepted spec");
                self.seen = None;
                self.status.observed_generation = self.status.generation.saturating_sub(1);
                self.status
                    .set("Converged", Holds::False, "DRIFT", error.to_string());
                if !self.guards().await {
                    self.shut("the policy cannot be put in force").await;
                }
            }
        }
    }

    pub(super) async fn try_repair(&mut self, desired: &Desired) -> Result<usize, super::ApplyError> {
        self.note_facts(desired.wireguard().map(|wireguard| &wireguard.interface))
            .await;
        let on_link = self.kernel.on_link().await?;
        let ruleset = compile(desired, &self.ceiling, &on_link);
        let plan = self.plan(desired, ruleset.as_ref()).await?;
        let follows = follows_links(&plan);
        for change in &plan.changes {
            if follows {
                tracing::info!(%change, "policy and routes follow the machine's links");
            } else {
                tracing::warn!(%change, "drift is repaired");
            }
        }
        self.perform(&plan).await?;
        if !plan.is_empty() {
            self.converged(desired, ruleset.as_ref()).await?;
        }
        self.on_link = on_link;
        Ok(if follows { 0 } else { plan.changes.len() })
    }

    /// After a match: sees to the way through other tables and remembers the cheap facts.
    pub(super) async fn refresh(&mut self) {
        self.remember();
        self.ensure_passage(false).await;
    }

    /// Notes the cheap facts before the kernel is read as a whole: what others change while it is read, and until the match is
    /// written down, differs from them, and is looked at soon.
    pub(super) async fn note_facts(&mut self, interface: Option<&InterfaceName>) {
        let noted = self.kernel.glance(interface, false).await;
        self.noted = noted
            .map_err(|error| tracing::warn!(%error, "the kernel could not be looked at"))
            .ok();
    }

    /// Of a change of peers alone not all is read back: what is not theirs has to be as it was, or all is read at the next look.
    pub(super) fn hold_noted_against_seen(&mut self) {
        let same = |noted: &Glance, seen: &Glance| {
            (&noted.table, &noted.link, &noted.exits) == (&seen.table, &seen.link, &seen.exits)
        };
        let seen = self.seen.as_ref();
        self.noted = self
            .noted
            .take()
            .filter(|noted| seen.is_some_and(|seen| same(noted, seen)));
    }

    /// Remembers the cheap facts that were noted before a match, but of the links those that the policy was made for.
    fn remember(&mut self) {
        let on_link = self.on_link.clone();
        self.seen = self.noted.take().map(|glance| Glance { on_link, ..glance });
    }

    async fn glance(&mut self, anew: bool) -> Result<Glance, KernelError> {
        let interface = self.interface();
        self.kernel.glance(interface.as_ref(), anew).await
    }

    pub(super) fn interface(&self) -> Option<InterfaceName> {
        self.accepted
            .as_ref()
            .and_then(Desired::wireguard)
            .map(|wireguard| wireguard.interface.clone())
    }

    /// `watching`: the rule was right before, so having to touch it is drift.
    async fn ensure_passage(&mut self, watching: bool) {
        // Before the first spec it is not known whether the rule of an earlier netd is still wanted.
        if self.accepted.is_none() {
            return;
        }
        let mark = self.interface().map(|_| self.ceiling.accept_mark);
        // Others' chains are walked at looks, not at each change of a peer.
        if watching || self.blockers.is_none() {
            let named = self.kernel.forward_blockers().await;
            self.blockers = named
                .map_err(|error| tracing::warn!(%error, "the chains of others could not be read"))
                .ok();
        }
        match self.kernel.ensure_passage(mark).await {
            Ok((passage, touched)) => {
                let seen = self.kernel.renderer();
                self.status
                    .set_passage(Ok(passage), self.blockers.as_deref(), seen);
                if touched && watching {
                    tracing::warn!("the accept rule was put back at the top of another program's chain");
                    self.status.drift_repairs += 1;
                    // Our own transaction is not drift, but what else came since is to be looked at.
                    self.seen = None;
                }
            }
            Err(error) => self.status.set_passage(
                Err(error.to_string()),
                self.blockers.as_deref(),
                self.kernel.renderer(),
            ),
        }
    }
}
