//! What a change of a connection would do. Nothing is stored, nothing is given to vaultd, and nothing is done.

use std::sync::Arc;

use cell_api_core::connection::choice::{ExitChoice, Route};
use cell_api_core::connection::input::{ConnectionUpdate, ConnectionUpdateInput};
use cell_api_core::derive;
use cell_api_core::derive::exits::exit_spec;
use cell_api_core::plan::replace::{Replaced, Replacement, Users};
use cell_api_core::service_network::Egress;

use super::parse_id;
use crate::app::App;
use crate::daemons::check::Verdict;
use crate::service::plan::{Author, Facts};
use crate::service::{ServiceError, cell, peers};
use crate::store::connections::{self as table, StoredConnection};
use crate::store::service_networks;
use crate::store::waiting;

/// What a change of a connection would do.
#[derive(Debug)]
pub struct UpdatePlan {
    /// In words.
    pub plan: Replaced,
    /// What netd says of the exit; `None`: it is away, or does not hear of the change.
    pub netd: Option<Verdict>,
    /// What of the import is not used and why, for people.
    pub notes: Vec<String>,
}

/// What [`super::update`] would do.
///
/// # Errors
/// Those of it that do not come from vaultd.
pub async fn plan_update(
    app: &Arc<App>,
    id: &str,
    input: ConnectionUpdateInput,
    if_version: Option<String>,
    author: Author,
) -> Result<UpdatePlan, ServiceError> {
    let id = parse_id(id)?;
    cell::identity(app)?;
    let before = app.store.read(|connection| table::get(connection, &id))?;
    let ConnectionUpdate { name, imported } = input.check(before.config.kind())?;
    if if_version.is_some_and(|version| version != before.revision.to_string()) {
        return Err(ServiceError::Stale);
    }
    let name = name.filter(|name| *name != before.name);
    if let Some(name) = &name {
        app.store.read(|connection| table::check_free(connection, name))?;
    }
    if imported.is_some() {
        app.store.read(waiting::refuse_beside)?;
    }
    let author = match author {
        Author::ByVpn(remote) => peers::at_address(app, &remote)?,
        Author::Otherwise => None,
    };
    let (devices, services) = users(app, &before)?;
    let after = imported.as_ref().map(|imported| StoredConnection {
        config: imported.config.clone(),
        secrets_whole: true,
        ..before.clone()
    });
    let replacement = Replacement {
        name: before.name.as_str(),
        renamed: name.as_ref().map(|name| name.as_str()),
        imported: after.as_ref().map(|after| (&before.config, &after.config)),
        forgets_secrets: !before.secret_fields.is_empty(),
        devices,
        services,
        author: author.as_deref(),
    };
    Ok(UpdatePlan {
        plan: replacement.plan(),
        netd: match &after {
            Some(after) => netd_says(app, after).await?,
            None => None,
        },
        notes: imported.map(|imported| imported.notes).unwrap_or_default(),
    })
}

/// Devices and services that may go to the internet and list the connection.
fn users(app: &App, stored: &StoredConnection) -> Result<(Users, Users), ServiceError> {
    let facts = Facts::now(app)?;
    let (mut devices, mut services) = (Users::default(), Users::default());
    let sort = |users: &mut Users, name: &str, choice: &ExitChoice| {
        if facts.route(choice) == Route::Exit(stored.id) {
            users.through.push(name.to_owned());
        } else if choice.bound() == Some(stored.id) || choice.fallbacks().contains(&stored.id) {
            users.apart.push(name.to_owned());
        }
    };
    for one in app.peers.list().iter().filter(|one| one.peer.access.internet) {
        sort(&mut devices, one.peer.name.as_str(), &one.peer.exit);
    }
    for network in app.store.read(service_networks::list)? {
        if let Egress::Exit(choice) = &network.egress {
            sort(&mut services, network.service.as_str(), choice);
        }
    }
    Ok((devices, services))
}

/// Asks netd of the exit alone: whatever else there is stays as it is.
async fn netd_says(app: &App, after: &StoredConnection) -> Result<Option<Verdict>, ServiceError> {
    let range = cell::identity(app)?.range;
    let (names, pushed) = (app.exits.names(), app.exits.openvpn().pushed);
    let Some(exit) = exit_spec(&after.source(app.config.tor_socks, &names, &pushed)) else {
        return Ok(None);
    };
    let spec = derive::network_spec(&app.config.network, Some(&range), [], vec![exit], None);
    Ok(app.check.takes(spec).await)
}
