//! The way through Docker's chains in the table `filter`: what the policy accepted is accepted there too, and nothing else.
//! As `netd/src/kernel/nft/passage.rs` has it for nftables.

use super::rules::REFUSE;
use super::saved::{Saved, SavedTable};
use super::{Stage, Table};
use crate::model::{Family, Mark};

/// The chain that accepts.
pub(super) const PASS: &str = "CELL-pass";

/// How the way through is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nothing in `filter` drops all that is forwarded.
    NotNeeded,
    /// The jump to our chain stands before the others' rules.
    Open,
}

/// How it is, where [`passage`] was done.
pub fn way(saved: &Saved, mark: Option<Mark>) -> Way {
    let needed = |family| mark.and(filter(saved, family).and_then(place)).is_some();
    if Family::BOTH.into_iter().any(needed) {
        Way::Open
    } else {
        Way::NotNeeded
    }
}

/// What makes the way as it should be; `mark` of none takes it away. Empty: it is so.
pub fn passage(saved: &Saved, mark: Option<Mark>) -> Vec<Stage> {
    Family::BOTH
        .into_iter()
        .filter_map(|family| {
            let table = filter(saved, family)?;
            let wanted = mark.and_then(|mark| Some((place(table)?, accepting(mark))));
            text(table, wanted).map(|text| Stage::Rules(family, text))
        })
        .collect()
}

/// Built-in chains of other tables that drop all that is forwarded, as people name them.
pub fn blockers(saved: &Saved) -> Vec<String> {
    let mut found = Vec::new();
    for (family, program) in [(Family::V4, "iptables"), (Family::V6, "ip6tables")] {
        let mangle = saved.of(family).get(&Table::Mangle);
        if mangle
            .and_then(|table| table.get("FORWARD"))
            .is_some_and(|chain| chain.drops)
        {
            found.push(format!("{program} mangle FORWARD"));
        }
    }
    found
}

fn filter(saved: &Saved, family: Family) -> Option<&SavedTable> {
    saved.of(family).get(&Table::Filter)
}

fn accepting(mark: Mark) -> String {
    format!("-m mark --mark {mark} -j ACCEPT")
}

/// The chain that the jump belongs in, if one is needed.
fn place(table: &SavedTable) -> Option<&'static str> {
    if table.contains_key("DOCKER-USER") {
        return Some("DOCKER-USER");
    }
    let forward = table.get("FORWARD")?;
    let last = forward.rules.last().map_or("", String::as_str);
    (forward.drops || last == "-j DROP" || last.starts_with("-j REJECT")).then_some("FORWARD")
}

/// Where our jump stands in a chain, what refuses not counted: that comes before it.
fn standing(table: &SavedTable, chain: &str) -> Vec<usize> {
    let (ours, refuse) = (format!("-j {PASS}"), format!("-j {REFUSE}"));
    let rules = table
        .get(chain)
        .map(|chain| chain.rules.as_slice())
        .unwrap_or_default();
    let others = rules.iter().filter(|rule| **rule != refuse);
    others
        .enumerate()
        .filter(|(_, rule)| **rule == ours)
        .map(|(index, _)| index)
        .collect()
}

fn text(table: &SavedTable, wanted: Option<(&'static str, String)>) -> Option<String> {
    let accepts = table.get(PASS).map(|chain| chain.rules.clone());
    let right = match &wanted {
        Some((chain, rule)) => {
            accepts.as_deref() == Some(std::slice::from_ref(rule))
                && ["DOCKER-USER", "FORWARD"].iter().all(|found| {
                    let expected: &[usize] = if found == chain { &[0] } else { &[] };
                    standing(table, found) == expected
                })
        }
        None => accepts.is_none(),
    };
    if right {
        return None;
    }
    let mut lines = Vec::new();
    if wanted.is_some() {
        lines.push(format!(":{PASS} - [0:0]"));
    }
    for chain in ["DOCKER-USER", "FORWARD"] {
        lines.extend(
            standing(table, chain)
                .iter()
                .map(|_| format!("-D {chain} -j {PASS}")),
        );
    }
    match wanted {
        Some((chain, rule)) => {
            lines.push(format!("-A {PASS} {rule}"));
            let refuse = format!("-j {REFUSE}");
            let first = table.get(chain).and_then(|chain| chain.rules.first());
            let position = if first == Some(&refuse) { 2 } else { 1 };
            lines.push(format!("-I {chain} {position} -j {PASS}"));
        }
        None => lines.extend([format!("-F {PASS}"), format!("-X {PASS}")]),
    }
    Some(format!("*filter\n{}\nCOMMIT\n", lines.join("\n")))
}
