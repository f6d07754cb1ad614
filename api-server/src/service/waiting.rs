//! The change of the network that waits for its confirmation: shown, kept, taken back.

use cell_api_core::waiting::over_the_path;
use cell_proto::netd::v1::NetworkRollback;

use super::{Actor, ServiceError, cell};
use crate::app::App;
use crate::events::Topic;
use crate::store::transaction::{NetworkChange, Origin};
use crate::store::waiting::{self as table, Action, Wait, Waiting};
use std::time::Duration;

/// As long as other changes wait for netd.
const PATIENCE: Duration = Duration::from_secs(2);

/// What there is to say.
#[derive(Debug)]
pub struct WaitingView {
    /// The change that waits.
    pub waiting: Option<Waiting>,
    /// netd's last rollback, while netd remembers it.
    pub last_rollback: Option<NetworkRollback>,
}

/// What waits.
///
/// # Errors
/// [`ServiceError::SetupRequired`], [`ServiceError::Storage`].
pub fn view(app: &App) -> Result<WaitingView, ServiceError> {
    cell::identity(app)?;
    Ok(WaitingView {
        waiting: app.store.read(table::get)?,
        last_rollback: app.network.status().and_then(|status| status.last_rollback),
    })
}

/// That a change can wait at all: the timer is netd's, and the state that comes back is the one that netd has now.
///
/// # Errors
/// [`ServiceError::Unreachable`].
pub fn ready(app: &App) -> Result<(), ServiceError> {
    match app.network.etag() {
        Some(_) => Ok(()),
        None => Err(ServiceError::Unreachable("netd")),
    }
}

/// That netd has taken the change that was just made as `generation`.
///
/// # Errors
/// [`ServiceError::NotApplied`] when it was put back already.
pub fn applied(app: &App, wait: Option<&Wait>, generation: u64) -> Result<(), ServiceError> {
    // What changes nothing for netd is in force at once, and has nothing to wait for.
    let stands = || app.network.was_kept(generation);
    if wait.is_none() || stands() || app.store.read(|connection| Ok(table::any(connection)?))? {
        return Ok(());
    }
    Err(ServiceError::NotApplied)
}

/// Keeps the change for good. `by_vpn`: whether the caller came by the VPN.
///
/// # Errors
/// [`ServiceError::NotPending`], [`ServiceError::ConfirmPath`], [`ServiceError::Unreachable`].
pub async fn confirm(app: &App, actor: &Actor, by_vpn: bool) -> Result<(), ServiceError> {
    cell::identity(app)?;
    let _held = app.change_settling.lock().await;
    let waiting = app.store.read(table::get)?.ok_or(ServiceError::NotPending)?;
    let Wait {
        remote,
        by_vpn: author_by_vpn,
        ..
    } = &waiting.wait;
    if !over_the_path((*author_by_vpn, remote), (by_vpn, &actor.remote)) {
        return Err(ServiceError::ConfirmPath);
    }
    let sent = waiting.sent.ok_or(ServiceError::NotPending)?;
    app.confirmer.confirm(sent.etag).await?;
    let Waiting { subject, action, .. } = waiting;
    // What was removed meanwhile went its own way; differences need a state to be made against again. After a change of the whole the
    // relay of DNS is told the whole, too.
    let apply_all = app.network.etag().is_none() || !action.is_of_peer();
    app.store
        .mutate(Origin::new(actor, app.now()), move |tx| {
            table::end(tx)?;
            tx.audit("network.confirm", &subject, "");
            if apply_all {
                tx.network(NetworkChange::All);
            }
            tx.effects.topics.insert(Topic::Status);
            Ok(())
        })
        .await
}

/// Takes the change back.
///
/// # Errors
/// [`ServiceError::NotPending`], [`ServiceError::Unreachable`].
pub async fn roll_back(app: &App, actor: &Actor) -> Result<(), ServiceError> {
    cell::identity(app)?;
    let held = app.change_settling.lock().await;
    let waiting = app.store.read(table::get)?.ok_or(ServiceError::NotPending)?;
    let sent = waiting.sent.clone().ok_or(ServiceError::NotPending)?;
    match app.confirmer.roll_back(sent.etag).await {
        // It took it back by itself meanwhile; what is written down follows either way.
        Ok(()) | Err(ServiceError::NotPending) => {}
        Err(error) => return Err(error),
    }
    let generation = put_back(app, actor, waiting, "asked for").await?;
    drop(held);
    app.network.wait_for(generation, PATIENCE).await;
    Ok(())
}

/// Puts what is written down back to what it was before the change. The caller holds `change_settling`, and netd does not
/// have the change.
///
/// # Errors
/// [`ServiceError::Storage`].
pub(crate) async fn put_back(
    app: &App,
    actor: &Actor,
    waiting: Waiting,
    why: &'static str,
) -> Result<u64, ServiceError> {
    let range = cell::identity(app)?.range;
    let ((), generation) = app
        .store
        .commit(Origin::new(actor, app.now()), move |tx| {
            table::restore(tx, &range, &waiting)?;
            table::end(tx)?;
            let change = match waiting.action {
                Action::Update => "its change",
                Action::Delete => "its removal",
                Action::ServiceExit => "its other way to the internet",
                Action::Import => "the binding of devices",
            };
            tx.audit(
                "network.rollback",
                &waiting.subject,
                format!("{change} was taken back: {why}"),
            );
            tx.network(NetworkChange::All);
            tx.effects.topics.extend([Topic::Peers, Topic::Status]);
            if !waiting.action.is_of_peer() {
                tx.effects.topics.extend([Topic::Services, Topic::Connections]);
            }
            Ok(())
        })
        .await?;
    Ok(generation)
}
