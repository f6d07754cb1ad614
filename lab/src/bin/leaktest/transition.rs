//! What may happen to a cell whose peers and services stay bound to exits, and how often.

use std::fmt;

use cell_lab::random::Random;
use nix::sys::signal::Signal;

use crate::kind::Kind;

/// Who is bound to exits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Peers.
    Devices,
    /// Containers of services.
    Services,
}

/// One thing that happens. Peers are numbers from 0, and so are services, of which there are as many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// A connection is created, and a peer is given it; of WireGuard one that cannot work.
    Create(Kind, usize),
    /// The peers of what was created are given the first of that type, and it is deleted.
    Delete,
    /// The deletion of an exit that is in use is asked for, and refused.
    DeleteUsed(Kind),
    /// A peer is given an exit: the first from this one on that has another.
    Assign(usize, Kind),
    /// Two peers exchange their exits: the first from this one on that has one of another type, and one that has one of this type.
    Swap(usize, Kind),
    /// A service is given an exit, as a peer is.
    Service(usize, Kind),
    /// Two services exchange their exits, found as [`Transition::Swap`] finds peers.
    SwapServices(usize, Kind),
    /// The bridge of a service is set down and up by hand.
    Bridge(usize),
    /// Another exit stands in for the peer's while that does not work; none: nothing does any more.
    Fallback(usize, Option<Kind>),
    /// The far end dies; or the one that is dead comes back.
    FarEnd(Kind),
    /// The link of the far end loses its carrier; or the one that lost it has it again.
    FarLink(Kind),
    /// The exit's interface is set down and up by hand.
    Interface(Kind),
    /// The exit's interface is deleted by hand.
    NoInterface(Kind),
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
    /// openvpn(8) itself ends by this signal, of the exit of that type; cell-openvpn goes on.
    Program(Signal),
    /// The cell's own `wg0` is deleted by hand: the sessions of all devices end.
    NoTunnel,
    /// netd is killed, and rules and routes are deleted before it is back.
    Headless,
    /// netd is killed and stays dead for a moment, in which `nft flush ruleset` is done.
    FlushHeadless,
    /// The Docker daemon beside the cell ends by this signal and is started anew.
    Docker(Signal),
}

