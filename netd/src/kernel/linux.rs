//! The real thing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cell_netd_core::bridges::Bridge;
use cell_netd_core::desired::{Exit, Tunnel as Wanted, WireguardExit};
use cell_netd_core::model::{ExitInterface, InterfaceName, Mark, Mtu, PublicKey, TableName};
use cell_netd_core::observed::{Device, Link};
use cell_netd_core::plan::Group;
use cell_netd_core::policy::{Counter, ElementDelta, Ruleset};
use cell_netd_core::rebound::Moved;
use cell_netd_core::tunnel::{SecretRecord, TunnelStep, device_peers};
use cell_netd_core::{Ceiling, Observed, Plan, Step};
use ipnet::IpNet;
use tokio::sync::Notify;

use super::changes::Changes;
use super::events::PolicyWord;
use super::firewall::{Firewall, Renderer};
use super::link::Links;
use super::nft::{Drops, Nft, Owners};
use super::wireguard::kernel::InKernel;
use super::wireguard::tun;
use super::wireguard::userspace::Userspace;
use super::wireguard::{Backend, PeerStatistics, PrivateKey, TunnelSecrets};
use super::{ExitsSeen, Glance, Kernel, KernelError, LinkGlance, Passage, Tunnel, events};
use crate::keys::KeySource;

/// Which WireGuard is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The kernel's.
    Kernel,
    /// cell-wg's.
    Userspace {
        /// Its service.
        wg_socket: PathBuf,
        /// Where it takes descriptors.
        device_socket: PathBuf,
    },
}

/// Elements of a transaction that nobody is told of.
const MANY: usize = 256;

/// Prefixes on the machine's links, and what there is of exits.
type Around = (BTreeSet<IpNet>, ExitsSeen);

/// The policy, links and the device.
pub struct Linux {
    firewall: Firewall,
    ceiling: Ceiling,
    links: Links,
    backend: Box<dyn Backend>,
    keys: KeySource,
    changes: Changes,
    word: PolicyWord,
    /// As last read; none: it may have changed since.
    around: Option<Around>,
    /// Fetched by `prepare`, used and wiped by the step that needs it.
    key: Option<PrivateKey>,
}

impl Linux {
    /// [`Linux::with`] a socket of its own.
    ///
    /// # Errors
    /// As [`Linux::with`].
    pub fn open(
        ceiling: &Ceiling,
        owners: Owners,
        renderer: Renderer,
        choice: Choice,
        keys: KeySource,
    ) -> Result<(Self, Arc<Notify>), KernelError> {
        let nft = Nft::open(ceiling.table.clone(), owners)?;
        Self::with(nft, ceiling, renderer, choice, keys)
    }

    /// Opens the other sockets, and makes the table of an earlier netd our own without touching what is in it. Needs a tokio
    /// runtime.
    ///
    /// # Errors
    /// Of socket(2), and of nftables if it cannot be spoken to at all.
    pub fn with(
        nft: Nft,
        ceiling: &Ceiling,
        renderer: Renderer,
        choice: Choice,
        keys: KeySource,
    ) -> Result<(Self, Arc<Notify>), KernelError> {
        let firewall = Firewall::new(nft, ceiling, renderer)?;
        let links = Links::open(&ceiling.table)?;
        let (changed, word) = events::listen()?;
        let backend: Box<dyn Backend> = match choice {
            Choice::Kernel => Box::new(InKernel::with_links(links.clone())),
            Choice::Userspace {
                wg_socket,
                device_socket,
            } => Box::new(Userspace::with_links(wg_socket, device_socket, links.clone())),
        };
        let linux = Linux {
            firewall,
            ceiling: ceiling.clone(),
            links,
            backend,
            keys,
            changes: Changes::open()?,
            word,
            around: None,
            key: None,
        };
        Ok((linux, changed))
    }

    /// Our links. No link beyond the ceiling is ever taken for one.
    async fn own_links(&self) -> Result<BTreeSet<InterfaceName>, KernelError> {
        Ok(&self.links.ours().await? & &self.ceiling.interfaces)
    }

    /// Our links of exits.
    async fn own_tunnels(&self) -> Result<Vec<InterfaceName>, KernelError> {
        let ours = self.links.ours().await?.into_iter();
        let exits = &self.ceiling.exits;
        Ok(ours.filter(|name| exits.allows_interface(&name.into())).collect())
    }

