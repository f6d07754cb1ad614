//! The policy in a real kernel's legacy iptables, by a real cell-iptables: what was meant is what is there, in whatever order it is
//! asked for.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../core/tests/support/mod.rs"]
mod support;

use std::time::Instant;

use cell_lab::legacy::Restorer;
use cell_lab::netns::Namespace;
use cell_netd::kernel::legacy::{Legacy, LegacyError};
use cell_netd::kernel::nft::Ownership;
use cell_netd_core::plan::element_delta;
use cell_netd_core::policy::{ElementDelta, Ruleset, compile, skeleton};
use cell_netd_core::spec::{DeltaSpec, NetworkSpec, PeerSpec};
use cell_netd_core::validate::{validate, validate_delta};
use support::{ceiling, exit, peer, redirect, through, with_access};
use tokio::runtime::Runtime;

const NOBODY: u32 = 65534;

struct Setup {
    namespace: Namespace,
    runtime: Runtime,
    legacy: Legacy,
    _restorer: Restorer,
    _folder: tempfile::TempDir,
}

impl Setup {
    fn new() -> Setup {
        use std::os::unix::fs::PermissionsExt as _;
        let namespace = Namespace::new("legacy").unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let restorer = Restorer::start(&namespace, folder.path(), NOBODY, "root").unwrap();
        let runtime = Runtime::new().unwrap();
        let legacy = runtime.block_on(async { Legacy::new(restorer.socket.clone()) });
        Setup {
            namespace,
            runtime,
            legacy,
            _restorer: restorer,
            _folder: folder,
        }
    }

    fn replace(&mut self, ruleset: &Ruleset) {
        let replaced = self.legacy.replace(ruleset.clone());
        self.runtime.block_on(replaced).unwrap();
    }

    /// What has to be done yet; none: the whole policy has to be replaced.
    fn left(&mut self, wanted: &Ruleset) -> Option<ElementDelta> {
        let observed = self.runtime.block_on(self.legacy.observe(Some(wanted))).unwrap();
        let policy = observed.unwrap();
        let delta = ElementDelta::between(&policy.elements, &wanted.elements);
        policy.skeleton_matches.then_some(delta)
    }

    fn holds(&mut self, wanted: &Ruleset) -> bool {
        self.left(wanted).is_some_and(|left| left.is_empty())
    }

    fn run(&self, command: &str) -> String {
        let words: Vec<&str> = command.split(' ').collect();
        self.namespace.run(words[0], &words[1..]).unwrap()
    }
}

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

fn spec(peers: Vec<PeerSpec>) -> NetworkSpec {
    let mut wanted = support::spec(peers);
    wanted.exits = vec![exit(0), exit(1), redirect(10), redirect(11)];
    let resolvers = ["9.9.9.9:53", "127.0.0.53:53", "[2620:fe::fe]:53"];
    wanted.dns_upstreams = resolvers.map(|at| Ok(at.parse().unwrap())).into();
    wanted
}

fn ruleset(spec: &NetworkSpec, links: &[&str]) -> Ruleset {
    let on_link = links.iter().map(|net| net.parse().unwrap()).collect();
    compile(&validate(spec, &ceiling(), None).unwrap(), &ceiling(), &on_link).unwrap()
}

/// Specs that differ in all that makes rules and sets.
fn every_state() -> Vec<Ruleset> {
    let none = spec(vec![]);
    let all = spec(peers());
    let mut four = spec(vec![with_access(peer(1), true, false, &[])]);
    four.wireguard.as_mut().unwrap().addresses.pop();
    four.peers[0].addresses.pop();
    let mut closed = spec(peers());
    closed.cell_ports.clear();
    closed.dns_upstreams.clear();
    let mut fewer = spec(peers()[..4].to_vec());
    fewer.exits = vec![exit(0), redirect(12)];
    vec![
        ruleset(&none, &[]),
        ruleset(&all, &["192.0.2.1/24", "2001:db8:77::1/64"]),
        ruleset(&four, &["198.51.100.1/25"]),
        ruleset(&closed, &["192.0.2.1/24"]),
        ruleset(&fewer, &[]),
    ]
}

#[test]
fn whatever_was_there_what_is_wanted_is_there_after_it() {
    let mut setup = Setup::new();
    let observed = setup.runtime.block_on(setup.legacy.observe(None)).unwrap();
    assert_eq!(observed, None, "nothing at first");
    let states = every_state();
    // Each after each, itself included.
    for from in &states {
        for to in &states {
            setup.replace(from);
            assert!(setup.holds(from));
            if from != to {
                assert!(!setup.holds(to), "they are told apart");
            }
            setup.replace(to);
            assert!(setup.holds(to));
        }
    }
    let skeleton = skeleton(&"wg0".parse().unwrap(), &ceiling());
    assert!(setup.runtime.block_on(setup.legacy.guards(&skeleton)).unwrap());
    setup.runtime.block_on(setup.legacy.remove()).unwrap();
    assert!(!setup.runtime.block_on(setup.legacy.guards(&skeleton)).unwrap());
    let observed = setup.runtime.block_on(setup.legacy.observe(None)).unwrap();
    assert_eq!(observed, None, "and nothing at last");
}

