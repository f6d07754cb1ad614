//! Remote catalogs: looks at each once a day and when somebody asks, and keeps what is sound of it. What an index says counts only when
//! a key of its catalog signed it; whether a service of it is deployed is the broker's to say, by keys of its own.

mod fetch;
mod refresh;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cell_proto::fault::Violation;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::events::Topic;
use crate::service::ServiceError;
use crate::service::catalog::Item;
use crate::store::remote_catalogs as table;

pub use refresh::refresh;

/// Between two looks at one that answered, milliseconds; up to a twelfth of it more or less.
const DAY_MS: i64 = 24 * 3600 * 1000;
/// After a look that failed, milliseconds: twice as long each time, up to the second.
const RETRY_MS: (i64, i64) = (10_000, 3_600_000);
/// How often it is seen which are due, though nothing was told.
const TICK: Duration = Duration::from_secs(30);

/// What moves about remote catalogs, and what they have.
#[derive(Default)]
pub struct Remote {
    state: Mutex<State>,
    /// One look at a time, of whatever catalog: what it fetches is in memory.
    turn: tokio::sync::Mutex<()>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    live: BTreeMap<String, Live>,
    /// Servers that netd does not let the relay to, with why.
    refused: BTreeMap<SocketAddr, String>,
    /// What all of them have, until something changes.
    held: Option<Arc<Vec<Held>>>,
    /// Counts changes: what was read before one is not kept.
    version: u64,
}

/// What moves about one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Live {
    /// Whether it is being fetched.
    pub refreshing: bool,
    /// Manifests that are there of those that the index names.
    pub fetched: u32,
    /// How many it names.
    pub to_fetch: u32,
    /// When it is looked at next, milliseconds since 1970-01-01T00:00:00Z; 0: at once.
    pub next: i64,
    failures: u32,
}

/// What one has.
#[derive(Debug, Clone)]
pub struct Held {
    /// What it is called.
    pub name: String,
    /// In the order of ids.
    pub items: Vec<Item>,
    /// What of its index cannot be used.
    pub faults: Vec<String>,
    /// When its index ends, seconds since 1970-01-01T00:00:00Z.
    pub expires_s: i64,
    /// The keys that may sign it.
    pub keys: Vec<cell_manifest::Key>,
}

impl Remote {
    /// What moves about one.
    pub fn live(&self, name: &str) -> Live {
        self.state().live.get(name).copied().unwrap_or_default()
    }

    /// Something was added or removed: `name` is looked at as if it were new.
    pub(crate) fn changed(&self, name: &str) {
        let mut state = self.state();
        state.live.remove(name);
        state.forget();
        drop(state);
        self.wake.notify_one();
    }

    /// What all of them have, the first that was added first.
    ///
    /// # Errors
    /// [`ServiceError::Storage`].
    pub async fn held(&self, app: &App) -> Result<Arc<Vec<Held>>, ServiceError> {
        let version = {
            let state = self.state();
            if let Some(held) = &state.held {
                return Ok(Arc::clone(held));
            }
            state.version
        };
        let held = Arc::new(app.store.read_much(refresh::held).await?);
        let mut state = self.state();
        if state.version == version {
            state.held = Some(Arc::clone(&held));
        }
        Ok(held)
    }

    /// Servers without those that netd refuses.
    pub(crate) fn allowed(&self, mut servers: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let state = self.state();
        servers.retain(|server| !state.refused.contains_key(server));
        servers
    }

    /// Why netd does not let the relay to a server, if it does not.
    fn refused(&self, server: &SocketAddr) -> Option<String> {
        self.state().refused.get(server).cloned()
    }

    /// What netd says of servers, by their place. Whether it is of them, and news: then it is told without them.
    pub(crate) fn note_refusal(&self, servers: &[SocketAddr], violations: &[Violation]) -> bool {
        let path = "spec.relay_servers";
        let mut state = self.state();
        let before = state.refused.len();
        for Violation { field, description } in violations {
            let Some(rest) = field.strip_prefix(path) else {
                continue;
            };
            let place = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
            let place = place.and_then(|(place, _)| place.parse::<usize>().ok());
            let named = match place {
                Some(place) => servers.get(place..=place).unwrap_or_default(),
                None => servers,
            };
            let refused = named.iter().map(|server| (*server, description.clone()));
            state.refused.extend(refused);
        }
        let is_news = state.refused.len() > before;
        if is_news {
            tracing::warn!(refused = ?state.refused, "netd refuses servers of catalogs");
        }
        is_news
    }

