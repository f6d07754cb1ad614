//! The policy for hosts on legacy iptables: the same compiled ruleset as [`super::text`] and the netlink encoder take, as text
//! for `ipset restore`, `iptables-restore` and `ip6tables-restore`, and what those programs save, read back and compared.
//!
//! Sets grow with peers, rules do not. What iptables cannot say is [`Unsupported`] by name, never left out. Where its hooks lie
//! otherwise than nftables' chains, `rules.rs` and `marking.rs` say what stands instead; `script.rs` has the order in which sets,
//! chains and families change, so that nothing passes in between that neither the old nor the new policy lets pass.

mod action;
mod condition;
mod entries;
mod marking;
mod passage;
mod rules;
mod saved;
mod script;
mod sets;

use std::collections::BTreeMap;

use super::ruleset::{Action, ChainName, MarkOf, Ruleset};
use crate::model::{Family, InterfaceName, Mark};

pub use passage::{Way, blockers, passage, way};
pub use rules::rules;
pub use saved::{InvalidSave, Saved, SavedChain, SavedSet, SavedTable, drops, parse_rules, parse_sets};
pub use script::{Stage, is_in_force, judges, remove, replace, update};
pub use sets::{Members, decode, encode};

/// Every chain and set of ours begins so.
pub const PREFIX: &str = "CELL-";
/// Most interfaces that one set of kind hash:net,iface has for one prefix (ipset(8)).
pub const EXITS_MAX: usize = 64;

/// What cannot be said in iptables' words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the renderer iptables cannot say \"{what}\": use the renderer nftables, or ask for a state without it"
)]
pub struct Unsupported {
    /// In nft(8)'s words.
    pub what: String,
}

impl Unsupported {
    fn new(what: impl Into<String>) -> Self {
        Unsupported { what: what.into() }
    }
}

/// The tables of iptables that have chains of ours, in the order in which they change: translations stand before the policy
/// lets anything to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "iptables' own words")]
pub enum Table {
    Nat,
    Raw,
    Filter,
    Mangle,
}

impl Table {
    /// All, in that order.
    pub const ALL: [Table; 4] = [Table::Nat, Table::Raw, Table::Filter, Table::Mangle];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Table::Nat => "nat",
            Table::Raw => "raw",
            Table::Filter => "filter",
            Table::Mangle => "mangle",
        }
    }
}

/// Where a jump to a chain of ours stands among a built-in chain's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before all others: what they accept is judged first.
    First,
    /// After all others: what they translate is not translated.
    Last,
}

/// One jump from a built-in chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jump {
    /// The table of both.
    pub table: Table,
    /// The built-in chain.
    pub from: &'static str,
    /// The chain of ours.
    pub to: String,
    /// Where.
    pub place: Place,
}

/// The rules of one family: what stands in our chains, and the jumps to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Which.
    pub family: Family,
    /// Rules by chain, in the words and the order of iptables-save(8), without `-A CHAIN`.
    pub chains: BTreeMap<Table, BTreeMap<String, Vec<String>>>,
    /// From built-in chains.
    pub jumps: Vec<Jump>,
}

/// What the whole of a ruleset has in common: found in its chains, so that it cannot differ from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marks {
    /// The bits that say which exit.
    pub(crate) mask: u32,
    /// What is set on what is accepted.
    pub(crate) accept: Mark,
    /// The interface of the VPN.
    pub(crate) interface: InterfaceName,
    /// What names of bridges of services begin with; none: there are none.
    pub(crate) bridges: Option<InterfaceName>,
}

impl Marks {
    pub(crate) fn of(ruleset: &Ruleset) -> Result<Self, Unsupported> {
        let actions = |name: ChainName| {
            let chain = ruleset.chains.iter().find(move |chain| chain.name == name);
            chain
                .into_iter()
                .flat_map(|chain| &chain.rules)
                .flat_map(|rule| &rule.actions)
        };
        let mask = actions(ChainName::Mark).find_map(|action| match action {
            Action::SaveMark(mask) => Some(*mask),
            _ => None,
        });
        let accept = actions(ChainName::Accept).find_map(|action| match action {
            Action::SetMark(mark) => Some(*mark),
            _ => None,
        });
        match (mask, accept, marking::incoming(ruleset)) {
            (Some(mask), Some(accept), Some(interface)) => Ok(Marks {
                mask,
                accept,
                interface,
                bridges: marking::bridges(ruleset),
            }),
            _ => Err(Unsupported::new("a ruleset without marks")),
        }
    }
}

/// The bits of a mark that say which exit.
///
/// # Errors
/// Where the ruleset does not say.
pub fn mask(ruleset: &Ruleset) -> Result<u32, Unsupported> {
    Ok(Marks::of(ruleset)?.mask)
}

fn mark_module(of: MarkOf) -> &'static str {
    match of {
        MarkOf::Packet => "mark",
        MarkOf::Flow => "connmark",
    }
}
