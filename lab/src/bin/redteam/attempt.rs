//! One attempt and its outcome, made in a forked child so that nothing of it stays.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use crate::launched;
use crate::lines::Attempt;
use crate::stance::{self, Stance};
use crate::target::Target;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The attacker got what it wanted.
    Open,
    /// It did not, and why: an error number, a status code, a signal.
    Closed(String),
    /// The attempt could not be made, so it proves nothing.
    Void(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Open => f.write_str("OPEN"),
            Outcome::Closed(why) => f.write_str(why),
            Outcome::Void(why) => write!(f, "void: {why}"),
        }
    }
}

impl Outcome {
    /// What is told through the pipe. A program that took the process over tells nothing of the kind: that is open too.
    pub fn parse(told: &str) -> Self {
        match told.split_once(' ') {
            Some(("closed", why)) => Outcome::Closed(why.to_owned()),
            Some(("void", why)) => Outcome::Void(why.to_owned()),
            _ => Outcome::Open,
        }
    }

    /// As [`Outcome::parse`] reads it.
    pub fn told(&self) -> String {
        match self {
            Outcome::Open => "open".to_owned(),
            Outcome::Closed(why) => format!("closed {why}"),
            Outcome::Void(why) => format!("void {why}"),
        }
    }
}

impl<T> From<io::Result<T>> for Outcome {
    fn from(result: io::Result<T>) -> Self {
        match result {
            Ok(_) => Outcome::Open,
            Err(e) => Outcome::Closed(
                e.raw_os_error()
                    .map_or_else(|| e.to_string(), |n| format!("{:?}", Errno::from_raw(n))),
            ),
        }
    }
}

/// The outcome of a system call that answers -1 and errno when it fails.
pub fn answered(rc: impl Into<i64>) -> Outcome {
    let answer = if rc.into() >= 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    };
    Outcome::from(answer)
}

/// A line of the red-team list.
#[derive(Clone, Copy)]
pub struct Check {
    /// As in the list, e.g. `F01`.
    pub id: &'static str,
    /// What is attempted.
    pub what: &'static str,
    /// The attempt.
    pub attempt: fn(&Target) -> Outcome,
}

/// Makes `attempt` with the rights of `stance`.
///
/// # Errors
/// When the attempt cannot be made, or the stance cannot be taken.
pub fn make(stance: Stance, target: &Target, attempt: Attempt) -> Result<Outcome> {
    let enter = match stance {
        Stance::Root => || Ok(()),
        Stance::Plain => stance::become_attacker,
        Stance::Sandboxed => return launched::make(target, attempt),
    };
    in_child(enter, || attempt.carry_out(target)).with_context(|| format!("{attempt} as {stance}"))
}

/// Makes an attempt in a child that takes its stance first.
///
/// # Errors
/// When the child cannot be made, or cannot take the stance.
pub fn in_child(enter: impl FnOnce() -> Result<()>, attempt: impl FnOnce() -> Outcome) -> Result<Outcome> {
    let (mut reader, mut writer) = io::pipe()?;
    // SAFETY: this process has one thread, so its copy may do anything that it may.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(reader);
            let told = match enter() {
                Ok(()) => attempt().told(),
                Err(e) => format!("stance {e:#}"),
            };
            let failed = writer.write_all(told.as_bytes()).is_err();
            // SAFETY: ends the child without the parent's exit handlers.
            unsafe { libc::_exit(i32::from(failed)) }
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let mut told = String::new();
            // A taken-over program may write anything to its standard output, but the pipe is close-on-exec.
            reader
                .read_to_string(&mut told)
                .with_context(|| format!("pipe {}", reader.as_raw_fd()))?;
            let ended = waitpid(child, None)?;
            anyhow::ensure!(!told.starts_with("stance "), "{told}");
            Ok(match ended {
                WaitStatus::Signaled(_, signal, _) => Outcome::Closed(signal.to_string()),
                _ => Outcome::parse(&told),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_survives_the_pipe_and_silence_is_open() {
        for outcome in [
            Outcome::Open,
            Outcome::Closed("EPERM".into()),
            Outcome::Void("no daemon".into()),
        ] {
            assert_eq!(Outcome::parse(&outcome.told()), outcome);
        }
        assert_eq!(Outcome::parse(""), Outcome::Open);
        assert_eq!(Outcome::parse("anything else"), Outcome::Open);
    }
}
