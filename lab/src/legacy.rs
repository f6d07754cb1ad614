//! cell-iptables in a namespace, with its sandbox and its two capabilities, as its unit starts it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::activation::{self, Listener};
use crate::cell::program;
use crate::netns::Namespace;
use crate::process::Process;

/// The process, and where it listens.
#[derive(Debug)]
pub struct Restorer {
    /// Its socket, which anybody may connect to: whom it answers, its policy says.
    pub socket: PathBuf,
    process: Process,
    listener: [Listener; 1],
    folder: PathBuf,
    uid: u32,
}

impl Restorer {
    /// Starts it as `uid`, in `folder`, for callers named `caller`. The lock by which programs that replace tables wait for each
    /// other is one of `folder`'s, so that the machine's own stays as it is.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(namespace: &Namespace, folder: &Path, uid: u32, caller: &str) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let socket = folder.join("iptables.sock");
        settle(folder, caller)?;
        let listener = [Listener::stream("netd", &socket)?];
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666))?;
        let process = spawn(namespace, folder, uid, &listener)?;
        Ok(Restorer {
            socket,
            process,
            listener,
            folder: folder.to_owned(),
            uid,
        })
    }

    /// Ends it as a crash would; its listener stays, and callers wait.
    ///
    /// # Errors
    /// As kill(2).
    pub fn crash(&mut self) -> Result<()> {
        self.process.signal(nix::sys::signal::Signal::SIGKILL)?;
        self.process.wait(std::time::Duration::from_secs(10))?;
        Ok(())
    }

    /// Starts it anew on the same socket.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart(&mut self, namespace: &Namespace) -> Result<()> {
        self.process = spawn(namespace, &self.folder, self.uid, &self.listener)?;
        Ok(())
    }
}

/// Writes what it finds in `folder`: a policy by which it answers `caller`, and the lock.
///
/// # Errors
/// As write(2).
pub fn settle(folder: &Path, caller: &str) -> Result<()> {
    let policy = format!("[callers.netd]\nusers = [\"{caller}\"]\n");
    std::fs::write(folder.join("iptables.toml"), policy)?;
    Ok(std::fs::write(folder.join("xtables.lock"), "")?)
}

fn spawn(namespace: &Namespace, folder: &Path, uid: u32, listener: &[Listener]) -> Result<Process> {
    namespace.spawn("cell-iptables", &mut command(folder, uid, listener)?)
}

/// Runs it as `uid` with what is in `folder` ([`settle`]).
///
/// # Errors
/// When there is no such program, and as fcntl(2).
pub fn command(folder: &Path, uid: u32, listener: &[Listener]) -> Result<Command> {
    let config = folder.join("iptables.toml");
    let arguments = ["--config", config.to_str().context("path")?];
    let daemon = activation::command_with(
        &program("cell-iptables")?,
        &arguments,
        uid,
        &["net_admin", "net_raw"],
        listener,
    )?;
    let lock = folder.join("xtables.lock");
    let script = format!(
        "{{ [ -e /run/xtables.lock ] || touch /run/xtables.lock; }} && mount --bind {} /run/xtables.lock && exec \"$@\"",
        lock.display()
    );
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "bash", "-c", &script, "bash"])
        .arg(daemon.get_program())
        .args(daemon.get_args())
        .envs(daemon.get_envs().filter_map(|(key, value)| Some((key, value?))));
    Ok(command)
}
