//! Whether a connection works, and what that means for a peer's packets.

use super::kind::Kind;

/// Three-valued: what is not known is not taken for working.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// A probe came through.
    Working,
    /// A probe did not.
    Down,
    /// Nothing was probed yet, or too long ago.
    Unknown,
}

impl Health {
    /// Its name in the API and in the stored state.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Working => "working",
            Health::Down => "down",
            Health::Unknown => "unknown",
        }
    }
}

/// Where a peer's packets go that are not the cell's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Through the connection, or nowhere.
    Exit,
    /// Out by the cell's own line: the peer fails open and the connection does not work.
    Direct,
}

/// Decides it. `fail_open` is the peer's own word, if it has one; else the connection's type decides.
pub fn way(kind: Kind, fail_open: Option<bool>, health: Health) -> Way {
    match health {
        Health::Working => Way::Exit,
        Health::Down | Health::Unknown if fail_open.unwrap_or_else(|| kind.fails_open()) => Way::Direct,
        Health::Down | Health::Unknown => Way::Exit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_fails_open_goes_direct_and_only_when_it_does_not_work() {
        for kind in Kind::ALL {
            for fail_open in [None, Some(false), Some(true)] {
                assert_eq!(way(kind, fail_open, Health::Working), Way::Exit);
                for health in [Health::Down, Health::Unknown] {
                    let direct = fail_open == Some(true) || fail_open.is_none() && kind == Kind::Tor;
                    assert_eq!(
                        way(kind, fail_open, health) == Way::Direct,
                        direct,
                        "{kind} {fail_open:?} {health:?}"
                    );
                }
            }
        }
    }
}
