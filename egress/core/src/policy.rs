//! The ceiling: which servers may be dialled, whose connections are taken, how many and for how long.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use crate::exit::Server;

/// How many connections at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    total: u32,
    per_exit: u32,
    per_peer: u32,
}

/// Numbers that are no [`Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("1 <= per_peer <= per_exit <= total <= {max}", max = Limits::TOTAL_MAX)]
pub struct InvalidLimits;

impl Limits {
    /// Most connections that may be asked for: each takes two descriptors.
    pub const TOTAL_MAX: u32 = 200_000;

    /// In all, through one exit, and of one peer through one exit.
    ///
    /// # Errors
    /// [`InvalidLimits`] when one is zero or greater than that which holds it.
    pub fn try_new(total: u32, per_exit: u32, per_peer: u32) -> Result<Self, InvalidLimits> {
        if per_peer >= 1 && per_peer <= per_exit && per_exit <= total && total <= Self::TOTAL_MAX {
            Ok(Limits {
                total,
                per_exit,
                per_peer,
            })
        } else {
            Err(InvalidLimits)
        }
    }

    /// In all.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// Through one exit.
    pub fn per_exit(&self) -> u32 {
        self.per_exit
    }

    /// What each of `exits` has for itself, whatever the others do: half of the total is dealt out, to one exit more than there are,
    /// so that the next one finds its share free too. At least 1, at most what one exit may have.
    pub fn guaranteed(&self, exits: usize) -> u32 {
        let shares = u32::try_from(exits).unwrap_or(u32::MAX).saturating_add(1);
        (self.total / 2 / shares).clamp(1, self.per_exit)
    }

    /// What is lent to whichever of `exits` asks first, beyond what is [guaranteed](Limits::guaranteed).
    pub fn lendable(&self, exits: usize) -> u32 {
        let shares = u32::try_from(exits).unwrap_or(u32::MAX).saturating_add(1);
        let dealt = self.guaranteed(exits).saturating_mul(shares);
        self.total.saturating_sub(dealt)
    }

    /// The same limits with at most `total` connections in all; None: not one is left.
    #[must_use]
    pub fn within(self, total: u32) -> Option<Self> {
        let total = self.total.min(total);
        let (per_exit, per_peer) = (self.per_exit.min(total), self.per_peer.min(total));
        Limits::try_new(total, per_exit, per_peer).ok()
    }

    /// What one peer may have through one exit.
    pub fn per_peer(&self) -> u32 {
        self.per_peer
    }
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the exit's server has taken the connection.
    pub connect: Duration,
    /// From there until the way to the destination is open.
    pub handshake: Duration,
    /// Without a byte in either direction.
    pub idle: Duration,
}

/// Which addresses have to do with egress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Whose connections are taken.
    pub peers: Vec<IpNet>,
    /// Where servers of exits may be.
    pub servers: Vec<IpNet>,
    /// Servers on this machine's loopback, each by address and port: everything else there is out of reach.
    pub local_servers: Vec<SocketAddr>,
}

/// Why a server is not dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutOfReach {
    /// No prefix holds it.
    #[error("lies outside of `servers` in egress.toml")]
    Server,
    /// On this machine and not listed.
    #[error("is on this machine and not among `local_servers` in egress.toml")]
    Local,
}

impl Reach {
    /// Whether connections of `peer` are taken.
    pub fn takes(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.peers.iter().any(|net| net.contains(&peer))
    }

    /// Whether `server` may be dialled.
    ///
    /// # Errors
    /// [`OutOfReach`] names the list that it is missing from.
    pub fn permits(&self, server: Server) -> Result<(), OutOfReach> {
        let address = server.address();
        if address.ip().is_loopback() {
            let listed = self.local_servers.contains(&address);
            return listed.then_some(()).ok_or(OutOfReach::Local);
        }
        let listed = self.servers.iter().any(|net| net.contains(&address.ip()));
        listed.then_some(()).ok_or(OutOfReach::Server)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn limits_hold_each_other() {
        assert!(Limits::try_new(10, 10, 10).is_ok());
        for (total, per_exit, per_peer) in [(10, 11, 1), (10, 5, 6), (10, 5, 0), (0, 0, 0), (200_001, 1, 1)] {
            assert_eq!(Limits::try_new(total, per_exit, per_peer), Err(InvalidLimits));
        }
    }

    #[test]
    fn half_is_dealt_out_and_the_rest_is_lent() {
        let limits = Limits::try_new(1000, 400, 10).unwrap();
        assert_eq!(
            [0, 1, 2, 3, 9].map(|exits| (limits.guaranteed(exits), limits.lendable(exits))),
            [(400, 600), (250, 500), (166, 502), (125, 500), (50, 500)]
        );
        for exits in 0..=100 {
            let dealt = limits.guaranteed(exits) * (exits as u32 + 1);
            assert!(dealt + limits.lendable(exits) <= limits.total());
        }
        let few = Limits::try_new(4, 4, 4).unwrap();
        assert_eq!((few.guaranteed(100), few.lendable(100)), (1, 0));
    }

    #[test]
    fn fewer_in_all_are_fewer_of_each() {
        let limits = Limits::try_new(100, 60, 20).unwrap();
        assert_eq!(limits.within(200), Some(limits));
        assert_eq!(limits.within(40), Limits::try_new(40, 40, 20).ok());
        assert_eq!(limits.within(0), None);
    }

    #[test]
    fn loopback_is_reached_by_exact_address_alone() {
        let reach = Reach {
            peers: vec!["10.0.0.0/8".parse().unwrap()],
            servers: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
            local_servers: vec!["127.0.0.1:9050".parse().unwrap()],
        };
        let permits = |text: &str| reach.permits(Server::try_new(text.parse().unwrap()).unwrap());
        assert_eq!(permits("127.0.0.1:9050"), Ok(()));
        assert_eq!(permits("[::ffff:127.0.0.1]:9050"), Ok(()));
        for local in [
            "127.0.0.1:9051",
            "127.0.0.2:9050",
            "[::1]:9050",
            "[::ffff:127.0.0.1]:22",
        ] {
            assert_eq!(permits(local), Err(OutOfReach::Local), "{local}");
        }
        assert_eq!(permits("192.0.2.1:9051"), Ok(()));
        let narrow = Reach {
            servers: vec!["192.0.2.0/24".parse().unwrap()],
            ..reach.clone()
        };
        assert_eq!(
            narrow.permits(Server::try_new("192.0.3.1:1".parse().unwrap()).unwrap()),
            Err(OutOfReach::Server)
        );
        assert!(reach.takes("10.1.2.3".parse().unwrap()) && reach.takes("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!reach.takes("192.168.1.1".parse().unwrap()) && !reach.takes("fd00::1".parse().unwrap()));
    }
}
