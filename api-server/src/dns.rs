//! Keeps the DNS relay of `cell-egress` in step with netd: who is bound to an exit asks through it before its packets go
//! there, and until they do not any more ([`before`]).

mod refused;
mod whole;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use cell_api_core::derive::dns::{self, DnsSpec, ExitDns, Way, Ways, before};
use cell_api_core::derive::exits::ExitSpec;
use cell_api_core::derive::services;
use cell_api_core::derive::{NetworkSpec, PeerSpec};
use cell_proto::common::v1::{Condition, ConditionStatus};
use cell_proto::fault::Violation;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::daemons::egress::{EgressClient, EgressError};
use crate::events::Topic;
use crate::service::published;

use refused::{Refusal, bound_port_refused, refused_by_netd};

/// How often it is looked whether the relay still has what it was told.
const INTERVAL: Duration = Duration::from_secs(3);

/// What the relay is to go by, and what became of it.
#[derive(Debug, Default)]
pub struct Dns {
    wanted: StdMutex<Wanted>,
    /// What the relay was told last, as a whole.
    has: Mutex<Option<Has>>,
    said: StdMutex<Said>,
    wake: Notify,
    /// What netd does not take, where its ceiling is without DNS or from before.
    refused_by_netd: StdMutex<Option<Refusal>>,
}

/// What the relay goes by.
#[derive(Debug)]
struct Has {
    /// As it was told, though it may have left something out.
    spec: DnsSpec,
    /// As it names that.
    revision: u64,
}

#[derive(Debug, Default)]
struct Wanted {
    ways: Ways,
    exits: Vec<ExitSpec>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Said {
    /// Nothing yet.
    #[default]
    Nothing,
    Took,
    /// It took all but these, with its words.
    TookAllBut(String),
    NoRelay,
    Away,
}

/// Status, reason and message of a condition.
type Told = (ConditionStatus, &'static str, String);

impl Said {
    fn condition(self) -> Told {
        use ConditionStatus::{False, True, Unknown};
        match self {
            Said::Nothing => (Unknown, "NOT_TOLD", "it has not been told of DNS yet".to_owned()),
            Said::Took => (True, "ACCEPTED", "it goes by all that it was told".to_owned()),
            Said::TookAllBut(words) => (
                False,
                "REFUSED",
                format!("it does not take all that it was told: {words}"),
            ),
            Said::NoRelay => (
                False,
                "NO_DNS",
                "it has no DNS relay: give egress.toml the table [dns]".to_owned(),
            ),
            Said::Away => (Unknown, "AWAY", "it does not answer".to_owned()),
        }
    }
}

/// The ways of peers whom netd is told of.
pub(crate) fn ways_of<'a>(peers: impl IntoIterator<Item = &'a PeerSpec>) -> Ways {
    let way = |peer: &PeerSpec| Way {
        addresses: peer.addresses.into(),
        exit: peer.asks,
    };
    peers
        .into_iter()
        .map(|peer| (peer.name.clone(), way(peer)))
        .collect()
}

/// The ways of peers and the exits of a whole specification.
pub(crate) fn all_of(spec: &NetworkSpec) -> (Ways, Vec<ExitSpec>) {
    let services = spec
        .services
        .iter()
        .map(|one| (services::asker(one), services::way(one)));
    let ways = ways_of(&spec.peers).into_iter().chain(services);
    (ways.collect(), spec.exits.clone())
}

impl Dns {
    /// Before netd hears of a difference. Costs what it changes, where the relay knows the peers and their exits.
    pub(crate) async fn before_some(&self, app: &App, upserted: &Ways) {
        let (is_binding, now) = {
            let mut wanted = self.wanted();
            let of_them = upserted.keys().filter_map(|name| wanted.ways.get_key_value(name));
            let had: Ways = of_them.map(|(name, way)| (name.clone(), way.clone())).collect();
            let now = before(&had, upserted);
            wanted.ways.extend(now.clone());
            (binds(&had, upserted), now)
        };
        if !is_binding {
            return;
        }
        match self.lead(app, &now).await {
            Led::Is => {}
            // Without a port of the bound the table alone keeps them from asking directly: it is waited for as long as for everything.
            Led::Away if !self.is_bound_port_refused() => {}
            Led::Away | Led::NotAlone => self.tell(app).await,
        }
    }

    /// After netd took it.
    pub(crate) fn after_some(&self, upserted: Ways, removed: &[String]) {
        let has_it = removed.is_empty() && self.has_already(&upserted);
        let mut wanted = self.wanted();
        wanted.ways.extend(upserted);
        for name in removed {
            wanted.ways.remove(name);
        }
        drop(wanted);
        if !has_it {
            self.wake.notify_one();
        }
    }

