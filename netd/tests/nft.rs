//! The table in a real kernel: what was meant is what is there, nft(8) reads it the same, others cannot undo it.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../core/tests/support/mod.rs"]
mod support;

use std::time::Duration;

use cell_lab::netns::Namespace;
use cell_lab::process::{run_with_input, until};
use cell_netd::bench::Sample;
use cell_netd::kernel::nft::{Nft, Owners, Ownership, blockers, passage};
use cell_netd_core::ceiling::PublicHttp;
use cell_netd_core::plan::element_delta;
use cell_netd_core::policy::{Counter, ElementDelta, Ruleset, compile, render, render_delta, skeleton};
use cell_netd_core::spec::{DeltaSpec, NetworkSpec, PeerSpec};
use cell_netd_core::validate::{GRANTS_MAX, SERVICES_MAX, validate, validate_delta};
use support::{ceiling, exit, peer, redirect, through, with_access};

const PATIENCE: Duration = Duration::from_secs(20);

fn peers() -> Vec<PeerSpec> {
    vec![
        peer(1),
        with_access(peer(2), true, true, &[]),
        with_access(peer(3), false, false, &[("10.0.5.7", 443), ("fd00::7", 8443)]),
        through(with_access(peer(4), true, false, &[]), "exit0"),
        through(with_access(peer(5), true, true, &[]), "exit1"),
        through(with_access(peer(6), true, false, &[]), "exit10"),
        through(with_access(peer(7), true, true, &[]), "exit11"),
    ]
}

/// With the exits that some of the peers are bound to.
fn spec(peers: Vec<PeerSpec>) -> NetworkSpec {
    let mut wanted = support::spec(peers);
    wanted.exits = vec![exit(0), exit(1), redirect(10), redirect(11)];
    let resolvers = ["9.9.9.9:53", "127.0.0.53:53", "[2620:fe::fe]:53"];
    wanted.dns_upstreams = resolvers.map(|at| Ok(at.parse().unwrap())).into();
    wanted
}

fn ruleset(spec: &NetworkSpec) -> Ruleset {
    compile(
        &validate(spec, &ceiling(), None).unwrap(),
        &ceiling(),
        &Default::default(),
    )
    .unwrap()
}

fn open(namespace: &Namespace) -> Nft {
    open_with(namespace, Owners::IfKnown)
}

fn open_with(namespace: &Namespace, owners: Owners) -> Nft {
    namespace
        .inside(|| Nft::open(ceiling().table, owners).unwrap())
        .unwrap()
}

/// netd ends: its table is nobody's from then on. A program that another test starts at this moment holds a copy of the socket
/// from fork(2) to execve(2), and the table is owned until that is closed too.
fn end(namespace: &Namespace, nft: Nft) {
    drop(nft);
    let mut other = open(namespace);
    let owned_no_more = || (other.ownership().unwrap() == Ownership::Unowned).then_some(());
    until(PATIENCE, "the table to outlive its owner", owned_no_more).unwrap();
}

fn nft_file(namespace: &Namespace, text: &str) -> Result<String, String> {
    let mut command = std::process::Command::new("ip");
    command.args(["netns", "exec", namespace.name(), "nft", "-f", "-"]);
    run_with_input(&mut command, text).map_err(|error| error.to_string())
}

/// `nft list ruleset`, without what only one of two ways writes.
fn listed(namespace: &Namespace) -> String {
    let text = namespace.run("nft", &["-nn", "list", "ruleset"]).unwrap();
    let kept = |line: &&str| {
        line.trim() != "flags" && !line.contains("flags ow") && !line.contains("comment \"made by")
    };
    let owner = |line: &str| line.split(" # progname").next().unwrap_or_default().to_owned();
    text.lines()
        .filter(kept)
        .map(owner)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}

fn matches(nft: &mut Nft, wanted: &Ruleset) -> bool {
    let Some(policy) = nft.observe(Some(wanted)).unwrap() else {
        return false;
    };
    policy.skeleton_matches && ElementDelta::between(&policy.elements, &wanted.elements).is_empty()
}

/// The same within a few looks, as netd reads back: while the kernel still grows the table that a large set is hashed in, a
/// dump of it can miss elements (net/netfilter/nft_set_hash.c walks on after a resize).
fn comes_to_match(nft: &mut Nft, wanted: &Ruleset) -> bool {
    (0..20).any(|_| {
        matches(nft, wanted) || {
            std::thread::sleep(std::time::Duration::from_millis(250));
            false
        }
    })
}

