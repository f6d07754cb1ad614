//! What may happen to a cell whose peers stay bound to exits, and how often.

use std::fmt;

use cell_lab::random::Random;
use nix::sys::signal::Signal;

use crate::far::Kind;

/// One thing that happens. Peers are numbers from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// A connection is created, and a peer is given it; of WireGuard one that cannot work.
    Create(Kind, usize),
    /// The peers of what was created are given the first of that type, and it is deleted.
    Delete,
    /// The deletion of an exit that is in use is asked for, and refused.
    DeleteUsed(Kind),
    /// A peer is given an exit.
    Assign(usize, Kind),
    /// Two peers exchange their exits.
    Swap(usize, usize),
    /// The far end dies; or the one that is dead comes back.
    FarEnd(Kind),
    /// The link of the far end loses its carrier; or the one that lost it has it again.
    FarLink(Kind),
    /// The exit's interface is set down and up by hand.
    Interface,
    /// The exit's interface is deleted by hand.
    NoInterface,
    /// The cell's uplink loses its carrier for a moment.
    Uplink,
    /// `nft flush ruleset`.
    Flush,
    /// The rules of `ip-rule(8)` for exits are deleted by hand.
    NoRules,
    /// The routes of exits are deleted by hand.
    NoRoutes,
    /// A rule that leads peers to the table `main` before all others is there for a moment.
    ForeignRule,
    /// conntrack forgets all flows.
    Conntrack,
    /// A daemon ends by this signal and is started anew.
    Daemon(&'static str, Signal),
    /// The cell's own `wg0` is deleted by hand: the sessions of all devices end.
    NoTunnel,
    /// netd is killed, and rules and routes are deleted before it is back.
    Headless,
}

impl Transition {
    /// Names of all kinds, in the order of [`Transition::kind`].
    pub const KINDS: [&'static str; 17] = [
        "connection created and assigned",
        "connection deleted",
        "deletion of a connection in use refused (409)",
        "peer assigned",
        "peers swapped",
        "far end down or up",
        "link of a far end down or up",
        "interface of an exit flaps",
        "interface of an exit deleted",
        "uplink flaps",
        "nft flush ruleset",
        "rules deleted by hand",
        "routes deleted by hand",
        "foreign rule by hand",
        "conntrack flushed",
        "netd killed, rules and routes gone before it is back",
        "wg0 deleted by hand",
    ];

    /// What it is, for counting.
    pub fn kind(self) -> String {
        let place = match self {
            Transition::Create(..) => 0,
            Transition::Delete => 1,
            Transition::DeleteUsed(_) => 2,
            Transition::Assign(..) => 3,
            Transition::Swap(..) => 4,
            Transition::FarEnd(_) => 5,
            Transition::FarLink(_) => 6,
            Transition::Interface => 7,
            Transition::NoInterface => 8,
            Transition::Uplink => 9,
            Transition::Flush => 10,
            Transition::NoRules => 11,
            Transition::NoRoutes => 12,
            Transition::ForeignRule => 13,
            Transition::Conntrack => 14,
            Transition::Headless => 15,
            Transition::NoTunnel => 16,
            Transition::Daemon(name, signal) => return format!("{signal} of {name}"),
        };
        Transition::KINDS[place].to_owned()
    }

    /// Draws one. `rarely`: it is the turn of what all devices' sessions end with; `has_wg`: there is a cell-wg for it.
    pub fn draw(random: &mut Random, peers: usize, rarely: bool, has_wg: bool) -> Self {
        let kind = Kind::ALL[random.place(Kind::ALL.len())];
        let (one, other) = (random.place(peers), random.place(peers));
        let hard = random.below(2) == 0;
        let signal = if hard { Signal::SIGKILL } else { Signal::SIGTERM };
        if rarely {
            let tunnel = random.below(2) == 0 || !has_wg;
            return if tunnel {
                Transition::NoTunnel
            } else {
                Transition::Daemon("wg", signal)
            };
        }
        match random.below(100) {
            0..5 => Transition::Create(kind, one),
            5..9 => Transition::Delete,
            9..13 => Transition::DeleteUsed(kind),
            13..27 => Transition::Assign(one, kind),
            27..35 => Transition::Swap(one, other),
            35..44 => Transition::FarEnd(kind),
            44..53 => Transition::FarLink(kind),
            53..58 => Transition::Interface,
            58..60 => Transition::NoInterface,
            60..64 => Transition::Uplink,
            64..70 => Transition::Flush,
            70..75 => Transition::NoRules,
            75..80 => Transition::NoRoutes,
            80..84 => Transition::ForeignRule,
            84..88 => Transition::Conntrack,
            88..91 => Transition::Daemon("netd", signal),
            91..94 => Transition::Daemon("egress", signal),
            94..96 => Transition::Daemon("api", signal),
            96..98 => Transition::Daemon("vaultd", signal),
            _ => Transition::Headless,
        }
    }
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
