//! The policy in iptables' and ipset's words, held to golden files (`UPDATE_GOLDEN=1 cargo test` writes them anew, for review),
//! and what is read back of it.
#![allow(clippy::disallowed_methods, reason = "golden files lie beside this test")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cell_netd_core::model::{Family, Protocol};
use cell_netd_core::plan::element_delta;
use cell_netd_core::policy::iptables::{
    Members, Saved, SavedChain, SavedSet, SavedTable, Stage, Table, Way, decode, drops, encode, is_in_force,
    judges, parse_rules, parse_sets, passage, remove, replace, rules, update, way,
};
use cell_netd_core::policy::{Counter, ElementDelta, Elements, Ruleset, SetId, compile, skeleton};
use cell_netd_core::spec::{DeltaSpec, NetworkSpec};
use cell_netd_core::validate::{validate, validate_delta};
use proptest::prelude::*;
use support::{ceiling, entry, exit, leaving, network, peer, redirect, service, spec, through, with_access};

const MASK: u32 = 0x1ff0;

fn compiled(spec: &NetworkSpec) -> Ruleset {
    let desired = validate(spec, &ceiling(), None).unwrap();
    let on_link = ["192.0.2.1/24", "2001:db8:77::1/64"].map(|net| net.parse().unwrap());
    compile(&desired, &ceiling(), &on_link.into()).unwrap()
}

/// Every kind of access, an exit by an interface and one of the relay.
fn whole() -> NetworkSpec {
    let mut spec = spec(vec![
        with_access(peer(1), true, false, &[]),
        through(
            with_access(peer(2), true, false, &[("203.0.113.9", 443)]),
            "exit10",
        ),
        through(with_access(peer(3), true, true, &[]), "exit0"),
        with_access(peer(4), false, false, &[("10.0.5.7", 443), ("fd00::7", 8443)]),
    ]);
    spec.exits = vec![exit(0), redirect(10), redirect(11)];
    (
        spec.cell_ports[1].target_port,
        spec.cell_ports[1].bound_target_port,
    ) = (9053, 9054);
    spec.dns_upstreams = vec![
        Ok("9.9.9.9:53".parse().unwrap()),
        Ok("[2620:fe::fe]:53".parse().unwrap()),
    ];
    spec.service_networks = vec![
        network(1),
        leaving(network(2), "exit0"),
        leaving(network(3), "exit10"),
    ];
    spec.service_networks[0].reach = vec![service("172.30.2.2", 443)];
    spec.service_networks[1].called = vec![Ok("172.30.2.2:8081".parse().unwrap())];
    spec.entries = vec![
        entry("10.86.0.200:443", "172.30.1.2:8443", Protocol::Tcp, false),
        entry("10.86.0.1:123", "172.30.2.3:123", Protocol::Udp, true),
    ];
    spec
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{name}");
}

fn text(stages: &[Stage]) -> String {
    let one = |stage: &Stage| match stage {
        Stage::Sets(text) => format!("# ipset -exist restore\n{text}"),
        Stage::Rules(Family::V4, text) => format!("# iptables-legacy-restore --noflush\n{text}"),
        Stage::Rules(Family::V6, text) => format!("# ip6tables-legacy-restore --noflush\n{text}"),
    };
    stages.iter().map(one).collect()
}

/// Built-in chains with the rules of somebody else in them.
fn machine() -> Saved {
    let built_in = |table: Table| -> SavedTable {
        let names: &[&str] = match table {
            Table::Nat => &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
            Table::Raw => &["PREROUTING", "OUTPUT"],
            Table::Filter => &["INPUT", "FORWARD", "OUTPUT"],
            Table::Mangle => &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
        };
        let foreign = || SavedChain {
            drops: false,
            rules: vec!["-i eth9 -j ACCEPT".to_owned()],
            counts: vec![(7, 700)],
        };
        names.iter().map(|name| ((*name).to_owned(), foreign())).collect()
    };
    let tables: BTreeMap<Table, SavedTable> = Table::ALL.map(|table| (table, built_in(table))).into();
    Saved {
        v4: tables.clone(),
        v6: tables,
        sets: BTreeMap::new(),
    }
}

