//! One question to the cell: may these packets pass? Answered by what comes back and by counters on both sides of it.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use ipnet::IpNet;

use crate::counter::{Counter, Protocol, Spec, host};
use crate::netns::Namespace;
use crate::probe::{ping, tcp_echo, udp_echo};

const TRIES: u32 = 3;
const DEADLINE: Duration = Duration::from_millis(800);
/// ping(8) waits two round trips for the last answer: on a busy machine the first ones must tell how long that is.
const INTERVAL: Duration = Duration::from_millis(250);

/// What the policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Everything comes through and is answered.
    Passes,
    /// What reaches the cell ends there.
    Denied,
}

/// The way of a packet: from a device into the cell, and out of it to a target.
#[derive(Debug, Clone, Copy)]
pub struct Passage<'a> {
    /// Where it starts.
    pub from: &'a Namespace,
    /// The device's VPN address.
    pub source: std::net::IpAddr,
    /// Where the cell is.
    pub cell: &'a Namespace,
    /// Where the target is.
    pub at: &'a Namespace,
    /// The target: an echo server.
    pub to: SocketAddr,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Probes that were answered.
    pub answered: u32,
    /// Probes.
    pub tried: u32,
    /// Packets that came to the cell out of the tunnel.
    pub at_cell: u64,
    /// Packets that came to the target.
    pub at_target: u64,
}

impl Outcome {
    /// Whether this is what the policy says. Silence alone is no denial: the packets must have come to the cell and
    /// must not have left it.
    pub fn is(self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Passes => self.answered == self.tried && self.at_cell > 0 && self.at_target > 0,
            Verdict::Denied => self.answered == 0 && self.at_cell > 0 && self.at_target == 0,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome {
            answered,
            tried,
            at_cell,
            at_target,
        } = self;
        write!(
            f,
            "{answered} of {tried} answered; packets: {at_cell} at the cell, {at_target} at the target"
        )
    }
}

impl Passage<'_> {
    /// Tries it by TCP, UDP or ping.
    ///
    /// # Errors
    /// When a counter or a probe cannot be set up.
    pub fn attempt(&self, protocol: Protocol) -> Result<Outcome> {
        let target: IpNet = host(self.to.ip());
        let at_cell = Counter::install(self.cell, Spec::to(target, protocol).and_from(host(self.source)))?;
        let at_target = Counter::install(self.at, Spec::to(target, protocol))?;
        let (answered, tried) = match protocol {
            Protocol::Tcp(_) => (u32::from(tcp_echo(self.from, self.to, DEADLINE)?), 1),
            Protocol::Udp(_) => (udp_echo(self.from, self.to, TRIES, DEADLINE)?, TRIES),
            Protocol::Ping | Protocol::Any => {
                let pings = ping(self.from, self.to.ip(), TRIES, INTERVAL, DEADLINE)?;
                (pings.received, pings.sent)
            }
        };
        Ok(Outcome {
            answered,
            tried,
            at_cell: at_cell.packets()?,
            at_target: at_target.packets()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_alone_is_no_denial() {
        let silent = Outcome {
            answered: 0,
            tried: 3,
            at_cell: 0,
            at_target: 0,
        };
        assert!(!silent.is(Verdict::Denied), "the packets never came to the cell");
        assert!(Outcome { at_cell: 3, ..silent }.is(Verdict::Denied));
        assert!(
            !Outcome {
                at_cell: 3,
                at_target: 1,
                ..silent
            }
            .is(Verdict::Denied),
            "only the answer was lost"
        );
        let passed = Outcome {
            answered: 3,
            at_cell: 3,
            at_target: 3,
            ..silent
        };
        assert!(passed.is(Verdict::Passes) && !passed.is(Verdict::Denied));
        assert!(
            !Outcome {
                answered: 2,
                ..passed
            }
            .is(Verdict::Passes)
        );
    }
}