    /// Before netd hears of everything.
    pub(crate) async fn before_all(&self, app: &App, (ways, exits): &(Ways, Vec<ExitSpec>)) {
        let is_binding = {
            let mut wanted = self.wanted();
            let is_binding = binds(&wanted.ways, ways);
            wanted.ways = before(&wanted.ways, ways);
            let new: BTreeSet<_> = exits.iter().map(|exit| exit.id).collect();
            wanted.exits.retain(|exit| !new.contains(&exit.id));
            wanted.exits.extend(exits.iter().cloned());
            is_binding
        };
        if is_binding {
            self.tell(app).await;
        }
    }

    /// After netd took it.
    pub(crate) fn after_all(&self, (ways, exits): (Ways, Vec<ExitSpec>)) {
        *self.wanted() = Wanted { ways, exits };
        self.wake.notify_one();
    }

    /// Whether netd refused the ports of DNS or the resolvers: then it is told of neither.
    pub(crate) fn is_refused_by_netd(&self) -> bool {
        matches!(*self.refused(), Some(Refusal::All(_)))
    }

    /// Whether netd refused the port of whoever is bound alone: then all ask at one.
    pub(crate) fn is_bound_port_refused(&self) -> bool {
        matches!(*self.refused(), Some(Refusal::BoundPort(_)))
    }

    /// What netd says of the whole. Whether it is of DNS, and news. That it does without the port of the bound is for its ceiling alone to
    /// say (`is_above`).
    pub(crate) fn note_refusal(&self, violations: &[Violation], is_above: bool) -> bool {
        let Some(refusal) = Refusal::of(violations, is_above) else {
            return false;
        };
        let mut refused = self.refused();
        if !refusal.is_news_after(refused.as_ref()) {
            return false;
        }
        tracing::warn!(?refusal, "netd refuses DNS, or a part of it");
        *refused = Some(refusal);
        true
    }

    /// What the relay is to be told of may be another, though netd is not concerned.
    pub(crate) fn again(&self) {
        self.wake.notify_one();
    }

    /// netd may take it now: its ceiling may be another, or the resolvers.
    pub(crate) fn forget_refusal(&self) {
        *self.refused() = None;
    }

    fn refused(&self) -> MutexGuard<'_, Option<Refusal>> {
        self.refused_by_netd
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the relay was told of these ways as they are; while it is being told something, that is not known.
    fn has_already(&self, ways: &Ways) -> bool {
        let Ok(has) = self.has.try_lock() else {
            return false;
        };
        let led = has.as_ref().and_then(|has| dns::led(&has.spec, ways));
        led.is_some_and(|led| led.is_empty())
    }

    /// Tells the relay of these ways alone, where it has the exits as they are.
    async fn lead(&self, app: &App, ways: &Ways) -> Led {
        let Some(egress) = &app.egress else {
            return Led::NotAlone;
        };
        let mut has = self.has.lock().await;
        let exits = self.exits(app);
        let known = has
            .as_mut()
            .filter(|known| exits.as_ref() == Some(&known.spec.exits));
        let Some((led, known)) = known.and_then(|known| Some((dns::led(&known.spec, ways)?, known))) else {
            return Led::NotAlone;
        };
        let led = known.lead(egress, led).await;
        if led == Led::Away {
            *has = None;
            drop(has);
            self.say(app, Said::Away);
        }
        led
    }

    /// Tells the relay, unless it has it: all of it, or whom it is to lead another way where that is all.
    async fn tell(&self, app: &App) {
        let Some(egress) = &app.egress else { return };
        let mut has = self.has.lock().await;
        let Some(wanted) = self.spec(app) else { return };
        if let Some(known) = has.as_mut()
            && let Some(led) = dns::led_alone(&known.spec, &wanted)
        {
            match known.lead(egress, led).await {
                Led::Is => return,
                Led::NotAlone => {}
                // Whoever waits is not to wait for it twice.
                Led::Away => {
                    *has = None;
                    drop(has);
                    return self.say(app, Said::Away);
                }
            }
        }
        *has = None;
        let said = match whole::apply(egress, wanted.clone()).await {
            Ok((left_out, revision)) => {
                let spec = wanted;
                *has = Some(Has { spec, revision });
                if left_out.is_empty() {
                    Said::Took
                } else {
                    Said::TookAllBut(left_out.into_values().collect::<Vec<_>>().join("; "))
                }
            }
            Err(EgressError::NoDns) => Said::NoRelay,
            Err(EgressError::Away | EgressError::OtherDns) => Said::Away,
            Err(EgressError::Refuses(faults)) => Said::TookAllBut(words(&faults)),
        };
        drop(has);
        self.say(app, said);
    }

