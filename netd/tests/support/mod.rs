//! A cell-netd under test, with its sandbox and alone with CAP_NET_ADMIN, a real cell-wg beside it, and a vault that gives
//! the cell's key and those of exits.
#![allow(dead_code, clippy::unwrap_used, reason = "shared by several test binaries")]

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use cell_lab::activation::{self, Listener};
use cell_lab::cell::program;
use cell_lab::legacy::Restorer;
use cell_lab::netns::Namespace;
use cell_lab::process::{Process, run_with_input, until};
use cell_proto::common::v1 as common;
use cell_proto::fault::Fault;
use cell_proto::ipc::{self, CallerPolicy};
use cell_proto::netd::v1;
use cell_proto::netd::v1::network_service_client::NetworkServiceClient;
use cell_proto::netd::v1::network_status_service_client::NetworkStatusServiceClient;
use cell_proto::vault::v1::exit_secret_service_server::{ExitSecretService, ExitSecretServiceServer};
use cell_proto::vault::v1::wireguard_key_service_server::{WireguardKeyService, WireguardKeyServiceServer};
use cell_proto::vault::v1::{
    GetWireguardPrivateKeyRequest, GetWireguardPrivateKeyResponse, ReadExitSecretRequest,
    ReadExitSecretResponse,
};
use tokio::runtime::Runtime;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

/// netd runs as nobody.
const NOBODY: u32 = 65534;
pub const PORT: u16 = 51820;
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A key pair, as wg(8) writes it.
#[derive(Debug, Clone)]
pub struct Keys {
    pub private: String,
    pub public: String,
    pub public_bytes: Vec<u8>,
}

impl Keys {
    pub fn make() -> Result<Self> {
        let private = cell_lab::process::run(Command::new("wg").arg("genkey"))?
            .trim()
            .to_owned();
        let public = run_with_input(Command::new("wg").arg("pubkey"), &private)?
            .trim()
            .to_owned();
        let public_bytes = decode(&public)?;
        Ok(Keys {
            private,
            public,
            public_bytes,
        })
    }
}

pub fn decode(text: &str) -> Result<Vec<u8>> {
    use base64::Engine as _;
    Ok(base64::engine::general_purpose::STANDARD.decode(text)?)
}

struct Vault(Arc<Mutex<Vec<u8>>>);

/// By name at vaultd.
pub type Secrets = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

struct ExitVault(Secrets);

#[tonic::async_trait]
impl ExitSecretService for ExitVault {
    async fn read_exit_secret(
        &self,
        request: Request<ReadExitSecretRequest>,
    ) -> Result<Response<ReadExitSecretResponse>, Status> {
        let value = self.0.lock().unwrap().get(&request.into_inner().name).cloned();
        let absent = || {
            Status::from(Fault::new(
                Code::NotFound,
                "vault.cell",
                "NO_SECRET",
                "there is none",
            ))
        };
        let value = value.ok_or_else(absent)?;
        Ok(Response::new(ReadExitSecretResponse { value, revision: 0 }))
    }
}

#[tonic::async_trait]
impl WireguardKeyService for Vault {
    async fn get_wireguard_private_key(
        &self,
        _: Request<GetWireguardPrivateKeyRequest>,
    ) -> Result<Response<GetWireguardPrivateKeyResponse>, Status> {
        Ok(Response::new(GetWireguardPrivateKeyResponse {
            private_key: self.0.lock().unwrap().clone(),
        }))
    }
}

/// The daemons in one namespace.
pub struct Netd {
    pub keys: Keys,
    runtime: Runtime,
    folder: tempfile::TempDir,
    netns: PathBuf,
    listener: OwnedFd,
    /// Whom cell-egress asks for marks.
    marks: OwnedFd,
    nft: Option<OwnedFd>,
    wg_listeners: [Listener; 2],
    vault_key: Arc<Mutex<Vec<u8>>>,
    pub exit_secrets: Secrets,
    pub process: Process,
    pub wg: Process,
    /// Where the policy is rendered for legacy iptables.
    pub restorer: Option<Restorer>,
}

/// Which renderer the tests are run with: `CELL_TEST_RENDERER=iptables` chooses the other. The binaries know nothing of it.
pub fn is_legacy() -> bool {
    std::env::var_os("CELL_TEST_RENDERER").is_some_and(|name| name == "iptables")
}

