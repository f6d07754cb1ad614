//! What cell-iptables decides: whether a text for `iptables-restore` or `ipset restore` names nothing but what is Cell's, and
//! which of what those programs save concerns Cell. It knows nothing of how netd makes its texts.
//!
//! Nothing here reads a file, a clock, a socket or a random number.

#![forbid(unsafe_code)]

mod rules;
mod saved;
mod sets;
mod word;

pub use rules::judge_rules;
pub use saved::{entries, own_rules, own_sets};
pub use sets::judge_sets;

/// Longest text, bytes.
pub const TEXT_MAX: usize = 8 << 20;
/// Longest line, bytes. A rule of netd's has some 400.
const LINE_MAX: usize = 1024;
/// Every chain and set of Cell's begins so.
const PREFIX: &str = "CELL-";

/// The family of a text for iptables-restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "names say it")]
pub enum Family {
    V4,
    V6,
}

/// Why a text is not given to any program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotOurs {
    /// It is too long.
    #[error("a text has at most {TEXT_MAX} bytes")]
    TooLong,
    /// One line.
    #[error("line {line}: {why}")]
    Line {
        /// From 1 on.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// The lines of a text, each of printable ASCII and without what a program would read as quotes or escapes.
fn lines(text: &str) -> Result<impl Iterator<Item = (usize, &str)>, NotOurs> {
    if text.len() > TEXT_MAX {
        return Err(NotOurs::TooLong);
    }
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\'' | b'\\' | b'`' | b'#');
    // `lines` would take a carriage return for a part of the line's end.
    let bad = text
        .split('\n')
        .enumerate()
        .find(|(_, line)| line.len() > LINE_MAX || !line.bytes().all(plain));
    if let Some((index, _)) = bad {
        return Err(NotOurs::Line {
            line: index + 1,
            why: "a line is short and of plain letters",
        });
    }
    Ok(text
        .split_terminator('\n')
        .enumerate()
        .map(|(index, line)| (index + 1, line)))
}
