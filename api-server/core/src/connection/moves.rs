//! Which way a choice leads at a moment, and who goes another way than at the moment before, though nobody chose otherwise.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::choice::{ExitChoice, ExitFact, ExitFacts, Route, route};
use super::health::Health;
use super::id::ConnectionId;

/// What decides ways at one moment.
#[derive(Debug, Clone, Default)]
pub struct Moment {
    facts: ExitFacts,
    seen: BTreeMap<ConnectionId, Health>,
}

/// Another way than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    /// The connection that those who moved are bound to.
    pub bound: ConnectionId,
    /// Before.
    pub from: Route,
    /// Now.
    pub to: Route,
}

/// How many moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Devices.
    pub devices: usize,
    /// Services.
    pub services: usize,
}

impl Moment {
    /// `facts` say whether a connection is relied on, `seen` what is seen of it: one that works again is not relied on at once.
    pub fn new(facts: ExitFacts, seen: BTreeMap<ConnectionId, Health>) -> Self {
        Moment { facts, seen }
    }

    /// Where a choice leads. Through a connection that does not work nothing comes, and so it leads nowhere.
    pub fn way(&self, choice: &ExitChoice) -> Route {
        match route(choice, &self.facts) {
            Route::Exit(id) if self.seen.get(&id) == Some(&Health::Down) => Route::Nowhere,
            route => route,
        }
    }

    /// This moment, with connections that are known to `later` alone: of those nothing had been seen, and nobody had left them.
    fn with_those_of(&self, later: &Moment) -> Moment {
        let mut facts = self.facts.clone();
        for (id, fact) in &later.facts {
            let unseen = ExitFact {
                health: Health::Unknown,
                ..*fact
            };
            facts.entry(*id).or_insert(unseen);
        }
        Moment {
            facts,
            seen: self.seen.clone(),
        }
    }
}

/// Who moved between two moments, of devices and services that choose as they did before.
pub fn moves<'a>(
    devices: impl Iterator<Item = &'a ExitChoice>,
    services: impl Iterator<Item = &'a ExitChoice>,
    before: &Moment,
    now: &Moment,
) -> BTreeMap<Move, Moved> {
    let before = before.with_those_of(now);
    let mut all: BTreeMap<Move, Moved> = BTreeMap::new();
    let devices = devices.map(|choice| (choice, true));
    for (choice, is_device) in devices.chain(services.map(|choice| (choice, false))) {
        let (from, to) = (before.way(choice), now.way(choice));
        let Some(bound) = choice.bound().filter(|_| from != to) else {
            continue;
        };
        let moved = all.entry(Move { bound, from, to }).or_default();
        if is_device {
            moved.devices += 1;
        } else {
            moved.services += 1;
        }
    }
    all
}

impl Move {
    /// For people; `name` says what a connection is called.
    pub fn told(&self, moved: Moved, name: impl Fn(&ConnectionId) -> String) -> String {
        let way = |route: Route| match route {
            Route::Own => "directly, by the cell's own way".to_owned(),
            Route::Exit(id) => format!("through {}", name(&id)),
            Route::Nowhere => "nowhere".to_owned(),
        };
        format!("{moved}: {}, before {}", way(self.to), way(self.from))
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Moved { devices, services } = *self;
        let mut text = String::new();
        for (count, one, many) in [(devices, "device", "devices"), (services, "service", "services")] {
            if count > 0 {
                let and = if text.is_empty() { "" } else { " and " };
                let what = if count == 1 { one } else { many };
                write!(text, "{and}{count} {what}")?;
            }
        }
        f.write_str(if text.is_empty() { "nobody" } else { &text })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::connection::kind::Kind;

    const WORK: u8 = 1;
    const SPARE: u8 = 2;

    fn id(number: u8) -> ConnectionId {
        ConnectionId::from_random([number; 16])
    }

    fn moment(states: &[(u8, Health, Health)]) -> Moment {
        let fact = |(number, _, health): &(u8, Health, Health)| {
            let fact = ExitFact {
                kind: Kind::Proxy,
                health: *health,
                carried: true,
            };
            (id(*number), fact)
        };
        Moment::new(
            states.iter().map(fact).collect(),
            states
                .iter()
                .map(|(number, seen, _)| (id(*number), *seen))
                .collect(),
        )
    }

    fn choice(fail_open: bool, fallbacks: &[u8]) -> ExitChoice {
        let fallbacks = fallbacks.iter().map(|number| id(*number)).collect();
        ExitChoice::try_new(Some(id(WORK)), Some(fail_open), fallbacks).unwrap()
    }

    #[test]
    fn who_has_a_stand_in_an_own_way_or_none_is_counted_apart() {
        use Health::{Down, Working};
        let works = moment(&[(WORK, Working, Working), (SPARE, Working, Working)]);
        let fails = moment(&[(WORK, Down, Down), (SPARE, Working, Working)]);
        let (stands_in, opens, closed) = (choice(false, &[SPARE]), choice(true, &[]), choice(false, &[]));
        let own = ExitChoice::default();
        let devices = [&stands_in, &opens, &closed, &closed, &own];
        let found = moves(devices.into_iter(), [&stands_in].into_iter(), &works, &fails);
        let name = |id_: &ConnectionId| if *id_ == id(WORK) { "work" } else { "spare" }.to_owned();
        let told: Vec<String> = found.iter().map(|(one, moved)| one.told(*moved, name)).collect();
        assert_eq!(
            told,
            [
                "1 device: directly, by the cell's own way, before through work",
                "1 device and 1 service: through spare, before through work",
                "2 devices: nowhere, before through work",
            ]
        );
        assert!(moves(devices.into_iter(), std::iter::empty(), &fails, &fails).is_empty());
    }

    #[test]
    fn what_works_again_is_not_relied_on_at_once() {
        use Health::{Down, Working};
        let fails = moment(&[(WORK, Down, Down), (SPARE, Working, Working)]);
        let back = moment(&[(WORK, Working, Down), (SPARE, Working, Working)]);
        let (stands_in, closed) = (choice(false, &[SPARE]), choice(false, &[]));
        let found = moves(
            [&stands_in, &closed].into_iter(),
            std::iter::empty(),
            &fails,
            &back,
        );
        let moved = Move {
            bound: id(WORK),
            from: Route::Nowhere,
            to: Route::Exit(id(WORK)),
        };
        let one = Moved {
            devices: 1,
            services: 0,
        };
        assert_eq!(found, BTreeMap::from([(moved, one)]));
    }

    #[test]
    fn a_connection_that_came_meanwhile_was_left_by_nobody() {
        let now = moment(&[(WORK, Health::Working, Health::Working)]);
        let closed = choice(false, &[]);
        let found = moves(
            [&closed].into_iter(),
            std::iter::empty(),
            &Moment::default(),
            &now,
        );
        assert!(found.is_empty(), "{found:?}");
    }
}
