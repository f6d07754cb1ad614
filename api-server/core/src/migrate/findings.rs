//! What is found while a file is read: faults, and what is not carried. Both are bounded, whatever the file holds.

use std::collections::BTreeSet;
use std::fmt;

use crate::fault::Faults;

/// The most faults that are named; who has more begins with these.
const FAULTS: usize = 100;
/// The most notes.
const NOTES: usize = 100;

/// What is found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    faults: Faults,
    notes: Vec<String>,
    known: BTreeSet<String>,
    omitted: usize,
}

impl Findings {
    /// Something is wrong with `field`. `description` never repeats a value.
    pub(super) fn fault(&mut self, field: impl Into<String>, description: impl fmt::Display) {
        match self.faults.violations().len() {
            0..FAULTS => self.faults.add(field, description),
            FAULTS => self.faults.add("", "there are more faults than are named here"),
            _ => {}
        }
    }

    /// Something is not carried, or not as it is written; for people. Told once.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if self.known.contains(&text) {
            return;
        }
        if self.notes.len() < NOTES {
            self.known.insert(text.clone());
            self.notes.push(text);
        } else {
            self.omitted += 1;
        }
    }

    /// How many faults there are so far.
    pub(super) fn faults(&self) -> usize {
        self.faults.violations().len()
    }

    /// Whether nothing is wrong.
    pub(super) fn is_good(&self) -> bool {
        self.faults.is_empty()
    }

    /// All notes.
    ///
    /// # Errors
    /// The faults, if there is one.
    pub(super) fn finish(self) -> Result<Vec<String>, Faults> {
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        let mut notes = self.notes;
        if self.omitted > 0 {
            notes.push(format!("and {} more that are not carried", self.omitted));
        }
        Ok(notes)
    }
}
