//! What netd can do to the machine: one screen. [`linux`] does it; [`fake`] is a strict model of it in memory.

pub mod fake;
pub mod linux;
pub mod nft;
pub mod wireguard;

mod bridges;
mod changes;
mod events;
pub mod firewall;
pub mod legacy;
mod link;
mod on_link;
mod routing;
mod tunnels;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use cell_netd_core::bridges::Bridge;
use cell_netd_core::desired::Exit;
use cell_netd_core::model::{ExitInterface, InterfaceName, Mark, PublicKey};
use cell_netd_core::observed::{Device, Identity};
use cell_netd_core::plan::Group;
use cell_netd_core::policy::{Counter, ElementDelta, Ruleset};
use cell_netd_core::rebound::Moved;
use cell_netd_core::tunnel::{TunnelSeen, TunnelStep};
use cell_netd_core::{Observed, Plan, Step};
use ipnet::IpNet;

use legacy::LegacyError;
use nft::{Drops, NftError, Ownership};
use wireguard::{BackendError, PeerStatistics, TunnelSecrets};

pub use firewall::Renderer;
pub use nft::passage::Passage;
pub use routing::ExitsSeen;

/// The one door to the machine. Called by one task alone.
pub trait Kernel: Send + 'static {
    /// The whole state that is ours, held against a wanted ruleset.
    fn observe(
        &mut self,
        interface: Option<&InterfaceName>,
        wanted: Option<&Ruleset>,
    ) -> impl Future<Output = Result<Observed, KernelError>> + Send;

    /// The prefixes on the machine's links, ours and loopback left out.
    fn on_link(&mut self) -> impl Future<Output = Result<BTreeSet<IpNet>, KernelError>> + Send;

    /// The public key that the device must have, as vaultd says now.
    fn own_key(&mut self) -> impl Future<Output = Result<PublicKey, KernelError>> + Send;

    /// Fetches what the plan will need from others (the cell's key), before anything is touched.
    fn prepare(&mut self, plan: &Plan) -> impl Future<Output = Result<(), KernelError>> + Send;

    /// Does one step, wholly or not at all.
    fn apply(&mut self, step: &Step) -> impl Future<Output = Result<(), KernelError>> + Send;

    /// Does steps that need not wait for each other. After an error, any of them may have been done.
    fn apply_group(&mut self, group: Group<'_>) -> impl Future<Output = Result<(), KernelError>> + Send {
        async move {
            match group {
                Group::One(step) => self.apply(step).await,
                Group::AtOnce { peers, others } => {
                    for step in others {
                        self.apply(step).await?;
                    }
                    self.apply(peers).await
                }
            }
        }
    }

    /// Reads back the elements that a change touched.
    fn verify(&mut self, delta: &ElementDelta) -> impl Future<Output = Result<bool, KernelError>> + Send;

    /// Whether `some_peers` costs what it reads, however many peers there are.
    fn reads_single_peers(&self) -> bool;

    /// Whether a table of this netd, or of one before it, judges packets: as much as can be told without a spec.
    fn guards(&mut self) -> impl Future<Output = Result<bool, KernelError>> + Send;

    /// Takes our interfaces down, and names those that were up.
    fn shut(&mut self) -> impl Future<Output = Result<BTreeSet<InterfaceName>, KernelError>> + Send;

    /// Those of the device's peers; none: there is no device.
    fn some_peers(
        &mut self,
        interface: &InterfaceName,
        keys: &BTreeSet<PublicKey>,
    ) -> impl Future<Output = Result<Option<Device>, KernelError>> + Send;

    /// Handshake and traffic of one peer; none: the device does not have it.
    fn statistics_of(
        &mut self,
        interface: &InterfaceName,
        key: &PublicKey,
    ) -> impl Future<Output = Result<Option<PeerStatistics>, KernelError>> + Send;

    /// What is cheap to see, and changes whenever somebody changes something. Links, routes and rules, which are as many as
    /// there are exits, are read anew where the kernel told of a change, or if `anew`.
    fn glance(
        &mut self,
        interface: Option<&InterfaceName>,
        anew: bool,
    ) -> impl Future<Output = Result<Glance, KernelError>> + Send;

    /// Makes the way through other tables' drops as it should be; none takes it away.
    fn ensure_passage(
        &mut self,
        mark: Option<Mark>,
    ) -> impl Future<Output = Result<(Passage, bool), KernelError>> + Send;

    /// Other programs' chains that drop what is forwarded, beside those that the way leads through.
    fn forward_blockers(&mut self) -> impl Future<Output = Result<Vec<String>, KernelError>> + Send;

    /// Handshakes and traffic of the device's peers.
    fn statistics(
        &mut self,
        interface: &InterfaceName,
    ) -> impl Future<Output = Result<BTreeMap<PublicKey, PeerStatistics>, KernelError>> + Send;

    /// The interfaces with an exit's name, whoever made them.
    fn tunnels(
        &mut self,
    ) -> impl Future<Output = Result<BTreeMap<ExitInterface, Tunnel>, KernelError>> + Send;

    /// The keys of an exit's tunnel, as vaultd has them now.
    fn exit_secrets(
        &mut self,
        exit: &Exit,
    ) -> impl Future<Output = Result<TunnelSecrets, KernelError>> + Send;

    /// Does one step to the tunnel of an exit; `secrets` are for the step that gives them.
    fn apply_tunnel(
        &mut self,
        exit: &Exit,
        step: &TunnelStep,
        secrets: Option<&TunnelSecrets>,
    ) -> impl Future<Output = Result<(), KernelError>> + Send;

    /// Takes an interface of ours with an exit's name away.
    fn remove_tunnel(
        &mut self,
        interface: &ExitInterface,
    ) -> impl Future<Output = Result<(), KernelError>> + Send;

    /// The bridges with the name of a service's that have no port.
    fn bare_bridges(&mut self) -> impl Future<Output = Result<BTreeSet<Bridge>, KernelError>> + Send;

    /// Takes a bridge away, if it still has no port; whether it did.
    fn remove_bridge(&mut self, bridge: &Bridge) -> impl Future<Output = Result<bool, KernelError>> + Send;

    /// Ends flows without connections (UDP, ICMP) that began at these addresses and go by another way, soon: their next packet is judged
    /// as the first of one.
    fn end_datagrams(&mut self, moved: Moved);

    /// What the policy dropped, by reason.
    fn drops(&mut self) -> impl Future<Output = Result<BTreeMap<Counter, Drops>, KernelError>> + Send;

    /// Whether the machine forwards IPv4 and IPv6; none: it could not be read.
    fn forwarding(&self) -> (Option<bool>, Option<bool>);

    /// "kernel" or "userspace".
    fn backend(&self) -> &'static str;

    /// What the policy is rendered for: "nftables" or "iptables".
    fn renderer(&self) -> &'static str;

    /// How often to look for drift without word of a change.
    fn look_every(&self) -> Duration;
}

