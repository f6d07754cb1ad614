//! Lines of an imported file.

use crate::fault::Faults;

/// The longest line, bytes.
const LINE_MAX: usize = 4096;
/// The most lines.
const LINES_MAX: usize = 4096;

/// The lines of `text` with their numbers, from 1. A file that is too large, or holds what no line may, is a fault and
/// has none.
pub(super) fn lines<'a>(text: &'a str, max_bytes: usize, faults: &mut Faults) -> Vec<(usize, &'a str)> {
    if text.len() > max_bytes {
        faults.add("", format!("must have at most {} KiB", max_bytes / 1024));
        return Vec::new();
    }
    let lines: Vec<(usize, &str)> = (1..).zip(text.lines()).collect();
    if lines.len() > LINES_MAX {
        faults.add("", format!("must have at most {LINES_MAX} lines"));
        return Vec::new();
    }
    for (number, line) in &lines {
        if line.len() > LINE_MAX {
            faults.add(place(*number), format!("must have at most {LINE_MAX} bytes"));
        } else if line.chars().any(|c| c.is_control() && c != '\t') {
            faults.add(place(*number), "must not hold control characters");
        }
    }
    if faults.is_empty() { lines } else { Vec::new() }
}

/// How a line is named in a fault.
pub(super) fn place(number: usize) -> String {
    format!("line {number}")
}
