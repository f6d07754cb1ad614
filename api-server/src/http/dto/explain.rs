//! What becomes of a packet.

use serde::Serialize;
use utoipa::ToSchema;

use crate::service::explain;

/// Whether a device reaches something, and why.
#[derive(Debug, Serialize, ToSchema)]
pub struct Explanation {
    /// Whether the packet passes.
    pub passes: bool,
    /// Why, in words.
    pub reason: String,
    /// Name of the counter that it is dropped under.
    pub counter: Option<String>,
    /// `cell`, `peers`, `out` or `exit`.
    pub target: String,
    /// The address that the device sends from.
    pub source: String,
    /// Where its destination is translated to.
    pub translated_to: Option<String>,
    /// Whether it leaves with the machine's own address.
    pub masqueraded: bool,
    /// The rules that it meets, in order, as nft(8) writes them.
    pub steps: Vec<String>,
}

impl From<explain::Explanation> for Explanation {
    fn from(found: explain::Explanation) -> Self {
        let explain::Explanation {
            passes,
            reason,
            counter,
            target,
            source,
            translated_to,
            masqueraded,
            steps,
        } = found;
        Explanation {
            passes,
            reason,
            counter,
            target,
            source,
            translated_to,
            masqueraded,
            steps,
        }
    }
}
