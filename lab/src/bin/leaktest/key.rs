//! What is told apart: for which type of exit a packet was meant, of what kind it is, and its family. Each type has targets of its
//! own, and each question a name that says the same.

use std::fmt;

use cell_lab::topology::{Both, FAR_HOST};

use crate::kind::Kind;

/// Where all resolvers are, the ISP's and those behind the exits.
pub const RESOLVER: u8 = 53;
/// Of the names that the peer without an exit asks for.
pub const CONTROL: char = 'c';
/// The second letter of a name.
pub const V4: char = '4';
/// See [`V4`].
pub const V6: char = '6';
const ZONE: &str = ".leak.example";

/// A public host beside [`FAR_HOST`].
pub fn far_host(last: u8) -> Both {
    let (mut v4, mut v6) = (FAR_HOST.v4.octets(), FAR_HOST.v6.segments());
    (v4[3], v6[7]) = (last, last.into());
    Both {
        v4: v4.into(),
        v6: v6.into(),
    }
}

/// Of what kind a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP but for port 53.
    Tcp,
    /// UDP but for port 53.
    Udp,
    /// ICMP and ICMPv6.
    Icmp,
    /// Questions: to port 53 by UDP and TCP, whoever asks.
    Dns,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Protocol; 4] = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp, Protocol::Dns];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Icmp => "ICMP",
            Protocol::Dns => "DNS",
        })
    }
}

/// Whose targets a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meant {
    /// A flow that a bound peer opened while it was assigned to an exit of this type.
    For(Kind),
    /// The same of a container of a service.
    Service(Kind),
    /// The peer without an exit.
    Direct,
}

impl Meant {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Meant> {
        let devices = Kind::ALL.into_iter().map(Meant::For);
        let services = Kind::ALL.into_iter().map(Meant::Service);
        devices.chain(services).chain([Meant::Direct])
    }

    /// The letter that begins the names that are asked for.
    pub fn letter(self) -> char {
        match self {
            Meant::For(kind) => kind.letter(),
            Meant::Service(kind) => kind.letter_of_services(),
            Meant::Direct => CONTROL,
        }
    }

    /// The public hosts that are spoken to.
    pub fn target(self) -> Both {
        let last = match self {
            Meant::For(kind) => 20 + kind.place(),
            Meant::Service(kind) => 30 + kind.place(),
            Meant::Direct => return FAR_HOST,
        };
        far_host(last)
    }
}

impl fmt::Display for Meant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Meant::For(kind) => kind.fmt(f),
            Meant::Service(kind) => write!(f, "{kind} of a service"),
            Meant::Direct => f.write_str("no exit"),
        }
    }
}

/// One counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// For whose targets.
    pub meant: Meant,
    /// Of what kind.
    pub protocol: Protocol,
    /// IPv6, else IPv4.
    pub v6: bool,
}

impl Key {
    /// How many there are.
    pub const COUNT: usize = (Kind::ALL.len() * 2 + 1) * Protocol::ALL.len() * 2;

    /// All of them, each at its [`Key::place`].
    pub fn all() -> impl Iterator<Item = Key> {
        Meant::all().flat_map(|meant| {
            Protocol::ALL
                .into_iter()
                .flat_map(move |protocol| [false, true].map(|v6| Key { meant, protocol, v6 }))
        })
    }

    /// Of a name that is asked for: a letter for whom it is meant, and by which family the peer asked.
    pub fn of_name(name: &str) -> Option<Key> {
        let mut letters = name.strip_suffix(ZONE)?.chars();
        let letter = letters.next()?;
        let meant = Meant::all().find(|meant| meant.letter() == letter)?;
        let v6 = match letters.next()? {
            V4 => false,
            V6 => true,
            _ => return None,
        };
        let protocol = Protocol::Dns;
        Some(Key { meant, protocol, v6 })
    }

    /// The name that its questions are about: of this asker the question of this number (when it is asked, in microseconds), so that
    /// no answer to it can be known already.
    pub fn name(self, asker: char, number: u64) -> String {
        let family = if self.v6 { V6 } else { V4 };
        format!("{}{family}{asker}{number}{ZONE}", self.meant.letter())
    }

    /// Whether such packets are carried at all: what the exit can, and of services what is IPv4.
    pub fn is_carried(self) -> bool {
        match self.meant {
            Meant::For(kind) => kind.carries(self.protocol),
            Meant::Service(kind) => !self.v6 && kind.carries(self.protocol),
            Meant::Direct => true,
        }
    }

    /// Its place in a [`Tally`].
    pub fn place(self) -> usize {
        let meant = match self.meant {
            Meant::For(kind) => kind.index(),
            Meant::Service(kind) => Kind::ALL.len() + kind.index(),
            Meant::Direct => Kind::ALL.len() * 2,
        };
        (meant * Protocol::ALL.len() + self.protocol as usize) * 2 + usize::from(self.v6)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.v6 { "IPv6" } else { "IPv4" };
        write!(f, "{}, {}, {family}", self.meant, self.protocol)
    }
}

/// Packets by counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally(pub [u64; Key::COUNT]);

impl Tally {
    /// Of one counter.
    pub fn of(&self, key: Key) -> u64 {
        self.0[key.place()]
    }

    /// What came since an earlier one.
    pub fn since(&self, earlier: &Tally) -> Tally {
        Tally(std::array::from_fn(|place| {
            self.0[place].saturating_sub(earlier.0[place])
        }))
    }

    /// The counters of bound peers and services that are not 0.
    pub fn bound(&self) -> Vec<(Key, u64)> {
        Key::all()
            .filter(|key| key.meant != Meant::Direct)
            .map(|key| (key, self.of(key)))
            .filter(|(_, packets)| *packets > 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_has_a_place_of_its_own() {
        let places: Vec<usize> = Key::all().map(Key::place).collect();
        assert_eq!(places, (0..Key::COUNT).collect::<Vec<_>>());
    }

    #[test]
    fn a_name_says_who_asked_for_it() {
        for key in Key::all().filter(|key| key.protocol == Protocol::Dns) {
            assert_eq!(Key::of_name(&key.name('b', 17)), Some(key));
        }
        for other in [
            "",
            "example",
            "x4b1.leak.example",
            "w5b1.leak.example",
            "w4b1.example",
        ] {
            assert_eq!(Key::of_name(other), None, "{other}");
        }
    }

    #[test]
    fn what_the_control_sends_is_no_leak() {
        let mut tally = Tally([0; Key::COUNT]);
        let key = |meant| Key {
            meant,
            protocol: Protocol::Dns,
            v6: true,
        };
        tally.0[key(Meant::Direct).place()] = 7;
        assert_eq!(tally.bound(), []);
        let leaked = key(Meant::For(Kind::Ssh));
        tally.0[leaked.place()] = 3;
        assert_eq!(tally.bound(), [(leaked, 3)]);
    }
}
