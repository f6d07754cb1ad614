//! What a change of a peer would do. The change itself is made and taken back, so that what would be refused is refused.

use std::sync::Arc;

use cell_api_core::peer::PeerUpdateInput;
use cell_api_core::plan::{Fact, Group, Statement};

use super::change::{self, Accounts, Update};
use super::exit::{self, ExitChange};
use super::parse_name;
use crate::app::App;
use crate::service::plan::{self, Author, PlanView};
use crate::service::{Actor, ServiceError, cell};
use crate::store::accounts as accounts_table;
use crate::store::transaction::Origin;

/// What [`update`](super::update) would do.
///
/// # Errors
/// As it, but that netd's refusal is in the plan.
pub async fn plan_update(
    app: &Arc<App>,
    actor: &Actor,
    name: &str,
    input: &PeerUpdateInput,
    if_version: Option<String>,
    author: Author,
) -> Result<PlanView, ServiceError> {
    let asked = Update::check(app, name, input, if_version).await?;
    let (peers, origin) = (Arc::clone(&app.peers), Origin::new(actor, app.now()));
    let trying = app.store.try_out(origin, move |tx| asked.make(tx, &peers, None));
    let (before, after) = trying.await?;
    plan::of(app, before.peer, Some(after.peer.clone()), author).await
}

/// What [`delete`](super::delete) would do.
///
/// # Errors
/// As it.
pub async fn plan_delete(
    app: &Arc<App>,
    actor: &Actor,
    name: &str,
    author: Author,
    accounts: Accounts,
) -> Result<PlanView, ServiceError> {
    let name = parse_name(name)?;
    let range = cell::identity(app)?.range;
    let origin = Origin::new(actor, app.now());
    let trying = app.store.try_out(origin, move |tx| {
        let go = match accounts {
            Accounts::Go => accounts_table::of_peer(tx, name.as_str())?,
            Accounts::Stay => Vec::new(),
        };
        Ok((change::remove(tx, &range, &name, None)?, go))
    });
    let (before, go) = trying.await?;
    let who = Group(vec![before.peer.name.to_string()]);
    let mut view = plan::of(app, before.peer, None, author).await?;
    if !go.is_empty() {
        let each = go.iter().map(|one| format!("{} at {}", one.user, one.service));
        let fact = Fact::AccountsGo(each.collect());
        view.plan = view.plan.and(Statement { who, fact });
    }
    Ok(view)
}

/// What [`set_exit`](super::set_exit) would do.
///
/// # Errors
/// As it, but that netd's refusal is in the plan.
pub async fn plan_exit(
    app: &Arc<App>,
    actor: &Actor,
    name: &str,
    change: ExitChange,
    author: Author,
) -> Result<PlanView, ServiceError> {
    let name = parse_name(name)?;
    let range = cell::identity(app)?.range;
    let origin = Origin::new(actor, app.now());
    let trying = app
        .store
        .try_out(origin, move |tx| exit::make(tx, &range, &name, &change, None));
    let (before, after) = trying.await?;
    plan::of(app, before.peer, Some(after.peer.clone()), author).await
}
