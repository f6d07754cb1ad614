//! Specs and a ceiling for the tests.
#![allow(dead_code, clippy::unwrap_used, reason = "tests; each uses some of it")]

use cell_netd_core::Ceiling;
use cell_netd_core::ceiling::{ExitCeiling, RelayCeiling, ServiceCeiling, TunnelCeiling};
use cell_netd_core::model::Protocol;
use cell_netd_core::spec::{
    AccessSpec, CellPortSpec, ExitSpec, FarEndSpec, NetworkSpec, PeerSpec, RedirectSpec, ServiceEntrySpec,
    ServiceNetworkSpec, ServiceSpec, TunnelServerSpec, UserTunnelSpec, WaySpec, WireguardExitSpec,
    WireguardSpec,
};

pub fn ceiling() -> Ceiling {
    Ceiling {
        interfaces: ["wg0".parse().unwrap()].into(),
        listen_ports: vec![1024..=65535],
        vpn_prefixes: ["10.0.0.0/8", "fc00::/7"].map(|net| net.parse().unwrap()).into(),
        cell_ports: ["tcp/443", "udp/53", "tcp/53"]
            .map(|port| port.parse().unwrap())
            .into(),
        service_targets: ["tcp/3443", "udp/9053", "tcp/9053", "udp/9054", "tcp/9054"]
            .map(|port| port.parse().unwrap())
            .into(),
        service_v4: "169.254.67.1".parse().unwrap(),
        service_v6: "fd43:454c:4c00::1".parse().unwrap(),
        max_peers: 20_000,
        accept_mark: "0x2000/0x2000".parse().unwrap(),
        table: "cell".parse().unwrap(),
        exits: wireguard_alone()
            .with_relay(relay())
            .with_tunnels(TunnelCeiling::try_new(TUNNEL_USER, "ovpn_").unwrap())
            .unwrap(),
        services: Some(service_ceiling()),
    }
}

/// Bridges `cellsvc...` within 172.30.0.0/16.
pub fn service_ceiling() -> ServiceCeiling {
    ServiceCeiling::try_new("cellsvc", vec!["172.30.0.0/16".parse().unwrap()], 256)
        .unwrap()
        .with_entries(4096)
        .unwrap()
        .with_callers([CALLER].into())
}

/// Network number `index`, 1-250, of a service without anything granted: `svc3` on `cellsvc3`, 172.30.3.0/28.
pub fn network(index: u8) -> ServiceNetworkSpec {
    ServiceNetworkSpec {
        name: format!("svc{index}"),
        bridge: format!("cellsvc{index}"),
        subnet: Ok(format!("172.30.{index}.0/28").parse().unwrap()),
        internet: false,
        exit: String::new(),
        reach: vec![],
        called: vec![],
    }
}

/// Without a relay and without tunnels of programs.
pub fn wireguard_alone() -> ExitCeiling {
    let accept = "0x2000/0x2000".parse().unwrap();
    ExitCeiling::try_new(0x1000..=0x1ff0, 0x1ff0, 1000..=1255, "wgext_", 256, accept).unwrap()
}

/// Users that no other process has.
pub const RELAY_USER: u32 = 54_321;
pub const TUNNEL_USER: u32 = 54_322;
pub const CALLER: u32 = 54_323;

pub fn relay() -> RelayCeiling {
    RelayCeiling::try_new(
        9100..=9199,
        RELAY_USER,
        ["127.0.0.1:9050".parse().unwrap()].into(),
    )
    .unwrap()
    .with_local_resolvers(["127.0.0.53:53".parse().unwrap()].into())
    .unwrap()
}

/// Exit number `index`, 10-19, of the relay: `exit10` on port 9110, with a server at 198.51.100.10 and 2001:db8::10.
pub fn redirect(index: u8) -> ExitSpec {
    let server = |host: String| Ok(host.parse().unwrap());
    ExitSpec {
        id: format!("exit{index}"),
        mark: 0x1000 + 0x10 * u32::from(index),
        table: 0,
        interface: String::new(),
        way: Some(WaySpec::Redirect(RedirectSpec {
            port: 9100 + u32::from(index),
            servers: vec![
                server(format!("198.51.100.{index}:1080")),
                server(format!("[2001:db8::{index}]:1080")),
            ],
        })),
    }
}

