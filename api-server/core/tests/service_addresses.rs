//! Addresses of services in the VPN's range: from its end downwards, never a peer's, and peers never get one of theirs.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeSet, VecDeque};

use cell_api_core::range::{self, VpnRange, allocate_service};
use proptest::prelude::*;

fn range() -> VpnRange {
    let (v4, v6) = (range::parse_v4("10.86.0.0/28"), range::parse_v6("fd00:1::/120"));
    VpnRange::new(v4.unwrap(), v6.unwrap()).unwrap()
}

#[test]
fn services_come_from_the_end() {
    let (range, mut services) = (range(), BTreeSet::new());
    for expected in [14, 13] {
        let host = allocate_service(&range, None, 3, &services).unwrap();
        assert_eq!(host.get(), expected);
        services.insert(host.get());
    }
    // A peer is not given what is a service's, and of what peers left behind a service gets the first when nothing else is there.
    assert_eq!(range.allocate(None, 12, &services).unwrap_err().capacity, 13);
    assert_eq!(allocate_service(&range, Some(5), 12, &services).unwrap().get(), 5);
    assert!(allocate_service(&range, None, 12, &services).is_err());
    let middle = BTreeSet::from([5]);
    assert_eq!(
        range.allocate(None, 4, &middle).unwrap().get(),
        6,
        "it is skipped"
    );
}

#[derive(Debug, Clone, Copy)]
enum Step {
    AddPeer,
    AddService,
    RemovePeer(usize),
    RemoveService(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::AddPeer),
        Just(Step::AddService),
        (0usize..6).prop_map(Step::RemovePeer),
        (0usize..6).prop_map(Step::RemoveService),
    ]
}

proptest! {
    /// As the database keeps it (`api-server/src/store`): no address is ever of two, and none is lost.
    #[test]
    fn no_address_is_of_two(steps in prop::collection::vec(step(), 0..200)) {
        let range = range();
        let (mut peers, mut services) = (BTreeSet::new(), BTreeSet::new());
        let (mut freed, mut highest) = (VecDeque::<u32>::new(), 1u32);
        for step in steps {
            match step {
                Step::AddPeer => if let Ok(host) = range.allocate(freed.front().copied(), highest, &services) {
                    if freed.front() == Some(&host.get()) && host.get() <= highest { freed.pop_front(); }
                    highest = highest.max(host.get());
                    prop_assert!(host.get() > 1 && peers.insert(host.get()));
                },
                Step::AddService => if let Ok(host) = allocate_service(&range, freed.front().copied(), highest, &services) {
                    freed.retain(|one| *one != host.get());
                    prop_assert!(host.get() > 1 && services.insert(host.get()));
                },
                Step::RemovePeer(n) => if let Some(host) = peers.iter().nth(n).copied() {
                    peers.remove(&host);
                    freed.push_back(host);
                },
                Step::RemoveService(n) => if let Some(host) = services.iter().nth(n).copied() {
                    services.remove(&host);
                    if host <= highest { freed.push_back(host); }
                },
            }
            prop_assert!(peers.is_disjoint(&services));
            prop_assert!(freed.iter().all(|host| !peers.contains(host) && !services.contains(host)));
        }
        // None is lost: without anybody, everything can be given out again.
        let unused: BTreeSet<u32> = (highest + 1..=14).collect();
        let all: BTreeSet<u32> = peers.iter().chain(&services).chain(&freed).chain(&unused).copied().collect();
        prop_assert_eq!(all, (2..=14).collect::<BTreeSet<u32>>());
    }
}
