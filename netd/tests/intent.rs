//! Kernel = intent: whole specs and single changes, drawn at random and sent in random order to a real netd. Whatever came
//! before, what is in the kernel is what the last of them says, as the stock tools read it; and once more changes nothing.
//!
//! The oracle never saw the kernel that netd writes to: `nft -f` puts the compiled policy into a namespace of its own, and nft(8)
//! lists both. With `CELL_TEST_RENDERER=iptables` it is what `ipset` and `iptables-restore` put into an empty one, as ipset(8) and
//! iptables-save(8) have both.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/containers.rs"]
mod containers;
mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use cell_lab::netns::Namespace;
use cell_lab::process::{run_with_input, until};
use cell_netd::config::Config;
use cell_netd::proto::network_spec;
use cell_netd_core::model::Family;
use cell_netd_core::policy::iptables::{self, Stage};
use cell_netd_core::policy::{Ruleset, compile, render};
use cell_netd_core::routing::{Action, RouteTo, Selector, wanted};
use cell_netd_core::validate::validate;
use cell_netd_core::{Ceiling, Desired};
use cell_proto::netd::v1;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config as Cases, TestRunner};
use support::{Netd, PATIENCE, access, address, is_legacy, peer, policy, spec};

/// The first three are tunnels, the others relays.
const EXITS: [u8; 5] = [0, 1, 2, 3, 4];
const TUNNELS: u8 = 3;

