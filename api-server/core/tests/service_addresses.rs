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

/// Hosts that are services', or that rest.
fn kept(services: &BTreeSet<u32>, freed: &VecDeque<u32>) -> BTreeSet<u32> {
    services.iter().chain(freed).copied().collect()
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
                Step::AddPeer => if let Ok(host) = range.allocate(freed.front().copied(), highest, &kept(&services, &freed)) {
                    freed.retain(|one| *one != host.get());
                    highest = highest.max(host.get());
                    prop_assert!(host.get() > 1 && peers.insert(host.get()));
                },
                Step::AddService => if let Ok(host) = allocate_service(&range, freed.front().copied(), highest, &kept(&services, &freed)) {
                    // One that rests is taken when nothing else is there, and the one that rests longest.
                    if freed.contains(&host.get()) {
                        prop_assert_eq!(freed.front(), Some(&host.get()));
                        let unused = (highest + 1..=14).find(|one| !services.contains(one) && !freed.contains(one));
                        prop_assert_eq!(unused, None);
                    }
                    freed.retain(|one| *one != host.get());
                    prop_assert!(host.get() > 1 && services.insert(host.get()));
                },
                Step::RemovePeer(n) => if let Some(host) = peers.iter().nth(n).copied() {
                    peers.remove(&host);
                    freed.push_back(host);
                },
                Step::RemoveService(n) => if let Some(host) = services.iter().nth(n).copied() {
                    services.remove(&host);
                    freed.push_back(host);
                },
            }
            prop_assert!(peers.is_disjoint(&services));
            prop_assert!(freed.iter().all(|host| !peers.contains(host) && !services.contains(host)));
        }
        // None is lost: without anybody, everything can be given out again.
        let unused: BTreeSet<u32> = (highest + 1..=14).collect();
        prop_assert_eq!(freed.iter().collect::<BTreeSet<_>>().len(), freed.len());
        let all: BTreeSet<u32> = peers.iter().chain(&services).chain(&freed).chain(&unused).copied().collect();
        prop_assert_eq!(all, (2..=14).collect::<BTreeSet<u32>>());
    }
}
