//! Any order of specs ends where the last one says, by whole specs and by changes, over a kernel that refuses every
//! needless or impossible act; and no step admits a peer that the policy does not know.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::slice;

use cell_netd_core::desired::Delta;
use cell_netd_core::fake::{FAKE_PUBLIC_KEY, FakeKernel};
use cell_netd_core::model::PublicKey;
use cell_netd_core::observed::Device;
use cell_netd_core::plan::{Group, Plan, expected_peers, peers_hold, plan, plan_delta};
use cell_netd_core::policy::{compile, shut};
use cell_netd_core::routing::{Action, RoutingRule};
use cell_netd_core::spec::{DeltaSpec, NetworkSpec, PeerSpec};
use cell_netd_core::validate::{validate, validate_delta};
use cell_netd_core::{Desired, Step};
use proptest::prelude::*;
use support::{ceiling, exit, peer, redirect, spec, through, user_tunnel, with_access};

/// Of what is done at once, the peers first: the order that could leak, if any could.
fn perform(kernel: &mut FakeKernel, plan: &Plan) {
    let in_order = |group: Group| match group {
        Group::One(step) => vec![step.clone()],
        Group::AtOnce { peers, others } => [slice::from_ref(peers), others].concat(),
    };
    let steps: Vec<Step> = plan.groups().into_iter().flat_map(in_order).collect();
    assert_eq!(steps.len(), plan.steps.len());
    for step in &steps {
        kernel
            .apply(step)
            .unwrap_or_else(|refused| panic!("{refused} at {step:?}\nplan:\n{plan}"));
        assert!(kernel.every_admitted_peer_is_judged(), "after {step:?}");
        assert!(kernel.every_mark_is_caught(), "after {step:?}");
    }
}

/// Applies a whole spec and returns what was done.
fn apply(kernel: &mut FakeKernel, accepted: Option<&Desired>, spec: &NetworkSpec) -> (Desired, Plan) {
    let own = PublicKey::try_from(FAKE_PUBLIC_KEY.as_slice()).unwrap();
    let desired = validate(spec, &ceiling(), Some(own)).unwrap();
    let ruleset = compile(&desired, &ceiling(), &Default::default());
    let observed = kernel.observe(ruleset.as_ref());
    let plan = plan(&desired, ruleset.as_ref(), &ceiling(), accepted, &observed);
    perform(kernel, &plan);
    (desired, plan)
}

fn fresh(spec: &NetworkSpec) -> FakeKernel {
    let mut kernel = FakeKernel::default();
    apply(&mut kernel, None, spec);
    kernel
}

/// Endpoints roam, so two ways to one state may differ in them.
fn without_endpoints(mut kernel: FakeKernel) -> FakeKernel {
    let device = kernel.link.as_mut().and_then(|link| link.device.as_mut());
    device
        .into_iter()
        .flat_map(|device| device.peers.values_mut())
        .for_each(|peer| peer.endpoint = None);
    kernel
}

#[test]
fn a_second_apply_does_nothing_and_the_empty_spec_leaves_nothing() {
    let wanted = spec(vec![
        peer(1),
        with_access(peer(2), true, true, &[("10.0.5.7", 443)]),
    ]);
    let mut kernel = fresh(&wanted);
    let before = kernel.clone();
    let (_, again) = apply(&mut kernel, None, &wanted);
    assert_eq!(again, Plan::default());
    assert_eq!(kernel, before);
    apply(&mut kernel, None, &NetworkSpec::default());
    assert_eq!(kernel, nothing());
    let (_, again) = apply(&mut kernel, None, &NetworkSpec::default());
    assert_eq!(again, Plan::default());
}

/// What stands where nothing is wanted: bridges of services are closed.
fn nothing() -> FakeKernel {
    FakeKernel {
        policy: shut(&ceiling(), &Default::default()),
        ..FakeKernel::default()
    }
}

