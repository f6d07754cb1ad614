//! Rules and routes of the exits: a mark leads to a table, and so does a socket that is bound to the exit's interface; the table
//! leads to the interface or nowhere.
//!
//! Each table ends in an unreachable default, made before the rule that leads to it. So an exit whose interface is missing or
//! down, by which the kernel drops its routes, is unreachable; it is never the table `main` that is asked next.

use std::collections::BTreeSet;

use crate::ceiling::{Ceiling, ExitCeiling};
use crate::desired::{Desired, Exit};
use crate::model::{ExitInterface, Family};
use crate::priorities::{END, INTERFACES, OWN, UNMARKED};

/// Everything in the routing that is ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routing {
    /// In ip-rule(8)'s list.
    pub rules: BTreeSet<RoutingRule>,
    /// In the tables of exits.
    pub routes: BTreeSet<ExitRoute>,
}

/// `SELECTOR ACTION`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoutingRule {
    /// Each family has its own list.
    pub family: Family,
    /// Lower is asked first.
    pub priority: u32,
    /// What it is for.
    pub selector: Selector,
    /// What becomes of it.
    pub action: Action,
}

/// What becomes of a packet that a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// `lookup`: the table is asked; if it knows no way, the list goes on.
    Table(u32),
    /// `goto`: the list goes on at that priority.
    Goto(u32),
    /// `nop`: a place that a `goto` leads to.
    Nop,
}

/// What a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selector {
    /// `fwmark MARK/MASK`: packets of peers; with mark 0, of everybody else.
    Mark {
        /// What the packet's mark is, of the bits in `mask`.
        mark: u32,
        /// Bits of the mark that count.
        mask: u32,
    },
    /// `oif INTERFACE`: what the machine's own sockets send that are bound to the interface, as cell-egress's are for the
    /// questions of DNS that go by the exit. No packet that is forwarded has it.
    Out(ExitInterface),
    /// `iif lo fwmark 0/MASK`: what the machine sends itself, without a mark.
    Own {
        /// Bits of the mark that are 0.
        mask: u32,
    },
    /// `from all`: every packet.
    All,
}

/// A default route in the table of an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExitRoute {
    /// Of which family.
    pub family: Family,
    /// In which table.
    pub table: u32,
    /// Where to.
    pub to: RouteTo,
}

/// Where a default route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteTo {
    /// Nowhere; asked last (metric [`RouteTo::metric`]).
    Unreachable,
    /// Out by the interface.
    Interface(ExitInterface),
}

impl RouteTo {
    /// Lower is preferred.
    pub fn metric(self) -> u32 {
        match self {
            RouteTo::Interface(_) => 100,
            RouteTo::Unreachable => 20_000,
        }
    }
}

/// What a desired state needs, where `up` are those of the exits' interfaces that are there and up: to others there can be no
/// route.
pub fn wanted(desired: &Desired, ceiling: &Ceiling, up: &BTreeSet<ExitInterface>) -> Routing {
    let mut routing = Routing::default();
    for exit in desired.exits().values() {
        let table = exit.table.number();
        for family in Family::BOTH {
            for (priority, selector, action) in rules(exit, &ceiling.exits) {
                routing.rules.insert(RoutingRule {
                    family,
                    priority,
                    selector,
                    action,
                });
            }
            let route = |to| ExitRoute { family, table, to };
            routing.routes.insert(route(RouteTo::Unreachable));
            let interface = exit.way.interface;
            if exit.carries(family) && up.contains(&interface) {
                routing.routes.insert(route(RouteTo::Interface(interface)));
            }
        }
    }
    routing
}

/// The rules of one exit, those that it shares with others among them ([`crate::priorities`]).
fn rules(exit: &Exit, ceiling: &ExitCeiling) -> [(u32, Selector, Action); 8] {
    let (mark, mask, table) = (exit.way.mark, ceiling.mask(), exit.table);
    let to_table = Action::Table(table.number());
    let group = ceiling.group(mark);
    let of_group = Selector::Mark {
        mark: group.mark,
        mask: group.mask,
    };
    let of_mark = Selector::Mark {
        mark: mark.value(),
        mask,
    };
    let interface = Selector::Out(exit.way.interface);
    [
        (OWN, Selector::Own { mask }, Action::Goto(INTERFACES)),
        (UNMARKED, Selector::Mark { mark: 0, mask }, Action::Goto(END)),
        (group.priority, of_group, Action::Goto(group.anchor)),
        (group.anchor, Selector::All, Action::Nop),
        (ceiling.priority(mark), of_mark, to_table),
        (INTERFACES, Selector::All, Action::Nop),
        (ceiling.priority_out(table), interface, to_table),
        (END, Selector::All, Action::Nop),
    ]
}
