//! What is counted, and where: a table of counters that stands before everything else in a namespace, the same at the ISP and at
//! each far end. Each exit type has targets of its own, so a counter tells for which exit a packet was meant.

use std::fmt::{self, Write as _};
use std::process::Command;

use anyhow::{Context, Result};
use cell_lab::netns::Namespace;
use cell_lab::process::{run, run_with_input};
use cell_lab::topology::{Both, FAR_HOST};
use serde_json::Value;

use crate::far::Kind;

/// Of what kind a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP but for port 53.
    Tcp,
    /// UDP but for port 53.
    Udp,
    /// ICMP and ICMPv6.
    Icmp,
    /// Port 53, by UDP and TCP.
    Dns,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Protocol; 4] = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp, Protocol::Dns];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Icmp => "ICMP",
            Protocol::Dns => "DNS",
        })
    }
}

/// Whose targets a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meant {
    /// A flow that a bound peer opened while it was assigned to an exit of this type.
    For(Kind),
    /// The peer without an exit.
    Direct,
}

impl Meant {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Meant> {
        Kind::ALL.into_iter().map(Meant::For).chain([Meant::Direct])
    }

    /// The public hosts that are asked.
    pub fn target(self) -> Both {
        let last = match self {
            Meant::For(kind) => 20 + kind.place(),
            Meant::Direct => return FAR_HOST,
        };
        let mut both = FAR_HOST;
        let mut v4 = both.v4.octets();
        v4[3] = last;
        let mut v6 = both.v6.segments();
        v6[7] = last.into();
        (both.v4, both.v6) = (v4.into(), v6.into());
        both
    }
}

impl fmt::Display for Meant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Meant::For(kind) => kind.fmt(f),
            Meant::Direct => f.write_str("no exit"),
        }
    }
}

/// One counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// For whose targets.
    pub meant: Meant,
    /// Of what kind.
    pub protocol: Protocol,
    /// IPv6, else IPv4.
    pub v6: bool,
}

impl Key {
    /// How many there are.
    pub const COUNT: usize = (Kind::ALL.len() + 1) * Protocol::ALL.len() * 2;

    /// All of them, each at its [`Key::place`].
    pub fn all() -> impl Iterator<Item = Key> {
        Meant::all().flat_map(|meant| {
            Protocol::ALL
                .into_iter()
                .flat_map(move |protocol| [false, true].map(|v6| Key { meant, protocol, v6 }))
        })
    }

    /// Its place in a [`Tally`].
    pub fn place(self) -> usize {
        let meant = match self.meant {
            Meant::For(kind) => usize::from(kind.place()),
            Meant::Direct => Kind::ALL.len(),
        };
        (meant * Protocol::ALL.len() + self.protocol as usize) * 2 + usize::from(self.v6)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.v6 { "IPv6" } else { "IPv4" };
        write!(f, "{}, {}, {family}", self.meant, self.protocol)
    }
}

/// Packets by counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally(pub [u64; Key::COUNT]);

impl Tally {
    /// Of one counter.
    pub fn of(&self, key: Key) -> u64 {
        self.0[key.place()]
    }

    /// What came since an earlier one.
    pub fn since(&self, earlier: &Tally) -> Tally {
        Tally(std::array::from_fn(|place| {
            self.0[place].saturating_sub(earlier.0[place])
        }))
    }

    /// The counters of bound peers that are not 0.
    pub fn bound(&self) -> Vec<(Key, u64)> {
        Key::all()
            .filter(|key| key.meant != Meant::Direct)
            .map(|key| (key, self.of(key)))
            .filter(|(_, packets)| *packets > 0)
            .collect()
    }
}

const TABLE: &str = "leaktest";

/// Puts the counters of a far end in force.
///
/// # Errors
/// With nft's words.
pub fn install_far(namespace: &Namespace) -> Result<()> {
    load(namespace, &rules(""))
}

/// Puts the counters of the ISP in force, of what comes by its link: what its own host answers itself (that an answer of a far end
/// to its tunnel goes nowhere while the tunnel is down) nobody sent.
///
/// # Errors
/// With nft's words.
pub fn install(namespace: &Namespace) -> Result<()> {
    load(namespace, &rules("iifname br0 "))?;
    load(namespace, STRANGERS)
}

/// Counts what comes from the cell's uplink and is neither for a target, nor for a host on the ISP's own link, where the far ends are,
/// nor what links say to themselves; and questions to port 53 of the link's hosts, none of which is a resolver.
const STRANGERS: &str = r#"table bridge leaktest {
    counter stranger { }
    set seen4 { type ipv4_addr . ipv4_addr . inet_proto; size 64; flags dynamic; }
    set seen6 { type ipv6_addr . ipv6_addr . inet_proto; size 64; flags dynamic; }
    chain from_cell {
        type filter hook prerouting priority -300; policy accept;
        iifname != "p10" accept
        ether type arp accept
        # What the control was answered and the cell, whose wg0 is away, sends back to where it came from.
        ip saddr 198.51.100.7 accept
        ip6 saddr 2001:db8:7::7 accept
        ip daddr 203.0.113.0/24 th dport 53 counter name stranger accept
        ip6 daddr 2001:db8:1::/64 th dport 53 counter name stranger accept
        ip daddr { 203.0.113.0/24, 198.51.100.0/24, 224.0.0.0/4 } accept
        ip6 daddr { 2001:db8:1::/64, 2001:db8:7::/64, fe80::/10, ff00::/8 } accept
        counter name stranger
        add @seen4 { ip saddr . ip daddr . meta l4proto }
        add @seen6 { ip6 saddr . ip6 daddr . meta l4proto }
    }
}
"#;

