//! Which of the machine's addresses each correspondent talks to, so that it is answered from there. Pure.
//!
//! A machine with several addresses would else answer from the one that routing prefers, which NAT and firewalls on the
//! way do not know. The kernel's WireGuard remembers the same (drivers/net/wireguard/socket.c).

use std::collections::HashMap;
use std::mem;
use std::net::{IpAddr, SocketAddr};

/// Correspondents per generation. Strangers are remembered like peers, since a datagram is not authenticated yet here;
/// a flood of them costs at most two generations of memory, and a peer that it pushes out comes back with its next
/// datagram.
const GENERATION: usize = 16_384;

/// What is remembered.
#[derive(Debug, Default)]
pub struct Sources {
    young: HashMap<SocketAddr, IpAddr>,
    old: HashMap<SocketAddr, IpAddr>,
}

impl Sources {
    /// Remembers that `remote` talks to `local`.
    pub fn learn(&mut self, remote: SocketAddr, local: IpAddr) {
        if self.young.len() >= GENERATION && !self.young.contains_key(&remote) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(remote, local);
    }

    /// The address that `remote` talks to, if it is known.
    pub fn of(&self, remote: &SocketAddr) -> Option<IpAddr> {
        self.young.get(remote).or_else(|| self.old.get(remote)).copied()
    }

    /// Forgets `remote`, e.g. because the address is gone.
    pub fn forget(&mut self, remote: &SocketAddr) {
        self.young.remove(remote);
        self.old.remove(remote);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(number: usize) -> SocketAddr {
        let [.., a, b] = number.to_be_bytes();
        SocketAddr::from(([192, 0, 2, 1], u16::from_be_bytes([a, b])))
    }

    #[test]
    fn the_last_address_counts_until_it_is_forgotten() {
        let mut sources = Sources::default();
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        sources.learn(remote(1), one);
        sources.learn(remote(1), two);
        assert_eq!(
            (sources.of(&remote(1)), sources.of(&remote(2))),
            (Some(two), None)
        );
        sources.forget(&remote(1));
        assert_eq!(sources.of(&remote(1)), None);
    }

    #[test]
    fn a_flood_of_strangers_is_bounded() {
        let mut sources = Sources::default();
        for number in 0..3 * GENERATION {
            sources.learn(remote(number), IpAddr::from([10, 0, 0, 1]));
        }
        assert!(sources.young.len() + sources.old.len() <= 2 * GENERATION);
        assert!(sources.of(&remote(3 * GENERATION - 1)).is_some());
    }
}
