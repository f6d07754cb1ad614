//! One question to the cell: may these packets pass? Answered by what comes back and by counters on both sides of it.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
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
    /// Packets that netd's policy counted as dropped meanwhile; `None` where there is no netd.
    pub dropped: Option<u64>,
}

impl Outcome {
    /// Whether this is what the policy says. Silence alone is no denial: the packets must have come to the cell, must not
    /// have left it, and netd must have counted each of them as dropped.
    pub fn is(self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Passes => self.answered == self.tried && self.at_cell > 0 && self.at_target > 0,
            Verdict::Denied => {
                let counted = self.dropped.is_none_or(|dropped| dropped >= self.at_cell);
                self.answered == 0 && self.at_cell > 0 && self.at_target == 0 && counted
            }
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
            dropped,
        } = self;
        write!(
            f,
            "{answered} of {tried} answered; packets: {at_cell} at the cell, {at_target} at the target"
        )?;
        match dropped {
            Some(dropped) => write!(f, ", {dropped} dropped by netd's count"),
            None => Ok(()),
        }
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
        let before = dropped(self.cell)?;
        let (answered, tried) = match protocol {
            Protocol::Tcp(_) => (u32::from(tcp_echo(self.from, self.to, DEADLINE)?), 1),
            Protocol::Udp(_) => (udp_echo(self.from, self.to, TRIES, DEADLINE)?, TRIES),
            Protocol::Ping | Protocol::Any => {
                let pings = ping(self.from, self.to.ip(), TRIES, INTERVAL, DEADLINE)?;
                (pings.received, pings.sent)
            }
        };
        // In this order: a packet is counted where it comes in before it is counted as dropped.
        let at_cell = at_cell.packets()?;
        let now = dropped(self.cell)?;
        Ok(Outcome {
            answered,
            tried,
            at_cell,
            at_target: at_target.packets()?,
            dropped: before.zip(now).map(|(before, now)| now.saturating_sub(before)),
        })
    }
}

/// Packets that netd's policy has dropped, for whatever reason; `None` where there is no netd. Its counters are those that its
/// table has, each named after a reason.
fn dropped(cell: &Namespace) -> Result<Option<u64>> {
    let answer: serde_json::Value = serde_json::from_str(&cell.run("nft", &["-j", "list", "counters"])?)?;
    let objects = answer["nftables"].as_array().context("nft answers no list")?;
    let of_netd = objects
        .iter()
        .map(|object| &object["counter"])
        .filter(|counter| counter["family"] == "inet" && counter["table"] == "cell");
    let packets: Vec<u64> = of_netd
        .filter_map(|counter| counter["packets"].as_u64())
        .collect();
    Ok((!packets.is_empty()).then(|| packets.iter().sum()))
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
            dropped: None,
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
        let counted = |dropped| Outcome {
            at_cell: 3,
            dropped: Some(dropped),
            ..silent
        };
        assert!(counted(3).is(Verdict::Denied));
        assert!(
            !counted(2).is(Verdict::Denied),
            "one was lost otherwise, not dropped by netd"
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
