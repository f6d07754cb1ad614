//! `cell-launch clean-host`: takes back what a cell changed on the machine, by its own note of the changes; foreign
//! objects are left alone. Not a daemon, so it may use the machine's own programs.

use std::fs;
use std::path::Path;

use crate::error::Error;
use crate::files;
use crate::host::{Change, Changes};
use crate::leftovers;
use crate::network::{self, program};
use crate::options::CleanOptions;
use crate::plan;
use crate::policy::Owned;
use crate::preflight;
use crate::settings::Place;

/// How `ip link` prints the alias that netd gives its links.
const ALIAS: &str = "alias made by cell-netd";
/// The chains in which netd may have let pass what it accepted, when Docker drops what is forwarded.
const PASSAGE_CHAINS: [&str; 2] = ["DOCKER-USER", "FORWARD"];
/// How `ip rule` and `ip route` print the protocol number of what netd makes for exits.
const EXITS_TAG: &str = " proto 206";
/// What that is, how it is listed, and how it is taken away.
const EXITS: [(&str, &[&str], &[&str]); 2] = [
    ("rules", &["rule"], &["rule", "flush", "protocol", "206"]),
    (
        "routes",
        &["route", "show", "table", "all"],
        &["route", "flush", "table", "all", "proto", "206"],
    ),
];
/// What containers of a cell are labelled with: `owner_label` and `cell_id` of the shipped broker.toml.
const CONTAINERS: &str = "label=cell.owner=default";
/// Legacy iptables of each family, and the file that names the tables that were ever used.
const LEGACY: [(&str, &str); 2] = [
    ("iptables-legacy", "ip_tables_names"),
    ("ip6tables-legacy", "ip6_tables_names"),
];
/// How the names of chains and sets of a cell begin there.
const LEGACY_PREFIX: &str = "CELL-";
/// How `nft -a list chain` prints the comment by which netd knows its rule.
const PASSAGE_TAG: &str = " comment \"cell\"";

/// Cleans up after the cell of that home.
///
/// # Errors
/// When it runs, or at the first thing that cannot be taken back; running it again goes on from there.
pub fn run(options: &CleanOptions) -> Result<(), Error> {
    preflight::require_root()?;
    if !options.home.is_dir() {
        println!(
            "==> {} does not exist, and the note of what a cell changed on this machine was in it",
            options.home.display()
        );
        orphans().iter().for_each(|line| println!("==> {line}"));
        return Ok(());
    }
    let home = std::path::absolute(&options.home).map_err(Error::file("cannot be found", &options.home))?;
    let _lock = files::lock(&home)?;
    let run = home.join("run");
    leftovers::end(&run)?;
    files::remove_ephemeral(&run)?;
    let changes = Changes::read(&home)?;
    let owned = preflight::owned(&home)?;
    for change in &changes.0 {
        take_back(change, &owned)?;
    }
    Changes::default().write(&home)?;
    println!(
        "==> nothing of the cell in {} is left on this machine but that folder",
        home.display()
    );
    Ok(())
}

/// What seems to be a cell's on this machine's own network, with the command that removes it. Without the note nothing tells
/// whose it is: it may be the installed package's, so it is only named.
fn orphans() -> Vec<String> {
    let links = program("ip", &["-oneline", "link", "show"]).unwrap_or_default();
    let mut found: Vec<String> = links
        .lines()
        .filter(|line| line.contains(ALIAS))
        .filter_map(|line| line.split(": ").nth(1)?.split('@').next())
        .map(|name| format!("interface {name} is a cell's; if it is not in use: ip link delete {name}"))
        .collect();
    if program("nft", &["list", "table", "inet", "cell"]).is_ok() {
        let how = "nft delete table inet cell";
        found.push(format!(
            "nftables table inet cell is a cell's; if it is not in use: {how}"
        ));
    }
    if found.is_empty() {
        found.push("no interface and no table of a cell is on this machine's own network".to_owned());
    }
    found
}

/// A namespace that is gone needs no more cleaning.
pub fn forget_netns(changes: &mut Changes, name: &str) {
    let gone = [Change::Made(name.to_owned()), Change::Used(name.to_owned())];
    changes.0.retain(|change| !gone.contains(change));
}

