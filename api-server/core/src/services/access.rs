//! Who may reach a service.

use std::collections::BTreeSet;

use crate::fault::Faults;
use crate::name::PeerName;

/// Most peers of one service that are named one by one.
pub const MOST_PEERS: usize = 4_096;

/// Who may reach a service. Default: nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Every device, those that are added later too.
    Everyone,
    /// These.
    Peers(BTreeSet<String>),
}

impl Default for Access {
    fn default() -> Self {
        Access::Peers(BTreeSet::new())
    }
}

impl Access {
    /// Reads who is named; whether they are known is for the store of peers to say.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn check(everyone: bool, peers: &[String]) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        if everyone && !peers.is_empty() {
            faults.add("allowed_peers", "must be empty where everyone may reach it");
        }
        if peers.len() > MOST_PEERS {
            faults.add("allowed_peers", format!("must have at most {MOST_PEERS} names"));
            return Err(faults);
        }
        let mut named = BTreeSet::new();
        for (index, peer) in peers.iter().enumerate() {
            let path = format!("allowed_peers[{index}]");
            if let Some(name) = faults.keep(path, PeerName::parse(peer)) {
                named.insert(name.to_string());
            }
        }
        match (faults.is_empty(), everyone) {
            (false, _) => Err(faults),
            (true, true) => Ok(Access::Everyone),
            (true, false) => Ok(Access::Peers(named)),
        }
    }

    /// Whether nobody may who may not by `other`.
    pub fn is_within(&self, other: &Access) -> bool {
        match (self, other) {
            (_, Access::Everyone) => true,
            (Access::Everyone, Access::Peers(_)) => false,
            (Access::Peers(own), Access::Peers(others)) => own.is_subset(others),
        }
    }

    /// Those that are named here and not by `other`.
    pub fn named_beyond<'a>(&'a self, other: &'a Access) -> impl Iterator<Item = &'a str> {
        self.peers().filter(|peer| other.peers().all(|one| one != *peer))
    }

    /// Whether every device may.
    pub fn is_everyone(&self) -> bool {
        *self == Access::Everyone
    }

    /// Those that are named.
    pub fn peers(&self) -> impl Iterator<Item = &str> {
        let named = match self {
            Access::Everyone => None,
            Access::Peers(peers) => Some(peers),
        };
        named.into_iter().flatten().map(String::as_str)
    }
}
