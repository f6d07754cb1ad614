//! What is to be done, in which order.
//!
//! ipset changes entry by entry and iptables table by table, so a change is not one transaction as with nftables. It fails closed
//! between any two of its steps:
//!
//! 1. Sets that are missing are made, and what anybody loses is taken from them (`sets.rs`).
//! 2. The rules: of each family those that translate first, the policy (`mangle`) last. Each table changes in one transaction, and
//!    the policy of a family is in one table, so a packet meets the old policy or the new one, over sets that grant what both do.
//!    What `nat` translates by another state's rules comes to a port or an interface that the policy does not let it to.
//! 3. What anybody gains is put into the sets, and sets that nobody wants are destroyed.
//!
//! A set of the right name and another kind is used by rules and cannot be made anew below them. Then all chains are emptied
//! first but for drops without a set, and nothing of the VPN and of exits passes until the new rules stand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::passage::PASS;
use super::rules::{chain_name, rules};
use super::saved::{Saved, SavedTable};
use super::sets::{all, between};
use super::{Jump, Marks, PREFIX, Place, Rules, Table, Unsupported};
use crate::model::Family;
use crate::policy::element::{Element, ElementDelta, Elements, SetId};
use crate::policy::ruleset::{Action, Chain, ChainName, Match, Ruleset};

/// One text for one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// For `ipset -exist restore`.
    Sets(String),
    /// For `iptables-restore --noflush`, or `ip6tables-restore`.
    Rules(Family, String),
}

/// Longest text of one stage, bytes.
const STAGE_MAX: usize = 4 << 20;

/// What leads from what is saved to the ruleset.
///
/// # Errors
/// What iptables cannot say.
pub fn replace(saved: &Saved, ruleset: &Ruleset) -> Result<Vec<Stage>, Unsupported> {
    let marks = Marks::of(ruleset)?;
    let wanted = marks.members(&ruleset.elements);
    let families = [rules(ruleset, Family::V4)?, rules(ruleset, Family::V6)?];
    let mut stages = Vec::new();
    let mut standing = saved.clone();
    let unfit: Vec<String> = all()
        .into_iter()
        .filter(|made| {
            let set = saved.sets.get(&made.name);
            set.is_some_and(|set| set.header != made.header)
        })
        .map(|made| made.name)
        .collect();
    if !unfit.is_empty() {
        for family in Family::BOTH {
            let closed = closed(ruleset, &marks, family, &families);
            stages.extend(rules_stage(&closed, saved.of(family)));
            // What stands then is not what was saved.
            let tables = match family {
                Family::V4 => &mut standing.v4,
                Family::V6 => &mut standing.v6,
            };
            *tables = after(&closed, saved.of(family));
        }
        stages.extend(sets_stages(unfit.iter().map(|name| format!("destroy {name}"))));
        standing.sets.retain(|name, _| !unfit.contains(name));
    }
    let missing = all()
        .into_iter()
        .filter(|made| !standing.sets.contains_key(&made.name))
        .map(|made| format!("create {} {}", made.name, made.header));
    let (taking, giving) = between(&standing.members(), &wanted);
    stages.extend(sets_stages(missing.chain(taking)));
    for rules in &families {
        stages.extend(rules_stage(rules, standing.of(rules.family)));
    }
    let stray = standing.sets.keys().filter(|name| !wanted.contains_key(*name));
    let destroyed = stray.map(|name| format!("destroy {name}"));
    stages.extend(sets_stages(giving.into_iter().chain(destroyed)));
    Ok(stages)
}

/// What changes elements of a ruleset that is in force: `ruleset` is the one after the change. `saved` is asked for where rules
/// change too, which hold the ranges of links.
///
/// # Errors
/// What iptables cannot say.
pub fn update(
    ruleset: &Ruleset,
    delta: &ElementDelta,
    saved: Option<&Saved>,
) -> Result<Vec<Stage>, Unsupported> {
    let marks = Marks::of(ruleset)?;
    let (taking, giving) = between(&marks.members(&delta.removed), &marks.members(&delta.added));
    let mut stages = sets_stages(taking.into_iter());
    if let Some(saved) = saved.filter(|_| is_in_rules(delta)) {
        for family in Family::BOTH {
            stages.extend(rules_stage(&rules(ruleset, family)?, saved.of(family)));
        }
    }
    stages.extend(sets_stages(giving.into_iter()));
    Ok(stages)
}

/// Whether rules hold elements that change.
pub(super) fn is_in_rules(delta: &ElementDelta) -> bool {
    delta
        .sets()
        .iter()
        .any(|set| matches!(set, SetId::Special(_) | SetId::Local(_) | SetId::EntryTargets))
}

impl ElementDelta {
    /// Whether the renderer iptables has to change rules for it too.
    pub fn is_in_iptables_rules(&self) -> bool {
        is_in_rules(self)
    }
}

