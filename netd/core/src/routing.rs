//! Rules and routes of the exits: a mark leads to a table, and so does a socket that is bound to the exit's interface; the table
//! leads to the interface or nowhere.
//!
//! Each table ends in an unreachable default, made before the rule that leads to it. So an exit whose interface is missing or
//! down, by which the kernel drops its routes, is unreachable; it is never the table `main` that is asked next.

use std::collections::BTreeSet;

use crate::ceiling::Ceiling;
use crate::desired::Desired;
use crate::model::{ExitInterface, Family};

/// Everything in the routing that is ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routing {
    /// In ip-rule(8)'s list.
    pub rules: BTreeSet<RoutingRule>,
    /// In the tables of exits.
    pub routes: BTreeSet<ExitRoute>,
}

/// `SELECTOR lookup TABLE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoutingRule {
    /// Each family has its own list.
    pub family: Family,
    /// Lower is asked first.
    pub priority: u32,
    /// What it is for.
    pub selector: Selector,
    /// Where it leads.
    pub table: u32,
}

/// What a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selector {
    /// `fwmark MARK/MASK`: packets of peers.
    Mark {
        /// What the packet's mark is, of the bits in `mask`.
        mark: u32,
        /// Bits of the mark that count.
        mask: u32,
    },
    /// `oif INTERFACE`: what the machine's own sockets send that are bound to the interface, as cell-egress's are for the
    /// questions of DNS that go by the exit. No packet that is forwarded has it.
    Out(ExitInterface),
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
            routing.rules.insert(RoutingRule {
                family,
                priority: ceiling.exits.priority(exit.table),
                selector: Selector::Mark {
                    mark: exit.way.mark.value(),
                    mask: ceiling.exits.mask(),
                },
                table,
            });
            routing.rules.insert(RoutingRule {
                family,
                priority: ceiling.exits.priority_out(exit.table),
                selector: Selector::Out(exit.way.interface),
                table,
            });
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
