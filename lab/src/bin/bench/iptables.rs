//! The policy as the original makes it: one rule of iptables for each element, one call of the program for each rule.
//!
//! All of them would take minutes, and each call takes longer than the one before, because it finds more rules there. So
//! some are measured, spread evenly over the filling of the chains: what lies between is filled in by iptables-restore,
//! whose time does not count. The mean is therefore that of all calls, not of the cheap first ones alone.

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cell_lab::netns::Namespace;
use cell_lab::process;
use cell_netd_core::policy::{Element, Elements};

/// Calls that are measured, where there are rules enough.
const MEASURED: usize = 200;
/// Stretches of the filling, in the middle of each of which a share of the calls is measured.
const STRETCHES: usize = 20;

/// The mean times of a call.
pub struct Calls {
    /// While the chains are all but empty.
    pub first: Duration,
    /// Of all.
    pub mean: Duration,
    /// From how many `mean` was taken.
    pub measured: usize,
}

/// One rule: the program's name and what it is called with.
struct Rule {
    program: &'static str,
    text: String,
}

/// Measures some of the calls that would make a rule of each element.
pub fn measure(elements: &Elements) -> Result<Calls> {
    let rules = mixed(elements.values().flatten().map(rule).collect());
    // From the middle of a stretch to its end there must be so many.
    let each = (MEASURED / STRETCHES).min(rules.len() / (2 * STRETCHES));
    ensure!(each > 0, "{} rules are too few", rules.len());
    let namespace = Namespace::new("iptables")?;
    namespace.inside(|| {
        let first = call(&rules[..each])? / each as u32;
        let (mut made, mut time) = (each, Duration::ZERO);
        for stretch in 0..STRETCHES {
            let middle = (rules.len() * (2 * stretch + 1) / (2 * STRETCHES)).max(made);
            fill(&rules[made..middle])?;
            made = middle + each;
            time += call(&rules[middle..made])?;
        }
        Ok(Calls {
            first,
            mean: time / (each * STRETCHES) as u32,
            measured: each * STRETCHES,
        })
    })?
}

/// Each stretch gets of every kind: the rules of a set do not stand together.
fn mixed(rules: Vec<Rule>) -> Vec<Rule> {
    let stride = rules.len().div_ceil(MEASURED).max(1);
    let mut columns: Vec<Vec<Rule>> = (0..stride).map(|_| Vec::new()).collect();
    for (index, rule) in rules.into_iter().enumerate() {
        columns[index % stride].push(rule);
    }
    columns.into_iter().flatten().collect()
}

fn rule(element: &Element) -> Rule {
    let (is_v6, matches) = match *element {
        Element::Address(address) => (address.is_ipv6(), format!("-s {address}")),
        Element::Range(first, last) => (first.is_ipv6(), format!("-m iprange --src-range {first}-{last}")),
        Element::Service4(peer, address, protocol, port) => (
            false,
            format!("-s {peer} -d {address} -p {protocol} --dport {port}"),
        ),
        Element::Service6(peer, address, protocol, port) => (
            true,
            format!("-s {peer} -d {address} -p {protocol} --dport {port}"),
        ),
        Element::Port(port) => (false, format!("-p {} --dport {}", port.protocol, port.number)),
        Element::Host(address, bridge) => (address.is_ipv6(), format!("-s {address} -i {bridge}")),
        Element::ExitMark(peer, mark) => (peer.is_ipv6(), format!("-s {peer} -m mark --mark {mark}")),
        Element::ExitWay(peer, interface, mark) => (
            peer.is_ipv6(),
            format!("-s {peer} -o {interface} -m connmark --mark {mark}"),
        ),
        Element::Link(interface) => (false, format!("-i {interface}")),
        Element::RelayPort(peer, port) => (peer.is_ipv6(), format!("-s {peer} -p tcp --dport {port}")),
        Element::RelayWay(peer, port, mark) => (
            peer.is_ipv6(),
            format!("-s {peer} -p tcp --dport {port} -m connmark --mark {mark}"),
        ),
        Element::Entry(at, protocol)
        | Element::EntryTarget(at, protocol, _)
        | Element::EntryWay(at, protocol, _) => (
            false,
            format!("-d {} -p {protocol} --dport {}", at.ip(), at.port()),
        ),
        Element::Server(server) => (
            server.is_ipv6(),
            format!("-d {} -p tcp --dport {}", server.ip(), server.port()),
        ),
    };
    Rule {
        program: if is_v6 { "ip6tables" } else { "iptables" },
        text: format!("-A FORWARD {matches} -j ACCEPT"),
    }
}

/// How long it takes to make the rules with a call for each.
fn call(rules: &[Rule]) -> Result<Duration> {
    let start = Instant::now();
    for rule in rules {
        process::run(Command::new(rule.program).args(rule.text.split(' ')))?;
    }
    Ok(start.elapsed())
}

/// Makes them all at once.
fn fill(rules: &[Rule]) -> Result<()> {
    for program in ["iptables", "ip6tables"] {
        let mut text = String::from("*filter\n");
        for rule in rules.iter().filter(|rule| rule.program == program) {
            writeln!(text, "{}", rule.text)?;
        }
        text.push_str("COMMIT\n");
        let mut restore = Command::new(format!("{program}-restore"));
        process::run_with_input(restore.arg("--noflush"), &text)?;
    }
    Ok(())
}