    /// Keys and far ends, and then the word that they are there: a netd that dies between the two is asked again.
    async fn set_tunnel(
        &mut self,
        name: &InterfaceName,
        exit: &Exit,
        secrets: Option<&TunnelSecrets>,
    ) -> Result<(), KernelError> {
        let refused = || KernelError::Refused("a device is given its keys, and there are none".to_owned());
        let tunnel = wireguard_of(exit)?;
        let secrets = secrets.ok_or_else(refused)?;
        let public_key = secrets.key.public().ok_or_else(refused)?;
        self.links.tag(name).await?;
        let peers = device_peers(tunnel);
        self.backend.set_tunnel(name, secrets, &peers).await?;
        let record = SecretRecord {
            exit: exit.way.id.clone(),
            revision: tunnel.secret_revision,
            public_key,
        };
        self.links.record(name, &record).await
    }

    /// The prefixes on the machine's links, and what there is of exits; what was read before, if nothing changed since.
    async fn around(&mut self, anew: bool) -> Result<Around, KernelError> {
        let changed = self.changes.any();
        if changed || anew {
            self.around = None;
        }
        if let Some(around) = &self.around {
            return Ok(around.clone());
        }
        let Ceiling {
            interfaces, exits, ..
        } = &self.ceiling;
        // Read once for both.
        let (links, routes) = (self.links.links().await?, self.links.routes().await?);
        let on_link = self.links.prefixes(interfaces, &links, &routes).await?;
        let exits = self.links.exits_among(exits, &links, &routes).await?;
        Ok(self.around.insert((on_link, exits)).clone())
    }

    /// A TUN for that user. It is ours by its name before it is kept: if netd dies between, it goes too.
    async fn create_for(&self, name: &InterfaceName, user: u32) -> Result<(), KernelError> {
        let made = tun::ForUser::create(name, user)?;
        self.links.tag(name).await?;
        Ok(made.keep()?)
    }

    async fn own_link(&self, name: &InterfaceName) -> Result<Option<LinkGlance>, KernelError> {
        own_link(&self.links, name).await
    }

    async fn create(&mut self, wireguard: &cell_netd_core::Wireguard) -> Result<(), KernelError> {
        let key = match self.key.take() {
            Some(key) => key,
            None => self.keys.fetch().await?,
        };
        Ok(self.backend.create(wireguard, &key).await?)
    }
}

impl Kernel for Linux {
    async fn observe(
        &mut self,
        interface: Option<&InterfaceName>,
        wanted: Option<&Ruleset>,
    ) -> Result<Observed, KernelError> {
        let mut strays = self.own_links().await?;
        if let Some(name) = interface {
            strays.remove(name);
        }
        let Linux {
            firewall,
            links,
            backend,
            ceiling,
            ..
        } = self;
        let linked = async {
            match interface {
                Some(name) => observe_link(links, backend.as_mut(), name).await,
                None => Ok(None),
            }
        };
        // Both take long where there are many peers.
        let (policy, link) = tokio::try_join!(firewall.observe(wanted), linked)?;
        let ExitsSeen { routing, up } = links.exits(&ceiling.exits).await?;
        Ok(Observed {
            policy,
            link,
            strays,
            routing,
            exits_up: up,
        })
    }

    async fn on_link(&mut self) -> Result<BTreeSet<IpNet>, KernelError> {
        self.links.on_link(&self.ceiling.interfaces).await
    }

    async fn own_key(&mut self) -> Result<PublicKey, KernelError> {
        self.keys.public().await
    }

    async fn prepare(&mut self, plan: &Plan) -> Result<(), KernelError> {
        if plan
            .steps
            .iter()
            .any(|step| matches!(step, Step::CreateDevice(_)))
        {
            self.key = Some(self.keys.fetch().await?);
        }
        Ok(())
    }

    async fn apply(&mut self, step: &Step) -> Result<(), KernelError> {
        match step {
            Step::UpdatePeers(name, update) => Ok(self.backend.update(name, update).await?),
            Step::CreateDevice(wireguard) => self.create(wireguard).await,
            Step::RemoveLink(_)
            | Step::ReplacePolicy(_)
            | Step::UpdatePolicy(_)
            | Step::RemovePolicy
            | Step::SetMtu(..)
            | Step::RemoveAddress(..)
            | Step::AddAddress(..)
            | Step::SetUp(_)
            | Step::AddRoute(_)
            | Step::RemoveRoute(_)
            | Step::AddRule(_)
            | Step::RemoveRule(_) => beside(&self.links, &mut self.firewall, &self.word, step).await,
        }
    }

    async fn apply_group(&mut self, group: Group<'_>) -> Result<(), KernelError> {
        let (peers, others) = match group {
            Group::One(step) => return self.apply(step).await,
            Group::AtOnce { peers, others } => (peers, others),
        };
        let Step::UpdatePeers(name, update) = peers else {
            return Err(KernelError::Refused(format!("{peers:?} is not of peers")));
        };
        let Linux {
            firewall,
            links,
            backend,
            word,
            ..
        } = self;
        let done = async {
            for step in others {
                beside(links, firewall, word, step).await?;
            }
            Ok(())
        };
        // Both to their end: half a change of the device would be harder to tell.
        let (given, done) = tokio::join!(backend.update(name, update), done);
        done.and(given.map_err(Into::into))
    }

