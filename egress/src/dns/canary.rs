//! Proves exits: asks the resolvers of each, by its way alone, a question of the relay's own. What comes back has gone out by the
//! exit, whether or not a peer uses it; so it can be said when an exit was last seen to carry something.
//!
//! The relay's way to an interface is a socket that is bound to it; packets of peers are led there by the exit's mark. So what the
//! first answered is asked once more by the mark, where netd gives that (ADR 0042): a rule or a table that leads peers elsewhere is
//! seen by that alone.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cell_egress_core::dns::name::Name;
use cell_egress_core::exit::ExitId;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::relay::Relay;
use super::upstream::Asker;
use super::way::{ByMark, Unanswered, Way};
use super::wire::Asked;

/// Exits that are being proven at the same time: each holds one descriptor.
pub const PROOFS_MAX: usize = 64;
/// Between two proofs of an exit, give or take a quarter.
pub(crate) const EVERY: Duration = Duration::from_secs(20);
/// The same while it has never been proven, so that one that comes up is soon known to.
pub(crate) const EVERY_AT_FIRST: Duration = Duration::from_secs(4);
/// How long one proof may take, with all resolvers of the exit; the one by the mark as long again.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often an exit is asked for in haste of which netd gives no mark: perhaps it is not told of it yet, or nobody is given any.
const UNMARKED: u32 = 5;
const NOT_IN_TIME: &str = "no resolver answered in time";
/// Between two looks at which exits are due.
const TICK: Duration = Duration::from_secs(1);
/// NS (RFC 1035, section 3.2.2). Of the root, it is what every resolver knows, and says nothing about anybody.
const NAME_SERVERS: u16 = 2;

/// When a way is to be proven next; at first at once.
#[derive(Debug)]
pub struct Due(Mutex<Instant>);

impl Default for Due {
    fn default() -> Self {
        Due(Mutex::new(Instant::now()))
    }
}

impl Due {
    fn at(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, at: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}

/// Proves the exits of the relay, those first that have waited longest, until it is dropped.
pub async fn prove(relay: Arc<Relay>) {
    let places = Arc::new(Semaphore::new(PROOFS_MAX));
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        let mut due: Vec<_> = relay.exits();
        due.retain(|(_, way)| way.due.at() <= now);
        due.sort_by_key(|(_, way)| way.due.at());
        for (exit, way) in due {
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                break;
            };
            // Not again while this one is under way.
            way.due.set(now + 2 * PATIENCE + EVERY);
            let asker = relay.asker().clone();
            tokio::spawn(async move {
                once(&exit, &way, &asker).await;
                drop(place);
            });
        }
    }
}

/// Nothing of it is remembered or counted as a peer's question; which resolver answered is.
async fn once(exit: &ExitId, way: &Way, asker: &Asker) {
    let asked = Asked {
        name: Name::root(),
        kind: NAME_SERVERS,
        signed: false,
        unchecked: false,
    };
    let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let answered = timeout(PATIENCE, way.first_answer(asker, &asked, nobody)).await;
    let late = |_| {
        Err(Unanswered {
            why: NOT_IN_TIME.to_owned(),
            of_the_way: true,
            without_exit: false,
        })
    };
    let proven = match answered.unwrap_or_else(late) {
        Ok(_) => {
            way.counters.proven();
            by_mark(exit, way, asker, &asked).await
        }
        Err(unanswered) => {
            if unanswered.of_the_way {
                way.counters.not_proven(unanswered.why);
            } else if unanswered.without_exit {
                tracing::debug!(%exit, "the exit does not run");
            } else {
                tracing::warn!(%exit, why = unanswered.why, "the exit could not be asked, which says nothing of it");
            }
            way.counters.last_proven() > 0
        }
    };
    let every = if proven { EVERY } else { EVERY_AT_FIRST };
    way.due.set(Instant::now() + about(every));
}

/// Whether the next proof has time: the exit was proven so, or cannot be. Whoever mends a rule, or tells netd of the exit, is not
/// kept waiting.
async fn by_mark(exit: &ExitId, way: &Way, asker: &Asker, asked: &Asked) -> bool {
    let answered = timeout(PATIENCE, way.ask_by_mark(asker, exit, asked)).await;
    match answered.unwrap_or_else(|_| ByMark::Failed(NOT_IN_TIME.to_owned())) {
        ByMark::NotSo => true,
        ByMark::NoMark => way.counters.last_marked_proven() > 0 || way.counters.no_mark() > UNMARKED,
        ByMark::Answered => {
            way.counters.proven_by_mark();
            true
        }
        ByMark::NotAsked(why) => {
            tracing::warn!(%exit, why, "the exit could not be asked by its mark, which says nothing of it");
            way.counters.last_marked_proven() > 0
        }
        ByMark::Failed(why) => {
            tracing::debug!(%exit, %why, "the exit answers, but not by its mark");
            way.counters.not_proven_by_mark(why);
            false
        }
    }
}

/// Between three and five quarters of it, so that exits are not proven in step.
pub(crate) fn about(every: Duration) -> Duration {
    let mut random = [0];
    // Without randomness they are in step, and no harm is done.
    let _ = getrandom::fill(&mut random);
    every * 3 / 4 + every * u32::from(random[0]) / 510
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_next_is_never_far_from_it() {
        let (least, most) = (EVERY * 3 / 4, EVERY * 5 / 4);
        let drawn: std::collections::BTreeSet<_> = (0..100).map(|_| about(EVERY)).collect();
        assert!(drawn.iter().all(|drawn| (least..=most).contains(drawn)));
        assert!(drawn.len() > 10, "they differ");
    }
}
