//! What a change of a peer would do. The change itself is made and taken back, so that what would be refused is refused.

use std::sync::Arc;

use cell_api_core::peer::PeerUpdateInput;

use super::change::{self, Update};
use super::exit::{self, ExitChange};
use super::parse_name;
use crate::app::App;
use crate::service::plan::{self, Author, PlanView};
use crate::service::{Actor, ServiceError, cell};
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
) -> Result<PlanView, ServiceError> {
    let name = parse_name(name)?;
    let range = cell::identity(app)?.range;
    let origin = Origin::new(actor, app.now());
    let trying = app
        .store
        .try_out(origin, move |tx| change::remove(tx, &range, &name, None));
    let before = trying.await?;
    plan::of(app, before.peer, None, author).await
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