#[test]
fn what_is_read_back_is_what_was_meant() {
    let namespace = Namespace::new("nft").unwrap();
    let mut nft = open(&namespace);
    assert_eq!(nft.ownership().unwrap(), Ownership::Absent);
    let wanted = ruleset(&spec(peers()));
    nft.replace(&wanted).unwrap();
    let policy = nft.observe(Some(&wanted)).unwrap().unwrap();
    assert_eq!(policy.elements, wanted.elements);
    assert!(policy.skeleton_matches);
    assert_eq!(nft.ownership().unwrap(), Ownership::Owned);
    assert_eq!(nft.drops().unwrap().len(), Counter::ALL.len());
    nft.remove().unwrap();
    assert_eq!(nft.observe(Some(&wanted)).unwrap(), None);
}

#[test]
fn nft_reads_the_same_from_us_and_from_the_text() {
    let (ours, theirs) = (Namespace::new("nfta").unwrap(), Namespace::new("nftb").unwrap());
    for peers in [vec![], peers()] {
        let wanted = ruleset(&spec(peers));
        let mut nft = open(&ours);
        nft.replace(&wanted).unwrap();
        nft_file(&theirs, &render(&wanted)).unwrap();
        assert_eq!(listed(&ours), listed(&theirs));
        nft.remove().unwrap();
    }
}

#[test]
fn a_change_of_one_peer_is_its_elements() {
    let (ours, theirs) = (Namespace::new("nfta").unwrap(), Namespace::new("nftb").unwrap());
    let mut desired = validate(&spec(peers()), &ceiling(), None).unwrap();
    let before = compile(&desired, &ceiling(), &Default::default()).unwrap();
    let mut nft = open(&ours);
    nft.replace(&before).unwrap();
    nft_file(&theirs, &render(&before)).unwrap();
    let change = DeltaSpec {
        upserted_peers: vec![
            with_access(peer(1), true, false, &[("10.0.5.8", 22)]),
            through(with_access(peer(4), true, false, &[]), "exit1"),
            through(with_access(peer(2), true, true, &[]), "exit0"),
            with_access(peer(5), true, true, &[]),
        ],
        removed_peers: vec!["p3".into()],
    };
    let change = validate_delta(&change, &desired, &ceiling()).unwrap();
    let delta = element_delta(&change);
    assert!(!nft.verify(&delta).unwrap(), "before");
    nft.update(&delta).unwrap();
    assert!(nft.verify(&delta).unwrap(), "after");
    nft_file(&theirs, &render_delta(&ceiling().table, &delta)).unwrap();
    assert_eq!(listed(&ours), listed(&theirs));
    let _inverse = desired.apply(change);
    assert!(matches(
        &mut nft,
        &compile(&desired, &ceiling(), &Default::default()).unwrap()
    ));
    assert!(
        nft.update(&delta).is_err(),
        "what is gone cannot go again: the whole change is refused"
    );
    assert!(matches(
        &mut nft,
        &compile(&desired, &ceiling(), &Default::default()).unwrap()
    ));
}

#[test]
fn another_program_cannot_undo_the_table_while_we_live_and_we_find_it_when_we_come_back() {
    let namespace = Namespace::new("nft").unwrap();
    let wanted = ruleset(&spec(peers()));
    let mut nft = open(&namespace);
    nft.replace(&wanted).unwrap();
    nft_file(&namespace, "flush ruleset").unwrap();
    assert!(matches(&mut nft, &wanted), "a foreign flush leaves it alone");
    assert!(nft_file(&namespace, "delete element inet cell peers4 { 10.86.0.2 }").is_err());
    assert!(matches(&mut nft, &wanted));

    end(&namespace, nft);
    let mut again = open(&namespace);
    let generation = again.generation().unwrap();
    assert!(matches(&mut again, &wanted));
    assert_eq!(again.generation().unwrap(), generation, "looking changes nothing");
    again.adopt().unwrap();
    assert_eq!(again.ownership().unwrap(), Ownership::Owned);
    nft_file(&namespace, "flush ruleset").unwrap();
    assert!(matches(&mut again, &wanted));
}

