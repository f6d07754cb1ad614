//! What a plan means to people: who gains and who loses what.

mod entries;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Step;
use crate::desired::{Access, Delta, Desired, Peer, Service};
use crate::entry::EntryAt;
use crate::model::{ExitMark, Family, PublicKey};
use crate::observed::{Device, DevicePeer, Observed};
use crate::policy::{Element, Elements, SetId};
use crate::redirect::Carrier;
use crate::routing::{Action, ExitRoute, RouteTo, RoutingRule, Selector};

/// What is done with a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeAction {
    /// It is made.
    Add,
    /// It is altered in place.
    Update,
    /// It is taken away.
    Remove,
}

/// One thing that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Verb.
    pub action: ChangeAction,
    /// What is changed, e.g. "peer laptop".
    pub subject: String,
    /// What becomes of it, e.g. "gains internet".
    pub detail: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.action {
            ChangeAction::Add => "add",
            ChangeAction::Update => "update",
            ChangeAction::Remove => "remove",
        };
        write!(f, "{verb} {}: {}", self.subject, self.detail)
    }
}

/// `desired` says what services at addresses in the VPN are called.
pub(super) fn of_delta(delta: &Delta, desired: &Desired) -> Vec<Change> {
    let changes = delta.changes().iter();
    changes
        .filter_map(|(name, change)| {
            of_peer(name, change.before.as_deref(), change.after.as_deref(), desired)
        })
        .collect()
}

/// Links and addresses as the steps say, peers by what they can reach before and after, and policy that no peer
/// explains by set.
pub(super) fn of_plan(
    steps: &[Step],
    desired: &Desired,
    accepted: Option<&Desired>,
    observed: &Observed,
) -> Vec<Change> {
    let mut changes: Vec<Change> = steps.iter().filter_map(of_step).collect();
    if !steps.iter().any(|step| {
        matches!(
            step,
            Step::UpdatePeers(..) | Step::UpdatePolicy(_) | Step::ReplacePolicy(_) | Step::RemoveLink(_)
        )
    }) {
        return changes;
    }
    let before = reconstruct(observed, &known_exits(desired, accepted));
    for (key, peer) in before
        .iter()
        .filter(|(key, _)| desired.name_of_key(key).is_none())
    {
        let name = accepted
            .and_then(|state| state.name_of_key(key))
            .map(ToString::to_string);
        changes.extend(of_peer(
            name.unwrap_or_else(|| key.to_string()),
            Some(peer),
            None,
            desired,
        ));
    }
    let mut explained = false;
    changes.extend(preshared(desired, observed));
    for (name, peer) in desired.peers() {
        let before = before
            .get(&peer.key)
            .map(|before| with_known_endpoint(before, peer, name, accepted));
        let change = of_peer(name, before.as_ref(), Some(peer), desired);
        explained |= change.is_some();
        changes.extend(change);
    }
    let services = services::of_services(accepted, desired);
    explained |= !services.is_empty();
    changes.extend(services);
    let entries = entries::of_entries(accepted, desired);
    explained |= !entries.is_empty();
    changes.extend(entries);
    changes.extend(of_public_http(accepted, desired));
    if let (false, Some(Step::UpdatePolicy(delta))) = (
        explained,
        steps.iter().find(|step| matches!(step, Step::UpdatePolicy(_))),
    ) {
        for set in delta.sets() {
            let count = |elements: &Elements| elements.get(&set).map_or(0, BTreeSet::len);
            let detail = format!(
                "{} element(s) added, {} removed",
                count(&delta.added),
                count(&delta.removed)
            );
            changes.push(change(
                ChangeAction::Update,
                format!("policy set {}", set.name()),
                detail,
            ));
        }
    }
    changes
}

/// What the internet reaches. Without a state before it is told too: nobody is to miss that a port is open.
fn of_public_http(accepted: Option<&Desired>, desired: &Desired) -> Option<Change> {
    let before = accepted.and_then(Desired::public_http);
    let after = desired.public_http();
    let action = match (before, after) {
        (None, Some(_)) => ChangeAction::Add,
        (Some(_), None) => ChangeAction::Remove,
        (Some(before), Some(after)) if before != after => ChangeAction::Update,
        (Some(_), Some(_)) | (None, None) => return None,
    };
    let detail = match after {
        Some(to) => format!("reaches {to} by TCP 80 of this machine"),
        None => "reaches nothing by TCP 80 of this machine any more".to_owned(),
    };
    Some(change(action, "the internet".to_owned(), detail))
}

