//! Where the policy stands: our table of nftables, or chains of legacy iptables with sets of ipset. Which, says the ceiling.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cell_netd_core::Ceiling;
use cell_netd_core::model::{Mark, TableName};
use cell_netd_core::observed::Policy;
use cell_netd_core::policy::iptables::Way;
use cell_netd_core::policy::{Counter, ElementDelta, Ruleset, skeleton};
use cell_netd_core::rebound::Moved;

use super::legacy::Legacy;
use super::nft::{Drops, Nft, NftError, Ownership, blockers, flows, passage};
use super::{KernelError, Passage};

/// What renders the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renderer {
    /// netd itself, by netlink.
    Nftables,
    /// cell-iptables, on this socket.
    Iptables(PathBuf),
}

impl Renderer {
    /// As the ceiling has it.
    pub fn name(&self) -> &'static str {
        match self {
            Renderer::Nftables => "nftables",
            Renderer::Iptables(_) => "iptables",
        }
    }
}

/// The one that is used. Others' tables of nftables are looked at either way.
pub(super) struct Firewall {
    nft: Arc<Mutex<Nft>>,
    /// Whether this kernel has nftables at all: where the policy is iptables', it may not.
    has_nft: bool,
    legacy: Option<Legacy>,
    ceiling: Ceiling,
    ender: flows::Ender,
}

impl Firewall {
    /// Makes the table of an earlier netd our own without touching what is in it.
    pub(super) fn new(mut nft: Nft, ceiling: &Ceiling, renderer: Renderer) -> Result<Self, KernelError> {
        let has_nft = match (nft.adopt(), &renderer) {
            (Ok(()), _) => true,
            (Err(error), Renderer::Nftables) => return Err(error.into()),
            (Err(error), Renderer::Iptables(_)) => {
                tracing::info!(%error, "nftables is not asked on this kernel: the policy is iptables'");
                false
            }
        };
        Ok(Firewall {
            nft: Arc::new(Mutex::new(nft)),
            has_nft,
            legacy: match renderer {
                Renderer::Nftables => None,
                Renderer::Iptables(socket) => Some(Legacy::new(socket)),
            },
            ceiling: ceiling.clone(),
            ender: flows::Ender::new(ceiling.exits.mask()),
        })
    }

