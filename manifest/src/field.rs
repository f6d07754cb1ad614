//! What an administrator may set of a service: fields with a kind, and values that keep to it.

use std::collections::BTreeMap;

use crate::rule::{Faults, Gather, Rule};

/// Which texts a field takes. Closed, so that no manifest brings a pattern that lets too much through or takes forever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// `[a-z0-9-]`, a DNS label.
    Label,
    /// Labels with dots between them.
    Hostname,
    /// `[A-Za-z0-9._-]`, no hyphen or dot first.
    Word,
    /// `word@hostname`.
    Email,
    /// Any text without control characters. Not in a command.
    Printable,
}

impl Pattern {
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "label" => Pattern::Label,
            "hostname" => Pattern::Hostname,
            "word" => Pattern::Word,
            "email" => Pattern::Email,
            "printable" => Pattern::Printable,
            _ => return None,
        })
    }

    /// Whether `text` is of this pattern.
    pub fn takes(self, text: &str) -> bool {
        let label = |text: &str| {
            (1..=63).contains(&text.len())
                && text
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !text.starts_with('-')
                && !text.ends_with('-')
        };
        let hostname = |text: &str| text.len() <= 253 && text.split('.').all(label);
        let word = |text: &str| {
            text.bytes()
                .next()
                .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        match self {
            Pattern::Label => label(text),
            Pattern::Hostname => hostname(text),
            Pattern::Word => word(text),
            Pattern::Email => text
                .split_once('@')
                .is_some_and(|(user, host)| word(user) && hostname(host)),
            Pattern::Printable => !text.chars().any(|c| c.is_control() || is_bidi(c)),
        }
    }

    /// Whether its texts can stand in a command without meaning something to what reads it.
    pub(crate) fn fits_commands(self) -> bool {
        self != Pattern::Printable
    }
}

/// Characters that turn the order of text around: shown, a value would look like another.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What a field holds, with its range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A number from `min` to `max`.
    Integer {
        /// Least.
        min: i64,
        /// Most.
        max: i64,
    },
    /// `true` or `false`.
    Boolean,
    /// A text.
    Text {
        /// Which texts.
        pattern: Pattern,
        /// Most bytes, at most 4,096.
        max_length: usize,
    },
    /// One of these.
    Choice {
        /// At least one, each a word.
        values: Vec<String>,
    },
}

impl Kind {
    /// Whether `text` is a value of this kind.
    pub fn takes(&self, text: &str) -> bool {
        match self {
            // In the one way to write a number, so that a value is read alike everywhere.
            Kind::Integer { min, max } => text
                .parse::<i64>()
                .is_ok_and(|n| n >= *min && n <= *max && n.to_string() == text),
            Kind::Boolean => matches!(text, "true" | "false"),
            Kind::Text { pattern, max_length } => text.len() <= *max_length && pattern.takes(text),
            Kind::Choice { values } => values.iter().any(|value| value == text),
        }
    }

    /// What it takes, in words.
    pub fn words(&self) -> String {
        match self {
            Kind::Integer { min, max } => format!("is a number from {min} to {max}"),
            Kind::Boolean => "is true or false".to_owned(),
            Kind::Text { pattern, max_length } => format!("is a {pattern:?} of at most {max_length} bytes"),
            Kind::Choice { values } => format!("is one of {}", values.join(", ")),
        }
    }

    pub(crate) fn fits_commands(&self) -> bool {
        match self {
            Kind::Integer { .. } | Kind::Boolean | Kind::Choice { .. } => true,
            Kind::Text { pattern, .. } => pattern.fits_commands(),
        }
    }
}

/// One field of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// What people read.
    pub label: String,
    /// What it holds.
    pub kind: Kind,
    /// Its value where none is set; none: one has to be set.
    pub default: Option<String>,
    /// Whether it is the secret of this name: its value is in the vault alone, and never among [`Values`].
    pub is_secret: bool,
}

/// Values for all fields of one manifest that are no secrets, each of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values(BTreeMap<String, String>);

impl Values {
    /// The set values and defaults for the rest.
    ///
    /// # Errors
    /// Every value that is of no field, not of its kind, of a secret, or missing. Values are not repeated.
    pub fn of(fields: &BTreeMap<String, Field>, set: &BTreeMap<String, String>) -> Result<Self, Faults> {
        let (mut gather, mut values) = (Gather::default(), BTreeMap::new());
        for unknown in set.keys().filter(|name| !fields.contains_key(*name)) {
            // The name may be anything: it is told by its length.
            let path = format!("parameters[{} bytes]", unknown.len());
            gather.add(&path, Rule::S3, "is no field of this manifest");
        }
        for (name, field) in fields {
            let path = format!("parameters.{name}");
            if field.is_secret {
                if set.contains_key(name) {
                    gather.add(
                        &path,
                        Rule::S3,
                        "is a secret: it is set by itself, and goes to the vault alone",
                    );
                }
                continue;
            }
            match set.get(name).or(field.default.as_ref()) {
                None => gather.add(&path, Rule::S3, "is required"),
                Some(value) if field.kind.takes(value) => {
                    values.insert(name.clone(), value.clone());
                }
                Some(_) => gather.add(&path, Rule::S3, field.kind.words()),
            }
        }
        gather.finish(Some(Values(values)))
    }

    /// The value of a field.
    pub fn get(&self, field: &str) -> Option<&str> {
        self.0.get(field).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_to_their_kind() {
        let takes = |kind: Kind, good: &[&str], bad: &[&str]| {
            for text in good {
                assert!(kind.takes(text), "{kind:?} {text:?}");
            }
            for text in bad {
                assert!(!kind.takes(text), "{kind:?} {text:?}");
            }
        };
        let text = |pattern| Kind::Text {
            pattern,
            max_length: 20,
        };
        takes(
            Kind::Integer { min: -1, max: 10 },
            &["-1", "0", "10"],
            &["11", "-2", "+1", "01", " 1", "1 ", "1e1", "", "0x1", "٣"],
        );
        takes(Kind::Boolean, &["true", "false"], &["1", "True", ""]);
        takes(
            text(Pattern::Label),
            &["a", "1-b"],
            &["", "-a", "a-", "A", "a.b", "a\n"],
        );
        takes(
            text(Pattern::Hostname),
            &["a.b", "a"],
            &["a..b", ".a", "a.", "a b", "a/b"],
        );
        takes(
            text(Pattern::Word),
            &["a.B_c-1"],
            &["", "-a", ".a", "a b", "$(id)", "a;b", "a`", "a\0"],
        );
        takes(
            text(Pattern::Email),
            &["a@b.c"],
            &["a", "a@", "@b", "a@b@c", "-a@b", "a@b\nX: y"],
        );
        takes(
            text(Pattern::Printable),
            &["", "a b; $(x)"],
            &["a\nb", "a\0", "\u{202e}a", "\u{7f}", &"x".repeat(21)],
        );
    }
}
