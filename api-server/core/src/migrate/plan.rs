//! What is to be done so that the cell has what the first version's files say. The same files over the state that a plan made
//! plan nothing: what is there already stays as it is, and only what nobody has chosen yet is filled in.

use std::collections::{BTreeMap, BTreeSet};

use super::exit::Exit;
use super::file::{First, first};
use super::findings::Findings;
use super::peers::PeerExit;
use crate::connection::choice::ExitChoice;
use crate::connection::config::Config;
use crate::connection::id::ConnectionId;
use crate::connection::import::Imported;
use crate::connection::kind::Kind;
use crate::connection::reference::{Known, resolve};
use crate::fault::Faults;
use crate::name::{ConnectionName, PeerName};

/// The connections that an earlier migration made, or began to make, by type.
pub type Carried = BTreeMap<Kind, ConnectionId>;

/// What the cell has.
#[derive(Debug, Clone, Copy)]
pub struct Cell<'a> {
    /// Its connections.
    pub connections: &'a [Known<'a>],
    /// Those of them that a migration made.
    pub carried: &'a Carried,
    /// What its peers use.
    pub peers: &'a BTreeMap<PeerName, ExitChoice>,
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// Connections to make.
    pub make: Vec<Make>,
    /// Exits that the cell has already.
    pub keep: Vec<Keep>,
    /// Peers to bind, in the order of names.
    pub bind: Vec<Bind>,
    /// What the connections are called that are there and that something is bound to.
    pub called: BTreeMap<ConnectionId, String>,
    /// What is not carried, and why, for people.
    pub notes: Vec<String>,
}

/// A connection to make. Its mark, table and interface or port are the pools' to give.
#[derive(Debug)]
pub struct Make {
    /// Its name.
    pub name: ConnectionName,
    /// What it is made of, with the secrets that go to the vault as `conn_<id>_<field>`.
    pub imported: Imported<Config>,
}

/// An exit that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// Its type.
    pub kind: Kind,
    /// The connection that carries it.
    pub id: ConnectionId,
    /// What it is called.
    pub name: String,
}

/// What a peer gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Whose.
    pub peer: PeerName,
    /// What carried it when this was planned.
    pub over: Option<ConnectionId>,
    /// What carries it from now on; `None`: what it has stays.
    pub to: Option<Target>,
    /// Its own word on failing open from now on; `None`: what it has stays.
    pub fail_open: Option<bool>,
}

/// A connection of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The one that is to be made, of this type.
    Made(Kind),
    /// One that is there.
    There(ConnectionId),
}

impl Make {
    /// Its type.
    pub fn kind(&self) -> Kind {
        self.imported.config.kind()
    }
}

impl Bind {
    /// The peer's choice after it, `to` being the connection that [`Bind::to`] came to be; `None` where somebody has chosen
    /// since it was planned.
    pub fn applied_to(&self, choice: &ExitChoice, to: Option<ConnectionId>) -> Option<ExitChoice> {
        if choice.bound() != self.over {
            return None;
        }
        let bound = match to {
            Some(id) => choice.bound_to(Some(id)),
            None => choice.clone(),
        };
        Some(bound.failing_open(choice.fail_open().or(self.fail_open)))
    }
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_done(&self) -> bool {
        self.make.is_empty() && self.bind.is_empty()
    }
}

/// Plans.
///
/// # Errors
/// Every peer of the cell whose exit names nothing, or several: it would go out by another way than it did.
pub fn plan(file: First, cell: &Cell<'_>) -> Result<Plan, Faults> {
    let First { exits, peers, notes } = file;
    let mut findings = Findings::default();
    for note in notes {
        findings.note(note);
    }
    let (make, keep) = connections(exits, cell);
    let of_file: BTreeMap<Kind, Target> = make
        .iter()
        .map(|make| (make.kind(), Target::Made(make.kind())))
        .chain(keep.iter().map(|keep| (keep.kind, Target::There(keep.id))))
        .collect();
    let (mut bind, mut absent) = (Vec::new(), Vec::new());
    for (peer, said) in peers {
        match cell.peers.get(&peer) {
            Some(choice) => bind.extend(bound(peer, &said, choice, &of_file, cell, &mut findings)),
            None if said.exit.is_some() || said.fail_open.is_some() => absent.push(peer.to_string()),
            None => {}
        }
    }
    if !absent.is_empty() {
        let (shown, more) = first(&absent);
        findings.note(format!(
            "no device here is called {shown}{more}: add it, and import again to bind it to its exit"
        ));
    }
    let bound_to = |id: &ConnectionId| bind.iter().any(|bind| bind.to == Some(Target::There(*id)));
    let called = cell.connections.iter().filter(|one| bound_to(&one.id));
    let called = called.map(|one| (one.id, one.name.to_owned())).collect();
    Ok(Plan {
        make,
        keep,
        bind,
        called,
        notes: findings.finish()?,
    })
}

