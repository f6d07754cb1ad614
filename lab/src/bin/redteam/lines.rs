//! All lines of the list, and a name for each attempt of them, so that another process can be told to make it.

use std::fmt;
use std::str::FromStr;

use crate::attempt::{Check, Outcome};
use crate::rpc::RpcCheck;
use crate::target::Target;
use crate::{files, kernel, listeners, network, processes, rpc, sockets};

/// The lines at process level.
pub fn process_level() -> Vec<Check> {
    [
        files::CHECKS,
        sockets::CHECKS,
        processes::CHECKS,
        network::CHECKS,
        kernel::CHECKS,
    ]
    .concat()
}

/// The lines of the sockets that `cell-api` is handed. They use these up, so they are not for a unit's own.
pub fn listeners() -> Vec<Check> {
    listeners::CHECKS.to_vec()
}

/// The lines at RPC level, those that use up a quota last.
pub fn rpc_level() -> Vec<RpcCheck> {
    rpc::checks()
}

/// One attempt, by the place of its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Of a line at process level.
    Process(usize),
    /// Of a line of listeners.
    Listener(usize),
    /// The control of a line at RPC level.
    Control(usize),
    /// The attack of a line at RPC level.
    Attack(usize),
}

impl Attempt {
    /// Makes it, with the rights that this process has.
    pub fn carry_out(self, target: &Target) -> Outcome {
        let missing = || Outcome::Void("no such line".to_owned());
        match self {
            Attempt::Process(at) => process_level()
                .get(at)
                .map_or_else(missing, |line| (line.attempt)(target)),
            Attempt::Listener(at) => listeners()
                .get(at)
                .map_or_else(missing, |line| (line.attempt)(target)),
            Attempt::Control(at) => rpc_level()
                .get(at)
                .map_or_else(missing, |line| (line.control)(target)),
            Attempt::Attack(at) => rpc_level()
                .get(at)
                .map_or_else(missing, |line| (line.attack)(target)),
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attempt::Process(at) => write!(f, "process:{at}"),
            Attempt::Listener(at) => write!(f, "listener:{at}"),
            Attempt::Control(at) => write!(f, "control:{at}"),
            Attempt::Attack(at) => write!(f, "attack:{at}"),
        }
    }
}

impl FromStr for Attempt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("{text} is no attempt");
        let (kind, at) = text.split_once(':').ok_or_else(unknown)?;
        let at = at.parse().map_err(|_| unknown())?;
        match kind {
            "process" => Ok(Attempt::Process(at)),
            "listener" => Ok(Attempt::Listener(at)),
            "control" => Ok(Attempt::Control(at)),
            "attack" => Ok(Attempt::Attack(at)),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_survives_the_command_line() {
        for attempt in [
            Attempt::Process(3),
            Attempt::Listener(1),
            Attempt::Control(0),
            Attempt::Attack(17),
        ] {
            assert_eq!(attempt.to_string().parse(), Ok(attempt));
        }
        assert!("process".parse::<Attempt>().is_err());
    }
}