#[test]
fn a_plan_says_who_gains_and_who_loses() {
    let mut kernel = fresh(&spec(vec![
        peer(1),
        with_access(peer(2), true, false, &[("10.0.5.7", 443)]),
        peer(3),
    ]));
    let next = spec(vec![
        with_access(peer(1), true, true, &[]),
        with_access(peer(2), true, false, &[]),
        peer(4),
    ]);
    let (_, plan) = apply(&mut kernel, None, &next);
    let gone = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=";
    let expected = format!(
        "remove peer {gone}: had 10.86.0.4 and fd86::4, reaches the cell's ports alone\n\
         update peer p1: gains internet, peer-to-peer\n\
         update peer p2: loses tcp 10.0.5.7:443\n\
         add peer p4: 10.86.0.5 and fd86::5, reaches the cell's ports alone\n"
    );
    assert_eq!(plan.to_string(), expected);
}

#[test]
fn losses_come_before_the_policy_and_gains_after() {
    let mut kernel = fresh(&spec(vec![peer(1), peer(2)]));
    let (_, plan) = apply(&mut kernel, None, &spec(vec![peer(2), peer(3)]));
    let [
        Step::UpdatePeers(_, losses),
        Step::UpdatePolicy(_),
        Step::UpdatePeers(_, gains),
    ] = &plan.steps[..]
    else {
        panic!("{:?}", plan.steps);
    };
    assert_eq!((losses.removed.len(), losses.upserted.len()), (1, 0));
    assert_eq!((gains.removed.len(), gains.upserted.len()), (0, 1));
}

#[test]
fn a_device_that_is_made_gets_its_peers_beside_all_else_and_is_brought_up_last() {
    let mut kernel = FakeKernel::default();
    let (accepted, first) = apply(&mut kernel, None, &spec(vec![peer(1), peer(2)]));
    let groups = first.groups();
    let [
        Group::One(Step::CreateDevice(_)),
        Group::AtOnce {
            peers: Step::UpdatePeers(_, gains),
            others,
        },
        Group::One(Step::SetUp(_)),
    ] = &groups[..]
    else {
        panic!("{groups:?}");
    };
    assert_eq!(gains.upserted.len(), 2);
    assert!(
        others.iter().any(|step| matches!(step, Step::ReplacePolicy(_))),
        "{others:?}"
    );
    let touches = |step: &Step| {
        matches!(
            step,
            Step::CreateDevice(_) | Step::UpdatePeers(..) | Step::SetUp(_)
        )
    };
    assert!(!others.iter().any(touches), "{others:?}");
    // Of a device that is there, everything waits for what stands before it.
    let (_, second) = apply(&mut kernel, Some(&accepted), &spec(vec![peer(2), peer(3)]));
    let alone = |group: &Group| matches!(group, Group::One(_));
    assert!(second.groups().iter().all(alone), "{second:?}");
    assert_eq!(second.groups().len(), second.steps.len());
}

#[test]
fn a_roaming_endpoint_is_left_alone_and_a_new_wish_overrides_it() {
    let at = |endpoint: &str| PeerSpec {
        endpoint: Some(Ok(endpoint.parse().unwrap())),
        ..peer(1)
    };
    let mut kernel = FakeKernel::default();
    let (accepted, _) = apply(&mut kernel, None, &spec(vec![at("192.0.2.1:5")]));
    let device = kernel.link.as_mut().unwrap().device.as_mut().unwrap();
    device
        .peers
        .values_mut()
        .for_each(|peer| peer.endpoint = Some("198.51.100.9:77".parse().unwrap()));
    let (accepted, plan) = apply(&mut kernel, Some(&accepted), &spec(vec![at("192.0.2.1:5")]));
    assert_eq!(plan, Plan::default());
    let (_, plan) = apply(&mut kernel, Some(&accepted), &spec(vec![at("192.0.2.2:5")]));
    assert_eq!(plan.to_string(), "update peer p1: is at 192.0.2.2:5\n");
}

