//! A whole cell for a test: started by `cell-launch` (docs/runtime.md) in a namespace and a folder of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cell_launch::files::MARKER;
use cell_launch::house::Daemon;
use cell_launch::policy;
use nix::sys::signal::{Signal, kill};

use crate::netns::Namespace;
use crate::process::{Process, pid, until};
use crate::rest::Rest;

/// How long a cell may take to be ready, keys and certificates made, on a busy machine.
const START: Duration = Duration::from_secs(60);
/// How long a daemon that was killed may take to be back.
const BACK: Duration = Duration::from_secs(60);
/// How long everything may take to end.
const END: Duration = Duration::from_secs(15);

/// What makes a policy of a shipped one.
pub type Edit = Box<dyn FnOnce(String) -> String>;

/// A running cell. Dropping it ends it and deletes its folder.
#[derive(Debug)]
pub struct Cell {
    launcher: Process,
    home: tempfile::TempDir,
    namespace: String,
    http: SocketAddr,
}

impl Cell {
    /// Starts a fresh cell in `namespace` and waits until it answers on a loopback port of the caller's namespace.
    ///
    /// # Errors
    /// With the output of the launcher.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        Self::start_told(namespace, &[])
    }

    /// [`Cell::start`], with lines behind what the shipped policies of daemons say.
    ///
    /// # Errors
    /// With the output of the launcher.
    pub fn start_told(namespace: &Namespace, lines: &[(Daemon, String)]) -> Result<Self> {
        let behind = |lines: &String| {
            let lines = lines.clone();
            Box::new(move |shipped: String| shipped + &lines) as Edit
        };
        let edits = lines.iter().map(|(daemon, lines)| (*daemon, behind(lines)));
        Self::start_edited(namespace, edits.collect())
    }

    /// [`Cell::start`], with policies made of the shipped ones.
    ///
    /// # Errors
    /// With the output of the launcher.
    pub fn start_edited(namespace: &Namespace, edits: Vec<(Daemon, Edit)>) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("cell-home-").tempdir()?;
        // The daemons' users pass through it to their own folders.
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755))?;
        write_policies(home.path(), edits)?;
        let http = free_port()?;
        let mut cell = Cell {
            launcher: launch(home.path(), namespace.name(), http)?,
            home,
            namespace: namespace.name().to_owned(),
            http,
        };
        cell.wait_until_ready()?;
        Ok(cell)
    }

    /// A session with its API, by loopback.
    pub fn rest(&self) -> Rest {
        Rest::plain(self.http)
    }

    /// Where it answers by loopback.
    pub fn address(&self) -> SocketAddr {
        self.http
    }

    /// Ends it as Ctrl-C does, starts it on the same folder, and answers how long the start took.
    ///
    /// # Errors
    /// As [`Cell::start`].
    pub fn restart(&mut self) -> Result<Duration> {
        self.launcher.terminate(END)?;
        let start = Instant::now();
        self.launcher = launch(self.home.path(), &self.namespace, self.http)?;
        self.wait_until_ready()?;
        Ok(start.elapsed())
    }

    /// Kills every daemon that runs at the same time, and waits until the launcher has started each anew.
    ///
    /// # Errors
    /// When one does not come back.
    pub fn crash_all(&self) -> Result<()> {
        let running = Daemon::ALL.into_iter().map(|daemon| daemon.name());
        let running: Vec<(&str, u32)> = running
            .filter_map(|name| Some((name, self.daemon(name).ok()?)))
            .collect();
        // Else it would start the first before the last is dead.
        self.hold_launcher()?;
        for (_, id) in &running {
            kill(pid(*id)?, Signal::SIGKILL)?;
        }
        self.release_launcher()?;
        running.iter().try_for_each(|(name, before)| {
            self.wait_until_back(name, *before)
                .with_context(|| (*name).to_owned())
        })
    }

    /// Kills the launcher, which its daemons outlive, and starts it on the same folder.
    ///
    /// # Errors
    /// As [`Cell::start`].
    pub fn crash_launcher(&mut self) -> Result<()> {
        self.launcher.signal(Signal::SIGKILL)?;
        self.launcher.wait(END)?;
        self.launcher = launch(self.home.path(), &self.namespace, self.http)?;
        self.wait_until_ready()
    }

    /// Its folder (`CELL_HOME`).
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// What it and its daemons have logged.
    pub fn output(&self) -> String {
        self.launcher.output()
    }

    /// The token that claims it.
    ///
    /// # Errors
    /// When it is claimed already.
    pub fn claim_token(&self) -> Result<String> {
        let path = self.home().join("lib/api/claim-token");
        let token = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(token.trim().to_owned())
    }

    /// The process id of a daemon: `api`, `netd`, `wg`, `egress`, `tor`, `vaultd`, `broker`.
    ///
    /// # Errors
    /// When it does not run.
    pub fn daemon(&self, name: &str) -> Result<u32> {
        let path = self.home().join(format!("run/pids/{name}"));
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(text.trim().parse()?)
    }

    /// Ends a daemon as a crash would (SIGKILL) and waits until the launcher has started it anew.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn crash(&self, name: &str) -> Result<()> {
        self.end_daemon(name, Signal::SIGKILL)
    }

    /// Ends a daemon by a signal, SIGTERM as for a restart or SIGKILL, and waits until the launcher has started it anew.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn end_daemon(&self, name: &str, signal: Signal) -> Result<()> {
        let before = self.daemon(name)?;
        kill(pid(before)?, signal)?;
        self.wait_until_back(name, before)
            .with_context(|| format!("after {signal}"))
    }

    /// Waits until the launcher has started a daemon anew that was of this process id.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn wait_until_back(&self, name: &str, before: u32) -> Result<()> {
        let started = || self.daemon(name).ok().filter(|now| *now != before);
        until(BACK, &format!("{name} back"), started).map(drop)
    }

    /// Holds the launcher (SIGSTOP), so that a daemon that dies stays dead.
    ///
    /// # Errors
    /// As kill(2).
    pub fn hold_launcher(&self) -> Result<()> {
        self.launcher.hold()
    }

    /// Lets the launcher go on (SIGCONT).
    ///
    /// # Errors
    /// As kill(2).
    pub fn release_launcher(&self) -> Result<()> {
        self.launcher.signal(Signal::SIGCONT)
    }

    /// Ends it as Ctrl-C does.
    ///
    /// # Errors
    /// When it does not end, or not cleanly.
    pub fn stop(mut self) -> Result<()> {
        let status = self.launcher.terminate(END)?;
        ensure!(
            status.success(),
            "the launcher ended with {status}:\n{}",
            self.launcher.output()
        );
        Ok(())
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let rest = self.rest();
        let healthy = || {
            rest.clone()
                .get("/health")
                .ok()
                .filter(|answer| answer.status == 200)
        };
        self.launcher
            .wait_for(START, "answer on /health", |_| healthy())
            .map(drop)
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        // Its daemons end with it only when it is asked to end.
        if let Err(error) = self.launcher.terminate(END) {
            eprintln!("the cell did not end: {error:#}");
        }
    }
}

