//! The ruleset as a text for `nft -f`: for people, golden files, and the comparison with nft(8). netd itself speaks
//! netlink and never runs a program.

use std::fmt::Write as _;

use super::element::{ElementDelta, Elements, SetId, SetKind};
use super::ruleset::{
    Action, Chain, Counter, CtDirection, CtState, HookPoint, MarkOf, Match, Rule, Ruleset, Side, Test,
};
use crate::model::Family;

/// A text that replaces the whole table in one transaction.
pub fn render(ruleset: &Ruleset) -> String {
    let Ruleset {
        table,
        chains,
        elements,
        relays: _,
    } = ruleset;
    let mut text = format!("table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n");
    for counter in Counter::ALL {
        text += &format!("\tcounter {counter} {{\n\t}}\n");
    }
    for set in SetId::ALL {
        text += &render_set(set, elements);
    }
    for chain in chains {
        text += &render_chain(chain);
    }
    text + "}\n"
}

/// A text that changes elements in one transaction.
pub fn render_delta(table: &crate::model::TableName, delta: &ElementDelta) -> String {
    let mut text = String::new();
    // Removals first: a range may be replaced by one that overlaps it.
    for (verb, elements) in [("delete", &delta.removed), ("add", &delta.added)] {
        for set in elements.keys() {
            text += &format!(
                "{verb} element inet {table} {} {{ {} }}\n",
                set.name(),
                list(*set, elements)
            );
        }
    }
    text
}

fn list(set: SetId, elements: &Elements) -> String {
    let mut text = String::new();
    for (index, element) in elements.get(&set).into_iter().flatten().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        // Writing to a string does not fail.
        let _ = write!(text, "{separator}{element}");
    }
    text
}

fn render_set(set: SetId, elements: &Elements) -> String {
    let kind = match set.kind() {
        SetKind::Address(Family::V4) | SetKind::Range(Family::V4) => "ipv4_addr",
        SetKind::Address(Family::V6) | SetKind::Range(Family::V6) => "ipv6_addr",
        SetKind::Service(Family::V4) => "ipv4_addr . ipv4_addr . inet_proto . inet_service",
        SetKind::Service(Family::V6) => "ipv6_addr . ipv6_addr . inet_proto . inet_service",
        SetKind::Port => "inet_proto . inet_service",
        SetKind::Mark(Family::V4) => "ipv4_addr : mark",
        SetKind::Mark(Family::V6) => "ipv6_addr : mark",
        SetKind::Way(Family::V4) => "ipv4_addr . ifname . mark",
        SetKind::Way(Family::V6) => "ipv6_addr . ifname . mark",
        SetKind::Link => "ifname",
        SetKind::RelayPort(Family::V4) => "ipv4_addr : inet_service",
        SetKind::RelayPort(Family::V6) => "ipv6_addr : inet_service",
        SetKind::RelayWay(Family::V4) => "ipv4_addr . inet_service . mark",
        SetKind::RelayWay(Family::V6) => "ipv6_addr . inet_service . mark",
        SetKind::Host(Family::V4) => "ipv4_addr . ifname",
        SetKind::Host(Family::V6) => "ipv6_addr . ifname",
        SetKind::Entry => "ipv4_addr . inet_proto . inet_service",
        SetKind::EntryTarget => "ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service",
        SetKind::EntryWay => "ipv4_addr . inet_proto . inet_service . ipv4_addr . inet_service",
        SetKind::Server(Family::V4) => "ipv4_addr . inet_service",
        SetKind::Server(Family::V6) => "ipv6_addr . inet_service",
    };
    let word = match set.kind() {
        SetKind::Mark(_) | SetKind::RelayPort(_) | SetKind::EntryTarget => "map",
        SetKind::Address(_)
        | SetKind::Range(_)
        | SetKind::Service(_)
        | SetKind::Port
        | SetKind::Way(_)
        | SetKind::Link
        | SetKind::RelayWay(_)
        | SetKind::Host(_)
        | SetKind::Entry
        | SetKind::EntryWay
        | SetKind::Server(_) => "set",
    };
    let mut text = format!("\t{word} {} {{\n\t\ttype {kind}\n", set.name());
    if matches!(set.kind(), SetKind::Range(_)) {
        text += "\t\tflags interval\n";
    }
    if elements.get(&set).is_some_and(|elements| !elements.is_empty()) {
        text += &format!("\t\telements = {{ {} }}\n", list(set, elements));
    }
    text + "\t}\n"
}