#[test]
fn a_new_wish_overrides_an_endpoint_under_another_name_too() {
    let at = |name: &str, endpoint: &str| PeerSpec {
        name: name.to_owned(),
        endpoint: Some(Ok(endpoint.parse().unwrap())),
        ..peer(1)
    };
    let mut kernel = FakeKernel::default();
    let (accepted, _) = apply(&mut kernel, None, &spec(vec![at("p1", "192.0.2.1:5")]));
    let (accepted, plan) = apply(
        &mut kernel,
        Some(&accepted),
        &spec(vec![at("phone", "192.0.2.1:5")]),
    );
    assert!(plan.is_empty(), "its key is the same: {plan}");
    apply(&mut kernel, Some(&accepted), &spec(vec![at("p1", "192.0.2.2:5")]));
    let device = kernel.link.unwrap().device.unwrap();
    let found: Vec<_> = device.peers.values().map(|peer| peer.endpoint).collect();
    assert_eq!(found, [Some("192.0.2.2:5".parse().unwrap())]);
}

#[test]
fn hand_made_differences_are_found_and_repaired() {
    let wanted = spec(vec![with_access(peer(1), true, false, &[]), peer(2)]);
    let right = fresh(&wanted);
    fn device(kernel: &mut FakeKernel) -> &mut Device {
        kernel.link.as_mut().unwrap().device.as_mut().unwrap()
    }
    let spoil: [fn(&mut FakeKernel); 9] = [
        |kernel| kernel.policy = None,
        |kernel| kernel.policy.as_mut().unwrap().chains[3].rules.truncate(1),
        |kernel| kernel.policy.as_mut().unwrap().elements.clear(),
        |kernel| kernel.link = None,
        |kernel| kernel.link.as_mut().unwrap().addresses.clear(),
        |kernel| device(kernel).peers.clear(),
        // Another key than vaultd's, a mark, a preshared key: none of them is netd's work.
        |kernel| device(kernel).public_key = PublicKey::try_from([0x66; 32].as_slice()).unwrap(),
        |kernel| device(kernel).fwmark = 1,
        |kernel| {
            let keys = device(kernel).peers.keys().copied().collect();
            device(kernel).preshared = keys;
        },
    ];
    for (index, spoil) in spoil.iter().enumerate() {
        let mut kernel = right.clone();
        spoil(&mut kernel);
        assert_ne!(kernel, right, "case {index}");
        let (_, plan) = apply(&mut kernel, None, &wanted);
        assert_eq!(kernel, right, "case {index}");
        assert!(!plan.changes.is_empty(), "case {index}: a repair is told");
    }
}

/// With exits 0-2, of which the interfaces of 0 and 1 are up, and from 10 on those of the relay.
fn with_exits(peers: Vec<PeerSpec>, exits: &[u8]) -> NetworkSpec {
    let mut wanted = spec(peers);
    let of_kind = |index: &u8| match index {
        0..5 => exit(*index),
        5..10 => user_tunnel(*index),
        10.. => redirect(*index),
    };
    wanted.exits = exits.iter().map(of_kind).collect();
    wanted
}

fn with_links() -> FakeKernel {
    let up = ["wgext_00000000", "wgext_00000001"].map(|name| name.parse().unwrap());
    FakeKernel {
        exits_up: up.into(),
        ..FakeKernel::default()
    }
}

fn online(index: u8) -> PeerSpec {
    with_access(peer(index), true, false, &[])
}

