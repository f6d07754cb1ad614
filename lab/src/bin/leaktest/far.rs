//! The far ends of exits: servers that people have, each in a namespace of its own behind the ISP, with an internet of its own
//! behind it. A new type of exit is a variant of [`Kind`] and an arm in each match here.

use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use cell_lab::probe::EchoServer;
use cell_lab::process::{Process, run, until};
use cell_lab::stock::Client;
use cell_lab::topology::Device;
use serde_json::{Value, json};
use wireguard_control::{Key, KeyPair};

use crate::isp::{self, Meant, Protocol};
use crate::speaker::PORTS;

const PATIENCE: Duration = Duration::from_secs(10);
const USER: &str = "hans";
const PASSWORD: &str = "hunter2";
const WIREGUARD_PORT: u16 = 51_999;

/// The types of exits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// WireGuard, stock tools.
    Wireguard,
    /// SOCKS5 with a password: microsocks.
    Socks5,
    /// HTTP CONNECT with a password: tinyproxy.
    HttpProxy,
    /// OpenSSH's sshd.
    Ssh,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Wireguard, Kind::Socks5, Kind::HttpProxy, Kind::Ssh];

    /// Its place in [`Kind::ALL`].
    pub fn place(self) -> u8 {
        self as u8
    }

    /// Whether it can carry packets of this kind at all. DNS goes over TCP as well.
    pub fn carries(self, protocol: Protocol) -> bool {
        let over_tcp = match protocol {
            Protocol::Tcp | Protocol::Dns => true,
            Protocol::Udp | Protocol::Icmp => false,
        };
        match self {
            Kind::Wireguard => true,
            Kind::Socks5 | Kind::HttpProxy | Kind::Ssh => over_tcp,
        }
    }

    /// What its connection and its first peer are called.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Wireguard => "wireguard",
            Kind::Socks5 => "socks5",
            Kind::HttpProxy => "http-proxy",
            Kind::Ssh => "ssh",
        }
    }

    /// What the API calls it.
    pub fn api_type(self) -> &'static str {
        match self {
            Kind::Wireguard => "wireguard_ext",
            Kind::Socks5 | Kind::HttpProxy => "proxy",
            Kind::Ssh => "sshuttle",
        }
    }

    fn port(self) -> u16 {
        match self {
            Kind::Wireguard => WIREGUARD_PORT,
            Kind::Socks5 => 1080,
            Kind::HttpProxy => 3128,
            Kind::Ssh => 22,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Wireguard => "WireGuard",
            Kind::Socks5 => "SOCKS5",
            Kind::HttpProxy => "HTTP proxy",
            Kind::Ssh => "SSH",
        })
    }
}

/// One far end.
pub struct FarEnd<'a> {
    /// Its type.
    pub kind: Kind,
    /// Where it is.
    pub device: &'a Device,
    server: KeyPair,
    near: KeyPair,
    folder: tempfile::TempDir,
    running: Option<Running<'a>>,
}

enum Running<'a> {
    Tunnel { _held: Client<'a> },
    Program(Process),
}

