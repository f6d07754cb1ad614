//! The vocabulary: values that cannot be wrong.

mod exit;
mod interface;
mod key;
mod mark;
mod name;
mod port;

pub use exit::{ExitId, ExitInterface, ExitMark, InvalidExitId, TableId};
pub use interface::{InterfaceName, InvalidInterfaceName, Mtu};
pub use key::{InvalidPublicKey, PublicKey};
pub use mark::{InvalidMark, Mark};
pub use name::{InvalidPeerName, InvalidServiceName, InvalidTableName, PeerName, ServiceName, TableName};
pub use port::{InvalidPort, Port, Protocol};

/// Internet protocol family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// RFC 791.
    V4,
    /// RFC 8200.
    V6,
}

impl Family {
    /// Both, in order.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub fn of(address: std::net::IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}
