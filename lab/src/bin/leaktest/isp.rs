//! What is counted, and where: a table of counters that stands before everything else in a namespace, the same at the ISP and at
//! each far end. Each exit type has targets of its own, so a counter tells for which exit a packet was meant; of a question that the
//! cell's relay asks, its name does.

use std::fmt::Write as _;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use cell_lab::netns::Namespace;
use cell_lab::process::{run, run_with_input};
use serde_json::Value;

use crate::ear::Ear;
use crate::key::{CONTROL, Key, Meant, Protocol, RESOLVER, Tally, V4, V6, far_host};

const TABLE: &str = "leaktest";

/// Puts the counters of a far end in force.
///
/// # Errors
/// With nft's words.
pub fn install_far(namespace: &Namespace) -> Result<()> {
    load(namespace, &rules(""))
}

/// Whatever leaks is answered by the ISP, so that it goes on; and the counters are in force.
///
/// # Errors
/// When a port is taken, and with nft's words.
pub fn open(isp: &Namespace) -> Result<Arc<Ear>> {
    let hosts = Meant::all().filter(|meant| *meant != Meant::Direct);
    for host in hosts.map(Meant::target).chain([far_host(RESOLVER)]) {
        for address in host.each() {
            isp.add_address("lo", address.into())?;
        }
    }
    let ear = Ear::open(isp, None)?;
    install(isp)?;
    Ok(ear)
}

/// Puts the counters of the ISP in force, of what comes by its link: what its own host answers itself (that an answer of a far end
/// to its tunnel goes nowhere while the tunnel is down) nobody sent.
///
/// # Errors
/// With nft's words.
fn install(namespace: &Namespace) -> Result<()> {
    load(namespace, &(rules("iifname br0 ") + &questions("iifname br0 ")))?;
    load(namespace, &strangers_table())
}

/// The first letter of a name is behind the header of UDP (8 bytes), that of DNS (12) and the length of its label; relays write
/// letters in random case (0x20), and digits as they are.
const NAME_BITS: u32 = (8 + 12 + 1) * 8;
/// The same in the answer that an ICMP error brings back, behind its own header (8) and that of IPv4 or IPv6.
const NAME_BITS_IN_ERROR: [u32; 2] = [(8 + 20) * 8 + NAME_BITS, (8 + 40) * 8 + NAME_BITS];

/// That the byte at `bits` of a transport's header is this letter, in either case.
fn letter_at(bits: u32, letter: char) -> String {
    format!("@th,{bits},8 & 0xdf == {:#x}", u32::from(letter) & 0xdf)
}

/// Questions that come to the ISP's resolver, by who asked for the name.
fn questions(of: &str) -> String {
    let mut lines = String::new();
    for key in Key::all().filter(|key| key.protocol == Protocol::Dns) {
        let family = u32::from(if key.v6 { V6 } else { V4 });
        for to in far_host(RESOLVER).each() {
            let ip = if to.is_ipv6() { "ip6" } else { "ip" };
            let name = key.place();
            let letter = letter_at(NAME_BITS, key.meant.letter());
            let family_bits = NAME_BITS + 8;
            // Writing to a String cannot fail.
            let _ = writeln!(
                lines,
                "add rule inet {TABLE} arriving {of}{ip} daddr {to} udp dport 53 {letter} @th,{family_bits},8 == {family:#x} \
                 counter name c{name}"
            );
        }
    }
    lines
}

