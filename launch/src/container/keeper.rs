//! A daemon in its container, seen to by the first process: started, started again when it dies, ended when its listeners are nobody's
//! any more, and with the container.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::exec::Served;
use crate::accounts::Accounts;
use crate::backoff::Backoff;
use crate::child::listen_for_readiness;
use crate::error::Error;
use crate::handover;
use crate::plan::Process;
use crate::supervisor::signals;

/// How long the daemon may take to end; Docker waits for ten seconds.
const GRACE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);
/// Between two looks for whoever holds the listeners.
const AGAIN: Duration = Duration::from_millis(100);
/// When nothing is due.
const LONG: Duration = Duration::from_secs(3600);

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A child may have died.
    Child,
    /// Docker, or a person, asks to end.
    Stop,
    /// The daemon said READY=1.
    Ready,
    /// The holder of this number is gone.
    Orphaned(u32),
}

/// How a stretch of time ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Stopped,
    Orphaned,
}

/// Tells of signals until nobody listens.
fn wait_for_signals(events: &Sender<Event>) {
    while let Ok(signal) = signals().wait() {
        let event = if signal == Signal::SIGCHLD {
            Event::Child
        } else {
            Event::Stop
        };
        if events.send(event).is_err() {
            return;
        }
    }
}

/// One daemon and what happens to it.
pub(super) struct Keeper {
    process: Process,
    handover: PathBuf,
    /// Listeners that this container made itself, kept open while the daemon comes and goes.
    own: Vec<(&'static str, OwnedFd)>,
    send: Sender<Event>,
    events: Receiver<Event>,
    backoff: Backoff,
    child: Option<Pid>,
    due: Option<Instant>,
    /// Counts those who held the listeners, so that the end of an earlier one is not taken for this one's.
    holder: u32,
}

impl Keeper {
    /// Gets ready to hear of children and signals, and of the daemon's readiness; starts nothing. `own` are listeners of the container.
    ///
    /// # Errors
    /// When the socket for readiness cannot be made.
    pub(super) fn new(
        process: Process,
        handover: PathBuf,
        own: Vec<(&'static str, OwnedFd)>,
        accounts: &Accounts,
    ) -> Result<Self, Error> {
        let (send, events) = channel();
        let ready = send.clone();
        listen_for_readiness(&process, accounts, move || {
            // Nobody listens any more when the container is ending.
            let _ = ready.send(Event::Ready);
        })?;
        let waiting = send.clone();
        thread::spawn(move || wait_for_signals(&waiting));
        Ok(Keeper {
            process,
            handover,
            own,
            send,
            events,
            backoff: Backoff::default(),
            child: None,
            due: None,
            holder: 0,
        })
    }

    /// Keeps the daemon running until somebody asks to end.
    ///
    /// # Errors
    /// When it cannot be started at all.
    pub(super) fn keep(mut self) -> Result<(), Error> {
        loop {
            if self.find_holder()? == Ended::Stopped || self.serve()? == Ended::Stopped {
                return Ok(());
            }
            eprintln!("cell-launch: whoever holds the listeners has ended; waiting for the next");
        }
    }

    /// Waits until somebody holds the listeners, and sees to it that the end of that is heard of.
    fn find_holder(&mut self) -> Result<Ended, Error> {
        let mut told = false;
        loop {
            match UnixStream::connect(&self.handover) {
                Ok(connection) => {
                    self.holder += 1;
                    let (send, event) = (self.send.clone(), Event::Orphaned(self.holder));
                    thread::spawn(move || {
                        // Nothing is ever said on this one; it ends.
                        let _ = (&connection).read(&mut [0_u8; 1]);
                        let _ = send.send(event);
                    });
                    return Ok(Ended::Orphaned);
                }
                Err(error) if !told => {
                    told = true;
                    let path = self.handover.display();
                    println!("==> {path}: {error}; waiting for whoever holds the listeners");
                }
                Err(_) => {}
            }
            if self.turn(Instant::now() + AGAIN)? == Some(Event::Stop) {
                return Ok(Ended::Stopped);
            }
        }
    }

    /// Runs the daemon for as long as its listeners are held.
    fn serve(&mut self) -> Result<Ended, Error> {
        self.launch()?;
        let ended = loop {
            match self.turn(self.due.unwrap_or_else(|| Instant::now() + LONG))? {
                Some(Event::Stop) => break Ended::Stopped,
                Some(Event::Orphaned(holder)) if holder == self.holder => break Ended::Orphaned,
                _ => {}
            }
            if self.due.is_some_and(|due| due <= Instant::now()) {
                self.launch()?;
            }
        };
        self.end();
        Ok(ended)
    }

    /// Takes note of one event, if there is one until then.
    fn turn(&mut self, until: Instant) -> Result<Option<Event>, Error> {
        let event = match self
            .events
            .recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::fault("signals can no longer be received"));
            }
        };
        match event {
            Event::Child => self.collect(),
            Event::Ready if self.child.is_some() => {
                self.backoff.served();
                // For the health check alone.
                let _ = fs::write(super::SERVES, "");
            }
            Event::Ready | Event::Stop | Event::Orphaned(_) => {}
        }
        Ok(Some(event))
    }

    fn launch(&mut self) -> Result<(), Error> {
        let failed = || Error::call(format!("starting {}", self.process.daemon.user()));
        let stdin = if self.own.is_empty() {
            Stdio::null()
        } else {
            let own: Vec<_> = self.own.iter().map(|(_, fd)| fd.as_fd()).collect();
            handover::pack(&own).map_err(failed())?.into()
        };
        let child = self.command().stdin(stdin).spawn().map_err(failed())?;
        let pid = i32::try_from(child.id()).map_err(|_| Error::fault("no process id is that large"))?;
        (self.child, self.due) = (Some(Pid::from_raw(pid)), None);
        Ok(())
    }

    fn command(&self) -> Command {
        let process = &self.process;
        let text = |path: &Path| path.display().to_string();
        let served = Served {
            own: self.own.iter().map(|(name, _)| (*name).to_owned()).collect(),
            handover: self.handover.clone(),
            program: std::iter::once(text(&process.program))
                .chain(process.daemon.arguments().iter().map(ToString::to_string))
                .chain([text(&process.policy)])
                .collect(),
        };
        let mut command = Command::new("/proc/self/exe");
        command.args(served.to_arguments()).env_clear();
        command.envs(process.environment.iter().map(|(name, value)| (name, value)));
        command.env("NOTIFY_SOCKET", &process.notify);
        command.envs(std::env::var_os("RUST_LOG").map(|level| ("RUST_LOG", level)));
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        command.envs(boot.map(|boot| ("CELL_BOOT_ID", boot.trim().replace('-', ""))));
        command
    }

    /// Collects all that died: the daemon, and as the container's first process what a daemon left.
    fn collect(&mut self) {
        while let Some((pid, how)) = dead() {
            if Some(pid) != self.child {
                continue;
            }
            let _ = fs::remove_file(super::SERVES);
            let wait = self.backoff.died();
            let name = self.process.daemon.user();
            eprintln!(
                "cell-launch: {name} ended ({how}); it is started again in {} ms",
                wait.as_millis()
            );
            (self.child, self.due) = (None, Some(Instant::now() + wait));
        }
    }

    /// SIGTERM, and SIGKILL for what is left after five seconds.
    fn end(&mut self) {
        self.due = None;
        let _ = fs::remove_file(super::SERVES);
        let Some(child) = self.child.take() else { return };
        // It may have ended by itself just now.
        let _ = kill(child, Signal::SIGTERM);
        let deadline = Instant::now() + GRACE;
        loop {
            match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) if Instant::now() >= deadline => {
                    eprintln!(
                        "cell-launch: {} did not end in time and is killed",
                        self.process.daemon.user()
                    );
                    let _ = kill(child, Signal::SIGKILL);
                    let _ = waitpid(child, None);
                    return;
                }
                Ok(WaitStatus::StillAlive) => thread::sleep(POLL),
                _ => return,
            }
        }
    }
}

/// The next child that is dead, and how it ended.
fn dead() -> Option<(Pid, String)> {
    match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(pid, status)) => Some((pid, format!("status {status}"))),
        Ok(WaitStatus::Signaled(pid, signal, _)) => Some((pid, signal.to_string())),
        _ => None,
    }
}
