//! The first version's files: `cell_config.json`, of which the section `connectivity` is read, and its file of peers.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::exit::{self, Exit};
use super::findings::Findings;
use super::node::Node;
use super::peers::{self, PeerExit};
use super::vault::OldVault;
use crate::connection::kind::Kind;
use crate::fault::Faults;
use crate::json::{self, printable};
use crate::name::PeerName;

/// The largest `cell_config.json`, bytes.
pub const CONFIG_MAX: usize = 512 * 1024;
/// The largest file of peers, bytes.
pub const PEERS_MAX: usize = 2 * 1024 * 1024;
/// The version of the data model from which on connections have names.
const SECOND: u64 = 2;
/// The services that are named in a note.
const SERVICES_NAMED: usize = 10;

/// The largest file of secrets, bytes.
pub const SECRETS_MAX: usize = 512 * 1024;

/// The texts of the files. All of it may be secret, so there is no `Debug`.
#[derive(Clone, Copy, Default)]
pub struct Texts<'a> {
    /// `cell_config.json`, or its section `connectivity` alone.
    pub config: &'a str,
    /// The file of peers.
    pub peers: Option<&'a str>,
    /// What the vault of then held: an object of texts by the names that the other file refers to.
    pub secrets: Option<&'a str>,
}

/// What the files are.
#[derive(Debug)]
pub enum File {
    /// Of the first version.
    First(First),
    /// Of the second or a later one, whose connections have names: nothing of it is to be migrated.
    Later(u64),
}

/// A file of the first version.
#[derive(Debug)]
pub struct First {
    /// The exits that were in use, one for each type.
    pub(super) exits: BTreeMap<Kind, Exit>,
    /// What peers used, by name.
    pub(super) peers: BTreeMap<PeerName, PeerExit>,
    /// What of it is not carried, for people.
    pub(super) notes: Vec<String>,
}

/// Reads the files.
///
/// # Errors
/// Every fault at once, each with its path in `config`, `peers` or `secrets`; none repeats a value.
pub fn read(texts: Texts<'_>) -> Result<File, Faults> {
    let mut findings = Findings::default();
    let config = document("config", texts.config, CONFIG_MAX, &mut findings);
    let peers = texts
        .peers
        .and_then(|text| document("peers", text, PEERS_MAX, &mut findings));
    let secrets = texts
        .secrets
        .and_then(|text| document("secrets", text, SECRETS_MAX, &mut findings));
    let mut vault = secrets.map_or_else(OldVault::default, |value| {
        OldVault::read("secrets", value, &mut findings)
    });
    let mut connectivity = match config {
        Some(Value::Object(map)) => section(map, &mut findings),
        Some(_) => {
            findings.fault("config", "must be a JSON object");
            None
        }
        None => None,
    };
    let later = connectivity
        .as_mut()
        .and_then(|node| version(node, &mut findings));
    if let Some(later) = later.filter(|_| findings.is_good()) {
        return Ok(File::Later(later));
    }
    let (mut exits, mut found) = (BTreeMap::new(), peers::Found::default());
    if let Some(mut node) = connectivity {
        exits = read_exits(&mut node, &mut vault, &mut findings);
        for name in ["peers", "peer_exits", "assignments"] {
            if let Some(value) = node.take(name) {
                found.read(&node.path_of(name), value, &mut findings);
            }
        }
        for name in ["egress_overrides", "service_egress", "egress"] {
            services(&mut node, name, &mut findings);
        }
        node.finish(&mut findings);
    }
    if let Some(value) = peers {
        found.read("peers", value, &mut findings);
    }
    vault.finish(&mut findings);
    let peers = found.finish(&mut findings);
    let notes = findings.finish()?;
    Ok(File::First(First { exits, peers, notes }))
}

fn document(path: &str, text: &str, max: usize, findings: &mut Findings) -> Option<Value> {
    if text.len() > max {
        findings.fault(path, format!("must have at most {} KiB", max / 1024));
        return None;
    }
    let mut twice = Faults::default();
    let parsed = json::parse(text.trim_start_matches('\u{feff}').as_bytes(), &mut twice);
    for violation in twice.into_violations() {
        findings.fault(format!("{path}.{}", violation.field), violation.description);
    }
    match parsed {
        Ok(value) => Some(value),
        // serde_json's own text can quote what was sent; the position cannot.
        Err(error) => {
            let place = format!("line {}, column {}", error.line(), error.column());
            findings.fault(path, format!("is not valid JSON ({place})"));
            None
        }
    }
}

