//! The WireGuard devices and the interfaces as somebody else than netd reads them: the kernel's by wg(8), those of cell-wg by
//! asking it itself, and all interfaces by ip(8).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use cell_lab::netns::Namespace;
use cell_netd_core::desired::{FarEnd, Tunnel};
use cell_netd_core::plan::addresses;
use cell_netd_core::{Ceiling, Desired};
use cell_proto::ipc;
use cell_proto::wg::v1::wireguard_service_client::WireguardServiceClient;
use cell_proto::wg::v1::{GetDeviceRequest, PeerState};
use ipnet::IpNet;

use super::support::decode;

/// netd's user, the only one that cell-wg answers.
const NOBODY: u32 = 65534;
/// What a preshared key is said to be by who does not tell it.
const UNTOLD: &[u8] = b"there is one";

/// By interface.
pub type Devices = BTreeMap<String, Device>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub public_key: Vec<u8>,
    /// Of an exit the system's choice: 0 here.
    pub port: u16,
    pub peers: BTreeMap<Vec<u8>, Peer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub endpoint: Option<SocketAddr>,
    pub keepalive: u16,
    pub allowed_ips: BTreeSet<IpNet>,
    pub preshared: Option<Vec<u8>>,
}

/// The keys that a state's devices are to have.
pub struct Keys<'a> {
    /// The cell's.
    pub own: &'a [u8],
    /// An exit's public key, by its interface and the revision of its secrets.
    pub exit: &'a dyn Fn(&str, u64) -> Vec<u8>,
    /// The preshared key of the far end of that number, from 1.
    pub preshared: &'a dyn Fn(&str, u64, usize) -> Vec<u8>,
}

/// What the compiled spec wants. `told`: preshared keys are told, and not only that there are some.
pub fn wanted(desired: &Desired, keys: &Keys<'_>, told: bool) -> Devices {
    let mut devices = Devices::new();
    if let Some(wireguard) = desired.wireguard() {
        let peer = |peer: &cell_netd_core::Peer| Peer {
            endpoint: peer.endpoint,
            keepalive: peer.keepalive,
            allowed_ips: peer.allowed_ips(),
            preshared: None,
        };
        let peers = desired.peers().values();
        let device = Device {
            public_key: keys.own.to_vec(),
            port: wireguard.listen_port,
            peers: peers
                .map(|one| (one.key.as_bytes().to_vec(), peer(one)))
                .collect(),
        };
        devices.insert(wireguard.interface.to_string(), device);
    }
    for exit in desired.exits().values() {
        let Tunnel::Wireguard(tunnel) = &exit.tunnel else {
            continue;
        };
        let interface = exit.way.interface.to_string();
        let far = |(number, far): (usize, &FarEnd)| {
            let key = || (keys.preshared)(&interface, tunnel.secret_revision, number);
            let peer = Peer {
                endpoint: far.endpoint,
                keepalive: far.keepalive,
                allowed_ips: far.allowed_ips.clone(),
                preshared: far.preshared.then(|| if told { key() } else { UNTOLD.to_vec() }),
            };
            (far.key.as_bytes().to_vec(), peer)
        };
        let device = Device {
            public_key: (keys.exit)(&interface, tunnel.secret_revision),
            port: 0,
            peers: (1..).zip(&tunnel.far_ends).map(far).collect(),
        };
        devices.insert(interface, device);
    }
    devices
}

/// Without what a state does not say: a peer that is to have no endpoint may have one that it had, or was heard from.
pub fn without_learned(mut found: Devices, wanted: &Devices) -> Devices {
    for (name, device) in &mut found {
        for (key, peer) in &mut device.peers {
            let wish = wanted.get(name).and_then(|device| device.peers.get(key));
            if wish.is_some_and(|wish| wish.endpoint.is_none()) {
                peer.endpoint = None;
            }
        }
    }
    found
}

/// The kernel's, by wg(8): every device that there is.
pub fn in_kernel(namespace: &Namespace) -> Devices {
    let names = namespace.run("wg", &["show", "interfaces"]).unwrap();
    let one = |name: &str| {
        (
            name.to_owned(),
            dumped(name, &namespace.run("wg", &["show", name, "dump"]).unwrap()),
        )
    };
    names.split_whitespace().map(one).collect()
}

/// `wg show DEVICE dump` (wg(8)).
fn dumped(name: &str, text: &str) -> Device {
    let mut lines = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let Some([_, public_key, port, "off"]) = lines
        .next()
        .as_deref()
        .map(|words| <[&str; 4]>::try_from(words).unwrap())
    else {
        panic!("no device without a mark: {text}");
    };
    let peer = |words: Vec<&str>| {
        let [key, preshared, endpoint, allowed_ips, _, _, _, keepalive] = words[..] else {
            panic!("{words:?}")
        };
        let there = |word: &str| (word != "(none)" && word != "off").then(|| word.to_owned());
        let nets = there(allowed_ips).unwrap_or_default();
        let peer = Peer {
            endpoint: there(endpoint).map(|text| text.parse().unwrap()),
            keepalive: there(keepalive).map_or(0, |text| text.parse().unwrap()),
            allowed_ips: nets
                .split(',')
                .filter(|net| !net.is_empty())
                .map(|net| net.parse().unwrap())
                .collect(),
            preshared: there(preshared).map(|text| decode(&text).unwrap()),
        };
        (decode(key).unwrap(), peer)
    };
    let of_exit = name.starts_with("wgext_");
    Device {
        public_key: decode(public_key).unwrap(),
        port: if of_exit { 0 } else { port.parse().unwrap() },
        peers: lines.map(peer).collect(),
    }
}

