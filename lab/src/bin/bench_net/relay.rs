//! cell-egress beside redsocks, which the original runs, both through one SOCKS5 proxy, and beside no relay at all.
//!
//! The server has three addresses: what goes to the first is redirected to cell-egress, to the second to redsocks, to the
//! third to nobody.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use cell_lab::activation::{self, Listener};
use cell_lab::cell::program;
use cell_lab::measure::{Bench, Goal};
use cell_lab::netns::{Namespace, join};
use cell_lab::process::{Process, run_with_input, until};
use cell_proto::egress::v1;
use cell_proto::egress::v1::egress_service_client::EgressServiceClient;
use cell_proto::egress::v1::exit::Kind;
use cell_proto::ipc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::state::NOBODY;

const PATIENCE: Duration = Duration::from_secs(10);
/// By cell-egress, by redsocks, by nobody.
const SERVERS: [Ipv4Addr; 3] = [
    Ipv4Addr::new(198, 51, 100, 7),
    Ipv4Addr::new(198, 51, 100, 8),
    Ipv4Addr::new(198, 51, 100, 9),
];
const PROXY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 1080);
const ECHO: u16 = 7;
const AT_ONCE: usize = 32;
const ROUND: Duration = Duration::from_secs(1);
const RULES: &str = "
table ip bench {
    chain pre {
        type nat hook prerouting priority dstnat;
        iifname \"eth0\" meta l4proto tcp ip daddr 198.51.100.7 redirect to :9100
        iifname \"eth0\" meta l4proto tcp ip daddr 198.51.100.8 redirect to :12345
    }
}";
const REDSOCKS: &str = "
base { log_debug = off; log_info = off; log = stderr; daemon = off; redirector = iptables; }
redsocks { local_ip = 0.0.0.0; local_port = 12345; ip = 192.0.2.2; port = 1080; type = socks5; }
";

/// Adds the rows.
pub fn run(bench: &mut Bench, rounds: usize) -> Result<()> {
    let road = Road::new()?;
    let (mut rates, mut connections) = ([0.0_f64; 3], [0.0_f64; 3]);
    for _ in 0..rounds {
        for ((rate, connections), server) in rates.iter_mut().zip(&mut connections).zip(SERVERS) {
            *rate = rate.max(road.throughput(server)?);
            *connections = connections.max(road.connections(server)?);
        }
    }
    let names = ["cell-egress", "redsocks", "no relay"];
    for (name, rate) in names.into_iter().zip(rates) {
        bench.number(format!("TCP through {name}"), rate / 1e9, "Gbit/s");
    }
    for (name, count) in names.into_iter().zip(connections) {
        bench.number(format!("connections of one byte through {name}"), count, "1/s");
    }
    // A connection is asked for, judged, counted for its peer and entered in a table here, and in redsocks it is passed on: as many, within
    // what the machine makes of both.
    let judged = [("TCP", rates, 1.0), ("connections", connections, 0.95)];
    for (what, [ours, redsocks, direct], goal) in judged {
        bench.judge(
            format!("{what}, cell-egress / redsocks"),
            ours / redsocks,
            "ratio",
            Goal::AtLeast(goal),
        );
        bench.number(
            format!("{what}, cell-egress and the proxy / no relay and no proxy"),
            ours / direct,
            "ratio",
        );
    }
    Ok(())
}

/// A client, the cell, and what lies beyond: the proxy and the server.
struct Road {
    client: Namespace,
    _cell: Namespace,
    _far: Namespace,
    /// Serves the echo and the proxy.
    _far_runtime: Runtime,
    _processes: [Process; 3],
    _folder: tempfile::TempDir,
}

impl Road {
    fn new() -> Result<Self> {
        let (client, cell, far) = (
            Namespace::new("client")?,
            Namespace::new("cell")?,
            Namespace::new("far")?,
        );
        join((&client, "eth0"), (&cell, "eth0"))?;
        join((&cell, "eth1"), (&far, "eth0"))?;
        client.add_address("eth0", "10.8.0.2/24".parse()?)?;
        cell.add_address("eth0", "10.8.0.1/24".parse()?)?;
        cell.add_address("eth1", "192.0.2.1/24".parse()?)?;
        far.add_address("eth0", "192.0.2.2/24".parse()?)?;
        for server in SERVERS {
            far.add_address("lo", cell_lab::counter::host(server))?;
        }
        cell.forward()?;
        client.ip("route add default via 10.8.0.1")?;
        cell.ip("route add 198.51.100.0/24 via 192.0.2.2")?;
        far.ip("route add default via 192.0.2.1")?;
        cell.inside(|| run_with_input(Command::new("nft").args(["-f", "-"]), RULES))??;
        let far_runtime = far.inside(|| served(PROXY))??;
        let iperf = far.spawn("iperf3", Command::new("iperf3").arg("-s"))?;
        let folder = tempfile::tempdir()?;
        let redsocks = folder.path().join("redsocks.conf");
        std::fs::write(&redsocks, REDSOCKS)?;
        let redsocks = cell.spawn("redsocks", Command::new("redsocks").arg("-c").arg(&redsocks))?;
        let egress = start_egress(&cell, folder.path(), "10.8.0.0/24", PROXY)?;
        for (namespace, port) in [(&far, 5201), (&cell, 12345), (&cell, 9100)] {
            until(PATIENCE, "a listener", || {
                let lines = namespace
                    .run("ss", &["-ltnH", &format!("sport = :{port}")])
                    .ok()?;
                (!lines.is_empty()).then_some(())
            })?;
        }
        Ok(Road {
            client,
            _cell: cell,
            _far: far,
            _far_runtime: far_runtime,
            _processes: [iperf, redsocks, egress],
            _folder: folder,
        })
    }

