//! Questions of a device: by UDP and TCP, of the cell's resolver and of a foreign one. Each is about a name that nobody has asked
//! for before, so that no answer is known already.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use cell_lab::resolver;

use super::flow::{Says, Young, any};
use crate::key::{Key, Meant, Protocol};
use crate::said::now;

const PORT: u16 = 53;
/// The cell's resolver: its own address in the VPN (`lab`).
const CELL: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(10, 87, 0, 1),
    Ipv6Addr::new(0xfd87, 0, 0, 0, 0, 0, 0, 1),
);
/// A question every so many rounds: the relay asks each one through the exit, which opens a connection for it.
const EVERY: u32 = 4;
/// How many sockets are kept for answers that may come.
const SOCKETS: usize = 16;
/// How many questions over TCP may be without an answer.
const YOUNG: usize = 4;

/// Asks in one family.
pub struct Asker {
    letter: char,
    v6: bool,
    round: u32,
    sockets: VecDeque<UdpSocket>,
    young: Vec<Young>,
}

impl Asker {
    /// Of the device that is known by this letter.
    pub fn new(letter: char, v6: bool) -> Self {
        Asker {
            letter,
            v6,
            round: 0,
            sockets: VecDeque::new(),
            young: Vec::new(),
        }
    }

    /// Asks, if it is time to: the cell and the foreign resolver by turns, by UDP and by TCP. Answers what was sent.
    pub fn round(&mut self, meant: Meant, foreign: IpAddr) -> Option<bool> {
        self.young.retain_mut(Young::goes_on);
        self.round = self.round.wrapping_add(1);
        if !self.round.is_multiple_of(EVERY) {
            return None;
        }
        let turn = self.round / EVERY;
        let own = if self.v6 { CELL.1.into() } else { CELL.0.into() };
        let to = SocketAddr::new(if turn.is_multiple_of(2) { own } else { foreign }, PORT);
        let protocol = Protocol::Dns;
        let key = Key {
            meant,
            protocol,
            v6: self.v6,
        };
        let asked = u64::try_from(now().as_micros()).unwrap_or(u64::MAX);
        let name = key.name(self.letter, asked);
        Some(if turn % 4 < 2 {
            self.by_udp(to, &name)
        } else {
            self.by_tcp(to, &name)
        })
    }

    fn by_udp(&mut self, to: SocketAddr, name: &str) -> bool {
        let Ok(question) = resolver::question(self.id(), name) else {
            return false;
        };
        let Ok(socket) = UdpSocket::bind((any(self.v6), 0)) else {
            return false;
        };
        let sent = socket.send_to(&question, to).is_ok();
        self.sockets.push_back(socket);
        while self.sockets.len() > SOCKETS {
            self.sockets.pop_front();
        }
        sent
    }

    fn by_tcp(&mut self, to: SocketAddr, name: &str) -> bool {
        if self.young.len() >= YOUNG {
            return false;
        }
        let question = resolver::framed_question(self.id(), name).ok();
        let flow = question.and_then(|question| Young::open(to, Says::Question(question)));
        let sent = flow.is_some();
        self.young.extend(flow);
        sent
    }

    fn id(&self) -> u16 {
        let [.., high, low] = self.round.to_be_bytes();
        u16::from_be_bytes([high, low])
    }
}
