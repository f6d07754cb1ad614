//! The program itself, as its unit starts it: as an unprivileged user, in its sandbox, with its listeners handed over.
//! Needs root, to become that user.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cell_proto::common::v1::ConditionStatus;
use cell_proto::fault;
use cell_proto::ipc::connect;
use cell_proto::vault::v1::secret_service_client::SecretServiceClient;
use cell_proto::vault::v1::vault_status_service_client::VaultStatusServiceClient;
use cell_proto::vault::v1::wireguard_key_service_client::WireguardKeyServiceClient;
use cell_proto::vault::v1::{
    GetVaultStatusRequest, GetWireguardPrivateKeyRequest, ListSecretsRequest, PutSecretRequest,
};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cell-vaultd");
/// A user that owns nothing on the machine.
const USER: u32 = 63_117;

struct House {
    folder: tempfile::TempDir,
}

impl House {
    fn new(kek: Option<&[u8]>) -> House {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let house = House { folder };
        for owned in ["state", "credentials"] {
            fs::create_dir(house.path(owned)).unwrap();
            fs::set_permissions(house.path(owned), fs::Permissions::from_mode(0o700)).unwrap();
            chown(house.path(owned), Some(USER), Some(USER)).unwrap();
        }
        if let Some(kek) = kek {
            fs::write(house.path("credentials/kek"), kek).unwrap();
            chown(house.path("credentials/kek"), Some(USER), Some(USER)).unwrap();
        }
        fs::write(house.path("vaultd.toml"), house.policy("root")).unwrap();
        house
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn policy(&self, user: &str) -> String {
        format!(
            "state = {:?}\ndns_suffixes = [\"cell\"]\naddress_prefixes = [\"10.0.0.0/8\"]\nleaf_lifetime_hours = 24\n\
             issuances_per_hour = 60\nsecrets_max = 100\napi_secret_prefixes = [\"conn_\"]\n\
             [callers.api]\nusers = [\"{user}\"]\n[callers.netd]\nusers = [\"{user}\"]\n",
            self.path("state"),
        )
    }

    /// Starts vaultd and waits for READY=1.
    fn start(&self) -> Daemon {
        let bind = |name: &str| {
            let _ = fs::remove_file(self.path(name));
            UnixListener::bind(self.path(name)).unwrap()
        };
        let listeners: Vec<OwnedFd> = vec![bind("api.sock").into(), bind("netd.sock").into()];
        let _ = fs::remove_file(self.path("notify"));
        let notify = UnixDatagram::bind(self.path("notify")).unwrap();
        fs::set_permissions(self.path("notify"), fs::Permissions::from_mode(0o666)).unwrap();
        notify.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut redirections = String::new();
        for (index, listener) in listeners.iter().enumerate() {
            fcntl(listener, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
            redirections += &format!(" {}<&{}", 100 + index, listener.as_raw_fd());
        }
        // The shell moves them to where sd_listen_fds(3) wants them, and is the process id that it names.
        let script = format!(
            "exec{redirections} 3<&- 4<&-; exec 3<&100 4<&101 100<&- 101<&-; LISTEN_PID=$$ exec \"$@\""
        );
        let user = USER.to_string();
        let mut child = Command::new("bash")
            .args([
                "-c",
                &script,
                "bash",
                "setpriv",
                "--reuid",
                &user,
                "--regid",
                &user,
                "--clear-groups",
            ])
            .args([
                "--inh-caps=-all",
                "--bounding-set=-all",
                "--no-new-privs",
                PROGRAM,
                "--config",
            ])
            .arg(self.path("vaultd.toml"))
            .env("LISTEN_FDS", "2")
            .env("LISTEN_FDNAMES", "api:netd")
            .env("CREDENTIALS_DIRECTORY", self.path("credentials"))
            .env("NOTIFY_SOCKET", self.path("notify"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = [0; 64];
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
            if let Ok(length) = notify.recv(&mut told) {
                assert_eq!(std::str::from_utf8(&told[..length]).unwrap().trim(), "READY=1");
                return Daemon { child };
            }
        }
        let _ = child.kill();
        let mut log = String::new();
        child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        panic!("vaultd did not get ready:\n{log}");
    }
}

struct Daemon {
    child: Child,
}

impl Daemon {
    fn status(&self, field: &str) -> String {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    }

    /// SIGTERM; how long the end took, and the log.
    fn terminate(mut self) -> (Duration, String) {
        let started = Instant::now();
        kill(
            Pid::from_raw(self.child.id().try_into().unwrap()),
            Signal::SIGTERM,
        )
        .unwrap();
        let ended = self.child.wait().unwrap();
        let mut log = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        assert!(ended.success(), "{ended}: {log}");
        (started.elapsed(), log)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

async fn private_key(socket: &Path) -> Result<Vec<u8>, tonic::Status> {
    let mut client = WireguardKeyServiceClient::new(connect(socket));
    Ok(client
        .get_wireguard_private_key(GetWireguardPrivateKeyRequest {})
        .await?
        .into_inner()
        .private_key)
}

#[test]
fn in_its_sandbox_it_serves_keeps_its_state_over_a_restart_and_ends_cleanly() {
    let house = House::new(Some(&[7; 32]));
    let daemon = house.start();
    assert_eq!(daemon.status("Uid"), format!("{USER}\t{USER}\t{USER}\t{USER}"));
    for (field, expected) in [
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        assert_eq!(daemon.status(field), expected, "{field}");
    }
    let key = block_on(async {
        let key = private_key(&house.path("netd.sock")).await.unwrap();
        let mut secrets = SecretServiceClient::new(connect(house.path("api.sock")));
        let put = PutSecretRequest {
            name: "conn_a".into(),
            value: vec![1],
            expected_version: 0,
            revision: 0,
        };
        secrets.put_secret(put).await.unwrap();
        key
    });
    let (took, log) = daemon.terminate();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(log.contains("sandbox: "), "{log}");
    let daemon = house.start();
    block_on(async {
        assert_eq!(private_key(&house.path("netd.sock")).await.unwrap(), key);
        let mut secrets = SecretServiceClient::new(connect(house.path("api.sock")));
        let listed = secrets
            .list_secrets(ListSecretsRequest::default())
            .await
            .unwrap()
            .into_inner()
            .secrets;
        assert_eq!((listed[0].name.as_str(), listed[0].version), ("conn_a", 1));
    });
    daemon.terminate();
    for entry in fs::read_dir(house.path("state/vault")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{entry:?}"
        );
    }
}

/// Whether memory could be locked depends on the limit that the machine grants; the status tells it as it is.
#[test]
fn the_status_tells_whether_memory_is_locked() {
    let house = House::new(Some(&[7; 32]));
    let daemon = house.start();
    let condition = block_on(async {
        let mut status = VaultStatusServiceClient::new(connect(house.path("api.sock")));
        let told = status
            .get_vault_status(GetVaultStatusRequest {})
            .await
            .unwrap()
            .into_inner()
            .status
            .unwrap();
        told.conditions
            .into_iter()
            .find(|condition| condition.r#type == "MemoryLocked")
            .unwrap()
    });
    let locked = daemon.status("VmLck") != "0 kB";
    assert_eq!(
        condition.status() == ConditionStatus::True,
        locked,
        "{condition:?}"
    );
    assert_eq!(locked, condition.reason == "LOCKED", "{condition:?}");
}

#[test]
fn without_a_key_it_runs_sealed_and_makes_nothing() {
    for (kek, reason) in [(None, "KEK_MISSING"), (Some(&[7; 31][..]), "KEK_LENGTH")] {
        let house = House::new(kek);
        let daemon = house.start();
        block_on(async {
            let refused = private_key(&house.path("netd.sock")).await.unwrap_err();
            assert_eq!(fault::reason(&refused).as_deref(), Some("SEALED"));
            let mut status = VaultStatusServiceClient::new(connect(house.path("api.sock")));
            let told = status
                .get_vault_status(GetVaultStatusRequest {})
                .await
                .unwrap()
                .into_inner()
                .status
                .unwrap();
            assert_eq!(told.conditions[0].reason, reason);
        });
        daemon.terminate();
        assert!(!house.path("state/vault").exists());
    }
}

#[test]
fn a_second_one_on_the_same_state_ends() {
    let house = House::new(Some(&[7; 32]));
    let daemon = house.start();
    let second = std::panic::catch_unwind(|| house.start());
    let told = *second.err().unwrap().downcast::<String>().unwrap();
    assert!(told.contains("another vaultd uses this state folder"), "{told}");
    drop(daemon);
}

#[test]
fn check_prints_what_is_in_force_and_names_every_fault() {
    let house = House::new(None);
    let check = || {
        let output = Command::new(PROGRAM)
            .arg("--check")
            .arg("--config")
            .arg(house.path("vaultd.toml"))
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8([output.stdout, output.stderr].concat()).unwrap(),
        )
    };
    let (good, told) = check();
    assert!(
        good && told.contains("dns cell") && told.contains("conn_*"),
        "{told}"
    );
    let bad = house
        .policy("no-such-user")
        .replace("leaf_lifetime_hours = 24", "leaf_lifetime_hours = 0");
    fs::write(house.path("vaultd.toml"), &bad).unwrap();
    let (good, told) = check();
    assert!(!good && told.contains("leaf_lifetime_hours"), "{told}");
    fs::write(house.path("vaultd.toml"), house.policy("no-such-user")).unwrap();
    let (good, told) = check();
    assert!(
        !good && told.contains("callers.api.users[0]") && told.contains("callers.netd.users[0]"),
        "{told}"
    );
    fs::write(house.path("vaultd.toml"), house.policy("root") + "surprise = 1\n").unwrap();
    let (good, told) = check();
    assert!(!good && told.contains("surprise"), "{told}");
    assert!(!house.path("state/vault").exists());
}
