//! What peers used of the first version's exits. Of a peer nothing else is read.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::file::first;
use super::findings::Findings;
use super::node::Node;
use crate::connection::reference::OWN_WAY;
use crate::json::printable;
use crate::name::PeerName;
use crate::peer::MAX_PEERS;

/// What a peer's exit may be called. The first version had the type in `exit_via`, and in `route_via` another cell's name, kept
/// for older programs.
const EXITS: [&str; 3] = ["exit_connection_id", "exit_via", "route_via"];
const FAIL_OPEN: [&str; 2] = ["failopen", "fail_open"];
/// The longest name of an exit, bytes: nothing here has a longer one.
const NAME_MAX: usize = 64;

/// What a peer used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PeerExit {
    /// Where it stands in the file.
    pub(super) path: String,
    /// What names its exit; `None`: the cell's own way.
    pub(super) exit: Option<String>,
    /// Its own word on failing open.
    pub(super) fail_open: Option<bool>,
}

/// The peers that were found so far.
#[derive(Debug, Default)]
pub(super) struct Found {
    peers: BTreeMap<PeerName, PeerExit>,
    nameless: usize,
    not_carried: BTreeSet<String>,
}

impl Found {
    /// Reads a list of peers, or an object of them by name: of each the record, or what names its exit alone.
    pub(super) fn read(&mut self, path: &str, value: Value, findings: &mut Findings) {
        match value {
            Value::Array(items) => {
                if items.len() > MAX_PEERS {
                    findings.fault(path, format!("must have at most {MAX_PEERS} peers"));
                    return;
                }
                for (index, item) in items.into_iter().enumerate() {
                    self.record(format!("{path}[{index}]"), None, item, findings);
                }
            }
            Value::Object(map) => self.named(path, map, findings),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                findings.fault(path, "must be a list of peers, or an object of them by name");
            }
        }
    }

    fn named(&mut self, path: &str, mut map: Map<String, Value>, findings: &mut Findings) {
        // A peer is no list, so that this is none of that name.
        if map.len() == 1 && map.get("peers").is_some_and(Value::is_array) {
            let list = map.remove("peers").unwrap_or_default();
            return self.read(&format!("{path}.peers"), list, findings);
        }
        if map.len() > MAX_PEERS {
            findings.fault(path, format!("must have at most {MAX_PEERS} peers"));
            return;
        }
        for (name, value) in map {
            self.record(
                format!("{path}.{}", printable(&name)),
                Some(name),
                value,
                findings,
            );
        }
    }

    fn record(&mut self, path: String, name: Option<String>, value: Value, findings: &mut Findings) {
        let mut node = match value {
            Value::Object(map) => Node::new(path.clone(), map),
            // What names the exit alone.
            value @ (Value::String(_) | Value::Null) if name.is_some() => {
                Node::new(path.clone(), Map::from_iter([(EXITS[1].to_owned(), value)]))
            }
            _ => return findings.fault(path, "must be an object"),
        };
        let name = name.or_else(|| node.text("name", findings).map(|text| text.value.to_string()));
        node.take("name");
        let exit = exit(&mut node, findings);
        let fail_open = fail_open(&mut node, findings);
        self.not_carried
            .extend(node.names().iter().map(|name| printable(name)).take(NAME_MAX));
        let Some(Ok(name)) = name.map(|name| PeerName::parse(&name)) else {
            self.nameless += 1;
            return;
        };
        let peer = PeerExit {
            path,
            exit,
            fail_open,
        };
        match self.peers.get_mut(&name) {
            None => _ = self.peers.insert(name, peer),
            Some(known) if known.exit == peer.exit => {
                known.fail_open = known.fail_open.or(peer.fail_open);
            }
            Some(known) => {
                let why = format!("must not contradict {}, which is the same peer", known.path);
                findings.fault(peer.path, why);
            }
        }
    }

    /// All of them, by name.
    pub(super) fn finish(self, findings: &mut Findings) -> BTreeMap<PeerName, PeerExit> {
        if self.nameless > 0 {
            let number = self.nameless;
            findings.note(format!(
                "{number} of the peers have no name that a device can have, and are not carried"
            ));
        }
        if !self.not_carried.is_empty() {
            let names: Vec<String> = self.not_carried.into_iter().collect();
            let (shown, more) = first(&names);
            findings.note(format!(
                "of peers only their exits are carried, not {shown}{more}"
            ));
        }
        self.peers
    }
}

/// What names the exit. The own way in one field is no contradiction of another: each version wrote its own.
fn exit(node: &mut Node, findings: &mut Findings) -> Option<String> {
    let mut exit: Option<String> = None;
    for name in EXITS {
        let Some(text) = node.text(name, findings) else {
            continue;
        };
        if text.value.len() > NAME_MAX {
            findings.fault(text.path, format!("must have at most {NAME_MAX} bytes"));
            continue;
        }
        let named = text.value.as_str();
        match &exit {
            _ if named == OWN_WAY => {}
            None => exit = Some(named.to_owned()),
            Some(other) if other == named => {}
            Some(_) => findings.fault(text.path, "must not contradict the peer's other exit"),
        }
    }
    exit
}

fn fail_open(node: &mut Node, findings: &mut Findings) -> Option<bool> {
    let mut found: Option<bool> = None;
    for name in FAIL_OPEN {
        match (node.flag(name, findings), found) {
            (Some(flag), Some(other)) if flag != other => {
                findings.fault(node.path_of(name), "must not contradict failopen");
            }
            (Some(flag), _) => found = Some(flag),
            (None, _) => {}
        }
    }
    found
}
