//! What `iptables-save -c` and `ipset save` print, as far as it is ours or where ours hangs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::rules::counter_chain;
use super::{PREFIX, Table, sets};
use crate::policy::ruleset::Counter;

/// What one family has, and the sets of both.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Saved {
    /// IPv4's tables.
    pub v4: BTreeMap<Table, SavedTable>,
    /// IPv6's.
    pub v6: BTreeMap<Table, SavedTable>,
    /// Sets of ours, by name.
    pub sets: BTreeMap<String, SavedSet>,
}

/// A table: its chains by name.
pub type SavedTable = BTreeMap<String, SavedChain>;

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavedChain {
    /// Of a built-in one: whether what passes its end is dropped.
    pub drops: bool,
    /// Its rules without `-A CHAIN`.
    pub rules: Vec<String>,
    /// Packets and bytes that met each of them.
    pub counts: Vec<(u64, u64)>,
}

/// A set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavedSet {
    /// Type and options that matter.
    pub header: String,
    /// Its entries.
    pub members: BTreeSet<String>,
}

/// Not what those programs print.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of what {program} printed is not understood")]
pub struct InvalidSave {
    /// Which program.
    pub program: &'static str,
    /// From 1 on.
    pub line: usize,
}

/// Reads the output of `iptables-save -c` or `ip6tables-save -c`. A line ends with a line feed, and a carriage return before it is
/// the rule's own.
///
/// # Errors
/// At a line that it does not print.
pub fn parse_rules(text: &str) -> Result<BTreeMap<Table, SavedTable>, InvalidSave> {
    let mut tables = BTreeMap::<Table, SavedTable>::new();
    let mut table = None;
    for (index, line) in text.split_terminator('\n').enumerate() {
        let invalid = || InvalidSave {
            program: "iptables-save",
            line: index + 1,
        };
        if line.is_empty() || line.starts_with('#') || line == "COMMIT" {
            continue;
        }
        if let Some(name) = line.strip_prefix('*') {
            let known = Table::ALL.into_iter().find(|table| table.name() == name);
            table = Some(known.ok_or_else(invalid)?);
            continue;
        }
        let chains = tables.entry(table.ok_or_else(invalid)?).or_default();
        rule_or_chain(chains, line).ok_or_else(invalid)?;
    }
    Ok(tables)
}

fn rule_or_chain(chains: &mut SavedTable, line: &str) -> Option<()> {
    if let Some(declared) = line.strip_prefix(':') {
        let mut words = declared.split(' ');
        let (name, policy) = (words.next()?, words.next()?);
        chains.entry(name.to_owned()).or_default().drops = policy == "DROP";
        return Some(());
    }
    let (counts, rule) = line.strip_prefix('[')?.split_once("] -A ")?;
    let (packets, bytes) = counts.split_once(':')?;
    let (chain, spec) = rule.split_once(' ').unwrap_or((rule, ""));
    let chain = chains.get_mut(chain)?;
    chain.rules.push(spec.to_owned());
    chain.counts.push((packets.parse().ok()?, bytes.parse().ok()?));
    Some(())
}

/// Reads the output of `ipset save`; sets of others are passed over.
///
/// # Errors
/// At a line that it does not print.
pub fn parse_sets(text: &str) -> Result<BTreeMap<String, SavedSet>, InvalidSave> {
    let mut sets = BTreeMap::<String, SavedSet>::new();
    for (index, line) in text.split_terminator('\n').enumerate() {
        let invalid = || InvalidSave {
            program: "ipset",
            line: index + 1,
        };
        let (verb, rest) = line.split_once(' ').ok_or_else(invalid)?;
        let (name, rest) = rest.split_once(' ').ok_or_else(invalid)?;
        if !name.starts_with(PREFIX) {
            continue;
        }
        match verb {
            "create" => sets.entry(name.to_owned()).or_default().header = header(rest),
            "add" => {
                let set = sets.get_mut(name).ok_or_else(invalid)?;
                set.members.insert(entry(rest));
            }
            _ => return Err(invalid()),
        }
    }
    Ok(sets)
}

/// Without what the kernel decides by itself.
fn header(text: &str) -> String {
    let mut words = text.split(' ');
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if matches!(word, "hashsize" | "bucketsize" | "initval") {
            words.next();
        } else if !word.is_empty() {
            kept.push(word);
        }
    }
    kept.join(" ")
}

/// With addresses as we write them.
fn entry(text: &str) -> String {
    let (key, extension) = text.split_once(' ').unwrap_or((text, ""));
    let part = |part: &str| {
        let net = part.parse::<IpNet>().ok();
        match net.or_else(|| part.parse::<IpAddr>().ok().map(IpNet::from)) {
            Some(net) => sets::written(net),
            None => part.to_owned(),
        }
    };
    let key: Vec<String> = key.split(',').map(part).collect();
    let key = key.join(",");
    if extension.is_empty() {
        key
    } else {
        format!("{key} {extension}")
    }
}

impl Saved {
    /// The tables of a family.
    pub fn of(&self, family: crate::model::Family) -> &BTreeMap<Table, SavedTable> {
        match family {
            crate::model::Family::V4 => &self.v4,
            crate::model::Family::V6 => &self.v6,
        }
    }

    /// The entries of all sets of ours.
    pub fn members(&self) -> sets::Members {
        let of = |(name, set): (&String, &SavedSet)| (name.clone(), set.members.clone());
        self.sets.iter().map(of).collect()
    }
}

/// Packets and bytes by reason, in all tables of both families.
pub fn drops(saved: &Saved) -> BTreeMap<Counter, (u64, u64)> {
    let tables = || saved.v4.values().chain(saved.v6.values());
    let of = |counter: Counter| {
        let chain = counter_chain(counter);
        let counts = tables().filter_map(|table| table.get(&chain)?.counts.first().copied());
        let sum = counts.fold((0, 0), |sum: (u64, u64), count| {
            (sum.0.saturating_add(count.0), sum.1.saturating_add(count.1))
        });
        (counter, sum)
    };
    Counter::ALL.into_iter().map(of).collect()
}