/// Those of cell-wg with these names, from itself: what netd thinks of them has no part in it.
pub fn in_process(socket: &Path, names: impl IntoIterator<Item = String>) -> Devices {
    let names: Vec<_> = names.into_iter().collect();
    let socket = socket.to_owned();
    // The kernel keeps credentials by thread; glibc's setresuid(3) would change all.
    let asked = std::thread::spawn(move || {
        // SAFETY: numbers only; the thread ends after this function and runs nothing else.
        let rc = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
        assert_eq!(rc, 0, "the tests run as root");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(ask(&socket, names))
    });
    asked.join().unwrap()
}

async fn ask(socket: &Path, names: Vec<String>) -> Devices {
    let mut client = WireguardServiceClient::new(ipc::connect(socket));
    let mut devices = Devices::new();
    for name in names {
        let request = GetDeviceRequest {
            interface: name.clone(),
            ..GetDeviceRequest::default()
        };
        // Of a device that it does not have it says so.
        let Ok(answer) = client.get_device(request).await else {
            continue;
        };
        let answer = answer.into_inner();
        assert_eq!(answer.interface, name);
        let device = Device {
            public_key: answer.public_key,
            port: if name.starts_with("wgext_") {
                0
            } else {
                answer.listen_port.try_into().unwrap()
            },
            peers: answer.peers.into_iter().map(peer).collect(),
        };
        devices.insert(name, device);
    }
    devices
}

fn peer(state: PeerState) -> (Vec<u8>, Peer) {
    let peer = Peer {
        endpoint: state.endpoint.map(|at| SocketAddr::try_from(&at).unwrap()),
        keepalive: state.persistent_keepalive_seconds.try_into().unwrap(),
        allowed_ips: state
            .allowed_ips
            .iter()
            .map(|net| IpNet::try_from(net).unwrap())
            .collect(),
        preshared: state.has_preshared_key.then(|| UNTOLD.to_vec()),
    };
    (state.public_key, peer)
}

/// An interface: largest packet, addresses, and of a TUN for somebody whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub up: bool,
    pub mtu: u32,
    pub addresses: BTreeSet<IpNet>,
    pub user: Option<String>,
}

/// As the compiled spec wants them.
pub fn wanted_links(desired: &Desired, ceiling: &Ceiling) -> BTreeMap<String, Link> {
    let mut links = BTreeMap::new();
    if let Some(wireguard) = desired.wireguard() {
        let link = Link {
            up: true,
            mtu: wireguard.mtu.bytes(),
            addresses: addresses(wireguard, ceiling),
            user: None,
        };
        links.insert(wireguard.interface.to_string(), link);
    }
    for exit in desired.exits().values() {
        let link = Link {
            up: true,
            mtu: exit.tunnel.mtu().bytes(),
            addresses: exit.tunnel.addresses(),
            user: matches!(exit.tunnel, Tunnel::User(_)).then(|| "bin".to_owned()),
        };
        links.insert(exit.way.interface.to_string(), link);
    }
    links
}

/// As ip(8) tells them.
pub fn links(namespace: &Namespace) -> BTreeMap<String, Link> {
    let text = namespace.ip("-j -d address show").unwrap();
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mine = |link: &&serde_json::Value| {
        let name = link["ifname"].as_str().unwrap();
        name == "wg0" || name.starts_with("wgext_") || name.starts_with("ovpn_")
    };
    let all = all.as_array().unwrap().iter().filter(mine);
    all.map(|link| (link["ifname"].as_str().unwrap().to_owned(), told(link)))
        .collect()
}

fn told(link: &serde_json::Value) -> Link {
    let flags = link["flags"].as_array().unwrap();
    let addresses = link["addr_info"].as_array().unwrap().iter();
    // The kernel gives each interface one of its own.
    let addresses = addresses.filter(|address| address["scope"] != "link" || address["family"] == "inet");
    let net = |address: &serde_json::Value| {
        let (local, length) = (
            address["local"].as_str().unwrap(),
            address["prefixlen"].as_u64().unwrap(),
        );
        IpNet::new(local.parse().unwrap(), length.try_into().unwrap()).unwrap()
    };
    Link {
        up: flags.iter().any(|flag| flag == "UP"),
        mtu: link["mtu"].as_u64().unwrap().try_into().unwrap(),
        addresses: addresses.map(net).collect(),
        user: link["linkinfo"]["info_data"]["user"].as_str().map(str::to_owned),
    }
}

/// wg(8)'s words are read as they are: where the kernel has no WireGuard nothing else here shows it.
#[test]
fn a_dump_of_wg_is_read_field_by_field() {
    let key = |byte: u8| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode([byte; 32])
    };
    let text = format!(
        "{}\t{}\t51820\toff\n{}\t(none)\t192.0.2.7:4000\t10.86.0.2/32,fd86::2/128\t0\t0\t0\toff\n{}\t{}\t(none)\t(none)\t0\t0\t0\t25\n",
        key(1),
        key(2),
        key(3),
        key(4),
        key(5),
    );
    let device = dumped("wg0", &text);
    assert_eq!((device.public_key, device.port), (vec![2; 32], 51820));
    let one = Peer {
        endpoint: Some("192.0.2.7:4000".parse().unwrap()),
        keepalive: 0,
        allowed_ips: ["10.86.0.2/32", "fd86::2/128"]
            .map(|net| net.parse().unwrap())
            .into(),
        preshared: None,
    };
    let other = Peer {
        endpoint: None,
        keepalive: 25,
        allowed_ips: BTreeSet::new(),
        preshared: Some(vec![5; 32]),
    };
    assert_eq!(device.peers, [(vec![3; 32], one), (vec![4; 32], other)].into());
    assert_eq!(dumped("wgext_1", &text).port, 0);
}
