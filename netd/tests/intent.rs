//! Kernel = intent: whole specs and single changes, drawn at random and sent in random order to a real netd. Whatever came
//! before, what is in the kernel is what the last of them says, as the stock tools read it; and once more changes nothing.
//!
//! The oracle of the policy never saw the kernel that netd writes to: `nft -f` puts the compiled policy into a namespace of its own,
//! and nft(8) lists both. With `CELL_TEST_RENDERER=iptables` it is what `ipset` and `iptables-restore` put into an empty one, as
//! ipset(8) and iptables-save(8) have both. WireGuard's devices are read by wg(8), or where cell-wg has them from cell-wg.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/containers.rs"]
mod containers;
#[path = "intent/devices.rs"]
mod devices;
#[path = "intent/drawn.rs"]
mod drawn;
#[path = "intent/policy.rs"]
mod policy;
#[path = "intent/routing.rs"]
mod routing;
#[path = "intent/specs.rs"]
mod specs;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cell_lab::netns::Namespace;
use cell_lab::process::until;
use cell_netd::config::Config;
use cell_netd::proto::network_spec;
use cell_netd_core::policy::compile;
use cell_netd_core::validate::validate;
use cell_netd_core::{Ceiling, Desired};
use cell_proto::netd::v1;
use devices::Devices;
use drawn::{Drawn, FAR_ENDS, Families, REVISIONS, Sent, TUNNELS, plain, sent};
use policy::{install, listed};
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use routing::routing;
use specs::{after, changed};
use support::{Keys, Netd, PATIENCE, is_legacy, spec};

/// A cell that is alone in its namespace.
struct Setup {
    netd: Netd,
    cell: Namespace,
    ceiling: Ceiling,
    /// Of exits, by interface and revision.
    keys: BTreeMap<(String, u64), Keys>,
}

/// Everything of ours in the kernel.
type Standing = (
    BTreeSet<String>,
    BTreeSet<String>,
    String,
    Devices,
    BTreeMap<String, devices::Link>,
);

/// The preshared key of the far end of that number, from 1.
fn preshared(interface: &str, revision: u64, number: usize) -> Vec<u8> {
    let seed = interface.bytes().map(u64::from).sum::<u64>() + 31 * revision + 7 * number as u64;
    vec![(seed % 255 + 1) as u8; 32]
}

impl Setup {
    fn new() -> Self {
        let cell = Namespace::new("intent").unwrap();
        cell.forward().unwrap();
        let netd = Netd::start(&cell).unwrap();
        let numbers = (0..TUNNELS).flat_map(|number| (0..REVISIONS).map(move |revision| (number, revision)));
        let keys = numbers
            .map(|(number, revision)| ((format!("wgext_{number:08}"), revision), Keys::make().unwrap()));
        // As netd looks them up, since its rules name them by number.
        let uid = |name: &str| {
            let user = nix::unistd::User::from_name(name).unwrap();
            user.map(|user| user.uid.as_raw())
        };
        let policy = support::policy(Path::new("/nowhere"), is_legacy());
        Setup {
            keys: keys.collect(),
            netd,
            cell,
            ceiling: Config::parse(&policy, uid).unwrap().ceiling,
        }
    }

    /// The vault gets the keys of the revisions that the state names.
    fn fill_vault(&self, state: &v1::NetworkSpec) {
        let netd = &self.netd;
        let mut vault = netd.exit_secrets.lock().unwrap();
        for exit in &state.exits {
            let Some(v1::exit_spec::Way::Wireguard(way)) = &exit.way else {
                continue;
            };
            let field = |field: &str| format!("conn_{}_{field}", exit.id.replace('-', ""));
            let revision = way.secret_revision;
            let key = &self.keys[&(exit.interface.clone(), revision)].private;
            vault.insert(field("wireguard_key"), key.clone().into_bytes());
            for number in 1..=FAR_ENDS.into() {
                let name = field(&format!("preshared_key_{number}"));
                vault.insert(name, preshared(&exit.interface, revision, number));
            }
        }
    }

    /// How many changes were made.
    fn whole(&self, state: &v1::NetworkSpec) -> usize {
        self.fill_vault(state);
        self.netd.apply(state.clone(), "").unwrap().changes.len()
    }

