//! Starts the daemons in order, starts each again when it dies, ends them in the reverse order.

use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::backoff::Backoff;
use crate::child::{Nursery, listen_for_readiness};
use crate::error::Error;
use crate::house::Daemon;
use crate::leftovers;
use crate::plan::Process;
use crate::settings::Settings;

/// How long all daemons together may take to end.
const GRACE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);
/// When nothing is due.
const LONG: Duration = Duration::from_secs(3600);

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// A child may have died.
    Child,
    /// SIGINT, SIGTERM or SIGHUP.
    Stop(Signal),
    /// A daemon said READY=1.
    Ready(Daemon),
}

/// How the wait for the first readiness ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// All serve.
    Ready,
    /// Somebody asked to stop before.
    Stopped(Signal),
}

/// The daemons and what happens to them.
#[derive(Debug)]
pub struct Supervisor<'a> {
    settings: &'a Settings,
    nursery: Nursery<'a>,
    slots: Vec<Slot<'a>>,
    events: Receiver<Event>,
}

/// One daemon.
#[derive(Debug)]
struct Slot<'a> {
    process: &'a Process,
    child: Option<Child>,
    serves: bool,
    backoff: Backoff,
    due: Option<Instant>,
}

/// Blocks the signals that [`Supervisor::new`] waits for. Call it before any thread is started, so that none takes them.
///
/// # Errors
/// When the kernel refuses.
pub fn block_signals() -> Result<(), Error> {
    signals().thread_block().map_err(Error::call("blocking signals"))
}

/// What is waited for; blocked in every thread.
pub(crate) fn signals() -> SigSet {
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD])
}

fn wait_for_signals(events: &Sender<Event>) {
    while let Ok(signal) = signals().wait() {
        let event = if signal == Signal::SIGCHLD {
            Event::Child
        } else {
            Event::Stop(signal)
        };
        if events.send(event).is_err() {
            return;
        }
    }
}

impl<'a> Supervisor<'a> {
    /// Gets ready to hear from the daemons; starts none.
    ///
    /// # Errors
    /// When a notification socket cannot be made.
    pub fn new(settings: &'a Settings, nursery: Nursery<'a>) -> Result<Self, Error> {
        let (send, events) = channel();
        let plan = nursery.plan;
        for process in &plan.processes {
            let (send, daemon) = (send.clone(), process.daemon);
            listen_for_readiness(process, nursery.accounts, move || {
                // Nobody listens any more when the cell is ending.
                let _ = send.send(Event::Ready(daemon));
            })?;
        }
        thread::spawn(move || wait_for_signals(&send));
        let slot = |process| Slot {
            process,
            child: None,
            serves: false,
            backoff: Backoff::default(),
            due: None,
        };
        let slots = plan.processes.iter().map(slot).collect();
        Ok(Supervisor {
            settings,
            nursery,
            slots,
            events,
        })
    }

    /// Starts all, each after the one before it serves.
    ///
    /// # Errors
    /// When one dies or takes too long before it serves.
    pub fn start(&mut self) -> Result<Start, Error> {
        for at in 0..self.slots.len() {
            self.launch(at)?;
            let deadline = Instant::now() + self.settings.start_timeout;
            while !self.slots[at].serves {
                if let Some(signal) = self.turn(deadline)? {
                    return Ok(Start::Stopped(signal));
                }
                let (slot, name) = (&self.slots[at], self.slots[at].process.daemon.user());
                if slot.child.is_none() {
                    return Err(Error::fault(format!(
                        "{name} ended before it served; its own words are above"
                    )));
                }
                if !slot.serves && Instant::now() >= deadline {
                    let seconds = self.settings.start_timeout.as_secs();
                    return Err(Error::fault(format!("{name} does not serve after {seconds} s")));
                }
            }
        }
        Ok(Start::Ready)
    }

    /// Keeps all running until somebody asks to stop.
    ///
    /// # Errors
    /// When no process can be started at all, or the run folder is gone.
    pub fn keep(&mut self) -> Result<Signal, Error> {
        loop {
            let now = Instant::now();
            for at in 0..self.slots.len() {
                if self.slots[at].due.is_some_and(|due| due <= now) {
                    self.launch(at)?;
                }
            }
            let due = self.slots.iter().filter_map(|slot| slot.due).min();
            if let Some(signal) = self.turn(due.unwrap_or(now + LONG))? {
                return Ok(signal);
            }
        }
    }

    /// Ends all, callers before whom they call: SIGTERM, and SIGKILL for what is left after five seconds.
    pub fn stop(&mut self) {
        let deadline = Instant::now() + GRACE;
        for slot in self.slots.iter_mut().rev() {
            let Some(mut child) = slot.child.take() else {
                continue;
            };
            signal(&child, Signal::SIGTERM);
            while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
                thread::sleep(POLL);
            }
            if matches!(child.try_wait(), Ok(None)) {
                eprintln!(
                    "cell-launch: {} did not end in time and is killed",
                    slot.process.daemon.user()
                );
                signal(&child, Signal::SIGKILL);
            }
            let _ = child.wait();
        }
    }

    fn launch(&mut self, at: usize) -> Result<(), Error> {
        let slot = &mut self.slots[at];
        let child = self.nursery.start(slot.process)?;
        leftovers::note(&self.settings.run(), slot.process.daemon, child.id())?;
        (slot.child, slot.serves, slot.due) = (Some(child), false, None);
        Ok(())
    }

    /// Waits for one event, until `deadline` at most, and takes note of it.
    fn turn(&mut self, deadline: Instant) -> Result<Option<Signal>, Error> {
        match self
            .events
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            Ok(Event::Stop(signal)) => return Ok(Some(signal)),
            Ok(Event::Ready(daemon)) => self.served(daemon),
            Ok(Event::Child) => self.collect(),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::fault("signals can no longer be received"));
            }
        }
        Ok(None)
    }

    fn served(&mut self, daemon: Daemon) {
        for slot in self
            .slots
            .iter_mut()
            .filter(|slot| slot.process.daemon == daemon && slot.child.is_some())
        {
            slot.serves = true;
            slot.backoff.served();
        }
    }

    /// One SIGCHLD may stand for several deaths.
    fn collect(&mut self) {
        for slot in &mut self.slots {
            let Some(status) = slot
                .child
                .as_mut()
                .and_then(|child| child.try_wait().ok().flatten())
            else {
                continue;
            };
            let wait = slot.backoff.died();
            let name = slot.process.daemon.user();
            eprintln!(
                "cell-launch: {name} ended ({status}); it is started again in {} ms",
                wait.as_millis()
            );
            (slot.child, slot.serves, slot.due) = (None, false, Some(Instant::now() + wait));
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // It may have ended by itself just now.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}
