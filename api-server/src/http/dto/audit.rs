//! The audit chain.

use cell_api_core::audit::Record;
use serde::Serialize;
use utoipa::ToSchema;

use super::rfc3339;

/// Some records.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditPage {
    /// In the order of sequences, or against it if the newest were asked for first.
    pub records: Vec<AuditRecord>,
    /// `from` of the next page; null when this is the last.
    #[schema(required)]
    pub next: Option<u64>,
}

/// What somebody did.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditRecord {
    /// From 1, without gaps.
    pub sequence: u64,
    /// RFC 3339.
    pub time: String,
    /// A user's name, `local:<user>` on the automation socket, `setup`, or `-` for somebody unknown.
    pub actor: String,
    /// `admin`, `peer`, or empty.
    pub role: String,
    /// An address, or `unix`.
    pub remote: String,
    /// E.g. `peer.create`.
    pub action: String,
    /// E.g. a peer's name.
    pub subject: String,
    /// More, for people.
    pub detail: String,
    /// SHA-256 of the record before, hexadecimal.
    pub previous_hash: String,
    /// SHA-256 of this one, hexadecimal.
    pub hash: String,
}

/// What a check of the chain found.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditVerdict {
    /// Whether every record follows from the one before and every anchor matches.
    pub intact: bool,
    /// Records checked.
    pub record_count: u64,
    /// Anchors compared.
    pub anchor_count: u64,
    /// The first record that does not fit; null when intact.
    #[schema(required)]
    pub first_bad_sequence: Option<u64>,
    /// What is wrong; empty when intact.
    pub detail: String,
}

impl From<Record> for AuditRecord {
    fn from(record: Record) -> Self {
        let Record {
            sequence,
            entry,
            previous_hash,
            hash,
        } = record;
        AuditRecord {
            sequence,
            time: rfc3339(entry.time_unix_ms),
            actor: entry.actor,
            role: entry.role,
            remote: entry.remote,
            action: entry.action,
            subject: entry.subject,
            detail: entry.detail,
            previous_hash: hex::encode(previous_hash),
            hash: hex::encode(hash),
        }
    }
}
