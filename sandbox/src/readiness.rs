//! READY=1 for a daemon that may open no socket: the one to the manager is opened before the sandbox (sd_notify(3)).

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::status::SelfStatus;

/// The way back to the service manager; says nothing when there is none.
#[derive(Debug)]
pub struct Readiness(Option<UnixDatagram>);

impl Readiness {
    /// Connects to `NOTIFY_SOCKET` if it is set, and removes it from the environment. Call it before
    /// [`crate::Sandbox::enter`] and before any thread is started.
    ///
    /// # Errors
    /// When other threads run, or when the manager's socket cannot be reached.
    pub fn connect() -> io::Result<Self> {
        let Some(address) = std::env::var_os("NOTIFY_SOCKET") else {
            return Ok(Readiness(None));
        };
        if SelfStatus::read()?.threads != 1 {
            return Err(io::Error::other(
                "NOTIFY_SOCKET is taken before threads are started",
            ));
        }
        // SAFETY: this is the only thread of the process (checked above), so nobody reads the environment meanwhile.
        unsafe { std::env::remove_var("NOTIFY_SOCKET") };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&socket_address(&address)?)?;
        Ok(Readiness(Some(socket)))
    }

    /// `READY=1`: the daemon serves.
    ///
    /// # Errors
    /// When the manager's socket does not take it.
    pub fn ready(&self) -> io::Result<()> {
        self.tell("READY=1")
    }

    /// `STOPPING=1`: the daemon is ending on purpose.
    ///
    /// # Errors
    /// When the manager's socket does not take it.
    pub fn stopping(&self) -> io::Result<()> {
        self.tell("STOPPING=1")
    }

    /// One line for `systemctl status`.
    ///
    /// # Errors
    /// When the manager's socket does not take it.
    pub fn status(&self, line: &str) -> io::Result<()> {
        self.tell(&format!("STATUS={}", line.replace('\n', " ")))
    }

    fn tell(&self, message: &str) -> io::Result<()> {
        match &self.0 {
            Some(socket) => socket.send(message.as_bytes()).map(drop),
            None => Ok(()),
        }
    }
}

/// A leading `@` stands for an abstract address.
fn socket_address(address: &OsString) -> io::Result<SocketAddr> {
    match address.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name),
        Some((b'/', _)) => SocketAddr::from_pathname(address),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "NOTIFY_SOCKET is neither a path nor an abstract address",
        )),
    }
}
