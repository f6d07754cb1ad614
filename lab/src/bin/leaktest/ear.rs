//! What is heard at a place: when each device was heard last, and what its resolver was asked.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use cell_lab::netns::Namespace;
use cell_lab::probe::{EchoServer, Heard};
use cell_lab::resolver;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::key::{Key, Protocol, RESOLVER, Tally, far_host};
use crate::kind::Kind;
use crate::said::{Said, now};
use crate::speaker::PORT;
use crate::ways::{Place, Ways};

/// Who speaks: a device for each type of exit, one without an exit, and a service for each type.
pub const SPEAKERS: usize = FIRST_SERVICE + Kind::ALL.len();
/// The number of the first service.
pub const FIRST_SERVICE: usize = Kind::ALL.len() + 1;
/// What resolvers answer of every name; nobody goes there.
const SOMEWHERE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(198, 51, 100, 99);

/// Before a socket that failed is read again.
const PAUSE: Duration = Duration::from_millis(10);

/// When a speaker was heard last, by protocol and family; microseconds, 0: never.
#[derive(Debug, Default)]
struct Moments {
    heard: [AtomicU64; Protocol::ALL.len() * 2],
    /// When it said the last of what came.
    said: [AtomicU64; Protocol::ALL.len() * 2],
}

/// One place's.
#[derive(Debug)]
pub struct Ear {
    /// By speaker.
    of: [Moments; SPEAKERS],
    /// By key, of questions alone.
    questions: [AtomicU64; Key::COUNT],
    /// Of a far end: its type, and who may be heard there.
    judge: Option<(Kind, Arc<Ways>)>,
}

impl Ear {
    /// Opens the echo server and the resolver of a place, whose addresses it must have, and hears the echo requests that come. Of a
    /// far end all of it is judged.
    ///
    /// # Errors
    /// When a port is taken.
    pub fn open(namespace: &Namespace, judge: Option<(Kind, Arc<Ways>)>) -> Result<Arc<Self>> {
        let ear = Arc::new(Ear {
            of: std::array::from_fn(|_| Moments::default()),
            questions: std::array::from_fn(|_| AtomicU64::new(0)),
            judge,
        });
        let heard = Arc::clone(&ear);
        EchoServer::hearing(namespace, PORT, move |said| match said {
            Heard::Datagram(bytes) => heard.note(Protocol::Udp, Said::all(bytes)),
            Heard::Stream(bytes) => heard.note(Protocol::Tcp, Said::all(bytes)),
        })?;
        for at in far_host(RESOLVER).each() {
            let asked = Arc::clone(&ear);
            let note = move |name: &str| asked.note_question(name);
            resolver::serve_noting(namespace, (at, 53).into(), SOMEWHERE, note)?;
        }
        for v6 in [false, true] {
            hear_requests(namespace, v6, Arc::clone(&ear))?;
        }
        Ok(ear)
    }

    fn note(&self, protocol: Protocol, all: impl IntoIterator<Item = Said>) {
        for said in all {
            let (of, kind) = (&self.of[said.speaker], kind(protocol, said.v6));
            of.heard[kind].store(micros(now()), Ordering::Relaxed);
            of.said[kind].fetch_max(micros(said.at), Ordering::Relaxed);
            if let Some((exit, ways)) = &self.judge {
                let (exit, v6) = (*exit, said.v6);
                ways.heard(Place { exit, protocol, v6 }, said);
            }
        }
    }

    fn note_question(&self, name: &str) {
        if let Some(key) = Key::of_name(name) {
            self.questions[key.place()].fetch_add(1, Ordering::Relaxed);
        }
        self.note(Protocol::Dns, Said::of_name(name));
    }

    /// How long after `moment` the device was heard last; none: not since then.
    pub fn heard_after(&self, speaker: usize, moment: Duration) -> Option<Duration> {
        last(&self.of[speaker].heard).checked_sub(moment)
    }

    /// How long after `moment` the device said the last of what came; none: nothing since then.
    pub fn said_after(&self, speaker: usize, moment: Duration) -> Option<Duration> {
        last(&self.of[speaker].said).checked_sub(moment)
    }

    /// Whether the speaker was heard since `heard` by this protocol and family, and of what it said since `said`.
    pub fn hears(
        &self,
        speaker: usize,
        (protocol, v6): (Protocol, bool),
        heard: Duration,
        said: Duration,
    ) -> bool {
        let (of, kind) = (&self.of[speaker], kind(protocol, v6));
        let is_since = |at: &AtomicU64, since| at.load(Ordering::Relaxed) >= micros(since);
        is_since(&of.heard[kind], heard) && is_since(&of.said[kind], said)
    }

    /// What its resolver was asked.
    pub fn asked(&self) -> Tally {
        Tally(std::array::from_fn(|place| {
            self.questions[place].load(Ordering::Relaxed)
        }))
    }

    /// Counters of packets, with the questions that its resolver was asked in place of packets to port 53.
    pub fn with_questions(&self, packets: Tally) -> Tally {
        let (mut all, asked) = (packets, self.asked());
        for key in Key::all().filter(|key| key.protocol == Protocol::Dns) {
            all.0[key.place()] = asked.of(key);
        }
        all
    }
}

/// The place of a protocol and family among [`Moments`].
fn kind(protocol: Protocol, v6: bool) -> usize {
    protocol as usize * 2 + usize::from(v6)
}

/// The last of all kinds.
fn last(moments: &[AtomicU64]) -> Duration {
    let all = moments.iter().map(|one| one.load(Ordering::Relaxed));
    Duration::from_micros(all.max().unwrap_or_default())
}

fn micros(moment: Duration) -> u64 {
    u64::try_from(moment.as_micros()).unwrap_or(u64::MAX)
}

/// By a raw socket, which is given each request beside the kernel that answers it (raw(7)); IPv4's with its header.
fn hear_requests(namespace: &Namespace, v6: bool, ear: Arc<Ear>) -> Result<()> {
    let (family, protocol, request) = if v6 {
        (AddressFamily::Inet6, SockProtocol::IcmpV6, 128)
    } else {
        (AddressFamily::Inet, SockProtocol::Icmp, 8)
    };
    let open = || socket(family, SockType::Raw, SockFlag::empty(), protocol);
    let requests = UdpSocket::from(namespace.inside(open)??);
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        loop {
            let Ok(length) = requests.recv(&mut buffer) else {
                std::thread::sleep(PAUSE);
                continue;
            };
            let header = if v6 { 0 } else { usize::from(buffer[0] & 0xf) * 4 };
            if let Some([kind, _, _, _, _, _, _, _, said @ ..]) = buffer[..length].get(header..)
                && *kind == request
            {
                ear.note(Protocol::Icmp, Said::all(said));
            }
        }
    });
    Ok(())
}
