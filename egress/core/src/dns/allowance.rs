//! How much one peer may ask: a rate, and so many questions under way.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Questions that a peer may ask at once after a pause.
pub const BURST: u32 = 400;
/// Questions that a peer may ask a second, in the long run.
pub const PER_SECOND: u32 = 200;
/// Questions of one peer that wait for a resolver.
pub const WAITING: u32 = 64;

/// What a question costs, in the unit that is counted: nanoseconds of waiting.
const COST: u64 = 1_000_000_000 / PER_SECOND as u64;

/// Why a question is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    /// More than the rate.
    #[error("the peer asks more than {PER_SECOND} questions a second")]
    Rate,
    /// More at once than may be under way.
    #[error("{WAITING} questions of the peer are under way")]
    Waiting,
}

/// What each peer has asked of late. Time is what has passed since any moment before the first question, and does not go back.
#[derive(Debug, Default)]
pub struct Allowances {
    peers: BTreeMap<IpAddr, Allowance>,
}

#[derive(Debug, Default)]
struct Allowance {
    /// When the peer will have paid for all it asked (a leaky bucket, by its time of running empty).
    paid: u64,
    waiting: u32,
}

impl Allowances {
    /// Counts a question; it is to be [ended](Allowances::end) once.
    ///
    /// # Errors
    /// [`TooMany`], and it is not counted.
    pub fn begin(&mut self, peer: IpAddr, now: Duration) -> Result<(), TooMany> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let peer = self.peers.entry(peer.to_canonical()).or_default();
        let paid = peer.paid.max(now);
        if paid - now > COST * u64::from(BURST - 1) {
            return Err(TooMany::Rate);
        }
        if peer.waiting >= WAITING {
            return Err(TooMany::Waiting);
        }
        peer.paid = paid.saturating_add(COST);
        peer.waiting += 1;
        Ok(())
    }

    /// A question that was counted is over.
    pub fn end(&mut self, peer: IpAddr) {
        if let Some(peer) = self.peers.get_mut(&peer.to_canonical()) {
            peer.waiting = peer.waiting.saturating_sub(1);
        }
    }

    /// Forgets peers that owe nothing.
    pub fn sweep(&mut self, now: Duration) {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.peers.retain(|_, peer| peer.waiting > 0 || peer.paid > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u8) -> IpAddr {
        [10, 8, 0, number].into()
    }

    #[test]
    fn a_burst_then_the_rate() {
        let mut all = Allowances::default();
        let mut ask = |peer, now| {
            let begun = all.begin(peer, now);
            if begun.is_ok() {
                all.end(peer);
            }
            begun
        };
        let start = Duration::from_secs(100);
        for _ in 0..BURST {
            assert_eq!(ask(peer(1), start), Ok(()));
        }
        assert_eq!(ask(peer(1), start), Err(TooMany::Rate));
        assert_eq!(ask(peer(2), start), Ok(()), "another peer");
        let second = start + Duration::from_secs(1);
        let taken = (0..BURST).filter(|_| ask(peer(1), second).is_ok()).count();
        assert_eq!(taken, PER_SECOND as usize);
        all.sweep(second + Duration::from_secs(10));
        assert!(all.peers.is_empty());
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let mut all = Allowances::default();
        for _ in 0..WAITING {
            assert_eq!(all.begin(peer(1), Duration::ZERO), Ok(()));
        }
        assert_eq!(all.begin(peer(1), Duration::ZERO), Err(TooMany::Waiting));
        assert_eq!(all.begin(peer(2), Duration::ZERO), Ok(()));
        all.sweep(Duration::from_secs(60));
        assert_eq!(
            all.begin(peer(1), Duration::from_secs(60)),
            Err(TooMany::Waiting),
            "not forgotten"
        );
        all.end(peer(1));
        assert_eq!(all.begin(peer(1), Duration::from_secs(60)), Ok(()));
    }
}
