//! The file of audit anchors: records of one length, each bound to the one before it, so that a crash can only leave a
//! torn end and anything else is damage.
//!
//! ```text
//! magic     8  "CELLANC1"
//! record 1..n:
//!   sequence 8  big endian, greater than the one before
//!   hash    32  SHA-256 of the API's audit record
//!   time     8  big endian, milliseconds since 1970
//!   mac     32  over the mac before (zeros at first) and the 48 bytes above
//! ```

use crate::timestamp::Timestamp;

/// The first bytes of the file.
pub const MAGIC: &[u8; 8] = b"CELLANC1";
/// Length of a MAC, bytes.
pub const MAC_BYTES: usize = 32;
/// Length of a record without its MAC, bytes.
pub const BODY_BYTES: usize = 48;
/// Length of a record, bytes.
pub const RECORD_BYTES: usize = BODY_BYTES + MAC_BYTES;

/// A keyed digest.
pub type Mac = [u8; MAC_BYTES];

/// One anchored head of the API's audit chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Sequence number of the API's audit record.
    pub sequence: u64,
    /// SHA-256 of that record.
    pub hash: [u8; 32],
    /// When vaultd wrote it down.
    pub anchored: Timestamp,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchors {
    /// The records, in order.
    pub anchors: Vec<Anchor>,
    /// The MAC of the last one; zeros if there is none.
    pub head: Mac,
    /// Length of the file up to the last whole record, bytes. What follows is the torn end of a write that was never
    /// acknowledged.
    pub whole: usize,
}

/// A file that no crash leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// The magic is missing or wrong.
    #[error("not a file of anchors")]
    Magic,
    /// A record does not fit the one before it, or its MAC is wrong.
    #[error("record {0} was changed, or a record before it was removed")]
    Record(usize),
}

/// Not newer than the last anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the last anchor has sequence {last}")]
pub struct NotNewer {
    /// The last sequence.
    pub last: u64,
}

impl Anchor {
    /// The record without its MAC.
    pub fn body(&self) -> [u8; BODY_BYTES] {
        let mut body = [0; BODY_BYTES];
        body[..8].copy_from_slice(&self.sequence.to_be_bytes());
        body[8..40].copy_from_slice(&self.hash);
        body[40..].copy_from_slice(&self.anchored.0.to_be_bytes());
        body
    }

    fn from_body(body: &[u8; BODY_BYTES]) -> Anchor {
        let mut sequence = [0; 8];
        let mut hash = [0; 32];
        let mut anchored = [0; 8];
        sequence.copy_from_slice(&body[..8]);
        hash.copy_from_slice(&body[8..40]);
        anchored.copy_from_slice(&body[40..]);
        Anchor {
            sequence: u64::from_be_bytes(sequence),
            hash,
            anchored: Timestamp(i64::from_be_bytes(anchored)),
        }
    }
}

impl Anchors {
    /// Whether `sequence` may follow.
    ///
    /// # Errors
    /// When it is not greater than the last one.
    pub fn check_next(&self, sequence: u64) -> Result<(), NotNewer> {
        let last = self.anchors.last().map_or(0, |anchor| anchor.sequence);
        if sequence > last {
            Ok(())
        } else {
            Err(NotNewer { last })
        }
    }
}

/// Reads a file; `mac` computes a record's MAC from the one before and its body.
///
/// # Errors
/// See [`Damaged`].
pub fn parse(bytes: &[u8], mac: impl Fn(&Mac, &[u8]) -> Mac) -> Result<Anchors, Damaged> {
    let records = bytes.strip_prefix(MAGIC).ok_or(Damaged::Magic)?;
    let mut read = Anchors {
        anchors: Vec::new(),
        head: [0; MAC_BYTES],
        whole: MAGIC.len(),
    };
    for (number, record) in records.chunks_exact(RECORD_BYTES).enumerate() {
        let damaged = Damaged::Record(number + 1);
        let (body, told) = record.split_first_chunk::<BODY_BYTES>().ok_or(damaged)?;
        let expected = mac(&read.head, body);
        let anchor = Anchor::from_body(body);
        if told != expected.as_slice() || read.check_next(anchor.sequence).is_err() {
            return Err(damaged);
        }
        read.anchors.push(anchor);
        read.head = expected;
        read.whole += RECORD_BYTES;
    }
    Ok(read)
}
