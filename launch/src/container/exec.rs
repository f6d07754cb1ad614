//! `cell-launch container exec`: what runs between [`super::serve`] and a daemon. It has one thread, the daemon's user and no right that
//! the container has not; it takes the listeners and becomes the daemon.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use clap::Args;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, dup2_stdin, setsid};

use crate::error::Error;
use crate::exec_daemon::{execute, step};
use crate::handover;

/// What the daemon gets beside its environment.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Served {
    /// Names of listeners that come by standard input, which the container made itself.
    #[arg(long, value_delimiter = ',')]
    pub own: Vec<String>,
    /// The socket of whoever holds the others.
    #[arg(long)]
    pub handover: PathBuf,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub program: Vec<String>,
}

impl Served {
    /// As arguments of `cell-launch`.
    pub fn to_arguments(&self) -> Vec<String> {
        let mut arguments = vec!["container".to_owned(), "exec".to_owned()];
        arguments.extend(["--handover".to_owned(), self.handover.display().to_string()]);
        if !self.own.is_empty() {
            arguments.extend(["--own".to_owned(), self.own.join(",")]);
        }
        arguments.push("--".to_owned());
        arguments.extend(self.program.iter().cloned());
        arguments
    }

    /// Becomes the daemon.
    ///
    /// # Errors
    /// At the first step that fails; the daemon is not started then.
    pub(super) fn carry_out(&self) -> Result<Infallible, Error> {
        let mut listeners = self.own.clone();
        if !listeners.is_empty() {
            step(
                "taking the container's own listeners",
                handover::unpack(0, listeners.len()),
            )?;
        }
        let given = step("taking the listeners", take(&self.handover, listeners.len()))?;
        listeners.extend(given);
        step(
            "standard input",
            File::open("/dev/null").and_then(|null| Ok(dup2_stdin(null)?)),
        )?;
        step("signals", SigSet::empty().thread_set_mask())?;
        step("a session of its own", setsid())?;
        step("no core dumps", setrlimit(Resource::RLIMIT_CORE, 0, 0))?;
        umask(Mode::from_bits_truncate(0o077));
        step("the working folder", chdir("/"))?;
        step("no new privileges", prctl::set_no_new_privs())?;
        Err(execute(&self.program, &listeners))
    }
}

/// The connection becomes standard input and leaves its own number free, on which the first listener lands.
fn take(path: &Path, taken: usize) -> io::Result<Vec<String>> {
    let connection = OwnedFd::from(UnixStream::connect(path)?);
    dup2_stdin(&connection)?;
    drop(connection);
    handover::ask(taken)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use clap::Parser;

    use super::*;
    use crate::options::{Command, Options, Part};

    #[test]
    fn what_is_served_survives_the_command_line() {
        for own in [vec![], vec!["nft".to_owned()]] {
            let served = Served {
                own,
                handover: "/srv/a b/handover.sock".into(),
                program: vec!["/bin/x".into(), "--config".into(), "/e".into()],
            };
            let line = std::iter::once("cell-launch".to_owned()).chain(served.to_arguments());
            match Options::try_parse_from(line).unwrap().command {
                Command::Container(Part::Exec(parsed)) => assert_eq!(parsed, served),
                other => panic!("{other:?}"),
            }
        }
    }
}
