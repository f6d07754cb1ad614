//! The vault's own log of who asked for what: one line of text for each request, bound to the line before it by a keyed
//! digest, so that a person can read it and nobody without the vault's key can change it unseen.
//!
//! ```text
//! cell-vault-access 1
//! NUMBER UNIX_MS GENERATION ROLE UID PID ACTION NAMES VERDICT MAC
//! ```
//!
//! `NAMES` is `-` or names that were checked, joined by commas: a line never holds a value, nor a byte that a caller chose
//! freely. Of many names those are told that fit [`NAMES_MAX_BYTES`], and `+N` for the rest.
//!
//! A log is a row of files. One that goes on from an older one says so in its first line, which is bound like every other:
//!
//! ```text
//! cell-vault-access 1 after NUMBER GENERATION MAC_BEFORE MAC
//! ```

use std::fmt;

use crate::access::{Action, Role};
use crate::timestamp::Timestamp;

/// The first line of the file.
pub const HEADER: &str = "cell-vault-access 1\n";
/// Length of a MAC, bytes.
pub const MAC_BYTES: usize = 32;
/// Most bytes of names in a line, without the `+N` of those left out. One DNS name, and so any single name, fits.
pub const NAMES_MAX_BYTES: usize = 256;
/// Longest line that is read, bytes. More than is ever written: what is longer is not a line of ours.
pub const LINE_MAX: usize = 8 * 1024;

/// A keyed digest.
pub type Mac = [u8; MAC_BYTES];

/// One line, without its MAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Counts from 1.
    pub number: u64,
    /// When.
    pub time: Timestamp,
    /// The vault's generation before the request was carried out.
    pub generation: u64,
    /// On which listener.
    pub role: Role,
    /// By which user.
    pub uid: u32,
    /// By which process, where known.
    pub pid: Option<i32>,
    /// What.
    pub action: Action,
    /// About what; checked names only.
    pub names: Vec<String>,
    /// `ALLOWED` or the reason of the refusal.
    pub verdict: &'static str,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record {
            number,
            time,
            generation,
            role,
            uid,
            pid,
            action,
            names,
            verdict,
        } = self;
        write!(f, "{number} {} {generation} {role} {uid} ", time.0)?;
        match pid {
            Some(pid) => write!(f, "{pid} ")?,
            None => f.write_str("- ")?,
        }
        write!(f, "{action} {} {verdict}", bounded(names))
    }
}

/// As many names as fit, and how many do not: a caller that asks for many long names fills no more of the disk than one
/// that asks for one.
fn bounded(names: &[String]) -> String {
    let mut told = String::new();
    for (number, name) in names.iter().enumerate() {
        let comma = usize::from(!told.is_empty());
        if told.len() + comma + name.len() > NAMES_MAX_BYTES {
            let rest = format!("+{}", names.len() - number);
            return if told.is_empty() { rest } else { told + "," + &rest };
        }
        if comma == 1 {
            told.push(',');
        }
        told.push_str(name);
    }
    if told.is_empty() { "-".to_owned() } else { told }
}

/// The line of a record, its newline included.
pub fn line(body: &str, mac: &Mac) -> String {
    format!("{body} {}\n", hex(mac))
}

fn hex(mac: &Mac) -> String {
    let digit = |half: u8| char::from(HEX[usize::from(half)]);
    mac.iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn unhex(text: &str) -> Option<Mac> {
    let half = |digit: u8| u8::try_from(HEX.iter().position(|known| *known == digit)?).ok();
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != MAC_BYTES || !rest.is_empty() {
        return None;
    }
    let mut mac = [0; MAC_BYTES];
    for (byte, [high, low]) in mac.iter_mut().zip(pairs) {
        *byte = half(*high)? << 4 | half(*low)?;
    }
    Some(mac)
}

/// The first line of a file that goes on from `link`, and the end of the log with it.
pub fn header_after(link: &Link, mac: impl Fn(&Mac, &[u8]) -> Mac) -> (String, Tail) {
    let Link {
        records,
        generation,
        head,
    } = *link;
    let body = format!(
        "{}{AFTER}{records} {generation} {}",
        HEADER.trim_end(),
        hex(&head)
    );
    let head = mac(&head, body.as_bytes());
    let text = line(&body, &head);
    let tail = Tail {
        records,
        generation,
        head,
        whole: text.len() as u64,
    };
    (text, tail)
}

const AFTER: &str = " after ";

/// Where a file of the log goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// How many records there are before.
    pub records: u64,
    /// The generation that the last of them names.
    pub generation: u64,
    /// The MAC of the last line before.
    pub head: Mac,
}

/// The end of a log: what is needed to go on with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// How many records there are, in this file and in those before it.
    pub records: u64,
    /// The generation that the last one names.
    pub generation: u64,
    /// The MAC of the last line; zeros if there is none.
    pub head: Mac,
    /// Length of the last file up to its last whole line, bytes.
    pub whole: u64,
}

