//! A cell with cell-egress, proxies and an SSH server of three exits on one host of the internet, and a far host that says whom
//! it sees.
#![allow(dead_code, clippy::unwrap_used, reason = "tests")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cell_lab::activation::{self, Listener};
use cell_lab::cell::program;
use cell_lab::counter::{Counter, Protocol, Spec, host};
use cell_lab::netns::Namespace;
use cell_lab::probe::EchoServer;
use cell_lab::process::{Process, until};
use cell_lab::stock::Client;
use cell_lab::topology::{CELL, Device, FAR_HOST, World};
use cell_proto::egress::v1 as egress;
use cell_proto::egress::v1::egress_service_client::EgressServiceClient;
use cell_proto::egress::v1::exit::Kind;
use cell_proto::ipc::{self, CallerPolicy};
use cell_proto::netd::v1;
use cell_proto::vault::v1::exit_secret_service_server::{ExitSecretService, ExitSecretServiceServer};
use cell_proto::vault::v1::{ReadExitSecretRequest, ReadExitSecretResponse};
use tokio::runtime::Runtime;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::servers::{self, Asked, Login, serve};
use super::sshd::{self, key, private_text, public_line};
use super::support::{Keys, Netd, PATIENCE, PORT, access, client_file, peer, spec};

/// The user that cell-egress runs as here: netd's policy names it ("daemon").
pub const RELAY: u32 = 1;
pub const SECOND: Duration = Duration::from_secs(1);
/// After which nothing of a closed connection comes any more.
const STILL: Duration = Duration::from_millis(300);
/// SOCKS, HTTP, SSH.
pub const EXITS: [u16; 3] = [0, 1, 2];
const SERVER_PORTS: [u16; 3] = [1080, 3128, 22];

pub struct Setup {
    pub world: World,
    pub netd: Netd,
    pub device: Device,
    pub proxies: Device,
    pub keys: Keys,
    pub egress: Egress,
    /// What leaves the cell for the far host itself, or from the peer's own address, of both families.
    direct: Vec<Counter>,
}

pub fn id(number: u16) -> String {
    format!("6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a{number:02x}")
}

pub fn setup() -> Result<Setup> {
    let mut world = World::new()?;
    world.cell.forward()?;
    let (device, proxies) = (world.device("a")?, world.device("proxies")?);
    for far in FAR_HOST.each() {
        serve(&world.internet, SocketAddr::new(far, 80), who);
    }
    EchoServer::start(&world.internet, 53)?;
    let at = |number: usize| SocketAddr::new(proxies.address.v4.into(), SERVER_PORTS[number]);
    let asked = Asked::default();
    serve(
        &proxies.namespace,
        at(0),
        servers::socks5(Login::None, asked.clone()),
    );
    serve(&proxies.namespace, at(1), servers::http(None, asked.clone()));
    sshd::serve(&proxies.namespace, at(2), key(1), &key(2), asked);
    let direct = FAR_HOST.each().into_iter().zip(CELL.each());
    let direct = direct.map(|(far, cell)| Spec::to(host(far), Protocol::Any).and_from(host(cell)));
    // Translated to the cell's address, or not even that.
    let own =
        ["10.86.0.2", "fd86::2"].map(|own| Spec::from(host(own.parse::<IpAddr>().unwrap()), Protocol::Any));
    let direct = direct
        .chain(own)
        .map(|spec| Counter::install(&world.internet, spec))
        .collect::<Result<_>>()?;
    let netd = Netd::start(&world.cell)?;
    let egress = Egress::start(&world.cell)?;
    Ok(Setup {
        world,
        netd,
        device,
        proxies,
        keys: Keys::make()?,
        egress,
        direct,
    })
}

/// Tells each line's sender which address it has here.
fn who(stream: TcpStream) -> std::io::Result<()> {
    let seen = stream.peer_addr()?.ip();
    let mut writer = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        writeln!(writer, "{} {seen}", line?)?;
    }
    Ok(())
}

/// A connection to the far host, which says whom it sees.
pub struct Talk(BufReader<TcpStream>);

impl Talk {
    pub fn open(from: &Namespace, to: SocketAddr) -> std::io::Result<Self> {
        let stream = from
            .inside(|| TcpStream::connect_timeout(&to, 2 * SECOND))
            .map_err(std::io::Error::other)??;
        stream.set_read_timeout(Some(2 * SECOND))?;
        Ok(Talk(BufReader::new(stream)))
    }

    pub fn seen(&mut self) -> std::io::Result<String> {
        self.0.get_mut().write_all(b"I am\n")?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        line.strip_prefix("I am ")
            .map(|seen| seen.trim().to_owned())
            .ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
    }
}

