//! A Docker daemon in network, mount and process namespaces of its own: when its first process ends, all is gone.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cell_broker_core::model::ContainerId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// The image that all containers are made from: busybox.
pub const IMAGE: &str = "cell-test:1";

pub struct Dockerd {
    dir: TempDir,
    child: Option<Child>,
}

impl Dockerd {
    /// Starts one and imports [`IMAGE`].
    pub fn start() -> Self {
        install(&[
            ("dockerd", "docker.io"),
            ("busybox", "busybox-static"),
            ("iptables", "iptables"),
        ]);
        let dir = tempfile::Builder::new().prefix("cell-docker-").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o711)).unwrap();
        let mut dockerd = Dockerd { dir, child: None };
        dockerd.run();
        dockerd.import();
        dockerd
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the daemon (again) and waits until it answers.
    pub fn run(&mut self) {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let script = format!(
            "ip link set lo up; exec dockerd --host unix://{} --data-root {} --exec-root {} --pidfile {} --group root",
            at("docker.sock"),
            at("data"),
            at("exec"),
            at("pid"),
        );
        let child = Command::new("unshare")
            .args([
                "--net",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "sh",
                "-c",
                &script,
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(90);
        while !self.docker(&["version"]).status.success() {
            assert!(
                Instant::now() < deadline,
                "dockerd did not come up: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The daemon's process id: whose namespaces it has.
    pub fn inner(&self) -> i32 {
        self.child.as_ref().and_then(inner).unwrap()
    }

    /// SIGKILL, to the daemon and with it to all in its process namespace.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        if let Some(pid) = inner(&child) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = child.wait();
        // A new process namespace has a process of the same number, which the daemon takes for itself.
        for left in ["pid", "exec/containerd/containerd.pid"] {
            let _ = std::fs::remove_file(self.dir.path().join(left));
        }
    }

    /// Ends it as a service manager would, then with SIGKILL.
    pub fn end(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        if let Some(pid) = inner(&child) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn docker(&self, args: &[&str]) -> std::process::Output {
        let host = format!("unix://{}", self.socket().display());
        Command::new("docker")
            .arg("--host")
            .arg(host)
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// The words that `docker` printed; fails when it failed.
    pub fn say(&self, args: &[&str]) -> String {
        let output = self.docker(args);
        assert!(
            output.status.success(),
            "docker {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Makes (does not start) a container that runs `script`.
    pub fn create(&self, more: &[&str], labels: &[(&str, &str)], script: &str) -> ContainerId {
        let labels: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("--label={key}={value}"))
            .collect();
        let mut args = vec!["create", "--network=none"];
        args.extend(labels.iter().map(String::as_str));
        args.extend(more);
        args.extend([IMAGE, "/bin/busybox", "sh", "-c", script]);
        ContainerId::try_from(&*self.say(&args)).unwrap()
    }

    fn import(&self) {
        let root = self.dir.path().join("rootfs");
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::copy(which("busybox"), root.join("bin/busybox")).unwrap();
        std::os::unix::fs::symlink("busybox", root.join("bin/sleep")).unwrap();
        let tar = self.dir.path().join("rootfs.tar");
        let packed = Command::new("tar")
            .arg("-C")
            .arg(&root)
            .arg("-cf")
            .arg(&tar)
            .arg(".")
            .status()
            .unwrap();
        assert!(packed.success());
        self.say(&[
            "import",
            "--change",
            "ENV PATH=/bin",
            tar.to_str().unwrap(),
            IMAGE,
        ]);
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        self.end();
    }
}

/// The pid file has the pid inside the namespace (1); the first process there is unshare's only child.
fn inner(child: &Child) -> Option<i32> {
    let inside = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).ok()?;
    inside.split_whitespace().next()?.parse().ok()
}

fn which(program: &str) -> PathBuf {
    let found = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(program));
    found
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from(program))
}

/// Tests skip nothing: what is missing is installed.
fn install(needed: &[(&str, &str)]) {
    let missing: Vec<&str> = needed
        .iter()
        .filter(|(program, _)| !which(program).is_absolute())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return;
    }
    let installed = Command::new("apt-get")
        .args([
            "-o",
            "DPkg::Lock::Timeout=300",
            "install",
            "-y",
            "--no-install-recommends",
        ])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .unwrap();
    assert!(
        installed.status.success(),
        "apt-get: {}",
        String::from_utf8_lossy(&installed.stderr)
    );
}