    /// The exits as they are to be told; none: the cell is not set up.
    fn exits(&self, app: &App) -> Option<Vec<ExitDns>> {
        let cell = app.identity()?;
        Some(dns::exits(&self.wanted().exits, &cell.dns_upstreams))
    }

    fn spec(&self, app: &App) -> Option<DnsSpec> {
        let cell = app.identity()?;
        let wanted = self.wanted();
        let exits = dns::exits(&wanted.exits, &cell.dns_upstreams);
        let ways = wanted.ways.clone();
        let spec = dns::spec(
            &cell.cell_name,
            cell.domain.public().map(|public| &public.domain),
            &cell.range,
            &cell.dns_upstreams,
            exits,
            ways,
        );
        Some(DnsSpec {
            authority: published::authority(app),
            ..spec
        })
    }

    /// One that was started anew between two looks goes by nothing.
    async fn forget_if_lost(&self, egress: &EgressClient) {
        let mut has = self.has.lock().await;
        let Some(known) = has.as_ref() else { return };
        let goes_by = egress.dns_status().await.map(|status| status.revision);
        if !goes_by.is_ok_and(|revision| revision != 0 && revision == known.revision) {
            *has = None;
        }
    }

    fn say(&self, app: &App, said: Said) {
        let mut before = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *before != said {
            tracing::info!(?said, "what cell-egress says of DNS");
            *before = said;
            drop(before);
            app.events.publish([Topic::Status]);
        }
    }

    /// As conditions of `cell-egress`: whether the relay goes by what it was told, and whether it is asked apart by whoever is bound.
    pub fn conditions(&self) -> Vec<Condition> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (accepted, of_bound) = match &*self.refused() {
            Some(Refusal::All(words)) => (refused_by_netd(words), None),
            Some(Refusal::BoundPort(words)) => (said.condition(), Some(bound_port_refused(words))),
            None => (said.condition(), None),
        };
        let named = [("DnsAccepted", Some(accepted)), ("DnsBoundApart", of_bound)];
        let told = named.into_iter().filter_map(|(name, told)| Some((name, told?)));
        told.map(|(name, (status, reason, message))| Condition {
            r#type: name.to_owned(),
            status: status.into(),
            reason: reason.to_owned(),
            message,
            last_transition_unix_ms: 0,
        })
        .collect()
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Has {
    /// Most peers that are led at once; more of them are told of with everything.
    const LED_MAX: usize = 300;

    /// Has it lead these another way.
    async fn lead(&mut self, egress: &EgressClient, ways: Ways) -> Led {
        if ways.is_empty() {
            return Led::Is;
        }
        if self.revision == 0 || ways.len() > Self::LED_MAX {
            return Led::NotAlone;
        }
        match egress.lead_peers(self.revision, &ways).await {
            Ok(revision) => {
                self.revision = revision;
                self.spec.peers.extend(ways);
                Led::Is
            }
            Err(EgressError::Away) => Led::Away,
            Err(EgressError::OtherDns | EgressError::NoDns | EgressError::Refuses(_)) => Led::NotAlone,
        }
    }
}

/// What became of peers that were to be led another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Led {
    /// They are.
    Is,
    /// It has to be told everything.
    NotAlone,
    /// It does not answer.
    Away,
}

/// Whether somebody gets another exit. The relay hears of that before netd; nothing that is taken away is held up by it.
fn binds(had: &Ways, will: &Ways) -> bool {
    let bound = |name: &String| had.get(name).and_then(|way| way.exit);
    will.iter()
        .any(|(name, way)| way.exit.is_some() && way.exit != bound(name))
}

/// Tells the relay what waits, and all of it again when it has lost it, until `shutdown`.
pub async fn run(app: Arc<App>, shutdown: CancellationToken) {
    let Some(egress) = app.egress.clone() else { return };
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = app.dns.wake.notified() => {}
            () = tokio::time::sleep(INTERVAL) => app.dns.forget_if_lost(&egress).await,
        }
        app.dns.tell(&app).await;
    }
}

fn words(faults: &[Violation]) -> String {
    let all = faults
        .iter()
        .take(5)
        .map(|fault| format!("{} {}", fault.field, fault.description));
    all.collect::<Vec<_>>().join("; ")
}