/// Exit number `index`, 5-9, that a program carries: `exit5` by `ovpn_00000005`, with servers at 198.51.100.5 and 2001:db8::5.
pub fn user_tunnel(index: u8) -> ExitSpec {
    let server = |host: String, protocol| TunnelServerSpec {
        endpoint: Ok(host.parse().unwrap()),
        protocol: Ok(protocol),
    };
    ExitSpec {
        interface: format!("ovpn_{index:08}"),
        way: Some(WaySpec::Tunnel(UserTunnelSpec {
            addresses: vec![
                Ok(format!("172.21.{index}.2").parse().unwrap()),
                Ok(format!("fd21:{index}::2").parse().unwrap()),
            ],
            mtu_bytes: 1500,
            servers: vec![
                server(format!("198.51.100.{index}:1194"), Protocol::Udp),
                server(format!("198.51.100.{index}:443"), Protocol::Tcp),
                server(format!("[2001:db8::{index}]:1194"), Protocol::Udp),
            ],
        })),
        ..exit(index)
    }
}

pub fn wireguard() -> WireguardSpec {
    WireguardSpec {
        interface: "wg0".into(),
        listen_port: 51820,
        addresses: vec![
            Ok("10.86.0.1/24".parse().unwrap()),
            Ok("fd86::1/64".parse().unwrap()),
        ],
        mtu_bytes: 0,
    }
}

/// Peer number `index`, 1-250.
pub fn peer(index: u8) -> PeerSpec {
    PeerSpec {
        name: format!("p{index}"),
        public_key: vec![index; 32],
        addresses: vec![
            Ok(format!("10.86.0.{}", index + 1).parse().unwrap()),
            Ok(format!("fd86::{:x}", u16::from(index) + 1).parse().unwrap()),
        ],
        endpoint: None,
        persistent_keepalive_seconds: 0,
        access: Some(AccessSpec::default()),
        exit: String::new(),
    }
}

/// Exit number `index`, 0-9, of both families: `exit0` by `wgext_00000000`.
pub fn exit(index: u8) -> ExitSpec {
    ExitSpec {
        id: format!("exit{index}"),
        mark: 0x1000 + 0x10 * u32::from(index),
        table: 1000 + u32::from(index),
        interface: format!("wgext_{index:08}"),
        way: Some(WaySpec::Wireguard(WireguardExitSpec {
            addresses: vec![
                Ok(format!("172.20.{index}.2").parse().unwrap()),
                Ok(format!("fd20:{index}::2").parse().unwrap()),
            ],
            mtu_bytes: 0,
            far_ends: vec![FarEndSpec {
                public_key: vec![0x50 + index; 32],
                endpoint: Some(Ok("198.51.100.7:51820".parse().unwrap())),
                persistent_keepalive_seconds: 25,
                allowed_ips: vec![Ok("0.0.0.0/0".parse().unwrap()), Ok("::/0".parse().unwrap())],
                has_preshared_key: false,
            }],
            secret_revision: 0,
        })),
    }
}

/// A service found at `at` and answered at `to`.
pub fn entry(at: &str, to: &str, protocol: Protocol, everyone: bool) -> ServiceEntrySpec {
    let end = |text: &str| {
        let end: std::net::SocketAddr = text.parse().unwrap();
        Some(ServiceSpec {
            address: Ok(end.ip()),
            protocol: Ok(protocol),
            port: end.port().into(),
        })
    };
    ServiceEntrySpec {
        at: end(at),
        to: end(to),
        everyone,
    }
}

/// With the internet, by an exit.
pub fn leaving(mut network: ServiceNetworkSpec, exit: &str) -> ServiceNetworkSpec {
    network.internet = true;
    network.exit = exit.to_owned();
    network
}

/// Bound to an exit.
pub fn through(mut peer: PeerSpec, exit: &str) -> PeerSpec {
    peer.exit = exit.to_owned();
    peer
}

pub fn service(address: &str, port: u32) -> ServiceSpec {
    ServiceSpec {
        address: Ok(address.parse().unwrap()),
        protocol: Ok(Protocol::Tcp),
        port,
    }
}

pub fn with_access(
    mut peer: PeerSpec,
    internet: bool,
    peer_to_peer: bool,
    services: &[(&str, u32)],
) -> PeerSpec {
    let services = services
        .iter()
        .map(|(address, port)| service(address, *port))
        .collect();
    peer.access = Some(AccessSpec {
        internet,
        peer_to_peer,
        services,
    });
    peer
}

pub fn spec(peers: Vec<PeerSpec>) -> NetworkSpec {
    let port = |protocol, port, target_port| CellPortSpec {
        protocol: Ok(protocol),
        port,
        target_port,
        bound_target_port: 0,
    };
    NetworkSpec {
        wireguard: Some(wireguard()),
        peers,
        cell_ports: vec![port(Protocol::Tcp, 443, 3443), port(Protocol::Udp, 53, 0)],
        exits: vec![],
        dns_upstreams: vec![],
        relay_servers: vec![],
        public_http: None,
        service_networks: vec![],
        entries: vec![],
    }
}