impl Setup {
    pub fn client(&self) -> Result<Client<'_>> {
        let endpoint = SocketAddr::new(CELL.v4.into(), PORT).to_string();
        let file = client_file(1, &self.keys, &self.netd.keys, &endpoint);
        let client = Client::up(&self.device.namespace, &file)?;
        client.wait_for_handshake()?;
        Ok(client)
    }

    pub fn server(&self, number: u16) -> SocketAddr {
        SocketAddr::new(self.proxies.address.v4.into(), SERVER_PORTS[usize::from(number)])
    }

    pub fn peer(&self, exit: &str) -> v1::PeerSpec {
        let mut peer = peer(1, "a", &self.keys.public_bytes, access(true, false, &[]));
        peer.exit = exit.to_owned();
        peer
    }

    pub fn spec(&self, through: &str) -> v1::NetworkSpec {
        let mut spec = spec(vec![self.peer(through)]);
        let exit = |number: u16| {
            let mut servers = vec![self.server(number).into()];
            if number == 0 {
                servers.push("127.0.0.1:9150".parse::<SocketAddr>().unwrap().into());
            }
            v1::ExitSpec {
                id: id(number),
                mark: 0x1000 + 0x10 * u32::from(number),
                table: 0,
                interface: String::new(),
                way: Some(v1::exit_spec::Way::Redirect(v1::RedirectExit {
                    port: 9100 + u32::from(number),
                    servers,
                })),
            }
        };
        spec.exits = EXITS.map(exit).into();
        spec
    }

    pub fn bind(&self, exit: &str) -> Result<()> {
        Ok(self.netd.delta(vec![self.peer(exit)], &[]).map(drop)?)
    }

    /// What egress is told of the exits.
    pub fn kinds(&self) -> [Kind; 3] {
        let server = |number| Some(self.server(number).into());
        [
            Kind::Socks5(egress::Socks5Exit {
                server: server(0),
                username: String::new(),
            }),
            Kind::HttpConnect(egress::HttpConnectExit {
                server: server(1),
                username: String::new(),
            }),
            Kind::Ssh(egress::SshExit {
                server: server(2),
                username: "hans".to_owned(),
                host_keys: vec![public_line(&key(1))],
            }),
        ]
    }

    pub fn talk(&self, to: IpAddr) -> std::io::Result<Talk> {
        Talk::open(&self.device.namespace, SocketAddr::new(to, 80))
    }

    /// Packets that left the cell for the far host itself, or from the peer's own address, once what is on its way has
    /// arrived: the last answer of a connection that its owner has closed comes late on a busy machine.
    pub fn direct(&self) -> u64 {
        let now = || {
            self.direct
                .iter()
                .map(|counter| counter.packets().unwrap())
                .sum::<u64>()
        };
        let mut last = now();
        until(PATIENCE, "packets to stop", || {
            std::thread::sleep(STILL);
            let before = std::mem::replace(&mut last, now());
            (before == last).then_some(last)
        })
        .unwrap()
    }

    pub fn dropped(&self, reason: &str) -> u64 {
        self.netd.dropped(reason).unwrap()
    }
}

/// cell-egress in the cell's namespace, and the vault that it asks.
pub struct Egress {
    process: RefCell<Process>,
    runtime: Runtime,
    folder: tempfile::TempDir,
    listeners: [Listener; 1],
}

struct Vault(BTreeMap<String, Vec<u8>>);

#[tonic::async_trait]
impl ExitSecretService for Vault {
    async fn read_exit_secret(
        &self,
        request: Request<ReadExitSecretRequest>,
    ) -> Result<Response<ReadExitSecretResponse>, Status> {
        let value = self.0.get(&request.get_ref().name).cloned();
        let answer = value.map(|value| Response::new(ReadExitSecretResponse { value, revision: 0 }));
        answer.ok_or_else(|| Status::not_found("no secret"))
    }
}

impl Egress {
    pub fn start(namespace: &Namespace) -> Result<Self> {
        Self::start_with(namespace, None)
    }