    /// Bits per second of one connection, for a second.
    fn throughput(&self, server: Ipv4Addr) -> Result<f64> {
        let answer = self
            .client
            .run("iperf3", &["-c", &server.to_string(), "-t", "1", "-J"])?;
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        answer["end"]["sum_received"]["bits_per_second"]
            .as_f64()
            .context("iperf3 measured nothing")
    }

    /// Connections per second that carried a byte there and back.
    fn connections(&self, server: Ipv4Addr) -> Result<f64> {
        self.client.inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let done = Arc::new(AtomicU64::new(0));
                let askers = (0..AT_ONCE).map(|_| ask(server, Arc::clone(&done)));
                let asked = futures_util::future::try_join_all(askers);
                match tokio::time::timeout(ROUND, asked).await {
                    Ok(Err(error)) => Err(error.into()),
                    Ok(Ok(_)) | Err(_) => Ok(done.load(Ordering::Relaxed) as f64 / ROUND.as_secs_f64()),
                }
            })
        })?
    }
}

async fn ask(server: Ipv4Addr, done: Arc<AtomicU64>) -> io::Result<()> {
    loop {
        let mut stream = TcpStream::connect((server, ECHO)).await?;
        stream.write_all(&[1]).await?;
        stream.read_exact(&mut [0]).await?;
        // The server ends first, so that it is its side that waits (TIME_WAIT).
        stream.read_to_end(&mut Vec::new()).await?;
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// The echo and the proxy, in the namespace of the calling thread.
pub fn served(proxy: SocketAddr) -> Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let echo = TcpListener::bind((Ipv4Addr::UNSPECIFIED, ECHO)).await?;
        tokio::spawn(accept(echo, |mut stream| async move {
            stream.read_exact(&mut [0]).await?;
            stream.write_all(&[1]).await?;
            stream.shutdown().await
        }));
        let proxy = TcpListener::bind(proxy).await?;
        tokio::spawn(accept(
            proxy,
            |stream| async move { socks5(stream).await.map(drop) },
        ));
        anyhow::Ok(())
    })?;
    Ok(runtime)
}

async fn accept<F: Future<Output = io::Result<()>> + Send + 'static>(
    listener: TcpListener,
    handle: impl Fn(TcpStream) -> F,
) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(handle(stream));
    }
}

/// RFC 1928 for those who have no password and name an IPv4 address.
async fn socks5(mut near: TcpStream) -> io::Result<(u64, u64)> {
    let mut head = [0; 2];
    near.read_exact(&mut head).await?;
    near.read_exact(&mut vec![0; head[1].into()]).await?;
    near.write_all(&[5, 0]).await?;
    let mut request = [0; 10];
    near.read_exact(&mut request).await?;
    let [5, 1, 0, 1, a, b, c, d, high, low] = request else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let to = (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]));
    let mut far = TcpStream::connect(to).await?;
    near.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    copy_bidirectional(&mut near, &mut far).await
}

/// As its unit starts it: as nobody, with one exit.
pub fn start_egress(cell: &Namespace, folder: &Path, peers: &str, proxy: SocketAddr) -> Result<Process> {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    let config = folder.join("egress.toml");
    let policy = format!(
        "vault_socket = \"{}/vault.sock\"\nlisten = [\"0.0.0.0\"]\npeers = [\"{peers}\"]\nservers = [\"192.0.2.0/24\"]\n\
         local_servers = []\n[limits]\ntotal = 16384\nper_exit = 12288\nper_peer = 1024\n\
         [timeouts]\nconnect_seconds = 10\nhandshake_seconds = 60\nidle_seconds = 7200\n[callers.api]\nusers = [\"root\"]\n",
        folder.display()
    );
    std::fs::write(&config, policy)?;
    let socket = folder.join("egress.sock");
    let listeners = [Listener::stream("api", &socket)?];
    let arguments = ["--config", config.to_str().context("a path in UTF-8")?];
    let mut command = activation::command(&program("cell-egress")?, &arguments, NOBODY, &listeners)?;
    let process = cell.spawn("cell-egress", &mut command)?;
    let exit = v1::Exit {
        id: "6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a00".to_owned(),
        redirect_port: 9100,
        kind: Some(Kind::Socks5(v1::Socks5Exit {
            server: Some(proxy.into()),
            username: String::new(),
        })),
        secret_revision: 0,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let request = v1::ApplyExitsRequest { exits: vec![exit] };
    runtime
        .block_on(async {
            EgressServiceClient::new(ipc::connect(socket))
                .apply_exits(request)
                .await
        })
        .with_context(|| process.output())?;
    Ok(process)
}
