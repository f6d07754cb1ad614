//! A change that may end the way by which its author came: who is logged in over SSH from what is changed.

use std::net::{IpAddr, Ipv4Addr};

use cell_proto::api::v1::{GetPeerRequest, ListPeersRequest, ListServiceNetworksRequest, Peer};

use crate::cell::Cell;
use crate::failure::Failure;
use crate::origin;
use crate::output::Output;

/// How long a change waits that may cut off whoever makes it, seconds.
const SECONDS: u32 = 60;

/// How a change of the device `name` waits: as it was asked for, or because its author sits there.
pub(crate) async fn of_peer(cell: &Cell, output: Output, name: &str) -> Result<Option<u32>, Failure> {
    let Some(origin) = origin::of_shell() else {
        return Ok(None);
    };
    let request = GetPeerRequest {
        name: name.to_owned(),
    };
    let peer = cell.peers()?.get_peer(request).await?.into_inner().peer;
    Ok(has(&peer.unwrap_or_default(), origin).then(|| waits(output, name)))
}

/// The device that this shell was opened from, if it is one of the cell's.
pub(crate) async fn own_device(cell: &Cell) -> Result<Option<Peer>, Failure> {
    let Some(origin) = origin::of_shell() else {
        return Ok(None);
    };
    let answer = cell.peers()?.list_peers(ListPeersRequest {}).await?.into_inner();
    Ok(answer.peers.into_iter().find(|peer| has(peer, origin)))
}

/// How a change of what carries a service waits: its containers may be where the author came from.
pub(crate) async fn of_service(cell: &Cell, output: Output, service: &str) -> Result<Option<u32>, Failure> {
    let Some(IpAddr::V4(origin)) = origin::of_shell() else {
        return Ok(None);
    };
    let request = ListServiceNetworksRequest {};
    let answer = cell
        .services()?
        .list_service_networks(request)
        .await?
        .into_inner();
    let mut networks = answer.networks.into_iter();
    let is_within = networks.any(|network| network.service == service && holds(&network.subnet, origin));
    Ok(is_within.then(|| waits(output, service)))
}

/// Says that it waits, and how long.
pub(crate) fn waits(output: Output, from: &str) -> u32 {
    output.note(&format!(
        "You are logged in from {from} itself: the change waits for your word (--at-once does not)."
    ));
    SECONDS
}

fn has(peer: &Peer, origin: IpAddr) -> bool {
    [&peer.ipv4, &peer.ipv6]
        .into_iter()
        .any(|address| address.parse() == Ok(origin))
}

/// Whether `subnet`, as `172.21.0.0/28`, holds the address. What is no subnet holds none.
fn holds(subnet: &str, address: Ipv4Addr) -> bool {
    let Some((network, length)) = subnet.split_once('/') else {
        return false;
    };
    let (Ok(network), Ok(length @ 1..=32)) = (network.parse::<Ipv4Addr>(), length.parse::<u32>()) else {
        return false;
    };
    let mask = u32::MAX << (32 - length);
    network.to_bits() & mask == address.to_bits() & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_holds_its_addresses() {
        for (subnet, address, wanted) in [
            ("172.21.0.16/28", [172, 21, 0, 17], true),
            ("172.21.0.16/28", [172, 21, 0, 32], false),
            ("172.21.0.16/32", [172, 21, 0, 16], true),
            ("172.21.0.16/0", [172, 21, 0, 16], false),
            ("172.21.0.16", [172, 21, 0, 16], false),
            ("", [172, 21, 0, 16], false),
        ] {
            assert_eq!(holds(subnet, address.into()), wanted, "{subnet} {address:?}");
        }
    }
}
