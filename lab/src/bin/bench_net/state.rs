//! The state that is measured: peers of both families, each bound to one of many exits, half of which are tunnels and half
//! relays.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cell_lab::netns::Namespace;
use cell_lab::process::run_with_input;
use cell_netd::proto;
use cell_netd_core::ceiling::{ExitCeiling, RelayCeiling};
use cell_netd_core::model::{ExitInterface, Family};
use cell_netd_core::policy::{Ruleset, compile, render};
use cell_netd_core::routing::{Action, RouteTo, Selector, wanted};
use cell_netd_core::validate::validate;
use cell_netd_core::{Ceiling, Desired};
use cell_proto::common::v1 as common;
use cell_proto::netd::v1;
use ipnet::IpNet;

/// The cell's interface.
pub const DEVICE: &str = "wg0";
/// The table of netd.
pub const TABLE: &str = "cell";
/// The port of the device.
pub const PORT: u16 = 51820;
/// The key of the device, wherever it is.
pub const OWN_KEY: [u8; 32] = [0x40; 32];
/// The far ends of all exits.
pub const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
/// The port of the proxy there.
pub const PROXY_PORT: u16 = 1080;
/// The port that leads to the first exit that is a relay.
pub const FIRST_RELAY: u32 = 9100;
/// Whom cell-wg and cell-egress run as.
pub const NOBODY: u32 = 65534;
const EXIT_ID: &str = "6f1d2c3a-0b4e-4d5f-8a9b-";
/// The cell in the VPN.
pub const CELL: [&str; 2] = ["10.64.0.1/10", "fd86::1/64"];

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Peers, 1-20,000.
    pub peers: u32,
    /// Exits, 2-200; even.
    pub exits: u32,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} peers over {} exits", self.peers, self.exits)
    }
}

impl Size {
    /// The exit of peer `index`; that of the last is the first.
    pub fn exit_of(self, index: u32) -> u32 {
        (self.peers - index) % self.exits
    }

    /// Whether that exit is a tunnel; if not, it is a relay.
    pub fn is_tunnel(self, exit: u32) -> bool {
        exit < self.exits / 2
    }

    /// An exit for each `turn`: a relay and a tunnel by turns, each time another one as long as there is one.
    pub fn in_turn(self, turn: u32) -> u32 {
        let (half, pair) = (self.exits / 2, turn / 2);
        if turn.is_multiple_of(2) {
            pair % half
        } else {
            half + pair % half
        }
    }

    /// All interfaces.
    pub fn interfaces(self) -> impl Iterator<Item = String> {
        std::iter::once(DEVICE.to_owned()).chain(self.tunnels())
    }

    /// The tunnels' interfaces.
    pub fn tunnels(self) -> impl Iterator<Item = String> {
        (0..self.exits / 2).map(interface)
    }

    /// The state, as cell-api would send it.
    pub fn spec(self) -> v1::NetworkSpec {
        v1::NetworkSpec {
            wireguard: Some(v1::WireguardSpec {
                interface: DEVICE.to_owned(),
                listen_port: PORT.into(),
                addresses: CELL.map(prefix).into(),
                mtu_bytes: 0,
            }),
            peers: (1..=self.peers)
                .map(|index| peer(index, self.exit_of(index)))
                .collect(),
            cell_ports: vec![v1::CellPort {
                protocol: common::Protocol::Tcp.into(),
                port: 443,
                target_port: 3443,
                bound_target_port: 0,
            }],
            exits: (0..self.exits).map(|exit| self.exit(exit)).collect(),
            dns_upstreams: vec![],
            relay_servers: vec![],
            public_http: None,
            service_networks: vec![],
            entries: vec![],
        }
    }

    fn exit(self, number: u32) -> v1::ExitSpec {
        let tunnel = self.is_tunnel(number);
        let way = if tunnel {
            v1::exit_spec::Way::Wireguard(v1::WireguardExit {
                addresses: near(number).map(Into::into).into(),
                mtu_bytes: 0,
                far_ends: vec![v1::WireguardFarEnd {
                    public_key: public(far_key(number)),
                    endpoint: Some(SocketAddr::from((FAR, PORT)).into()),
                    persistent_keepalive_seconds: 0,
                    allowed_ips: ["0.0.0.0/0", "::/0"].map(prefix).into(),
                    has_preshared_key: false,
                }],
                secret_revision: 0,
            })
        } else {
            v1::exit_spec::Way::Redirect(v1::RedirectExit {
                port: FIRST_RELAY + number - self.exits / 2,
                servers: vec![SocketAddr::from((FAR, PROXY_PORT)).into()],
            })
        };
        v1::ExitSpec {
            id: exit_id(number),
            mark: 0x1000 + 0x10 * number,
            table: if tunnel { 1000 + number } else { 0 },
            interface: if tunnel { interface(number) } else { String::new() },
            way: Some(way),
        }
    }

