//! A stock WireGuard client: wireguard-tools over the kernel's WireGuard or wireguard-go, no code of ours.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use ipnet::IpNet;
use wireguard_control::{Backend, Device, InterfaceName};

use crate::netns::{Namespace, unique};
use crate::process::{Process, run, until};
use crate::quick::Quick;

/// Where wireguard-go listens. The folder is shared by all network namespaces, so names must be unique.
const SOCKETS: &str = "/var/run/wireguard";
const START: Duration = Duration::from_secs(10);
/// A handshake that is lost is sent again after 5 s (REKEY_TIMEOUT), with jitter.
pub const HANDSHAKE: Duration = Duration::from_secs(20);

/// A WireGuard interface in a namespace. Taken down on drop.
#[derive(Debug)]
pub struct Client<'a> {
    namespace: &'a Namespace,
    interface: String,
    daemon: Option<Process>,
    quick: Quick,
    folder: tempfile::TempDir,
}

/// A peer as the client's own tools see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its public key, base64.
    pub public_key: String,
    /// Where it was heard last, or is said to be.
    pub endpoint: Option<SocketAddr>,
    /// When the last handshake was completed.
    pub latest_handshake: Option<SystemTime>,
    /// Bytes.
    pub received_bytes: u64,
    /// Bytes.
    pub sent_bytes: u64,
}

impl<'a> Client<'a> {
    /// Brings up what a wg-quick file says: interface, key and peers, addresses, MTU, routes.
    ///
    /// # Errors
    /// With the words of whatever tool failed.
    pub fn up(namespace: &'a Namespace, file: &str) -> Result<Self> {
        let quick = Quick::parse(file)?;
        let interface = format!("w{}-{}", unique(), std::process::id());
        let daemon = link(namespace, &interface)?;
        let folder = tempfile::tempdir()?;
        let client = Client {
            namespace,
            interface,
            daemon,
            quick,
            folder,
        };
        client.configure(file)?;
        let interface = &client.interface;
        for address in &client.quick.addresses {
            namespace.add_address(interface, *address)?;
        }
        namespace.ip(&format!(
            "link set {interface} mtu {} up",
            client.quick.mtu.unwrap_or(1420)
        ))?;
        client.add_routes()?;
        Ok(client)
    }

    /// The interface's name.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// What the file said.
    pub fn quick(&self) -> &Quick {
        &self.quick
    }

    /// Its address of the family.
    ///
    /// # Errors
    /// When the file gave none.
    pub fn address(&self, v6: bool) -> Result<IpAddr> {
        let mut addresses = self.quick.addresses.iter().map(IpNet::addr);
        addresses
            .find(|address| address.is_ipv6() == v6)
            .context("the file has no address of this family")
    }

    /// Sets key and peers anew from a wg-quick file by `wg-quick strip` and `wg setconf`.
    ///
    /// # Errors
    /// With the words of the tools.
    pub fn configure(&self, file: &str) -> Result<()> {
        // wg-quick takes the interface's name from the file's.
        let path = self.folder.path().join(format!("{}.conf", self.interface));
        write_private(&path, file)?;
        let stripped = run(Command::new("wg-quick").arg("strip").arg(&path))?;
        write_private(&path, &stripped)?;
        self.namespace
            .run("wg", &["setconf", &self.interface, &path.to_string_lossy()])
            .map(drop)
    }

    /// Its peers, read by wireguard-control: an independent reader of the kernel's netlink and of the UAPI socket.
    ///
    /// # Errors
    /// When the interface does not answer.
    pub fn peers(&self) -> Result<Vec<PeerStatus>> {
        let name = InterfaceName::from_str(&self.interface)?;
        let backend = if self.daemon.is_some() {
            Backend::Userspace
        } else {
            Backend::Kernel
        };
        let device = self.namespace.inside(|| Device::get(&name, backend))??;
        let status = |peer: wireguard_control::PeerInfo| PeerStatus {
            public_key: peer.config.public_key.to_base64(),
            endpoint: peer.config.endpoint,
            latest_handshake: peer
                .stats
                .last_handshake_time
                .filter(|time| *time > SystemTime::UNIX_EPOCH),
            received_bytes: peer.stats.rx_bytes,
            sent_bytes: peer.stats.tx_bytes,
        };
        Ok(device.peers.into_iter().map(status).collect())
    }

    /// Waits until the handshake with every peer is done, sending something into the tunnel to bring it about.
    ///
    /// # Errors
    /// When there is none within [`HANDSHAKE`].
    pub fn wait_for_handshake(&self) -> Result<()> {
        let targets: Vec<_> = self
            .quick
            .allowed_ips
            .iter()
            .filter_map(|net| net.hosts().next())
            .collect();
        until(HANDSHAKE, &format!("handshake of {}", self.interface), || {
            let sent = self
                .namespace
                .inside(|| targets.iter().for_each(|target| nudge(*target)));
            sent.ok()?;
            std::thread::sleep(Duration::from_millis(100));
            let peers = self.peers().ok()?;
            (!peers.is_empty() && peers.iter().all(|peer| peer.latest_handshake.is_some())).then_some(())
        })
    }

    /// Routes the allowed IPs into the tunnel. A default route is laid as two halves, which win against the default
    /// route that is there, and the endpoint keeps its way outside.
    fn add_routes(&self) -> Result<()> {
        for endpoint in &self.quick.endpoints {
            let way = self
                .namespace
                .ip(&format!("-oneline route get {}", endpoint.ip()))?;
            if let Some(gateway) = word_after(&way, "via") {
                let device = word_after(&way, "dev").context("a route without a device")?;
                self.namespace.ip(&format!(
                    "route replace {} via {gateway} dev {device}",
                    endpoint.ip()
                ))?;
            }
        }
        for net in &self.quick.allowed_ips {
            let halves = if net.prefix_len() == 0 {
                net.subnets(1)?.collect()
            } else {
                vec![*net]
            };
            for half in halves {
                self.namespace
                    .ip(&format!("route replace {half} dev {}", self.interface))?;
            }
        }
        Ok(())
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        // Deleting the interface ends wireguard-go as well, which then removes its socket.
        let _ = self.namespace.ip(&format!("link delete {}", self.interface));
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.wait(Duration::from_secs(2));
            let _ = fs::remove_file(socket(&self.interface));
        }
    }
}

/// Makes the interface: in the kernel where it knows WireGuard, else by wireguard-go.
fn link(namespace: &Namespace, interface: &str) -> Result<Option<Process>> {
    if namespace
        .ip(&format!("link add {interface} type wireguard"))
        .is_ok()
    {
        return Ok(None);
    }
    let mut command = Command::new("wireguard-go");
    command
        .args(["--foreground", interface])
        .env("WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD", "1");
    let mut daemon = namespace.spawn("wireguard-go", &mut command)?;
    let path = socket(interface);
    daemon.wait_for(START, "UAPI socket", |_| path.exists().then_some(()))?;
    Ok(Some(daemon))
}

/// Where wireguard-go answers for an interface.
pub fn socket(interface: &str) -> PathBuf {
    Path::new(SOCKETS).join(format!("{interface}.sock"))
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

fn word_after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    text.split_whitespace().skip_while(|w| *w != word).nth(1)
}

/// A datagram to the discard port.
fn nudge(target: IpAddr) {
    let local: SocketAddr = if target.is_ipv6() {
        ([0; 8], 0).into()
    } else {
        ([0; 4], 0).into()
    };
    // That it is lost is the normal case until the handshake is done.
    let _ = UdpSocket::bind(local).and_then(|socket| socket.send_to(b"?", (target, 9)));
}