#[test]
fn each_difference_made_by_hand_is_seen() {
    let namespace = Namespace::new("nft").unwrap();
    let wanted = ruleset(&spec(peers()));
    let spoil = [
        "delete element inet cell peers4 { 10.86.0.2 }",
        "add element inet cell internet4 { 10.86.0.99 }",
        "add rule inet cell c_from_peer accept",
        "delete element inet cell exited4 { 10.86.0.5 }",
        "delete element inet cell exit_marks6 { fd86::5 : 0x1000 }",
        "delete element inet cell exit_marks4 { 10.86.0.5 : 0x1000 }; \
         add element inet cell exit_marks4 { 10.86.0.5 : 0x1010 }",
        "add element inet cell exit_ways4 { 10.86.0.5 . \"eth0\" . 0x1000 }",
        "flush set inet cell exit_links",
        "flush chain inet cell c_mark",
        "insert rule inet cell c_raw accept",
        "flush chain inet cell c_forward",
        "add chain inet cell c_extra",
        "add set inet cell extra { type ipv4_addr; }",
        "delete element inet cell special4 { 10.0.0.0-10.255.255.255 }",
        "add chain inet cell c_forward { policy drop; }",
        "flush ruleset",
    ];
    for owners in [Owners::IfKnown, Owners::Never] {
        for text in spoil {
            let mut nft = open_with(&namespace, owners);
            nft.replace(&wanted).unwrap();
            // The owner is gone, so that others may write.
            end(&namespace, nft);
            nft_file(&namespace, text).unwrap();
            let mut nft = open_with(&namespace, owners);
            assert!(!matches(&mut nft, &wanted), "{text}");
            nft.replace(&wanted).unwrap();
            assert!(matches(&mut nft, &wanted), "repaired after: {text}");
            nft.remove().unwrap();
        }
    }
}

#[test]
fn the_port_that_is_open_to_the_internet_is_read_back_and_missed() {
    let namespace = Namespace::new("nft").unwrap();
    let to = PublicHttp {
        within: "172.30.0.0/16".parse().unwrap(),
        port: 8480,
    };
    let mut ceiling = ceiling();
    let services = ceiling.services.take();
    ceiling.services = services.map(|services| services.with_public_http(to).unwrap());
    let mut wanted = spec(peers());
    wanted.service_networks = vec![support::network(1)];
    let compiled = |wanted: &NetworkSpec| {
        let desired = validate(wanted, &ceiling, None).unwrap();
        compile(&desired, &ceiling, &Default::default()).unwrap()
    };
    let closed = compiled(&wanted);
    wanted.public_http = Some(Ok("172.30.1.2:8480".parse().unwrap()));
    let open_to = compiled(&wanted);
    let mut nft = open(&namespace);
    nft.replace(&open_to).unwrap();
    assert!(matches(&mut nft, &open_to) && !matches(&mut nft, &closed));
    let text = namespace
        .run("nft", &["list", "chain", "inet", "cell", "c_prerouting"])
        .unwrap();
    assert!(
        text.contains("fib daddr type local") && text.contains("dport 80"),
        "{text}"
    );
    end(&namespace, nft);
    nft_file(&namespace, "flush chain inet cell c_prerouting").unwrap();
    let mut nft = open(&namespace);
    assert!(!matches(&mut nft, &open_to));
    nft.replace(&closed).unwrap();
    assert!(matches(&mut nft, &closed));
}

/// On kernels before 6.9 anybody may write to the table while netd lives.
#[test]
fn without_an_owner_what_no_longer_judges_is_told_and_put_right() {
    let namespace = Namespace::new("nft").unwrap();
    let wanted = ruleset(&spec(peers()));
    let skeleton = skeleton(&"wg0".parse().unwrap(), &ceiling());
    let mut nft = open_with(&namespace, Owners::Never);
    assert!(!nft.guards(&skeleton).unwrap(), "there is no table yet");
    nft.replace(&wanted).unwrap();
    assert_eq!(nft.ownership().unwrap(), Ownership::Unowned);
    assert!(nft.guards(&skeleton).unwrap());
    for text in [
        "add table inet cell { flags dormant; }",
        "flush ruleset",
        "flush table inet cell",
        "flush chain inet cell c_input",
        "flush chain inet cell c_from_peer",
    ] {
        nft_file(&namespace, text).unwrap();
        assert!(!nft.guards(&skeleton).unwrap(), "{text}");
        assert!(!matches(&mut nft, &wanted), "{text}");
        nft.replace(&wanted).unwrap();
        assert!(nft.guards(&skeleton).unwrap(), "put right after: {text}");
        assert!(matches(&mut nft, &wanted), "put right after: {text}");
    }
    // The next netd wakes a table that was put to sleep meanwhile, without touching what is in it.
    for owners in [Owners::Never, Owners::IfKnown] {
        nft_file(&namespace, "add table inet cell { flags dormant; }").unwrap();
        let mut next = open_with(&namespace, owners);
        assert_eq!(next.ownership().unwrap(), Ownership::Dormant);
        next.adopt().unwrap();
        assert!(next.ownership().unwrap().is_in_force());
        assert!(matches(&mut next, &wanted));
    }
}

