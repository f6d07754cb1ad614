//! The audit chain: canonical bytes, SHA-256 over each record and the one before, and the check of it all.
//!
//! A chain shows an altered, removed, inserted or reordered record. A cut tail or a chain rewritten as a whole is shown
//! only by its anchors: heads that vaultd keeps where the API cannot rewrite them.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

/// SHA-256 of a record.
pub type Hash = [u8; 32];

/// What the first record names as the hash before it.
pub const GENESIS: Hash = [0; 32];

/// What happened, before it has its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When, milliseconds since 1970-01-01T00:00:00Z.
    pub time_unix_ms: i64,
    /// Who: a user's name, `local:<user>` on the automation socket, `setup`, or `-` for somebody unknown.
    pub actor: String,
    /// `admin`, `peer`, or empty.
    pub role: String,
    /// Where from: an address, or `unix`.
    pub remote: String,
    /// What, e.g. `peer.create`.
    pub action: String,
    /// To what, e.g. a peer's name.
    pub subject: String,
    /// More, for people. Never a secret.
    pub detail: String,
}

/// A record in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// From 1, without gaps.
    pub sequence: u64,
    /// What happened.
    pub entry: Entry,
    /// Hash of the record before.
    pub previous_hash: Hash,
    /// Hash of this one.
    pub hash: Hash,
}

impl Record {
    /// Puts an entry in its place.
    pub fn seal(sequence: u64, entry: Entry, previous_hash: Hash) -> Self {
        let hash = Sha256::digest(canonical(sequence, &entry, &previous_hash)).into();
        Record {
            sequence,
            entry,
            previous_hash,
            hash,
        }
    }
}

/// The bytes that are hashed: every text with its length before it, so that no two records have the same bytes.
pub fn canonical(sequence: u64, entry: &Entry, previous_hash: &Hash) -> Vec<u8> {
    let Entry {
        time_unix_ms,
        actor,
        role,
        remote,
        action,
        subject,
        detail,
    } = entry;
    let mut bytes = b"cell-audit-v1\0".to_vec();
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(time_unix_ms.to_be_bytes());
    for text in [actor, role, remote, action, subject, detail] {
        bytes.extend((text.len() as u64).to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes.extend(previous_hash);
    bytes
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Records checked.
    pub record_count: u64,
    /// Anchors compared.
    pub anchor_count: u64,
    /// The first that does not fit; `None` when the chain is intact.
    pub fault: Option<ChainFault>,
}

/// The first thing wrong with a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// A number is missing or out of order.
    #[error("record {expected} is missing or out of order")]
    Sequence {
        /// The number that should have come.
        expected: u64,
    },
    /// A record does not name the hash of the one before.
    #[error("record {0} does not follow from the one before it")]
    Link(u64),
    /// A record is not what its hash says.
    #[error("record {0} was altered")]
    Content(u64),
    /// An anchored record has another hash now: the chain was rewritten.
    #[error("record {0} is not the one that was anchored in vaultd")]
    Anchor(u64),
    /// An anchor names a record that is not there: the tail was cut off, or an old copy was put back.
    #[error("record {0} was anchored in vaultd and is gone")]
    Cut(u64),
}

impl ChainFault {
    /// The record that does not fit.
    pub fn sequence(&self) -> u64 {
        match *self {
            ChainFault::Sequence { expected: sequence }
            | ChainFault::Link(sequence)
            | ChainFault::Content(sequence)
            | ChainFault::Anchor(sequence)
            | ChainFault::Cut(sequence) => sequence,
        }
    }
}

/// Checks a chain record by record, so that it need not be in memory.
#[derive(Debug)]
pub struct Verifier {
    anchors: BTreeMap<u64, Hash>,
    head: Hash,
    verdict: Verdict,
}

impl Verifier {
    /// Starts before the first record.
    pub fn new(anchors: BTreeMap<u64, Hash>) -> Self {
        let verdict = Verdict {
            record_count: 0,
            anchor_count: 0,
            fault: None,
        };
        Verifier {
            anchors,
            head: GENESIS,
            verdict,
        }
    }

    /// Takes the next record. After a fault nothing more is looked at.
    pub fn push(&mut self, record: &Record) {
        if self.verdict.fault.is_some() {
            return;
        }
        self.verdict.fault = self.fault_of(record);
        if self.verdict.fault.is_none() {
            self.head = record.hash;
            self.verdict.record_count += 1;
            self.verdict.anchor_count += u64::from(self.anchors.contains_key(&record.sequence));
        }
    }

    fn fault_of(&self, record: &Record) -> Option<ChainFault> {
        let expected = self.verdict.record_count + 1;
        if record.sequence != expected {
            return Some(ChainFault::Sequence { expected });
        }
        if record.previous_hash != self.head {
            return Some(ChainFault::Link(expected));
        }
        let sealed = Record::seal(expected, record.entry.clone(), record.previous_hash);
        if sealed.hash != record.hash {
            return Some(ChainFault::Content(expected));
        }
        let anchored = self.anchors.get(&expected);
        anchored
            .filter(|hash| **hash != record.hash)
            .map(|_| ChainFault::Anchor(expected))
    }

    /// Ends after the last record.
    pub fn finish(mut self) -> Verdict {
        let cut = self
            .anchors
            .range(self.verdict.record_count + 1..)
            .next()
            .map(|(sequence, _)| *sequence);
        self.verdict.fault = self.verdict.fault.or(cut.map(ChainFault::Cut));
        self.verdict
    }
}