fn take_back(change: &Change, owned: &Owned) -> Result<(), Error> {
    match change {
        Change::Made(name) if Path::new("/run/netns").join(name).exists() => {
            println!("==> removing network namespace {name}");
            network::remove(name)
        }
        Change::Used(name) if Path::new("/run/netns").join(name).exists() => {
            clean_network(&Place::Namespace(name.clone()), owned)
        }
        Change::Made(_) | Change::Used(_) => Ok(()),
        Change::UsedHost => clean_network(&Place::Host, owned),
        Change::Sysctl(key, value) => restore(key, value),
    }
}

/// Takes a setting back, but never one that somebody else relies on by now: Docker may have come after the cell.
fn restore(key: &str, value: &str) -> Result<(), Error> {
    if network::FORWARDING.contains(&key)
        && let Some(who) = network::who_forwards()
    {
        println!("==> {key} stays on, as it is needed by {who}; it was {value} before the cell");
        return Ok(());
    }
    println!("==> setting {key} back to {value}");
    network::set_sysctl(key, value)
}

fn clean_network(place: &Place, owned: &Owned) -> Result<(), Error> {
    network::inside(plan::netns_path(place).as_deref(), || {
        owned
            .interfaces
            .iter()
            .try_for_each(|link| remove_link(link, &owned.addresses))?;
        if matches!(place, Place::Host) {
            end_containers()?;
        }
        remove_tunnels(owned)?;
        remove_table(&owned.table)?;
        remove_exits()?;
        remove_docker_rules()?;
        remove_legacy()
    })?
}

/// The cell's containers and their networks: without netd nobody judges what they send. Their data stays in Docker's volumes. A
/// machine without Docker has none.
fn end_containers() -> Result<(), Error> {
    if program("docker", &["version"]).is_err() {
        return Ok(());
    }
    let containers = program("docker", &["ps", "--all", "--quiet", "--filter", CONTAINERS])?;
    for container in containers.lines() {
        println!("==> removing container {container}; its volumes stay");
        program("docker", &["rm", "--force", container])?;
    }
    let networks = program("docker", &["network", "ls", "--quiet", "--filter", CONTAINERS])?;
    for network in networks.lines() {
        println!("==> removing Docker's network {network}");
        program("docker", &["network", "rm", network])?;
    }
    Ok(())
}

/// Only a link that says so, or bears a hidden service address, is netd's. Its routes go with it.
fn remove_link(link: &str, hidden: &[String]) -> Result<(), Error> {
    let show = |object: &str| program("ip", &[object, "show", "dev", link]);
    let (Ok(said), Ok(addresses)) = (show("link"), show("address")) else {
        return Ok(());
    };
    let ours = |address: &String| addresses.contains(&format!(" {address}/"));
    if !said.contains(ALIAS) && !hidden.iter().any(ours) {
        println!("==> {link} is not the cell's and stays");
        return Ok(());
    }
    println!("==> removing interface {link}");
    program("ip", &["link", "delete", link]).map(drop)
}

/// Links of exits, which their alias tells: it names the table of the cell that made them.
fn remove_tunnels(owned: &Owned) -> Result<(), Error> {
    let Some(exits) = &owned.exits else {
        return Ok(());
    };
    let links = program("ip", &["-oneline", "link", "show"])?;
    let alias = format!("{ALIAS} for table {}", owned.table);
    for line in links.lines() {
        let name = line.split(": ").nth(1).and_then(|name| name.split('@').next());
        let Some(name) = name.filter(|name| exits.names(name)) else {
            continue;
        };
        let ours = line.split_once(&alias).is_some_and(|(_, rest)| {
            // Not the beginning of another table's name.
            rest.trim_end().is_empty() || rest.starts_with([',', '\\'])
        });
        if ours {
            println!("==> removing interface {name}");
            program("ip", &["link", "delete", name])?;
        }
    }
    Ok(())
}

fn remove_table(table: &str) -> Result<(), Error> {
    if program("nft", &["list", "table", "inet", table]).is_err() {
        return Ok(());
    }
    println!("==> removing nftables table inet {table}");
    program("nft", &["delete", "table", "inet", table]).map(drop)
}

/// After the table: what it marks must find no other way.
fn remove_exits() -> Result<(), Error> {
    for family in ["-4", "-6"] {
        for (what, list, flush) in EXITS {
            let listed = program("ip", &[&[family], list].concat()).unwrap_or_default();
            if listed.contains(EXITS_TAG) {
                println!("==> removing the {what} of the cell's exits ({family})");
                program("ip", &[&[family], flush].concat())?;
            }
        }
    }
    Ok(())
}