/// What an administrator may do to rules that are not theirs. With iptables the table with the policy is left alone: it has no
/// owner, and while it is empty nothing holds (tests/legacy.rs).
pub fn flush(namespace: &Namespace) -> Result<()> {
    namespace.run("nft", &["flush", "ruleset"])?;
    if is_legacy() {
        for program in ["iptables-legacy", "ip6tables-legacy"] {
            for table in ["filter", "nat", "raw"] {
                namespace.run(program, &["-t", table, "-F"])?;
            }
        }
    }
    Ok(())
}

impl Netd {
    pub fn start(namespace: &Namespace) -> Result<Self> {
        Self::start_with(namespace, None, is_legacy())
    }

    /// netd is given the socket that owns the policy, which is held here until [`Netd::let_go`].
    pub fn start_held(namespace: &Namespace) -> Result<Self> {
        use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket};
        let made = namespace.inside(|| -> Result<OwnedFd> {
            let netfilter = SockProtocol::NetlinkNetFilter;
            let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK);
            let made = socket(AddressFamily::Netlink, kind, flags, netfilter)?;
            bind(made.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
            Ok(made)
        })??;
        Self::start_with(namespace, Some(made), is_legacy())
    }

    /// What holds the policy is not held any more.
    pub fn let_go(&mut self) {
        self.nft = None;
    }

    /// netd with a renderer of the test's own choice.
    pub fn start_rendering(namespace: &Namespace, legacy: bool) -> Result<Self> {
        Self::start_with(namespace, None, legacy)
    }

    fn start_with(namespace: &Namespace, nft: Option<OwnedFd>, legacy: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let keys = Keys::make()?;
        let runtime = Runtime::new()?;
        let vault_key = Arc::new(Mutex::new(decode(&keys.private)?));
        let exit_secrets = Secrets::default();
        serve_whole_vault(
            &runtime,
            &folder.path().join("vault.sock"),
            Arc::clone(&vault_key),
            Arc::clone(&exit_secrets),
            NOBODY,
        )?;
        let caller = "[callers.netd]\nusers = [\"nobody\"]\n";
        std::fs::write(folder.path().join("wg.toml"), caller)?;
        let wg_listeners = [
            Listener::stream("netd", &folder.path().join("wg.sock"))?,
            Listener::seqpacket("device", &folder.path().join("device.sock"))?,
        ];
        for socket in ["vault.sock", "wg.sock", "device.sock"] {
            std::fs::set_permissions(folder.path().join(socket), std::fs::Permissions::from_mode(0o666))?;
        }
        let wg = start_wg(folder.path(), &wg_listeners)?;
        std::fs::write(folder.path().join("netd.toml"), policy(folder.path(), legacy))?;
        let restorer = if legacy {
            Some(Restorer::start(namespace, folder.path(), NOBODY, "nobody")?)
        } else {
            None
        };
        let listener = std::os::unix::net::UnixListener::bind(folder.path().join("netd.sock"))?;
        let listener = OwnedFd::from(listener);
        let marks = sequenced(&folder.path().join("mark.sock"))?;
        let process = start_netd(namespace, folder.path(), &listener, &marks, nft.as_ref())?;
        let netns = namespace.path();
        let netd = Netd {
            keys,
            runtime,
            folder,
            netns,
            listener,
            marks,
            nft,
            wg_listeners,
            vault_key,
            exit_secrets,
            process,
            wg,
            restorer,
        };
        netd.wait()?;
        Ok(netd)
    }

    /// The vault is made anew, or an older one is restored: the cell has another key.
    pub fn change_key(&mut self) -> Result<()> {
        self.keys = Keys::make()?;
        *self.vault_key.lock().unwrap() = decode(&self.keys.private)?;
        Ok(())
    }

    /// Ends netd as a crash would and starts it anew on the same socket.
    pub fn crash_and_restart(&mut self, namespace: &Namespace) -> Result<()> {
        self.process.signal(nix::sys::signal::Signal::SIGKILL)?;
        self.process.wait(PATIENCE)?;
        self.restart(namespace)
    }

    /// Starts netd anew with the other renderer, on the same socket.
    pub fn render_legacy(&mut self, namespace: &Namespace) -> Result<()> {
        std::fs::write(
            self.folder.path().join("netd.toml"),
            policy(self.folder.path(), true),
        )?;
        self.restorer = Some(Restorer::start(namespace, self.folder.path(), NOBODY, "nobody")?);
        self.crash_and_restart(namespace)
    }

    /// Starts netd anew on the same socket.
    pub fn restart(&mut self, namespace: &Namespace) -> Result<()> {
        let nft = self.nft.as_ref();
        self.process = start_netd(namespace, self.folder.path(), &self.listener, &self.marks, nft)?;
        self.wait()
    }

    /// Ends cell-wg as a crash would and starts it anew.
    pub fn crash_wg(&mut self) -> Result<()> {
        self.wg.signal(nix::sys::signal::Signal::SIGKILL)?;
        self.wg.wait(PATIENCE)?;
        self.restart_wg()
    }

    /// Starts cell-wg anew.
    pub fn restart_wg(&mut self) -> Result<()> {
        self.wg = start_wg(self.folder.path(), &self.wg_listeners)?;
        Ok(())
    }

    /// Where sockets are given marks.
    pub fn mark_socket(&self) -> PathBuf {
        self.folder.path().join("mark.sock")
    }

    fn wait(&self) -> Result<()> {
        until(PATIENCE, "netd answers", || self.status().ok()).map(drop)
    }

    fn channel(&self) -> Channel {
        self.runtime
            .block_on(async { ipc::connect(self.folder.path().join("netd.sock")) })
    }

    /// For calls that this has no method for.
    pub fn client(&self) -> NetworkServiceClient<Channel> {
        NetworkServiceClient::new(self.channel())
    }

    /// Waits for such a call, and no longer than `at_most`; none: it was cut off.
    pub fn within<T>(&self, at_most: Duration, call: impl Future<Output = T>) -> Option<T> {
        self.runtime
            .block_on(async { tokio::time::timeout(at_most, call).await.ok() })
    }

    pub fn apply(&self, spec: v1::NetworkSpec, etag: &str) -> Result<v1::ApplyNetworkResponse, Status> {
        let request = v1::ApplyNetworkRequest {
            spec: Some(spec),
            etag: etag.to_owned(),
            validate_only: false,
            confirm_within_seconds: 0,
        };
        self.apply_request(request)
    }

    /// Applies what takes the device away and makes it anew: cell-wg ends with its interface, and is started anew here as
    /// the service manager does it.
    pub fn apply_anew(&mut self, spec: v1::NetworkSpec) -> Result<v1::ApplyNetworkResponse> {
        let mut client = NetworkServiceClient::new(self.channel());
        let request = v1::ApplyNetworkRequest {
            spec: Some(spec),
            etag: String::new(),
            validate_only: false,
            confirm_within_seconds: 0,
        };
        let applying = self
            .runtime
            .spawn(async move { client.apply_network(request).await.map(Response::into_inner) });
        self.wg.wait(PATIENCE)?;
        self.restart_wg()?;
        Ok(self.runtime.block_on(applying)??)
    }

    pub fn apply_request(
        &self,
        request: v1::ApplyNetworkRequest,
    ) -> Result<v1::ApplyNetworkResponse, Status> {
        let mut client = NetworkServiceClient::new(self.channel());
        self.runtime
            .block_on(client.apply_network(request))
            .map(Response::into_inner)
    }

    pub fn delta(
        &self,
        upserted_peers: Vec<v1::PeerSpec>,
        removed: &[&str],
    ) -> Result<v1::ApplyNetworkDeltaResponse, Status> {
        let request = v1::ApplyNetworkDeltaRequest {
            base_etag: self.status()?.etag,
            upserted_peers,
            removed_peers: removed.iter().map(|name| (*name).to_owned()).collect(),
            validate_only: false,
            confirm_within_seconds: 0,
        };
        let mut client = NetworkServiceClient::new(self.channel());
        self.runtime
            .block_on(client.apply_network_delta(request))
            .map(Response::into_inner)
    }

    pub fn status(&self) -> Result<v1::NetworkStatus, Status> {
        let mut client = NetworkStatusServiceClient::new(self.channel());
        let answer = self
            .runtime
            .block_on(client.get_network(v1::GetNetworkRequest { include_spec: false }))?;
        answer
            .into_inner()
            .status
            .ok_or_else(|| Status::internal("no status"))
    }

    pub fn peers(&self) -> Result<Vec<v1::PeerStatus>, Status> {
        let mut client = NetworkStatusServiceClient::new(self.channel());
        let request = v1::ListPeerStatusesRequest { name: String::new() };
        Ok(self
            .runtime
            .block_on(client.list_peer_statuses(request))?
            .into_inner()
            .peers)
    }

    pub fn dropped(&self, reason: &str) -> Result<u64, Status> {
        Ok(self
            .status()?
            .drops
            .iter()
            .find(|drops| drops.reason == reason)
            .map_or(0, |drops| drops.packets))
    }

    pub fn condition(&self, kind: &str) -> Result<common::Condition> {
        let status = self.status()?;
        status
            .conditions
            .into_iter()
            .find(|condition| condition.r#type == kind)
            .context(kind.to_owned())
    }
}