/// The section `connectivity`, or the whole where it is that section alone.
fn section(map: Map<String, Value>, findings: &mut Findings) -> Option<Node> {
    let is_section = |name: &String| {
        matches!(name.as_str(), "exits" | "connections" | "version") || Kind::parse(name).is_ok()
    };
    let mut whole = Node::new("config".to_owned(), map);
    if whole.has("connectivity") {
        let section = whole.object("connectivity", findings);
        let others: Vec<String> = whole.names().iter().map(|name| printable(name)).collect();
        if !others.is_empty() {
            let (shown, more) = first(&others);
            findings.note(format!("of config only connectivity is read, not {shown}{more}"));
        }
        return section;
    }
    if whole.names().iter().any(is_section) {
        return Some(whole);
    }
    findings.fault(
        "config",
        "must have the section connectivity, as cell_config.json has",
    );
    None
}

/// The version, if it is the second or a later one.
fn version(node: &mut Node, findings: &mut Findings) -> Option<u64> {
    let version = node.number("version", findings);
    match version {
        Some(version) if version >= SECOND => Some(version),
        // The list is the second version's.
        None if node.has("connections") => Some(SECOND),
        Some(_) | None => None,
    }
}

fn read_exits(node: &mut Node, vault: &mut OldVault, findings: &mut Findings) -> BTreeMap<Kind, Exit> {
    let mut nodes: Vec<(Kind, Node)> = Vec::new();
    match node.take("exits") {
        None => {}
        Some(Value::Object(map)) => {
            let mut exits = Node::new(node.path_of("exits"), map);
            take_kinds(&mut exits, &mut nodes, findings);
            exits.finish(findings);
        }
        Some(Value::Array(items)) => listed(&node.path_of("exits"), items, &mut nodes, findings),
        Some(_) => findings.fault(node.path_of("exits"), "must be an object or a list"),
    }
    take_kinds(node, &mut nodes, findings);
    let mut exits = BTreeMap::new();
    for (kind, node) in nodes {
        let path = node.path().to_owned();
        let exit = exit::read(kind, node, vault, findings);
        if let Some(exit) = exit
            && exits.insert(kind, exit).is_some()
        {
            findings.fault(
                path,
                format!("must not be a second exit of type {kind}: the first version had one"),
            );
        }
    }
    exits
}

/// The exits that stand below the names of their types.
fn take_kinds(node: &mut Node, nodes: &mut Vec<(Kind, Node)>, findings: &mut Findings) {
    for kind in Kind::ALL {
        if let Some(exit) = node.object(kind.as_str(), findings) {
            nodes.push((kind, exit));
        }
    }
}

/// The exits of a list, each with its type.
fn listed(path: &str, items: Vec<Value>, nodes: &mut Vec<(Kind, Node)>, findings: &mut Findings) {
    for (index, item) in items.into_iter().enumerate() {
        let path = format!("{path}[{index}]");
        let Value::Object(map) = item else {
            findings.fault(path, "must be an object");
            continue;
        };
        let mut node = Node::new(path, map);
        let kind = node.text("type", findings).map(|text| Kind::parse(&text.value));
        match kind {
            Some(Ok(kind)) => nodes.push((kind, node)),
            Some(Err(error)) => findings.fault(node.path_of("type"), error),
            None => findings.fault(node.path_of("type"), "is required"),
        }
    }
}

/// Exits of services: noted, for services are installed anew here, and without an exit of their own reach nothing by one.
fn services(node: &mut Node, name: &str, findings: &mut Findings) {
    let path = node.path_of(name);
    match node.take(name) {
        None => {}
        Some(Value::Object(map)) => {
            let names: Vec<String> = map.keys().map(|name| printable(name)).collect();
            if !names.is_empty() {
                let (shown, more) = first(&names);
                findings.note(format!(
                    "{path} is not carried (services {shown}{more}): choose the exit of a service once it is installed"
                ));
            }
        }
        Some(_) => findings.note(format!("{path} is not known and not carried")),
    }
}

/// The first names, and how many more there are.
pub(super) fn first(names: &[String]) -> (String, String) {
    let shown = names
        .iter()
        .take(SERVICES_NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    let more = match names.len().saturating_sub(SERVICES_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (shown, more)
}
