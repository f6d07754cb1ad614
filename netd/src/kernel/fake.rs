//! The core's strict model behind the trait of the real kernel, for tests of the service without root.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cell_netd_core::bridges::Bridge;
use cell_netd_core::desired::{Exit, Tunnel as Wanted};
use cell_netd_core::fake::{FAKE_PUBLIC_KEY, FakeKernel};
use cell_netd_core::model::{ExitInterface, InterfaceName, Mark, PublicKey};
use cell_netd_core::observed::Device;
use cell_netd_core::policy::{Counter, ElementDelta, Ruleset};
use cell_netd_core::rebound::Moved;
use cell_netd_core::tunnel::{SecretRecord, TunnelSeen, TunnelStep, device_peers};
use cell_netd_core::{Observed, Plan, Step};

use ipnet::IpNet;

use super::nft::{Drops, Ownership};
use super::wireguard::{PeerStatistics, PrivateKey, TunnelSecrets, limited, peer_statistics};
use super::{ExitsSeen, Glance, Kernel, KernelError, LinkGlance, Passage, Tunnel};

/// A kernel in memory that a test can look into and spoil.
#[derive(Debug, Clone, Default)]
pub struct Fake(Arc<Mutex<Inner>>);

/// What a test sees and sets.
#[derive(Debug, Default)]
pub struct Inner {
    /// The model.
    pub kernel: FakeKernel,
    /// Steps that were done.
    pub steps: usize,
    /// Steps from which on each is refused; none: none is.
    pub fail_after: Option<usize>,
    /// Whether vaultd gives no key.
    pub no_key: bool,
    /// A peer that the device takes without a word and does not have.
    pub deaf_to: Option<PublicKey>,
    /// Whether peers can be read one by one.
    pub reads_single_peers: bool,
    /// The prefixes on the machine's links.
    pub on_link: BTreeSet<IpNet>,
    /// Whether another program has our names.
    pub foreign: bool,
    /// Interfaces with an exit's name.
    pub tunnels: BTreeMap<ExitInterface, TunnelSeen>,
    /// Interfaces of exits whose keys vaultd does not have.
    pub keyless: BTreeSet<ExitInterface>,
    /// Bridges of services without a port.
    pub bare_bridges: BTreeSet<Bridge>,
    /// Whose flows were ended, each time.
    pub ended: Vec<Moved>,
    /// Interfaces of exits that cannot be brought up.
    pub broken: BTreeSet<ExitInterface>,
}

impl Fake {
    /// Looks inside.
    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn ownership(&self) -> Ownership {
        if self.kernel.policy.is_some() {
            Ownership::Owned
        } else {
            Ownership::Absent
        }
    }
}

impl Inner {
    fn create_tunnel(&mut self, interface: ExitInterface, user: Option<u32>) -> Result<(), KernelError> {
        let made = TunnelSeen {
            ours: true,
            record: None,
            up: false,
            mtu: None,
            addresses: BTreeSet::new(),
            loose: false,
            user,
            device: None,
        };
        match self.tunnels.insert(interface, made) {
            None => Ok(()),
            Some(_) => Err(KernelError::Refused("the name is taken".to_owned())),
        }
    }
}

fn change_tunnel(
    seen: &mut TunnelSeen,
    exit: &Exit,
    step: &TunnelStep,
    secrets: Option<&TunnelSecrets>,
) -> Result<(), KernelError> {
    let Wanted::Wireguard(tunnel) = &exit.tunnel else {
        return change_link(seen, step);
    };
    match step {
        TunnelStep::Secrets => {
            let public_key = secrets.and_then(|secrets| secrets.key.public());
            let public_key = public_key.ok_or_else(|| KernelError::Refused("no key".to_owned()))?;
            seen.record = Some(SecretRecord {
                exit: exit.way.id.clone(),
                revision: tunnel.secret_revision,
                public_key,
            });
            let preshared = tunnel.far_ends.iter().filter(|far| far.preshared);
            seen.device = Some(Device {
                public_key,
                listen_port: 40_000,
                fwmark: 0,
                peers: device_peers(tunnel),
                preshared: preshared.map(|far| far.key).collect(),
            });
        }
        TunnelStep::FarEnds(_) => {
            if let Some(device) = &mut seen.device {
                device.peers = device_peers(tunnel);
            }
        }
        TunnelStep::SetMtu(_)
        | TunnelStep::RemoveAddress(_)
        | TunnelStep::AddAddress(_)
        | TunnelStep::Loosen
        | TunnelStep::SetUp
        | TunnelStep::Remove
        | TunnelStep::Create
        | TunnelStep::CreateFor(_) => return change_link(seen, step),
    }
    Ok(())
}

