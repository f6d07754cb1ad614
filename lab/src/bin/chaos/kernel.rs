//! What the kernel of the cell has, seen from outside by nft(8) and wg(8): neither netd nor the API is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context, Result};
use cell_lab::process::run;
use serde_json::Value;

/// The sets of netd's table that say who may reach what.
const SETS: [&str; 8] = [
    "peers4",
    "peers6",
    "internet4",
    "internet6",
    "p2p4",
    "p2p6",
    "svc4",
    "svc6",
];

/// Elements of each set; an element is an address, or `peer . address . protocol . port`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Policy(BTreeMap<&'static str, BTreeSet<String>>);

impl Policy {
    /// Reads it in the namespace of that name.
    ///
    /// # Errors
    /// With nft's words, e.g. when there is no table.
    pub fn read(namespace: &str) -> Result<Self> {
        let objects = table(namespace)?;
        let mut policy = Policy::empty();
        for set in objects.iter().map(|object| &object["set"]) {
            let Some(name) = SETS.into_iter().find(|name| set["name"] == *name) else {
                continue;
            };
            let elements = set["elem"].as_array().into_iter().flatten();
            policy.0.insert(name, elements.map(element).collect());
        }
        Ok(policy)
    }

    /// What follows from the list of peers that the API answers.
    ///
    /// # Errors
    /// When the list is none.
    pub fn of_peers(list: &Value) -> Result<Self> {
        let mut policy = Policy::empty();
        for peer in list["peers"].as_array().context("no list of peers")? {
            let access = &peer["access"];
            for (family, key) in [(4, "ipv4"), (6, "ipv6")] {
                let address = address(&peer[key])?;
                policy.add("peers", family, address.to_string());
                if access["internet"] == true {
                    policy.add("internet", family, address.to_string());
                }
                if access["peer_to_peer"] == true {
                    policy.add("p2p", family, address.to_string());
                }
                for service in access["services"].as_array().into_iter().flatten() {
                    let to = self::address(&service["address"])?;
                    if to.is_ipv4() == address.is_ipv4() {
                        let protocol = service["protocol"].as_str().context("a service has a protocol")?;
                        let element = format!("{address} . {to} . {protocol} . {}", service["port"]);
                        policy.add("svc", family, element);
                    }
                }
            }
        }
        Ok(policy)
    }

    /// Whether a set has an element that begins so.
    pub fn has(&self, set: &str, beginning: &str) -> bool {
        self.0
            .get(set)
            .is_some_and(|elements| elements.iter().any(|element| element.starts_with(beginning)))
    }

    /// Whether a set has this element.
    pub fn is(&self, set: &str, element: &str) -> bool {
        self.0.get(set).is_some_and(|elements| elements.contains(element))
    }

    /// In what `self` differs from what was expected, one line a set.
    pub fn differences(&self, expected: &Policy) -> Vec<String> {
        let differing = SETS
            .iter()
            .filter(|name| self.0.get(*name) != expected.0.get(*name));
        differing
            .map(|name| {
                format!(
                    "set {name} is {:?} and should be {:?}",
                    self.0[name], expected.0[name]
                )
            })
            .collect()
    }

    fn empty() -> Self {
        Policy(SETS.into_iter().map(|name| (name, BTreeSet::new())).collect())
    }

    fn add(&mut self, kind: &str, family: u8, element: String) {
        let name = format!("{kind}{family}");
        if let Some(elements) = SETS
            .into_iter()
            .find(|set| *set == name)
            .and_then(|set| self.0.get_mut(set))
        {
            elements.insert(element);
        }
    }
}

/// The objects of netd's table.
fn table(namespace: &str) -> Result<Vec<Value>> {
    let arguments = [
        "netns", "exec", namespace, "nft", "-j", "list", "table", "inet", "cell",
    ];
    let mut answer: Value = serde_json::from_str(&run(Command::new("ip").args(arguments))?)?;
    match answer["nftables"].take() {
        Value::Array(objects) => Ok(objects),
        other => anyhow::bail!("nft answers no list: {other}"),
    }
}

/// Packets that netd's table has counted as dropped.
///
/// # Errors
/// As [`Policy::read`].
pub fn dropped(namespace: &str) -> Result<u64> {
    let objects = table(namespace)?;
    let counters = objects.iter().map(|object| &object["counter"]["packets"]);
    Ok(counters.filter_map(Value::as_u64).sum())
}

fn address(value: &Value) -> Result<IpAddr> {
    let text = value.as_str().context("an address is text")?;
    text.parse().with_context(|| format!("{text} is no address"))
}

/// As libnftables-json(5) has it: text, or a concatenation of text and numbers.
fn element(element: &Value) -> String {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match element["concat"].as_array() {
        Some(parts) => parts.iter().map(word).collect::<Vec<_>>().join(" . "),
        None => word(element),
    }
}

/// The public keys of the peers of wg0; `None` where WireGuard is not the kernel's and wg(8) sees nothing.
pub fn wireguard_keys(namespace: &str) -> Option<BTreeSet<String>> {
    let arguments = ["netns", "exec", namespace, "wg", "show", "wg0", "peers"];
    let told = run(Command::new("ip").args(arguments)).ok()?;
    Some(told.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_of_peers_tells_the_sets() {
        let service = json!({"address": "192.168.77.50", "protocol": "udp", "port": 7013});
        let list = json!({"peers": [
            {"ipv4": "10.86.0.2", "ipv6": "fd86::2", "access": {"internet": true, "peer_to_peer": false, "services": [service]}},
        ]});
        let policy = Policy::of_peers(&list).unwrap();
        assert!(policy.has("internet4", "10.86.0.2") && policy.has("internet6", "fd86::2"));
        assert!(policy.has("svc4", "10.86.0.2 . 192.168.77.50 . udp . 7013"));
        assert!(!policy.has("svc6", "") && !policy.has("p2p4", ""));
        assert_eq!(Policy::empty().differences(&policy).len(), 5);
        assert_eq!(policy.differences(&policy), Vec::<String>::new());
    }

    #[test]
    fn elements_are_read_as_nft_writes_them() {
        assert_eq!(element(&json!("10.86.0.2")), "10.86.0.2");
        let concatenation = json!({"concat": ["10.86.0.2", "192.168.77.50", "udp", 7013]});
        assert_eq!(element(&concatenation), "10.86.0.2 . 192.168.77.50 . udp . 7013");
    }
}