/// A program of this workspace, built with the profile that the caller was built with.
///
/// # Errors
/// When it is not there.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own
        .ancestors()
        .skip(1)
        .find(|folder| !folder.ends_with("deps"))
        .context("an executable has a folder")?;
    let path = folder.join(name);
    ensure!(
        path.exists(),
        "{} is not built: cargo build --workspace --bins",
        path.display()
    );
    Ok(path)
}

/// The launcher keeps policies that are there, in a folder that a cell has left.
fn write_policies(home: &Path, edits: Vec<(Daemon, Edit)>) -> Result<()> {
    let folder = home.join("etc");
    for (daemon, edit) in edits {
        fs::create_dir_all(&folder)?;
        fs::write(home.join(MARKER), "")?;
        let text = edit(policy::render(daemon, home));
        // As the launcher places what is shipped.
        let text = text.replace("\"/run/cell/", &format!("\"{}/run/", home.display()));
        fs::write(folder.join(daemon.policy_name()), text)?;
    }
    Ok(())
}

fn launch(home: &Path, namespace: &str, http: SocketAddr) -> Result<Process> {
    let mut command = Command::new(program("cell-launch")?);
    command
        .arg("run")
        .args(["--home".as_ref(), home.as_os_str()])
        .args(["--netns", namespace, "--http", &http.to_string()]);
    Process::spawn("cell-launch", &mut command)
}

/// A loopback port that was free a moment ago.
fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