fn load(namespace: &Namespace, rules: &str) -> Result<()> {
    namespace
        .inside(|| run_with_input(Command::new("nft").args(["-f", "-"]), rules))?
        .map(drop)
}

fn rules(of: &str) -> String {
    let (mut counters, mut lines) = (String::new(), String::new());
    for key in Key::all() {
        let (ip, icmp) = if key.v6 { ("ip6", "icmpv6") } else { ("ip", "icmp") };
        let [v4, v6] = key.meant.target().each();
        let to = format!("{ip} daddr {}", if key.v6 { v6 } else { v4 });
        let matches = match key.protocol {
            Protocol::Tcp => "tcp dport != 53".to_owned(),
            Protocol::Udp => "udp dport != 53".to_owned(),
            Protocol::Icmp => format!("meta l4proto {icmp}"),
            Protocol::Dns => "meta l4proto { tcp, udp } th dport 53".to_owned(),
        };
        let name = key.place();
        // Writing to a String cannot fail.
        let _ = writeln!(counters, "    counter c{name} {{ }}");
        let _ = writeln!(lines, "        {of}{to} {matches} counter name c{name}");
    }
    format!(
        "table inet {TABLE} {{\n{counters}    chain arriving {{\n        type filter hook prerouting priority -400; \
         policy accept;\n{lines}    }}\n}}\n"
    )
}

/// Reads the counters.
///
/// # Errors
/// With nft's words.
pub fn read(namespace: &Namespace) -> Result<Tally> {
    let mut tally = Tally([0; Key::COUNT]);
    for (name, packets) in counters(namespace, "inet")? {
        let place = name.strip_prefix('c').and_then(|place| place.parse().ok());
        let place: usize = place.with_context(|| format!("{name} is no counter of ours"))?;
        *tally.0.get_mut(place).context("a counter too many")? = packets;
    }
    Ok(tally)
}

/// Reads the counter of what is for nobody's target.
///
/// # Errors
/// With nft's words.
pub fn strangers(namespace: &Namespace) -> Result<u64> {
    let all = counters(namespace, "bridge")?;
    Ok(all.into_iter().map(|(_, packets)| packets).sum())
}

/// Source, destination and protocol of up to 64 of those packets, for messages.
///
/// # Errors
/// With nft's words.
pub fn seen(namespace: &Namespace) -> Result<Vec<String>> {
    let objects = table(namespace, "bridge")?;
    let elements = objects
        .iter()
        .filter_map(|object| object["set"]["elem"].as_array());
    let shown = elements.flatten().map(|element| {
        let parts = element["concat"].as_array().into_iter().flatten();
        let words = parts.map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned));
        words.collect::<Vec<_>>().join(" ")
    });
    Ok(shown.collect())
}

fn counters(namespace: &Namespace, family: &str) -> Result<Vec<(String, u64)>> {
    let objects = table(namespace, family)?;
    let told = objects.iter().filter_map(|object| {
        let counter = &object["counter"];
        Some((counter["name"].as_str()?.to_owned(), counter["packets"].as_u64()?))
    });
    let told: Vec<_> = told.collect();
    anyhow::ensure!(!told.is_empty(), "the counters are gone");
    Ok(told)
}

fn table(namespace: &Namespace, family: &str) -> Result<Vec<Value>> {
    let arguments = ["netns", "exec", namespace.name(), "nft", "-j", "list", "table"];
    let text = run(Command::new("ip").args(arguments).args([family, TABLE]))?;
    let mut answer: Value = serde_json::from_str(&text)?;
    match answer["nftables"].take() {
        Value::Array(objects) => Ok(objects),
        other => anyhow::bail!("nft answers no list: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_has_a_place_of_its_own() {
        let places: Vec<usize> = Key::all().map(Key::place).collect();
        assert_eq!(places, (0..Key::COUNT).collect::<Vec<_>>());
    }

    #[test]
    fn what_the_control_sends_is_no_leak() {
        let mut tally = Tally([0; Key::COUNT]);
        let key = |meant| Key {
            meant,
            protocol: Protocol::Dns,
            v6: true,
        };
        tally.0[key(Meant::Direct).place()] = 7;
        assert_eq!(tally.bound(), []);
        let leaked = key(Meant::For(Kind::Ssh));
        tally.0[leaked.place()] = 3;
        assert_eq!(tally.bound(), [(leaked, 3)]);
    }
}