fn change_link(seen: &mut TunnelSeen, step: &TunnelStep) -> Result<(), KernelError> {
    match step {
        TunnelStep::SetMtu(mtu) => seen.mtu = Some(*mtu),
        TunnelStep::RemoveAddress(net) => {
            seen.addresses.remove(net);
        }
        TunnelStep::AddAddress(net) => {
            seen.addresses.insert(*net);
        }
        TunnelStep::Loosen => seen.loose = true,
        TunnelStep::SetUp => seen.up = true,
        TunnelStep::Remove | TunnelStep::Create | TunnelStep::CreateFor(_) => {}
        TunnelStep::Secrets | TunnelStep::FarEnds(_) => {
            return Err(KernelError::Refused("it has no device".to_owned()));
        }
    }
    Ok(())
}

impl Kernel for Fake {
    async fn observe(
        &mut self,
        _: Option<&InterfaceName>,
        wanted: Option<&Ruleset>,
    ) -> Result<Observed, KernelError> {
        let inner = self.inner();
        if inner.foreign {
            return Err(KernelError::Foreign {
                object: "table inet cell".to_owned(),
            });
        }
        Ok(inner.kernel.observe(wanted))
    }

    async fn on_link(&mut self) -> Result<BTreeSet<IpNet>, KernelError> {
        Ok(self.inner().on_link.clone())
    }

    async fn own_key(&mut self) -> Result<PublicKey, KernelError> {
        if self.inner().no_key {
            return Err(KernelError::NoKey("sealed".to_owned()));
        }
        PublicKey::try_from(FAKE_PUBLIC_KEY.as_slice()).map_err(|error| KernelError::NoKey(error.to_string()))
    }

    async fn prepare(&mut self, plan: &Plan) -> Result<(), KernelError> {
        let needs_key = plan
            .steps
            .iter()
            .any(|step| matches!(step, Step::CreateDevice(_)));
        if needs_key && self.inner().no_key {
            return Err(KernelError::NoKey("sealed".to_owned()));
        }
        Ok(())
    }

    async fn apply(&mut self, step: &Step) -> Result<(), KernelError> {
        let mut inner = self.inner();
        if inner.fail_after.is_some_and(|limit| inner.steps >= limit) {
            // Once: the way back must work.
            inner.fail_after = None;
            return Err(KernelError::Refused("as the test wants it".to_owned()));
        }
        inner.steps += 1;
        let mut step = step.clone();
        if let (Step::UpdatePeers(_, update), Some(deaf_to)) = (&mut step, inner.deaf_to) {
            update.upserted.remove(&deaf_to);
            if update.is_empty() {
                return Ok(());
            }
        }
        inner
            .kernel
            .apply(&step)
            .map_err(|refused| KernelError::Refused(refused.to_string()))
    }

    async fn verify(&mut self, delta: &ElementDelta) -> Result<bool, KernelError> {
        let elements = self.inner().kernel.elements();
        let holds = |set, element| elements.get(set).is_some_and(|present| present.contains(element));
        let added = delta
            .added
            .iter()
            .all(|(set, new)| new.iter().all(|element| holds(set, element)));
        let gone = delta
            .removed
            .iter()
            .all(|(set, old)| !old.iter().any(|element| holds(set, element)));
        Ok(added && gone)
    }

    async fn guards(&mut self) -> Result<bool, KernelError> {
        Ok(self.inner().ownership().is_in_force())
    }

    async fn shut(&mut self) -> Result<BTreeSet<InterfaceName>, KernelError> {
        let mut inner = self.inner();
        let up = inner.kernel.link.as_mut().filter(|link| link.up);
        Ok(up
            .map(|link| {
                link.up = false;
                link.name.clone()
            })
            .into_iter()
            .collect())
    }

    fn reads_single_peers(&self) -> bool {
        self.inner().reads_single_peers
    }

    async fn some_peers(
        &mut self,
        _: &InterfaceName,
        keys: &BTreeSet<PublicKey>,
    ) -> Result<Option<Device>, KernelError> {
        let inner = self.inner();
        let device = inner.kernel.link.as_ref().and_then(|link| link.device.clone());
        Ok(device.map(|device| limited(device, keys)))
    }

    async fn statistics_of(
        &mut self,
        interface: &InterfaceName,
        key: &PublicKey,
    ) -> Result<Option<PeerStatistics>, KernelError> {
        Ok(self.statistics(interface).await?.get(key).copied())
    }

    async fn glance(&mut self, _: Option<&InterfaceName>, _: bool) -> Result<Glance, KernelError> {
        let inner = self.inner();
        let link = inner.kernel.link.as_ref();
        Ok(Glance {
            exits: ExitsSeen {
                routing: inner.kernel.routing.clone(),
                up: inner.kernel.exits_up.clone(),
            },
            on_link: inner.on_link.clone(),
            generation: inner.kernel.elements().values().map(|set| set.len() as u32).sum(),
            table: inner.ownership(),
            link: link.map(|link| LinkGlance {
                index: 1,
                up: link.up,
                mtu: link.mtu.map_or(0, |mtu| mtu.bytes()),
                addresses: link.addresses.clone(),
                ours: true,
            }),
            device: link.and_then(|link| link.device.as_ref()).map(Device::identity),
        })
    }

