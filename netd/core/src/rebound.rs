//! Who is carried another way after a change, and which flows that concerns (ADR 0049). The policy cuts flows of the way before; those
//! without connections have no end that a sender could notice, and would stay cut for as long as it sends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::desired::{Delta, Desired, Peer};
use crate::policy::{DNS, is_special};
use crate::redirect::Carrier;

/// Addresses of peers that another exit carries, or the machine's own way, whatever their peers are called.
pub fn rebound(before: &Desired, after: &Desired) -> BTreeSet<IpAddr> {
    moved(
        before.peers().values().map(|peer| &**peer),
        after.peers().values().map(|peer| &**peer),
    )
}

/// The same of some peers.
pub fn rebound_by(delta: &Delta) -> BTreeSet<IpAddr> {
    let changes = || delta.changes().values();
    moved(
        changes().filter_map(|change| change.before.as_deref()),
        changes().filter_map(|change| change.after.as_deref()),
    )
}

/// Whether a flow from such an address may be of the way before: to the internet, or of questions, which netd turns to the relay. What
/// it has with the cell, the machine's neighbours, containers and other peers is carried by no exit.
pub fn may_be_moved(destination: IpAddr, port: Option<u16>) -> bool {
    port == Some(DNS) || !is_special(destination)
}

fn moved<'a>(
    before: impl Iterator<Item = &'a Peer>,
    after: impl Iterator<Item = &'a Peer>,
) -> BTreeSet<IpAddr> {
    let was: BTreeMap<IpAddr, &Option<Carrier>> = before.flat_map(exits).collect();
    let is_moved = |(address, now)| {
        was.get(&address)
            .is_some_and(|was| *was != now)
            .then_some(address)
    };
    after.flat_map(exits).filter_map(is_moved).collect()
}

fn exits(peer: &Peer) -> impl Iterator<Item = (IpAddr, &Option<Carrier>)> {
    let addresses = [peer.v4.map(IpAddr::V4), peer.v6.map(IpAddr::V6)];
    addresses
        .into_iter()
        .flatten()
        .map(|address| (address, &peer.exit))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_no_exit_carries_goes_on() {
        let concerns = |to: &str, port| may_be_moved(to.parse().unwrap(), port);
        for (to, port) in [
            ("9.9.9.9", Some(443)),
            ("2600::9", Some(51820)),
            ("9.9.9.9", None),
        ] {
            assert!(concerns(to, port), "{to}");
        }
        for to in ["10.86.0.1", "192.168.1.7", "fd86::2", "172.30.1.2"] {
            assert!(!concerns(to, Some(443)) && !concerns(to, None), "{to}");
            assert!(concerns(to, Some(53)), "{to}: a question");
        }
    }
}
