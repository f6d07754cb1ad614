//! One way of questions: its resolvers, what they answered, and the questions that are under way.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use cell_egress_core::dns::address::Resolver;
use cell_egress_core::exit::ExitId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::cache::{Cache, Outcome};
use super::canary::Due;
use super::counters::{WayCounters, count};
use super::upstream::{Asker, NoAnswer, Path, ask_by_mark};
use super::wire::{Asked, Reply};

/// Questions of one way that wait for a resolver, so that an exit whose resolvers hang takes from no other.
const FLIGHTS_MAX: usize = 256;
/// How many of them take no place of what all ways have together: while the resolvers of other exits hang and hold all of those, a way that
/// answers goes on, by a few questions at a time.
pub const FLIGHTS_OWN: usize = 4;

/// See the module.
#[derive(Debug)]
pub struct Way {
    path: Path,
    resolvers: Vec<Resolver>,
    /// Where to begin: the resolver that answered last.
    first: AtomicUsize,
    cache: Cache,
    flights: Mutex<BTreeMap<Asked, Flight>>,
    /// What is counted.
    pub counters: WayCounters,
    /// When it is to be proven next.
    pub due: Due,
}

type Flight = watch::Receiver<Option<Outcome>>;

/// What became of a question by the mark of an exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ByMark {
    /// The way is not by an interface, or nobody gives marks here.
    NotSo,
    /// It was not asked: netd is away, or does not have the exit (yet).
    NoMark,
    /// A resolver answered.
    Answered,
    /// None did, and this is why.
    Failed(String),
    /// None was asked, for want of something of this machine.
    NotAsked(String),
}

/// No resolver answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// Why the last of those that were asked did not, without the name.
    pub why: String,
    /// Whether that says something of the way. It does where one was asked in vain: another that could not be asked excuses
    /// nothing, so that an exit whose one resolver is of a kind that this machine never reaches is not held to work for ever.
    pub of_the_way: bool,
    /// The exit does not run, or is not told of yet: what is known of it elsewhere, and needs no word in the log each time.
    pub without_exit: bool,
}

impl Unanswered {
    fn of(tried: &[(Resolver, NoAnswer)]) -> Self {
        let in_vain = tried.iter().rfind(|(_, why)| why.is_of_the_way());
        let told = in_vain.or(tried.last());
        Unanswered {
            why: told.map_or_else(
                || "there is no resolver".to_owned(),
                |(resolver, why)| format!("{}: {why}", resolver.address()),
            ),
            of_the_way: in_vain.is_some() || tried.is_empty(),
            without_exit: tried.iter().any(|(_, why)| matches!(why, NoAnswer::NoExit)),
        }
    }
}

