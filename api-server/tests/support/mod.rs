//! A real cell-api in this process on real listeners, with fake daemons that speak the real protos on real sockets.
#![allow(
    dead_code,
    clippy::unwrap_used,
    missing_docs,
    reason = "tests; not every file uses all of it"
)]

pub mod accounts;
pub mod broker;
pub mod broker_contract;
pub mod catalog;
pub mod client;
pub mod egress;
pub mod netd;
pub mod openvpn;
pub mod process;
pub mod store;
pub mod traces;
pub mod v1;
pub mod vault;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use cell_api::app::App;
use cell_api::callers::Callers;
use cell_api::config::{AutomationCallers, Config};
use cell_api::run::{self, Sockets};
use cell_api_core::derive::NetworkSettings;
use cell_proto::ipc::{self, CallerPolicy};
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

use client::Client;

pub const PASSWORD: &str = "correct horse battery";
/// The id of no connection.
pub const ABSENT: &str = "00000000-0000-4000-8000-000000000000";
/// The user that a real cell-api runs as in tests.
pub const NOBODY: u32 = 65_534;
pub const START_MS: i64 = 1_800_000_000_000;

/// A cell under test. Everything ends when it is dropped.
pub struct Cell {
    pub app: Arc<App>,
    pub address: SocketAddr,
    pub vpn: SocketAddr,
    pub automation: PathBuf,
    pub netd: netd::FakeNetd,
    pub vault: vault::FakeVault,
    pub egress: egress::FakeEgress,
    pub openvpn: openvpn::FakeOpenvpn,
    pub clock: Arc<AtomicI64>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    folder: tempfile::TempDir,
}

impl Drop for Cell {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Cell {
    pub async fn start() -> Cell {
        Cell::start_with(|_| {}).await
    }

    /// With another policy file.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Cell {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicI64::new(START_MS));
        let netd = netd::FakeNetd::start(folder.path().join("netd.sock")).await;
        let vault = vault::FakeVault::start(folder.path().join("vault.sock"), START_MS).await;
        let egress = egress::FakeEgress::start(folder.path().join("egress.sock"));
        let openvpn = openvpn::FakeOpenvpn::start(folder.path().join("openvpn.sock"));
        let mut config = config(folder.path());
        change(&mut config);
        let time = Arc::clone(&clock);
        let app = App::open(config, Arc::new(move || time.load(Ordering::SeqCst))).unwrap();
        let loopback = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let vpn = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let automation = folder.path().join("api.sock");
        let (address, vpn_address) = (loopback.local_addr().unwrap(), vpn.local_addr().unwrap());
        let sockets = Sockets {
            loopback,
            vpn: vec![vpn],
            automation: UnixListener::bind(&automation).unwrap(),
        };
        let shutdown = CancellationToken::new();
        let callers = Callers(BTreeMap::from([(own_uid(), "tester".to_owned())]));
        let tasks = run::start(Arc::clone(&app), callers, sockets, &shutdown)
            .await
            .unwrap();
        Cell {
            app,
            address,
            vpn: vpn_address,
            automation,
            netd,
            vault,
            egress,
            openvpn,
            clock,
            shutdown,
            tasks,
            folder,
        }
    }

    /// A cell that is set up.
    pub async fn ready() -> Cell {
        let cell = Cell::start().await;
        cell.set_up().await;
        cell
    }

    /// What SIGTERM does.
    pub fn shut_down(&self) {
        self.shutdown.cancel();
    }

    /// cell-api ends and is started anew on the same state; the daemons go on. It listens elsewhere then.
    pub async fn restart(&mut self) {
        self.shutdown.cancel();
        // As the process itself: a connection that stays open holds up no end.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await;
        let time = Arc::clone(&self.clock);
        let config = self.app.config.clone();
        self.app = App::open(config, Arc::new(move || time.load(Ordering::SeqCst))).unwrap();
        let loopback = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let vpn = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.address = loopback.local_addr().unwrap();
        self.vpn = vpn.local_addr().unwrap();
        std::fs::remove_file(&self.automation).unwrap();
        let sockets = Sockets {
            loopback,
            vpn: vec![vpn],
            automation: UnixListener::bind(&self.automation).unwrap(),
        };
        self.shutdown = CancellationToken::new();
        let callers = Callers(BTreeMap::from([(own_uid(), "tester".to_owned())]));
        self.tasks = run::start(Arc::clone(&self.app), callers, sockets, &self.shutdown)
            .await
            .unwrap();
    }

    /// Waits until everything that was started has ended.
    pub async fn ended(&self) {
        self.tasks.wait().await;
    }

    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    pub fn state(&self) -> &Path {
        self.folder.path()
    }

    pub fn advance(&self, by: Duration) {
        self.clock
            .fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub fn claim_token(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("claim-token"))
            .unwrap()
            .trim()
            .to_owned()
    }

