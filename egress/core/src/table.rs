//! All exits, and what a new table changes of the old.

use std::collections::BTreeMap;

use crate::exit::{Exit, ExitId, RedirectPort};

/// The exits, each with an id and a port of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table(BTreeMap<ExitId, Exit>);

/// Two exits that cannot stand in one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clash {
    /// An id twice.
    Id,
    /// A port twice.
    Port,
}

/// From one table to the next. What is in neither list goes on as it is, with its connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// To stop, with all their connections: they are gone, or are another exit now.
    pub stopped: Vec<ExitId>,
    /// To start after that.
    pub started: Vec<Exit>,
}

impl Table {
    /// Adds an exit.
    ///
    /// # Errors
    /// [`Clash`]; the table stays as it was.
    pub fn add(&mut self, exit: Exit) -> Result<(), Clash> {
        if self.0.contains_key(&exit.id) {
            return Err(Clash::Id);
        }
        if self.0.values().any(|known| known.port == exit.port) {
            return Err(Clash::Port);
        }
        self.0.insert(exit.id.clone(), exit);
        Ok(())
    }

    /// The exits in the order of their ids.
    pub fn exits(&self) -> impl ExactSizeIterator<Item = &Exit> {
        self.0.values()
    }

    /// The exit that connections to `port` are for.
    pub fn at(&self, port: RedirectPort) -> Option<&Exit> {
        self.0.values().find(|exit| exit.port == port)
    }

    /// What makes `next` of this table.
    pub fn changes_to(&self, next: &Table) -> Changes {
        let same = |one: &Table, other: &Exit| one.0.get(&other.id) == Some(other);
        Changes {
            stopped: self
                .exits()
                .filter(|exit| !same(next, exit))
                .map(|exit| exit.id.clone())
                .collect(),
            started: next.exits().filter(|exit| !same(self, exit)).cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::exit::{Kind, Server};
    use proptest::prelude::*;

    fn exit(id: u8, port: u32, host: u8) -> Exit {
        Exit {
            id: ExitId::parse(&format!("6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a{id:02x}")).unwrap(),
            port: RedirectPort::try_new(port).unwrap(),
            kind: Kind::Tor(Server::try_new(([192, 0, 2, host], 9050).into()).unwrap()),
            secret_revision: 0,
        }
    }

    fn table(exits: &[(u8, u32, u8)]) -> Table {
        let mut table = Table::default();
        for (id, port, host) in exits {
            let _ = table.add(exit(*id, *port, *host));
        }
        table
    }

    #[test]
    fn ids_and_ports_are_had_once() {
        let mut table = table(&[(1, 9100, 1)]);
        assert_eq!(table.add(exit(1, 9101, 1)), Err(Clash::Id));
        assert_eq!(table.add(exit(2, 9100, 1)), Err(Clash::Port));
        assert_eq!(table.add(exit(2, 9101, 1)), Ok(()));
        assert_eq!(table.exits().len(), 2);
        assert_eq!(table.at(exit(2, 9101, 1).port), Some(&exit(2, 9101, 1)));
    }

    #[test]
    fn only_what_is_another_exit_is_touched() {
        let old = table(&[(1, 9100, 1), (2, 9101, 1), (3, 9102, 1)]);
        let new = table(&[(1, 9100, 1), (2, 9102, 1), (3, 9101, 1), (4, 9103, 1)]);
        let changes = old.changes_to(&new);
        assert_eq!(changes.stopped, [exit(2, 9101, 1).id, exit(3, 9102, 1).id]);
        assert_eq!(
            changes.started,
            [exit(2, 9102, 1), exit(3, 9101, 1), exit(4, 9103, 1)]
        );
        assert_eq!(new.changes_to(&new), Changes::default());
    }

    #[test]
    fn with_another_secret_it_is_another_exit() {
        let mut next = Table::default();
        let imported = Exit {
            secret_revision: 2,
            ..exit(1, 9100, 1)
        };
        next.add(imported.clone()).unwrap();
        let changes = table(&[(1, 9100, 1)]).changes_to(&next);
        assert_eq!(changes.stopped, std::slice::from_ref(&imported.id));
        assert_eq!(changes.started, [imported]);
    }

    prop_compose! {
        fn any_table()(exits in prop::collection::vec((0u8..6, 9100u32..9106, 1u8..3), 0..8)) -> Table {
            table(&exits)
        }
    }

    proptest! {
        #[test]
        fn changes_lead_from_one_table_to_the_next(old in any_table(), new in any_table()) {
            let changes = old.changes_to(&new);
            let mut left: BTreeMap<_, _> = old.0.clone();
            left.retain(|id, _| !changes.stopped.contains(id));
            let mut reached = Table(left);
            for exit in changes.started {
                // With what must stop stopped, id and port are free.
                prop_assert_eq!(reached.add(exit), Ok(()));
            }
            prop_assert_eq!(reached, new);
        }
    }
}
