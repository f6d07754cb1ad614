//! A cell-wg under test: started as its unit would start it, its TUN and sockets made here in netd's place.
#![allow(dead_code, clippy::unwrap_used, reason = "shared by several test binaries")]

use std::io::IoSlice;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cell_lab::activation::{self, Listener};
use cell_lab::netns::{self, Namespace};
use cell_lab::process::Process;
use cell_proto::wg::v1;
use cell_proto::wg::v1::wireguard_service_client::WireguardServiceClient;
use nix::sys::socket::{
    ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, sendmsg, sockopt,
};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

pub const PORT: u16 = 51820;
const NOBODY: u32 = 65534;

/// The daemon and its folder.
pub struct Daemon {
    pub process: Process,
    folder: tempfile::TempDir,
    runtime: Runtime,
    client: WireguardServiceClient<Channel>,
}

impl Daemon {
    /// Starts it as `nobody`; `user` may call.
    pub fn start(user: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let config = folder.path().join("wg.toml");
        std::fs::write(
            &config,
            format!("[callers.netd]\nusers = [\"{user}\"]\nunit = \"cell-netd.service\"\n"),
        )?;
        let listeners = [
            Listener::stream("netd", &folder.path().join("wg.sock"))?,
            Listener::seqpacket("device", &folder.path().join("device.sock"))?,
        ];
        let arguments = ["--config", config.to_str().context("path")?];
        let program = Path::new(env!("CARGO_BIN_EXE_cell-wg"));
        let mut command = activation::command(program, &arguments, NOBODY, &listeners)?;
        let process = Process::spawn("cell-wg", &mut command)?;
        let runtime = Runtime::new()?;
        let channel = runtime.block_on(async { cell_proto::ipc::connect(folder.path().join("wg.sock")) });
        let client = WireguardServiceClient::new(channel).max_decoding_message_size(usize::MAX);
        Ok(Daemon {
            process,
            folder,
            runtime,
            client,
        })
    }

    pub fn device_socket(&self) -> PathBuf {
        self.folder.path().join("device.sock")
    }

    pub fn set(&self, private_key: &[u8; 32], peers: Vec<v1::Peer>) -> Result<(), tonic::Status> {
        self.set_of("wg0", private_key, peers)
    }

    pub fn set_of(
        &self,
        interface: &str,
        private_key: &[u8; 32],
        peers: Vec<v1::Peer>,
    ) -> Result<(), tonic::Status> {
        let request = v1::SetDeviceRequest {
            private_key: private_key.to_vec(),
            peers,
            interface: interface.to_owned(),
        };
        self.runtime
            .block_on(self.client.clone().set_device(request))
            .map(drop)
    }

    pub fn update(&self, upserted: Vec<v1::Peer>, removed: &[[u8; 32]]) -> Result<(), tonic::Status> {
        let removed_public_keys = removed.iter().map(|key| key.to_vec()).collect();
        let request = v1::UpdatePeersRequest {
            upserted,
            removed_public_keys,
            interface: "wg0".to_owned(),
        };
        self.runtime
            .block_on(self.client.clone().update_peers(request))
            .map(drop)
    }

    pub fn get(&self) -> Result<v1::GetDeviceResponse, tonic::Status> {
        self.get_only(vec![])
    }

    pub fn get_of(&self, interface: &str) -> Result<v1::GetDeviceResponse, tonic::Status> {
        self.ask(interface, vec![])
    }

    pub fn get_only(&self, public_key: Vec<u8>) -> Result<v1::GetDeviceResponse, tonic::Status> {
        self.ask("wg0", public_key)
    }

    fn ask(&self, interface: &str, public_key: Vec<u8>) -> Result<v1::GetDeviceResponse, tonic::Status> {
        let request = v1::GetDeviceRequest {
            public_key,
            configuration_only: false,
            interface: interface.to_owned(),
        };
        self.runtime
            .block_on(self.client.clone().get_device(request))
            .map(tonic::Response::into_inner)
    }
}