/// A cell-wg alone; root may call.
pub struct Wg {
    folder: tempfile::TempDir,
    process: Process,
    listeners: [Listener; 2],
}

impl Wg {
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        std::fs::write(
            folder.path().join("wg.toml"),
            "[callers.netd]\nusers = [\"root\"]\n",
        )?;
        let listeners = [
            Listener::stream("netd", &folder.path().join("wg.sock"))?,
            Listener::seqpacket("device", &folder.path().join("device.sock"))?,
        ];
        let process = start_wg(folder.path(), &listeners)?;
        Ok(Wg {
            folder,
            process,
            listeners,
        })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

pub fn serve_vault(runtime: &Runtime, path: &Path, key: Arc<Mutex<Vec<u8>>>, uid: u32) -> Result<()> {
    serve_whole_vault(runtime, path, key, Secrets::default(), uid)
}

fn serve_whole_vault(
    runtime: &Runtime,
    path: &Path,
    key: Arc<Mutex<Vec<u8>>>,
    exits: Secrets,
    uid: u32,
) -> Result<()> {
    let listener = runtime.block_on(async { tokio::net::UnixListener::bind(path) })?;
    let policy = CallerPolicy {
        uids: vec![uid],
        unit: None,
    };
    let routes = Routes::new(WireguardKeyServiceServer::new(Vault(key)))
        .add_service(ExitSecretServiceServer::new(ExitVault(exits)));
    runtime.spawn(ipc::serve(listener, policy, routes, std::future::pending()));
    Ok(())
}

fn start_wg(folder: &Path, listeners: &[Listener]) -> Result<Process> {
    let config = folder.join("wg.toml");
    let arguments = ["--config", config.to_str().context("path")?];
    let mut command = activation::command(&program("cell-wg")?, &arguments, NOBODY, listeners)?;
    Process::spawn("cell-wg", &mut command)
}

/// A SOCK_SEQPACKET listener that everybody may connect to.
fn sequenced(path: &Path) -> Result<OwnedFd> {
    use nix::sys::socket::{Backlog, UnixAddr, bind, listen};
    let made = activation::seqpacket()?;
    bind(made.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&made, Backlog::MAXCONN)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(made)
}

/// A duplicate without close-on-exec, which the shell moves to where sd_listen_fds(3) wants it.
fn duplicate(fd: &OwnedFd) -> Result<OwnedFd> {
    let raw = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_DUPFD(100))?;
    // SAFETY: F_DUPFD has just made it and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn start_netd(
    namespace: &Namespace,
    folder: &Path,
    listener: &OwnedFd,
    marks: &OwnedFd,
    nft: Option<&OwnedFd>,
) -> Result<Process> {
    let (listener, marks) = (duplicate(listener)?, duplicate(marks)?);
    let nft = nft.map(duplicate).transpose()?;
    let state = folder.join("state");
    std::fs::create_dir_all(&state)?;
    std::os::unix::fs::chown(&state, Some(NOBODY), Some(NOBODY))?;
    let tun = cell_lab::tun::node(folder)?;
    let held = nft.as_ref().map(|nft| format!(" 5<&{0} {0}<&-", nft.as_raw_fd()));
    let script = format!(
        "mount --bind {tun} /dev/net/tun && exec 3<&{0} {0}<&- 4<&{2} {2}<&-{1} && LISTEN_PID=$$ exec \"$@\"",
        listener.as_raw_fd(),
        held.unwrap_or_default(),
        marks.as_raw_fd(),
        tun = tun.display(),
    );
    let (count, names) = if nft.is_some() {
        ("3", "api:mark:nft")
    } else {
        ("2", "api:mark")
    };
    let user = NOBODY.to_string();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "bash", "-c", &script, "bash"])
        .args(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"])
        .args(["--inh-caps=-all,+net_admin", "--ambient-caps=-all,+net_admin"])
        .args(["--bounding-set=-all,+net_admin", "--no-new-privs"])
        .args([env!("CARGO_BIN_EXE_cell-netd"), "--config"])
        .arg(folder.join("netd.toml"))
        .env("LISTEN_FDS", count)
        .env("LISTEN_FDNAMES", names)
        .env("STATE_DIRECTORY", &state);
    namespace.spawn("cell-netd", &mut command)
}

