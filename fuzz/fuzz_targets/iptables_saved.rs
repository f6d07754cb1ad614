//! What `iptables-save -c` and `ipset save` print, as netd reads it by way of cell-iptables, parted by a NUL: IPv4's rules, IPv6's, and sets.
//! Whoever changes the host's iptables writes much of it. Whatever stands there, what netd does about it is Cell's alone to do.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use cell_fuzz::uid_of;
use cell_iptables_core::{Family, judge_rules, judge_sets, own_rules, own_sets};
use cell_netd::config::Config;
use cell_netd::proto::network_spec;
use cell_netd_core::model;
use cell_netd_core::policy::iptables::{
    PREFIX, Saved, SavedChain, SavedTable, Stage, Table, blockers, decode, drops, encode, is_in_force, judges, mask, parse_rules, parse_sets,
    passage, remove, replace, way,
};
use cell_netd_core::policy::{Ruleset, compile};
use cell_netd_core::validate::validate;
use cell_netd_core::Ceiling;
use cell_proto::netd::v1::ApplyNetworkRequest;
use libfuzzer_sys::fuzz_target;
use prost::Message;

static WANTED: LazyLock<(Ceiling, Ruleset)> = LazyLock::new(|| {
    let policy = include_str!("../../systemd/etc/netd.toml");
    let ceiling = Config::parse(policy, uid_of).expect("the shipped policy").ceiling;
    let seed = include_bytes!("../corpus/apply_network/whole.binpb");
    let spec = ApplyNetworkRequest::decode(&seed[..]).expect("a seed").spec.expect("a spec");
    let desired = validate(&network_spec(spec), &ceiling, None).expect("the seed is accepted");
    let ruleset = compile(&desired, &ceiling, &Default::default()).expect("it stands");
    (ceiling, ruleset)
});

fn is_taken(stage: &Stage) {
    let taken = match stage {
        Stage::Sets(text) => judge_sets(text),
        Stage::Rules(model::Family::V4, text) => judge_rules(text, Family::V4),
        Stage::Rules(model::Family::V6, text) => judge_rules(text, Family::V6),
    };
    assert_eq!(taken, Ok(()), "cell-iptables takes {stage:?}");
}

/// Whether jumps to Cell's chains stand where names are as the kernel's tools make them, and lead to chains that are there.
fn is_usual(tables: &BTreeMap<Table, SavedTable>) -> bool {
    let plain = |byte: u8| matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b'\'' | b'\\' | b'`' | b'#');
    let named = |name: &str| (1..=28).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with(['-', '!']);
    tables.values().all(|chains| {
        let others = chains.iter().filter(|(name, _)| !name.starts_with(PREFIX));
        let mut jumps = others.flat_map(|(name, chain)| {
            let ours = chain.rules.iter().filter_map(|rule| rule.strip_prefix("-j "));
            ours.filter(|to| to.starts_with(PREFIX)).map(move |to| (name, to))
        });
        jumps.all(|(from, to)| named(from) && chains.contains_key(to))
    })
}

/// As the program would print it.
fn printed(tables: &BTreeMap<Table, SavedTable>) -> String {
    let mut text = String::new();
    for (table, chains) in tables {
        text += &format!("*{}\n", table.name());
        for (name, SavedChain { drops, .. }) in chains {
            text += &format!(":{name} {} [0:0]\n", if *drops { "DROP" } else { "ACCEPT" });
        }
        for (name, chain) in chains {
            for (rule, (packets, bytes)) in chain.rules.iter().zip(&chain.counts) {
                let space = if rule.is_empty() { "" } else { " " };
                text += &format!("[{packets}:{bytes}] -A {name}{space}{rule}\n");
            }
        }
        text += "COMMIT\n";
    }
    text
}

fuzz_target!(|text: &str| {
    let mut parts = text.split('\0');
    let mut next = || parts.next().unwrap_or_default();
    let (v4, v6, sets) = (next(), next(), next());
    // As the program printed it, if nobody had looked at it before.
    let _unread = (parse_rules(v4), parse_sets(sets));
    let (v4, v6, sets) = (own_rules(v4), own_rules(v6), own_sets(sets));
    let (Ok(v4), Ok(v6), Ok(sets)) = (parse_rules(&v4), parse_rules(&v6), parse_sets(&sets)) else { return };
    for tables in [&v4, &v6] {
        assert_eq!(parse_rules(&printed(tables)).as_ref(), Ok(tables), "what is read is what was printed");
        let chains = tables.values().flat_map(SavedTable::values);
        assert!(chains.into_iter().all(|chain| chain.rules.len() == chain.counts.len()));
    }
    let saved = Saved { v4, v6, sets };
    let (ceiling, ruleset) = &*WANTED;
    let _sums = (drops(&saved), blockers(&saved));
    // ipset prints no other names and entries than a restore takes; own_sets looks at how names begin alone.
    let named = saved.sets.iter().all(|(name, set)| {
        let lines = set.members.iter().map(|entry| format!("add {name} {entry}\ndel {name} {}\n", entry.split(' ').next().unwrap_or_default()));
        judge_sets(&format!("destroy {name}\n{}", lines.collect::<String>())).is_ok()
    });
    if named && is_usual(&saved.v4) && is_usual(&saved.v6) {
        remove(&saved).iter().for_each(is_taken);
        // The whole policy is long.
        let seldom = text.len() % 16 == 0;
        for stage in seldom.then(|| replace(&saved, ruleset).expect("it can be said")).into_iter().flatten() {
            is_taken(&stage);
        }
    }
    let mark = ceiling.accept_mark;
    passage(&saved, Some(mark)).iter().for_each(is_taken);
    let _way = way(&saved, Some(mark));
    let mask = mask(ruleset).expect("it has marks");
    if let Some(elements) = decode(&saved.members(), mask) {
        assert_eq!(encode(&elements, mask), saved.members(), "elements are what the sets have, and nothing else");
        let in_force = is_in_force(&saved, ruleset, &elements).expect("it can be said");
        assert!(!in_force || judges(&saved, &ruleset.chains), "what is in force judges packets");
    }
});
