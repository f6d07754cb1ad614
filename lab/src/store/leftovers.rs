//! What is there of services, everywhere: at Docker, on the machine, in the kernel's rules, in zones, at the proxy.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::Result;

use super::Storehouse;
use crate::docker::Docker;
use crate::netns::Namespace;
use crate::process::run;

/// Networks of services lie in it; no other address of a cell begins so.
const POOL: &str = "172.21.";
/// Of [`Leftovers`].
const BRIDGES: &str = "bridges";
const ROUTES: &str = "routes";
const RULES: &str = "rules and entries";

/// Everything that a service could leave behind, by where it would be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leftovers(pub BTreeMap<&'static str, Vec<String>>);

impl Leftovers {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// How many there are beside bridges, and beside what is there as long as a bridge is: its routes, and its prefix in the set of those
    /// that lie on the machine's links.
    pub fn beside_bridges(&self) -> usize {
        let count = |place: &&'static str| self.0.get(place).map_or(0, Vec::len);
        match count(&BRIDGES) {
            0 => self.count(),
            _ => self.count() - [BRIDGES, ROUTES, RULES].iter().map(count).sum::<usize>(),
        }
    }
}

/// What is there of services of the store while none is installed. `names` are those that they had, `addresses` where devices
/// found them.
///
/// # Errors
/// When somewhere cannot be looked at.
pub fn nothing_of(
    docker: &Docker<'_>,
    cell: &Namespace,
    house: &Storehouse,
    names: &[&str],
    addresses: &[&str],
) -> Result<Leftovers> {
    let mut found = BTreeMap::new();
    let of_service = |line: &&str| names.iter().any(|name| line.contains(name));
    let lines = |text: &str, is: &dyn Fn(&&str) -> bool| -> Vec<String> {
        text.lines().filter(is).map(str::to_owned).collect()
    };
    let containers = docker.say(&["ps", "--all", "--format", "{{.Names}} {{.Image}}"])?;
    found.insert("containers", lines(&containers, &of_service));
    let volumes = docker.say(&["volume", "ls", "--format", "{{.Name}}"])?;
    found.insert("volumes", lines(&volumes, &of_service));
    let networks = docker.say(&["network", "ls", "--no-trunc", "--format", "{{.Name}} {{.Labels}}"])?;
    found.insert("networks", lines(&networks, &of_service));
    let links = cell.ip("-oneline link show")?;
    let is_bridge = |line: &&str| line.contains(": cellsvc") && !line.contains(": cellsvc0:");
    found.insert(BRIDGES, lines(&links, &is_bridge));
    let routes = cell.ip("route show table all")?;
    found.insert(ROUTES, lines(&routes, &|line| line.contains(POOL)));
    let rules = cell.run("nft", &["list", "table", "inet", "cell"])?;
    // What is not a number before or after it is not another's address.
    let is_its = |line: &&str| {
        let words = line.split(|c: char| !c.is_ascii_digit() && c != '.');
        line.contains(POOL) || words.into_iter().any(|word| addresses.contains(&word))
    };
    found.insert(RULES, lines(&rules, &is_its));
    let mut zones = Vec::new();
    for entry in std::fs::read_dir(house.dns())? {
        let text = std::fs::read_to_string(entry?.path())?;
        zones.extend(lines(&text, &|line| of_service(line) || is_its(line)));
    }
    found.insert("zones", zones);
    let socket = house.caddy_socket();
    let config = run(Command::new("curl")
        .args(["-sS", "--max-time", "10", "--unix-socket"])
        .arg(socket)
        .arg("http://127.0.0.1/config/"))?;
    let is_there = |word: &&&str| config.contains(**word);
    let at_proxy = names.iter().chain([&POOL]).filter(is_there);
    found.insert(
        "routes at the proxy",
        at_proxy.map(|word| (*word).to_owned()).collect(),
    );
    Ok(Leftovers(found))
}
