//! A server that is one program.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use cell_lab::process::{Process, run, until};
use cell_lab::topology::Device;

const PATIENCE: Duration = Duration::from_secs(20);
/// Who may use the proxies.
pub const USER: &str = "hans";
/// See [`USER`].
pub const PASSWORD: &str = "hunter2";

/// It, while it runs. Dropping it ends it.
pub struct Program(Process);

impl Program {
    /// Starts it and waits until it takes connections.
    ///
    /// # Errors
    /// With its output.
    pub fn start(device: &Device, name: &str, port: u16, command: &mut Command) -> Result<Self> {
        let process = device.namespace.spawn(name, command)?;
        let at = SocketAddr::new(device.address.v4.into(), port);
        let open = || {
            let tried = device.namespace.inside(|| TcpStream::connect(at).map(drop));
            tried.ok()?.ok()
        };
        until(PATIENCE, name, open).with_context(|| process.output())?;
        Ok(Program(process))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // sshd serves each connection by a child of its own, which a crash of the machine would end too.
        let parent = self.0.id().to_string();
        let _ = run(Command::new("pkill").args(["-KILL", "-P", &parent]));
    }
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