/// Peers that somebody else gave a preshared key.
fn preshared(desired: &Desired, observed: &Observed) -> Vec<Change> {
    let device = observed.link.as_ref().and_then(|link| link.device.as_ref());
    let keys = device.into_iter().flat_map(|device| &device.preshared);
    keys.filter_map(|key| desired.name_of_key(key))
        .map(|name| {
            change(
                ChangeAction::Update,
                format!("peer {name}"),
                "loses a preshared key that is not netd's",
            )
        })
        .collect()
}

fn change(action: ChangeAction, subject: String, detail: impl Into<String>) -> Change {
    Change {
        action,
        subject,
        detail: detail.into(),
    }
}

fn of_step(step: &Step) -> Option<Change> {
    use ChangeAction::{Add, Remove, Update};
    Some(match step {
        Step::RemoveLink(name) => change(Remove, format!("interface {name}"), "goes with its device"),
        Step::CreateDevice(wireguard) => {
            let detail = format!("WireGuard on UDP port {}", wireguard.listen_port);
            change(Add, format!("interface {}", wireguard.interface), detail)
        }
        Step::SetMtu(name, mtu) => change(
            Update,
            format!("interface {name}"),
            format!("MTU {}", mtu.bytes()),
        ),
        Step::SetUp(name) => change(Update, format!("interface {name}"), "up"),
        Step::AddAddress(name, net) => change(Add, format!("address {net} on {name}"), "is the cell's"),
        Step::RemoveAddress(name, net) => change(
            Remove,
            format!("address {net} on {name}"),
            "is the cell's no more",
        ),
        Step::ReplacePolicy(ruleset) => {
            let detail = "replaced as a whole";
            change(Update, format!("policy {}", ruleset.table), detail)
        }
        Step::RemovePolicy => change(Remove, "policy".to_owned(), "nothing is left to protect"),
        Step::AddRoute(route) => change(Add, table_of(route), leads(route)),
        Step::RemoveRoute(route) => change(Remove, table_of(route), leads(route)),
        Step::AddRule(rule) => change(Add, rule_of(rule), leads_on(rule.action)),
        Step::RemoveRule(rule) => change(Remove, rule_of(rule), leads_on(rule.action)),
        Step::UpdatePeers(..) | Step::UpdatePolicy(_) => return None,
    })
}