fn render_chain(chain: &Chain) -> String {
    let Chain { name, hook, rules } = chain;
    let mut text = format!("\tchain {} {{\n", name.as_str());
    if let Some(hook) = hook {
        let kind = if hook.nat { "nat" } else { "filter" };
        let point = match hook.point {
            HookPoint::Prerouting => "prerouting",
            HookPoint::Input => "input",
            HookPoint::Forward => "forward",
            HookPoint::Output => "output",
            HookPoint::Postrouting => "postrouting",
        };
        text += &format!(
            "\t\ttype {kind} hook {point} priority {}; policy accept;\n",
            hook.priority
        );
    }
    for rule in rules {
        text += &format!("\t\t{}\n", render_rule(rule));
    }
    text + "\t}\n"
}

/// One rule as nft(8) writes it.
pub(super) fn render_rule(rule: &Rule) -> String {
    let Rule { matches, actions } = rule;
    let words = matches
        .iter()
        .map(render_match)
        .chain(actions.iter().map(render_action));
    words.collect::<Vec<_>>().join(" ")
}

fn ip(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn mark_of(mark: MarkOf) -> &'static str {
    match mark {
        MarkOf::Packet => "meta mark",
        MarkOf::Flow => "ct mark",
    }
}

fn way(side: Side) -> &'static str {
    match side {
        Side::Source => "iifname",
        Side::Destination => "oifname",
    }
}

fn unless(is: bool) -> &'static str {
    if is { "" } else { "!= " }
}

fn state_of(state: CtState) -> &'static str {
    match state {
        CtState::Invalid => "invalid",
        CtState::Related => "related",
        CtState::EstablishedOrRelated => "established,related",
    }
}

fn render_match(condition: &Match) -> String {
    match condition {
        Match::Interface { side, name, is } => format!("{} {}\"{name}\"", way(*side), unless(*is)),
        Match::InterfaceLike { side, prefix, is } => {
            format!("{} {}\"{prefix}*\"", way(*side), unless(*is))
        }
        Match::Host {
            family,
            address,
            interface,
            is,
        } => on_bridge(*family, *address, *interface, *is),
        Match::Address(family, side, test) => {
            let address = if *side == Side::Source { "saddr" } else { "daddr" };
            let test = match test {
                Test::Is(address) => address.to_string(),
                Test::In(set) => format!("@{}", set.name()),
                Test::NotIn(set) => format!("!= @{}", set.name()),
            };
            format!("{} {address} {test}", ip(*family))
        }
        Match::L4(number) => format!("meta l4proto {number}"),
        Match::DestinationPort(port) => format!("th dport {port}"),
        Match::SourcePort(port) => format!("th sport {port}"),
        Match::ToMachine => "meta nfproto ipv4 fib daddr type local".to_owned(),
        Match::PortIn(set) => format!("meta l4proto . th dport @{}", set.name()),
        Match::EchoRequest(Family::V4) => "icmp type echo-request".to_owned(),
        Match::EchoRequest(Family::V6) => "icmpv6 type echo-request".to_owned(),
        Match::TcpSyn => "tcp flags & (syn | rst) == syn".to_owned(),
        Match::State(state) => format!("ct state {}", state_of(*state)),
        Match::Direction(CtDirection::Original) => "ct direction original".to_owned(),
        Match::Direction(CtDirection::Reply) => "ct direction reply".to_owned(),
        Match::Translated => "ct status dnat".to_owned(),
        Match::ServiceRequest(family) => service(*family, ["saddr", "daddr"], "th dport"),
        Match::ServiceAnswer(family) => service(*family, ["daddr", "saddr"], "th sport"),
        Match::FlowPeer(family, set) => format!("ct original {} saddr @{}", ip(*family), set.name()),
        Match::FlowTargetNot(family, set) => format!("ct reply {} saddr != @{}", ip(*family), set.name()),
        Match::InterfaceIn(Side::Source, set) => format!("iifname @{}", set.name()),
        Match::InterfaceIn(Side::Destination, set) => format!("oifname @{}", set.name()),
        Match::Marked(of, mask) => format!("{} & {mask:#010x} != 0", mark_of(*of)),
        Match::WayOut(family, of, mask) => {
            let (ip, set) = (ip(*family), SetId::ExitWays(*family).name());
            format!("{ip} saddr . oifname . ({} & {mask:#010x}) @{set}", mark_of(*of))
        }
        Match::WayIn(family, mask) => {
            let (ip, set) = (ip(*family), SetId::ExitWays(*family).name());
            format!("ct original {ip} saddr . iifname . (ct mark & {mask:#010x}) @{set}")
        }
        Match::FirstOfFlow => "ct status ! confirmed".to_owned(),
        Match::RelayRequest(family, mask) => relay_way(*family, "saddr . th dport", *mask),
        Match::RelayAnswer(family, mask) => relay_way(*family, "daddr . th sport", *mask),
        Match::RelayServer(family) => relay_end(*family, SetId::RelayServers(*family)),
        Match::RelayResolver(family) => relay_end(*family, SetId::RelayResolvers(*family)),
        Match::TunnelServer(family, protocol) => relay_end(*family, SetId::TunnelServers(*family, *protocol)),
        Match::Called => relay_end(Family::V4, SetId::Called),
        Match::EntryTo(set) => format!("ip daddr . meta l4proto . th dport @{}", set.name()),
        Match::FlowEntry(set) => format!("{FLOW_TO} @{}", set.name()),
        Match::FlowGranted(side) => flow_granted(*side),
        Match::EntryWay(side) => entry_way(*side),
        Match::SocketUser(id) => format!("meta skuid {id}"),
    }
}