    async fn verify(&mut self, delta: &ElementDelta) -> Result<bool, KernelError> {
        self.firewall.verify(delta).await
    }

    async fn guards(&mut self) -> Result<bool, KernelError> {
        self.firewall.guards().await
    }

    async fn shut(&mut self) -> Result<BTreeSet<InterfaceName>, KernelError> {
        let mut shut = BTreeSet::new();
        let cells = self.own_links().await?;
        for name in cells.into_iter().chain(self.own_tunnels().await?) {
            if self.links.get(&name).await?.is_some_and(|link| link.up) {
                self.links.set_down(&name).await?;
                shut.insert(name);
            }
        }
        Ok(shut)
    }

    fn reads_single_peers(&self) -> bool {
        self.backend.reads_single_peers()
    }

    async fn some_peers(
        &mut self,
        interface: &InterfaceName,
        keys: &BTreeSet<PublicKey>,
    ) -> Result<Option<Device>, KernelError> {
        Ok(self.backend.some_peers(interface, keys).await?)
    }

    async fn statistics_of(
        &mut self,
        interface: &InterfaceName,
        key: &PublicKey,
    ) -> Result<Option<PeerStatistics>, KernelError> {
        Ok(self.backend.statistics_of(interface, key).await?)
    }

    async fn glance(&mut self, interface: Option<&InterfaceName>, anew: bool) -> Result<Glance, KernelError> {
        let (generation, table) = self.firewall.glance().await?;
        let (mut link, mut device) = (None, None);
        if let Some(name) = interface {
            link = self.links.get(name).await?;
            if link.is_some() {
                device = self.backend.identity(name).await?;
            }
        }
        let (on_link, exits) = self.around(anew).await?;
        Ok(Glance {
            exits,
            on_link,
            generation,
            table,
            link,
            device,
        })
    }

    async fn ensure_passage(&mut self, mark: Option<Mark>) -> Result<(Passage, bool), KernelError> {
        self.firewall.ensure_passage(mark).await
    }

    async fn forward_blockers(&mut self) -> Result<Vec<String>, KernelError> {
        self.firewall.blockers().await
    }

    async fn statistics(
        &mut self,
        interface: &InterfaceName,
    ) -> Result<BTreeMap<PublicKey, PeerStatistics>, KernelError> {
        let state = self.backend.device(interface).await?;
        Ok(state.map(|state| state.statistics).unwrap_or_default())
    }

    async fn tunnels(&mut self) -> Result<BTreeMap<ExitInterface, Tunnel>, KernelError> {
        let mut tunnels = BTreeMap::new();
        for (interface, mut seen) in self.links.tunnels(&self.ceiling.exits).await? {
            let mut statistics = BTreeMap::new();
            if seen.ours
                && seen.user.is_none()
                && let Some(state) = self.backend.device(&named(&interface)?).await?
            {
                seen.device = Some(state.device);
                statistics = state.statistics;
            }
            tunnels.insert(interface, Tunnel { seen, statistics });
        }
        Ok(tunnels)
    }

    async fn exit_secrets(&mut self, exit: &Exit) -> Result<TunnelSecrets, KernelError> {
        self.keys.exit(exit).await
    }

    async fn apply_tunnel(
        &mut self,
        exit: &Exit,
        step: &TunnelStep,
        secrets: Option<&TunnelSecrets>,
    ) -> Result<(), KernelError> {
        let name = named(&exit.way.interface)?;
        match step {
            TunnelStep::Remove => self.remove_tunnel(&exit.way.interface).await,
            TunnelStep::Create => Ok(self.backend.create_tunnel(&name).await?),
            TunnelStep::CreateFor(user) => self.create_for(&name, *user).await,
            TunnelStep::Secrets => self.set_tunnel(&name, exit, secrets).await,
            TunnelStep::FarEnds(update) => Ok(self.backend.update(&name, update).await?),
            TunnelStep::SetMtu(mtu) => self.links.set_mtu(&name, *mtu).await,
            TunnelStep::RemoveAddress(net) => self.links.remove_address(&name, *net).await,
            TunnelStep::AddAddress(net) => self.links.add_lone_address(&name, *net).await,
            TunnelStep::Loosen => self.links.loosen(&name).await,
            TunnelStep::SetUp => self.links.set_up(&name).await,
        }
    }

