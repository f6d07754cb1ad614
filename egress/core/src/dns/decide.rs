//! What becomes of a question.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address::Resolver;
use super::name::Name;
use super::special::{Special, reverse_address, special};
use super::table::{ExitDns, Table};
use super::zone::{Data, Line, Local, Outcome};
use crate::exit::ExitId;

/// The kind of record that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// An alias.
    Cname,
    /// The name of an address.
    Ptr,
    /// The start of a zone.
    Soa,
    /// The servers of a zone.
    Ns,
    /// Whatever there is (RFC 8482).
    Any,
    /// A whole zone: AXFR or IXFR.
    Transfer,
    /// Any other, by its number.
    Other(u16),
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A peer, by its tunnel address.
    Peer(IpAddr),
    /// The cell itself: it has no exit.
    Cell,
}

/// What becomes of a question.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// It is answered here.
    Answer(Local),
    /// It is carried by the machine's own way, to one of the default resolvers.
    Default,
    /// It is carried by the peer's exit, and by no other way.
    Exit(&'a ExitId, &'a ExitDns),
    /// The authority is asked, for this peer alone: what it says depends on who asks. Nobody else is asked instead.
    Authority(Resolver, IpAddr),
    /// It is refused.
    Refuse(Refused),
    /// The peer's exit is not known to DNS: there is no way.
    NoWay,
}

/// Why a question is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its source is no peer's address.
    #[error("the source is no peer's address")]
    Stranger,
    /// Everything of a name, or a whole zone.
    #[error("ANY and zone transfers are refused")]
    TooMuch,
}

/// How long an answer about a special name may be kept, seconds.
const SPECIAL_TTL: u32 = 3600;

/// Decides a question of the class IN. Names of the cell come before everything else but who asks, so that they resolve
/// whatever the state of the peer's exit.
pub fn decide<'a>(table: &'a Table, asker: Asker, name: &Name, kind: Kind) -> Decision<'a> {
    let exit = match asker {
        Asker::Cell => None,
        Asker::Peer(source) => match table.peer(source) {
            None => return Decision::Refuse(Refused::Stranger),
            Some(exit) => exit,
        },
    };
    match kind {
        Kind::Any | Kind::Transfer => return Decision::Refuse(Refused::TooMuch),
        Kind::A | Kind::Aaaa | Kind::Cname | Kind::Ptr | Kind::Soa | Kind::Ns | Kind::Other(_) => {}
    }
    let own = own(table, name, kind);
    if let Some(at) = authority(table, asker, name, own.as_ref()) {
        return at;
    }
    if let Some(own) = own {
        return Decision::Answer(own);
    }
    match special(name, kind) {
        Special::Localhost => return Decision::Answer(localhost(name, kind)),
        Special::Absent => return Decision::Answer(alone(Vec::new(), Outcome::NoName)),
        Special::None => {}
    }
    match exit {
        None => Decision::Default,
        Some(id) => match table.exit(id) {
            Some(dns) => Decision::Exit(id, dns),
            None => Decision::NoWay,
        },
    }
}

/// Whether the authority is asked. The cell's own word comes first: of a name that it has, or that an alias of its own leads to,
/// nobody else is asked. The cell itself is no peer, and has no services' names.
fn authority<'a>(table: &Table, asker: Asker, name: &Name, own: Option<&Local>) -> Option<Decision<'a>> {
    let authority = table.authority()?;
    let Asker::Peer(source) = asker else { return None };
    let is_its = match own {
        Some(own) => own.outcome == Outcome::NoName && own.lines.is_empty() && own.zone.is_some(),
        None => name.suffixes().any(|suffix| authority.zones.contains(suffix)),
    };
    is_its.then(|| Decision::Authority(authority.at, source.to_canonical()))
}

/// What the cell itself says of a name.
fn own(table: &Table, name: &Name, kind: Kind) -> Option<Local> {
    if let Some(local) = table.zones().answer(name, kind) {
        return Some(local);
    }
    let (target, ttl) = table.zones().pointer(reverse_address(name)?)?;
    let line = Line {
        owner: name.clone(),
        ttl,
        data: Data::Pointer(target.clone()),
    };
    Some(if kind == Kind::Ptr {
        alone(vec![line], Outcome::Found)
    } else {
        alone(Vec::new(), Outcome::NoData)
    })
}

fn localhost(name: &Name, kind: Kind) -> Local {
    let line = |data| {
        let owner = name.clone();
        vec![Line {
            owner,
            ttl: SPECIAL_TTL,
            data,
        }]
    };
    match kind {
        Kind::A => alone(line(Data::V4(Ipv4Addr::LOCALHOST)), Outcome::Found),
        Kind::Aaaa => alone(line(Data::V6(Ipv6Addr::LOCALHOST)), Outcome::Found),
        Kind::Cname | Kind::Ptr | Kind::Soa | Kind::Ns | Kind::Any | Kind::Transfer | Kind::Other(_) => {
            alone(Vec::new(), Outcome::NoData)
        }
    }
}

fn alone(lines: Vec<Line>, outcome: Outcome) -> Local {
    Local {
        lines,
        outcome,
        zone: None,
    }
}
