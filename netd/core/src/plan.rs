//! From what the kernel has to what is wanted: steps to perform in order, and what they mean to people.
//!
//! The order cannot leak: what a peer loses is taken from the WireGuard device first, then the policy changes in one
//! transaction, then what peers gain is given to the device. So no packet of a peer ever meets a policy that was not
//! made for it. Likewise the rules and tables of exits stand before the policy that marks packets for them, and go after it.
//! A device that is made anew is given its peers while its interface is down, which is brought up last: until then it carries
//! nothing, so all that is not the device's can be done at the same time ([`Plan::at_once`]).

mod change;
mod peers;
mod routing;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use ipnet::IpNet;

pub use change::{Change, ChangeAction};
pub use peers::{PeerUpdate, expected_peers, peers_hold};

use crate::ceiling::Ceiling;
use crate::desired::{Delta, Desired, Wireguard};
use crate::model::{InterfaceName, Mtu};
use crate::observed::{Device, Identity, Link, Observed};
use crate::policy::{ElementDelta, Elements, Ruleset, peer_elements};
use crate::routing::{ExitRoute, RoutingRule, wanted};

/// One thing to do. Each is done wholly or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Takes an interface of ours away, its device and peers with it.
    RemoveLink(InterfaceName),
    /// Changes some peers of the device.
    UpdatePeers(InterfaceName, PeerUpdate),
    /// Replaces the whole policy: in one transaction where it is a table of nftables.
    ReplacePolicy(Ruleset),
    /// Changes elements of the policy, likewise.
    UpdatePolicy(ElementDelta),
    /// Takes the policy away.
    RemovePolicy,
    /// Makes the interface and a device behind it, with the cell's key, no peers, on the port.
    CreateDevice(Wireguard),
    /// Sets the largest packet.
    SetMtu(InterfaceName, Mtu),
    /// Takes an address from the interface.
    RemoveAddress(InterfaceName, IpNet),
    /// Gives the interface an address.
    AddAddress(InterfaceName, IpNet),
    /// Brings the interface up.
    SetUp(InterfaceName),
    /// Adds a default route to the table of an exit.
    AddRoute(ExitRoute),
    /// Takes a default route from the table of an exit.
    RemoveRoute(ExitRoute),
    /// Leads a mark to a table.
    AddRule(RoutingRule),
    /// Leads a mark there no more.
    RemoveRule(RoutingRule),
}

/// What to do, and what it means.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// For people. Empty exactly when there is nothing to do.
    pub changes: Vec<Change>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether elements of the policy are all there is to do.
    pub fn is_policy_elements(&self) -> bool {
        let is_elements = |step: &Step| matches!(step, Step::UpdatePolicy(_));
        self.steps.iter().all(is_elements)
    }

    /// The steps in groups, one after the other.
    pub fn groups(&self) -> Vec<Group<'_>> {
        let Some((beside, peers)) = self.at_once() else {
            return self.steps.iter().map(Group::One).collect();
        };
        let before = self.steps[..beside.start].iter().map(Group::One);
        let after = self.steps[peers + 1..].iter().map(Group::One);
        let together = Group::AtOnce {
            peers: &self.steps[peers],
            others: &self.steps[beside],
        };
        before.chain([together]).chain(after).collect()
    }

    /// Where the steps stand that need not wait for each other: those between the making of a device and its first peers, and the
    /// peers. Its interface is down.
    fn at_once(&self) -> Option<(Range<usize>, usize)> {
        let made = self.position(|step| matches!(step, Step::CreateDevice(_)))?;
        let peers = self.position(|step| matches!(step, Step::UpdatePeers(..)))?;
        let up = self.position(|step| matches!(step, Step::SetUp(_)))?;
        (made < peers && peers < up).then_some((made + 1..peers, peers))
    }

    fn position(&self, is: impl Fn(&Step) -> bool) -> Option<usize> {
        self.steps.iter().position(is)
    }
}

