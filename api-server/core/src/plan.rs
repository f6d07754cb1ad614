//! What a change of peers means to people: who gains and who loses which reach, who leaves by another way, what is cut.
//!
//! Statements are facts about names, found by comparing peers before and after; their words are in `plan/words.rs` and
//! nowhere else. `lab/tests/plans.rs` holds them together with what netd's policy does with packets.

mod compare;
mod place;
pub mod replace;
mod words;

use std::collections::BTreeMap;

pub use compare::plan;
pub use place::Place;
pub(crate) use place::is_public4;
pub use words::Told;

use crate::access::Protocol;
use crate::connection::choice::Route;
use crate::connection::id::ConnectionId;
use crate::connection::kind::Kind;
use crate::peer::Peer;
use crate::range::VpnRange;

/// The most services of one peer that are told one by one; of more, how many there are.
pub const SERVICES_TOLD: usize = 8;

/// A peer, and the way that what it sends to the internet takes now.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// The peer.
    pub peer: &'a Peer,
    /// Its way; [`Route::Nowhere`] keeps it off the network.
    pub route: Route,
}

/// What becomes of a peer.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// As it is; `None`: it is added.
    pub before: Option<Standing<'a>>,
    /// As it would be; `None`: it is removed.
    pub after: Option<Standing<'a>>,
}

/// What must be known of a connection to speak of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownExit {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: Kind,
}

/// What a change happens in.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// The VPN's addresses.
    pub range: &'a VpnRange,
    /// All connections.
    pub exits: &'a BTreeMap<ConnectionId, KnownExit>,
    /// All peers that do not change.
    pub others: &'a [Standing<'a>],
}

/// Peers by their names, in order. At least one, but for the devices that somebody gains where there are none yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group(pub Vec<String>);

/// A way to the internet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leaves {
    /// The cell's own.
    Own,
    /// Through a connection.
    Through {
        /// Its name.
        exit: String,
        /// Whether it carries nothing but TCP.
        tcp_alone: bool,
    },
}

/// What else leads to a service, whether or not it is granted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Besides {
    /// Internet access, by this way.
    Internet(Leaves),
    /// Peer-to-peer.
    Devices,
}

/// A service that somebody gains or loses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reached {
    /// Where it is.
    pub place: Place,
    /// Its transport protocol.
    pub protocol: Protocol,
    /// Its port.
    pub port: u16,
    /// What led there before it was gained, or does after it is lost.
    pub besides: Option<Besides>,
}

/// Something that can be reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// The cell itself: its pages and its names.
    Cell,
    /// Public addresses.
    Internet(Leaves),
    /// Other devices. Empty: it may, and no other may.
    Devices(Group),
    /// A single service.
    Service(Reached),
    /// So many single services more.
    MoreServices(usize),
}

/// Why a peer is off the network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Off {
    /// It is removed.
    Removed,
    /// Nothing carries its exit, and it fails closed.
    NotCarried(String),
}

/// Which open connections end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ends {
    /// All.
    All,
    /// Those to public addresses.
    Internet,
    /// Those to the devices that are lost.
    Devices,
    /// Those to the services that are lost.
    Services,
}

/// One thing that a change means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// It is on the network no more.
    GoesOff(Off),
    /// Whoever has its key now is off the network, and whoever has the new one is on it.
    NewKey,
    /// It reaches this no more.
    Loses(Reach),
    /// It reaches this from now on.
    Gains(Reach),
    /// What it sends to the internet takes another way.
    Way {
        /// Before.
        from: Leaves,
        /// From now on.
        to: Leaves,
    },
    /// It is bound to a connection that does not carry it now: because it has no internet access, or the connection does
    /// not work. `None`: to none any more.
    Bound {
        /// The connection.
        to: Option<String>,
        /// The way that it takes meanwhile; `None`: it has no internet access, or is off the network.
        meanwhile: Option<Leaves>,
    },
    /// What happens while the connection that it is bound to does not work.
    WhileDown {
        /// That connection.
        exit: String,
        /// What stands in, the first first.
        stand_ins: Vec<String>,
        /// Whether it goes out directly when none of these works; else nowhere.
        directly: bool,
    },
    /// Open connections end.
    Ends(Ends),
    /// Its configuration is older than the cell's from now on.
    Reinstall,
    /// Its accounts at services go with all that they have: each as `user at service`. At least one.
    AccountsGo(Vec<String>),
}

/// A fact about peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Whom it is about.
    pub who: Group,
    /// What becomes of them.
    pub fact: Fact,
}

/// What a change does to the way by which its author came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OwnPath {
    /// Nothing: it is of other devices, or the author came from none.
    Stays,
    /// It takes something from the author's own device, or leads it another way.
    Touched,
    /// It ends it.
    Cut,
}

/// What a change means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// All of it; empty: nothing.
    pub statements: Vec<Statement>,
    /// What it means to its author.
    pub own_path: OwnPath,
}

impl Plan {
    /// With one more statement, which comes last.
    pub fn and(mut self, statement: Statement) -> Self {
        self.statements.push(statement);
        self
    }

    /// Whether the author should let the change wait for a confirmation.
    pub fn confirm_advised(&self) -> bool {
        match self.own_path {
            OwnPath::Stays => false,
            OwnPath::Touched | OwnPath::Cut => true,
        }
    }
}

impl Fact {
    /// The order in which people want to hear of facts.
    fn rank(&self) -> (u8, u8) {
        let of = |reach: &Reach| match reach {
            Reach::Cell => 0,
            Reach::Internet(_) => 1,
            Reach::Devices(_) => 2,
            Reach::Service(_) => 3,
            Reach::MoreServices(_) => 4,
        };
        match self {
            Fact::GoesOff(_) => (0, 0),
            Fact::NewKey => (1, 0),
            Fact::Loses(reach) => (2, of(reach)),
            Fact::Gains(reach) => (3, of(reach)),
            Fact::Way { .. } => (4, 0),
            Fact::Bound { .. } => (5, 0),
            Fact::WhileDown { .. } => (6, 0),
            Fact::Ends(_) => (7, 0),
            Fact::Reinstall => (8, 0),
            Fact::AccountsGo(_) => (9, 0),
        }
    }
}

#[cfg(test)]
mod tests;
