//! A Docker daemon in the cell's namespace: it sets FORWARD to DROP, translates, and does so again whenever it starts.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};

use crate::netns::Namespace;
use crate::process::{Process, pid, run};

/// How long it may take to answer.
const START: Duration = Duration::from_secs(90);
const END: Duration = Duration::from_secs(30);

/// It. Dropping it ends it and all that it started.
#[derive(Debug)]
pub struct Docker<'a> {
    namespace: &'a Namespace,
    folder: tempfile::TempDir,
    iptables: bool,
    running: Option<Process>,
}

impl<'a> Docker<'a> {
    /// Starts it, with a socket and a folder of its own.
    ///
    /// # Errors
    /// With its output.
    pub fn start(namespace: &'a Namespace) -> Result<Self> {
        Self::start_with(namespace, true)
    }

    /// The same of a house that lets it write no rules: `--iptables=false`.
    ///
    /// # Errors
    /// With its output.
    pub fn start_without_iptables(namespace: &'a Namespace) -> Result<Self> {
        Self::start_with(namespace, false)
    }

    fn start_with(namespace: &'a Namespace, iptables: bool) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("cell-docker-").tempdir()?;
        // Others pass through it to the socket.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o711))?;
        let running = None;
        let mut docker = Docker {
            namespace,
            folder,
            iptables,
            running,
        };
        docker.up()?;
        Ok(docker)
    }

    /// Ends it by a signal, with all that it started, and starts it anew.
    ///
    /// # Errors
    /// With its output.
    pub fn restart(&mut self, signal: Signal) -> Result<()> {
        if let Some(mut running) = self.running.take() {
            // `unshare` waits for it, and passes no signal on.
            let parent = running.id();
            let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
            let dockerd = children.trim().parse().context("no Docker below unshare")?;
            kill(pid(dockerd)?, signal)?;
            running.wait(END)?;
        }
        self.up()
    }

    /// Its socket, which the group `docker` may use.
    pub fn socket(&self) -> PathBuf {
        self.path("sock")
    }

    /// Runs `docker` with it; what it printed.
    ///
    /// # Errors
    /// With its output.
    pub fn say(&self, arguments: &[&str]) -> Result<String> {
        let host = format!("unix://{}", self.socket().display());
        let said = run(Command::new("docker").args(["--host", &host]).args(arguments))?;
        Ok(said.trim().to_owned())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn up(&mut self) -> Result<()> {
        // Files with process ids of the last one, which may be others' by now.
        let _stale = std::fs::remove_file(self.path("pid"));
        let _stale = std::fs::remove_dir_all(self.path("exec"));
        let socket = format!("unix://{}", self.path("sock").display());
        // Processes of its own, so that containerd ends with it.
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["dockerd", "--host", &socket, "--group", "docker"]);
        command.arg(format!("--iptables={}", self.iptables));
        for (option, name) in [
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "pid"),
        ] {
            command.arg(option).arg(self.path(name));
        }
        let mut process = self.namespace.spawn("dockerd", &mut command)?;
        let answers = |_: &str| run(Command::new("docker").args(["--host", &socket, "version"])).ok();
        process.wait_for(START, "answer", answers)?;
        self.running = Some(process);
        Ok(())
    }
}
