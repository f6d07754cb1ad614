//! Who is carried another way after a change, and which flows that concerns (ADR 0049). The policy cuts flows of the way before; those
//! without connections have no end that a sender could notice, and would stay cut for as long as it sends.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::desired::{Delta, Desired, Peer};
use crate::model::Protocol;
use crate::policy::{DNS, is_special};
use crate::redirect::Carrier;

/// Addresses of peers that are carried another way, and by which.
pub type Moved = BTreeMap<IpAddr, Way>;

/// The way of now of an address, as flows tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// What marks its flows to the internet, 0 for the machine's own way. None: what was marked before had the same mark.
    mark: Option<u32>,
    /// The port of the relay that questions over UDP are turned to; none: they are turned nowhere.
    resolver: Option<u16>,
}

/// A flow without connections, as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagrams {
    /// Where its first packet was sent to.
    pub destination: IpAddr,
    /// Its port; none of ICMP.
    pub port: Option<u16>,
    /// Who answers, and from which port: another one where the policy has translated it.
    pub answers: (IpAddr, Option<u16>),
    /// The mark of its exit, of the bits that are for it.
    pub mark: u32,
}

impl Way {
    fn of(desired: &Desired, was: Option<&Carrier>, now: Option<&Carrier>) -> Self {
        let mark = |carrier: Option<&Carrier>| carrier.map_or(0, |carrier| carrier.mark().value());
        let (before, after) = (mark(was), mark(now));
        let turned = desired
            .resolver()
            .find(|(protocol, _)| *protocol == Protocol::Udp);
        let resolver = turned.map(|(_, target)| match now {
            Some(_) => target.of_bound.unwrap_or(target.port),
            None => target.port,
        });
        Way {
            mark: (before != after).then_some(after),
            resolver,
        }
    }

    /// Whether an exit carries it: no exit has the mark 0.
    fn is_bound(&self) -> bool {
        self.mark != Some(0)
    }

    /// Whether a flow goes as it would if it began now. What a peer has with the cell, the machine's neighbours, containers and other
    /// peers is carried by no exit, and goes on; but its questions are turned to the relay, whomever it asks, if it has an exit.
    pub fn is_of(&self, flow: &Datagrams) -> bool {
        let is_question = flow.port == Some(DNS);
        if is_question && flow.answers != (flow.destination, flow.port) {
            return flow.answers.1 == self.resolver;
        }
        if is_special(flow.destination) {
            return !(is_question && self.is_bound() && self.resolver.is_some());
        }
        self.mark == Some(flow.mark)
    }
}

/// Who another exit carries, or the machine's own way, whatever their peers are called.
pub fn rebound(before: &Desired, after: &Desired) -> Moved {
    moved(
        after,
        before.peers().values().map(|peer| &**peer),
        after.peers().values().map(|peer| &**peer),
    )
}

/// The same of some peers of what is desired, which has the same resolver before and after.
pub fn rebound_by(desired: &Desired, delta: &Delta) -> Moved {
    let changes = || delta.changes().values();
    moved(
        desired,
        changes().filter_map(|change| change.before.as_deref()),
        changes().filter_map(|change| change.after.as_deref()),
    )
}

fn moved<'a>(
    desired: &Desired,
    before: impl Iterator<Item = &'a Peer>,
    after: impl Iterator<Item = &'a Peer>,
) -> Moved {
    let was: BTreeMap<IpAddr, Option<&Carrier>> = before.flat_map(exits).collect();
    let moved = |(address, now): (IpAddr, Option<&Carrier>)| {
        let was = was.get(&address).filter(|was| **was != now)?;
        Some((address, Way::of(desired, *was, now)))
    };
    after.flat_map(exits).filter_map(moved).collect()
}

fn exits(peer: &Peer) -> impl Iterator<Item = (IpAddr, Option<&Carrier>)> {
    let addresses = [peer.v4.map(IpAddr::V4), peer.v6.map(IpAddr::V6)];
    addresses
        .into_iter()
        .flatten()
        .map(|address| (address, peer.exit.as_ref()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const OWN: Way = Way {
        mark: Some(0),
        resolver: Some(5300),
    };
    const BOUND: Way = Way {
        mark: Some(0x1010),
        resolver: Some(5301),
    };

    fn to(destination: &str, port: Option<u16>, mark: u32) -> Datagrams {
        let destination = destination.parse().unwrap();
        Datagrams {
            destination,
            port,
            answers: (destination, port),
            mark,
        }
    }

    fn turned(destination: &str, port: u16) -> Datagrams {
        Datagrams {
            answers: ("10.86.255.1".parse().unwrap(), Some(port)),
            ..to(destination, Some(DNS), 0)
        }
    }

    #[test]
    fn flows_to_the_internet_are_told_by_their_mark() {
        for (destination, port) in [
            ("9.9.9.9", Some(443)),
            ("2600::9", Some(51820)),
            ("9.9.9.9", None),
        ] {
            for mark in [0, 0x1010, 0x1020] {
                let flow = to(destination, port, mark);
                assert_eq!(OWN.is_of(&flow), mark == 0, "{flow:?}");
                assert_eq!(BOUND.is_of(&flow), mark == 0x1010, "{flow:?}");
                // Of an exit that has got the mark of the one before.
                let same = Way { mark: None, ..BOUND };
                assert!(!same.is_of(&flow), "{flow:?}");
            }
        }
    }

    #[test]
    fn what_no_exit_carries_goes_on() {
        for destination in ["10.86.0.1", "192.168.1.7", "fd86::2", "172.30.1.2"] {
            for port in [Some(443), None] {
                let flow = to(destination, port, 0);
                assert!(OWN.is_of(&flow) && BOUND.is_of(&flow), "{flow:?}");
            }
            let question = to(destination, Some(DNS), 0);
            assert!(OWN.is_of(&question), "{destination}: nobody turns it");
            assert!(!BOUND.is_of(&question), "{destination}: it was not turned");
            let alone = Way {
                resolver: None,
                ..BOUND
            };
            assert!(
                alone.is_of(&question),
                "{destination}: there is nobody to turn it to"
            );
        }
    }

    #[test]
    fn questions_are_told_by_the_port_they_are_turned_to() {
        for destination in ["10.86.0.1", "192.168.1.7", "9.9.9.9", "2600::9"] {
            for (port, own, bound) in [(5300, true, false), (5301, false, true)] {
                let question = turned(destination, port);
                assert_eq!(OWN.is_of(&question), own, "{question:?}");
                assert_eq!(BOUND.is_of(&question), bound, "{question:?}");
            }
        }
        // Whom a peer was granted by address and port is asked by its exit.
        assert!(BOUND.is_of(&to("9.9.9.9", Some(DNS), 0x1010)));
        assert!(!BOUND.is_of(&to("9.9.9.9", Some(DNS), 0)), "nobody had turned it");
        assert!(OWN.is_of(&to("9.9.9.9", Some(DNS), 0)));
        assert!(!OWN.is_of(&to("9.9.9.9", Some(DNS), 0x1010)));
    }
}
