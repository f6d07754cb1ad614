//! Exits that a relay on this machine carries (`cell-egress`): TCP of their peers is redirected to it, the rest is refused.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::desired::ExitWay;
use crate::model::{ExitId, ExitMark};

/// An exit that the relay carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// What its flows are known by; shared with the peers that are bound to it.
    pub way: Arc<RelayWay>,
    /// Where the relay may connect to for it.
    pub servers: BTreeSet<SocketAddr>,
}

/// What flows of such an exit are known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayWay {
    /// Whose they are.
    pub id: ExitId,
    /// Of the flows; no packet is routed by it.
    pub mark: ExitMark,
    /// TCP port of the relay, on the hidden service addresses.
    pub port: u16,
}

/// What carries a peer to the internet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carrier {
    /// An interface.
    Interface(Arc<ExitWay>),
    /// The relay.
    Relay(Arc<RelayWay>),
}

impl Carrier {
    /// The exit's id.
    pub fn id(&self) -> &ExitId {
        match self {
            Carrier::Interface(way) => &way.id,
            Carrier::Relay(way) => &way.id,
        }
    }

    /// The exit's mark.
    pub fn mark(&self) -> ExitMark {
        match self {
            Carrier::Interface(way) => way.mark,
            Carrier::Relay(way) => way.mark,
        }
    }
}