#[test]
fn a_change_of_one_peer_is_its_elements_and_is_read_back() {
    let mut setup = Setup::new();
    let mut desired = validate(&spec(peers()), &ceiling(), None).unwrap();
    let before = compile(&desired, &ceiling(), &Default::default()).unwrap();
    let change = DeltaSpec {
        upserted_peers: vec![
            with_access(peer(1), true, false, &[("10.0.5.8", 22)]),
            through(with_access(peer(4), true, false, &[]), "exit1"),
            through(with_access(peer(2), true, true, &[]), "exit0"),
            with_access(peer(5), true, true, &[]),
            through(with_access(peer(6), true, false, &[]), "exit0"),
        ],
        removed_peers: vec!["p3".into()],
    };
    let change = validate_delta(&change, &desired, &ceiling()).unwrap();
    let delta = element_delta(&change);
    let refused = setup.runtime.block_on(setup.legacy.update(&delta)).unwrap_err();
    assert!(matches!(refused, LegacyError::NoPolicy), "{refused}");
    setup.replace(&before);
    assert!(
        !setup.runtime.block_on(setup.legacy.verify(&delta)).unwrap(),
        "before"
    );
    setup.runtime.block_on(setup.legacy.update(&delta)).unwrap();
    assert!(
        setup.runtime.block_on(setup.legacy.verify(&delta)).unwrap(),
        "after"
    );
    let _inverse = desired.apply(change);
    let after = compile(&desired, &ceiling(), &Default::default()).unwrap();
    assert!(setup.holds(&after));
    // Other links: their ranges are in sets and in rules.
    let links = ["203.0.113.1/24".parse().unwrap()].into();
    let moved = compile(&desired, &ceiling(), &links).unwrap();
    let delta = setup.left(&moved).expect("no rule is another's");
    setup.runtime.block_on(setup.legacy.update(&delta)).unwrap();
    assert!(setup.holds(&moved));
}

#[test]
fn sets_of_another_kind_are_made_anew_below_rules_that_use_them() {
    let mut setup = Setup::new();
    let wanted = ruleset(&spec(peers()), &[]);
    for program in ["iptables-legacy", "ip6tables-legacy"] {
        setup.run(&format!("{program} -t mangle -A FORWARD -i eth9 -j ACCEPT"));
    }
    // Of the right name, of another kind, and in use.
    setup.run("ipset create CELL-peers4 hash:net");
    setup.run("iptables-legacy -t raw -N CELL-raw");
    setup.run("iptables-legacy -t raw -A CELL-raw -m set --match-set CELL-peers4 src -j DROP");
    setup.run("iptables-legacy -t raw -I PREROUTING -j CELL-raw");
    assert_eq!(setup.left(&wanted), None);
    setup.replace(&wanted);
    assert!(setup.holds(&wanted));
    let others = setup.run("ip6tables-legacy -t mangle -S FORWARD");
    assert!(
        others.contains("-A FORWARD -j CELL-forward\n-A FORWARD -i eth9 -j ACCEPT"),
        "{others}"
    );
}

#[test]
fn a_glance_tells_what_changed() {
    let mut setup = Setup::new();
    let glance = |setup: &mut Setup| setup.runtime.block_on(setup.legacy.glance()).unwrap();
    assert_eq!(glance(&mut setup).1, Ownership::Absent);
    let wanted = ruleset(&spec(peers()), &[]);
    setup.replace(&wanted);
    let first = glance(&mut setup);
    assert_eq!(first.1, Ownership::Shared);
    assert_eq!(glance(&mut setup), first, "nothing changed");
    for spoil in [
        "iptables-legacy -t nat -A PREROUTING -j ACCEPT",
        "ip6tables-legacy -t mangle -F CELL-mark",
        "ipset del CELL-peers4 10.86.0.2",
        "iptables-legacy -P FORWARD DROP",
    ] {
        let before = glance(&mut setup);
        setup.run(spoil);
        assert_ne!(glance(&mut setup).0, before.0, "{spoil}");
    }
}

#[test]
fn twenty_thousand_peers_fit() {
    let mut setup = Setup::new();
    let desired = {
        let one = |index: u32| {
            let mut peer = with_access(peer(1), true, true, &[]);
            let bytes = index.to_be_bytes();
            peer.name = format!("p{index}");
            peer.public_key = [&bytes[..], &[9; 28]].concat();
            peer.addresses = vec![
                Ok(format!("10.90.{}.{}", bytes[2], bytes[3]).parse().unwrap()),
                Ok(format!("fd86::{:x}:{:x}", index >> 16, index & 0xffff)
                    .parse()
                    .unwrap()),
            ];
            through(peer, "exit0")
        };
        let mut wanted = spec((2..20_002).map(one).collect());
        wanted.wireguard.as_mut().unwrap().addresses[0] = Ok("10.90.0.1/16".parse().unwrap());
        validate(&wanted, &ceiling(), None).unwrap()
    };
    let ruleset = compile(&desired, &ceiling(), &Default::default()).unwrap();
    let start = Instant::now();
    setup.replace(&ruleset);
    let replaced = start.elapsed();
    assert!(setup.holds(&ruleset));
    println!(
        "20,000 peers: put in force in {replaced:?}, read back in {:?}",
        start.elapsed() - replaced
    );
}
