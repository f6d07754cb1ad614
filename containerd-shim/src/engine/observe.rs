//! Docker's words to the broker's own types. What is absent or unknown and matters for a decision is an error.

use std::error::Error as _;
use std::io;

use bollard::errors::Error;
use bollard::models::{
    ContainerInspectResponse, ContainerMemoryStats, ContainerStateStatusEnum, ContainerStatsResponse,
    HealthStatusEnum,
};
use cell_broker_core::Unreachable;
use cell_broker_core::model::{ContainerState, Health, Observed, Stats};

use super::EngineError;
use super::transport::{HeldBack, TooLong};

/// A container as the judge sees it.
pub(super) fn observed(answer: ContainerInspectResponse) -> Result<Observed, EngineError> {
    let id = answer
        .id
        .as_deref()
        .unwrap_or_default()
        .try_into()
        .map_err(|_| EngineError::Unusable("no full id"))?;
    let config = answer.config.ok_or(EngineError::Unusable("no Config"))?;
    let state = answer.state.ok_or(EngineError::Unusable("no State"))?;
    Ok(Observed {
        id,
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        image: config.image.unwrap_or_default(),
        state: container_state(state.status)?,
        started_unix_ms: state.started_at.as_deref().and_then(started),
        exit_code: state
            .exit_code
            .and_then(|code| i32::try_from(code).ok())
            .unwrap_or(-1),
        health: health(state.health.and_then(|health| health.status)),
        restart_count: answer
            .restart_count
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(0),
        memory_limit_bytes: memory_limit(answer.host_config.and_then(|host| host.memory)),
    })
}

fn container_state(status: Option<ContainerStateStatusEnum>) -> Result<ContainerState, EngineError> {
    Ok(match status {
        Some(ContainerStateStatusEnum::CREATED) => ContainerState::Created,
        Some(ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::STOPPING) => {
            ContainerState::Running
        }
        Some(ContainerStateStatusEnum::PAUSED) => ContainerState::Paused,
        Some(ContainerStateStatusEnum::RESTARTING) => ContainerState::Restarting,
        Some(ContainerStateStatusEnum::REMOVING) => ContainerState::Removing,
        Some(ContainerStateStatusEnum::EXITED) => ContainerState::Exited,
        Some(ContainerStateStatusEnum::DEAD) => ContainerState::Dead,
        Some(ContainerStateStatusEnum::EMPTY) | None => return Err(EngineError::Unusable("no state")),
    })
}

/// Docker says year 1 for "never".
fn started(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>()
        .ok()
        .map(jiff::Timestamp::as_millisecond)
        .filter(|ms| *ms > 0)
}

fn health(status: Option<HealthStatusEnum>) -> Health {
    match status {
        Some(HealthStatusEnum::STARTING) => Health::Starting,
        Some(HealthStatusEnum::HEALTHY) => Health::Healthy,
        Some(HealthStatusEnum::UNHEALTHY) => Health::Unhealthy,
        Some(HealthStatusEnum::EMPTY | HealthStatusEnum::NONE) | None => Health::Unchecked,
    }
}

/// Docker says 0, or a negative number, for "none".
fn memory_limit(bytes: Option<i64>) -> u64 {
    bytes.and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
}

/// One reading. The limit comes from the container: Docker's reading gives the machine's memory where there is none.
pub(super) fn stats(answer: ContainerStatsResponse, memory_limit_bytes: u64) -> Stats {
    let networks = answer.networks.unwrap_or_default();
    let sum = |bytes: fn(&bollard::models::ContainerNetworkStats) -> Option<u64>| {
        networks.values().filter_map(bytes).fold(0, u64::saturating_add)
    };
    Stats {
        cpu_usage_ns: answer
            .cpu_stats
            .and_then(|cpu| cpu.cpu_usage?.total_usage)
            .unwrap_or(0),
        memory_usage_bytes: answer.memory_stats.map_or(0, |memory| memory_usage(&memory)),
        memory_limit_bytes,
        network_received_bytes: sum(|network| network.rx_bytes),
        network_sent_bytes: sum(|network| network.tx_bytes),
        pids: answer.pids_stats.and_then(|pids| pids.current).unwrap_or(0),
    }
}

/// Without the page cache that the kernel would give up first, as `docker stats` counts (cgroup v2, then v1).
fn memory_usage(memory: &ContainerMemoryStats) -> u64 {
    let detail = memory.stats.as_ref();
    let cache = detail.and_then(|d| d.get("inactive_file").or_else(|| d.get("total_inactive_file")));
    memory
        .usage
        .unwrap_or(0)
        .saturating_sub(cache.copied().unwrap_or(0))
}

/// Why a call failed. Docker's own words go to the log and no further: they can name other people's containers.
pub(super) fn error(error: &Error) -> EngineError {
    if let Error::DockerResponseServerError { status_code, message } = error {
        return match status_code {
            404 => EngineError::Gone,
            status => {
                tracing::warn!(status, words = %cell_broker_core::logs::printable(message), "docker refused");
                EngineError::Refused { status: *status }
            }
        };
    }
    let why = match io_cause(error) {
        Some(cause) => io_error(cause),
        None if matches!(error, Error::HyperResponseError { .. }) => Unreachable::Lost.into(),
        None => EngineError::Unusable("not of the documented form"),
    };
    // No Docker is a state of the machine's, which the status tells; it would be said at each look.
    if why != Unreachable::NoSocket.into() {
        tracing::warn!(%error, "docker call failed");
    }
    why
}

pub(super) fn io_error(cause: &io::Error) -> EngineError {
    match cause.get_ref() {
        Some(inner) if inner.is::<HeldBack>() => return EngineError::Unusable("the request was held back"),
        Some(inner) if inner.is::<TooLong>() => return EngineError::Unusable("too long"),
        _ => {}
    }
    match cause.kind() {
        io::ErrorKind::NotFound => Unreachable::NoSocket.into(),
        io::ErrorKind::ConnectionRefused => Unreachable::Refused.into(),
        io::ErrorKind::PermissionDenied => Unreachable::Permission.into(),
        // connect(2) on a Unix socket whose queue is full.
        io::ErrorKind::WouldBlock => EngineError::Slow,
        _ => Unreachable::Lost.into(),
    }
}

fn io_cause(error: &Error) -> Option<&io::Error> {
    if let Error::IOError { err } = error {
        return Some(err);
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref() {
            return Some(io);
        }
        cause = inner.source();
    }
    None
}