/// Sends one message to the device socket and answers what comes back.
pub fn hand_over(socket: &Path, payload: &[u8], descriptors: &[RawFd]) -> Result<(u8, String)> {
    let connection = activation::seqpacket()?;
    connect(connection.as_raw_fd(), &UnixAddr::new(socket)?)?;
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control = if descriptors.is_empty() {
        &rights[..0]
    } else {
        &rights[..]
    };
    let sent = sendmsg::<()>(
        connection.as_raw_fd(),
        &[IoSlice::new(payload)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    );
    // A caller that is refused may find the connection closed before its message is sent; the answer is there.
    if !matches!(sent, Err(nix::Error::EPIPE)) {
        sent?;
    }
    answer(&connection)
}

fn answer(connection: &OwnedFd) -> Result<(u8, String)> {
    let patience = nix::sys::time::TimeVal::new(10, 0);
    nix::sys::socket::setsockopt(connection, sockopt::ReceiveTimeout, &patience)?;
    let mut buffer = [0; 1024];
    let length = recv(connection.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    ensure!(length > 0, "no answer");
    Ok((buffer[0], String::from_utf8(buffer[1..length].to_vec())?))
}

/// What netd makes: a TUN, configured and up, and two UDP sockets on [`PORT`].
pub struct Descriptors {
    pub interface: String,
    pub tun: tun::Device,
    pub v4: UdpSocket,
    pub v6: OwnedFd,
}

impl Descriptors {
    pub fn make(namespace: &Namespace, interface: &str) -> Result<Self> {
        Self::make_at(namespace, interface, PORT, ["10.8.0.1/24", "fd08::1/64"])
    }

    pub fn make_at(namespace: &Namespace, interface: &str, port: u16, addresses: [&str; 2]) -> Result<Self> {
        let (tun, v4, v6) = namespace.inside(|| -> Result<_> {
            let mut configuration = tun::Configuration::default();
            configuration.tun_name(interface).platform_config(|platform| {
                platform.ensure_root_privileges(false);
            });
            let v6 = nix::sys::socket::socket(
                nix::sys::socket::AddressFamily::Inet6,
                SockType::Datagram,
                SockFlag::SOCK_CLOEXEC,
                None,
            )?;
            nix::sys::socket::setsockopt(&v6, sockopt::Ipv6V6Only, &true)?;
            let any: nix::sys::socket::SockaddrIn6 =
                std::net::SocketAddrV6::new([0; 8].into(), port, 0, 0).into();
            nix::sys::socket::bind(v6.as_raw_fd(), &any)?;
            Ok((
                tun::create(&configuration)?,
                UdpSocket::bind(("0.0.0.0", port))?,
                v6,
            ))
        })??;
        for address in addresses {
            namespace.add_address(interface, address.parse()?)?;
        }
        namespace.ip(&format!("link set {interface} mtu 1420 up"))?;
        Ok(Descriptors {
            interface: interface.to_owned(),
            tun,
            v4,
            v6,
        })
    }

    pub fn raw(&self) -> [RawFd; 3] {
        [self.tun.as_raw_fd(), self.v4.as_raw_fd(), self.v6.as_raw_fd()]
    }

    pub fn payload(&self) -> Vec<u8> {
        [&[1], self.interface.as_bytes()].concat()
    }

    /// Hands them over and closes them here.
    pub fn give(self, daemon: &Daemon) -> Result<()> {
        let (code, text) = hand_over(&daemon.device_socket(), &self.payload(), &self.raw())?;
        ensure!(code == 0, "refused: {text}");
        Ok(())
    }
}

/// Two namespaces joined by a link: 192.0.2.1 and 2001:db8::1 on the server's side, .2 and ::2 on the client's.
pub fn network() -> Result<(Namespace, Namespace)> {
    let (server, client) = (Namespace::new("wgs")?, Namespace::new("wgc")?);
    netns::join((&server, "eth0"), (&client, "eth0"))?;
    for (namespace, host) in [(&server, 1), (&client, 2)] {
        namespace.add_address("eth0", format!("192.0.2.{host}/24").parse()?)?;
        namespace.add_address("eth0", format!("2001:db8::{host}/64").parse()?)?;
    }
    Ok((server, client))
}

/// A key pair from a number.
pub struct Keys {
    pub private: [u8; 32],
    pub public: [u8; 32],
}

impl Keys {
    pub fn new(seed: u8) -> Self {
        let secret = x25519_dalek::StaticSecret::from([seed; 32]);
        Keys {
            private: [seed; 32],
            public: x25519_dalek::PublicKey::from(&secret).to_bytes(),
        }
    }
}

pub fn base64(key: &[u8; 32]) -> String {
    wireguard_key(key)
}

fn wireguard_key(key: &[u8; 32]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in key.chunks(3) {
        let bits =
            chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            text.push(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize].into());
        }
    }
    text + "="
}

/// A peer on the wire.
pub fn peer(public: &[u8; 32], allowed_ips: &[&str]) -> v1::Peer {
    let allowed_ips = allowed_ips
        .iter()
        .map(|net| net.parse::<ipnet::IpNet>().unwrap().into())
        .collect();
    v1::Peer {
        public_key: public.to_vec(),
        allowed_ips,
        ..v1::Peer::default()
    }
}

/// The wg-quick file of the device with the address .2.
pub fn device_file(device: &Keys, server: &Keys, endpoint: &str) -> String {
    format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.8.0.2/32, fd08::2/128\n\n[Peer]\nPublicKey = {}\n\
         AllowedIPs = 10.8.0.0/24, fd08::/64\nEndpoint = {endpoint}:{PORT}\n",
        base64(&device.private),
        base64(&server.public)
    )
}

pub const SECOND: Duration = Duration::from_secs(1);
