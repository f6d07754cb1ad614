//! Bridges of services that are gone. Pure.
//!
//! Docker removes a network's bridge with the network, but not one that was there before it. So what it leaves when it is killed while
//! it makes a network stays for good: after its restart it takes that bridge for the network, and leaves it when the network goes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::desired::Desired;
use crate::model::ExitInterface;

/// How long a bridge has been of no use before it is removed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A bridge on the machine; the same name with another index is another one (netdevice(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bridge {
    /// `cellsvc7`.
    pub name: ExitInterface,
    /// The kernel's number for it.
    pub index: u32,
}

/// Since when bridges have been of no use.
#[derive(Debug, Default)]
pub struct Unused {
    /// Of all networks that were ever wanted. What never was is not known to be a service's: netd may have refused its network.
    known: BTreeSet<ExitInterface>,
    since: BTreeMap<Bridge, Duration>,
}

impl Unused {
    /// Those whose network was wanted once and is not any more, and that have had no port, at every look for [`PATIENCE`]. `bare` are
    /// all bridges of services without a port, `now` is since whatever moment. Who is wanted without a port may only be stopped.
    pub fn due(&mut self, bare: &BTreeSet<Bridge>, desired: &Desired, now: Duration) -> Vec<Bridge> {
        let wanted: BTreeSet<_> = desired
            .services()
            .values()
            .map(|network| network.bridge)
            .collect();
        self.known.extend(&wanted);
        let is_unused =
            |bridge: &&Bridge| !wanted.contains(&bridge.name) && self.known.contains(&bridge.name);
        let since = |bridge: &Bridge| (*bridge, self.since.get(bridge).copied().unwrap_or(now));
        self.since = bare.iter().filter(is_unused).map(since).collect();
        let is_due = |since: Duration| now.saturating_sub(since) >= PATIENCE;
        (self.since.iter())
            .filter(|(_, since)| is_due(**since))
            .map(|(bridge, _)| *bridge)
            .collect()
    }

    /// The looks before do not count: what is wanted now may be taken back.
    pub fn begin_anew(&mut self) {
        self.since.clear();
    }
}