impl Tail {
    /// The end of a log that has no record yet.
    pub fn empty() -> Tail {
        Tail {
            records: 0,
            generation: 0,
            head: [0; MAC_BYTES],
            whole: HEADER.len() as u64,
        }
    }

    /// What the next file goes on from.
    pub fn link(&self) -> Link {
        Link {
            records: self.records,
            generation: self.generation,
            head: self.head,
        }
    }
}

/// A log that no crash leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// The first line is missing or another.
    #[error("not an access log")]
    Header,
    /// A line was changed, or one before it was removed.
    #[error("record {0} was changed, or a record before it was removed")]
    Record(u64),
    /// A closed file of the log is missing, or is not the one that the next goes on from.
    #[error("file {0} of the access log is missing or another")]
    File(u64),
}

/// What one file of a log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What it goes on from; `None` for the first file.
    pub after: Option<Link>,
    /// Its end.
    pub tail: Tail,
}

/// Checks one file of a log piece by piece, however long it is, in the memory of one line.
pub struct Reader<M> {
    mac: M,
    read: Option<Checked>,
    partial: Vec<u8>,
}

impl<M: Fn(&Mac, &[u8]) -> Mac> Reader<M> {
    /// `mac` computes a line's MAC from the one before and its body.
    pub fn new(mac: M) -> Self {
        Reader {
            mac,
            read: None,
            partial: Vec::new(),
        }
    }

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// See [`Damaged`].
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Damaged> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end + 1);
            self.partial.extend_from_slice(line);
            let whole = std::mem::take(&mut self.partial);
            self.take(&whole)?;
            self.partial = whole;
            self.partial.clear();
            rest = after;
        }
        if self.partial.len() + rest.len() > LINE_MAX {
            return Err(self.damaged());
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    /// What the file holds, after its last byte.
    ///
    /// # Errors
    /// See [`Damaged`]. A last line without its newline is the torn end of a write that was never acknowledged, unless all
    /// of the record and a byte more is there: then that byte was changed.
    pub fn finish(self) -> Result<Checked, Damaged> {
        let damaged = self.damaged();
        let Reader { mac, read, partial } = self;
        let read = read.ok_or(Damaged::Header)?;
        if let Some((_, line)) = partial.split_last()
            && next(&read.tail, &[line, b"\n"].concat(), &mac).is_some()
        {
            return Err(damaged);
        }
        Ok(read)
    }

    fn take(&mut self, line: &[u8]) -> Result<(), Damaged> {
        let damaged = self.damaged();
        match &mut self.read {
            None => self.read = Some(first(line, &self.mac).ok_or(damaged)?),
            Some(read) => read.tail = next(&read.tail, line, &self.mac).ok_or(damaged)?,
        }
        Ok(())
    }

    fn damaged(&self) -> Damaged {
        self.read
            .as_ref()
            .map_or(Damaged::Header, |read| Damaged::Record(read.tail.records + 1))
    }
}

/// Checks a whole file; see [`Reader`].
///
/// # Errors
/// See [`Damaged`].
pub fn check(bytes: &[u8], mac: impl Fn(&Mac, &[u8]) -> Mac) -> Result<Checked, Damaged> {
    let mut reader = Reader::new(mac);
    reader.feed(bytes)?;
    reader.finish()
}

/// What the first line of a file says; `None` if it is not one.
fn first(text: &[u8], mac: impl Fn(&Mac, &[u8]) -> Mac) -> Option<Checked> {
    if text == HEADER.as_bytes() {
        return Some(Checked {
            after: None,
            tail: Tail::empty(),
        });
    }
    let text = std::str::from_utf8(text).ok()?;
    let mut fields = text
        .strip_prefix(HEADER.trim_end())?
        .strip_prefix(AFTER)?
        .split(' ');
    let link = Link {
        records: fields.next()?.parse().ok()?,
        generation: fields.next()?.parse().ok()?,
        head: unhex(fields.next()?)?,
    };
    let (expected, tail) = header_after(&link, mac);
    (text == expected).then_some(Checked {
        after: Some(link),
        tail,
    })
}

/// The tail after `text`, a line with its newline; `None` if it does not follow.
fn next(tail: &Tail, text: &[u8], mac: impl Fn(&Mac, &[u8]) -> Mac) -> Option<Tail> {
    let text_str = std::str::from_utf8(text).ok()?;
    let (body, _) = text_str.strip_suffix('\n')?.rsplit_once(' ')?;
    let expected = mac(&tail.head, body.as_bytes());
    if line(body, &expected) != text_str {
        return None;
    }
    let mut fields = body.split(' ');
    let number: u64 = fields.next()?.parse().ok()?;
    let generation = fields.nth(1)?.parse().ok()?;
    (number == tail.records + 1 && fields.count() == 6).then(|| Tail {
        records: number,
        generation,
        head: expected,
        whole: tail.whole + text.len() as u64,
    })
}
