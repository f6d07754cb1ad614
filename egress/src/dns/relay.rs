//! From a question to its answer: who asks, what is decided, and which way it is carried.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use cell_egress_core::dns::address::Resolver;
use cell_egress_core::dns::allowance::Allowances;
use cell_egress_core::dns::decide::{self, Decision, Kind, decide};
use cell_egress_core::dns::name::Name;
use cell_egress_core::dns::request::EXITS_MAX;
use cell_egress_core::dns::table::Table;
use cell_egress_core::dns::zone::{Data, Local};
use cell_egress_core::exit::ExitId;
use tokio::sync::Semaphore;

use super::authority;
use super::counters::{RelayCounters, count};
use super::listen::Door;
use super::marker::Marker;
use super::upstream::{Asker, Path};
use super::way::{FLIGHTS_OWN, Way};
use super::wire::{Asked, Incoming, Question, Transport, read};
use crate::engine::Engine;

/// Questions that wait for a resolver, of all ways together: each holds one descriptor.
pub const WAITING_MAX: usize = SHARED_MAX + FLIGHTS_OWN * (EXITS_MAX + 1);
/// Those of them that ways take from each other, beyond what each has for itself.
const SHARED_MAX: usize = 1024;
/// Questions that wait for the authority. Apart from the others, so that neither takes the other's room.
pub const WAITING_FOR_AUTHORITY_MAX: usize = 256;
/// Between two looks at which peers owe nothing any more.
const SWEEP: Duration = Duration::from_secs(60);

/// See the module.
pub struct Relay {
    asker: Asker,
    state: RwLock<Arc<State>>,
    allowances: Mutex<(Allowances, Duration)>,
    started: Instant,
    waiting: Arc<Semaphore>,
    waiting_for_authority: Semaphore,
    counters: RelayCounters,
}

/// What is gone by, as a whole: a question sees one state from its beginning to its end.
struct State {
    /// Another after each change, 0 before the first. It begins at random with the process: nobody takes a relay that was started anew for
    /// the one that was told.
    revision: u64,
    table: Arc<Table>,
    default: Arc<Way>,
    exits: BTreeMap<ExitId, Arc<Way>>,
}

/// What is told of the relay.
pub struct Seen {
    /// What it goes by.
    pub revision: u64,
    /// Names with records.
    pub names: usize,
    /// Addresses of peers.
    pub peers: usize,
    /// The ways, the default one first.
    pub ways: Vec<(Option<ExitId>, Arc<Way>)>,
}

/// What a name of a host leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Of both families.
    pub addresses: Vec<IpAddr>,
    /// Seconds.
    pub ttl: u32,
    /// Why nobody knows.
    pub failure: Option<&'static str>,
}

impl Relay {
    /// Without anything to go by: every question is refused.
    pub fn new(engine: Arc<Engine>, marker: Option<Marker>) -> Self {
        let state = State {
            revision: 0,
            table: Arc::default(),
            default: Arc::new(Way::new(Path::Default, Vec::new())),
            exits: BTreeMap::new(),
        };
        Relay {
            asker: Asker { engine, marker },
            state: RwLock::new(Arc::new(state)),
            allowances: Mutex::default(),
            started: Instant::now(),
            waiting: Arc::new(Semaphore::new(SHARED_MAX)),
            waiting_for_authority: Semaphore::new(WAITING_FOR_AUTHORITY_MAX),
            counters: RelayCounters::default(),
        }
    }