/// Cheap facts. Equal facts mean that nothing needs to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glance {
    /// Counts nftables transactions of anybody; of iptables, tells rules and sizes of sets from others.
    pub generation: u32,
    /// Whose the table is.
    pub table: Ownership,
    /// The prefixes on the machine's other links, which the policy keeps apart from the internet.
    pub on_link: BTreeSet<IpNet>,
    /// Our interface; none: there is none.
    pub link: Option<LinkGlance>,
    /// The device behind it; none: no key yet, or no process.
    pub device: Option<Identity>,
    /// Rules, routes and interfaces of exits.
    pub exits: ExitsSeen,
}

/// Cheap facts of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkGlance {
    /// It changes when the interface is made anew.
    pub index: u32,
    /// Whether it is up.
    pub up: bool,
    /// Bytes.
    pub mtu: u32,
    /// Global addresses.
    pub addresses: BTreeSet<IpNet>,
    /// Who says that it is ours.
    pub ours: bool,
}

/// An interface with an exit's name, and what moves on its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// The interface and its device.
    pub seen: TunnelSeen,
    /// Of its far ends.
    pub statistics: BTreeMap<PublicKey, PeerStatistics>,
}

/// What the machine would not do.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// nftables.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// Legacy iptables.
    #[error(transparent)]
    Legacy(#[from] LegacyError),
    /// Links and addresses.
    #[error("rtnetlink refused: {0}")]
    Route(#[from] rtnetlink::Error),
    /// The WireGuard device.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// vaultd did not give the cell's key.
    #[error("vaultd does not give the cell's WireGuard key: {0}")]
    NoKey(String),
    /// vaultd did not give a key of an exit.
    #[error("{field}: {reason}")]
    NoExitSecret {
        /// Which, without the connection's id.
        field: String,
        /// In vaultd's words.
        reason: String,
        /// Whether vaultd said nothing at all, so that asking for others is of no use.
        silent: bool,
    },
    /// Another program has what we need.
    #[error("{object} belongs to another program")]
    Foreign {
        /// e.g. "table inet cell".
        object: String,
    },
    /// The model refused a step.
    #[error("{0}")]
    Refused(String),
    /// Anything else.
    #[error(transparent)]
    Io(#[from] io::Error),
}
