//! How many services all peers may be granted together: a spec or a change that would exceed it names the peer whose grant does.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::net::{Ipv4Addr, Ipv6Addr};

use cell_netd_core::spec::{DeltaSpec, NetworkSpec, PeerSpec};
use cell_netd_core::validate::{GRANTS_MAX, Rejection, SERVICES_MAX, validate, validate_delta};
use support::{ceiling, peer, spec, with_access};

/// Peer number `index` with so many services.
fn granted(index: u32, services: usize) -> PeerSpec {
    let ports: Vec<(&str, u32)> = (1..=services as u32).map(|port| ("10.0.5.7", port)).collect();
    let mut peer = with_access(peer(1), false, false, &ports);
    peer.name = format!("p{index}");
    peer.public_key = [&index.to_be_bytes()[..], &[1; 28]].concat();
    peer.addresses = vec![
        Ok(Ipv4Addr::from_bits(0x0a40_0002 + index).into()),
        Ok(Ipv6Addr::from_bits((0xfd86 << 112) | u128::from(index + 2)).into()),
    ];
    peer
}

fn fields(rejection: Rejection) -> Vec<String> {
    rejection
        .violations()
        .iter()
        .map(|fault| fault.field.clone())
        .collect()
}

/// As many as there may be.
fn full() -> NetworkSpec {
    let mut wide = spec(vec![]);
    wide.wireguard.as_mut().unwrap().addresses = vec![
        Ok("10.64.0.1/10".parse().unwrap()),
        Ok("fd86::1/64".parse().unwrap()),
    ];
    let peers = (GRANTS_MAX / SERVICES_MAX) as u32;
    wide.peers = (0..peers).map(|index| granted(index, SERVICES_MAX)).collect();
    wide
}

#[test]
fn a_spec_beyond_the_bound_names_who_exceeds_it() {
    let mut wide = full();
    assert!(validate(&wide, &ceiling(), None).is_ok(), "control");
    let last = wide.peers.len();
    wide.peers.push(granted(9_000, 0));
    assert!(
        validate(&wide, &ceiling(), None).is_ok(),
        "without one he is no load"
    );
    wide.peers.push(granted(9_001, 1));
    let named = fields(validate(&wide, &ceiling(), None).unwrap_err());
    assert_eq!(named, [format!("spec.peers[{}].access.services", last + 1)]);
}

#[test]
fn a_change_counts_what_it_takes_and_what_it_gives() {
    let mut base = validate(&full(), &ceiling(), None).unwrap();
    let change = |upserted: Vec<PeerSpec>, removed: &[&str]| DeltaSpec {
        upserted_peers: upserted,
        removed_peers: removed.iter().map(|name| (*name).to_owned()).collect(),
    };
    let new = change(vec![granted(9_000, 1)], &[]);
    let named = fields(validate_delta(&new, &base, &ceiling()).unwrap_err());
    assert_eq!(named, ["upserted_peers[0].access.services"]);
    for good in [
        change(vec![granted(9_000, SERVICES_MAX)], &["p7"]),
        change(vec![granted(3, SERVICES_MAX - 1), granted(9_000, 1)], &[]),
        change(vec![granted(3, 0)], &[]),
    ] {
        let delta = validate_delta(&good, &base, &ceiling()).unwrap();
        let undo = base.apply(delta);
        let counted = base.peers().values().map(|peer| peer.access.services.len());
        assert_eq!(base.grants(), counted.sum::<usize>());
        let _again = base.apply(undo);
        assert_eq!(base.grants(), GRANTS_MAX);
    }
}
