//! By which exits each speaker may go, and what came by another: at each far end, of all that is heard there.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::ear::SPEAKERS;
use crate::key::Protocol;
use crate::kind::Kind;
use crate::said::{Said, letter, now};

/// So long after a move is in force may what a speaker says still come by the exit before. netd leads packets elsewhere at once; what
/// needs a moment is the relay, which hears of its questions' new ways beside that.
pub const BOUND: Duration = Duration::from_secs(2);
/// How many that came by a wrong exit are told of.
const TOLD: usize = 64;

/// Where something is heard, and what kind it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// At the far end of this type.
    pub exit: Kind,
    /// Of what kind.
    pub protocol: Protocol,
    /// IPv6, else IPv4.
    pub v6: bool,
}

impl Place {
    /// All where something can be heard.
    pub fn all() -> impl Iterator<Item = Place> {
        Kind::ALL.into_iter().flat_map(Place::of)
    }

    /// All of one far end: what an exit of this type carries, by both families.
    pub fn of(exit: Kind) -> impl Iterator<Item = Place> {
        let carried = Protocol::ALL.into_iter().filter(move |one| exit.carries(*one));
        carried.flat_map(move |protocol| [false, true].map(|v6| Place { exit, protocol, v6 }))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.v6 { "IPv6" } else { "IPv4" };
        write!(f, "{}, {}, {family}", self.exit, self.protocol)
    }
}

/// How much was heard, and how much of it ought not to have come there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// All of it.
    pub heard: u64,
    /// By a wrong exit.
    pub wrong: u64,
}

/// An exit by which a speaker may go, from when it was asked for.
#[derive(Debug)]
struct Way {
    exit: Kind,
    from: Duration,
    /// When the API said that it is not its way any more.
    left: Option<Duration>,
    /// When that was in force at the latest.
    to: Option<Duration>,
}

#[derive(Debug, Default)]
struct State {
    of: [Vec<Way>; SPEAKERS],
    counts: BTreeMap<Place, Count>,
    told: Vec<String>,
}

/// Of all speakers.
#[derive(Debug, Default)]
pub struct Ways(Mutex<State>);

impl Ways {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A speaker is about to be given these: it may go by them from now on, and by those that it has.
    pub fn may_go(&self, speaker: usize, exits: &[Kind]) {
        let ways = &mut self.state().of[speaker];
        for exit in exits {
            let open = ways.iter_mut().find(|way| way.exit == *exit && way.to.is_none());
            match open {
                Some(way) => way.left = None,
                None => ways.push(Way {
                    exit: *exit,
                    from: now(),
                    left: None,
                    to: None,
                }),
            }
        }
    }

    /// The API has said that it has these and no others.
    pub fn has(&self, speaker: usize, exits: &[Kind]) {
        for way in &mut self.state().of[speaker] {
            if way.to.is_none() && way.left.is_none() && !exits.contains(&way.exit) {
                way.left = Some(now());
            }
        }
    }

    /// Whether something that the API said may not be in force yet.
    pub fn are_moving(&self) -> bool {
        let state = self.state();
        let mut ways = state.of.iter().flatten();
        ways.any(|way| way.left.is_some() && way.to.is_none())
    }

    /// What the API had said at `asked` is in force now.
    pub fn are_in_force(&self, asked: Duration) {
        for way in self.state().of.iter_mut().flatten() {
            if way.to.is_none() && way.left.is_some_and(|left| left <= asked) {
                way.to = Some(now());
            }
        }
    }

    /// Since when a speaker may not go by this exit any more; none: it may, or may have to still.
    pub fn left(&self, speaker: usize, exit: Kind) -> Option<Duration> {
        let state = self.state();
        let mut ways = state.of[speaker].iter().rev();
        ways.find(|way| way.exit == exit)?.to
    }