/// Steps that may be done at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group<'a> {
    /// One alone.
    One(&'a Step),
    /// Peers are given to a device that nothing reaches yet, and none of the others touches the device; those in their order.
    AtOnce {
        /// [`Step::UpdatePeers`].
        peers: &'a Step,
        /// Of routes, rules, the policy, and the interface.
        others: &'a [Step],
    },
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.changes.iter().try_for_each(|change| writeln!(f, "{change}"))
    }
}

/// What leads from `observed` to `desired`, whose compiled policy is `ruleset`. `accepted` is the state that was wanted
/// before, if that is known: an endpoint in it that differs is set anew, else a roaming peer's endpoint is left alone.
pub fn plan(
    desired: &Desired,
    ruleset: Option<&Ruleset>,
    ceiling: &Ceiling,
    accepted: Option<&Desired>,
    observed: &Observed,
) -> Plan {
    let mut steps = Vec::new();
    for stray in &observed.strays {
        steps.push(Step::RemoveLink(stray.clone()));
    }
    let exits = routing::between(&wanted(desired, ceiling, &observed.exits_up), observed);
    match (desired.wireguard(), ruleset) {
        (Some(wireguard), Some(ruleset)) => {
            let interface = ToInterface::new(desired, wireguard, accepted, observed);
            steps.extend(interface.steps(exits.before, policy(ruleset, observed), ceiling));
        }
        _ => {
            steps.extend(exits.before);
            if let Some(link) = &observed.link {
                steps.push(Step::RemoveLink(link.name.clone()));
            }
            match ruleset {
                // Bridges of services stay closed.
                Some(shut) => steps.extend(policy(shut, observed)),
                None if observed.policy.is_some() => steps.push(Step::RemovePolicy),
                None => {}
            }
        }
    }
    steps.extend(exits.after);
    let changes = change::of_plan(&steps, desired, accepted, observed);
    Plan { steps, changes }
}

/// What leads to the interface that is wanted.
struct ToInterface<'a> {
    wireguard: &'a Wireguard,
    /// The one that stays; none: it is made anew.
    link: Option<&'a Link>,
    /// The one that does not.
    unusable: Option<&'a Link>,
    losses: Option<Step>,
    gains: Option<Step>,
}

impl<'a> ToInterface<'a> {
    fn new(
        desired: &Desired,
        wireguard: &'a Wireguard,
        accepted: Option<&Desired>,
        observed: &'a Observed,
    ) -> Self {
        let present = observed.link.as_ref();
        let link = present.filter(|link| is_usable(link, desired, wireguard));
        let peers = peers::between(desired, accepted, link.and_then(|link| link.device.as_ref()));
        let step = |update: PeerUpdate| {
            let name = wireguard.interface.clone();
            (!update.is_empty()).then_some(Step::UpdatePeers(name, update))
        };
        ToInterface {
            wireguard,
            link,
            unusable: present.filter(|_| link.is_none()),
            losses: step(peers.losses),
            gains: step(peers.gains),
        }
    }

    /// `routing` and `policy` stand before peers meet them.
    fn steps(self, routing: Vec<Step>, policy: Option<Step>, ceiling: &Ceiling) -> Vec<Step> {
        let unusable = self
            .unusable
            .map(|unusable| Step::RemoveLink(unusable.name.clone()));
        let dressed = link_steps(self.wireguard, ceiling, self.link);
        let name = || self.wireguard.interface.clone();
        match self.link {
            Some(link) => {
                let up = (!link.up).then(|| Step::SetUp(name()));
                let first = routing.into_iter().chain(self.losses).chain(policy);
                first.chain(dressed).chain(up).chain(self.gains).collect()
            }
            None => {
                let made = Step::CreateDevice(self.wireguard.clone());
                let first = unusable.into_iter().chain([made]);
                let others = routing.into_iter().chain(policy).chain(dressed);
                let last = self.gains.into_iter().chain([Step::SetUp(name())]);
                first.chain(others).chain(last).collect()
            }
        }
    }
}