fn remove_docker_rules() -> Result<(), Error> {
    for family in ["ip", "ip6"] {
        for name in PASSAGE_CHAINS {
            let Ok(chain) = program("nft", &["-a", "list", "chain", family, "filter", name]) else {
                continue;
            };
            for handle in tagged_rules(&chain) {
                println!("==> removing the cell's rule from {family} filter {name}");
                program(
                    "nft",
                    &["delete", "rule", family, "filter", name, "handle", handle],
                )?;
            }
        }
    }
    Ok(())
}

/// Chains and sets of a netd that rendered for legacy iptables. Tables that nobody has used are not looked at: a look makes them.
fn remove_legacy() -> Result<(), Error> {
    for (tool, names) in LEGACY {
        let tables = fs::read_to_string(format!("/proc/thread-self/net/{names}")).unwrap_or_default();
        for table in tables.lines() {
            let Ok(rules) = program(tool, &["-t", table, "-S"]) else {
                continue;
            };
            let lines = legacy_removals(&rules);
            if !lines.is_empty() {
                println!("==> removing the cell's chains from {tool} {table}");
            }
            for line in &lines {
                let words: Vec<&str> = line.split(' ').collect();
                program(tool, &[&["-t", table], words.as_slice()].concat())?;
            }
        }
    }
    let sets = program("ipset", &["list", "-n"]).unwrap_or_default();
    for set in sets.lines().filter(|set| set.starts_with(LEGACY_PREFIX)) {
        program("ipset", &["destroy", set])?;
    }
    Ok(())
}

/// What takes the cell's chains out of a table that `-S` has printed: jumps from others' chains, then rules, then chains.
fn legacy_removals(rules: &str) -> Vec<String> {
    let to_ours = |rule: &&str| {
        let mut words = rule.split(' ');
        let from_others = words
            .nth(1)
            .is_some_and(|chain| !chain.starts_with(LEGACY_PREFIX));
        from_others
            && rule
                .rsplit(' ')
                .next()
                .is_some_and(|to| to.starts_with(LEGACY_PREFIX))
    };
    let appended = rules.lines().filter(|line| line.starts_with("-A "));
    let jumps = appended.filter(to_ours).map(|rule| rule.replacen("-A", "-D", 1));
    let chains: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.strip_prefix("-N "))
        .filter(|chain| chain.starts_with(LEGACY_PREFIX))
        .collect();
    let emptied = chains.iter().map(|chain| format!("-F {chain}"));
    let removed = chains.iter().map(|chain| format!("-X {chain}"));
    jumps.chain(emptied).chain(removed).collect()
}

/// The handles of the rules that bear netd's comment.
fn tagged_rules(chain: &str) -> Vec<&str> {
    let rules = chain.lines().filter_map(|line| line.rsplit_once(" # handle "));
    rules
        .filter(|(rule, _)| rule.ends_with(PASSAGE_TAG))
        .map(|(_, handle)| handle.trim())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_of_the_cell_go_and_those_of_others_stay() {
        let rules = "-P FORWARD ACCEPT\n-N CELL-a\n-N OTHER\n-A FORWARD -j CELL-a\n-A FORWARD -j OTHER\n\
                     -A CELL-a -j CELL-b\n-A OTHER -s 10.0.0.1/32 -j DROP\n";
        let lines = ["-D FORWARD -j CELL-a", "-F CELL-a", "-X CELL-a"];
        assert_eq!(legacy_removals(rules), lines);
        assert!(legacy_removals("-P FORWARD ACCEPT\n-A FORWARD -j OTHER\n").is_empty());
    }

    #[test]
    fn only_the_rule_with_the_cells_comment_is_taken_out() {
        let chain = "table ip filter {\n\tchain DOCKER-USER { # handle 3\n\
                     \t\tmeta mark & 0x00002000 == 0x00002000 counter packets 4 bytes 240 accept comment \"cell\" # handle 12\n\
                     \t\tip saddr 10.0.0.0/8 counter packets 0 bytes 0 accept comment \"cellar\" # handle 13\n\
                     \t\tcounter packets 0 bytes 0 return # handle 4\n\t}\n}\n";
        assert_eq!(tagged_rules(chain), ["12"]);
    }

    #[test]
    fn a_namespace_that_is_gone_is_forgotten_and_the_rest_is_not() {
        let mut changes = Changes(vec![
            Change::Made("a".into()),
            Change::UsedHost,
            Change::Used("b".into()),
        ]);
        forget_netns(&mut changes, "a");
        assert_eq!(changes.0, [Change::UsedHost, Change::Used("b".into())]);
    }
}