/// What a flow was opened to.
const FLOW_TO: &str = "ct original ip daddr . meta l4proto . ct original proto-dst";

fn flow_granted(peer: Side) -> String {
    let set = SetId::Services(Family::V4).name();
    format!("ip {} . {FLOW_TO} @{set}", address(peer))
}

fn entry_way(container: Side) -> String {
    let (set, port) = (SetId::EntryWays.name(), port(container));
    format!("{FLOW_TO} . ip {} . {port} @{set}", address(container))
}

fn address(side: Side) -> &'static str {
    match side {
        Side::Source => "saddr",
        Side::Destination => "daddr",
    }
}

fn port(side: Side) -> &'static str {
    match side {
        Side::Source => "th sport",
        Side::Destination => "th dport",
    }
}

fn on_bridge(family: Family, address: Side, interface: Side, is: bool) -> String {
    let set = SetId::ServiceHosts(family).name();
    let (ip, way, address) = (ip(family), way(interface), self::address(address));
    format!("{ip} {address} . {way} {}@{set}", unless(is))
}

fn service(family: Family, [peer, other]: [&str; 2], port: &str) -> String {
    let (ip, set) = (ip(family), SetId::Services(family).name());
    format!("{ip} {peer} . {ip} {other} . meta l4proto . {port} @{set}")
}

fn relay_end(family: Family, set: SetId) -> String {
    format!("{} daddr . th dport @{}", ip(family), set.name())
}

fn relay_way(family: Family, peer_and_port: &str, mask: u32) -> String {
    let (ip, set) = (ip(family), SetId::RelayWays(family).name());
    format!("{ip} {peer_and_port} . (ct mark & {mask:#010x}) @{set}")
}

fn render_action(action: &Action) -> String {
    match action {
        Action::Count(counter) => format!("counter name \"{counter}\""),
        Action::Drop => "drop".to_owned(),
        Action::Accept => "accept".to_owned(),
        Action::Jump(chain) => format!("jump {}", chain.as_str()),
        Action::Goto(chain) => format!("goto {}", chain.as_str()),
        Action::SetMark(mark) => {
            format!(
                "meta mark set meta mark & {:#010x} | {:#010x}",
                !mark.mask(),
                mark.value()
            )
        }
        Action::MarkBySource(family) => {
            let (ip, map) = (ip(*family), SetId::ExitMarks(*family).name());
            format!("meta mark set {ip} saddr map @{map}")
        }
        Action::FlowMarkBySource(family) => {
            let (ip, map) = (ip(*family), SetId::RelayMarks(*family).name());
            format!("ct mark set {ip} saddr map @{map}")
        }
        Action::DnatBySource(family, address) => {
            let (ip, map) = (ip(*family), SetId::RelayPorts(*family).name());
            let to = match address {
                std::net::IpAddr::V4(address) => address.to_string(),
                std::net::IpAddr::V6(address) => format!("[{address}]"),
            };
            format!("dnat {ip} to {to} : {ip} saddr map @{map}")
        }
        Action::Refuse => "reject with icmpx admin-prohibited".to_owned(),
        Action::SetFlowMark(mark) => format!("ct mark set {mark:#010x}"),
        Action::SaveMark(mask) => format!("ct mark set meta mark & {mask:#010x}"),
        Action::Dnat(address, port) if address.is_ipv4() => format!("dnat ip to {address}:{port}"),
        Action::Dnat(address, port) => format!("dnat ip6 to [{address}]:{port}"),
        Action::DnatToEntry => {
            let map = SetId::EntryTargets.name();
            format!("dnat ip to ip daddr . meta l4proto . th dport map @{map}")
        }
        Action::Masquerade => "masquerade".to_owned(),
        Action::ClampMss => "tcp option maxseg size set rt mtu".to_owned(),
    }
}