    /// One that is given marks at this socket of netd's.
    pub fn start_with(namespace: &Namespace, marks: Option<&Path>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let open = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode));
        open(folder.path(), 0o755)?;
        let runtime = Runtime::new()?;
        let vault = folder.path().join("vault.sock");
        let listener = runtime.block_on(async { tokio::net::UnixListener::bind(&vault) })?;
        open(&vault, 0o666)?;
        let name = format!("conn_{}_private_key", id(2).replace('-', ""));
        let secrets = Vault([(name, private_text(&key(2)).into_bytes())].into());
        let policy = CallerPolicy {
            uids: vec![RELAY],
            unit: None,
        };
        let routes = Routes::new(ExitSecretServiceServer::new(secrets));
        runtime.spawn(ipc::serve(listener, policy, routes, std::future::pending()));
        std::fs::write(folder.path().join("egress.toml"), policy_text(&vault, marks))?;
        let listeners = [Listener::stream("api", &folder.path().join("egress.sock"))?];
        let process = spawn(namespace, folder.path(), &listeners)?;
        Ok(Egress {
            process: RefCell::new(process),
            runtime,
            folder,
            listeners,
        })
    }

    /// Ends it as a crash would.
    pub fn kill(&self) -> Result<()> {
        let mut process = self.process.borrow_mut();
        process.signal(nix::sys::signal::Signal::SIGKILL)?;
        process.wait(PATIENCE).map(drop)
    }

    pub fn restart(&self, namespace: &Namespace) -> Result<()> {
        *self.process.borrow_mut() = spawn(namespace, self.folder.path(), &self.listeners)?;
        Ok(())
    }

    /// As cell-api tells it about DNS, as soon as it answers.
    pub fn apply_dns(&self, dns: &egress::DnsSpec) -> Result<()> {
        until(PATIENCE, "egress answers", || {
            let request = egress::ApplyDnsRequest {
                dns: Some(dns.clone()),
            };
            let told = self.runtime.block_on(async {
                EgressServiceClient::new(ipc::connect(self.socket()))
                    .apply_dns(request)
                    .await
            });
            told.ok().map(drop)
        })
        .with_context(|| self.process.borrow().output())
    }

    /// Of the way of the exit of this id; empty: the default one.
    pub fn dns_way(&self, id: &str) -> Result<egress::DnsWayStatus> {
        let told = self.runtime.block_on(async {
            EgressServiceClient::new(ipc::connect(self.socket()))
                .get_dns_status(egress::GetDnsStatusRequest {})
                .await
        })?;
        let ways = told.into_inner().status.unwrap_or_default().ways;
        let way = ways.into_iter().find(|way| way.exit_id == id);
        way.context("the way is not told of")
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("egress.sock")
    }

    /// As cell-api tells it, until it listens for all.
    pub fn apply(&self, kinds: [Kind; 3]) -> Result<()> {
        let exits: Vec<_> = EXITS
            .into_iter()
            .zip(kinds)
            .map(|(number, kind)| egress::Exit {
                id: id(number),
                redirect_port: 9100 + u32::from(number),
                kind: Some(kind),
                secret_revision: 0,
            })
            .collect();
        let socket = self.socket();
        until(PATIENCE, "egress listens", || {
            let request = egress::ApplyExitsRequest { exits: exits.clone() };
            let told = self.runtime.block_on(async {
                let mut client = EgressServiceClient::new(ipc::connect(socket.clone()));
                client.apply_exits(request).await
            });
            let exits = told.ok()?.into_inner().exits;
            (exits.len() == 3 && exits.iter().all(|exit| exit.listening)).then_some(())
        })
        .with_context(|| self.process.borrow().output())
    }
}

fn spawn(namespace: &Namespace, folder: &Path, listeners: &[Listener]) -> Result<Process> {
    let config = folder.join("egress.toml");
    let arguments = ["--config", config.to_str().context("path")?];
    let mut command = activation::command(&program("cell-egress")?, &arguments, RELAY, listeners)?;
    namespace.spawn("cell-egress", &mut command)
}

fn policy_text(vault: &Path, marks: Option<&Path>) -> String {
    let marks = marks.map(|marks| format!("mark_socket = \"{}\"\n", marks.display()));
    format!(
        "vault_socket = \"{}\"\n{marks}listen = [\"169.254.67.1\", \"fd43:454c:4c00::1\"]\n\
         peers = [\"10.86.0.0/24\", \"172.30.0.0/16\", \"fd86::/64\"]\nservers = [\"0.0.0.0/0\", \"::/0\"]\nlocal_servers = [\"127.0.0.1:9150\"]\n\
         [limits]\ntotal = 100\nper_exit = 50\nper_peer = 20\n\
         [timeouts]\nconnect_seconds = 2\nhandshake_seconds = 5\nidle_seconds = 60\n\
         [dns]\nupstreams = [\"0.0.0.0/0\", \"::/0\"]\nlocal_upstreams = []\ninterface_prefixes = [\"wgext_\"]\n\
         [callers.api]\nusers = [\"root\"]\n",
        vault.display(),
        marks = marks.unwrap_or_default()
    )
}
