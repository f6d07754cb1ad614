//! What can be done to a container in which state.

use crate::model::ContainerState;

/// Whether a start means something.
pub fn can_start(state: ContainerState) -> bool {
    match state {
        ContainerState::Created | ContainerState::Exited => true,
        ContainerState::Running
        | ContainerState::Paused
        | ContainerState::Restarting
        | ContainerState::Removing
        | ContainerState::Dead => false,
    }
}

/// Whether there are processes to stop. Docker thaws a paused container to stop it.
pub fn can_stop(state: ContainerState) -> bool {
    match state {
        ContainerState::Running | ContainerState::Paused | ContainerState::Restarting => true,
        ContainerState::Created
        | ContainerState::Removing
        | ContainerState::Exited
        | ContainerState::Dead => false,
    }
}

/// Whether it can be brought up anew, from running or from stopped.
pub fn can_restart(state: ContainerState) -> bool {
    can_start(state) || can_stop(state)
}

/// Whether there is a log to read.
pub(crate) fn has_log(state: ContainerState) -> bool {
    state != ContainerState::Removing
}

/// Whether there are processes to measure.
pub(crate) fn has_stats(state: ContainerState) -> bool {
    matches!(state, ContainerState::Running | ContainerState::Paused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_state_can_be_both_started_and_stopped() {
        for state in ContainerState::ALL {
            assert!(!(can_start(state) && can_stop(state)), "{state}");
        }
    }

    #[test]
    fn nothing_is_done_to_what_is_going_away() {
        for state in [ContainerState::Removing, ContainerState::Dead] {
            assert!(
                !can_start(state) && !can_stop(state) && !can_restart(state),
                "{state}"
            );
        }
    }
}