    async fn remove_tunnel(&mut self, interface: &ExitInterface) -> Result<(), KernelError> {
        let name = named(interface)?;
        match self.own_link(&name).await? {
            Some(_) => self.links.remove(&name).await,
            None => Ok(()),
        }
    }

    async fn bare_bridges(&mut self) -> Result<BTreeSet<Bridge>, KernelError> {
        match &self.ceiling.services {
            Some(ceiling) => self.links.bare_bridges(ceiling).await,
            None => Ok(BTreeSet::new()),
        }
    }

    async fn remove_bridge(&mut self, bridge: &Bridge) -> Result<bool, KernelError> {
        match &self.ceiling.services {
            Some(ceiling) => self.links.remove_bare(bridge, ceiling).await,
            None => Ok(false),
        }
    }

    fn end_datagrams(&mut self, moved: Moved) {
        self.firewall.end_datagrams(moved);
    }

    async fn drops(&mut self) -> Result<BTreeMap<Counter, Drops>, KernelError> {
        self.firewall.drops().await
    }

    fn forwarding(&self) -> (Option<bool>, Option<bool>) {
        let read = |key: &str| {
            let value = std::fs::read_to_string(format!("/proc/sys/net/{key}")).ok()?;
            Some(value.trim() != "0")
        };
        (read("ipv4/ip_forward"), read("ipv6/conf/all/forwarding"))
    }

    fn backend(&self) -> &'static str {
        self.backend.name()
    }

    fn renderer(&self) -> &'static str {
        self.firewall.name()
    }

    fn look_every(&self) -> Duration {
        self.firewall.look_every()
    }
}

/// A step that does not touch the device.
async fn beside(
    links: &Links,
    firewall: &mut Firewall,
    word: &PolicyWord,
    step: &Step,
) -> Result<(), KernelError> {
    match step {
        Step::RemoveLink(name) => links.remove(name).await,
        Step::ReplacePolicy(ruleset) => {
            let _paused = word.pause();
            firewall.replace(ruleset).await
        }
        Step::UpdatePolicy(delta) => {
            let _paused = (delta.len() > MANY).then(|| word.pause());
            firewall.update(delta).await
        }
        Step::RemovePolicy => firewall.remove().await,
        Step::SetMtu(name, mtu) => links.set_mtu(name, *mtu).await,
        Step::RemoveAddress(name, net) => links.remove_address(name, *net).await,
        Step::AddAddress(name, net) => links.add_address(name, *net).await,
        Step::SetUp(name) => links.set_up(name).await,
        Step::AddRoute(route) => links.add_route(route).await,
        Step::RemoveRoute(route) => links.remove_route(route).await,
        Step::AddRule(rule) => links.add_rule(rule).await,
        Step::RemoveRule(rule) => links.remove_rule(rule).await,
        Step::UpdatePeers(..) | Step::CreateDevice(_) => {
            Err(KernelError::Refused("it is a step of the device".to_owned()))
        }
    }
}

async fn own_link(links: &Links, name: &InterfaceName) -> Result<Option<LinkGlance>, KernelError> {
    match links.get(name).await? {
        Some(link) if !link.ours => Err(KernelError::Foreign {
            object: format!("interface {name}"),
        }),
        link => Ok(link),
    }
}

async fn observe_link(
    links: &Links,
    backend: &mut dyn Backend,
    name: &InterfaceName,
) -> Result<Option<Link>, KernelError> {
    let Some(LinkGlance {
        index: _,
        up,
        mtu,
        addresses,
        ours: _,
    }) = own_link(links, name).await?
    else {
        return Ok(None);
    };
    let device = backend.device(name).await?.map(|state| state.device);
    Ok(Some(Link {
        name: name.clone(),
        up,
        mtu: Mtu::try_new(mtu),
        addresses,
        device,
    }))
}

fn wireguard_of(exit: &Exit) -> Result<&WireguardExit, KernelError> {
    match &exit.tunnel {
        Wanted::Wireguard(tunnel) => Ok(tunnel),
        Wanted::User(_) => Err(KernelError::Refused("it is no WireGuard tunnel".to_owned())),
    }
}

fn named(interface: &ExitInterface) -> Result<InterfaceName, KernelError> {
    let name = interface.as_str().parse();
    name.map_err(|error: cell_netd_core::model::InvalidInterfaceName| KernelError::Refused(error.to_string()))
}

/// Whether this kernel has WireGuard. Makes and removes a link, which loads the module; so it is done before the sandbox
/// closes. Needs a tokio runtime.
///
/// # Errors
/// Of rtnetlink, other than "not supported".
pub async fn has_wireguard(table: &TableName) -> Result<bool, KernelError> {
    let Ok(name) = "cell-probe".parse::<InterfaceName>() else {
        return Ok(false);
    };
    Links::open(table)?.probe_wireguard(&name).await
}
