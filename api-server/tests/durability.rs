//! The real binary, in its sandbox, killed with SIGKILL at random moments: what was acknowledged is there afterwards,
//! what was not is wholly there or wholly not, and the audit chain holds. Needs root, to start it as another user.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cell_api_core::audit::Verifier;
use serde_json::json;
use support::client::Client;
use support::{NOBODY, PASSWORD, key, netd, vault};

const ROUNDS: u64 = 12;

/// cell-api as the launcher starts it: another user, listeners by descriptor, everything else by its policy file.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(folder: &Path) -> Process {
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

    async fn ready(&mut self, folder: &Path) -> Client {
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

fn prepare(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
    let at = |name: &str| folder.join(name).display().to_string();
    let policy = format!(
        "state = {state:?}\nnetd_socket = {netd:?}\nbroker_socket = {broker:?}\nvault_socket = {vault:?}\n\
         wireguard_interface = \"wg0\"\nwireguard_port = 51820\nvpn_https_port = 443\nvpn_target_port = 3443\n\
         session_idle_minutes = 30\nsession_absolute_hours = 12\n[callers.automation]\nusers = [\"root\"]\n",
        state = folder.display().to_string(),
        netd = at("netd.sock"),
        broker = at("broker.sock"),
        vault = at("vault.sock"),
    );
    std::fs::write(folder.join("api.toml"), policy).unwrap();
    std::fs::set_permissions(folder.join("api.toml"), std::fs::Permissions::from_mode(0o644)).unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_sigkill() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    prepare(folder);
    let netd = netd::FakeNetd::start(folder.join("netd.sock")).await;
    let _vault = vault::FakeVault::start(folder.join("vault.sock"), support::START_MS).await;
    let mut process = Process::start(folder);
    let mut client = process.ready(folder).await;
    set_up(&mut client, folder).await;
    client.login("anna", PASSWORD).await;

    let mut acknowledged: BTreeMap<String, String> = BTreeMap::new();
    let mut attempted = 0u64;
    for round in 0..ROUNDS {
        // A moment that moves through the life of a request and differs in each round.
        let deadline = Instant::now() + Duration::from_micros(80_000 + 37_321 * round);
        let pid = nix::unistd::Pid::from_raw(i32::try_from(process.child.id()).unwrap());
        let killer = std::thread::spawn(move || {
            std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        });
        loop {
            attempted += 1;
            let name = format!("p{attempted}");
            let body = json!({"name": name, "public_key": key(attempted)});
            match client.try_post("/api/peers", &body).await {
                Some(answer) => {
                    assert_eq!(answer.status, 201, "{}", answer.text);
                    acknowledged.insert(name, answer.json()["peer"]["ipv4"].as_str().unwrap().to_owned());
                }
                None => break,
            }
        }
        killer.join().unwrap();
        process.child.wait().unwrap();
        process = Process::start(folder);
        let fresh = process.ready(folder).await;
        // The session survives the kill too.
        client.address = fresh.address;
        let peers = client.get("/api/peers").await.expect(200).json();
        let stored: BTreeMap<String, String> = peers["peers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| {
                (
                    p["name"].as_str().unwrap().to_owned(),
                    p["ipv4"].as_str().unwrap().to_owned(),
                )
            })
            .collect();
        for (name, address) in &acknowledged {
            assert_eq!(
                stored.get(name),
                Some(address),
                "round {round}: an acknowledged peer is lost or changed"
            );
        }
        // At most the one request under way at the moment of the kill was committed and not acknowledged.
        assert!(stored.len() as u64 <= acknowledged.len() as u64 + round + 1);
        check_database(folder, stored.len() as u64);
    }
    assert!(
        acknowledged.len() as u64 > ROUNDS * 2,
        "only {} writes were acknowledged",
        acknowledged.len()
    );
    let known = client.get("/api/status").await.expect(200).json()["peer_count"]
        .as_u64()
        .unwrap();
    for _ in 0..100 {
        if netd.peer_names().len() as u64 == known {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("netd never got every peer");
}

/// Each peer has its audit record and its generation, or none of the three is there.
fn check_database(folder: &Path, peers: u64) {
    let database = rusqlite::Connection::open(folder.join("cell.db")).unwrap();
    let number = |sql: &str| database.query_row(sql, (), |row| row.get::<_, u64>(0)).unwrap();
    assert_eq!(
        number("SELECT COUNT(*) FROM audit WHERE action = 'peer.create'"),
        peers
    );
    assert_eq!(
        number("SELECT value FROM counter WHERE name = 'network_generation'"),
        peers + 1
    );
    assert_eq!(
        number("SELECT value FROM counter WHERE name = 'highest_host'"),
        peers + 1
    );
    let mut verifier = Verifier::new(BTreeMap::new());
    for record in cell_api::store::audit::page(&database, 1, u32::MAX).unwrap() {
        verifier.push(&record);
    }
    assert_eq!(verifier.finish().fault, None);
    let integrity: String = database
        .query_row("PRAGMA integrity_check", (), |row| row.get(0))
        .unwrap();
    assert_eq!(integrity, "ok");
}
