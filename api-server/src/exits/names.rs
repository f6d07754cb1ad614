//! Asks `cell-egress` where servers are that are known by name: `cell-api` has no network of its own.

use std::collections::BTreeSet;

use cell_api_core::derive::exits::server_names;
use cell_api_core::services::remote::CatalogUrl;
use futures_util::future::join_all;

use crate::app::App;
use crate::daemons::egress::EgressClient;
use crate::store::connections::StoredConnection;
use crate::store::remote_catalogs;

/// Asks for what is due. Whether one of the servers is elsewhere now.
pub(super) async fn resolve(app: &App, egress: &EgressClient, connections: &[StoredConnection]) -> bool {
    let catalogs = app.store.read(remote_catalogs::direct).unwrap_or_default();
    let hosts = catalogs.iter().filter(|url| url.address().is_none());
    let wanted: BTreeSet<&str> = connections
        .iter()
        .flat_map(|stored| server_names(&stored.config))
        .chain(hosts.map(CatalogUrl::host))
        .collect();
    let before = app.exits.names();
    let mut names = (*before).clone();
    let due = names.due(wanted, app.now());
    // Each by itself: one that takes long is not waited for by the others.
    let answers = join_all(due.iter().map(|name| egress.resolve(name))).await;
    let mut moved = false;
    for (name, answer) in due.iter().zip(answers) {
        moved |= names.take(name, answer, app.now());
    }
    if names != *before {
        app.exits.learn(names);
    }
    moved
}
