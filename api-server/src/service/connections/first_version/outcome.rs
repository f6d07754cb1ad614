//! What becomes of the files, for who gave them.

use cell_api_core::connection::id::ConnectionId;
use cell_api_core::connection::kind::Kind;
use cell_api_core::migrate::Plan;

use super::super::change::fields_of;
use super::super::vault;
use crate::store::connections::StoredConnection;

/// What becomes of the files.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The exits, by type.
    pub exits: Vec<Carried>,
    /// The names of the peers that are bound, or get their own word on failing open.
    pub peers: Vec<String>,
    /// Whether it waits for its confirmation that the peers are bound.
    pub waits: bool,
    /// What is done, in words.
    pub words: Vec<String>,
    /// What is not carried and why, for people.
    pub notes: Vec<String>,
}

/// An exit of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// Its type.
    pub kind: Kind,
    /// The connection's name.
    pub name: String,
    /// The connection; `None`: it is only planned.
    pub id: Option<ConnectionId>,
    /// Whether it was there before.
    pub was_there: bool,
    /// The names that its secrets have at vaultd, or the last parts of them where it is only planned.
    pub secrets: Vec<String>,
}

impl Outcome {
    pub(super) fn of(plan: &Plan) -> Self {
        let made = plan.make.iter().map(|make| Carried {
            kind: make.kind(),
            name: make.name.to_string(),
            id: None,
            was_there: false,
            secrets: fields_of(&make.imported.secrets),
        });
        let kept = plan.keep.iter().map(|keep| Carried {
            kind: keep.kind,
            name: keep.name.clone(),
            id: Some(keep.id),
            was_there: true,
            secrets: Vec::new(),
        });
        let mut exits: Vec<Carried> = made.chain(kept).collect();
        exits.sort_by_key(|carried| carried.kind);
        Outcome {
            exits,
            peers: plan.bind.iter().map(|bind| bind.peer.to_string()).collect(),
            waits: false,
            words: plan.words(),
            notes: plan.notes.clone(),
        }
    }

    pub(super) fn complete(&mut self, stored: &[StoredConnection]) {
        for carried in self.exits.iter_mut().filter(|carried| !carried.was_there) {
            if let Some(stored) = stored.iter().find(|one| one.config.kind() == carried.kind) {
                carried.id = Some(stored.id);
                carried.secrets = vault::names_of(stored);
            }
        }
    }
}
