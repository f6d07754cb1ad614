//! The vault's own log of who asked for what: one line of text for each request, bound to the line before it by a keyed
//! digest, so that a person can read it and nobody without the vault's key can change it unseen.
//!
//! ```text
//! cell-vault-access 1
//! NUMBER UNIX_MS GENERATION ROLE UID PID ACTION NAMES VERDICT MAC
//! ```
//!
//! `NAMES` is `-` or names that were checked, joined by commas: a line never holds a value, nor a byte that a caller chose
//! freely.

use std::fmt;

use crate::access::{Action, Role};
use crate::timestamp::Timestamp;

/// The first line of the file.
pub const HEADER: &str = "cell-vault-access 1\n";
/// Length of a MAC, bytes.
pub const MAC_BYTES: usize = 32;

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
        let names = if names.is_empty() {
            "-".to_owned()
        } else {
            names.join(",")
        };
        write!(f, "{action} {names} {verdict}")
    }
}

/// The line of a record, its newline included.
pub fn line(body: &str, mac: &Mac) -> String {
    let mut line = String::with_capacity(body.len() + 2 + 2 * MAC_BYTES);
    line.push_str(body);
    line.push(' ');
    for byte in mac {
        line.push(char::from(HEX[usize::from(byte >> 4)]));
        line.push(char::from(HEX[usize::from(byte & 15)]));
    }
    line.push('\n');
    line
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The end of a log: what is needed to go on with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// How many records there are.
    pub records: u64,
    /// The generation that the last one names.
    pub generation: u64,
    /// Its MAC; zeros if there is none.
    pub head: Mac,
    /// Length of the file up to the last whole line, bytes.
    pub whole: usize,
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
}

/// Checks a whole log; `mac` computes a line's MAC from the one before and its body.
///
/// # Errors
/// See [`Damaged`]. A last line without its newline is the torn end of a write that was never acknowledged, unless all of
/// the record is there: then a byte was changed.
pub fn check(bytes: &[u8], mac: impl Fn(&Mac, &[u8]) -> Mac) -> Result<Tail, Damaged> {
    let mut rest = bytes.strip_prefix(HEADER.as_bytes()).ok_or(Damaged::Header)?;
    let mut tail = Tail {
        records: 0,
        generation: 0,
        head: [0; MAC_BYTES],
        whole: HEADER.len(),
    };
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = rest.split_at(end + 1);
        tail = next(&tail, line, &mac).ok_or(Damaged::Record(tail.records + 1))?;
        rest = after;
    }
    if let Some((_, line)) = rest.split_last() {
        let mut whole = line.to_vec();
        whole.push(b'\n');
        if next(&tail, &whole, &mac).is_some() {
            return Err(Damaged::Record(tail.records + 1));
        }
    }
    Ok(tail)
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
        whole: tail.whole + text.len(),
    })
}