    /// The same, checked under [`ceiling`].
    pub fn desired(self) -> Result<Desired> {
        let spec = proto::network_spec(self.spec());
        validate(&spec, &ceiling()?, None).map_err(|rejection| anyhow!("{rejection}"))
    }

    /// Its policy.
    pub fn ruleset(self) -> Result<Ruleset> {
        compile(&self.desired()?, &ceiling()?, &BTreeSet::new()).context("no interface")
    }

    /// Its policy for `nft -f`.
    pub fn nft(self) -> Result<String> {
        Ok(render(&self.ruleset()?))
    }

    /// Its rules and routes of that family for `ip -batch`, the interfaces of all tunnels being up.
    pub fn ip(self, family: Family) -> Result<String> {
        let ceiling = ceiling()?;
        let up: BTreeSet<ExitInterface> = self
            .tunnels()
            .map(|name| name.parse())
            .collect::<Result<_, _>>()?;
        let routing = wanted(&self.desired()?, &ceiling, &up);
        let mut text = String::new();
        for route in routing.routes.iter().filter(|route| route.family == family) {
            let to = match route.to {
                RouteTo::Unreachable => "unreachable default".to_owned(),
                RouteTo::Interface(name) => format!("default dev {name}"),
            };
            writeln!(
                text,
                "route add {to} table {} metric {}",
                route.table,
                route.to.metric()
            )?;
        }
        for rule in routing.rules.iter().filter(|rule| rule.family == family) {
            let selector = match rule.selector {
                Selector::Mark { mark, mask } => format!("fwmark {mark:#x}/{mask:#x}"),
                Selector::Out(name) => format!("oif {name}"),
                Selector::Own { mask } => format!("iif lo fwmark 0/{mask:#x}"),
                Selector::All => "from all".to_owned(),
            };
            let action = match rule.action {
                Action::Table(table) => format!("lookup {table}"),
                Action::Goto(priority) => format!("goto {priority}"),
                Action::Nop => "nop".to_owned(),
            };
            writeln!(text, "rule add pref {} {selector} {action}", rule.priority)?;
        }
        Ok(text)
    }

    /// Its peers for `wg setconf`.
    pub fn wg(self) -> String {
        let own = STANDARD.encode(OWN_KEY);
        let mut text = format!("[Interface]\nPrivateKey = {own}\nListenPort = {PORT}\n");
        for index in 1..=self.peers {
            let [v4, v6] = addresses(index);
            let key = STANDARD.encode(public(peer_key(index)));
            text += &format!("[Peer]\nPublicKey = {key}\nAllowedIPs = {v4}/32, {v6}/128\n");
        }
        text
    }
}

/// An exit that is a tunnel for `wg setconf`.
pub fn wg_exit(exit: u32) -> String {
    let [own, far] = [
        STANDARD.encode(near_key(exit)),
        STANDARD.encode(public(far_key(exit))),
    ];
    format!(
        "[Interface]\nPrivateKey = {own}\n[Peer]\nPublicKey = {far}\nEndpoint = {FAR}:{PORT}\nAllowedIPs = 0.0.0.0/0, ::/0\n"
    )
}

/// For [`batch`]: of each interface its addresses, and that it is up; first the cell's own, then the exits that are tunnels.
pub fn addressed(size: Size) -> Vec<String> {
    let own = CELL
        .map(|net| format!("address add {net} dev {DEVICE}\n"))
        .concat();
    let mut all = vec![own + &format!("link set {DEVICE} up\n")];
    all.extend((0..).zip(size.tunnels()).map(|(number, name)| {
        let [v4, v6] = near(number);
        format!("address add {v4}/32 dev {name}\naddress add {v6}/128 dev {name}\nlink set {name} up\n")
    }));
    all
}

