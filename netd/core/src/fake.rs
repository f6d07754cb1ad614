//! A strict model of the kernel in memory, for tests of this crate and of netd: what the kernel would refuse, or what
//! would be a needless act, is an error here (adding what is there, removing what is not).

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::desired::Wireguard;
use crate::model::{ExitInterface, ExitMark, Family, InterfaceName, Mtu, PublicKey};
use crate::observed::{Device, DevicePeer, Link, Observed, Policy};
use crate::plan::{PeerUpdate, Step};
use crate::policy::{Element, ElementDelta, Elements, Ruleset, SetId};
use crate::routing::{Action, ExitRoute, RouteTo, Routing, RoutingRule, Selector};

/// The model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FakeKernel {
    /// Our table.
    pub policy: Option<Ruleset>,
    /// Our interface.
    pub link: Option<Link>,
    /// Our rules and routes.
    pub routing: Routing,
    /// Interfaces of exits that are up, whoever made them.
    pub exits_up: BTreeSet<ExitInterface>,
}

/// What the model's device has for a key.
pub const FAKE_PUBLIC_KEY: [u8; 32] = [0xfc; 32];

/// What would not have worked, or not been needed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

fn refuse<T>(why: impl Into<String>) -> Result<T, Refused> {
    Err(Refused(why.into()))
}

impl FakeKernel {
    /// As it is, held against a wanted ruleset.
    pub fn observe(&self, wanted: Option<&Ruleset>) -> Observed {
        let policy = self.policy.as_ref().map(|present| Policy {
            // As of the renderer that has the relay's ports in rules; nftables has them in a map.
            skeleton_matches: wanted
                .is_some_and(|wanted| wanted.chains == present.chains && wanted.relays == present.relays),
            elements: present.elements.clone(),
        });
        Observed {
            policy,
            link: self.link.clone(),
            strays: BTreeSet::new(),
            routing: self.routing.clone(),
            exits_up: self.exits_up.clone(),
        }
    }

    /// Does one step.
    ///
    /// # Errors
    /// [`Refused`] where the step does not fit the state, which is left as it was.
    pub fn apply(&mut self, step: &Step) -> Result<(), Refused> {
        match step {
            Step::RemoveLink(name) => self.link(name).map(|_| ()).map(|()| self.link = None),
            Step::UpdatePeers(name, update) => self.update_peers(name, update),
            Step::ReplacePolicy(ruleset) => {
                self.policy = Some(ruleset.clone());
                Ok(())
            }
            Step::UpdatePolicy(delta) => self.update_policy(delta),
            Step::RemovePolicy => self
                .policy
                .take()
                .map_or_else(|| refuse("there is no table"), |_| Ok(())),
            Step::CreateDevice(wireguard) => self.create_device(wireguard),
            Step::SetMtu(name, mtu) => self.set_mtu(name, *mtu),
            Step::RemoveAddress(name, net) => self.remove_address(name, net),
            Step::AddAddress(name, net) => self.add_address(name, *net),
            Step::SetUp(name) => {
                let link = self.link(name)?;
                if std::mem::replace(&mut link.up, true) {
                    refuse("it is up")
                } else {
                    Ok(())
                }
            }
            Step::AddRoute(route) => self.add_route(*route),
            Step::RemoveRoute(route) if self.routing.routes.remove(route) => Ok(()),
            Step::RemoveRoute(route) => refuse(format!("{route:?} is not there")),
            Step::AddRule(rule) if self.routing.rules.insert(*rule) => Ok(()),
            Step::AddRule(rule) => refuse(format!("{rule:?} is there")),
            Step::RemoveRule(rule) if self.routing.rules.remove(rule) => Ok(()),
            Step::RemoveRule(rule) => refuse(format!("{rule:?} is not there")),
        }
    }

    /// The invariant of exits: each mark that the policy gives leads to a table with an unreachable default, in its family.
    pub fn every_mark_is_caught(&self) -> bool {
        let Some(policy) = &self.policy else {
            return true;
        };
        Family::BOTH.into_iter().all(|family| {
            let marks = policy.elements.get(&SetId::ExitMarks(family));
            marks.into_iter().flatten().all(|element| match element {
                Element::ExitMark(_, mark) => self.is_caught(family, *mark),
                Element::Address(_)
                | Element::Range(..)
                | Element::Service4(..)
                | Element::Service6(..)
                | Element::Port(_)
                | Element::ExitWay(..)
                | Element::Link(_)
                | Element::RelayPort(..)
                | Element::RelayWay(..)
                | Element::Host(..)
                | Element::Entry(..)
                | Element::EntryTarget(..)
                | Element::EntryWay(..)
                | Element::Server(_) => false,
            })
        })
    }

    fn is_caught(&self, family: Family, mark: ExitMark) -> bool {
        let Routing { rules, routes } = &self.routing;
        let ends = |table| {
            routes.contains(&ExitRoute {
                family,
                table,
                to: RouteTo::Unreachable,
            })
        };
        let marks = |rule: &RoutingRule| match (rule.selector, rule.action) {
            (Selector::Mark { mark: marked, .. }, Action::Table(table)) => {
                marked == mark.value() && ends(table)
            }
            (Selector::Mark { .. } | Selector::Out(_) | Selector::Own { .. } | Selector::All, _) => false,
        };
        rules.iter().any(|rule| rule.family == family && marks(rule))
    }

