//! cell-iptables for the lines against it. The launcher starts it only where netd renders for legacy iptables, so where nobody listens
//! the red team starts the program itself: with its user, its capabilities, its sandbox and the folder of its edge, as docs/runtime.md
//! has them. Its rules are those of the red team's own network, and so is the file by which programs wait for each other.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use cell_lab::activation::Listener;
use cell_lab::legacy;
use cell_launch::accounts::Accounts;
use cell_launch::house::Daemon;

use crate::target::Target;

/// Where it listens, below the run folder.
pub const SOCKET: &str = "iptables/iptables.sock";
/// What is told of it where it has nothing to run.
pub const MISSING: &str = "iptables or ipset is missing";
/// What it starts, with Debian's packages.
const PROGRAMS: [&str; 2] = ["/usr/sbin/xtables-legacy-multi", "/usr/sbin/ipset"];
const EDGE: &str = "cell-edge-iptables";

/// The process and what was made for it, which goes with it.
pub struct Restorer {
    process: Child,
    socket: PathBuf,
    _settings: tempfile::TempDir,
    _listener: [Listener; 1],
}

impl Restorer {
    /// Starts it where nobody listens; none where somebody does.
    ///
    /// # Errors
    /// When its edge cannot be made, or its program is not started.
    pub fn start(target: &Target) -> Result<Option<Self>> {
        let socket = target.socket(SOCKET);
        if socket.exists() {
            return Ok(None);
        }
        let accounts = Accounts::look_up()?;
        let user = accounts.identity(Daemon::Iptables)?;
        let edge = accounts.group(EDGE)?.as_raw();
        let folder = socket.parent().context("it lies in a folder")?;
        fs::create_dir_all(folder)?;
        let listener = [Listener::stream("netd", &socket)?];
        for (path, mode) in [(folder, 0o750), (&socket, 0o660)] {
            chown(path, Some(0), Some(edge))?;
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        let settings = tempfile::tempdir()?;
        fs::set_permissions(settings.path(), Permissions::from_mode(0o755))?;
        let mut command = command(settings.path(), user.uid, &listener)?;
        let process = command.stdin(Stdio::null()).spawn().context("cell-iptables")?;
        Ok(Some(Restorer {
            process,
            socket,
            _settings: settings,
            _listener: listener,
        }))
    }
}

/// Whether this machine has what it runs.
pub fn has_programs() -> bool {
    PROGRAMS.iter().all(|program| Path::new(program).exists())
}

fn command(settings: &Path, uid: u32, listener: &[Listener]) -> Result<Command> {
    legacy::settle(settings, Daemon::Netd.user())?;
    legacy::command(settings, uid, listener)
}

impl Drop for Restorer {
    fn drop(&mut self) {
        let _ended = self.process.kill().and_then(|()| self.process.wait());
        let _gone = fs::remove_file(&self.socket);
        if let Some(folder) = self.socket.parent() {
            let _gone = fs::remove_dir(folder);
        }
    }
}
