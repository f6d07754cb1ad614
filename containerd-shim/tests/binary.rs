//! The program itself, as its own user, behind its sandbox, before a real Docker.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cell_proto::broker::v1::container_service_client::ContainerServiceClient;
use cell_proto::broker::v1::container_status_service_client::ContainerStatusServiceClient;
use cell_proto::broker::v1::{
    ContainerState, GetBrokerStatusRequest, ListContainersRequest, StartContainerRequest,
};
use cell_proto::ipc::connect;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, chown};
use support::SERVICE;
use support::dockerd::Dockerd;

/// Nobody's ids, for the broker.
const USER: u32 = 64_117;
const SECRET: &str = "hunter2-in-an-environment";

struct Running {
    child: Child,
    dir: tempfile::TempDir,
}

impl Running {
    /// Starts the program with its listener, as systemd would: sd_listen_fds(3), an own user, a state folder.
    fn start(docker: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("cell-broker-").tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::create_dir(at("state")).unwrap();
        chown(&at("state"), Some(Uid::from_raw(USER)), Some(Gid::from_raw(USER))).unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_cell-broker"), at("cell-broker")).unwrap();
        let policy = format!(
            "docker_socket = {docker:?}\nowner_label = \"cell.owner\"\nservice_label = \"cell.service\"\n\
             cell_id = \"default\"\nmax_concurrent = 16\ndocker_deadline_seconds = 20\n\
             [callers.api]\nusers = [\"root\"]\nunit = \"cell-api.service\"\n"
        );
        std::fs::write(at("broker.toml"), policy).unwrap();
        let listener = OwnedFd::from(UnixListener::bind(at("broker.sock")).unwrap());
        // The listener comes in as standard input, because Command passes no other descriptor on.
        let script = "exec 3<&0 </dev/null; export LISTEN_PID=$$; exec setpriv --reuid $BROKER --regid $BROKER \
                      --clear-groups --bounding-set=-all --inh-caps=-all ./cell-broker --config broker.toml";
        let child = Command::new("sh")
            .args(["-c", script])
            .current_dir(dir.path())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("BROKER", USER.to_string())
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDNAMES", "api")
            .env("STATE_DIRECTORY", at("state"))
            .env("RUST_LOG", "trace")
            .stdin(Stdio::from(listener))
            .stderr(std::fs::File::create(at("log")).unwrap())
            .spawn()
            .unwrap();
        Running { child, dir }
    }

    fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("broker.sock")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    fn kernel_says(&self, key: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with(&format!("{key}:")))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    }

    /// SIGTERM; the time until it has ended.
    fn end(&mut self) -> Duration {
        let asked = Instant::now();
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        asked.elapsed()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_program_serves_behind_its_sandbox_and_tells_no_secret() {
    let dockerd = Dockerd::start();
    chown(&dockerd.socket(), Some(Uid::from_raw(USER)), None).unwrap();
    let env = format!("--env=PASSWORD={SECRET}");
    let own = dockerd.create(
        &[&env],
        &[("cell.owner", "default"), ("cell.service", "files")],
        SERVICE,
    );
    let other = dockerd.create(&[&env, "--name=of-others"], &[("cell.owner", "default")], SERVICE);

    let mut running = Running::start(&dockerd.socket());
    let channel = connect(running.socket());
    let request = StartContainerRequest {
        service: "files".to_owned(),
    };
    let started = ContainerServiceClient::new(channel.clone())
        .start_container(request)
        .await;
    let started = started
        .unwrap_or_else(|status| panic!("{status:?}\n{}", running.log()))
        .into_inner();
    assert_eq!(started.container.unwrap().state(), ContainerState::Running);
    let listed = ContainerStatusServiceClient::new(channel)
        .list_containers(ListContainersRequest {})
        .await
        .unwrap();
    assert_eq!(listed.into_inner().containers.len(), 1);

    assert_eq!(running.kernel_says("Uid"), USER.to_string());
    assert_eq!(running.kernel_says("NoNewPrivs"), "1");
    assert_eq!(running.kernel_says("Seccomp"), "2");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&running.kernel_says(set), 16), Ok(0), "{set}");
    }

    assert!(running.end() < Duration::from_secs(5));
    let log = running.log();
    assert!(
        log.contains("audit") && log.contains("verdict=\"allow\"") && log.contains("service=\"files\""),
        "{log}"
    );
    assert!(log.contains(own.as_str()));
    // Even with RUST_LOG=trace.
    for never in [SECRET, "of-others", other.as_str()] {
        assert!(!log.contains(never), "{never} in {log}");
    }
}

#[tokio::test]
async fn the_program_runs_without_docker_and_says_so() {
    let mut running = Running::start(Path::new("/nonexistent/docker.sock"));
    let mut reads = ContainerStatusServiceClient::new(connect(running.socket()));
    let answer = reads.get_broker_status(GetBrokerStatusRequest {}).await;
    let status = answer
        .unwrap_or_else(|status| panic!("{status:?}\n{}", running.log()))
        .into_inner()
        .status
        .unwrap();
    assert_eq!(status.conditions[0].reason, "NO_SOCKET");
    assert!(running.end() < Duration::from_secs(5));
}

#[test]
fn a_policy_with_a_fault_is_refused_and_one_without_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broker.toml");
    let check = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Command::new(env!("CARGO_BIN_EXE_cell-broker"))
            .arg("--check")
            .arg("--config")
            .arg(&path)
            .output()
            .unwrap()
    };
    let good = "docker_socket = \"/run/docker.sock\"\nowner_label = \"cell.owner\"\nservice_label = \"cell.service\"\n\
                cell_id = \"default\"\nmax_concurrent = 16\ndocker_deadline_seconds = 20\n\
                [callers.api]\nusers = [\"root\"]\n";
    let shown = check(good);
    assert!(shown.status.success());
    assert!(String::from_utf8_lossy(&shown.stdout).contains("/run/docker.sock"));
    let refused = check(&format!("privileged = true\n{good}"));
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("privileged"));
}
