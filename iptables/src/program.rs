//! The programs: fixed paths, fixed arguments, an empty environment, bounded output, a deadline.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// One call of one program. No part of it comes from a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Fills sets.
    RestoreSets,
    /// Prints sets.
    SaveSets,
    /// Prints sets without their entries.
    ListSets,
    /// Fills tables.
    RestoreRules(Family),
    /// Prints a table.
    SaveRules(Family, Table),
}

/// Which of iptables and ip6tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "names say it")]
pub enum Family {
    V4,
    V6,
}

/// The tables that have chains of Cell's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "iptables' own words")]
pub enum Table {
    Nat,
    Raw,
    Filter,
    Mangle,
}

/// Where Debian has them; by its first argument it knows what it is asked to be.
pub const IPTABLES: &str = "/usr/sbin/xtables-legacy-multi";
/// Where Debian has it.
pub const IPSET: &str = "/usr/sbin/ipset";
/// What programs that replace tables wait for each other by (iptables, `XTABLES_LOCKFILE`).
pub const LOCK: &str = "/run/xtables.lock";

/// Longest output, bytes; others' rules are in it too.
const OUTPUT_MAX: u64 = 64 << 20;
/// What of a program's complaint is told.
const COMPLAINT_MAX: usize = 400;
/// A program that takes longer is ended: waiting for the lock takes five seconds at most, a large set less than one.
const DEADLINE: Duration = Duration::from_secs(20);

/// Why there is no output.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It could not be started or spoken to.
    #[error("{0} cannot be run: is the package installed?")]
    Start(&'static str, #[source] std::io::Error),
    /// It refused.
    #[error("{program}: {complaint}")]
    Refused {
        /// Which.
        program: &'static str,
        /// In its own words.
        complaint: String,
    },
    /// It printed more than anybody wants to read.
    #[error("{0} printed more than {OUTPUT_MAX} bytes")]
    TooMuch(&'static str),
    /// It did not end.
    #[error("{0} did not end within 20 s")]
    TooLong(&'static str),
}

impl Program {
    fn path(self) -> &'static str {
        match self {
            Program::RestoreSets | Program::SaveSets | Program::ListSets => IPSET,
            Program::RestoreRules(_) | Program::SaveRules(..) => IPTABLES,
        }
    }

    /// Name and arguments.
    pub fn arguments(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Program::RestoreSets => ("ipset", &["-exist", "restore"]),
            Program::SaveSets => ("ipset", &["save"]),
            Program::ListSets => ("ipset", &["list", "-terse"]),
            Program::RestoreRules(Family::V4) => ("iptables-legacy-restore", &["--wait", "5", "--noflush"]),
            Program::RestoreRules(Family::V6) => ("ip6tables-legacy-restore", &["--wait", "5", "--noflush"]),
            Program::SaveRules(family, table) => {
                let name = match family {
                    Family::V4 => "iptables-legacy-save",
                    Family::V6 => "ip6tables-legacy-save",
                };
                let arguments = match table {
                    Table::Nat => &["-c", "-t", "nat"],
                    Table::Raw => &["-c", "-t", "raw"],
                    Table::Filter => &["-c", "-t", "filter"],
                    Table::Mangle => &["-c", "-t", "mangle"],
                };
                (name, arguments)
            }
        }
    }

    /// Runs it with `input`, and returns what it printed. Blocks.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn run(self, input: &str) -> Result<String, Failure> {
        let (name, arguments) = self.arguments();
        let start = |error| Failure::Start(name, error);
        let mut child = command(Path::new(self.path()), name, arguments)
            .spawn()
            .map_err(start)?;
        let (done, ended) = mpsc::channel();
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        // Each of the three can fill up while another is waited for.
        let feeder = input.to_owned();
        let feeding = thread::spawn(move || {
            // A program that has refused reads no more; what it says of it counts.
            stdin.map(|mut stdin| stdin.write_all(feeder.as_bytes()))
        });
        let complaining = thread::spawn(move || read(stderr.map(OwnedFd::from)));
        let reading = thread::spawn(move || {
            let output = read(stdout.map(OwnedFd::from));
            let _gone = done.send(());
            output
        });
        // Its output ends when it does.
        let in_time = ended.recv_timeout(DEADLINE).is_ok();
        let status = finish(&mut child, in_time).map_err(start)?;
        let _fed = feeding.join();
        let (output, complaint) = (joined(reading), joined(complaining));
        if !in_time {
            return Err(Failure::TooLong(name));
        }
        if !status.success() {
            let complaint: String = complaint
                .unwrap_or_default()
                .chars()
                .take(COMPLAINT_MAX)
                .collect();
            return Err(Failure::Refused {
                program: name,
                complaint: complaint.trim().replace('\n', "; "),
            });
        }
        output.ok_or(Failure::TooMuch(name))
    }
}

fn command(path: &Path, name: &str, arguments: &[&str]) -> Command {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(path);
    command
        .arg0(name)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn finish(child: &mut Child, in_time: bool) -> std::io::Result<std::process::ExitStatus> {
    if !in_time {
        child.kill()?;
    }
    child.wait()
}

/// All of it; none where it is too long or no text.
fn read(from: Option<OwnedFd>) -> Option<String> {
    let mut text = Vec::new();
    let file = std::fs::File::from(from?);
    file.take(OUTPUT_MAX + 1).read_to_end(&mut text).ok()?;
    (text.len() as u64 <= OUTPUT_MAX).then_some(())?;
    String::from_utf8(text).ok()
}

fn joined(reading: thread::JoinHandle<Option<String>>) -> Option<String> {
    reading.join().ok().flatten()
}
