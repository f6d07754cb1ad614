//! A cell of stand-in daemons in namespaces of its own.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, reason = "each test file uses a part")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A launcher, with a namespace in which it was started and another in which the cell lives.
pub struct Cell {
    pub home: PathBuf,
    pub bin: PathBuf,
    pub outside: String,
    pub netns: String,
    dir: tempfile::TempDir,
    launcher: Option<Child>,
    output: Arc<Mutex<String>>,
}

impl Cell {
    /// Prepares one; nothing runs yet. `below` is a folder inside the temporary one, made with that mode.
    pub fn new(below: &str, mode: u32) -> Cell {
        let users = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/sysusers.d/cell.conf");
        run(Command::new("systemd-sysusers").arg(fs::canonicalize(users).unwrap()));
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let base = dir.path().join(below);
        fs::create_dir_all(&base).unwrap();
        fs::set_permissions(&base, fs::Permissions::from_mode(mode)).unwrap();
        let bin = base.join("bin");
        fs::create_dir(&bin).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/daemon.py");
        for name in [
            "cell-vaultd",
            "cell-wg",
            "cell-netd",
            "cell-egress",
            "cell-openvpn",
            "cell-broker",
            "cell-api",
        ] {
            fs::copy(&script, bin.join(name)).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let unique = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let outside = format!("cell-out-{unique}");
        run(Command::new("ip").args(["netns", "add", &outside]));
        run(Command::new("ip").args(["-n", &outside, "link", "set", "lo", "up"]));
        let home = base.join("var");
        Cell {
            home,
            bin,
            outside,
            netns: format!("cell-in-{unique}"),
            dir,
            launcher: None,
            output: Arc::default(),
        }
    }

    /// `cell-launch ARGUMENTS` in the outer namespace.
    pub fn command(&self, arguments: &[&str]) -> Command {
        // Not `ip netns exec`, in whose mount namespace the launcher's own `ip netns add` would be seen by nobody else.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.outside));
        command.arg(env!("CARGO_BIN_EXE_cell-launch")).args(arguments);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CELL_HOME", &self.home);
        command.stdin(Stdio::null());
        command
    }

    pub fn run_command(&self, more: &[&str]) -> Command {
        let mut command = self.command(&["run", "--netns", &self.netns]);
        command.arg("--bin").arg(&self.bin).args(more);
        command
    }

    /// Starts it and waits for its greeting.
    pub fn start(&mut self, more: &[&str]) {
        let mut child = self
            .run_command(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        self.output.lock().unwrap().clear();
        collect(child.stdout.take().unwrap(), &self.output);
        collect(child.stderr.take().unwrap(), &self.output);
        self.launcher = Some(child);
        self.wait_for("to stop");
    }

    pub fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    pub fn wait_for(&self, words: &str) {
        until(
            || self.output().contains(words),
            || format!("no {words:?} in:\n{}", self.output()),
        );
    }

    /// `nsenter` replaces itself by the launcher, so this is the launcher.
    pub fn launcher_pid(&self) -> u32 {
        self.launcher.as_ref().unwrap().id()
    }

    pub fn signal(&self, signal: &str) {
        run(Command::new("kill").args([signal, &self.launcher_pid().to_string()]));
    }

    /// Waits for the launcher's end.
    pub fn ended(&mut self) -> bool {
        let status = self.launcher.take().unwrap().wait().unwrap();
        status.success()
    }

    pub fn pid(&self, daemon: &str) -> u32 {
        fs::read_to_string(self.home.join("run/pids").join(daemon))
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        if let Some(mut launcher) = self.launcher.take() {
            let _ = Command::new("kill").arg(launcher.id().to_string()).status();
            let _ = launcher.wait();
        }
        for name in [&self.outside, &self.netns] {
            let _ = Command::new("ip")
                .args(["netns", "delete", name])
                .stderr(Stdio::null())
                .status();
        }
        if thread::panicking() {
            eprintln!("--- output of cell-launch:\n{}", self.output());
        }
    }
}

/// One line of /proc/PID/status.
pub fn status(pid: u32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .unwrap();
    line.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

pub fn namespace(pid: u32, kind: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap()
}

/// The numeric ids of a user: uid and primary gid.
pub fn ids(user: &str) -> (String, String) {
    let id = |flag| run(Command::new("id").args([flag, user])).trim().to_owned();
    (id("-u"), id("-g"))
}

pub fn gid(group: &str) -> Option<u32> {
    let output = Command::new("getent").args(["group", group]).output().unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .split(':')
        .nth(2)
        .map(|gid| gid.trim().parse().unwrap())
}

pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

pub fn until(holds: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{}", otherwise());
        thread::sleep(Duration::from_millis(10));
    }
}

fn collect(stream: impl Read + Send + 'static, output: &Arc<Mutex<String>>) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut output = output.lock().unwrap();
            output.push_str(&line);
            output.push('\n');
        }
    });
}