#[test]
fn rules_and_ends_come_before_the_marks_and_go_after_them() {
    let mut kernel = with_links();
    let base = kernel.clone();
    let bound = with_exits(vec![through(online(1), "exit0")], &[0]);
    let (accepted, plan) = apply(&mut kernel, None, &bound);
    let kinds = |plan: &Plan| {
        let kind = |step: &Step| match step {
            Step::AddRoute(route) => format!("+{:?}", route.to),
            Step::RemoveRoute(route) => format!("-{:?}", route.to),
            Step::AddRule(_) => "+rule".to_owned(),
            Step::RemoveRule(_) => "-rule".to_owned(),
            Step::ReplacePolicy(_) | Step::UpdatePolicy(_) => "policy".to_owned(),
            Step::RemovePolicy => "-policy".to_owned(),
            Step::UpdatePeers(..)
            | Step::RemoveLink(_)
            | Step::CreateDevice(_)
            | Step::SetMtu(..)
            | Step::RemoveAddress(..)
            | Step::AddAddress(..)
            | Step::SetUp(_) => "link".to_owned(),
        };
        let mut kinds: Vec<_> = plan.steps.iter().map(kind).collect();
        kinds.dedup();
        kinds
    };
    let way = r#"Interface("wgext_00000000")"#;
    assert_eq!(
        kinds(&plan),
        [
            "link",
            "+Unreachable",
            &format!("+{way}"),
            "+rule",
            "policy",
            "link"
        ],
        "the device that is made first has no peers, and its interface is down"
    );
    let free = with_exits(vec![online(1)], &[]);
    let (accepted, plan) = apply(&mut kernel, Some(&accepted), &free);
    assert_eq!(
        kinds(&plan),
        ["policy", "-rule", &format!("-{way}"), "-Unreachable"]
    );
    let (_, plan) = apply(&mut kernel, Some(&accepted), &NetworkSpec::default());
    assert_eq!(kinds(&plan), ["link", "policy"]);
    assert_eq!(
        kernel,
        FakeKernel {
            policy: nothing().policy,
            ..base
        }
    );
}

#[test]
fn an_exit_without_an_interface_leads_nowhere_until_it_has_one() {
    let mut kernel = FakeKernel::default();
    let bound = with_exits(vec![through(online(1), "exit0")], &[0]);
    let (accepted, _) = apply(&mut kernel, None, &bound);
    let to_its_table = |rule: &&RoutingRule| rule.action == Action::Table(1000);
    assert_eq!(
        kernel.routing.rules.iter().filter(to_its_table).count(),
        4,
        "for marks and for sockets, of both families"
    );
    assert_eq!(
        kernel.routing.rules.len(),
        16,
        "three that lead past others and three anchors, of both families"
    );
    assert_eq!(kernel.routing.routes.len(), 2, "the unreachable ones");
    kernel.exits_up = with_links().exits_up;
    let (accepted, plan) = apply(&mut kernel, Some(&accepted), &bound);
    assert_eq!(
        plan.to_string(),
        "add IPv4 default route in table 1000: by wgext_00000000\n\
         add IPv6 default route in table 1000: by wgext_00000000\n"
    );
    // It goes down, and the kernel drops its routes.
    kernel.exits_up.clear();
    kernel
        .routing
        .routes
        .retain(|route| route.to == cell_netd_core::routing::RouteTo::Unreachable);
    let (_, plan) = apply(&mut kernel, Some(&accepted), &bound);
    assert_eq!(plan, Plan::default(), "what is left is what is wanted");
}

#[test]
fn a_plan_says_which_exit_a_peer_leaves_by() {
    let mut kernel = with_links();
    let exits = [0, 1];
    let (accepted, _) = apply(
        &mut kernel,
        None,
        &with_exits(vec![through(online(1), "exit0"), online(2)], &exits),
    );
    let next = with_exits(
        vec![through(online(1), "exit1"), through(online(2), "exit0")],
        &exits,
    );
    let (accepted, plan) = apply(&mut kernel, Some(&accepted), &next);
    assert_eq!(
        plan.to_string(),
        "update peer p1: leaves by exit exit1\nupdate peer p2: leaves by exit exit0\n"
    );
    let (_, plan) = apply(
        &mut kernel,
        Some(&accepted),
        &with_exits(vec![online(1), online(2)], &exits),
    );
    assert_eq!(
        plan.to_string(),
        "update peer p1: leaves by the machine's own way\n\
         update peer p2: leaves by the machine's own way\n"
    );
}