/// Whether the interface can stay. Another port is another socket, and peers must be told of it anyway; with another key
/// than vaultd's, or with a mark, it is not the device that netd made: it is made anew.
fn is_usable(link: &Link, desired: &Desired, wireguard: &Wireguard) -> bool {
    let Some(Identity {
        public_key,
        listen_port,
        fwmark,
    }) = link.device.as_ref().map(Device::identity)
    else {
        return false;
    };
    link.name == wireguard.interface
        && listen_port == wireguard.listen_port
        && fwmark == 0
        && desired.own_key().is_none_or(|own| own == public_key)
}

fn policy(ruleset: &Ruleset, observed: &Observed) -> Option<Step> {
    match &observed.policy {
        Some(policy) if policy.skeleton_matches => {
            let delta = ElementDelta::between(&policy.elements, &ruleset.elements);
            (!delta.is_empty()).then_some(Step::UpdatePolicy(delta))
        }
        _ => Some(Step::ReplacePolicy(ruleset.clone())),
    }
}

/// The largest packet and the addresses.
fn link_steps(wireguard: &Wireguard, ceiling: &Ceiling, link: Option<&Link>) -> Vec<Step> {
    let name = &wireguard.interface;
    let mut steps = Vec::new();
    if link.and_then(|link| link.mtu) != Some(wireguard.mtu) {
        steps.push(Step::SetMtu(name.clone(), wireguard.mtu));
    }
    let wanted = addresses(wireguard, ceiling);
    let present = link.map(|link| link.addresses.clone()).unwrap_or_default();
    steps.extend(
        present
            .difference(&wanted)
            .map(|net| Step::RemoveAddress(name.clone(), *net)),
    );
    steps.extend(
        wanted
            .difference(&present)
            .map(|net| Step::AddAddress(name.clone(), *net)),
    );
    steps
}

/// The addresses of the interface: the cell's own, and the hidden service address of each family that the VPN has.
pub fn addresses(wireguard: &Wireguard, ceiling: &Ceiling) -> BTreeSet<IpNet> {
    let v4 = wireguard.v4.map(|net| {
        [
            IpNet::V4(net),
            IpNet::from(std::net::IpAddr::V4(ceiling.service_v4)),
        ]
    });
    let v6 = wireguard.v6.map(|net| {
        [
            IpNet::V6(net),
            IpNet::from(std::net::IpAddr::V6(ceiling.service_v6)),
        ]
    });
    v4.into_iter().chain(v6).flatten().collect()
}

/// What a change of some peers needs, where the kernel matches `desired`, the state that it was made against. Costs what the
/// change has, not what there is.
pub fn plan_delta(desired: &Desired, delta: &Delta) -> Plan {
    let Some(wireguard) = desired.wireguard() else {
        return Plan::default();
    };
    let mut steps = Vec::new();
    let peers = peers::of_delta(delta);
    if !peers.losses.is_empty() {
        steps.push(Step::UpdatePeers(wireguard.interface.clone(), peers.losses));
    }
    let elements = element_delta(delta);
    if !elements.is_empty() {
        steps.push(Step::UpdatePolicy(elements));
    }
    if !peers.gains.is_empty() {
        steps.push(Step::UpdatePeers(wireguard.interface.clone(), peers.gains));
    }
    Plan {
        steps,
        changes: change::of_delta(delta, desired),
    }
}

/// What a change of some peers does to the sets.
pub fn element_delta(delta: &Delta) -> ElementDelta {
    let (mut before, mut after) = (Elements::new(), Elements::new());
    for change in delta.changes().values() {
        for (side, elements) in [(&change.before, &mut before), (&change.after, &mut after)] {
            for (set, element) in side.iter().flat_map(|peer| peer_elements(peer)) {
                elements.entry(set).or_default().insert(element);
            }
        }
    }
    ElementDelta::between(&before, &after)
}
