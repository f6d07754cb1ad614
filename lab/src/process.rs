//! Programs that a test starts: output kept, ended by their id, waited for with a deadline.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Between two looks at something that is waited for.
const POLL: Duration = Duration::from_millis(10);
/// How long a process may take to stand still.
const STANDSTILL: Duration = Duration::from_secs(10);
/// How long the output of a process that has ended may take to arrive.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Asks `look` until it answers, for at most `deadline`.
///
/// # Errors
/// Names `what` when the deadline passes.
pub fn until<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = look() {
            return Ok(value);
        }
        ensure!(start.elapsed() < deadline, "{what}: not within {deadline:?}");
        thread::sleep(POLL);
    }
}

/// Bytes of memory that a process has (proc(5), VmRSS).
///
/// # Errors
/// When there is no such process.
pub fn resident_bytes(id: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.context("no VmRSS")?.trim().trim_end_matches(" kB");
    Ok(kibibytes.parse::<u64>()? * 1024)
}

/// Runs a program to its end and answers its standard output.
///
/// # Errors
/// With its output, when it cannot be started or fails.
pub fn run(command: &mut Command) -> Result<String> {
    run_with_input(command, "")
}

/// [`run`] with text on standard input.
///
/// # Errors
/// As [`run`].
pub fn run_with_input(command: &mut Command, input: &str) -> Result<String> {
    use std::io::Write as _;
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{shown} cannot be started"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input closes the pipe early; its exit status tells the rest.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{shown}: {}\n{text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(text)
}

/// A program that runs beside the test. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Mutex<String>>,
    collectors: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command`; `name` is for messages.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(name: impl Into<String>, command: &mut Command) -> Result<Self> {
        let name = name.into();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{name} cannot be started: {command:?}"))?;
        let output = Arc::new(Mutex::new(String::new()));
        let collectors = [
            collect(child.stdout.take(), &output),
            collect(child.stderr.take(), &output),
        ]
        .into_iter()
        .flatten()
        .collect();
        Ok(Process {
            name,
            child,
            output,
            collectors,
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far, both streams.
    pub fn output(&self) -> String {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// As waitpid(2).
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.settle();
        }
        Ok(status)
    }

    /// Waits for the last output of a process that has ended; not for ever, since a child of its own may hold the pipe.
    fn settle(&self) {
        let start = Instant::now();
        while start.elapsed() < LAST_WORDS && !self.collectors.iter().all(JoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until `find` finds something in the output.
    ///
    /// # Errors
    /// With the output, when the deadline passes or the program ends first.
    pub fn wait_for<T>(
        &mut self,
        deadline: Duration,
        what: &str,
        find: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            // Asked before the output is read, so that the last words of a program that has ended are seen.
            let ended = self.ended()?;
            let output = self.output();
            if let Some(found) = find(&output) {
                return Ok(found);
            }
            if let Some(status) = ended {
                bail!("{} ended ({status}) before {what}:\n{output}", self.name);
            }
            ensure!(
                start.elapsed() < deadline,
                "{}: no {what} within {deadline:?}:\n{output}",
                self.name
            );
            thread::sleep(POLL);
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// With the output, when it goes on beyond the deadline.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            ensure!(
                start.elapsed() < deadline,
                "{} still runs after {deadline:?}:\n{}",
                self.name,
                self.output()
            );
            thread::sleep(POLL);
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// As kill(2).
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(pid(self.id())?, signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// As [`hold`]; SIGCONT lets it go on.
    ///
    /// # Errors
    /// As [`hold`].
    pub fn hold(&self) -> Result<()> {
        hold(pid(self.id())?).with_context(|| self.name.clone())
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    /// When it goes on beyond the deadline.
    pub fn terminate(&mut self, deadline: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.signal(Signal::SIGTERM)?;
        self.wait(deadline)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- output of {}:\n{}", self.name, self.output());
        }
    }
}

/// Stops a process (SIGSTOP) and waits until it stands still: kill(2) answers before it does, and until then each of its threads goes on.
///
/// # Errors
/// As kill(2), and when it does not stand still in time.
pub fn hold(process: Pid) -> Result<()> {
    kill(process, Signal::SIGSTOP).with_context(|| format!("SIGSTOP to {process}"))?;
    until(STANDSTILL, &format!("{process} stands still"), || {
        stands_still(process).then_some(())
    })
}

/// Whether every thread is stopped (`T`, proc_pid_stat(5)).
fn stands_still(process: Pid) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{process}/task")) else {
        return false;
    };
    tasks.flatten().all(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The name may hold anything; what follows its last bracket is the state.
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('T'))
    })
}

/// A process id as nix has it.
///
/// # Errors
/// For ids that no process can have.
pub fn pid(id: u32) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(id).context("a process id")?))
}

fn collect(
    stream: Option<impl Read + Send + 'static>,
    output: &Arc<Mutex<String>>,
) -> Option<JoinHandle<()>> {
    let stream = stream?;
    let output = Arc::clone(output);
    Some(thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _ = writeln!(output.lock().unwrap_or_else(PoisonError::into_inner), "{line}");
        }
    }))
}