fn connections(exits: BTreeMap<Kind, Exit>, cell: &Cell<'_>) -> (Vec<Make>, Vec<Keep>) {
    let mut taken: BTreeSet<String> = cell.connections.iter().map(|one| one.name.to_owned()).collect();
    let (mut make, mut keep) = (Vec::new(), Vec::new());
    for (kind, exit) in exits {
        if let Some(there) = there(kind, cell) {
            keep.push(Keep {
                kind,
                id: there.id,
                name: there.name.to_owned(),
            });
            continue;
        }
        let wished = exit.name.filter(|name| !taken.contains(name.as_str()));
        let Some(name) = wished.or_else(|| free_name(kind, &taken)) else {
            continue;
        };
        taken.insert(name.to_string());
        make.push(Make {
            name,
            imported: exit.imported,
        });
    }
    (make, keep)
}

/// The connection that carries an exit already: the one that a migration made, and any of type tor, which are all alike.
fn there<'a>(kind: Kind, cell: &Cell<'a>) -> Option<Known<'a>> {
    let made = cell.carried.get(&kind);
    let of_kind = || cell.connections.iter().filter(|one| one.kind == kind);
    let found = of_kind().find(|one| Some(&one.id) == made);
    match kind {
        Kind::Tor => found.or_else(|| of_kind().min_by_key(|one| one.name)),
        Kind::WireguardExt | Kind::Openvpn | Kind::Sshuttle | Kind::Proxy | Kind::CellRelay => found,
    }
    .copied()
}

/// `tor-v1`, or the first of `tor-v1-2`, `tor-v1-3` that is free: one of so many names is, for so many there are not.
fn free_name(kind: Kind, taken: &BTreeSet<String>) -> Option<ConnectionName> {
    let base = format!("{kind}-v1");
    let more = (2..=taken.len() + 2).map(|number| format!("{base}-{number}"));
    let name = std::iter::once(base.clone())
        .chain(more)
        .find(|name| !taken.contains(name))?;
    ConnectionName::parse(&name).ok()
}

/// What is to be done about one peer. What somebody chose here stays: a file of long ago does not undo it.
fn bound(
    peer: PeerName,
    said: &PeerExit,
    choice: &ExitChoice,
    of_file: &BTreeMap<Kind, Target>,
    cell: &Cell<'_>,
    findings: &mut Findings,
) -> Option<Bind> {
    let wanted = match &said.exit {
        None => None,
        Some(text) => match target(text, of_file, cell) {
            Ok(target) => Some(target),
            Err(why) => {
                findings.fault(format!("{} ({peer})", said.path), why);
                return None;
            }
        },
    };
    let now = choice.bound().map(Target::There);
    if now.is_some() && now != wanted {
        if wanted.is_some() {
            findings.note(format!(
                "{peer} is bound to another connection here, and stays so"
            ));
        }
        return None;
    }
    let fail_open = match (said.fail_open, choice.fail_open()) {
        (Some(said), Some(own)) if said != own => {
            findings.note(format!(
                "what {peer} does while its exit does not work is chosen here, and stays so"
            ));
            None
        }
        (Some(_), Some(_)) => None,
        (said, _) => said,
    };
    let bind = Bind {
        peer,
        over: choice.bound(),
        to: wanted.filter(|_| now.is_none()),
        fail_open,
    };
    (bind.to.is_some() || bind.fail_open.is_some()).then_some(bind)
}

/// What a peer's exit names: a type, of which the file has one or else the cell has one alone; or a connection of the cell.
fn target(text: &str, of_file: &BTreeMap<Kind, Target>, cell: &Cell<'_>) -> Result<Target, String> {
    let kind = Kind::parse(text).ok();
    if let Some(target) = kind.and_then(|kind| of_file.get(&kind)) {
        return Ok(*target);
    }
    let found = resolve(text, cell.connections.iter().copied());
    let found = found.map_err(|error| match kind {
        Some(kind) => format!("uses {kind}: {error}"),
        None => format!("uses what is no type of exit and no connection here: {error}"),
    })?;
    let carried = |id: &ConnectionId| {
        let mut of_id = cell.connections.iter().filter(|one| one.id == *id);
        of_id.all(|one| one.kind.is_carried())
    };
    match found {
        Some(id) if carried(&id) => Ok(Target::There(id)),
        Some(_) => Err("uses another cell, which nothing carries yet".to_owned()),
        None => Err("uses the cell's own way".to_owned()),
    }
}