/// What one peer is like.
#[derive(Debug, Clone)]
struct Drawn {
    internet: bool,
    peer_to_peer: bool,
    services: Vec<(&'static str, u32)>,
    both_families: bool,
    exit: Option<u8>,
}

/// What is sent.
#[derive(Debug, Clone)]
enum Sent {
    /// Peers by number, exits, whether these exchange their marks and tables, and networks of services by number.
    Whole(Vec<(u8, Drawn)>, Vec<u8>, bool, Vec<(u8, Drawn)>),
    /// Some peers anew; those of these numbers go.
    Change(Vec<(u8, Drawn)>, Vec<u8>),
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let services = subsequence(vec![("10.0.5.7", 443), ("10.0.5.7", 80), ("fd00::7", 443)], 0..=3);
    let exit = proptest::option::weighted(0.7, select(EXITS.to_vec()));
    (any::<bool>(), any::<bool>(), services, any::<bool>(), exit).prop_map(
        |(internet, peer_to_peer, services, both_families, exit)| Drawn {
            internet,
            peer_to_peer,
            services,
            both_families,
            exit,
        },
    )
}

fn sent() -> impl Strategy<Value = Sent> {
    let peers = |most| {
        let numbers = subsequence((1..9u8).collect::<Vec<_>>(), 0..=most);
        numbers.prop_flat_map(|numbers| {
            numbers
                .into_iter()
                .map(|number| (Just(number), drawn()))
                .collect::<Vec<_>>()
        })
    };
    prop_oneof![
        (
            peers(8),
            subsequence(EXITS.to_vec(), 0..=5),
            any::<bool>(),
            peers(3)
        )
            .prop_map(|(peers, exits, rotated, services)| Sent::Whole(peers, exits, rotated, services)),
        (peers(3), subsequence((1..9u8).collect::<Vec<_>>(), 0..=2))
            .prop_map(|(peers, removed)| Sent::Change(peers, removed)),
    ]
}

fn peer_spec((number, drawn): &(u8, Drawn), exits: &[v1::ExitSpec]) -> v1::PeerSpec {
    let Drawn {
        internet,
        peer_to_peer,
        services,
        both_families,
        exit,
    } = drawn;
    let access = access(*internet, *peer_to_peer, services);
    let mut spec = peer(*number, &format!("p{number}"), &[*number; 32], access);
    if !both_families {
        spec.addresses.pop();
    }
    // An exit that is not there is refused: others hold that.
    spec.exit = exit
        .map(id)
        .filter(|id| exits.iter().any(|exit| exit.id == *id))
        .unwrap_or_default();
    spec
}

/// The network of a service that is like a peer.
fn network_of((number, drawn): &(u8, Drawn), exits: &[v1::ExitSpec]) -> v1::ServiceNetwork {
    let exit = drawn.exit.map(id).unwrap_or_default();
    let has_exit = exits.iter().any(|known| known.id == exit);
    let network = containers::network(*number, drawn.internet, if has_exit { &exit } else { "" });
    let v4 = drawn.services.iter().filter(|(to, _)| !to.contains(':'));
    let reach: Vec<_> = v4.map(|(to, port)| (to.parse().unwrap(), *port)).collect();
    containers::reaching(network, &reach)
}

/// Of an exit: that of a connection, so that it has secrets.
fn id(exit: u8) -> String {
    format!("6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a{exit:02x}")
}

/// An exit with the mark, the table and the port of number `place`.
fn exit_spec(number: u8, place: u8) -> v1::ExitSpec {
    let tunnel = number < TUNNELS;
    let every = |zero: &str| cell_proto::common::v1::IpPrefix {
        address: Some(address(zero)),
        length: 0,
    };
    let server = |port: u16| SocketAddr::from(([192, 0, 2, 9 + number], port)).into();
    let way = if tunnel {
        v1::exit_spec::Way::Wireguard(v1::WireguardExit {
            addresses: vec![
                address(&format!("172.20.{number}.2")),
                address(&format!("fd20:{number}::2")),
            ],
            mtu_bytes: 0,
            far_ends: vec![v1::WireguardFarEnd {
                public_key: vec![0x50 + number; 32],
                endpoint: Some(server(51820)),
                persistent_keepalive_seconds: 0,
                allowed_ips: vec![every("0.0.0.0"), every("::")],
                has_preshared_key: false,
            }],
            secret_revision: 0,
        })
    } else {
        v1::exit_spec::Way::Redirect(v1::RedirectExit {
            port: 9100 + u32::from(place),
            servers: vec![server(1080)],
        })
    };
    v1::ExitSpec {
        id: id(number),
        mark: 0x1000 + 0x10 * u32::from(place),
        table: if tunnel { 1000 + u32::from(place) } else { 0 },
        interface: if tunnel {
            format!("wgext_{number:08}")
        } else {
            String::new()
        },
        way: Some(way),
    }
}

/// The state after that was sent.
fn after(before: &v1::NetworkSpec, sent: &Sent) -> v1::NetworkSpec {
    match sent {
        Sent::Whole(peers, exits, rotated, services) => {
            let mut state = spec(vec![]);
            let place = |at: usize| {
                if *rotated {
                    exits[(at + 1) % exits.len()]
                } else {
                    exits[at]
                }
            };
            state.exits = exits
                .iter()
                .enumerate()
                .map(|(at, number)| exit_spec(*number, place(at)))
                .collect();
            state.peers = peers.iter().map(|peer| peer_spec(peer, &state.exits)).collect();
            let networks = services.iter().map(|one| network_of(one, &state.exits));
            state.service_networks = networks.collect();
            state
        }
        Sent::Change(peers, removed) => {
            let mut state = before.clone();
            let names: BTreeSet<_> = removed
                .iter()
                .chain(peers.iter().map(|(number, _)| number))
                .collect();
            state
                .peers
                .retain(|peer| names.iter().all(|number| peer.name != format!("p{number}")));
            let upserted = peers.iter().filter(|(number, _)| !removed.contains(number));
            let upserted: Vec<_> = upserted.map(|peer| peer_spec(peer, &state.exits)).collect();
            state.peers.extend(upserted);
            state
        }
    }
}

/// A cell that is alone in its namespace.
struct Setup {
    netd: Netd,
    cell: Namespace,
    ceiling: Ceiling,
}

impl Setup {
    fn new() -> Self {
        let cell = Namespace::new("intent").unwrap();
        cell.forward().unwrap();
        let netd = Netd::start(&cell).unwrap();
        for number in 0..TUNNELS {
            let keys = support::Keys::make().unwrap();
            let name = format!("conn_{}_wireguard_key", id(number).replace('-', ""));
            netd.exit_secrets
                .lock()
                .unwrap()
                .insert(name, keys.private.into_bytes());
        }
        // As netd looks them up, since its rules name them by number.
        let uid = |name: &str| {
            let user = nix::unistd::User::from_name(name).unwrap();
            user.map(|user| user.uid.as_raw())
        };
        Setup {
            netd,
            cell,
            ceiling: Config::parse(&policy(Path::new("/nowhere"), is_legacy()), uid)
                .unwrap()
                .ceiling,
        }
    }

