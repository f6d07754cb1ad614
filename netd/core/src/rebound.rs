//! Who is carried another way after a change, and which flows that concerns (ADR 0049). The policy cuts flows of the way before; those
//! without connections have no end that a sender could notice, and would stay cut for as long as it sends.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::desired::{Delta, Desired, Peer};
use crate::policy::{DNS, is_special};

/// Addresses of peers whom another exit carries, or the machine's own way.
pub fn rebound(before: &Desired, after: &Desired) -> BTreeSet<IpAddr> {
    let peers = after.peers().iter();
    let both = peers.filter_map(|(name, now)| Some((&**before.peers().get(name)?, &**now)));
    both.flat_map(|(was, now)| moved(was, now)).collect()
}

/// The same of some peers.
pub fn rebound_by(delta: &Delta) -> BTreeSet<IpAddr> {
    let changes = delta.changes().values();
    let both = changes.filter_map(|change| change.before.as_deref().zip(change.after.as_deref()));
    both.flat_map(|(was, now)| moved(was, now)).collect()
}

/// Whether a flow from such an address may be of the way before: to the internet, or of questions, which netd turns to the relay. What
/// it has with the cell, the machine's neighbours, containers and other peers is carried by no exit.
pub fn may_be_moved(destination: IpAddr, port: Option<u16>) -> bool {
    port == Some(DNS) || !is_special(destination)
}

fn moved(was: &Peer, now: &Peer) -> impl Iterator<Item = IpAddr> {
    let addresses = [was.v4.map(IpAddr::V4), was.v6.map(IpAddr::V6)];
    let is_moved = was.exit != now.exit;
    addresses.into_iter().flatten().filter(move |_| is_moved)
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