impl Transition {
    /// Names of all kinds, in the order of [`Transition::kind`].
    pub const KINDS: [&'static str; 22] = [
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
        "stand-in of a peer changed",
        "netd killed, nft flush ruleset before it is back",
        "service assigned",
        "services swapped",
        "bridge of a service flaps",
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
            Transition::Interface(_) => 7,
            Transition::NoInterface(_) => 8,
            Transition::Uplink => 9,
            Transition::Flush => 10,
            Transition::NoRules => 11,
            Transition::NoRoutes => 12,
            Transition::ForeignRule => 13,
            Transition::Conntrack => 14,
            Transition::Headless => 15,
            Transition::NoTunnel => 16,
            Transition::Fallback(..) => 17,
            Transition::FlushHeadless => 18,
            Transition::Service(..) => 19,
            Transition::SwapServices(..) => 20,
            Transition::Bridge(_) => 21,
            Transition::Docker(signal) => return format!("{signal} of dockerd"),
            Transition::Program(signal) => return format!("{signal} of openvpn(8) itself"),
            Transition::Daemon(name, signal) => return format!("{signal} of {name}"),
        };
        Transition::KINDS[place].to_owned()
    }

    /// The exit type that it is asked of, where it has one.
    pub fn exit_type(self) -> Option<Kind> {
        match self {
            Transition::Create(kind, _)
            | Transition::DeleteUsed(kind)
            | Transition::Assign(_, kind)
            | Transition::Swap(_, kind)
            | Transition::Service(_, kind)
            | Transition::SwapServices(_, kind)
            | Transition::FarEnd(kind)
            | Transition::FarLink(kind)
            | Transition::Interface(kind)
            | Transition::NoInterface(kind) => Some(kind),
            Transition::Fallback(_, kind) => kind,
            _ => None,
        }
    }

    /// The names of kinds that each exit type must meet, and of which.
    pub fn each_type_meets() -> impl Iterator<Item = (&'static str, &'static [Kind])> {
        let of_all =
            [0, 1, 2, 3, 4, 5, 6, 17, 19, 20].map(|place| (Transition::KINDS[place], &Kind::ALL[..]));
        let of_tunnels = [7, 8].map(|place| (Transition::KINDS[place], &Kind::TUNNELS[..]));
        let of_openvpn = ["SIGKILL of openvpn(8) itself", "SIGTERM of openvpn(8) itself"];
        let of_openvpn = of_openvpn.map(|name| (name, &[Kind::Openvpn][..]));
        of_all.into_iter().chain(of_tunnels).chain(of_openvpn)
    }

    /// Who is bound to the exits that it is about.
    pub fn whose(self) -> Whose {
        match self {
            Transition::Service(..) | Transition::SwapServices(..) | Transition::Bridge(_) => Whose::Services,
            _ => Whose::Devices,
        }
    }

    /// Whether it happens to the whole machine, whoever uses which exit.
    pub fn is_of_the_machine(self) -> bool {
        matches!(
            self,
            Transition::Uplink
                | Transition::Flush
                | Transition::NoRules
                | Transition::NoRoutes
                | Transition::ForeignRule
                | Transition::Conntrack
                | Transition::Daemon(..)
                | Transition::NoTunnel
                | Transition::Headless
                | Transition::FlushHeadless
                | Transition::Docker(_)
        )
    }

    /// Draws one. `rarely`: it is the turn of what takes long; `has_wg`: there is a cell-wg.
    pub fn draw(random: &mut Random, peers: usize, rarely: bool, has_wg: bool) -> Self {
        let kind = Kind::ALL[random.place(Kind::ALL.len())];
        let tunnel = Kind::TUNNELS[random.place(Kind::TUNNELS.len())];
        let one = random.place(peers);
        let stands_in = (random.below(2) == 0).then_some(kind);
        let hard = random.below(2) == 0;
        let signal = if hard { Signal::SIGKILL } else { Signal::SIGTERM };
        if rarely {
            return match random.below(4) {
                0 | 1 => Transition::Docker(signal),
                2 if has_wg => Transition::Daemon("wg", signal),
                _ => Transition::NoTunnel,
            };
        }
        match random.below(100) {
            0..5 => Transition::Create(kind, one),
            5..9 => Transition::Delete,
            9..12 => Transition::DeleteUsed(kind),
            12..20 => Transition::Assign(one, kind),
            20..25 => Transition::Service(one, kind),
            25..29 => Transition::Swap(one, kind),
            29..31 => Transition::SwapServices(one, kind),
            31..33 => Transition::Bridge(one),
            33..36 => Transition::Fallback(one, stands_in),
            36..44 => Transition::FarEnd(kind),
            44..51 => Transition::FarLink(kind),
            51..55 => Transition::Interface(tunnel),
            55..58 => Transition::NoInterface(tunnel),
            58..61 => Transition::Uplink,
            61..66 => Transition::Flush,
            66..71 => Transition::NoRules,
            71..76 => Transition::NoRoutes,
            76..80 => Transition::ForeignRule,
            80..84 => Transition::Conntrack,
            84..87 => Transition::Daemon("netd", signal),
            87..90 => Transition::Daemon("egress", signal),
            90..92 => Transition::Daemon("api", signal),
            92..94 => Transition::Daemon("vaultd", signal),
            94 => Transition::Daemon("tor", signal),
            95 => Transition::Daemon("openvpn", signal),
            96 => Transition::Program(signal),
            97 => Transition::FlushHeadless,
            _ => Transition::Headless,
        }
    }
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