    fn send(&self, sent: &Sent, state: &v1::NetworkSpec) -> usize {
        match sent {
            Sent::Whole(..) => self.netd.apply(state.clone(), "").unwrap().changes.len(),
            Sent::Change(peers, removed) => {
                let names: Vec<_> = removed.iter().map(|number| format!("p{number}")).collect();
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                let upserted = peers.iter().filter(|(number, _)| !removed.contains(number));
                let upserted = upserted.map(|peer| peer_spec(peer, &state.exits)).collect();
                self.netd.delta(upserted, &names).unwrap().changes.len()
            }
        }
    }

    /// Everything in the kernel against the state.
    fn holds(&self, state: &v1::NetworkSpec) -> Result<(), TestCaseError> {
        let desired = validate(&network_spec(state.clone()), &self.ceiling, None).unwrap();
        let exits = state
            .exits
            .iter()
            .filter(|exit| !exit.interface.is_empty())
            .count();
        until(PATIENCE, "the tunnels are there", || {
            let status = self.netd.status().ok()?;
            let ready = status
                .exits
                .iter()
                .filter(|exit| exit.state() == v1::ExitState::Ready);
            (status.generation == status.observed_generation && ready.count() == exits).then_some(())
        })
        .unwrap();
        let ruleset = compile(&desired, &self.ceiling, &BTreeSet::new()).unwrap();
        let oracle = Namespace::new("oracle").unwrap();
        install(&oracle, &ruleset);
        let standing = listed(&self.cell);
        let hook = if is_legacy() {
            "-A OUTPUT -j CELL-output"
        } else {
            "chain c_output"
        };
        prop_assert!(standing.contains(hook), "{}", standing);
        prop_assert_eq!(standing, listed(&oracle));
        let routing = routing(&desired, &self.ceiling);
        prop_assert_eq!(self.rules(), routing.0);
        prop_assert_eq!(self.routes(), routing.1);
        let known: BTreeSet<_> = self
            .netd
            .peers()
            .unwrap()
            .into_iter()
            .map(|peer| peer.name)
            .collect();
        let named: BTreeSet<_> = state.peers.iter().map(|peer| peer.name.clone()).collect();
        prop_assert_eq!(known, named);
        Ok(())
    }

    /// As ip(8) tells them, those of everybody left out.
    fn rules(&self) -> BTreeSet<String> {
        let all = ["-4", "-6"].map(|family| (family, self.cell.ip(&format!("{family} rule")).unwrap()));
        let mine = |line: &&str| line.starts_with("10") && line[5..].starts_with(':');
        all.iter()
            .flat_map(|(family, text)| text.lines().filter(mine).map(move |line| said(family, line)))
            .collect()
    }

