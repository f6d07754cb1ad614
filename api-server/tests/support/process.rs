//! The real binary as another user, to be killed. Needs root.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use super::client::Client;
use super::{NOBODY, PASSWORD};

/// cell-api as the launcher starts it: another user, listeners by descriptor, everything else by its policy file.
pub struct Process {
    pub child: Child,
    pub address: SocketAddr,
}

impl Process {
    /// Kills it after a while, whatever it does then.
    pub fn killed_after(&self, while_: Duration) -> JoinHandle<()> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        std::thread::spawn(move || {
            std::thread::sleep(while_);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        })
    }

    pub fn start(folder: &Path) -> Process {
        let loopback = TcpListener::bind("127.0.0.1:0").unwrap();
        let vpn = TcpListener::bind("127.0.0.1:0").unwrap();
        let path = folder.join("api.sock");
        let _ = std::fs::remove_file(&path);
        let automation = UnixListener::bind(&path).unwrap();
        let address = loopback.local_addr().unwrap();
        // The shell moves the descriptors to where sd_listen_fds(3) expects them, setpriv(1) gives every right up, and
        // both become the daemon: one process all the way, so that the kill hits it.
        let script = r#"exec 3<&0 4<&1 5<&2 0</dev/null 1>/dev/null 2>>"$1/log"
            export LISTEN_PID=$$ LISTEN_FDS=3 LISTEN_FDNAMES=loopback:vpn:automation
            exec setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
                --ambient-caps=-all "$2" --config "$1/api.toml""#;
        let child = Command::new("/bin/sh")
            .args(["-c", script, "sh"])
            .args([folder.as_os_str(), env!("CARGO_BIN_EXE_cell-api").as_ref()])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(loopback)))
            .stdout(Stdio::from(std::os::fd::OwnedFd::from(vpn)))
            .stderr(Stdio::from(std::os::fd::OwnedFd::from(automation)))
            .spawn()
            .unwrap();
        Process { child, address }
    }

    pub async fn ready(&mut self, folder: &Path) -> Client {
        let started = Instant::now();
        loop {
            let log = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(
                self.child.try_wait().unwrap().is_none(),
                "cell-api ended: {}",
                log()
            );
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "never ready: {}",
                log()
            );
            let client = Client::new(self.address);
            let get = client.try_get("/health");
            if let Ok(Some(200)) = tokio::time::timeout(Duration::from_millis(500), get).await {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn prepare(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
    let at = |name: &str| folder.join(name).display().to_string();
    let policy = format!(
        "state = {state:?}\nnetd_socket = {netd:?}\nbroker_socket = {broker:?}\nvault_socket = {vault:?}\n\
         egress_socket = {egress:?}\n\
         wireguard_interface = \"wg0\"\nwireguard_port = 51820\nvpn_https_port = 443\nvpn_target_port = 3443\n\
         session_idle_minutes = 30\nsession_absolute_hours = 12\n[callers.automation]\nusers = [\"root\"]\n",
        state = folder.display().to_string(),
        netd = at("netd.sock"),
        broker = at("broker.sock"),
        vault = at("vault.sock"),
        egress = at("egress.sock"),
    );
    std::fs::write(folder.join("api.toml"), policy).unwrap();
    std::fs::set_permissions(folder.join("api.toml"), std::fs::Permissions::from_mode(0o644)).unwrap();
}

/// The first process of a folder that was prepared: the cell is set up, and its administrator has logged in.
pub async fn started(folder: &Path) -> (Process, Client) {
    let mut process = Process::start(folder);
    let mut client = process.ready(folder).await;
    set_up(&mut client, folder).await;
    client.login("anna", PASSWORD).await;
    (process, client)
}

async fn set_up(client: &mut Client, folder: &Path) {
    let token = std::fs::read_to_string(folder.join("claim-token"))
        .unwrap()
        .trim()
        .to_owned();
    client
        .post("/api/setup/step/claim", &json!({"claim_token": token}))
        .await
        .expect(200);
    client.claim = Some(token);
    client
        .post(
            "/api/setup/step/identity",
            &json!({"cell_name": "home", "domain_mode": "lan"}),
        )
        .await
        .expect(200);
    let network = json!({"vpn_range_ipv4": "10.86.0.0/16", "endpoint_host": "vpn.example.org"});
    client.post("/api/setup/step/network", &network).await.expect(200);
    client
        .post(
            "/api/setup/step/admin",
            &json!({"username": "anna", "password": PASSWORD}),
        )
        .await
        .expect(200);
    client.post("/api/setup/complete", &json!({})).await.expect(200);
}
