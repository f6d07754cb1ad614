//! One exit of the first version: read by the names that its fields may have, and checked as a connection that is made by
//! hand is checked.

use super::findings::Findings;
use super::node::Node;
use super::sources::Sources;
use super::vault::OldVault;
use crate::connection::config::Config;
use crate::connection::import::Imported;
use crate::connection::input::ConnectionInput;
use crate::connection::kind::Kind;
use crate::name::ConnectionName;

/// An exit that was in use.
#[derive(Debug)]
pub(super) struct Exit {
    /// What it is called, if the file says.
    pub(super) name: Option<ConnectionName>,
    /// What it is made of.
    pub(super) imported: Imported<Config>,
}

/// The mark and the routing table that every exit of a type had in the first version.
pub(super) fn fixed(kind: Kind) -> Option<(u64, u64)> {
    match kind {
        Kind::WireguardExt => Some((0x10, 110)),
        Kind::Openvpn => Some((0x20, 120)),
        Kind::Tor => Some((0x30, 130)),
        Kind::Sshuttle => Some((0x40, 140)),
        Kind::Proxy => Some((0x50, 150)),
        Kind::CellRelay => None,
    }
}

/// Reads one; `None` where it was not in use, or has faults.
pub(super) fn read(
    kind: Kind,
    mut node: Node,
    vault: &mut OldVault,
    findings: &mut Findings,
) -> Option<Exit> {
    let path = node.path().to_owned();
    let Some(fixed) = fixed(kind) else {
        findings.note(format!(
            "{path} is not carried: it comes with the link to another cell"
        ));
        return None;
    };
    let given = [
        (["mark", "fwmark"], fixed.0),
        (["table", "routing_table"], fixed.1),
    ];
    for (names, fixed) in given {
        for name in names {
            match node.number(name, findings) {
                Some(number) if number != fixed => findings.note(format!(
                    "{} is not what the first version gave to {kind}; it is given anew in any case",
                    node.path_of(name)
                )),
                Some(_) | None => {}
            }
        }
    }
    for made_anew in ["iface", "interface", "redirect_port", "status", "health"] {
        node.take(made_anew);
    }
    let enabled = node.flag("enabled", findings).unwrap_or(true);
    let name = name(&mut node, findings);
    let mut sources = Sources::of(node, vault);
    if !enabled {
        findings.note(format!("{path} is not carried: it was not enabled"));
        return None;
    }
    let before = findings.faults();
    let import = sources.import(kind, findings);
    let sources = sources.finish(findings);
    if findings.faults() > before {
        // What could not be read would be found missing as well.
        return None;
    }
    let input = ConnectionInput {
        // Which name it gets is the plan's to choose.
        name: "exit".to_owned(),
        kind: kind.as_str().to_owned(),
        import,
    };
    match input.check() {
        Ok(new) => {
            for note in &new.imported.notes {
                findings.note(format!("{path}: {note}"));
            }
            Some(Exit {
                name,
                imported: new.imported,
            })
        }
        Err(faults) => {
            for violation in faults.into_violations() {
                findings.fault(sources.place(&violation.field), violation.description);
            }
            None
        }
    }
}

fn name(node: &mut Node, findings: &mut Findings) -> Option<ConnectionName> {
    let given = node.text("name", findings)?;
    let name = ConnectionName::parse(&given.value);
    if name.is_err() {
        findings.note(format!(
            "{} is not carried: no connection can have it",
            given.path
        ));
    }
    name.ok()
}
