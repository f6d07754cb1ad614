//! Starts a daemon as its unit would: as its user, with its listeners handed over (sd_listen_fds(3)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};

/// SD_LISTEN_FDS_START.
const FIRST: usize = 3;

/// A listener with its name (`FileDescriptorName=`).
#[derive(Debug)]
pub struct Listener {
    name: &'static str,
    descriptor: OwnedFd,
}

impl Listener {
    /// A stream listener at `path`.
    ///
    /// # Errors
    /// As bind(2).
    pub fn stream(name: &'static str, path: &Path) -> Result<Self> {
        let listener = UnixListener::bind(path).with_context(|| path.display().to_string())?;
        Ok(Listener {
            name,
            descriptor: listener.into(),
        })
    }

    /// A SOCK_SEQPACKET listener at `path`.
    ///
    /// # Errors
    /// As bind(2).
    pub fn seqpacket(name: &'static str, path: &Path) -> Result<Self> {
        let descriptor = seqpacket()?;
        bind(descriptor.as_raw_fd(), &UnixAddr::new(path)?).with_context(|| path.display().to_string())?;
        listen(&descriptor, Backlog::MAXCONN)?;
        Ok(Listener { name, descriptor })
    }
}

impl Listener {
    /// A socket that was made elsewhere, e.g. in another namespace.
    pub fn of(name: &'static str, descriptor: OwnedFd) -> Self {
        Listener { name, descriptor }
    }
}

/// An unconnected SOCK_SEQPACKET socket of AF_UNIX.
///
/// # Errors
/// As socket(2).
pub fn seqpacket() -> io::Result<OwnedFd> {
    Ok(socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?)
}

/// A command that runs `program` as `uid` without any capability, with `listeners`.
///
/// # Errors
/// As fcntl(2).
pub fn command(program: &Path, arguments: &[&str], uid: u32, listeners: &[Listener]) -> Result<Command> {
    command_with(program, arguments, uid, &[], listeners)
}

/// The same with `capabilities`, named as setpriv(1) does, e.g. `net_admin`.
///
/// # Errors
/// As fcntl(2).
pub fn command_with(
    program: &Path,
    arguments: &[&str],
    uid: u32,
    capabilities: &[&str],
    listeners: &[Listener],
) -> Result<Command> {
    let (mut kept, mut placed) = (String::new(), String::new());
    for (index, listener) in listeners.iter().enumerate() {
        // Passed on by number, to numbers that the shell finds free; from there to where the protocol wants them. Any of
        // the listeners may have such a number itself.
        fcntl(listener.descriptor.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()))?;
        kept += &format!(" {{kept{index}}}<&{}", listener.descriptor.as_raw_fd());
        placed += &format!(" {}<&${{kept{index}}} {{kept{index}}}<&-", FIRST + index);
    }
    let names: Vec<_> = listeners.iter().map(|listener| listener.name).collect();
    let script = format!("exec{kept}; exec{placed}; LISTEN_PID=$$ exec \"$@\"");
    let user = uid.to_string();
    let kept: String = capabilities.iter().map(|name| format!(",+{name}")).collect();
    let mut command = Command::new("bash");
    command
        .args([
            "-c",
            &script,
            "bash",
            "setpriv",
            "--reuid",
            &user,
            "--regid",
            &user,
            "--clear-groups",
        ])
        .arg(format!("--inh-caps=-all{kept}"))
        .arg(format!("--ambient-caps=-all{kept}"))
        .arg(format!("--bounding-set=-all{kept}"))
        .arg("--no-new-privs")
        .arg(program)
        .args(arguments)
        .env("LISTEN_FDS", listeners.len().to_string())
        .env("LISTEN_FDNAMES", names.join(":"));
    Ok(command)
}