/// What takes everything of ours away.
pub fn remove(saved: &Saved) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Family::BOTH
        .into_iter()
        .filter_map(|family| {
            let nothing = Rules {
                family,
                chains: BTreeMap::new(),
                jumps: vec![],
            };
            let text: String = Table::ALL
                .iter()
                .map(|table| {
                    let empty = SavedTable::new();
                    let standing = saved.of(family).get(table).unwrap_or(&empty);
                    table_text(&nothing, *table, standing, &|_| true)
                })
                .collect();
            (!text.is_empty()).then_some(Stage::Rules(family, text))
        })
        .collect();
    stages.extend(sets_stages(
        saved.sets.keys().map(|name| format!("destroy {name}")),
    ));
    stages
}

/// Whether chains, rules, jumps and the kinds of sets are those of the ruleset, with the ranges that `elements` has in rules.
///
/// # Errors
/// What iptables cannot say.
pub fn is_in_force(saved: &Saved, ruleset: &Ruleset, elements: &Elements) -> Result<bool, Unsupported> {
    let standing = Ruleset {
        table: ruleset.table.clone(),
        chains: ruleset.chains.clone(),
        elements: elements
            .iter()
            .filter(|(set, _)| matches!(set, SetId::Special(_) | SetId::Local(_) | SetId::EntryTargets))
            .map(|(set, elements)| (*set, elements.clone()))
            .collect(),
        relays: ruleset.relays.clone(),
    };
    for family in Family::BOTH {
        let rules = rules(&standing, family)?;
        let empty = SavedTable::new();
        for table in Table::ALL {
            if !table_matches(&rules, table, saved.of(family).get(&table).unwrap_or(&empty)) {
                return Ok(false);
            }
        }
    }
    let headers: BTreeMap<String, String> = all().into_iter().map(|made| (made.name, made.header)).collect();
    let found = saved
        .sets
        .iter()
        .map(|(name, set)| (name.clone(), set.header.clone()));
    Ok(found.collect::<BTreeMap<_, _>>() == headers)
}

/// Whether chains of ours hang where they belong and have rules: as much as can be told without a spec.
pub fn judges(saved: &Saved, skeleton: &[Chain]) -> bool {
    Family::BOTH.into_iter().all(|family| {
        let tables = saved.of(family);
        let has_rules = |chain: &Chain| {
            let name = chain_name(chain.name);
            !chain.name.always_has_rules()
                || tables
                    .values()
                    .any(|table| table.get(&name).is_some_and(|chain| !chain.rules.is_empty()))
        };
        let hangs = |jump: &Jump| {
            let table = tables.get(&jump.table);
            table.is_some_and(|table| stands(jump, table))
        };
        super::rules::jumps(skeleton).iter().all(hangs) && skeleton.iter().all(has_rules)
    })
}

fn sets_stages(lines: impl Iterator<Item = String>) -> Vec<Stage> {
    let mut stages = Vec::new();
    let mut text = String::new();
    for line in lines {
        if text.len() + line.len() >= STAGE_MAX {
            stages.push(Stage::Sets(std::mem::take(&mut text)));
        }
        text += &line;
        text.push('\n');
    }
    if !text.is_empty() {
        stages.push(Stage::Sets(text));
    }
    stages
}

/// Rules that drop what has to do with the VPN and with exits, and use no set: what stands while sets are made anew.
fn closed(ruleset: &Ruleset, marks: &Marks, family: Family, families: &[Rules; 2]) -> Rules {
    let mut chains: BTreeMap<Table, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    let open = families.iter().find(|rules| rules.family == family);
    for (table, of_table) in open.iter().flat_map(|rules| &rules.chains) {
        let kept = |rules: &[String]| match table {
            // Drops alone stay there.
            Table::Raw => rules
                .iter()
                .filter(|rule| !rule.contains("-set ") && !rule.ends_with("-j RETURN"))
                .cloned()
                .collect(),
            Table::Nat | Table::Filter | Table::Mangle => vec![],
        };
        let of = of_table.iter().map(|(name, rules)| (name.clone(), kept(rules)));
        chains.insert(*table, of.collect());
    }
    let links = ruleset.elements.get(&SetId::ExitLinks).into_iter().flatten();
    let mut names = vec![marks.interface.to_string()];
    names.extend(links.filter_map(|element| match element {
        Element::Link(link) => Some(link.to_string()),
        _ => None,
    }));
    // What begins so, in iptables' words.
    names.extend(marks.bridges.iter().map(|bridges| format!("{bridges}+")));
    let mut close = |chain: ChainName, flags: &[char]| {
        let drops = names.iter().flat_map(|name| {
            let drop = move |flag: &char| format!("-{flag} {name} -j DROP");
            flags.iter().map(drop)
        });
        let into = chains.entry(Table::Mangle).or_default();
        into.insert(chain_name(chain), drops.collect());
    };
    close(ChainName::Forward, &['i', 'o']);
    close(ChainName::Input, &['i']);
    close(ChainName::Output, &['o']);
    let relay = ruleset
        .chains
        .iter()
        .flat_map(|chain| &chain.rules)
        .find_map(|rule| match (rule.matches.as_slice(), rule.actions.as_slice()) {
            ([Match::SocketUser(user)], [Action::Goto(_)]) => Some(*user),
            _ => None,
        });
    if let (Some(user), Some(output)) = (
        relay,
        chains
            .get_mut(&Table::Mangle)
            .and_then(|chains| chains.get_mut(&chain_name(ChainName::Output))),
    ) {
        output.push(format!("-m owner --uid-owner {user} -j DROP"));
    }
    Rules {
        family,
        chains,
        jumps: open.map(|rules| rules.jumps.clone()).unwrap_or_default(),
    }
}

