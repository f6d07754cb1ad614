//! Rules and routes of exits, as ip(8) tells them and as the compiled spec wants them.

use std::collections::BTreeSet;

use cell_lab::netns::Namespace;
use cell_netd_core::model::Family;
use cell_netd_core::routing::{Action, RouteTo, Selector, wanted};
use cell_netd_core::{Ceiling, Desired};

/// As ip(8) tells them, those of everybody left out.
pub fn rules(cell: &Namespace) -> BTreeSet<String> {
    let all = ["-4", "-6"].map(|family| (family, cell.ip(&format!("{family} rule")).unwrap()));
    let mine = |line: &&str| line.starts_with("10") && line[5..].starts_with(':');
    all.iter()
        .flat_map(|(family, text)| text.lines().filter(mine).map(move |line| said(family, line)))
        .collect()
}

pub fn routes(cell: &Namespace) -> BTreeSet<String> {
    let all = ["-4", "-6"].map(|family| {
        (
            family,
            cell.ip(&format!("{family} route show table all")).unwrap(),
        )
    });
    let mine = |line: &&str| line.contains("default") && line.contains("table 10");
    all.iter()
        .flat_map(|(family, text)| text.lines().filter(mine).map(move |line| said(family, line)))
        .collect()
}

/// Words alone, without who made it and what follows from the rest.
fn said(family: &str, line: &str) -> String {
    // Of IPv6, an unreachable route is said to be on loopback.
    let line = line.replace(':', " ").replace(" dev lo ", " ");
    let line = line.split(" proto ").next().unwrap().to_owned()
        + line
            .find(" metric ")
            .map(|at| {
                line[at..]
                    .split_whitespace()
                    .take(2)
                    .fold(String::new(), |all, word| all + " " + word)
            })
            .unwrap_or_default()
            .as_str();
    let words: Vec<_> = line.split_whitespace().collect();
    format!("{family} {}", words.join(" "))
}

/// Rules and routes as the state wants them, in the words of ip(8).
pub fn routing(desired: &Desired, ceiling: &Ceiling) -> (BTreeSet<String>, BTreeSet<String>) {
    let up = desired.exits().values().map(|exit| exit.way.interface).collect();
    let routing = wanted(desired, ceiling, &up);
    let family = |family| match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    };
    let rules = routing.rules.iter().map(|rule| {
        let selector = match rule.selector {
            Selector::Mark { mark: 0, mask } => format!("from all fwmark 0/{mask:#x}"),
            Selector::Mark { mark, mask } => format!("from all fwmark {mark:#x}/{mask:#x}"),
            Selector::Out(name) => format!("from all oif {name}"),
            Selector::Own { mask } => format!("from all fwmark 0/{mask:#x} iif lo"),
            Selector::All => "from all".to_owned(),
        };
        let action = match rule.action {
            Action::Table(table) => format!("lookup {table}"),
            Action::Goto(priority) => format!("goto {priority}"),
            Action::Nop => "nop".to_owned(),
        };
        format!("{} {} {selector} {action}", family(rule.family), rule.priority)
    });
    let routes = routing.routes.iter().map(|route| {
        let to = match route.to {
            RouteTo::Unreachable => "unreachable default".to_owned(),
            RouteTo::Interface(name) => format!("default dev {name}"),
        };
        format!(
            "{} {to} table {} metric {}",
            family(route.family),
            route.table,
            route.to.metric()
        )
    });
    (rules.collect(), routes.collect())
}
