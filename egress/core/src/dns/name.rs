//! Names of the DNS, told apart as the DNS does: without regard to case (RFC 4343).

use std::borrow::Borrow;
use std::fmt;

/// Longest label, bytes (RFC 1035, section 2.3.4).
const LABEL_MAX: usize = 63;
/// Longest name on the wire without the root's byte.
const NAME_MAX: usize = 254;

/// A name in lower case: its labels as the wire has them, each behind its length, without the root's byte. So a dot within a
/// label is never taken for one between labels.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

/// Text or labels that are no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is a name of letters, digits, - and _ in labels of 1 to 63, at most 253 in all, e.g. nas.home.arpa")]
pub struct InvalidName;

impl Name {
    /// Of labels, whatever bytes they have. None: the root.
    ///
    /// # Errors
    /// [`InvalidName`] for an empty label, or too long a one or name.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, InvalidName> {
        let mut wire = Vec::new();
        for label in labels {
            let length = u8::try_from(label.len()).map_err(|_| InvalidName)?;
            if !(1..=LABEL_MAX).contains(&label.len()) || wire.len() + 1 + label.len() > NAME_MAX {
                return Err(InvalidName);
            }
            wire.push(length);
            wire.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        Ok(Name(wire.into()))
    }

    /// The name above all.
    pub fn root() -> Self {
        Name(Box::default())
    }

    /// Reads what an administrator may give a host: letters, digits, hyphens and underscores, with or without the last dot.
    ///
    /// # Errors
    /// [`InvalidName`], also for the root.
    pub fn of_host(text: &str) -> Result<Self, InvalidName> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let fits = |label: &str| {
            let edge = label.starts_with('-') || label.ends_with('-');
            !edge
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if text.split('.').all(fits) {
            Name::from_labels(text.split('.').map(str::as_bytes))
        } else {
            Err(InvalidName)
        }
    }

    /// As [`of_host`](Name::of_host), or `*` before such a name: all names below it that are not there themselves (RFC 4592).
    ///
    /// # Errors
    /// [`InvalidName`]
    pub fn of_record(text: &str) -> Result<Self, InvalidName> {
        match text.strip_prefix("*.") {
            None => Name::of_host(text),
            Some(parent) => Name::of_host(parent)?.wildcard().ok_or(InvalidName),
        }
    }

    /// The labels, the host's first.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        self.suffixes().map(|suffix| match suffix.first() {
            Some(length) => &suffix[1..=usize::from(*length)],
            None => suffix,
        })
    }

    /// The name itself, its parent, and so on to the last label, each as [`Borrow`] has it.
    pub fn suffixes(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let this = rest;
            let length = usize::from(*this.first()?);
            rest = &this[1 + length..];
            Some(this)
        })
    }

    /// Whether it is `other` or lies below it.
    pub fn is_within(&self, other: &Name) -> bool {
        other.0.is_empty() || self.suffixes().any(|suffix| suffix == &*other.0)
    }

    /// `*` before it, where there is room.
    pub(crate) fn wildcard(&self) -> Option<Name> {
        wildcard(&self.0)
    }

    /// A suffix that [`suffixes`](Name::suffixes) gave.
    pub(crate) fn of_suffix(suffix: &[u8]) -> Name {
        Name(suffix.into())
    }
}

/// `*` before a suffix, where there is room.
pub(crate) fn wildcard(suffix: &[u8]) -> Option<Name> {
    let wire = [&[1, b'*'], suffix].concat();
    (wire.len() <= NAME_MAX).then(|| Name(wire.into()))
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// As text, for faults and tests: bytes that no host name has are escaped, and so is a dot within a label.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        for (index, label) in self.labels().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            for byte in label {
                match byte {
                    b'.' => f.write_str("\\.")?,
                    byte => write!(f, "{}", byte.escape_ascii())?,
                }
            }
        }
        Ok(())
    }
}

/// Shows the number of labels alone: what a peer looks up is its own affair, in logs too.
impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({} labels)", self.labels().count())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn case_is_not_looked_at_and_labels_are() {
        let name = Name::of_host("NAS.Home.Arpa.").unwrap();
        assert_eq!(name, Name::of_host("nas.home.arpa").unwrap());
        assert_eq!(name.to_string(), "nas.home.arpa");
        assert!(name.is_within(&Name::of_host("home.arpa").unwrap()) && name.is_within(&name));
        assert!(!name.is_within(&Name::of_host("s.home.arpa").unwrap()));
        assert!(!name.is_within(&Name::of_host("x.nas.home.arpa").unwrap()));
        let dotted = Name::from_labels([b"a.home".as_slice(), b"arpa"]).unwrap();
        assert!(!dotted.is_within(&Name::of_host("home.arpa").unwrap()));
        assert_eq!(dotted.to_string(), "a\\.home.arpa");
        assert_eq!(format!("{name:?}"), "Name(3 labels)");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(64);
        let longest = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        assert!(Name::of_host(&longest).is_ok());
        for bad in [
            "",
            ".",
            "a..b",
            ".a",
            "-a.b",
            "a-.b",
            "a b",
            "a/b",
            "ä.b",
            "*.a",
            &long,
            &format!("e{longest}"),
        ] {
            assert_eq!(Name::of_host(bad), Err(InvalidName), "{bad}");
        }
        assert_eq!(Name::of_record("*.a").unwrap().to_string(), "*.a");
        for bad in ["*", "*.", "*.*.a", "a.*.b", "**.a"] {
            assert_eq!(Name::of_record(bad), Err(InvalidName), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn labels_come_back(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..64), 0..6)) {
            let length: usize = labels.iter().map(|label| label.len() + 1).sum();
            let name = Name::from_labels(labels.iter().map(Vec::as_slice));
            prop_assert_eq!(name.is_ok(), length <= NAME_MAX);
            if let Ok(name) = name {
                let lower: Vec<_> = labels.iter().map(|label| label.to_ascii_lowercase()).collect();
                prop_assert_eq!(name.labels().map(<[u8]>::to_vec).collect::<Vec<_>>(), lower);
                prop_assert_eq!(name.suffixes().count(), labels.len());
            }
        }
    }
}