    /// Goes by `table` from the next question on. A way that stays as it is keeps what it knows. It is told to `then`
    /// before anything else changes.
    pub fn apply(&self, table: Table, then: impl FnOnce(Arc<Table>)) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let kept = |known: Option<&Arc<Way>>, path: Path, resolvers: &[_]| match known {
            Some(way) if way.is(&path, resolvers) => Arc::clone(way),
            _ => Arc::new(Way::new(path, resolvers.to_vec())),
        };
        let default = kept(Some(&state.default), Path::Default, table.defaults());
        let exits = table
            .exits()
            .map(|(id, dns)| {
                let path = Path::of(id, &dns.reached);
                (id.clone(), kept(state.exits.get(id), path, &dns.resolvers))
            })
            .collect();
        let table = Arc::new(table);
        *state = Arc::new(State {
            revision: next(state.revision),
            table: Arc::clone(&table),
            default,
            exits,
        });
        then(table);
    }

    /// Goes by what `led` makes of the table of `revision`, from the next question on: the same ways, and peers that are led otherwise. It is
    /// told to `then` before anything else changes. Answers what it goes by. None: it goes by another revision.
    ///
    /// # Errors
    /// Those of `led`, and nothing changed.
    pub fn lead<E>(
        &self,
        revision: u64,
        led: impl FnOnce(&Table) -> Result<Table, E>,
        then: impl FnOnce(Arc<Table>),
    ) -> Result<Option<u64>, E> {
        let is_it = |state: &State| revision != 0 && state.revision == revision;
        let before = self.state();
        if !is_it(&before) {
            return Ok(None);
        }
        // Made while questions go on by what is.
        let table = Arc::new(led(&before.table)?);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if !is_it(&state) {
            return Ok(None);
        }
        let revision = next(revision);
        *state = Arc::new(State {
            revision,
            table: Arc::clone(&table),
            default: Arc::clone(&state.default),
            exits: state.exits.clone(),
        });
        then(table);
        Ok(Some(revision))
    }

    /// Forgets what the resolvers of these redirect exits answered: under their ids there are others now, or none.
    pub fn forget<'a>(&self, exits: impl Iterator<Item = &'a ExitId>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut ways = state.exits.clone();
        for id in exits {
            if let Some(way) = ways.get_mut(id).filter(|way| way.is_by(id)) {
                *way = Arc::new(way.anew());
            }
        }
        *state = Arc::new(State {
            revision: state.revision,
            table: Arc::clone(&state.table),
            default: Arc::clone(&state.default),
            exits: ways,
        });
    }

    /// As it is.
    pub fn seen(&self) -> Seen {
        let state = self.state();
        let default = (None, Arc::clone(&state.default));
        let exits = state
            .exits
            .iter()
            .map(|(id, way)| (Some(id.clone()), Arc::clone(way)));
        Seen {
            revision: state.revision,
            names: state.table.zones().names(),
            peers: state.table.peers(),
            ways: std::iter::once(default).chain(exits).collect(),
        }
    }

    /// The ways of exits.
    pub fn exits(&self) -> Vec<(ExitId, Arc<Way>)> {
        let state = self.state();
        let exits = state.exits.iter();
        exits.map(|(id, way)| (id.clone(), Arc::clone(way))).collect()
    }

    /// What reaches resolvers.
    pub fn asker(&self) -> &Asker {
        &self.asker
    }

    /// What is counted.
    pub fn counters(&self) -> &RelayCounters {
        &self.counters
    }

    /// Lets what came from `source` be looked at; None: the peer asks too much. A stranger is counted nowhere: it is refused
    /// without anything being kept of it.
    pub fn admit(self: &Arc<Self>, source: IpAddr, door: Door) -> Option<Admitted> {
        if self.state().table.peer(source).is_some() && !self.begin(source) {
            count(&self.counters.dropped);
            return None;
        }
        Some(Admitted {
            relay: Arc::clone(self),
            source,
            door,
        })
    }

    /// The answer to what came from `from`; None: there is none.
    async fn answer(&self, bytes: &[u8], from: Source, transport: Transport) -> Option<Vec<u8>> {
        let state = self.state();
        match read(bytes) {
            Incoming::Question(question) => self.decided(&state, &question, from, transport).await,
            Incoming::Refused(answer) => {
                count(&self.counters.refused);
                Some(answer)
            }
            Incoming::Noise => {
                count(&self.counters.refused);
                None
            }
        }
    }

    async fn decided(
        &self,
        state: &State,
        question: &Question,
        (source, door): Source,
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let asker = decide::Asker::Peer(source);
        let way = match decide(&state.table, asker, &question.name, question.kind) {
            Decision::Answer(local) => {
                count(&self.counters.answered);
                return question.local(&local, transport);
            }
            Decision::Refuse(_) => {
                count(&self.counters.refused);
                return question.refused(transport);
            }
            // The table may be behind netd, or before it where the peer was let out of its exit: a connection that is closed is
            // opened anew, by the other door.
            Decision::Default if door == Door::Bound => {
                count(&self.counters.without_way);
                return match transport {
                    Transport::Udp => question.failed(transport),
                    Transport::Tcp => None,
                };
            }
            Decision::NoWay => {
                count(&self.counters.without_way);
                return question.failed(transport);
            }
            Decision::Authority(at, peer) => {
                return self.authority(at, peer, question, transport).await;
            }
            Decision::Default => &state.default,
            Decision::Exit(id, _) => match state.exits.get(id) {
                Some(way) => way,
                None => return question.failed(transport),
            },
        };
        let Ok((outcome, age)) = way
            .resolve(&self.asker, &self.waiting, &question.asked, source)
            .await
        else {
            count(&self.counters.dropped);
            return question.failed(transport);
        };
        match outcome {
            None => question.failed(transport),
            Some(reply) if reply.inside => {
                count(&way.counters.withheld);
                question.refused(transport)
            }
            Some(reply) => question.carried(&reply, age, transport),
        }
    }

    /// What the authority says to this peer. Nothing is remembered, and no two questions are made one.
    async fn authority(
        &self,
        at: Resolver,
        peer: IpAddr,
        question: &Question,
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let Ok(_place) = self.waiting_for_authority.try_acquire() else {
            count(&self.counters.dropped);
            return question.failed(transport);
        };
        count(&self.counters.authority_asked);
        match authority::ask(at, peer, &question.asked).await {
            Ok(reply) => question.carried(&reply, 0, transport),
            Err(why) => {
                count(&self.counters.authority_failed);
                tracing::debug!(%why, "the authority did not answer");
                question.failed(transport)
            }
        }
    }

    /// By which path an exit's questions go, and with them what the cell itself sends through it; None: no such exit is known.
    pub fn path(&self, id: &ExitId) -> Option<Path> {
        self.state().exits.get(id).map(|way| way.path().clone())
    }

    /// What a name of a host leads to, for the cell itself: in its zones, else by the way of this exit, or by the default one.
    pub async fn resolve(&self, name: &Name, by: Option<&ExitId>) -> Resolved {
        let state = self.state();
        let way = match by {
            None => Some(&state.default),
            Some(id) => state.exits.get(id),
        };
        let Some(way) = way else {
            return Resolved {
                failure: Some("there is no such exit, or it has no resolvers"),
                ..Resolved::default()
            };
        };
        let (v4, v6) = tokio::join!(
            self.addresses(&state, way, name, Kind::A, 1),
            self.addresses(&state, way, name, Kind::Aaaa, 28)
        );
        match (v4, v6) {
            (Ok((v4, ttl4)), Ok((v6, ttl6))) => Resolved {
                ttl: match (v4.is_empty(), v6.is_empty()) {
                    (false, true) => ttl4,
                    (true, false) => ttl6,
                    (true, true) | (false, false) => ttl4.min(ttl6),
                },
                addresses: [v4, v6].concat(),
                failure: None,
            },
            // Half of the truth is enough to connect.
            (Ok((addresses, ttl)), Err(_)) | (Err(_), Ok((addresses, ttl))) if !addresses.is_empty() => {
                Resolved {
                    addresses,
                    ttl,
                    failure: None,
                }
            }
            (Err(why), _) | (_, Err(why)) => Resolved {
                failure: Some(why),
                ..Resolved::default()
            },
        }
    }

    async fn addresses(
        &self,
        state: &State,
        way: &Arc<Way>,
        name: &Name,
        kind: Kind,
        number: u16,
    ) -> Result<(Vec<IpAddr>, u32), &'static str> {
        match decide(&state.table, decide::Asker::Cell, name, kind) {
            Decision::Answer(local) => Ok(of_local(&local)),
            Decision::Refuse(_) | Decision::NoWay | Decision::Exit(..) | Decision::Authority(..) => {
                Err("it is not asked for")
            }
            Decision::Default => {
                let asked = Asked {
                    name: name.clone(),
                    kind: number,
                    signed: false,
                    unchecked: false,
                };
                let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                let resolved = way.resolve(&self.asker, &self.waiting, &asked, nobody);
                match resolved.await {
                    Ok((Some(reply), age)) => Ok((reply.addresses(), reply.ttl.saturating_sub(age))),
                    Ok((None, _)) => Err("no resolver answered"),
                    Err(_) => Err("too many questions are under way"),
                }
            }
        }
    }

    fn begin(&self, source: IpAddr) -> bool {
        let now = self.started.elapsed();
        let mut allowances = self.allowances();
        let (peers, swept) = &mut *allowances;
        if now > *swept + SWEEP {
            *swept = now;
            peers.sweep(now);
        }
        peers.begin(source, now).is_ok()
    }

    fn allowances(&self) -> MutexGuard<'_, (Allowances, Duration)> {
        self.allowances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A question that is under way, until this goes, also when its asker hangs up.
pub struct Admitted {
    relay: Arc<Relay>,
    source: IpAddr,
    door: Door,
}

/// Who asks, and where.
type Source = (IpAddr, Door);

impl Admitted {
    /// The answer; None: there is none.
    pub async fn answer(self, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let from = (self.source, self.door);
        self.relay.answer(bytes, from, transport).await
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.relay.allowances().0.end(self.source);
    }
}

/// Another revision than this, and than those of processes before.
fn next(revision: u64) -> u64 {
    if revision != 0 {
        return revision.wrapping_add(1).max(1);
    }
    let mut first = [0; 8];
    // Without randomness it is known by no revision, and is told all each time.
    let _ = getrandom::fill(&mut first);
    u64::from_le_bytes(first)
}

fn of_local(local: &Local) -> (Vec<IpAddr>, u32) {
    let addresses = local.lines.iter().filter_map(|line| match &line.data {
        Data::V4(ip) => Some(IpAddr::V4(*ip)),
        Data::V6(ip) => Some(IpAddr::V6(*ip)),
        Data::Alias(_) | Data::Pointer(_) => None,
    });
    let ttl = local.lines.iter().map(|line| line.ttl).min();
    (addresses.collect(), ttl.unwrap_or(0))
}