    /// netd may take them now.
    pub(crate) fn forget_refusal(&self) {
        self.state().refused.clear();
    }

    /// Those that are due, and when the next one is.
    fn due(&self, names: &[String], now: i64) -> Vec<String> {
        let mut state = self.state();
        state.live.retain(|name, _| names.contains(name));
        let is_due = |name: &&String| {
            let next = state.live.get(*name).map_or(0, |live| live.next);
            // A clock that was set back does not make one wait for longer than ever.
            next <= now || next - now > 2 * DAY_MS
        };
        names.iter().filter(is_due).cloned().collect()
    }

    fn set(&self, name: &str, change: impl FnOnce(&mut Live)) {
        change(self.state().live.entry(name.to_owned()).or_default());
    }

    /// A look is over: when the next one is.
    fn over(&self, name: &str, succeeded: bool, now: i64, random: u8) {
        let mut state = self.state();
        let live = state.live.entry(name.to_owned()).or_default();
        live.refreshing = false;
        live.failures = if succeeded {
            0
        } else {
            live.failures.saturating_add(1)
        };
        live.next = now + pause(live.failures, random);
        state.forget();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self) {
        self.version += 1;
        self.held = None;
    }
}

/// Until the next look, milliseconds. A day is spread by `random`, so that cells do not ask in step.
fn pause(failures: u32, random: u8) -> i64 {
    match failures {
        0 => DAY_MS - DAY_MS / 12 + (DAY_MS / 6) * i64::from(random) / 255,
        failed => (RETRY_MS.0 << (failed - 1).min(12)).min(RETRY_MS.1),
    }
}

/// Looks at those that are due, until `shutdown`.
pub async fn run(app: Arc<App>, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = keep(&app) => {}
    }
}

async fn keep(app: &Arc<App>) {
    app.set_up().await;
    recall(app).await;
    loop {
        let names = app.store.read_much(table::list).await.unwrap_or_default();
        let names: Vec<String> = names.into_iter().map(|one| one.name).collect();
        for name in app.remote.due(&names, app.now()) {
            if let Err(error) = refresh(app, &name).await {
                tracing::warn!(%error, name, "a remote catalog was not looked at");
            }
        }
        tokio::select! {
            () = app.remote.wake.notified() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// After a start those that were looked at within a day wait for the rest of it; those whose last look failed do not.
async fn recall(app: &App) {
    for stored in app.store.read_much(table::list).await.unwrap_or_default() {
        if stored.error.is_empty() && stored.refreshed > 0 {
            let next = stored.refreshed + pause(0, random());
            app.remote.set(&stored.name, |live| live.next = next);
        }
    }
}

fn random() -> u8 {
    let mut random = [0];
    // Without randomness they are in step, and no harm is done.
    let _ = getrandom::fill(&mut random);
    random[0]
}

/// Tells whoever shows catalogs.
fn told(app: &App) {
    app.events.publish([Topic::Services]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_failed_is_soon_made_again_and_a_sound_one_in_a_day() {
        assert_eq!(pause(1, 9), 10_000);
        assert_eq!(pause(2, 9), 20_000);
        assert_eq!((pause(20, 9), pause(u32::MAX, 9)), (RETRY_MS.1, RETRY_MS.1));
        let hour = 3_600_000;
        assert_eq!((pause(0, 0), pause(0, 255)), (22 * hour, 26 * hour));
    }

    #[test]
    fn what_netd_refuses_is_left_out_by_its_place() {
        let remote = Remote::default();
        let servers: Vec<SocketAddr> = ["10.0.0.9:443", "192.0.2.1:443"]
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect();
        let fault = |field: &str| vec![Violation::new(field, "is inside")];
        assert!(!remote.note_refusal(&servers, &fault("spec.peers[0]")));
        assert!(remote.note_refusal(&servers, &fault("spec.relay_servers[0]")));
        assert!(
            !remote.note_refusal(&servers, &fault("spec.relay_servers[0]")),
            "known"
        );
        assert_eq!(remote.allowed(servers.clone()), servers[1..]);
        assert_eq!(remote.refused(&servers[0]).as_deref(), Some("is inside"));
        assert!(
            remote.note_refusal(&servers, &fault("spec.relay_servers")),
            "all of them"
        );
        assert!(remote.allowed(servers.clone()).is_empty());
        remote.forget_refusal();
        assert_eq!(remote.allowed(servers.clone()), servers);
    }
}
