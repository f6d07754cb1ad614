//! Watches how services are: writes transitions down, and raises and clears alerts. What is one is the core's to say
//! (`cell_api_core::services::health`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cell_api_core::services::entry::PROXY;
use cell_api_core::services::health::{self, Alert, Kind, Severity, State, Wanted, Watched};
use cell_api_core::services::phase::Phase;
use cell_proto::common::v1::{Condition, ConditionStatus};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::events::Topic;
use crate::service::ServiceError;
use crate::services::{Waiting, Watched as Told};
use crate::store::managers as table;
use crate::store::services::{self, StoredService};

/// How often is looked though nothing is heard.
const INTERVAL: Duration = Duration::from_secs(30);
/// How long the broker may take to name what was installed.
const NAMING: Duration = Duration::from_secs(2);
/// How often at most while something may become worth telling.
const SOON: Duration = Duration::from_secs(1);
/// How long the broker may be away before nothing counts as known any more: a restart of it is no news of services.
const GRACE: Duration = Duration::from_secs(20);
/// CoreDNS' manifest.
const NAMES: &str = "coredns";

/// Runs until `shutdown`.
pub async fn run(app: Arc<App>, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = watch(app) => {}
    }
}

async fn watch(app: Arc<App>) {
    app.set_up().await;
    let mut watcher = Watcher {
        watched: BTreeMap::new(),
        seen: None,
        heard: Instant::now(),
        unnamed: BTreeMap::new(),
        app,
    };
    if let Err(error) = watcher.recall() {
        tracing::warn!(%error, "how services were cannot be read");
    }
    watcher.keep().await;
}

struct Watcher {
    app: Arc<App>,
    watched: BTreeMap<String, Watched>,
    /// What the broker told last; none: nothing, or nothing for long.
    seen: Told,
    heard: Instant,
    /// Since when the broker does not name services that are installed: it tells what it has made a moment later.
    unnamed: BTreeMap<String, Instant>,
}

impl Watcher {
    /// What was written down before a start is no transition.
    fn recall(&mut self) -> Result<(), ServiceError> {
        let last = self.app.store.read(|connection| Ok(table::last(connection)?))?;
        self.watched = last
            .into_iter()
            .filter_map(|(service, (state, at))| Some((service, Watched::since(State::parse(&state)?, at))))
            .collect();
        Ok(())
    }

    async fn keep(&mut self) {
        let app = Arc::clone(&self.app);
        let (mut changes, mut told) = (app.events.watch(), app.services.watched());
        loop {
            let now = told.borrow_and_update().clone();
            let is_watched = now.is_some();
            self.hear(now);
            let before = *changes.borrow_and_update();
            let is_ours = |now: &crate::events::Versions| {
                [Topic::Services, Topic::Status]
                    .iter()
                    .any(|topic| now.of(*topic) != before.of(*topic))
            };
            let mut pause = self.look().await;
            if !is_watched && self.seen.is_some() {
                // It is away, and may not be back in time.
                pause = pause.min(SOON);
            }
            tokio::select! {
                // Whoever tells lives as long as this.
                _ = told.changed() => {}
                _ = changes.wait_for(is_ours) => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Takes what the broker tells. While it is away what it told last counts, for a while.
    fn hear(&mut self, now: Told) {
        match now {
            Some(now) => {
                self.seen = Some(now);
                self.heard = Instant::now();
            }
            None if self.heard.elapsed() >= GRACE => self.seen = None,
            None => {}
        }
    }

    /// Takes note of how all services are; how long until the next look.
    async fn look(&mut self) -> Duration {
        match self.see().await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "how services are was not written down");
                INTERVAL
            }
        }
    }