fn family_of(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

fn table_of(route: &ExitRoute) -> String {
    format!(
        "{} default route in table {}",
        family_of(route.family),
        route.table
    )
}

fn leads(route: &ExitRoute) -> String {
    match route.to {
        RouteTo::Unreachable => "unreachable where nothing else is".to_owned(),
        RouteTo::Interface(interface) => format!("by {interface}"),
    }
}

fn leads_on(action: Action) -> String {
    match action {
        Action::Table(table) => format!("leads to table {table}"),
        Action::Goto(priority) => format!("goes on at {priority}"),
        Action::Nop => "leads nowhere".to_owned(),
    }
}

fn rule_of(rule: &RoutingRule) -> String {
    let family = family_of(rule.family);
    match rule.selector {
        Selector::Mark { mark, mask } => format!("{family} rule for mark {mark:#x}/{mask:#x}"),
        Selector::Out(interface) => format!("{family} rule for sockets bound to {interface}"),
        Selector::Own { .. } => format!("{family} rule for the machine's own packets without a mark"),
        Selector::All => format!("{family} anchor of rules at {}", rule.priority),
    }
}

fn of_peer(
    name: impl fmt::Display,
    before: Option<&Peer>,
    after: Option<&Peer>,
    desired: &Desired,
) -> Option<Change> {
    let whole = |peer: &Peer| whole(peer, desired);
    let difference = |before: &Peer, after: &Peer| difference(before, after, desired);
    between(format!("peer {name}"), before, after, whole, difference)
}

/// What came, went, or became another, in the words of `whole` and `difference`.
fn between<T>(
    subject: String,
    before: Option<&T>,
    after: Option<&T>,
    whole: impl Fn(&T) -> String,
    difference: impl Fn(&T, &T) -> Vec<String>,
) -> Option<Change> {
    match (before, after) {
        (None, None) => None,
        (None, Some(after)) => Some(change(ChangeAction::Add, subject, whole(after))),
        (Some(before), None) => Some(change(
            ChangeAction::Remove,
            subject,
            format!("had {}", whole(before)),
        )),
        (Some(before), Some(after)) => {
            let detail = difference(before, after);
            (!detail.is_empty()).then(|| change(ChangeAction::Update, subject, detail.join("; ")))
        }
    }
}

fn whole(peer: &Peer, desired: &Desired) -> String {
    let addresses: Vec<_> = peer.addresses().map(|address| address.to_string()).collect();
    let reach = reach(&peer.access, desired);
    let may = if reach.is_empty() {
        "the cell's ports alone".to_owned()
    } else {
        list(&reach)
    };
    let by = peer
        .exit
        .as_ref()
        .map(|exit| format!(", leaves by exit {}", exit.id()));
    format!(
        "{}, reaches {may}{}",
        addresses.join(" and "),
        by.unwrap_or_default()
    )
}

fn difference(before: &Peer, after: &Peer, desired: &Desired) -> Vec<String> {
    let mut parts = Vec::new();
    let (had, has) = (reach(&before.access, desired), reach(&after.access, desired));
    for (verb, left, right) in [("gains", &has, &had), ("loses", &had, &has)] {
        let words: BTreeSet<_> = left.difference(right).cloned().collect();
        if !words.is_empty() {
            parts.push(format!("{verb} {}", list(&words)));
        }
    }
    if before.key != after.key {
        parts.push("has a new key".to_owned());
    }
    if (before.v4, before.v6) != (after.v4, after.v6) {
        let addresses: Vec<_> = after.addresses().map(|address| address.to_string()).collect();
        parts.push(format!("moves to {}", addresses.join(" and ")));
    }
    if before.endpoint != after.endpoint {
        parts.push(after.endpoint.map_or("has no endpoint".to_owned(), |endpoint| {
            format!("is at {endpoint}")
        }));
    }
    if before.exit != after.exit {
        parts.push(after.exit.as_ref().map_or_else(
            || "leaves by the machine's own way".to_owned(),
            |exit| format!("leaves by exit {}", exit.id()),
        ));
    }
    if before.keepalive != after.keepalive {
        parts.push(format!("keepalive {} s", after.keepalive));
    }
    parts
}

/// Longer lists are cut, because a peer may have 256 services.
const LIST_MAX: usize = 8;

fn list(words: &BTreeSet<String>) -> String {
    let mut text = words
        .iter()
        .take(LIST_MAX)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if let Some(more) = words.len().checked_sub(LIST_MAX).filter(|more| *more > 0) {
        text += &format!(" and {more} more");
    }
    text
}

fn reach(access: &Access, desired: &Desired) -> BTreeSet<String> {
    let Access {
        internet,
        peer_to_peer,
        services,
    } = access;
    let internet = internet.then(|| "internet".to_owned());
    let peers = peer_to_peer.then(|| "peer-to-peer".to_owned());
    internet
        .into_iter()
        .chain(peers)
        .chain(services.iter().map(|service| named(service, desired)))
        .collect()
}

/// With the name of the service that is found there, if one is.
fn named(service: &Service, desired: &Desired) -> String {
    let at = EntryAt::of(service);
    match at.and_then(|at| Some((at, desired.entries().get(&at)?))) {
        Some((at, entry)) => format!("{} ({at})", entry.service),
        None => service.to_string(),
    }
}

/// The exits of either state, by mark.
fn known_exits(desired: &Desired, accepted: Option<&Desired>) -> BTreeMap<ExitMark, Carrier> {
    let states = accepted.into_iter().chain([desired]);
    let carriers = states.flat_map(|state| {
        let ids = state.exits().keys().chain(state.redirects().keys());
        ids.filter_map(|id| state.carrier(id))
    });
    carriers.map(|carrier| (carrier.mark(), carrier)).collect()
}

/// Whom the sets bind to which exit, by address.
fn exits_by_peer<'a>(
    elements: &Elements,
    known: &'a BTreeMap<ExitMark, Carrier>,
) -> BTreeMap<IpAddr, &'a Carrier> {
    let marks = Family::BOTH
        .into_iter()
        .flat_map(|family| [SetId::ExitMarks(family), SetId::RelayMarks(family)])
        .filter_map(|set| elements.get(&set));
    let bound = marks.flatten().filter_map(|element| match element {
        Element::ExitMark(peer, mark) => Some((*peer, known.get(mark)?)),
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
        | Element::Server(_) => None,
    });
    bound.collect()
}