pub fn policy(folder: &Path, legacy: bool) -> String {
    let folder = folder.display();
    let (renderer, exits_max) = if legacy {
        ("iptables", 64)
    } else {
        ("nftables", 256)
    };
    format!(
        r#"interfaces = ["wg0"]
listen_ports = [[1024, 65535]]
vpn_prefixes = ["10.0.0.0/8", "fc00::/7"]
cell_ports = ["tcp/443", "udp/53", "tcp/53"]
service_targets = ["tcp/3443", "tcp/3444", "udp/9053", "tcp/9053", "udp/9054", "tcp/9054"]
service_addresses = ["169.254.67.1", "fd43:454c:4c00::1"]
max_peers = 20000
accept_mark = "0x2000/0x2000"
table = "cell"
backend = "auto"
vault_socket = "{folder}/vault.sock"
wg_socket = "{folder}/wg.sock"
wg_device_socket = "{folder}/device.sock"
renderer = "{renderer}"
iptables_socket = "{folder}/iptables.sock"
[exits]
marks = [0x1000, 0x1ff0]
mask = 0x1ff0
tables = [1000, 1255]
interface_prefix = "wgext_"
max = {exits_max}
redirect_ports = [9100, 9199]
egress_user = "daemon"
local_servers = ["127.0.0.1:9150"]
tunnel_user = "bin"
tunnel_prefix = "ovpn_"
local_resolvers = ["127.0.0.53:53"]
[services]
bridge_prefix = "cellsvc"
subnets = ["172.30.0.0/16"]
max = 256
entries_max = 4096
callers = ["games", "daemon"]
public_http = {{ within = "172.30.0.0/16", port = 8480 }}
[callers.api]
users = ["root"]
[callers.mark]
users = ["daemon"]
"#
    )
}

