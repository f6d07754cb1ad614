//! The end of a container's log, in bounded memory and without anything that a terminal or a browser would obey.
//!
//! A container writes what it likes: 10 GiB, one endless line, escape sequences. Whoever reads it must not pay for that.

use std::collections::VecDeque;

use crate::model::LogLines;

/// Largest answer, bytes of UTF-8.
pub const MAX_BYTES: usize = 256 * 1024;

/// Which of a container's two outputs. Each has lines of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// stdout, or the terminal of a container that has one.
    Output,
    /// stderr.
    Error,
}

/// Collects the last lines. Never holds more than [`MAX_BYTES`] of finished lines and as much of each unfinished one.
#[derive(Debug)]
pub struct Tail {
    most_lines: usize,
    lines: VecDeque<String>,
    bytes: usize,
    unfinished: [VecDeque<u8>; 2],
    truncated: bool,
}

/// What is shown of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTail {
    /// Oldest first; printable.
    pub lines: Vec<String>,
    /// Whether something older was left out.
    pub truncated: bool,
}

impl Tail {
    /// For the last `lines`.
    pub fn new(lines: LogLines) -> Self {
        Tail {
            most_lines: lines.get(),
            lines: VecDeque::new(),
            bytes: 0,
            unfinished: [VecDeque::new(), VecDeque::new()],
            truncated: false,
        }
    }

    /// Takes what came next from `source`; pieces may end anywhere.
    pub fn push(&mut self, source: Source, bytes: &[u8]) {
        let mut pieces = bytes.split(|b| *b == b'\n');
        let last = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            self.append(source, piece);
            self.finish_line(source);
        }
        self.append(source, last);
    }

    /// The finished lines since the last time; what is not finished stays. None: there are none.
    pub fn take(&mut self) -> Option<LogTail> {
        if self.lines.is_empty() {
            return None;
        }
        self.bytes = 0;
        Some(LogTail {
            lines: std::mem::take(&mut self.lines).into(),
            truncated: std::mem::take(&mut self.truncated),
        })
    }

    /// The end of the log.
    pub fn finish(mut self) -> LogTail {
        for source in [Source::Output, Source::Error] {
            if !self.unfinished[source as usize].is_empty() {
                self.finish_line(source);
            }
        }
        LogTail {
            lines: self.lines.into(),
            truncated: self.truncated,
        }
    }

    fn append(&mut self, source: Source, piece: &[u8]) {
        let kept = &piece[piece.len().saturating_sub(MAX_BYTES)..];
        let line = &mut self.unfinished[source as usize];
        let excess = (line.len() + kept.len()).saturating_sub(MAX_BYTES);
        line.drain(..excess);
        line.extend(kept);
        self.truncated |= excess > 0 || kept.len() < piece.len();
    }

    fn finish_line(&mut self, source: Source) {
        let raw: Vec<u8> = std::mem::take(&mut self.unfinished[source as usize]).into();
        let raw = raw.strip_suffix(b"\r").unwrap_or(&raw);
        let mut line = printable(&String::from_utf8_lossy(raw));
        // A replaced character takes three bytes, so a line can grow past the limit.
        if line.len() > MAX_BYTES {
            line.drain(..line.ceil_char_boundary(line.len() - MAX_BYTES));
            self.truncated = true;
        }
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > MAX_BYTES || self.lines.len() > self.most_lines {
            self.bytes -= self.lines.pop_front().map_or(0, |oldest| oldest.len());
            self.truncated = true;
        }
    }
}

/// `text` with U+FFFD for each control character but tab, and for what changes the direction or the line of the text
/// around it (Unicode Bidi_Control and the line and paragraph separators), with which a log can show what it does not say.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c != '\t' && is_control(c) {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn tail(lines: u32, pieces: &[(Source, &[u8])]) -> LogTail {
        let mut tail = Tail::new(LogLines::from_wire(lines).unwrap());
        for (source, bytes) in pieces {
            tail.push(*source, bytes);
        }
        tail.finish()
    }

    #[test]
    fn what_was_taken_is_not_told_again_and_what_is_not_finished_stays() {
        let mut tail = Tail::new(LogLines::MOST);
        tail.push(Source::Output, b"one\ntw");
        tail.push(Source::Error, b"error\n");
        assert_eq!(tail.take().unwrap().lines, ["one", "error"]);
        assert_eq!(tail.take(), None);
        tail.push(Source::Output, b"o\n");
        let taken = tail.take().unwrap();
        assert_eq!((taken.lines, taken.truncated), (vec!["two".to_owned()], false));
        for _ in 0..1001 {
            tail.push(Source::Output, b"x\n");
        }
        assert!(tail.take().unwrap().truncated, "more than can be told");
        tail.push(Source::Output, b"y\n");
        assert!(!tail.take().unwrap().truncated, "of the lines before it");
    }

    #[test]
    fn lines_are_joined_per_source_and_the_oldest_go_first() {
        use Source::{Error, Output};
        let pieces: &[(Source, &[u8])] = &[
            (Output, b"one\ntw"),
            (Error, b"err"),
            (Output, b"o\r\n"),
            (Error, b"or\n"),
        ];
        assert_eq!(tail(10, pieces).lines, ["one", "two", "error"]);
        assert_eq!(
            tail(2, pieces),
            LogTail {
                lines: vec!["two".into(), "error".into()],
                truncated: true
            }
        );
    }

    #[test]
    fn nothing_that_a_terminal_obeys_comes_through() {
        let shown = tail(
            1,
            &[(Source::Output, b"\x1b]0;x\x07\ta\x9b31m\0\xff \xe2\x80\xae")],
        )
        .lines
        .remove(0);
        assert_eq!(
            shown,
            "\u{fffd}]0;x\u{fffd}\ta\u{fffd}31m\u{fffd}\u{fffd} \u{fffd}"
        );
    }

    #[test]
    fn a_log_bomb_costs_no_more_than_the_limit() {
        let bomb = vec![0x1b; 1 << 20];
        let mut tail = Tail::new(LogLines::from_wire(1000).unwrap());
        for _ in 0..8 {
            tail.push(Source::Output, &bomb);
            assert!(tail.unfinished[0].len() <= MAX_BYTES);
        }
        let shown = tail.finish();
        assert!(shown.truncated);
        assert!(shown.lines.iter().map(String::len).sum::<usize>() <= MAX_BYTES);
    }

    #[test]
    fn an_empty_log_has_no_lines() {
        assert_eq!(
            tail(5, &[]),
            LogTail {
                lines: vec![],
                truncated: false
            }
        );
    }
}
