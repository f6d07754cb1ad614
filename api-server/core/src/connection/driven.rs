//! What `cell-openvpn` says of a connection: whether its program has a session, and what its server gave.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::id::ConnectionId;

/// What an OpenVPN server gave last. It is a stranger's word, which netd judges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pushed {
    /// The cell's addresses in the tunnel, at most one of each family; none: not known yet.
    pub addresses: Vec<IpAddr>,
    /// Resolvers, asked through the tunnel.
    pub resolvers: Vec<IpAddr>,
    /// Largest packet, bytes; `None`: it did not say.
    pub mtu_bytes: Option<u16>,
}

/// Of all connections that have a program, by id.
pub type AllPushed = BTreeMap<ConnectionId, Pushed>;

/// What the program does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It has a session.
    Connected,
    /// It runs and has none.
    Connecting,
    /// It does not run, and is started anew after a while.
    Waiting,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driven {
    /// What its program does.
    pub doing: Doing,
    /// Since when, milliseconds since 1970-01-01T00:00:00Z.
    pub since_unix_ms: i64,
    /// What is amiss, as `cell-openvpn` codes it (`proto/cell/openvpn/v1/openvpn_service.proto`); empty: nothing.
    pub reason: String,
    /// The same for people.
    pub detail: String,
    /// What its server gave.
    pub pushed: Pushed,
}
