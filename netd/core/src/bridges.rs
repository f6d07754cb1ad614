//! Bridges of services that nobody uses any more. Pure.
//!
//! Docker removes a network's bridge with the network, but where it found the bridge there already. So what it leaves when it is killed
//! while it makes a network stays for good, also after the service whose network it became is gone. Such a bridge carries nothing, as
//! all of its name ([`crate::ceiling::ServiceCeiling`]), and would be there for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::desired::Desired;
use crate::model::ExitInterface;

/// How long nobody has to use a bridge: a service's network is told of before Docker makes it, and its containers come right after.
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
pub struct Unused(BTreeMap<Bridge, Duration>);

impl Unused {
    /// Those that have been of no use for [`PATIENCE`] at every look, the last of which is `now`, since whatever moment.
    /// `bare` are all bridges of services without a port: what is in the desired state too may only be stopped.
    pub fn due(&mut self, bare: &BTreeSet<Bridge>, desired: &Desired, now: Duration) -> Vec<Bridge> {
        let wanted: BTreeSet<_> = desired
            .services()
            .values()
            .map(|network| network.bridge)
            .collect();
        let unused = bare.iter().filter(|bridge| !wanted.contains(&bridge.name));
        self.0 = unused
            .map(|bridge| (*bridge, self.0.get(bridge).copied().unwrap_or(now)))
            .collect();
        let is_due = |since: Duration| now.saturating_sub(since) >= PATIENCE;
        self.0
            .iter()
            .filter(|(_, since)| is_due(**since))
            .map(|(bridge, _)| *bridge)
            .collect()
    }

    /// It is not known any more which are.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}
