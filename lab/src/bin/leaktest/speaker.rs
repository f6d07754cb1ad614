//! A device that speaks without a pause, whatever becomes of it: new flows and long-lived ones, both families, TCP, UDP, ICMP and
//! questions to a public resolver.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cell_lab::netns::Namespace;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, socket};

use crate::isp::{Key, Meant, Protocol, Tally};

/// Ports of the targets.
pub const PORTS: [u16; 2] = [PORT, DNS];
const PORT: u16 = 7000;
const DNS: u16 = 53;
/// Between two rounds of new flows.
const ROUND: Duration = Duration::from_millis(25);
/// How many new TCP flows of a family may be without an answer: what an exit is slow to open is not buried under more of it.
const YOUNG: usize = 8;
/// How long a new TCP flow waits for its answer.
const LIFE: Duration = Duration::from_secs(1);
/// How many long-lived flows of exits before the last one are gone on with, of each family.
const KEPT: usize = 4;
/// "example.com. IN A", id 0x4c4b, recursion desired (RFC 1035, section 4).
const QUESTION: &[u8] =
    b"\x4c\x4b\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01";

/// A device's mouth, and what others may know of it.
pub struct Speaker<'a> {
    namespace: &'a Namespace,
    /// Place in [`Meant::all`] of the exit that the device is assigned to.
    meant: AtomicUsize,
    sent: [AtomicU64; Key::COUNT],
    start: Instant,
    /// Of the last answer to a long-lived flow, microseconds since `start`; 0: none.
    answered: AtomicU64,
}

impl<'a> Speaker<'a> {
    /// Says nothing yet.
    pub fn new(namespace: &'a Namespace, meant: Meant) -> Self {
        let speaker = Speaker {
            namespace,
            meant: AtomicUsize::new(0),
            sent: std::array::from_fn(|_| AtomicU64::new(0)),
            start: Instant::now(),
            answered: AtomicU64::new(0),
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

    /// When a long-lived flow was answered last.
    pub fn last_answer(&self) -> Instant {
        self.start + Duration::from_micros(self.answered.load(Ordering::Relaxed))
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
                next = (next + ROUND).max(Instant::now());
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            Ok(())
        })?
    }

    fn note(&self, meant: Meant, protocol: Protocol, v6: bool) {
        let key = Key { meant, protocol, v6 };
        self.sent[key.place()].fetch_add(1, Ordering::Relaxed);
    }

    fn heard(&self) {
        let micros = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.answered.store(micros, Ordering::Relaxed);
    }
}

/// Flows that were opened while one exit was assigned, and are gone on with.
struct Long {
    meant: Meant,
    tcp: Option<TcpStream>,
    udp: UdpSocket,
}

/// A new TCP flow: it ends with the first answer.
struct Young {
    flow: TcpStream,
    opened: Instant,
    has_spoken: bool,
}

impl Young {
    /// Whether there is something to wait for still.
    fn goes_on(&mut self) -> bool {
        if !self.has_spoken {
            match self.flow.write(b"!") {
                Ok(_) => self.has_spoken = true,
                Err(error) if waits(&error) => {}
                Err(_refused) => return false,
            }
        }
        let read = self.flow.read(&mut [0; 64]);
        read.is_err_and(|error| waits(&error)) && self.opened.elapsed() < LIFE
    }
}

/// Not connected yet, or nothing there yet.
fn waits(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}

struct Family<'s, 'a> {
    speaker: &'s Speaker<'a>,
    v6: bool,
    raw: UdpSocket,
    young: Vec<Young>,
    opened: u16,
    long: VecDeque<Long>,
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
            opened: 0,
            long: VecDeque::new(),
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
        let datagram = |port, text: &[u8]| {
            UdpSocket::bind((any(self.v6), 0)).and_then(|socket| socket.send_to(text, (to, port)))
        };
        note(Protocol::Udp, datagram(PORT, b"leak?").is_ok());
        note(Protocol::Dns, datagram(DNS, QUESTION).is_ok());
        let ping = self.raw.send_to(&echo_request(self.v6, round), (to, 0));
        note(Protocol::Icmp, ping.is_ok());
        // What was answered is of no interest, and must not fill the socket.
        while self.raw.recv(&mut [0; 256]).is_ok() {}
        self.young.retain_mut(Young::goes_on);
        if self.young.len() < YOUNG {
            self.opened = self.opened.wrapping_add(1);
            let (port, protocol) = if self.opened.is_multiple_of(4) {
                (DNS, Protocol::Dns)
            } else {
                (PORT, Protocol::Tcp)
            };
            let flow = begin(SocketAddr::new(to, port));
            note(protocol, flow.is_some());
            self.young.extend(flow.map(|flow| Young {
                flow,
                opened: Instant::now(),
                has_spoken: false,
            }));
        }
        self.go_on(meant, to);
    }

    fn go_on(&mut self, meant: Meant, to: IpAddr) {
        if self.long.back().is_none_or(|long| long.meant != meant) {
            let socket = UdpSocket::bind((any(self.v6), 0)).and_then(|socket| {
                socket.connect((to, PORT))?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            });
            if let Ok(udp) = socket {
                let tcp = None;
                self.long.push_back(Long { meant, tcp, udp });
            }
            while self.long.len() > KEPT {
                self.long.pop_front();
            }
        }
        let last = self.long.len().saturating_sub(1);
        for (place, long) in self.long.iter_mut().enumerate() {
            if long.go_on((place == last).then_some(to)) {
                self.speaker.heard();
            }
        }
    }
}

impl Long {
    /// Sends something, and answers whether something came back. A TCP flow that broke is opened anew if it is the last.
    fn go_on(&mut self, to: Option<IpAddr>) -> bool {
        let _sent = self.udp.send(b"still");
        let mut answered = self.udp.recv(&mut [0; 64]).is_ok();
        while self.udp.recv(&mut [0; 64]).is_ok() {}
        if self.tcp.is_none() {
            self.tcp = to.and_then(|to| begin(SocketAddr::new(to, PORT)));
        }
        let Some(flow) = &mut self.tcp else {
            return answered;
        };
        let written = flow.write(b"!").map(drop);
        let read = match flow.read(&mut [0; 64]) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            other => other,
        };
        answered |= read.is_ok();
        if [written.err(), read.err()]
            .iter()
            .flatten()
            .any(|error| !waits(error))
        {
            self.tcp = None;
        }
        answered
    }
}

fn any(v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    }
}

/// A TCP flow that is being opened.
fn begin(to: SocketAddr) -> Option<TcpStream> {
    let family = if to.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    let flow = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).ok()?;
    match connect(flow.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Some(flow.into()),
        Err(_refused) => None,
    }
}

/// RFC 792 and RFC 4443; the kernel adds the second's checksum.
fn echo_request(v6: bool, number: u16) -> [u8; 8] {
    let [high, low] = number.to_be_bytes();
    let mut packet = [if v6 { 128 } else { 8 }, 0, 0, 0, 0x4c, 0x4b, high, low];
    if !v6 {
        let words = packet
            .chunks_exact(2)
            .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
        let sum: u32 = words.sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let [high, low] = (!u16::try_from(folded).unwrap_or(u16::MAX)).to_be_bytes();
        (packet[2], packet[3]) = (high, low);
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_adds_up() {
        let packet = echo_request(false, 0xfff0);
        let sum: u32 = packet
            .chunks(2)
            .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
            .sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }
}
