//! Who is let in: connections counted by exit and by peer.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::exit::ExitId;
use crate::policy::Limits;

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The exit has its share.
    #[error("the exit has as many connections as it may")]
    Exit,
    /// The peer has what it may have through this exit.
    #[error("the peer has as many connections through this exit as it may")]
    Peer,
}

/// The connections that there are.
#[derive(Debug)]
pub struct Ledger {
    limits: Limits,
    exits: usize,
    open: BTreeMap<ExitId, BTreeMap<IpAddr, u32>>,
}

impl Ledger {
    /// With nobody in it.
    pub fn new(limits: Limits) -> Self {
        Ledger {
            limits,
            exits: 0,
            open: BTreeMap::new(),
        }
    }

    /// Says among how many exits the total is dealt out. Who is in stays in.
    pub fn deal(&mut self, exits: usize) {
        self.exits = exits;
    }

    /// Lets a connection in, which is to be [released](Ledger::release) once.
    ///
    /// # Errors
    /// [`Full`], and nothing is counted.
    pub fn admit(&mut self, exit: &ExitId, peer: IpAddr) -> Result<(), Full> {
        let peer = peer.to_canonical();
        let share = self.limits.share(self.exits);
        if self.open_through(exit) >= share {
            return Err(Full::Exit);
        }
        let peers = self.open.entry(exit.clone()).or_default();
        let count = peers.entry(peer).or_default();
        // Every limit is at least 1, so an entry that was made here is used.
        if *count >= self.limits.per_peer() {
            return Err(Full::Peer);
        }
        *count += 1;
        Ok(())
    }

    /// Takes a connection out again.
    pub fn release(&mut self, exit: &ExitId, peer: IpAddr) {
        let peer = peer.to_canonical();
        let Some(peers) = self.open.get_mut(exit) else {
            return;
        };
        if let Some(count) = peers.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&peer);
            }
        }
        if peers.is_empty() {
            self.open.remove(exit);
        }
    }

    /// How many connections go through an exit.
    pub fn open_through(&self, exit: &ExitId) -> u32 {
        self.open.get(exit).map_or(0, |peers| peers.values().sum())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn id(number: u8) -> ExitId {
        ExitId::parse(&format!("6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a{number:02x}")).unwrap()
    }

    fn peer(number: u8) -> IpAddr {
        [10, 8, 0, number].into()
    }

    #[test]
    fn a_full_exit_takes_nothing_from_another() {
        let mut ledger = Ledger::new(Limits::try_new(4, 4, 2).unwrap());
        ledger.deal(2);
        assert_eq!(ledger.admit(&id(1), peer(1)), Ok(()));
        assert_eq!(ledger.admit(&id(1), peer(2)), Ok(()));
        assert_eq!(ledger.admit(&id(1), peer(3)), Err(Full::Exit));
        assert_eq!(ledger.admit(&id(2), peer(1)), Ok(()));
        assert_eq!(ledger.admit(&id(2), peer(1)), Ok(()));
        ledger.release(&id(1), peer(1));
        assert_eq!(ledger.admit(&id(1), peer(3)), Ok(()));
    }

    #[test]
    fn a_greedy_peer_takes_nothing_from_another() {
        let mut ledger = Ledger::new(Limits::try_new(10, 10, 2).unwrap());
        ledger.deal(1);
        let admitted: Vec<_> = (0..3).map(|_| ledger.admit(&id(1), peer(1))).collect();
        assert_eq!(admitted, [Ok(()), Ok(()), Err(Full::Peer)]);
        let mapped = "::ffff:10.8.0.1".parse().unwrap();
        assert_eq!(ledger.admit(&id(1), mapped), Err(Full::Peer), "the same peer");
        assert_eq!(ledger.admit(&id(1), peer(2)), Ok(()));
    }

    proptest! {
        /// Against a plain list: counts are right, limits hold, and nothing is kept of who left.
        #[test]
        fn the_ledger_is_a_list(steps in prop::collection::vec((any::<bool>(), 0u8..3, 0u8..4), 0..200)) {
            let limits = Limits::try_new(12, 6, 2).unwrap();
            let mut ledger = Ledger::new(limits);
            ledger.deal(3);
            let mut open: Vec<(u8, u8)> = Vec::new();
            for (enter, exit, who) in steps {
                let through = open.iter().filter(|(e, _)| *e == exit).count();
                let of_peer = open.iter().filter(|one| **one == (exit, who)).count();
                if enter {
                    let expected = match (through, of_peer) {
                        (4.., _) => Err(Full::Exit),
                        (_, 2..) => Err(Full::Peer),
                        (_, _) => Ok(()),
                    };
                    prop_assert_eq!(ledger.admit(&id(exit), peer(who)), expected);
                    if expected.is_ok() {
                        open.push((exit, who));
                    }
                } else if let Some(at) = open.iter().position(|one| *one == (exit, who)) {
                    open.swap_remove(at);
                    ledger.release(&id(exit), peer(who));
                }
            }
            for (exit, who) in open {
                ledger.release(&id(exit), peer(who));
            }
            prop_assert!(ledger.open.is_empty());
        }
    }
}
