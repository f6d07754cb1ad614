//! Finds the facts: compares peers before and after.

use std::collections::{BTreeMap, BTreeSet};

use super::place::{Place, Places};
use super::{
    Around, Besides, Change, Ends, Fact, Group, Leaves, OwnPath, Plan, Reach, Reached, SERVICES_TOLD,
    Standing, Statement,
};
use crate::access::{Protocol, Service};
use crate::client_config;
use crate::connection::choice::{ExitChoice, Route};
use crate::connection::id::ConnectionId;
use crate::connection::kind::Carriage;
use crate::peer::Peer;

/// Compares. `author`: the device that the change is asked for from, through the VPN.
pub fn plan(changes: &[Change<'_>], around: &Around<'_>, author: Option<&str>) -> Plan {
    let before = Side::of(changes.iter().filter_map(|change| change.before), around);
    let after = Side::of(changes.iter().filter_map(|change| change.after), around);
    let moved = changes
        .iter()
        .flat_map(|change| [change.before, change.after])
        .flatten();
    let everybody = moved
        .chain(around.others.iter().copied())
        .map(|standing| standing.peer);
    let places = Places::of(around.range, everybody);
    let mut found: BTreeMap<Fact, BTreeSet<&str>> = BTreeMap::new();
    for change in changes {
        let Some(name) = change.name() else { continue };
        let compared = Compared {
            change,
            before: &before,
            after: &after,
            places: &places,
            around,
        };
        for fact in compared.facts() {
            found.entry(fact).or_default().insert(name);
        }
    }
    devices(&before.devices, &after.devices, &mut found);
    let own_path = author.map_or(OwnPath::Stays, |author| own_path(author, &found));
    let statements = found.into_iter().map(|(fact, who)| Statement {
        who: Group::of(who),
        fact,
    });
    let mut statements: Vec<Statement> = statements.collect();
    // What becomes of those that change comes before what that means to others.
    let moved: BTreeSet<&str> = changes.iter().filter_map(Change::name).collect();
    let is_other = |one: &Statement| !one.who.0.iter().any(|name| moved.contains(name.as_str()));
    statements.sort_by_key(|one| (one.fact.rank(), is_other(one)));
    Plan { statements, own_path }
}

impl<'a> Change<'a> {
    fn name(&self) -> Option<&'a str> {
        self.after
            .or(self.before)
            .map(|standing| standing.peer.name.as_str())
    }
}

/// Services, each with whether the exit of who has it refuses it.
type Granted = BTreeMap<Service, bool>;

/// One of the two states.
struct Side<'a> {
    /// On the network, with peer-to-peer.
    devices: BTreeSet<&'a str>,
}

impl<'a> Side<'a> {
    fn of(changed: impl Iterator<Item = Standing<'a>>, around: &Around<'a>) -> Self {
        let all = changed.chain(around.others.iter().copied());
        let devices = all.filter(|one| one.peer.access.peer_to_peer);
        Side {
            devices: devices.map(|one| one.peer.name.as_str()).collect(),
        }
    }

    fn may_pass(&self, from: &Peer, to: &Place) -> bool {
        match to {
            Place::Device(name, _) => {
                self.devices.contains(from.name.as_str()) && self.devices.contains(name.as_str())
            }
            Place::Cell | Place::Private(_) | Place::Public(_) => false,
        }
    }
}

impl Standing<'_> {
    /// The services that it reaches: none of the internet's where nothing carries it.
    fn services(&self) -> BTreeSet<Service> {
        match self.route {
            Route::Own | Route::Exit(_) => self.peer.access.services.clone(),
            Route::Nowhere => self.peer.access.inside().services,
        }
    }

    /// The exit that it is bound to and that nothing carries.
    fn not_carried(&self) -> Option<ConnectionId> {
        match self.route {
            Route::Own | Route::Exit(_) => None,
            Route::Nowhere => self.peer.exit.bound(),
        }
    }
}

