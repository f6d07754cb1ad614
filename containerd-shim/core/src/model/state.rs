//! What a container is doing, in Docker's own words.

use std::fmt;

/// State of a container (Docker API, `State.Status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContainerState {
    /// Made, never started.
    Created,
    /// Running. Docker 29 calls a container that is being stopped "stopping"; its processes still run.
    Running,
    /// Frozen.
    Paused,
    /// Being started again by Docker.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// Could not be removed.
    Dead,
}

impl ContainerState {
    /// All there are.
    pub const ALL: [ContainerState; 7] = [
        ContainerState::Created,
        ContainerState::Running,
        ContainerState::Paused,
        ContainerState::Restarting,
        ContainerState::Removing,
        ContainerState::Exited,
        ContainerState::Dead,
    ];
}

impl fmt::Display for ContainerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ContainerState::Created => "created",
            ContainerState::Running => "running",
            ContainerState::Paused => "paused",
            ContainerState::Restarting => "restarting",
            ContainerState::Removing => "removing",
            ContainerState::Exited => "exited",
            ContainerState::Dead => "dead",
        })
    }
}

/// What a container's health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// There is no check.
    Unchecked,
    /// Not decided yet.
    Starting,
    /// The last check passed.
    Healthy,
    /// As many checks as configured failed in a row.
    Unhealthy,
}

impl Health {
    /// The word on the wire; empty without a check.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Unchecked => "",
            Health::Starting => "starting",
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
        }
    }
}
