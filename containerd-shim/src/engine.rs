//! What the broker needs of Docker: eleven operations on containers that are there, each with a permit of the judge; and what
//! [`Maker`] has, by which deployments are made.

mod docker;
mod maker;
mod observe;
mod transport;

use bytes::Bytes;
use cell_broker_core::logs::LogTail;
use cell_broker_core::model::{ContainerId, Observed, Ownership, ServiceName, Stats};
use cell_broker_core::{Permit, Unreachable, act};
use cell_manifest::ReloadSignal;

pub use docker::DockerEngine;
pub use maker::{Condition, Maker, Progress, VolumeState};
use tokio::sync::mpsc;

/// Most containers that are shown in one list.
pub const LISTED_MAX: usize = 256;

/// Docker, or a stand-in that keeps the same contract (`tests/contract.rs`).
pub trait Engine: Send + Sync + 'static {
    /// Docker's own version and that of its API.
    fn version(&self) -> impl Future<Output = Result<Version, EngineError>> + Send;
    /// The ids of containers that bear the owner label, and the service label (of `service`, if given), in any state. At most
    /// one more than [`LISTED_MAX`], which then tells that there are more.
    fn list(
        &self,
        ownership: &Ownership,
        service: Option<&ServiceName>,
    ) -> impl Future<Output = Result<Vec<ContainerId>, EngineError>> + Send;
    /// What Docker says of one container.
    fn inspect(&self, id: &ContainerId) -> impl Future<Output = Result<Observed, EngineError>> + Send;
    /// Starts it. Starting the running is no error.
    fn start(&self, permit: &Permit<act::Start>) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// Stops it. Stopping the stopped is no error.
    fn stop(&self, permit: &Permit<act::Stop>) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// Stops and starts it.
    fn restart(&self, permit: &Permit<act::Restart>) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// Sends it the signal that its manifest names.
    fn reload(
        &self,
        permit: &Permit<act::Reload>,
        signal: ReloadSignal,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// The end of its log.
    fn logs(&self, permit: &Permit<act::Logs>) -> impl Future<Output = Result<LogTail, EngineError>> + Send;
    /// Its last lines and then what it writes, to `told` as long as somebody reads it, in bounded pieces. Ends after a time, after
    /// so many bytes, and with the container.
    fn follow(
        &self,
        permit: &Permit<act::Logs>,
        told: mpsc::Sender<LogTail>,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// Docker's archive (tar) of the folder `path` as the container sees it, to `told` as it comes and no faster than that is
    /// read. Ends when nobody reads. Docker ends it early and says nothing where a file changed: whoever reads it has to see its
    /// end marked.
    fn archive(
        &self,
        permit: &Permit<act::Backup>,
        path: &str,
        told: mpsc::Sender<Bytes>,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// One reading.
    fn stats(&self, permit: &Permit<act::Stats>) -> impl Future<Output = Result<Stats, EngineError>> + Send;
}

/// What Docker says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// E.g. "28.2.2".
    pub docker: String,
    /// E.g. "1.47".
    pub api: String,
}

/// Docker did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// There is no Docker to talk to.
    #[error("{0}")]
    Unreachable(#[from] Unreachable),
    /// No answer in time.
    #[error("Docker did not answer in time")]
    Slow,
    /// There is no such container, or no longer.
    #[error("the container is gone")]
    Gone,
    /// Docker would not.
    #[error("Docker answered {status}")]
    Refused {
        /// HTTP status.
        status: u16,
    },
    /// An answer that is not understood is treated as none.
    #[error("Docker's answer cannot be used: {0}")]
    Unusable(&'static str),
}