#[test]
fn a_table_of_somebody_else_is_told_apart() {
    let namespace = Namespace::new("nft").unwrap();
    nft_file(&namespace, "table inet cell {\nchain theirs {\n}\n}").unwrap();
    assert_eq!(open(&namespace).ownership().unwrap(), Ownership::Foreign);
    nft_file(&namespace, "delete table inet cell").unwrap();
    let mut first = open(&namespace);
    first.replace(&ruleset(&spec(vec![]))).unwrap();
    assert_eq!(
        open(&namespace).ownership().unwrap(),
        Ownership::Foreign,
        "a second netd"
    );
}

#[test]
fn twenty_thousand_peers_fit_in_one_transaction() {
    let namespace = Namespace::new("nft").unwrap();
    let mut wide = spec(vec![]);
    wide.wireguard.as_mut().unwrap().addresses = vec![
        Ok("10.64.0.1/10".parse().unwrap()),
        Ok("fd86::1/64".parse().unwrap()),
    ];
    wide.peers = (1..=20_000u32)
        .map(|index| {
            let mut peer = with_access(peer(1), true, true, &[("10.0.5.7", 443), ("fd00::7", 443)]);
            peer.name = format!("p{index}");
            peer.public_key = [&index.to_be_bytes()[..], &[1; 28]].concat();
            let v6 = std::net::Ipv6Addr::from_bits((0xfd86 << 112) | u128::from(index + 1));
            peer.addresses = vec![
                Ok(std::net::Ipv4Addr::from_bits(0x0a40_0001 + index).into()),
                Ok(v6.into()),
            ];
            peer
        })
        .collect();
    let wanted = ruleset(&wide);
    let mut nft = open(&namespace);
    nft.replace(&wanted).unwrap();
    assert!(comes_to_match(&mut nft, &wanted));
}

#[test]
fn as_many_grants_as_there_may_be_fit_in_one_transaction() {
    let namespace = Namespace::new("nft").unwrap();
    let mut wide = spec(vec![]);
    wide.wireguard.as_mut().unwrap().addresses = vec![
        Ok("10.64.0.1/10".parse().unwrap()),
        Ok("fd86::1/64".parse().unwrap()),
    ];
    let services: Vec<(&str, u32)> = (1..=SERVICES_MAX as u32).map(|port| ("10.0.5.7", port)).collect();
    let peers = (GRANTS_MAX / SERVICES_MAX) as u32;
    wide.peers = (1..=peers)
        .map(|index| {
            let mut peer = with_access(peer(1), false, false, &services);
            peer.name = format!("p{index}");
            peer.public_key = [&index.to_be_bytes()[..], &[1; 28]].concat();
            peer.addresses = vec![Ok(std::net::Ipv4Addr::from_bits(0x0a40_0001 + index).into())];
            peer
        })
        .collect();
    let wanted = ruleset(&wide);
    let mut nft = open(&namespace);
    nft.replace(&wanted).unwrap();
    assert!(comes_to_match(&mut nft, &wanted));
}

fn iptables(namespace: &Namespace, program: &str, arguments: &str) -> String {
    namespace
        .run(program, &arguments.split(' ').collect::<Vec<_>>())
        .unwrap()
}