/// A strict model of the programs: whatever is not as they want it is refused.
fn carry_out(machine: &Saved, stages: &[Stage]) -> Saved {
    let mut machine = machine.clone();
    for stage in stages {
        match stage {
            Stage::Sets(text) => text.lines().for_each(|line| set_line(&mut machine, line)),
            Stage::Rules(Family::V4, text) => restore(&mut machine.v4, text),
            Stage::Rules(Family::V6, text) => restore(&mut machine.v6, text),
        }
        for (family, tables) in [(Family::V4, &machine.v4), (Family::V6, &machine.v6)] {
            for rule in tables
                .values()
                .flat_map(SavedTable::values)
                .flat_map(|chain| &chain.rules)
            {
                for word in rule.split("-set ").skip(1) {
                    let set = word.split(' ').next().unwrap();
                    assert!(machine.sets.contains_key(set), "{family:?}: {rule}");
                }
            }
        }
    }
    machine
}

fn set_line(machine: &mut Saved, line: &str) {
    let words: Vec<&str> = line.splitn(3, ' ').collect();
    match words.as_slice() {
        ["create", name, header] => {
            let made = SavedSet {
                header: (*header).to_owned(),
                members: BTreeSet::new(),
            };
            assert!(machine.sets.insert((*name).to_owned(), made).is_none(), "{line}");
        }
        ["destroy", name] => {
            let used = format!("-set {name} ");
            let tables = machine.v4.values().chain(machine.v6.values());
            let mut rules = tables.flat_map(SavedTable::values).flat_map(|chain| &chain.rules);
            assert!(!rules.any(|rule| format!("{rule} ").contains(&used)), "{line}");
            assert!(machine.sets.remove(*name).is_some(), "{line}");
        }
        ["add", name, entry] => {
            let set = machine.sets.get_mut(*name).unwrap();
            let key = entry.split(' ').next().unwrap();
            set.members.retain(|member| member.split(' ').next() != Some(key));
            set.members.insert((*entry).to_owned());
        }
        ["del", name, key] => {
            let set = machine.sets.get_mut(*name).unwrap();
            set.members
                .retain(|member| member.split(' ').next() != Some(*key));
        }
        _ => panic!("{line}"),
    }
}

fn restore(tables: &mut BTreeMap<Table, SavedTable>, text: &str) {
    let mut table = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = Table::ALL.into_iter().find(|table| table.name() == name);
            continue;
        }
        if line == "COMMIT" {
            table = None;
            continue;
        }
        let chains = tables.get_mut(&table.unwrap()).unwrap();
        if let Some(declared) = line.strip_prefix(':') {
            let name = declared.strip_suffix(" - [0:0]").unwrap();
            assert!(name.starts_with("CELL-") && name.len() <= 28, "{line}");
            chains.insert(name.to_owned(), SavedChain::default());
            continue;
        }
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        let rules = |chain: &str| &chains[chain].rules;
        let mut next = rules(words[1]).clone();
        match words.as_slice() {
            ["-A", _, rule] => next.push((*rule).to_owned()),
            ["-I", _, rest] => {
                let (at, rule) = rest.split_once(' ').unwrap();
                next.insert(at.parse::<usize>().unwrap() - 1, rule.to_owned());
            }
            ["-D", _, rule] => {
                let at = next.iter().position(|found| found == rule).unwrap();
                next.remove(at);
            }
            ["-F", _] => next.clear(),
            ["-X", chain] => {
                let target = format!("-j {chain}");
                assert!(chains.remove(*chain).unwrap().rules.is_empty(), "{line}");
                let mut left = chains.values().flat_map(|chain| &chain.rules);
                assert!(!left.any(|rule| rule.ends_with(&target)), "{line}");
                continue;
            }
            _ => panic!("{line}"),
        }
        chains.get_mut(words[1]).unwrap().rules = next;
    }
    assert_eq!(table, None, "committed");
}

fn members(saved: &Saved) -> Members {
    saved.members()
}

#[test]
fn the_whole_policy() {
    golden(
        "whole.iptables",
        &text(&replace(&Saved::default(), &compiled(&whole())).unwrap()),
    );
}