/// Counts what comes from the cell's uplink and has a container's source; and what is neither for a target, nor for a host on the ISP's own link, where the far ends are,
/// nor what links say to themselves; questions to port 53 of the link's hosts, none of which is a resolver; and at the ISP's resolver all
/// but the questions of who has no exit, over UDP, and what the kernel says about late answers to them.
fn strangers_table() -> String {
    let control = letter_at(NAME_BITS, CONTROL);
    let late = NAME_BITS_IN_ERROR.map(|bits| letter_at(bits, CONTROL));
    let resolver = far_host(RESOLVER);
    format!(
        r#"table bridge {TABLE} {{
    counter stranger {{ }}
    set seen4 {{ type ipv4_addr . ipv4_addr . inet_proto; size 64; flags dynamic; }}
    set seen6 {{ type ipv6_addr . ipv6_addr . inet_proto; size 64; flags dynamic; }}
    chain strange {{
        counter name stranger
        add @seen4 {{ ip saddr . ip daddr . meta l4proto }}
        add @seen6 {{ ip6 saddr . ip6 daddr . meta l4proto }}
    }}
    chain from_cell {{
        type filter hook prerouting priority -300; policy accept;
        iifname != "p10" accept
        ether type arp accept
        # A container's own source, wherever it goes.
        ip saddr 172.21.0.0/16 goto strange
        ip6 saddr fd30::/16 goto strange
        # What the control was answered and the cell, whose wg0 is away, sends back to where it came from.
        ip saddr 198.51.100.7 accept
        ip6 saddr 2001:db8:7::7 accept
        ip daddr {v4} udp dport 53 {control} accept
        ip6 daddr {v6} udp dport 53 {control} accept
        ip daddr {v4} icmp type destination-unreachable {late4} accept
        ip6 daddr {v6} icmpv6 type destination-unreachable {late6} accept
        ip daddr {v4} goto strange
        ip6 daddr {v6} goto strange
        ip daddr 203.0.113.0/24 th dport 53 goto strange
        ip6 daddr 2001:db8:1::/64 th dport 53 goto strange
        ip daddr {{ 203.0.113.0/24, 198.51.100.0/24, 224.0.0.0/4 }} accept
        ip6 daddr {{ 2001:db8:1::/64, 2001:db8:7::/64, fe80::/10, ff00::/8 }} accept
        goto strange
    }}
}}
"#,
        v4 = resolver.v4,
        v6 = resolver.v6,
        late4 = late[0],
        late6 = late[1],
    )
}

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
    use std::net::UdpSocket;
    use std::time::Duration;

    use cell_lab::process::until;
    use cell_lab::resolver::question;
    use cell_lab::topology::{CELL, World};

    use super::*;
    use crate::kind::Kind;

    const SECOND: Duration = Duration::from_secs(1);
    const CLOSED: u16 = 40_000;

    fn key(meant: Meant, v6: bool) -> Key {
        let protocol = Protocol::Dns;
        Key { meant, protocol, v6 }
    }

    /// An answer comes too late, to a port that is closed: the cell's kernel says so, and sends it back.
    fn late_answer(world: &World, meant: Meant, v6: bool) -> Result<()> {
        let [from, to] = [far_host(RESOLVER), CELL].map(|host| host.each()[usize::from(v6)]);
        let text = question(1, &key(meant, v6).name('a', 1))?;
        world.internet.inside(|| -> Result<()> {
            UdpSocket::bind((from, 53))?.send_to(&text, (to, CLOSED))?;
            Ok(())
        })?
    }

    #[test]
    fn what_the_kernel_says_of_late_answers_is_told_apart_too() -> Result<()> {
        let world = World::new()?;
        for address in far_host(RESOLVER).each() {
            world.internet.add_address("lo", address.into())?;
        }
        install(&world.internet)?;
        for v6 in [false, true] {
            late_answer(&world, Meant::Direct, v6)?;
        }
        std::thread::sleep(SECOND / 2);
        assert_eq!(strangers(&world.internet)?, 0, "{:?}", seen(&world.internet)?);
        for (number, v6) in [(1, false), (2, true)] {
            late_answer(&world, Meant::For(Kind::Tor), v6)?;
            until(10 * SECOND, "a stranger", || {
                (strangers(&world.internet).ok()? == number).then_some(())
            })?;
        }
        Ok(())
    }
}
