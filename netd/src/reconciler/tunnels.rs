//! The tunnels of exits: each by itself, after the policy stands that judges what comes out of them. What fails with one is told
//! and tried again, and touches neither another nor the policy.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cell_netd_core::Desired;
use cell_netd_core::ceiling::TunnelCeiling;
use cell_netd_core::desired::Exit;
use cell_netd_core::model::{ExitId, ExitInterface, PublicKey};
use cell_netd_core::tunnel::{TunnelStep, neighbourhood, steps};
use tokio::time::Instant;

use super::Reconciler;
use crate::kernel::wireguard::{BackendError, PeerStatistics};
use crate::kernel::{Kernel, KernelError, Tunnel};
use crate::status::{ExitHealth, ExitState, Holds};

/// How long an exit that failed is left alone: twice as long each time, at most [`LONGEST`].
const FIRST: Duration = Duration::from_secs(4);
const LONGEST: Duration = Duration::from_secs(30);
/// What moves is read anew for a request if it is older.
const FRESH: Duration = Duration::from_secs(1);

/// What is known of the tunnels.
#[derive(Debug, Default)]
pub(super) struct Tunnels {
    /// Exits whose tunnels are as wanted, as they were then.
    made: BTreeMap<ExitId, Exit>,
    failures: BTreeMap<ExitId, Failure>,
    read: Option<Instant>,
}

#[derive(Debug)]
struct Failure {
    /// The exit that could not be put in force.
    exit: Exit,
    count: u32,
    retry: Instant,
    health: ExitHealth,
}

/// What one pass over the exits finds out on its way.
#[derive(Debug, Default)]
struct Pass {
    /// vaultd says nothing: the others need not wait for it too.
    silent: bool,
    /// cell-wg is not there: nor need they wait for that.
    away: bool,
    /// Whether an interface came or went.
    touched: bool,
    /// Tunnels that were as wanted and had to be put right.
    drifted: u64,
}

impl<K: Kernel> Reconciler<K> {
    /// Takes away our interfaces of exits that `desired` does not have: before its policy is in force, which does not know them.
    /// Where the accepted state has no others, there is nothing to read.
    pub(super) async fn remove_strange_tunnels(&mut self, desired: &Desired) -> Result<(), KernelError> {
        let accepted = self.accepted.as_ref().map(interfaces);
        if accepted.is_some_and(|accepted| accepted.is_subset(&interfaces(desired))) {
            return Ok(());
        }
        let seen = self.kernel.tunnels().await?;
        self.remove_strange(desired, &seen).await
    }

    async fn remove_strange(
        &mut self,
        desired: &Desired,
        seen: &BTreeMap<ExitInterface, Tunnel>,
    ) -> Result<(), KernelError> {
        let wanted = interfaces(desired);
        for (interface, tunnel) in seen {
            if tunnel.seen.ours && !wanted.contains(interface) {
                tracing::info!(%interface, "the tunnel of an exit that is gone is removed");
                self.kernel.remove_tunnel(interface).await?;
            }
        }
        self.tunnels.made.retain(|id, _| desired.exits().contains_key(id));
        Ok(())
    }

    /// Leads all tunnels to the accepted state, and then the routes, if an interface came or went. `watching`: what there is to
    /// do is drift.
    pub(super) async fn tend_tunnels(&mut self, watching: bool) {
        let Some(accepted) = self.accepted.clone() else {
            return;
        };
        match self.tend_all(&accepted).await {
            Ok(pass) => {
                self.status.drift_repairs += if watching { pass.drifted } else { 0 };
                self.status.set_exits();
                if pass.touched {
                    self.repair(false).await;
                }
            }
            Err(error) => {
                tracing::error!(%error, "the tunnels of exits could not be looked at");
                self.status
                    .set("ExitsReady", Holds::Unknown, "NOT_SEEN", error.to_string());
            }
        }
    }

    async fn tend_all(&mut self, accepted: &Desired) -> Result<Pass, KernelError> {
        let seen = self.kernel.tunnels().await?;
        self.remove_strange(accepted, &seen).await?;
        let mut pass = Pass::default();
        let mut healths = BTreeMap::new();
        for (id, exit) in accepted.exits() {
            let tunnel = seen.get(&exit.way.interface);
            let mut health = self.tend(exit, tunnel, &mut pass).await;
            health.moving = tunnel.map(|tunnel| sum(&tunnel.statistics)).unwrap_or_default();
            healths.insert(id.clone(), health);
        }
        self.tunnels.failures.retain(|id, _| healths.contains_key(id));
        self.tunnels.read = Some(Instant::now());
        self.status.exits = healths;
        Ok(pass)
    }

    async fn tend(&mut self, exit: &Exit, tunnel: Option<&Tunnel>, pass: &mut Pass) -> ExitHealth {
        let id = &exit.way.id;
        let before = self.tunnels.made.get(id);
        let user = self.ceiling.exits.tunnel().map(TunnelCeiling::user);
        let Ok(steps) = steps(exit, before, tunnel.map(|tunnel| &tunnel.seen), user) else {
            self.tunnels.made.remove(id);
            return health(
                ExitState::Foreign,
                format!(
                    "FOREIGN_OBJECT: interface {} belongs to another program",
                    exit.way.interface
                ),
            );
        };
        if steps.is_empty() {
            self.done(exit);
            return health(ExitState::Ready, String::new());
        }
        let waiting = self
            .tunnels
            .failures
            .get(id)
            .filter(|failure| failure.exit == *exit);
        if let Some(failure) = waiting
            && Instant::now() < failure.retry
        {
            return failure.health.clone();
        }
        let was_there = before.is_some_and(|before| before == exit);
        match self.perform_tunnel(exit, &steps, pass).await {
            Ok(()) => {
                tracing::info!(exit = %id, steps = steps.len(), "the tunnel of an exit is as wanted");
                pass.drifted += u64::from(was_there);
                self.done(exit);
                health(ExitState::Ready, String::new())
            }
            Err(error) => self.failed(exit, &error, tunnel.is_some(), pass).await,
        }
    }