    /// As the kernel does it: one route of a metric, and none by an interface that is not up.
    fn add_route(&mut self, route: ExitRoute) -> Result<(), Refused> {
        let taken = self.routing.routes.iter().any(|other| {
            (other.family, other.table, other.to.metric()) == (route.family, route.table, route.to.metric())
        });
        let leads = match route.to {
            RouteTo::Unreachable => true,
            RouteTo::Interface(interface) => self.exits_up.contains(&interface),
        };
        if taken || !leads {
            return refuse(format!("{route:?}: there is one, or its interface is not up"));
        }
        self.routing.routes.insert(route);
        Ok(())
    }

    /// The invariant of the order of steps: who is on a device whose interface is up is known to the policy.
    pub fn every_admitted_peer_is_judged(&self) -> bool {
        let none = BTreeSet::new();
        let up = self.link.as_ref().filter(|link| link.up);
        let device = up.and_then(|link| link.device.as_ref());
        let admitted = device
            .into_iter()
            .flat_map(|device| device.peers.values())
            .flat_map(|peer| &peer.allowed_ips);
        admitted.into_iter().all(|net| {
            let family = Family::of(net.addr());
            let set = SetId::Peers(family);
            let peers = self
                .policy
                .as_ref()
                .and_then(|policy| policy.elements.get(&set))
                .unwrap_or(&none);
            peers.contains(&Element::Address(net.addr()))
        })
    }

    fn link(&mut self, name: &InterfaceName) -> Result<&mut Link, Refused> {
        match &mut self.link {
            Some(link) if link.name == *name => Ok(link),
            _ => refuse(format!("there is no interface {name}")),
        }
    }

    fn create_device(&mut self, wireguard: &Wireguard) -> Result<(), Refused> {
        if self.link.is_some() {
            return refuse("there is an interface");
        }
        let Ok(public_key) = PublicKey::try_from(FAKE_PUBLIC_KEY.as_slice()) else {
            return refuse("no key");
        };
        let device = Device {
            public_key,
            listen_port: wireguard.listen_port,
            fwmark: 0,
            peers: BTreeMap::new(),
            preshared: BTreeSet::new(),
        };
        self.link = Some(Link {
            name: wireguard.interface.clone(),
            up: false,
            mtu: None,
            addresses: BTreeSet::new(),
            device: Some(device),
        });
        Ok(())
    }

    fn set_mtu(&mut self, name: &InterfaceName, mtu: Mtu) -> Result<(), Refused> {
        let link = self.link(name)?;
        if link.mtu.replace(mtu) == Some(mtu) {
            refuse("it has that MTU")
        } else {
            Ok(())
        }
    }

    fn add_address(&mut self, name: &InterfaceName, net: IpNet) -> Result<(), Refused> {
        if self.link(name)?.addresses.insert(net) {
            Ok(())
        } else {
            refuse(format!("{net} is there"))
        }
    }

    fn remove_address(&mut self, name: &InterfaceName, net: &IpNet) -> Result<(), Refused> {
        if self.link(name)?.addresses.remove(net) {
            Ok(())
        } else {
            refuse(format!("{net} is not there"))
        }
    }

    fn update_policy(&mut self, delta: &ElementDelta) -> Result<(), Refused> {
        let Some(policy) = &mut self.policy else {
            return refuse("there is no table");
        };
        let mut elements = policy.elements.clone();
        for (set, gone) in &delta.removed {
            for element in gone {
                if !elements.get_mut(set).is_some_and(|set| set.remove(element)) {
                    return refuse(format!("{element} is not in {}", set.name()));
                }
            }
        }
        for (set, new) in &delta.added {
            for element in new {
                if !elements.entry(*set).or_default().insert(*element) {
                    return refuse(format!("{element} is in {}", set.name()));
                }
            }
        }
        elements.retain(|_, elements| !elements.is_empty());
        policy.elements = elements;
        Ok(())
    }

    fn update_peers(&mut self, name: &InterfaceName, update: &PeerUpdate) -> Result<(), Refused> {
        let Some(device) = &mut self.link(name)?.device else {
            return refuse("there is no device");
        };
        if update.is_empty() {
            return refuse("nothing to change");
        }
        for key in &update.removed {
            if device.peers.remove(key).is_none() {
                return refuse(format!("there is no peer {key}"));
            }
            device.preshared.remove(key);
        }
        for (key, wanted) in &update.upserted {
            // As the kernel does it: without a word.
            if *key == device.public_key {
                continue;
            }
            let before = device.peers.get(key);
            let endpoint = wanted.endpoint.or(before.and_then(|before| before.endpoint));
            let after = DevicePeer {
                endpoint,
                ..wanted.clone()
            };
            if before == Some(&after) {
                return refuse(format!("peer {key} is as wanted"));
            }
            let overlaps = |other: &DevicePeer| !other.allowed_ips.is_disjoint(&after.allowed_ips);
            if device
                .peers
                .iter()
                .any(|(other, peer)| other != key && overlaps(peer))
            {
                return refuse(format!("an address of peer {key} is another peer's"));
            }
            device.peers.insert(*key, after);
        }
        Ok(())
    }
}

impl FakeKernel {
    /// The elements of the table; none where there is none.
    pub fn elements(&self) -> Elements {
        self.policy
            .as_ref()
            .map(|policy| policy.elements.clone())
            .unwrap_or_default()
    }
}
