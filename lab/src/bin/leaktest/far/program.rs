//! A server that is one program.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use cell_lab::process::{Process, pid, until};
use cell_lab::topology::Device;
use nix::sys::signal::{Signal, kill};

const PATIENCE: Duration = Duration::from_secs(20);
/// Who may use the proxies.
pub const USER: &str = "hans";
/// See [`USER`].
pub const PASSWORD: &str = "hunter2";

/// It, while it runs. Dropping it ends it, with all that it started.
pub struct Program(Process);

impl Program {
    /// Starts it and waits until it takes connections.
    ///
    /// # Errors
    /// With its output.
    pub fn start(device: &Device, name: &str, port: u16, command: &Command) -> Result<Self> {
        // Processes of its own: sshd serves each connection by children, which a crash of the machine would end too.
        let mut own = Command::new("unshare");
        own.args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .arg(command.get_program())
            .args(command.get_args());
        let process = Program(device.namespace.spawn(name, &mut own)?);
        let at = SocketAddr::new(device.address.v4.into(), port);
        let open = || {
            let tried = device.namespace.inside(|| TcpStream::connect(at).map(drop));
            tried.ok()?.ok()
        };
        until(PATIENCE, name, open).with_context(|| process.0.output())?;
        Ok(process)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // `unshare` ends when all of them have: until then the far end is not dead.
        if let Err(error) = end(&mut self.0) {
            eprintln!("{error:#}");
        }
    }
}

fn end(unshare: &mut Process) -> Result<()> {
    let id = unshare.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
    let first = children
        .trim()
        .parse()
        .context("a server that has ended already")?;
    kill(pid(first)?, Signal::SIGKILL)?;
    unshare.wait(PATIENCE).map(drop)
}

/// A folder that the users of servers may pass.
///
/// # Errors
/// As mkdir(2).
pub fn folder() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}
