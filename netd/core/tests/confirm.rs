//! When a change that waits is taken back, what may be asked meanwhile, and that no rollback gives back what was taken away.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use cell_netd_core::Desired;
use cell_netd_core::confirm::{
    Beside, Now, Pending, Phase, Reason, Refusal, Rollback, SinceBoot, Way, Window, takes_away,
};
use cell_netd_core::desired::Access;
use cell_netd_core::model::PeerName;
use cell_netd_core::spec::{DeltaSpec, PeerSpec};
use cell_netd_core::validate::{validate, validate_delta};
use proptest::prelude::*;
use support::{ceiling, peer, spec, with_access};

fn window(seconds: u32) -> Window {
    Window::of_seconds(seconds).unwrap().unwrap()
}

fn at(boot_ms: u64) -> Now {
    Now {
        boot: SinceBoot(boot_ms),
        unix_ms: 1_000_000 + boot_ms.cast_signed(),
    }
}

fn waits(etag: &str) -> Phase {
    Phase::Waits(Pending::begins("before", window(60), at(0)).becomes(etag.to_owned()))
}

fn unnoted() -> Phase {
    Phase::Unnoted(Rollback {
        rejected_etag: "bad".to_owned(),
        restored_etag: "good".to_owned(),
        at_unix_ms: 0,
        reason: Reason::Expired,
    })
}

#[test]
fn a_window_is_of_five_seconds_to_an_hour() {
    assert_eq!(Window::of_seconds(0), Ok(None));
    for seconds in [5, 60, 3600] {
        assert_eq!(window(seconds).millis(), u64::from(seconds) * 1000);
    }
    for seconds in [1, 4, 3601, u32::MAX] {
        Window::of_seconds(seconds).unwrap_err();
    }
}

#[test]
fn a_deadline_comes_nearer_and_never_farther() {
    let first = Pending::begins("before", window(60), at(1000)).becomes("a".to_owned());
    assert_eq!(
        (
            first.left(SinceBoot(1000)),
            first.left(SinceBoot(60_999)),
            first.left(SinceBoot(61_000))
        ),
        (60_000, 1, 0)
    );
    let later = first.with_part(window(3600), at(2000));
    assert_eq!(later, first);
    let nearer = first.with_part(window(5), at(2000));
    assert_eq!((nearer.deadline, nearer.etag.as_str()), (SinceBoot(7000), "a"));
    assert_eq!(nearer.previous_etag, "before");
    // A clock that is set anew moves what people read of a new part, and no deadline.
    let clock_set = Now {
        boot: SinceBoot(2000),
        unix_ms: 0,
    };
    assert_eq!(first.with_part(window(3600), clock_set), first);
    // A time since boot that cannot be read is the end of all.
    assert_eq!(first.left(SinceBoot(u64::MAX)), 0);
}

#[test]
fn what_is_admitted_depends_on_what_waits() {
    let minute = Some(window(60));
    let idle = Phase::Idle;
    let cases = [
        (&idle, "", "", None, Ok(Way::Plain)),
        (&idle, "", "now", None, Ok(Way::Plain)),
        (&idle, "now", "now", None, Ok(Way::Plain)),
        (&idle, "old", "now", None, Err(Refusal::EtagMismatch)),
        (&idle, "", "now", minute, Ok(Way::Begins(window(60)))),
        (&idle, "old", "now", minute, Err(Refusal::EtagMismatch)),
        (&idle, "", "", minute, Err(Refusal::NoLastGood)),
        (&waits("now"), "", "now", None, Err(Refusal::ChangePending)),
        (&waits("now"), "", "now", minute, Err(Refusal::ChangePending)),
        (&waits("now"), "old", "now", None, Err(Refusal::ChangePending)),
        (&waits("now"), "now", "now", None, Ok(Way::Beside)),
        (&waits("now"), "now", "now", minute, Ok(Way::JoinsIn(window(60)))),
        (&unnoted(), "", "good", None, Err(Refusal::RolledBack)),
        (&unnoted(), "", "good", minute, Err(Refusal::RolledBack)),
        (&unnoted(), "bad", "good", None, Err(Refusal::EtagMismatch)),
        (&unnoted(), "good", "good", None, Ok(Way::Notes)),
        (&unnoted(), "good", "good", minute, Ok(Way::Begins(window(60)))),
    ];
    for (phase, etag, current, window, expected) in cases {
        assert_eq!(
            phase.admit(etag, current, window),
            expected,
            "{phase:?} {etag:?} {window:?}"
        );
    }
}

#[test]
fn only_what_waits_can_be_confirmed_and_only_in_time() {
    let phase = waits("now");
    assert_eq!(phase.waiting("now", SinceBoot(59_999)).unwrap().etag, "now");
    assert_eq!(phase.waiting("now", SinceBoot(60_000)), Err(Refusal::NotPending));
    assert_eq!(phase.waiting("old", SinceBoot(0)), Err(Refusal::EtagMismatch));
    for phase in [Phase::Idle, unnoted()] {
        assert_eq!(phase.waiting("now", SinceBoot(0)), Err(Refusal::NotPending));
    }
}

fn desired(peers: Vec<PeerSpec>) -> Desired {
    validate(&spec(peers), &ceiling(), None).unwrap()
}