    /// Judges what came out at a far end.
    pub fn heard(&self, at: Place, said: Said) {
        let (mut state, heard) = (self.state(), now());
        // Where it might go may have changed while it was under way; what it said counts, not when that arrived.
        let is_way = |way: &Way| {
            way.exit == at.exit && way.from <= heard && way.to.is_none_or(|to| said.at <= to + BOUND)
        };
        let is_right = state.of[said.speaker].iter().rev().any(is_way);
        let count = state.counts.entry(at).or_default();
        count.heard += 1;
        if is_right {
            return;
        }
        count.wrong += 1;
        if state.told.len() < TOLD {
            let told = state.tell(at, said, heard);
            state.told.push(told);
        }
    }

    /// What was heard there so far.
    pub fn count(&self, at: Place) -> Count {
        self.state().counts.get(&at).copied().unwrap_or_default()
    }

    /// All that came by a wrong exit.
    pub fn wrong(&self) -> u64 {
        self.state().counts.values().map(|count| count.wrong).sum()
    }

    /// What is not told yet of that.
    pub fn news(&self) -> Vec<String> {
        std::mem::take(&mut self.state().told)
    }
}

impl State {
    fn tell(&self, at: Place, said: Said, heard: Duration) -> String {
        let ways = self.of[said.speaker].iter().rev().take(4);
        let ways: Vec<_> = ways
            .map(|way| format!("{} from {:?} to {:?}", way.exit, way.from, way.to))
            .collect();
        let who = letter(said.speaker);
        format!(
            "{at}: speaker {who} said it at {:?}, heard at {heard:?}; its ways: {}",
            said.at,
            ways.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEAKER: usize = 2;

    fn hear(ways: &Ways, exit: Kind, at: Duration) -> u64 {
        let protocol = Protocol::Tcp;
        let (speaker, v6) = (SPEAKER, false);
        let before = ways.wrong();
        ways.heard(Place { exit, protocol, v6 }, Said { speaker, v6, at });
        ways.wrong() - before
    }

    #[test]
    fn an_exit_that_was_never_a_speakers_is_wrong_and_that_is_told() {
        let ways = Ways::default();
        ways.may_go(SPEAKER, &[Kind::Ssh]);
        ways.has(SPEAKER, &[Kind::Ssh]);
        assert_eq!(hear(&ways, Kind::Ssh, now()), 0);
        assert_eq!(hear(&ways, Kind::Tor, now()), 1);
        assert_eq!(ways.news().len(), 1);
        assert_eq!(ways.news().len(), 0);
    }

    #[test]
    fn the_exit_before_is_right_until_the_bound_after_the_move_is_in_force() {
        let ways = Ways::default();
        ways.may_go(SPEAKER, &[Kind::Ssh]);
        ways.may_go(SPEAKER, &[Kind::Tor]);
        assert!(!ways.are_moving());
        ways.has(SPEAKER, &[Kind::Tor]);
        assert!(ways.are_moving());
        assert_eq!(hear(&ways, Kind::Ssh, now() + 2 * BOUND), 0);
        ways.are_in_force(now());
        assert!(!ways.are_moving() && ways.left(SPEAKER, Kind::Ssh).is_some());
        assert_eq!(hear(&ways, Kind::Ssh, now() + BOUND / 2), 0);
        assert_eq!(hear(&ways, Kind::Ssh, now() + 2 * BOUND), 1);
        assert_eq!(hear(&ways, Kind::Tor, now() + 2 * BOUND), 0);
    }

    #[test]
    fn what_was_said_after_the_status_was_asked_is_not_in_force_by_its_answer() {
        let ways = Ways::default();
        ways.may_go(SPEAKER, &[Kind::Ssh]);
        let asked = now();
        std::thread::sleep(Duration::from_millis(2));
        ways.has(SPEAKER, &[]);
        ways.are_in_force(asked);
        assert!(ways.are_moving());
    }

    #[test]
    fn who_comes_back_to_an_exit_may_go_by_it_again() {
        let ways = Ways::default();
        ways.may_go(SPEAKER, &[Kind::Ssh]);
        ways.has(SPEAKER, &[]);
        ways.are_in_force(now());
        ways.may_go(SPEAKER, &[Kind::Ssh]);
        assert_eq!(hear(&ways, Kind::Ssh, now() + 2 * BOUND), 0);
        assert_eq!(ways.left(SPEAKER, Kind::Ssh), None);
    }
}
