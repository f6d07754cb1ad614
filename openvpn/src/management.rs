//! The listener that programs connect to: each is known by its process id, which the kernel tells, and may connect once.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

/// Programs that were started and have not connected yet.
#[derive(Debug, Default)]
pub struct Expected(Mutex<BTreeMap<i32, oneshot::Sender<UnixStream>>>);

/// A program that was started.
#[derive(Debug)]
pub struct Started {
    /// It.
    pub child: Child,
    /// Its connection, once it is there.
    pub connected: oneshot::Receiver<UnixStream>,
}

impl Expected {
    /// Starts a program, and expects it.
    ///
    /// # Errors
    /// Of execve(2) and what comes before.
    pub fn start(&self, command: &mut Command) -> io::Result<Started> {
        // Held until it is expected: it may connect before that.
        let mut expected = self.lock();
        let child = command.spawn()?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        let pid = pid.ok_or_else(|| io::Error::other("the program has no process id"))?;
        let (sender, connected) = oneshot::channel();
        expected.insert(pid, sender);
        Ok(Started { child, connected })
    }

    /// Expects it no more.
    pub fn forget(&self, pid: u32) {
        if let Ok(pid) = i32::try_from(pid) {
            self.lock().remove(&pid);
        }
    }

    /// Takes connections, for ever. Whoever is not expected is hung up on, which ends an OpenVPN that another of us started.
    pub async fn accept(&self, listener: UnixListener, own_uid: u32) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.take(stream, own_uid),
                Err(error) => {
                    tracing::warn!(%error, "a program could not connect");
                    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                }
            }
        }
    }

    fn take(&self, stream: UnixStream, own_uid: u32) {
        let who = stream.peer_cred().ok().filter(|who| who.uid() == own_uid);
        let sender = who
            .and_then(|who| who.pid())
            .and_then(|pid| self.lock().remove(&pid));
        match sender {
            // Its task may have ended meanwhile.
            Some(sender) => drop(sender.send(stream)),
            None => tracing::warn!("a stranger connected to the management socket"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, oneshot::Sender<UnixStream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
