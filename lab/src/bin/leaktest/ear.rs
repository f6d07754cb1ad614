//! What is heard at a place: when each device was heard last, and what its resolver was asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use cell_lab::netns::Namespace;
use cell_lab::probe::{EchoServer, Heard};
use cell_lab::resolver;

use crate::key::{Key, Protocol, RESOLVER, Tally, far_host};
use crate::kind::Kind;
use crate::speaker::PORT;

/// Who speaks: a device for each type of exit, one without an exit, and a service for each type.
pub const SPEAKERS: usize = FIRST_SERVICE + Kind::ALL.len();
/// The number of the first service.
pub const FIRST_SERVICE: usize = Kind::ALL.len() + 1;
/// What resolvers answer of every name; nobody goes there.
const SOMEWHERE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(198, 51, 100, 99);

/// The letter by which a device is known in what it says.
pub fn letter(speaker: usize) -> char {
    ('a'..='z').nth(speaker).unwrap_or('z')
}

/// One place's.
#[derive(Debug)]
pub struct Ear {
    start: Instant,
    /// By device, microseconds since `start`; 0: never.
    last: [AtomicU64; SPEAKERS],
    /// By key, of questions alone.
    questions: [AtomicU64; Key::COUNT],
}

impl Ear {
    /// Opens the echo server and the resolver of a place, whose addresses it must have.
    ///
    /// # Errors
    /// When a port is taken.
    pub fn open(namespace: &Namespace) -> Result<Arc<Self>> {
        let ear = Arc::new(Ear {
            start: Instant::now(),
            last: std::array::from_fn(|_| AtomicU64::new(0)),
            questions: std::array::from_fn(|_| AtomicU64::new(0)),
        });
        let heard = Arc::clone(&ear);
        EchoServer::hearing(namespace, PORT, move |said| match said {
            Heard::Datagram(bytes) | Heard::Stream(bytes) => {
                heard.note(bytes.last().map(|byte| char::from(*byte)));
            }
        })?;
        for at in far_host(RESOLVER).each() {
            let asked = Arc::clone(&ear);
            let note = move |name: &str| asked.note_question(name);
            resolver::serve_noting(namespace, (at, 53).into(), SOMEWHERE, note)?;
        }
        Ok(ear)
    }

    fn note(&self, speaker: Option<char>) {
        let place = (0..SPEAKERS).find(|place| Some(letter(*place)) == speaker);
        if let Some(last) = place.and_then(|place| self.last.get(place)) {
            let micros = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
            last.store(micros, Ordering::Relaxed);
        }
    }

    fn note_question(&self, name: &str) {
        if let Some(key) = Key::of_name(name) {
            self.questions[key.place()].fetch_add(1, Ordering::Relaxed);
        }
        self.note(name.chars().nth(2));
    }

    /// How long after `moment` the device was heard last; none: not since then.
    pub fn heard_after(&self, speaker: usize, moment: Instant) -> Option<Duration> {
        let micros = self.last[speaker].load(Ordering::Relaxed);
        let last = self.start + Duration::from_micros(micros);
        last.checked_duration_since(moment)
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