    pub async fn set_up(&self) {
        let mut client = self.client();
        let token = self.claim_token();
        client
            .post("/api/setup/step/claim", &json!({"claim_token": token}))
            .await
            .expect(200);
        client.claim = Some(token);
        let identity = json!({"cell_name": "home", "domain_mode": "lan"});
        client
            .post("/api/setup/step/identity", &identity)
            .await
            .expect(200);
        let network = json!({"vpn_range_ipv4": "10.86.0.0/24", "vpn_range_ipv6": "fd12:3456:789a::/64",
            "endpoint_host": "vpn.example.org"});
        client.post("/api/setup/step/network", &network).await.expect(200);
        let admin = json!({"username": "anna", "password": PASSWORD});
        client.post("/api/setup/step/admin", &admin).await.expect(200);
        client.post("/api/setup/complete", &json!({})).await.expect(200);
    }

    /// Logged in as the administrator.
    pub async fn admin(&self) -> Client {
        let mut client = self.client();
        client.login("anna", PASSWORD).await;
        client
    }

    /// Logged in as a user of the role `peer`, made by the administrator.
    pub async fn peer_user(&self, name: &str) -> Client {
        let user = json!({"username": name, "password": PASSWORD, "role": "peer"});
        self.admin()
            .await
            .post("/api/auth/users", &user)
            .await
            .expect(201);
        let mut client = self.client();
        client.login(name, PASSWORD).await;
        client
    }

    /// Kills vaultd, and waits until nobody reaches it: what is served already is not cut off at once.
    pub async fn lose_vault(&mut self) {
        self.vault.kill();
        while self.app.secrets.list(String::new()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until netd has what is committed.
    pub async fn converged(&self, generation: u64) {
        let what = format!("netd confirms generation {generation}");
        eventually(&what, || self.app.network.observed() >= generation).await;
    }
}

pub fn own_uid() -> u32 {
    nix::unistd::getuid().as_raw()
}

pub fn config(folder: &Path) -> Config {
    Config {
        state: folder.to_owned(),
        netd_socket: folder.join("netd.sock"),
        broker_socket: folder.join("broker.sock"),
        vault_socket: folder.join("vault.sock"),
        egress_socket: Some(folder.join("egress.sock")),
        openvpn_socket: Some(folder.join("openvpn.sock")),
        tor_socks: "127.0.0.1:9150".parse().unwrap(),
        core_network: cell_api_core::services::core_network::CoreNetwork::SHIPPED,
        service_pool: cell_api_core::service_network::pool(
            "172.21.0.0/16",
            cell_api_core::services::core_network::CoreNetwork::SHIPPED,
        )
        .unwrap(),
        catalog: folder.join("catalog"),
        authorities: cell_api::authorities::Authorities::default(),
        core_services: false,
        core_dns_dir: None,
        caddy_socket: None,
        network: NetworkSettings {
            interface: "wg0".to_owned(),
            listen_port: 51820,
            https_port: 443,
            https_target_port: 3443,
        },
        allowed_hosts: Vec::new(),
        session_idle: Duration::from_secs(30 * 60),
        session_absolute: Duration::from_secs(12 * 3600),
        automation: AutomationCallers {
            users: Vec::new(),
            groups: Vec::new(),
        },
    }
}

/// Serves `routes` at `path` as a daemon does, until the token is cancelled.
pub fn serve(path: &Path, routes: Routes) -> CancellationToken {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let token = CancellationToken::new();
    let ended = token.clone();
    // Dropping the future, not a graceful end: a daemon that is killed says no goodbye.
    tokio::spawn(async move {
        let policy = CallerPolicy {
            uids: vec![own_uid(), NOBODY],
            unit: None,
        };
        let serving = ipc::serve(listener, policy, routes, std::future::pending());
        tokio::select! {
            served = serving => served.unwrap(),
            () = ended.cancelled() => {}
        }
    });
    token
}

/// A WireGuard public key, another for each number.
pub fn key(number: u64) -> String {
    use base64::Engine;
    let mut bytes = [7u8; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The OpenAPI document's operations: method, path with sample parameters, whether it has a body.
pub fn operations() -> Vec<(String, String, bool)> {
    let document: serde_json::Value =
        serde_json::from_str(&cell_api::http::openapi::rendered().unwrap()).unwrap();
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path
            .replace("{name}", "nobody")
            .replace("{username}", "nobody")
            .replace("{service}", "nobody")
            .replace("{user}", "nobody")
            .replace("{step}", "identity")
            .replace("{id}", ABSENT);
        for (method, operation) in methods.as_object().unwrap() {
            all.push((
                method.to_uppercase(),
                path.clone(),
                operation.get("requestBody").is_some(),
            ));
        }
    }
    assert!(all.len() > 30, "the document is not empty");
    all
}

/// Adds a peer whose key is made of `number`.
pub async fn add(client: &Client, name: &str, number: u64) -> Value {
    let answer = client
        .post("/api/peers", &json!({"name": name, "public_key": key(number)}))
        .await;
    answer.expect(201).json()
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..200 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}