#[test]
fn a_change_of_one_peer() {
    let before = validate(&whole(), &ceiling(), None).unwrap();
    let delta = DeltaSpec {
        upserted_peers: vec![through(with_access(peer(2), true, false, &[]), "exit0")],
        removed_peers: vec!["p4".into()],
    };
    let delta = element_delta(&validate_delta(&delta, &before, &ceiling()).unwrap());
    let stages = update(&compiled(&whole()), &delta, None).unwrap();
    golden("one_change.iptables", &text(&stages));
}

/// Somebody else's process prints these numbers: no sum of them ends netd.
#[test]
fn counters_at_their_end_are_summed() {
    let most = u64::MAX;
    let text = format!(
        "*filter\n:CELL-n-cell_input - [0:0]\n[{most}:{most}] -A CELL-n-cell_input -j DROP\nCOMMIT\n"
    );
    let tables = parse_rules(&text).unwrap();
    let saved = Saved {
        v4: tables.clone(),
        v6: tables,
        sets: BTreeMap::new(),
    };
    assert!(drops(&saved).values().any(|sum| *sum == (most, most)));
}

#[test]
fn what_is_restored_is_in_force_and_again_changes_nothing() {
    let ruleset = compiled(&whole());
    let machine = carry_out(&machine(), &replace(&machine(), &ruleset).unwrap());
    assert!(is_in_force(&machine, &ruleset, &ruleset.elements).unwrap());
    assert_eq!(decode(&members(&machine), MASK).as_ref(), Some(&ruleset.elements));
    assert_eq!(replace(&machine, &ruleset).unwrap(), []);
    let skeleton = skeleton(&"wg0".parse().unwrap(), &ceiling());
    assert!(judges(&machine, &skeleton));
    // And it all goes, and what is others' stays.
    let gone = carry_out(&machine, &remove(&machine));
    assert!(!judges(&gone, &skeleton));
    assert_eq!(gone.sets, BTreeMap::new());
    for (before, after) in [(self::machine().v4, gone.v4), (self::machine().v6, gone.v6)] {
        for (table, chains) in before {
            let rules = |chains: &SavedTable| -> Vec<(String, Vec<String>)> {
                let of = chains.iter();
                of.map(|(name, chain)| (name.clone(), chain.rules.clone()))
                    .collect()
            };
            assert_eq!(rules(&chains), rules(&after[&table]));
        }
    }
    assert_eq!(remove(&self::machine()), []);
}

type Spoil = fn(&mut Saved);

const SPOILS: [(&str, Spoil); 9] = [
    ("a jump is gone", |machine| {
        machine
            .v6
            .get_mut(&Table::Mangle)
            .unwrap()
            .get_mut("FORWARD")
            .unwrap()
            .rules
            .remove(0);
    }),
    ("somebody stands before it", |machine| {
        let chain = machine
            .v4
            .get_mut(&Table::Mangle)
            .unwrap()
            .get_mut("INPUT")
            .unwrap();
        chain.rules.insert(0, "-j ACCEPT".to_owned());
    }),
    ("it is there twice", |machine| {
        let chain = machine
            .v4
            .get_mut(&Table::Raw)
            .unwrap()
            .get_mut("PREROUTING")
            .unwrap();
        chain.rules.push("-j CELL-raw".to_owned());
    }),
    ("the redirection is not the last", |machine| {
        let chain = machine
            .v4
            .get_mut(&Table::Nat)
            .unwrap()
            .get_mut("PREROUTING")
            .unwrap();
        chain.rules.push("-j DOCKER".to_owned());
    }),
    ("a rule is gone", |machine| {
        let chain = machine
            .v4
            .get_mut(&Table::Mangle)
            .unwrap()
            .get_mut("CELL-internet")
            .unwrap();
        chain.rules.remove(0);
    }),
    ("a chain is empty", |machine| {
        let chain = machine
            .v4
            .get_mut(&Table::Mangle)
            .unwrap()
            .get_mut("CELL-mark")
            .unwrap();
        chain.rules.clear();
    }),
    ("a chain that is not ours bears our name", |machine| {
        let table = machine.v6.get_mut(&Table::Filter).unwrap();
        table.insert("CELL-other".to_owned(), SavedChain::default());
    }),
    ("a set of our name more", |machine| {
        machine.sets.insert("CELL-other".to_owned(), SavedSet::default());
    }),
    ("a set of another kind", |machine| {
        machine.sets.get_mut("CELL-peers4").unwrap().header = "hash:mac maxelem 65536".to_owned();
    }),
];