    async fn see(&mut self) -> Result<Duration, ServiceError> {
        let (app, now) = (Arc::clone(&self.app), self.app.now());
        // Before the first word of the broker's there is nothing to judge by; later none is one.
        if self.seen.is_none() && self.heard.elapsed() < GRACE {
            return Ok(SOON);
        }
        let all = app.store.read_much(services::list).await?;
        self.watched
            .retain(|name, _| all.iter().any(|service| service.name.as_str() == name));
        let (mut transitions, mut due, mut pause) = (Vec::new(), Vec::new(), INTERVAL);
        for service in &all {
            let name = service.name.as_str();
            if self.is_yet_to_be_named(service) {
                pause = pause.min(SOON);
                continue;
            }
            let refusal = app.services.netd_refuses(name);
            let wanted = wanted(service, refusal.as_deref());
            let containers = self
                .seen
                .as_ref()
                .map(|seen| seen.get(name).map_or(&[][..], Vec::as_slice));
            let watched = self.watched.entry(name.to_owned()).or_default();
            if app.services.take_asked(name) {
                watched.was_asked_for();
            }
            let transition = watched.see(&wanted, containers, now);
            transitions.extend(transition.map(|transition| (name.to_owned(), transition)));
            due.extend(health::alerts(name, &wanted, watched, now));
            due.extend(
                app.services
                    .trouble(name)
                    .map(|trouble| without_certificate(name, &trouble)),
            );
            if let Some(left) = watched.look_in(now) {
                let left = Duration::from_millis(u64::try_from(left).unwrap_or_default());
                pause = pause.min(left).min(SOON);
            }
        }
        for alert in told(&app.published.conditions(&app.config)) {
            // Of one kind a service has one alert; what is stored with it says more.
            if !due
                .iter()
                .any(|one| one.service == alert.service && one.kind == alert.kind)
            {
                due.push(alert);
            }
        }
        self.write(transitions, due, now).await?;
        Ok(pause.max(Duration::from_millis(50)))
    }

    /// Whether the broker has not named an installed service for a moment only.
    fn is_yet_to_be_named(&mut self, service: &StoredService) -> bool {
        let name = service.name.as_str();
        let is_named = self.seen.as_ref().is_none_or(|seen| seen.contains_key(name));
        if is_named || service.phase != Phase::Installed {
            self.unnamed.remove(name);
            return false;
        }
        let since = self.unnamed.entry(name.to_owned()).or_insert_with(Instant::now);
        since.elapsed() < NAMING
    }

    async fn write(
        &self,
        transitions: Vec<(String, health::Transition)>,
        due: Vec<Alert>,
        now: i64,
    ) -> Result<(), ServiceError> {
        let has_transitions = !transitions.is_empty();
        let is_news = self
            .app
            .store
            .jot(move |connection| {
                for (service, transition) in &transitions {
                    table::note(connection, service, transition, now)?;
                }
                table::set_alerts(connection, &due, now)
            })
            .await?;
        if is_news || has_transitions {
            self.app.events.publish([Topic::Alerts]);
        }
        Ok(())
    }
}

fn wanted<'a>(service: &'a StoredService, refusal: Option<&'a str>) -> Wanted<'a> {
    let fault = service.fault.as_ref();
    let fault = fault.map(|fault| (fault.code.as_str(), fault.message.as_str()));
    Wanted {
        phase: service.phase,
        stopped: service.stopped,
        fault: fault.or(refusal.map(|why| ("NETWORK_REFUSED", why))),
    }
}

/// A service that speaks TLS itself has no certificate, or not the next one.
fn without_certificate(service: &str, trouble: &Waiting) -> Alert {
    Alert {
        service: service.to_owned(),
        kind: Kind::Certificate,
        severity: Severity::Warning,
        text: format!("{service}: {} ({})", trouble.message, trouble.code),
    }
}

/// What CoreDNS and Caddy do not have.
fn told(conditions: &[Condition]) -> Vec<Alert> {
    let wrong = conditions
        .iter()
        .filter(|condition| condition.status() == ConditionStatus::False);
    let alert = |condition: &Condition| {
        let service = match condition.r#type.as_str() {
            "DnsServed" => NAMES,
            _ => PROXY,
        };
        let kind = match condition.reason.contains("CERTIFICATE") {
            true => Kind::Certificate,
            false => Kind::Told,
        };
        Alert {
            service: service.to_owned(),
            kind,
            severity: Severity::Warning,
            text: format!("{service}: {} ({})", condition.message, condition.reason),
        }
    };
    wrong.map(alert).collect()
}
