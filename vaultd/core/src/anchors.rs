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

/// The end of a file, or any place between two records: what is needed to go on from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// How many records there are up to here.
    pub count: u64,
    /// The last of them.
    pub last: Option<Anchor>,
    /// Its MAC; zeros if there is none.
    pub head: Mac,
}

/// A file that no crash leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// The magic is missing or wrong.
    #[error("not a file of anchors")]
    Magic,
    /// A record does not fit the one before it, or its MAC is wrong.
    #[error("record {0} was changed, or a record before it was removed")]
    Record(u64),
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

impl Tail {
    /// The end of a file without a record.
    pub fn empty() -> Tail {
        Tail {
            count: 0,
            last: None,
            head: [0; MAC_BYTES],
        }
    }

    /// The place after the record `record`, which is the `count`th, as it stands in the file and unchecked. A record that
    /// follows it proves its MAC.
    pub fn after(count: u64, record: &[u8; RECORD_BYTES]) -> Tail {
        let (body, told) = parts(record);
        Tail {
            count,
            last: Some(Anchor::from_body(&body)),
            head: told,
        }
    }

    /// Where the next record begins, bytes from the start of the file. What a file has beyond that at its end is torn: a
    /// write that was never acknowledged.
    pub fn whole(&self) -> u64 {
        offset(self.count)
    }

    /// Whether `sequence` may follow.
    ///
    /// # Errors
    /// When it is not greater than the last one.
    pub fn check_next(&self, sequence: u64) -> Result<(), NotNewer> {
        let last = self.last.map_or(0, |anchor| anchor.sequence);
        if sequence > last {
            Ok(())
        } else {
            Err(NotNewer { last })
        }
    }

    /// The place after `record`; `mac` computes a record's MAC from the one before and its body.
    ///
    /// # Errors
    /// [`Damaged::Record`] if it does not follow.
    pub fn follow(
        &self,
        record: &[u8; RECORD_BYTES],
        mac: impl Fn(&Mac, &[u8]) -> Mac,
    ) -> Result<Tail, Damaged> {
        let (body, told) = parts(record);
        let next = Tail::after(self.count + 1, record);
        let sequence = Anchor::from_body(&body).sequence;
        if told != mac(&self.head, &body) || self.check_next(sequence).is_err() {
            return Err(Damaged::Record(next.count));
        }
        Ok(next)
    }
}

/// Where the record after the first `count` begins, bytes from the start of the file.
pub fn offset(count: u64) -> u64 {
    (MAGIC.len() as u64).saturating_add(count.saturating_mul(RECORD_BYTES as u64))
}

fn parts(record: &[u8; RECORD_BYTES]) -> ([u8; BODY_BYTES], Mac) {
    let (mut body, mut mac) = ([0; BODY_BYTES], [0; MAC_BYTES]);
    body.copy_from_slice(&record[..BODY_BYTES]);
    mac.copy_from_slice(&record[BODY_BYTES..]);
    (body, mac)
}

/// Checks a file piece by piece, however long it is, in the memory of one record.
pub struct Reader<M> {
    mac: M,
    tail: Option<Tail>,
    partial: Vec<u8>,
}

impl<M: Fn(&Mac, &[u8]) -> Mac> Reader<M> {
    /// `mac` computes a record's MAC from the one before and its body.
    pub fn new(mac: M) -> Self {
        Reader {
            mac,
            tail: None,
            partial: Vec::new(),
        }
    }

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// See [`Damaged`].
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Damaged> {
        let mut rest = bytes;
        loop {
            let length = self.tail.map_or(MAGIC.len(), |_| RECORD_BYTES);
            let (taken, after) = rest.split_at(rest.len().min(length - self.partial.len()));
            self.partial.extend_from_slice(taken);
            rest = after;
            if self.partial.len() < length {
                return Ok(());
            }
            self.tail = Some(match self.tail {
                None if self.partial == MAGIC => Tail::empty(),
                None => return Err(Damaged::Magic),
                Some(tail) => {
                    let mut record = [0; RECORD_BYTES];
                    record.copy_from_slice(&self.partial);
                    tail.follow(&record, &self.mac)?
                }
            });
            self.partial.clear();
        }
    }

    /// The end of the file, after its last byte.
    ///
    /// # Errors
    /// [`Damaged::Magic`] for a file that is too short.
    pub fn finish(self) -> Result<Tail, Damaged> {
        self.tail.ok_or(Damaged::Magic)
    }
}

/// Checks a whole file; see [`Reader`].
///
/// # Errors
/// See [`Damaged`].
pub fn check(bytes: &[u8], mac: impl Fn(&Mac, &[u8]) -> Mac) -> Result<Tail, Damaged> {
    let mut reader = Reader::new(mac);
    reader.feed(bytes)?;
    reader.finish()
}
