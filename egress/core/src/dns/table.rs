//! All that DNS goes by: zones, resolvers, exits and peers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::address::Resolver;
use super::name::Name;
use super::zone::Zones;
use crate::exit::ExitId;

/// Longest name of an interface, bytes (linux/if.h).
const INTERFACE_MAX: usize = 15;

/// An interface that sockets may be bound to: an exit's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface(String);

impl Interface {
    /// A name that begins with one of `prefixes` and goes on.
    pub fn try_new(name: &str, prefixes: &[String]) -> Option<Self> {
        let fits = name.len() <= INTERFACE_MAX
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        let is_exits = |prefix: &String| {
            !prefix.is_empty()
                && name
                    .strip_prefix(prefix.as_str())
                    .is_some_and(|rest| !rest.is_empty())
        };
        (fits && prefixes.iter().any(is_exits)).then(|| Interface(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interface({})", self.0)
    }
}

/// How an exit's resolvers are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached {
    /// By sockets that are bound to the exit's interface.
    Interface(Interface),
    /// By connections that the exit carries: the redirect exit of the same id.
    Redirect,
}

/// DNS of one exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitDns {
    /// Asked in this order.
    pub resolvers: Vec<Resolver>,
    /// By which way.
    pub reached: Reached,
}

/// Who is asked of names in the cell's zones that the cell itself does not have, and of zones of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Where it listens.
    pub at: Resolver,
    /// Zones of others that it is asked of too.
    pub zones: BTreeSet<Name>,
}

/// See the module. Without anything in it every question is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// What is not of single peers: shared with the tables that differ in peers' exits alone.
    rest: Arc<Rest>,
    peers: BTreeMap<IpAddr, Option<ExitId>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rest {
    zones: Zones,
    defaults: Vec<Resolver>,
    exits: BTreeMap<ExitId, ExitDns>,
    authority: Option<Authority>,
}

impl Table {
    /// Of its parts. Addresses are [canonical](IpAddr::to_canonical).
    pub fn new(
        zones: Zones,
        defaults: Vec<Resolver>,
        exits: BTreeMap<ExitId, ExitDns>,
        peers: BTreeMap<IpAddr, Option<ExitId>>,
        authority: Option<Authority>,
    ) -> Self {
        let rest = Rest {
            zones,
            defaults,
            exits,
            authority,
        };
        Table {
            rest: Arc::new(rest),
            peers,
        }
    }

    /// The same, where these addresses of peers go by these exits. Names and ways are not copied.
    #[must_use]
    pub fn led(&self, ways: BTreeMap<IpAddr, Option<ExitId>>) -> Self {
        let mut peers = self.peers.clone();
        peers.extend(ways);
        Table {
            rest: Arc::clone(&self.rest),
            peers,
        }
    }

    /// Who has the names that the cell itself does not have.
    pub fn authority(&self) -> Option<&Authority> {
        self.rest.authority.as_ref()
    }

    /// The cell's own names.
    pub fn zones(&self) -> &Zones {
        &self.rest.zones
    }

    /// Resolvers for those who have no exit.
    pub fn defaults(&self) -> &[Resolver] {
        &self.rest.defaults
    }

    /// The exits in the order of their ids.
    pub fn exits(&self) -> impl ExactSizeIterator<Item = (&ExitId, &ExitDns)> {
        self.rest.exits.iter()
    }

    /// DNS of an exit.
    pub fn exit(&self, id: &ExitId) -> Option<&ExitDns> {
        self.rest.exits.get(id)
    }

    /// Whether an address is a peer's, and that peer's exit.
    pub fn peer(&self, source: IpAddr) -> Option<Option<&ExitId>> {
        self.peers.get(&source.to_canonical()).map(Option::as_ref)
    }

    /// Whether what a peer sends goes another way than by an exit. Of a source that is no peer's nothing is known.
    pub fn leads_elsewhere(&self, source: IpAddr, exit: &ExitId) -> bool {
        self.peer(source).is_some_and(|way| way != Some(exit))
    }

    /// How many addresses of peers there are.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_peer_is_led_elsewhere_by_another_exit_and_by_none() {
        let [here, other] =
            [1, 2].map(|id| ExitId::parse(&format!("00000000-0000-0000-0000-{id:012}")).unwrap());
        let [bound, free, stranger] = [2, 3, 4].map(|host| IpAddr::from([10, 86, 0, host]));
        let peers = BTreeMap::from([(bound, Some(here.clone())), (free, None)]);
        let table = Table::new(Zones::default(), Vec::new(), BTreeMap::new(), peers, None);
        let mapped = IpAddr::from(std::net::Ipv4Addr::new(10, 86, 0, 2).to_ipv6_mapped());
        for source in [bound, mapped] {
            assert!(!table.leads_elsewhere(source, &here));
            assert!(table.leads_elsewhere(source, &other));
        }
        assert!(table.leads_elsewhere(free, &here));
        assert!(!table.leads_elsewhere(stranger, &here));
    }

    #[test]
    fn who_is_led_another_way_leaves_the_others_and_the_names_as_they_are() {
        let [here, other] =
            [1, 2].map(|id| ExitId::parse(&format!("00000000-0000-0000-0000-{id:012}")).unwrap());
        let [one, two] = [2, 3].map(|host| IpAddr::from([10, 86, 0, host]));
        let peers = BTreeMap::from([(one, Some(here.clone())), (two, Some(here.clone()))]);
        let table = Table::new(Zones::default(), Vec::new(), BTreeMap::new(), peers, None);
        let led = table.led(BTreeMap::from([(one, Some(other.clone()))]));
        assert_eq!(led.peer(one), Some(Some(&other)));
        assert_eq!(led.peer(two), Some(Some(&here)));
        assert_eq!(
            table.peer(one),
            Some(Some(&here)),
            "what goes by the table of before goes on by it"
        );
        assert_eq!(led.led(BTreeMap::from([(one, Some(here))])), table);
        assert!(Arc::ptr_eq(&led.rest, &table.rest));
    }

    #[test]
    fn only_interfaces_of_exits_are_bound_to() {
        let prefixes = ["wgext_".to_owned(), "ovpn_".to_owned()];
        let named = |name: &str| Interface::try_new(name, &prefixes).is_some();
        assert!(named("wgext_0") && named("ovpn_de1"));
        for bad in [
            "",
            "wgext_",
            "eth0",
            "wg0",
            "xwgext_0",
            "wgext_0/1",
            "wgext_ 0",
            "wgext_0123456789",
        ] {
            assert!(!named(bad), "{bad}");
        }
        assert!(
            Interface::try_new("eth0", &[String::new()]).is_none(),
            "an empty prefix is none"
        );
    }
}
