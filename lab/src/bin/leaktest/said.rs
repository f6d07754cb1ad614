//! What speakers say: who speaks, by which family, and when. So a far end knows whose it is, and by which way it was to go when it was
//! said, however long it was under way.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::ear::SPEAKERS;
use crate::key::{V4, V6};

/// Ends each: a connection brings pieces that begin and end anywhere.
const END: char = ';';

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A moment, since this program first asked for one.
pub fn now() -> Duration {
    START.elapsed()
}

/// The letter by which a speaker is known.
pub fn letter(speaker: usize) -> char {
    ('a'..='z').nth(speaker).unwrap_or('z')
}

/// One thing that was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// Who.
    pub speaker: usize,
    /// By IPv6, else IPv4.
    pub v6: bool,
    /// When.
    pub at: Duration,
}

impl Said {
    /// What a speaker says now.
    pub fn text(speaker: usize, v6: bool) -> String {
        let family = if v6 { V6 } else { V4 };
        format!("{}{family}{}{END}", letter(speaker), now().as_micros())
    }

    /// All that is whole in what came. Of what came in two pieces neither half is read.
    pub fn all(bytes: &[u8]) -> Vec<Said> {
        let text = String::from_utf8_lossy(bytes);
        let Some((whole, _begun)) = text.rsplit_once(END) else {
            return Vec::new();
        };
        whole.split(END).filter_map(Said::read).collect()
    }

    fn read(text: &str) -> Option<Said> {
        let mut letters = text.chars();
        let (who, family) = (letters.next()?, letters.next()?);
        Said::of(who, family, letters.as_str())
    }

    /// Of a name that is asked for ([`crate::key::Key::name`]), whose number is when it was asked.
    pub fn of_name(name: &str) -> Option<Said> {
        let mut letters = name.split('.').next()?.chars();
        let (_meant, family, who) = (letters.next()?, letters.next()?, letters.next()?);
        Said::of(who, family, letters.as_str())
    }

    fn of(who: char, family: char, micros: &str) -> Option<Said> {
        let v6 = match family {
            V4 => false,
            V6 => true,
            _ => return None,
        };
        Some(Said {
            speaker: (0..SPEAKERS).find(|place| letter(*place) == who)?,
            v6,
            at: Duration::from_micros(micros.parse().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::key::{Key, Meant, Protocol};

    fn said(speaker: usize, v6: bool, micros: u64) -> Said {
        let at = Duration::from_micros(micros);
        Said { speaker, v6, at }
    }

    #[test]
    fn what_is_said_is_read_again_but_not_its_halves() {
        let text = Said::text(3, true);
        let [one] = Said::all(text.as_bytes())[..] else {
            panic!("{text}")
        };
        assert_eq!((one.speaker, one.v6), (3, true));
        assert_eq!(
            Said::all(b"23;a4100;;c6200;b43"),
            [said(0, false, 100), said(2, true, 200)]
        );
        for none in [&b""[..], b"a4100", b"z4100;", b"a5100;", b"a4;", b"\xff;"] {
            assert_eq!(Said::all(none), []);
        }
    }

    #[test]
    fn a_name_says_who_asked_and_when() {
        let key = Key {
            meant: Meant::Direct,
            protocol: Protocol::Dns,
            v6: true,
        };
        assert_eq!(Said::of_name(&key.name('b', 17)).unwrap(), said(1, true, 17));
        assert_eq!(Said::of_name("example"), None);
    }
}