impl<'a> FarEnd<'a> {
    /// Makes its keys and files and starts it.
    ///
    /// # Errors
    /// With the words of the tool that failed.
    pub fn start(kind: Kind, device: &'a Device) -> Result<Self> {
        for meant in Meant::all() {
            for address in meant.target().each() {
                device.namespace.add_address("lo", address.into())?;
            }
        }
        for port in PORTS {
            EchoServer::start(&device.namespace, port)?;
        }
        isp::install_far(&device.namespace)?;
        let folder = tempfile::tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let mut far = FarEnd {
            kind,
            device,
            server: KeyPair::generate(),
            near: KeyPair::generate(),
            folder,
            running: None,
        };
        far.prepare()?;
        far.up()?;
        Ok(far)
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// Ends it as a crash would: its tunnel is gone, its connections break.
    pub fn down(&mut self) {
        self.running = None;
    }

    /// Starts it again.
    ///
    /// # Errors
    /// With its output.
    pub fn up(&mut self) -> Result<()> {
        let running = match self.kind {
            Kind::Wireguard => Running::Tunnel {
                _held: Client::up(&self.device.namespace, &self.wireguard_file())?,
            },
            Kind::Socks5 => {
                let mut command = Command::new("microsocks");
                let address = self.device.address.v4.to_string();
                command.args(["-i", &address, "-p", "1080", "-u", USER, "-P", PASSWORD]);
                self.program("microsocks", &mut command)?
            }
            Kind::HttpProxy => {
                let mut command = Command::new("tinyproxy");
                command
                    .arg("-d")
                    .arg("-c")
                    .arg(self.folder.path().join("tinyproxy"));
                self.program("tinyproxy", &mut command)?
            }
            Kind::Ssh => {
                // Its folder of privilege separation, which the service manager makes for it.
                let script = "mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec /usr/sbin/sshd -D -e -f \"$1\"";
                let mut command = Command::new("unshare");
                command.args(["--mount", "bash", "-c", script, "bash"]);
                command.arg(self.folder.path().join("sshd"));
                self.program("sshd", &mut command)?
            }
        };
        self.running = Some(running);
        Ok(())
    }

    /// What a person gives the cell to use it. Of WireGuard only the first import has the key that the far end knows: another
    /// device with the same key would take the session away from the first.
    ///
    /// # Errors
    /// When a file of the far end cannot be read.
    pub fn import(&self, is_first: bool) -> Result<Value> {
        let (address, port) = (self.device.address.v4, self.kind.port());
        let read = |name: &str| std::fs::read_to_string(self.folder.path().join(name));
        Ok(match self.kind {
            Kind::Wireguard => {
                let (near, host) = if is_first {
                    (self.near.private.to_base64(), 2)
                } else {
                    (Key::generate_private().to_base64(), 3)
                };
                json!({"file": self.near_file(&near, host)})
            }
            Kind::Socks5 => json!({"url": format!("socks5://{USER}:{PASSWORD}@{address}:{port}")}),
            Kind::HttpProxy => json!({"url": format!("http://{USER}:{PASSWORD}@{address}:{port}")}),
            Kind::Ssh => json!({
                "target": format!("root@{address}:{port}"),
                "private_key": read("user")?,
                "host_keys": read("host.pub")?,
            }),
        })
    }

    fn near_file(&self, private: &str, host: u8) -> String {
        format!(
            "[Interface]\nPrivateKey = {private}\nAddress = 172.20.0.{host}/32, fd20::{host}/128\nMTU = 1380\n\n\
             [Peer]\nPublicKey = {}\nAllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = {}:{WIREGUARD_PORT}\nPersistentKeepalive = 1\n",
            self.server.public.to_base64(),
            self.device.address.v4,
        )
    }

    fn wireguard_file(&self) -> String {
        format!(
            "[Interface]\nPrivateKey = {}\nListenPort = {WIREGUARD_PORT}\nAddress = 172.21.0.1/32, fd21::1/128\n\n\
             [Peer]\nPublicKey = {}\nAllowedIPs = 172.20.0.2/32, fd20::2/128\n",
            self.server.private.to_base64(),
            self.near.public.to_base64(),
        )
    }

    fn prepare(&self) -> Result<()> {
        let (folder, address) = (self.folder.path(), self.device.address.v4);
        match self.kind {
            Kind::Wireguard | Kind::Socks5 => Ok(()),
            Kind::HttpProxy => {
                let text = format!(
                    "Listen {address}\nPort 3128\nTimeout 600\nMaxClients 1000\nBasicAuth {USER} {PASSWORD}\nLogLevel Error\n"
                );
                Ok(std::fs::write(folder.join("tinyproxy"), text)?)
            }
            Kind::Ssh => {
                for name in ["host", "user"] {
                    let path = folder.join(name);
                    let made = Command::new("ssh-keygen")
                        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
                        .arg(&path)
                        .status()?;
                    anyhow::ensure!(made.success(), "ssh-keygen: {made}");
                }
                let text = format!(
                    "ListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\nPermitRootLogin prohibit-password\n\
                     StrictModes no\nUsePAM no\nPidFile none\nAllowTcpForwarding yes\nMaxStartups 200\nLogLevel ERROR\n",
                    folder.join("host").display(),
                    folder.join("user.pub").display(),
                );
                Ok(std::fs::write(folder.join("sshd"), text)?)
            }
        }
    }

    /// A program in the far namespace, until it takes connections.
    fn program(&self, name: &str, command: &mut Command) -> Result<Running<'a>> {
        let process = self.device.namespace.spawn(name, command)?;
        let at = SocketAddr::new(self.device.address.v4.into(), self.kind.port());
        let open = || {
            let tried = self.device.namespace.inside(|| TcpStream::connect(at).map(drop));
            tried.ok()?.ok()
        };
        until(PATIENCE, name, open).with_context(|| process.output())?;
        Ok(Running::Program(process))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Running::Program(process) = self {
            // sshd serves each connection by a child of its own, which a crash of the machine would end too.
            let parent = process.id().to_string();
            let _ = run(Command::new("pkill").args(["-KILL", "-P", &parent]));
        }
    }
}
