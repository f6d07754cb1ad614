//! Brings accounts at services to what is written down: what is half made is taken back, what is to go is removed, and what a service
//! has of its own from before, such as of its data that outlived it, is known again.

mod turns;

pub use turns::Turns;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cell_api_core::services::accounts::{Stands, User};
use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::events::Topic;
use crate::service::accounts::{Place, interface};
use crate::service::{Actor, ServiceError};
use crate::store::accounts::{self as table, StoredAccount};
use crate::store::services;
use crate::store::transaction::Origin;

/// How often it is looked, though nothing was told.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long after something could not be done.
const RETRY: Duration = Duration::from_secs(2);
/// At how many services at once something is brought to its end: one that hangs keeps no other waiting.
const AT_ONCE: usize = 8;
/// Most accounts that are known of one service.
const MOST_OF_SERVICE: usize = 512;
/// How many names one record of the audit log has.
const NAMED: usize = 10;
/// How much longer each time, up to the interval.
const SLOWER: u32 = 2;

/// Runs until `shutdown`.
pub async fn run(app: Arc<App>, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = keep(&app) => {}
    }
}

async fn keep(app: &App) {
    app.set_up().await;
    let mut changes = app.events.watch();
    let (mut known, mut retry) = (BTreeSet::new(), RETRY);
    loop {
        let seen = *changes.borrow_and_update();
        let pause = match tend(app, &mut known).await {
            Ok(true) => {
                retry = RETRY;
                INTERVAL
            }
            Ok(false) | Err(_) => {
                let pause = retry;
                retry = (retry * SLOWER).min(INTERVAL);
                pause
            }
        };
        let is_ours = |now: &crate::events::Versions| now.of(Topic::Services) != seen.of(Topic::Services);
        tokio::select! {
            _ = changes.wait_for(is_ours) => {}
            () = app.accounts_left.notified() => known.clear(),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Whether nothing is left to do. `known` are services whose accounts were compared since they were installed.
async fn tend(app: &App, known: &mut BTreeSet<String>) -> Result<bool, ServiceError> {
    let (accounts, all) = app
        .store
        .read_much(|connection| Ok((table::list(connection)?, services::list_in_force(connection)?)))
        .await?;
    let there: Vec<String> = all
        .iter()
        .filter(|(service, _)| service.phase.is_open())
        .filter(|(service, kept)| interface(app, service, &kept.manifest).is_some())
        .map(|(service, _)| service.name.to_string())
        .collect();
    known.retain(|service| there.contains(service));
    let open = |service: &String| -> Vec<StoredAccount> {
        let begun = accounts.iter().filter(|one| one.stands != Stands::Made);
        begun.filter(|one| one.service == *service).cloned().collect()
    };
    let each: Vec<_> = there
        .into_iter()
        .map(|service| {
            let (open, is_compared) = (open(&service), known.contains(&service));
            tend_one(app, service, open, is_compared)
        })
        .collect();
    let tended: Vec<(String, bool, bool)> = stream::iter(each).buffer_unordered(AT_ONCE).collect().await;
    let mut is_done = true;
    for (service, is_settled, is_compared) in tended {
        is_done &= is_settled && is_compared;
        if is_compared {
            known.insert(service);
        }
    }
    Ok(is_done)
}

/// One service: whether all that was begun there is at its end, and whether its accounts are compared.
async fn tend_one(
    app: &App,
    service: String,
    open: Vec<StoredAccount>,
    is_compared: bool,
) -> (String, bool, bool) {
    for account in &open {
        // Where one cannot be done now the others cannot either.
        if !settle(app, account).await {
            return (service, false, is_compared);
        }
    }
    if is_compared {
        return (service, true, true);
    }
    let compared = compare(app, &service).await;
    if let Err(error) = &compared {
        tracing::debug!(service, %error, "its accounts cannot be looked at");
    }
    (service, true, compared.is_ok())
}

/// Ends what somebody began, unless somebody is at it.
async fn settle(app: &App, account: &StoredAccount) -> bool {
    let Ok(_turn) = app.account_turns.take(&account.service).await else {
        return false;
    };
    let StoredAccount { service, user, .. } = account;
    let now = app
        .store
        .read(|connection| table::find(connection, service, user.as_str()));
    match now {
        Ok(Some(now)) if now.stands != Stands::Made => remove(app, service, user).await.is_ok(),
        Ok(Some(_) | None) => true,
        Err(_) => false,
    }
}

/// Takes back what was not made whole; what cannot be now is done later.
pub(crate) async fn take_back(app: &App, service: &str, user: &User) {
    if let Err(error) = remove(app, service, user).await {
        tracing::warn!(service, %error, "a half-made account is left for later");
        app.accounts_left.notify_one();
    }
}

/// Removes an account at its service, and then from the table.
///
/// # Errors
/// The service's: the account stays written down.
pub(crate) async fn remove(app: &App, service: &str, user: &User) -> Result<(), ServiceError> {
    let place = Place::of(app, service)?;
    place.at.delete(user).await.map_err(|fault| place.fault(fault))?;
    let (service, user) = (service.to_owned(), user.clone());
    app.store
        .jot(move |connection| Ok(table::forget(connection, &service, &user)?))
        .await?;
    app.events.publish([Topic::Services]);
    Ok(())
}

/// The service's file is what accounts are: what the cell does not know it learns, and what is not there it forgets.
async fn compare(app: &App, service: &str) -> Result<(), ServiceError> {
    let _turn = app.account_turns.take(service).await?;
    let place = Place::of(app, service)?;
    let there = place.at.list().await.map_err(|fault| place.fault(fault))?;
    let sought = service.to_owned();
    let stored = app
        .store
        .read(|connection| table::of_service(connection, &sought))?;
    let ours: BTreeSet<&User> = stored.iter().map(|one| &one.user).collect();
    // A service says what it likes: what is over the bound stays unknown here, and can be removed at the service alone.
    let room = MOST_OF_SERVICE.saturating_sub(stored.len());
    let learnt: Vec<User> = there
        .iter()
        .filter(|user| !ours.contains(user))
        .take(room)
        .cloned()
        .collect();
    let lost: Vec<User> = stored
        .iter()
        .filter(|one| one.stands == Stands::Made && !there.contains(&one.user))
        .map(|one| one.user.clone())
        .collect();
    if learnt.is_empty() && lost.is_empty() {
        return Ok(());
    }
    app.store
        .mutate(Origin::new(&Actor::cell(), app.now()), move |tx| {
            if !lost.is_empty() {
                tx.audit("account.gone", &sought, of_many(&lost, "it has no more"));
            }
            if !learnt.is_empty() {
                tx.audit("account.found", &sought, of_many(&learnt, "it has from before"));
            }
            for user in lost {
                table::forget(tx, &sought, &user)?;
            }
            for user in learnt {
                let account = StoredAccount {
                    service: sought.clone(),
                    peer: None,
                    stands: Stands::Made,
                    created_unix_ms: tx.now(),
                    user,
                };
                table::insert(tx, &account)?;
            }
            tx.effects.topics.insert(Topic::Services);
            Ok(())
        })
        .await
}

/// One record for all, with as many names as people read.
fn of_many(users: &[User], what: &str) -> String {
    let names: Vec<&str> = users.iter().take(NAMED).map(User::as_str).collect();
    match users.len().saturating_sub(NAMED) {
        0 => format!("{what}: {}", names.join(", ")),
        more => format!("{what}: {} and {more} more", names.join(", ")),
    }
}