#[test]
fn the_way_through_docker_stands_at_the_top_and_iptables_can_show_it() {
    let namespace = Namespace::new("nft").unwrap();
    let mark = ceiling().accept_mark;
    let mut nft = open(&namespace);
    let mut ensure = |mark| passage::ensure(nft.socket(), mark).unwrap();
    assert_eq!(ensure(Some(mark)), (passage::Passage::NotNeeded, false));

    // FORWARD that drops, and no Docker chain yet.
    iptables(&namespace, "iptables-nft", "-P FORWARD DROP");
    assert_eq!(ensure(Some(mark)), (passage::Passage::Open, true));
    assert_eq!(
        ensure(Some(mark)),
        (passage::Passage::Open, false),
        "standing right, it is not touched"
    );
    let rule = "-A FORWARD -m mark --mark 0x2000/0x2000 -m comment --comment cell -j ACCEPT";
    assert!(iptables(&namespace, "iptables-nft", "-S FORWARD").contains(rule));

    // Docker comes: the rule moves to its chain, in both families.
    for program in ["iptables-nft", "ip6tables-nft"] {
        iptables(&namespace, program, "-N DOCKER-USER");
        iptables(&namespace, program, "-A DOCKER-USER -j RETURN");
        iptables(&namespace, program, "-I FORWARD -j DOCKER-USER");
    }
    assert_eq!(ensure(Some(mark)), (passage::Passage::Open, true));
    for program in ["iptables-nft", "ip6tables-nft"] {
        let shown = iptables(&namespace, program, "-S DOCKER-USER");
        let expected = "-N DOCKER-USER\n-A DOCKER-USER -m mark --mark 0x2000/0x2000 -m comment --comment cell -j ACCEPT\n-A DOCKER-USER -j RETURN";
        assert_eq!(shown.trim(), expected, "{program}");
        assert!(!iptables(&namespace, program, "-S FORWARD").contains("0x2000"));
    }

    // Flushed, pushed down, or spoiled, it is put back.
    let spoil = ["-F DOCKER-USER", "-I DOCKER-USER -s 192.0.2.1 -j DROP"];
    for arguments in spoil {
        iptables(&namespace, "iptables-nft", arguments);
        assert_eq!(ensure(Some(mark)), (passage::Passage::Open, true), "{arguments}");
        let shown = iptables(&namespace, "iptables-nft", "-S DOCKER-USER");
        assert_eq!(shown.matches("--mark").count(), 1, "{shown}");
        assert!(shown.lines().nth(1).unwrap().contains("0x2000"), "{shown}");
    }
    assert_eq!(ensure(None), (passage::Passage::NotNeeded, true));
    assert!(!iptables(&namespace, "iptables-nft", "-S").contains("0x2000"));
    assert_eq!(ensure(None), (passage::Passage::NotNeeded, false));
}

#[test]
fn the_sample_of_the_benchmark_is_what_nft_would_make_of_its_text() {
    let (ours, theirs) = (Namespace::new("nfta").unwrap(), Namespace::new("nftb").unwrap());
    let mut ceiling = ceiling();
    ceiling.vpn_prefixes = vec!["10.64.0.0/10".parse().unwrap(), "fd86::/64".parse().unwrap()];
    let sample = Sample::new(300, ceiling);
    let timing = ours
        .inside(|| sample.apply(&mut sample.open().unwrap()).unwrap())
        .unwrap();
    assert!(timing.commit > std::time::Duration::ZERO);
    nft_file(&theirs, &sample.text().unwrap()).unwrap();
    assert_eq!(listed(&ours), listed(&theirs));
    ours.inside(|| sample.add_one().unwrap()).unwrap();
    assert_eq!(sample.peer_update().unwrap().upserted.len(), 300);
}

#[test]
fn chains_of_others_that_drop_what_is_forwarded_are_named() {
    let namespace = Namespace::new("nft").unwrap();
    let mut nft = open(&namespace);
    nft.replace(&ruleset(&spec(peers()))).unwrap();
    let mut named = || blockers::named(nft.socket(), &ceiling().table).unwrap();
    assert_eq!(named(), [""; 0], "our own chains are none of them");
    // Harmless: they accept, drop something alone, or do not stand at the forward hook.
    let harmless = "table inet fine {\n\
        chain forward { type filter hook forward priority 0; policy accept; ip saddr 192.0.2.1 drop; }\n\
        chain input { type filter hook input priority 0; policy drop; }\n\
        chain aside { drop; }\n}";
    nft_file(&namespace, harmless).unwrap();
    assert_eq!(named(), [""; 0]);
    for (text, name) in [
        (
            "table inet filter { chain forward { type filter hook forward priority 0; policy drop; }\n}",
            "inet filter forward",
        ),
        (
            "table ip docker-bridges { chain filter-FORWARD { type filter hook forward priority 0; policy drop; }\n}",
            "ip docker-bridges filter-FORWARD",
        ),
        (
            "table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; policy accept; \
             ct state established accept; counter reject with icmpx admin-prohibited; }\n}",
            "inet firewalld filter_FORWARD",
        ),
        (
            "table ip6 mine { chain last { type filter hook forward priority 0; log counter drop; }\n}",
            "ip6 mine last",
        ),
    ] {
        nft_file(&namespace, text).unwrap();
        assert_eq!(named(), [name]);
        let table = name.rsplit_once(' ').unwrap().0;
        nft_file(&namespace, &format!("delete table {table}")).unwrap();
        assert_eq!(named(), [""; 0]);
    }
    // iptables' own is opened by a rule at its top, so it is not in the way; one that drops by its last rule is.
    iptables(&namespace, "iptables-nft", "-P FORWARD DROP");
    assert_eq!(named(), [""; 0]);
    iptables(&namespace, "iptables-nft", "-P FORWARD ACCEPT");
    iptables(&namespace, "iptables-nft", "-A FORWARD -j DROP");
    assert_eq!(named(), ["ip filter FORWARD"]);
}