#[test]
fn every_kind_of_drift_is_seen_and_repaired() {
    let ruleset = compiled(&whole());
    let sound = carry_out(&machine(), &replace(&machine(), &ruleset).unwrap());
    for (what, spoil) in SPOILS {
        let mut spoiled = sound.clone();
        spoil(&mut spoiled);
        assert!(
            !is_in_force(&spoiled, &ruleset, &ruleset.elements).unwrap(),
            "{what}"
        );
        let repaired = carry_out(&spoiled, &replace(&spoiled, &ruleset).unwrap());
        assert!(
            is_in_force(&repaired, &ruleset, &ruleset.elements).unwrap(),
            "{what}"
        );
        assert_eq!(members(&repaired), members(&sound), "{what}");
    }
    // An entry too many, or one that is gone, is a difference of elements, and one that no element makes is unsound.
    let mut spoiled = sound.clone();
    spoiled
        .sets
        .get_mut("CELL-internet4")
        .unwrap()
        .members
        .remove("10.86.0.2");
    let found = decode(&members(&spoiled), MASK).unwrap();
    let delta = ElementDelta::between(&found, &ruleset.elements);
    assert_eq!(delta.sets(), [SetId::Internet(Family::V4)].into());
    spoiled
        .sets
        .get_mut("CELL-exit_ways4")
        .unwrap()
        .members
        .insert("10.86.0.9,wgext_00000000".to_owned());
    assert_eq!(
        decode(&members(&spoiled), MASK),
        None,
        "a way of a peer without a mark"
    );
}

#[test]
fn while_sets_are_made_anew_nothing_of_the_vpn_passes() {
    let ruleset = compiled(&whole());
    let mut machine = carry_out(&machine(), &replace(&machine(), &ruleset).unwrap());
    machine.sets.get_mut("CELL-peers4").unwrap().header = "hash:mac maxelem 65536".to_owned();
    let stages = replace(&machine, &ruleset).unwrap();
    let closed = carry_out(&machine, &stages[..2]);
    for tables in [&closed.v4, &closed.v6] {
        let forward = &tables[&Table::Mangle]["CELL-forward"].rules;
        for drop in ["-i wg0 -j DROP", "-o wg0 -j DROP", "-i wgext_00000000 -j DROP"] {
            assert!(forward.iter().any(|rule| rule == drop), "{drop}: {forward:?}");
        }
        assert_eq!(tables[&Table::Mangle]["FORWARD"].rules[0], "-j CELL-forward");
        let output = &tables[&Table::Mangle]["CELL-output"].rules;
        assert!(
            output
                .iter()
                .any(|rule| rule == "-m owner --uid-owner 54321 -j DROP"),
            "{output:?}"
        );
    }
    assert!(
        matches!(&stages[2], Stage::Sets(text) if text == "destroy CELL-peers4\n"),
        "{:?}",
        stages[2]
    );
}

#[test]
fn other_links_change_rules_and_are_no_drift() {
    let before = compiled(&whole());
    let desired = validate(&whole(), &ceiling(), None).unwrap();
    let after = compile(&desired, &ceiling(), &["198.18.0.1/20".parse().unwrap()].into()).unwrap();
    let machine = carry_out(&machine(), &replace(&machine(), &before).unwrap());
    let found = decode(&members(&machine), MASK).unwrap();
    assert!(
        is_in_force(&machine, &after, &found).unwrap(),
        "the rules are those of the sets"
    );
    let delta = ElementDelta::between(&found, &after.elements);
    assert!(delta.is_in_iptables_rules());
    let machine = carry_out(&machine, &update(&after, &delta, Some(&machine)).unwrap());
    assert!(is_in_force(&machine, &after, &after.elements).unwrap());
    assert_eq!(decode(&members(&machine), MASK), Some(after.elements));
}

#[test]
fn rules_do_not_grow_with_peers() {
    let count = |peers: u8| {
        let peers = (1..=peers).map(|index| through(with_access(peer(index), true, true, &[]), "exit0"));
        let mut spec = spec(peers.collect());
        spec.exits = vec![exit(0)];
        let rules = rules(&compiled(&spec), Family::V4).unwrap();
        rules
            .chains
            .values()
            .flat_map(BTreeMap::values)
            .map(Vec::len)
            .sum::<usize>()
    };
    assert_eq!(count(1), count(200));
}