/// The peers as device and sets have them.
fn reconstruct(observed: &Observed, known: &BTreeMap<ExitMark, Carrier>) -> BTreeMap<PublicKey, Peer> {
    let none = Elements::new();
    let elements = observed.policy.as_ref().map_or(&none, |policy| &policy.elements);
    let services = services_by_peer(elements);
    let exits = exits_by_peer(elements, known);
    let device = observed.link.as_ref().and_then(|link| link.device.as_ref());
    let peers = device.into_iter().flat_map(|Device { peers, .. }| peers);
    peers
        .map(|(key, device)| {
            let mut peer = reconstruct_one(*key, device, elements, &services);
            peer.exit = peer
                .addresses()
                .find_map(|address| exits.get(&address))
                .map(|carrier| (*carrier).clone());
            (*key, peer)
        })
        .collect()
}

fn reconstruct_one(
    key: PublicKey,
    device: &DevicePeer,
    elements: &Elements,
    services: &BTreeMap<IpAddr, BTreeSet<Service>>,
) -> Peer {
    let DevicePeer {
        endpoint,
        keepalive,
        allowed_ips,
    } = device;
    let (mut v4, mut v6) = (None, None);
    for allowed in allowed_ips {
        match allowed {
            IpNet::V4(net) => v4 = Some(net.addr()),
            IpNet::V6(net) => v6 = Some(net.addr()),
        }
    }
    let mut peer = Peer {
        key,
        v4,
        v6,
        endpoint: *endpoint,
        keepalive: *keepalive,
        access: Access::default(),
        exit: None,
    };
    let has = |set: fn(Family) -> SetId, address: IpAddr| {
        let set = elements.get(&set(Family::of(address)));
        set.is_some_and(|set| set.contains(&Element::Address(address)))
    };
    for address in peer.addresses() {
        peer.access.internet |= has(SetId::Internet, address);
        peer.access.peer_to_peer |= has(SetId::PeerToPeer, address);
        peer.access
            .services
            .extend(services.get(&address).into_iter().flatten());
    }
    peer
}

fn services_by_peer(elements: &Elements) -> BTreeMap<IpAddr, BTreeSet<Service>> {
    let mut services: BTreeMap<IpAddr, BTreeSet<Service>> = BTreeMap::new();
    for element in Family::BOTH
        .iter()
        .filter_map(|family| elements.get(&SetId::Services(*family)))
        .flatten()
    {
        let (peer, service) = match *element {
            Element::Service4(peer, address, protocol, port) => (
                peer.into(),
                Service {
                    address: address.into(),
                    protocol,
                    port,
                },
            ),
            Element::Service6(peer, address, protocol, port) => (
                peer.into(),
                Service {
                    address: address.into(),
                    protocol,
                    port,
                },
            ),
            Element::Address(_)
            | Element::Range(..)
            | Element::Port(_)
            | Element::ExitMark(..)
            | Element::ExitWay(..)
            | Element::Link(_)
            | Element::RelayPort(..)
            | Element::RelayWay(..)
            | Element::Host(..)
            | Element::Entry(..)
            | Element::EntryTarget(..)
            | Element::EntryWay(..)
            | Element::Server(_) => continue,
        };
        services.entry(peer).or_default().insert(service);
    }
    services
}

/// The device's endpoint roams and is no change; services of a family that the peer has no address of are in no set.
fn with_known_endpoint(
    before: &Peer,
    after: &Peer,
    name: &crate::model::PeerName,
    accepted: Option<&Desired>,
) -> Peer {
    let mut before = before.clone();
    let previous = accepted
        .and_then(|state| state.peers().get(name))
        .map_or(after.endpoint, |old| old.endpoint);
    if before.endpoint.is_some() || after.endpoint.is_none() {
        before.endpoint = previous;
    }
    let without_way = |service: &&Service| match service.address {
        IpAddr::V4(_) => after.v4.is_none(),
        IpAddr::V6(_) => after.v6.is_none(),
    };
    before
        .access
        .services
        .extend(after.access.services.iter().filter(without_way));
    before
}