    /// nftables answers within milliseconds, and large transactions within a second: not on the runtime's threads.
    async fn nft<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Nft) -> Result<T, NftError> + Send + 'static,
    ) -> Result<T, KernelError> {
        let nft = Arc::clone(&self.nft);
        let locked = move || work(&mut nft.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(tokio::task::spawn_blocking(locked)
            .await
            .map_err(io::Error::other)??)
    }

    /// The same where the policy may be iptables', and `absent` where there is no nftables.
    async fn nft_or<T: Send + 'static>(
        &self,
        absent: T,
        work: impl FnOnce(&mut Nft) -> Result<T, NftError> + Send + 'static,
    ) -> Result<T, KernelError> {
        if self.has_nft {
            self.nft(work).await
        } else {
            Ok(absent)
        }
    }

    /// What there is, held against what is wanted.
    pub(super) async fn observe(&mut self, wanted: Option<&Ruleset>) -> Result<Option<Policy>, KernelError> {
        let ownership = self.nft_or(Ownership::Absent, Nft::ownership).await?;
        if ownership == Ownership::Foreign {
            return Err(KernelError::Foreign {
                object: format!("table inet {}", self.ceiling.table),
            });
        }
        let Some(legacy) = &mut self.legacy else {
            let wanted = wanted.cloned();
            return self.nft(move |nft| nft.observe(wanted.as_ref())).await;
        };
        let policy = legacy.observe(wanted).await?;
        // The table of a netd that rendered for nftables still judges. It goes when the new policy stands.
        let left = ownership != Ownership::Absent;
        Ok(match policy {
            Some(policy) => Some(Policy {
                skeleton_matches: policy.skeleton_matches && !left,
                ..policy
            }),
            None if left => Some(Policy {
                skeleton_matches: false,
                elements: Default::default(),
            }),
            None => None,
        })
    }

    pub(super) async fn replace(&mut self, ruleset: &Ruleset) -> Result<(), KernelError> {
        let ruleset = ruleset.clone();
        let Some(legacy) = &mut self.legacy else {
            return self.nft(move |nft| nft.replace(&ruleset)).await;
        };
        legacy.replace(ruleset).await?;
        self.remove_left().await
    }

    async fn remove_left(&self) -> Result<(), KernelError> {
        self.nft_or((), |nft| match nft.ownership()? {
            Ownership::Owned | Ownership::Unowned | Ownership::Dormant => nft.remove(),
            Ownership::Absent | Ownership::Foreign | Ownership::Shared => Ok(()),
        })
        .await
    }

    pub(super) async fn update(&mut self, delta: &ElementDelta) -> Result<(), KernelError> {
        match &mut self.legacy {
            Some(legacy) => Ok(legacy.update(delta).await?),
            None => {
                let delta = delta.clone();
                self.nft(move |nft| nft.update(&delta)).await
            }
        }
    }

    pub(super) async fn remove(&mut self) -> Result<(), KernelError> {
        let Some(legacy) = &mut self.legacy else {
            return self.nft(Nft::remove).await;
        };
        legacy.remove().await?;
        self.remove_left().await
    }

    pub(super) async fn verify(&mut self, delta: &ElementDelta) -> Result<bool, KernelError> {
        match &mut self.legacy {
            Some(legacy) => Ok(legacy.verify(delta).await?),
            None => {
                let delta = delta.clone();
                self.nft(move |nft| nft.verify(&delta)).await
            }
        }
    }

    /// Whether there is a policy that judges packets, as far as can be told without a spec.
    pub(super) async fn guards(&mut self) -> Result<bool, KernelError> {
        let Some(interface) = self.ceiling.interfaces.first() else {
            return Ok(true);
        };
        let skeleton = skeleton(interface, &self.ceiling);
        match &mut self.legacy {
            Some(legacy) => Ok(legacy.guards(&skeleton).await?),
            None => self.nft(move |nft| nft.guards(&skeleton)).await,
        }
    }

    /// A number that changes with every change of rules, and whose they are.
    pub(super) async fn glance(&mut self) -> Result<(u32, Ownership), KernelError> {
        match &mut self.legacy {
            Some(legacy) => Ok(legacy.glance().await?),
            None => self.nft(|nft| Ok((nft.generation()?, nft.ownership()?))).await,
        }
    }

    pub(super) async fn ensure_passage(
        &mut self,
        mark: Option<Mark>,
    ) -> Result<(Passage, bool), KernelError> {
        let (passage, touched) = self
            .nft_or((Passage::NotNeeded, false), move |nft| {
                passage::ensure(nft.socket(), mark)
            })
            .await?;
        let Some(legacy) = &mut self.legacy else {
            return Ok((passage, touched));
        };
        let (way, also) = legacy.ensure_passage(mark).await?;
        let passage = match (passage, way) {
            (Passage::NotNeeded, Way::NotNeeded) => Passage::NotNeeded,
            (Passage::Open, _) | (_, Way::Open) => Passage::Open,
        };
        Ok((passage, touched || also))
    }

    pub(super) async fn blockers(&mut self) -> Result<Vec<String>, KernelError> {
        let own: TableName = self.ceiling.table.clone();
        let mut found = self
            .nft_or(vec![], move |nft| blockers::named(nft.socket(), &own))
            .await?;
        if let Some(legacy) = &mut self.legacy {
            found.extend(legacy.blockers().await?);
        }
        Ok(found)
    }

    pub(super) async fn drops(&mut self) -> Result<BTreeMap<Counter, Drops>, KernelError> {
        match &mut self.legacy {
            Some(legacy) => Ok(legacy.drops().await?),
            None => self.nft(Nft::drops).await,
        }
    }

    /// Flows are neither renderer's.
    pub(super) fn end_datagrams(&self, moved: Moved) {
        self.ender.end(moved);
    }

    pub(super) fn name(&self) -> &'static str {
        match self.legacy {
            Some(_) => "iptables",
            None => "nftables",
        }
    }

    /// How often to look without word of a change: of legacy iptables there is none.
    pub(super) fn look_every(&self) -> Duration {
        match self.legacy {
            Some(_) => Duration::from_secs(2),
            None => Duration::from_secs(5),
        }
    }
}