#[test]
fn rules_and_routes_taken_away_by_hand_are_put_back() {
    let wanted = with_exits(vec![through(online(1), "exit0")], &[0, 1]);
    let mut right = with_links();
    apply(&mut right, None, &wanted);
    let spoil: [fn(&mut FakeKernel); 3] = [
        |kernel| kernel.routing.rules.clear(),
        |kernel| kernel.routing.routes.clear(),
        |kernel| kernel.routing = Default::default(),
    ];
    for spoil in spoil {
        let mut kernel = right.clone();
        spoil(&mut kernel);
        let ruleset = compile(
            &validate(&wanted, &ceiling(), None).unwrap(),
            &ceiling(),
            &Default::default(),
        );
        let observed = kernel.observe(ruleset.as_ref());
        let desired = validate(&wanted, &ceiling(), None).unwrap();
        let repair = plan(&desired, ruleset.as_ref(), &ceiling(), None, &observed);
        for step in &repair.steps {
            kernel.apply(step).unwrap();
        }
        assert_eq!(kernel, right);
        assert!(!repair.changes.is_empty(), "a repair is told");
    }
}

fn any_exits() -> impl Strategy<Value = (Vec<u8>, Vec<Option<u8>>)> {
    let all = vec![0u8, 1, 2, 10, 11];
    let exits = proptest::sample::subsequence(all.clone(), 0..=5);
    let bound = proptest::option::of(proptest::sample::select(all));
    (exits, proptest::collection::vec(bound, 6))
}

/// Exits exchange marks, tables and interfaces with each other where `rotated`.
fn bound(mut peers: Vec<PeerSpec>, exits: &(Vec<u8>, Vec<Option<u8>>), rotated: bool) -> NetworkSpec {
    let (exits, bindings) = exits;
    for (peer, binding) in peers.iter_mut().zip(bindings) {
        if let Some(index) = binding.filter(|index| exits.contains(index)) {
            peer.exit = format!("exit{index}");
        }
    }
    let mut wanted = with_exits(peers, exits);
    if rotated && wanted.exits.len() > 1 {
        let marks: Vec<_> = wanted.exits.iter().map(|exit| exit.mark).collect();
        let count = marks.len();
        for (index, exit) in wanted.exits.iter_mut().enumerate() {
            exit.mark = marks[(index + 1) % count];
        }
    }
    wanted
}

fn any_state() -> impl Strategy<Value = Vec<PeerSpec>> {
    let services =
        proptest::sample::subsequence(vec![("10.0.5.7", 443), ("10.0.5.7", 80), ("fd00::7", 443)], 0..=3);
    // Names, keys and addresses are drawn apart from each other, so that they move between peers.
    let one = (
        1..7u8,
        any::<bool>(),
        any::<bool>(),
        services,
        any::<bool>(),
        0..3u32,
    );
    proptest::collection::vec(one, 0..6).prop_flat_map(|drawn| {
        let count = drawn.len();
        let numbers = proptest::sample::subsequence((1..9u8).collect::<Vec<_>>(), count).prop_shuffle();
        let keys = proptest::sample::subsequence((1..9u8).collect::<Vec<_>>(), count).prop_shuffle();
        (Just(drawn), numbers, keys).prop_map(|(drawn, numbers, keys)| {
            let mut peers: Vec<PeerSpec> = Vec::new();
            for (((name, internet, p2p, services, both, keepalive), number), key) in
                drawn.into_iter().zip(numbers).zip(keys)
            {
                let mut spec = with_access(peer(number), internet, p2p, &services);
                (spec.name, spec.public_key) = (format!("p{name}"), vec![key; 32]);
                spec.persistent_keepalive_seconds = keepalive;
                if !both {
                    spec.addresses.pop();
                }
                if peers.iter().all(|other| other.name != spec.name) {
                    peers.push(spec);
                }
            }
            peers
        })
    })
}

