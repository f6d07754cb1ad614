//! A container as Docker describes it, and the part of that which may be shown.

use std::collections::BTreeMap;

use super::{ContainerId, ContainerState, Health, ServiceName};

/// What Docker says of one container. Not yet known to be anybody's: it stays inside the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The id in the answer, which must be the id that was asked for.
    pub id: ContainerId,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// Image reference that it was made with.
    pub image: String,
    /// Now.
    pub state: ContainerState,
    /// Milliseconds since 1970-01-01T00:00:00Z; `None`: never started.
    pub started_unix_ms: Option<i64>,
    /// Exit status of the last run.
    pub exit_code: i32,
    /// Of its health check.
    pub health: Health,
    /// How often Docker started it again.
    pub restart_count: u32,
    /// Memory limit that it was made with, bytes; 0: none.
    pub memory_limit_bytes: u64,
}

/// A container of this cell's, as it may be shown: no label, no environment, no mount, no name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The service that it belongs to.
    pub service: ServiceName,
    /// Docker's id.
    pub id: ContainerId,
    /// Image reference that it was made with.
    pub image: String,
    /// Now.
    pub state: ContainerState,
    /// Milliseconds since 1970-01-01T00:00:00Z; `None`: never started.
    pub started_unix_ms: Option<i64>,
    /// Exit status of the last run; 0 unless the state is [`ContainerState::Exited`].
    pub exit_code: i32,
    /// Of its health check.
    pub health: Health,
    /// How often Docker started it again.
    pub restart_count: u32,
    /// Memory limit that it was made with, bytes; 0: none.
    pub memory_limit_bytes: u64,
}

/// One reading of what a container uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// CPU time since it started, nanoseconds.
    pub cpu_usage_ns: u64,
    /// Memory in use, bytes.
    pub memory_usage_bytes: u64,
    /// Memory limit that it was made with, bytes; 0: none.
    pub memory_limit_bytes: u64,
    /// Received on all its networks, bytes.
    pub network_received_bytes: u64,
    /// Sent on all its networks, bytes.
    pub network_sent_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
}
