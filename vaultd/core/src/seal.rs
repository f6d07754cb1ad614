//! Whether the vault may open: what was found of the key-encryption key and of the state decides, and whatever is in
//! doubt stays sealed and untouched.

use std::fmt;

/// Length of the key-encryption key, bytes.
pub const KEK_BYTES: usize = 32;

/// What was found of the key-encryption key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KekFinding {
    /// There is no `$CREDENTIALS_DIRECTORY/kek`, or it cannot be read.
    Missing,
    /// It does not have [`KEK_BYTES`].
    WrongLength,
    /// It is there.
    Present,
}

/// What was found in the state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateFinding {
    /// Nothing yet.
    Fresh,
    /// A vault whose verifier is missing or not one.
    Unreadable,
    /// A vault whose verifier was made with another key.
    OtherKey,
    /// A vault that was made with this key.
    SameKey,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Make a vault.
    Initialise,
    /// Open the one that is there.
    Open,
    /// Touch nothing.
    StaySealed(SealReason),
}

/// Why a vault is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealReason {
    /// No key-encryption key.
    KekMissing,
    /// One of another length.
    KekLength,
    /// Not the one that the vault was made with.
    KekWrong,
    /// The clock cannot be right, and a new authority would be dated by it.
    ClockUnset,
    /// A file of the vault is missing, changed, or belongs to another moment than its index.
    StateDamaged,
    /// The state is older than the access log says it was.
    StateRolledBack,
    /// A file could not be read or written.
    StateUnreadable,
}

impl SealReason {
    /// Stable code for conditions.
    pub fn code(self) -> &'static str {
        match self {
            SealReason::KekMissing => "KEK_MISSING",
            SealReason::KekLength => "KEK_LENGTH",
            SealReason::KekWrong => "KEK_WRONG",
            SealReason::ClockUnset => "CLOCK_UNSET",
            SealReason::StateDamaged => "STATE_DAMAGED",
            SealReason::StateRolledBack => "STATE_ROLLED_BACK",
            SealReason::StateUnreadable => "STATE_UNREADABLE",
        }
    }
}

impl fmt::Display for SealReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SealReason::KekMissing => {
                "the credential \"kek\" was not handed over; see LoadCredentialEncrypted= in the unit"
            }
            SealReason::KekLength => "the credential \"kek\" must have exactly 32 bytes",
            SealReason::KekWrong => "the credential \"kek\" is not the one that this vault was made with",
            SealReason::ClockUnset => {
                "the clock shows a time before this version was made; set it and restart"
            }
            SealReason::StateDamaged => {
                "a file of the vault is missing or was changed; restore the state folder from a backup"
            }
            SealReason::StateRolledBack => {
                "the vault is older than its access log; restore the whole state folder"
            }
            SealReason::StateUnreadable => "a file of the vault could not be read or written; see the log",
        })
    }
}

/// Decides.
pub fn decide(kek: KekFinding, state: StateFinding) -> Decision {
    match (kek, state) {
        (KekFinding::Missing, _) => Decision::StaySealed(SealReason::KekMissing),
        (KekFinding::WrongLength, _) => Decision::StaySealed(SealReason::KekLength),
        (KekFinding::Present, StateFinding::Fresh) => Decision::Initialise,
        (KekFinding::Present, StateFinding::SameKey) => Decision::Open,
        (KekFinding::Present, StateFinding::OtherKey) => Decision::StaySealed(SealReason::KekWrong),
        (KekFinding::Present, StateFinding::Unreadable) => Decision::StaySealed(SealReason::StateDamaged),
    }
}