/// Whether the device has nothing to do with the change.
fn only_access_differs(delta: &Delta) -> bool {
    delta
        .changes()
        .values()
        .all(|change| match (&change.before, &change.after) {
            (Some(before), Some(after)) => {
                (before.key, before.keepalive, before.allowed_ips())
                    == (after.key, after.keepalive, after.allowed_ips())
            }
            _ => false,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_whole_specs_ends_at_the_last(states in proptest::collection::vec(any_state(), 1..5)) {
        let mut kernel = FakeKernel::default();
        let mut accepted = None;
        for state in &states {
            let (desired, _) = apply(&mut kernel, accepted.as_ref(), &spec(state.clone()));
            let (_, again) = apply(&mut kernel, Some(&desired), &spec(state.clone()));
            prop_assert_eq!(again, Plan::default());
            accepted = Some(desired);
        }
        prop_assert_eq!(without_endpoints(kernel), without_endpoints(fresh(&spec(states.last().unwrap().clone()))));
    }

    #[test]
    fn any_order_of_exits_ends_at_the_last_and_no_mark_is_ever_uncaught(
        states in proptest::collection::vec((any_state(), any_exits(), any::<bool>()), 1..5),
    ) {
        let mut kernel = with_links();
        let mut accepted = None;
        let mut last = NetworkSpec::default();
        for (peers, exits, rotated) in states {
            last = bound(peers, &exits, rotated);
            let (desired, _) = apply(&mut kernel, accepted.as_ref(), &last);
            let (_, again) = apply(&mut kernel, Some(&desired), &last);
            prop_assert_eq!(again, Plan::default());
            accepted = Some(desired);
        }
        let mut fresh = with_links();
        apply(&mut fresh, None, &last);
        prop_assert_eq!(without_endpoints(kernel), without_endpoints(fresh));
    }

    #[test]
    fn a_change_of_exits_is_its_elements(from in any_exits(), to in any_exits()) {
        let peers: Vec<_> = (1..7).map(online).collect();
        let exits = vec![0, 1, 2, 10, 11];
        let (from, to) = ((exits.clone(), from.1), (exits, to.1));
        let mut kernel = with_links();
        let (mut desired, _) = apply(&mut kernel, None, &bound(peers.clone(), &from, false));
        let wanted = bound(peers, &to, false);
        let delta = DeltaSpec { upserted_peers: wanted.peers.clone(), removed_peers: vec![] };
        let delta = validate_delta(&delta, &desired, &ceiling()).unwrap();
        let plan = plan_delta(&desired, &delta);
        prop_assert!(plan.steps.iter().all(|step| matches!(step, Step::UpdatePolicy(_))));
        prop_assert_eq!(plan.changes.len(), delta.changes().len());
        perform(&mut kernel, &plan);
        let _inverse = desired.apply(delta);
        let mut fresh = with_links();
        let (whole, _) = apply(&mut fresh, None, &wanted);
        prop_assert_eq!(desired, whole);
        prop_assert_eq!(kernel, fresh);
    }

    #[test]
    fn a_change_ends_where_the_whole_spec_does_and_can_be_taken_back(from in any_state(), to in any_state()) {
        let mut kernel = FakeKernel::default();
        let (mut desired, _) = apply(&mut kernel, None, &spec(from.clone()));
        let (original, origin) = (desired.clone(), kernel.clone());
        let removed_peers = from.iter().filter(|old| to.iter().all(|new| new.name != old.name));
        let removed_peers = removed_peers.map(|peer| peer.name.clone()).collect();
        let delta = DeltaSpec { upserted_peers: to.clone(), removed_peers };
        let delta = validate_delta(&delta, &desired, &ceiling()).unwrap();
        let expected = expected_peers(&delta);
        let found = |kernel: &FakeKernel| kernel.link.as_ref().unwrap().device.as_ref().unwrap().peers.clone();
        prop_assert_eq!(peers_hold(&expected, &found(&kernel)), expected.is_empty() || only_access_differs(&delta));
        perform(&mut kernel, &plan_delta(&desired, &delta));
        prop_assert!(peers_hold(&expected, &found(&kernel)));
        let inverse = desired.apply(delta);
        let whole = validate(&spec(to.clone()), &ceiling(), desired.own_key()).unwrap();
        prop_assert_eq!(&desired, &whole);
        prop_assert_eq!(without_endpoints(kernel.clone()), without_endpoints(fresh(&spec(to))));

        perform(&mut kernel, &plan_delta(&desired, &inverse));
        let _again = desired.apply(inverse);
        prop_assert_eq!(desired, original);
        prop_assert_eq!(without_endpoints(kernel), without_endpoints(origin));
    }
}
