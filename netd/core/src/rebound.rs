//! Who is carried another way after a change. The policy cuts flows of the way before; those without connections have no end that a
//! sender could notice, and would stay cut for as long as it sends.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::desired::{Delta, Desired, Peer};

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

fn moved(was: &Peer, now: &Peer) -> impl Iterator<Item = IpAddr> {
    let addresses = [was.v4.map(IpAddr::V4), was.v6.map(IpAddr::V6)];
    let is_moved = was.exit != now.exit;
    addresses.into_iter().flatten().filter(move |_| is_moved)
}
