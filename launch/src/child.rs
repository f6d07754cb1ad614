//! One running daemon: started through `exec-daemon`, its lines printed with its name before them.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::thread;

use crate::accounts::Accounts;
use crate::error::Error;
use crate::exec_daemon::Orders;
use crate::handover;
use crate::house::{Daemon, Network};
use crate::plan::{Plan, Process};

/// What is needed to start any daemon again and again.
#[derive(Debug)]
pub struct Nursery<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Its listeners, kept open while daemons come and go, so that requests queue.
    pub listeners: &'a [Option<OwnedFd>],
    /// Users and groups.
    pub accounts: &'a Accounts,
    /// The namespace's file, if the cell has one.
    pub netns: Option<PathBuf>,
}

impl Nursery<'_> {
    /// Starts a daemon.
    ///
    /// # Errors
    /// When it cannot be started; what goes wrong later, it says itself.
    pub fn start(&self, process: &Process) -> Result<Child, Error> {
        let daemon = process.daemon;
        let (names, descriptors): (Vec<_>, Vec<_>) = self
            .plan
            .listeners_of(daemon)
            .filter_map(|(at, listener)| {
                Some((
                    listener.name.to_owned(),
                    self.listeners.get(at)?.as_ref()?.as_fd(),
                ))
            })
            .unzip();
        let failed = || format!("starting {}", daemon.user());
        let input = handover::pack(&descriptors).map_err(Error::call(failed()))?;
        let mut child = self
            .command(process, names)?
            .stdin(input)
            .spawn()
            .map_err(Error::call(failed()))?;
        forward(daemon, child.stdout.take());
        forward(daemon, child.stderr.take());
        Ok(child)
    }

    fn runs(&self, daemon: Daemon) -> bool {
        self.plan.processes.iter().any(|process| process.daemon == daemon)
    }

    fn command(&self, process: &Process, listeners: Vec<String>) -> Result<Command, Error> {
        let daemon = process.daemon;
        let identity = self.accounts.identity(daemon)?;
        let path = |path: &Path| path.display().to_string();
        let orders = Orders {
            uid: identity.uid,
            gid: identity.gid,
            groups: identity.groups,
            capabilities: daemon.capabilities().to_vec(),
            netns: self.netns.clone().filter(|_| daemon.network() == Network::Cell),
            empty_network: daemon.network() == Network::Empty,
            settings: daemon.sees_settings(),
            tun: daemon.uses_tuns(self.runs(Daemon::Wg), self.runs(Daemon::Openvpn)),
            lock_memory: daemon.locks_memory(),
            files: daemon.most_files(),
            listeners,
            reach: process.reach.clone(),
            parent: i32::try_from(process::id()).map_err(|_| Error::fault("no process id is that large"))?,
            program: std::iter::once(path(&process.program))
                .chain(daemon.arguments().iter().map(ToString::to_string))
                .chain([path(&process.policy)])
                .collect(),
        };
        let mut command = Command::new("/proc/self/exe");
        command
            .args(orders.to_arguments())
            .env_clear()
            .envs(process.environment.iter().map(|(k, v)| (k, v)));
        command.envs(std::env::var_os("RUST_LOG").map(|level| ("RUST_LOG", level)));
        // As the unit's %b: below, /proc shows nothing but processes.
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        command.envs(boot.map(|boot| ("CELL_BOOT_ID", boot.trim().replace('-', ""))));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }
}

/// Makes the socket on which the daemon, and nobody else, says that it serves, and calls `ready` each time it does.
///
/// # Errors
/// When it cannot be made.
pub fn listen_for_readiness(
    process: &Process,
    accounts: &Accounts,
    ready: impl Fn() + Send + 'static,
) -> Result<(), Error> {
    let path = &process.notify;
    let identity = accounts.identity(process.daemon)?;
    let make = || -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::bind(path)?;
        chown(path, Some(identity.uid), Some(identity.gid))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(socket)
    };
    let socket = make().map_err(Error::file("cannot be bound", path))?;
    thread::spawn(move || {
        let mut message = [0_u8; 4096];
        while let Ok(length) = socket.recv(&mut message) {
            if message[..length]
                .split(|byte| *byte == b'\n')
                .any(|line| line == b"READY=1")
            {
                ready();
            }
        }
    });
    Ok(())
}

/// Prints a stream line by line until its end.
fn forward(daemon: Daemon, stream: Option<impl Read + Send + 'static>) {
    let Some(stream) = stream else { return };
    thread::spawn(move || {
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        // Bytes, not text: a line that is no UTF-8 must not end the reading, or the daemon would block on a full pipe.
        while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&line);
            // Nobody may be reading any more; that is no reason to stop the cell.
            let _ = writeln!(io::stderr().lock(), "{:<6} | {}", daemon.name(), text.trim_end());
            line.clear();
        }
    });
}