fn names(spec: &DeltaSpec) -> Vec<PeerName> {
    let upserted = spec.upserted_peers.iter().map(|peer| &peer.name);
    spec.removed_peers
        .iter()
        .chain(upserted)
        .map(|name| name.parse().unwrap())
        .collect()
}

/// The state before, after the change beside; none where that does not take away alone.
fn beside(last_good: &Desired, pending: &Desired, spec: &DeltaSpec) -> Option<Desired> {
    let delta = validate_delta(spec, pending, &ceiling()).unwrap();
    if !takes_away(&delta) {
        return None;
    }
    let beside = Beside::of(names(spec), &delta, pending);
    let mut left = last_good.clone();
    let _inverse = left.apply(beside.from_last_good(last_good));
    Some(left)
}

fn removal(name: &str) -> DeltaSpec {
    DeltaSpec {
        removed_peers: vec![name.to_owned()],
        ..DeltaSpec::default()
    }
}

fn upsert(peer: PeerSpec) -> DeltaSpec {
    DeltaSpec {
        upserted_peers: vec![peer],
        ..DeltaSpec::default()
    }
}

#[test]
fn who_is_removed_while_a_change_waits_does_not_come_back() {
    let last_good = desired(vec![peer(1), peer(2)]);
    let without_2 = Some(desired(vec![peer(1)]));
    // It is there in both; or the change that waits took it already; or gave it another name, or another key.
    assert_eq!(beside(&last_good, &last_good, &removal("p2")), without_2);
    assert_eq!(
        beside(&last_good, &desired(vec![peer(1)]), &removal("p2")),
        without_2
    );
    let renamed = PeerSpec {
        name: "new".to_owned(),
        ..peer(2)
    };
    assert_eq!(
        beside(&last_good, &desired(vec![peer(1), renamed]), &removal("new")),
        without_2
    );
    let other_key = PeerSpec {
        public_key: vec![9; 32],
        ..peer(2)
    };
    assert_eq!(
        beside(&last_good, &desired(vec![peer(1), other_key]), &removal("p2")),
        without_2
    );
}

#[test]
fn access_that_is_taken_away_while_a_change_waits_does_not_come_back() {
    let full = with_access(peer(1), true, true, &[("10.0.5.7", 443), ("10.0.5.8", 80)]);
    let less = with_access(peer(1), true, false, &[("10.0.5.7", 443)]);
    let none = with_access(peer(1), false, false, &[]);
    let last_good = desired(vec![full.clone(), peer(2)]);
    let pending = desired(vec![full.clone()]);
    assert_eq!(
        beside(&last_good, &pending, &upsert(less.clone())),
        Some(desired(vec![less.clone(), peer(2)]))
    );
    // Said of what the change that waits took already: it stays taken.
    let pending = desired(vec![none.clone()]);
    assert_eq!(
        beside(&last_good, &pending, &upsert(none.clone())),
        Some(desired(vec![none.clone(), peer(2)]))
    );
    // More than is in force is no taking away, be it in the state before.
    assert_eq!(beside(&last_good, &pending, &upsert(less)), None);
    assert_eq!(beside(&last_good, &pending, &upsert(peer(3))), None);
    let moved = PeerSpec {
        addresses: peer(7).addresses,
        ..none
    };
    assert_eq!(beside(&last_good, &pending, &upsert(moved)), None);
}

fn access() -> impl Strategy<Value = (bool, bool, Vec<u32>)> {
    (
        any::<bool>(),
        any::<bool>(),
        proptest::sample::subsequence(vec![80, 443, 8443], 0..=3),
    )
}

fn peers() -> impl Strategy<Value = Vec<PeerSpec>> {
    let one = |index: u8| {
        proptest::option::weighted(0.8, access()).prop_map(move |access| {
            access.map(|(internet, peer_to_peer, ports)| {
                let services: Vec<_> = ports.into_iter().map(|port| ("10.0.5.7", port)).collect();
                with_access(peer(index), internet, peer_to_peer, &services)
            })
        })
    };
    [one(1), one(2), one(3), one(4)].prop_map(|peers| peers.into_iter().flatten().collect())
}

fn within(one: &Access, other: &Access) -> bool {
    (!one.internet || other.internet)
        && (!one.peer_to_peer || other.peer_to_peer)
        && one.services.is_subset(&other.services)
}

proptest! {
    #[test]
    fn no_peer_that_was_named_has_more_after_a_rollback_than_it_was_left(
        before in peers(), waiting in peers(), asked in peers(), removed in 1u8..=4,
    ) {
        let (last_good, pending) = (desired(before), desired(waiting));
        let name = format!("p{removed}");
        let spec = DeltaSpec {
            upserted_peers: asked.into_iter().filter(|peer| peer.name != name).collect(),
            removed_peers: vec![name],
        };
        let delta = validate_delta(&spec, &pending, &ceiling()).unwrap();
        if let Some(left) = beside(&last_good, &pending, &spec) {
            let mut now = pending;
            let _inverse = now.apply(delta);
            for (name, peer) in left.peers() {
                prop_assert!(within(&peer.access, &last_good.peers()[name].access));
                if names(&spec).contains(name) {
                    prop_assert!(within(&peer.access, &now.peers()[name].access), "{name}");
                }
            }
            for name in last_good.peers().keys().filter(|name| !names(&spec).contains(name)) {
                prop_assert_eq!(&left.peers()[name], &last_good.peers()[name], "who is not named keeps all");
            }
        }
    }
}
