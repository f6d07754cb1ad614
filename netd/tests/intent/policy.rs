//! The policy, as the stock tools put it into a namespace and as they list it.

use std::process::Command;

use cell_lab::netns::Namespace;
use cell_lab::process::run_with_input;
use cell_netd_core::model::Family;
use cell_netd_core::policy::iptables::{self, Stage};
use cell_netd_core::policy::{Ruleset, render};

use super::support::is_legacy;

/// Puts the policy into a namespace that has none.
pub fn install(oracle: &Namespace, ruleset: &Ruleset) {
    let load = |program: &str, arguments: &[&str], text: &str| {
        let mut command = Command::new(program);
        command.args(arguments);
        let loaded = oracle.inside(|| run_with_input(&mut command, text));
        loaded.unwrap().unwrap();
    };
    if !is_legacy() {
        return load("nft", &["-f", "-"], &render(ruleset));
    }
    for stage in iptables::replace(&iptables::Saved::default(), ruleset).unwrap() {
        match stage {
            Stage::Sets(text) => load("ipset", &["-exist", "restore"], &text),
            Stage::Rules(Family::V4, text) => load("iptables-legacy-restore", &["--noflush"], &text),
            Stage::Rules(Family::V6, text) => load("ip6tables-legacy-restore", &["--noflush"], &text),
        }
    }
}

/// The policy in a namespace, as the stock tools read it.
pub fn listed(namespace: &Namespace) -> String {
    if is_legacy() {
        saved(namespace)
    } else {
        ruleset(namespace)
    }
}

/// `iptables-save`, of both families, without what it counted, and `ipset save` without what chance and the past made of sets.
fn saved(namespace: &Namespace) -> String {
    let mut lines = Vec::new();
    for program in ["iptables-legacy-save", "ip6tables-legacy-save"] {
        for table in ["raw", "mangle", "nat", "filter"] {
            let text = namespace.run(program, &["-t", table]).unwrap();
            let said = text.lines().filter(|line| !line.starts_with('#'));
            lines.extend(said.map(|line| line.split(" [").next().unwrap_or_default().to_owned()));
        }
    }
    let sets = namespace.run("ipset", &["save"]).unwrap();
    let mut sets: Vec<String> = sets.lines().map(lasting).collect();
    sets.sort();
    lines.extend(sets);
    lines.join("\n")
}

/// A line of `ipset save` without how large its table has grown, and from where it hashes.
fn lasting(line: &str) -> String {
    let mut words = line.split(' ');
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "hashsize" | "bucketsize" | "initval" => {
                words.next();
            }
            _ => kept.push(word),
        }
    }
    kept.join(" ")
}

/// `nft list ruleset`, without what tells who owns the table.
fn ruleset(namespace: &Namespace) -> String {
    let text = namespace.run("nft", &["-nn", "list", "ruleset"]).unwrap();
    let kept = |line: &&str| {
        !line.trim().is_empty()
            && line.trim() != "flags"
            && !line.contains("flags ow")
            && !line.contains("comment \"made by")
            && !line.trim().starts_with("packets ")
    };
    let lines = text.lines().filter(kept);
    let lines = lines.map(|line| line.split(" # progname").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}
