//! The program itself with a ceiling, as its own user, behind its sandbox: killed and started again over one folder.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::unistd::{Gid, Uid, chown};

use super::signed::{pem, signer};

/// Nobody's ids, for the broker.
pub const USER: u32 = 64_118;

pub struct Program {
    pub dir: tempfile::TempDir,
    listener: UnixListener,
    child: Option<Child>,
}

impl Program {
    /// Makes its folder and its socket, and starts it.
    pub fn start(docker: &Path) -> Self {
        Self::start_with(docker, "")
    }

    /// The same with more in its policy file.
    pub fn start_with(docker: &Path, more: &str) -> Self {
        Self::start_below(docker, "", more)
    }

    /// The same with keys in the table [deploy], and more at the end.
    pub fn start_below(docker: &Path, keys: &str, more: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("cell-broker-").tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::create_dir(at("state")).unwrap();
        chown(&at("state"), Some(Uid::from_raw(USER)), Some(Gid::from_raw(USER))).unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_cell-broker"), at("cell-broker")).unwrap();
        std::fs::write(
            at("broker.toml"),
            policy(docker).replace("[deploy.limits]", &format!("{keys}[deploy.limits]")) + more,
        )
        .unwrap();
        let listener = UnixListener::bind(at("broker.sock")).unwrap();
        let mut program = Program {
            dir,
            listener,
            child: None,
        };
        program.run();
        program
    }

    /// Starts it over what is there.
    pub fn run(&mut self) {
        let listener = OwnedFd::from(self.listener.try_clone().unwrap());
        let script = "exec 3<&0 </dev/null; export LISTEN_PID=$$; exec setpriv --reuid $BROKER --regid $BROKER \
                      --clear-groups --bounding-set=-all --inh-caps=-all ./cell-broker --config broker.toml";
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"));
        let child = Command::new("sh")
            .args(["-c", script])
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("BROKER", USER.to_string())
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDNAMES", "api")
            .env("STATE_DIRECTORY", self.dir.path().join("state"))
            .stdin(Stdio::from(listener))
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("broker.sock")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The documented file, with the keys of the tests.
pub fn policy(docker: &Path) -> String {
    format!(
        "docker_socket = {docker:?}\nowner_label = \"cell.owner\"\nservice_label = \"cell.service\"\n\
         cell_id = \"default\"\nmax_concurrent = 16\ndocker_deadline_seconds = 20\n\
         [callers.api]\nusers = [\"root\"]\n\
         [deploy]\nmanifest_keys = [{:?}]\nimage_keys = [{:?}]\nimage_policy = \"enforce\"\n\
         registries = [\"127.0.0.1:5000\"]\ncell_network = \"172.20.0.0/24\"\n\
         service_networks = \"172.21.0.0/16\"\nbridge_prefix = \"cellsvc\"\n\
         [deploy.limits]\nmemory_mib = 512\ncpu_milli = 1000\npids = 256\nservices = 8\ntotal_memory_mib = 2048\n\
         manifests = 16\n",
        pem(&signer(1)),
        pem(&signer(2)),
    )
}