/// Who enters or leaves those that reach each other.
fn devices<'a>(
    before: &BTreeSet<&'a str>,
    after: &BTreeSet<&'a str>,
    found: &mut BTreeMap<Fact, BTreeSet<&'a str>>,
) {
    let stay: BTreeSet<&str> = before.intersection(after).copied().collect();
    for (all, others, made) in [
        (before, after, Fact::Loses as fn(Reach) -> Fact),
        (after, before, Fact::Gains as fn(Reach) -> Fact),
    ] {
        let moved: BTreeSet<&str> = all.difference(others).copied().collect();
        if moved.is_empty() {
            continue;
        }
        // Of one alone, all but itself; several reach each other too.
        let reached = if moved.len() == 1 { &stay } else { all };
        let fact = made(Reach::Devices(Group::of(reached.iter().copied())));
        found.entry(fact).or_default().extend(&moved);
        if !stay.is_empty() {
            let fact = made(Reach::Devices(Group::of(moved)));
            found.entry(fact).or_default().extend(&stay);
        }
    }
}

fn own_path(author: &str, found: &BTreeMap<Fact, BTreeSet<&str>>) -> OwnPath {
    let own = found.iter().filter(|(_, who)| who.contains(author));
    own.map(|(fact, _)| match fact {
        Fact::GoesOff | Fact::NewKey => OwnPath::Cut,
        Fact::NotCarried(_)
        | Fact::Loses(_)
        | Fact::Way { .. }
        | Fact::Bound { .. }
        | Fact::WhileDown { .. }
        | Fact::Ends(_) => OwnPath::Touched,
        Fact::Gains(_) | Fact::Reinstall | Fact::AccountsGo(_) => OwnPath::Stays,
    })
    .max()
    .unwrap_or(OwnPath::Stays)
}

/// One peer before and after.
struct Compared<'c, 'a> {
    change: &'c Change<'a>,
    before: &'c Side<'a>,
    after: &'c Side<'a>,
    places: &'c Places<'a>,
    around: &'c Around<'a>,
}