#[test]
fn what_the_programs_print_is_read() {
    let printed = "# Generated by iptables-save v1.8.9\n*mangle\n:FORWARD DROP [5:300]\n:CELL-n-exit_leak - [0:0]\n\
                   [3:180] -A FORWARD -j CELL-forward\n[2:120] -A CELL-n-exit_leak -j DROP\nCOMMIT\n# Completed\n";
    let tables = parse_rules(printed).unwrap();
    assert!(tables[&Table::Mangle]["FORWARD"].drops);
    assert_eq!(tables[&Table::Mangle]["FORWARD"].rules, ["-j CELL-forward"]);
    let saved = Saved {
        v4: tables.clone(),
        v6: tables,
        sets: BTreeMap::new(),
    };
    assert_eq!(drops(&saved)[&Counter::ExitLeak], (4, 240));
    let printed = "create CELL-w6 hash:net,iface family inet6 hashsize 1024 maxelem 1048576 bucketsize 12 initval 0x1\n\
                   add CELL-w6 ::/0,wgext_0000\nadd CELL-w6 FD86::0:4,wgext_0000\ncreate f2b hash:ip\nadd f2b 10.0.0.1\n\
                   create CELL-a hash:ip family inet hashsize 64 maxelem 1048576 skbinfo\nadd CELL-a 10.86.0.4 skbmark 0x1000/0x1ff0\n";
    let sets = parse_sets(printed).unwrap();
    assert_eq!(sets.len(), 2);
    assert_eq!(
        sets["CELL-w6"].header,
        "hash:net,iface family inet6 maxelem 1048576"
    );
    let entries: Vec<&str> = sets["CELL-w6"].members.iter().map(String::as_str).collect();
    assert_eq!(entries, ["::/0,wgext_0000", "fd86::4,wgext_0000"]);
    assert!(sets["CELL-a"].members.contains("10.86.0.4 skbmark 0x1000/0x1ff0"));
    for (text, line) in [("*filter\nnonsense", 2), ("-A FORWARD -j X", 1), ("*kitchen", 1)] {
        assert_eq!(parse_rules(text).unwrap_err().line, line, "{text}");
    }
    assert_eq!(
        parse_sets("add CELL-a 10.0.0.1\n").unwrap_err().line,
        1,
        "before it is made"
    );
}

#[test]
fn the_way_through_dockers_chains() {
    let mark = ceiling().accept_mark;
    let ruleset = compiled(&whole());
    let plain = carry_out(&machine(), &replace(&machine(), &ruleset).unwrap());
    assert_eq!(
        (way(&plain, Some(mark)), passage(&plain, Some(mark))),
        (Way::NotNeeded, vec![])
    );
    let mut docker = plain.clone();
    for tables in [&mut docker.v4, &mut docker.v6] {
        let filter = tables.get_mut(&Table::Filter).unwrap();
        filter.get_mut("FORWARD").unwrap().drops = true;
    }
    let opened = carry_out(&docker, &passage(&docker, Some(mark)));
    assert_eq!(way(&opened, Some(mark)), Way::Open);
    let forward = &opened.v4[&Table::Filter]["FORWARD"].rules;
    assert_eq!(
        forward[..2],
        ["-j CELL-refuse", "-j CELL-pass"],
        "what is refused is refused first"
    );
    assert_eq!(
        opened.v4[&Table::Filter]["CELL-pass"].rules,
        ["-m mark --mark 0x2000/0x2000 -j ACCEPT"]
    );
    assert_eq!(passage(&opened, Some(mark)), []);
    assert!(
        is_in_force(&opened, &ruleset, &ruleset.elements).unwrap(),
        "it is no drift"
    );
    // Docker comes, and has a chain for it.
    let mut user = opened.clone();
    for tables in [&mut user.v4, &mut user.v6] {
        let filter = tables.get_mut(&Table::Filter).unwrap();
        filter.insert("DOCKER-USER".to_owned(), SavedChain::default());
    }
    let moved = carry_out(&user, &passage(&user, Some(mark)));
    assert_eq!(moved.v6[&Table::Filter]["DOCKER-USER"].rules, ["-j CELL-pass"]);
    assert!(
        !moved.v4[&Table::Filter]["FORWARD"]
            .rules
            .contains(&"-j CELL-pass".to_owned())
    );
    let closed = carry_out(&moved, &passage(&moved, None));
    assert!(!closed.v4[&Table::Filter].contains_key("CELL-pass"));
    assert_eq!(passage(&closed, None), []);
}

