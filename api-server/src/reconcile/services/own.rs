//! Wishes for the services that are part of the cell. One that the broker refuses stands among the services with the reason, and is
//! tried again ever more rarely: nothing is written meanwhile, unless the reason is another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cell_api_core::services::access::Access;
use cell_api_core::services::own::{self, Next};
use cell_api_core::services::phase::Phase;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::step::{self, Retried};
use crate::app::App;
use crate::service::store::{InstallInput, install};
use crate::service::{Actor, ServiceError, catalog};
use crate::store::services::{self as table, StoredService};

/// How long after a refusal it is tried again, at first.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// At last. What an administrator builds is there soon, and nobody waits at a screen for longer.
const LONGEST_RETRY: Duration = Duration::from_secs(600);

/// Runs until `shutdown`.
pub async fn run(app: Arc<App>, shutdown: CancellationToken) {
    if !app.config.core_services {
        return;
    }
    let mut keeper = Keeper {
        app,
        retry_at: Instant::now() + FIRST_RETRY,
        retry_after: FIRST_RETRY,
        told: None,
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = keeper.keep() => {}
    }
}

struct Keeper {
    app: Arc<App>,
    retry_at: Instant,
    retry_after: Duration,
    /// What stood in the log last.
    told: Option<String>,
}

impl Keeper {
    async fn keep(&mut self) {
        self.app.set_up().await;
        let mut wishes = self.app.services.wishes();
        let mut heard = self.app.services.heard();
        let mut losses = heard.borrow().losses;
        loop {
            wishes.borrow_and_update();
            // One that was started anew may have another ceiling.
            let now = heard.borrow_and_update().losses;
            if std::mem::replace(&mut losses, now) != now {
                self.rest();
            }
            let error = self.tend().await.err().map(|error| error.to_string());
            if error != self.told {
                if let Some(error) = &error {
                    tracing::warn!(error, "services of the cell are not installed yet");
                }
                self.told = error;
            }
            tokio::select! {
                _ = wishes.changed() => {}
                _ = heard.changed() => {}
                () = tokio::time::sleep_until(self.retry_at) => {}
            }
        }
    }

    async fn tend(&mut self) -> Result<(), ServiceError> {
        let is_due = Instant::now() >= self.retry_at;
        if is_due {
            self.retry_after = (self.retry_after * 2).min(LONGEST_RETRY);
            self.retry_at = Instant::now() + self.retry_after;
        }
        let (mut lacking, mut first) = (Vec::new(), None);
        loop {
            let phases = self.phases().await?;
            match own::next(&lacking, |id| phases.get(id).copied()) {
                Next::Wait => return first.map_or(Ok(()), Err),
                Next::Install(id) => match wish(&self.app, id).await {
                    Ok(()) => self.rest(),
                    Err(ServiceError::NotInCatalog) => lacking.push(id),
                    // One of them keeps no other back.
                    Err(error) => {
                        lacking.push(id);
                        first = first.or(Some(error));
                    }
                },
                Next::Again(failed) => {
                    if is_due {
                        self.again(&failed).await?;
                    }
                    return first.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// Those that were refused. The first that goes is waited for.
    async fn again(&mut self, failed: &[&'static str]) -> Result<(), ServiceError> {
        for id in failed {
            if self.again_one(id).await? {
                self.rest();
                break;
            }
        }
        Ok(())
    }

    async fn again_one(&self, id: &str) -> Result<bool, ServiceError> {
        let app = &self.app;
        let offer = catalog::find(app, id).await?;
        let service = app.store.read(|connection| table::get(connection, id))?;
        // Another manifest is tried for what it is.
        if offer.digest.as_str() == service.make.digest {
            match step::retry(app, &service).await? {
                Retried::Goes => {}
                Retried::Unknown | Retried::Refused(None) => return Ok(false),
                Retried::Refused(Some(fault)) => {
                    let before = service.fault.as_ref();
                    let is_another =
                        before.is_none_or(|it| (&it.code, &it.message) != (&fault.code, &fault.message));
                    if is_another {
                        step::note_fault(app, service, fault).await?;
                    }
                    return Ok(false);
                }
            }
        }
        let input = as_it_stands(&service);
        install(app, &Actor::cell(), id, input).await?;
        Ok(true)
    }

    /// Something went on: what follows is tried soon.
    fn rest(&mut self) {
        self.retry_after = FIRST_RETRY;
        self.retry_at = Instant::now() + FIRST_RETRY;
    }

    async fn phases(&self) -> Result<BTreeMap<String, Phase>, ServiceError> {
        let all = self.app.store.read_much(table::list).await?.into_iter();
        Ok(all.map(|one| (one.name.to_string(), one.phase)).collect())
    }
}

/// What somebody has set of it stays: it is tried again, and not made anew.
fn as_it_stands(service: &StoredService) -> InstallInput {
    let (everyone, allowed_peers) = match &service.access {
        Access::Everyone => (true, Vec::new()),
        Access::Peers(peers) => (false, peers.iter().cloned().collect()),
    };
    InstallInput {
        instance: service.instance.clone(),
        parameters: service.make.parameters.clone(),
        everyone,
        allowed_peers,
        exit: None,
    }
}

/// One that was never wished for before.
async fn wish(app: &Arc<App>, id: &str) -> Result<(), ServiceError> {
    install(app, &Actor::cell(), id, InstallInput::default())
        .await
        .map(drop)
}
