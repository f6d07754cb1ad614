//! Keeps the DNS relay of `cell-egress` in step with netd: who is bound to an exit asks through it before its packets go
//! there, and until they do not any more ([`before`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use cell_api_core::derive::dns::{self, DnsSpec, Way, Ways, before};
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

/// How often it is looked whether the relay still has what it was told.
const INTERVAL: Duration = Duration::from_secs(3);

/// What the relay is to go by, and what became of it.
#[derive(Debug, Default)]
pub struct Dns {
    wanted: StdMutex<Wanted>,
    /// What the relay was told last, as a whole, and how many addresses of peers it took.
    told: Mutex<Option<(DnsSpec, usize)>>,
    said: StdMutex<Said>,
    wake: Notify,
    /// What netd does not take, where its ceiling is without DNS or from before.
    refused_by_netd: StdMutex<Option<Refusal>>,
}

/// What netd does not take, with its words.
#[derive(Debug)]
enum Refusal {
    /// The port where whoever is bound asks, and nothing else: its ceiling is from before ADR 0048.
    BoundPort(String),
    /// Ports or resolvers: DNS.
    All(String),
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

fn refused_by_netd(words: &str) -> Told {
    let message = format!("netd lets nobody ask it: {words}; see service_targets in netd.toml");
    (ConditionStatus::False, "NETD_REFUSES", message)
}

fn bound_port_refused(words: &str) -> Told {
    let message = format!(
        "whoever has an exit asks through it by the relay's table alone, not by a port of its own too: {words}; \
         add \"udp/9054\" and \"tcp/9054\" to service_targets in netd.toml and start netd anew"
    );
    (ConditionStatus::False, "NETD_REFUSES", message)
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
    /// Before netd hears of a difference. Costs what it changes, but where somebody is bound: the relay is told everything.
    pub(crate) async fn before_some(&self, app: &App, upserted: &Ways) {
        let is_binding = {
            let mut wanted = self.wanted();
            let of_them = upserted.keys().filter_map(|name| wanted.ways.get_key_value(name));
            let had: Ways = of_them.map(|(name, way)| (name.clone(), way.clone())).collect();
            wanted.ways.extend(before(&had, upserted));
            binds(&had, upserted)
        };
        if is_binding {
            self.tell(app).await;
        }
    }

    /// After netd took it.
    pub(crate) fn after_some(&self, upserted: Ways, removed: &[String]) {
        let mut wanted = self.wanted();
        wanted.ways.extend(upserted);
        for name in removed {
            wanted.ways.remove(name);
        }
        drop(wanted);
        self.wake.notify_one();
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
        let is_of_dns = |fault: &&Violation| {
            fault.field.starts_with("spec.cell_ports") || fault.field.starts_with("spec.dns_upstreams")
        };
        let faults: Vec<Violation> = violations.iter().filter(is_of_dns).cloned().collect();
        let is_of_bound = |fault: &Violation| is_above && fault.field.ends_with(".bound_target_port");
        let refusal = match faults.as_slice() {
            [] => return false,
            all if all.iter().all(is_of_bound) => Refusal::BoundPort(words(all)),
            all => Refusal::All(words(all)),
        };
        let mut refused = self.refused();
        if !matches!(
            (&*refused, &refusal),
            (None, _) | (Some(Refusal::BoundPort(_)), Refusal::All(_))
        ) {
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

    /// Tells the relay, unless it has it.
    async fn tell(&self, app: &App) {
        let Some(egress) = &app.egress else { return };
        let mut told = self.told.lock().await;
        let Some(wanted) = self.spec(app) else { return };
        if told.as_ref().is_some_and(|(told, _)| *told == wanted) {
            return;
        }
        *told = None;
        let said = match apply(egress, wanted.clone()).await {
            Ok((left_out, addresses)) => {
                *told = Some((wanted, addresses));
                if left_out.is_empty() {
                    Said::Took
                } else {
                    Said::TookAllBut(left_out.into_values().collect::<Vec<_>>().join("; "))
                }
            }
            Err(EgressError::NoDns) => Said::NoRelay,
            Err(EgressError::Away) => Said::Away,
            Err(EgressError::Refuses(faults)) => Said::TookAllBut(words(&faults)),
        };
        drop(told);
        self.say(app, said);
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

    /// One that was started anew between two looks has nothing.
    async fn forget_if_lost(&self, egress: &EgressClient) {
        let mut told = self.told.lock().await;
        let Some((_, addresses)) = told.as_ref() else {
            return;
        };
        let is_lost = match egress.dns_status().await {
            Ok(status) => {
                status.names == 0 || usize::try_from(status.peer_addresses).is_ok_and(|n| n != *addresses)
            }
            Err(EgressError::Away | EgressError::NoDns | EgressError::Refuses(_)) => true,
        };
        if is_lost {
            *told = None;
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

/// Whatever it says of one exit, name, resolver or peer, it is told of the others; what it did not take, by its place. A peer whose exit it
/// does not take has no DNS but the cell's, and no other way; one that it does not take is a stranger to it. A table of which it takes
/// nothing else has no peers at all, and at last nothing: in the one before, whoever was bound since would ask by the machine's own way.
/// Answers with how many addresses of peers it has.
async fn apply(
    egress: &EgressClient,
    mut spec: DnsSpec,
) -> Result<(BTreeMap<String, String>, usize), EgressError> {
    let mut left_out = BTreeMap::new();
    loop {
        let faults = match egress.apply_dns(&spec).await {
            Ok(()) => return Ok((left_out, addresses(&spec))),
            Err(EgressError::Refuses(faults)) => faults,
            Err(error @ (EgressError::Away | EgressError::NoDns)) => return Err(error),
        };
        if !leave_out(&mut spec, &faults) {
            match (spec == DnsSpec::default(), spec.peers.is_empty()) {
                (true, _) => return Err(EgressError::Refuses(faults)),
                (false, false) => spec.peers.clear(),
                (false, true) => spec = DnsSpec::default(),
            }
        }
        let named = faults
            .into_iter()
            .map(|fault| (fault.field.clone(), words(&[fault])));
        left_out.extend(named);
    }
}

fn addresses(spec: &DnsSpec) -> usize {
    spec.peers.values().map(|way| way.addresses.len()).sum()
}

/// Takes out what is at fault; whether that was something.
fn leave_out(spec: &mut DnsSpec, faults: &[Violation]) -> bool {
    let of = |path| places(path, faults);
    let (exits, records) = (of("dns.exits"), of("dns.records"));
    let (upstreams, peers) = (of("dns.upstreams"), of("dns.peers"));
    // One that it may not ask: the other names are there all the same.
    let is_of_authority = |fault: &Violation| fault.field.starts_with("dns.authority");
    let without_authority = spec.authority.is_some() && faults.iter().any(is_of_authority);
    if without_authority {
        spec.authority = None;
    }
    let counts = |spec: &DnsSpec| {
        [
            spec.exits.len(),
            spec.records.len(),
            spec.upstreams.len(),
            spec.peers.len(),
        ]
    };
    let before = counts(spec);
    spec.exits = without(std::mem::take(&mut spec.exits), &exits);
    spec.records = without(std::mem::take(&mut spec.records), &records);
    spec.upstreams = without(std::mem::take(&mut spec.upstreams), &upstreams);
    spec.peers = without(std::mem::take(&mut spec.peers), &peers);
    without_authority || counts(spec) != before
}

fn without<T, C>(all: C, places: &BTreeSet<usize>) -> C
where
    C: IntoIterator<Item = T> + FromIterator<T>,
{
    let kept = all
        .into_iter()
        .enumerate()
        .filter(|(place, _)| !places.contains(place));
    kept.map(|(_, one)| one).collect()
}

fn places(path: &str, faults: &[Violation]) -> BTreeSet<usize> {
    let place = |fault: &Violation| {
        let rest = fault.field.strip_prefix(path)?.strip_prefix('[')?;
        rest.split_once(']')?.0.parse().ok()
    };
    faults.iter().filter_map(place).collect()
}

fn words(faults: &[Violation]) -> String {
    let all = faults
        .iter()
        .take(5)
        .map(|fault| format!("{} {}", fault.field, fault.description));
    all.collect::<Vec<_>>().join("; ")
}