pub fn address(text: &str) -> common::IpAddress {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

/// Peer number `index`: 10.86.0.(index + 1) and fd86::(index + 1).
pub fn peer(index: u8, name: &str, key: &[u8], access: v1::AccessPolicy) -> v1::PeerSpec {
    v1::PeerSpec {
        name: name.to_owned(),
        public_key: key.to_vec(),
        addresses: vec![
            address(&format!("10.86.0.{}", index + 1)),
            address(&format!("fd86::{:x}", u16::from(index) + 1)),
        ],
        endpoint: None,
        persistent_keepalive_seconds: 0,
        access: Some(access),
        exit: String::new(),
    }
}

pub fn access(internet: bool, peer_to_peer: bool, services: &[(&str, u32)]) -> v1::AccessPolicy {
    let service = |(at, port): &(&str, u32)| v1::Service {
        address: Some(address(at)),
        protocol: common::Protocol::Tcp.into(),
        port: *port,
    };
    v1::AccessPolicy {
        internet,
        peer_to_peer,
        services: services.iter().map(service).collect(),
    }
}

pub fn spec(peers: Vec<v1::PeerSpec>) -> v1::NetworkSpec {
    let prefix = |at: &str, length| common::IpPrefix {
        address: Some(address(at)),
        length,
    };
    v1::NetworkSpec {
        wireguard: Some(v1::WireguardSpec {
            interface: "wg0".to_owned(),
            listen_port: PORT.into(),
            addresses: vec![prefix("10.86.0.1", 24), prefix("fd86::1", 64)],
            mtu_bytes: 0,
        }),
        peers,
        cell_ports: vec![v1::CellPort {
            protocol: common::Protocol::Tcp.into(),
            port: 443,
            target_port: 3443,
            bound_target_port: 0,
        }],
        exits: Vec::new(),
        dns_upstreams: Vec::new(),
        relay_servers: Vec::new(),
        public_http: None,
        service_networks: Vec::new(),
        entries: Vec::new(),
    }
}

/// A wg-quick file for that peer.
pub fn client_file(index: u8, keys: &Keys, server: &Keys, endpoint: &str) -> String {
    format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.86.0.{n}/32, fd86::{x:x}/128\nMTU = 1420\n\n[Peer]\nPublicKey = {}\n\
         AllowedIPs = 10.86.0.0/24, fd86::/64, 192.168.77.0/24, fd77::/64, 198.51.100.0/24, 2001:db8:7::/48, \
         2001:db8:77::/64, 192.0.2.0/24, \
         169.254.67.1/32, 172.30.0.0/16\nEndpoint = {endpoint}\nPersistentKeepalive = 1\n",
        keys.private,
        server.public,
        n = index + 1,
        x = u16::from(index) + 1,
    )
}
