//! Daemons that outlived a killed launcher: found by process id and start time, and ended before the next start.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::Error;
use crate::files;
use crate::house::Daemon;

const GRACE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);

/// Notes the process of a daemon: its id for people and tests, and with its start time for [`end`].
///
/// # Errors
/// As write(2).
pub fn note(run: &Path, daemon: Daemon, pid: u32) -> Result<(), Error> {
    files::write_note(&run.join("pids").join(daemon.name()), &format!("{pid}\n"))?;
    let started = start_time(pid).unwrap_or_default();
    files::write_note(&record(run, daemon), &format!("{pid} {started}\n"))
}

/// Ends every daemon of an earlier start that still runs, and says so.
///
/// # Errors
/// When one cannot be ended.
pub fn end(run: &Path) -> Result<(), Error> {
    let alive: Vec<(Daemon, Pid, u64)> = Daemon::ALL
        .into_iter()
        .filter_map(|daemon| {
            let (pid, started) = parse(&fs::read_to_string(record(run, daemon)).ok()?)?;
            lives(pid, started).then_some((daemon, Pid::from_raw(pid), started))
        })
        .collect();
    for (daemon, pid, _) in &alive {
        println!(
            "==> ending {} (process {pid}), left by an earlier start",
            daemon.user()
        );
        signal(*pid, Signal::SIGTERM)?;
    }
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline
        && alive
            .iter()
            .any(|(_, pid, started)| lives(pid.as_raw(), *started))
    {
        sleep(POLL);
    }
    for (_, pid, _) in alive
        .iter()
        .filter(|(_, pid, started)| lives(pid.as_raw(), *started))
    {
        signal(*pid, Signal::SIGKILL)?;
    }
    Ok(())
}

fn signal(pid: Pid, signal: Signal) -> Result<(), Error> {
    match kill(pid, signal) {
        Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
        Err(errno) => Err(Error::call(format!("ending process {pid}"))(errno)),
    }
}

fn record(run: &Path, daemon: Daemon) -> PathBuf {
    run.join("started").join(daemon.name())
}

fn parse(record: &str) -> Option<(i32, u64)> {
    let (pid, started) = record.trim().split_once(' ')?;
    let (pid, started) = (pid.parse().ok()?, started.parse().ok()?);
    (pid > 1 && started > 0).then_some((pid, started))
}

/// The same process, not another one to which the number was given anew.
fn lives(pid: i32, started: u64) -> bool {
    u32::try_from(pid).ok().and_then(start_time) == Some(started)
}

/// Field 22 of /proc/PID/stat (proc(5)), counted after the command's closing parenthesis. `None` for the dead, zombies
/// included.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    (state != "Z" && state != "X")
        .then(|| fields.nth(18)?.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::process::Command;

    use super::*;

    #[test]
    fn a_record_names_one_process() {
        let me = std::process::id();
        let started = start_time(me).unwrap();
        let pid = i32::try_from(me).unwrap();
        assert!(lives(pid, started));
        assert!(
            !lives(pid, started + 1),
            "the number was given to another process"
        );
        assert_eq!(parse("1 5\n"), None);
        assert_eq!(parse("7 0\n"), None);
        assert_eq!(parse("7 5\n"), Some((7, 5)));
    }

    #[test]
    fn what_was_left_is_ended_and_nothing_else() {
        let run = tempfile::tempdir().unwrap();
        for folder in ["pids", "started"] {
            fs::create_dir(run.path().join(folder)).unwrap();
        }
        let sleeper = || Command::new("sleep").arg("100").spawn().unwrap();
        let (mut ours, mut other) = (sleeper(), sleeper());
        note(run.path(), Daemon::Netd, ours.id()).unwrap();
        fs::write(record(run.path(), Daemon::Api), format!("{} 1\n", other.id())).unwrap();
        end(run.path()).unwrap();
        assert!(ours.wait().is_ok_and(|status| !status.success()));
        assert_eq!(other.try_wait().unwrap(), None);
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
