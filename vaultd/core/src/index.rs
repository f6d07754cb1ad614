//! The index of the vault: which items there are, in which version, written when. It is sealed and replaced as a whole,
//! and that replacement is the one moment at which a change takes effect.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::item::ItemName;
use crate::secret_name::SecretName;
use crate::timestamp::Timestamp;

/// Most bytes that all sealed files may have together.
pub const TOTAL_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What the vault holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Index {
    /// Counts every change of the vault. A number is never used twice, so that the file of one life of a name cannot
    /// stand in for that of another.
    pub generation: u64,
    /// The items.
    pub items: BTreeMap<ItemName, Entry>,
}

/// One item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Counts from 1 with each put or rotate of this name.
    pub version: u64,
    /// The vault's generation that wrote it; part of the file's name.
    pub generation: u64,
    /// When it was written.
    pub updated: Timestamp,
    /// Length of its sealed file, bytes.
    pub size: u64,
    /// What the caller counts it by: of which import of a connection it is. 0: by nothing. It is only kept.
    pub revision: u64,
}

/// Why a change is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefused {
    /// The caller has seen another version than the one that is there (0: none).
    #[error("version {expected} was expected and {found} is there")]
    VersionMismatch {
        /// What the caller expected.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// There is no such item.
    #[error("there is no such secret")]
    Absent,
    /// One more would be too many.
    #[error("there are {0} secrets already, the most that the policy file allows")]
    TooMany(u32),
    /// The vault would hold too much.
    #[error("the vault would hold more than {TOTAL_BYTES_MAX} bytes")]
    TooLarge,
}

/// An index that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {0} of the index cannot be read")]
pub struct InvalidIndex(pub usize);

impl Index {
    /// The version of `name`; 0 if there is none.
    pub fn version(&self, name: &ItemName) -> u64 {
        self.items.get(name).map_or(0, |entry| entry.version)
    }

    /// The secrets in the order of names.
    pub fn secrets(&self) -> impl Iterator<Item = (&SecretName, &Entry)> {
        self.items
            .iter()
            .filter_map(|(name, entry)| Some((name.as_secret()?, entry)))
    }

    /// How many secrets there are.
    pub fn secret_count(&self) -> u32 {
        u32::try_from(self.secrets().count()).unwrap_or(u32::MAX)
    }

    /// The index in which `name` is written anew, if `expected` is its version now (0: it must not exist). It has no revision.
    ///
    /// # Errors
    /// See [`ChangeRefused`].
    pub fn with_written(
        &self,
        name: &ItemName,
        expected: u64,
        secrets_max: u32,
        size: u64,
        now: Timestamp,
    ) -> Result<(Index, Entry), ChangeRefused> {
        self.with_written_of(name, expected, 0, secrets_max, size, now)
    }

    /// [`Index::with_written`], of a revision, which secrets alone have.
    ///
    /// # Errors
    /// See [`ChangeRefused`].
    pub fn with_written_of(
        &self,
        name: &ItemName,
        expected: u64,
        revision: u64,
        secrets_max: u32,
        size: u64,
        now: Timestamp,
    ) -> Result<(Index, Entry), ChangeRefused> {
        let found = self.version(name);
        if found != expected {
            return Err(ChangeRefused::VersionMismatch { expected, found });
        }
        if found == 0 && name.as_secret().is_some() && self.secret_count() >= secrets_max {
            return Err(ChangeRefused::TooMany(secrets_max));
        }
        let others: u64 = self
            .items
            .iter()
            .filter(|(other, _)| *other != name)
            .map(|(_, entry)| entry.size)
            .sum();
        if others.saturating_add(size) > TOTAL_BYTES_MAX {
            return Err(ChangeRefused::TooLarge);
        }
        let mut next = self.clone();
        next.generation += 1;
        let entry = Entry {
            version: found + 1,
            generation: next.generation,
            updated: now,
            size,
            // The vault's own items are of no import.
            revision: name.as_secret().map_or(0, |_| revision),
        };
        next.items.insert(name.clone(), entry);
        Ok((next, entry))
    }

    /// The index without `name`, if `expected` is its version now.
    ///
    /// # Errors
    /// See [`ChangeRefused`].
    pub fn with_removed(&self, name: &ItemName, expected: u64) -> Result<(Index, Entry), ChangeRefused> {
        let entry = *self.items.get(name).ok_or(ChangeRefused::Absent)?;
        if entry.version != expected {
            return Err(ChangeRefused::VersionMismatch {
                expected,
                found: entry.version,
            });
        }
        let mut next = self.clone();
        next.generation += 1;
        next.items.remove(name);
        Ok((next, entry))
    }

    /// As text, to be sealed. A revision stands in it where there is one: what has none reads as it always did.
    pub fn encode(&self) -> String {
        let mut text = format!("generation {}\n", self.generation);
        for (
            name,
            Entry {
                version,
                generation,
                updated,
                size,
                revision,
            },
        ) in &self.items
        {
            // Writing to a String cannot fail.
            let _ = write!(text, "{name} {version} {generation} {} {size}", updated.0);
            let _ = match revision {
                0 => writeln!(text),
                revision => writeln!(text, " {revision}"),
            };
        }
        text
    }

    /// Reads what [`Index::encode`] wrote, and nothing else.
    ///
    /// # Errors
    /// The number (from 1) of the first line that does not fit.
    pub fn decode(text: &str) -> Result<Index, InvalidIndex> {
        let mut lines = text.lines().enumerate();
        let generation = lines
            .next()
            .and_then(|(_, line)| line.strip_prefix("generation "))
            .and_then(|number| number.parse().ok())
            .ok_or(InvalidIndex(1))?;
        let mut index = Index {
            generation,
            items: BTreeMap::new(),
        };
        for (number, line) in lines {
            let (name, entry) = decode_entry(line).ok_or(InvalidIndex(number + 1))?;
            if entry.generation > generation || index.items.insert(name, entry).is_some() {
                return Err(InvalidIndex(number + 1));
            }
        }
        if index.encode() == text {
            Ok(index)
        } else {
            Err(InvalidIndex(0))
        }
    }
}

fn decode_entry(line: &str) -> Option<(ItemName, Entry)> {
    let mut fields = line.split(' ');
    let name: ItemName = fields.next()?.parse().ok()?;
    let entry = Entry {
        version: fields.next()?.parse().ok()?,
        generation: fields.next()?.parse().ok()?,
        updated: Timestamp(fields.next()?.parse().ok()?),
        size: fields.next()?.parse().ok()?,
        revision: fields.next().map_or(Some(0), |revision| revision.parse().ok())?,
    };
    let may_have = entry.revision == 0 || name.as_secret().is_some();
    (fields.next().is_none() && entry.version > 0 && may_have).then_some((name, entry))
}
