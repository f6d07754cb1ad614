//! Who is let in: connections counted by exit and by peer. Each exit has a share that no other takes; beyond it, it borrows of what
//! nobody has for himself, as long as there is some.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::exit::ExitId;
use crate::policy::Limits;

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The exit has what one exit may have.
    #[error("the exit has as many connections as it may")]
    Exit,
    /// The exit has its share, and what is beyond the shares is lent already.
    #[error("the exit has its share of connections, and no more is left to lend")]
    Lent,
    /// The peer has what it may have through this exit.
    #[error("the peer has as many connections through this exit as it may")]
    Peer,
}

/// The connections that there are.
#[derive(Debug)]
pub struct Ledger {
    limits: Limits,
    exits: usize,
    open: BTreeMap<ExitId, Through>,
}

/// The connections through one exit.
#[derive(Debug, Default)]
struct Through {
    /// All of them: the sum of `peers`.
    count: u32,
    peers: BTreeMap<IpAddr, u32>,
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

    /// Says among how many exits shares are dealt out. Who is in stays in: where several exits come at once while everything is
    /// lent, their shares come free as borrowers leave.
    pub fn deal(&mut self, exits: usize) {
        self.exits = exits;
    }

    /// Lets a connection in, which is to be [released](Ledger::release) once.
    ///
    /// # Errors
    /// [`Full`], and nothing is counted.
    pub fn admit(&mut self, exit: &ExitId, peer: IpAddr) -> Result<(), Full> {
        let peer = peer.to_canonical();
        self.room(self.open_through(exit))?;
        let through = self.open.entry(exit.clone()).or_default();
        let count = through.peers.entry(peer).or_default();
        // Every limit is at least 1, so an entry that was made here is used.
        if *count >= self.limits.per_peer() {
            return Err(Full::Peer);
        }
        *count += 1;
        through.count += 1;
        Ok(())
    }

    /// Whether an exit that has so many connections may have one more.
    fn room(&self, through: u32) -> Result<(), Full> {
        let guaranteed = self.limits.guaranteed(self.exits);
        let counts = || self.open.values().map(|through| through.count);
        if through >= self.limits.per_exit() {
            return Err(Full::Exit);
        }
        let lent: u32 = counts().map(|count| count.saturating_sub(guaranteed)).sum();
        let borrows = through >= guaranteed;
        // What was lent before the last deal may be more than the shares of now leave; the total is never exceeded for it.
        let is_all = counts().sum::<u32>() >= self.limits.total();
        if is_all || (borrows && lent >= self.limits.lendable(self.exits)) {
            return Err(Full::Lent);
        }
        Ok(())
    }

    /// Takes a connection out again.
    pub fn release(&mut self, exit: &ExitId, peer: IpAddr) {
        let peer = peer.to_canonical();
        let Some(through) = self.open.get_mut(exit) else {
            return;
        };
        if let Some(count) = through.peers.get_mut(&peer) {
            *count -= 1;
            through.count -= 1;
            if *count == 0 {
                through.peers.remove(&peer);
            }
        }
        if through.peers.is_empty() {
            self.open.remove(exit);
        }
    }

    /// How many connections go through an exit.
    pub fn open_through(&self, exit: &ExitId) -> u32 {
        self.open.get(exit).map_or(0, |through| through.count)
    }
}

#[cfg(test)]
mod tests;
