//! What cell-api gives networks of services is what netd takes, to the last of them.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/wire.rs"]
mod wire;

use std::collections::BTreeSet;
use std::net::SocketAddrV4;

use cell_api_core::connection::choice::Route;
use cell_api_core::derive::network_spec;
use cell_api_core::derive::services::service_spec;
use cell_api_core::range::{self, VpnRange};
use cell_api_core::service_network::{Egress, MOST, Place, ServiceName, ServiceNetwork, allocate, pool};
use cell_api_core::services::called;
use cell_api_core::services::core_network::CoreNetwork;
use cell_netd_core::validate::validate;
use wire::{carried, ceiling, settings};

const CORE: CoreNetwork = CoreNetwork::SHIPPED;

#[test]
fn netd_takes_every_network_that_is_given() {
    let range = VpnRange::new(
        range::parse_v4("10.86.0.0/16").unwrap(),
        range::parse_v6("fd86:6:1::/64").unwrap(),
    )
    .unwrap();
    let pool = pool("172.21.0.0/16", CORE).unwrap();
    let mut used: Vec<Place> = Vec::new();
    while let Ok(place) = allocate(pool, range.v4(), &used) {
        used.push(place);
    }
    assert_eq!(used.len(), usize::from(MOST));
    let of = |place: &Place| ServiceNetwork {
        service: ServiceName::parse(&format!("svc-{}", place.number)).unwrap(),
        place: place.clone(),
        egress: Egress::Direct,
        reach: Vec::new(),
    };
    // As many as one network may have, at its last container.
    let all_of = |place: &Place| -> BTreeSet<SocketAddrV4> {
        let last = place.hosts().last().unwrap();
        (1..=256).map(|port| SocketAddrV4::new(last, port)).collect()
    };
    assert_eq!(called::MOST, 256);
    let mut spec = network_spec(&settings(), Some(&range), [], Vec::new(), None);
    spec.services = used
        .iter()
        .map(|place| service_spec(&of(place), all_of(place), |_| Route::Own))
        .collect();
    let desired = validate(&carried(spec), &ceiling(), None).unwrap();
    assert_eq!(desired.services().len(), used.len());
    for (place, network) in used.iter().map(|place| {
        let name = format!("svc-{}", place.number).parse().unwrap();
        (place, desired.services()[&name].clone())
    }) {
        assert_eq!(network.bridge.as_str(), place.bridge());
        assert!(network.hosts().eq(place.hosts()), "the same containers");
        assert_eq!(network.called, all_of(place), "and their ports");
    }
}

/// The policy files say where the cell's own containers lie, and so does that of cell-api.
#[test]
fn policy_files_put_the_cells_own_containers_where_cell_api_does() {
    let netd = include_str!("../../systemd/etc/netd.toml");
    assert!(netd.contains(&format!("subnets = [\"{}\"", CORE.subnet())));
    let egress = include_str!("../../systemd/etc/egress.toml");
    assert!(egress.contains(&format!("authorities = [\"{}\"]", CORE.coredns())));
    let documented = include_str!("../../docs/runtime.md");
    let core = [("caddy", 2), ("coredns", 3), ("chrony", 4)]
        .map(|(id, number)| format!("{id} = \"{}\"", CORE.host(number)));
    assert!(documented.contains(&format!("core = {{ {} }}", core.join(", "))));
    assert!(documented.contains(&format!("cell_network = \"{}\"", CORE.subnet())));
}
