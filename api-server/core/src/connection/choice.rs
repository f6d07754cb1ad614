//! Which connection carries a peer, what stands in for it, and what happens when none works.

use std::collections::BTreeMap;
use std::fmt;

use super::health::{Health, Way, way};
use super::id::ConnectionId;
use super::kind::Kind;

/// The most connections that may stand in for the one that a peer is bound to.
pub const MAX_FALLBACKS: usize = 8;

/// A peer's choice. The default is the machine's own way to the internet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExitChoice {
    bound: Option<ConnectionId>,
    fail_open: Option<bool>,
    fallbacks: Vec<ConnectionId>,
}

/// Connections that cannot stand in as listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFallbacks {
    /// Too many.
    #[error("must have at most {MAX_FALLBACKS} connections")]
    TooMany,
    /// One is listed twice.
    #[error("must not name a connection twice")]
    Twice,
    /// One is the bound connection itself.
    #[error("must not name the connection that it stands in for")]
    Bound,
    /// There is nothing to stand in for.
    #[error("must be empty without a connection to stand in for")]
    Unbound,
}

impl ExitChoice {
    /// Checks a whole choice. `fail_open` is the peer's own word; without it the type of the bound connection decides.
    ///
    /// # Errors
    /// [`InvalidFallbacks`].
    pub fn try_new(
        bound: Option<ConnectionId>,
        fail_open: Option<bool>,
        fallbacks: Vec<ConnectionId>,
    ) -> Result<Self, InvalidFallbacks> {
        if fallbacks.len() > MAX_FALLBACKS {
            return Err(InvalidFallbacks::TooMany);
        }
        if fallbacks.iter().any(|id| Some(*id) == bound) {
            return Err(InvalidFallbacks::Bound);
        }
        if bound.is_none() && !fallbacks.is_empty() {
            return Err(InvalidFallbacks::Unbound);
        }
        let is_repeated = |(place, id): (usize, &ConnectionId)| fallbacks[..place].contains(id);
        if fallbacks.iter().enumerate().any(is_repeated) {
            return Err(InvalidFallbacks::Twice);
        }
        Ok(ExitChoice {
            bound,
            fail_open,
            fallbacks,
        })
    }

    /// The connection that the peer is bound to; `None`: the machine's own way.
    pub fn bound(&self) -> Option<ConnectionId> {
        self.bound
    }

    /// The peer's own word on failing open, if it has one.
    pub fn fail_open(&self) -> Option<bool> {
        self.fail_open
    }

    /// What stands in for the bound connection, the first first.
    pub fn fallbacks(&self) -> &[ConnectionId] {
        &self.fallbacks
    }

    /// Bound to another connection, or to none. What stood in for it stays, but for the one that is bound now; without a
    /// connection nothing stands in.
    pub fn bound_to(&self, bound: Option<ConnectionId>) -> Self {
        let mut fallbacks = self.fallbacks.clone();
        fallbacks.retain(|id| bound.is_some_and(|bound| bound != *id));
        ExitChoice {
            bound,
            fail_open: self.fail_open,
            fallbacks,
        }
    }

    /// With another word on failing open.
    pub fn failing_open(&self, fail_open: Option<bool>) -> Self {
        ExitChoice {
            fail_open,
            ..self.clone()
        }
    }

    /// With other connections that stand in.
    ///
    /// # Errors
    /// [`InvalidFallbacks`].
    pub fn falling_back_to(&self, fallbacks: Vec<ConnectionId>) -> Result<Self, InvalidFallbacks> {
        ExitChoice::try_new(self.bound, self.fail_open, fallbacks)
    }
}

/// What is asked of it, unchecked: what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExitInput {
    /// Names a connection ([`super::reference`]); empty: the machine's own way.
    pub exit: Option<String>,
    /// Its own word on failing open; `Some(None)`: as the connection's type says.
    pub fail_open: Option<Option<bool>>,
    /// What stands in, each named as the connection is, the first first.
    pub fallbacks: Option<Vec<String>>,
}

impl ExitInput {
    /// Another connection, or none, and nothing else.
    pub fn exit(text: String) -> Self {
        ExitInput {
            exit: Some(text),
            ..ExitInput::default()
        }
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        *self == ExitInput::default()
    }
}

impl fmt::Display for ExitChoice {
    /// All of it, in one form: it is part of a peer's version.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bound {
            Some(id) => write!(f, "exit {id}")?,
            None => f.write_str("own way")?,
        }
        match self.fail_open {
            Some(true) => f.write_str(", fails open")?,
            Some(false) => f.write_str(", fails closed")?,
            None => {}
        }
        for id in &self.fallbacks {
            write!(f, ", else {id}")?;
        }
        Ok(())
    }
}

/// What must be known of a connection to choose a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitFact {
    /// Its type.
    pub kind: Kind,
    /// Whether it works.
    pub health: Health,
    /// Whether netd has it, so that a peer can be sent there.
    pub carried: bool,
}

/// All connections, by id.
pub type ExitFacts = BTreeMap<ConnectionId, ExitFact>;

/// Where a peer's packets to the internet go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// Out by the machine's own line.
    Own,
    /// Through this connection, or nowhere while it does not work.
    Exit(ConnectionId),
    /// Nowhere: the bound connection is none that netd has, and the peer fails closed.
    Nowhere,
}

/// The bound connection if it works, else the first that works of those that stand in for it, else by
/// [`way`](super::health::way): directly for who fails open, and for all others nowhere but the bound connection.
pub fn route(choice: &ExitChoice, facts: &ExitFacts) -> Route {
    let Some(bound) = choice.bound else {
        return Route::Own;
    };
    let works = |id: &&ConnectionId| {
        facts
            .get(*id)
            .is_some_and(|fact| fact.carried && fact.health == Health::Working)
    };
    if let Some(id) = std::iter::once(&bound).chain(&choice.fallbacks).find(works) {
        return Route::Exit(*id);
    }
    let Some(fact) = facts.get(&bound) else {
        return Route::Nowhere;
    };
    let health = if fact.carried { fact.health } else { Health::Down };
    match way(fact.kind, choice.fail_open, health) {
        Way::Direct => Route::Own,
        Way::Exit if fact.carried => Route::Exit(bound),
        Way::Exit => Route::Nowhere,
    }
}

#[cfg(test)]
mod tests;
