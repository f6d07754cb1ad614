//! Whether the broker starts again what has ended. Docker never does: at boot it would start containers before netd's policy is
//! in force. So a container is started again only in the boot in which somebody asked for it.

use std::time::Duration;

use cell_manifest::Restart;

use crate::model::ContainerState;

/// The first wait before a start; each further one is twice as long.
pub const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Whatever ran for so long had started well: the next end is the first again.
pub const RAN_WELL: Duration = Duration::from_secs(60);

/// What is wanted of a container, from the broker's store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The manifest's word.
    pub restart: Restart,
    /// Whether a verb started it in this boot.
    pub this_boot: bool,
    /// Whether a verb stopped it.
    pub stopped: bool,
}

/// What Docker says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Now.
    pub state: ContainerState,
    /// Of its last run.
    pub exit_code: i32,
}

/// What is remembered of it while the broker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tries {
    /// Starts in a row after which it did not run well.
    pub count: u32,
    /// When it was first seen running after the last start, by a clock that goes forward alone.
    pub running_since: Option<Duration>,
    /// When it was first seen to have ended.
    pub ended_at: Option<Duration>,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is started.
    Start,
    /// It is looked at again after this.
    Wait(Duration),
    /// Nothing.
    Leave,
}

/// Decides, and what is remembered from now on. `now` is of the same clock as in [`Tries`].
pub fn decide(wanted: Wanted, seen: Seen, tries: Tries, now: Duration) -> (Decision, Tries) {
    if !ended(seen.state) {
        return (Decision::Leave, going_on(seen.state, tries, now));
    }
    let ended_at = tries.ended_at.unwrap_or(now);
    let ran = tries
        .running_since
        .map_or(Duration::ZERO, |since| ended_at.saturating_sub(since));
    let count = if ran >= RAN_WELL { 0 } else { tries.count };
    let kept = Tries {
        count,
        running_since: None,
        ended_at: Some(ended_at),
    };
    // Until it is counted again, what it ran for is used up.
    if !may(wanted, seen, count) {
        return (Decision::Leave, kept);
    }
    let left = wait(count).saturating_sub(now.saturating_sub(ended_at));
    if left.is_zero() {
        let next = Tries {
            count: count.saturating_add(1),
            running_since: None,
            ended_at: None,
        };
        (Decision::Start, next)
    } else {
        (Decision::Wait(left), kept)
    }
}

fn ended(state: ContainerState) -> bool {
    match state {
        // Made and not running: Docker could not start it.
        ContainerState::Created | ContainerState::Exited => true,
        ContainerState::Running
        | ContainerState::Paused
        | ContainerState::Restarting
        | ContainerState::Removing
        | ContainerState::Dead => false,
    }
}

fn going_on(state: ContainerState, tries: Tries, now: Duration) -> Tries {
    let running = state == ContainerState::Running;
    Tries {
        count: tries.count,
        running_since: running.then(|| tries.running_since.unwrap_or(now)),
        ended_at: None,
    }
}

fn may(wanted: Wanted, seen: Seen, count: u32) -> bool {
    let asked = wanted.this_boot && !wanted.stopped;
    let failed = seen.state == ContainerState::Created || seen.exit_code != 0;
    asked
        && match wanted.restart {
            Restart::No => false,
            Restart::OnFailure(times) => failed && count < times,
            Restart::UnlessStopped => true,
        }
}

fn wait(count: u32) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(count.min(16)));
    doubled.min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Wanted = Wanted {
        restart: Restart::UnlessStopped,
        this_boot: true,
        stopped: false,
    };

    fn seen(state: ContainerState, exit_code: i32) -> Seen {
        Seen { state, exit_code }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// What is decided once every wait is over.
    fn after_all(wanted: Wanted, seen: Seen) -> Decision {
        let tries = Tries {
            ended_at: Some(at(0)),
            ..Tries::default()
        };
        decide(wanted, seen, tries, at(1000)).0
    }

    #[test]
    fn only_what_was_asked_for_in_this_boot_is_started() {
        let failed = seen(ContainerState::Exited, 137);
        assert_eq!(after_all(ASKED, failed), Decision::Start, "control");
        let other_boot = Wanted {
            this_boot: false,
            ..ASKED
        };
        let stopped = Wanted {
            stopped: true,
            ..ASKED
        };
        let once = Wanted {
            restart: Restart::No,
            ..ASKED
        };
        for wanted in [other_boot, stopped, once] {
            for code in [0, 1, 137] {
                assert_eq!(
                    after_all(wanted, seen(ContainerState::Exited, code)),
                    Decision::Leave
                );
            }
        }
        for state in ContainerState::ALL {
            let starts = matches!(state, ContainerState::Created | ContainerState::Exited);
            let decision = after_all(ASKED, seen(state, 1));
            assert_eq!(decision == Decision::Start, starts, "{state}");
        }
    }

    #[test]
    fn after_a_failure_it_is_started_so_often_and_no_more() {
        let wanted = Wanted {
            restart: Restart::OnFailure(2),
            ..ASKED
        };
        assert_eq!(
            after_all(wanted, seen(ContainerState::Exited, 0)),
            Decision::Leave
        );
        let (mut tries, mut now, mut starts) = (Tries::default(), at(0), 0);
        for _ in 0..1000 {
            let (decision, next) = decide(wanted, seen(ContainerState::Exited, 1), tries, now);
            (tries, now) = (next, now + at(1));
            starts += u32::from(decision == Decision::Start);
        }
        assert_eq!(starts, 2);
    }

    #[test]
    fn each_wait_is_twice_the_one_before_until_it_ran_well() {
        let ended = seen(ContainerState::Exited, 1);
        let (mut tries, mut now) = (Tries::default(), at(5));
        let mut waits = Vec::new();
        for _ in 0..8 {
            let (decision, next) = decide(ASKED, ended, tries, now);
            let Decision::Wait(wait) = decision else {
                panic!("{decision:?}");
            };
            waits.push(wait.as_secs());
            let (decision, next) = decide(ASKED, ended, next, now + wait);
            assert_eq!(decision, Decision::Start);
            tries = next;
            now += wait + at(1);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        // Seen running for a while, and then ended: the first wait again. For less: not.
        let running = seen(ContainerState::Running, 0);
        for (ran, wait) in [(RAN_WELL, FIRST_WAIT), (at(59), LONGEST_WAIT)] {
            let (_, again) = decide(ASKED, running, tries, now);
            let (_, again) = decide(ASKED, running, again, now + ran);
            assert_eq!(decide(ASKED, ended, again, now + ran).0, Decision::Wait(wait));
        }
    }
}