    async fn perform_tunnel(
        &mut self,
        exit: &Exit,
        steps: &[TunnelStep],
        pass: &mut Pass,
    ) -> Result<(), KernelError> {
        if let Some((address, net)) = neighbourhood(&exit.tunnel, &self.on_link) {
            return Err(KernelError::Refused(format!(
                "its far end gives it the address {}, which lies in the machine's own network {net}",
                address.addr()
            )));
        }
        if pass.away && steps.contains(&TunnelStep::Create) {
            return Err(BackendError::Away("waited for already".to_owned()).into());
        }
        // Before anything is touched. They are wiped when this ends.
        let secrets = if !steps.contains(&TunnelStep::Secrets) {
            None
        } else if pass.silent {
            return Err(KernelError::NoExitSecret {
                field: "wireguard_key".to_owned(),
                reason: "vaultd does not answer".to_owned(),
                silent: true,
            });
        } else {
            Some(self.kernel.exit_secrets(exit).await?)
        };
        for step in steps {
            pass.touched |= matches!(step, TunnelStep::SetUp | TunnelStep::Remove);
            self.kernel.apply_tunnel(exit, step, secrets.as_ref()).await?;
        }
        Ok(())
    }

    fn done(&mut self, exit: &Exit) {
        self.tunnels.failures.remove(&exit.way.id);
        self.tunnels.made.insert(exit.way.id.clone(), exit.clone());
    }

    /// Closed: a tunnel that is not as it is wanted carries nothing.
    async fn failed(&mut self, exit: &Exit, error: &KernelError, there: bool, pass: &mut Pass) -> ExitHealth {
        let id = &exit.way.id;
        tracing::warn!(exit = %id, %error, "the tunnel of an exit is not there");
        let state = match error {
            KernelError::NoExitSecret { silent, .. } => {
                pass.silent |= silent;
                ExitState::NoKey
            }
            KernelError::Foreign { .. } => ExitState::Foreign,
            KernelError::Backend(BackendError::Away(_)) => {
                pass.away = true;
                ExitState::Failed
            }
            KernelError::Nft(_)
            | KernelError::Legacy(_)
            | KernelError::Route(_)
            | KernelError::Backend(_)
            | KernelError::NoKey(_)
            | KernelError::Refused(_)
            | KernelError::Io(_) => ExitState::Failed,
        };
        pass.touched |= there;
        if let Err(error) = self.kernel.remove_tunnel(&exit.way.interface).await {
            tracing::error!(exit = %id, %error, "and its interface cannot be removed");
        }
        self.tunnels.made.remove(id);
        let known = self.tunnels.failures.get(id).filter(|known| known.exit == *exit);
        let count = known.map_or(0, |known| known.count.saturating_add(1));
        let pause = FIRST.saturating_mul(1 << count.min(8)).min(LONGEST);
        let health = health(state, error.to_string());
        let failure = Failure {
            exit: exit.clone(),
            count,
            retry: Instant::now() + pause,
            health: health.clone(),
        };
        self.tunnels.failures.insert(id.clone(), failure);
        health
    }

    /// After a change of the spec, what failed before is tried at once.
    pub(super) fn try_tunnels_at_once(&mut self) {
        self.tunnels.failures.clear();
    }

    /// Reads what moves on the tunnels, if it is not known already.
    pub(super) async fn read_tunnels(&mut self) {
        let fresh = self.tunnels.read.is_some_and(|read| read.elapsed() < FRESH);
        let Some(accepted) = self.accepted.as_ref().filter(|_| !fresh) else {
            return;
        };
        if accepted.exits().is_empty() {
            return;
        }
        let interfaces: Vec<(ExitId, ExitInterface)> = accepted
            .exits()
            .iter()
            .map(|(id, exit)| (id.clone(), exit.way.interface))
            .collect();
        match self.kernel.tunnels().await {
            Ok(tunnels) => {
                for (id, interface) in interfaces {
                    if let (Some(health), Some(tunnel)) =
                        (self.status.exits.get_mut(&id), tunnels.get(&interface))
                    {
                        health.moving = sum(&tunnel.statistics);
                    }
                }
                self.tunnels.read = Some(Instant::now());
            }
            Err(error) => tracing::warn!(%error, "the tunnels of exits could not be read"),
        }
    }
}

fn interfaces(desired: &Desired) -> BTreeSet<ExitInterface> {
    let exits = desired.exits().values();
    exits.map(|exit| exit.way.interface).collect()
}

fn health(state: ExitState, detail: String) -> ExitHealth {
    ExitHealth {
        state,
        detail,
        moving: PeerStatistics::default(),
    }
}

/// Of all far ends: the latest handshake, and all bytes.
fn sum(statistics: &BTreeMap<PublicKey, PeerStatistics>) -> PeerStatistics {
    let mut sum = PeerStatistics::default();
    for far in statistics.values() {
        sum.latest_handshake_unix_ms = sum.latest_handshake_unix_ms.max(far.latest_handshake_unix_ms);
        sum.received_bytes = sum.received_bytes.saturating_add(far.received_bytes);
        sum.sent_bytes = sum.sent_bytes.saturating_add(far.sent_bytes);
    }
    sum
}