/// Who has internet, and by what.
fn access() -> impl Strategy<Value = NetworkSpec> {
    let one = (any::<bool>(), any::<bool>(), 0..4_usize, any::<bool>());
    proptest::collection::vec(proptest::option::of(one), 4).prop_map(|peers| {
        let made = peers.into_iter().enumerate().filter_map(|(index, of)| {
            let (internet, between, through_, service) = of?;
            let services: &[(&str, u32)] = if service { &[("10.0.5.7", 443)] } else { &[] };
            let peer = with_access(peer(index as u8 + 1), internet, between, services);
            let name = ["", "exit0", "exit1", "exit10"][through_];
            Some(through(peer, name))
        });
        let mut spec = spec(made.collect());
        spec.exits = vec![exit(0), exit(1), redirect(10)];
        spec
    })
}

/// What a peer may do by the sets, as far as sets grant it: an exit it is led to and let through, or the machine's own way.
fn reach(members: &Members, peer: &str) -> BTreeSet<String> {
    let has = |set: &str, entry: &str| members[set].contains(entry);
    let mut reach = BTreeSet::new();
    if has("CELL-internet4", peer) {
        let marks = members["CELL-exit_marks4"]
            .iter()
            .filter(|entry| entry.starts_with(&format!("{peer} ")));
        let ways = members["CELL-exit_ways4"]
            .iter()
            .filter(|entry| entry.starts_with(&format!("{peer},")));
        for (mark, way) in marks.flat_map(|mark| ways.clone().map(move |way| (mark, way))) {
            reach.insert(format!("{mark} {way}"));
        }
        let relayed = members["CELL-relay_ways4"]
            .iter()
            .filter(|entry| entry.starts_with(&format!("{peer},")));
        reach.extend(relayed.cloned());
        if !has("CELL-exited4", peer) {
            reach.insert("own way".to_owned());
        }
    }
    reach
}

proptest! {
    #[test]
    fn elements_come_back_from_the_sets(spec in access()) {
        let elements: Elements = compiled(&spec).elements;
        prop_assert_eq!(decode(&encode(&elements, MASK), MASK), Some(elements));
    }

    /// After every single line of a change no peer has a reach that it has in neither of the two states.
    #[test]
    fn no_line_of_a_change_gives_what_neither_state_has(first in access(), second in access()) {
        let (first, second) = (compiled(&first), compiled(&second));
        let delta = ElementDelta::between(&first.elements, &second.elements);
        let stages = update(&second, &delta, None).unwrap();
        let mut machine = carry_out(&machine(), &replace(&machine(), &first).unwrap());
        let (before, after) = (encode(&first.elements, MASK), encode(&second.elements, MASK));
        for stage in &stages {
            let Stage::Sets(text) = stage else { panic!("{stage:?}") };
            for line in text.lines() {
                set_line(&mut machine, line);
                let now = members(&machine);
                for index in 2..=5 {
                    let peer = format!("10.86.0.{index}");
                    let allowed = &reach(&before, &peer) | &reach(&after, &peer);
                    let found = reach(&now, &peer);
                    prop_assert!(found.is_subset(&allowed), "{}: {:?} beyond {:?}", line, found, allowed);
                }
            }
        }
        prop_assert_eq!(members(&machine), after);
    }
}

/// What is read is what was printed, to the last letter.
#[test]
fn a_carriage_return_is_the_rules_own() {
    let text = "*filter\n:INPUT ACCEPT [0:0]\n[1:2] -A INPUT -j odd\r\r\nCOMMIT\n";
    let read = parse_rules(text).unwrap();
    let chains: Vec<_> = read.values().flat_map(|chains| chains.values()).collect();
    assert_eq!(chains[0].rules, ["-j odd\r\r"]);
}
