//! Changes that undo themselves: what may be asked while one waits for its confirmation, and when it is taken back.
//! No clock: the time comes in as milliseconds since boot, in which a suspended machine ages too and which nobody can set.

mod beside;

use std::fmt;

pub use beside::{Beside, takes_away};

/// How long a change waits for its confirmation: 5-3600 seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window(u32);

/// Not a time to wait for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a change waits 5-3600 seconds for its confirmation; 0 is not at all")]
pub struct InvalidWindow;

impl Window {
    /// Of so many seconds; 0 is none.
    ///
    /// # Errors
    /// [`InvalidWindow`] outside of 5-3600.
    pub fn of_seconds(seconds: u32) -> Result<Option<Self>, InvalidWindow> {
        match seconds {
            0 => Ok(None),
            5..=3600 => Ok(Some(Window(seconds))),
            1..=4 | 3601.. => Err(InvalidWindow),
        }
    }

    /// Milliseconds.
    pub fn millis(self) -> u64 {
        u64::from(self.0) * 1000
    }
}

/// A moment: milliseconds since boot (CLOCK_BOOTTIME).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SinceBoot(pub u64);

/// A moment, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// What deadlines are counted by.
    pub boot: SinceBoot,
    /// What people read; milliseconds since 1970.
    pub unix_ms: i64,
}

/// A change that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Of the state with the change.
    pub etag: String,
    /// Of the state without it.
    pub previous_etag: String,
    /// When it is taken back.
    pub deadline: SinceBoot,
    /// The same for people, by the clock as it was.
    pub deadline_unix_ms: i64,
}

impl Pending {
    /// Waits from `now` on. No etag of its own before [`Pending::becomes`].
    pub fn begins(previous_etag: &str, window: Window, now: Now) -> Self {
        let millis = window.millis();
        Pending {
            etag: String::new(),
            previous_etag: previous_etag.to_owned(),
            deadline: SinceBoot(now.boot.0.saturating_add(millis)),
            deadline_unix_ms: now
                .unix_ms
                .saturating_add(i64::try_from(millis).unwrap_or(i64::MAX)),
        }
    }

    /// With a part more, which wants no more time than `window`: the deadline can come nearer alone.
    #[must_use]
    pub fn with_part(&self, window: Window, now: Now) -> Self {
        let asked = Pending::begins(&self.previous_etag, window, now);
        let nearer = if asked.deadline < self.deadline {
            &asked
        } else {
            self
        };
        Pending {
            etag: self.etag.clone(),
            ..nearer.clone()
        }
    }

    /// With the etag of the state that it is now.
    #[must_use]
    pub fn becomes(self, etag: String) -> Self {
        Pending { etag, ..self }
    }

    /// Milliseconds until it is taken back; 0: now.
    pub fn left(&self, now: SinceBoot) -> u64 {
        self.deadline.0.saturating_sub(now.0)
    }
}

/// Why a change was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Nobody confirmed it in time.
    Expired,
    /// Somebody asked for it.
    Requested,
    /// netd started anew meanwhile.
    Restarted,
    /// The kernel refused it.
    Failed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Expired => "nobody confirmed it in time",
            Reason::Requested => "that was asked for",
            Reason::Restarted => "netd started anew before it was confirmed",
            Reason::Failed => "the kernel refused it",
        })
    }
}

/// A change that was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollback {
    /// Of the change.
    pub rejected_etag: String,
    /// Of the state that came back, at that time.
    pub restored_etag: String,
    /// Milliseconds since 1970.
    pub at_unix_ms: i64,
    /// Why.
    pub reason: Reason,
}

/// Where netd stands with changes that wait.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Phase {
    /// None waits.
    #[default]
    Idle,
    /// One waits.
    Waits(Pending),
    /// One was taken back, and nobody has shown that they know.
    Unnoted(Rollback),
}

/// How a request is to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// For good.
    Plain,
    /// For good; the caller has taken note of the rollback.
    Notes,
    /// It waits for a confirmation.
    Begins(Window),
    /// It becomes part of the change that waits.
    JoinsIn(Window),
    /// It stands beside the change that waits, and may take away alone.
    Beside,
}

/// Why a request is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The state is another.
    #[error("the state was changed by somebody else; read it and try again")]
    EtagMismatch,
    /// A change waits.
    #[error(
        "a change waits for its confirmation: confirm it or roll it back; meanwhile, with its etag, rights can be taken away"
    )]
    ChangePending,
    /// A rollback that the caller may not know of.
    #[error("a change was rolled back: read the status, and send its etag with the next apply")]
    RolledBack,
    /// Nothing to come back to.
    #[error(
        "netd has accepted no spec since it started, so it has none to come back to; apply one for good first"
    )]
    NoLastGood,
    /// No such change waits.
    #[error("no change of this etag waits for a confirmation: it was rolled back, or never was")]
    NotPending,
}

impl Phase {
    /// How to carry out a request that was made against `etag` (empty: against any state) where `current` is in force
    /// (empty: none is).
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn admit(&self, etag: &str, current: &str, window: Option<Window>) -> Result<Way, Refusal> {
        let fits = !etag.is_empty() && etag == current;
        match (self, window) {
            (Phase::Waits(_), _) if !fits => Err(Refusal::ChangePending),
            (Phase::Waits(_), Some(window)) => Ok(Way::JoinsIn(window)),
            (Phase::Waits(_), None) => Ok(Way::Beside),
            (Phase::Idle | Phase::Unnoted(_), _) if !etag.is_empty() && !fits => Err(Refusal::EtagMismatch),
            // Whoever does not know of the rollback would make the same change again, and for good.
            (Phase::Unnoted(_), _) if !fits => Err(Refusal::RolledBack),
            (Phase::Idle | Phase::Unnoted(_), Some(_)) if current.is_empty() => Err(Refusal::NoLastGood),
            (Phase::Idle | Phase::Unnoted(_), Some(window)) => Ok(Way::Begins(window)),
            (Phase::Unnoted(_), None) => Ok(Way::Notes),
            (Phase::Idle, None) => Ok(Way::Plain),
        }
    }

    /// The change that `etag` names, if it waits and its time is not over.
    ///
    /// # Errors
    /// [`Refusal::NotPending`], [`Refusal::EtagMismatch`] when it is another that waits.
    pub fn waiting(&self, etag: &str, now: SinceBoot) -> Result<&Pending, Refusal> {
        match self {
            Phase::Idle | Phase::Unnoted(_) => Err(Refusal::NotPending),
            Phase::Waits(pending) if pending.etag != etag => Err(Refusal::EtagMismatch),
            Phase::Waits(pending) if pending.left(now) == 0 => Err(Refusal::NotPending),
            Phase::Waits(pending) => Ok(pending),
        }
    }

    /// The change that waits.
    pub fn pending(&self) -> Option<&Pending> {
        match self {
            Phase::Waits(pending) => Some(pending),
            Phase::Idle | Phase::Unnoted(_) => None,
        }
    }
}
