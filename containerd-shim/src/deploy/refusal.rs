//! Why a deployment was not made.

use cell_broker_core::deploy::{Denied, Unfinished, Unverified};
use cell_manifest::Faults;

use crate::binds::Unwalkable;
use crate::broker::Refusal;
use crate::engine::EngineError;

/// Why nothing was deployed, removed or fetched.
#[derive(Debug, thiserror::Error)]
pub enum DeployRefusal {
    /// The policy file says nothing of deployments.
    #[error("the policy file has no table [deploy]: nothing is deployed")]
    NoCeiling,
    /// No key signed it, or it is wrong.
    #[error("{0}")]
    Unverified(#[from] Unverified),
    /// Words that are not of the documented form.
    #[error("{0}")]
    Invalid(Faults),
    /// It was not handed in.
    #[error("no manifest of that digest was handed in: PutManifest first")]
    NoManifest,
    /// Above the ceiling.
    #[error("the broker's ceiling does not allow it: {0}")]
    Denied(Denied),
    /// An image is not there.
    #[error("{0} is not on this machine: PullImages first")]
    ImageAbsent(String),
    /// A folder cannot be given.
    #[error("{0}")]
    Bind(#[from] Unwalkable),
    /// The list of images that were built on the machine.
    #[error("the list of images of this machine cannot be used: {0}")]
    LocalImages(String),
    /// Another kind of network.
    #[error("the service's network would have to be another: remove the service first; its volumes stay")]
    NetworkDiffers,
    /// A name is taken at Docker by something that the broker did not make.
    #[error("{0} is at Docker and is not the broker's: remove it there")]
    Foreign(String),
    /// Docker made something else.
    #[error("Docker made something else than was asked for, and it was taken away: {0}")]
    Different(String),
    /// It ended as soon as it was started.
    #[error("{0} ended as soon as it was started; what ran before runs again")]
    NotRunning(String),
    /// All places for manifests are in use.
    #[error("as many manifests as the ceiling allows are in use")]
    Quota,
    /// A fault of the broker's own: the finished request breaks the policy.
    #[error("{0}")]
    Unfinished(#[from] Unfinished),
    /// The store.
    #[error("the broker's store cannot be used; its log has the cause")]
    Store(#[from] std::io::Error),
    /// As of the other verbs.
    #[error("{0}")]
    Other(#[from] Refusal),
}

impl DeployRefusal {
    /// Stable code, the reason in an answer.
    pub fn code(&self) -> &'static str {
        match self {
            DeployRefusal::NoCeiling => "NO_CEILING",
            DeployRefusal::Unverified(Unverified::Signature) => "MANIFEST_UNSIGNED",
            DeployRefusal::Unverified(Unverified::Manifest(_)) => "MANIFEST_INVALID",
            DeployRefusal::Invalid(_) => "INVALID_REQUEST",
            DeployRefusal::NoManifest => "NO_MANIFEST",
            DeployRefusal::Denied(_) => "DENIED",
            DeployRefusal::ImageAbsent(_) => "IMAGE_ABSENT",
            DeployRefusal::Bind(_) => "BIND_ROOT",
            DeployRefusal::LocalImages(_) => "LOCAL_IMAGES",
            DeployRefusal::NetworkDiffers => "NETWORK_DIFFERS",
            DeployRefusal::Foreign(_) => "FOREIGN_OBJECT",
            DeployRefusal::Different(_) => "DIFFERENT",
            DeployRefusal::NotRunning(_) => "NOT_RUNNING",
            DeployRefusal::Quota => "QUOTA",
            DeployRefusal::Unfinished(_) => "POLICY",
            DeployRefusal::Store(_) => "STORE",
            DeployRefusal::Other(refusal) => refusal.code(),
        }
    }
}

impl From<EngineError> for DeployRefusal {
    fn from(error: EngineError) -> Self {
        DeployRefusal::Other(error.into())
    }
}
