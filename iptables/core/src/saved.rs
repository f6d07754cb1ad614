//! What the programs save, without what is none of Cell's: others' chains and sets do not leave this process.

use crate::{PREFIX, word};

/// Of `iptables-save -c`: tables, chains of Cell's and built-in ones with all their rules, and Docker's chain for the owner, which
/// may have a jump to Cell's.
pub fn own_rules(text: &str) -> String {
    let mut kept = String::new();
    for line in text.split_terminator('\n').filter(|line| concerns(line)) {
        kept += line;
        kept.push('\n');
    }
    kept
}

fn concerns(line: &str) -> bool {
    let chain = |name: &str| {
        let built_in = [
            "PREROUTING",
            "INPUT",
            "FORWARD",
            "OUTPUT",
            "POSTROUTING",
            "DOCKER-USER",
        ];
        word::chain(name) || built_in.contains(&name)
    };
    let first = |text: &str| text.split(' ').next().is_some_and(chain);
    if let Some(declared) = line.strip_prefix(':') {
        return first(declared);
    }
    match line.strip_prefix('[') {
        Some(counted) => counted.split_once("] -A ").is_some_and(|(_, rule)| first(rule)),
        None => line.starts_with('*') || line == "COMMIT",
    }
}

/// Of `ipset save`: the lines of Cell's sets.
pub fn own_sets(text: &str) -> String {
    let mut kept = String::new();
    for line in text.split_terminator('\n') {
        if line.split(' ').nth(1).is_some_and(|set| set.starts_with(PREFIX)) {
            kept += line;
            kept.push('\n');
        }
    }
    kept
}

/// Of `ipset list -terse`: each set of Cell's as `create` would make it, and its number of entries.
pub fn entries(text: &str) -> (String, Vec<u64>) {
    let (mut headers, mut counts) = (String::new(), Vec::new());
    for block in text.split("\n\n") {
        let value = |key: &str| block.lines().find_map(|line| line.strip_prefix(key));
        let set = (
            value("Name: "),
            value("Type: "),
            value("Header: "),
            value("Number of entries: "),
        );
        let (Some(name), Some(kind), Some(header), Some(count)) = set else {
            continue;
        };
        if let (true, Ok(count)) = (name.starts_with(PREFIX), count.trim().parse()) {
            headers += &format!("create {name} {kind} {header}\n");
            counts.push(count);
        }
    }
    (headers, counts)
}