    fn send(&self, sent: &Sent, state: &v1::NetworkSpec) -> usize {
        match sent {
            Sent::Whole(..) => self.whole(state),
            Sent::Change(peers, removed) => {
                let (upserted, gone) = changed(peers, removed, state);
                let gone: Vec<_> = gone.iter().map(String::as_str).collect();
                self.netd.delta(upserted, &gone).unwrap().changes.len()
            }
        }
    }

    fn desired(&self, state: &v1::NetworkSpec) -> Desired {
        validate(&network_spec(state.clone()), &self.ceiling, None).unwrap()
    }

    fn standing(&self, wanted: &Devices) -> Standing {
        let netd = &self.netd;
        let found = match netd.status().unwrap().wireguard_backend.as_str() {
            "kernel" => devices::in_kernel(&self.cell),
            _ => {
                let socket = netd.mark_socket().with_file_name("wg.sock");
                let every = (0..TUNNELS).map(|number| format!("wgext_{number:08}"));
                devices::in_process(&socket, every.chain(["wg0".to_owned()]))
            }
        };
        (
            routing::rules(&self.cell),
            routing::routes(&self.cell),
            listed(&self.cell),
            devices::without_learned(found, wanted),
            devices::links(&self.cell),
        )
    }

    fn wanted_devices(&self, desired: &Desired) -> Devices {
        let netd = &self.netd;
        let keys = devices::Keys {
            own: &netd.keys.public_bytes,
            exit: &|interface, revision| self.keys[&(interface.to_owned(), revision)].public_bytes.clone(),
            preshared: &preshared,
        };
        let told = netd.status().unwrap().wireguard_backend == "kernel";
        devices::wanted(desired, &keys, told)
    }

    fn wait_for_tunnels(&self, state: &v1::NetworkSpec) {
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
    }

    /// Everything in the kernel against the state.
    fn holds(&self, state: &v1::NetworkSpec) -> Result<Standing, TestCaseError> {
        let desired = self.desired(state);
        self.wait_for_tunnels(state);
        let ruleset = compile(&desired, &self.ceiling, &BTreeSet::new()).unwrap();
        let oracle = Namespace::new("oracle").unwrap();
        install(&oracle, &ruleset);
        let devices = self.wanted_devices(&desired);
        let standing = self.standing(&devices);
        let hook = match (is_legacy(), state.wireguard.is_some()) {
            (true, true) => "-A OUTPUT -j CELL-output",
            (true, false) => "-j CELL-",
            (false, true) => "chain c_output",
            (false, false) => "chain c_",
        };
        prop_assert!(standing.2.contains(hook), "{}", standing.2);
        prop_assert_eq!(&standing.2, &listed(&oracle));
        let routing = routing(&desired, &self.ceiling);
        prop_assert_eq!((&standing.0, &standing.1), (&routing.0, &routing.1));
        prop_assert_eq!(&standing.3, &devices);
        prop_assert_eq!(&standing.4, &devices::wanted_links(&desired, &self.ceiling));
        let known = self.netd.peers().unwrap();
        let known: BTreeSet<_> = known.into_iter().map(|peer| peer.name).collect();
        let named: BTreeSet<_> = state.peers.iter().map(|peer| peer.name.clone()).collect();
        prop_assert_eq!(known, named);
        Ok(standing)
    }
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
        setup.whole(&state);
        for sent in &sequence {
            state = after(&state, sent);
            let _changes = setup.send(sent, &state);
            let before = setup.holds(&state)?;
            prop_assert_eq!(setup.send(sent, &state), 0, "twice");
            prop_assert_eq!(setup.whole(&state), 0, "whole");
            prop_assert_eq!(setup.holds(&state)?, before);
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
            renamed: false,
            rekeyed: false,
            internet: true,
            peer_to_peer: false,
            services: vec![],
            families: Families::Both,
            endpoint: None,
            keepalive: 0,
            exit: Some(exit),
        };
        vec![(1, drawn)]
    };
    let mut state = after(&spec(vec![]), &Sent::Whole(Box::new(plain(one(0)))));
    setup.whole(&state);
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
        let routing = routing(&setup.desired(&state), &setup.ceiling);
        let found = (routing::rules(&setup.cell), routing::routes(&setup.cell));
        assert_eq!(found, routing, "{command}");
    }
}