impl<'a> Compared<'_, 'a> {
    fn facts(&self) -> Vec<Fact> {
        let (before, after) = (self.change.before, self.change.after);
        let mut facts = Vec::new();
        match (before, after) {
            (None, None) => {}
            (Some(_), None) => facts.extend([Fact::GoesOff, Fact::Ends(Ends::All)]),
            (None, Some(_)) => facts.push(Fact::Gains(Reach::Cell)),
            (Some(before), Some(after)) if before.peer.public_key != after.peer.public_key => {
                facts.push(Fact::NewKey);
            }
            (Some(_), Some(_)) => {}
        }
        self.internet(before, after, &mut facts);
        self.services(before, after, &mut facts);
        self.binding(before, after, &mut facts);
        if before.is_some() && after.is_some() && self.loses_devices() {
            facts.push(Fact::Ends(Ends::Devices));
        }
        if self.reinstalls() {
            facts.push(Fact::Reinstall);
        }
        facts
    }

    fn internet(&self, before: Option<Standing<'_>>, after: Option<Standing<'_>>, facts: &mut Vec<Fact>) {
        let leaves = |side: Option<Standing<'_>>| side.and_then(|side| self.leaves(&side));
        match (leaves(before), leaves(after)) {
            (None, None) => {
                // Granted services of the internet go the same way as all of it would.
                let way = |side: Option<Standing<'_>>| side.and_then(|side| self.way_of_services(&side));
                if let (Some(from), Some(to)) = (way(before), way(after))
                    && from != to
                {
                    facts.extend([Fact::Way { from, to }, Fact::Ends(Ends::Internet)]);
                }
            }
            (Some(way), None) => {
                facts.push(Fact::Loses(Reach::Internet(way)));
                if after.is_some() {
                    facts.push(Fact::Ends(Ends::Internet));
                }
            }
            (None, Some(way)) => facts.push(Fact::Gains(Reach::Internet(way))),
            (Some(from), Some(to)) if from != to => {
                facts.extend([Fact::Way { from, to }, Fact::Ends(Ends::Internet)]);
            }
            (Some(_), Some(_)) => {}
        }
    }

    fn services(&self, before: Option<Standing<'_>>, after: Option<Standing<'_>>, facts: &mut Vec<Fact>) {
        let (had, has) = (self.granted(before), self.granted(after));
        // What its exit refuses is reached on no side; that it is granted, or is no more, is said all the same.
        let counts = |(service, refused): (&Service, &bool)| (!refused).then_some(*service);
        let reached_before: BTreeSet<Service> = had.iter().filter_map(counts).collect();
        let reached_after: BTreeSet<Service> = has.iter().filter_map(counts).collect();
        let silent = |of: &Granted, other: &Granted| -> Vec<Service> {
            let refused = of
                .iter()
                .filter(|(service, refused)| **refused && !other.contains_key(service));
            refused.map(|(service, _)| *service).collect()
        };
        let lost = reached_before.difference(&reached_after).copied();
        let lost: Vec<Reached> = lost
            .chain(silent(&had, &has))
            .map(|service| self.reached(&service, before, (after, self.after)))
            .collect();
        let gained = reached_after.difference(&reached_before).copied();
        let gained = gained
            .chain(silent(&has, &had))
            .map(|service| self.reached(&service, after, (before, self.before)));
        if after.is_some() && lost.iter().any(Reached::ends) {
            facts.push(Fact::Ends(Ends::Services));
        }
        told(lost.into_iter(), Fact::Loses, facts);
        told(gained, Fact::Gains, facts);
    }

    /// The services that are granted on a side, each with whether its exit refuses it.
    fn granted(&self, side: Option<Standing<'_>>) -> Granted {
        let Some(side) = side else { return Granted::new() };
        let refused = |service: &Service| {
            let place = self.places.find(service.address);
            self.refusing(&side, service, &place).is_some()
        };
        let services = side.services().into_iter();
        services.map(|service| (service, refused(&service))).collect()
    }

    /// A service that is granted on one side (`by`) alone, with what else leads there on the other one.
    fn reached(
        &self,
        service: &Service,
        by: Option<Standing<'_>>,
        (there, side): (Option<Standing<'_>>, &Side<'_>),
    ) -> Reached {
        let place = self.places.find(service.address);
        let refused = by
            .and_then(|by| self.refusing(&by, service, &place))
            .map(Besides::NotCarried);
        let besides = refused.or_else(|| {
            let there = there?;
            match &place {
                Place::Public(_) => self
                    .leaves(&there)
                    .filter(|way| way.carries(service.protocol))
                    .map(Besides::Internet),
                Place::Device(..) => side.may_pass(there.peer, &place).then_some(Besides::Devices),
                Place::Cell | Place::Private(_) => None,
            }
        });
        Reached {
            place,
            protocol: service.protocol,
            port: service.port,
            besides,
        }
    }

    /// The exit that a service of the internet would go by and that does not carry it: a grant is no way past it.
    fn refusing(&self, side: &Standing<'_>, service: &Service, place: &Place) -> Option<String> {
        let (Route::Exit(id), Place::Public(_)) = (side.route, place) else {
            return None;
        };
        let Leaves::Through { exit, tcp_alone } = self.through(&id) else {
            return None;
        };
        let carried = !tcp_alone || (side.peer.access.internet && service.protocol == Protocol::Tcp);
        (!carried).then_some(exit)
    }

    fn binding(&self, before: Option<Standing<'_>>, after: Option<Standing<'_>>, facts: &mut Vec<Fact>) {
        let Some(choice) = self.change.after.map(|after| &after.peer.exit) else {
            return;
        };
        let unbound = ExitChoice::default();
        let had = self.change.before.map_or(&unbound, |before| &before.peer.exit);
        let (bound, moved) = (choice.bound(), choice.bound() != had.bound());
        let leaves = |side: Option<Standing<'_>>| {
            side.and_then(|side| self.leaves(&side).or_else(|| self.way_of_services(&side)))
        };
        let (from, to) = (leaves(before), leaves(after));
        let aim = bound.map_or(Leaves::Own, |id| self.through(&id));
        // Where the way says it all, nothing is said twice.
        let lost = after.and_then(|side| side.not_carried());
        if let Some(id) = lost.filter(|id| before.and_then(|side| side.not_carried()) != Some(*id)) {
            facts.push(Fact::NotCarried(self.name_of(&id)));
        }
        if moved
            && after.is_some()
            && lost.is_none()
            && (to.as_ref() != Some(&aim) || (from == to && from.is_some()))
        {
            facts.push(Fact::Bound {
                to: bound.map(|id| self.name_of(&id)),
                meanwhile: to,
            });
        }
        let Some(bound) = bound else { return };
        let after_down = self.while_down(&bound, choice);
        let told_before = had.bound() == Some(bound) && self.while_down(&bound, had) == after_down;
        let Fact::WhileDown {
            stand_ins, directly, ..
        } = &after_down
        else {
            return;
        };
        if !told_before && (!moved || *directly || !stand_ins.is_empty()) {
            facts.push(after_down);
        }
    }

    fn while_down(&self, bound: &ConnectionId, choice: &ExitChoice) -> Fact {
        let opens = self
            .around
            .exits
            .get(bound)
            .is_some_and(|exit| exit.kind.fails_open());
        Fact::WhileDown {
            exit: self.name_of(bound),
            stand_ins: choice.fallbacks().iter().map(|id| self.name_of(id)).collect(),
            directly: choice.fail_open().unwrap_or(opens),
        }
    }

    fn loses_devices(&self) -> bool {
        let name = self.change.after.map(|after| after.peer.name.as_str());
        name.is_some_and(|name| {
            let (before, after) = (&self.before.devices, &self.after.devices);
            before.contains(name) && !after.contains(name) && before.len() > 1
        })
    }

    /// Whether the device's own configuration changes.
    fn reinstalls(&self) -> bool {
        self.change
            .before
            .zip(self.change.after)
            .is_some_and(|(before, after)| {
                let sends = |peer| client_config::allowed_ips(self.around.range, peer);
                before.peer.public_key == after.peer.public_key && sends(before.peer) != sends(after.peer)
            })
    }

    /// The way that a peer on the network takes to the internet; `None`: it may not.
    fn leaves(&self, side: &Standing<'_>) -> Option<Leaves> {
        side.peer.access.internet.then(|| self.way(side)).flatten()
    }

    /// The way that it takes to the services of the internet that it was granted; `None`: it reaches none.
    fn way_of_services(&self, side: &Standing<'_>) -> Option<Leaves> {
        let mut granted = self.granted(Some(*side)).into_iter();
        let is_there = |service: &Service| matches!(self.places.find(service.address), Place::Public(_));
        granted
            .any(|(service, refused)| !refused && is_there(&service))
            .then(|| self.way(side))
            .flatten()
    }

    fn way(&self, side: &Standing<'_>) -> Option<Leaves> {
        match side.route {
            Route::Own => Some(Leaves::Own),
            Route::Exit(id) => Some(self.through(&id)),
            Route::Nowhere => None,
        }
    }

    fn through(&self, id: &ConnectionId) -> Leaves {
        let carriage = self.around.exits.get(id).map(|exit| exit.kind.carriage());
        Leaves::Through {
            exit: self.name_of(id),
            tcp_alone: carriage == Some(Carriage::Redirect),
        }
    }

    fn name_of(&self, id: &ConnectionId) -> String {
        let known = self.around.exits.get(id);
        known.map_or_else(|| id.to_string(), |exit| exit.name.clone())
    }
}

fn told(all: impl Iterator<Item = Reached>, made: fn(Reach) -> Fact, facts: &mut Vec<Fact>) {
    let mut all = all;
    facts.extend(
        all.by_ref()
            .take(SERVICES_TOLD)
            .map(|one| made(Reach::Service(one))),
    );
    let more = all.count();
    if more > 0 {
        facts.push(made(Reach::MoreServices(more)));
    }
}

impl Reached {
    /// Whether its open connections end with it: what goes on by internet access goes on the cell's own way alone.
    fn ends(&self) -> bool {
        match &self.besides {
            None => true,
            Some(Besides::Internet(_) | Besides::Devices | Besides::NotCarried(_)) => false,
        }
    }
}

impl Group {
    fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Group(names.into_iter().map(str::to_owned).collect())
    }
}
