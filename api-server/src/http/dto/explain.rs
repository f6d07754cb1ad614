//! What becomes of a packet.

use serde::Serialize;
use utoipa::ToSchema;

use crate::service::explain;

/// Whether a device or a container reaches something, and why.
#[derive(Debug, Serialize, ToSchema)]
pub struct Explanation {
    /// Whether the packet passes.
    pub passes: bool,
    /// Why, in words.
    pub reason: String,
    /// Name of the counter that it is dropped under.
    pub counter: Option<String>,
    /// `cell`, `peers`, `service`, `out` or `exit`.
    pub target: String,
    /// The address that it is sent from.
    pub source: String,
    /// Where its destination is translated to.
    pub translated_to: Option<String>,
    /// Whether it leaves with the machine's own address.
    pub masqueraded: bool,
    /// The rules that it meets, in order, as nft(8) writes them.
    pub steps: Vec<String>,
    /// The exit that carries it, or would; null: none.
    #[schema(required)]
    pub exit: Option<ExplainedExit>,
}

/// The exit that decides a packet's way.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplainedExit {
    /// The connection's id.
    pub connection_id: String,
    /// Its name; null: it is not known any more.
    #[schema(required)]
    pub connection_name: Option<String>,
    /// By which its flows are known.
    #[schema(example = "0x1000")]
    pub mark: String,
    /// Its routing table; null: no table routes what the relay carries.
    #[schema(required)]
    pub table: Option<u32>,
    /// Its interface; null: the relay carries it.
    #[schema(required)]
    pub iface: Option<String>,
    /// Its TCP port of the relay; null: it has an interface.
    #[schema(required)]
    pub redirect_port: Option<u32>,
}

impl From<explain::ExplainedExit> for ExplainedExit {
    fn from(exit: explain::ExplainedExit) -> Self {
        let explain::ExplainedExit {
            connection_id,
            connection_name,
            mark,
            table,
            iface,
            redirect_port,
        } = exit;
        ExplainedExit {
            connection_id,
            connection_name,
            mark: format!("{mark:#x}"),
            table,
            iface,
            redirect_port,
        }
    }
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
            exit,
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
            exit: exit.map(ExplainedExit::from),
        }
    }
}