/// What netd may do here.
pub fn ceiling() -> Result<Ceiling> {
    let accept_mark = "0x2000/0x2000".parse()?;
    let relay = RelayCeiling::try_new(9100..=9199, NOBODY, BTreeSet::new())?;
    let exits = ExitCeiling::try_new(0x1000..=0x1ff0, 0x1ff0, 1000..=1255, "wgext_", 256, accept_mark)?;
    Ok(Ceiling {
        interfaces: [DEVICE.parse()?].into(),
        listen_ports: vec![1024..=65535],
        vpn_prefixes: vec!["10.0.0.0/8".parse()?, "fc00::/7".parse()?],
        cell_ports: ["tcp/443".parse()?].into(),
        service_targets: ["tcp/3443".parse()?].into(),
        service_v4: [169, 254, 67, 1].into(),
        service_v6: "fd43:454c:4c00::1".parse()?,
        max_peers: 20_000,
        accept_mark,
        table: TABLE.parse()?,
        exits: exits.with_relay(relay),
        services: None,
    })
}

/// Peer `index`, from 1, bound to that exit.
pub fn peer(index: u32, exit: u32) -> v1::PeerSpec {
    v1::PeerSpec {
        name: format!("peer{index}"),
        public_key: public(peer_key(index)),
        addresses: addresses(index).map(Into::into).into(),
        endpoint: None,
        persistent_keepalive_seconds: 0,
        access: Some(v1::AccessPolicy {
            internet: true,
            peer_to_peer: index.is_multiple_of(3),
            services: vec![v1::Service {
                address: Some(IpAddr::from([10, 0, 5, 7]).into()),
                protocol: common::Protocol::Tcp.into(),
                port: 443,
            }],
        }),
        exit: exit_id(exit),
    }
}

/// The private key of peer `index`.
pub fn peer_key(index: u32) -> [u8; 32] {
    private(9, index)
}

/// The private key of an exit's near end.
pub fn near_key(exit: u32) -> [u8; 32] {
    private(6, exit)
}

/// The private key of an exit's far end.
pub fn far_key(exit: u32) -> [u8; 32] {
    private(7, exit)
}

fn private(kind: u8, number: u32) -> [u8; 32] {
    let mut key = [kind; 32];
    key[..4].copy_from_slice(&number.to_be_bytes());
    key
}

/// The public key that belongs to it.
pub fn public(private: [u8; 32]) -> Vec<u8> {
    let secret = x25519_dalek::StaticSecret::from(private);
    x25519_dalek::PublicKey::from(&secret).as_bytes().to_vec()
}

fn exit_id(number: u32) -> String {
    format!("{EXIT_ID}{number:012x}")
}

/// The exit whose secret has that name at vaultd: "conn_<id without hyphens>_<field>".
pub fn exit_of_secret(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("conn_")?.get(20..32)?;
    u32::from_str_radix(digits, 16).ok()
}

/// The interface of an exit that is a tunnel.
pub fn interface(exit: u32) -> String {
    format!("wgext_{exit:08}")
}

/// For [`batch`]: stand-ins for the tunnels of these exits, up. Their other ends are there too.
pub fn links(exits: std::ops::Range<u32>) -> String {
    let link = |number| {
        let name = interface(number);
        format!(
            "link add {name} type veth peer name far{number}\nlink set far{number} up\nlink set {name} up\n"
        )
    };
    exits.map(link).collect()
}

/// Many commands of ip(8) at once.
pub fn batch(namespace: &Namespace, commands: &str, options: &[&str]) -> Result<()> {
    let run = || run_with_input(Command::new("ip").args(options).args(["-batch", "-"]), commands);
    namespace.inside(run)?.map(drop)
}

/// The near end's addresses of an exit that is a tunnel.
pub fn near(exit: u32) -> [IpAddr; 2] {
    let number = 2 + exit;
    [
        Ipv4Addr::from_bits(Ipv4Addr::new(172, 20, 0, 0).to_bits() + number).into(),
        Ipv6Addr::from_bits((0xfd20 << 112) | u128::from(number)).into(),
    ]
}

/// The VPN addresses of peer `index`, from 1.
pub fn addresses(index: u32) -> [IpAddr; 2] {
    [
        Ipv4Addr::from_bits(Ipv4Addr::new(10, 64, 0, 1).to_bits() + index).into(),
        Ipv6Addr::from_bits((0xfd86 << 112) | u128::from(index + 1)).into(),
    ]
}

fn prefix(text: &str) -> common::IpPrefix {
    text.parse::<IpNet>().unwrap_or_default().into()
}