    fn routes(&self) -> BTreeSet<String> {
        let all = ["-4", "-6"].map(|family| {
            (
                family,
                self.cell.ip(&format!("{family} route show table all")).unwrap(),
            )
        });
        let mine = |line: &&str| line.contains("default") && line.contains("table 10");
        all.iter()
            .flat_map(|(family, text)| text.lines().filter(mine).map(move |line| said(family, line)))
            .collect()
    }
}

/// Words alone, without who made it and what follows from the rest.
fn said(family: &str, line: &str) -> String {
    // Of IPv6, an unreachable route is said to be on loopback.
    let line = line.replace(':', " ").replace(" dev lo ", " ");
    let line = line.split(" proto ").next().unwrap().to_owned()
        + line
            .find(" metric ")
            .map(|at| {
                line[at..]
                    .split_whitespace()
                    .take(2)
                    .fold(String::new(), |all, word| all + " " + word)
            })
            .unwrap_or_default()
            .as_str();
    let words: Vec<_> = line.split_whitespace().collect();
    format!("{family} {}", words.join(" "))
}

/// Rules and routes as the state wants them, in the words of ip(8).
fn routing(desired: &Desired, ceiling: &Ceiling) -> (BTreeSet<String>, BTreeSet<String>) {
    let up = desired.exits().values().map(|exit| exit.way.interface).collect();
    let routing = wanted(desired, ceiling, &up);
    let family = |family| match family {
        cell_netd_core::model::Family::V4 => "-4",
        cell_netd_core::model::Family::V6 => "-6",
    };
    let rules = routing.rules.iter().map(|rule| {
        let selector = match rule.selector {
            Selector::Mark { mark: 0, mask } => format!("from all fwmark 0/{mask:#x}"),
            Selector::Mark { mark, mask } => format!("from all fwmark {mark:#x}/{mask:#x}"),
            Selector::Out(name) => format!("from all oif {name}"),
            Selector::Own { mask } => format!("from all fwmark 0/{mask:#x} iif lo"),
            Selector::All => "from all".to_owned(),
        };
        let action = match rule.action {
            Action::Table(table) => format!("lookup {table}"),
            Action::Goto(priority) => format!("goto {priority}"),
            Action::Nop => "nop".to_owned(),
        };
        format!("{} {} {selector} {action}", family(rule.family), rule.priority)
    });
    let routes = routing.routes.iter().map(|route| {
        let to = match route.to {
            RouteTo::Unreachable => "unreachable default".to_owned(),
            RouteTo::Interface(name) => format!("default dev {name}"),
        };
        format!(
            "{} {to} table {} metric {}",
            family(route.family),
            route.table,
            route.to.metric()
        )
    });
    (rules.collect(), routes.collect())
}

/// Puts the policy into a namespace that has none.
fn install(oracle: &Namespace, ruleset: &Ruleset) {
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
fn listed(namespace: &Namespace) -> String {
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

#[test]
fn whatever_came_before_the_kernel_is_what_was_sent_last() {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|count| count.parse().ok());
    let mut runner = TestRunner::new(Cases {
        cases: cases.unwrap_or(6),
        // Each step of it is a kernel's: what fails is told as it was found.
        max_shrink_iters: 8,
        failure_persistence: None,
        ..Cases::default()
    });
    let setup = Setup::new();
    let sequences = proptest::collection::vec(sent(), 4..8);
    let ran = runner.run(&sequences, |sequence| {
        let mut state = spec(vec![]);
        setup.netd.apply(state.clone(), "").unwrap();
        for sent in &sequence {
            state = after(&state, sent);
            let _changes = setup.send(sent, &state);
            setup.holds(&state)?;
            let before = (setup.rules(), setup.routes(), listed(&setup.cell));
            prop_assert_eq!(setup.send(sent, &state), 0, "twice");
            prop_assert_eq!(
                setup.netd.apply(state.clone(), "").unwrap().changes.len(),
                0,
                "whole"
            );
            prop_assert_eq!((setup.rules(), setup.routes(), listed(&setup.cell)), before);
        }
        Ok(())
    });
    ran.unwrap();
    assert_eq!(setup.netd.status().unwrap().drift_repairs, 0, "nobody meddled");
}

/// netd does not read all rules and routes at each change of a peer: the kernel's word that somebody changed them is enough.
#[test]
fn what_others_undid_just_before_a_change_is_put_right_with_it() {
    let setup = Setup::new();
    let one = |exit| {
        let drawn = Drawn {
            internet: true,
            peer_to_peer: false,
            services: vec![],
            both_families: true,
            exit: Some(exit),
        };
        vec![(1, drawn)]
    };
    let whole = Sent::Whole(one(0), EXITS.to_vec(), false, one(1));
    let mut state = after(&spec(vec![]), &whole);
    setup.send(&whole, &state);
    setup.holds(&state).unwrap();
    let undo = [
        "-4 rule del pref 10033",
        "-6 rule del pref 10602",
        "-4 route flush table 1001",
        "-6 route flush table 1000",
    ];
    for (command, exit) in undo.into_iter().zip([1, 2, 0, 1]) {
        setup.cell.ip(command).unwrap();
        let change = Sent::Change(one(exit), vec![]);
        state = after(&state, &change);
        setup.send(&change, &state);
        let routing = routing(
            &validate(&network_spec(state.clone()), &setup.ceiling, None).unwrap(),
            &setup.ceiling,
        );
        assert_eq!((setup.rules(), setup.routes()), routing, "{command}");
    }
}