    async fn ensure_passage(&mut self, _: Option<Mark>) -> Result<(Passage, bool), KernelError> {
        Ok((Passage::NotNeeded, false))
    }

    async fn forward_blockers(&mut self) -> Result<Vec<String>, KernelError> {
        Ok(Vec::new())
    }

    async fn statistics(
        &mut self,
        _: &InterfaceName,
    ) -> Result<BTreeMap<PublicKey, PeerStatistics>, KernelError> {
        let inner = self.inner();
        let device = inner.kernel.link.as_ref().and_then(|link| link.device.as_ref());
        let peers = device.into_iter().flat_map(|device| &device.peers);
        Ok(peers.map(|(key, peer)| (*key, peer_statistics(peer))).collect())
    }

    async fn tunnels(&mut self) -> Result<BTreeMap<ExitInterface, Tunnel>, KernelError> {
        let inner = self.inner();
        let tunnels = inner.tunnels.iter().map(|(interface, seen)| {
            let tunnel = Tunnel {
                seen: seen.clone(),
                statistics: BTreeMap::new(),
            };
            (*interface, tunnel)
        });
        Ok(tunnels.collect())
    }

    async fn exit_secrets(&mut self, exit: &Exit) -> Result<TunnelSecrets, KernelError> {
        let refused = |reason: &str| KernelError::NoExitSecret {
            field: "wireguard_key".to_owned(),
            reason: reason.to_owned(),
            silent: false,
        };
        if self.inner().keyless.contains(&exit.way.interface) {
            return Err(refused("NO_SECRET"));
        }
        Ok(TunnelSecrets {
            key: PrivateKey::from_slice(&[0x41; 32]).ok_or_else(|| refused("not a key"))?,
            preshared: BTreeMap::new(),
        })
    }

    async fn apply_tunnel(
        &mut self,
        exit: &Exit,
        step: &TunnelStep,
        secrets: Option<&TunnelSecrets>,
    ) -> Result<(), KernelError> {
        let refused = |why: &str| Err(KernelError::Refused(why.to_owned()));
        let interface = exit.way.interface;
        let mut inner = self.inner();
        match step {
            TunnelStep::Remove => {
                drop(inner);
                return self.remove_tunnel(&interface).await;
            }
            TunnelStep::Create => return inner.create_tunnel(interface, None),
            TunnelStep::CreateFor(user) => return inner.create_tunnel(interface, Some(*user)),
            TunnelStep::SetUp if inner.broken.contains(&interface) => return refused("broken"),
            TunnelStep::SetUp => {
                inner.kernel.exits_up.insert(interface);
            }
            TunnelStep::Secrets
            | TunnelStep::FarEnds(_)
            | TunnelStep::SetMtu(_)
            | TunnelStep::RemoveAddress(_)
            | TunnelStep::AddAddress(_)
            | TunnelStep::Loosen => {}
        }
        let Some(seen) = inner.tunnels.get_mut(&interface) else {
            return refused("there is no such interface");
        };
        change_tunnel(seen, exit, step, secrets)
    }

    async fn remove_tunnel(&mut self, interface: &ExitInterface) -> Result<(), KernelError> {
        let mut inner = self.inner();
        if inner.tunnels.remove(interface).is_none() {
            return Ok(());
        }
        inner.kernel.exits_up.remove(interface);
        // As the kernel does it.
        let leads = cell_netd_core::routing::RouteTo::Interface(*interface);
        inner.kernel.routing.routes.retain(|route| route.to != leads);
        Ok(())
    }

    async fn bare_bridges(&mut self) -> Result<BTreeSet<Bridge>, KernelError> {
        Ok(self.inner().bare_bridges.clone())
    }

    async fn remove_bridge(&mut self, bridge: &Bridge) -> Result<bool, KernelError> {
        Ok(self.inner().bare_bridges.remove(bridge))
    }

    /// It has no flows.
    fn end_datagrams(&mut self, moved: Moved) {
        self.inner().ended.push(moved);
    }

    async fn drops(&mut self) -> Result<BTreeMap<Counter, Drops>, KernelError> {
        Ok(BTreeMap::new())
    }

    fn forwarding(&self) -> (Option<bool>, Option<bool>) {
        (Some(true), Some(false))
    }

    fn backend(&self) -> &'static str {
        "memory"
    }

    fn renderer(&self) -> &'static str {
        "nftables"
    }

    fn look_every(&self) -> std::time::Duration {
        std::time::Duration::from_secs(5)
    }
}
