//! Rules and routes: what leads nowhere comes first, what leads anywhere goes last.

use super::Step;
use crate::observed::Observed;
use crate::routing::{ExitRoute, RouteTo, Routing};

/// Steps before the policy changes, and after it.
pub(super) struct Steps {
    /// Unreachable defaults, then routes, then the rules that lead there: all that marked packets will need.
    pub before: Vec<Step>,
    /// Rules that no packet is marked for any more, then the tables behind them.
    pub after: Vec<Step>,
}

pub(super) fn between(wanted: &Routing, observed: &Observed) -> Steps {
    let Routing { rules, routes } = &observed.routing;
    let missing = || wanted.routes.difference(routes).copied();
    let stale = || routes.difference(&wanted.routes).copied();
    let leads = |route: &ExitRoute| matches!(route.to, RouteTo::Interface(_));
    // A table that leads elsewhere from now on is without a way for a moment; its unreachable default stands.
    let kept_table = |route: &ExitRoute| wanted.routes.iter().any(|kept| kept.table == route.table);
    let unreachable = missing().filter(|route| !leads(route)).map(Step::AddRoute);
    let turned = stale().filter(|route| leads(route) && kept_table(route));
    let ways = missing().filter(leads).map(Step::AddRoute);
    let to_tables = wanted.rules.difference(rules).copied().map(Step::AddRule);
    let before = unreachable
        .chain(turned.map(Step::RemoveRoute))
        .chain(ways)
        .chain(to_tables);
    let gone_rules = rules.difference(&wanted.rules).copied().map(Step::RemoveRule);
    let gone = || stale().filter(|route| !(leads(route) && kept_table(route)));
    let gone_ways = gone().filter(leads).map(Step::RemoveRoute);
    let gone_ends = gone().filter(|route| !leads(route)).map(Step::RemoveRoute);
    Steps {
        before: before.collect(),
        after: gone_rules.chain(gone_ways).chain(gone_ends).collect(),
    }
}