/// What is saved after those rules were restored, as far as it counts for the next.
fn after(rules: &Rules, before: &BTreeMap<Table, SavedTable>) -> BTreeMap<Table, SavedTable> {
    let mut after = before.clone();
    for table in Table::ALL {
        let chains = after.entry(table).or_default();
        chains.retain(|name, _| !name.starts_with(PREFIX) || name == PASS);
        for (name, lines) in rules.chains.get(&table).into_iter().flatten() {
            let chain = chains.entry(name.clone()).or_default();
            chain.rules = lines.clone();
        }
        for jump in rules.jumps.iter().filter(|jump| jump.table == table) {
            let from = chains.entry(jump.from.to_owned()).or_default();
            let ours = format!("-j {}", jump.to);
            from.rules.retain(|rule| *rule != ours);
            match jump.place {
                Place::First => from.rules.insert(0, ours),
                Place::Last => from.rules.push(ours),
            }
        }
    }
    after
}

fn rules_stage(rules: &Rules, standing: &BTreeMap<Table, SavedTable>) -> Option<Stage> {
    let empty = SavedTable::new();
    let mut text = String::new();
    for table in Table::ALL {
        let standing = standing.get(&table).unwrap_or(&empty);
        if !table_matches(rules, table, standing) {
            text += &table_text(rules, table, standing, &|name| name != PASS);
        }
    }
    (!text.is_empty()).then_some(Stage::Rules(rules.family, text))
}

/// Built-in chains, and Docker's, in which jumps to chains of ours are.
fn jumps_in(standing: &SavedTable) -> impl Iterator<Item = (&String, &str)> {
    let foreign = standing.iter().filter(|(name, _)| !name.starts_with(PREFIX));
    foreign.flat_map(|(name, chain)| {
        let ours = chain.rules.iter().filter_map(|rule| rule.strip_prefix("-j "));
        ours.filter(|to| to.starts_with(PREFIX)).map(move |to| (name, to))
    })
}

fn stands(jump: &Jump, standing: &SavedTable) -> bool {
    let Some(from) = standing.get(jump.from) else {
        return false;
    };
    let ours = format!("-j {}", jump.to);
    let at = match jump.place {
        Place::First => from.rules.first(),
        Place::Last => from.rules.last(),
    };
    at == Some(&ours) && from.rules.iter().filter(|rule| **rule == ours).count() == 1
}

fn table_matches(rules: &Rules, table: Table, standing: &SavedTable) -> bool {
    let ours: BTreeMap<&String, &Vec<String>> = standing
        .iter()
        .filter(|(name, _)| name.starts_with(PREFIX) && *name != PASS)
        .map(|(name, chain)| (name, &chain.rules))
        .collect();
    let wanted: BTreeMap<&String, &Vec<String>> = rules.chains.get(&table).into_iter().flatten().collect();
    let jumps: Vec<&Jump> = rules.jumps.iter().filter(|jump| jump.table == table).collect();
    let found = jumps_in(standing).filter(|(_, to)| *to != PASS).count();
    ours == wanted && found == jumps.len() && jumps.into_iter().all(|jump| stands(jump, standing))
}

/// One table, one transaction: our chains as they are to be and no other that is `managed`, and the jumps to them.
fn table_text(rules: &Rules, table: Table, standing: &SavedTable, managed: &dyn Fn(&str) -> bool) -> String {
    let empty = BTreeMap::new();
    let wanted = rules.chains.get(&table).unwrap_or(&empty);
    let ours = standing
        .keys()
        .filter(|name| name.starts_with(PREFIX) && managed(name));
    let stale: BTreeSet<&String> = ours.filter(|name| !wanted.contains_key(*name)).collect();
    let mut lines = Vec::new();
    // Empties a chain that is there.
    lines.extend(wanted.keys().map(|name| format!(":{name} - [0:0]")));
    for (from, to) in jumps_in(standing).filter(|(_, to)| managed(to)) {
        lines.push(format!("-D {from} -j {to}"));
    }
    lines.extend(stale.iter().map(|name| format!("-F {name}")));
    lines.extend(stale.iter().map(|name| format!("-X {name}")));
    for (name, rules) in wanted {
        lines.extend(rules.iter().map(|rule| format!("-A {name} {rule}")));
    }
    for jump in rules.jumps.iter().filter(|jump| jump.table == table) {
        lines.push(match jump.place {
            Place::First => format!("-I {} 1 -j {}", jump.from, jump.to),
            Place::Last => format!("-A {} -j {}", jump.from, jump.to),
        });
    }
    if lines.is_empty() {
        return String::new();
    }
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write!(text, "*{}\n{}\nCOMMIT\n", table.name(), lines.join("\n"));
    text
}
