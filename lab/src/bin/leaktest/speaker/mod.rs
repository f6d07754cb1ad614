//! A device that speaks without a pause, whatever becomes of it: new flows and long-lived ones, both families, TCP, UDP, ICMP and
//! questions to the cell's resolver and to a foreign one.

mod asker;
mod flow;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cell_lab::netns::Namespace;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::key::{Key, Meant, Protocol, Tally};
use crate::said::{Said, letter};
use asker::Asker;
use flow::{Long, Says, Young, any};

/// Where targets listen.
pub const PORT: u16 = 7000;
/// Between two rounds of new flows of a device.
pub const ROUND: Duration = Duration::from_millis(50);
/// And of a service: there are as many, and the machine has other things to do.
pub const ROUND_OF_SERVICES: Duration = Duration::from_millis(150);
/// How many new TCP flows of a family may be without an answer: what an exit is slow to open is not buried under more of it.
const YOUNG: usize = 8;
/// How many long-lived flows of exits before the last one are gone on with, of each family.
const KEPT: usize = 4;
/// A device's mouth, and what others may know of it.
pub struct Speaker<'a> {
    namespace: &'a Namespace,
    number: usize,
    pause: Duration,
    /// Place in [`Meant::all`] of the exit that the device is assigned to.
    meant: AtomicUsize,
    sent: [AtomicU64; Key::COUNT],
}

impl<'a> Speaker<'a> {
    /// Says nothing yet; begins a round each `pause`. Each has a number of its own, by which [`crate::ear::Ear`] knows it.
    pub fn new(namespace: &'a Namespace, number: usize, meant: Meant, pause: Duration) -> Self {
        let speaker = Speaker {
            namespace,
            number,
            pause,
            meant: AtomicUsize::new(0),
            sent: std::array::from_fn(|_| AtomicU64::new(0)),
        };
        speaker.assign(meant);
        speaker
    }

    /// Flows that are opened from now on are meant for this exit.
    pub fn assign(&self, meant: Meant) {
        let place = Meant::all().position(|one| one == meant).unwrap_or_default();
        self.meant.store(place, Ordering::Relaxed);
    }

    /// What was sent so far: packets, of TCP attempts to open a flow.
    pub fn sent(&self) -> Tally {
        Tally(std::array::from_fn(|place| {
            self.sent[place].load(Ordering::Relaxed)
        }))
    }

    /// Speaks until told to stop.
    ///
    /// # Errors
    /// When the namespace gives no sockets.
    pub fn run(&self, stop: &AtomicBool) -> Result<()> {
        self.namespace.inside(|| {
            let mut families = [Family::new(self, false)?, Family::new(self, true)?];
            let mut next = Instant::now();
            let mut round: u16 = 0;
            while !stop.load(Ordering::Relaxed) {
                let place = self.meant.load(Ordering::Relaxed);
                let meant = Meant::all().nth(place).context("an exit of ours")?;
                round = round.wrapping_add(1);
                for family in &mut families {
                    family.round(meant, round);
                }
                next = (next + self.pause).max(Instant::now());
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            Ok(())
        })?
    }

    fn note(&self, meant: Meant, protocol: Protocol, v6: bool) {
        let key = Key { meant, protocol, v6 };
        self.sent[key.place()].fetch_add(1, Ordering::Relaxed);
    }
}

struct Family<'s, 'a> {
    speaker: &'s Speaker<'a>,
    v6: bool,
    raw: UdpSocket,
    young: Vec<Young>,
    long: VecDeque<Long>,
    asker: Asker,
}

impl<'s, 'a> Family<'s, 'a> {
    fn new(speaker: &'s Speaker<'a>, v6: bool) -> Result<Self> {
        let (family, protocol) = if v6 {
            (AddressFamily::Inet6, SockProtocol::IcmpV6)
        } else {
            (AddressFamily::Inet, SockProtocol::Icmp)
        };
        let raw = socket(family, SockType::Raw, SockFlag::SOCK_NONBLOCK, protocol)?;
        Ok(Family {
            speaker,
            v6,
            raw: raw.into(),
            young: Vec::new(),
            long: VecDeque::new(),
            asker: Asker::new(letter(speaker.number), v6),
        })
    }

    /// That something is refused is what is wanted here as often as not.
    fn round(&mut self, meant: Meant, round: u16) {
        let [v4, v6] = meant.target().each();
        let to = if self.v6 { v6 } else { v4 };
        let note = |protocol, sent: bool| {
            if sent {
                self.speaker.note(meant, protocol, self.v6);
            }
        };
        let number = self.speaker.number;
        let text = Said::text(number, self.v6);
        let datagram =
            UdpSocket::bind((any(self.v6), 0)).and_then(|socket| socket.send_to(text.as_bytes(), (to, PORT)));
        note(Protocol::Udp, datagram.is_ok());
        let ping = self.raw.send_to(
            &echo_request(self.v6, round, &Said::text(number, self.v6)),
            (to, 0),
        );
        note(Protocol::Icmp, ping.is_ok());
        // What was answered is of no interest, and must not fill the socket.
        while self.raw.recv(&mut [0; 256]).is_ok() {}
        self.young.retain_mut(Young::goes_on);
        if self.young.len() < YOUNG {
            let flow = Young::open(SocketAddr::new(to, PORT), Says::Speaker(number, self.v6));
            note(Protocol::Tcp, flow.is_some());
            self.young.extend(flow);
        }
        if let Some(asked) = self.asker.round(meant, to) {
            note(Protocol::Dns, asked);
        }
        self.go_on(meant, to);
    }

    fn go_on(&mut self, meant: Meant, to: IpAddr) {
        if self.long.back().is_none_or(|long| long.meant != meant) {
            let to = SocketAddr::new(to, PORT);
            self.long.extend(Long::open(meant, to, self.speaker.number).ok());
            while self.long.len() > KEPT {
                self.long.pop_front();
            }
        }
        let last = self.long.len().saturating_sub(1);
        for (place, long) in self.long.iter_mut().enumerate() {
            long.go_on((place == last).then_some(SocketAddr::new(to, PORT)));
        }
    }
}

/// RFC 792 and RFC 4443; the kernel adds the second's checksum.
fn echo_request(v6: bool, number: u16, said: &str) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    let mut packet = vec![if v6 { 128 } else { 8 }, 0, 0, 0, 0x4c, 0x4b, high, low];
    packet.extend(said.bytes());
    if !v6 {
        let words = packet
            .chunks(2)
            .map(|word| u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)])));
        let sum: u32 = words.sum();
        let folded = fold(sum);
        let [high, low] = (!u16::try_from(folded).unwrap_or(u16::MAX)).to_be_bytes();
        (packet[2], packet[3]) = (high, low);
    }
    packet
}

/// In ones' complement: the second time for what the first one carries over.
fn fold(sum: u32) -> u32 {
    let once = (sum & 0xffff) + (sum >> 16);
    (once & 0xffff) + (once >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_adds_up() {
        for said in ["", "a4100;", "a41000;"] {
            let packet = echo_request(false, 0xfff0, said);
            let words = packet
                .chunks(2)
                .map(|word| u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)])));
            assert_eq!(fold(words.sum()), 0xffff, "{said}");
        }
    }
}