/// There is no room for another question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Way {
    /// That knows nothing yet.
    pub fn new(path: Path, resolvers: Vec<Resolver>) -> Self {
        Way {
            path,
            resolvers,
            first: AtomicUsize::new(0),
            cache: Cache::default(),
            flights: Mutex::default(),
            counters: WayCounters::default(),
            due: Due::default(),
        }
    }

    /// By which path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is by this path to these resolvers.
    pub fn is(&self, path: &Path, resolvers: &[Resolver]) -> bool {
        self.path == *path && self.resolvers == resolvers
    }

    /// Whether its questions are carried by the redirect exit of this id.
    pub fn is_by(&self, id: &ExitId) -> bool {
        match &self.path {
            Path::Redirect(exit) => exit == id,
            Path::Default | Path::Interface(_) => false,
        }
    }

    /// The same way, that knows nothing.
    pub fn anew(&self) -> Self {
        Way::new(self.path.clone(), self.resolvers.clone())
    }

    /// What the question comes to, and how old that is in seconds. The same question of several is asked once.
    ///
    /// # Errors
    /// [`Full`], when as many are under way as may be.
    pub async fn resolve(
        self: &Arc<Self>,
        asker: &Asker,
        total: &Arc<Semaphore>,
        asked: &Asked,
        peer: IpAddr,
    ) -> Result<(Outcome, u32), Full> {
        if let Some(known) = self.cache.get(asked, Instant::now()) {
            count(&self.counters.cached);
            return Ok(known);
        }
        let mut flight = self.join(asker, total, asked, peer)?;
        let landed = flight.wait_for(Option::is_some).await;
        // Its sender goes without a word only when the task panicked.
        let outcome = landed.ok().and_then(|outcome| outcome.clone()).flatten();
        Ok((outcome, 0))
    }

    /// The flight of a question, begun if there is none. It ends by itself, whoever still waits for it.
    fn join(
        self: &Arc<Self>,
        asker: &Asker,
        total: &Arc<Semaphore>,
        asked: &Asked,
        peer: IpAddr,
    ) -> Result<Flight, Full> {
        let mut flights = self.flights();
        if let Some(flight) = flights.get(asked) {
            return Ok(flight.clone());
        }
        let place = place(flights.len(), total)?;
        let (lands, flight) = watch::channel(None);
        flights.insert(asked.clone(), flight.clone());
        drop(flights);
        let (way, asker, asked) = (Arc::clone(self), asker.clone(), asked.clone());
        tokio::spawn(async move {
            let landing = Landing(&way, &asked);
            let outcome = way.ask(&asker, &asked, peer).await;
            way.cache.keep(asked.clone(), outcome.clone(), Instant::now());
            drop(landing);
            drop(place);
            // Nobody may wait any more.
            let _ = lands.send(Some(outcome));
        });
        Ok(flight)
    }

    async fn ask(&self, asker: &Asker, asked: &Asked, peer: IpAddr) -> Outcome {
        count(&self.counters.asked);
        match self.first_answer(asker, asked, peer).await {
            Ok(reply) => {
                self.counters.succeeded();
                Some(Arc::new(reply))
            }
            Err(unanswered) => {
                self.counters.failed(unanswered.why);
                None
            }
        }
    }

    /// Asks one resolver after the other, beginning with the one that answered last.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn first_answer(
        &self,
        asker: &Asker,
        asked: &Asked,
        peer: IpAddr,
    ) -> Result<Reply, Unanswered> {
        let first = self.first.load(Ordering::Relaxed);
        let mut tried = Vec::new();
        for step in 0..self.resolvers.len() {
            let index = (first + step) % self.resolvers.len();
            let resolver = self.resolvers[index];
            match asker.ask(&self.path, resolver, asked, peer).await {
                Ok(reply) => {
                    self.first.store(index, Ordering::Relaxed);
                    return Ok(reply);
                }
                Err(why) => tried.push((resolver, why)),
            }
        }
        let unanswered = Unanswered::of(&tried);
        tracing::debug!(path = ?self.path, why = unanswered.why, "no resolver answered");
        Err(unanswered)
    }

    /// Asks by the mark of the exit that the way is of, beginning with the resolver that answered last.
    pub async fn ask_by_mark(&self, asker: &Asker, exit: &ExitId, asked: &Asked) -> ByMark {
        let (Path::Interface(_), Some(marker)) = (&self.path, &asker.marker) else {
            return ByMark::NotSo;
        };
        let first = self.first.load(Ordering::Relaxed);
        let mut tried = Vec::new();
        for step in 0..self.resolvers.len() {
            let resolver = self.resolvers[(first + step) % self.resolvers.len()];
            match ask_by_mark(marker, exit, resolver, asked).await {
                Ok(_) => return ByMark::Answered,
                Err(NoAnswer::NoMark(why)) => {
                    tracing::debug!(%exit, %why, "netd gives no mark");
                    return ByMark::NoMark;
                }
                Err(why) => tried.push((resolver, why)),
            }
        }
        let unanswered = Unanswered::of(&tried);
        if unanswered.of_the_way {
            ByMark::Failed(unanswered.why)
        } else {
            ByMark::NotAsked(unanswered.why)
        }
    }

    fn flights(&self) -> MutexGuard<'_, BTreeMap<Asked, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For one flight more of a way that has so many; none: it needs none.
fn place(flights: usize, total: &Arc<Semaphore>) -> Result<Option<OwnedSemaphorePermit>, Full> {
    match flights {
        ..FLIGHTS_OWN => Ok(None),
        FLIGHTS_MAX.. => Err(Full),
        _ => Arc::clone(total).try_acquire_owned().map(Some).map_err(|_| Full),
    }
}

/// Takes a flight out, however it ended.
struct Landing<'a>(&'a Way, &'a Asked);

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.0.flights().remove(self.1);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::io;

    #[test]
    fn ways_that_hang_leave_every_other_a_few_places() {
        let total = Arc::new(Semaphore::new(2));
        let held: Vec<_> = (FLIGHTS_OWN..)
            .map_while(|flights| place(flights, &total).ok())
            .collect();
        assert!(held.len() == 2 && held.iter().all(Option::is_some));
        for flights in 0..FLIGHTS_OWN {
            assert!(
                place(flights, &total).is_ok_and(|place| place.is_none()),
                "{flights}"
            );
        }
        assert!(place(FLIGHTS_OWN, &total).is_err());
        drop(held);
        assert!(place(FLIGHTS_MAX - 1, &total).is_ok_and(|place| place.is_some()));
        assert!(place(FLIGHTS_MAX, &total).is_err());
    }

    fn tried(last: u8, why: NoAnswer) -> (Resolver, NoAnswer) {
        let at = format!("192.0.2.{last}:53").parse().unwrap();
        (Resolver::beyond(at).unwrap(), why)
    }

    #[test]
    fn one_that_was_asked_in_vain_is_told_of_and_what_was_not_asked_excuses_nothing() {
        let local = || NoAnswer::Local(io::ErrorKind::Other.into());
        let of = |tried: &[_]| Unanswered::of(tried);
        let both = of(&[tried(1, NoAnswer::Timeout), tried(2, local())]);
        assert!(
            both.of_the_way && both.why.starts_with("192.0.2.1:53"),
            "{both:?}"
        );
        let none = of(&[tried(1, local()), tried(2, local())]);
        assert!(
            !none.of_the_way && none.why.starts_with("192.0.2.2:53"),
            "{none:?}"
        );
        assert!(of(&[]).of_the_way);
    }
}
