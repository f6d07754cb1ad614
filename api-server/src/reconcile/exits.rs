//! Which exits netd was told of, and which of them carries a peer.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use cell_api_core::connection::choice::{self, ExitChoice, ExitFact, Route};
use cell_api_core::connection::driven::AllPushed;
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::connection::kind::Kind;
use cell_api_core::connection::names::Names;
use cell_api_core::derive::exits::{ExitSpec, exit_spec};
use cell_api_core::peer::Peer;

use super::refused::Refused;
use crate::exits::Exits;
use crate::store::connections::StoredConnection;

/// What netd was told of connections.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// All of them.
    connections: BTreeMap<ConnectionId, One>,
    /// Those that netd does not take, by their ids, with why.
    pub(super) refused: Refused,
    /// Networks of services that it does not take, by their names, with why.
    pub(super) refused_services: Refused,
    /// Entries of services that it does not take ([`super::entries::key`]), with why.
    pub(super) refused_entries: Refused,
    /// Entries that are left out with a network that it does not take, likewise.
    pub(super) shut_entries: Refused,
}

#[derive(Debug)]
struct One {
    name: String,
    kind: Kind,
    carried: bool,
}

impl Told {
    /// What netd is to be told of `connections`, as far as the `names` of their servers are known, and what servers gave (`pushed`), without those that it refuses;
    /// `tor`: where Tor's SOCKS port is.
    pub(super) fn of(
        connections: &[StoredConnection],
        names: &Names,
        pushed: &AllPushed,
        refused: Refused,
        tor: SocketAddr,
    ) -> (Told, Vec<ExitSpec>) {
        let mut told = Told {
            connections: BTreeMap::new(),
            refused,
            refused_services: Refused::new(),
            refused_entries: Refused::new(),
            shut_entries: Refused::new(),
        };
        let mut specs = Vec::with_capacity(connections.len());
        for stored in connections {
            let is_refused = told.refused.contains_key(&stored.id.to_string());
            let spec = exit_spec(&stored.source(tor, names, pushed)).filter(|_| !is_refused);
            let one = One {
                name: stored.name.to_string(),
                kind: stored.config.kind(),
                carried: spec.is_some(),
            };
            told.connections.insert(stored.id, one);
            specs.extend(spec);
        }
        (told, specs)
    }

    /// The way that a peer has now, and where that is none why, for people.
    pub(super) fn way_of(&self, peer: &Peer, exits: &Exits) -> (Route, Option<String>) {
        let route = self.route(&peer.exit, exits);
        let why_not = match route {
            Route::Own | Route::Exit(_) => None,
            Route::Nowhere => peer.exit.bound().map(|id| self.why_not(&id)),
        };
        (route, why_not)
    }

    /// Which way a choice leads now.
    pub(super) fn route(&self, exit: &ExitChoice, exits: &Exits) -> Route {
        let fact = |id: &ConnectionId| {
            let one = self.connections.get(id)?;
            let fact = ExitFact {
                kind: one.kind,
                health: exits.health(id),
                carried: one.carried,
            };
            Some((*id, fact))
        };
        let bound = exit.bound();
        let listed = bound.iter().chain(exit.fallbacks());
        choice::route(exit, &listed.filter_map(fact).collect())
    }

    fn why_not(&self, bound: &ConnectionId) -> String {
        let name = self.connections.get(bound).map_or("its exit", |one| &one.name);
        match self.refused.get(&bound.to_string()) {
            Some(why) => format!("netd does not take its exit {name}: {why}"),
            None => format!("nothing carries its exit {name}"),
        }
    }
}
